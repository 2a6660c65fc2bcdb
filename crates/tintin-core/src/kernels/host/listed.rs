//! The errors of a weight gradient as a list for each channel: where few places have one, as behind a pool.

use core::ops::Range;
use std::vec::Vec;

use super::correlate::Collected;
use super::geometry::{Geometry, Tile};
use super::groups::room;
use super::lanes::Lanes;
use super::tile::{MOST, Tap, add_to, balanced, correction, nonzero, single, sparse, with_registers, word};
use crate::kernels::Errors;
use crate::shape::Shape;

/// Errors of a channel listed at a time, where a tile has fewer windows: lists of all channels do not start in the same lines of the cache.
const LISTED: usize = 520;

/// A list of taps for each channel.
pub struct Listed<'a> {
    g: &'a Geometry,
    channels: Range<usize>,
    /// Room for the errors of a channel, and how many there may be.
    most: usize,
    windows: usize,
    taps: &'a mut [Tap],
    /// Number of errors of a channel and their sum.
    lists: &'a mut [[i32; 2]],
    /// Channel and column of place 0 for the errors of a row of windows.
    columns: &'a [[i32; 2]],
    /// Numbers of the errors of a row that are not zero.
    numbers: &'a mut [i32],
}

impl<'a> Listed<'a> {
    /// No errors; `buffers` are its memory.
    #[inline(always)]
    pub fn new(
        g: &'a Geometry,
        largest: &Tile,
        channels: Range<usize>,
        ps: Shape,
        [taps, lists, rows]: [&'a mut Vec<i32>; 3],
    ) -> Self {
        let (c, row) = (ps.c as usize, ps.w as usize * ps.c as usize);
        let most = LISTED.min(g.samples * ps.places()).max(largest.windows());
        let taps = room(taps, 2 * channels.len() * most);
        let lists = room(lists, 2 * channels.len());
        lists.fill(0);
        let (columns, numbers) = room(rows, 3 * row + 16).split_at_mut(2 * row);
        let columns = columns.as_chunks_mut().0;
        for (j, columns) in columns.chunks_exact_mut(c).enumerate() {
            for (o, to) in columns.iter_mut().enumerate() {
                *to = [word(o), word(j * g.windows.1)];
            }
        }
        let (taps, lists) = (taps.as_chunks_mut().0, lists.as_chunks_mut().0);
        Self { g, channels, most, windows: 0, taps, lists, columns, numbers }
    }
}

impl Collected for Listed<'_> {
    #[inline(always)]
    fn is_full(&self, tile: &Tile) -> bool {
        self.windows + tile.windows() > self.most
    }

    #[inline(always)]
    fn collect<L: Lanes>(&mut self, tile: &Tile, errors: Errors<'_>, first: usize) {
        let g = self.g;
        let c = errors.ps.c as usize;
        let (row, start) = (self.columns.len(), tile.columns.start * g.windows.1);
        let some = tile.columns.start * c..tile.columns.end * c;
        self.windows += tile.windows();
        for i in tile.rows.clone() {
            let dy = &errors.dy[i * row..][some.clone()];
            let index = if errors.index.is_empty() { errors.index } else { &errors.index[i * row..][some.clone()] };
            let columns = &self.columns[some.clone()];
            assert!(columns.len() == dy.len());
            let first = first + (i - tile.rows.start) * g.down * g.run;
            let count = nonzero::<L>(dy, self.numbers);
            for &n in &self.numbers[..count] {
                let n = n.cast_unsigned() as usize;
                // SAFETY: numbers of errors, of which there are as many as columns.
                let ([o, column], d) = unsafe { (*columns.get_unchecked(n), *dy.get_unchecked(n)) };
                let o = (o.cast_unsigned() as usize).wrapping_sub(self.channels.start);
                let Some(list) = self.lists.get_mut(o) else { continue };
                let p = index.get(n).map_or(0, |p| usize::from(p.cast_unsigned()));
                let (a, b) = g.place(p);
                let column = column.cast_unsigned() as usize - start + b;
                let at = first + (column / L::GROUP * tile.height + a * g.stride.0) * g.run;
                let [count, total] = *list;
                self.taps[o * self.most + count.cast_unsigned() as usize] =
                    [word(at), single::<L>(column % L::GROUP, d)];
                *list = [count + 1, total.wrapping_add(i32::from(d))];
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes>(&mut self, patches: *const i32, acc: &mut [i32]) {
        let registers = self.g.patch().div_ceil(L::WIDTH);
        let block = balanced(registers, MOST);
        let rows = acc.chunks_exact_mut(self.g.patch()).zip(self.taps.chunks_exact(self.most));
        for ((acc, taps), list) in rows.zip(&mut *self.lists) {
            let [count, total] = core::mem::take(list);
            let taps = &taps[..count.cast_unsigned() as usize];
            let mut first = 0;
            while first < registers && count > 0 {
                let some = block.min(registers - first);
                let acc = &mut acc[first * L::WIDTH..];
                // SAFETY: as the caller says.
                unsafe { with_registers!(12, some, V => add::<L, V>(taps, total, patches.add(first * L::WIDTH), acc)) };
                first += some;
            }
        }
        self.windows = 0;
    }
}

/// # Safety
/// V registers from each tap on lie in the patches.
#[inline(always)]
unsafe fn add<L: Lanes, const V: usize>(taps: &[Tap], total: i32, patches: *const i32, acc: &mut [i32]) {
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [L::splat(correction::<L>(total)); V];
        sparse::<L, V>(&mut sums, taps, patches);
        add_to::<L, V>(acc.as_mut_ptr(), acc.len(), &sums);
    }
}
