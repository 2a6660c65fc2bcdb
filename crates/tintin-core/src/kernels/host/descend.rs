//! The stochastic update of weight rows.
//!
//! ```text
//! for every row: top = max |g|;  the rule says how far the row goes, or that it stays
//!     u = the first WIDTH draws of the row: draw i + 1 is state · M^(i + 1) + C_(i + 1), and the constants are known
//!     for registers of the row:
//!         w = clip(w − ((round(g, before) · m + (u >> (32 − shift))) >> shift))
//!         u = the next WIDTH draws, in the same way
//! ```

use super::dispatch_on;
use super::groups::{room, with_buffers};
use super::lanes::{Kernel, Lanes};
use super::machine::Machine;
use super::tile::nonzero;
use crate::kernels::RowStep;
use crate::rng::Draws;

/// Most lanes of a register, and registers updated at a time.
const LANES: usize = 16;
const UNROLLED: usize = 2;

/// Multipliers and increments that lead from a state to each of the draws after it.
static JUMPS: ([i32; UNROLLED * LANES], [i32; UNROLLED * LANES]) = {
    let (_, multiplier, increment) = Draws::new(0, 0, 0, 0).walk();
    let (mut jumps, mut i) = (([0; UNROLLED * LANES], [0; UNROLLED * LANES]), 0);
    let (mut m, mut c) = (1u32, 0u32);
    while i < UNROLLED * LANES {
        (m, c) = (m.wrapping_mul(multiplier), c.wrapping_mul(multiplier).wrapping_add(increment));
        (jumps.0[i], jumps.1[i]) = (m.cast_signed(), c.cast_signed());
        i += 1;
    }
    jumps
};

/// See [`crate::kernels::descend_rows`].
pub fn descend_rows(
    machine: Machine,
    w: &mut [i8],
    g: &[i32],
    row: usize,
    rule: impl FnMut(usize, u32) -> Option<RowStep>,
) -> bool {
    dispatch_on(machine, Rows { w, g, row, rule }).is_some()
}

/// See [`crate::kernels::descend_outer`].
pub fn descend_outer(
    machine: Machine,
    w: &mut [i8],
    dy: &[i8],
    x: &[i8],
    rule: impl FnMut(usize, u32) -> Option<RowStep>,
) -> bool {
    with_buffers(|[values, numbers]| dispatch_on(machine, Outer { w, dy, x, values, numbers, rule })).is_some()
}

struct Rows<'a, R> {
    w: &'a mut [i8],
    g: &'a [i32],
    row: usize,
    rule: R,
}

impl<R: FnMut(usize, u32) -> Option<RowStep>> Kernel for Rows<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        for (r, (w, g)) in self.w.chunks_exact_mut(self.row).zip(self.g.chunks_exact(self.row)).enumerate() {
            if let Some(step) = (self.rule)(r, peak::<L>(g)) {
                descend::<L>(w, g, step);
            }
        }
    }
}

struct Outer<'a, R> {
    w: &'a mut [i8],
    dy: &'a [i8],
    x: &'a [i8],
    /// The inputs as words, and a row of the gradient.
    values: &'a mut std::vec::Vec<i32>,
    /// Numbers of the rows with an error.
    numbers: &'a mut std::vec::Vec<i32>,
    rule: R,
}

impl<R: FnMut(usize, u32) -> Option<RowStep>> Kernel for Outer<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let n = self.x.len();
        let (x, g) = room(self.values, 2 * n).split_at_mut(n);
        let mut top = 0;
        for (x, &value) in x.iter_mut().zip(self.x) {
            *x = value.into();
            top = top.max(value.unsigned_abs());
        }
        let numbers = room(self.numbers, self.dy.len() + 16);
        let count = nonzero::<L>(self.dy, numbers);
        for &o in &numbers[..count] {
            let o = o.cast_unsigned() as usize;
            let (w, d) = (&mut self.w[o * n..][..n], self.dy[o]);
            let Some(step) = (self.rule)(o, u32::from(d.unsigned_abs()) * u32::from(top)) else { continue };
            if step.before == 0 {
                descend::<L>(w, x, RowStep { m: i32::from(d) * step.m, ..step });
            } else {
                for (g, &x) in g.iter_mut().zip(&*x) {
                    *g = i32::from(d) * x;
                }
                descend::<L>(w, g, step);
            }
        }
    }
}

/// Largest magnitude of `v`, which is nowhere −2^31.
#[inline(always)]
fn peak<L: Lanes>(v: &[i32]) -> u32 {
    // SAFETY: no more is read than there is; the arrays have room for a register.
    unsafe {
        let (mut low, mut high) = ([L::zero(); 2], [L::zero(); 2]);
        let mut i = 0;
        while i < v.len() {
            let values = L::load_first(v.as_ptr().add(i), (v.len() - i).min(L::WIDTH));
            let side = i / L::WIDTH % 2;
            (low[side], high[side]) = (L::min(low[side], values), L::max(high[side], values));
            i += L::WIDTH;
        }
        let mut lanes = ([0i32; LANES], [0i32; LANES]);
        L::store(lanes.0.as_mut_ptr(), L::min(low[0], low[1]));
        L::store(lanes.1.as_mut_ptr(), L::max(high[0], high[1]));
        let low = lanes.0.into_iter().fold(0, i32::min);
        lanes.1.into_iter().fold(0, i32::max).unsigned_abs().max(low.unsigned_abs())
    }
}

/// A step of one row.
#[inline(always)]
fn descend<L: Lanes>(w: &mut [i8], g: &[i32], step: RowStep) {
    const { assert!(L::WIDTH <= LANES) };
    assert!(w.len() == g.len() && step.shift < 32 && step.before < 32);
    let (state, ..) = step.draws.walk();
    // SAFETY: a register from each `v` on lies in `JUMPS`; at most as many values are read and written as there are.
    unsafe {
        let state = L::splat(state.cast_signed());
        let last = UNROLLED * L::WIDTH - 1;
        let walk = Walk::<L> {
            before: (step.before > 0).then_some(step.before),
            half: L::splat((1i32 << step.before) >> 1),
            m: L::splat(step.m),
            shift: step.shift,
            low: L::splat(-127),
            high: L::splat(127),
            next: (L::splat(JUMPS.0[last]), L::splat(JUMPS.1[last])),
        };
        let mut draws = [L::zero(); UNROLLED];
        for (v, draws) in draws.iter_mut().enumerate() {
            let (m, c) = (JUMPS.0.as_ptr().add(v * L::WIDTH), JUMPS.1.as_ptr().add(v * L::WIDTH));
            *draws = L::add(L::multiply(state, L::load(m)), L::load(c));
        }
        let (mut at, len) = (0, w.len());
        let (w, g) = (w.as_mut_ptr(), g.as_ptr());
        while at + UNROLLED * L::WIDTH <= len {
            for draws in &mut draws {
                walk.some(w.add(at), g.add(at), L::WIDTH, draws);
                at += L::WIDTH;
            }
        }
        for draws in &mut draws {
            if at < len {
                walk.some(w.add(at), g.add(at), (len - at).min(L::WIDTH), draws);
                at += L::WIDTH;
            }
        }
    }
}

/// What all registers of a row have in common.
struct Walk<L: Lanes> {
    /// The first shift, if there is one.
    before: Option<u32>,
    half: L::Vector,
    m: L::Vector,
    shift: u32,
    low: L::Vector,
    high: L::Vector,
    /// Multiplier and increment to the draws of the register after the next.
    next: (L::Vector, L::Vector),
}

impl<L: Lanes> Walk<L> {
    /// The first `n` of a register of weights; the draws become the next ones.
    ///
    /// # Safety
    /// There are `n` weights and gradients.
    #[inline(always)]
    unsafe fn some(&self, w: *mut i8, g: *const i32, n: usize, draws: &mut L::Vector) {
        // SAFETY: as the caller says.
        unsafe {
            let mut g = L::load_first(g, n);
            if let Some(before) = self.before {
                g = L::shift(L::add(g, self.half), before);
            }
            let g = L::multiply(g, self.m);
            let delta = L::shift(L::add(g, L::upper(*draws, self.shift)), self.shift);
            let moved = L::subtract(L::load_bytes(w, n), delta);
            L::store_bytes(w, L::max(L::min(moved, self.high), self.low), n);
            *draws = L::add(L::multiply(*draws, self.next.0), self.next.1);
        }
    }
}
