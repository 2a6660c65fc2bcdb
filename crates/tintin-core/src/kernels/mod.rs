//! Exact integer products over slices. `portable` is the definition of right; every machine gives its bits.
//!
//! Sums wrap modulo 2^32 and the plan has proved that no true sum leaves ±MAX_SUM (N2), so any order is exact.

mod cast;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod conv_x86_64;
mod portable;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod x86_64;

use crate::shape::Shape;

pub use cast::as_mantissas;
pub use portable::axpy;
#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
pub use portable::matmul;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub use x86_64::matmul;

/// Runs `f` compiled for the best vector instructions of this machine; the same source, so the same bits.
///
/// Effective only where `f` and all it calls are inlined: those functions are `#[inline(always)]`.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
#[inline(always)]
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    x86_64::run(f)
}

/// Runs `f` as it was compiled.
#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
#[inline(always)]
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Rows of a convolution's sums, for machines that do better than gathering patches for [`matmul`].
#[derive(Clone, Copy)]
pub struct Conv2d {
    /// Kernel height and width.
    pub kernel: (usize, usize),
    /// Vertical and horizontal stride.
    pub stride: (usize, usize),
    /// Zeros above and below, left and right.
    pub padding: (usize, usize),
    /// Input shape.
    pub xs: Shape,
    /// Output shape.
    pub ys: Shape,
    /// First output row.
    pub first: usize,
    /// Number of output rows.
    pub rows: usize,
}

impl Conv2d {
    /// `acc` (rows, width, channels) += exact sums of one sample, if this machine has a kernel for it; else false, nothing done.
    pub fn sums(&self, x: &[i8], w: &[i8], acc: &mut [i32]) -> bool {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        return x86_64::conv2d(self, x, w, acc);
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        {
            let _ = (x, w, acc);
            false
        }
    }
}

/// Name of the instruction set in use.
pub fn name() -> &'static str {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    return x86_64::name();
    #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
    "portable"
}
