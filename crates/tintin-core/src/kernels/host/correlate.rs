//! Weight gradient of a convolution: every error adds the patch that its sum was made of to the row of its output channel.
//!
//! ```text
//! for samples, tiles of places:
//!     interleave the inputs of GROUP neighbouring places: patches[t][row][run], so that a patch is one stretch of lanes
//!     list the errors of each channel with where their patches start: taps
//!     when the cache is full:
//!         for channels, registers v of a patch: gradient[channel][v] += Σ_taps patches[at + v] · errors
//! ```

use core::ops::Range;
use std::vec::Vec;

use super::dispatch_on;
use super::geometry::Geometry;
use super::groups::with_buffers;
use super::lanes::{Kernel, Lanes};
use super::machine::Machine;
use super::scatter::word;
use super::tile::{MOST, Tap, add_to, balanced, correction, interleave_before, single, sparse, with_registers};
use crate::kernels::{Conv2d, Errors};

/// See [`Conv2d::gradient`].
pub fn gradient(
    machine: Machine,
    conv: &Conv2d,
    x: &[i8],
    errors: Errors<'_>,
    rows: Range<usize>,
    acc: &mut [i32],
) -> bool {
    let geometry = Geometry::new(conv, &errors);
    with_buffers(|buffers| dispatch_on(machine, Gradient { geometry, x, errors, rows, acc, buffers })).is_some()
}

/// Lanes of patches held at a time: most of the cache of first level.
const PATCHES: usize = 1 << 13;
/// Errors of a channel listed at a time, where a tile has fewer places.
const LISTED: usize = 512;

struct Gradient<'a> {
    geometry: Geometry,
    x: &'a [i8],
    errors: Errors<'a>,
    rows: Range<usize>,
    acc: &'a mut [i32],
    /// An input with its padding, patches, taps, how many and their sum by channel.
    buffers: &'a mut [Vec<i32>; 4],
}

/// Windows whose patches are held at the same time.
struct Tile {
    rows: Range<usize>,
    columns: Range<usize>,
    /// Groups of neighbouring places, and rows of the input under them.
    groups: usize,
    height: usize,
}

impl Tile {
    fn new<L: Lanes>(g: &Geometry, rows: Range<usize>, columns: Range<usize>) -> Self {
        let places = (columns.len() - 1) * g.windows.1 + g.window.1;
        let height = ((rows.len() - 1) * g.windows.0 + g.window.0 - 1) * g.stride.0 + g.kernel.0;
        Self { rows, columns, groups: places.div_ceil(L::GROUP), height }
    }

    fn lanes(&self, g: &Geometry) -> usize {
        self.groups * self.height * g.run
    }
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { geometry: g, x, errors, rows, acc, buffers: [input, patches, taps, lists] } = self;
        let ps = errors.ps;
        assert!(rows.end <= ps.c as usize && acc.len() == rows.len() * g.patch() && x.len() == g.samples * g.inputs());
        // as many columns as fit, then as many rows
        let (mut columns, mut high) = (ps.w as usize, 1);
        while columns > 1 && Tile::new::<L>(&g, 0..1, 0..columns).lanes(&g) > PATCHES {
            columns = columns.div_ceil(2);
        }
        while high < ps.h as usize && Tile::new::<L>(&g, 0..high + 1, 0..columns).lanes(&g) <= PATCHES {
            high += 1;
        }
        let most = LISTED.max(high * columns);
        patches.resize(PATCHES.max(Tile::new::<L>(&g, 0..high, 0..columns).lanes(&g)) + L::WIDTH, 0);
        taps.resize(2 * rows.len() * most, 0);
        lists.clear();
        lists.resize(2 * rows.len(), 0);
        let (counts, totals) = lists.split_at_mut(rows.len());
        let mut held =
            Held { g: &g, rows, most, patches, taps: taps.as_chunks_mut().0, counts, totals, lanes: 0, places: 0 };
        for s in 0..g.samples {
            let errors = g.sample(errors, s);
            if errors.dy.iter().fold(0, |any, d| any | d) == 0 {
                continue;
            }
            let x = g.pad(&x[s * g.inputs()..][..g.inputs()], input);
            for i in (0..ps.h as usize).step_by(high) {
                for j in (0..ps.w as usize).step_by(columns) {
                    let (rows, columns) = (i..(i + high).min(ps.h as usize), j..(j + columns).min(ps.w as usize));
                    let tile = Tile::new::<L>(&g, rows, columns);
                    let places = tile.rows.len() * tile.columns.len();
                    if held.lanes + tile.lanes(&g) > PATCHES || held.places + places > most {
                        held.multiply::<L>(acc);
                    }
                    held.list::<L>(&tile, errors);
                    held.interleave::<L>(&tile, x);
                    held.lanes += tile.lanes(&g);
                    held.places += places;
                }
            }
        }
        held.multiply::<L>(acc);
    }
}

/// Patches, and the errors that weigh them.
struct Held<'a> {
    g: &'a Geometry,
    rows: Range<usize>,
    /// Room for the errors of a channel.
    most: usize,
    patches: &'a mut [i32],
    taps: &'a mut [Tap],
    counts: &'a mut [i32],
    totals: &'a mut [i32],
    /// Lanes in use, and places there may be errors at.
    lanes: usize,
    places: usize,
}

impl Held<'_> {
    /// Lists the errors of a tile.
    #[inline(always)]
    fn list<L: Lanes>(&mut self, tile: &Tile, errors: Errors<'_>) {
        let g = self.g;
        let ps = errors.ps;
        for i in tile.rows.clone() {
            for j in tile.columns.clone() {
                let at = (i * ps.w as usize + j) * ps.c as usize;
                let dy = &errors.dy[at..][self.rows.clone()];
                if dy.iter().fold(0, |any, d| any | d) == 0 {
                    continue;
                }
                let corner = ((i - tile.rows.start) * g.windows.0, (j - tile.columns.start) * g.windows.1);
                let index = if errors.index.is_empty() { errors.index } else { &errors.index[at..][self.rows.clone()] };
                for (o, &d) in dy.iter().enumerate() {
                    let mut place = index.get(o).map_or(0, |p| usize::from(p.cast_unsigned()));
                    assert!(place < g.places());
                    let mut a = 0;
                    while place >= g.window.1 {
                        (a, place) = (a + 1, place - g.window.1);
                    }
                    let (row, column) = (corner.0 + a, corner.1 + place);
                    let at = self.lanes + (column / L::GROUP * tile.height + row * g.stride.0) * g.run;
                    let count = &mut self.counts[o];
                    self.taps[o * self.most + count.cast_unsigned() as usize] =
                        [word(at), single::<L>(column % L::GROUP, d)];
                    *count += i32::from(d != 0);
                    self.totals[o] = self.totals[o].wrapping_add(i32::from(d));
                }
            }
        }
    }

    /// Interleaves the inputs of a tile, rows of `x` of which are one behind the other.
    #[inline(always)]
    fn interleave<L: Lanes>(&mut self, tile: &Tile, x: &[i8]) {
        let g = self.g;
        let pitch = g.pitch();
        let corner = tile.rows.start * g.down * pitch + tile.columns.start * g.right;
        let room = &mut self.patches[self.lanes..];
        assert!(room.len() >= tile.lanes(g) + L::WIDTH);
        let (end, mut to) = (x.as_ptr_range().end, room.as_mut_ptr());
        for t in 0..tile.groups {
            let mut from = x.as_ptr().wrapping_add(corner + t * L::GROUP * g.step);
            for _ in 0..tile.height {
                for v in (0..g.run).step_by(L::WIDTH) {
                    // places behind the last column have no errors: what is read there does not matter
                    let first = from.wrapping_add(v);
                    let second = first.wrapping_add(g.step);
                    let third = second.wrapping_add(g.step);
                    // SAFETY: nothing behind the end of x is read; there is room for the tile and one register more.
                    unsafe {
                        let rows = [first, second, third, third.wrapping_add(g.step)];
                        L::store(to.add(v), interleave_before::<L>(rows, end));
                    }
                }
                from = from.wrapping_add(pitch);
                // SAFETY: as above.
                to = unsafe { to.add(g.run) };
            }
        }
    }

    /// Adds what is held to the gradient, and holds nothing any more.
    #[inline(always)]
    fn multiply<L: Lanes>(&mut self, acc: &mut [i32]) {
        let registers = self.g.patch().div_ceil(L::WIDTH);
        let block = balanced(registers, MOST);
        for (o, acc) in acc.chunks_exact_mut(self.g.patch()).enumerate() {
            let taps = &self.taps[o * self.most..][..self.counts[o].cast_unsigned() as usize];
            let total = self.totals[o];
            if taps.is_empty() {
                continue;
            }
            let mut first = 0;
            while first < registers {
                let some = block.min(registers - first);
                let acc = &mut acc[first * L::WIDTH..];
                let patches = &self.patches[first * L::WIDTH..];
                // SAFETY: the patch of every tap is held, and a register more.
                unsafe { with_registers!(12, some, V => add::<L, V>(taps, total, patches, acc)) };
                first += some;
            }
        }
        self.counts.fill(0);
        self.totals.fill(0);
        (self.lanes, self.places) = (0, 0);
    }
}

/// # Safety
/// V registers from each tap on lie in the patches.
#[inline(always)]
unsafe fn add<L: Lanes, const V: usize>(taps: &[Tap], total: i32, patches: &[i32], acc: &mut [i32]) {
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [L::splat(correction::<L>(total)); V];
        sparse::<L, V>(&mut sums, taps, patches.as_ptr());
        add_to::<L, V>(acc.as_mut_ptr(), acc.len(), &sums);
    }
}
