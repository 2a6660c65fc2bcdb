//! Vectors of length 2^14 (N30): what prototypes are made of and compared by.

use crate::rescale::root;

/// Most elements of a vector.
pub const MOST_FEATURES: usize = 1024;

/// Length q = ⌊√Σ w²⌋ of a vector, at most 2^20: |w_i| < 2^15, at most [`MOST_FEATURES`] of them.
#[allow(clippy::cast_possible_truncation)] // the sum is below 2^40
pub fn length(w: impl Iterator<Item = i32>) -> u32 {
    root(w.map(|w| u64::from(w.unsigned_abs()) * u64::from(w.unsigned_abs())).sum()) as u32
}

/// Element w of a vector of length q, brought to length 2^14: floor((w·2^15 + q) / 2q), 0 if q = 0.
///
/// As w² ≤ Σ w² and w is whole, |w| ≤ q: the result lies in ±2^14.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // see above
pub const fn element(w: i32, q: u32) -> i16 {
    if q == 0 { 0 } else { ((w << 15) + q.cast_signed()).div_euclid(2 * q.cast_signed()) as i16 }
}

/// Writes `unit(w)` to `out` and gives q. Equal lengths; ranges as in [`length`].
pub fn unit(w: impl Iterator<Item = i32> + Clone, out: &mut [i16]) -> u32 {
    let q = length(w.clone());
    for (out, w) in out.iter_mut().zip(w) {
        *out = element(w, q);
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_four_five() {
        let mut out = [0; 3];
        // (3·2^15 + 5) / 10 = 9830.9, (−3·2^15 + 5) / 10 = −9829.9, (4·2^15 + 5) / 10 = 13107.7
        assert_eq!(unit([3, 4, 0].into_iter(), &mut out), 5);
        assert_eq!(out, [9830, 13107, 0]);
        assert_eq!(unit([-3, 0, 4].into_iter(), &mut out), 5);
        assert_eq!(out, [-9830, 0, 13107]);
    }

    #[test]
    fn nothing_stays_nothing() {
        let mut out = [7; 4];
        assert_eq!(unit([0; 4].into_iter(), &mut out), 0);
        assert_eq!(out, [0; 4]);
    }

    #[test]
    fn the_longest_vector_fits() {
        let mut out = [0; MOST_FEATURES];
        let w = (0..MOST_FEATURES).map(|i| if i % 2 == 0 { 32767 } else { -32767 });
        assert_eq!(unit(w, &mut out), 32767 * 32);
        assert!(out.iter().zip([512, -512].into_iter().cycle()).all(|(&u, expected)| u == expected));
        for w in [1, -1, 32767, -32767] {
            unit([w].into_iter(), &mut out);
            assert_eq!(i32::from(out[0]), w.signum() << 14);
        }
    }
}
