//! Prototypes, the nearest of them, and the loss of a query (N30, N31).
//!
//! A prototype is the mean direction of its class: prototypical networks (arXiv 1703.05175) with the cosine of TinyTrain
//! (arXiv 2307.09988). In the loss the prototypes are constants.

use super::unit::{MOST_FEATURES, element, length, unit};
use crate::loss::{Score, argmax, softmax};
use crate::rescale::{bits, nearest, peak};
use crate::tensor::Scale;

/// Most classes: their errors then fit in 32 bits (N31).
pub const MOST_CLASSES: usize = 4096;
/// Most support samples: their sums then fit in 30 bits (N30).
pub const MOST_SAMPLES: u32 = 1 << 15;
/// Largest power of two of a temperature (N31).
pub const MOST_TEMPERATURE: u8 = 6;

/// Prototypes of some classes in lent memory, class by class.
#[derive(Debug)]
pub struct Prototypes<'m> {
    sums: &'m mut [i32],
    units: &'m mut [i16],
    features: usize,
}

impl<'m> Prototypes<'m> {
    /// `sums` and `units`: (classes, features). `sums` is needed from `clear` to `finish` only and may be empty otherwise.
    pub fn new(sums: &'m mut [i32], units: &'m mut [i16], features: usize) -> Self {
        debug_assert!((1..=MOST_FEATURES).contains(&features) && units.len().is_multiple_of(features));
        debug_assert!((1..=MOST_CLASSES).contains(&(units.len() / features)));
        debug_assert!(sums.is_empty() || sums.len() == units.len(), "a sum for every element of a prototype");
        Self { sums, units, features }
    }

    /// Number of classes.
    pub const fn classes(&self) -> usize {
        self.units.len() / self.features
    }

    /// Forgets the samples.
    pub fn clear(&mut self) {
        self.sums.fill(0);
    }

    /// Adds a support sample of class `label`: the mantissas of the net's output. At most [`MOST_SAMPLES`] in all.
    pub fn add(&mut self, features: &[i8], label: u16) {
        debug_assert_eq!(features.len(), self.features);
        let q = length(widened(features));
        let sums = &mut self.sums[usize::from(label) * self.features..][..self.features];
        for (sum, f) in sums.iter_mut().zip(widened(features)) {
            *sum += i32::from(element(f, q));
        }
    }

    /// Makes the prototypes of the samples added; that of a class without any is 0.
    pub fn finish(&mut self) {
        for (sums, units) in self.sums.chunks_exact(self.features).zip(self.units.chunks_exact_mut(self.features)) {
            let k = bits(peak(sums)).saturating_sub(15);
            unit(sums.iter().map(|&s| nearest(s, k).clamp(-32767, 32767)), units);
        }
    }

    /// The class whose prototype is nearest to `features` by the cosine. `dots`: (classes), to work in.
    pub fn classify(&self, features: &[i8], dots: &mut [i32]) -> usize {
        let dots = &mut dots[..self.classes()];
        self.dots(features, dots);
        argmax(dots)
    }

    /// Value of the loss of a query of class `label` under the temperature 2^`temperature`, at most [`MOST_TEMPERATURE`].
    ///
    /// `errors`: (features), the output error before N5, of scale [`error_scale`] and not masked yet.
    /// `scratch`: (2, classes), to work in.
    #[allow(clippy::cast_possible_truncation)] // below 2^31 for at most MOST_CLASSES
    pub fn loss(&self, features: &[i8], label: u16, temperature: u8, errors: &mut [i32], scratch: &mut [i32]) -> Score {
        debug_assert!(temperature <= MOST_TEMPERATURE && usize::from(label) < self.classes());
        let (dots, shares) = scratch[..2 * self.classes()].split_at_mut(self.classes());
        let q = self.dots(features, dots);
        let best = argmax(dots);
        let top = dots[best];
        let distances = dots.iter().map(|&dot| {
            let d = (top - dot).cast_unsigned() >> 13;
            ((d * 369) >> (15 - temperature)).min(65535)
        });
        let score = softmax(distances, best, label, shares);
        let along: i64 = shares.iter().zip(&*dots).map(|(&e, &dot)| i64::from(e) * i64::from(dot >> 14)).sum();
        let along = (along + (1 << 13)) >> 14;
        let r = (1u32 << 30).checked_div(q).unwrap_or(0).min(1 << 16);
        for (i, (error, f)) in errors.iter_mut().zip(widened(features)).enumerate() {
            let h: i32 = shares.iter().zip(self.column(i)).map(|(&e, c)| e * c).sum();
            let g = i64::from(h) - along * i64::from(element(f, q));
            *error = ((g * i64::from(r)) >> 16) as i32;
        }
        score
    }

    /// dot_k = Σ û_i·c_ki, below 2^29 as no prototype is longer than √3·2^14; gives q of the features.
    fn dots(&self, features: &[i8], dots: &mut [i32]) -> u32 {
        debug_assert_eq!(features.len(), self.features);
        let q = length(widened(features));
        dots.fill(0);
        // one division a feature, whatever the number of classes
        for (i, f) in widened(features).enumerate() {
            let u = i32::from(element(f, q));
            for (dot, c) in dots.iter_mut().zip(self.column(i)) {
                *dot += u * c;
            }
        }
        q
    }

    /// Element `i` of every prototype.
    fn column(&self, i: usize) -> impl Iterator<Item = i32> + '_ {
        self.units[i..].iter().step_by(self.features).map(|&c| c.into())
    }
}

/// Mantissas with eight more bits, so that the length of a short vector is not rounded coarsely.
fn widened(features: &[i8]) -> impl Iterator<Item = i32> + Clone + '_ {
    features.iter().map(|&f| i32::from(f) << 8)
}

/// Scale of the errors of a query whose features have `scale`, before N5.
pub const fn error_scale(scale: Scale, temperature: u8) -> Scale {
    let s = (temperature as i16).saturating_sub(35).saturating_sub(scale.s);
    Scale { s, u: scale.u.saturating_neg(), d: scale.d.saturating_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rescale::MAX_SUM;
    use std::vec;

    const ONE: i16 = 1 << 14;

    #[test]
    fn the_nearest_by_direction() {
        let (mut sums, mut units) = ([9; 6], [9; 6]);
        let mut prototypes = Prototypes::new(&mut sums, &mut units, 2);
        prototypes.clear();
        for (features, label) in [([100, 0], 0), ([1, 0], 0), ([0, -50], 1)] {
            prototypes.add(&features, label);
        }
        prototypes.finish();
        let mut dots = [0; 3];
        assert_eq!(prototypes.classify(&[9, -3], &mut dots), 0);
        assert_eq!(prototypes.classify(&[3, -9], &mut dots), 1);
        assert_eq!(prototypes.classify(&[0, 0], &mut dots), 0); // the first of equals
        assert_eq!(prototypes.classify(&[-9, 9], &mut dots), 2); // a class without samples is at right angles to all
        assert_eq!(units, [ONE, 0, 0, -ONE, 0, 0]);
    }

    #[test]
    fn half_way_between_two() {
        let mut units = [ONE, 0, 0, ONE];
        let prototypes = Prototypes::new(&mut [], &mut units, 2);
        // q = ⌊2^14·√2⌋ = 23170, r = 2^30 / q = 46341, E = ∓2^14, the dots are equal: G = h = ∓2^28, error = ∓2^12·r
        for (label, sign) in [(0, 1), (1, -1)] {
            let (mut errors, mut scratch) = ([7; 2], [7; 4]);
            let score = prototypes.loss(&[64, 64], label, 3, &mut errors, &mut scratch);
            assert_eq!(score, Score { loss: 1 << 16, correct: u32::from(label == 0) });
            assert_eq!(scratch, [11585 << 14, 11585 << 14, -sign << 14, sign << 14]);
            assert_eq!(errors, [-(sign * 46341) << 12, (sign * 46341) << 12]);
        }
    }

    #[test]
    fn a_longer_feature_changes_nothing_but_the_direction() {
        // along the prototypes G = h − a·û = 0
        let mut units = [ONE, -ONE];
        let prototypes = Prototypes::new(&mut [], &mut units, 1);
        let (mut errors, mut scratch) = ([7], [7; 4]);
        for f in [-127, -1, 0, 1, 127] {
            for temperature in 0..=MOST_TEMPERATURE {
                let score = prototypes.loss(&[f], 0, temperature, &mut errors, &mut scratch);
                assert_eq!((errors[0], score.correct), (0, u32::from(f >= 0)), "{f} {temperature}");
            }
        }
    }

    #[test]
    fn one_class_has_nothing_to_learn() {
        let mut units = [ONE, 0, 0];
        let prototypes = Prototypes::new(&mut [], &mut units, 3);
        let (mut errors, mut scratch) = ([7; 3], [7; 2]);
        let score = prototypes.loss(&[-3, 100, 8], 0, 6, &mut errors, &mut scratch);
        assert_eq!((score, errors), (Score { loss: 0, correct: 1 }, [0; 3]));
    }

    #[test]
    fn a_feature_of_zeros_has_no_error() {
        let mut units = [ONE, 0, 0, ONE, 0, -ONE, -ONE, 0];
        let prototypes = Prototypes::new(&mut [], &mut units, 2);
        let (mut errors, mut scratch) = ([7; 2], [7; 8]);
        let score = prototypes.loss(&[0, 0], 1, 4, &mut errors, &mut scratch);
        assert_eq!((score, errors), (Score { loss: 2 << 16, correct: 0 }, [0; 2])); // log2 4
    }

    #[test]
    fn the_most_samples_fit() {
        let (mut sums, mut units) = ([0; 2], [0; 2]);
        let mut prototypes = Prototypes::new(&mut sums, &mut units, 1);
        for sample in 0..MOST_SAMPLES {
            prototypes.add(&[127], 0);
            // all but one of them cancel each other
            prototypes.add(&[if sample % 2 == 0 { -127 } else { 127 }], 1);
        }
        prototypes.add(&[-1], 1);
        prototypes.finish();
        assert_eq!(units, [ONE, -ONE]);
    }

    #[test]
    fn the_most_features_fit() {
        let n = MOST_FEATURES;
        let (mut sums, mut units) = (vec![0; 3 * n], vec![0; 3 * n]);
        let mut prototypes = Prototypes::new(&mut sums, &mut units, n);
        let signs: [fn(usize) -> bool; 3] = [|_| true, |_| false, |i| i % 2 == 0];
        let features = signs.map(|sign| (0..n).map(|i| if sign(i) { 127 } else { -127 }).collect::<vec::Vec<i8>>());
        for (features, label) in features.iter().zip(0..) {
            prototypes.add(features, label);
        }
        prototypes.finish();
        let (mut errors, mut scratch) = (vec![0; n], [0; 6]);
        for (k, features) in features.iter().enumerate() {
            assert_eq!(prototypes.classify(features, &mut scratch), k);
            let score = prototypes.loss(features, 1, MOST_TEMPERATURE, &mut errors, &mut scratch);
            assert_eq!(score.correct, u32::from(k == 1));
        }
    }

    #[test]
    fn errors_of_the_longest_prototypes_fit() {
        // sums of ±1 give prototypes √3 too long: the worst there are, in the most classes, all far from the label or all equal
        let corners = |i: usize| [ONE, ONE, ONE].map(|c| if i == 0 { -c } else { c });
        for classes in [2, 3, 1000, MOST_CLASSES] {
            let mut units: vec::Vec<i16> = (0..classes).flat_map(corners).collect();
            let prototypes = Prototypes::new(&mut [], &mut units, 3);
            let (mut errors, mut scratch) = ([0; 3], vec![0; 2 * classes]);
            for f in [[64, 0, 0], [1, -1, 0], [1, 1, 1], [127, -127, 127], [-37, -36, -37], [0, 0, -1]] {
                for temperature in 0..=MOST_TEMPERATURE {
                    prototypes.loss(&f, 0, temperature, &mut errors, &mut scratch);
                    assert!(errors.iter().all(|e| e.unsigned_abs() <= MAX_SUM));
                }
            }
        }
    }

    #[test]
    fn the_scale_of_an_error_is_that_of_one_over_the_feature() {
        let scale = Scale { s: -5, u: 2, d: 3 };
        assert_eq!(error_scale(scale, 4), Scale { s: -26, u: -2, d: -3 });
    }
}
