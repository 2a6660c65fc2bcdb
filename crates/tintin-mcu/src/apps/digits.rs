//! Learns handwritten digits on the chip: 8×8 pictures of scikit-learn's `digits`, one sample at a time, and tells how many of
//! those held out it knows before, between and after.
//!
//! The pictures are not part of this repository: `make firmware-data` writes them into a file that firmware includes.

use crate::board::{Clock, timed};
use core::fmt::{self, Display, Write};
use tintin_core::loss::{Score, Target};
use tintin_core::net::Net;
use tintin_core::optim::{Recipe, Schedule};

tintin_core::model! {
    /// For 8×8 pictures and ten classes; small enough for a chip with 32 KB of RAM.
    pub mod net {
        input: (8, 8, 1),
        batch: 1,
        ram: 8 * 1024,
        layers: [
            Conv2d::new(8, (3, 3)).padding((1, 1)).with_bias(), ReLU, MaxPool2d::new((2, 2)),
            Flatten, Linear::new(24).with_bias(), ReLU, Linear::new(10).with_bias(),
        ]
    }
}

/// Seed of the weights and of every draw.
pub const SEED: u32 = 1;
/// Times that every training picture is shown.
pub const EPOCHS: u32 = 5;
/// Recipe of the training: half the rate after 3000 steps and again after 5000.
pub const RECIPE: Recipe = Recipe {
    schedule: Schedule { start: 5, change: 1, milestones: [3000, 5000, u32::MAX, u32::MAX] },
    ..Recipe::tintin(5)
};

/// Samples are visited this far apart, because neighbours in the file are by one hand. A prime, so that all are visited.
const STRIDE: usize = 389;
const PIXELS: usize = 64;
const CLASSES: u8 = 10;
/// Largest pixel in the file.
const WHITE: u8 = 16;
const MAGIC: [u8; 4] = *b"TDIG";
const HEAD: usize = 8;
/// Pixel mantissas are 0..112 with scale 2^-7.
const EXPONENT: i16 = -7;
const BRIGHTNESS: i8 = 7;

/// The pictures of a file: `TDIG`, number of training and of test samples (u16, little-endian), then for each sample 64 pixels
/// 0..16, row by row, and its class 0..9.
#[derive(Clone, Copy, Debug)]
pub struct Digits<'f> {
    train: &'f [[u8; PIXELS + 1]],
    test: &'f [[u8; PIXELS + 1]],
}

/// Why bytes are no such file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataError {
    /// Does not begin with `TDIG`.
    NotDigits,
    /// Another length than its head says.
    Length {
        /// Bytes given.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// A pixel above 16 or a class above 9 in this sample, training samples first.
    Value(usize),
    /// No training or no test samples.
    Empty,
}

impl Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDigits => f.write_str("not a file of digits: it does not begin with TDIG"),
            Self::Length { found, expected } => write!(f, "{found} bytes of digits where {expected} are expected"),
            Self::Value(sample) => write!(f, "sample {sample} has a pixel above {WHITE} or a class above 9"),
            Self::Empty => f.write_str("a file of digits without training or without test samples"),
        }?;
        f.write_str("; make firmware-data writes it anew")
    }
}

impl core::error::Error for DataError {}

impl<'f> Digits<'f> {
    /// Checks a file and looks into it.
    ///
    /// # Errors
    /// A file of something else, cut short, altered, or empty.
    pub fn read(file: &'f [u8]) -> Result<Self, DataError> {
        let Some((head, samples)) = file.split_at_checked(HEAD).filter(|(head, _)| head[..4] == MAGIC) else {
            return Err(DataError::NotDigits);
        };
        let count = |at| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let (train, test) = (count(4), count(6));
        let expected = HEAD + (train + test) * (PIXELS + 1);
        if file.len() != expected {
            return Err(DataError::Length { found: file.len(), expected });
        }
        if train == 0 || test == 0 {
            return Err(DataError::Empty);
        }
        let (samples, _) = samples.as_chunks();
        let sound = |s: &[u8; PIXELS + 1]| s[PIXELS] < CLASSES && s[..PIXELS].iter().all(|&p| p <= WHITE);
        if let Some(wrong) = samples.iter().position(|s| !sound(s)) {
            return Err(DataError::Value(wrong));
        }
        let (train, test) = samples.split_at(train);
        Ok(Self { train, test })
    }

    /// Number of samples to learn from and of those held out.
    pub fn len(&self) -> (usize, usize) {
        (self.train.len(), self.test.len())
    }
}

/// Mantissas of a sample's pixels, and its class.
fn picture(sample: &[u8; PIXELS + 1]) -> ([i8; PIXELS], u16) {
    (core::array::from_fn(|i| sample[i].cast_signed() * BRIGHTNESS), u16::from(sample[PIXELS]))
}

/// What came of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Test samples told right by the drawn weights.
    pub before: usize,
    /// And by the trained ones.
    pub after: usize,
    /// Test samples.
    pub of: usize,
    /// Digest of the trained weights.
    pub digest: u64,
}

/// Draws weights, trains and tells how it goes, epoch by epoch.
///
/// # Errors
/// Those of `out`.
pub fn run(
    memory: &mut net::Memory,
    data: &Digits<'_>,
    clock: &mut impl Clock,
    out: &mut dyn Write,
) -> Result<Outcome, fmt::Error> {
    let mut net = net::lean(memory, &[]);
    net.initialise(SEED);
    let (train, of) = data.len();
    writeln!(out, "digits: {train} to learn from, {of} held out; {} weights", net::SIZES.weights)?;
    let before = right(&mut net, data.test);
    tell(out, 0, before, of, format_args!("digest {:#018X}", net.digest()))?;
    let stride = if train.is_multiple_of(STRIDE) { 1 } else { STRIDE };
    let mut after = before;
    for epoch in 1..=EPOCHS {
        let (time, score) = timed(clock, || {
            (0..train).fold(Score::default(), |score, n| {
                let (x, label) = picture(&data.train[n * stride % train]);
                score.plus(net.train_step(&x, EXPONENT, Target::Labels(&[label]), &RECIPE))
            })
        });
        after = right(&mut net, data.test);
        let loss = Fixed(score.loss / train as u64);
        let step = time / u32::try_from(train).unwrap_or(u32::MAX);
        tell(out, epoch, after, of, format_args!("loss {loss} bits, {step} us a step, digest {:#018X}", net.digest()))?;
    }
    Ok(Outcome { before, after, of, digest: net.digest() })
}

fn tell(out: &mut dyn Write, epoch: u32, right: usize, of: usize, rest: fmt::Arguments<'_>) -> fmt::Result {
    let tenths = right * 1000 / of;
    writeln!(out, "epoch {epoch}: {}.{} % of the held-out digits right, {rest}", tenths / 10, tenths % 10)
}

fn right(net: &mut Net<'_, { net::SET }>, samples: &[[u8; PIXELS + 1]]) -> usize {
    let known = |sample: &&[u8; PIXELS + 1]| {
        let (x, label) = picture(sample);
        net.classify(&x, EXPONENT) == usize::from(label)
    };
    samples.iter().filter(known).count()
}

/// A number in 2^-16 with three decimals.
struct Fixed(u64);

impl Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = (self.0 * 1000) >> 16;
        write!(f, "{}.{:03}", thousandths / 1000, thousandths % 1000)
    }
}
