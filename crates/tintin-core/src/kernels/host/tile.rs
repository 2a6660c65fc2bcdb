//! The inner loops of the backward products: lanes are inputs or weights of the side with the offset, errors are broadcast to them.
//!
//! ```text
//! dense:   sums[n][v] += Σ_t  b[t][v] · a[n][t]                      N rows of errors share a load of b
//! sparse:  sums[v]    += Σ_tap b[at + WIDTH · v] · errors          only groups with an error in them
//! ```
//! Whoever calls takes the offset off: see [`correction`].

use super::groups::{Side, value};
use super::lanes::Lanes;

/// Where the values start that a group of errors weighs, in lanes, and the group.
pub type Tap = [i32; 2];

/// The group of the error `d` alone, at place `g`.
#[inline(always)]
pub fn single<L: Lanes>(g: usize, d: i8) -> i32 {
    let bits = 32 / L::GROUP;
    let value = i32::from(d).cast_unsigned() & (u32::MAX >> (32 - bits));
    (value << (g * bits)).cast_signed()
}

/// What is to be added to sums over errors that add up to `total`, so that the offset does not count.
#[inline(always)]
pub fn correction<L: Lanes>(total: i32) -> i32 {
    total.wrapping_mul(-L::OFFSET)
}

/// A group of zeros of the side with the offset.
#[inline(always)]
pub fn zeros<L: Lanes>() -> i32 {
    let group = [value::<L>(Side::Offset, 0); 4];
    // SAFETY: the first GROUP values fill a lane of 32 bits.
    unsafe { group.as_ptr().cast::<i32>().read_unaligned() }
}

/// `terms` products of dense groups: term t of row n is `a[n]` + t · `a_step`, of the lanes `b` + t · `b_step`.
///
/// # Safety
/// All of those groups, and V registers from each of those lanes on, can be read.
#[inline(always)]
pub unsafe fn dense<L: Lanes, const N: usize, const V: usize>(
    sums: &mut [[L::Vector; V]; N],
    a: [*const i32; N],
    a_step: usize,
    b: *const i32,
    b_step: usize,
    terms: usize,
) {
    for t in 0..terms {
        // SAFETY: as the caller says.
        unsafe {
            let b = b.add(t * b_step);
            let mut values = [L::zero(); V];
            for (v, values) in values.iter_mut().enumerate() {
                *values = L::load(b.add(v * L::WIDTH));
            }
            for n in 0..N {
                let errors = L::splat(a[n].add(t * a_step).read_unaligned());
                for v in 0..V {
                    sums[n][v] = L::dot(sums[n][v], values[v], errors);
                }
            }
        }
    }
}

/// Products of single groups.
///
/// # Safety
/// V registers from `b` + `at` on can be read for every tap.
#[inline(always)]
pub unsafe fn sparse<L: Lanes, const V: usize>(sums: &mut [L::Vector; V], taps: &[Tap], b: *const i32) {
    // SAFETY: as the caller says.
    unsafe {
        let (fours, mut rest) = taps.as_chunks::<4>();
        if V <= 4 {
            // few sums would wait for each other
            let mut others = [[L::zero(); V]; 3];
            for [one, two, three, four] in fours {
                tap::<L, V>(sums, one, b);
                tap::<L, V>(&mut others[0], two, b);
                tap::<L, V>(&mut others[1], three, b);
                tap::<L, V>(&mut others[2], four, b);
            }
            if !fours.is_empty() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = L::add(L::add(*sum, others[0][v]), L::add(others[1][v], others[2][v]));
                }
            }
        } else {
            rest = taps;
        }
        for one in rest {
            tap::<L, V>(sums, one, b);
        }
    }
}

/// Products of one group.
///
/// # Safety
/// V registers from `b` + the tap's place on can be read.
#[inline(always)]
pub unsafe fn tap<L: Lanes, const V: usize>(sums: &mut [L::Vector; V], &[at, errors]: &Tap, b: *const i32) {
    // SAFETY: as the caller says.
    unsafe {
        let (b, errors) = (b.add(at.cast_unsigned() as usize), L::splat(errors));
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = L::dot(*sum, L::load(b.add(v * L::WIDTH)), errors);
        }
    }
}

/// Most bytes of a row that [`readable`] copies: those of the registers of a block.
pub const ROW: usize = MOST * 16;

/// Rows that [`Lanes::interleave`] reads `n` bytes of, at most [`ROW`]: themselves, or copies if memory ends at `end`.
///
/// # Safety
/// Rows are in ascending order, and what lies before `end` can be read.
#[inline(always)]
pub unsafe fn readable<L: Lanes>(
    rows: [*const i8; 4],
    n: usize,
    end: *const i8,
    copies: &mut [[i8; ROW]; 4],
) -> [*const i8; 4] {
    if rows[L::GROUP - 1].wrapping_add(n) <= end {
        return rows;
    }
    let mut all = rows;
    for (row, copy) in all.iter_mut().zip(copies).take(L::GROUP) {
        // SAFETY: bytes up to `end`, as the caller says, of which there may be none.
        unsafe {
            let there = end.addr().saturating_sub(row.addr()).min(n);
            core::ptr::copy_nonoverlapping(*row, copy.as_mut_ptr(), there);
        }
        *row = copy.as_ptr();
    }
    all
}

/// All pointers `by` values further on.
#[inline(always)]
pub fn ahead(mut rows: [*const i8; 4], by: usize) -> [*const i8; 4] {
    for row in &mut rows {
        *row = row.wrapping_add(by);
    }
    rows
}

/// Writes the numbers of all errors of `dy` that are not zero; gives how many.
///
/// # Panics
/// If `to` has not room for all and sixteen more.
#[inline(always)]
pub fn nonzero<L: Lanes>(dy: &[i8], to: &mut [i32]) -> usize {
    assert!(to.len() >= dy.len() + 16);
    let mut count = 0;
    let mut at = 0;
    while at < dy.len() {
        // SAFETY: no more than are left; at most `at` have been written before.
        count +=
            unsafe { L::nonzero(dy.as_ptr().add(at), (dy.len() - at).min(16), word(at), to.as_mut_ptr().add(count)) };
        at += 16;
    }
    count
}

/// How many errors are not zero.
#[inline(always)]
pub fn count_nonzero(dy: &[i8]) -> usize {
    count_every(1, dy)
}

/// About how many errors are not zero, from every third block of them where there are many.
#[inline(always)]
pub fn about_nonzero(dy: &[i8]) -> usize {
    // three has no factor in common with the usual numbers of channels
    count_every(if dy.len() < 1024 { 1 } else { 3 }, dy)
}

/// So many times what is not zero in one block of so many: counted in vectors of bytes, which those of a block do not fill.
#[inline(always)]
fn count_every(step: usize, dy: &[i8]) -> usize {
    let count = |block: &[i8]| usize::from(block.iter().fold(0u8, |count, &d| count + u8::from(d != 0)));
    step * dy.chunks(128).step_by(step).map(count).sum::<usize>()
}

/// A length as a word.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // of a buffer of this module, below 2^31
pub fn word(n: usize) -> i32 {
    n as i32
}

/// to\[..n\] += sums, for 1 to V registers' lanes.
///
/// # Safety
/// `to` has `n` lanes, 1 ≤ n ≤ V · WIDTH.
#[inline(always)]
pub unsafe fn add_to<L: Lanes, const V: usize>(to: *mut i32, n: usize, sums: &[L::Vector; V]) {
    // SAFETY: as the caller says.
    unsafe {
        for (v, &sums) in sums.iter().enumerate() {
            let (at, rest) = (to.wrapping_add(v * L::WIDTH), n.saturating_sub(v * L::WIDTH));
            if rest >= L::WIDTH {
                L::store(at, L::add(L::load(at), sums));
            } else if rest > 0 {
                L::store_first(at, L::add(L::load_first(at, rest), sums), rest);
            }
        }
    }
}

/// `$call` with the constant `$name` = `$registers`, which is at most the number in front.
macro_rules! with_registers {
    ([$($n:literal)* | $last:literal], $registers:expr, $name:ident => $call:expr) => {
        match $registers {
            $($n => { const $name: usize = $n; $call })*
            _ => { const $name: usize = $last; $call }
        }
    };
    (5, $($call:tt)*) => { with_registers!([1 2 3 4 | 5], $($call)*) };
    (6, $($call:tt)*) => { with_registers!([1 2 3 4 5 | 6], $($call)*) };
    (12, $($call:tt)*) => { with_registers!([1 2 3 4 5 6 7 8 9 10 11 | 12], $($call)*) };
}
pub(super) use with_registers;

/// Most registers of a block of [`sparse`]: one more would not help, and with twice as many there would be none left for the rest.
pub const MOST: usize = 12;

/// `count` registers in blocks of nearly the same size, at most `most`: that size.
#[inline(always)]
pub fn balanced(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}
