//! Convolutions of one input channel with the DSP extension: four places of an output row at a time, from rows of input as they lie.

use super::dsp::tintin_put;
use crate::kernels::{Conv2d, LANES};

unsafe extern "C" {
    fn tintin_taps(to: *mut i32, w: *const i8, rows: usize, run: usize, rows_of_filter: usize);
    fn tintin_slide(
        lines: *const i8,
        taps: *const i32,
        acc: *mut i32,
        room: *mut i32,
        blocks: usize,
        filters: usize,
        rows: usize,
        line_bytes: usize,
        second_bytes: usize,
        third_bytes: usize,
    );
}

/// Most weights of a kernel row.
const RUN: usize = 5;
/// Words of a kernel row that four places need of x, and those of its weights.
const PAIRS: usize = 6;
const TAPS: usize = 3;

/// See [`portable::conv2d`](crate::kernels::portable::conv2d); false, and nothing done, where patches are needed.
pub fn conv2d(conv: &Conv2d, x: &[i8], w: &[i8], acc: &mut [i32], workspace: &mut [i32]) -> bool {
    let ((rows, run), width, channels) = (conv.kernel, conv.ys.w as usize, conv.ys.c as usize);
    if conv.xs.c != 1 || conv.stride.1 != 1 || run > RUN {
        return false;
    }
    let out_rows = acc.len() / (width * channels);
    // The input rows under an output row, with zeros around them; behind them the pairs, then the taps of some filters.
    let line = width.div_ceil(LANES) + 1;
    let (pairs, taps) = (rows * line, rows * (line + PAIRS));
    let room = workspace.len().saturating_sub(taps) / (rows * TAPS);
    if room == 0 {
        return false;
    }
    assert!(w.len() == channels * rows * run && acc.len() == out_rows * width * channels);
    let mut at = 0;
    while at < channels {
        let filters = room.min(channels - at);
        let to = workspace[taps..].as_mut_ptr();
        // SAFETY: three words for every kernel row of these filters, for which there is room.
        unsafe { tintin_taps(to, w[at * rows * run..].as_ptr(), filters * rows, run, rows) };
        for i in 0..out_rows {
            fill(conv, x, conv.first + i, &mut workspace[..pairs], line);
            let mut j = 0;
            while j < width {
                let step = 4 * channels;
                let (places, second, third) = match width - j {
                    1 => (1, 0, 0),
                    2 | 3 => (2, step, 0),
                    _ => (LANES, step, 2 * step),
                };
                let blocks = (width - j) / places;
                let acc = acc[(i * width + j) * channels + at..].as_mut_ptr();
                let work = workspace.as_mut_ptr();
                // SAFETY: the places of all blocks lie in acc; what a block looks at, eight columns of every line from its first place
                // on, lies in the workspace, and so do pairs and taps.
                unsafe {
                    let lines = work.cast::<i8>().add(j);
                    let (pairs, taps) = (work.add(pairs), work.add(taps));
                    tintin_slide(lines, taps, acc, pairs, blocks, filters, rows, 4 * line, second, third);
                }
                j += places * blocks;
            }
        }
        at += filters;
    }
    true
}

/// The input rows under output row `i`, each `line` words, zeros where the kernel leaves the input.
fn fill(conv: &Conv2d, x: &[i8], i: usize, lines: &mut [i32], line: usize) {
    let (h, w) = (conv.xs.h as usize, conv.xs.w as usize);
    let (top, padding) = (i * conv.stride.0, conv.padding.0);
    let (from, to) = (top.max(padding), (top + conv.kernel.0).min(h + padding));
    lines.fill(0);
    if from < to {
        let rows = to - from;
        let first = 4 * line * (from - top) + conv.padding.1;
        assert!(first + 4 * line * (rows - 1) + w <= 4 * lines.len() && x.len() == h * w);
        // SAFETY: whole rows of x, the last of which ends inside the lines, as has just been asserted.
        unsafe {
            let (lines, x) = (lines.as_mut_ptr().cast::<i8>().add(first), x.as_ptr().add((from - padding) * w));
            tintin_put(lines, x, w, rows, 4 * line, w);
        }
    }
}
