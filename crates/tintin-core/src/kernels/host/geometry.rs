//! Where the patches of a convolution lie in its padded input, for errors behind windows of its sums.

use core::ops::Range;
use std::vec::Vec;

use super::groups::room;
use crate::kernels::{Conv2d, Errors};
use crate::shape::Shape;

/// The shapes that both backward products of a convolution go by.
#[derive(Clone, Copy)]
pub struct Geometry {
    /// Number of samples.
    pub samples: usize,
    /// Kernel height and width.
    pub kernel: (usize, usize),
    /// Stride.
    pub stride: (usize, usize),
    /// Padding.
    pub padding: (usize, usize),
    /// Channels of the input.
    pub channels: usize,
    /// Values of a kernel row, which lie side by side in the input.
    pub run: usize,
    /// Lanes from row to row of interleaved inputs, at least as many as values in a run.
    pub spread: usize,
    /// Rows and columns of the input.
    pub input: (usize, usize),
    /// Values of a row of the input.
    pub input_row: usize,
    /// Rows and columns of the input with its padding.
    pub padded: (usize, usize),
    /// Values from patch to patch in a row.
    pub step: usize,
    /// Rows from the patches of a window to those of the one below it.
    pub down: usize,
    /// Values from the patches of a window to those of the next one.
    pub right: usize,
    /// Height and width of a window.
    pub window: (usize, usize),
    /// Stride of windows.
    pub windows: (usize, usize),
}

impl Geometry {
    /// Checks that all windows lie in the sums, and all lengths.
    pub fn new(conv: &Conv2d, errors: &Errors<'_>) -> Self {
        let (h, w, c) = (conv.xs.h as usize, conv.xs.w as usize, conv.xs.c as usize);
        let (kernel, stride, padding) = (conv.kernel, conv.stride, conv.padding);
        let padded = (h + 2 * padding.0, w + 2 * padding.1);
        let inside = |n: u32, stride: usize, window: usize, step: usize, kernel: usize, padded: usize| {
            n > 0 && window > 0 && ((n as usize - 1) * stride + window - 1) * step + kernel <= padded
        };
        let ps = errors.ps;
        assert!(inside(ps.h, errors.stride.0, errors.kernel.0, stride.0, kernel.0, padded.0), "windows below the sums");
        assert!(
            inside(ps.w, errors.stride.1, errors.kernel.1, stride.1, kernel.1, padded.1),
            "windows beside the sums"
        );
        let places = errors.kernel.0 * errors.kernel.1;
        let samples = errors.dy.len() / ps.len();
        assert!(errors.dy.len() == samples * ps.len(), "errors of a part of a sample");
        assert!(if errors.index.is_empty() {
            places == 1 && errors.stride == (1, 1)
        } else {
            errors.index.len() == errors.dy.len()
        });
        Self {
            samples,
            kernel,
            stride,
            padding,
            channels: c,
            run: kernel.1 * c,
            spread: kernel.1 * c,
            input: (h, w),
            input_row: w * c,
            padded,
            step: stride.1 * c,
            down: errors.stride.0 * stride.0,
            right: errors.stride.1 * stride.1 * c,
            window: errors.kernel,
            windows: errors.stride,
        }
    }

    /// Values of a patch.
    #[inline(always)]
    pub fn patch(&self) -> usize {
        self.kernel.0 * self.run
    }

    /// Values of an input.
    #[inline(always)]
    pub fn inputs(&self) -> usize {
        self.input.0 * self.input_row
    }

    /// Values of a row of the padded input.
    #[inline(always)]
    pub fn pitch(&self) -> usize {
        self.padded.1 * self.channels
    }

    /// Places of a window.
    #[inline(always)]
    pub fn places(&self) -> usize {
        self.window.0 * self.window.1
    }

    /// The errors of sample `s`.
    #[inline(always)]
    pub fn sample<'a>(&self, errors: Errors<'a>, s: usize) -> Errors<'a> {
        let range = s * errors.ps.len()..(s + 1) * errors.ps.len();
        let index = if errors.index.is_empty() { errors.index } else { &errors.index[range.clone()] };
        Errors { dy: &errors.dy[range], index, ..errors }
    }

    /// Row and column within a window of its place `p`.
    #[inline(always)]
    pub fn place(&self, p: usize) -> (usize, usize) {
        assert!(p < self.places());
        // the usual width is a shift
        if self.window.1 == 2 { (p >> 1, p & 1) } else { (p / self.window.1, p % self.window.1) }
    }

    /// Room for [`pad`](Self::pad) in `buffer`, all of it zeros.
    #[inline(always)]
    pub fn margins<'a>(&self, buffer: &'a mut Vec<i32>) -> &'a mut [i32] {
        if self.padding == (0, 0) {
            return &mut [];
        }
        let padded = room(buffer, (self.padded.0 * self.pitch()).div_ceil(4));
        padded.fill(0);
        padded
    }

    /// The input `x` with zeros around it, in `buffer` if there are any.
    #[inline(always)]
    pub fn pad<'a>(&self, x: &'a [i8], buffer: &'a mut [i32]) -> &'a [i8] {
        if self.padding == (0, 0) {
            return x;
        }
        let (pitch, len) = (self.pitch(), self.padded.0 * self.pitch());
        assert!(len <= 4 * buffer.len());
        // SAFETY: bytes of words, not more than there are.
        let padded = unsafe { core::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<i8>(), len) };
        let inside = padded[self.padding.0 * pitch..].chunks_exact_mut(pitch);
        for (to, from) in inside.zip(x.chunks_exact(self.input_row)) {
            to[self.padding.1 * self.channels..][..self.input_row].copy_from_slice(from);
        }
        padded
    }
}

/// Windows whose patches are interleaved together.
pub struct Tile {
    /// Rows of windows.
    pub rows: Range<usize>,
    /// Columns of windows.
    pub columns: Range<usize>,
    /// Groups of neighbouring places.
    pub groups: usize,
    /// Rows of the input under them.
    pub height: usize,
}

impl Tile {
    /// The windows of `rows` and `columns`, `group` places in a group.
    #[inline(always)]
    pub fn new(g: &Geometry, group: usize, rows: Range<usize>, columns: Range<usize>) -> Self {
        let places = (columns.len() - 1) * g.windows.1 + g.window.1;
        let height = ((rows.len() - 1) * g.windows.0 + g.window.0 - 1) * g.stride.0 + g.kernel.0;
        Self { rows, columns, groups: places.div_ceil(group), height }
    }

    /// One window, or as many columns as have at most `lanes` lanes of patches, and then as many rows.
    #[inline(always)]
    pub fn largest(g: &Geometry, group: usize, ps: Shape, lanes: usize) -> Self {
        let (mut columns, mut rows) = (ps.w as usize, 1);
        while columns > 1 && Self::new(g, group, 0..1, 0..columns).lanes(g) > lanes {
            columns = columns.div_ceil(2);
        }
        while rows < ps.h as usize && Self::new(g, group, 0..rows + 1, 0..columns).lanes(g) <= lanes {
            rows += 1;
        }
        Self::new(g, group, 0..rows, 0..columns)
    }

    /// Lanes of its patches.
    #[inline(always)]
    pub fn lanes(&self, g: &Geometry) -> usize {
        self.groups * self.height * g.spread
    }

    /// Rows of places.
    #[inline(always)]
    pub fn places(&self, g: &Geometry) -> usize {
        (self.rows.len() - 1) * g.windows.0 + g.window.0
    }

    /// Number of windows.
    #[inline(always)]
    pub fn windows(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}
