//! Tests over the whole list: a new layer is covered by its line in `samples`.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::plan::{Options, empty_slots, plan};

/// A few of every layer with sums, with an input shape.
fn samples() -> Vec<(Layer, Shape)> {
    let map = Shape::new(7, 6, 3);
    vec![
        (Layer::Linear(Linear::new(5)), Shape::flat(9)),
        (Layer::Linear(Linear::new(1)), Shape::flat(1)),
        (Layer::Linear(Linear::new(4)), map),
        (Layer::Conv2d(Conv2d::new(4, (1, 1))), map),
        (Layer::Conv2d(Conv2d::new(2, (3, 3)).padding((1, 1))), map),
        (Layer::Conv2d(Conv2d::new(3, (5, 4)).padding((4, 3)).stride((3, 2))), map),
        (Layer::Conv2d(Conv2d::new(3, (7, 6))), map), // kernel = input
        (Layer::Conv2d(Conv2d::new(2, (1, 5)).padding((0, 2)).stride((1, 3))), Shape::new(1, 23, 2)),
        (Layer::Conv2d(Conv2d::new(6, (2, 2)).stride((4, 4))), Shape::new(6, 6, 1)), // gaps between windows
        (Layer::DepthwiseConv2d(DepthwiseConv2d::new((1, 1))), map),
        (Layer::DepthwiseConv2d(DepthwiseConv2d::new((3, 3)).padding((1, 1))), Shape::new(7, 9, 37)),
        (Layer::DepthwiseConv2d(DepthwiseConv2d::new((5, 4)).padding((4, 3)).stride((3, 2))), Shape::new(7, 6, 16)),
        (Layer::DepthwiseConv2d(DepthwiseConv2d::new((7, 6))), map), // kernel = input
        (Layer::DepthwiseConv2d(DepthwiseConv2d::new((1, 5)).padding((0, 2)).stride((1, 3))), Shape::new(1, 23, 2)),
        (Layer::DepthwiseConv2d(DepthwiseConv2d::new((2, 2)).stride((4, 4))), Shape::new(6, 6, 1)),
        (Layer::AvgPool2d(AvgPool2d::new((2, 2))), map),
        (Layer::AvgPool2d(AvgPool2d::new((3, 3)).stride((2, 1))), map),
        (Layer::GlobalAvgPool2d(GlobalAvgPool2d), map),
    ]
}

/// Values of a period that is prime, so that swapped blocks show, and ±127 among them.
fn paint(n: usize, salt: usize) -> Vec<i8> {
    (0..n)
        .map(|i| i8::try_from((i * 89 + salt * 37) % 251 % 255).map_or(-127, |v| v.wrapping_mul(2) | 1).max(-127))
        .collect()
}

fn inner(a: &[i32], b: &[i8]) -> i64 {
    a.iter().zip(b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum()
}

/// ⟨acc, dy⟩ = ⟨x, dx⟩ = ⟨w, gw⟩, exactly: forward, backward and gradient are one bilinear form.
#[test]
fn adjoint_identity() {
    for (layer, xs) in samples() {
        let need = layer.need(xs).unwrap();
        let x = paint(xs.len(), 1);
        let w = paint((need.rows * need.row) as usize, 2);
        let dy = paint(need.ys.len(), 3);
        let mut acc = vec![0; need.ys.len()];
        let mut workspace = vec![0; need.workspace as usize];
        let rows = need.ys.h as usize;
        layer.forward(Forward {
            x: &x,
            w: &w,
            acc: &mut acc,
            workspace: &mut workspace,
            xs,
            ys: need.ys,
            first: 0,
            rows,
        });
        let errors = Errors { dy: &dy, index: &[], pool: None, ps: need.ys };
        let mut dx = vec![0; xs.len()];
        layer.backward(Backward { w: &w, errors, acc: &mut dx, xs, first: 0, rows: xs.h as usize });
        assert_eq!(inner(&acc, &dy), inner(&dx, &x), "{layer:?}");
        if need.rows > 0 {
            let mut gw = vec![0; w.len()];
            layer.gradient(Gradient {
                x: &x,
                errors,
                acc: &mut gw,
                xs,
                rows: 0..need.rows as usize,
                workspace: &mut workspace,
            });
            assert_eq!(inner(&acc, &dy), inner(&gw, &w), "{layer:?}");
            // row by row gives the same rows
            for o in 0..need.rows as usize {
                let mut row = vec![0; need.row as usize];
                layer.gradient(Gradient {
                    x: &x,
                    errors,
                    acc: &mut row,
                    xs,
                    rows: o..o + 1,
                    workspace: &mut workspace,
                });
                assert_eq!(row, gw[o * row.len()..][..row.len()], "{layer:?} row {o}");
            }
        }
    }
}

/// Output rows computed in strips are those computed at once.
#[test]
fn strips_equal_whole() {
    for (layer, xs) in samples() {
        let need = layer.need(xs).unwrap();
        let x = paint(xs.len(), 4);
        let w = paint((need.rows * need.row) as usize, 5);
        let rows = need.ys.h as usize;
        let strip = need.ys.len() / rows;
        let run = |first: usize, rows: usize| {
            let mut acc = vec![0; rows * strip];
            let mut workspace = vec![0; need.workspace as usize];
            let workspace = &mut workspace[..];
            layer.forward(Forward { x: &x, w: &w, acc: &mut acc, workspace, xs, ys: need.ys, first, rows });
            acc
        };
        let whole = run(0, rows);
        for first in 0..rows {
            assert_eq!(run(first, 1), whole[first * strip..][..strip], "{layer:?} row {first}");
        }
    }
}

#[test]
fn records_round_trip_and_refuse_stray_bits() {
    let list = samples().into_iter().map(|(layer, _)| layer).chain([
        Layer::ReLU(ReLU),
        Layer::Flatten(Flatten),
        Layer::MaxPool2d(MaxPool2d::new((3, 2)).stride((1, 4))),
        Layer::Linear(Linear::new(65_535).with_bias()),
        Layer::DepthwiseConv2d(DepthwiseConv2d::new((3, 1)).with_bias()),
    ]);
    for layer in list {
        let record = layer.pack();
        assert_eq!(Layer::unpack(record), Some(layer));
        let mut altered = record;
        altered[1] |= 0x80;
        assert_eq!(Layer::unpack(altered), None);
    }
    assert_eq!(Layer::unpack([0; RECORD]), None);
    assert_eq!(Layer::unpack([200; RECORD]), None);
}

/// What each layer refuses, and that the plan names it.
#[test]
fn refusals_name_the_layer() {
    let cases = [
        (
            Layer::Conv2d(Conv2d::new(8, (9, 9))),
            "layer 0 (Conv2d): kernel larger than the padded input, input 7 x 7 x 1",
        ),
        (Layer::Conv2d(Conv2d::new(0, (1, 1))), "layer 0 (Conv2d): no output channels, input 7 x 7 x 1"),
        (
            Layer::Conv2d(Conv2d::new(1, (1, 1)).padding((1, 0))),
            "layer 0 (Conv2d): padding must be smaller than the kernel, input 7 x 7 x 1",
        ),
        (
            Layer::Conv2d(Conv2d::new(65_535, (3, 3))),
            "layer 0 (Conv2d): sum of products could overflow 32 bits: fan-out too large, input 7 x 7 x 1",
        ),
        (
            Layer::DepthwiseConv2d(DepthwiseConv2d::new((8, 7))),
            "layer 0 (DepthwiseConv2d): kernel larger than the padded input, input 7 x 7 x 1",
        ),
        (
            Layer::DepthwiseConv2d(DepthwiseConv2d::new((3, 3)).padding((0, 3))),
            "layer 0 (DepthwiseConv2d): padding must be smaller than the kernel, input 7 x 7 x 1",
        ),
        (
            Layer::DepthwiseConv2d(DepthwiseConv2d::new((365, 364)).padding((364, 363))),
            "layer 0 (DepthwiseConv2d): sum of products could overflow 32 bits: fan-in too large, input 7 x 7 x 1",
        ),
        (Layer::Linear(Linear::new(0)), "layer 0 (Linear): no output features, input 7 x 7 x 1"),
        (
            Layer::MaxPool2d(MaxPool2d::new((9, 1))),
            "layer 0 (MaxPool2d): pooling window larger than the input, input 7 x 7 x 1",
        ),
    ];
    for (layer, message) in cases {
        let error = plan(&[layer], Shape::new(7, 7, 1), Options::inference(), &mut empty_slots::<1>());
        assert_eq!(error.unwrap_err().message().as_str(), message);
    }
    let wide = [Layer::Linear(Linear::new(2))];
    for (n, bias, fits) in
        [(132_624, false, true), (132_625, false, false), (66_052, true, true), (66_053, true, false)]
    {
        let layer = if bias { Layer::Linear(Linear::new(2).with_bias()) } else { wide[0] };
        let planned = plan(&[layer], Shape::flat(n), Options::inference(), &mut empty_slots::<1>());
        assert_eq!(planned.is_ok(), fits, "{n} {bias}");
    }
}
