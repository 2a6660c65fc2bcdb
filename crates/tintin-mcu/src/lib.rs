//! Tintin on Arm Cortex-M microcontrollers.
//!
//! For now: the core, and LeNet-5 as a static model with its training step, compiled for these targets without the standard
//! library. Boards, firmware and the emulator are to come.
#![no_std]

pub use tintin_core;

use tintin_core::loss::{Score, Target};
use tintin_core::optim::Recipe;

tintin_core::model! {
    /// LeNet-5 for 28×28 images, trained one sample at a time; does not compile if it needs more than 96 KiB.
    pub mod lenet5 {
        input: (28, 28, 1),
        batch: 1,
        ram: 96 * 1024,
        layers: [
            Conv2d::new(6, (5, 5)).padding((2, 2)), ReLU, MaxPool2d::new((2, 2)),
            Conv2d::new(16, (5, 5)), ReLU, MaxPool2d::new((2, 2)),
            Flatten, Linear::new(120), ReLU, Linear::new(84), ReLU, Linear::new(10),
        ]
    }
}

/// One training step on one image of mantissas with scale 2^-7.
pub fn learn(memory: &mut lenet5::Memory, image: &[i8; 784], label: u16, recipe: &Recipe) -> Score {
    lenet5::net(memory).train_step(image, -7, Target::Labels(&[label]), recipe)
}

/// Class of one image of mantissas with scale 2^-7.
pub fn classify(memory: &mut lenet5::Memory, image: &[i8; 784]) -> usize {
    lenet5::net(memory).classify(image, -7)
}
