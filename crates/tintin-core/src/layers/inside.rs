//! Backward sums of a convolution on a microcontroller: lists of those errors whose patches lie inside the input, unit by unit.

use core::ops::Range;

use super::conv2d::{Conv2d, Patch};
use super::{Errors, MaxPool2d};
use crate::kernels::{Taps, Walk, axpy};
use crate::shape::Shape;

/// A rectangle of error places, behind the pool, all of whose patches lie inside the input: not empty if it has rows.
pub(super) struct Inside {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

impl Inside {
    pub const NONE: Self = Self { rows: 0..0, columns: 0..0 };
}

/// Those of `places` windows, `step` apart and reaching `reach` far, that lie in `extent` values behind `padding` zeros.
fn inside(places: u32, step: usize, reach: usize, padding: usize, extent: u32) -> Range<usize> {
    let (mut from, mut to) = (0, places as usize);
    while from < to && from * step < padding {
        from += 1;
    }
    while to > from && (to - 1) * step + reach > extent as usize + padding {
        to -= 1;
    }
    from..to
}

impl Conv2d {
    /// Calls `f` with lists of the errors of unit `o` that lie inside, as many as the words have room for; the others are left.
    #[inline(always)]
    fn lists(
        &self,
        errors: Errors<'_>,
        xs: Shape,
        o: usize,
        words: &mut [i32],
        mut f: impl FnMut(&Taps<'_>),
    ) -> Inside {
        let (ps, c, line) = (errors.ps, xs.c as usize, (xs.w * xs.c) as usize);
        let pool = errors.pool.unwrap_or(MaxPool2d { kernel: (1, 1), stride: (1, 1) });
        let of = |pair: (u16, u16)| (usize::from(pair.0), usize::from(pair.1));
        let ((kh, kw), (ph, pw), (sh, sw)) = (of(self.kernel), of(self.padding), of(self.stride));
        let ((th, tw), (window_h, window)) = (of(pool.stride), of(pool.kernel));
        let rows = inside(ps.h, th * sh, (window_h - 1) * sh + kh, ph, xs.h);
        let columns = inside(ps.w, tw * sw, (window - 1) * sw + kw, pw, xs.w);
        let pairs = (words.len() / 2).saturating_sub(1);
        if columns.is_empty() || pairs < columns.len() {
            return Inside::NONE;
        }
        let (mut i, mut n) = (rows.start, pairs);
        while i < rows.end {
            // as many rows as there is room for, counted: see `each_place`
            let first = i;
            while i < rows.end && n >= columns.len() {
                n -= columns.len();
                i += 1;
            }
            n = pairs;
            let walk = Walk {
                first: (first * ps.w as usize + columns.start) * ps.c as usize + o,
                step: ps.c as usize,
                row: (ps.w * ps.c) as usize,
                rows: i - first,
                columns: columns.len(),
                place: (first * th * sh - ph) * line + (columns.start * tw * sw - pw) * c,
                place_step: tw * sw * c,
                place_row: th * sh * line,
                window,
                right: sw * c,
                down: sh * line,
            };
            f(&Taps::new(words, errors.dy, errors.index, walk));
        }
        Inside { rows, columns }
    }

    /// The gradient of weight row `o` from one sample: errors whose patch lies inside are added up so that the sums stay in registers.
    #[inline(always)]
    pub(super) fn gradient_row(
        &self,
        x: &[i8],
        errors: Errors<'_>,
        acc: &mut [i32],
        xs: Shape,
        o: usize,
        words: &mut [i32],
    ) {
        let (run, row) = (self.kernel.1 as usize * xs.c as usize, (xs.w * xs.c) as usize);
        let inside = self.lists(errors, xs, o, words, |taps| taps.columns(x, row, acc, run));
        errors.outside(
            &inside,
            o..o + 1,
            #[inline(always)]
            |i, j, _, d| {
                let Patch { rows, len, x: from, x_step, w: to, w_step } = self.patch(xs, i, j);
                axpy(d, &x[from..], x_step, &mut acc[to..], w_step, len, rows);
            },
        );
    }
}
