//! Which layers are trained: their scores, and the greedy choice within a budget (N34, N35).

use crate::choice::Choice;
use crate::loss::log2_of;
use crate::tensor::Scale;
use core::cmp::Reverse;

/// log2(v) in 2^-8, of the 16 leading bits (N34); v ≥ 1.
#[allow(clippy::cast_possible_truncation)] // 16 bits are left
pub const fn log2_q8(v: u64) -> u32 {
    let lead = v.leading_zeros();
    log2_of(63 - lead, ((v << lead) >> 48) as u32) >> 8
}

/// 256·S − 82·U + 106·D: log2 of 2^S · (4/5)^U · (4/3)^D in 2^-8 (N34, N37).
pub(super) const fn log2_scale(s: i32, scale: Scale) -> i32 {
    256 * s - 82 * scale.u as i32 + 106 * scale.d as i32
}

/// Score of a slot in 2^-8 (N34), none if its potential is 0.
///
/// `exponent` is R, `scale` the sum of the scales of output and error (its S lies in R), `parameters` its weights and biases,
/// `products` those of one forward pass.
pub fn score(potential: u64, exponent: i32, scale: Scale, parameters: u64, products: u64) -> Option<i32> {
    if potential == 0 {
        return None;
    }
    let cost = log2_q8(parameters.max(1)) + log2_q8(products.max(1));
    Some((log2_q8(potential)).cast_signed() + 2 * log2_scale(exponent, scale) - cost.cast_signed())
}

/// A slot that may be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of its layer.
    pub layer: u32,
    /// Rows it has.
    pub rows: u32,
    /// Its score; none if it is never chosen.
    pub score: Option<i32>,
}

/// What a choice costs, or may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Bytes of memory.
    pub bytes: u64,
    /// Products of a training step.
    pub products: u64,
}

impl Price {
    /// True if it keeps within `budget` in both.
    pub const fn within(self, budget: Self) -> bool {
        self.bytes <= budget.bytes && self.products <= budget.products
    }
}

/// Least share of the rows that is tried: 2^−this of the most (N35).
const HALVINGS: u32 = 3;

/// Fills `chosen` in the order of taking and gives how many there are (N35); sorts `candidates` by falling score.
///
/// `ratio` in 2^-15, at most 2^15: share of a slot's rows that is taken at most. `chosen` has room for all candidates; `price`
/// is asked of the choices so far and one on trial, the last; none means that they are impossible.
pub fn choose(
    candidates: &mut [Candidate],
    ratio: u32,
    budget: Price,
    chosen: &mut [Choice],
    mut price: impl FnMut(&[Choice]) -> Option<Price>,
) -> usize {
    sort(candidates);
    let mut count = 0;
    for candidate in candidates.iter().filter(|c| c.score.is_some()) {
        let most = share(candidate.rows, ratio);
        let mut before = 0;
        for halving in 0..=HALVINGS {
            let rows = most.div_ceil(1 << halving);
            if rows == before {
                break; // a single row has no half
            }
            before = rows;
            chosen[count] = Choice { layer: candidate.layer, rows };
            if price(&chosen[..=count]).is_some_and(|price| price.within(budget)) {
                count += 1;
                break;
            }
        }
    }
    count
}

/// ⌈rows·ratio⌉.
#[allow(clippy::cast_possible_truncation)] // at most `rows`
const fn share(rows: u32, ratio: u32) -> u32 {
    debug_assert!(ratio <= 1 << 15);
    (rows as u64 * ratio as u64).div_ceil(1 << 15) as u32
}

/// By falling score, ties by rising layer. By insertion: there are few, and the one of the standard library takes kilobytes of flash.
fn sort(candidates: &mut [Candidate]) {
    let key = |c: &Candidate| (Reverse(c.score), c.layer);
    for end in 1..candidates.len() {
        let mut i = end;
        while i > 0 && key(&candidates[i]) < key(&candidates[i - 1]) {
            candidates.swap(i, i - 1);
            i -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    #[test]
    fn logarithms() {
        for (v, r) in [(1, 0), (2, 256), (3, 405), (1 << 20, 20 << 8), (1 << 63, 63 << 8), (u64::MAX, (64 << 8) - 1)] {
            assert_eq!(log2_q8(v), r, "{v}"); // log2 3 = 405.75 / 256
        }
        assert!((1..5000).all(|v| log2_q8(v) <= log2_q8(v + 1)));
    }

    #[test]
    fn a_score_by_hand() {
        let scale = Scale { s: 99, u: 2, d: 1 };
        // 10·256 + 2·(−3·256 − 2·82 + 106) − 4·256 − 8·256
        assert_eq!(score(1024, -3, scale, 16, 256), Some(-2164));
        assert_eq!(score(0, -3, scale, 16, 256), None);
    }

    /// What is chosen where a row costs a byte and `products` of its layer.
    fn take(slots: &[(u32, Option<i32>)], ratio: u32, budget: Price, products: &[u64]) -> Vec<(u32, u32)> {
        let mut candidates: Vec<Candidate> =
            slots.iter().zip(0..).map(|(&(rows, score), layer)| Candidate { layer, rows, score }).collect();
        let mut chosen = vec![Choice { layer: 0, rows: 0 }; slots.len()];
        let count = choose(&mut candidates, ratio, budget, &mut chosen, |chosen| {
            let bytes = chosen.iter().map(|c| u64::from(c.rows)).sum();
            let products = chosen.iter().map(|c| u64::from(c.rows) * products[c.layer as usize]).sum();
            Some(Price { bytes, products })
        });
        chosen[..count].iter().map(|c| (c.layer, c.rows)).collect()
    }

    #[test]
    fn the_best_first_then_smaller_shares_then_others() {
        let slots = [(16, Some(5)), (10, Some(9)), (3, Some(5)), (8, None), (40, Some(-7))];
        let budget = |bytes, products| Price { bytes, products };
        let free = [0; 5];
        let whole = [(1, 10), (0, 16), (2, 3), (4, 40)];
        assert_eq!(take(&slots, 1 << 15, budget(99, 0), &free), whole);
        assert_eq!(take(&slots, 1 << 14, budget(99, 0), &free), [(1, 5), (0, 8), (2, 2), (4, 20)]);
        // 12 bytes: all of layer 1, an eighth of layer 0, nothing is left
        assert_eq!(take(&slots, 1 << 15, budget(12, 0), &free), [(1, 10), (0, 2)]);
        // in products nothing of layer 1 fits, of layer 4 an eighth
        assert_eq!(take(&slots, 1 << 15, budget(99, 9), &[0, 9, 1, 0, 1]), [(0, 16), (2, 3), (4, 5)]);
        assert_eq!(take(&slots, 1 << 15, budget(0, 99), &free), []);
        assert_eq!(take(&slots, 0, budget(99, 99), &free), []);
        assert_eq!(take(&[], 1 << 15, budget(99, 99), &free), []);
    }

    #[test]
    fn each_share_is_tried_once() {
        for (rows, ratio, tried) in [
            (1, 1 << 15, &[1][..]),
            (2, 1 << 15, &[2, 1]),
            (5, 1 << 15, &[5, 3, 2, 1]),
            (100, 1 << 14, &[50, 25, 13, 7]),
        ] {
            let mut seen = vec![];
            let mut chosen = [Choice { layer: 0, rows: 0 }];
            let budget = Price { bytes: 0, products: 0 };
            let count = choose(&mut [Candidate { layer: 4, rows, score: Some(0) }], ratio, budget, &mut chosen, |c| {
                seen.push(c[0].rows);
                None
            });
            assert_eq!((count, &*seen), (0, tried));
        }
        assert_eq!([share(u32::MAX, 1 << 15), share(u32::MAX, 1), share(3, 1)], [u32::MAX, 1 << 17, 1]);
    }
}
