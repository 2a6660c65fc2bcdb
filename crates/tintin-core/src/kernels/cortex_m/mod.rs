//! Cortex-M: the inner loops in assembly, one file for each of three classes of cores. `portable` says what they compute.
#![allow(unsafe_code)]

#[cfg(tintin_kernels = "dsp")]
mod slide;

mod taps;

use super::{BLOCK, LANES, portable};
use crate::rng::Draws;
use crate::shape::Shape;

// The assembler is not told the core that the compiler is told, hence the first line.
#[cfg(tintin_kernels = "dsp")]
core::arch::global_asm!(
    env!("TINTIN_CPU"),
    include_str!("dsp.s"),
    include_str!("slide.s"),
    include_str!("taps.s"),
    include_str!("v7.s"),
    options(raw)
);
#[cfg(tintin_kernels = "v7m")]
core::arch::global_asm!(include_str!("v7m.s"), include_str!("v7.s"), options(raw));
#[cfg(tintin_kernels = "v6m")]
core::arch::global_asm!(include_str!("v6m.s"), options(raw));

// SAFETY of all: the assembly keeps the procedure call standard, uses no stack but its own, and touches what its contract tells.
unsafe extern "C" {
    fn tintin_multiply(quad: *const i32, w: *const i8, acc: *mut i32, rows: usize, k: usize);
    fn tintin_axpy(a: i32, x: *const i8, acc: *mut i32, len: usize, rows: usize, x_step: usize, acc_step_bytes: usize);
    fn tintin_pool(
        x: *const i32,
        y: *mut i32,
        winners: *mut i8,
        channels: usize,
        windows: usize,
        step_bytes: usize,
        row_bytes: usize,
    );
    fn tintin_peak(sums: *const i32, n: usize) -> u32;
    fn tintin_narrow(sums: *const i32, q: *mut i8, n: usize, shift: u32);
    fn tintin_outer(list: *const Entry, end: *const Entry, w: *mut i8, c: i32, draw: u32, shift: u32);
    fn tintin_descend(
        w: *mut i8,
        sums: *const i32,
        m: i32,
        n: usize,
        draw: u32,
        multiplier: u32,
        increment: u32,
        shift: u32,
    );
}

/// See [`portable::multiply`].
pub fn multiply(quad: &[i32], w: &[i8], k: usize, acc: &mut [i32]) {
    let rows = w.len() / k;
    if rows == 0 {
        return;
    }
    assert!(k > 0 && quad.len() >= LANES * k.next_multiple_of(4));
    if acc.len() == LANES * rows {
        // SAFETY: four patches and `rows` rows of `k` values, and a sum for each pair.
        unsafe { tintin_multiply(quad.as_ptr(), w.as_ptr(), acc.as_mut_ptr(), rows, k) };
        return;
    }
    for (o, w) in w.chunks_exact(k).enumerate() {
        let mut sums = [0; LANES];
        // SAFETY: four patches, one row and four sums.
        unsafe { tintin_multiply(quad.as_ptr(), w.as_ptr(), sums.as_mut_ptr(), 1, k) };
        for (acc, sum) in acc.chunks_exact_mut(rows).zip(sums) {
            acc[o] = acc[o].wrapping_add(sum);
        }
    }
}

/// See [`portable::pool_2x2`].
pub fn pool_2x2(xs: Shape, step: usize, x: &[i32], y: &mut [i32], winners: &mut [i8]) {
    let (w, c) = (xs.w as usize, xs.c as usize);
    let windows = y.len() / c;
    if windows > 0 {
        assert!((windows - 1) * step + (w + 2) * c <= x.len() && y.len() <= winners.len());
        // SAFETY: the last window lies in x, and every window has a place in y and among the winners.
        unsafe { tintin_pool(x.as_ptr(), y.as_mut_ptr(), winners.as_mut_ptr(), c, windows, 4 * step, 4 * w * c) };
    }
}

/// See [`portable::peak`].
pub fn peak(v: &[i32]) -> u32 {
    if v.is_empty() {
        return 0;
    }
    // SAFETY: reads the slice.
    unsafe { tintin_peak(v.as_ptr(), v.len()) }
}

/// See [`portable::relu`].
#[cfg(not(tintin_kernels = "v6m"))]
pub fn relu(v: &mut [i32]) -> u32 {
    unsafe extern "C" {
        fn tintin_relu(v: *mut i32, n: usize) -> u32;
    }
    // SAFETY: changes the slice.
    unsafe { tintin_relu(v.as_mut_ptr(), v.len()) }
}

/// See [`portable::mask`].
#[cfg(tintin_kernels = "dsp")]
pub fn mask(v: &mut [i32], x: &[i8]) -> u32 {
    unsafe extern "C" {
        fn tintin_mask(v: *mut i32, x: *const i8, n: usize) -> u32;
    }
    assert!(x.len() == v.len());
    // SAFETY: changes the first slice and reads the second, which is as long.
    unsafe { tintin_mask(v.as_mut_ptr(), x.as_ptr(), v.len()) }
}

/// See [`portable::narrow`].
pub fn narrow(sums: &[i32], shift: u32, q: &mut [i8]) {
    let n = sums.len().min(q.len());
    if n > 0 {
        // SAFETY: both have that many values.
        unsafe { tintin_narrow(sums.as_ptr(), q.as_mut_ptr(), n, shift) };
    }
}

/// See [`portable::descend`].
pub fn descend(w: &mut [i8], sums: &[i32], m: i32, shift: u32, draws: Draws) {
    let n = w.len().min(sums.len());
    if n > 0 {
        let (draw, multiplier, increment) = draws.walk();
        // SAFETY: both have that many values.
        unsafe { tintin_descend(w.as_mut_ptr(), sums.as_ptr(), m, n, draw, multiplier, increment, shift) };
    }
}

/// A non-zero input of an outer product: a and c of its draw, itself, its place; with DSP a 0 that becomes the step.
#[cfg(tintin_kernels = "dsp")]
type Entry = [i32; 5];
#[cfg(not(tintin_kernels = "dsp"))]
type Entry = [i32; 4];

/// See [`portable::Outer`]. Holds the non-zero inputs alone: with each what makes the row's key its draw, which is a·key + c.
pub struct Outer<'a> {
    list: &'a [Entry],
    x: &'a [i8],
    from: usize,
    end: usize,
}

impl<'a> Outer<'a> {
    /// See [`portable::Outer::new`].
    #[allow(clippy::cast_possible_truncation)] // a place in a sample of at most 2^24 values
    pub fn new(words: &'a mut [i32], x: &'a [i8], from: usize) -> Self {
        // pairs of entries, for which the plan has room for one at least
        let list: &mut [Entry] = words.as_chunks_mut().0;
        let pairs = list.len() & !1;
        let list = &mut list[..pairs];
        debug_assert!(pairs > 0);
        let (_, multiplier, increment) = Draws::at(0).walk();
        let (mut a, mut c, mut n, mut end) = (1u32, 0u32, 0usize, x.len());
        for (i, &x) in x.iter().enumerate() {
            a = a.wrapping_mul(multiplier);
            c = c.wrapping_mul(multiplier).wrapping_add(increment);
            if x == 0 || i < from {
                continue;
            }
            let Some(entry) = list.get_mut(n) else {
                end = i;
                break;
            };
            let (a, c, x, i) = (a.cast_signed(), c.cast_signed(), i32::from(x), i as i32);
            #[cfg(tintin_kernels = "dsp")]
            {
                *entry = [a, c, 0, x, i];
            }
            #[cfg(not(tintin_kernels = "dsp"))]
            {
                *entry = [a, c, x, i];
            }
            n += 1;
        }
        if n % 2 == 1 {
            list[n] = Entry::default();
            n += 1;
        }
        Self { list: &list[..n], x, from, end }
    }

    /// All inputs.
    #[inline(always)]
    pub fn x(&self) -> &'a [i8] {
        self.x
    }

    /// First input of the part.
    #[inline(always)]
    pub fn from(&self) -> usize {
        self.from
    }

    /// First input behind the part.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.end
    }

    /// See [`portable::Outer::descend`].
    pub fn descend(&self, w: &mut [i8], c: i32, shift: u32, draws: Draws) {
        assert!(w.len() >= self.end);
        #[cfg(tintin_kernels = "dsp")]
        let c = {
            // the product is formed in the upper word, if c · 2^(32 − shift) fits one
            if c.unsigned_abs() >> (shift - 1) != 0 {
                let (w, x) = (&mut w[self.from..self.end], &self.x[self.from..self.end]);
                portable::Outer::new(&mut [], x, 0).descend(w, c, shift, draws.skip(self.from));
                return;
            }
            c << (32 - shift)
        };
        let ends = self.list.as_ptr_range();
        if !self.list.is_empty() {
            // SAFETY: an even number of entries; their places lie below the end of the part, with which w has been compared.
            unsafe { tintin_outer(ends.start, ends.end, w.as_mut_ptr(), c, draws.walk().0, shift) };
        }
    }
}

/// See [`portable::axpy`].
pub fn axpy(a: i8, x: &[i8], from: usize, acc: &mut [i32], to: usize, len: usize, rows: usize) {
    if len == 0 || rows == 0 {
        return;
    }
    assert!((rows - 1) * from + len <= x.len() && (rows - 1) * to + len <= acc.len());
    // SAFETY: the last row of both lies inside, as has just been asserted.
    unsafe { tintin_axpy(i32::from(a), x.as_ptr(), acc.as_mut_ptr(), len, rows, from, 4 * to) };
}

/// See [`portable::matmul`]. `workspace` is that of [`matmul_words`](super::matmul_words).
pub fn matmul(x: &[i8], w: &[i8], k: usize, acc: &mut [i32], workspace: &mut [i32]) {
    let outputs = w.len() / k;
    assert!(workspace.len() >= 2 * k.next_multiple_of(4).min(BLOCK as usize));
    let blocks = outputs / 4;
    for (x, acc) in x.chunks_exact(k).zip(acc.chunks_exact_mut(outputs)) {
        let mut done = 0;
        if blocks > 0 {
            for x in x.chunks(BLOCK as usize) {
                done += rows(x, &w[done..], k, &mut acc[..4 * blocks], workspace);
            }
        }
        // rows in no block have all values left, the others the last few
        let first = if done < k { 0 } else { 4 * blocks };
        for (o, acc) in acc.iter_mut().enumerate().skip(first) {
            let from = if o < 4 * blocks { done } else { 0 };
            *acc = acc.wrapping_add(portable::dot(&x[from..], &w[o * k + from..][..k - from]));
        }
    }
}

#[cfg(tintin_kernels = "dsp")]
use dsp::rows;
#[cfg(tintin_kernels = "dsp")]
pub use dsp::{clear, gather, put, seal};
#[cfg(not(tintin_kernels = "dsp"))]
use plain::rows;
#[cfg(not(tintin_kernels = "dsp"))]
pub use plain::{clear, gather, put, seal};
#[cfg(not(tintin_kernels = "dsp"))]
pub use portable::mask;
#[cfg(tintin_kernels = "v6m")]
pub use portable::relu;
#[cfg(tintin_kernels = "dsp")]
pub use slide::conv2d;
pub(super) use taps::{COLUMNS, columns, list};

/// Two products an instruction.
#[cfg(tintin_kernels = "dsp")]
mod dsp {
    use super::LANES;

    unsafe extern "C" {
        fn tintin_seal(quad: *mut i32, patches: *const i8, k: usize);
        pub(super) fn tintin_put(
            to: *mut i8,
            from: *const i8,
            len: usize,
            runs: usize,
            to_step: usize,
            from_step: usize,
        );
        fn tintin_copy(
            to: *mut i8,
            places: *const *const i8,
            pairs: usize,
            runs: usize,
            to_step: usize,
            from_step: usize,
            patch_step: usize,
        );
        fn tintin_widen(to: *mut i32, x: *const i8, groups: usize);
        fn tintin_rows(x: *const i32, w: *const i8, acc: *mut i32, blocks: usize, groups: usize, k: usize);
    }

    /// The bytes of a quad before it is sealed: four patches one behind the other, and room behind them. `k` is a multiple of four.
    fn bytes(quad: &mut [i32], k: usize) -> &mut [i8] {
        let words = &mut quad[LANES * k / 2..LANES * k];
        // SAFETY: every bit pattern is an i8, which needs no alignment; the length is that of the words in bytes.
        unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
    }

    /// See [`portable::put`].
    #[allow(clippy::too_many_arguments)]
    pub fn put(
        quad: &mut [i32],
        k: usize,
        lane: usize,
        at: usize,
        to: usize,
        x: &[i8],
        from: usize,
        len: usize,
        runs: usize,
    ) {
        if len == 0 || runs == 0 {
            return;
        }
        let k = k.next_multiple_of(4);
        let patch = &mut bytes(quad, k)[lane * k + at..];
        assert!((runs - 1) * to + len <= patch.len() && (runs - 1) * from + len <= x.len());
        // SAFETY: the last run lies inside on both sides, as has just been asserted.
        unsafe { tintin_put(patch.as_mut_ptr(), x.as_ptr(), len, runs, to, from) };
    }

    /// See [`portable::clear`].
    pub fn clear(quad: &mut [i32], k: usize, lane: usize) {
        let k = k.next_multiple_of(4);
        bytes(quad, k)[lane * k..][..k].fill(0);
    }

    /// See [`portable::seal`].
    pub fn seal(quad: &mut [i32], k: usize) {
        let k = k.next_multiple_of(4);
        assert!(quad.len() >= LANES * k);
        let quad = quad.as_mut_ptr();
        // SAFETY: the patches fill the third quarter of the quad, the result its first half.
        unsafe { tintin_seal(quad, quad.add(2 * k).cast(), k) };
    }

    /// See [`portable::gather`].
    pub fn gather(quad: &mut [i32], x: &[i8], places: [usize; LANES], step: usize, run: usize, runs: usize) {
        let k = (run * runs).next_multiple_of(4);
        let (pairs, reach) = (run.div_ceil(8), (runs - 1) * step);
        let patches = &mut bytes(quad, k)[..LANES * k + 8];
        let last = places.into_iter().fold(0, usize::max);
        if last + reach + 8 * pairs <= x.len() {
            let places = places.map(|place| x[place..].as_ptr());
            // SAFETY: the last run of every place, rounded up to pairs of words, lies in x, as has just been checked; in the quad
            // its surplus of at most seven bytes falls on what is written next or on the room behind the last patch.
            unsafe { tintin_copy(patches.as_mut_ptr(), places.as_ptr(), pairs, runs, run, step, k) };
            return;
        }
        assert!(last + reach + run <= x.len());
        for (lane, place) in places.into_iter().enumerate() {
            // SAFETY: the last run lies in x, as has just been asserted, and in the patch.
            unsafe { tintin_put(patches[lane * k..].as_mut_ptr(), x[place..].as_ptr(), run, runs, run, step) };
        }
    }

    /// `acc` += blocks of four rows of w by the groups of four values of x; gives the number of values done.
    pub fn rows(x: &[i8], w: &[i8], k: usize, acc: &mut [i32], workspace: &mut [i32]) -> usize {
        let groups = x.len() / 4;
        if groups > 0 {
            assert!(w.len() >= (acc.len() - 1) * k + 4 * groups && workspace.len() >= 2 * groups);
            // SAFETY: the groups of x, of every row of w, and the words they become lie inside, as has just been asserted.
            unsafe {
                tintin_widen(workspace.as_mut_ptr(), x.as_ptr(), groups);
                tintin_rows(workspace.as_ptr(), w.as_ptr(), acc.as_mut_ptr(), acc.len() / 4, groups, k);
            }
        }
        4 * groups
    }
}

/// One product an instruction, and no zero input of a Linear is multiplied.
#[cfg(not(tintin_kernels = "dsp"))]
mod plain {
    use super::LANES;

    pub use crate::kernels::portable::{clear, seal};

    unsafe extern "C" {
        fn tintin_put(to: *mut i32, from: *const i8, len: usize, runs: usize, to_step_bytes: usize, from_step: usize);
        fn tintin_gather(quad: *mut i32, places: *const *const i8, run: usize, runs: usize, step: usize);
        fn tintin_rows(
            pairs: *const [i32; 2],
            w: *const i8,
            acc: *mut i32,
            blocks: usize,
            end: *const [i32; 2],
            k: usize,
        );
    }

    /// See [`portable::put`](crate::kernels::portable::put).
    #[allow(clippy::too_many_arguments)]
    pub fn put(
        quad: &mut [i32],
        _k: usize,
        lane: usize,
        at: usize,
        to: usize,
        x: &[i8],
        from: usize,
        len: usize,
        runs: usize,
    ) {
        if len == 0 || runs == 0 {
            return;
        }
        let patch = &mut quad[LANES * at + lane..];
        assert!(LANES * ((runs - 1) * to + len - 1) < patch.len() && (runs - 1) * from + len <= x.len());
        // SAFETY: the last run lies inside on both sides, as has just been asserted.
        unsafe { tintin_put(patch.as_mut_ptr(), x.as_ptr(), len, runs, 4 * LANES * to, from) };
    }

    /// See [`portable::gather`](crate::kernels::portable::gather).
    pub fn gather(quad: &mut [i32], x: &[i8], places: [usize; LANES], step: usize, run: usize, runs: usize) {
        assert!(quad.len() >= LANES * run * runs && run > 0 && runs > 0);
        let places = places.map(|place| x[place..][..(runs - 1) * step + run].as_ptr());
        // SAFETY: the runs of every place lie in x, those of the quad in it.
        unsafe { tintin_gather(quad.as_mut_ptr(), places.as_ptr(), run, runs, step) };
    }

    /// `acc` += blocks of four rows of w by x; gives the number of values done.
    pub fn rows(x: &[i8], w: &[i8], k: usize, acc: &mut [i32], workspace: &mut [i32]) -> usize {
        let pairs = workspace.as_chunks_mut::<2>().0;
        let mut n = 0;
        for (i, &x) in (0i32..).zip(x) {
            if x != 0 {
                pairs[n] = [i, i32::from(x)];
                n += 1;
            }
        }
        if n % 2 == 1 {
            pairs[n] = [0, 0];
            n += 1;
        }
        if n > 0 {
            assert!(w.len() >= (acc.len() - 1) * k + x.len());
            let ends = pairs[..n].as_ptr_range();
            // SAFETY: an even number of pairs, their indices below the length of x, with which every row of w lies inside.
            unsafe { tintin_rows(ends.start, w.as_ptr(), acc.as_mut_ptr(), acc.len() / 4, ends.end, k) };
        }
        x.len()
    }
}
