//! Convolution without patches, and the max pool behind it in the same pass.
//!
//! ```text
//! pack all weights
//! for as many samples, or pooled rows of one sample, as the cache of first level holds
//!     copy their inputs to the side with the offset, zeros around them
//!     the product of all their windows
//! ```
//!
//! A kernel row of a patch is one run of the copy, so a place is known by where its patch begins.

use std::vec::Vec;

use super::super::{Conv2d, Outputs, Sums, Windows};
use super::filters::Filters;
use super::groups::{Rows, Side, room, spread, spread_rows, with_buffers};
use super::lanes::{Kernel, Lanes, PLACED};
use super::machine::Machine;
use super::product::{Grid, Product};

/// Bytes of inputs copied at a time.
const CACHE: usize = 16 << 10;

/// A convolution of all samples.
pub struct Convolution<'a> {
    /// The layer.
    pub conv: &'a Conv2d,
    /// The pool behind it; windows of one place for the sums themselves.
    pub windows: &'a Windows,
    /// Inputs of all samples.
    pub x: &'a [i8],
    /// Weights, (channels, patch).
    pub w: &'a [i8],
    /// Sums or their maxima, (samples, windows, channels).
    pub out: Outputs<'a>,
}

impl Convolution<'_> {
    /// Computes on `machine` and gives the largest magnitude of the outputs; `None` if it has no vector instructions.
    pub fn on(self, machine: Machine) -> Option<u32> {
        let (conv, windows, out) = (self.conv, self.windows, &self.out);
        let samples = self.x.len() / conv.xs.len();
        let sums = windows.rows * windows.columns * conv.ys.c as usize;
        assert!(self.x.len() == samples * conv.xs.len() && out.acc.len() == samples * sums, "not as many samples");
        assert!(out.winners.is_empty() || out.winners.len() == out.acc.len(), "not as many winners as sums");
        with_buffers(|buffers| super::dispatch_on(machine, Call { of: self, buffers }))
    }
}

/// With its buffers: inputs, weights and their rows, steps, and the places of a window.
struct Call<'a, 'b> {
    of: Convolution<'a>,
    buffers: &'b mut [Vec<i32>; 5],
}

/// Where the values of a copy lie.
struct Copied {
    /// Values of a row with its padding.
    row: usize,
    /// Rows under `band` rows of windows.
    rows: usize,
    /// Samples, and rows of windows of each, that are copied at a time; one of the two is all there are or one.
    samples: usize,
    band: usize,
}

impl Convolution<'_> {
    /// Rows of x under `band` rows of windows.
    fn rows(&self, band: usize) -> usize {
        let places = (band - 1) * self.windows.stride.0 + self.windows.kernel.0;
        (places - 1) * self.conv.stride.0 + self.conv.kernel.0
    }

    /// How much is copied at a time: at least a row of windows, and at least `least` windows where there are so many.
    fn copied(&self, bytes_of_value: usize, least: usize) -> Copied {
        let (conv, windows) = (self.conv, self.windows);
        let row = (conv.xs.w as usize + 2 * conv.padding.1) * conv.xs.c as usize;
        let most = CACHE / (row * bytes_of_value);
        let whole = self.rows(windows.rows);
        if whole > most && windows.rows * windows.columns > least {
            let places = most.saturating_sub(conv.kernel.0) / conv.stride.0 + 1;
            let band = places.saturating_sub(windows.kernel.0) / windows.stride.0 + 1;
            let band = band.max(least.div_ceil(windows.columns)).min(windows.rows);
            return Copied { row, rows: self.rows(band), samples: 1, band };
        }
        let samples = (most / whole).max(least.div_ceil(windows.rows * windows.columns));
        Copied { row, rows: whole, samples: samples.min(self.x.len() / conv.xs.len()).max(1), band: windows.rows }
    }

    /// Copies `x`, which holds whole samples, from the input row under row `first` of windows on.
    #[inline(always)]
    fn copy<L: Lanes>(&self, x: &[i8], first: usize, copied: &Copied, to: &mut [i32]) {
        let conv = self.conv;
        let (len, side) = (conv.xs.w as usize * conv.xs.c as usize, conv.padding.1 * conv.xs.c as usize);
        let top = (conv.first + first * self.windows.stride.0) * conv.stride.0;
        let samples = x.len() / conv.xs.len();
        let values = samples * copied.rows * copied.row + PLACED;
        assert!(values * size_of::<L::Value>() <= size_of_val(to), "no room for the copy");
        let mut to = to.as_mut_ptr().cast::<L::Value>();
        // rows above the input, inside and below
        let above = conv.padding.0.saturating_sub(top).min(copied.rows);
        let source = (top + above - conv.padding.0).min(conv.xs.h as usize);
        let inside = (conv.xs.h as usize - source).min(copied.rows - above);
        let below = copied.rows - above - inside;
        let zeros = |count| Rows { count, len: 0, at: 0, pitch: copied.row };
        let rows = Rows { count: inside, len, at: side, pitch: copied.row };
        if side == 0 && inside == conv.xs.h as usize && inside == copied.rows {
            // SAFETY: there is room for all samples, as was just checked.
            return unsafe { spread::<L>(Side::Offset, x, to) };
        }
        for x in x.chunks_exact(conv.xs.len()) {
            let values = &x[source * len..][..inside * len];
            // SAFETY: there is room for the rows of all samples and what is written behind, as was just checked.
            unsafe {
                // where nothing is read there must be memory all the same: elsewhere reading nothing takes long
                spread_rows::<L>(Side::Offset, &x[..0], zeros(above), to);
                to = to.add(above * copied.row);
                spread_rows::<L>(Side::Offset, values, rows, to);
                to = to.add(inside * copied.row);
                spread_rows::<L>(Side::Offset, &x[..0], zeros(below), to);
                to = to.add(below * copied.row);
            }
        }
    }
}

/// An offset as the tables hold it.
#[inline(always)]
fn entry(v: usize) -> i32 {
    u32::try_from(v).map_or(-1, u32::cast_signed)
}

impl Kernel for Call<'_, '_> {
    type Output = u32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> u32 {
        let Call { of, buffers: [x, rows, packed, steps, window] } = self;
        let (conv, pool) = (of.conv, of.windows);
        let (c, channels) = (conv.xs.c as usize, conv.ys.c as usize);
        let copied = of.copied(size_of::<L::Value>(), 8);
        // in values: from place to place, from window to window
        let (right, down) = (conv.stride.1 * c, conv.stride.0 * copied.row);
        let (shift, below) = (pool.stride.1 * right, pool.stride.0 * down);

        let filters =
            Filters { w: of.w, outputs: channels, rows: conv.kernel.0, run: conv.kernel.1 * c, joined: 1, shift };
        let filters = filters.join::<L>(pool.columns);
        let packed = room(packed, filters.words::<L>());
        let starts = if of.out.sums == Sums::Added { &[] } else { of.out.acc.get(..channels).unwrap_or(&[]) };
        // SAFETY: as the caller says.
        unsafe { filters.pack::<L>(starts, rows, packed) };

        let groups = filters.groups::<L>();
        let steps = room(steps, (conv.kernel.0 + 1) * groups);
        for (a, steps) in steps.chunks_exact_mut(groups).enumerate() {
            for (q, step) in steps.iter_mut().enumerate() {
                *step = entry(a * copied.row + q * L::GROUP);
            }
        }
        let window = room(window, pool.kernel.0 * pool.kernel.1);
        for (a, window) in window.chunks_exact_mut(pool.kernel.1).enumerate() {
            for (b, place) in window.iter_mut().enumerate() {
                *place = entry(a * down + b * right);
            }
        }
        let in_row = pool.columns.div_ceil(filters.joined);
        let grid = Grid {
            counts: [0, 0, in_row],
            steps: [copied.rows * copied.row, below, filters.joined * shift],
            lanes: filters.lanes(),
            last: (pool.columns - (in_row - 1) * filters.joined) * channels,
        };
        let square = pool.kernel == (2, 2) && conv.stride.0 == 1;

        // behind the last row: what the last step of the last window reads in vain, and what is written in vain
        let slack = (filters.joined * shift + groups * L::GROUP).max(PLACED);
        let values = copied.samples * copied.rows * copied.row + slack;
        let x = room(x, (values * size_of::<L::Value>()).div_ceil(4));

        let samples = of.x.len() / conv.xs.len();
        let (row, mut top) = (pool.columns * channels, 0);
        for s in (0..samples).step_by(copied.samples) {
            for i in (0..pool.rows).step_by(copied.band) {
                let (count, rows) = (copied.samples.min(samples - s), copied.band.min(pool.rows - i));
                of.copy::<L>(&of.x[s * conv.xs.len()..][..count * conv.xs.len()], i, &copied, x);
                let at = (s * pool.rows + i) * row;
                let sums = at..at + count * rows * row;
                let winners = if of.out.winners.is_empty() { &mut [][..] } else { &mut of.out.winners[sums.clone()] };
                let out = Outputs { acc: &mut of.out.acc[sums], winners, sums: of.out.sums };
                let grid = Grid { counts: [count, rows, in_row], ..grid };
                let product = Product { x, packed, steps, groups, window, square, grid, out };
                // SAFETY: as the caller says.
                top = unsafe { product.run::<L>() }.max(top);
            }
        }
        top
    }
}
