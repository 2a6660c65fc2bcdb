//! The files in `tests/data`: what the engine writes today is what it wrote then, and what it wrote then still reads.
//!
//! `TINTIN_BLESS=1 cargo test -p tintin-core --all-features --test golden` writes the files anew. That is for a new `FORMAT` or
//! `NUMERICS` only: see `docs/format.md`. Nothing here includes a file at compile time, so that this
//! test builds when they are missing or old.
#![allow(missing_docs)]
#![cfg(feature = "alloc")]

mod lenet5;

use tintin_core::heap::Model;
use tintin_core::layers::*;
use tintin_core::loss::{Loss, Target};
use tintin_core::optim::{Recipe, Rule, Schedule};
use tintin_core::plan::Options;
use tintin_core::rescale::Rounding;
use tintin_core::shape::Shape;

/// Every layer of format 1, biases, and a recipe with every field in use: the file that `docs/format.md` walks through.
fn make_format_1() -> Model {
    make(vec![
        Layer::Conv2d(Conv2d::new(2, (2, 3)).stride((1, 2)).padding((1, 0)).with_bias()),
        Layer::ReLU(ReLU),
        Layer::MaxPool2d(MaxPool2d::new((2, 2)).stride((1, 1))),
        Layer::AvgPool2d(AvgPool2d::new((2, 1))),
        Layer::GlobalAvgPool2d(GlobalAvgPool2d),
        Layer::Flatten(Flatten),
        Layer::Linear(Linear::new(3).with_bias()),
    ])
}

/// The layers that format 2 brought.
fn make_format_2() -> Model {
    make(vec![
        Layer::Conv2d(Conv2d::new(3, (2, 2))),
        Layer::ReLU(ReLU),
        Layer::DepthwiseConv2d(DepthwiseConv2d::new((3, 2)).stride((2, 1)).padding((1, 0)).with_bias()),
        Layer::GlobalAvgPool2d(GlobalAvgPool2d),
        Layer::Linear(Linear::new(3)),
    ])
}

/// A model of these layers after five steps.
fn make(layers: Vec<Layer>) -> Model {
    let recipe = Recipe {
        rule: Rule::TinTin { margin: 2 },
        rounding: Rounding::Stochastic,
        loss: Loss::CrossEntropy,
        schedule: Schedule { start: 3, change: 1, milestones: [100, 2000, u32::MAX, u32::MAX] },
    };
    let mut model = Model::new(layers, Shape::new(5, 8, 1), 0x1234_5678).unwrap();
    for step in 0..5u16 {
        let x: Vec<i8> = lenet5::image(step.into()).0[..40].to_vec();
        let mut net = model.net(Options::training(1)).unwrap();
        net.train_step(&x, -7, Target::Labels(&[step % 3]), &recipe);
    }
    model.recipe = Some(recipe);
    model
}

fn path(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Compares a file of the repository with what the engine writes today, or writes it.
fn compare(name: &str, model: &Model) {
    let (path, bytes) = (path(name), model.to_bytes().unwrap());
    if std::env::var_os("TINTIN_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
        return;
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    let first = kept.iter().zip(&bytes).position(|(a, b)| a != b);
    assert!(
        kept == bytes,
        "{path}: {} bytes, the engine now writes {}, first difference at {first:?}. If this is a new FORMAT or NUMERICS, \
         run again with TINTIN_BLESS=1; if it is not, the engine is wrong",
        kept.len(),
        bytes.len(),
    );
}

#[test]
fn golden_files_are_what_the_engine_writes() {
    compare("lenet5.tin", &lenet5::trained());
    compare("format1.tin", &make_format_1());
    compare("format2.tin", &make_format_2());
}

/// The promise of `docs/format.md`: this file reads as long as there is a tintin.
#[test]
fn format_1_reads() {
    let file = std::fs::read(path("format1.tin")).unwrap();
    let model = Model::from_bytes(&file).unwrap();
    assert_eq!(model.digest(), 0x4CDB5242D1B50E63);
    assert_eq!((model.state().seed, model.state().step), (0x1234_5678, 5));
    assert_eq!((model.input(), model.layers().len()), (Shape::new(5, 8, 1), 7));
    let recipe = model.recipe.unwrap();
    assert_eq!(recipe.rule, Rule::TinTin { margin: 2 });
    assert_eq!(recipe.schedule, Schedule { start: 3, change: 1, milestones: [100, 2000, u32::MAX, u32::MAX] });
    assert_eq!(model.to_bytes().unwrap(), file);
}

/// The same promise for format 2.
#[test]
fn format_2_reads() {
    let file = std::fs::read(path("format2.tin")).unwrap();
    let model = Model::from_bytes(&file).unwrap();
    assert_eq!(model.digest(), 0x9F84DE7DDB36F549);
    assert_eq!((model.state().seed, model.state().step), (0x1234_5678, 5));
    let conv = DepthwiseConv2d { kernel: (3, 2), stride: (2, 1), padding: (1, 0), bias: true };
    assert_eq!(model.layers()[2], Layer::DepthwiseConv2d(conv));
    assert_eq!(model.to_bytes().unwrap(), file);
}

/// The walk through the file in `docs/format.md` is this file, byte by byte.
#[test]
fn the_documented_dump_is_the_file() {
    let doc = std::fs::read_to_string(format!("{}/../../docs/format.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut bytes = vec![];
    for line in doc.lines() {
        let (Some(at), Some(dump)) = (line.get(..4), line.get(4..)) else { continue };
        if let (Ok(at), Some(dump)) = (usize::from_str_radix(at, 16), dump.strip_prefix("  ")) {
            assert_eq!(at, bytes.len(), "{line}");
            let pairs = dump.split("  ").next().unwrap_or_default().split(' ');
            bytes.extend(pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()));
        }
    }
    assert_eq!(bytes, std::fs::read(path("format1.tin")).unwrap());
}
