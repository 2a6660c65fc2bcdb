//! Learns on the chip what the vibration of a machine is normally like, and tells when it is not.
//!
//! A window of accelerations becomes 15 integer features, an auto-encoder learns to reproduce them, and how far it is off tells
//! how unusual a window is: first it learns, then it measures its error on more windows that count as normal, then it watches.

use crate::board::{Accelerometer, Clock, timed};
use core::fmt::{self, Write};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use lsm303agr::interface::I2cInterface;
use lsm303agr::mode::MagOneShot;
use lsm303agr::{AccelMode, AccelOutputDataRate, Lsm303agr};
use tintin_core::loss::{Loss, Target};
use tintin_core::net::Net;
use tintin_core::optim::Recipe;

/// Samples of a window.
pub const WINDOW: usize = 64;
/// Accelerations along x, y, z.
pub type Window = [[i16; 3]; WINDOW];
/// Features of a window: five for each axis.
pub const FEATURES: usize = 15;

tintin_core::model! {
    /// Auto-encoder of the features of one window.
    pub mod net {
        input: (1, 1, FEATURES as u32),
        batch: 1,
        ram: 2 * 1024,
        layers: [Linear::new(24).with_bias(), ReLU, Linear::new(6).with_bias(), Linear::new(FEATURES as u16).with_bias()]
    }
}

/// Windows it learns from.
pub const LEARN: u32 = 600;
/// Windows it then measures its error on.
pub const MEASURE: usize = 64;
/// An error this many mean deviations above the mean is not normal.
const DEVIATIONS: u64 = 8;
const SEED: u32 = 1;
const RECIPE: Recipe = Recipe { loss: Loss::SquaredError, ..Recipe::tintin(3) };
/// Features have scale 2^-7.
const EXPONENT: i16 = -7;
/// Distances in samples that differences are taken over: each sees other frequencies.
const LAGS: [usize; 4] = [1, 2, 4, 8];

/// 16 · log2 of how much each axis moves: mean distance from its mean, and mean differences over [`LAGS`]; i8 with scale 2^-7.
pub fn features(window: &Window) -> [i8; FEATURES] {
    let mut features = [0; FEATURES];
    for (axis, features) in features.chunks_exact_mut(1 + LAGS.len()).enumerate() {
        let value = |i: usize| i32::from(window[i][axis]);
        let mean = (0..WINDOW).map(value).sum::<i32>() / WINDOW as i32;
        features[0] = level((0..WINDOW).map(|i| value(i).abs_diff(mean)).sum(), WINDOW);
        for (feature, lag) in features[1..].iter_mut().zip(LAGS) {
            *feature = level((lag..WINDOW).map(|i| value(i).abs_diff(value(i - lag))).sum(), WINDOW - lag);
        }
    }
    features
}

/// 16 · (log2(64 · sum / n) − 12), the logarithm straight between powers of two.
fn level(sum: u32, n: usize) -> i8 {
    let mean = u64::from(sum) * 64 / n as u64 + 1;
    let exponent = mean.ilog2();
    let sixteenths = (mean << 4 >> exponent) & 15;
    let log2 = 16 * exponent as i32 + sixteenths as i32;
    (log2 - 16 * 12).clamp(-127, 127) as i8
}

/// What a window says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Was learned from; the squared error before.
    Learned(u64),
    /// Was taken as normal to measure the error by.
    Measured(u64),
    /// No more unusual than those.
    Normal(u64),
    /// Not normal.
    Changed(u64),
}

/// Learns, measures and watches, window by window.
pub struct Monitor<'m> {
    net: Net<'m, { net::SET }>,
    windows: u32,
    errors: [u64; MEASURE],
    limit: u64,
}

impl<'m> Monitor<'m> {
    /// Knows nothing yet.
    pub fn new(memory: &'m mut net::Memory) -> Self {
        let mut net = net::lean(memory, &[]);
        net.initialise(SEED);
        Self { net, windows: 0, errors: [0; MEASURE], limit: u64::MAX }
    }

    /// Takes the next window.
    pub fn window(&mut self, window: &Window) -> Verdict {
        let x = features(window);
        let target = Target::Values(&x, EXPONENT);
        let n = self.windows;
        self.windows = n.saturating_add(1);
        if n < LEARN {
            return Verdict::Learned(self.net.train_step(&x, EXPONENT, target, &RECIPE).loss);
        }
        let error = self.net.evaluate(&x, EXPONENT, target, Loss::SquaredError).loss;
        match self.errors.get_mut((n - LEARN) as usize) {
            Some(place) => {
                *place = error;
                if n + 1 == LEARN + MEASURE as u32 {
                    self.limit = limit(&self.errors);
                }
                Verdict::Measured(error)
            }
            None if error > self.limit => Verdict::Changed(error),
            None => Verdict::Normal(error),
        }
    }

    /// The error above which a window is not normal, once it is known.
    pub fn limit(&self) -> Option<u64> {
        (self.limit < u64::MAX).then_some(self.limit)
    }

    /// Digest of the trained weights.
    pub fn digest(&self) -> u64 {
        self.net.digest()
    }
}

fn limit(errors: &[u64; MEASURE]) -> u64 {
    let n = MEASURE as u64;
    let mean = errors.iter().sum::<u64>() / n;
    let deviation = errors.iter().map(|e| e.abs_diff(mean)).sum::<u64>() / n;
    mean + DEVIATIONS * (deviation + 1)
}

/// What happened to the windows of [`run`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Watched and found normal.
    pub normal: u32,
    /// Watched and found changed.
    pub changed: u32,
    /// Lost to an error of the sensor.
    pub lost: u32,
}

/// Takes `windows` windows from the sensor and tells of learning, of every change and of every error of the sensor; a window with
/// an error is thrown away, and the next begins after 100 ms.
///
/// # Errors
/// Those of `out`.
pub fn run<A: Accelerometer>(
    monitor: &mut Monitor<'_>,
    sensor: &mut A,
    time: &mut (impl Clock + DelayNs),
    out: &mut dyn Write,
    windows: u32,
) -> Result<Tally, fmt::Error> {
    const TELL_EVERY: u32 = 100;
    let (mut tally, mut was_changed) = (Tally::default(), false);
    for _ in 0..windows {
        let mut window = [[0; 3]; WINDOW];
        let filled = window.iter_mut().try_for_each(|sample| sensor.sample().map(|values| *sample = values));
        if let Err(error) = filled {
            tally.lost += 1;
            writeln!(out, "sensor: {error:?}; window thrown away")?;
            time.delay_ms(100);
            continue;
        }
        let (took, verdict) = timed(time, || monitor.window(&window));
        match verdict {
            Verdict::Learned(error) if monitor.windows.is_multiple_of(TELL_EVERY) => {
                writeln!(out, "learned {} windows, error {error}, {took} us a step", monitor.windows)?;
            }
            Verdict::Learned(_) => {}
            Verdict::Measured(_) => {
                if let Some(limit) = monitor.limit() {
                    writeln!(out, "watching: an error above {limit} is not normal")?;
                }
            }
            Verdict::Normal(error) => {
                tally.normal += 1;
                if was_changed {
                    writeln!(out, "normal again: error {error}")?;
                }
                was_changed = false;
            }
            Verdict::Changed(error) => {
                tally.changed += 1;
                if !was_changed {
                    writeln!(out, "NOT NORMAL: error {error}")?;
                }
                was_changed = true;
            }
        }
    }
    Ok(tally)
}

/// Looks at the sensor's status before a sample counts as missing: it gives one every 2.5 ms.
const LOOKS: u32 = 1000;

/// Why a sample of the LSM303AGR did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SensorError<E> {
    /// The bus failed.
    Bus(E),
    /// The sensor answers but has no new sample.
    NoSample,
}

impl<E> From<lsm303agr::Error<E>> for SensorError<E> {
    fn from(error: lsm303agr::Error<E>) -> Self {
        match error {
            lsm303agr::Error::Comm(error) => Self::Bus(error),
            lsm303agr::Error::InvalidInputData => Self::NoSample, // of rates and modes, which are right here
        }
    }
}

/// LSM303AGR at 400 samples a second, 12 bits, ±2 g: unit 1/1024 g.
pub struct Lsm303<B>(Lsm303agr<I2cInterface<B>, MagOneShot>, bool);

impl<B: I2c> Lsm303<B> {
    /// Not yet set up: the first sample does that, and the first after an error.
    pub fn new(bus: B) -> Self {
        Self(Lsm303agr::new_with_i2c(bus), false)
    }

    /// Gives the bus back.
    pub fn release(self) -> B {
        self.0.destroy()
    }

    fn set_up(&mut self) -> Result<(), SensorError<B::Error>> {
        self.0.init()?;
        // The sensor takes less than a sample to change its mode; until then the status says that there is none.
        self.0.set_accel_mode_and_odr(&mut NoDelay, AccelMode::HighResolution, AccelOutputDataRate::Hz400)?;
        Ok(())
    }

    fn look(&mut self) -> Result<[i16; 3], SensorError<B::Error>> {
        if !self.1 {
            self.set_up()?;
        }
        for _ in 0..LOOKS {
            if self.0.accel_status()?.xyz_new_data() {
                let a = self.0.acceleration()?;
                return Ok([a.x_unscaled(), a.y_unscaled(), a.z_unscaled()]);
            }
        }
        Err(SensorError::NoSample)
    }
}

impl<B: I2c> Accelerometer for Lsm303<B> {
    type Error = SensorError<B::Error>;

    fn sample(&mut self) -> Result<[i16; 3], Self::Error> {
        let result = self.look();
        self.1 = result.is_ok(); // a sensor that lost its supply needs its settings again
        result
    }
}

struct NoDelay;

impl DelayNs for NoDelay {
    fn delay_ns(&mut self, _: u32) {}
}
