//! Groups: how mantissas lie in the 32-bit lanes that [`Lanes::dot`] multiplies, and the buffers they lie in.

use core::cell::RefCell;
use std::vec::Vec;

use super::lanes::{Lanes, PLACED};

/// Which of the two sides of [`Lanes::dot`] a group is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one without sign.
    Offset,
    /// The one with a sign.
    Plain,
}

/// `v` as a mantissa of `side`.
#[inline(always)]
pub fn value<L: Lanes>(side: Side, v: i8) -> L::Value {
    match side {
        Side::Offset => L::offset(v),
        Side::Plain => L::plain(v),
    }
}

/// Writes neighbours as they are grouped: lane i of `to` holds values GROUP · i and on.
///
/// # Safety
/// `to` has room for `v.len()` values.
#[inline(always)]
pub unsafe fn spread<L: Lanes>(side: Side, v: &[i8], to: *mut L::Value) {
    let (blocks, rest) = v.as_chunks::<64>();
    let (chunks, short) = rest.as_chunks::<16>();
    let (quads, few) = short.as_chunks::<4>();
    // SAFETY: room for `v.len()`, as the caller says; the last values of a longer run are written again with some before them.
    unsafe {
        let end = to.add(v.len());
        let to = blocks.iter().fold(to, |to, v| copy::<L, 64>(side, v, to));
        let to = chunks.iter().fold(to, |to, v| copy::<L, 16>(side, v, to));
        match (v.last_chunk::<16>(), v.last_chunk::<4>()) {
            _ if short.is_empty() => {}
            (Some(last), _) => _ = copy::<L, 16>(side, last, end.sub(16)),
            (None, Some(last)) => {
                quads.iter().fold(to, |to, v| copy::<L, 4>(side, v, to));
                copy::<L, 4>(side, last, end.sub(4));
            }
            (None, None) => _ = few.iter().fold(to, |to, &v| copy::<L, 1>(side, &[v], to)),
        }
    }
}

/// Rows as they lie among zeros.
#[derive(Clone, Copy)]
pub struct Rows {
    /// How many there are, and values of each.
    pub count: usize,
    pub len: usize,
    /// Zeros in front of each, and from row to row where they are written.
    pub at: usize,
    pub pitch: usize,
}

/// Writes the rows `v`; behind the last one up to [`PLACED`] values are written in vain.
///
/// # Safety
/// The machine has the instructions of `L`; `to` has room for `count` · `pitch` + PLACED values.
#[inline(always)]
pub unsafe fn spread_rows<L: Lanes>(side: Side, v: &[i8], rows: Rows, to: *mut L::Value) {
    let Rows { count, len, at, pitch } = rows;
    assert!(v.len() == count * len && at + len <= pitch, "rows do not fit");
    if len == pitch {
        // SAFETY: as the caller says.
        return unsafe { spread::<L>(side, v, to) };
    }
    // the ends of rows first: what they write of the rows below is written again
    for first in (0..pitch.div_ceil(PLACED)).rev().map(|block| block * PLACED) {
        let inside = |i: usize| i.saturating_sub(first).min(PLACED);
        let some = inside(at)..inside(at + len);
        // where value `first` would lie, which may be in front of the row
        let mut from = v.as_ptr().wrapping_add(first).wrapping_sub(at);
        let mut to = to.wrapping_add(first);
        for _ in 0..count {
            // SAFETY: those inside are of the row; the room is there, as the caller says.
            unsafe { L::place(side, from, some.clone(), to) };
            (from, to) = (from.wrapping_add(len), to.wrapping_add(pitch));
        }
    }
}

/// Writes `N` values, a number for which the compiler has vector instructions; gives the place behind them.
///
/// # Safety
/// `to` has room for them.
#[inline(always)]
unsafe fn copy<L: Lanes, const N: usize>(side: Side, v: &[i8; N], to: *mut L::Value) -> *mut L::Value {
    // SAFETY: as the caller says; an array of N values may be written where there is room for N, aligned or not.
    unsafe {
        to.cast::<[L::Value; N]>().write_unaligned(v.map(|v| value::<L>(side, v)));
        to.add(N)
    }
}

/// One group: the first GROUP values of `v`, as they lie in a lane.
#[inline(always)]
pub fn group<L: Lanes>(side: Side, v: &[i8]) -> i32 {
    let mut lane = 0i32;
    // SAFETY: GROUP values are a lane, by the trait's contract; no value is read that is not there.
    unsafe { spread::<L>(side, &v[..L::GROUP], (&raw mut lane).cast()) };
    lane
}

/// Words across rows: lane r of vector i, below WIDTH, is word i of row r; rows are `pitch` words apart.
///
/// # Safety
/// The machine has the instructions of `L`; of WIDTH rows WIDTH words may be read.
#[inline(always)]
pub unsafe fn across<L: Lanes>(rows: *const i32, pitch: usize) -> [L::Vector; 16] {
    // SAFETY: as the caller says.
    unsafe {
        let mut v = [L::zero(); 16];
        for (r, v) in v.iter_mut().take(L::WIDTH).enumerate() {
            *v = L::load(rows.add(r * pitch));
        }
        // every round moves one bit of the row's number below those of the word's
        for _ in 0..L::WIDTH.ilog2() {
            let rows = v;
            for i in 0..L::WIDTH / 2 {
                (v[2 * i], v[2 * i + 1]) = L::zip(rows[i], rows[i + L::WIDTH / 2]);
            }
        }
        v
    }
}

/// `n` words of a buffer, which grows to hold them; they hold anything. They start where a line of the cache does, so that no register
/// that is loaded from a multiple of its width lies in two.
pub fn room(buffer: &mut Vec<i32>, n: usize) -> &mut [i32] {
    const LINE: usize = 16;
    if buffer.len() < n + LINE {
        buffer.resize(n + LINE, 0);
    }
    let start = buffer.as_ptr().align_offset(4 * LINE).min(LINE);
    &mut buffer[start..][..n]
}

/// Calls `f` with `N` buffers of this thread, to be resized at will: kept from call to call, so that a step allocates nothing.
pub fn with_buffers<const N: usize, R>(f: impl FnOnce(&mut [Vec<i32>; N]) -> R) -> R {
    std::thread_local! {
        static BUFFERS: RefCell<Vec<Vec<i32>>> = const { RefCell::new(Vec::new()) };
    }
    // taken and given back: a kernel that calls another finds none and makes its own
    let mut buffers: [Vec<i32>; N] =
        BUFFERS.with_borrow_mut(|all| core::array::from_fn(|_| all.pop().unwrap_or_default()));
    let result = f(&mut buffers);
    BUFFERS.with_borrow_mut(|all| all.extend(buffers.into_iter().rev()));
    result
}
