//! The errors of a weight gradient in groups of neighbouring places, zeros among them: for windows of one place.

use core::ops::Range;
use std::vec::Vec;

use super::correlate::Collected;
use super::geometry::{Geometry, Tile};
use super::groups::{Side, room};
use super::lanes::Lanes;
use super::tile::{add_to, balanced, dense, with_registers, zeros};
use crate::kernels::Errors;
use crate::shape::Shape;

/// Most registers of a patch in a block.
const WIDE: usize = 6;
/// Words of groups held at a time, where a tile has fewer.
const GROUPS: usize = 1 << 14;
/// Channels in a block.
const HIGH: usize = 4;

/// groups\[tile\]\[t\]\[row\]\[channel\] of tiles of equal height.
pub struct Every<'a> {
    g: &'a Geometry,
    channels: Range<usize>,
    /// Channels, filled up to registers.
    pitch: usize,
    groups: &'a mut [i32],
    /// Groups of neighbouring places and rows of each.
    segments: usize,
    terms: usize,
    /// OFFSET times the sum of the errors, by channel.
    totals: &'a mut [i32],
    /// A row of errors with zeros behind it.
    row: &'a mut [i32],
}

impl<'a> Every<'a> {
    /// No errors; `buffers` are its memory.
    #[inline(always)]
    pub fn new<L: Lanes>(
        g: &'a Geometry,
        largest: &Tile,
        channels: Range<usize>,
        ps: Shape,
        [groups, totals, row]: [&'a mut Vec<i32>; 3],
    ) -> Self {
        let pitch = channels.len().next_multiple_of(L::WIDTH);
        let groups = room(groups, GROUPS.max(largest.groups * largest.rows.len() * pitch));
        let totals = room(totals, pitch);
        totals.fill(0);
        let row = room(row, ((ps.w as usize + L::GROUP) * ps.c as usize + L::WIDTH).div_ceil(4));
        Self { g, channels, pitch, groups, segments: 0, terms: 0, totals, row }
    }
}

impl Collected for Every<'_> {
    #[inline(always)]
    fn is_full(&self, tile: &Tile) -> bool {
        let used = self.segments * self.terms + tile.groups * tile.rows.len();
        self.terms != tile.rows.len() || used * self.pitch > self.groups.len()
    }

    #[inline(always)]
    fn collect<L: Lanes>(&mut self, tile: &Tile, errors: Errors<'_>, _first: usize) {
        let (w, c) = (errors.ps.w as usize, errors.ps.c as usize);
        let (bytes, end) = (tile.columns.len() * c, tile.groups * L::GROUP * c);
        self.terms = tile.rows.len();
        let start = self.segments * self.terms * self.pitch;
        let groups = self.groups[start..][..tile.groups * self.terms * self.pitch].as_mut_ptr();
        let row = self.row.as_mut_ptr().cast::<i8>();
        assert!(end + L::WIDTH <= 4 * self.row.len());
        for (i, r) in tile.rows.clone().enumerate() {
            let dy = &errors.dy[(r * w + tile.columns.start) * c..][..bytes];
            // SAFETY: a row of places, filled up to groups, and a register more have room; so have the groups of all
            // channels, filled up to registers.
            unsafe {
                core::ptr::copy_nonoverlapping(dy.as_ptr(), row, bytes);
                row.add(bytes).write_bytes(0, end - bytes);
                for o in (0..self.channels.len()).step_by(L::WIDTH) {
                    let mut total = L::load(self.totals[o..].as_ptr());
                    for t in 0..tile.groups {
                        let first = row.add(t * L::GROUP * c + self.channels.start + o).cast_const();
                        let rows = [first, first.wrapping_add(c), first.wrapping_add(2 * c), first.wrapping_add(3 * c)];
                        let errors = L::interleave(Side::Plain, rows);
                        L::store(groups.add((t * self.terms + i) * self.pitch + o), errors);
                        total = L::dot(total, L::splat(zeros::<L>()), errors);
                    }
                    L::store(self.totals[o..].as_mut_ptr(), total);
                }
            }
        }
        self.segments += tile.groups;
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes>(&mut self, patches: *const i32, acc: &mut [i32]) {
        let registers = self.g.patch().div_ceil(L::WIDTH);
        let block = balanced(registers, WIDE.min(L::REGISTERS / (HIGH + 1)));
        let mut first = 0;
        while first < registers && self.segments > 0 {
            let some = block.min(registers - first);
            // SAFETY: as the caller says.
            unsafe { with_registers!(6, some, V => self.registers::<L, V>(patches, first * L::WIDTH, acc)) };
            first += some;
        }
        self.totals.fill(0);
        self.segments = 0;
    }
}

impl Every<'_> {
    /// V registers of patches from lane `first` on, for all channels.
    ///
    /// # Safety
    /// As of `multiply`.
    #[inline(always)]
    unsafe fn registers<L: Lanes, const V: usize>(&self, patches: *const i32, first: usize, acc: &mut [i32]) {
        let mut o = 0;
        while o < self.channels.len() {
            // SAFETY: as the caller says; there are as many channels left.
            o += unsafe {
                match self.channels.len() - o {
                    1 => self.block::<L, 1, V>(patches, first, o, acc),
                    2 | 3 => self.block::<L, 2, V>(patches, first, o, acc),
                    _ => self.block::<L, HIGH, V>(patches, first, o, acc),
                }
            };
        }
    }

    /// N channels from `o` on; gives N.
    ///
    /// # Safety
    /// As of `multiply`; there are N channels from `o` on.
    #[inline(always)]
    unsafe fn block<L: Lanes, const N: usize, const V: usize>(
        &self,
        patches: *const i32,
        first: usize,
        o: usize,
        acc: &mut [i32],
    ) -> usize {
        let g = self.g;
        let height = (self.terms - 1) * g.stride.0 + g.kernel.0;
        // SAFETY: as the caller says.
        unsafe {
            let mut sums = [[L::zero(); V]; N];
            for (sums, total) in sums.iter_mut().zip(&self.totals[o..]) {
                *sums = [L::splat(total.wrapping_neg()); V];
            }
            for s in 0..self.segments {
                let groups = self.groups.as_ptr().add(s * self.terms * self.pitch + o);
                let mut errors = [groups; N];
                for (n, errors) in errors.iter_mut().enumerate() {
                    *errors = groups.add(n);
                }
                let patches = patches.add(s * height * g.run + first);
                dense::<L, N, V>(&mut sums, errors, self.pitch, patches, g.stride.0 * g.run, self.terms);
            }
            for (n, sums) in sums.iter().enumerate() {
                let acc = &mut acc[(o + n) * g.patch()..][..g.patch()][first..];
                add_to::<L, V>(acc.as_mut_ptr(), acc.len(), sums);
            }
        }
        N
    }
}
