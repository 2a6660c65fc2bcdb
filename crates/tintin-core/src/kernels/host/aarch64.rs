//! The lanes of aarch64: NEON, which every one has, and its dot products of bytes, which are an option (ARMv8.2 "dotprod").
//!
//! Both multiply groups of four bytes, both sides with their sign, so that groups lie alike and take half the memory of pairs of i16.

use core::arch::aarch64::*;
use core::arch::asm;

use super::groups::Side;
use super::lanes::{Kernel, Lanes};

/// Four lanes, groups of four, by products of 16 bits that are added in pairs: Cortex-A53, A72.
#[derive(Clone, Copy)]
pub struct Neon;

/// Four lanes, groups of four, an instruction for all of it: Cortex-A76, Neoverse N1, Apple's M1 and what followed.
#[derive(Clone, Copy)]
pub struct NeonDotprod;

/// Needs nothing: NEON belongs to the architecture.
pub fn neon<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: `Neon` has the instructions that this function is compiled for.
    unsafe { kernel.run::<Neon>() }
}

/// # Safety
/// The machine has the dot products.
#[target_feature(enable = "dotprod")]
pub unsafe fn neon_dotprod<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as the caller says.
    unsafe { kernel.run::<NeonDotprod>() }
}

// SAFETY of all blocks: the trait's contract: the instructions are there, pointers are good for what is read or written.

/// The lanes of NEON, but for how groups are multiplied.
macro_rules! neon {
    ($lanes:ident, $registers:literal, $dot:expr) => {
        impl Lanes for $lanes {
            type Vector = int32x4_t;
            type Value = i8;
            const WIDTH: usize = 4;
            const GROUP: usize = 4;
            const OFFSET: i32 = 0;
            const REGISTERS: usize = $registers;

            #[inline(always)]
            fn offset(v: i8) -> i8 {
                v
            }

            #[inline(always)]
            fn plain(v: i8) -> i8 {
                v
            }

            #[inline(always)]
            unsafe fn zero() -> int32x4_t {
                unsafe { vdupq_n_s32(0) }
            }

            #[inline(always)]
            unsafe fn splat(v: i32) -> int32x4_t {
                unsafe { vdupq_n_s32(v) }
            }

            #[inline(always)]
            unsafe fn load(from: *const i32) -> int32x4_t {
                unsafe { vld1q_s32(from) }
            }

            #[inline(always)]
            unsafe fn load_first(from: *const i32, n: usize) -> int32x4_t {
                unsafe {
                    if n == 4 {
                        return Self::load(from);
                    }
                    // no masked load here: one lane, or two, or both
                    let pair = if n == 1 { vld1_lane_s32::<0>(from, vdup_n_s32(0)) } else { vld1_s32(from) };
                    let rest = if n == 3 { vld1_lane_s32::<0>(from.add(2), vdup_n_s32(0)) } else { vdup_n_s32(0) };
                    vcombine_s32(pair, rest)
                }
            }

            #[inline(always)]
            unsafe fn store(to: *mut i32, v: int32x4_t) {
                unsafe { vst1q_s32(to, v) }
            }

            #[inline(always)]
            unsafe fn store_first(to: *mut i32, v: int32x4_t, n: usize) {
                unsafe {
                    match n {
                        4 => Self::store(to, v),
                        1 => vst1q_lane_s32::<0>(to, v),
                        _ => vst1_s32(to, vget_low_s32(v)),
                    }
                    if n == 3 {
                        vst1q_lane_s32::<2>(to.add(2), v);
                    }
                }
            }

            #[inline(always)]
            unsafe fn load_offset(from: *const i8) -> int32x4_t {
                unsafe { vreinterpretq_s32_s8(vld1q_s8(from)) }
            }

            #[inline(always)]
            unsafe fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t {
                unsafe { vaddq_s32(a, b) }
            }

            #[inline(always)]
            unsafe fn dot(sums: int32x4_t, offset: int32x4_t, plain: int32x4_t) -> int32x4_t {
                unsafe { $dot(sums, offset, plain) }
            }

            #[inline(always)]
            unsafe fn interleave(_side: Side, rows: [*const i8; 4]) -> int32x4_t {
                unsafe { interleave(rows) }
            }

            #[inline(always)]
            unsafe fn multiply(a: int32x4_t, b: int32x4_t) -> int32x4_t {
                unsafe { vmulq_s32(a, b) }
            }

            #[inline(always)]
            unsafe fn min(a: int32x4_t, b: int32x4_t) -> int32x4_t {
                unsafe { vminq_s32(a, b) }
            }

            #[inline(always)]
            unsafe fn max(a: int32x4_t, b: int32x4_t) -> int32x4_t {
                unsafe { vmaxq_s32(a, b) }
            }

            #[inline(always)]
            unsafe fn subtract(a: int32x4_t, b: int32x4_t) -> int32x4_t {
                unsafe { vsubq_s32(a, b) }
            }

            #[inline(always)]
            unsafe fn shift(v: int32x4_t, n: u32) -> int32x4_t {
                unsafe { vshlq_s32(v, vdupq_n_s32(-n.cast_signed())) }
            }

            #[inline(always)]
            unsafe fn upper(v: int32x4_t, n: u32) -> int32x4_t {
                // to the right by 32 gives 0
                let right = n.cast_signed() - 32;
                unsafe { vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), vdupq_n_s32(right))) }
            }

            #[inline(always)]
            unsafe fn load_bytes(from: *const i8, n: usize) -> int32x4_t {
                unsafe {
                    let mut bytes = [0; 4];
                    if n == 4 {
                        bytes = from.cast::<[i8; 4]>().read();
                    } else {
                        for (i, byte) in bytes.iter_mut().enumerate().take(n) {
                            *byte = *from.add(i);
                        }
                    }
                    let word = i32::from_ne_bytes(bytes.map(i8::cast_unsigned));
                    vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word)))))
                }
            }

            #[inline(always)]
            unsafe fn first(v: int32x4_t, n: usize) -> int32x4_t {
                static MASKS: [i32; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];
                unsafe { vandq_s32(v, vld1q_s32(MASKS.as_ptr().add(4 - n))) }
            }

            #[inline(always)]
            unsafe fn zip(a: int32x4_t, b: int32x4_t) -> (int32x4_t, int32x4_t) {
                unsafe { (vzip1q_s32(a, b), vzip2q_s32(a, b)) }
            }

            #[inline(always)]
            unsafe fn sums(v: [int32x4_t; 4]) -> [i32; 4] {
                let mut sums = [0; 4];
                unsafe { vst1q_s32(sums.as_mut_ptr(), vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]))) };
                sums
            }

            #[inline(always)]
            unsafe fn some(v: int32x4_t) -> u32 {
                const BITS: [u32; 4] = [1, 2, 4, 8];
                unsafe { vaddvq_u32(vandq_u32(vtstq_s32(v, v), vld1q_u32(BITS.as_ptr()))) }
            }

            #[inline(always)]
            unsafe fn larger(best: int32x4_t, number: int32x4_t, v: int32x4_t, n: i32) -> (int32x4_t, int32x4_t) {
                unsafe { (vmaxq_s32(best, v), vbslq_s32(vcgtq_s32(v, best), vdupq_n_s32(n), number)) }
            }

            #[inline(always)]
            unsafe fn store_bytes(to: *mut i8, v: int32x4_t, n: usize) {
                unsafe {
                    let halves = vmovn_s32(v);
                    let bytes = vreinterpret_s32_s8(vmovn_s16(vcombine_s16(halves, halves)));
                    let bytes = vget_lane_s32::<0>(bytes).to_ne_bytes();
                    if n == 4 {
                        to.cast::<[u8; 4]>().write(bytes);
                    } else {
                        for (i, byte) in bytes.into_iter().take(n).enumerate() {
                            to.add(i).write(byte.cast_signed());
                        }
                    }
                }
            }
        }
    };
}

/// Products of 16 bits, two added to one of 16 bits, two of these to the sum: a pair is at most 2 · 128 · 127 < 2^15 in magnitude,
/// since at most one side has −128 (N1: none is stored).
#[inline(always)]
unsafe fn multiply_and_add(sums: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe {
        let (a, b) = (vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
        let (low, high) = (vmull_s8(vget_low_s8(a), vget_low_s8(b)), products_high(a, b));
        vpadalq_s16(sums, vpaddq_s16(low, high))
    }
}

/// The intrinsic, `vmull_high_s8`, becomes two instructions where the compiler sees that one side is the same in all lanes, and needs a
/// register more for each of the other side.
#[inline(always)]
unsafe fn products_high(a: int8x16_t, b: int8x16_t) -> int16x8_t {
    let products: int16x8_t;
    unsafe {
        asm!(
            "smull2 {products:v}.8h, {a:v}.16b, {b:v}.16b",
            products = lateout(vreg) products,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    products
}

/// The instruction itself: its intrinsic is not stable yet.
#[inline(always)]
unsafe fn dot_product(mut sums: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Four rows of four bytes, transposed: bytes of two rows in turn, then pairs of those.
#[inline(always)]
unsafe fn interleave(rows: [*const i8; 4]) -> int32x4_t {
    unsafe {
        // SAFETY: four bytes of each row may be read.
        let word = |row: *const i8| vset_lane_s32::<0>(row.cast::<i32>().read_unaligned(), vdup_n_s32(0));
        let [a, b, c, d] = rows.map(|row| vreinterpret_s8_s32(word(row)));
        let (front, back) = (vreinterpret_s16_s8(vzip1_s8(a, b)), vreinterpret_s16_s8(vzip1_s8(c, d)));
        let (low, high) = (vzip1_s16(front, back), vzip2_s16(front, back));
        vreinterpretq_s32_s16(vcombine_s16(low, high))
    }
}

// of 32, products in flight take eight
neon!(Neon, 24, multiply_and_add);
neon!(NeonDotprod, 32, dot_product);
