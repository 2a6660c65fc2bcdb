//! Exact integer products over slices. `portable` is the definition of right; every machine gives its bits.
//!
//! Sums wrap modulo 2^32 and the plan has proved that no true sum leaves ±MAX_SUM (N2), so any order is exact.

mod cast;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod conv_x86_64;
#[cfg(tintin_kernels)]
mod cortex_m;
pub mod portable;
mod taps;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod x86_64;

use crate::shape::Shape;

pub use cast::as_mantissas;
#[cfg(tintin_kernels)]
pub use cortex_m::{
    Outer, axpy, clear, descend, gather, mask, matmul, multiply, narrow, peak, pool_2x2, put, relu, seal,
};
#[cfg(not(any(tintin_kernels, all(feature = "std", target_arch = "x86_64"))))]
pub use portable::matmul;
pub use portable::walk;
#[cfg(not(tintin_kernels))]
pub use portable::{Outer, axpy, clear, descend, gather, mask, multiply, narrow, peak, pool_2x2, put, relu, seal};
pub use taps::{Taps, Walk};

// for `Taps`, which holds what it relies on
#[cfg(tintin_kernels)]
use cortex_m::{COLUMNS, columns, list};
#[cfg(not(tintin_kernels))]
use portable::{COLUMNS, columns, list};
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub use x86_64::matmul;

/// Patches of a quad: a convolution multiplies four at a time with a row of weights, so that a weight is loaded once for four.
///
/// [`gather`], or [`clear`] and [`put`], fill a quad, [`seal`] brings it into the machine's form, [`multiply`] multiplies it.
pub const LANES: usize = 4;

/// Words of a quad of patches of `k` values, on every machine.
pub const fn quad_words(k: u32) -> u32 {
    4 * k.next_multiple_of(4)
}

/// Least words of an [`Outer`]: two entries of any machine.
pub const OUTER_WORDS: usize = 10;

/// Most inputs that [`matmul`] prepares at a time.
const BLOCK: u32 = 64;

/// Words of workspace of [`matmul`] for samples of `k` values, on every machine.
pub const fn matmul_words(k: u32) -> u32 {
    2 * if k < BLOCK { k.next_multiple_of(4) } else { BLOCK }
}

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
    /// See [`portable::conv2d`]; `workspace` is that of the layer.
    pub fn sums(&self, x: &[i8], w: &[i8], acc: &mut [i32], workspace: &mut [i32]) -> bool {
        let _ = &workspace;
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        return x86_64::conv2d(self, x, w, acc);
        #[cfg(tintin_kernels = "dsp")]
        return cortex_m::conv2d(self, x, w, acc, workspace);
        #[cfg(not(any(tintin_kernels = "dsp", all(feature = "std", target_arch = "x86_64"))))]
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
    if cfg!(tintin_kernels = "dsp") {
        "ARM DSP"
    } else if cfg!(tintin_kernels = "v7m") {
        "ARMv7-M"
    } else if cfg!(tintin_kernels = "v6m") {
        "ARMv6-M"
    } else {
        "portable"
    }
}
