//! Depthwise convolution, N27: acc\[i,j,c\] = Σ_{a,b} w\[c,a,b\] · x\[i·sh + a − ph, j·sw + b − pw, c\], zero outside.
//!
//! x: (samples, h, w, c), w: (c, kh, kw), acc: (samples, oh, ow, c). dx and gw are the adjoints; both walk errors that are not zero. Bounds: kh·kw ≤ 132 624 (66 052 with a bias), forward and backward alike. Height 1 serves
//! one-dimensional signals. Source: MobileNets, arXiv 1704.04861.

use super::conv2d::{Conv2d, direct_errors, size};
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
            apart: false,
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

    /// One channel's convolution, whose patches are those of all.
    #[inline(always)]
    fn plane(&self, xs: Shape) -> (Conv2d, Shape) {
        let Self { kernel, stride, padding, .. } = *self;
        (Conv2d { out_channels: 1, kernel, stride, padding, bias: false }, Shape { c: 1, ..xs })
    }
}

/// acc\[ch\] += Σ_n x\[n·c + ch\] · w\[ch·area + n\] over `taps` neighbours, three at a time: a sum is loaded once for three.
fn run(x: &[i8], w: &[i8], acc: &mut [i32], area: usize, taps: usize) {
    let (c, mut n) = (acc.len(), 0);
    let product = |x: i8, w: i8| i32::from(x).wrapping_mul(w.into());
    while n < taps {
        // by index: an iterator of chunks would divide to know their number
        let mut at = n;
        let x0 = &x[n * c..][..c];
        if n + 3 <= taps {
            let (x1, x2) = (&x[(n + 1) * c..][..c], &x[(n + 2) * c..][..c]);
            for (ch, acc) in acc.iter_mut().enumerate() {
                let Some(&[w0, w1, w2]) = w.get(at..at + 3) else { return };
                *acc = acc.wrapping_add(product(x0[ch], w0)).wrapping_add(product(x1[ch], w1));
                *acc = acc.wrapping_add(product(x2[ch], w2));
                at += area;
            }
            n += 3;
        } else {
            for (acc, &x) in acc.iter_mut().zip(x0) {
                *acc = acc.wrapping_add(product(x, w[at]));
                at += area;
            }
            n += 1;
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
        let (c, row, (plane, shape)) = (xs.c as usize, ys.w as usize * xs.c as usize, self.plane(xs));
        for (x, acc) in x.chunks_exact(xs.len()).zip(acc.chunks_exact_mut(rows * row)) {
            for (i, acc) in (first..).zip(acc.chunks_exact_mut(row)) {
                for (j, acc) in acc.chunks_exact_mut(c).enumerate() {
                    let patch = plane.patch(shape, i, j);
                    for a in 0..patch.rows {
                        let (x, w) = (&x[(patch.x + a * patch.x_step) * c..], &w[patch.w + a * patch.w_step..]);
                        run(x, w, acc, self.area(), patch.len);
                    }
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
        let (plane, shape) = self.plane(xs);
        for (s, acc) in acc.chunks_exact_mut(rows * xs.w as usize * c).enumerate() {
            errors.sample(s).for_each(0..c, |i, j, ch, d| {
                let Some(patch) = plane.part(plane.patch(shape, i, j), shape, i, first, rows) else { return };
                for a in 0..patch.rows {
                    let w = &w[ch * area + patch.w + a * patch.w_step..][..patch.len];
                    let mut at = (patch.x + a * patch.x_step) * c + ch;
                    for &w in w {
                        acc[at] = acc[at].wrapping_add(i32::from(d).wrapping_mul(w.into()));
                        at += c;
                    }
                }
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
        let (plane, shape) = self.plane(xs);
        for (s, x) in x.chunks_exact(xs.len()).enumerate() {
            errors.sample(s).for_each(rows.clone(), |i, j, ch, d| {
                let patch = plane.patch(shape, i, j);
                for a in 0..patch.rows {
                    let acc = &mut acc[(ch - rows.start) * area + patch.w + a * patch.w_step..][..patch.len];
                    let mut at = (patch.x + a * patch.x_step) * c + ch;
                    for acc in acc {
                        *acc = acc.wrapping_add(i32::from(d).wrapping_mul(x[at].into()));
                        at += c;
                    }
                }
            });
        }
    }
}
