//! The few vector operations that the kernels of hosts are written in.
//!
//! A register holds [`WIDTH`](Lanes::WIDTH) lanes of 32 bits: sums, or groups of [`GROUP`](Lanes::GROUP) neighbouring mantissas. [`dot`](Lanes::dot)
//! multiplies group with group and adds each group's products to a sum: exact, modulo 2^32 (N2). Where the instruction wants one
//! side without sign, that side holds mantissas + [`OFFSET`](Lanes::OFFSET), and Σ (x + offset) · y = Σ x · y + offset · Σ y: who prepares the
//! sums takes the second part off.

use core::ops::Range;

use super::groups::{Side, group, spread};

/// Mantissas that [`Lanes::place`] writes: those of few kernel rows need more than one.
pub const PLACED: usize = 32;

/// One machine's vector operations.
///
/// # Safety
/// Of every function: the machine has the instructions, which [`dispatch_on`](super::dispatch_on) sees to, and pointers are good for the lanes or groups told.
/// No pointer need be aligned. All are to be inlined into a function compiled for the machine.
pub trait Lanes: Copy {
    /// Lanes of 32 bits.
    type Vector: Copy;
    /// A mantissa as it lies in a group: u8 or i8 (four in a group) or i16 (two).
    type Value: Copy;
    /// Lanes of a register.
    const WIDTH: usize;
    /// Mantissas in a lane.
    const GROUP: usize;
    /// Added to the mantissas of the side without sign; 0 where both have one.
    const OFFSET: i32;
    /// Registers there are.
    const REGISTERS: usize;

    /// A mantissa of the side with the offset.
    fn offset(v: i8) -> Self::Value;
    /// A mantissa of the plain side.
    fn plain(v: i8) -> Self::Value;
    /// All lanes zero.
    unsafe fn zero() -> Self::Vector;
    /// The same in all lanes.
    unsafe fn splat(v: i32) -> Self::Vector;
    /// Lanes from memory.
    unsafe fn load(from: *const i32) -> Self::Vector;
    /// The first `n` lanes, 1 to WIDTH; the others are zero, and their memory is not touched.
    unsafe fn load_first(from: *const i32, n: usize) -> Self::Vector;
    /// Lanes to memory.
    unsafe fn store(to: *mut i32, v: Self::Vector);
    /// The first `n` lanes, 1 to WIDTH; other memory is not touched.
    unsafe fn store_first(to: *mut i32, v: Self::Vector, n: usize);
    /// WIDTH · GROUP mantissas from memory, as the side with the offset.
    unsafe fn load_offset(from: *const i8) -> Self::Vector;
    /// Writes [`PLACED`] mantissas of `side`: from there those of `some`, zeros for the others, whose memory is not touched.
    #[inline(always)]
    unsafe fn place(side: Side, from: *const i8, some: Range<usize>, to: *mut Self::Value) {
        unsafe {
            if some.len() < PLACED {
                let zeros = Self::splat(group::<Self>(side, &[0; 4]));
                for i in (0..PLACED).step_by(Self::WIDTH * Self::GROUP) {
                    Self::store(to.add(i).cast(), zeros);
                }
            }
            let values = core::slice::from_raw_parts(from.wrapping_add(some.start), some.len());
            spread::<Self>(side, values, to.add(some.start));
        }
    }
    /// Lane by lane, modulo 2^32.
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `sums` + Σ offset · plain of every group.
    unsafe fn dot(sums: Self::Vector, offset: Self::Vector, plain: Self::Vector) -> Self::Vector;
    /// The sums of all lanes of each, modulo 2^32.
    unsafe fn sums(v: [Self::Vector; 4]) -> [i32; 4];
    /// Lane by lane, the low 32 bits.
    unsafe fn multiply(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The smaller one, lane by lane.
    unsafe fn min(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The larger one, lane by lane.
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a − b, lane by lane, modulo 2^32.
    unsafe fn subtract(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// v >> n with its sign, 0 ≤ n ≤ 31.
    unsafe fn shift(v: Self::Vector, n: u32) -> Self::Vector;
    /// The upper `n` bits, 0 ≤ n ≤ 31: v >> (32 − n) without sign.
    unsafe fn upper(v: Self::Vector, n: u32) -> Self::Vector;
    /// The first `n` bytes, 1 to WIDTH, each a lane; the other lanes are zero, and their memory is not touched.
    unsafe fn load_bytes(from: *const i8, n: usize) -> Self::Vector;
    /// Lane i: value i of GROUP rows as a group of `side`. WIDTH bytes of each of the first GROUP rows are read.
    unsafe fn interleave(side: Side, rows: [*const i8; 4]) -> Self::Vector;
    /// Writes `first` + i for every i of `n`, 1 to 16, with from\[i\] ≠ 0, in order; gives how many. `to` has room for sixteen.
    #[inline(always)]
    unsafe fn nonzero(from: *const i8, n: usize, first: i32, to: *mut i32) -> usize {
        let (mut count, mut at) = (0, first);
        for i in 0..n {
            unsafe {
                to.add(count).write(at);
                count += usize::from(*from.add(i) != 0);
            }
            at += 1;
        }
        count
    }
    /// Writes lane i of `a` and of `b` side by side for every i where that of `b` is not zero, in order; gives how many. `to` has room for
    /// two registers.
    #[inline(always)]
    unsafe fn pairs(a: Self::Vector, b: Self::Vector, to: *mut i32) -> usize {
        let (mut first, mut second, mut count) = ([0; 16], [0; 16], 0);
        // SAFETY: no register has more lanes.
        unsafe {
            Self::store(first.as_mut_ptr(), a);
            Self::store(second.as_mut_ptr(), b);
            for i in 0..Self::WIDTH {
                to.add(2 * count).write(first[i]);
                to.add(2 * count + 1).write(second[i]);
                count += usize::from(second[i] != 0);
            }
        }
        count
    }
    /// Bit i tells that lane i is not zero.
    #[inline(always)]
    unsafe fn some(v: Self::Vector) -> u32 {
        let mut lanes = [0; 16];
        // SAFETY: no register has more lanes.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        (0..Self::WIDTH).fold(0, |some, i| some | u32::from(lanes[i] != 0) << i)
    }
    /// Errors behind a row of 2×2 windows, `step` channels, of channel `o` alone: to\[32 · a + 2 · j + b\] is that of window j if its
    /// index is 2 · a + b. Zeros elsewhere. Not more than 16 windows and 128 errors; `to` has room for 64.
    #[inline(always)]
    unsafe fn unpool(dy: &[i8], index: &[i8], o: usize, step: usize, to: *mut i8) {
        unsafe {
            to.write_bytes(0, 64);
            for (j, (&d, &p)) in dy.iter().zip(index).skip(o).step_by(step).enumerate() {
                let p = usize::from(p.cast_unsigned());
                if p < 4 {
                    to.add(32 * (p / 2) + 2 * j + p % 2).write(d);
                }
            }
        }
    }
    /// The first `n` lanes, 1 to WIDTH; the others become zero.
    unsafe fn first(v: Self::Vector, n: usize) -> Self::Vector;
    /// Lanes of both in turn, a0 b0 a1 b1 and so on: the first WIDTH of them, and the others.
    unsafe fn zip(a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector);
    /// (max(best, v), n where v > best, else number), lane by lane.
    unsafe fn larger(best: Self::Vector, number: Self::Vector, v: Self::Vector, n: i32)
    -> (Self::Vector, Self::Vector);
    /// The low bytes of the first `n` lanes, 1 to WIDTH.
    unsafe fn store_bytes(to: *mut i8, v: Self::Vector, n: usize);
}

/// A kernel: its arguments, and what it does with them on any machine.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Runs it; `#[inline(always)]`, as is all it calls.
    ///
    /// # Safety
    /// The machine has the instructions of `L`.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}

#[cfg(test)]
mod tests;
