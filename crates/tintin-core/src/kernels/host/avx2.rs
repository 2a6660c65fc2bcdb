//! The lanes of AVX2: pairs of i16.

use core::arch::x86_64::*;

use super::groups::Side;
use super::lanes::Lanes;

/// Eight lanes, pairs.
#[derive(Clone, Copy)]
pub struct Avx2;

// SAFETY of all blocks: the trait's contract: the instructions are there, pointers are good for what is read or written.

impl Lanes for Avx2 {
    type Vector = __m256i;
    type Value = i16;
    const WIDTH: usize = 8;
    const GROUP: usize = 2;
    const OFFSET: i32 = 0;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn offset(v: i8) -> i16 {
        i16::from(v)
    }

    #[inline(always)]
    fn plain(v: i8) -> i16 {
        i16::from(v)
    }

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn splat(v: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(v) }
    }

    #[inline(always)]
    unsafe fn load(from: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const i32, n: usize) -> __m256i {
        unsafe { if n == 8 { Self::load(from) } else { _mm256_maskload_epi32(from, first(n)) } }
    }

    #[inline(always)]
    unsafe fn store(to: *mut i32, v: __m256i) {
        unsafe { _mm256_storeu_si256(to.cast(), v) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut i32, v: __m256i, n: usize) {
        unsafe { if n == 8 { Self::store(to, v) } else { _mm256_maskstore_epi32(to, first(n), v) } }
    }

    #[inline(always)]
    unsafe fn load_offset(from: *const i8) -> __m256i {
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn sums(v: [__m256i; 4]) -> [i32; 4] {
        unsafe {
            let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
            let mut sums = [0; 4];
            let halves = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
            _mm_storeu_si128(sums.as_mut_ptr().cast(), halves);
            sums
        }
    }

    #[inline(always)]
    unsafe fn min(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_min_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_max_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn first(v: __m256i, n: usize) -> __m256i {
        unsafe { _mm256_and_si256(v, first(n)) }
    }

    #[inline(always)]
    unsafe fn zip(a: __m256i, b: __m256i) -> (__m256i, __m256i) {
        unsafe {
            let (even, odd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            (_mm256_permute2x128_si256(even, odd, 0x20), _mm256_permute2x128_si256(even, odd, 0x31))
        }
    }

    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, offset: __m256i, plain: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(offset, plain)) }
    }

    #[inline(always)]
    unsafe fn multiply(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_mullo_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn subtract(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn shift(v: __m256i, n: u32) -> __m256i {
        unsafe { _mm256_sra_epi32(v, count(n)) }
    }

    #[inline(always)]
    unsafe fn upper(v: __m256i, n: u32) -> __m256i {
        unsafe { _mm256_srl_epi32(v, count(32 - n)) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8, n: usize) -> __m256i {
        unsafe {
            if n == 8 {
                return _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
            }
            let mut bytes = [0i8; 16];
            for (i, byte) in bytes.iter_mut().enumerate().take(n) {
                *byte = *from.add(i);
            }
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(bytes.as_ptr().cast()))
        }
    }

    #[inline(always)]
    unsafe fn interleave(_side: Side, rows: [*const i8; 4]) -> __m256i {
        unsafe {
            let rows = [_mm_loadl_epi64(rows[0].cast()), _mm_loadl_epi64(rows[1].cast())];
            _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(rows[0], rows[1]))
        }
    }

    #[inline(always)]
    unsafe fn some(v: __m256i) -> u32 {
        unsafe {
            let zero = _mm256_cmpeq_epi32(v, Self::zero());
            !_mm256_movemask_ps(_mm256_castsi256_ps(zero)).cast_unsigned() & 0xff
        }
    }

    #[inline(always)]
    unsafe fn larger(best: __m256i, number: __m256i, v: __m256i, n: i32) -> (__m256i, __m256i) {
        unsafe {
            let larger = _mm256_cmpgt_epi32(v, best);
            (_mm256_max_epi32(best, v), _mm256_blendv_epi8(number, _mm256_set1_epi32(n), larger))
        }
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // the low byte is what is asked for
    unsafe fn store_bytes(to: *mut i8, v: __m256i, n: usize) {
        let mut lanes = [0i32; 8];
        unsafe {
            if n == 8 {
                let bytes = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1);
                let bytes = _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(bytes));
                let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4));
                return _mm_storel_epi64(to.cast(), _mm256_castsi256_si128(bytes));
            }
            Self::store(lanes.as_mut_ptr(), v);
            for (i, lane) in lanes.into_iter().take(n).enumerate() {
                to.add(i).write(lane as i8);
            }
        }
    }
}

/// How far to shift.
#[inline(always)]
pub unsafe fn count(n: u32) -> __m128i {
    unsafe { _mm_cvtsi32_si128(n.cast_signed()) }
}

/// All bits set in the first `n` of eight lanes.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()) }
}
