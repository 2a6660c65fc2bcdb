//! The backward half of every machine that is present against the definition: lengths around the blocking, ±127, errors everywhere,
//! here and there and nowhere, sums at their bound.

use std::vec;
use std::vec::Vec;

use super::super::{Conv2d, Errors, RowStep, portable};
use super::*;
use crate::rescale::{MAX_TERMS, clip, stochastic};
use crate::rng::Draws;
use crate::shape::Shape;

/// Those with vector instructions.
fn machines() -> impl Iterator<Item = Machine> {
    Machine::ALL.iter().copied().filter(|&machine| machine != Machine::Portable && machine.is_present())
}

/// Values of a prime period, ±127 among them.
fn paint(n: usize, salt: usize) -> Vec<i8> {
    (0..n).map(|i| [127, -127, 1, 0, -3, 64, -100][(i * 5 + salt + i / 7) % 7]).collect()
}

/// The same with zeros: about one of `every` is left, and none of every third sample of `len`.
fn errors(samples: usize, len: usize, every: usize) -> Vec<i8> {
    let mut dy = paint(samples * len, 3);
    let mut draws = Draws::new(1, 2, 3, 4);
    for (i, d) in dy.iter_mut().enumerate() {
        if (every > 1 && i / len % 3 == 1) || draws.below(u32::try_from(every).unwrap()) != 0 {
            *d = 0;
        }
    }
    dy
}

fn assert_dense(dy: &[i8], outputs: usize, w: &[i8], x: &[i8], k: usize) {
    let samples = dy.len() / outputs;
    let (mut dx, mut gw) = (vec![7; samples * k], vec![-7; outputs * k]);
    portable::matmul_transposed(dy, outputs, w, k, &mut dx, k);
    portable::outer_products(dy, outputs, 0, x, k, &mut gw);
    for machine in machines() {
        let (mut have_dx, mut have_gw) = (vec![7; samples * k], vec![-7; outputs * k]);
        assert!(matmul_transposed(machine, dy, outputs, w, k, &mut have_dx, k));
        assert!(outer_products(machine, dy, outputs, 0, x, k, &mut have_gw));
        assert_eq!(have_dx, dx, "{machine:?}, k {k}, {samples} × {outputs}");
        assert_eq!(have_gw, gw, "{machine:?}, k {k}, {samples} × {outputs}");
        // some rows of the gradient, some inputs
        let (from, first) = (outputs / 2, k / 3);
        let mut some = vec![-7; (outputs - from) * k];
        assert!(outer_products(machine, dy, outputs, from, x, k, &mut some));
        assert_eq!(some, gw[from * k..]);
        let len = (k - first).min(5);
        let mut some = vec![7; samples * len];
        assert!(matmul_transposed(machine, dy, outputs, &w[first..], k, &mut some, len));
        for (some, dx) in some.chunks_exact(len).zip(dx.chunks_exact(k)) {
            assert_eq!(some, &dx[first..][..len]);
        }
    }
}

#[test]
fn dense_products_equal_portable() {
    for k in (1..40).chain([63, 64, 65, 97, 191, 192, 193, 400]) {
        for (samples, outputs) in [(1, 1), (1, 10), (2, 3), (3, 5), (4, 8), (5, 11), (9, 70)] {
            for every in [1, 2, 9] {
                let dy = errors(samples, outputs, every);
                assert_dense(&dy, outputs, &paint(outputs * k, 4), &paint(samples * k, 5), k);
            }
        }
    }
    // more groups of terms than a block
    let dy = errors(6, 700, 1);
    assert_dense(&dy, 700, &paint(700 * 9, 4), &paint(6 * 9, 5), 9);
}

#[test]
fn dense_products_are_exact_at_the_bound() {
    let k = MAX_TERMS as usize;
    for (d, x) in [(127, 127), (127, -127), (-127, 127), (-127, -127)] {
        for outputs in [1, 2] {
            assert_dense(&vec![d; k * outputs], outputs, &[x, x], &vec![x; k], 1);
        }
    }
}

/// Input errors and gradient by the definition, index by index.
fn naive(conv: &Conv2d, errors: Errors<'_>, x: &[i8], w: &[i8], dx: &mut [i32], gw: &mut [i32]) {
    let (xs, ps) = (conv.xs, errors.ps);
    let (h, wide, c) = (xs.h as usize, xs.w as usize, xs.c as usize);
    for (at, &d) in errors.dy.iter().enumerate() {
        let (place, o) = (at / ps.c as usize, at % ps.c as usize);
        let (s, place) = (place / ps.places(), place % ps.places());
        let winner = errors.index.get(at).map_or(0, |p| usize::from(p.cast_unsigned()));
        let i = place / ps.w as usize * errors.stride.0 + winner / errors.kernel.1;
        let j = place % ps.w as usize * errors.stride.1 + winner % errors.kernel.1;
        for a in 0..conv.kernel.0 {
            for b in 0..conv.kernel.1 {
                let row = (i * conv.stride.0 + a).wrapping_sub(conv.padding.0);
                let column = (j * conv.stride.1 + b).wrapping_sub(conv.padding.1);
                for ch in 0..if row < h && column < wide { c } else { 0 } {
                    let weight = ((o * conv.kernel.0 + a) * conv.kernel.1 + b) * c + ch;
                    let input = ((s * h + row) * wide + column) * c + ch;
                    dx[input] = dx[input].wrapping_add(i32::from(d) * i32::from(w[weight]));
                    gw[weight] = gw[weight].wrapping_add(i32::from(d) * i32::from(x[input]));
                }
            }
        }
    }
}

type Pair = (usize, usize);

/// A convolution whose sums `windows` (kernel, stride) lie over; nothing if it cannot be.
fn assert_convolution(xs: Shape, outputs: u32, layer: (Pair, Pair, Pair), windows: Option<(Pair, Pair)>, every: usize) {
    let (kernel, stride, padding) = layer;
    let extent = |n: usize, k: usize, s: usize| n.checked_sub(k).map(|n| n / s + 1);
    let Some(h) = extent(xs.h as usize + 2 * padding.0, kernel.0, stride.0) else { return };
    let Some(w) = extent(xs.w as usize + 2 * padding.1, kernel.1, stride.1) else { return };
    let (window, step) = windows.unwrap_or(((1, 1), (1, 1)));
    let (Some(rows), Some(columns)) = (extent(h, window.0, step.0), extent(w, window.1, step.1)) else { return };
    let size = |n: usize| u32::try_from(n).unwrap();
    let conv = Conv2d { kernel, stride, padding, xs, ys: Shape::new(size(h), size(w), outputs), first: 0 };
    let ps = Shape::new(size(rows), size(columns), outputs);
    let samples = 4;
    let dy = errors(samples, ps.len(), every);
    let places = window.0 * window.1;
    let index: Vec<i8> = match windows {
        Some(_) => (0..dy.len()).map(|i| u8::try_from(i * 7 % places).unwrap().cast_signed()).collect(),
        None => Vec::new(),
    };
    let errors = Errors { dy: &dy, index: &index, kernel: window, stride: step, ps };
    let patch = kernel.0 * kernel.1 * xs.c as usize;
    let (x, w) = (paint(samples * xs.len(), 2), paint(outputs as usize * patch, 5));
    let (mut dx, mut gw) = (vec![9; x.len()], vec![-9; w.len()]);
    naive(&conv, errors, &x, &w, &mut dx, &mut gw);
    for machine in machines() {
        let case = (machine, layer, windows, xs, outputs, every);
        let (mut have_dx, mut have_gw) = (vec![9; x.len()], vec![-9; w.len()]);
        assert!(input_errors(machine, &conv, &w, errors, &mut have_dx));
        assert_eq!(have_dx, dx, "{case:?}");
        assert!(gradient(machine, &conv, &x, errors, 0..outputs as usize, &mut have_gw));
        assert_eq!(have_gw, gw, "{case:?}");
        let some = outputs as usize / 3..(outputs as usize).div_ceil(2);
        let mut have_gw = vec![-9; some.len() * patch];
        assert!(gradient(machine, &conv, &x, errors, some.clone(), &mut have_gw));
        assert_eq!(have_gw, gw[some.start * patch..some.end * patch], "{case:?} {some:?}");
    }
}

/// Kernel, stride and padding.
const LAYERS: [(Pair, Pair, Pair); 9] = [
    ((5, 5), (1, 1), (2, 2)),
    ((3, 3), (1, 1), (1, 1)),
    ((1, 1), (1, 1), (0, 0)),
    ((3, 2), (2, 3), (2, 1)),
    ((1, 7), (1, 2), (0, 3)),
    ((2, 2), (4, 4), (0, 0)),
    ((8, 9), (1, 1), (7, 8)), // larger than most inputs
    ((4, 3), (1, 1), (1, 0)),
    ((2, 3), (1, 1), (2, 3)), // places that see nothing but padding
];

/// None, and windows that overlap, leave gaps, and lie side by side.
const WINDOWS: [Option<(Pair, Pair)>; 7] = [
    None,
    Some(((2, 2), (2, 2))),
    Some(((3, 2), (1, 1))),
    Some(((2, 3), (2, 1))),
    Some(((1, 4), (1, 4))),
    Some(((1, 1), (2, 3))),
    Some(((5, 5), (7, 7))),
];

#[test]
fn convolutions_equal_the_definition() {
    for layer in LAYERS {
        for windows in WINDOWS {
            for (h, w, c) in [(9, 11, 1), (1, 23, 2), (4, 5, 3), (6, 7, 6), (1, 1, 9)] {
                for (outputs, every) in [(1, 1), (6, 4), (5, 1), (16, 9), (21, 2)] {
                    assert_convolution(Shape::new(h, w, c), outputs, layer, windows, every);
                }
            }
        }
    }
}

/// Behind 2×2 pools, one input channel or several, as few and as many errors, windows and channels as fit in a register, and more.
#[test]
fn convolutions_behind_pools_equal_the_definition() {
    let pool = Some(((2, 2), (2, 2)));
    for (h, w, c) in [(28, 28, 1), (28, 32, 1), (28, 33, 1), (1, 28, 1), (14, 14, 6), (13, 12, 3), (20, 6, 16)] {
        for layer in [
            ((5, 5), (1, 1), (2, 2)),
            ((5, 5), (1, 1), (0, 0)),
            ((3, 3), (1, 1), (1, 1)),
            ((1, 1), (1, 1), (0, 0)),
            ((1, 6), (1, 1), (0, 2)),
            ((4, 2), (1, 1), (1, 1)),
            ((3, 3), (2, 1), (0, 0)),
        ] {
            for (outputs, every) in [(1, 1), (6, 3), (8, 2), (9, 1), (16, 40), (33, 4)] {
                assert_convolution(Shape::new(h, w, c), outputs, layer, pool, every);
            }
        }
    }
}

/// More patches, weights and errors than are held at a time.
#[test]
fn large_convolutions_equal_the_definition() {
    for windows in [None, Some(((2, 2), (2, 2)))] {
        for every in [1, 20] {
            assert_convolution(Shape::new(30, 41, 7), 18, ((3, 3), (1, 1), (1, 1)), windows, every);
            assert_convolution(Shape::new(1, 3000, 3), 3, ((1, 9), (1, 1), (0, 4)), windows, every);
            assert_convolution(Shape::new(5, 6, 170), 75, ((3, 3), (1, 1), (1, 1)), windows, every);
        }
    }
}

#[test]
fn convolutions_are_exact_at_the_bound() {
    // 132 624 products of ±127² meet in each input and in each weight
    for (d, v) in [(127, 127), (127, -127), (-127, 127), (-127, -127)] {
        let outputs = MAX_TERMS;
        let conv = Conv2d {
            kernel: (1, 1),
            stride: (1, 1),
            padding: (0, 0),
            xs: Shape::new(1, 1, 1),
            ys: Shape::new(1, 1, outputs),
            first: 0,
        };
        let n = outputs as usize;
        let dy = vec![d; n];
        let errors = Errors { dy: &dy, index: &[], kernel: (1, 1), stride: (1, 1), ps: conv.ys };
        let want = i32::from(d) * i32::from(v) * outputs.cast_signed();
        for machine in machines() {
            let mut dx = [0];
            assert!(input_errors(machine, &conv, &vec![v; n], errors, &mut dx));
            assert_eq!(dx, [want]);
            let conv = Conv2d { xs: Shape::new(1, outputs, 1), ys: Shape::new(1, outputs, 1), ..conv };
            let errors = Errors { ps: conv.ys, ..errors };
            let mut gw = [0];
            assert!(gradient(machine, &conv, &vec![v; n], errors, 0..1, &mut gw));
            assert_eq!(gw, [want]);
        }
    }
}

#[test]
fn steps_equal_the_definition() {
    let draws = |r: usize| Draws::new(7, 5, 3, u32::try_from(r).unwrap());
    for row in (1..70).chain([150, 400]) {
        for (before, m, shift) in [(0, 1, 0), (0, 255, 30), (0, 130, 9), (3, 200, 1), (23, 128, 4)] {
            let rows = 5;
            let start = paint(rows * row, 1);
            let g: Vec<i32> =
                (0..rows * row).map(|i| (i32::try_from(i).unwrap() - 40) * (15_485 >> (shift / 3))).collect();
            let (dy, x) = ([3, 0, -127, 1, 127], paint(row, 6));
            let outer: Vec<i32> = dy.iter().flat_map(|&d| x.iter().map(move |&x| i32::from(x) * d)).collect();
            let dy = dy.map(|d| i8::try_from(d).unwrap());
            let step = |r: usize, _: u32| (r != 1).then(|| RowStep { before, m, shift, draws: draws(r) });
            let definition = |g: &[i32]| {
                let mut w = start.clone();
                for (r, (w, g)) in w.chunks_exact_mut(row).zip(g.chunks_exact(row)).enumerate() {
                    let mut draws = draws(r);
                    for (w, &g) in w.iter_mut().zip(g) {
                        let (v, u) = (((g + ((1 << before) >> 1)) >> before) * m, draws.draw());
                        let delta = if shift == 0 { v } else { stochastic(v, shift, u) };
                        *w = if r == 1 { *w } else { clip(i32::from(*w) - delta) };
                    }
                }
                w
            };
            for machine in machines() {
                let (mut w, mut peaks) = (start.clone(), Vec::new());
                assert!(descend_rows(machine, &mut w, &g, row, |r, top| {
                    peaks.push(top);
                    step(r, top)
                }));
                assert_eq!(w, definition(&g), "{machine:?} {row} {before} {m} {shift}");
                let want: Vec<u32> = g.chunks_exact(row).map(portable::peak).collect();
                assert_eq!(peaks, want);
                let mut w = start.clone();
                assert!(descend_outer(machine, &mut w, &dy, &x, step));
                assert_eq!(w, definition(&outer), "{machine:?} {row} {before} {m} {shift}, outer");
            }
        }
    }
}

#[test]
fn the_backward_definition_is_left_to_portable() {
    assert!(!matmul_transposed(Machine::Portable, &[1], 1, &[1], 1, &mut [0], 1));
    assert!(!descend_rows(Machine::Portable, &mut [1], &[1], 1, |_, _| None));
}
