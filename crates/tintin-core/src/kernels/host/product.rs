//! The product of all forward passes on hosts: sums of places against packed weights, and their maxima over windows.
//!
//! ```text
//! for each block of V registers of outputs
//!     for each N windows                                     the last of them repeated if there are fewer
//!         best = the least number there is
//!         for each place of the window, number p
//!             sums[n][v] = start[v]                          what takes the offset off
//!             for each step s                                GROUP neighbours of a kernel row
//!                 sums[n][v] += dot(all lanes x[n][place + step s], packed[s][v])
//!             best, winner = larger(best, winner, sums, p)
//!         acc = best, or acc += best
//! ```
//!
//! Outputs lie in lanes, so that nothing is added up across lanes; N · V sums are in flight, so that no instruction waits for the one
//! before. Sums of places, without a pool, are maxima of windows of one place.

// registers are indexed by window and by register of outputs alike; iterators would hide which
#![allow(clippy::needless_range_loop)]

use super::super::{Outputs, Sums};
use super::filters::BLOCK;
use super::lanes::Lanes;

/// A product with its memory. Offsets are without sign, those in x count values as `Lanes::Value`.
pub struct Product<'a> {
    /// Inputs of the side with the offset.
    pub x: &'a [i32],
    /// Packed weights.
    pub packed: &'a [i32],
    /// From a place to the groups its steps read.
    pub steps: &'a [i32],
    /// From a window to its places, in row-major order.
    pub window: &'a [i32],
    /// Where in x and in acc each window begins, and how many lanes of outputs it has.
    pub windows: &'a [[i32; 3]],
    /// Where maxima go.
    pub out: Outputs<'a>,
}

/// An offset of the tables.
#[inline(always)]
const fn offset(v: i32) -> usize {
    v.cast_unsigned() as usize
}

/// Where the lanes of a register, `lane` the first of them, lie in acc, and how many of them a window has, if any.
#[inline(always)]
fn lanes<L: Lanes>(window: Option<&[i32; 3]>, lane: usize) -> Option<(usize, usize)> {
    let &[_, acc, lanes] = window?;
    let count = offset(lanes).saturating_sub(lane).min(L::WIDTH);
    (count > 0).then_some((offset(acc) + lane, count))
}

impl Product<'_> {
    /// Writes the maxima and gives the largest magnitude there is then.
    ///
    /// # Safety
    /// The machine has the instructions of `L`.
    #[inline(always)]
    pub unsafe fn run<L: Lanes>(mut self) -> u32 {
        let most = |offsets: &[i32]| offsets.iter().fold(0, |most, &v| offset(v).max(most));
        let (mut last, mut end) = (0, 0);
        for &[x, acc, lanes] in self.windows {
            last = offset(x).max(last);
            end = (offset(acc) + offset(lanes)).max(end);
        }
        let reach = last + most(self.window) + most(self.steps) + L::GROUP;
        assert!(reach * size_of::<L::Value>() <= size_of_val(self.x), "a window ends behind its inputs");
        assert!(end <= self.out.acc.len(), "a window ends behind its sums");
        assert!(self.out.winners.is_empty() || end <= self.out.winners.len(), "a window ends behind its winners");
        let column = (1 + self.steps.len()) * L::WIDTH;
        let (mut lane, mut top) = (0, 0);
        for packed in self.packed.chunks(BLOCK * column) {
            // SAFETY: the instructions are there, as the caller says; every offset was just checked.
            let peak = unsafe {
                match (packed.len() / column, L::REGISTERS) {
                    (BLOCK, 32) => self.block::<L, 8, BLOCK>(packed, lane),
                    (BLOCK, _) => self.block::<L, 4, BLOCK>(packed, lane),
                    (1, 32) => self.block::<L, 8, 1>(packed, lane),
                    _ => self.block::<L, 6, 1>(packed, lane),
                }
            };
            top = peak.max(top);
            lane += BLOCK * L::WIDTH;
        }
        top
    }

    /// Maxima of all windows in the outputs of one block, the first of them in lane `lane`, `N` windows at a time.
    #[inline(always)]
    unsafe fn block<L: Lanes, const N: usize, const V: usize>(&mut self, packed: &[i32], lane: usize) -> u32 {
        let (mut low, mut high) = unsafe { (L::zero(), L::zero()) };
        for windows in self.windows.chunks(N) {
            let mut x = [self.x.as_ptr().cast::<L::Value>(); N];
            for (n, x) in x.iter_mut().enumerate() {
                let window = windows[n.min(windows.len() - 1)];
                // SAFETY: windows, places and steps together stay inside, which `run` has checked.
                *x = unsafe { x.add(offset(window[0])) };
            }
            unsafe {
                let mut best = [[L::splat(i32::MIN); V]; N];
                let mut winner = [[L::zero(); V]; N];
                for (&place, number) in self.window.iter().zip(0..) {
                    let sums = self.sums::<L, N, V>(packed, x, offset(place));
                    for n in 0..N {
                        for v in 0..V {
                            (best[n][v], winner[n][v]) = L::larger(best[n][v], winner[n][v], sums[n][v], number);
                        }
                    }
                }
                let Outputs { acc, winners, sums } = &mut self.out;
                if *sums == Sums::Added {
                    // all loads before the first store: those of some lanes only wait for each other where they touch
                    for n in 0..N {
                        for v in 0..V {
                            if let Some((at, count)) = lanes::<L>(windows.get(n), lane + v * L::WIDTH) {
                                best[n][v] = L::add(best[n][v], L::load_first(acc.as_ptr().add(at), count));
                            }
                        }
                    }
                }
                for n in 0..N {
                    for v in 0..V {
                        if let Some((at, count)) = lanes::<L>(windows.get(n), lane + v * L::WIDTH) {
                            let mut sum = best[n][v];
                            if *sums == Sums::Rectified {
                                sum = L::max(sum, L::zero());
                            }
                            L::store_first(acc.as_mut_ptr().add(at), sum, count);
                            if !winners.is_empty() {
                                L::store_bytes(winners.as_mut_ptr().add(at), winner[n][v], count);
                            }
                            let sum = if count < L::WIDTH { L::first(sum, count) } else { sum };
                            (low, high) = (L::min(low, sum), L::max(high, sum));
                        }
                    }
                }
            }
        }
        let mut lanes = [[0i32; 16]; 2];
        // SAFETY: no register has more than sixteen lanes.
        unsafe {
            L::store(lanes[0].as_mut_ptr(), low);
            L::store(lanes[1].as_mut_ptr(), high);
        }
        lanes.as_flattened().iter().fold(0, |top, sum| sum.unsigned_abs().max(top))
    }

    /// Sums of the outputs of one block at `N` places.
    #[inline(always)]
    unsafe fn sums<L: Lanes, const N: usize, const V: usize>(
        &self,
        packed: &[i32],
        x: [*const L::Value; N],
        place: usize,
    ) -> [[L::Vector; V]; N] {
        let mut packed = packed.as_ptr();
        // SAFETY: the block holds the starts and one row of groups for every step; x as in `block`.
        unsafe {
            let mut sums = [[L::zero(); V]; N];
            for v in 0..V {
                let start = L::load(packed.add(v * L::WIDTH));
                for sums in &mut sums {
                    sums[v] = start;
                }
            }
            for &step in self.steps {
                packed = packed.add(V * L::WIDTH);
                let mut w = [L::zero(); V];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = L::load(packed.add(v * L::WIDTH));
                }
                for n in 0..N {
                    let x = L::splat(x[n].add(place + offset(step)).cast::<i32>().read_unaligned());
                    for v in 0..V {
                        sums[n][v] = L::dot(sums[n][v], x, w[v]);
                    }
                }
            }
            sums
        }
    }
}
