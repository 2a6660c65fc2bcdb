//! Input errors of a convolution of stride one by the kernel of forward passes: they are a convolution of the errors with the weights
//! turned about both axes, input and output channels exchanged. For errors that are mostly not zero: it passes over none.

use super::super::{Conv2d, Errors, Outputs, Sums, Windows, as_bytes};
use super::Machine;
use super::conv2d::Convolution;
use super::groups::{room, with_buffers};
use super::tile::about_nonzero;

/// One of so many errors not zero: then listing them takes longer than multiplying all.
const ENOUGH: usize = 8;
/// Least places of all samples, so that turning all weights is little beside multiplying them.
const PLACES: usize = 32;

/// Whether `conv` can be turned about, and these errors are worth it.
pub fn suits(conv: &Conv2d, errors: &Errors<'_>) -> bool {
    let ends = |n: u32, padding: usize, kernel: usize, sums: u32| {
        padding < kernel && n as usize + 2 * padding + 1 == sums as usize + kernel
    };
    errors.index.is_empty()
        && conv.stride == (1, 1)
        && errors.dy.len() >= PLACES * errors.ps.c as usize
        && ends(conv.xs.h, conv.padding.0, conv.kernel.0, errors.ps.h)
        && ends(conv.xs.w, conv.padding.1, conv.kernel.1, errors.ps.w)
        && super::run(
            #[inline(always)]
            || about_nonzero(errors.dy) * ENOUGH > errors.dy.len(),
        )
}

/// See [`Conv2d::input_errors`], for what [`suits`]; false if `machine` has no vector instructions.
pub fn input_errors(machine: Machine, conv: &Conv2d, w: &[i8], errors: Errors<'_>, acc: &mut [i32]) -> bool {
    let ((height, width), (inputs, outputs)) = (conv.kernel, (conv.xs.c as usize, errors.ps.c as usize));
    let places = height * width;
    assert!(w.len() == outputs * places * inputs, "not as many weights as the convolution has");
    let turned = Conv2d {
        kernel: conv.kernel,
        stride: (1, 1),
        padding: (height - 1 - conv.padding.0, width - 1 - conv.padding.1),
        xs: errors.ps,
        ys: conv.xs,
        first: 0,
    };
    with_buffers(|[flipped]| {
        let flipped = &mut as_bytes(room(flipped, w.len().div_ceil(4)))[..w.len()];
        for (o, filter) in w.chunks_exact(places * inputs).enumerate() {
            for (place, weights) in filter.chunks_exact(inputs).enumerate() {
                let to = flipped[(places - 1 - place) * outputs + o..].iter_mut().step_by(places * outputs);
                for (to, &weight) in to.zip(weights) {
                    *to = weight;
                }
            }
        }
        let windows = Windows::places(conv.xs.h as usize, conv.xs.w as usize);
        let out = Outputs { acc, winners: &mut [], sums: Sums::Added };
        Convolution { conv: &turned, windows: &windows, x: errors.dy, w: flipped, out }.on(machine).is_some()
    })
}
