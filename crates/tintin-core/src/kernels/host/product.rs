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
//!
//! Where windows are 2 × 2 and places below each other lie one row of x apart, all four places of N windows are in flight, so that what
//! is read of x serves both rows of places: row r of x meets kernel row r of the upper and kernel row r − 1 of the lower ones.

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
    /// From a place to the groups its steps read, and those of one kernel row more.
    pub steps: &'a [i32],
    /// Groups of a kernel row.
    pub groups: usize,
    /// From a window to its places, in row-major order.
    pub window: &'a [i32],
    /// Windows are 2 × 2, and what steps of one kernel row more read is what the places below read.
    pub square: bool,
    /// The windows.
    pub grid: Grid,
    /// Where maxima go.
    pub out: Outputs<'a>,
}

/// Windows of several samples, row by row; their outputs follow each other.
#[derive(Clone, Copy)]
pub struct Grid {
    /// Samples, rows of each, and windows of a row.
    pub counts: [usize; 3],
    /// From one to the next in x.
    pub steps: [usize; 3],
    /// Lanes of outputs that a window has, and the last one of a row.
    pub lanes: usize,
    pub last: usize,
}

/// Where a window begins in x and in the outputs, and how many lanes of outputs it has.
#[derive(Clone, Copy)]
struct Window {
    x: usize,
    acc: usize,
    lanes: usize,
}

/// Where the outputs of `N` windows are, how many lanes each has, and whether that is what most have.
struct Places<const N: usize> {
    acc: [usize; N],
    lanes: [usize; N],
    whole: bool,
}

/// Walks a grid.
struct Walk {
    grid: Grid,
    /// Rows and windows of the row that are left.
    rows: usize,
    columns: usize,
    /// Where the sample and the row begin in x.
    sample: usize,
    row: usize,
    next: Window,
}

impl Walk {
    #[inline(always)]
    fn new(grid: Grid) -> Self {
        let [_, rows, columns] = grid.counts;
        let lanes = if columns == 1 { grid.last } else { grid.lanes };
        Self { grid, rows, columns, sample: 0, row: 0, next: Window { x: 0, acc: 0, lanes } }
    }

    #[inline(always)]
    fn next(&mut self) -> Window {
        let (window, Grid { counts: [_, rows, columns], steps, lanes, last }) = (self.next, self.grid);
        self.columns -= 1;
        self.next.x += steps[2];
        if self.columns == 0 {
            self.columns = columns;
            self.rows -= 1;
            self.row += steps[1];
            if self.rows == 0 {
                self.rows = rows;
                self.sample += steps[0];
                self.row = self.sample;
            }
            self.next.x = self.row;
        }
        self.next.acc += window.lanes;
        self.next.lanes = if self.columns == 1 { last } else { lanes };
        window
    }
}

/// A register for each window and each register of outputs.
type Registers<L, const N: usize, const V: usize> = [[<L as Lanes>::Vector; N]; V];

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
        let Grid { counts: [samples, rows, columns], steps, lanes, last } = self.grid;
        if samples == 0 {
            return 0;
        }
        let end = samples * rows * ((columns - 1) * lanes + last);
        let last = (samples - 1) * steps[0] + (rows - 1) * steps[1] + (columns - 1) * steps[2];
        let one = &self.steps[..self.steps.len() - self.groups];
        // the places below with their steps reach as far as those above with one kernel row more
        let reach = last + most(self.window) + most(one) + L::GROUP;
        assert!(!self.square || most(self.steps) + offset(self.window[1]) <= most(self.window) + most(one));
        assert!(reach * size_of::<L::Value>() <= size_of_val(self.x), "a window ends behind its inputs");
        assert!(end <= self.out.acc.len(), "a window ends behind its sums");
        assert!(self.out.winners.is_empty() || end <= self.out.winners.len(), "a window ends behind its winners");
        let column = (1 + one.len()) * L::WIDTH;
        let (mut lane, mut top) = (0, 0);
        for packed in self.packed.chunks(BLOCK * column) {
            // SAFETY: the instructions are there, as the caller says; every offset was just checked.
            let peak = unsafe {
                match (packed.len() / column, L::REGISTERS, self.square) {
                    (BLOCK, 32, true) => self.block::<L, 3, BLOCK, true>(packed, lane),
                    (BLOCK, 32, false) => self.block::<L, 8, BLOCK, false>(packed, lane),
                    (BLOCK, ..) => self.block::<L, 4, BLOCK, false>(packed, lane),
                    (1, 32, true) => self.block::<L, 5, 1, true>(packed, lane),
                    // nine leave fewer over of the squares of windows there are than eight, and fill the registers
                    (1, 32, false) => self.block::<L, 9, 1, false>(packed, lane),
                    (_, _, true) => self.block::<L, 3, 1, true>(packed, lane),
                    _ => self.block::<L, 6, 1, false>(packed, lane),
                }
            };
            top = peak.max(top);
            lane += BLOCK * L::WIDTH;
        }
        top
    }

    /// Maxima of all windows in the outputs of one block, the first of them in lane `lane`, `N` windows at a time.
    #[inline(always)]
    unsafe fn block<L: Lanes, const N: usize, const V: usize, const SQUARE: bool>(
        &mut self,
        packed: &[i32],
        lane: usize,
    ) -> u32 {
        let mut ends = unsafe { [L::zero(); 2] };
        let (mut walk, [samples, rows, columns]) = (Walk::new(self.grid), self.grid.counts);
        let mut left = samples * rows * columns;
        while left > 0 {
            // those that are missing are computed like the last, and have no lanes
            let mut x = [self.x.as_ptr().cast::<L::Value>(); N];
            let mut all = Places { acc: [0; N], lanes: [0; N], whole: true };
            let mut window = walk.next();
            for n in 0..N {
                if n > 0 {
                    window = if n < left { walk.next() } else { Window { lanes: 0, ..window } };
                }
                // SAFETY: windows, places and steps together stay inside, which `run` has checked.
                x[n] = unsafe { x[n].add(window.x) };
                (all.acc[n], all.lanes[n]) = (window.acc, window.lanes);
                all.whole &= window.lanes == self.grid.lanes;
            }
            left = left.saturating_sub(N);
            // SAFETY: the same; and the instructions are there.
            unsafe {
                let (best, winner) = if SQUARE {
                    self.squares::<L, N, V>(packed, x)
                } else {
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
                    (best, winner)
                };
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
        windows: &Places<N>,
        lane: usize,
        best: [L::Vector; N],
        winner: [L::Vector; N],
        ends: &mut [L::Vector; 2],
    ) {
        let lanes = |all: usize| all.saturating_sub(lane).min(L::WIDTH);
        let mut places = [(0, 0); N];
        for n in 0..N {
            places[n].0 = windows.acc[n] + lane;
        }
        let all = lanes(self.grid.lanes);
        // SAFETY: as the caller says.
        unsafe {
            if windows.whole && all == L::WIDTH {
                for n in 0..N {
                    places[n].1 = L::WIDTH;
                }
                self.leave::<L, N>(places, best, winner, ends);
            } else if windows.whole && all > 0 {
                for n in 0..N {
                    places[n].1 = all;
                }
                self.leave::<L, N>(places, best, winner, ends);
            } else {
                for n in 0..N {
                    places[n].1 = lanes(windows.lanes[n]);
                }
                self.leave::<L, N>(places, best, winner, ends);
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
                for n in 0..N {
                    let (at, count) = windows[n];
                    if count > 0 {
                        best[n] = L::add(best[n], L::load_first(acc.as_ptr().add(at), count));
                    }
                }
            }
            let floor = if *sums == Sums::Rectified { L::zero() } else { L::splat(i32::MIN) };
            for n in 0..N {
                let (at, count) = windows[n];
                if count > 0 {
                    let sum = L::max(best[n], floor);
                    L::store_first(acc.as_mut_ptr().add(at), sum, count);
                    let sum = if count < L::WIDTH { L::first(sum, count) } else { sum };
                    *ends = [L::min(ends[0], sum), L::max(ends[1], sum)];
                }
            }
            if !winners.is_empty() {
                for n in 0..N {
                    let (at, count) = windows[n];
                    if count > 0 {
                        L::store_bytes(winners.as_mut_ptr().add(at), winner[n], count);
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
            for &step in &self.steps[..self.steps.len() - self.groups] {
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

    /// Maxima and winners of the outputs of one block in `N` windows of 2 × 2 places.
    #[inline(always)]
    unsafe fn squares<L: Lanes, const N: usize, const V: usize>(
        &self,
        packed: &[i32],
        x: [*const L::Value; N],
    ) -> (Registers<L, N, V>, Registers<L, N, V>) {
        let (right, row) = (offset(self.window[1]), V * L::WIDTH);
        let start = packed.as_ptr();
        // SAFETY: the block holds the starts and one row of groups for every step but those of the last row; x as in `block`.
        unsafe {
            let mut sums = [[[L::zero(); N]; 4]; V];
            for (v, sums) in sums.iter_mut().enumerate() {
                *sums = [[L::load(start.add(v * L::WIDTH)); N]; 4];
            }
            let (upper, lower) = self.steps.split_at(self.groups);
            let (both, lower) = lower.split_at(lower.len() - self.groups);
            let (mut w, behind) = (start.add(row), self.groups * row);
            for &step in upper {
                step_of::<L, N, V, true, false>(&mut sums, x, offset(step), right, w, w);
                w = w.add(row);
            }
            for &step in both {
                step_of::<L, N, V, true, true>(&mut sums, x, offset(step), right, w, w.sub(behind));
                w = w.add(row);
            }
            let mut w = w.sub(behind);
            for &step in lower {
                step_of::<L, N, V, false, true>(&mut sums, x, offset(step), right, w, w);
                w = w.add(row);
            }
            let (mut best, mut winner) = ([[L::zero(); N]; V], [[L::zero(); N]; V]);
            for v in 0..V {
                for n in 0..N {
                    best[v][n] = sums[v][0][n];
                    (best[v][n], winner[v][n]) = L::larger(best[v][n], winner[v][n], sums[v][1][n], 1);
                    (best[v][n], winner[v][n]) = L::larger(best[v][n], winner[v][n], sums[v][2][n], 2);
                    (best[v][n], winner[v][n]) = L::larger(best[v][n], winner[v][n], sums[v][3][n], 3);
                }
            }
            (best, winner)
        }
    }
}

/// One step of both places of the upper row with the weights `upper`, and of the lower row with `lower`.
///
/// # Safety
/// x may be read at `step` and `right` of there; weights have V registers.
#[inline(always)]
unsafe fn step_of<L: Lanes, const N: usize, const V: usize, const UPPER: bool, const LOWER: bool>(
    sums: &mut [[[L::Vector; N]; 4]; V],
    x: [*const L::Value; N],
    step: usize,
    right: usize,
    upper: *const i32,
    lower: *const i32,
) {
    // SAFETY: as the caller says.
    unsafe {
        let (mut up, mut down) = ([L::zero(); V], [L::zero(); V]);
        for v in 0..V {
            if UPPER {
                up[v] = L::load(upper.add(v * L::WIDTH));
            }
            if LOWER {
                down[v] = L::load(lower.add(v * L::WIDTH));
            }
        }
        for n in 0..N {
            for b in 0..2 {
                let x = L::splat(x[n].add(step + b * right).cast::<i32>().read_unaligned());
                for v in 0..V {
                    if UPPER {
                        sums[v][b][n] = L::dot(sums[v][b][n], x, up[v]);
                    }
                    if LOWER {
                        sums[v][2 + b][n] = L::dot(sums[v][2 + b][n], x, down[v]);
                    }
                }
            }
        }
    }
}
