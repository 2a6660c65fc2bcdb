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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    fn rows_of(mask: &[i8]) -> Vec<usize> {
        (0..8 * mask.len()).filter(|&o| is_set(mask, o)).collect()
    }

    fn take(values: &[u64], count: usize) -> Vec<usize> {
        let mut mask = vec![-1i8; values.len().div_ceil(8)];
        largest(values.iter().copied(), count, &mut mask);
        rows_of(&mask)
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let values = [3, 9, 9, 1, 9, 0, 0, 0, 10];
        assert_eq!(take(&values, 0), []);
        assert_eq!(take(&values, 1), [8]);
        assert_eq!(take(&values, 3), [1, 2, 8]);
        assert_eq!(take(&values, 6), [0, 1, 2, 3, 4, 8]);
        assert_eq!(take(&values, 8), [0, 1, 2, 3, 4, 5, 6, 8]);
        assert_eq!(take(&values, 99), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(take(&[0; 5], 2), [0, 1]);
        assert_eq!(take(&[0; 5], 0), []);
        assert_eq!(take(&[u64::MAX, 0, u64::MAX - 1], 2), [0, 2]);
        assert_eq!(take(&[u64::MAX; 2], 0), []);
        assert_eq!(take(&[], 3), []);
    }

    #[test]
    fn many_rows() {
        let values: Vec<u64> = (0..65535).map(|i| i % 256).collect();
        // 255 rows hold 255, 256 rows 254: 45 of those are taken
        let taken = take(&values, 300);
        assert_eq!((taken.len(), taken[0], taken[299]), (300, 254, 254 * 256 + 255));
        assert_eq!(taken.iter().filter(|&&o| o % 256 == 254).count(), 45);
    }

    #[test]
    fn draws_are_by_position() {
        let draw = |step| {
            let mut mask = [-1i8; 13];
            drawn(1, step, 3, 100, 10, &mut mask);
            rows_of(&mask)
        };
        assert_eq!((draw(0), draw(0).len()), (draw(0), 10));
        assert_ne!(draw(0), draw(1));
        let mut draws = Draws::new(1, 0, 3, ROWS);
        let mut order: Vec<(u32, usize)> = (0..100).map(|o| (draws.draw(), o)).collect();
        order.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut expected: Vec<usize> = order[..10].iter().map(|&(_, o)| o).collect();
        expected.sort_unstable();
        assert_eq!(draw(0), expected);
    }

    #[test]
    fn sizes_of_errors() {
        let mut sizes = [9; 3];
        error_sizes(&[1, -2, 127, -127, 0, -127], &mut sizes);
        assert_eq!(sizes, [128, 2, 254]);
    }

    #[test]
    fn the_rate_follows_the_size() {
        let mut rate = RowRate::new(1 << 12, 1 << 15); // an eighth to all
        let mut mask = [-1i8; 2];
        assert_eq!((rate.choose(&[0; 16], Scale::pow2(99), &mut mask), mask, rate.highest), (0, [0; 2], None));
        assert_eq!((rate.choose(&[4; 16], Scale::pow2(-8), &mut mask), mask), (16, [-1; 2])); // 2^6 · 2^-8
        assert_eq!(rate.highest, Some(-512));
        // half the size: an eighth and half of seven eighths, nine of sixteen
        assert_eq!((rate.choose(&[4; 16], Scale::pow2(-9), &mut mask), mask), (9, [-1, 1]));
        // 2^-16 of the size and below: an eighth
        for s in [-24, -25, -300] {
            assert_eq!((rate.choose(&[4; 16], Scale::pow2(s), &mut mask), mask), (2, [3, 0]));
        }
        assert_eq!((rate.choose(&[0; 16], Scale::pow2(99), &mut mask), rate.highest), (0, Some(-512)));
        // (4/5)^−1 · (4/3)^1: 82 + 106 more than the largest
        let larger = Scale { s: -8, u: -1, d: 1 };
        assert_eq!((rate.choose(&[4; 16], larger, &mut mask), rate.highest), (16, Some(-324)));
    }

    #[test]
    fn at_least_one_row() {
        let mut rate = RowRate::new(0, 0);
        assert_eq!(rate.count(&[0, 3], Scale::pow2(0)), 1);
        let mut rate = RowRate::new(0, 1 << 15);
        assert_eq!(rate.count(&vec![i32::MAX; 65535], Scale { s: i16::MAX, u: i16::MIN, d: i16::MAX }), 65535);
        assert_eq!(rate.count(&[1; 10], Scale { s: i16::MIN, u: i16::MAX, d: i16::MIN }), 1);
    }
}
