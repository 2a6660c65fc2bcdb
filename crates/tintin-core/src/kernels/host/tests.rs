//! Every machine that is present against the definition: lengths around the blocking, ±127, ties, sums at their bound.

use std::vec;
use std::vec::Vec;

use super::super::{Conv2d, Outputs, Sums, Windows, portable};
use super::*;
use crate::rescale::MAX_TERMS;
use crate::shape::Shape;

/// Those with vector instructions.
fn machines() -> impl Iterator<Item = Machine> {
    Machine::ALL.iter().copied().filter(|&machine| machine != Machine::Portable && machine.is_present())
}

/// Values of a prime period, ±127 among them, and few enough kinds that maxima tie.
fn paint(n: usize, salt: usize) -> Vec<i8> {
    (0..n).map(|i| [127, -127, 1, 0, -3, 64, -100][(i * 5 + salt + i / 7) % 7]).collect()
}

/// What is there before, and how sums of it and of the products are to be left.
fn before(n: usize) -> Vec<i32> {
    (0..n).map(|i| [7, -90_000, 0, 12_345_678, -3][i % 5]).collect()
}

/// Asserts what a kernel leaves where products alone would be `products` and their maxima at `places`.
fn assert_outputs(products: &[i32], places: &[i8], outputs: usize, kernel: impl Fn(Outputs<'_>) -> Option<u32>) {
    let start = before(products.len());
    for sums in [Sums::Added, Sums::Whole, Sums::Rectified] {
        for with_winners in [true, false] {
            let want: Vec<i32> = (0..products.len())
                .map(|i| match sums {
                    Sums::Added => products[i].wrapping_add(start[i]),
                    Sums::Whole => products[i].wrapping_add(start[i % outputs]),
                    Sums::Rectified => products[i].wrapping_add(start[i % outputs]).max(0),
                })
                .collect();
            let mut have = start.clone();
            let mut winners = vec![0; if with_winners { places.len() } else { 0 }];
            let top = kernel(Outputs { acc: &mut have, winners: &mut winners, sums });
            assert_eq!(have, want, "{sums:?}");
            assert_eq!(top, Some(portable::peak(&want)), "{sums:?}");
            assert!(winners.is_empty() || winners == places);
        }
    }
}

fn assert_products(x: &[i8], w: &[i8], k: usize) {
    let (samples, outputs) = (x.len() / k, w.len() / k);
    let mut products = vec![0; samples * outputs];
    portable::matmul(x, w, k, &mut products, &mut []);
    for machine in machines() {
        std::println!("{machine:?}, k {k}, {samples} × {outputs}");
        assert_outputs(&products, &[], outputs, |out| product(machine, x, w, k, out));
    }
}

#[test]
fn products_equal_portable() {
    for k in (1..70).chain([127, 128, 129, 255, 400]) {
        for (samples, outputs) in [(1, 1), (2, 4), (3, 5), (5, 11), (1, 8), (6, 3), (8, 16), (12, 6), (33, 31), (9, 70)]
        {
            assert_products(&paint(samples * k, 1), &paint(outputs * k, 4), k);
        }
    }
}

#[test]
fn products_are_exact_at_the_bound() {
    let k = MAX_TERMS as usize;
    for (x, w) in [(127, 127), (127, -127), (-127, 127), (-127, -127)] {
        for (samples, outputs) in [(1, 2), (9, 2)] {
            assert_products(&vec![x; samples * k], &vec![w; outputs * k], k);
        }
    }
}

/// Maxima and winners by the definition, index by index.
fn naive(conv: &Conv2d, windows: &Windows, x: &[i8], w: &[i8], acc: &mut [i32], winners: &mut [i8]) {
    let (xs, outputs) = (conv.xs, conv.ys.c as usize);
    let (h, wide, c) = (xs.h as usize, xs.w as usize, xs.c as usize);
    let sum = |x: &[i8], i: usize, j: usize, o: usize| {
        let mut sum = 0i32;
        for a in 0..conv.kernel.0 {
            for b in 0..conv.kernel.1 {
                let row = (i * conv.stride.0 + a).wrapping_sub(conv.padding.0);
                let column = (j * conv.stride.1 + b).wrapping_sub(conv.padding.1);
                for ch in 0..if row < h && column < wide { c } else { 0 } {
                    let weight = i32::from(w[((o * conv.kernel.0 + a) * conv.kernel.1 + b) * c + ch]);
                    sum = sum.wrapping_add(weight * i32::from(x[(row * wide + column) * c + ch]));
                }
            }
        }
        sum
    };
    let mut at = 0;
    for x in x.chunks_exact(xs.len()) {
        for i in 0..windows.rows {
            for j in 0..windows.columns {
                for o in 0..outputs {
                    let (mut best, mut winner) = (None, 0);
                    for place in 0..windows.kernel.0 * windows.kernel.1 {
                        let (a, b) = (place / windows.kernel.1, place % windows.kernel.1);
                        let v = sum(x, conv.first + i * windows.stride.0 + a, j * windows.stride.1 + b, o);
                        if best.is_none_or(|best| v > best) {
                            (best, winner) = (Some(v), place);
                        }
                    }
                    acc[at] = best.unwrap();
                    winners[at] = u8::try_from(winner).unwrap().cast_signed();
                    at += 1;
                }
            }
        }
    }
}

/// A convolution with windows over all its sums, or over `rows` rows of them from `first` on.
fn assert_maxima(conv: Conv2d, kernel: (usize, usize), stride: (usize, usize), rows: usize, samples: usize) {
    let extent = |n: usize, k: usize, s: usize| (n - k) / s + 1;
    let (rows, columns) = (extent(rows, kernel.0, stride.0), extent(conv.ys.w as usize, kernel.1, stride.1));
    let windows = Windows { kernel, stride, rows, columns };
    let x = paint(samples * conv.xs.len(), 2);
    let w = paint(conv.ys.c as usize * conv.kernel.0 * conv.kernel.1 * conv.xs.c as usize, 5);
    let sums = samples * rows * columns * conv.ys.c as usize;
    let (mut products, mut places) = (vec![0; sums], vec![0; sums]);
    naive(&conv, &windows, &x, &w, &mut products, &mut places);
    for machine in machines() {
        let Conv2d { kernel: k, xs, ys, first, .. } = conv;
        std::println!("{:?}", (machine, k, conv.stride, conv.padding, xs, ys, first, kernel, stride, samples));
        let call = |out: Outputs<'_>| Convolution { conv: &conv, windows: &windows, x: &x, w: &w, out }.on(machine);
        assert_outputs(&products, &places, conv.ys.c as usize, call);
    }
}

/// The layer with its output shape.
fn conv(
    xs: Shape,
    outputs: u32,
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: (usize, usize),
) -> Option<Conv2d> {
    let extent = |n: u32, k: usize, s: usize, p: usize| {
        (n as usize + 2 * p).checked_sub(k).map(|n| u32::try_from(n / s + 1).unwrap())
    };
    let (h, w) = (extent(xs.h, kernel.0, stride.0, padding.0)?, extent(xs.w, kernel.1, stride.1, padding.1)?);
    Some(Conv2d { kernel, stride, padding, xs, ys: Shape::new(h, w, outputs), first: 0 })
}

type Pair = (usize, usize);

/// Kernel, stride and padding.
const KERNELS: [(Pair, Pair, Pair); 6] = [
    ((5, 5), (1, 1), (2, 2)),
    ((1, 1), (1, 1), (0, 0)),
    ((3, 2), (2, 3), (2, 1)),
    ((1, 7), (1, 2), (0, 3)),
    ((2, 2), (4, 4), (0, 0)),
    ((8, 9), (1, 1), (7, 8)), // larger than most inputs
];

#[test]
fn sums_of_convolutions_equal_the_definition() {
    for (kernel, stride, padding) in KERNELS {
        for (h, w, c) in [(9, 11, 1), (1, 23, 2), (3, 4, 3), (6, 5, 6), (1, 1, 9)] {
            for outputs in [1, 6, 16, 17, 40] {
                let Some(conv) = conv(Shape::new(h, w, c), outputs, kernel, stride, padding) else { continue };
                let rows = conv.ys.h as usize;
                assert_maxima(conv, (1, 1), (1, 1), rows, 3);
                assert_maxima(Conv2d { first: rows / 2, ..conv }, (1, 1), (1, 1), rows - rows / 2, 1);
            }
        }
    }
}

#[test]
fn maxima_of_convolutions_equal_the_definition() {
    for (kernel, stride, padding) in KERNELS {
        for (window, step) in [((2, 2), (2, 2)), ((3, 2), (1, 3)), ((2, 3), (2, 1)), ((1, 4), (1, 4)), ((5, 5), (7, 7))]
        {
            for (h, w, c) in [(9, 11, 1), (8, 10, 3), (1, 23, 2)] {
                for outputs in [3, 6, 16, 35] {
                    let Some(conv) = conv(Shape::new(h, w, c), outputs, kernel, stride, padding) else { continue };
                    let (rows, columns) = (conv.ys.h as usize, conv.ys.w as usize);
                    if rows >= window.0 && columns >= window.1 {
                        assert_maxima(conv, window, step, rows, 2);
                    }
                }
            }
        }
    }
}

/// Windows of 2 × 2 share what they read: numbers of them around the blocking, kernels of one row and of many, runs around a register.
#[test]
fn maxima_of_squares_equal_the_definition() {
    let kernels =
        [((5, 5), (1, 1), (2, 2)), ((1, 3), (1, 2), (0, 1)), ((2, 9), (1, 1), (1, 0)), ((3, 1), (2, 1), (0, 0))];
    for (kernel, stride, padding) in kernels {
        for (step, (h, w, c)) in [
            ((2, 2), (6, 15, 1)),
            ((2, 2), (9, 12, 7)),
            ((1, 1), (6, 11, 2)),
            ((1, 2), (7, 31, 1)),
            ((3, 4), (12, 33, 4)),
        ] {
            for outputs in [1, 5, 6, 8, 16, 17, 32, 33, 50] {
                let conv = conv(Shape::new(h, w, c), outputs, kernel, stride, padding).unwrap();
                let rows = conv.ys.h as usize;
                if rows >= 2 && conv.ys.w >= 2 {
                    assert_maxima(conv, (2, 2), step, rows, 3);
                }
                if rows >= 3 && conv.ys.w >= 2 {
                    assert_maxima(Conv2d { first: 1, ..conv }, (2, 2), step, rows - 1, 1);
                }
            }
        }
    }
}

/// The largest products in all places: all sums tie, and the first place wins.
#[test]
fn squares_are_exact_at_the_ends() {
    let conv = conv(Shape::new(12, 14, 6), 16, (5, 5), (1, 1), (2, 2)).unwrap();
    let windows = Windows { kernel: (2, 2), stride: (2, 2), rows: 6, columns: 7 };
    for (x, w) in [(127, 127), (127, -127), (-127, 127), (-127, -127)] {
        let (x, w) = (vec![x; conv.xs.len()], vec![w; 16 * 150]);
        let (mut products, mut places) = (vec![0; 42 * 16], vec![0; 42 * 16]);
        naive(&conv, &windows, &x, &w, &mut products, &mut places);
        for machine in machines() {
            let call = |out: Outputs<'_>| Convolution { conv: &conv, windows: &windows, x: &x, w: &w, out }.on(machine);
            assert_outputs(&products, &places, 16, call);
        }
    }
}

/// Maps larger than what is copied at a time: bands of rows, of one sample each.
#[test]
fn bands_equal_the_definition() {
    for (h, w, c) in [(40, 70, 16), (70, 33, 24), (1, 9000, 5), (9000, 1, 5)] {
        let conv = conv(Shape::new(h, w, c), 5, (3, 3), (1, 1), (2, 2)).unwrap();
        let rows = conv.ys.h as usize;
        assert_maxima(conv, (1, 1), (1, 1), rows, 2);
        assert_maxima(conv, (2, 2), (2, 2), rows, 2);
        assert_maxima(Conv2d { first: 1, ..conv }, (2, 2), (1, 2), rows - 1, 1);
    }
}

#[test]
fn the_definition_is_left_to_portable() {
    let out = Outputs { acc: &mut [0], winners: &mut [], sums: Sums::Added };
    assert_eq!(product(Machine::Portable, &[1], &[1], 1, out), None);
}
