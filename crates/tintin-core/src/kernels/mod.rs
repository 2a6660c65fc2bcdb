//! Exact integer products over slices. `portable` is the definition of right; every machine gives its bits.
//!
//! Sums wrap modulo 2^32 and the plan has proved that no true sum leaves ±MAX_SUM (N2), so any order is exact.

mod cast;
#[cfg(tintin_kernels)]
mod cortex_m;
#[cfg(feature = "std")]
pub mod host;
pub mod portable;
mod taps;

use crate::rng::Draws;
use crate::shape::Shape;

pub use cast::as_mantissas;
#[cfg(tintin_kernels)]
pub use cortex_m::{
    Outer, axpy, clear, descend, gather, mask, matmul, multiply, narrow, peak, pool_2x2, put, relu, seal,
};
#[cfg(not(any(tintin_kernels, feature = "std")))]
pub use portable::matmul;
pub use portable::walk;
#[cfg(not(tintin_kernels))]
pub use portable::{Outer, axpy, clear, descend, gather, mask, multiply, narrow, peak, pool_2x2, put, relu, seal};
#[cfg(not(feature = "std"))]
pub use portable::{matmul_transposed, outer_products};
pub use taps::{Taps, Walk};

// for `Taps`, which holds what it relies on
#[cfg(tintin_kernels)]
use cortex_m::{COLUMNS, columns, list};
#[cfg(not(tintin_kernels))]
use portable::{COLUMNS, columns, list};

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

#[cfg(feature = "std")]
pub use host::run;

/// Runs `f` as it was compiled.
#[cfg(not(feature = "std"))]
#[inline(always)]
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// acc\[n,o\] += Σ_i x\[n,i\] · w\[o,i\]   x: (n, k), w: (o, k), acc: (n, o), all row-major, k ≥ 1.
#[cfg(feature = "std")]
pub fn matmul(x: &[i8], w: &[i8], k: usize, acc: &mut [i32], workspace: &mut [i32]) {
    let out = Outputs { acc: &mut *acc, winners: &mut [], sums: Sums::Added };
    if product(x, w, k, out).is_none() {
        portable::matmul(x, w, k, acc, workspace);
    }
}

/// acc\[n,i\] += Σ_o dy\[n,o\] · w\[o · k + i\]   dy: (samples, outputs), w: `outputs` rows k apart, acc: (samples, len).
#[cfg(feature = "std")]
pub fn matmul_transposed(dy: &[i8], outputs: usize, w: &[i8], k: usize, acc: &mut [i32], len: usize) {
    if !host::matmul_transposed(host::machine(), dy, outputs, w, k, acc, len) {
        portable::matmul_transposed(dy, outputs, w, k, acc, len);
    }
}

/// acc\[r,i\] += Σ_n dy\[n,from + r\] · x\[n,i\]   dy: (samples, outputs), x: (samples, k), acc: (rows, k).
#[cfg(feature = "std")]
pub fn outer_products(dy: &[i8], outputs: usize, from: usize, x: &[i8], k: usize, acc: &mut [i32]) {
    if !host::outer_products(host::machine(), dy, outputs, from, x, k, acc) {
        portable::outer_products(dy, outputs, from, x, k, acc);
    }
}

/// This build may have machines for which [`product`] and [`Conv2d::maxima`] do something.
pub const OUTPUTS: bool = cfg!(feature = "std");

/// What a product leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// What was there and the sum.
    Added,
    /// The sum, from the start that its output has in the first row; whatever else was there is overwritten.
    Whole,
    /// The same where it is positive, else 0.
    Rectified,
}

/// Where a product writes.
pub struct Outputs<'a> {
    /// Sums or their maxima, (samples, windows, channels).
    pub acc: &'a mut [i32],
    /// Numbers of the places the maxima are from, the first ones (N13); empty if nobody asks.
    pub winners: &'a mut [i8],
    /// What `acc` is to hold.
    pub sums: Sums,
}

/// The sums Σ_i x\[n,i\] · w\[o,i\] as `out` wants them, and their largest magnitude, if this machine has a kernel for it; else `None`,
/// nothing done.
pub fn product(x: &[i8], w: &[i8], k: usize, out: Outputs<'_>) -> Option<u32> {
    #[cfg(feature = "std")]
    return host::product(host::machine(), x, w, k, out);
    #[cfg(not(feature = "std"))]
    {
        let _ = (x, w, k, out);
        None
    }
}

/// A convolution's sums, for machines that do better than gathering patches for [`multiply`].
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
}

/// Windows over the sums of a convolution, from its row `first` on.
#[derive(Clone, Copy)]
pub struct Windows {
    /// Height and width of a window.
    pub kernel: (usize, usize),
    /// Vertical and horizontal stride.
    pub stride: (usize, usize),
    /// Rows of windows.
    pub rows: usize,
    /// Windows in a row.
    pub columns: usize,
}

impl Windows {
    /// `rows` rows of windows of one place: the sums themselves.
    pub const fn places(rows: usize, columns: usize) -> Self {
        Self { kernel: (1, 1), stride: (1, 1), rows, columns }
    }
}

impl Conv2d {
    /// `acc` (rows, width, channels) += exact sums of one sample, if this chip has a kernel for it; else false, nothing done.
    /// See [`portable::conv2d`]; `workspace` is that of the layer.
    pub fn sums(&self, x: &[i8], w: &[i8], acc: &mut [i32], workspace: &mut [i32]) -> bool {
        #[cfg(tintin_kernels = "dsp")]
        return cortex_m::conv2d(self, x, w, acc, workspace);
        #[cfg(not(tintin_kernels = "dsp"))]
        {
            let _ = (x, w, acc, workspace);
            false
        }
    }

    /// Maxima of the exact sums over windows as `out` wants them, and their largest magnitude, if this machine has a kernel for
    /// it; else `None`, nothing done.
    pub fn maxima(&self, windows: &Windows, x: &[i8], w: &[i8], out: Outputs<'_>) -> Option<u32> {
        #[cfg(feature = "std")]
        return host::Convolution { conv: self, windows, x, w, out }.on(host::machine());
        #[cfg(not(feature = "std"))]
        {
            let _ = (windows, x, w, out);
            None
        }
    }
}

/// Errors at a convolution's sums, for a run of samples, and the windows whose maxima they belong to.
#[derive(Clone, Copy)]
pub struct Errors<'a> {
    /// Error mantissas, (samples, ps).
    pub dy: &'a [i8],
    /// Place of each window's maximum, same length as `dy`; empty where windows have one place.
    pub index: &'a [i8],
    /// Height and width of a window.
    pub kernel: (usize, usize),
    /// Vertical and horizontal stride of the windows.
    pub stride: (usize, usize),
    /// Shape of one sample of `dy`.
    pub ps: Shape,
}

impl Conv2d {
    /// `acc` (samples, xs) += exact input errors (N18), if this machine has a kernel for it; else false, nothing done.
    pub fn input_errors(&self, w: &[i8], errors: Errors<'_>, acc: &mut [i32]) -> bool {
        #[cfg(feature = "std")]
        return host::input_errors(host::machine(), self, w, errors, acc);
        #[cfg(not(feature = "std"))]
        {
            let _ = (w, errors, acc);
            false
        }
    }

    /// `acc` (rows.len(), patch) += exact gradient (N18) of the weight rows `rows`, if this machine has a kernel for it; else
    /// false, nothing done.
    pub fn gradient(&self, x: &[i8], errors: Errors<'_>, rows: core::ops::Range<usize>, acc: &mut [i32]) -> bool {
        #[cfg(feature = "std")]
        return host::gradient(host::machine(), self, x, errors, rows, acc);
        #[cfg(not(feature = "std"))]
        {
            let _ = (x, errors, rows, acc);
            false
        }
    }
}

/// A convolution with one filter a channel: the same geometry, as many channels in `ys` as in `xs`.
#[derive(Clone, Copy)]
pub struct Depthwise(pub Conv2d);

impl Depthwise {
    /// `acc` (samples, rows, width, channels) += exact sums from the output row `first` on, if this machine has a kernel for it; else
    /// false, nothing done.
    pub fn sums(&self, x: &[i8], w: &[i8], acc: &mut [i32]) -> bool {
        #[cfg(feature = "std")]
        return host::depthwise_sums(host::machine(), &self.0, x, w, acc);
        #[cfg(not(feature = "std"))]
        {
            let _ = (x, w, acc);
            false
        }
    }

    /// `acc` (samples, xs) += exact input errors (N18), as above.
    pub fn input_errors(&self, w: &[i8], errors: Errors<'_>, acc: &mut [i32]) -> bool {
        #[cfg(feature = "std")]
        return host::depthwise_input_errors(host::machine(), &self.0, w, errors, acc);
        #[cfg(not(feature = "std"))]
        {
            let _ = (w, errors, acc);
            false
        }
    }

    /// `acc` (channels, taps) += exact gradient (N18), as above.
    pub fn gradient(&self, x: &[i8], errors: Errors<'_>, acc: &mut [i32]) -> bool {
        #[cfg(feature = "std")]
        return host::depthwise_gradient(host::machine(), &self.0, x, errors, acc);
        #[cfg(not(feature = "std"))]
        {
            let _ = (x, errors, acc);
            false
        }
    }
}

/// How far a weight row goes: w\[i\] = clip(w\[i\] − round(round(g\[i\], before, Nearest) · m, shift, Stochastic)) (N19).
#[derive(Clone, Copy, Debug)]
pub struct RowStep {
    /// First shift of the gradient, at most 23.
    pub before: u32,
    /// Factor.
    pub m: i32,
    /// Second shift, at most 30.
    pub shift: u32,
    /// The draws of the row.
    pub draws: Draws,
}

/// Moves the rows of `w`, of `row` weights each, by the rows of the gradient `g`: `rule` says from the number of a row and its largest
/// magnitude how far, or that it stays. False if this machine has no kernel for it; then nothing is done.
pub fn descend_rows(w: &mut [i8], g: &[i32], row: usize, rule: impl FnMut(usize, u32) -> Option<RowStep>) -> bool {
    #[cfg(feature = "std")]
    return host::descend_rows(host::machine(), w, g, row, rule);
    #[cfg(not(feature = "std"))]
    {
        let _ = (w, g, row, rule);
        false
    }
}

/// The same for the gradient dy\[o\] · x\[i\] of row o; rows without an error stay.
pub fn descend_outer(w: &mut [i8], dy: &[i8], x: &[i8], rule: impl FnMut(usize, u32) -> Option<RowStep>) -> bool {
    #[cfg(feature = "std")]
    return host::descend_outer(host::machine(), w, dy, x, rule);
    #[cfg(not(feature = "std"))]
    {
        let _ = (w, dy, x, rule);
        false
    }
}

/// Names of the instruction sets that this machine has kernels for, as `TINTIN_KERNELS` takes them.
#[cfg(feature = "std")]
pub fn names() -> impl Iterator<Item = &'static str> {
    host::Machine::ALL.iter().filter(|machine| machine.is_present()).map(|machine| machine.name())
}

/// Name of the instruction set in use.
pub fn name() -> &'static str {
    #[cfg(feature = "std")]
    return host::machine().name();
    #[cfg(not(feature = "std"))]
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
