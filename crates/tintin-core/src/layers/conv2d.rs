//! Two-dimensional convolution (cross-correlation), N11:
//! acc\[i,j,o\] = Σ_{a,b,c} w\[o,a,b,c\] · x\[i·sh + a − ph, j·sw + b − pw, c\], zero outside.
//!
//! x: (samples, h, w, c), w: (o, kh, kw, c), acc: (samples, oh, ow, o). The kernel row a of a patch is one contiguous run of
//! x, so forward gathers runs into patches and both backward sums walk runs, for non-zero errors only (three of four are zero behind a 2×2
//! pool). Bounds: kh·kw·c ≤ 132 624 (66 052 with a bias); kh·kw·o ≤ 132 624. Height 1 serves one-dimensional signals.

use super::{Backward, Fields, Forward, Gradient, Need, Role, Sums, check_sum, check_window, windows};
use crate::kernels::{self, axpy, matmul};
use crate::rescale::MAX_TERMS;
use crate::shape::Shape;

/// Convolution with zero padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Number of output channels (filters).
    pub out_channels: u16,
    /// Kernel height and width.
    pub kernel: (u16, u16),
    /// Vertical and horizontal stride.
    pub stride: (u16, u16),
    /// Zeros added above and below, left and right.
    pub padding: (u16, u16),
    /// One bias per output channel.
    pub bias: bool,
}

/// The kernel rows of a patch inside the input: each is one contiguous run of x and of the weight row.
struct Patch {
    rows: usize,
    len: usize,
    x: usize,
    x_step: usize,
    w: usize,
    w_step: usize,
}

impl Patch {
    /// Calls `f` with the start in x and in the weight row of every run.
    #[inline(always)]
    fn runs(&self, mut f: impl FnMut(usize, usize)) {
        let (mut x, mut w) = (self.x, self.w);
        for _ in 0..self.rows {
            f(x, w);
            x += self.x_step;
            w += self.w_step;
        }
    }
}

impl Conv2d {
    /// `out_channels` filters of height `kernel.0` and width `kernel.1`, stride 1, no padding, no bias.
    pub const fn new(out_channels: u16, kernel: (u16, u16)) -> Self {
        Self { out_channels, kernel, stride: (1, 1), padding: (0, 0), bias: false }
    }

    /// The same with another stride.
    pub const fn stride(self, stride: (u16, u16)) -> Self {
        Self { stride, ..self }
    }

    /// The same with zero padding.
    pub const fn padding(self, padding: (u16, u16)) -> Self {
        Self { padding, ..self }
    }

    /// The same with biases.
    pub const fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    pub(super) const fn fields(self) -> Fields {
        let Self { out_channels: out, kernel, stride, padding, bias } = self;
        Fields { bias, out, kernel, stride, padding }
    }

    pub(super) const fn from_fields(f: Fields) -> Self {
        Self { out_channels: f.out, kernel: f.kernel, stride: f.stride, padding: f.padding, bias: f.bias }
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        if xs.checked_len().is_none() {
            return Err("input is empty or too large");
        }
        if self.out_channels == 0 {
            return Err("no output channels");
        }
        if let Err(why) = check_window(self.kernel, self.stride) {
            return Err(why);
        }
        if self.padding.0 >= self.kernel.0 || self.padding.1 >= self.kernel.1 {
            return Err("padding must be smaller than the kernel");
        }
        let (Some(h), Some(w)) = (
            windows(xs.h, self.kernel.0, self.stride.0, self.padding.0),
            windows(xs.w, self.kernel.1, self.stride.1, self.padding.1),
        ) else {
            return Err("kernel larger than the padded input");
        };
        let rows = self.out_channels as u32;
        let Some(row) = Shape::new(self.kernel.0 as u32, self.kernel.1 as u32, xs.c).checked_len() else {
            return Err("kernel is empty or too large");
        };
        if let Err(why) = check_sum(row, self.bias) {
            return Err(why);
        }
        let area = self.kernel.0 as u32 * self.kernel.1 as u32;
        if area > MAX_TERMS / rows {
            return Err("sum of products could overflow 32 bits: fan-out too large");
        }
        let ys = Shape::new(h, w, rows);
        if ys.checked_len().is_none() {
            return Err("output too large");
        }
        let scratch = match w.checked_mul(row) {
            Some(scratch) if scratch <= 1 << 28 => scratch,
            _ => return Err("patches of one output row have more than 2^28 values"),
        };
        if w as u64 * row as u64 > 1 << 28 {
            return Err("patches of one output row have more than 2^28 values");
        }
        Ok(Need {
            ys,
            role: Role::Sums { exponent: 0 },
            rows,
            row,
            fan_out: area * rows,
            backward_terms: area * rows,
            bias: self.bias,
            scratch,
        })
    }

    /// The part of the patch at output place (i, j) that lies inside the input.
    #[inline(always)]
    fn patch(&self, xs: Shape, i: usize, j: usize) -> Patch {
        let (h, w, c) = (xs.h as usize, xs.w as usize, xs.c as usize);
        let (kh, kw) = (self.kernel.0 as usize, self.kernel.1 as usize);
        let (ph, pw) = (self.padding.0 as usize, self.padding.1 as usize);
        let (row, column) = (i * self.stride.0 as usize, j * self.stride.1 as usize);
        let (top, bottom) = (ph.saturating_sub(row), kh.min((h + ph).saturating_sub(row)));
        let (left, right) = (pw.saturating_sub(column), kw.min((w + pw).saturating_sub(column)));
        if top >= bottom || left >= right {
            return Patch { rows: 0, len: 0, x: 0, x_step: 0, w: 0, w_step: 0 };
        }
        Patch {
            rows: bottom - top,
            len: (right - left) * c,
            x: ((row + top - ph) * w + column + left - pw) * c,
            x_step: w * c,
            w: (top * kw + left) * c,
            w_step: kw * c,
        }
    }
}

impl Sums for Conv2d {
    #[inline(always)]
    fn forward(&self, call: Forward<'_>) {
        let (xs, ys) = (call.xs, call.ys);
        let k = self.kernel.0 as usize * self.kernel.1 as usize * xs.c as usize;
        let acc_row = ys.w as usize * ys.c as usize;
        let direct = kernels::Conv2d {
            kernel: (self.kernel.0 as usize, self.kernel.1 as usize),
            stride: (self.stride.0 as usize, self.stride.1 as usize),
            padding: (self.padding.0 as usize, self.padding.1 as usize),
            xs,
            ys,
            first: call.first,
            rows: call.rows,
        };
        let samples = call.x.chunks_exact(xs.len()).zip(call.acc.chunks_exact_mut(call.rows * acc_row));
        for (x, acc) in samples {
            if direct.sums(x, call.w, acc) {
                continue;
            }
            for (i, acc) in (call.first..).zip(acc.chunks_exact_mut(acc_row)) {
                self.gather(xs, x, i, &mut call.scratch[..ys.w as usize * k]);
                matmul(&call.scratch[..ys.w as usize * k], call.w, k, acc);
            }
        }
    }

    #[inline(always)]
    fn backward(&self, call: Backward<'_>) {
        let k = self.kernel.0 as usize * self.kernel.1 as usize * call.xs.c as usize;
        let channels = call.errors.ps.c as usize;
        for (s, acc) in call.acc.chunks_exact_mut(call.xs.len()).enumerate() {
            call.errors.sample(s).for_each(
                0..channels,
                #[inline(always)]
                |i, j, o, d| {
                    let (w, patch) = (&call.w[o * k..][..k], self.patch(call.xs, i, j));
                    patch.runs(
                        #[inline(always)]
                        |x_at, w_at| axpy(d, &w[w_at..][..patch.len], &mut acc[x_at..][..patch.len]),
                    );
                },
            );
        }
    }

    #[inline(always)]
    fn gradient(&self, call: Gradient<'_>) {
        let k = self.kernel.0 as usize * self.kernel.1 as usize * call.xs.c as usize;
        let first = call.rows.start;
        for (s, x) in call.x.chunks_exact(call.xs.len()).enumerate() {
            call.errors.sample(s).for_each(
                call.rows.clone(),
                #[inline(always)]
                |i, j, o, d| {
                    let (acc, patch) = (&mut call.acc[(o - first) * k..][..k], self.patch(call.xs, i, j));
                    patch.runs(
                        #[inline(always)]
                        |x_at, w_at| axpy(d, &x[x_at..][..patch.len], &mut acc[w_at..][..patch.len]),
                    );
                },
            );
        }
    }
}

impl Conv2d {
    /// Copies the patches of output row `i`, one behind the other, kernel row by kernel row, zeros outside the input.
    #[inline(always)]
    fn gather(&self, xs: Shape, x: &[i8], i: usize, patches: &mut [i8]) {
        let kernel_row = self.kernel.1 as usize * xs.c as usize;
        let k = self.kernel.0 as usize * kernel_row;
        for j in 0..patches.len() / k {
            let patch = self.patch(xs, i, j);
            let whole = patch.rows * patch.len == k;
            if !whole {
                patches[j * k..][..k].fill(0);
            }
            patch.runs(
                #[inline(always)]
                |x_at, w_at| {
                    if whole {
                        copy(x, x_at, patches, j * k + w_at, patch.len);
                    } else {
                        patches[j * k + w_at..][..patch.len].copy_from_slice(&x[x_at..][..patch.len]);
                    }
                },
            );
        }
    }
}

/// Copies `len` values from `x[from..]` to `y[to..]`. Writes up to a power of two more of what follows in `y`, which the caller
/// overwrites next: a move of fixed size beats a call for a handful of bytes.
#[inline(always)]
fn copy(x: &[i8], from: usize, y: &mut [i8], to: usize, len: usize) {
    match len {
        ..=8 if block::<8>(x, from, y, to) => {}
        9..=16 if block::<16>(x, from, y, to) => {}
        17..=32 if block::<32>(x, from, y, to) => {}
        _ => y[to..][..len].copy_from_slice(&x[from..][..len]),
    }
}

/// Copies `N` values if both sides have that many.
#[inline(always)]
fn block<const N: usize>(x: &[i8], from: usize, y: &mut [i8], to: usize) -> bool {
    match (x.get(from..from + N), y.get_mut(to..to + N)) {
        (Some(x), Some(y)) => {
            y.copy_from_slice(x);
            true
        }
        _ => false,
    }
}
