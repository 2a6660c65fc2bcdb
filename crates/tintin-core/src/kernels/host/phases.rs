//! Which inputs and outputs of a convolution meet, along one side, forward and backward, without a division a place.

use core::ops::Range;

use crate::kernels::Conv2d;

/// Height or width.
#[derive(Clone, Copy)]
pub struct Axis {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Axis {
    #[inline(always)]
    pub fn both(conv: &Conv2d) -> [Self; 2] {
        let Conv2d { kernel, stride, padding, xs, ys, .. } = *conv;
        let axis = |kernel, stride, padding, inputs: u32, outputs: u32| Self {
            kernel,
            stride,
            padding,
            inputs: inputs as usize,
            outputs: outputs as usize,
        };
        [axis(kernel.0, stride.0, padding.0, xs.h, ys.h), axis(kernel.1, stride.1, padding.1, xs.w, ys.w)]
    }

    /// The output places whose `tap` lies inside the input.
    #[inline(always)]
    pub fn places(&self, tap: usize) -> Range<usize> {
        let first = self.padding.saturating_sub(tap).div_ceil(self.stride);
        let end = (self.inputs + self.padding).saturating_sub(tap).div_ceil(self.stride);
        first..end.min(self.outputs)
    }

    /// `places` output places from `first` on; all have all taps.
    #[inline(always)]
    pub fn forward(&self, first: usize, places: usize) -> Phase {
        Phase {
            place: 0,
            step: 1,
            places,
            tap: 0,
            taps: self.kernel,
            tap_step: 1,
            source: (first * self.stride).cast_signed() - self.padding.cast_signed(),
            source_step: self.stride.cast_signed(),
            turn: 1,
            sources: self.inputs.cast_signed(),
        }
    }

    /// The input places `phase`, `phase` + stride and on, which the same taps meet, at ever earlier outputs.
    #[inline(always)]
    pub fn backward(&self, phase: usize) -> Phase {
        let tap = (phase + self.padding) % self.stride;
        Phase {
            place: phase,
            step: self.stride,
            places: (self.inputs - phase).div_ceil(self.stride),
            tap,
            taps: self.kernel.saturating_sub(tap).div_ceil(self.stride),
            tap_step: self.stride,
            source: ((phase + self.padding) / self.stride).cast_signed(),
            source_step: 1,
            turn: -1,
            sources: self.outputs.cast_signed(),
        }
    }
}

/// Places in a row that have the same taps, but for those whose sources are outside.
#[derive(Clone, Copy)]
pub struct Phase {
    pub place: usize,
    pub step: usize,
    pub places: usize,
    pub tap: usize,
    pub taps: usize,
    pub tap_step: usize,
    /// Of the first tap of the first place; from place to place, from tap to tap, and how many there are.
    pub source: isize,
    pub source_step: isize,
    pub turn: isize,
    pub sources: isize,
}

/// The taps of a place whose sources are inside.
#[derive(Clone, Copy)]
pub struct Reach {
    pub place: usize,
    pub tap: usize,
    pub taps: usize,
    pub source: isize,
}

impl Phase {
    #[inline(always)]
    pub fn reach(&self, n: usize) -> Reach {
        let source = self.source + n.cast_signed() * self.source_step;
        let (first, end) =
            if self.turn > 0 { (-source, self.sources - source) } else { (source + 1 - self.sources, source + 1) };
        let (first, end) = (first.max(0), end.min(self.taps.cast_signed()));
        Reach {
            place: self.place + n * self.step,
            tap: self.tap + first.cast_unsigned() * self.tap_step,
            taps: (end - first).max(0).cast_unsigned(),
            source: source + first * self.turn,
        }
    }
}
