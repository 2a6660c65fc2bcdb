//! LeNet-5, images to train it on, and how: shared by the tests of its owners and of its file.

use tintin_core::heap::Model;
use tintin_core::loss::Target;
use tintin_core::net::Net;
use tintin_core::optim::Recipe;
use tintin_core::plan::Options;
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
pub fn image(n: u32) -> (Vec<i8>, u16) {
    let mut draws = Draws::new(7, n, 0, 0);
    let label = u16::try_from(n % 10).unwrap();
    let bar = 2 + 2 * usize::from(label);
    let pixel =
        |i: usize| if (bar..bar + 3).contains(&(i / 28)) { 100 } else { i8::try_from(draws.below(60)).unwrap() };
    ((0..28 * 28).map(pixel).collect(), label)
}

pub fn train(net: &mut Net<'_>, steps: std::ops::Range<u32>) {
    for step in steps {
        let (x, label) = image(step);
        net.train_step(&x, -7, Target::Labels(&[label]), &RECIPE);
    }
}

pub fn drawn() -> Model {
    Model::new(net::LAYERS.to_vec(), net::INPUT, SEED).unwrap()
}

/// LeNet-5 after three steps.
pub fn trained() -> Model {
    let mut model = drawn();
    train(&mut model.net(Options::training(1)).unwrap(), 0..3);
    model.recipe = Some(RECIPE);
    model
}
