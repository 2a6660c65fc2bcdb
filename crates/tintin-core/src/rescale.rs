//! The one place that rounds: widths, rounding shifts, narrowing, fine factors (N4 to N7).
//!
//! Every other module adds and multiplies exactly; what becomes smaller becomes smaller here.

use crate::kernels;
use crate::tensor::Scale;

/// Largest magnitude a sum may reach (N2).
pub const MAX_SUM: u32 = (1 << 31) - 1 - (1 << 23);
/// Largest number of products of mantissas in one sum (N2).
pub const MAX_TERMS: u32 = MAX_SUM / (127 * 127);
/// Magnitude an aligned bias may reach, as a power of two (N12).
pub const BIAS_LIMIT: i32 = 1 << 30;

/// How a shift to the right rounds (N4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, halves up.
    Nearest,
    /// NITI's pseudo-stochastic rounding: the upper dropped bits against the lower ones.
    Pseudo,
    /// Up with a probability equal to the dropped fraction: unbiased.
    Stochastic,
}

/// Bit length of `v`; 0 for 0.
pub const fn bits(v: u32) -> u32 {
    32 - v.leading_zeros()
}

/// (v + 2^(s−1)) >> s, N4 Nearest; `v` itself for s = 0. Needs |v| + 2^(s−1) < 2^31.
#[inline(always)]
pub const fn nearest(v: i32, s: u32) -> i32 {
    if s == 0 { v } else { v.wrapping_add(1 << (s - 1)) >> s }
}

/// (v + (u >> (32 − s))) >> s, N4 Stochastic; 1 ≤ s ≤ 30.
#[inline(always)]
pub const fn stochastic(v: i32, s: u32, u: u32) -> i32 {
    v.wrapping_add((u >> (32 - s)) as i32) >> s
}

/// N4 Pseudo, on the magnitude; 1 ≤ s ≤ 31.
#[inline(always)]
pub const fn pseudo(v: i32, s: u32) -> i32 {
    let a = v.unsigned_abs();
    let f = a & ((1u32 << s) - 1);
    let h = s / 2;
    let t = (f & ((1u32 << h) - 1)) << (s & 1);
    let q = (a >> s) as i32 + (f >> h > t) as i32;
    if v < 0 { -q } else { q }
}

/// N4 in full: `v` shifted right by `s` ≤ 31 places.
#[inline(always)]
pub const fn round(v: i32, s: u32, mode: Rounding, u: u32) -> i32 {
    match mode {
        _ if s == 0 => v,
        Rounding::Nearest => nearest(v, s),
        Rounding::Pseudo => pseudo(v, s),
        Rounding::Stochastic => stochastic(v, s, u),
    }
}

/// min(127, max(−127, v)).
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // in range after the two comparisons
pub const fn clip(v: i32) -> i8 {
    if v > 127 {
        127
    } else if v < -127 {
        -127
    } else {
        v as i8
    }
}

/// Largest magnitude of `v`; 0 for an empty slice.
pub fn peak(v: &[i32]) -> u32 {
    kernels::run(
        #[inline(always)]
        || kernels::peak(v),
    )
}

/// Narrows sums to mantissas (N5) and gives their scale. `sums` and `q` have equal length.
pub fn narrow(sums: &[i32], scale: Scale, q: &mut [i8]) -> Scale {
    narrow_below(sums, peak(sums), scale, q)
}

/// The same for sums whose largest magnitude is as long in bits as `peak`.
pub fn narrow_below(sums: &[i32], peak: u32, scale: Scale, q: &mut [i8]) -> Scale {
    let k = excess(peak);
    narrow_by(sums, k, q);
    widened(scale, k)
}

/// max(v, 0) of every sum (N13); gives a number as long in bits as the largest.
pub fn relu(v: &mut [i32]) -> u32 {
    kernels::run(
        #[inline(always)]
        || kernels::relu(v),
    )
}

/// v = 0 where x ≤ 0 (N18); gives a number as long in bits as the largest magnitude left.
pub fn mask(v: &mut [i32], x: &[i8]) -> u32 {
    kernels::run(
        #[inline(always)]
        || kernels::mask(v, x),
    )
}

/// Bits that sums of largest magnitude `peak` have beyond a mantissa's: k of N5.
pub const fn excess(peak: u32) -> u32 {
    bits(peak).saturating_sub(7)
}

/// Narrows sums by k bits, for those who know k beforehand.
pub fn narrow_by(sums: &[i32], k: u32, q: &mut [i8]) {
    kernels::run(
        #[inline(always)]
        || kernels::narrow(sums, k, q),
    );
}

/// The scale of sums narrowed by k bits.
pub fn widened(scale: Scale, k: u32) -> Scale {
    scale.shifted(i16::try_from(k).unwrap_or(0))
}

/// A fine factor m · 2^e, 128 ≤ m ≤ 255 (N6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Eight-bit mantissa; its set bits are the terms of the decomposition.
    pub m: i32,
    /// Power of two.
    pub e: i32,
}

/// `factor28` of N6: (4/5)^u · (4/3)^d as v · 2^e with 2^28 ≤ v < 2^29.
pub const fn factor28(u: i32, d: i32) -> (u32, i32) {
    let (mut v, mut e) = (1u32 << 28, -28);
    let mut i = u.unsigned_abs();
    while i > 0 {
        (v, e) = normalise(if u > 0 { v * 4 / 5 } else { v * 5 / 4 }, e);
        i -= 1;
    }
    i = d.unsigned_abs();
    while i > 0 {
        (v, e) = normalise(if d > 0 { v * 4 / 3 } else { v * 3 / 4 }, e);
        i -= 1;
    }
    (v, e)
}

/// (4/5)^u · (4/3)^d / n as an eight-bit mantissa and a power of two (N6); n ≥ 1.
pub const fn factor(u: i32, d: i32, n: u32) -> Factor {
    let (mut v, mut e) = factor28(u, d);
    if n > 1 {
        (v, e) = normalise((v << 2) / n, e - 2);
    }
    let m = (v + (1 << 20)) >> 21;
    if m == 256 { Factor { m: 128, e: e + 22 } } else { Factor { m: m as i32, e: e + 21 } }
}

const fn normalise(mut v: u32, mut e: i32) -> (u32, i32) {
    while v >= 1 << 29 {
        v >>= 1;
        e += 1;
    }
    while v < 1 << 28 {
        v <<= 1;
        e -= 1;
    }
    (v, e)
}

/// Algorithm 1 of Tin-Tin: the exponents e_i, ascending, with m / 128 = Σ 2^(−e_i); returns how many of `terms` it set.
///
/// Multiplying by `m` is adding those shifted copies without rounding each of them (N6).
pub const fn decompose(m: i32, terms: &mut [u8; 8]) -> usize {
    let (mut rest, mut count, mut e) = (m, 0, 0u8);
    while e < 8 && rest > 0 {
        if rest >= 128 >> e {
            rest -= 128 >> e;
            terms[count] = e;
            count += 1;
        }
        e += 1;
    }
    count
}

/// `align` of N7: v · 2^(−s) rounded to nearest and clamped to ±limit; |v| < 2^16.
pub const fn align(v: i32, s: i32, limit: i32) -> i32 {
    let t = if s > 31 {
        0
    } else if s >= 0 {
        nearest(v, s as u32)
    } else if s < -14 {
        // one unit already exceeds every limit in use after 15 + 16 places
        if v == 0 {
            0
        } else if s < -30 {
            if v < 0 { -limit } else { limit }
        } else {
            saturating_shl(v, s.unsigned_abs(), limit)
        }
    } else {
        v << s.unsigned_abs()
    };
    if t > limit {
        limit
    } else if t < -limit {
        -limit
    } else {
        t
    }
}

const fn saturating_shl(v: i32, s: u32, limit: i32) -> i32 {
    // v · 2^s exceeds the limit exactly when |v| exceeds limit / 2^s
    if v.unsigned_abs() > limit.unsigned_abs() >> s { if v < 0 { -limit } else { limit } } else { v << s }
}

/// isqrt of N9 and N30: ⌊√v⌋, bit by bit: the one of the standard library takes 500 bytes of flash.
pub fn root(v: u64) -> u64 {
    let mut root = 0u32;
    for bit in (0..u32::BITS).rev() {
        let more = root | 1 << bit;
        if u64::from(more) * u64::from(more) <= v {
            root = more;
        }
    }
    root.into()
}

/// Three quarters of every mantissa (a downscale of N20).
pub fn downscale(q: &mut [i8]) {
    for q in q {
        *q = clip((3 * i32::from(*q) + 2) >> 2);
    }
}

/// Five quarters of every mantissa (an upscale of N20).
pub fn upscale(q: &mut [i8]) {
    for q in q {
        *q = clip((5 * i32::from(*q) + 2) >> 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_n2() {
        assert_eq!(MAX_TERMS, 132_624);
        const { assert!(MAX_TERMS * 127 * 127 <= MAX_SUM) };
        const { assert!(66_052 * 127 * 127 + BIAS_LIMIT.unsigned_abs() <= MAX_SUM) };
    }

    #[test]
    fn pseudo_rounds_as_in_niti() {
        assert_eq!([pseudo(75, 4), pseudo(77, 4), pseudo(45, 3), pseudo(47, 3)], [4, 5, 5, 6]);
        assert_eq!(pseudo(-77, 4), -5);
    }

    #[test]
    fn stochastic_is_unbiased() {
        // over all draws of s bits the results of v sum to v exactly
        for v in [-37, -16, -1, 0, 1, 5, 16, 37] {
            let sum: i32 = (0..16u32).map(|r| stochastic(v, 4, r << 28)).sum();
            assert_eq!(sum, v);
        }
    }

    #[test]
    fn decomposition_sums_to_the_factor() {
        for m in 128..256 {
            let mut terms = [0; 8];
            let n = decompose(m, &mut terms);
            assert_eq!(terms[..n].iter().map(|e| 128 >> e).sum::<i32>(), m);
        }
    }

    #[test]
    fn roots_are_whole_and_exact() {
        for v in (0..70u64).flat_map(|n| [n, n * n, (n * n).saturating_sub(1), (6 << 46) / (n + 1), u64::MAX - n]) {
            assert_eq!(root(v), v.isqrt(), "{v}");
        }
    }

    #[test]
    fn align_saturates() {
        assert_eq!(align(3, 1, 100), 2);
        assert_eq!(align(-3, 1, 100), -1);
        assert_eq!(align(1, -20, 1 << 21), 1 << 20);
        assert_eq!(align(-2, -30, 1 << 30), -(1 << 30));
        assert_eq!(align(0, -400, 9), 0);
        assert_eq!(align(1, -400, 9), 9);
        assert_eq!(align(9999, 32, 9), 0);
    }
}
