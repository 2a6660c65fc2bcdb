//! Trains LeNet-5 for a few steps on made-up pictures, for `instructions.py` to count.
//!
//!     training_steps BATCH STEPS

use tintin_core::heap::Model;
use tintin_core::layers::{Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU};
use tintin_core::loss::Target;
use tintin_core::optim::Recipe;
use tintin_core::plan::Options;
use tintin_core::rng::Draws;
use tintin_core::shape::Shape;

const SIDE: u32 = 28;
const PIXELS: usize = (SIDE * SIDE) as usize;

/// Picture and class number `n`: a bright band in one of ten places on dark ground, three quarters of it black as in MNIST.
fn sample(n: u32) -> ([i8; PIXELS], u16) {
    let mut draws = Draws::new(7, n, 0, 0);
    let class = draws.below(10);
    let mut picture = [0; PIXELS];
    for (i, pixel) in (0..).zip(&mut picture) {
        let (row, column) = (i / SIDE, i % SIDE);
        if row / 3 == class && (4..24).contains(&column) || draws.below(8) == 0 {
            *pixel = i8::try_from(draws.below(128)).unwrap_or(0);
        }
    }
    (picture, u16::try_from(class).unwrap_or(0))
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>().expect("a whole number"));
    let batch = arguments.next().expect("BATCH");
    let steps = arguments.next().expect("STEPS");
    let layers = vec![
        Layer::Conv2d(Conv2d::new(6, (5, 5)).padding((2, 2))),
        Layer::ReLU(ReLU),
        Layer::MaxPool2d(MaxPool2d::new((2, 2))),
        Layer::Conv2d(Conv2d::new(16, (5, 5))),
        Layer::ReLU(ReLU),
        Layer::MaxPool2d(MaxPool2d::new((2, 2))),
        Layer::Flatten(Flatten),
        Layer::Linear(Linear::new(120)),
        Layer::ReLU(ReLU),
        Layer::Linear(Linear::new(84)),
        Layer::ReLU(ReLU),
        Layer::Linear(Linear::new(10)),
    ];
    let mut model = Model::new(layers, Shape::new(SIDE, SIDE, 1), 0).expect("LeNet-5 can be planned");
    let options = Options::training(batch).spacious();
    let (mut pictures, mut classes) = (Vec::new(), Vec::new());
    // the same batch each step: the pictures are then no part of the difference between two runs
    for n in 0..batch {
        let (picture, class) = sample(n);
        pictures.extend_from_slice(&picture);
        classes.push(class);
    }
    let recipe = Recipe::tintin(6);
    for _ in 0..steps {
        let mut net = model.net(options).expect("a training can be planned");
        net.train_step(&pictures, -7, Target::Labels(&classes), &recipe);
    }
    println!("{:#018x}", model.digest());
}
