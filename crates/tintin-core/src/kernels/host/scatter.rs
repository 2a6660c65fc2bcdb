//! Input errors of a convolution: every error adds its weights to the patch that its sum was made of.
//!
//! ```text
//! interleave the weights of GROUP output channels: b[q][a][run], rows of zeros around those of the kernel
//! for samples, columns of windows:
//!     bring the errors of each window into groups, by place
//!     for columns of a window, windows from top to bottom, unless errors are so few that each is taken on its own:
//!         registers of the map's rows under the window += Σ b[q][a][v] · errors     rows of zeros move the kernel down
//! acc += the map without its margins
//! ```
//! The map has the padding as margins, so nothing is cut off. Windows are walked down the columns: a patch then meets the sums that the
//! last one stored register by register, and the processor forwards them.

use core::ops::Range;
use std::vec::Vec;

use super::geometry::Geometry;
use super::groups::{Side, room, spread, with_buffers};
use super::lanes::{Kernel, Lanes};
use super::machine::Machine;
use super::placed::{self, placed};
use super::tile::{
    MOST, ROW, Tap, ahead, balanced, correction, count_nonzero, nonzero, readable, single, sparse, tap, with_registers,
    word, zeros,
};
use super::{dispatch_on, flipped};
use crate::kernels::{Conv2d, Errors};

/// See [`Conv2d::input_errors`].
pub fn input_errors(machine: Machine, conv: &Conv2d, w: &[i8], errors: Errors<'_>, acc: &mut [i32]) -> bool {
    let geometry = Geometry::new(conv, &errors);
    if machine != Machine::Portable && flipped::suits(conv, &errors) {
        return flipped::input_errors(machine, conv, w, errors, acc);
    }
    with_buffers(|buffers| dispatch_on(machine, InputErrors { geometry, w, errors, acc, buffers })).is_some()
}

/// Lanes of interleaved weights in use at a time: some of the cache of second level.
const WEIGHTS: usize = 1 << 15;
/// Rows of windows walked down together.
const BAND: usize = 8;
/// Of more channels there are so many errors at a place that joining places is not worth the rows of zeros.
const FEW: usize = 32;

/// One of so many errors must not be zero for each four places of a window, or they are taken one by one.
const SPARSE: usize = 8;

struct InputErrors<'a> {
    geometry: Geometry,
    w: &'a [i8],
    errors: Errors<'a>,
    acc: &'a mut [i32],
    /// Map, interleaved weights, where their registers lie in the map, groups of errors, taps, three for the lists.
    buffers: &'a mut [Vec<i32>; 8],
}

impl Kernel for InputErrors<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { geometry: g, w, errors, acc, buffers: [map, weights, registers, groups, taps, one, two, three] } =
            self;
        let channels = errors.ps.c as usize;
        assert!(w.len() == channels * g.patch() && acc.len() == g.samples * g.inputs());
        let wide = g.run.div_ceil(L::WIDTH);
        let pitch = g.pitch().next_multiple_of(L::WIDTH);
        let joined = channels <= FEW;
        // rows from the first place of a list to the last one
        let more = if joined { (g.window.0 - 1) * g.stride.0 } else { 0 };
        let map = room(map, g.padded.0 * pitch + wide * L::WIDTH);
        let registers = room(registers, (g.kernel.0 + more) * wide);
        for (a, registers) in registers.chunks_exact_mut(wide).enumerate() {
            for (v, register) in registers.iter_mut().enumerate() {
                *register = word(a * pitch + v * L::WIDTH);
            }
        }
        let row = (registers.len() + more * wide) * L::WIDTH;
        let deep = (WEIGHTS / row).clamp(1, channels.div_ceil(L::GROUP));
        let weights = room(weights, deep * row);
        let taps = room(taps, 2 * deep);
        let lists = &Lists::new::<L>(&g, joined, (row, wide * L::WIDTH, pitch), deep, [one, two, three]);
        let groups = room(groups, BAND * lists.blocks * (placed::lanes::<L>() + 1));
        for first in (0..channels).step_by(deep * L::GROUP) {
            let some = first..(first + deep * L::GROUP).min(channels);
            interleave::<L>(&g, &w[some.start * g.patch()..some.end * g.patch()], wide, more, weights);
            for (s, acc) in acc.chunks_exact_mut(g.inputs()).enumerate() {
                let errors = g.sample(errors, s);
                if errors.dy.iter().fold(0, |any, d| any | d) == 0 {
                    continue;
                }
                map.fill(0);
                let count = count_nonzero(errors.dy);
                let quads = g.places().div_ceil(placed::PLACES);
                Scatter {
                    g: &g,
                    errors,
                    sparse: count * SPARSE < errors.dy.len() * quads,
                    top: more * wide * L::WIDTH,
                    pitch,
                    registers,
                    block: balanced(registers.len(), MOST),
                    weights,
                    row,
                    lists,
                    groups,
                    map,
                    taps: taps.as_chunks_mut().0,
                }
                .run::<L>(some.clone());
                add_inside::<L>(&g, pitch, map, acc);
            }
        }
    }
}

/// b\[q\]\[a\]\[run\] from the rows `w`, zeros behind each run, and `more` rows of zeros on either side.
#[inline(always)]
fn interleave<L: Lanes>(g: &Geometry, w: &[i8], wide: usize, more: usize, to: &mut [i32]) {
    let rows = w.len() / g.patch();
    let (end, mut copies) = (w.as_ptr_range().end, [[0; ROW]; 4]);
    let (run, more) = (wide * L::WIDTH, more * wide * L::WIDTH);
    let row = g.kernel.0 * run + 2 * more;
    for (q, to) in to.chunks_exact_mut(row).take(rows.div_ceil(L::GROUP)).enumerate() {
        to[..more].fill(zeros::<L>());
        to[row - more..].fill(zeros::<L>());
        for (a, to) in to[more..row - more].chunks_exact_mut(run).enumerate() {
            let mut sources = [core::ptr::null(); 4];
            for (i, source) in sources.iter_mut().take(L::GROUP).enumerate() {
                // a channel that is missing has no errors, and any row will do
                let o = (q * L::GROUP + i).min(rows - 1);
                *source = w[o * g.patch() + a * g.run..].as_ptr();
            }
            for (v, to) in to.chunks_exact_mut(L::WIDTH).enumerate() {
                // SAFETY: rows end with `w`; there is room for a register.
                unsafe {
                    let sources = readable::<L>(ahead(sources, v * L::WIDTH), L::WIDTH, end, &mut copies);
                    L::store(to.as_mut_ptr(), L::interleave(Side::Offset, sources));
                }
            }
            to[g.run..].fill(zeros::<L>());
        }
    }
}

/// Which groups of a window are added together: those of a column of its places, or of a place.
struct Lists<'a> {
    /// Blocks of groups of a window: of channels, and of places in each.
    blocks: usize,
    /// Of every group of the blocks, where its weights start.
    starts: &'a [i32],
    /// Of every list and block, a bit for each of its groups.
    selects: &'a [i32],
    /// Of every list, where its patches lie in the map, from the corner of the window on.
    corners: &'a [i32],
}

impl<'a> Lists<'a> {
    /// The weights of a group of channels have `row` lanes, those of a kernel row `run`; rows of the map are `pitch` apart.
    #[inline(always)]
    fn new<L: Lanes>(
        g: &Geometry,
        joined: bool,
        (row, run, pitch): (usize, usize, usize),
        deep: usize,
        [starts, selects, corners]: [&'a mut Vec<i32>; 3],
    ) -> Self {
        let quads = g.places().div_ceil(placed::PLACES);
        let blocks = quads * (deep * L::GROUP).div_ceil(placed::CHANNELS);
        let count = if joined { g.window.1 } else { g.places() };
        let (lanes, some) = (placed::lanes::<L>(), placed::groups::<L>());
        let (starts, selects) = (room(starts, blocks * lanes), room(selects, count * blocks));
        let corners = room(corners, count);
        selects.fill(0);
        for p in 0..g.places() {
            let (a, b) = g.place(p);
            let (list, start) = if joined { (b, (g.window.0 - 1 - a) * g.stride.0 * run) } else { (p, 0) };
            corners[list] = word(if joined { 0 } else { a * g.stride.0 * pitch } + b * g.step);
            let lane = p % placed::PLACES * some;
            for (n, block) in (p / placed::PLACES..blocks).step_by(quads).enumerate() {
                for i in 0..some {
                    starts[block * lanes + lane + i] = word((n * some + i) * row + start);
                }
                selects[list * blocks + block] |= ((1 << some) - 1) << lane;
            }
        }
        Self { blocks, starts, selects, corners }
    }
}

/// The errors of one sample, on their way to its map.
struct Scatter<'a> {
    g: &'a Geometry,
    errors: Errors<'a>,
    sparse: bool,
    /// Lanes of zeros before the weights of a group.
    top: usize,
    pitch: usize,
    registers: &'a [i32],
    /// Registers added to at a time.
    block: usize,
    weights: &'a [i32],
    /// Lanes of the weights of a group of channels.
    row: usize,
    lists: &'a Lists<'a>,
    groups: &'a mut [i32],
    map: &'a mut [i32],
    taps: &'a mut [Tap],
}

impl Scatter<'_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self, channels: Range<usize>) {
        let ps = self.errors.ps;
        for band in (0..ps.h as usize).step_by(BAND) {
            let band = band..(band + BAND).min(ps.h as usize);
            for j in 0..ps.w as usize {
                if !self.errors.index.is_empty() && !self.sparse {
                    self.winners::<L>(band.clone(), j, channels.clone());
                    continue;
                }
                for i in band.clone() {
                    let at = (i * ps.w as usize + j) * ps.c as usize;
                    let corner = i * self.g.down * self.pitch + j * self.g.right;
                    let dy = &self.errors.dy[at..][channels.clone()];
                    if self.errors.index.is_empty() {
                        self.groups::<L>(dy, corner);
                    } else {
                        self.singly::<L>(dy, &self.errors.index[at..][channels.clone()], corner);
                    }
                }
            }
        }
    }

    /// Adds the errors of windows of column `j` to the patches of their places.
    #[inline(always)]
    fn winners<L: Lanes>(&mut self, band: Range<usize>, j: usize, channels: Range<usize>) {
        let (ps, lists, lanes) = (self.errors.ps, self.lists, placed::lanes::<L>());
        let quads = self.g.places().div_ceil(placed::PLACES);
        let (masks, groups) = self.groups.split_at_mut(BAND * lists.blocks);
        for (i, masks) in band.clone().zip(masks.chunks_exact_mut(lists.blocks)) {
            let at = (i * ps.w as usize + j) * ps.c as usize;
            for (n, first) in channels.clone().step_by(placed::CHANNELS).enumerate() {
                let (dy, index) = (&self.errors.dy[at + first..], &self.errors.index[at + first..]);
                let count = placed::CHANNELS.min(channels.end - first);
                for q in 0..quads {
                    let block = n * quads + q;
                    let to = &mut groups[((i - band.start) * lists.blocks + block) * lanes..][..lanes];
                    masks[block] = placed::<L>(dy, index, count, q * placed::PLACES, to).cast_signed();
                }
            }
        }
        let blocks = channels.len().div_ceil(placed::CHANNELS) * quads;
        let last = self.registers[self.registers.len() - 1].cast_unsigned() as usize;
        let (wide, reach) = (self.g.run.div_ceil(L::WIDTH), self.registers.len() / self.g.run.div_ceil(L::WIDTH));
        for (selects, &corner) in lists.selects.chunks_exact(lists.blocks).zip(lists.corners) {
            let corner = corner.cast_unsigned() as usize + j * self.g.right;
            if self.g.down == DOWN && (reach == 4 || reach == 6) {
                let map = &mut self.map[corner + band.start * DOWN * self.pitch..];
                assert!(last + (band.len() - 1) * DOWN * self.pitch + L::WIDTH <= map.len());
                let call = Strip {
                    rows: band.len(),
                    room: lists.blocks,
                    masks,
                    selects: &selects[..blocks],
                    groups,
                    starts: lists.starts,
                    run: wide * L::WIDTH,
                    pitch: self.pitch,
                };
                let block = balanced(wide, MOST / reach);
                for v in (0..wide).step_by(block) {
                    // SAFETY: registers of the strip end with the last one, groups with errors weigh rows of the weights.
                    unsafe {
                        let (weights, map) =
                            (self.weights.as_ptr().add(v * L::WIDTH), map.as_mut_ptr().add(v * L::WIDTH));
                        match (reach, block.min(wide - v)) {
                            (4, 1) => call.add::<L, 4, 1>(weights, map),
                            (4, 2) => call.add::<L, 4, 2>(weights, map),
                            (4, _) => call.add::<L, 4, 3>(weights, map),
                            (_, 1) => call.add::<L, 6, 1>(weights, map),
                            _ => call.add::<L, 6, 2>(weights, map),
                        }
                    }
                }
                continue;
            }
            let blocks_of_rows = self.registers.chunks(self.block).zip(self.weights.chunks(self.block * L::WIDTH));
            for (registers, weights) in blocks_of_rows {
                for i in band.clone() {
                    let at = (i - band.start) * lists.blocks;
                    let call = Window {
                        masks: &masks[at..][..blocks],
                        selects: &selects[..blocks],
                        groups: &groups[at * lanes..][..blocks * lanes],
                        starts: &lists.starts[..blocks * lanes],
                    };
                    let map = &mut self.map[corner + i * self.g.down * self.pitch..];
                    assert!(last + L::WIDTH <= map.len());
                    // SAFETY: registers lie before `last`, groups with errors weigh rows of the weights.
                    unsafe {
                        with_registers!(12, registers.len(), V => call.add::<L, V>(weights, registers, map.as_mut_ptr()));
                    }
                }
            }
        }
    }

    /// Adds the errors of a window to the patches of their places, one by one.
    #[inline(always)]
    fn singly<L: Lanes>(&mut self, dy: &[i8], index: &[i8], corner: usize) {
        let g = self.g;
        assert!(dy.len() == index.len());
        let registers = &self.registers[..g.kernel.0 * g.run.div_ceil(L::WIDTH)];
        let last = registers[registers.len() - 1].cast_unsigned() as usize;
        let count = nonzero::<L>(dy, self.groups);
        for &o in &self.groups[..count] {
            let o = o.cast_unsigned() as usize;
            let (a, b) = g.place(usize::from(index[o].cast_unsigned()));
            let tap = [word(o / L::GROUP * self.row + self.top), single::<L>(o % L::GROUP, dy[o])];
            let map = &mut self.map[corner + a * g.stride.0 * self.pitch + b * g.step..];
            assert!(last + L::WIDTH <= map.len());
            for (registers, weights) in registers.chunks(self.block).zip(self.weights.chunks(self.block * L::WIDTH)) {
                // SAFETY: registers lie before `last`, the tap in the rows of the weights.
                unsafe {
                    let (total, map) = (dy[o].into(), map.as_mut_ptr());
                    with_registers!(12, registers.len(), V => add::<L, V>(&[tap], total, weights, registers, map));
                }
            }
        }
    }

    /// Adds the errors at a window of one place to its patch, a group at a time.
    #[inline(always)]
    fn groups<L: Lanes>(&mut self, dy: &[i8], corner: usize) {
        let row = word(self.row);
        let groups = &mut self.groups[..dy.len().div_ceil(L::GROUP)];
        groups[dy.len() / L::GROUP..].fill(0);
        // SAFETY: the groups have room for all values.
        unsafe { spread::<L>(Side::Plain, dy, groups.as_mut_ptr().cast()) };
        let (mut at, mut count) = (0, 0);
        for &group in &*groups {
            // the next one takes its place if it is empty
            self.taps[count] = [at, group];
            count += usize::from(group != 0);
            at += row;
        }
        if count == 0 {
            return;
        }
        let (taps, total) = (&self.taps[..count], dy.iter().map(|&d| i32::from(d)).sum());
        let map = &mut self.map[corner..];
        let last = self.registers[self.registers.len() - 1].cast_unsigned() as usize;
        assert!(last + L::WIDTH <= map.len());
        for (registers, weights) in self.registers.chunks(self.block).zip(self.weights.chunks(self.block * L::WIDTH)) {
            // SAFETY: registers lie before `last`, taps in the rows of the weights.
            unsafe {
                with_registers!(12, registers.len(), V => add::<L, V>(taps, total, weights, registers, map.as_mut_ptr()));
            }
        }
    }
}

/// # Safety
/// V registers from each tap on lie in the weights, and `registers` are V places in the map.
#[inline(always)]
unsafe fn add<L: Lanes, const V: usize>(taps: &[Tap], total: i32, weights: &[i32], registers: &[i32], map: *mut i32) {
    let registers = registers.first_chunk::<V>().unwrap_or(&[0; V]);
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [L::splat(correction::<L>(total)); V];
        sparse::<L, V>(&mut sums, taps, weights.as_ptr());
        for v in 0..V {
            let to = map.add(registers[v].cast_unsigned() as usize);
            L::store(to, L::add(L::load(to), sums[v]));
        }
    }
}

/// The errors of a window, and those of a list among them.
struct Window<'a> {
    /// Of every block, bits of the groups that are not zero, and of those in the list.
    masks: &'a [i32],
    selects: &'a [i32],
    groups: &'a [i32],
    starts: &'a [i32],
}

impl Window<'_> {
    /// Adds the weights of the list's errors to the map.
    ///
    /// # Safety
    /// V registers from where the weights start of each group that is not zero, and `registers` are V places in the map.
    #[inline(always)]
    unsafe fn add<L: Lanes, const V: usize>(&self, weights: &[i32], registers: &[i32], map: *mut i32) {
        let registers = registers.first_chunk::<V>().unwrap_or(&[0; V]);
        let lanes = placed::lanes::<L>();
        // SAFETY: as the caller says.
        unsafe {
            let mut sums = [L::zero(); V];
            for v in 0..V {
                sums[v] = L::load(map.add(registers[v].cast_unsigned() as usize));
            }
            let mut offset = L::zero();
            for (n, (mask, select)) in self.masks.iter().zip(self.selects).enumerate() {
                let (starts, groups) = (self.starts.as_ptr().add(n * lanes), self.groups.as_ptr().add(n * lanes));
                let mut rest = (mask & select).cast_unsigned();
                while rest != 0 {
                    let k = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    let errors = *groups.add(k);
                    tap::<L, V>(&mut sums, &[*starts.add(k), errors], weights.as_ptr());
                    if L::OFFSET != 0 {
                        offset = L::dot(offset, L::splat(zeros::<L>()), L::splat(errors));
                    }
                }
            }
            for v in 0..V {
                L::store(map.add(registers[v].cast_unsigned() as usize), L::subtract(sums[v], offset));
            }
        }
    }
}

/// Rows of the map from window to window of a strip.
const DOWN: usize = 2;

/// The errors of windows below each other, and those of a list among them.
struct Strip<'a> {
    /// Number of windows.
    rows: usize,
    /// For how many blocks of groups there is room in a window.
    room: usize,
    /// Of every block of every window, bits of the groups that are not zero, and of those in the list.
    masks: &'a [i32],
    selects: &'a [i32],
    groups: &'a [i32],
    starts: &'a [i32],
    /// Lanes from row to row of the weights and of the map.
    run: usize,
    pitch: usize,
}

impl Strip<'_> {
    /// Adds the weights of the list's errors to the map: `WIDE` registers of all rows that a window reaches stay in registers until the
    /// windows have passed them.
    ///
    /// # Safety
    /// There are those registers from where the weights start of each group that is not zero, and of all rows of the map.
    #[inline(always)]
    unsafe fn add<L: Lanes, const REACH: usize, const WIDE: usize>(&self, weights: *const i32, mut map: *mut i32) {
        let lanes = placed::lanes::<L>();
        // SAFETY: as the caller says.
        unsafe {
            let mut sums = [[L::zero(); WIDE]; REACH];
            for i in 0..self.rows {
                let mut offset = L::zero();
                for (n, select) in self.selects.iter().enumerate() {
                    let at = i * self.room + n;
                    let (starts, groups) = (self.starts.as_ptr().add(n * lanes), self.groups.as_ptr().add(at * lanes));
                    let mut rest = (self.masks.get_unchecked(at) & select).cast_unsigned();
                    while rest != 0 {
                        let k = rest.trailing_zeros() as usize;
                        rest &= rest - 1;
                        let (b, errors) = (weights.add(*starts.add(k) as usize), L::splat(*groups.add(k)));
                        for (r, sums) in sums.iter_mut().enumerate() {
                            for (v, sum) in sums.iter_mut().enumerate() {
                                *sum = L::dot(*sum, L::load(b.add(r * self.run + v * L::WIDTH)), errors);
                            }
                        }
                        if L::OFFSET != 0 {
                            offset = L::dot(offset, L::splat(zeros::<L>()), errors);
                        }
                    }
                }
                if L::OFFSET != 0 {
                    for sum in sums.as_flattened_mut() {
                        *sum = L::subtract(*sum, offset);
                    }
                }
                for r in 0..DOWN {
                    self.leave::<L, WIDE>(&sums[r], map);
                    map = map.wrapping_add(self.pitch);
                }
                for r in 0..REACH {
                    sums[r] = if r + DOWN < REACH { sums[r + DOWN] } else { [L::zero(); WIDE] };
                }
            }
            for r in 0..REACH - DOWN {
                self.leave::<L, WIDE>(&sums[r], map);
                map = map.wrapping_add(self.pitch);
            }
        }
    }

    /// # Safety
    /// The registers are in the map.
    #[inline(always)]
    unsafe fn leave<L: Lanes, const WIDE: usize>(&self, sums: &[L::Vector; WIDE], map: *mut i32) {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: as the caller says.
            unsafe {
                let to = map.add(v * L::WIDTH);
                L::store(to, L::add(L::load(to), sum));
            }
        }
    }
}

/// acc += the map without its margins.
#[inline(always)]
fn add_inside<L: Lanes>(g: &Geometry, pitch: usize, map: &[i32], acc: &mut [i32]) {
    let inside = map[g.padding.0 * pitch..].chunks_exact(pitch);
    for (acc, map) in acc.chunks_exact_mut(g.input_row).zip(inside) {
        for (acc, &map) in acc.iter_mut().zip(&map[g.padding.1 * g.channels..]) {
            *acc = acc.wrapping_add(map);
        }
    }
}
