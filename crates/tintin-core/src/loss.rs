//! Losses in integers: value and output error of one sample (N15 to N17).

use crate::rescale::{Factor, align, bits, clip, factor, factor28, nearest, stochastic};
use crate::rng::{Draws, LOSS};
use crate::tensor::Scale;

/// Which loss is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Softmax cross-entropy to base 2 with Q15 probabilities (N15).
    CrossEntropy,
    /// NITI's softmax cross-entropy, for its rule (N16).
    NitiCrossEntropy,
    /// Half the squared distance to target values (N17).
    SquaredError,
}

impl Loss {
    /// Most outputs the loss can take.
    pub const fn most_outputs(self) -> usize {
        match self {
            Self::CrossEntropy => 65_535,
            Self::NitiCrossEntropy => 1024,
            Self::SquaredError => 1 << 19, // 2^19 squares of 2^44 stay below 2^63
        }
    }
}

/// What the outputs of a batch should be.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// One class per sample, for the cross-entropies.
    Labels(&'a [u16]),
    /// (samples, outputs) mantissas with scale 2^exponent, for the squared error.
    Values(&'a [i8], i16),
}

/// Value of a loss and number of right answers, of one or more samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Loss in 2^-16 bits (cross-entropies) or 2^-16 (squared error).
    pub loss: u64,
    /// Samples whose first largest output is at the label; 0 for the squared error.
    pub correct: u32,
}

impl Score {
    /// Adds another sample or batch.
    pub const fn plus(self, other: Self) -> Self {
        Self { loss: self.loss + other.loss, correct: self.correct + other.correct }
    }
}

/// Index of the first largest value.
pub fn argmax<T: PartialOrd + Copy>(z: &[T]) -> usize {
    let mut best = 0;
    for (i, &v) in z.iter().enumerate() {
        if v > z[best] {
            best = i;
        }
    }
    best
}

/// round(2^15 · 2^(−f/256)) for f = 0..255 (N15).
static EXP2: [u16; 256] = exp2_table();

/// From repeated square roots of one half in Q62: 2^(−f/256) is a product over the set bits of f.
#[allow(clippy::cast_possible_truncation)] // at most 2^15
const fn exp2_table() -> [u16; 256] {
    let mut root = [0u64; 8]; // root[b] = 2^(−2^(7 − b) / 256) in Q62
    let mut value = 1u128 << 61; // one half
    let mut b = 0;
    while b < 8 {
        value = (value << 62).isqrt();
        root[b] = value as u64;
        b += 1;
    }
    let mut table = [0; 256];
    let mut f = 0;
    while f < 256 {
        let mut product = 1u128 << 62;
        b = 0;
        while b < 8 {
            if f >> (7 - b) & 1 == 1 {
                product = (product * root[b] as u128) >> 62;
            }
            b += 1;
        }
        table[f] = ((product + (1 << 46)) >> 47) as u16;
        f += 1;
    }
    table
}

/// T[t mod 256] >> (t / 256), 0 from t = 4096: 2^15 · 2^(−t/256) (N15).
#[inline(always)]
pub(crate) fn exp2(t: u32) -> u32 {
    if t >> 8 < 16 { u32::from(EXP2[(t & 255) as usize]) >> (t >> 8) } else { 0 }
}

/// Value and error of one sample under the cross-entropy (N15). `errors` in 2^-15.
pub fn cross_entropy(z: &[i8], scale: Scale, label: u16, errors: &mut [i32]) -> Score {
    let (v, e) = factor28(i32::from(scale.u), i32::from(scale.d));
    let m = ((v >> 13) * 47274) >> 15;
    let shift = -(i32::from(scale.s) + e + 21);
    let best = argmax(z);
    let top = i32::from(z[best]);
    let distances = z.iter().map(|&z| distance((top - i32::from(z)).unsigned_abs() * m, shift));
    softmax(distances, best, label, errors)
}

/// What follows the distances t, below 2^16, in N15. `best` is the sample's class, `errors` as in [`cross_entropy`].
#[inline(always)]
pub(crate) fn softmax(distances: impl Iterator<Item = u32>, best: usize, label: u16, errors: &mut [i32]) -> Score {
    let label = usize::from(label);
    let mut total = 0u32;
    let mut own = 0;
    for (i, (t, error)) in distances.zip(&mut *errors).enumerate() {
        if i == label {
            own = t;
        }
        let p = exp2(t);
        total += p;
        *error = p.cast_signed();
    }
    let mut others = 0;
    for error in &mut *errors {
        *error = (((error.cast_unsigned() << 15) + total / 2) / total).cast_signed();
        others += *error;
    }
    errors[label] -= others;
    let loss = (own << 8) + log2_q16(total) - (15 << 16);
    Score { loss: u64::from(loss), correct: u32::from(best == label) }
}

/// min(65535, floor(v · 2^(−shift))), v < 2^25.
fn distance(v: u32, shift: i32) -> u32 {
    if shift > 31 || v == 0 {
        0
    } else if shift >= 0 {
        (v >> shift).min(65535)
    } else if shift < -16 || v > 65535 >> shift.unsigned_abs() {
        65535
    } else {
        v << shift.unsigned_abs()
    }
}

/// log2(v) in Q16 (N15); v ≥ 1.
fn log2_q16(v: u32) -> u32 {
    let n = bits(v) - 1;
    log2_of(n, if n > 15 { v >> (n - 15) } else { v << (15 - n) })
}

/// log2(x · 2^(n − 15)) in Q16 by repeated squaring, 2^15 ≤ x < 2^16 (N15).
#[inline(always)]
pub(crate) const fn log2_of(n: u32, mut x: u32) -> u32 {
    let (mut r, mut i) = (n << 16, 16);
    while i > 0 {
        i -= 1;
        x = (x * x) >> 15;
        if x >= 1 << 16 {
            x >>= 1;
            r += 1 << i;
        }
    }
    r
}

/// Error of one sample under NITI's cross-entropy (N16), narrow already, scale (−7, 0, 0).
pub fn niti_error(z: &[i8], scale: Scale, label: u16, mut draws: Draws, errors: &mut [i32]) {
    let Factor { m, e } = factor(i32::from(scale.u), i32::from(scale.d), 1);
    let mut widest = 0;
    for &z in z {
        widest = bits((i32::from(z) * m).unsigned_abs()).max(widest);
    }
    let k = widest.saturating_sub(7);
    let exponent = (i32::from(scale.s) + e + k.cast_signed()).min(8);
    let more = (-9 - exponent).max(0).cast_unsigned();
    let exponent = exponent.max(-9);
    let mut top = i32::MIN;
    for (error, &z) in errors.iter_mut().zip(z) {
        let x = nearest(i32::from(z) * m, k);
        let x = if more > 31 { 0 } else { nearest(x, more) };
        *error = if exponent > -7 {
            let s = x * 47274 / (1 << 15);
            if exponent >= 0 { s << exponent } else { s / (1 << -exponent) }
        } else {
            (1 << (1 - 2 * exponent)) + (x << (1 - exponent)) + x * x
        };
        top = top.max(*error);
    }
    let mut total = 0;
    for error in &mut *errors {
        if exponent > -7 {
            *error = (1 << (*error - (top - 10)).max(0)) - 1;
        }
        total += error.cast_unsigned();
    }
    let mut sum = 0;
    for error in &mut *errors {
        *error = ((error.cast_unsigned() << 11) / total).cast_signed();
        sum += *error;
    }
    errors[usize::from(label)] -= sum;
    for error in errors {
        *error = i32::from(clip(stochastic(*error, 4, draws.draw())));
    }
}

/// The draws of N16 for the sample at place `sample` of the batch.
pub const fn niti_draws(seed: u32, step: u32, sample: u32) -> Draws {
    Draws::new(seed, step, LOSS, sample)
}

/// Value and error of one sample under the squared error (N17). `errors` in 2^-15.
pub fn squared_error(z: &[i8], scale: Scale, target: &[i8], exponent: i16, errors: &mut [i32]) -> Score {
    const LIMIT: i32 = 1 << 21;
    let Factor { m, e } = factor(i32::from(scale.u), i32::from(scale.d), 1);
    let mut sum = 0u64;
    for ((&z, &t), error) in z.iter().zip(target).zip(errors) {
        let a = align(i32::from(z) * m, -(i32::from(scale.s) + e + 15), LIMIT);
        let b = align(i32::from(t), -(i32::from(exponent) + 15), LIMIT);
        *error = a - b;
        sum += u64::from(error.unsigned_abs()) * u64::from(error.unsigned_abs());
    }
    Score { loss: sum >> 15, correct: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_ends() {
        assert_eq!(EXP2[0], 32768);
        assert_eq!(EXP2[128], 23170); // 2^15 / √2 = 23170.475
        assert_eq!(EXP2[255], 16428); // 2^15 · 2^(−255/256) = 16428.4
    }

    #[test]
    fn errors_sum_to_zero_and_equal_outputs_share() {
        let mut errors = [0; 4];
        let score = cross_entropy(&[5, 5, 5, 5], Scale::pow2(-3), 2, &mut errors);
        assert_eq!(errors, [8192, 8192, -24576, 8192]);
        assert_eq!(score.loss, 2 << 16); // log2 4
        assert_eq!(score.correct, 0);
    }

    #[test]
    fn worked_example_of_niti() {
        // z = 127, 0, −127 at 2^-5, label 0: c = −60, 60, 0 before the rounding by 4 bits
        let mut errors = [0; 3];
        niti_error(&[127, 0, -127], Scale::pow2(-5), 0, Draws::new(0, 0, 0, 0), &mut errors);
        assert!((-4..=-3).contains(&errors[0]) && (3..=4).contains(&errors[1]) && errors[2] == 0);
    }
}
