//! Average of windows, N14: acc\[i,j,c\] = m · Σ x\[i·sh + a, j·sw + b, c\] with 1 / cells ≈ m · 2^e;  dx = m · dy over the window.
//!
//! Without padding. A power-of-two window has m = 1. Bound: cells · 127 · m ≤ MAX_SUM.

use super::{Backward, Fields, Forward, Need, Role, Sums, check_window, windows};
use crate::rescale::{Factor, MAX_SUM, factor};
use crate::shape::Shape;

/// Average pooling without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool2d {
    /// Window height and width.
    pub kernel: (u16, u16),
    /// Vertical and horizontal stride.
    pub stride: (u16, u16),
}

impl AvgPool2d {
    /// Windows of `kernel`, side by side.
    pub const fn new(kernel: (u16, u16)) -> Self {
        Self { kernel, stride: kernel }
    }

    /// The same with another stride.
    pub const fn stride(self, stride: (u16, u16)) -> Self {
        Self { stride, ..self }
    }

    pub(super) const fn fields(self) -> Fields {
        Fields { bias: false, out: 0, kernel: self.kernel, stride: self.stride, padding: (0, 0) }
    }

    pub(super) const fn from_fields(f: Fields) -> Self {
        Self { kernel: f.kernel, stride: f.stride }
    }

    #[allow(clippy::cast_possible_truncation)] // an exponent of at most 27 places
    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        if xs.checked_len().is_none() {
            return Err("input is empty or too large");
        }
        if let Err(why) = check_window(self.kernel, self.stride) {
            return Err(why);
        }
        let (Some(h), Some(w)) =
            (windows(xs.h, self.kernel.0, self.stride.0, 0), windows(xs.w, self.kernel.1, self.stride.1, 0))
        else {
            return Err("pooling window larger than the input");
        };
        let cells = self.kernel.0 as u32 * self.kernel.1 as u32;
        if cells > 1 << 20 {
            return Err("pooling window of more than 2^20 places");
        }
        let mean = self.mean();
        if cells > MAX_SUM / 127 / mean.m as u32 {
            return Err("sum could overflow 32 bits: pooling window too large");
        }
        let plain = Need::plain(Shape::new(h, w, xs.c), Role::Sums { exponent: mean.e as i16 });
        Ok(Need { backward_terms: cells * mean.m as u32 / 127 + 1, ..plain })
    }

    /// 1 / cells as an odd m (or 1) and a power of two (N14).
    const fn mean(self) -> Factor {
        let Factor { mut m, mut e } = factor(0, 0, self.kernel.0 as u32 * self.kernel.1 as u32);
        while m % 2 == 0 {
            m /= 2;
            e += 1;
        }
        Factor { m, e }
    }

    /// Start of row `a` of window (i, j) in the input, in values.
    #[inline(always)]
    fn corner(&self, xs: Shape, i: usize, j: usize, a: usize) -> usize {
        let row = i * usize::from(self.stride.0) + a;
        (row * xs.w as usize + j * usize::from(self.stride.1)) * xs.c as usize
    }
}

impl Sums for AvgPool2d {
    #[inline(always)]
    fn forward(&self, call: Forward<'_>) {
        let (xs, ys, m) = (call.xs, call.ys, self.mean().m);
        let (c, w) = (xs.c as usize, ys.w as usize);
        let samples = call.x.chunks_exact(xs.len()).zip(call.acc.chunks_exact_mut(call.rows * w * c));
        for (x, acc) in samples {
            for (place, acc) in acc.chunks_exact_mut(c).enumerate() {
                let (i, j) = (call.first + place / w, place % w);
                for a in 0..usize::from(self.kernel.0) {
                    let run = &x[self.corner(xs, i, j, a)..][..usize::from(self.kernel.1) * c];
                    for x in run.chunks_exact(c) {
                        for (acc, &x) in acc.iter_mut().zip(x) {
                            *acc = acc.wrapping_add(m.wrapping_mul(i32::from(x)));
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn backward(&self, call: Backward<'_>) {
        let (xs, m) = (call.xs, self.mean().m);
        let (c, row) = (xs.c as usize, xs.w as usize * xs.c as usize);
        let rows = call.first..call.first + call.rows;
        for (s, acc) in call.acc.chunks_exact_mut(call.rows * row).enumerate() {
            call.errors.sample(s).for_each(
                0..c,
                #[inline(always)]
                |i, j, ch, d| {
                    let d = m.wrapping_mul(i32::from(d));
                    let top = i * usize::from(self.stride.0);
                    for a in 0..usize::from(self.kernel.0) {
                        if !rows.contains(&(top + a)) {
                            continue;
                        }
                        for b in 0..usize::from(self.kernel.1) {
                            let acc = &mut acc[self.corner(xs, i, j, a) - rows.start * row + b * c + ch];
                            *acc = acc.wrapping_add(d);
                        }
                    }
                },
            );
        }
    }
}
