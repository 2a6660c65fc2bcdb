//! The part of `lenet5` that needs no heap: `crates/tintin-mcu` runs it on emulated cores, see `docs/parity.md`.

use tintin_core::loss::{Score, Target};
use tintin_core::net::Net;
use tintin_core::optim::Recipe;
use tintin_core::rng::Draws;

tintin_core::model! {
    /// As in LeCun 1998, with ReLU and MaxPool.
    pub mod net {
        input: (28, 28, 1),
        batch: 1,
        ram: 95_000,
        layers: [
            Conv2d::new(6, (5, 5)).padding((2, 2)), ReLU, MaxPool2d::new((2, 2)),
            Conv2d::new(16, (5, 5)), ReLU, MaxPool2d::new((2, 2)),
            Flatten, Linear::new(120), ReLU, Linear::new(84), ReLU, Linear::new(10),
        ]
    }
}

pub const SEED: u32 = 5;
pub const RECIPE: Recipe = Recipe::tintin(4);

/// Image `n`: noise, and a bright bar whose row tells the class.
pub fn image(n: u32) -> ([i8; 28 * 28], u16) {
    let mut draws = Draws::new(7, n, 0, 0);
    let label = u16::try_from(n % 10).unwrap();
    let bar = 2 + 2 * usize::from(label);
    let pixel =
        |i: usize| if (bar..bar + 3).contains(&(i / 28)) { 100 } else { i8::try_from(draws.below(60)).unwrap() };
    (core::array::from_fn(pixel), label)
}

/// Step number `n`, on image `n`.
pub fn step(net: &mut Net<'_>, n: u32) -> Score {
    let (x, label) = image(n);
    net.train_step(&x, -7, Target::Labels(&[label]), &RECIPE)
}

pub fn train(net: &mut Net<'_>, steps: core::ops::Range<u32>) {
    for n in steps {
        step(net, n);
    }
}
