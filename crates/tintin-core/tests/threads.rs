//! One digest whatever the number of threads: every step of nets whose work is cut by samples, by weight rows and by elements.
#![cfg(feature = "threads")]

use tintin_core::heap::Model;
use tintin_core::layers::{AvgPool2d, Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU};
use tintin_core::loss::Target;
use tintin_core::optim::{Recipe, Rule};
use tintin_core::plan::Options;
use tintin_core::rescale::Rounding;
use tintin_core::rng::Draws;
use tintin_core::shape::Shape;

const THREADS: [u32; 4] = [1, 2, 3, 8];

/// Digest after each of three steps of `batch` samples, the last of them on fewer.
fn digests(layers: &[Layer], input: Shape, options: Options, recipe: &Recipe) -> ([u64; 3], usize) {
    let mut model = Model::new(layers.to_vec(), input, 9).unwrap();
    let mut draws = Draws::new(4, 0, 0, 0);
    let mut threads = 0;
    let digests = [0, 0, 3].map(|missing| {
        let n = options.batch - missing;
        let x: Vec<i8> = (0..n as usize * input.len()).map(|_| i8::try_from(draws.below(128)).unwrap()).collect();
        let labels: Vec<u16> = (0..n).map(|_| u16::try_from(draws.below(10)).unwrap()).collect();
        let mut net = model.net(options).unwrap();
        threads = net.threads();
        net.train_step(&x, -7, Target::Labels(&labels), recipe);
        model.digest()
    });
    (digests, threads)
}

fn one_digest(layers: &[Layer], input: Shape, options: Options, recipe: Recipe) {
    let (alone, _) = digests(layers, input, options, &recipe);
    for threads in THREADS {
        let (cut, used) = digests(layers, input, options.threads(threads), &recipe);
        assert_eq!(cut, alone, "{threads} threads");
        assert_eq!(used, threads as usize, "the net has too little to do for {threads} threads: nothing was tested");
    }
}

fn lenet5() -> Vec<Layer> {
    vec![
        Layer::Conv2d(Conv2d::new(6, (5, 5)).padding((2, 2)).with_bias()),
        Layer::ReLU(ReLU),
        Layer::MaxPool2d(MaxPool2d::new((2, 2))),
        Layer::Conv2d(Conv2d::new(16, (5, 5))),
        Layer::ReLU(ReLU),
        Layer::MaxPool2d(MaxPool2d::new((2, 2))),
        Layer::Flatten(Flatten),
        Layer::Linear(Linear::new(120).with_bias()),
        Layer::ReLU(ReLU),
        Layer::Linear(Linear::new(10)),
    ]
}

#[test]
fn pooled_convolutions_and_wide_layers() {
    let spacious = Options::training(37).spacious();
    one_digest(&lenet5(), Shape::new(28, 28, 1), spacious, Recipe::tintin(3));
    one_digest(&lenet5(), Shape::new(28, 28, 1), spacious.train_from(3), Recipe::tintin(2));
    let niti = Recipe { rounding: Rounding::Stochastic, ..Recipe::niti(5) };
    one_digest(&lenet5(), Shape::new(28, 28, 1), spacious, niti);
}

#[test]
fn a_frozen_layer_without_a_pool() {
    let layers = [
        Layer::Flatten(Flatten),
        Layer::Linear(Linear::new(300)),
        Layer::ReLU(ReLU),
        Layer::Linear(Linear::new(200).with_bias()),
        Layer::ReLU(ReLU),
        Layer::Linear(Linear::new(10)),
    ];
    let frozen = Options::training(64).spacious().train_from(3);
    one_digest(&layers, Shape::new(28, 28, 1), frozen, Recipe::tintin(2));
}

#[test]
fn plans_that_save_memory() {
    one_digest(&lenet5(), Shape::new(28, 28, 1), Options::training(36), Recipe::tintin(3));
}

#[test]
fn convolutions_without_pools() {
    let layers = [
        Layer::Conv2d(Conv2d::new(16, (3, 3)).padding((1, 1))),
        Layer::ReLU(ReLU),
        Layer::Conv2d(Conv2d::new(32, (3, 3)).stride((2, 2))),
        Layer::AvgPool2d(AvgPool2d::new((2, 2))),
        Layer::Linear(Linear::new(10)),
    ];
    let recipe = Recipe { rule: Rule::TinTin { margin: 3 }, rounding: Rounding::Nearest, ..Recipe::tintin(1) };
    one_digest(&layers, Shape::new(16, 16, 8), Options::training(24).spacious(), recipe);
}
