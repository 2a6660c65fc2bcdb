//! The product of all forward passes on hosts: sums of places against packed weights, and their maxima over windows.
//!
//! ```text
//! for each block of V registers of outputs
//!     for each N windows                                     the last of them repeated if there are fewer
//!         best = the least number there is
//!         for each place of the window, number p
//!             sums[v][n] = start[v]                          what takes the offset off
//!             for each step s                                GROUP neighbours of a kernel row
//!                 sums[v][n] += dot(all lanes x[n][place + step s], packed[s][v])
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
                    // nine leave fewer over of the squares of windows there are than eight, and fill the registers
                    (1, 32) => self.block::<L, 9, 1>(packed, lane),
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
        let mut ends = unsafe { [L::zero(); 2] };
        for windows in self.windows.chunks(N) {
            // those that are missing are computed like the last, and have no lanes
            let mut all = [[0; 3]; N];
            let mut x = [self.x.as_ptr().cast::<L::Value>(); N];
            for n in 0..N {
                all[n] = windows[n.min(windows.len() - 1)];
                // SAFETY: windows, places and steps together stay inside, which `run` has checked.
                x[n] = unsafe { x[n].add(offset(all[n][0])) };
                if n >= windows.len() {
                    all[n][2] = 0;
                }
            }
            // SAFETY: the same; and the instructions are there.
            unsafe {
                let mut best = self.sums::<L, N, V>(packed, x, offset(self.window[0]));
                let mut winner = [[L::zero(); N]; V];
                for (&place, number) in self.window[1..].iter().zip(1..) {
                    let sums = self.sums::<L, N, V>(packed, x, offset(place));
                    for v in 0..V {
                        for n in 0..N {
                            (best[v][n], winner[v][n]) = L::larger(best[v][n], winner[v][n], sums[v][n], number);
                        }
                    }
                }
                // one by one: a loop would put all registers into memory, to find those of v there
                const { assert!(V == 1 || V == 2) }
                self.register::<L, N>(&all, lane, best[0], winner[0], &mut ends);
                if V == 2 {
                    self.register::<L, N>(&all, lane + L::WIDTH, best[V - 1], winner[V - 1], &mut ends);
                }
            }
        }
        let mut lanes = [[0i32; 16]; 2];
        // SAFETY: no register has more than sixteen lanes.
        unsafe {
            L::store(lanes[0].as_mut_ptr(), ends[0]);
            L::store(lanes[1].as_mut_ptr(), ends[1]);
        }
        lanes.as_flattened().iter().fold(0, |top, sum| sum.unsigned_abs().max(top))
    }

    /// One register of every window, `lane` its first: usually they have the same lanes, and then masks are made once, or none.
    #[inline(always)]
    unsafe fn register<L: Lanes, const N: usize>(
        &mut self,
        windows: &[[i32; 3]; N],
        lane: usize,
        best: [L::Vector; N],
        winner: [L::Vector; N],
        ends: &mut [L::Vector; 2],
    ) {
        let lanes =
            windows.map(|[_, acc, lanes]| (offset(acc) + lane, offset(lanes).saturating_sub(lane).min(L::WIDTH)));
        let all = lanes[0].1;
        let same = lanes.iter().all(|&(_, count)| count == all);
        // SAFETY: as the caller says.
        unsafe {
            if same && all == L::WIDTH {
                self.leave::<L, N>(lanes.map(|(at, _)| (at, L::WIDTH)), best, winner, ends);
            } else if same && all > 0 {
                self.leave::<L, N>(lanes.map(|(at, _)| (at, all)), best, winner, ends);
            } else {
                self.leave::<L, N>(lanes, best, winner, ends);
            }
        }
    }

    /// Writes the maxima of `N` windows, of each as many lanes as it has from its place in `acc` on, and follows the least and the
    /// largest.
    #[inline(always)]
    unsafe fn leave<L: Lanes, const N: usize>(
        &mut self,
        windows: [(usize, usize); N],
        mut best: [L::Vector; N],
        winner: [L::Vector; N],
        ends: &mut [L::Vector; 2],
    ) {
        let Outputs { acc, winners, sums } = &mut self.out;
        // SAFETY: the lanes of a window end inside `acc` and `winners`, which `run` has checked.
        unsafe {
            if *sums == Sums::Added {
                // all loads before the first store: those of some lanes only wait for each other where they touch
                for (best, (at, count)) in best.iter_mut().zip(windows) {
                    if count > 0 {
                        *best = L::add(*best, L::load_first(acc.as_ptr().add(at), count));
                    }
                }
            }
            let floor = if *sums == Sums::Rectified { L::zero() } else { L::splat(i32::MIN) };
            for (best, (at, count)) in best.into_iter().zip(windows) {
                if count > 0 {
                    let sum = L::max(best, floor);
                    L::store_first(acc.as_mut_ptr().add(at), sum, count);
                    let sum = if count < L::WIDTH { L::first(sum, count) } else { sum };
                    *ends = [L::min(ends[0], sum), L::max(ends[1], sum)];
                }
            }
            if !winners.is_empty() {
                for (winner, (at, count)) in winner.into_iter().zip(windows) {
                    if count > 0 {
                        L::store_bytes(winners.as_mut_ptr().add(at), winner, count);
                    }
                }
            }
        }
    }

    /// Sums of the outputs of one block at `N` places.
    #[inline(always)]
    unsafe fn sums<L: Lanes, const N: usize, const V: usize>(
        &self,
        packed: &[i32],
        x: [*const L::Value; N],
        place: usize,
    ) -> [[L::Vector; N]; V] {
        let mut packed = packed.as_ptr();
        // SAFETY: the block holds the starts and one row of groups for every step; x as in `block`.
        unsafe {
            let mut sums = [[L::zero(); N]; V];
            for (v, sums) in sums.iter_mut().enumerate() {
                *sums = [L::load(packed.add(v * L::WIDTH)); N];
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
                        sums[v][n] = L::dot(sums[v][n], x, w[v]);
                    }
                }
            }
            sums
        }
    }
}
