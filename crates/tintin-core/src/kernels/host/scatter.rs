//! Input errors of a convolution: every error adds its weights to the patch that its sum was made of.
//!
//! ```text
//! interleave the weights of GROUP output channels: b[q][a][run]
//! for samples, windows:
//!     list the errors, or their groups where windows have one place: taps
//!     for places of the window with taps, kernel rows a, registers v of their run:
//!         map[row + a][column.. + v] += Σ_taps b[q][a][v] · errors
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
use super::tile::{
    MOST, ROW, Tap, ahead, balanced, correction, nonzero, readable, single, sparse, with_registers, word, zeros,
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

struct InputErrors<'a> {
    geometry: Geometry,
    w: &'a [i8],
    errors: Errors<'a>,
    acc: &'a mut [i32],
    /// Map, interleaved weights, where their registers lie in the map, taps, how many of them and their sum by place, numbers of errors.
    buffers: &'a mut [Vec<i32>; 6],
}

impl Kernel for InputErrors<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { geometry: g, w, errors, acc, buffers: [map, weights, registers, taps, lists, numbers] } = self;
        let channels = errors.ps.c as usize;
        assert!(w.len() == channels * g.patch() && acc.len() == g.samples * g.inputs());
        let wide = g.run.div_ceil(L::WIDTH);
        let pitch = g.pitch().next_multiple_of(L::WIDTH);
        let map = room(map, g.padded.0 * pitch + wide * L::WIDTH);
        let registers = room(registers, g.kernel.0 * wide);
        for (a, registers) in registers.chunks_exact_mut(wide).enumerate() {
            for (v, register) in registers.iter_mut().enumerate() {
                *register = word(a * pitch + v * L::WIDTH);
            }
        }
        let row = registers.len() * L::WIDTH;
        let deep = (WEIGHTS / row).clamp(1, channels.div_ceil(L::GROUP));
        let weights = room(weights, deep * row);
        let taps = room(taps, 2 * g.places() * deep * L::GROUP);
        let lists = room(lists, 2 * g.places());
        lists.fill(0);
        let numbers = room(numbers, deep * L::GROUP + 16);
        for first in (0..channels).step_by(deep * L::GROUP) {
            let some = first..(first + deep * L::GROUP).min(channels);
            interleave::<L>(&g, &w[some.start * g.patch()..some.end * g.patch()], wide, weights);
            for (s, acc) in acc.chunks_exact_mut(g.inputs()).enumerate() {
                let errors = g.sample(errors, s);
                if errors.dy.iter().fold(0, |any, d| any | d) == 0 {
                    continue;
                }
                map.fill(0);
                let (counts, totals) = lists.split_at_mut(g.places());
                Scatter {
                    g: &g,
                    errors,
                    pitch,
                    registers,
                    block: balanced(registers.len(), MOST),
                    weights,
                    deep,
                    map,
                    taps: taps.as_chunks_mut().0,
                    counts,
                    totals,
                    numbers,
                }
                .run::<L>(some.clone());
                add_inside::<L>(&g, pitch, map, acc);
            }
        }
    }
}

/// b\[q\]\[a\]\[run\] from the rows `w`, zeros behind each run.
#[inline(always)]
fn interleave<L: Lanes>(g: &Geometry, w: &[i8], wide: usize, to: &mut [i32]) {
    let rows = w.len() / g.patch();
    let (end, mut copies) = (w.as_ptr_range().end, [[0; ROW]; 4]);
    let row = g.kernel.0 * wide * L::WIDTH;
    for (q, to) in to.chunks_exact_mut(row).take(rows.div_ceil(L::GROUP)).enumerate() {
        for (a, to) in to.chunks_exact_mut(wide * L::WIDTH).enumerate() {
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

/// The errors of one sample, on their way to its map.
struct Scatter<'a> {
    g: &'a Geometry,
    errors: Errors<'a>,
    pitch: usize,
    registers: &'a [i32],
    /// Registers added to at a time.
    block: usize,
    weights: &'a [i32],
    deep: usize,
    map: &'a mut [i32],
    taps: &'a mut [Tap],
    counts: &'a mut [i32],
    totals: &'a mut [i32],
    numbers: &'a mut [i32],
}

impl Scatter<'_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self, channels: Range<usize>) {
        let ps = self.errors.ps;
        for band in (0..ps.h as usize).step_by(BAND) {
            for j in 0..ps.w as usize {
                for i in band..(band + BAND).min(ps.h as usize) {
                    let at = (i * ps.w as usize + j) * ps.c as usize;
                    let dy = &self.errors.dy[at..][channels.clone()];
                    let corner = i * self.g.down * self.pitch + j * self.g.right;
                    if self.errors.index.is_empty() {
                        self.groups::<L>(dy, corner);
                    } else {
                        let index = &self.errors.index[at..][channels.clone()];
                        self.winners::<L>(dy, index, corner);
                    }
                }
            }
        }
    }

    /// Adds the errors of a window to the patches of its places.
    #[inline(always)]
    fn winners<L: Lanes>(&mut self, dy: &[i8], index: &[i8], corner: usize) {
        assert!(dy.len() == index.len());
        let row = word(self.registers.len() * L::WIDTH);
        let count = nonzero::<L>(dy, self.numbers);
        let few = count <= 2 * self.g.places();
        let most = self.deep * L::GROUP;
        for n in 0..count {
            let o = self.numbers[n].cast_unsigned() as usize;
            let (d, p) = (dy[o], usize::from(index[o].cast_unsigned()));
            let tap = [word(o / L::GROUP) * row, single::<L>(o % L::GROUP, d)];
            if few {
                self.add::<L>(&[tap], d.into(), p, corner);
            } else {
                let count = &mut self.counts[p];
                self.taps[p * most + count.cast_unsigned() as usize] = tap;
                *count += 1;
                self.totals[p] += i32::from(d);
            }
        }
        for p in 0..if few { 0 } else { self.g.places() } {
            let (count, total) = (self.counts[p].cast_unsigned() as usize, self.totals[p]);
            (self.counts[p], self.totals[p]) = (0, 0);
            if count != 0 {
                let taps = core::mem::take(&mut self.taps);
                self.add::<L>(&taps[p * most..][..count], total, p, corner);
                self.taps = taps;
            }
        }
    }

    /// Adds the errors at a window of one place to its patch, a group at a time.
    #[inline(always)]
    fn groups<L: Lanes>(&mut self, dy: &[i8], corner: usize) {
        let row = word(self.registers.len() * L::WIDTH);
        let groups = &mut self.numbers[..dy.len().div_ceil(L::GROUP)];
        groups[dy.len() / L::GROUP..].fill(0);
        // SAFETY: the groups have room for all values.
        unsafe { spread::<L>(Side::Plain, dy, groups.as_mut_ptr().cast()) };
        let taps = core::mem::take(&mut self.taps);
        let (mut at, mut count) = (0, 0);
        for &group in &*groups {
            // the next one takes its place if it is empty
            taps[count] = [at, group];
            count += usize::from(group != 0);
            at += row;
        }
        if count > 0 {
            self.add::<L>(&taps[..count], dy.iter().map(|&d| i32::from(d)).sum(), 0, corner);
        }
        self.taps = taps;
    }

    /// Adds taps of errors that add up to `total` to the patch of place `p` of the window that starts at `corner`.
    #[inline(always)]
    fn add<L: Lanes>(&mut self, taps: &[Tap], total: i32, p: usize, corner: usize) {
        let g = self.g;
        let (a, b) = g.place(p);
        let map = &mut self.map[corner + a * g.stride.0 * self.pitch + b * g.step..];
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
