//! A net in a `static`, as firmware has it: sized by the compiler, trained one sample at a time, no heap.
//!
//! The task is made up: which of four bars (rows, columns, two diagonals) is hidden in a noisy 8×8 picture.
//!
//!     cargo run --release -p tintin-core --example static_model

use std::sync::Mutex;

use tintin_core::loss::Target;
use tintin_core::optim::Recipe;
use tintin_core::rng::Draws;

tintin_core::model! {
    /// A small convolutional net; more than 5 KiB of RAM would not compile.
    pub mod bars {
        input: (8, 8, 1),
        batch: 1,
        ram: 5 * 1024,
        layers: [
            Conv2d::new(8, (3, 3)).padding((1, 1)), ReLU, MaxPool2d::new((2, 2)),
            Flatten, Linear::new(16).with_bias(), ReLU, Linear::new(4),
        ]
    }
}

/// All zeros, so it lies in `.bss`; firmware would use a cell of its framework in place of the lock.
static MEMORY: Mutex<bars::Memory> = Mutex::new(bars::Memory::new());

/// Picture and class number `n`: noise up to 63, a bar of 100 more.
fn sample(n: u32) -> ([i8; 64], u16) {
    let mut draws = Draws::new(7, n, 0, 0);
    let (class, place) = (draws.below(4), draws.below(8));
    let mut picture = [0i8; 64];
    for (i, pixel) in (0u32..).zip(&mut picture) {
        let (row, column) = (i / 8, i % 8);
        let bar = match class {
            0 => row == place,
            1 => column == place,
            2 => row == column,
            _ => row + column == 7,
        };
        let noise = i8::try_from(draws.below(64)).unwrap_or(0);
        *pixel = if bar { noise / 4 + 100 } else { noise };
    }
    (picture, u16::try_from(class).unwrap_or(0))
}

fn main() {
    let steps = if std::env::args().any(|argument| argument == "--quick") { 500 } else { 5_000 };
    let mut memory = MEMORY.lock().expect("nobody else holds it");
    println!("{} weights, {} bytes of RAM in all", bars::SIZES.weights, bars::SIZES.ram());
    let mut net = bars::net(&mut memory);
    net.initialise(1);
    let recipe = Recipe::tintin(6);
    for n in 0..steps {
        let (picture, class) = sample(n);
        net.train_step(&picture, -7, Target::Labels(&[class]), &recipe);
    }
    let fresh = 1_000_000..1_001_000;
    let right = fresh.clone().filter(|&n| {
        let (picture, class) = sample(n);
        net.classify(&picture, -7) == usize::from(class)
    });
    println!("{} of {} new pictures right after {steps} steps", right.count(), fresh.len());
    println!("digest {:#018x}", net.digest());
}
