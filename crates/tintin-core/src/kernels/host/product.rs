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
//!         acc += best
//! ```
//!
//! Outputs lie in lanes, so that nothing is added up across lanes; N · V sums are in flight, so that no instruction waits for the one
//! before. Sums of places, without a pool, are maxima of windows of one place.

use super::groups::{Side, group};
use super::lanes::Lanes;

/// Registers of a block.
const BLOCK: usize = 2;

/// How weights lie in memory, and how they are packed.
pub struct Filters<'a> {
    /// (outputs, kernel rows, run).
    pub w: &'a [i8],
    /// Number of outputs.
    pub outputs: usize,
    /// Kernel rows.
    pub rows: usize,
    /// Weights of a kernel row, contiguous in x as well.
    pub run: usize,
    /// Neighbours computed together, each with all outputs, and how many values lie between two.
    pub joined: usize,
    pub shift: usize,
}

impl Filters<'_> {
    /// Lanes in use.
    pub fn lanes(&self) -> usize {
        self.joined * self.outputs
    }

    /// Groups of a kernel row of all that is joined.
    pub fn groups<L: Lanes>(&self) -> usize {
        (self.run + (self.joined - 1) * self.shift).div_ceil(L::GROUP)
    }

    /// Registers of all outputs.
    fn registers<L: Lanes>(&self) -> usize {
        self.lanes().div_ceil(L::WIDTH)
    }

    /// Words that the packed weights take.
    pub fn words<L: Lanes>(&self) -> usize {
        self.registers::<L>() * L::WIDTH * (1 + self.rows * self.groups::<L>())
    }

    /// Multiplications and loads of a window, all that is joined taken together: what is compared to choose how many to join.
    fn cost<L: Lanes>(&self) -> usize {
        self.rows * self.groups::<L>() * (self.registers::<L>() + 1)
    }

    /// The same with as many of `most` neighbours joined as makes the best use of lanes and groups: few outputs leave lanes idle,
    /// and a short run leaves room in its groups for the run beside it.
    pub fn join<L: Lanes>(self, most: usize) -> Self {
        let with = |joined| Filters { joined, ..self };
        let mut best = with(1);
        for joined in 2..=most.min(8) {
            if with(joined).cost::<L>() * best.joined < best.cost::<L>() * joined {
                best = with(joined);
            }
        }
        best
    }

    /// Packs: per block the starts of its sums, then \[kernel row\]\[group\]\[lane\]; zeros where there is no weight.
    #[inline(always)]
    pub fn pack<L: Lanes>(&self, packed: &mut [i32]) {
        let (groups, registers) = (self.groups::<L>(), self.registers::<L>());
        let steps = self.rows * groups;
        let packed = &mut packed[..self.words::<L>()];
        for register in 0..registers {
            let first = register / BLOCK * BLOCK;
            let pitch = (registers - first).min(BLOCK) * L::WIDTH;
            let block = &mut packed[first * L::WIDTH * (1 + steps)..][..pitch * (1 + steps)];
            for lane in 0..L::WIDTH {
                let (at, number) = ((register - first) * L::WIDTH + lane, register * L::WIDTH + lane);
                let mut sum = 0;
                for a in 0..self.rows {
                    let start = (1 + a * groups) * pitch + at;
                    let lanes = block[start..].iter_mut().step_by(pitch).take(groups);
                    if number < self.lanes() {
                        let (output, shift) = (number % self.outputs, number / self.outputs * self.shift);
                        let w = &self.w[(output * self.rows + a) * self.run..][..self.run];
                        sum += lay::<L>(w, shift, lanes);
                    } else {
                        lanes.for_each(|lane| *lane = 0);
                    }
                }
                block[at] = i32::wrapping_mul(sum, -L::OFFSET);
            }
        }
    }
}

/// Lays a kernel row into groups, `shift` values to the right, zeros around it; gives the sum of its weights.
#[inline(always)]
fn lay<'a, L: Lanes>(w: &[i8], shift: usize, lanes: impl Iterator<Item = &'a mut i32>) -> i32 {
    for (q, lane) in lanes.enumerate() {
        let first = (q * L::GROUP).wrapping_sub(shift);
        *lane = if let Some(w) = w.get(first..first.wrapping_add(L::GROUP)) {
            group::<L>(Side::Plain, w)
        } else {
            let mut around = [0; 4];
            for (i, v) in around.iter_mut().enumerate() {
                *v = w.get(first.wrapping_add(i)).copied().unwrap_or(0);
            }
            group::<L>(Side::Plain, &around[..L::GROUP])
        };
    }
    w.iter().map(|&w| i32::from(w)).sum()
}

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
    /// Maxima are added here.
    pub acc: &'a mut [i32],
    /// Numbers of the places they are from; empty if nobody asks.
    pub winners: &'a mut [i8],
}

/// An offset of the tables.
#[inline(always)]
const fn offset(v: i32) -> usize {
    v.cast_unsigned() as usize
}

impl Product<'_> {
    /// Adds the maxima.
    ///
    /// # Safety
    /// The machine has the instructions of `L`.
    #[inline(always)]
    pub unsafe fn run<L: Lanes>(mut self) {
        let most = |offsets: &[i32]| offsets.iter().fold(0, |most, &v| offset(v).max(most));
        let (mut last, mut end) = (0, 0);
        for &[x, acc, lanes] in self.windows {
            last = offset(x).max(last);
            end = (offset(acc) + offset(lanes)).max(end);
        }
        let reach = last + most(self.window) + most(self.steps) + L::GROUP;
        assert!(reach * size_of::<L::Value>() <= size_of_val(self.x), "a window ends behind its inputs");
        assert!(end <= self.acc.len(), "a window ends behind its sums");
        assert!(self.winners.is_empty() || end <= self.winners.len(), "a window ends behind its winners");
        let column = (1 + self.steps.len()) * L::WIDTH;
        let mut lane = 0;
        for packed in self.packed.chunks(BLOCK * column) {
            // SAFETY: the instructions are there, as the caller says; every offset was just checked.
            unsafe {
                match (packed.len() / column, L::REGISTERS) {
                    (BLOCK, 32) => self.block::<L, 8, BLOCK>(packed, lane),
                    (BLOCK, _) => self.block::<L, 4, BLOCK>(packed, lane),
                    (1, 32) => self.block::<L, 8, 1>(packed, lane),
                    _ => self.block::<L, 6, 1>(packed, lane),
                }
            }
            lane += BLOCK * L::WIDTH;
        }
    }

    /// Maxima of all windows in the outputs of one block, the first of them in lane `lane`, `N` windows at a time.
    #[inline(always)]
    unsafe fn block<L: Lanes, const N: usize, const V: usize>(&mut self, packed: &[i32], lane: usize) {
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
                for n in 0..N {
                    let Some(&[_, acc, lanes]) = windows.get(n) else { break };
                    for v in 0..V {
                        let lane = lane + v * L::WIDTH;
                        let count = offset(lanes).saturating_sub(lane).min(L::WIDTH);
                        if count == 0 {
                            break;
                        }
                        let at = offset(acc) + lane;
                        // SAFETY: the lanes of a window end inside, which `run` has checked.
                        let acc = self.acc.as_mut_ptr().add(at);
                        L::store_first(acc, L::add(L::load_first(acc, count), best[n][v]), count);
                        if !self.winners.is_empty() {
                            L::store_bytes(self.winners.as_mut_ptr().add(at), winner[n][v], count);
                        }
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
