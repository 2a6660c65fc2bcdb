//! The errors of a weight gradient as a list for each channel: where few places have one, as behind a pool.

use core::ops::Range;
use std::vec::Vec;

use super::correlate::Collected;
use super::geometry::{Geometry, Tile};
use super::groups::{Side, across, room};
use super::lanes::Lanes;
use super::placed::{CHANNELS, PLACES, apart};
use super::tile::{MOST, Tap, add_to, balanced, count_nonzero, nonzero, single, sparse, with_registers, word, zeros};
use crate::kernels::Errors;
use crate::shape::Shape;

/// Errors of a channel listed at a time, where a tile has fewer windows: lists of all channels do not start in the same lines of the cache.
const LISTED: usize = 520;

/// One of so many errors must not be zero, or they are listed one by one: more than that are listed in groups.
const SPARSE: usize = 5;

/// A list of taps for each channel.
pub struct Listed<'a> {
    g: &'a Geometry,
    channels: Range<usize>,
    /// Room for the errors of a channel and a register more, and how many there may be.
    pitch: usize,
    most: usize,
    windows: usize,
    taps: &'a mut [Tap],
    /// Number of taps of a channel and what the offset adds to their sums.
    lists: &'a mut [[i32; 2]],
    /// Channel and column of place 0 for the errors of a row of windows.
    columns: &'a [[i32; 2]],
    /// Numbers of the errors of a row that are not zero.
    numbers: &'a mut [i32],
    /// Errors of some channels by place, groups of them, and where the patches of each group start.
    places: &'a mut [i32],
    groups: &'a mut [i32],
    starts: &'a mut [i32],
}

impl<'a> Listed<'a> {
    /// No errors; `buffers` are its memory.
    #[inline(always)]
    pub fn new<L: Lanes>(
        g: &'a Geometry,
        largest: &Tile,
        channels: Range<usize>,
        ps: Shape,
        [taps, lists, rows, places]: [&'a mut Vec<i32>; 4],
    ) -> Self {
        let (c, row) = (ps.c as usize, ps.w as usize * ps.c as usize);
        let most = LISTED.min(g.samples * ps.places()).max(largest.windows());
        let pitch = most + CHANNELS;
        let taps = room(taps, 2 * channels.len() * pitch);
        let lists = room(lists, 2 * channels.len());
        lists.fill(0);
        let (columns, numbers) = room(rows, 3 * row + 16).split_at_mut(2 * row);
        let columns = columns.as_chunks_mut().0;
        for (j, columns) in columns.chunks_exact_mut(c).enumerate() {
            for (o, to) in columns.iter_mut().enumerate() {
                *to = [word(o), word(j * g.windows.1)];
            }
        }
        let groups = (largest.places(g) * largest.groups).next_multiple_of(CHANNELS);
        let bytes = largest.places(g) * largest.groups * L::GROUP * CHANNELS;
        let (places, rest) = room(places, bytes / 4 + groups * (CHANNELS + 1)).split_at_mut(bytes / 4);
        let (groups, starts) = rest.split_at_mut(groups * CHANNELS);
        let (taps, lists) = (taps.as_chunks_mut().0, lists.as_chunks_mut().0);
        Self { g, channels, pitch, most, windows: 0, taps, lists, columns, numbers, places, groups, starts }
    }

    /// Lists the errors of windows that do not overlap, group by group.
    #[inline(always)]
    fn by_groups<L: Lanes>(&mut self, tile: &Tile, errors: Errors<'_>, first: usize) {
        let (g, ps) = (self.g, errors.ps);
        let (rows, wide) = (tile.places(g), tile.groups * L::GROUP);
        let count = rows * tile.groups;
        let padded = count.next_multiple_of(L::WIDTH);
        for (k, start) in self.starts[..padded].iter_mut().enumerate() {
            let (y, t) = (k / tile.groups, k % tile.groups);
            *start = word(first + (t * tile.height + y * g.stride.0) * g.spread);
        }
        self.groups[count * CHANNELS..padded * CHANNELS].fill(0);
        for o in self.channels.clone().step_by(CHANNELS) {
            let n = CHANNELS.min(self.channels.end - o);
            let places = &mut self.places[..rows * wide * CHANNELS / 4];
            places.fill(0);
            // SAFETY: bytes of words, not more than there are.
            let places: &mut [[i8; CHANNELS]] =
                unsafe { core::slice::from_raw_parts_mut(places.as_mut_ptr().cast(), rows * wide) };
            for i in tile.rows.clone() {
                for j in tile.columns.clone() {
                    let at = (i * ps.w as usize + j) * ps.c as usize + o;
                    let corner = (i - tile.rows.start) * g.windows.0 * wide + (j - tile.columns.start) * g.windows.1;
                    let all = apart(&errors.dy[at..], &errors.index[at..], n, 0);
                    for (p, errors) in (0..g.places()).zip(all) {
                        let (a, b) = g.place(p);
                        places[corner + a * wide + b] = errors;
                    }
                }
            }
            // SAFETY: rows of groups are whole, and there is room for a group of all channels for each, filled up to registers.
            unsafe {
                let mut totals = [L::zero(); CHANNELS];
                for (k, groups) in self.groups[..count * CHANNELS].chunks_exact_mut(CHANNELS).enumerate() {
                    let from = places[k * L::GROUP..][..L::GROUP].as_ptr().cast::<i8>();
                    for v in (0..CHANNELS).step_by(L::WIDTH) {
                        let second = from.wrapping_add(CHANNELS);
                        let third = second.wrapping_add(CHANNELS);
                        let rows = [from, second, third, third.wrapping_add(CHANNELS)].map(|row| row.wrapping_add(v));
                        let errors = L::interleave(Side::Plain, rows);
                        L::store(groups.as_mut_ptr().add(v), errors);
                        totals[v / L::WIDTH] = L::dot(totals[v / L::WIDTH], L::splat(zeros::<L>()), errors);
                    }
                }
                let mut all = [0; CHANNELS];
                for v in (0..CHANNELS).step_by(L::WIDTH) {
                    L::store(all.as_mut_ptr().add(v), totals[v / L::WIDTH]);
                }
                let lists = &mut self.lists[o - self.channels.start..][..n];
                for (list, total) in lists.iter_mut().zip(all) {
                    list[1] = list[1].wrapping_add(total);
                }
                for k in (0..padded).step_by(L::WIDTH) {
                    let starts = L::load(self.starts[k..].as_ptr());
                    for v in (0..n).step_by(L::WIDTH) {
                        let channels = across::<L>(self.groups[k * CHANNELS + v..].as_ptr(), CHANNELS);
                        for (i, &errors) in channels.iter().enumerate().take(L::WIDTH.min(n - v)) {
                            let [count, _] = &mut lists[v + i];
                            let at = (o - self.channels.start + v + i) * self.pitch + count.cast_unsigned() as usize;
                            let to = &mut self.taps[at..][..L::WIDTH];
                            *count += word(L::pairs(starts, errors, to.as_mut_ptr().cast()));
                        }
                    }
                }
            }
        }
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
        let grouped =
            g.places() <= PLACES && g.windows.0 >= g.window.0 && g.windows.1 >= g.window.1 && !errors.index.is_empty();
        // where there is an instruction for `pairs`
        if grouped && L::WIDTH == CHANNELS {
            let rows = errors.dy.chunks_exact(row).skip(tile.rows.start).take(tile.rows.len());
            let count: usize = rows.map(|dy| count_nonzero(&dy[some.clone()])).sum();
            if count * SPARSE > tile.windows() * c {
                return self.by_groups::<L>(tile, errors, first);
            }
        }
        for i in tile.rows.clone() {
            let dy = &errors.dy[i * row..][some.clone()];
            let index = if errors.index.is_empty() { errors.index } else { &errors.index[i * row..][some.clone()] };
            let columns = &self.columns[some.clone()];
            assert!(columns.len() == dy.len());
            let first = first + (i - tile.rows.start) * g.down * g.spread;
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
                let at = first + (column / L::GROUP * tile.height + a * g.stride.0) * g.spread;
                let [count, total] = *list;
                self.taps[o * self.pitch + count.cast_unsigned() as usize] =
                    [word(at), single::<L>(column % L::GROUP, d)];
                *list = [count + 1, total.wrapping_add(L::OFFSET * i32::from(d))];
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes>(&mut self, patches: *const i32, acc: &mut [i32]) {
        let g = self.g;
        let registers = (g.kernel.0 * g.spread).div_ceil(L::WIDTH);
        let block = balanced(registers, MOST);
        let rows = acc.chunks_exact_mut(g.patch()).zip(self.taps.chunks_exact(self.pitch));
        for ((acc, taps), list) in rows.zip(&mut *self.lists) {
            let [count, total] = core::mem::take(list);
            let taps = &taps[..count.cast_unsigned() as usize];
            let mut first = 0;
            while first < registers && count > 0 {
                let some = block.min(registers - first);
                // SAFETY: as the caller says.
                unsafe { with_registers!(12, some, V => add::<L, V>(g, taps, total, patches, first, acc)) };
                first += some;
            }
        }
        self.windows = 0;
    }
}

/// Adds what V registers of the patches from register `first` on give.
///
/// # Safety
/// Those registers from each tap on lie in the patches.
#[inline(always)]
unsafe fn add<L: Lanes, const V: usize>(
    g: &Geometry,
    taps: &[Tap],
    total: i32,
    patches: *const i32,
    first: usize,
    acc: &mut [i32],
) {
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [L::splat(total.wrapping_neg()); V];
        sparse::<L, V>(&mut sums, taps, patches.add(first * L::WIDTH));
        if g.spread == g.run {
            let acc = &mut acc[first * L::WIDTH..];
            return add_to::<L, V>(acc.as_mut_ptr(), acc.len(), &sums);
        }
        let wide = g.spread / L::WIDTH;
        let short = g.run - (wide - 1) * L::WIDTH;
        let (mut at, mut left) = (first / wide * g.run + first % wide * L::WIDTH, wide - first % wide);
        assert!(acc.len() == g.patch() && first + V <= g.kernel.0 * wide);
        let mut places = [(acc.as_mut_ptr(), false); V];
        for (place, last) in &mut places {
            *last = left == 1;
            *place = place.add(at);
            (at, left) = if *last { (at + short, wide) } else { (at + L::WIDTH, left - 1) };
        }
        // all loads before the stores: one that reads some of what a store has just written waits for it
        for (sum, &(place, last)) in sums.iter_mut().zip(&places) {
            *sum = L::add(*sum, if last { L::load_first(place, short) } else { L::load(place) });
        }
        for (&sum, &(place, last)) in sums.iter().zip(&places) {
            if last {
                L::store_first(place, sum, short);
            } else {
                L::store(place, sum);
            }
        }
    }
}
