//! Input errors of a convolution: every error adds its weights to the patch that its sum was made of.
//!
//! ```text
//! interleave the weights of GROUP output channels: b[q][a][run]
//! for samples, places of the pooled map, window positions with a winner:
//!     taps = the groups q of channels with an error there
//!     for kernel rows a, registers v of their run:
//!         map[row + a][column.. + v] += Σ_taps b[q][a][v] · errors
//! acc += the map without its margins
//! ```
//! The map has the padding as margins, so nothing is cut off. Places are walked down the columns: a patch then meets the sums that the
//! last one stored register by register, and the processor forwards them.

use std::vec::Vec;

use super::dispatch_on;
use super::geometry::Geometry;
use super::groups::with_buffers;
use super::lanes::{Kernel, Lanes};
use super::machine::Machine;
use super::tile::{MOST, Tap, balanced, correction, interleave_before, single, sparse, with_registers, zeros};
use crate::kernels::{Conv2d, Errors};

/// See [`Conv2d::input_errors`].
pub fn input_errors(machine: Machine, conv: &Conv2d, w: &[i8], errors: Errors<'_>, acc: &mut [i32]) -> bool {
    let geometry = Geometry::new(conv, &errors);
    with_buffers(|buffers| dispatch_on(machine, InputErrors { geometry, w, errors, acc, buffers })).is_some()
}

/// Lanes of interleaved weights in use at a time: some of the cache of second level.
const WEIGHTS: usize = 1 << 15;
/// Rows of places walked down together.
const BAND: usize = 8;

struct InputErrors<'a> {
    geometry: Geometry,
    w: &'a [i8],
    errors: Errors<'a>,
    acc: &'a mut [i32],
    /// Map, interleaved weights, where registers lie in the map, taps, and how many of them.
    buffers: &'a mut [Vec<i32>; 5],
}

impl Kernel for InputErrors<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { geometry: g, w, errors, acc, buffers: [map, weights, registers, taps, lists] } = self;
        let channels = errors.ps.c as usize;
        assert!(w.len() == channels * g.patch() && acc.len() == g.samples * g.inputs());
        let wide = g.run.div_ceil(L::WIDTH);
        let pitch = g.pitch().next_multiple_of(L::WIDTH);
        map.resize(g.padded.0 * pitch + wide * L::WIDTH, 0);
        registers.clear();
        for r in 0..g.kernel.0 * wide {
            registers.push(word(r / wide * pitch + r % wide * L::WIDTH));
        }
        let row = registers.len() * L::WIDTH;
        let deep = (WEIGHTS / row).clamp(1, channels.div_ceil(L::GROUP));
        weights.resize(deep * row, 0);
        taps.resize(2 * g.places() * deep * L::GROUP, 0);
        for first in (0..channels).step_by(deep * L::GROUP) {
            let some = first..(first + deep * L::GROUP).min(channels);
            // SAFETY: `weights` has room for `deep` rows.
            unsafe { interleave::<L>(&g, &w[some.start * g.patch()..some.end * g.patch()], wide, weights) };
            for (s, acc) in acc.chunks_exact_mut(g.inputs()).enumerate() {
                let errors = g.sample(errors, s);
                if errors.dy.iter().fold(0, |any, d| any | d) == 0 {
                    continue;
                }
                map.fill(0);
                let scatter = Scatter { g: &g, errors, channels: some.clone(), pitch, registers, weights, deep };
                scatter.run::<L>(map, taps.as_chunks_mut().0, lists);
                add_inside::<L>(&g, pitch, map, acc);
            }
        }
    }
}

/// A length as a word.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // of a buffer of this module, below 2^31
pub fn word(n: usize) -> i32 {
    n as i32
}

/// b\[q\]\[a\]\[run\] from the rows `w`, zeros behind each run.
///
/// # Safety
/// `to` has room for all.
#[inline(always)]
unsafe fn interleave<L: Lanes>(g: &Geometry, w: &[i8], wide: usize, to: &mut [i32]) {
    let rows = w.len() / g.patch();
    let end = w.as_ptr_range().end;
    let row = g.kernel.0 * wide * L::WIDTH;
    for (q, to) in to.chunks_exact_mut(row).take(rows.div_ceil(L::GROUP)).enumerate() {
        for (a, to) in to.chunks_exact_mut(wide * L::WIDTH).enumerate() {
            for v in 0..wide {
                let mut sources = [core::ptr::null(); 4];
                for (i, source) in sources.iter_mut().take(L::GROUP).enumerate() {
                    // a channel that is missing has no errors, and any row will do
                    let o = (q * L::GROUP + i).min(rows - 1);
                    *source = w[o * g.patch() + a * g.run + v * L::WIDTH..].as_ptr();
                }
                // SAFETY: rows end with `w`; the register lies in `to`.
                unsafe { L::store(to[v * L::WIDTH..].as_mut_ptr(), interleave_before::<L>(sources, end)) };
            }
            to[g.run..].fill(zeros::<L>());
        }
    }
}

/// The errors of one sample, on their way to its map.
struct Scatter<'a> {
    g: &'a Geometry,
    errors: Errors<'a>,
    channels: core::ops::Range<usize>,
    pitch: usize,
    registers: &'a [i32],
    weights: &'a [i32],
    deep: usize,
}

impl Scatter<'_> {
    #[inline(always)]
    fn run<L: Lanes>(&self, map: &mut [i32], taps: &mut [Tap], lists: &mut Vec<i32>) {
        let (g, ps) = (self.g, self.errors.ps);
        let places = g.places();
        lists.resize(2 * places, 0);
        let (counts, totals) = lists.split_at_mut(places);
        let most = self.deep * L::GROUP;
        for band in (0..ps.h as usize).step_by(BAND) {
            for j in 0..ps.w as usize {
                for i in band..(band + BAND).min(ps.h as usize) {
                    let at = (i * ps.w as usize + j) * ps.c as usize;
                    let dy = &self.errors.dy[at..][self.channels.clone()];
                    if dy.iter().fold(0, |any, d| any | d) == 0 {
                        continue;
                    }
                    counts.fill(0);
                    totals.fill(0);
                    if self.errors.index.is_empty() {
                        self.groups::<L>(dy, taps, counts, totals);
                    } else {
                        let index = &self.errors.index[at..][self.channels.clone()];
                        self.winners::<L>(dy, index, taps, counts, totals);
                    }
                    let corner = i * g.down * self.pitch + j * g.right;
                    for (p, (&count, &total)) in counts.iter().zip(&*totals).enumerate() {
                        if count != 0 {
                            let (a, b) = (p / g.window.1, p % g.window.1);
                            let at = corner + a * g.stride.0 * self.pitch + b * g.step;
                            let taps = &taps[p * most..][..count.cast_unsigned() as usize];
                            self.add::<L>(taps, total, &mut map[at..]);
                        }
                    }
                }
            }
        }
    }

    /// Lists the errors by the places they belong to.
    #[inline(always)]
    fn winners<L: Lanes>(&self, dy: &[i8], index: &[i8], taps: &mut [Tap], counts: &mut [i32], totals: &mut [i32]) {
        let row = word(self.registers.len() * L::WIDTH);
        let most = self.deep * L::GROUP;
        for (o, (&d, &p)) in dy.iter().zip(index).enumerate() {
            let p = usize::from(p.cast_unsigned());
            let count = &mut counts[p];
            taps[p * most + count.cast_unsigned() as usize] = [word(o / L::GROUP) * row, single::<L>(o % L::GROUP, d)];
            *count += i32::from(d != 0);
            totals[p] += i32::from(d);
        }
    }

    /// Lists the groups of errors of windows of one place.
    #[inline(always)]
    fn groups<L: Lanes>(&self, dy: &[i8], taps: &mut [Tap], counts: &mut [i32], totals: &mut [i32]) {
        let row = word(self.registers.len() * L::WIDTH);
        let (mut at, mut count, mut total) = (0, 0, 0);
        for dy in dy.chunks(L::GROUP) {
            let mut group = 0;
            for (i, &d) in dy.iter().enumerate() {
                group |= single::<L>(i, d);
                total += i32::from(d);
            }
            taps[count] = [at, group];
            count += usize::from(group != 0);
            at += row;
        }
        (counts[0], totals[0]) = (word(count), total);
    }

    /// Adds a patch to the map, of which it is told the rest from its first value on.
    #[inline(always)]
    fn add<L: Lanes>(&self, taps: &[Tap], total: i32, map: &mut [i32]) {
        let last = self.registers[self.registers.len() - 1].cast_unsigned() as usize;
        assert!(last + L::WIDTH <= map.len());
        let mut first = 0;
        let block = balanced(self.registers.len(), MOST);
        while first < self.registers.len() {
            let registers = &self.registers[first..];
            let registers = &registers[..block.min(registers.len())];
            let weights = &self.weights[first * L::WIDTH..];
            // SAFETY: registers lie before `last`, taps in the rows of the weights.
            unsafe {
                with_registers!(12, registers.len(), V => add::<L, V>(taps, total, weights, registers, map.as_mut_ptr()));
            }
            first += block;
        }
    }
}

/// # Safety
/// V registers from each tap on lie in the weights, and `registers` are V places in the map.
#[inline(always)]
unsafe fn add<L: Lanes, const V: usize>(taps: &[Tap], total: i32, weights: &[i32], registers: &[i32], map: *mut i32) {
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
