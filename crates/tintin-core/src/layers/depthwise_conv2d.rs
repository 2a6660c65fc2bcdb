//! Depthwise convolution, N27: acc\[i,j,c\] = Σ_{a,b} w\[c,a,b\] · x\[i·sh + a − ph, j·sw + b − pw, c\], zero outside.
//!
//! x: (samples, h, w, c), w: (c, kh, kw), acc: (samples, oh, ow, c). dx and gw are the adjoints; both walk non-zero errors only, of which
//! each meets the kh·kw taps of its channel. Bounds: kh·kw ≤ 132 624 (66 052 with a bias), forward and backward alike. Height 1 serves
//! one-dimensional signals. Source: MobileNets, arXiv 1704.04861.

use core::ops::Range;

use super::conv2d::{direct_errors, size};
use super::{Backward, Fields, Forward, Gradient, Need, Role, Sums, check_sum, check_window, windows};
use crate::kernels;
use crate::shape::Shape;

/// Convolution of every channel with a filter of its own, zero padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthwiseConv2d {
    /// Kernel height and width.
    pub kernel: (u16, u16),
    /// Vertical and horizontal stride.
    pub stride: (u16, u16),
    /// Zeros added above and below, left and right.
    pub padding: (u16, u16),
    /// One bias per channel.
    pub bias: bool,
}

impl DepthwiseConv2d {
    /// Filters of height `kernel.0` and width `kernel.1`, stride 1, no padding, no bias.
    pub const fn new(kernel: (u16, u16)) -> Self {
        Self { kernel, stride: (1, 1), padding: (0, 0), bias: false }
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
        let Self { kernel, stride, padding, bias } = self;
        Fields { bias, out: 0, kernel, stride, padding }
    }

    pub(super) const fn from_fields(f: Fields) -> Self {
        Self { kernel: f.kernel, stride: f.stride, padding: f.padding, bias: f.bias }
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        if xs.checked_len().is_none() {
            return Err("input is empty or too large");
        }
        if let Err(why) = check_window(self.kernel, self.stride) {
            return Err(why);
        }
        if self.padding.0 >= self.kernel.0 || self.padding.1 >= self.kernel.1 {
            return Err("padding must be smaller than the kernel");
        }
        let ys = self.places(xs);
        if ys.h == 0 || ys.w == 0 {
            return Err("kernel larger than the padded input");
        }
        let area = self.kernel.0 as u32 * self.kernel.1 as u32;
        if let Err(why) = check_sum(area, self.bias) {
            return Err(why);
        }
        if ys.checked_len().is_none() {
            return Err("output too large");
        }
        Ok(Need {
            ys,
            role: Role::Sums { exponent: 0 },
            rows: xs.c,
            row: area,
            fan_out: area,
            backward_terms: area,
            bias: self.bias,
            workspace: 0,
        })
    }

    /// Output shape, with an extent of 0 where no kernel fits.
    const fn places(self, xs: Shape) -> Shape {
        let h = windows(xs.h, self.kernel.0, self.stride.0, self.padding.0);
        let w = windows(xs.w, self.kernel.1, self.stride.1, self.padding.1);
        match (h, w) {
            (Some(h), Some(w)) => Shape::new(h, w, xs.c),
            _ => Shape::new(0, 0, xs.c),
        }
    }

    /// Weights of a row.
    #[inline(always)]
    fn area(&self) -> usize {
        usize::from(self.kernel.0) * usize::from(self.kernel.1)
    }

    /// In the words of the kernels, output rows from `first` on.
    #[inline(always)]
    fn direct(&self, xs: Shape, ys: Shape, first: usize) -> kernels::Depthwise {
        let (kernel, stride, padding) = (size(self.kernel), size(self.stride), size(self.padding));
        kernels::Depthwise(kernels::Conv2d { kernel, stride, padding, xs, ys, first })
    }

    /// Calls `f(tap, place)` for the taps of output place (i, j) that lie in the input rows `rows`; a place counts from their first one.
    #[inline(always)]
    fn taps(&self, xs: Shape, rows: &Range<usize>, i: usize, j: usize, mut f: impl FnMut(usize, usize)) {
        let ((kh, kw), (ph, pw), (sh, sw)) = (size(self.kernel), size(self.padding), size(self.stride));
        let (width, top, left) = (xs.w as usize, i * sh, j * sw);
        let start = rows.start + ph;
        let across = pw.saturating_sub(left)..kw.min((width + pw).saturating_sub(left));
        for a in start.saturating_sub(top)..kh.min((rows.end + ph).saturating_sub(top)) {
            for b in across.clone() {
                f(a * kw + b, (top + a - start) * width + left + b - pw);
            }
        }
    }
}

impl Sums for DepthwiseConv2d {
    #[inline(always)]
    fn forward(&self, call: Forward<'_>) {
        let Forward { x, w, acc, xs, ys, first, rows, .. } = call;
        if self.direct(xs, ys, first).sums(x, w, acc) {
            return;
        }
        let (c, area, row) = (xs.c as usize, self.area(), ys.w as usize * xs.c as usize);
        for (x, acc) in x.chunks_exact(xs.len()).zip(acc.chunks_exact_mut(rows * row)) {
            for (i, acc) in (first..).zip(acc.chunks_exact_mut(row)) {
                for (j, acc) in acc.chunks_exact_mut(c).enumerate() {
                    self.taps(xs, &(0..xs.h as usize), i, j, |tap, place| {
                        let products = x[place * c..][..c].iter().zip(w[tap..].iter().step_by(area));
                        for (acc, (&x, &w)) in acc.iter_mut().zip(products) {
                            *acc = acc.wrapping_add(i32::from(x).wrapping_mul(w.into()));
                        }
                    });
                }
            }
        }
    }

    #[inline(always)]
    fn backward(&self, call: Backward<'_>) {
        let Backward { w, errors, acc, xs, first, rows } = call;
        let (c, area, whole) = (xs.c as usize, self.area(), rows == xs.h as usize);
        if whole && self.direct(xs, self.places(xs), 0).input_errors(w, direct_errors(errors), acc) {
            return;
        }
        for (s, acc) in acc.chunks_exact_mut(rows * xs.w as usize * c).enumerate() {
            errors.sample(s).for_each(0..c, |i, j, ch, d| {
                let w = &w[ch * area..][..area];
                self.taps(xs, &(first..first + rows), i, j, |tap, place| {
                    let acc = &mut acc[place * c + ch];
                    *acc = acc.wrapping_add(i32::from(d).wrapping_mul(w[tap].into()));
                });
            });
        }
    }

    #[inline(always)]
    fn gradient(&self, call: Gradient<'_>) {
        let Gradient { x, errors, acc, xs, rows, .. } = call;
        let (c, area, whole) = (xs.c as usize, self.area(), rows.len() == xs.c as usize);
        if whole && self.direct(xs, self.places(xs), 0).gradient(x, direct_errors(errors), acc) {
            return;
        }
        for (s, x) in x.chunks_exact(xs.len()).enumerate() {
            errors.sample(s).for_each(rows.clone(), |i, j, ch, d| {
                let acc = &mut acc[(ch - rows.start) * area..][..area];
                self.taps(xs, &(0..xs.h as usize), i, j, |tap, place| {
                    acc[tap] = acc[tap].wrapping_add(i32::from(d).wrapping_mul(x[place * c + ch].into()));
                });
            });
        }
    }
}
