//! Depthwise kernels of every machine that is present against the definition: channels around every register, edges, phases, pools.

use std::vec;
use std::vec::Vec;

use super::super::{Conv2d, Errors};
use super::*;
use crate::shape::Shape;

/// Values of a prime period, ±127 among them.
fn paint(n: usize, salt: usize) -> Vec<i8> {
    (0..n).map(|i| [127, -127, 1, 0, -3, 64, -100][(i * 5 + salt + i / 7) % 7]).collect()
}

/// Kernel, stride and padding along one side, and inputs.
type Side = (usize, usize, usize, u32);

fn geometry((kh, sh, ph, h): Side, (kw, sw, pw, w): Side, c: u32) -> Conv2d {
    let outputs = |k, s, p, n: u32| u32::try_from((n as usize + 2 * p - k) / s + 1).unwrap();
    Conv2d {
        kernel: (kh, kw),
        stride: (sh, sw),
        padding: (ph, pw),
        xs: Shape::new(h, w, c),
        ys: Shape::new(outputs(kh, sh, ph, h), outputs(kw, sw, pw, w), c),
        first: 0,
    }
}

/// Calls `f(y, w, x)` with the places of every product of one sample (N27).
fn products(conv: &Conv2d, mut f: impl FnMut(usize, usize, usize)) {
    let (xs, ys) = (conv.xs, conv.ys);
    let (h, w, c) = (xs.h as usize, xs.w as usize, xs.c as usize);
    for y in 0..ys.len() {
        let (i, j, ch) = (y / c / ys.w as usize, y / c % ys.w as usize, y % c);
        for tap in 0..conv.kernel.0 * conv.kernel.1 {
            let row = (i * conv.stride.0 + tap / conv.kernel.1).wrapping_sub(conv.padding.0);
            let column = (j * conv.stride.1 + tap % conv.kernel.1).wrapping_sub(conv.padding.1);
            if row < h && column < w {
                f(y, ch * conv.kernel.0 * conv.kernel.1 + tap, (row * w + column) * c + ch);
            }
        }
    }
}

/// Two samples; errors at the sums, or behind windows of 2 × 2 that overlap.
fn assert_depthwise(machine: Machine, conv: Conv2d, pooled: bool) {
    let (xs, ys, c) = (conv.xs, conv.ys, conv.xs.c as usize);
    let (x, w) = (paint(2 * xs.len(), 1), paint(c * conv.kernel.0 * conv.kernel.1, 2));
    let ps = if pooled { Shape::new(ys.h - 1, ys.w - 1, ys.c) } else { ys };
    let dy = paint(2 * ps.len(), 3);
    let index: Vec<i8> = if pooled { (0..4).cycle().take(dy.len()).collect() } else { vec![] };
    let kernel = if pooled { (2, 2) } else { (1, 1) };
    let errors = Errors { dy: &dy, index: &index, kernel, stride: (1, 1), ps };
    let mut at_sums = vec![0; 2 * ys.len()];
    for (n, &d) in dy.iter().enumerate() {
        let (s, n) = (n / ps.len(), n % ps.len());
        let winner = index.get(s * ps.len() + n).map_or(0, |&i| usize::from(i.unsigned_abs()));
        let (i, j) = (n / c / ps.w as usize + winner / 2, n / c % ps.w as usize + winner % 2);
        at_sums[s * ys.len() + (i * ys.w as usize + j) * c + n % c] += i32::from(d);
    }
    let (mut acc, mut dx, mut gw) = (vec![7; at_sums.len()], vec![5; x.len()], vec![3; w.len()]);
    let before = (acc.clone(), dx.clone(), gw.clone());
    for s in 0..2 {
        products(&conv, |p, q, r| {
            let (p, r) = (s * ys.len() + p, s * xs.len() + r);
            acc[p] += i32::from(w[q]) * i32::from(x[r]);
            dx[r] += i32::from(w[q]) * at_sums[p];
            gw[q] += i32::from(x[r]) * at_sums[p];
        });
    }
    let (mut own, mut own_dx, mut own_gw) = before;
    assert!(depthwise_sums(machine, &conv, &x, &w, &mut own));
    assert!(depthwise_input_errors(machine, &conv, &w, errors, &mut own_dx));
    assert!(depthwise_gradient(machine, &conv, &x, errors, &mut own_gw));
    assert!(
        (own, own_dx, own_gw) == (acc.clone(), dx, gw),
        "{machine:?} {:?} {:?} {:?} {xs:?} {pooled}",
        conv.kernel,
        conv.stride,
        conv.padding
    );
    // one row of the first sample
    let (row, first) = (ys.w as usize * c, ys.h as usize - 1);
    let mut own = vec![7; row];
    assert!(depthwise_sums(machine, &Conv2d { first, ..conv }, &x[..xs.len()], &w, &mut own));
    assert_eq!(own, acc[first * row..][..row]);
}

#[test]
fn depthwise_kernels_equal_the_definition() {
    let sides: [Side; 8] = [
        (1, 1, 0, 2),
        (3, 1, 1, 9),
        (3, 2, 1, 8),
        (2, 3, 1, 7),
        (5, 1, 4, 3),
        (5, 3, 2, 13),
        (1, 2, 0, 5),
        (4, 1, 0, 5),
    ];
    for machine in Machine::ALL.iter().copied().filter(|&m| m != Machine::Portable && m.is_present()) {
        for c in [1, 3, 4, 7, 8, 9, 16, 21, 37] {
            for (n, &rows) in sides.iter().enumerate() {
                for columns in [sides[(n + 1) % 8], sides[(n + 4) % 8], rows] {
                    let conv = geometry(rows, columns, c);
                    assert_depthwise(machine, conv, false);
                    if conv.ys.h > 1 && conv.ys.w > 1 {
                        assert_depthwise(machine, conv, true);
                    }
                }
            }
        }
    }
}
