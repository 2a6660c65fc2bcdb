//! Fisher information of a slot's channels: how much the loss asks each to move (N33).

use super::choice::score;
use crate::plan::Slot;
use crate::rescale::{bits, nearest, peak};
use crate::tensor::Scale;

/// Sums D_o of one slot with their common exponent R: D_o · 2^(2R), up to the factors that all samples share.
#[derive(Debug)]
pub struct Fisher<'m> {
    sums: &'m mut [u64],
    exponent: Option<i32>,
}

impl<'m> Fisher<'m> {
    /// Without a sample yet. `sums`: (channels).
    pub fn new(sums: &'m mut [u64]) -> Self {
        sums.fill(0);
        Self { sums, exponent: None }
    }

    /// With what earlier samples left.
    const fn resume(sums: &'m mut [u64], exponent: Option<i32>) -> Self {
        Self { sums, exponent }
    }

    /// Adds one sample: output `y` and its error `dy`, both (places, channels), at most [`crate::rescale::MAX_TERMS`] places.
    ///
    /// `exponent` is the sum of their scales' powers of two; `v`: (channels), to work in.
    pub fn add(&mut self, y: &[i8], dy: &[i8], exponent: i32, v: &mut [i32]) {
        let v = &mut v[..self.sums.len()];
        debug_assert!(y.len() == dy.len() && y.len().is_multiple_of(v.len()));
        v.fill(0);
        for (y, dy) in y.chunks_exact(v.len()).zip(dy.chunks_exact(v.len())) {
            for ((v, &y), &dy) in v.iter_mut().zip(y).zip(dy) {
                *v = v.wrapping_add(i32::from(y) * i32::from(dy));
            }
        }
        let top = peak(v);
        if top == 0 {
            return;
        }
        let k = bits(top).saturating_sub(15);
        let exponent = exponent.saturating_add(k.cast_signed());
        let common = self.exponent.map_or(exponent, |old| old.max(exponent));
        let kept = self.exponent.map_or(0, |old| 2 * common.abs_diff(old));
        let shift = 2 * common.abs_diff(exponent);
        for (sum, &v) in self.sums.iter_mut().zip(&*v) {
            let w = u64::from(nearest(v, k).unsigned_abs());
            *sum = sum.checked_shr(kept).unwrap_or(0) + (w * w).checked_shr(shift).unwrap_or(0);
        }
        self.exponent = Some(common);
    }

    /// D_o, by channel.
    pub const fn sums(&self) -> &[u64] {
        self.sums
    }

    /// R; none before the first sample that is not all 0.
    pub const fn exponent(&self) -> Option<i32> {
        self.exponent
    }

    /// P = Σ D_o.
    pub fn potential(&self) -> u64 {
        self.sums.iter().fold(0, |sum: u64, &d| sum.saturating_add(d))
    }

    /// Score of the slot (N34), none where it is never chosen; `scale` is the sum of those of output and error, the rest as in [`score`].
    pub fn score(&self, scale: Scale, parameters: u64, products: u64) -> Option<i32> {
        score(self.potential(), self.exponent?, scale, parameters, products)
    }
}

/// The sums of all slots of a net, one behind the other.
#[derive(Debug)]
pub struct Inspection<'m> {
    sums: &'m mut [u64],
    exponents: &'m mut [Option<i32>],
    slots: &'m [Slot],
}

impl<'m> Inspection<'m> {
    /// What there is for a plan's `slots`; `clear` comes before the first sample.
    ///
    /// `sums`: a place for every channel of every inspected slot; `exponents`: (slots).
    pub fn new(sums: &'m mut [u64], exponents: &'m mut [Option<i32>], slots: &'m [Slot]) -> Self {
        Self { sums, exponents, slots }
    }

    /// Without a sample.
    pub fn clear(&mut self) {
        self.sums.fill(0);
        self.exponents.fill(None);
    }

    /// The sums of one slot.
    pub fn slot(&mut self, i: usize) -> Fisher<'_> {
        let start: usize = self.slots[..i].iter().map(channels).sum();
        Fisher::resume(&mut self.sums[start..][..channels(&self.slots[i])], self.exponents[i])
    }

    /// See [`Fisher::add`].
    pub(crate) fn add(&mut self, i: usize, y: &[i8], dy: &[i8], exponent: i32, v: &mut [i32]) {
        let mut fisher = self.slot(i);
        fisher.add(y, dy, exponent, v);
        self.exponents[i] = fisher.exponent;
    }
}

/// Channels whose information is gathered.
pub(crate) const fn channels(slot: &Slot) -> usize {
    if slot.inspected { slot.ps.c as usize } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rescale::MAX_TERMS;
    use std::vec;

    #[test]
    fn sums_follow_the_largest_exponent() {
        let (mut sums, mut v) = ([9; 2], [9; 2]);
        let mut fisher = Fisher::new(&mut sums);
        fisher.add(&[1, 2], &[0, 0], 50, &mut v);
        assert_eq!((fisher.sums(), fisher.exponent(), fisher.potential()), (&[0, 0][..], None, 0));
        // v = 1·5 + 3·7, −2·6 + 4·8
        fisher.add(&[1, 2, 3, 4], &[5, -6, 7, 8], -3, &mut v);
        assert_eq!((fisher.sums(), fisher.exponent()), (&[676, 400][..], Some(-3)));
        // two powers more: 676 / 16 + 4, 400 / 16
        fisher.add(&[1, 0], &[-2, 9], -1, &mut v);
        assert_eq!((fisher.sums(), fisher.exponent()), (&[46, 25][..], Some(-1)));
        // one less: 4 / 4, 9 / 4
        fisher.add(&[2, 3], &[1, 1], -2, &mut v);
        assert_eq!((fisher.sums(), fisher.exponent()), (&[47, 27][..], Some(-1)));
        fisher.add(&[9, 9], &[0, 0], 99, &mut v);
        assert_eq!((fisher.sums(), fisher.exponent(), fisher.potential()), (&[47, 27][..], Some(-1), 74));
        assert_eq!(fisher.score(Scale::pow2(77), 1, 1), score(74, -1, Scale::pow2(0), 1, 1));
    }

    #[test]
    fn exponents_far_apart() {
        for (first, second, sum) in [(0, 32, 81), (0, 4000, 81), (0, -32, 16), (0, -4000, 16), (-9000, 9000, 81)] {
            let (mut sums, mut v) = ([0], [0]);
            let mut fisher = Fisher::new(&mut sums);
            fisher.add(&[2], &[2], first, &mut v);
            fisher.add(&[3], &[3], second, &mut v);
            assert_eq!((fisher.sums()[0], fisher.exponent()), (sum, Some(first.max(second))));
        }
    }

    #[test]
    fn the_most_places_fit() {
        let places = MAX_TERMS as usize;
        let (mut sums, mut v) = ([0], [0]);
        let mut fisher = Fisher::new(&mut sums);
        fisher.add(&vec![127; places], &vec![-127; places], 0, &mut v);
        // 132624·127² = 32639.99·2^16
        assert_eq!((fisher.sums()[0], fisher.exponent()), (32640 * 32640, Some(16)));
    }

    #[test]
    fn the_longest_rounded_sum_is_two_to_the_fifteen() {
        let (mut sums, mut v) = ([0], [0]);
        let mut fisher = Fisher::new(&mut sums);
        // 65535 = 4·127² + 8·127 + 3: bits = 16, k = 1, (65535 + 1) / 2
        let y = [127, 127, 127, 127, 8, 3];
        fisher.add(&y, &[127, 127, 127, 127, 127, 1], 0, &mut v);
        assert_eq!((v[0], fisher.sums()[0], fisher.exponent()), (65535, 1 << 30, Some(1)));
    }

    #[test]
    fn a_potential_saturates() {
        let fisher = Fisher { sums: &mut [u64::MAX, 5], exponent: Some(0) };
        assert_eq!(fisher.potential(), u64::MAX);
    }
}
