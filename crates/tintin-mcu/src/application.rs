//! Training of an application from a stream of samples, and what came of it: the same text on every machine.
//!
//! The stream, little-endian: `TTA1`; u32 seed, epochs, samples of an epoch, test samples, samples of a batch; i8 learning shift, i8 what a
//! milestone adds to it, u8 margin, u8 rounding (0 nearest, 1 pseudo, 2 stochastic); four u32 milestones in steps; what the
//! application wants before its samples; the samples of all epochs as they come; the test samples. A sample is its label (u8)
//! and what the sensor gave.

use crate::tintin_core::loss::{Loss, Target};
use crate::tintin_core::net::Net;
use crate::tintin_core::optim::{Recipe, Rule, Schedule};
use crate::tintin_core::rescale::Rounding;
use core::fmt::{self, Write};

pub mod bearing;
pub mod spectrum;

/// Most classes that are counted apart.
const CLASSES: usize = 16;
/// Most samples of a batch.
const BATCH: usize = 8;
const MAGIC: [u8; 4] = *b"TTA1";

/// What ends a training before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The stream ended early.
    Ended,
    /// The stream does not begin as one of ours.
    Magic([u8; 4]),
    /// A number that cannot be: its name, and what was given.
    Invalid(&'static str, u32),
    /// The text could not be written.
    Output,
}

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Self {
        Self::Output
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the stream of samples ended early: make it again with scripts/applications.py"),
            Self::Magic(found) => write!(f, "not a stream of samples: it begins with {found:02X?}, not {MAGIC:02X?}"),
            Self::Invalid(name, value) => write!(f, "the stream of samples tells a {name} of {value}, which cannot be"),
            Self::Output => f.write_str("the output cannot be written"),
        }
    }
}

/// Where samples come from.
pub trait Source {
    /// Fills `bytes`, or fails with [`Error::Ended`].
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error>;

    /// The next byte.
    fn byte(&mut self) -> Result<u8, Error> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    /// The next four bytes as a number.
    fn number(&mut self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The next values of a sensor.
    fn values(&mut self, values: &mut [i16]) -> Result<(), Error> {
        let mut bytes = [0; 128];
        for values in values.chunks_mut(bytes.len() / 2) {
            let bytes = &mut bytes[..2 * values.len()];
            self.fill(bytes)?;
            for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = i16::from_le_bytes([bytes[0], bytes[1]]);
            }
        }
        Ok(())
    }
}

/// An application's way from the sensor to the net.
pub trait Front {
    /// Takes what comes before the samples.
    fn start(&mut self, source: &mut impl Source) -> Result<(), Error>;
    /// Takes what the sensor gave for one sample.
    fn receive(&mut self, source: &mut impl Source) -> Result<(), Error>;
    /// What the net takes of it: mantissas of scale 2^-7.
    fn features(&mut self) -> &[i8];
}

struct Header {
    seed: u32,
    epochs: u32,
    samples: u32,
    tests: u32,
    batch: u32,
    recipe: Recipe,
}

impl Header {
    fn read(source: &mut impl Source) -> Result<Self, Error> {
        let mut magic = [0; 4];
        source.fill(&mut magic)?;
        if magic != MAGIC {
            return Err(Error::Magic(magic));
        }
        let (seed, epochs, samples, tests) = (source.number()?, source.number()?, source.number()?, source.number()?);
        let batch = source.number()?;
        let [start, change, margin, rounding] = source.number()?.to_le_bytes();
        let rounding = match rounding {
            0 => Rounding::Nearest,
            1 => Rounding::Pseudo,
            2 => Rounding::Stochastic,
            other => return Err(Error::Invalid("rounding", other.into())),
        };
        if margin > 6 {
            return Err(Error::Invalid("margin", margin.into()));
        }
        let mut milestones = [u32::MAX; 4];
        for milestone in &mut milestones {
            *milestone = source.number()?;
        }
        let schedule = Schedule { start: start.cast_signed(), change: change.cast_signed(), milestones };
        let recipe = Recipe { rule: Rule::TinTin { margin }, rounding, loss: Loss::CrossEntropy, schedule };
        Ok(Self { seed, epochs, samples, tests, batch, recipe })
    }
}

fn label<const SET: u32>(source: &mut impl Source, net: &Net<'_, SET>) -> Result<u8, Error> {
    let label = source.byte()?;
    if usize::from(label) < net.output_len() { Ok(label) } else { Err(Error::Invalid("label", label.into())) }
}

/// Trains `net` on the stream and tells digest, loss and right answers of every epoch and the right answers of every class in the
/// test. `batch` has room for the features of a batch. `instructions` reads a counter of instructions; what they come to for
/// each sample is told last.
pub fn run<const SET: u32>(
    net: &mut Net<'_, SET>,
    front: &mut impl Front,
    batch: &mut [i8],
    source: &mut impl Source,
    out: &mut dyn Write,
    instructions: fn() -> u32,
) -> Result<(), Error> {
    let header = Header::read(source)?;
    let (width, mut labels) = (net.input_len(), [0u16; BATCH]);
    let most = labels.len().min(batch.len() / width);
    if header.batch == 0 || header.batch as usize > most {
        return Err(Error::Invalid("number of samples in a batch", header.batch));
    }
    front.start(source)?;
    net.initialise(header.seed);
    let (mut front_cost, mut step_cost, mut test_cost) = (0u64, 0u64, 0u64);
    let batches = header.samples.div_ceil(header.batch);
    for epoch in 1..=header.epochs {
        let (mut loss, mut correct) = (0u64, 0u32);
        let mut done = 0;
        for n in 1..=u64::from(batches) {
            // Sizes that differ by one at most, as `Sequential.fit` cuts an epoch.
            let end = (n * u64::from(header.samples) / u64::from(batches)) as u32;
            let size = (end - done) as usize;
            done = end;
            for (label, x) in labels[..size].iter_mut().zip(batch.chunks_exact_mut(width)) {
                *label = self::label(source, net)?.into();
                front.receive(source)?;
                let start = instructions();
                x.copy_from_slice(front.features());
                front_cost += u64::from(instructions().wrapping_sub(start));
            }
            let start = instructions();
            let score = net.train_step(&batch[..size * width], -7, Target::Labels(&labels[..size]), &header.recipe);
            step_cost += u64::from(instructions().wrapping_sub(start));
            loss += score.loss;
            correct += score.correct;
        }
        writeln!(
            out,
            "epoch {epoch} digest {:#018x} loss {loss} correct {correct} of {}",
            net.digest(),
            header.samples
        )?;
    }
    let mut found = [(0u32, 0u32); CLASSES];
    for _ in 0..header.tests {
        let label = label(source, net)?;
        front.receive(source)?;
        let x = front.features();
        let start = instructions();
        let right = net.classify(x, -7) == usize::from(label);
        test_cost += u64::from(instructions().wrapping_sub(start));
        let (correct, all) = &mut found[usize::from(label)];
        *correct += u32::from(right);
        *all += 1;
    }
    for (class, (correct, all)) in found[..net.output_len()].iter().enumerate() {
        writeln!(out, "test class {class} correct {correct} of {all}")?;
    }
    let steps = u64::from(header.epochs) * u64::from(header.samples);
    let mean = |cost: u64, times: u64| cost.checked_div(times).unwrap_or(0);
    writeln!(
        out,
        "instructions features {} step {} predict {}",
        mean(front_cost, steps),
        mean(step_cost, steps),
        mean(test_cost, header.tests.into())
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::cell::Cell;
    use std::string::{String, ToString};
    use std::vec::Vec;

    impl Source for &[u8] {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
            let (now, rest) = self.split_at_checked(bytes.len()).ok_or(Error::Ended)?;
            bytes.copy_from_slice(now);
            *self = rest;
            Ok(())
        }
    }

    /// A stream of 8 epochs of 20 blocks and 10 test blocks of one campaign: signals are 300 above the noise.
    fn stream() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [7u32, 8, 20, 10, 3] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([4, 2, 2, 2]);
        for milestone in [28, 42, u32::MAX, u32::MAX] {
            bytes.extend(milestone.to_le_bytes());
        }
        let block = |bytes: &mut Vec<u8>, n: i16, up: i16| {
            for i in 0..59i16 {
                bytes.extend((up + (n * 37 + i * 101) % 100).to_le_bytes());
            }
        };
        for number in [1u32, 8] {
            bytes.extend(number.to_le_bytes());
        }
        (0..8).for_each(|n| block(&mut bytes, n, 0));
        for n in 0..170 {
            let label = n % 2;
            bytes.extend([label, 0]);
            block(&mut bytes, n.into(), i16::from(label) * 300);
        }
        bytes
    }

    fn outcome(mut bytes: &[u8]) -> (String, Result<(), Error>) {
        let (mut memory, mut front, mut text) =
            (spectrum::net::Memory::new(), spectrum::Receiver::new(), String::new());
        let result =
            run(&mut spectrum::net::net(&mut memory), &mut front, &mut [0; 59 * 8], &mut bytes, &mut text, || 0);
        (text, result)
    }

    #[test]
    fn a_stream_is_learned() {
        let (text, result) = outcome(&stream());
        assert_eq!(result, Ok(()));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[7].starts_with("epoch 8 digest 0x") && lines[7].ends_with("correct 20 of 20"), "{text}");
        assert_eq!(lines[8..10], ["test class 0 correct 5 of 5", "test class 1 correct 5 of 5"]);
    }

    #[test]
    fn a_stream_cut_anywhere_is_refused() {
        let bytes = stream();
        for length in (0..bytes.len()).step_by(211) {
            assert_eq!(outcome(&bytes[..length]).1, Err(Error::Ended), "{length}");
        }
    }

    #[test]
    fn an_altered_stream_is_refused() {
        let cases = [
            (0, b'X', Error::Magic(*b"XTA1")),
            (20, 9, Error::Invalid("number of samples in a batch", 9)),
            (20, 0, Error::Invalid("number of samples in a batch", 0)),
            (26, 7, Error::Invalid("margin", 7)),
            (27, 3, Error::Invalid("rounding", 3)),
            (44, 5, Error::Invalid("number of campaigns", 5)),
            (48, 0, Error::Invalid("number of noise blocks", 0)),
            (50, 1, Error::Invalid("number of noise blocks", 0x1_0008)),
            (52 + 8 * 118, 2, Error::Invalid("label", 2)),
            (53 + 8 * 118, 1, Error::Invalid("campaign", 1)),
        ];
        for (at, byte, error) in cases {
            let mut bytes = stream();
            bytes[at] = byte;
            assert_eq!(outcome(&bytes).1, Err(error));
        }
        assert!(Error::Invalid("label", 2).to_string().contains("a label of 2"));
    }

    #[test]
    fn instructions_are_counted_over_a_wrap() {
        std::thread_local!(static CLOCK: Cell<u32> = const { Cell::new(u32::MAX - 1000) });
        let (mut memory, mut front, mut text) =
            (spectrum::net::Memory::new(), spectrum::Receiver::new(), String::new());
        let clock = || CLOCK.replace(CLOCK.get().wrapping_add(40));
        let net = &mut spectrum::net::net(&mut memory);
        run(net, &mut front, &mut [0; 59 * 8], &mut &stream()[..], &mut text, clock).unwrap();
        assert!(text.ends_with("instructions features 40 step 14 predict 40\n"), "{text}");
    }
}
