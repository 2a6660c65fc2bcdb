//! Depthwise convolution: channels lie in lanes, so that sums stay in registers and nothing is added up across lanes.
//!
//! ```text
//! transpose the weights: t[tap][channel]
//! forward, backward:  for N places in a row, registers of channels:  sums[n] += Σ_taps t[tap] · source[n, tap]
//! gradient:           for taps, registers of channels:               g[tap] += Σ_places x[place, tap] · dy[place]
//! ```
//! Backward is the same walk as forward with taps that run against the errors: those that meet an input lie `stride` apart, so places
//! are walked in phases, of which each has its taps.

use core::ops::Range;
use std::vec::Vec;

use super::dispatch_on;
use super::groups::{room, with_buffers};
use super::lanes::{Kernel, Lanes};
use super::machine::Machine;
use super::phases::Axis;
use crate::kernels::{Conv2d, Errors};

/// Places at a time: a weight is loaded once for all.
const PLACES: usize = 4;

/// `acc` (samples, rows, width, channels) += exact sums of the output rows from `conv.first` on; false if `machine` has no vector instructions.
pub fn depthwise_sums(machine: Machine, conv: &Conv2d, x: &[i8], w: &[i8], acc: &mut [i32]) -> bool {
    let samples = x.len() / conv.xs.len();
    let rows = acc.len() / (samples * conv.ys.w as usize * conv.ys.c as usize);
    assert!(conv.first + rows <= conv.ys.h as usize, "more rows than there are");
    let walk = Walk { conv, backward: false, rows, source: x, w, acc };
    with_buffers(|[buffer]| dispatch_on(machine, Call { walk, buffer })).is_some()
}

/// `acc` (samples, xs) += exact input errors (N18); false if `machine` has no vector instructions.
pub fn depthwise_input_errors(machine: Machine, conv: &Conv2d, w: &[i8], errors: Errors<'_>, acc: &mut [i32]) -> bool {
    let rows = conv.xs.h as usize;
    with_buffers(|[buffer, map]| {
        if errors.index.is_empty() {
            let walk = Walk { conv, backward: true, rows, source: errors.dy, w, acc };
            dispatch_on(machine, Call { walk, buffer }).is_some()
        } else {
            let walk = Walk { conv, backward: true, rows, source: unpooled(conv, errors, map), w, acc };
            dispatch_on(machine, Call { walk, buffer }).is_some()
        }
    })
}

/// `acc` (channels, taps) += exact gradient (N18); false if `machine` has no vector instructions.
pub fn depthwise_gradient(machine: Machine, conv: &Conv2d, x: &[i8], errors: Errors<'_>, acc: &mut [i32]) -> bool {
    with_buffers(|[buffer, map]| {
        if errors.index.is_empty() {
            dispatch_on(machine, Gradient { conv, x, dy: errors.dy, acc, buffer }).is_some()
        } else {
            dispatch_on(machine, Gradient { conv, x, dy: unpooled(conv, errors, map), acc, buffer }).is_some()
        }
    })
}

/// Errors behind a pool at the places before it; those that meet there are added up.
fn unpooled<'a>(conv: &Conv2d, errors: Errors<'_>, map: &'a mut Vec<i32>) -> &'a [i32] {
    let (w, c, ps) = (conv.ys.w as usize, conv.ys.c as usize, errors.ps);
    let map = room(map, errors.dy.len() / ps.len() * conv.ys.len());
    map.fill(0);
    let samples = errors.dy.chunks_exact(ps.len()).zip(errors.index.chunks_exact(ps.len()));
    for ((dy, index), map) in samples.zip(map.chunks_exact_mut(conv.ys.len())) {
        for (place, (dy, index)) in dy.chunks_exact(c).zip(index.chunks_exact(c)).enumerate() {
            let (i, j) = (place / ps.w as usize * errors.stride.0, place % ps.w as usize * errors.stride.1);
            for (ch, (&d, &number)) in dy.iter().zip(index).enumerate() {
                if d != 0 {
                    let number = usize::from(number.cast_unsigned());
                    let (a, b) = (number / errors.kernel.1, number % errors.kernel.1);
                    map[((i + a) * w + j + b) * c + ch] += i32::from(d);
                }
            }
        }
    }
    map
}

/// What a sum is made of beside weights: mantissas, or errors added up.
trait Value: Copy {
    /// The first `n` lanes, 1 to WIDTH; the others are zero.
    ///
    /// # Safety
    /// The machine has the instructions of `L`, and `n` values may be read.
    unsafe fn load<L: Lanes>(from: *const Self, n: usize) -> L::Vector;
}

impl Value for i8 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self, n: usize) -> L::Vector {
        // SAFETY: as the caller says.
        unsafe { L::load_bytes(from, n) }
    }
}

impl Value for i32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self, n: usize) -> L::Vector {
        // SAFETY: as the caller says.
        unsafe { if n == L::WIDTH { L::load(from) } else { L::load_first(from, n) } }
    }
}

/// Registers of channels. The last one ends with the channels, and meets zero weights where it overlaps the one before.
#[derive(Clone, Copy)]
struct Registers {
    channels: usize,
    count: usize,
    /// Lanes in use: all, unless there are fewer channels.
    lanes: usize,
}

impl Registers {
    #[inline(always)]
    fn new<L: Lanes>(channels: usize) -> Self {
        Self { channels, count: channels.div_ceil(L::WIDTH), lanes: channels.min(L::WIDTH) }
    }

    /// First channel of register `v`.
    #[inline(always)]
    fn first<L: Lanes>(&self, v: usize) -> usize {
        (v * L::WIDTH).min(self.channels - self.lanes)
    }

    /// Channels that register `v` has to itself.
    #[inline(always)]
    fn own<L: Lanes>(&self, v: usize) -> Range<usize> {
        v * L::WIDTH..self.channels.min((v + 1) * L::WIDTH)
    }
}

/// t\[tap\]\[register\] from rows of `taps` weights.
#[inline(always)]
fn transpose<L: Lanes>(registers: &Registers, w: &[i8], taps: usize, to: &mut [i32]) {
    let pitch = registers.count * L::WIDTH;
    to.fill(0);
    for v in 0..registers.count {
        for ch in registers.own::<L>(v) {
            let lane = v * L::WIDTH + ch - registers.first::<L>(v);
            for (t, &w) in w[ch * taps..][..taps].iter().enumerate() {
                to[t * pitch + lane] = w.into();
            }
        }
    }
}

/// Sums over the taps of every place.
struct Walk<'a, T> {
    conv: &'a Conv2d,
    backward: bool,
    /// Rows of places.
    rows: usize,
    source: &'a [T],
    w: &'a [i8],
    acc: &'a mut [i32],
}

struct Call<'a, T> {
    walk: Walk<'a, T>,
    buffer: &'a mut Vec<i32>,
}

impl<T: Value> Kernel for Call<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { walk, buffer } = self;
        let (registers, taps) = (Registers::new::<L>(walk.conv.xs.c as usize), walk.conv.kernel.0 * walk.conv.kernel.1);
        assert!(walk.w.len() == registers.channels * taps);
        let weights = room(buffer, taps * registers.count * L::WIDTH);
        transpose::<L>(&registers, walk.w, taps, weights);
        // SAFETY: the instructions are there, as the caller says.
        unsafe {
            if registers.lanes == L::WIDTH {
                walk.run::<L, true>(&registers, weights);
            } else {
                walk.run::<L, false>(&registers, weights);
            }
        }
    }
}

impl<T: Value> Walk<'_, T> {
    /// # Safety
    /// The machine has the instructions of `L`.
    #[inline(always)]
    unsafe fn run<L: Lanes, const FULL: bool>(self, registers: &Registers, weights: &[i32]) {
        let Self { conv, backward, rows, source, acc, .. } = self;
        let (c, [high, wide]) = (registers.channels, Axis::both(conv));
        let (from, columns) = if backward { (conv.ys, wide.inputs) } else { (conv.xs, wide.outputs) };
        let samples = source.len() / from.len();
        assert!(source.len() == samples * from.len() && acc.len() == samples * rows * columns * c);
        let line = (from.w as usize * c).cast_signed();
        let row_phases = if backward { high.stride.min(high.inputs) } else { 1 };
        let column_phases = if backward { wide.stride.min(wide.inputs) } else { 1 };
        for (source, acc) in source.chunks_exact(from.len()).zip(acc.chunks_exact_mut(rows * columns * c)) {
            for f in 0..row_phases {
                let down = if backward { high.backward(f) } else { high.forward(conv.first, rows) };
                for row in (0..down.places).map(|n| down.reach(n)) {
                    for f in 0..column_phases {
                        let right = if backward { wide.backward(f) } else { wide.forward(0, columns) };
                        let mut n = 0;
                        while n < right.places && row.taps > 0 {
                            let (first, last) = (right.reach(n), right.reach(n + PLACES - 1));
                            // those between the first and the last have all taps if both have
                            let all = n + PLACES <= right.places && first.taps + last.taps == 2 * right.taps;
                            let tile = Tile {
                                rows: row.taps,
                                taps: first.taps,
                                row: down.turn * line,
                                turn: right.turn * c.cast_signed(),
                                step: right.source_step.cast_unsigned() * c,
                                weights_row: down.tap_step * conv.kernel.1,
                                weights_step: right.tap_step,
                                acc_step: right.step * c,
                            };
                            let at = row.source * line + first.source * c.cast_signed();
                            let tap = row.tap * conv.kernel.1 + first.tap;
                            let to = (row.place * columns + first.place) * c;
                            // SAFETY: taps that are outside were cut off, so every source is inside; the sums are those of
                            // the places, of which there are as many as `acc` has room for.
                            unsafe {
                                if first.taps == 0 {
                                } else if all {
                                    let sources = source.as_ptr().offset(at);
                                    tile.run::<L, T, FULL, PLACES>(registers, sources, weights, tap, &mut acc[to..]);
                                } else {
                                    let sources = source.as_ptr().offset(at);
                                    tile.run::<L, T, FULL, 1>(registers, sources, weights, tap, &mut acc[to..]);
                                }
                            }
                            n += if all { PLACES } else { 1 };
                        }
                    }
                }
            }
        }
    }
}

/// Some places in a row with the same taps.
struct Tile {
    /// Rows of taps, and taps in a row.
    rows: usize,
    taps: usize,
    /// In values of the source: from row to row, from tap to tap, from place to place.
    row: isize,
    turn: isize,
    step: usize,
    /// In taps, from row to row and from tap to tap.
    weights_row: usize,
    weights_step: usize,
    /// In sums, from place to place.
    acc_step: usize,
}

impl Tile {
    /// # Safety
    /// The machine has the instructions of `L`; all sources are there.
    #[inline(always)]
    unsafe fn run<L: Lanes, T: Value, const FULL: bool, const N: usize>(
        &self,
        registers: &Registers,
        source: *const T,
        weights: &[i32],
        tap: usize,
        acc: &mut [i32],
    ) {
        let (pitch, lanes) = (registers.count * L::WIDTH, if FULL { L::WIDTH } else { registers.lanes });
        let last = tap + (self.rows - 1) * self.weights_row + (self.taps - 1) * self.weights_step;
        assert!((last + 1) * pitch <= weights.len() && (N - 1) * self.acc_step + registers.channels <= acc.len());
        for v in 0..registers.count {
            let channel = registers.first::<L>(v);
            // SAFETY: the sources are there, as the caller says; weights and sums were just checked.
            unsafe {
                let acc = acc.as_mut_ptr().add(channel);
                let mut row = (source.add(channel), weights.as_ptr().add(tap * pitch + v * L::WIDTH));
                let mut sums = [L::zero(); N];
                for _ in 0..self.rows {
                    let (mut x, mut w) = row;
                    for _ in 0..self.taps {
                        let weight = L::load(w);
                        for (n, sum) in sums.iter_mut().enumerate() {
                            *sum = L::add(*sum, L::multiply(weight, T::load::<L>(x.add(n * self.step), lanes)));
                        }
                        (x, w) = (x.wrapping_offset(self.turn), w.wrapping_add(self.weights_step * pitch));
                    }
                    row = (row.0.wrapping_offset(self.row), row.1.wrapping_add(self.weights_row * pitch));
                }
                for (n, sum) in sums.into_iter().enumerate() {
                    let acc = acc.add(n * self.acc_step);
                    L::store_first(acc, L::add(sum, L::load_first(acc, lanes)), lanes);
                }
            }
        }
    }
}

struct Gradient<'a, T> {
    conv: &'a Conv2d,
    x: &'a [i8],
    dy: &'a [T],
    acc: &'a mut [i32],
    buffer: &'a mut Vec<i32>,
}

impl<T: Value> Kernel for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { conv, x, dy, acc, buffer } = self;
        let (registers, taps) = (Registers::new::<L>(conv.xs.c as usize), conv.kernel.0 * conv.kernel.1);
        let samples = x.len() / conv.xs.len();
        assert!(x.len() == samples * conv.xs.len() && dy.len() == samples * conv.ys.len());
        assert!(acc.len() == registers.channels * taps);
        let pitch = registers.count * L::WIDTH;
        let sums = room(buffer, taps * pitch);
        sums.fill(0);
        for (x, dy) in x.chunks_exact(conv.xs.len()).zip(dy.chunks_exact(conv.ys.len())) {
            // SAFETY: the instructions are there, as the caller says.
            unsafe {
                if registers.lanes == L::WIDTH {
                    gradient::<L, T, true>(conv, &registers, x, dy, sums);
                } else {
                    gradient::<L, T, false>(conv, &registers, x, dy, sums);
                }
            }
        }
        for v in 0..registers.count {
            for ch in registers.own::<L>(v) {
                let lane = v * L::WIDTH + ch - registers.first::<L>(v);
                for (t, acc) in acc[ch * taps..][..taps].iter_mut().enumerate() {
                    *acc = acc.wrapping_add(sums[t * pitch + lane]);
                }
            }
        }
    }
}

/// `sums` (taps, registers) += the gradient from one sample.
///
/// # Safety
/// The machine has the instructions of `L`.
#[inline(always)]
unsafe fn gradient<L: Lanes, T: Value, const FULL: bool>(
    conv: &Conv2d,
    registers: &Registers,
    x: &[i8],
    dy: &[T],
    sums: &mut [i32],
) {
    let (c, [high, wide]) = (registers.channels, Axis::both(conv));
    let lanes = if FULL { L::WIDTH } else { registers.lanes };
    for (sums, t) in sums.chunks_exact_mut(registers.count * L::WIDTH).zip(0..) {
        let (a, b) = (t / wide.kernel, t % wide.kernel);
        let (rows, columns) = (high.places(a), wide.places(b));
        if columns.is_empty() {
            continue;
        }
        for v in 0..registers.count {
            let channel = registers.first::<L>(v);
            // SAFETY: rows and columns are those whose tap lies inside the input; there is a register of sums.
            unsafe {
                let sums = sums[v * L::WIDTH..][..L::WIDTH].as_mut_ptr();
                let mut sum = L::load(sums);
                for i in rows.clone() {
                    let at = (i * high.stride + a - high.padding) * wide.inputs + columns.start * wide.stride + b
                        - wide.padding;
                    let mut x = x.as_ptr().add(at * c + channel);
                    let mut dy = dy.as_ptr().add((i * wide.outputs + columns.start) * c + channel);
                    for _ in columns.clone() {
                        sum = L::add(sum, L::multiply(L::load_bytes(x, lanes), T::load::<L>(dy, lanes)));
                        (x, dy) = (x.wrapping_add(wide.stride * c), dy.wrapping_add(c));
                    }
                }
                L::store(sums, sum);
            }
        }
    }
}
