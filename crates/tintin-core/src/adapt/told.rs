//! What an adaptation is told, and the memory it is lent.

use crate::choice::{Choice, Learning};
use crate::error::AdaptError;
use crate::fewshot::{Candidate, RowRate, prototypes};
use crate::layers::Layer;
use crate::net::State;
use crate::optim::Recipe;
use crate::plan::{Options, Slot, SlotScales};
use crate::shape::Shape;

use super::limit_of;

/// The pre-trained net. Its weights are only read: they may lie in flash.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Layers in order; the last yields the features.
    pub layers: &'a [Layer],
    /// Input shape.
    pub input: Shape,
    /// Mantissas of all weights and biases, in slot order.
    pub weights: &'a [i8],
    /// Scales of every slot.
    pub scales: &'a [SlotScales],
    /// Seed and step.
    pub state: State,
}

/// The labelled samples of the task.
#[derive(Clone, Copy, Debug)]
pub struct Support<'a> {
    /// (samples, input) mantissas of scale 2^`exponent`.
    pub x: &'a [i8],
    /// See `x`.
    pub exponent: i16,
    /// Class of each sample.
    pub labels: &'a [u16],
    /// Number of classes.
    pub classes: usize,
}

/// What of the net learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy<'a> {
    /// Nothing: the prototypes of the net as it is.
    Nothing,
    /// Every layer with weights.
    Full,
    /// The last layer with weights (TinyOL, arXiv 2103.08295).
    LastLayer,
    /// The biases of the inspected layers (TinyTL, arXiv 2007.11622).
    BiasOnly,
    /// These layers; of each the rows of the largest weights (MIT, arXiv 2206.15472).
    Sparse(&'a [Choice]),
    /// Layers by score within the budgets, rows by Fisher information (N34, N35).
    TinyTrain,
    /// These layers, rows by Fisher information.
    Layers(&'a [Choice]),
    /// Layers as TinyTrain chooses them, rows drawn anew for every pass (N36; TraDy, arXiv 2510.19675).
    RandomChannels,
    /// Every inspected layer, rows by the size of their errors (N37), between two shares in 2^-15 below 1.
    Dynamic {
        /// l_min.
        least: u16,
        /// l_max.
        most: u16,
    },
}

impl Policy<'_> {
    /// What a plan is told of the choices of this policy: where rows change, whole layers lie in RAM.
    pub const fn learning(self, choices: &[Choice]) -> Learning<'_> {
        match self {
            Self::RandomChannels | Self::Dynamic { .. } => Learning::Redrawn(choices),
            _ => Learning::Chosen(choices),
        }
    }

    /// Needs an inspection.
    pub(super) const fn inspects(self) -> bool {
        matches!(self, Self::TinyTrain | Self::RandomChannels | Self::Layers(_))
    }
}

/// How to adapt.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// What learns.
    pub policy: Policy<'a>,
    /// Most bytes of RAM of the plan that learns ([`Sizes::ram`](crate::plan::Sizes::ram)), for policies that choose.
    pub memory: u64,
    /// Most backward products as a share of those of full training, in 2^-15, for policies that choose.
    pub compute: u32,
    /// Most of a layer's rows that learn, in 2^-15 (N35).
    pub ratio: u32,
    /// Index of the first layer that is looked at; those before never learn, unless all do.
    pub inspect: usize,
    /// Power of two of the temperature, 0 to 6 (N31).
    pub temperature: u8,
    /// Most places a query is moved, down and right (N32).
    pub limits: (u16, u16),
    /// Queries in a step.
    pub batch: u32,
    /// Passes over the support set.
    pub passes: u32,
    /// How weights move.
    pub recipe: Recipe,
    /// Run with room for speed: for hosts. Prices and what is refused stay those of the least memory, bits stay the same.
    pub spacious: bool,
}

impl Settings<'_> {
    /// Index of the first layer that is looked at: none that is to learn by information comes before it.
    pub fn first(&self) -> usize {
        match self.policy {
            Policy::Layers(choices) => choices.iter().fold(self.inspect, |first, c| first.min(c.layer as usize)),
            _ => self.inspect,
        }
    }

    /// The options of a plan that runs.
    pub(crate) fn run(&self, batch: u32) -> Options {
        if self.spacious { Options::training(batch).spacious() } else { self.held(batch) }
    }

    /// The same where memory is held to.
    pub(super) fn held(&self, batch: u32) -> Options {
        Options::training(batch).ram_limit(limit_of(self.memory))
    }
}

/// The memory an adaptation works in, lent by its owner; [`Needs`] tells the lengths.
pub struct Room<'m> {
    /// A slot for every layer.
    pub slots: &'m mut [Slot],
    /// Scales of every slot.
    pub scales: &'m mut [SlotScales],
    /// Resident weights and all a step works in.
    pub pool: &'m mut [i32],
    /// A number for every support sample.
    pub order: &'m mut [u32],
    /// A batch of inputs.
    pub queries: &'m mut [i8],
    /// A batch of labels.
    pub labels: &'m mut [u16],
    /// (classes, features).
    pub sums: &'m mut [i32],
    /// (classes, features).
    pub units: &'m mut [i16],
    /// (2, classes).
    pub scratch: &'m mut [i32],
    /// A sum for every channel of the inspected layers.
    pub information: &'m mut [u64],
    /// An exponent for every slot.
    pub exponents: &'m mut [Option<i32>],
    /// One for every slot.
    pub candidates: &'m mut [Candidate],
    /// One for every slot.
    pub chosen: &'m mut [Choice],
    /// One for every slot.
    pub rates: &'m mut [RowRate],
}

/// Lengths of a [`Room`] beside its pool: those of `queries`, `information` and what is (classes, features).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Slots of the net.
    pub slots: usize,
    /// Values of a batch of inputs.
    pub queries: usize,
    /// Features of the net.
    pub features: usize,
    /// Channels of the inspected layers.
    pub channels: usize,
}

/// Refuses a support set to learn nothing from, and settings out of range.
pub(super) fn check(support: &Support<'_>, settings: &Settings<'_>) -> Result<(), AdaptError> {
    let Support { labels, classes, .. } = *support;
    if !(2..=prototypes::MOST_CLASSES).contains(&classes) {
        return Err(AdaptError::Classes(classes));
    }
    if labels.len() > prototypes::MOST_SAMPLES as usize {
        return Err(AdaptError::Value("support samples: at most 32768"));
    }
    if let Some(&label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
        return Err(AdaptError::Label { label, classes });
    }
    for class in 0..classes {
        let samples = labels.iter().filter(|&&label| usize::from(label) == class).count();
        if samples < 2 {
            return Err(AdaptError::Samples { class, samples });
        }
    }
    if settings.batch == 0 || settings.passes == 0 || settings.temperature > prototypes::MOST_TEMPERATURE {
        return Err(AdaptError::Value("batch and passes must be at least 1, the temperature 2^0 to 2^6"));
    }
    if settings.ratio == 0 || settings.ratio > 1 << 15 || settings.compute > 1 << 15 {
        return Err(AdaptError::Value("ratio and compute budget must be above 0 and at most 1"));
    }
    if matches!(settings.policy, Policy::Dynamic { least, most } if least > most || most >= 1 << 15) {
        return Err(AdaptError::Value("shares of rows must rise and stay below 1"));
    }
    Ok(())
}
