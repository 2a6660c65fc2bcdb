//! Two-dimensional convolution (cross-correlation), N11:
//! acc\[i,j,o\] = Σ_{a,b,c} w\[o,a,b,c\] · x\[i·sh + a − ph, j·sw + b − pw, c\], zero outside.
//!
//! x: (samples, h, w, c), w: (o, kh, kw, c), acc: (samples, oh, ow, o). The kernel row a of a patch is one contiguous run of
//! x, so forward gathers runs into patches, four at a time, and both backward sums walk runs, for non-zero errors only (three of four
//! are zero behind a 2×2 pool). Bounds: kh·kw·c ≤ 132 624 (66 052 with a bias); kh·kw·o ≤ 132 624. Height 1 serves one-dimensional signals.

use super::{Backward, Errors, Fields, Forward, Gradient, Need, Role, Sums, Whole, check_sum, check_window, windows};
use crate::kernels::{self, LANES, Windows, axpy};
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
#[derive(Clone, Copy)]
pub(super) struct Patch {
    pub rows: usize,
    pub len: usize,
    pub x: usize,
    pub x_step: usize,
    pub w: usize,
    pub w_step: usize,
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
        let (high, wide) = (xs.h as u64 + 2 * self.padding.0 as u64, xs.w as u64 + 2 * self.padding.1 as u64);
        // hosts hold it with its padding
        if high * wide > (1 << 28) / xs.c as u64 {
            return Err("input with its padding is too large");
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
        Ok(Need {
            ys,
            role: Role::Sums { exponent: 0 },
            rows,
            row,
            fan_out: area * rows,
            backward_terms: area * rows,
            bias: self.bias,
            workspace: kernels::quad_words(row),
            apart: true,
        })
    }

    /// Where in x the patch at output place (i, j) starts, if all of it lies inside the input.
    #[inline(always)]
    fn whole(&self, xs: Shape, i: usize, j: usize) -> Option<usize> {
        // one comparison for both sides: what is left of the input wraps to the far right
        let row = (i * self.stride.0 as usize).wrapping_sub(self.padding.0 as usize);
        let column = (j * self.stride.1 as usize).wrapping_sub(self.padding.1 as usize);
        let inside = row <= (xs.h as usize).wrapping_sub(self.kernel.0 as usize)
            && column <= (xs.w as usize).wrapping_sub(self.kernel.1 as usize);
        (inside && self.kernel.0 as u32 <= xs.h && self.kernel.1 as u32 <= xs.w)
            .then(|| (row * xs.w as usize + column) * xs.c as usize)
    }

    /// The part of the patch at output place (i, j) that lies inside the input.
    #[inline(always)]
    pub(super) fn patch(&self, xs: Shape, i: usize, j: usize) -> Patch {
        let (h, w, c) = (xs.h as usize, xs.w as usize, xs.c as usize);
        let (kh, kw) = (self.kernel.0 as usize, self.kernel.1 as usize);
        let (ph, pw) = (self.padding.0 as usize, self.padding.1 as usize);
        if let Some(x) = self.whole(xs, i, j) {
            return Patch { rows: kh, len: kw * c, x, x_step: w * c, w: 0, w_step: kw * c };
        }
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

    /// The part of a patch of output row `i` in the input rows from `first` on, as it lies in a copy of those rows alone, if any.
    #[inline(always)]
    pub(super) fn part(&self, patch: Patch, xs: Shape, i: usize, first: usize, rows: usize) -> Option<Patch> {
        if rows == xs.h as usize {
            return Some(patch);
        }
        let top = (i * self.stride.0 as usize).saturating_sub(self.padding.0 as usize);
        let (from, to) = (top.max(first), (top + patch.rows).min(first + rows));
        let (cut, row) = (from - top, xs.w as usize * xs.c as usize);
        (from < to).then(|| Patch {
            rows: to - from,
            x: patch.x + cut * patch.x_step - first * row,
            w: patch.w + cut * patch.w_step,
            ..patch
        })
    }
}

/// Up to four output places in a row, one behind the other, and where in x their patches start if all of them lie inside the input.
struct Quad {
    i: usize,
    j: usize,
    places: usize,
    x: [usize; LANES],
    whole: bool,
}

/// Walks the output places four at a time, without multiplying anew for each.
struct Quads {
    i: usize,
    j: usize,
    /// Left edge of the patch, which wraps to the far right while it lies in the padding; the largest that keeps it inside.
    left: usize,
    last: usize,
    /// Start of the patch in x, wrapping likewise; no kernel row of it leaves the input.
    x: usize,
    rows_inside: bool,
    width: usize,
    conv: Conv2d,
    xs: Shape,
}

impl Quads {
    #[inline(always)]
    fn new(conv: &Conv2d, xs: Shape, first: usize, width: usize) -> Self {
        let last = (xs.w as usize).wrapping_sub(conv.kernel.1 as usize);
        let mut quads = Self { i: first, j: 0, left: 0, last, x: 0, rows_inside: false, width, conv: *conv, xs };
        quads.start_row();
        quads
    }

    #[inline(always)]
    fn start_row(&mut self) {
        let Self { conv, xs, .. } = *self;
        let top = (self.i * conv.stride.0 as usize).wrapping_sub(conv.padding.0 as usize);
        self.j = 0;
        self.left = 0usize.wrapping_sub(conv.padding.1 as usize);
        self.x = top.wrapping_mul(xs.w as usize).wrapping_add(self.left).wrapping_mul(xs.c as usize);
        self.rows_inside = conv.kernel.1 as u32 <= xs.w
            && conv.kernel.0 as u32 <= xs.h
            && top <= (xs.h as usize).wrapping_sub(conv.kernel.0 as usize);
    }

    /// The next `n` places, 1 to [`LANES`]; the first one stands for those that are missing.
    #[inline(always)]
    fn next(&mut self, n: usize) -> Quad {
        if self.j == self.width {
            self.i += 1;
            self.start_row();
        }
        let Self { i, j, x, .. } = *self;
        let stride = self.conv.stride.1 as usize;
        let step = stride * self.xs.c as usize;
        let end = self.left.wrapping_add((LANES - 1) * stride);
        // the usual case: all in one row, and none in the padding at its sides
        if n == LANES && j + LANES <= self.width && self.left <= self.last && end <= self.last {
            self.j = j + LANES;
            self.left = self.left.wrapping_add(LANES * stride);
            self.x = x.wrapping_add(LANES * step);
            let (second, third) = (x.wrapping_add(step), x.wrapping_add(2 * step));
            let x = [x, second, third, third.wrapping_add(step)];
            return Quad { i, j, places: n, x, whole: self.rows_inside };
        }
        let mut quad = Quad { i, j, places: n, x: [x; LANES], whole: true };
        for x in &mut quad.x[..n] {
            if self.j == self.width {
                self.i += 1;
                self.start_row();
            }
            *x = self.x;
            quad.whole &= self.rows_inside && self.left <= self.last;
            self.j += 1;
            self.left = self.left.wrapping_add(stride);
            self.x = self.x.wrapping_add(step);
        }
        quad
    }
}

impl Sums for Conv2d {
    #[inline(always)]
    fn forward(&self, call: Forward<'_>) {
        let (xs, ys) = (call.xs, call.ys);
        let k = self.fan_in(xs);
        let (w, channels) = (ys.w as usize, ys.c as usize);
        let direct = self.direct(xs, ys, call.first);
        let places = Windows::places(call.rows, w);
        let out = kernels::Outputs { acc: &mut *call.acc, winners: &mut [], sums: kernels::Sums::Added };
        if direct.maxima(&places, call.x, call.w, out).is_some() {
            return;
        }
        let samples = call.x.chunks_exact(xs.len()).zip(call.acc.chunks_exact_mut(call.rows * w * channels));
        for (x, acc) in samples {
            if direct.sums(x, call.w, acc, call.workspace) {
                continue;
            }
            let mut quads = Quads::new(self, xs, call.first, w);
            for acc in acc.chunks_mut(LANES * channels) {
                self.gather(xs, w, x, quads.next(acc.len() / channels), call.workspace);
                kernels::multiply(call.workspace, call.w, k, acc);
            }
        }
    }

    #[inline(always)]
    fn whole(&self, call: Whole<'_>) -> Option<u32> {
        let Whole { x, w, acc, winners, pool, relu, xs, ys, ps } = call;
        let mut windows = Windows::places(ps.h as usize, ps.w as usize);
        if let Some(pool) = pool {
            windows.kernel = (pool.kernel.0 as usize, pool.kernel.1 as usize);
            windows.stride = (pool.stride.0 as usize, pool.stride.1 as usize);
        }
        self.direct(xs, ys, 0).maxima(&windows, x, w, Whole::outputs(acc, winners, relu))
    }

    #[inline(always)]
    fn backward(&self, call: Backward<'_>) {
        let k = self.fan_in(call.xs);
        let Backward { xs, first, .. } = call;
        let (channels, row) = (call.errors.ps.c as usize, xs.w as usize * xs.c as usize);
        let whole = call.rows == xs.h as usize;
        if whole && self.direct(xs, call.errors.ps, 0).input_errors(call.w, direct_errors(call.errors), call.acc) {
            return;
        }
        for (s, acc) in call.acc.chunks_exact_mut(call.rows * row).enumerate() {
            call.errors.sample(s).for_each(
                0..channels,
                #[inline(always)]
                |i, j, o, d| {
                    let Some(patch) = self.part(self.patch(xs, i, j), xs, i, first, call.rows) else { return };
                    let Patch { rows, len, x, x_step, w, w_step } = patch;
                    axpy(d, &call.w[o * k + w..], w_step, &mut acc[x..], x_step, len, rows);
                },
            );
        }
    }

    #[inline(always)]
    fn gradient(&self, call: Gradient<'_>) {
        let Gradient { x, errors, acc, xs, rows, workspace } = call;
        let k = self.fan_in(xs);
        if self.direct(xs, errors.ps, 0).gradient(x, direct_errors(errors), rows.clone(), acc) {
            return;
        }
        for (s, x) in x.chunks_exact(xs.len()).enumerate() {
            let errors = errors.sample(s);
            // hosts walk the errors of several rows at once
            if rows.len() == 1 || !cfg!(feature = "std") {
                for (o, acc) in rows.clone().zip(acc.chunks_exact_mut(k)) {
                    self.gradient_row(x, errors, acc, xs, o, workspace);
                }
                continue;
            }
            errors.for_each(
                rows.clone(),
                #[inline(always)]
                |i, j, o, d| {
                    let patch = self.patch(xs, i, j);
                    let acc = &mut acc[(o - rows.start) * k + patch.w..];
                    axpy(d, &x[patch.x..], patch.x_step, acc, patch.w_step, patch.len, patch.rows);
                },
            );
        }
    }
}

/// Height and width as kernels take them.
#[inline(always)]
pub(super) fn size((h, w): (u16, u16)) -> (usize, usize) {
    (usize::from(h), usize::from(w))
}

/// The errors as kernels take them.
#[inline(always)]
pub(super) fn direct_errors(errors: Errors<'_>) -> kernels::Errors<'_> {
    let Errors { dy, index, pool, ps } = errors;
    let (kernel, stride) = pool.map_or(((1, 1), (1, 1)), |pool| (size(pool.kernel), size(pool.stride)));
    kernels::Errors { dy, index, kernel, stride, ps }
}

impl Conv2d {
    /// In the words of the kernels, output rows from `first` on.
    #[inline(always)]
    fn direct(&self, xs: Shape, ys: Shape, first: usize) -> kernels::Conv2d {
        let (kernel, stride, padding) = (size(self.kernel), size(self.stride), size(self.padding));
        kernels::Conv2d { kernel, stride, padding, xs, ys, first }
    }

    /// Values of a patch.
    #[inline(always)]
    fn fan_in(&self, xs: Shape) -> usize {
        self.kernel.0 as usize * self.kernel.1 as usize * xs.c as usize
    }

    /// Brings the patches of a quad of output places, of which a row has `width`, into the workspace, zeros outside the input.
    #[inline(always)]
    fn gather(&self, xs: Shape, width: usize, x: &[i8], quad: Quad, workspace: &mut [i32]) {
        let k = self.fan_in(xs);
        if quad.whole {
            let (step, run) = (xs.w as usize * xs.c as usize, self.kernel.1 as usize * xs.c as usize);
            kernels::gather(workspace, x, quad.x, step, run, self.kernel.0 as usize);
        } else {
            let (mut i, mut j) = (quad.i, quad.j);
            for lane in 0..quad.places {
                let Patch { rows, len, x: from, x_step, w: at, w_step } = self.patch(xs, i, j);
                if rows * len < k {
                    kernels::clear(workspace, k, lane);
                }
                kernels::put(workspace, k, lane, at, w_step, &x[from..], x_step, len, rows);
                j += 1;
                if j == width {
                    (i, j) = (i + 1, 0);
                }
            }
        }
        kernels::seal(workspace, k);
    }
}
