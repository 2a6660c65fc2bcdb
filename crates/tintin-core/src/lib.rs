//! Training of neural networks with integers only, from the Tin-Tin paper (arXiv 2504.09405), the same bits on every machine.
//!
//! Data flows one way: a list of [`layers`] → [`plan`] (offsets and sizes, at compile time or at run time) → memory
//! ([`arena`] or [`heap`]) → [`net`] (the only loops over layers) → layer → [`kernels`]. Layers produce exact i32 sums;
//! [`rescale`] is the one place that rounds. The arithmetic is specified, rule by rule, in `docs/numerics.md`; "N7" in a comment
//! is a rule there.
//!
//! The laws: types own, slices compute · layers are exact, the net narrows · wrap while summing, clamp once when leaving · the
//! plan decides where, never what · randomness is a function of position · `usize` indexes and never becomes a value, no
//! float · errors when planning, silence when running.
//!
//! ```
//! use tintin_core::{optim::Recipe, loss::Target};
//!
//! tintin_core::model! {
//!     /// Two inputs, two classes.
//!     pub mod tiny { input: (1, 1, 2), batch: 1, layers: [Linear::new(8), ReLU, Linear::new(2)] }
//! }
//!
//! let mut memory = tiny::Memory::new();
//! let mut net = tiny::net(&mut memory);
//! net.initialise(0);
//! for step in 0..200 {
//!     let (x, label) = if step % 2 == 0 { ([100, 20], 0) } else { ([20, 100], 1) };
//!     net.train_step(&x, -7, Target::Labels(&[label]), &Recipe::tintin(3));
//! }
//! assert_eq!(net.classify(&[90, 10], -7), 0);
//! assert_eq!(net.classify(&[10, 90], -7), 1);
//! ```
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod adapt;
pub mod arena;
mod backward;
pub mod choice;
pub mod cut;
pub mod digest;
pub mod error;
#[cfg(feature = "alloc")]
pub mod few;
pub mod fewshot;
pub mod file;
mod follow;
mod forward;
#[cfg(feature = "alloc")]
pub mod heap;
pub mod kernels;
pub mod layers;
pub mod loss;
pub mod model;
pub mod net;
pub mod optim;
mod own_rows;
mod place;
pub mod plan;
pub mod queries;
pub mod rescale;
pub mod rng;
pub mod shape;
mod signs;
mod slot;
pub mod tensor;
mod update;

/// Version of the arithmetic: `docs/numerics.md`. Equal versions give equal bits.
pub const NUMERICS: u16 = 1;
/// Newest version of the file format, `docs/format.md`: older files are read, and a file is written in the oldest that holds its layers.
pub const FORMAT: u16 = 2;
