//! Which rows of a layer are trained: by information, by lot, or by the size of their errors (N35 to N37).
//!
//! Rows are handed on as a bit mask: row o is bit o mod 8 of byte o / 8.

use super::choice::{log2_q8, log2_scale};
use crate::loss::exp2;
use crate::rng::{Draws, ROWS};
use crate::tensor::Scale;
use core::iter::repeat_with;

/// True if row `o` is in the mask.
#[inline(always)]
pub const fn is_set(mask: &[i8], o: usize) -> bool {
    mask[o / 8] >> (o % 8) & 1 == 1
}

/// Marks the `count` largest of `values`, ties to the lower index; all of them if there are not more. `mask`: a bit a value.
///
/// Finds the least value taken bit by bit: as many passes as the largest has bits, and no memory.
pub fn largest(values: impl Iterator<Item = u64> + Clone, count: usize, mask: &mut [i8]) {
    mask.fill(0);
    let top = values.clone().max().unwrap_or(0);
    let mut least = 0;
    for bit in (0..u64::BITS - top.leading_zeros()).rev() {
        let trial = least | 1 << bit;
        if values.clone().filter(|&v| v >= trial).count() >= count {
            least = trial;
        }
    }
    let mut ties = count.saturating_sub(values.clone().filter(|&v| v > least).count());
    for (o, v) in values.enumerate() {
        let tie = v == least && ties > 0;
        ties -= usize::from(tie);
        if v > least || tie {
            mask[o / 8] |= 1 << (o % 8);
        }
    }
}

/// Marks `count` of `rows` rows, drawn anew for every `step` (N36).
pub fn drawn(seed: u32, step: u32, layer: u32, rows: usize, count: usize, mask: &mut [i8]) {
    let mut draws = Draws::new(seed, step, layer, ROWS);
    largest(repeat_with(move || u64::from(draws.draw())).take(rows), count, mask);
}

/// A_o = Σ |dy| by row (N37). `dy`: (samples · places, rows), at most [`crate::rescale::MAX_TERMS`] times rows; `sizes`: (rows).
pub fn error_sizes(dy: &[i8], sizes: &mut [i32]) {
    debug_assert!(dy.len().is_multiple_of(sizes.len()));
    sizes.fill(0);
    for dy in dy.chunks_exact(sizes.len()) {
        for (size, d) in sizes.iter_mut().zip(dy) {
            *size += i32::from(d.unsigned_abs());
        }
    }
}

/// How many rows a step trains, by the size of the slot's error beside its largest so far (N37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRate {
    /// l_min in 2^-15: share of the rows for an error of no size.
    pub least: u32,
    /// l_max in 2^-15, at least `least`, at most 2^15: share for the largest error.
    pub most: u32,
    /// M, the largest log2 so far in 2^-8; none at the start.
    pub highest: Option<i32>,
}

impl RowRate {
    /// Between these shares, in 2^-15.
    pub const fn new(least: u32, most: u32) -> Self {
        debug_assert!(least <= most && most <= 1 << 15);
        Self { least, most, highest: None }
    }

    /// K for errors of `sizes` A_o (at most 65 535 rows) and scale `scale`; 0 if all are 0.
    pub fn count(&mut self, sizes: &[i32], scale: Scale) -> usize {
        let total: u64 = sizes.iter().map(|&size| u64::from(size.unsigned_abs())).sum();
        if total == 0 {
            return 0;
        }
        let size = log2_q8(total).cast_signed() + log2_scale(scale.s.into(), scale);
        let highest = self.highest.map_or(size, |highest| highest.max(size));
        self.highest = Some(highest);
        let ratio = exp2(highest.abs_diff(size));
        let rate = self.least + ((ratio * (self.most - self.least)) >> 15);
        ((sizes.len() * rate as usize) >> 15).max(1)
    }

    /// Marks the rows of a step and gives how many they are. `mask`: a bit a row.
    pub fn choose(&mut self, sizes: &[i32], scale: Scale, mask: &mut [i8]) -> usize {
        let count = self.count(sizes, scale);
        largest(sizes.iter().map(|&size| size.unsigned_abs().into()), count, mask);
        count
    }
}
