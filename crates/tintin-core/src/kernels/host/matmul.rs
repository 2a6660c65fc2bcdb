//! Products of whole batches, and of a few samples with weights that are used too rarely to be packed.
//!
//! A batch is a convolution over maps of one place. For few samples a register holds neighbours of a row of weights:
//!
//! ```text
//! for each sample: x as it is grouped, zeros behind it;  start = -OFFSET * sum of x
//! for each eight rows of w
//!     for each sample
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
const MANY: usize = 16;

/// Rows of w that share a load of x.
const ROWS: usize = 8;

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

/// Few samples, with buffers for them, for where their sums start, and for the last rows of w.
struct Few<'a, 'b> {
    x: &'a [i8],
    w: &'a [i8],
    k: usize,
    out: Outputs<'a>,
    buffers: &'b mut [Vec<i32>; 3],
}

impl Kernel for Few<'_, '_> {
    type Output = u32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> u32 {
        let Few { x, w, k, out: Outputs { acc, sums, .. }, buffers: [inputs, starts, last] } = self;
        let (samples, outputs, step) = (x.len() / k, w.len() / k, L::WIDTH * L::GROUP);
        let registers = k.div_ceil(step);
        let inputs = room(inputs, samples * registers * L::WIDTH);
        let starts = room(starts, samples);
        inputs.fill(0);
        for ((x, inputs), start) in
            x.chunks_exact(k).zip(inputs.chunks_exact_mut(registers * L::WIDTH)).zip(&mut *starts)
        {
            // SAFETY: room for `registers` times WIDTH · GROUP values, which are not fewer than k.
            unsafe { spread::<L>(Side::Plain, x, inputs.as_mut_ptr().cast()) };
            *start = x.iter().map(|&x| i32::from(x)).sum::<i32>().wrapping_mul(-L::OFFSET);
        }
        if sums != Sums::Added {
            // every sample starts from the first row
            for n in 1..samples {
                acc.copy_within(..outputs, n * outputs);
            }
        }
        // whole blocks of rows that can be read where they lie; the others are copied
        let inside = w.len().checked_sub(registers * step).map_or(0, |end| end / k + 1) / ROWS * ROWS;
        let rest = &w[inside * k..];
        let last = room(last, (rest.len().next_multiple_of(ROWS * k) + registers * step).div_ceil(4));
        let last = last.as_mut_ptr().cast::<i8>();
        // SAFETY: room for all of `rest`.
        unsafe { last.copy_from_nonoverlapping(rest.as_ptr(), rest.len()) };
        for o in (0..outputs).step_by(ROWS) {
            let w = if o < inside { w[o * k..].as_ptr() } else { last.wrapping_add((o - inside) * k) };
            let samples = inputs.chunks_exact(registers * L::WIDTH).zip(&*starts).zip(acc.chunks_exact_mut(outputs));
            for ((x, start), acc) in samples {
                // SAFETY: `inside` and the room in `last` see to it that the registers of a block of rows can be read.
                let sums = unsafe { dots::<L>(x, w, k) };
                let add = |(acc, sum): (&mut i32, i32)| *acc = acc.wrapping_add(sum).wrapping_add(*start);
                match acc[o..].first_chunk_mut::<ROWS>() {
                    Some(acc) => acc.iter_mut().zip(sums).for_each(add),
                    None => acc[o..].iter_mut().zip(sums).for_each(add),
                }
            }
        }
        if sums == Sums::Rectified {
            acc.iter_mut().for_each(|sum| *sum = (*sum).max(0));
        }
        peak(acc)
    }
}

/// Sums of the products of x and rows of w.
///
/// # Safety
/// The machine has the instructions of `L`; from the start of each row of w as many values may be read as x has.
#[inline(always)]
unsafe fn dots<L: Lanes>(x: &[i32], w: *const i8, k: usize) -> [i32; ROWS] {
    // SAFETY: as the caller says.
    unsafe {
        let mut lanes = [L::zero(); ROWS];
        for (i, x) in x.chunks_exact(L::WIDTH).enumerate() {
            let x = L::load(x.as_ptr());
            for (r, lanes) in lanes.iter_mut().enumerate() {
                *lanes = L::dot(*lanes, L::load_offset(w.add(r * k + i * L::WIDTH * L::GROUP)), x);
            }
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let mut sums = [0; ROWS];
        sums[..4].copy_from_slice(&L::sums([a, b, c, d]));
        sums[4..].copy_from_slice(&L::sums([e, f, g, h]));
        sums
    }
}
