//! The lanes of x86-64: AVX2 and AVX-512 multiply pairs of i16, AVX-512 VNNI groups of four bytes.

use core::arch::x86_64::*;
use core::ops::Range;

use super::avx2::{Avx2, count};
use super::groups::Side;
use super::lanes::{Kernel, Lanes};

/// Sixteen lanes, pairs.
#[derive(Clone, Copy)]
pub struct Avx512;

/// Sixteen lanes, groups of four.
#[derive(Clone, Copy)]
pub struct Avx512Vnni;

/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as the caller says.
    unsafe { kernel.run::<Avx2>() }
}

/// # Safety
/// The machine has AVX-512 BW and VL.
#[target_feature(enable = "avx512bw,avx512vl")]
pub unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as the caller says.
    unsafe { kernel.run::<Avx512>() }
}

/// # Safety
/// The machine has AVX-512 BW, VL and VNNI.
#[target_feature(enable = "avx512bw,avx512vl,avx512vnni")]
pub unsafe fn avx512_vnni<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as the caller says.
    unsafe { kernel.run::<Avx512Vnni>() }
}

// SAFETY of all blocks: the trait's contract: the instructions are there, pointers are good for what is read or written.

/// The lanes of AVX-512, but for how groups are multiplied.
macro_rules! avx512 {
    ($lanes:ident, $value:ty, $group:literal, $offset:literal, |$v:ident| $with_offset:expr, |$p:ident| $plain:expr, |$from:ident| $load:expr, $sign:expr, $place:expr, $dot:expr, $interleave:expr) => {
        impl Lanes for $lanes {
            type Vector = __m512i;
            type Value = $value;
            const WIDTH: usize = 16;
            const GROUP: usize = $group;
            const OFFSET: i32 = $offset;
            const REGISTERS: usize = 32;

            #[inline(always)]
            fn offset($v: i8) -> $value {
                $with_offset
            }

            #[inline(always)]
            fn plain($p: i8) -> $value {
                $plain
            }

            #[inline(always)]
            unsafe fn zero() -> __m512i {
                unsafe { _mm512_setzero_si512() }
            }

            #[inline(always)]
            unsafe fn splat(v: i32) -> __m512i {
                unsafe { _mm512_set1_epi32(v) }
            }

            #[inline(always)]
            unsafe fn load(from: *const i32) -> __m512i {
                unsafe { _mm512_loadu_si512(from.cast()) }
            }

            #[inline(always)]
            unsafe fn load_first(from: *const i32, n: usize) -> __m512i {
                unsafe { _mm512_maskz_loadu_epi32(u16::MAX >> (16 - n), from) }
            }

            #[inline(always)]
            unsafe fn store(to: *mut i32, v: __m512i) {
                unsafe { _mm512_storeu_si512(to.cast(), v) }
            }

            #[inline(always)]
            unsafe fn store_first(to: *mut i32, v: __m512i, n: usize) {
                unsafe { _mm512_mask_storeu_epi32(to, u16::MAX >> (16 - n), v) }
            }

            #[inline(always)]
            unsafe fn load_offset($from: *const i8) -> __m512i {
                unsafe { _mm512_xor_si512($load, $sign) }
            }

            #[inline(always)]
            unsafe fn place(side: Side, from: *const i8, some: Range<usize>, to: *mut $value) {
                unsafe {
                    let mask = first(some.end) & !first(some.start);
                    let values = _mm256_maskz_loadu_epi8(mask, from);
                    $place(side, values, to.cast());
                }
            }

            #[inline(always)]
            unsafe fn sums([a, b, c, d]: [__m512i; 4]) -> [i32; 4] {
                unsafe { Avx2::sums([halved(a), halved(b), halved(c), halved(d)]) }
            }

            #[inline(always)]
            unsafe fn min(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_min_epi32(a, b) }
            }

            #[inline(always)]
            unsafe fn max(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_max_epi32(a, b) }
            }

            #[inline(always)]
            unsafe fn first(v: __m512i, n: usize) -> __m512i {
                unsafe { _mm512_maskz_mov_epi32(u16::MAX >> (16 - n), v) }
            }

            #[inline(always)]
            unsafe fn zip(a: __m512i, b: __m512i) -> (__m512i, __m512i) {
                unsafe {
                    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                    let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
                    (_mm512_permutex2var_epi32(a, low, b), _mm512_permutex2var_epi32(a, high, b))
                }
            }

            #[inline(always)]
            unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_add_epi32(a, b) }
            }

            #[inline(always)]
            unsafe fn dot(sums: __m512i, offset: __m512i, plain: __m512i) -> __m512i {
                unsafe { $dot(sums, offset, plain) }
            }

            #[inline(always)]
            unsafe fn multiply(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_mullo_epi32(a, b) }
            }

            #[inline(always)]
            unsafe fn subtract(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_sub_epi32(a, b) }
            }

            #[inline(always)]
            unsafe fn shift(v: __m512i, n: u32) -> __m512i {
                unsafe { _mm512_sra_epi32(v, count(n)) }
            }

            #[inline(always)]
            unsafe fn upper(v: __m512i, n: u32) -> __m512i {
                unsafe { _mm512_srl_epi32(v, count(32 - n)) }
            }

            #[inline(always)]
            unsafe fn load_bytes(from: *const i8, n: usize) -> __m512i {
                if n == 16 {
                    return unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) };
                }
                unsafe { _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(u16::MAX >> (16 - n), from)) }
            }

            #[inline(always)]
            unsafe fn interleave(side: Side, rows: [*const i8; 4]) -> __m512i {
                unsafe { $interleave(side, rows) }
            }

            #[inline(always)]
            unsafe fn nonzero(from: *const i8, n: usize, first: i32, to: *mut i32) -> usize {
                unsafe {
                    let values = _mm_maskz_loadu_epi8(u16::MAX >> (16 - n), from);
                    let mask = _mm_test_epi8_mask(values, values);
                    let numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                    let numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(first));
                    Self::store(to, _mm512_maskz_compress_epi32(mask, numbers));
                    mask.count_ones() as usize
                }
            }

            #[inline(always)]
            unsafe fn pairs(a: __m512i, b: __m512i, to: *mut i32) -> usize {
                unsafe {
                    let mask = _mm512_test_epi32_mask(b, b);
                    let (a, b) = (_mm512_maskz_compress_epi32(mask, a), _mm512_maskz_compress_epi32(mask, b));
                    let (first, second) = Self::zip(a, b);
                    Self::store(to, first);
                    Self::store(to.add(16), second);
                    mask.count_ones() as usize
                }
            }

            #[inline(always)]
            unsafe fn some(v: __m512i) -> u32 {
                unsafe { _mm512_test_epi32_mask(v, v).into() }
            }

            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // at most 128 errors
            unsafe fn unpool(dy: &[i8], index: &[i8], o: usize, step: usize, to: *mut i8) {
                unsafe {
                    let len = dy.len().min(index.len()).min(128);
                    // word k: the error of window k % 16 and its neighbour, then that error twice
                    let windows = _mm512_and_si512(numbers(), _mm512_set1_epi16(15));
                    let at = _mm512_mullo_epi16(windows, _mm512_set1_epi16(step as i16));
                    let at = _mm512_add_epi16(at, _mm512_set1_epi16(o as i16));
                    let there = _mm512_cmplt_epu16_mask(at, _mm512_set1_epi16(len as i16));
                    let byte = _mm512_and_si512(at, _mm512_set1_epi16(1));
                    let byte =
                        _mm512_add_epi16(byte, _mm512_slli_epi16(_mm512_and_si512(numbers(), _mm512_set1_epi16(7)), 1));
                    let twice = _mm512_or_si512(byte, _mm512_slli_epi16(byte, 8));
                    let words = _mm512_srli_epi16(at, 1);
                    let each = |from: *const i8| {
                        let first = u64::MAX >> (64 - len.clamp(1, 64));
                        let second = if len > 64 { u64::MAX >> (128 - len) } else { 0 };
                        let low = _mm512_maskz_loadu_epi8(first, from);
                        let high = _mm512_maskz_loadu_epi8(second, from.wrapping_add(64));
                        let words = _mm512_maskz_permutex2var_epi16(there, low, words, high);
                        _mm512_shuffle_epi8(words, twice)
                    };
                    let places = _mm512_inserti64x4(_mm512_set1_epi16(0x100), _mm256_set1_epi16(0x302), 1);
                    let mask = _mm512_cmpeq_epi8_mask(each(index.as_ptr()), places);
                    _mm512_storeu_si512(to.cast(), _mm512_maskz_mov_epi8(mask, each(dy.as_ptr())));
                }
            }

            #[inline(always)]
            unsafe fn larger(best: __m512i, number: __m512i, v: __m512i, n: i32) -> (__m512i, __m512i) {
                unsafe {
                    let larger = _mm512_cmpgt_epi32_mask(v, best);
                    (_mm512_max_epi32(best, v), _mm512_mask_set1_epi32(number, larger, n))
                }
            }

            #[inline(always)]
            unsafe fn store_bytes(to: *mut i8, v: __m512i, n: usize) {
                // two steps: one instruction that does both is slow on Zen
                unsafe {
                    let bytes = _mm512_cvtepi32_epi8(v);
                    if n == 16 {
                        _mm_storeu_si128(to.cast(), bytes);
                    } else {
                        _mm_mask_storeu_epi8(to, u16::MAX >> (16 - n), bytes);
                    }
                }
            }
        }
    };
}

/// The number of each word.
#[inline(always)]
unsafe fn numbers() -> __m512i {
    static NUMBERS: [i16; 32] = {
        let mut numbers = [0; 32];
        let mut i = 0;
        while i < 32 {
            numbers[i as usize] = i;
            i += 1;
        }
        numbers
    };
    unsafe { _mm512_loadu_si512(NUMBERS.as_ptr().cast()) }
}

/// Products of pairs, and the sum.
#[inline(always)]
unsafe fn multiply_and_add(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
    unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(a, b)) }
}

/// Two rows of sixteen, as pairs.
#[inline(always)]
unsafe fn pairs(_side: Side, rows: [*const i8; 4]) -> __m512i {
    unsafe {
        let (a, b) = (_mm_loadu_si128(rows[0].cast()), _mm_loadu_si128(rows[1].cast()));
        _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)))
    }
}

/// Four rows of sixteen, as groups of four: words of the rows side by side, then bytes within them.
#[inline(always)]
unsafe fn fours(side: Side, rows: [*const i8; 4]) -> __m512i {
    unsafe {
        let lanes = _mm512_castsi128_si512(_mm_loadu_si128(rows[0].cast()));
        let lanes = _mm512_inserti32x4::<1>(lanes, _mm_loadu_si128(rows[1].cast()));
        let lanes = _mm512_inserti32x4::<2>(lanes, _mm_loadu_si128(rows[2].cast()));
        let lanes = _mm512_inserti32x4::<3>(lanes, _mm_loadu_si128(rows[3].cast()));
        let words = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let bytes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let groups = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(words, lanes), _mm512_broadcast_i32x4(bytes));
        if side == Side::Plain { groups } else { _mm512_xor_si512(groups, _mm512_set1_epi8(i8::MIN)) }
    }
}

/// The first `n` bits set, 0 to 32.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // the low half is what is asked for
fn first(n: usize) -> u32 {
    ((1u64 << n) - 1) as u32
}

/// Writes 32 values as i16.
#[inline(always)]
unsafe fn place_pairs(_side: Side, values: __m256i, to: *mut __m512i) {
    unsafe { _mm512_storeu_si512(to, _mm512_cvtepi8_epi16(values)) }
}

/// Writes 32 values as bytes.
#[inline(always)]
unsafe fn place_fours(side: Side, values: __m256i, to: *mut __m256i) {
    unsafe {
        let sign = if side == Side::Plain { _mm256_setzero_si256() } else { _mm256_set1_epi8(i8::MIN) };
        _mm256_storeu_si256(to, _mm256_xor_si256(values, sign));
    }
}

/// Both halves added.
#[inline(always)]
unsafe fn halved(v: __m512i) -> __m256i {
    unsafe { _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1)) }
}

avx512!(
    Avx512,
    i16,
    2,
    0,
    |v| i16::from(v),
    |v| i16::from(v),
    |from| _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.cast())),
    _mm512_setzero_si512(),
    place_pairs,
    multiply_and_add,
    pairs
);
avx512!(
    Avx512Vnni,
    u8,
    4,
    128,
    |v| v.cast_unsigned() ^ 0x80,
    |v| v.cast_unsigned(),
    |from| _mm512_loadu_si512(from.cast()),
    _mm512_set1_epi8(i8::MIN),
    place_fours,
    _mm512_dpbusd_epi32,
    fours
);
