//! Tintin on Arm Cortex-M microcontrollers.
//!
//! [`board`] is what an application asks of a board, [`apps`] are the applications, [`store`] keeps a model in flash. They know
//! no board: the packages under `boards/` lend them clocks, pins and buses. [`runner`] trains any model it is sent, [`parity`]
//! runs on emulated cores what the host runs too; LeNet-5 is here as a static model with its training step.
#![no_std]

pub use tintin_core;

pub mod adaptation;
pub mod application;
pub mod apps;
pub mod board;
#[cfg(target_os = "none")]
pub mod fault;
pub mod features;
pub mod store;

/// LeNet-5 for 28×28 images, trained one sample at a time: the one that the tests of the core train.
#[path = "../../tintin-core/tests/lenet5/bare.rs"]
pub mod lenet5;
pub mod parity;
pub mod protocol;
pub mod resident;
pub mod runner;
#[cfg(target_os = "none")]
pub mod semihosting;

use lenet5::net;
use tintin_core::loss::{Score, Target};
use tintin_core::optim::Recipe;

/// One training step on one image of mantissas with scale 2^-7.
pub fn learn(memory: &mut net::Memory, image: &[i8; 784], label: u16, recipe: &Recipe) -> Score {
    net::net(memory).train_step(image, -7, Target::Labels(&[label]), recipe)
}

/// Class of one image of mantissas with scale 2^-7.
pub fn classify(memory: &mut net::Memory, image: &[i8; 784]) -> usize {
    net::net(memory).classify(image, -7)
}
