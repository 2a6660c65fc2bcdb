//! Five trainings whose every step is told: the text must be the same on every machine. See `docs/parity.md`.

use crate::lenet5;
use core::fmt::{Arguments, Error, Write};
use tintin_core::loss::{Loss, Score, Target};
use tintin_core::net::Net;
use tintin_core::optim::{Recipe, Schedule};
use tintin_core::rescale::Rounding;
use tintin_core::rng::Draws;

/// Training steps of each net: past the look at the weights' range after 64 of them (N20).
pub const STEPS: u32 = 67;

/// Samples of a step of the small nets.
const BATCH: usize = 4;

tintin_core::model! {
    /// Biases, both average pools; for the NITI rule.
    pub mod averages {
        input: (9, 8, 2),
        batch: 4,
        layers: [
            Conv2d::new(5, (3, 3)).padding((1, 1)).with_bias(), ReLU, AvgPool2d::new((2, 2)),
            Conv2d::new(7, (2, 3)).with_bias(), ReLU, GlobalAvgPool2d,
            Flatten, Linear::new(11).with_bias(), ReLU, Linear::new(3).with_bias(),
        ]
    }
}

tintin_core::model! {
    /// Strides and overlapping windows; for the squared error.
    pub mod values {
        input: (10, 11, 1),
        batch: 4,
        layers: [
            Conv2d::new(6, (3, 2)).stride((1, 2)).padding((1, 0)), ReLU, MaxPool2d::new((3, 3)).stride((2, 1)),
            Flatten, Linear::new(20).with_bias(), ReLU, Linear::new(4),
        ]
    }
}

tintin_core::model! {
    /// As little as there is; one sample at a time.
    pub mod tiny { input: (1, 1, 2), batch: 1, layers: [Linear::new(8), ReLU, Linear::new(3)] }
}

tintin_core::model! {
    /// LeNet-5 where RAM is short: sums are computed twice instead of held, and every digest is that of `lenet5`.
    pub mod short {
        input: (28, 28, 1),
        batch: 1,
        ram: 71_000,
        layers: [
            Conv2d::new(6, (5, 5)).padding((2, 2)), ReLU, MaxPool2d::new((2, 2)),
            Conv2d::new(16, (5, 5)), ReLU, MaxPool2d::new((2, 2)),
            Flatten, Linear::new(120), ReLU, Linear::new(84), ReLU, Linear::new(10),
        ]
    }
}

/// Memory of the nets; all zero.
pub struct Memory {
    lenet5: lenet5::net::Memory,
    averages: averages::Memory,
    values: values::Memory,
    tiny: tiny::Memory,
    short: short::Memory,
}

impl Memory {
    /// For a `static`, which costs no flash.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            lenet5: lenet5::net::Memory::new(),
            averages: averages::Memory::new(),
            values: values::Memory::new(),
            tiny: tiny::Memory::new(),
            short: short::Memory::new(),
        }
    }
}

/// Trains the nets from their seeds and tells every step.
pub fn run(memory: &mut Memory, out: &mut dyn Write) -> Result<(), Error> {
    out.write_fmt(format_args!("numerics {}\n", tintin_core::NUMERICS))?;
    let mut net = lenet5::net::net(&mut memory.lenet5);
    train(out, "lenet5", &mut net, lenet5::SEED, lenet5::step)?;

    let recipe = Recipe { schedule: Schedule { start: 4, change: -1, ..milestones() }, ..Recipe::niti(4) };
    train(out, "averages", &mut averages::net(&mut memory.averages), 11, |net, n| {
        let (x, labels) = samples::<{ 9 * 8 * 2 * BATCH }>(n);
        net.train_step(&x, -7, Target::Labels(&labels), &recipe)
    })?;

    let recipe = Recipe {
        loss: Loss::SquaredError,
        rounding: Rounding::Nearest,
        schedule: Schedule { start: 2, change: 1, ..milestones() },
        ..Recipe::tintin(2)
    };
    train(out, "values", &mut values::net(&mut memory.values), 12, |net, n| {
        let (x, labels) = samples::<{ 10 * 11 * BATCH }>(n);
        let mut y = [-30; 4 * BATCH];
        for (y, label) in y.chunks_exact_mut(4).zip(labels) {
            y[usize::from(label)] = 90;
        }
        net.train_step(&x, -7, Target::Values(&y, -7), &recipe)
    })?;

    train(out, "tiny", &mut tiny::net(&mut memory.tiny), 13, |net, n| {
        let (x, labels) = samples::<{ 2 * BATCH }>(n);
        net.train_step(&x[..2], -7, Target::Labels(&labels[..1]), &Recipe::tintin(1))
    })?;

    train(out, "short", &mut short::net(&mut memory.short), lenet5::SEED, lenet5::step)
}

/// A change of the schedule at step 20 and another at 50.
const fn milestones() -> Schedule {
    Schedule { milestones: [20, 50, u32::MAX, u32::MAX], ..Schedule::constant(0) }
}

/// `X` mantissas of noise for batch `n`, each sample brighter the higher its label.
fn samples<const X: usize>(n: u32) -> ([i8; X], [u16; BATCH]) {
    let mut draws = Draws::new(9, n, 0, 0);
    let labels = [(); BATCH].map(|()| u16::try_from(draws.below(3)).unwrap());
    let x = core::array::from_fn(|i| {
        let noise = i8::try_from(draws.below(60)).unwrap();
        noise - 50 + 40 * i8::try_from(labels[i / (X / BATCH)]).unwrap()
    });
    (x, labels)
}

/// Draws weights and takes the steps; a line for the drawn net and for each step.
fn train(
    out: &mut dyn Write,
    name: &str,
    net: &mut Net<'_>,
    seed: u32,
    step: impl Fn(&mut Net<'_>, u32) -> Score,
) -> Result<(), Error> {
    net.initialise(seed);
    let mut tell = |line: Arguments<'_>| out.write_fmt(line);
    tell(format_args!("net {name}\nstep 0 {:#018X}\n", net.digest()))?;
    for n in 0..STEPS {
        let score = step(net, n);
        tell(format_args!("step {} {:#018X} loss {} correct {}\n", n + 1, net.digest(), score.loss, score.correct))?;
    }
    Ok(())
}
