//! Which fault a motor bearing has, from a window of its vibration.

use super::{Error, Front, Source};
use crate::features::{BANDS, WINDOW, log_bands};
use crate::tintin_core;

tintin_core::model! {
    /// Ten classes from the logarithms of 64 bands.
    pub mod net {
        input: (1, 1, 64),
        batch: 1,
        ram: 4 * 1024,
        layers: [Linear::new(32).with_bias(), ReLU, Linear::new(10).with_bias()]
    }
}

/// The window, which its transform takes the place of, and the features.
pub struct Vibration {
    window: [i16; WINDOW],
    bands: [i8; BANDS],
}

impl Vibration {
    /// All zero, for a `static`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self { window: [0; WINDOW], bands: [0; BANDS] }
    }
}

impl Front for Vibration {
    fn start(&mut self, _: &mut impl Source) -> Result<(), Error> {
        Ok(())
    }

    fn receive(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.values(&mut self.window)
    }

    fn features(&mut self) -> &[i8] {
        self.bands = log_bands(&mut self.window);
        &self.bands
    }
}
