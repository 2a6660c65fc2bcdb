//! AVX2 and AVX-512: hand-written inner products, and the portable source compiled for the wider registers.
//!
//! Products of mantissas are taken sixteen (AVX2) or thirty-two (AVX-512) at a time as i16 and added in pairs
//! into i32 lanes, which is exact: one pair is at most 2 · 127². The order of the sums differs from `portable`, their value modulo 2^32 does not.
#![allow(unsafe_code)]
// registers are indexed by row of x and row of w alike; iterators would hide which
#![allow(clippy::needless_range_loop)]

use core::arch::x86_64::*;

use super::host::{Machine, machine};

/// Runs `f` compiled for the widest vector unit found.
#[inline(always)]
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    match machine() {
        // SAFETY: `machine` has just detected the features the function is compiled for.
        Machine::Avx512 | Machine::Avx512Vnni => unsafe { run_avx512(f) },
        // SAFETY: as above.
        Machine::Avx2 => unsafe { run_avx2(f) },
        Machine::Portable => f(),
    }
}

#[target_feature(enable = "avx512bw,avx512vl")]
fn run_avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[target_feature(enable = "avx2")]
fn run_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// See [`super::matmul`].
#[inline]
pub fn matmul(x: &[i8], w: &[i8], k: usize, acc: &mut [i32], workspace: &mut [i32]) {
    match machine() {
        // SAFETY: `machine` has just detected the features the function is compiled for.
        Machine::Avx512Vnni => unsafe { avx512_vnni::matmul(x, w, k, acc) },
        // SAFETY: as above.
        Machine::Avx512 => unsafe { avx512::matmul(x, w, k, acc) },
        // SAFETY: as above; and a row has the sixteen values one load reads.
        Machine::Avx2 if k >= 16 => unsafe { avx2::matmul(x, w, k, acc) },
        _ => super::portable::matmul(x, w, k, acc, workspace),
    }
}

/// See [`super::Conv2d::sums`].
pub fn conv2d(call: &super::Conv2d, x: &[i8], w: &[i8], acc: &mut [i32]) -> bool {
    match machine() {
        // SAFETY: `machine` has just detected the features the function is compiled for.
        Machine::Avx512Vnni => unsafe { super::conv_x86_64::vnni::conv2d(call, x, w, acc) },
        // SAFETY: as above.
        Machine::Avx512 => unsafe { super::conv_x86_64::plain::conv2d(call, x, w, acc) },
        // SAFETY: as above.
        Machine::Avx2 => unsafe { super::conv_x86_64::avx2::conv2d(call, x, w, acc) },
        Machine::Portable => return false,
    }
    true
}

/// The loop over blocks of 2 × 4 sums, written once; a machine gives `block::<X, W>`: X rows of x against W rows of w.
macro_rules! blocks {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        pub fn matmul(x: &[i8], w: &[i8], k: usize, acc: &mut [i32]) {
            let outputs = w.len() / k;
            let samples = (x.len() / k).min(acc.len() / outputs);
            if outputs <= 16 && k <= 2 * FEW_PAIRS && samples >= 2 * outputs {
                few_outputs(x, w, k, acc);
                return;
            }
            let mut n = 0;
            while n + 2 <= samples {
                row_of_blocks::<2>(&x[n * k..][..2 * k], w, k, &mut acc[n * outputs..][..2 * outputs]);
                n += 2;
            }
            if n < samples {
                row_of_blocks::<1>(&x[n * k..][..k], w, k, &mut acc[n * outputs..][..outputs]);
            }
        }

        #[target_feature(enable = $features)]
        fn row_of_blocks<const X: usize>(x: &[i8], w: &[i8], k: usize, acc: &mut [i32]) {
            let outputs = w.len() / k;
            let mut o = 0;
            while o + 4 <= outputs {
                let sums = block::<X, 4>(x, &w[o * k..][..4 * k], k);
                for (acc, sums) in acc.chunks_exact_mut(outputs).zip(&sums) {
                    let sums = four_sums(sums);
                    for (acc, sum) in acc[o..o + 4].iter_mut().zip(sums) {
                        *acc = acc.wrapping_add(sum);
                    }
                }
                o += 4;
            }
            while o < outputs {
                let sums = block::<X, 1>(x, &w[o * k..][..k], k);
                for (acc, sums) in acc.chunks_exact_mut(outputs).zip(sums) {
                    acc[o] = acc[o].wrapping_add(one_sum(sums[0]));
                }
                o += 1;
            }
        }
    };
}

/// Lanes of four 256-bit registers to four sums.
#[target_feature(enable = "avx2")]
fn reduce(v: [__m256i; 4]) -> [i32; 4] {
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    let mut out = [0; 4];
    // SAFETY: `out` has room for the four lanes; unaligned stores are allowed.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    out
}

mod avx2 {
    use super::*;

    blocks!("avx2");

    /// 0 for the first sixteen bytes, then −1: a window into it masks the places a last, overlapping load read before.
    static TAIL: [i8; 32] = {
        let (mut mask, mut i) = ([0; 32], 16);
        while i < 32 {
            mask[i] = -1;
            i += 1;
        }
        mask
    };

    /// Sixteen mantissas at `at`, as i16.
    #[target_feature(enable = "avx2")]
    fn load(v: &[i8], at: usize) -> __m256i {
        let v = &v[at..at + 16];
        // SAFETY: the slice just taken holds the sixteen bytes that are read; unaligned loads are allowed.
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(v.as_ptr().cast()) })
    }

    /// At most sixteen outputs in two registers of eight lanes; see the AVX-512 kernel.
    #[target_feature(enable = "avx2")]
    fn few_outputs(x: &[i8], w: &[i8], k: usize, acc: &mut [i32]) {
        let outputs = w.len() / k;
        let mut packed = [[[0i16; 16]; 2]; FEW_PAIRS];
        for (o, w) in w.chunks_exact(k).enumerate() {
            for (packed, pair) in packed.iter_mut().zip(w.chunks(2)) {
                let lane = &mut packed[o / 8][2 * (o % 8)..][..2];
                lane[0] = i16::from(pair[0]);
                lane[1] = pair.get(1).map_or(0, |&w| i16::from(w));
            }
        }
        for (x, acc) in x.chunks_exact(k).zip(acc.chunks_exact_mut(outputs)) {
            let mut sums = [_mm256_setzero_si256(); 2];
            for (packed, x) in packed.iter().zip(x.chunks(2)) {
                let second = x.get(1).map_or(0, |&x| i32::from(x));
                let pair = _mm256_set1_epi32(i32::from(x[0]) & 0xFFFF | second << 16);
                for (sum, packed) in sums.iter_mut().zip(packed) {
                    // SAFETY: an array of sixteen i16 is read; unaligned loads are allowed.
                    let w = unsafe { _mm256_loadu_si256(packed.as_ptr().cast()) };
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, w));
                }
            }
            let mut out = [0i32; 16];
            for (out, sum) in out.chunks_exact_mut(8).zip(sums) {
                // SAFETY: eight i32 are stored into a slice of eight; unaligned stores are allowed.
                unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sum) };
            }
            for (acc, sum) in acc.iter_mut().zip(out) {
                *acc = acc.wrapping_add(sum);
            }
        }
    }

    /// Lane sums of X rows of `x` times W rows of `w`; k ≥ 16.
    #[target_feature(enable = "avx2")]
    fn block<const X: usize, const W: usize>(x: &[i8], w: &[i8], k: usize) -> [[__m256i; W]; X] {
        let mut sums = [[_mm256_setzero_si256(); W]; X];
        let mut i = 0;
        while i + 16 <= k {
            step(&mut sums, core::array::from_fn(|n| load(x, n * k + i)), |o| load(w, o * k + i));
            i += 16;
        }
        if i < k {
            // the last sixteen values once more, those already counted masked out of x
            let mask = load(&TAIL, k - i);
            let last = k - 16;
            let x = core::array::from_fn(|n| _mm256_and_si256(mask, load(x, n * k + last)));
            step(&mut sums, x, |o| load(w, o * k + last));
        }
        sums
    }

    #[inline(always)]
    fn step<const X: usize, const W: usize>(
        sums: &mut [[__m256i; W]; X],
        x: [__m256i; X],
        w: impl Fn(usize) -> __m256i,
    ) {
        for o in 0..W {
            let w = w(o);
            for n in 0..X {
                // SAFETY: inlined into functions compiled for AVX2 only.
                sums[n][o] = unsafe { _mm256_add_epi32(sums[n][o], _mm256_madd_epi16(x[n], w)) };
            }
        }
    }

    #[target_feature(enable = "avx2")]
    fn four_sums(v: &[__m256i; 4]) -> [i32; 4] {
        reduce(*v)
    }

    #[target_feature(enable = "avx2")]
    fn one_sum(v: __m256i) -> i32 {
        reduce([v; 4])[0]
    }
}

/// The AVX-512 kernels for one way to add the pair products of two registers to lane sums.
macro_rules! avx512 {
    ($features:literal, |$sum:ident, $x:ident, $w:ident| $add:expr) => {
        use super::*;

        blocks!($features);

        /// Adds the products of sixteen pairs to sixteen lane sums.
        #[target_feature(enable = $features)]
        fn add($sum: __m512i, $x: __m512i, $w: __m512i) -> __m512i {
            $add
        }

        /// The mantissas at `at` whose bit in `mask` is set, as i16, 0 for the others.
        #[target_feature(enable = $features)]
        fn load(v: &[i8], at: usize, mask: u32) -> __m512i {
            let v = &v[at..at + (32 - mask.leading_zeros() as usize)];
            // SAFETY: masked-out bytes are not accessed, and the slice just taken holds the others.
            _mm512_cvtepi8_epi16(unsafe { _mm256_maskz_loadu_epi8(mask, v.as_ptr()) })
        }

        /// Bits for the values of a row of `k` from `i` on, at most 32.
        fn rest(i: usize, k: usize) -> u32 {
            if k - i >= 32 { u32::MAX } else { (1 << (k - i)) - 1 }
        }

        /// Lane sums of X rows of `x` times W rows of `w`.
        #[target_feature(enable = $features)]
        fn block<const X: usize, const W: usize>(x: &[i8], w: &[i8], k: usize) -> [[__m512i; W]; X] {
            let mut sums = [[_mm512_setzero_si512(); W]; X];
            let mut i = 0;
            while i < k {
                let mask = rest(i, k);
                let mut xs = [_mm512_setzero_si512(); X];
                for (n, xs) in xs.iter_mut().enumerate() {
                    *xs = load(x, n * k + i, mask);
                }
                for o in 0..W {
                    let w = load(w, o * k + i, mask);
                    for n in 0..X {
                        sums[n][o] = add(sums[n][o], xs[n], w);
                    }
                }
                i += 32;
            }
            sums
        }

        /// At most sixteen outputs, one per lane, for many short rows of x: no lane sums to be added up at the end.
        ///
        /// Weights are packed once as pairs of neighbours, [pair][output]; a pair of x is then broadcast to all lanes.
        #[target_feature(enable = $features)]
        fn few_outputs(x: &[i8], w: &[i8], k: usize, acc: &mut [i32]) {
            let outputs = w.len() / k;
            let pairs = k.div_ceil(2);
            let mut packed = [[0i16; 32]; FEW_PAIRS];
            for (o, w) in w.chunks_exact(k).enumerate() {
                for (packed, pair) in packed.iter_mut().zip(w.chunks(2)) {
                    packed[2 * o] = i16::from(pair[0]);
                    packed[2 * o + 1] = pair.get(1).map_or(0, |&w| i16::from(w));
                }
            }
            let lanes = u16::MAX >> (16 - outputs);
            for (x, acc) in x.chunks_exact(k).zip(acc.chunks_exact_mut(outputs)) {
                let mut wide = [0i32; FEW_PAIRS]; // a pair each
                let mut i = 0;
                while i < k {
                    let values = load(x, i, rest(i, k));
                    // SAFETY: the slice holds the sixteen pairs stored; unaligned stores are allowed.
                    unsafe { _mm512_storeu_si512(wide[i / 2..i / 2 + 16].as_mut_ptr().cast(), values) };
                    i += 32;
                }
                let mut sums = [_mm512_setzero_si512(); 2];
                for (p, (packed, &pair)) in packed[..pairs].iter().zip(&wide).enumerate() {
                    // SAFETY: an array of thirty-two i16 is read; unaligned loads are allowed.
                    let w = unsafe { _mm512_loadu_si512(packed.as_ptr().cast()) };
                    sums[p % 2] = add(sums[p % 2], _mm512_set1_epi32(pair), w);
                }
                let sum = _mm512_add_epi32(sums[0], sums[1]);
                // SAFETY: `lanes` has one bit for each of the values in `acc`; masked-out lanes are not accessed.
                unsafe {
                    let sum = _mm512_add_epi32(sum, _mm512_maskz_loadu_epi32(lanes, acc.as_ptr()));
                    _mm512_mask_storeu_epi32(acc.as_mut_ptr(), lanes, sum);
                }
            }
        }

        #[target_feature(enable = $features)]
        fn halve(v: __m512i) -> __m256i {
            _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1))
        }

        #[target_feature(enable = $features)]
        fn four_sums(v: &[__m512i; 4]) -> [i32; 4] {
            reduce([halve(v[0]), halve(v[1]), halve(v[2]), halve(v[3])])
        }

        #[target_feature(enable = $features)]
        fn one_sum(v: __m512i) -> i32 {
            reduce([halve(v); 4])[0]
        }
    };
}

/// Most pairs of a row for `few_outputs`.
const FEW_PAIRS: usize = 64;

mod avx512 {
    avx512!("avx512bw,avx512vl", |sum, x, w| _mm512_add_epi32(sum, _mm512_madd_epi16(x, w)));
}

mod avx512_vnni {
    avx512!("avx512bw,avx512vl,avx512vnni", |sum, x, w| _mm512_dpwssd_epi32(sum, x, w));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    type Matmul = fn(&[i8], &[i8], usize, &mut [i32]);

    /// Every length around the blocking, every count of rows around the block, with ±127 and a prime period among the values.
    fn equals_portable(matmul: Matmul, least: usize) {
        let paint = |n: usize, salt: usize| -> Vec<i8> {
            (0..n).map(|i| [127, -127, 1, 0, -3, 64, -100][(i * 5 + salt + i / 7) % 7]).collect()
        };
        for k in (least..70).chain([127, 128, 129, 255, 400]) {
            for (samples, outputs) in [(1, 1), (2, 4), (3, 5), (5, 11), (2, 3), (1, 8), (12, 6), (33, 16), (35, 17)] {
                let (x, w) = (paint(samples * k, 1), paint(outputs * k, 4));
                let mut want = vec![7; samples * outputs];
                let mut have = want.clone();
                crate::kernels::portable::matmul(&x, &w, k, &mut want, &mut []);
                matmul(&x, &w, k, &mut have);
                assert_eq!(have, want, "k {k}, {samples} × {outputs}");
            }
        }
    }

    #[test]
    fn avx2_equals_portable() {
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected, and lengths start at sixteen.
            equals_portable(|x, w, k, acc| unsafe { avx2::matmul(x, w, k, acc) }, 16);
        }
    }

    #[test]
    fn avx512_equals_portable() {
        if matches!(machine(), Machine::Avx512 | Machine::Avx512Vnni) {
            // SAFETY: the features were just detected.
            equals_portable(|x, w, k, acc| unsafe { avx512::matmul(x, w, k, acc) }, 1);
        }
    }

    #[test]
    fn avx512_vnni_equals_portable() {
        if machine() == Machine::Avx512Vnni {
            // SAFETY: the features were just detected.
            equals_portable(|x, w, k, acc| unsafe { avx512_vnni::matmul(x, w, k, acc) }, 1);
        }
    }
}
