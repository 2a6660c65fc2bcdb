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
