//! Whether a transmitter is on, from statistics of a block of radio samples.
//!
//! Before its samples the stream has noise blocks to learn the levels from: u32 campaigns, and for each of them u32 blocks and
//! their statistics. A sample begins with its campaign (u8).

use super::{Error, Front, Source};
use crate::features::{BLOCKS, Level, Sums};
use crate::tintin_core;

tintin_core::model! {
    /// Noise or signal from 59 statistics.
    pub mod net {
        input: (1, 1, 59),
        batch: 8,
        ram: 8 * 1024,
        layers: [
            Linear::new(32).with_bias(), ReLU, Linear::new(16).with_bias(), ReLU, Linear::new(2).with_bias(),
        ]
    }
}

/// Statistics of a block.
pub const STATISTICS: usize = 59;
/// Most campaigns: places and times of measurement, each with a noise of its own.
pub const CAMPAIGNS: usize = 4;

/// The noise of every campaign, the last block and its features.
pub struct Receiver {
    levels: [[Level; STATISTICS]; CAMPAIGNS],
    sums: [Sums; STATISTICS],
    known: usize,
    campaign: usize,
    block: [i16; STATISTICS],
    measures: [i8; STATISTICS],
}

impl Receiver {
    /// Knows no noise yet; for a `static`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            levels: [[Level::ZERO; STATISTICS]; CAMPAIGNS],
            sums: [Sums::ZERO; STATISTICS],
            known: 0,
            campaign: 0,
            block: [0; STATISTICS],
            measures: [0; STATISTICS],
        }
    }
}

impl Front for Receiver {
    fn start(&mut self, source: &mut impl Source) -> Result<(), Error> {
        let campaigns = source.number()?;
        self.known = campaigns as usize;
        let Some(known) = self.levels.get_mut(..self.known) else {
            return Err(Error::Invalid("number of campaigns", campaigns));
        };
        for levels in known {
            let blocks = source.number()?;
            if !(1..=BLOCKS).contains(&blocks) {
                return Err(Error::Invalid("number of noise blocks", blocks));
            }
            self.sums = [Sums::ZERO; STATISTICS];
            for _ in 0..blocks {
                source.values(&mut self.block)?;
                for (sums, &v) in self.sums.iter_mut().zip(&self.block) {
                    sums.add(v);
                }
            }
            for (level, sums) in levels.iter_mut().zip(&self.sums) {
                *level = sums.level(blocks);
            }
        }
        Ok(())
    }

    fn receive(&mut self, source: &mut impl Source) -> Result<(), Error> {
        let campaign = source.byte()?;
        self.campaign = campaign.into();
        if self.campaign >= self.known {
            return Err(Error::Invalid("campaign", campaign.into()));
        }
        source.values(&mut self.block)
    }

    fn features(&mut self) -> &[i8] {
        let levels = &self.levels[self.campaign];
        for ((measure, level), &v) in self.measures.iter_mut().zip(levels).zip(&self.block) {
            *measure = level.measure(v);
        }
        &self.measures
    }
}
