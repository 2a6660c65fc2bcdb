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
