//! Convolution without patches: one output channel per lane, several output places at a time (AVX2, AVX-512).
//!
//! The input rows under the output rows are widened to i16 once, with their padding. Weights are packed as pairs of neighbours of a
//! kernel row, \[kernel row\]\[pair\]\[output\]. A pair of x is broadcast to all lanes, multiplied with the pairs of sixteen outputs, and
//! both products are added to the lane's sum: exact, one pair is at most 2 · 127². A kernel row of odd length ends in a pair whose second
//! weight is 0.
#![allow(unsafe_code)]

use core::arch::x86_64::*;
use core::cell::RefCell;
use std::vec::Vec;

use super::Conv2d;

/// Outputs per register.
const LANES: usize = 16;
/// Output places computed together, so that a load of weights serves all of them.
const PLACES: usize = 4;

std::thread_local! {
    /// Widened rows and packed weights; kept from call to call, so that a step allocates nothing.
    static BUFFERS: RefCell<(Vec<i16>, Vec<i16>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// What the loops walk by.
struct Walk {
    /// Values of a kernel row and pairs of them.
    run: usize,
    pairs: usize,
    /// Widened values of one padded input row, and of one step to the right.
    row: usize,
    step: usize,
}

/// Widens the input rows under the output rows, zeros around them.
fn widen(call: &Conv2d, x: &[i8], band: &mut Vec<i16>) -> usize {
    let (w, c) = (call.xs.w as usize, call.xs.c as usize);
    let rows = (call.rows - 1) * call.stride.0 + call.kernel.0;
    let row = (w + 2 * call.padding.1) * c;
    band.clear();
    band.resize(rows * row + 1, 0); // the last pair of an odd run reads one value more
    for (r, band) in band.chunks_exact_mut(row).enumerate() {
        let source = (call.first * call.stride.0 + r).checked_sub(call.padding.0);
        if let Some(x) = source.and_then(|r| x.chunks_exact(w * c).nth(r)) {
            for (wide, &x) in band[call.padding.1 * c..].iter_mut().zip(x) {
                *wide = i16::from(x);
            }
        }
    }
    row
}

/// Packs weights, sixteen outputs after the other.
fn pack(call: &Conv2d, w: &[i8], walk: &Walk, packed: &mut Vec<i16>) {
    let k = call.kernel.0 * walk.run;
    let block = call.kernel.0 * walk.pairs * 2 * LANES;
    packed.clear();
    packed.resize((call.ys.c as usize).div_ceil(LANES) * block, 0);
    for (o, w) in w.chunks_exact(k).enumerate() {
        let packed = &mut packed[o / LANES * block..][..block];
        let rows = packed.chunks_exact_mut(walk.pairs * 2 * LANES).zip(w.chunks_exact(walk.run));
        for (packed, w) in rows {
            for (packed, pair) in packed.chunks_exact_mut(2 * LANES).zip(w.chunks(2)) {
                let lane = &mut packed[o % LANES * 2..][..pair.len()];
                for (lane, &w) in lane.iter_mut().zip(pair) {
                    *lane = i16::from(w);
                }
            }
        }
    }
}

/// The loops over rows, blocks of outputs and places, written once; a machine gives `places::<N>`.
macro_rules! rows {
    ($features:literal) => {
        /// `acc` += the sums of `call`.
        #[target_feature(enable = $features)]
        pub fn conv2d(call: &Conv2d, x: &[i8], w: &[i8], acc: &mut [i32]) {
            BUFFERS.with_borrow_mut(
                #[inline(always)]
                |(band, packed)| {
                    let row = widen(call, x, band);
                    let c = call.xs.c as usize;
                    let run = call.kernel.1 * c;
                    let walk = Walk { run, pairs: run.div_ceil(2), row, step: call.stride.1 * c };
                    pack(call, w, &walk, packed);
                    let (width, outputs) = (call.ys.w as usize, call.ys.c as usize);
                    let block = call.kernel.0 * walk.pairs * 2 * LANES;
                    for (i, acc) in acc.chunks_exact_mut(width * outputs).take(call.rows).enumerate() {
                        let band = &band[i * call.stride.0 * row..];
                        for (b, packed) in packed.chunks_exact(block).enumerate() {
                            let mut j = 0;
                            while j + PLACES <= width {
                                let acc = &mut acc[j * outputs..][..PLACES * outputs];
                                places::<PLACES>(
                                    &walk,
                                    &band[j * walk.step..],
                                    packed,
                                    &mut acc[b * LANES..],
                                    outputs,
                                    b,
                                );
                                j += PLACES;
                            }
                            while j < width {
                                let acc = &mut acc[j * outputs..][..outputs];
                                places::<1>(&walk, &band[j * walk.step..], packed, &mut acc[b * LANES..], outputs, b);
                                j += 1;
                            }
                        }
                    }
                },
            );
        }
    };
}

/// The AVX-512 kernels for one way to add the pair products of two registers to lane sums.
macro_rules! avx512 {
    ($features:literal, |$sum:ident, $x:ident, $w:ident| $add:expr) => {
        use super::*;

        rows!($features);

        #[target_feature(enable = $features)]
        fn add($sum: __m512i, $x: __m512i, $w: __m512i) -> __m512i {
            $add
        }

        /// `N` neighbouring places, outputs of block `b`; `acc` starts at the first of them.
        #[target_feature(enable = $features)]
        fn places<const N: usize>(
            walk: &Walk,
            band: &[i16],
            packed: &[i16],
            acc: &mut [i32],
            outputs: usize,
            b: usize,
        ) {
            let lanes = (outputs - b * LANES).min(LANES);
            let mask = u16::MAX >> (LANES - lanes);
            let mut sums = [_mm512_setzero_si512(); N];
            for (n, sum) in sums.iter_mut().enumerate() {
                let acc = &acc[n * outputs..][..lanes];
                // SAFETY: the slice holds the lanes whose bit is set; the others are not accessed.
                *sum = unsafe { _mm512_maskz_loadu_epi32(mask, acc.as_ptr()) };
            }
            for (a, packed) in packed.chunks_exact(walk.pairs * 2 * LANES).enumerate() {
                // every pair read below lies in this slice, which ends with the last pair of the last place
                let x = &band[a * walk.row..][..(N - 1) * walk.step + 2 * walk.pairs];
                for (t, packed) in packed.chunks_exact(2 * LANES).enumerate() {
                    // SAFETY: the chunk holds thirty-two i16; unaligned loads are allowed.
                    let w = unsafe { _mm512_loadu_si512(packed.as_ptr().cast()) };
                    for (n, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: n·step + 2t + 1 < (N − 1)·step + 2·pairs, the length of `x`; unaligned reads are allowed.
                        let pair = unsafe { x.as_ptr().add(n * walk.step + 2 * t).cast::<i32>().read_unaligned() };
                        *sum = add(*sum, _mm512_set1_epi32(pair), w);
                    }
                }
            }
            for (n, sum) in sums.into_iter().enumerate() {
                let acc = &mut acc[n * outputs..][..lanes];
                // SAFETY: as for the load.
                unsafe { _mm512_mask_storeu_epi32(acc.as_mut_ptr(), mask, sum) };
            }
        }
    };
}

/// With multiply and add.
pub mod plain {
    avx512!("avx512bw,avx512vl", |sum, x, w| _mm512_add_epi32(sum, _mm512_madd_epi16(x, w)));
}

/// With the dot-product instruction.
pub mod vnni {
    avx512!("avx512bw,avx512vl,avx512vnni", |sum, x, w| _mm512_dpwssd_epi32(sum, x, w));
}

/// Two registers of eight lanes.
pub mod avx2 {
    use super::*;

    rows!("avx2");

    /// Which of eight lanes, the first of them number `first`, are below `lanes`: all bits set in those.
    #[target_feature(enable = "avx2")]
    fn mask(first: i32, lanes: i32) -> __m256i {
        let number = _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), number)
    }

    /// As for AVX-512.
    #[target_feature(enable = "avx2")]
    fn places<const N: usize>(walk: &Walk, band: &[i16], packed: &[i16], acc: &mut [i32], outputs: usize, b: usize) {
        let lanes = (outputs - b * LANES).min(LANES);
        let count = i32::try_from(lanes).unwrap_or(0);
        let masks = [mask(0, count), mask(8, count)];
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for (a, packed) in packed.chunks_exact(walk.pairs * 2 * LANES).enumerate() {
            // every pair read below lies in this slice, which ends with the last pair of the last place
            let x = &band[a * walk.row..][..(N - 1) * walk.step + 2 * walk.pairs];
            for (t, packed) in packed.chunks_exact(2 * LANES).enumerate() {
                let (low, high) = packed.split_at(LANES);
                // SAFETY: both halves hold sixteen i16; unaligned loads are allowed.
                let w = unsafe { [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())] };
                for (n, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: n·step + 2t + 1 < (N − 1)·step + 2·pairs, the length of `x`; unaligned reads are allowed.
                    let pair = unsafe { x.as_ptr().add(n * walk.step + 2 * t).cast::<i32>().read_unaligned() };
                    let pair = _mm256_set1_epi32(pair);
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, w));
                    }
                }
            }
        }
        for (n, sums) in sums.iter().enumerate() {
            let acc = &mut acc[n * outputs..][..lanes];
            for (half, (sum, mask)) in sums.iter().zip(masks).enumerate() {
                let acc = acc.as_mut_ptr().wrapping_add(8 * half);
                // SAFETY: lanes whose mask is set lie within the slice; the others are not accessed.
                unsafe {
                    let sum = _mm256_add_epi32(*sum, _mm256_maskload_epi32(acc, mask));
                    _mm256_maskstore_epi32(acc, mask, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::Conv2d;
    use crate::shape::Shape;

    type Kernel = fn(&Conv2d, &[i8], &[i8], &mut [i32]);

    /// The definition, index by index.
    fn naive(call: &Conv2d, x: &[i8], w: &[i8], acc: &mut [i32]) {
        let (xs, ys) = (call.xs, call.ys);
        let (h, wide, c, outputs) = (xs.h as usize, xs.w as usize, xs.c as usize, ys.c as usize);
        for i in 0..call.rows {
            for j in 0..ys.w as usize {
                for o in 0..outputs {
                    for a in 0..call.kernel.0 {
                        for b in 0..call.kernel.1 {
                            let row = ((call.first + i) * call.stride.0 + a).wrapping_sub(call.padding.0);
                            let column = (j * call.stride.1 + b).wrapping_sub(call.padding.1);
                            for ch in 0..if row < h && column < wide { c } else { 0 } {
                                let weight = w[((o * call.kernel.0 + a) * call.kernel.1 + b) * c + ch];
                                let value = x[(row * wide + column) * c + ch];
                                acc[(i * ys.w as usize + j) * outputs + o] += i32::from(weight) * i32::from(value);
                            }
                        }
                    }
                }
            }
        }
    }

    fn equals_naive(kernel: Kernel) {
        let paint = |n: usize, salt: usize| -> Vec<i8> {
            (0..n).map(|i| [127, -127, 1, 0, -3, 64, -100][(i * 5 + salt + i / 7) % 7]).collect()
        };
        for (k, stride, padding) in
            [((5, 5), (1, 1), (2, 2)), ((1, 1), (1, 1), (0, 0)), ((3, 2), (2, 3), (2, 1)), ((1, 7), (1, 2), (0, 3))]
        {
            for c in [1, 2, 3, 6] {
                for outputs in [1, 6, 16, 17, 40] {
                    let xs = Shape::new(9, 11, c);
                    let extent =
                        |n: usize, k: usize, s: usize, p: usize| u32::try_from((n + 2 * p - k) / s + 1).unwrap();
                    let ys =
                        Shape::new(extent(9, k.0, stride.0, padding.0), extent(11, k.1, stride.1, padding.1), outputs);
                    for (first, rows) in [(0, ys.h as usize), (1, 2), (ys.h as usize - 1, 1)] {
                        let call = Conv2d { kernel: k, stride, padding, xs, ys, first, rows };
                        let x = paint(xs.len(), 2);
                        let w = paint(outputs as usize * k.0 * k.1 * c as usize, 5);
                        let mut want = vec![-9; rows * (ys.w * outputs) as usize];
                        let mut have = want.clone();
                        naive(&call, &x, &w, &mut want);
                        kernel(&call, &x, &w, &mut have);
                        assert_eq!(have, want, "kernel {k:?} c {c} outputs {outputs} rows {first}+{rows}");
                    }
                }
            }
        }
    }

    #[test]
    fn avx2_equals_naive() {
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected.
            equals_naive(|call, x, w, acc| unsafe { super::avx2::conv2d(call, x, w, acc) });
        }
    }

    #[test]
    fn plain_equals_naive() {
        if std::is_x86_feature_detected!("avx512bw") && std::is_x86_feature_detected!("avx512vl") {
            // SAFETY: the features were just detected.
            equals_naive(|call, x, w, acc| unsafe { super::plain::conv2d(call, x, w, acc) });
        }
    }

    #[test]
    fn vnni_equals_naive() {
        if std::is_x86_feature_detected!("avx512vnni") && std::is_x86_feature_detected!("avx512vl") {
            // SAFETY: the features were just detected.
            equals_naive(|call, x, w, acc| unsafe { super::vnni::conv2d(call, x, w, acc) });
        }
    }
}
