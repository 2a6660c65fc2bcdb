//! Products of whole batches, and of a few samples with weights that are used too rarely to be packed.
//!
//! A batch is a convolution over maps of one place. For few samples a register holds neighbours of a row of weights:
//!
//! ```text
//! for each sample: x as it is grouped, zeros behind it;  start = -OFFSET * sum of x
//!     for each four rows of w
//!         lanes[r] += dot(w[r][i..], x[i..])                 w is the side with the offset, as it is loaded
//!         acc[r] += start + sum of lanes[r]
//! ```
//!
//! The last groups of a row of w reach into the next one, where x is zero; so that none ends behind w, the last rows are copied.

use std::vec::Vec;

use super::super::{Conv2d, Outputs, Sums, Windows};
use super::conv2d::Convolution;
use super::groups::{Side, room, spread, with_buffers};
use super::lanes::{Kernel, Lanes};
use super::machine::Machine;
use crate::kernels::portable::peak;
use crate::shape::Shape;

/// Fewest samples for which packing the weights pays.
const MANY: usize = 6;

/// Rows of w that share a load of x.
const ROWS: usize = 4;

/// See [`product`](crate::kernels::product); computes on `machine`, or gives `None` if that has no vector instructions.
pub fn product(machine: Machine, x: &[i8], w: &[i8], k: usize, out: Outputs<'_>) -> Option<u32> {
    let (samples, outputs) = (x.len() / k, w.len() / k);
    assert!(
        x.len() == samples * k && w.len() == outputs * k && out.acc.len() == samples * outputs,
        "a row is not whole"
    );
    if samples < MANY {
        return with_buffers(|buffers| super::dispatch_on(machine, Few { x, w, k, out, buffers }));
    }
    let (inputs, outputs) = (u32::try_from(k).unwrap_or(u32::MAX), u32::try_from(outputs).unwrap_or(u32::MAX));
    let conv = Conv2d {
        kernel: (1, 1),
        stride: (1, 1),
        padding: (0, 0),
        xs: Shape::flat(inputs),
        ys: Shape::flat(outputs),
        first: 0,
    };
    Convolution { conv: &conv, windows: &Windows::places(1, 1), x, w, out }.on(machine)
}

/// Few samples, with buffers for one and for the last rows of w.
struct Few<'a, 'b> {
    x: &'a [i8],
    w: &'a [i8],
    k: usize,
    out: Outputs<'a>,
    buffers: &'b mut [Vec<i32>; 2],
}

impl Kernel for Few<'_, '_> {
    type Output = u32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> u32 {
        let Few { x, w, k, out: Outputs { acc, sums, .. }, buffers: [inputs, last] } = self;
        let (samples, outputs, step) = (x.len() / k, w.len() / k, L::WIDTH * L::GROUP);
        let registers = k.div_ceil(step);
        let inputs = room(inputs, samples * registers * L::WIDTH);
        inputs.fill(0);
        for (x, inputs) in x.chunks_exact(k).zip(inputs.chunks_exact_mut(registers * L::WIDTH)) {
            // SAFETY: room for `registers` times WIDTH · GROUP values, which are not fewer than k.
            unsafe { spread::<L>(Side::Plain, x, inputs.as_mut_ptr().cast()) };
        }
        // whole blocks of rows that can be read where they lie
        let inside = w.len().checked_sub(registers * step).map_or(0, |end| end / k + 1) / ROWS * ROWS;
        let (w, rest) = w.split_at(inside * k);
        let last = room(last, (rest.len().next_multiple_of(ROWS * k) + registers * step).div_ceil(4));
        if sums != Sums::Added {
            // every sample starts from the first row
            for n in 1..samples {
                acc.copy_within(..outputs, n * outputs);
            }
        }
        // SAFETY: room for all of `rest` and what is read behind it; for the rows above, `inside` sees to it.
        unsafe {
            last.as_mut_ptr().cast::<i8>().copy_from_nonoverlapping(rest.as_ptr(), rest.len());
            for (x, (inputs, acc)) in
                x.chunks_exact(k).zip(inputs.chunks_exact(registers * L::WIDTH).zip(acc.chunks_exact_mut(outputs)))
            {
                let start = x.iter().map(|&x| i32::from(x)).sum::<i32>().wrapping_mul(-L::OFFSET);
                let (acc, rest) = acc.split_at_mut(inside);
                rows::<L>(inputs, start, w.as_ptr(), k, acc);
                rows::<L>(inputs, start, last.as_ptr().cast(), k, rest);
            }
        }
        if sums == Sums::Rectified {
            acc.iter_mut().for_each(|sum| *sum = (*sum).max(0));
        }
        peak(acc)
    }
}

/// One sample with as many rows of w as `acc` has sums.
///
/// # Safety
/// The machine has the instructions of `L`; of w whole blocks of rows may be read, and from the start of each row as many values as x has.
#[inline(always)]
unsafe fn rows<L: Lanes>(x: &[i32], start: i32, mut w: *const i8, k: usize, acc: &mut [i32]) {
    for acc in acc.chunks_mut(ROWS) {
        // SAFETY: as the caller says.
        let sums = unsafe {
            let mut lanes = [L::zero(); ROWS];
            for (i, x) in x.chunks_exact(L::WIDTH).enumerate() {
                let x = L::load(x.as_ptr());
                for (r, lanes) in lanes.iter_mut().enumerate() {
                    *lanes = L::dot(*lanes, L::load_offset(w.add(r * k + i * L::WIDTH * L::GROUP)), x);
                }
            }
            w = w.wrapping_add(ROWS * k);
            L::sums(lanes)
        };
        for (acc, sum) in acc.iter_mut().zip(sums) {
            *acc = acc.wrapping_add(sum).wrapping_add(start);
        }
    }
}
