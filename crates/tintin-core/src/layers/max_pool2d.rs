//! Maximum of windows, N13: y\[i,j,c\] = max x\[i·sh + a, j·sw + b, c\]; the error goes to the first maximum in row-major order.
//!
//! Works on i32 sums in place or on i8 mantissas. The winner's number within its window is kept in one byte, so a window has
//! at most 256 places.

use super::{Fields, Need, Role, check_window, windows};
use crate::kernels::pool_2x2;
use crate::shape::Shape;

/// Max pooling without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2d {
    /// Window height and width.
    pub kernel: (u16, u16),
    /// Vertical and horizontal stride.
    pub stride: (u16, u16),
}

impl MaxPool2d {
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

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        if xs.checked_len().is_none() {
            return Err("input is empty or too large");
        }
        if let Err(why) = check_window(self.kernel, self.stride) {
            return Err(why);
        }
        if self.kernel.0 as u32 * self.kernel.1 as u32 > 256 {
            return Err("pooling window of more than 256 places");
        }
        match (windows(xs.h, self.kernel.0, self.stride.0, 0), windows(xs.w, self.kernel.1, self.stride.1, 0)) {
            (Some(h), Some(w)) => Ok(Need::plain(Shape::new(h, w, xs.c), Role::MaxPool(self))),
            _ => Err("pooling window larger than the input"),
        }
    }

    /// Most windows one input place lies in.
    pub const fn overlap(&self) -> u32 {
        let (h, w) = (self.kernel.0.div_ceil(self.stride.0), self.kernel.1.div_ceil(self.stride.1));
        h as u32 * w as u32
    }

    /// Input place of window (i, j)'s element `index`.
    #[inline(always)]
    pub fn place(&self, i: usize, j: usize, index: i8) -> (usize, usize) {
        let (mut a, mut b, kw) = (0, usize::from(index.cast_unsigned()), usize::from(self.kernel.1));
        // hosts are slow to mispredict a jump, a Cortex-M0+ to divide
        if cfg!(feature = "std") && kw == 2 {
            (a, b) = (b >> 1, b & 1);
        }
        while b >= kw {
            (a, b) = (a + 1, b - kw);
        }
        (i * usize::from(self.stride.0) + a, j * usize::from(self.stride.1) + b)
    }

    /// The same as [`pool_row`](Self::pool_row) for sums, with a kernel for the usual window.
    #[inline(always)]
    pub fn pool_sums(&self, xs: Shape, x: &[i32], y: &mut [i32], index: &mut [i8]) {
        match self.kernel {
            (2, 2) => pool_2x2(xs, usize::from(self.stride.1) * xs.c as usize, x, y, index),
            _ => self.pool_row(xs, x, y, index),
        }
    }

    /// Pools one strip of `kernel.0` input rows of `xs.w` columns and `xs.c` channels into one output row and its winners.
    #[inline(always)]
    pub fn pool_row<T: Copy + Ord>(&self, xs: Shape, x: &[T], y: &mut [T], index: &mut [i8]) {
        let (kh, kw) = (usize::from(self.kernel.0), usize::from(self.kernel.1));
        let (w, c) = (xs.w as usize, xs.c as usize);
        let step = usize::from(self.stride.1) * c;
        let places = y.chunks_exact_mut(c).zip(index.chunks_exact_mut(c)).enumerate();
        for (j, (y, index)) in places {
            let x = &x[j * step..][..((kh - 1) * w + kw) * c];
            for (ch, (y, index)) in y.iter_mut().zip(index).enumerate() {
                let (mut top, mut winner, mut number) = (x[ch], 0u8, 0u8);
                for a in 0..kh {
                    for b in 0..kw {
                        let v = x[(a * w + b) * c + ch];
                        if v > top {
                            (top, winner) = (v, number);
                        }
                        number = number.wrapping_add(1);
                    }
                }
                (*y, *index) = (top, winner.cast_signed());
            }
        }
    }
}
