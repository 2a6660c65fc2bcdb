//! Tintin on Arm Cortex-M microcontrollers.
//!
//! For now this crate shows that the training core compiles for these targets
//! without the standard library, and re-exports it.
#![no_std]

pub use tintin_core;
