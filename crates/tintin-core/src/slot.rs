//! What a plan consists of: slots with their offsets, and sizes by role.

use crate::cut::{parts, parts_to_add_up};
use crate::layers::{BIAS, BRANCHES, CHOSEN, INSPECT, Layer, MaxPool2d, POOL_ALONE, RELU_ALONE, Role, SIGNS, STREAMED};
use crate::shape::Shape;
use crate::tensor::Scale;

/// Source of a slot that reads the net's input.
pub const INPUT: u16 = u16::MAX;
/// No second input.
pub const NONE: u16 = u16::MAX - 1;

/// What is trained of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learns {
    /// Nothing.
    Nothing,
    /// The bias. The biases alone lie in RAM.
    Bias,
    /// Some rows, and their biases: see [`Slot::chosen`].
    Rows,
    /// The same, and of the weights these rows alone lie in RAM.
    RowsApart,
    /// Weights and bias.
    All,
}

/// One stop of the net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The layer that computes, and its index in the list.
    pub layer: Layer,
    /// Index of `layer` in the list: the `layer` of N8.
    pub index: u32,
    /// What it does.
    pub role: Role,
    /// Slot whose output is the input, or [`INPUT`].
    pub source: u16,
    /// Slot whose output is the second input of an Add, or [`NONE`].
    pub second: u16,
    /// Ends in a ReLU.
    pub relu: bool,
    /// Pool taken over, acting on the sums.
    pub pool: Option<MaxPool2d>,
    /// Pooled rows whose sums are held at a time; without a pool, rows of sums of what lies apart.
    pub band: u32,
    /// Input shape.
    pub xs: Shape,
    /// Shape of the sums.
    pub ss: Shape,
    /// Shape after pooling.
    pub ps: Shape,
    /// Output shape: `ps`, possibly flattened.
    pub ys: Shape,
    /// Weight rows.
    pub rows: u32,
    /// Weights per row.
    pub row: u32,
    /// Products per input element.
    pub fan_out: u32,
    /// One bias per row, stored behind the weights.
    pub bias: bool,
    /// What is trained of it under this plan.
    pub learns: Learns,
    /// Backward looks at the output and its error (N33), and changes nothing.
    pub inspected: bool,
    /// Backward passes here: an error at the output is computed, pool winners are kept.
    pub taped: bool,
    /// The error is passed on to `source`, to `second`.
    pub passes: [bool; 2],
    /// It is not the first error that gets there, so it is added (N28).
    pub further: [bool; 2],
    /// The weights lie among those that are trained, not among the frozen ones; only some of them if [`apart`](Self::apart).
    pub resident: bool,
    /// Backward needs the output as it is.
    pub kept: bool,
    /// Its sums, and the errors it passes on, are computed twice, some rows at a time, first for their peak: slower, in less memory.
    pub twice: [bool; 2],
    /// Backward needs its signs alone: they are kept as bits, each sample's from a byte of its own.
    pub signs: bool,
    /// Time of the last look at the output, and of the first error there: see `plan`.
    pub(crate) until: u16,
    pub(crate) since: u16,
    /// Offset of the weights: among all weights, or among the resident ones if they were chosen.
    pub w: usize,
    /// Offset of the input among the activations.
    pub x: usize,
    /// Offset of the output among the activations.
    pub y: usize,
    /// Offset of the output's error among the activations.
    pub dy: usize,
    /// Offset of the output's signs among the signs.
    pub bits: usize,
    /// Offset among the pool indices.
    pub indices: usize,
    /// What the slot's kernels need of the workspace, in words; all slots share it.
    pub workspace: usize,
    /// Sums, input errors or gradient rows: what the slot needs of the words, which all slots share.
    pub words: usize,
}

impl Slot {
    pub(crate) const EMPTY: Self = Self {
        layer: Layer::ReLU(crate::layers::ReLU),
        index: 0,
        role: Role::Rename,
        source: INPUT,
        second: NONE,
        relu: false,
        pool: None,
        band: 0,
        xs: Shape::flat(1),
        ss: Shape::flat(1),
        ps: Shape::flat(1),
        ys: Shape::flat(1),
        rows: 0,
        row: 0,
        fan_out: 0,
        bias: false,
        learns: Learns::Nothing,
        inspected: false,
        taped: false,
        passes: [false; 2],
        further: [false; 2],
        resident: false,
        kept: false,
        twice: [false; 2],
        signs: false,
        until: 0,
        since: 0,
        w: 0,
        x: 0,
        y: 0,
        dy: 0,
        bits: 0,
        indices: 0,
        workspace: 0,
        words: 0,
    };

    /// Number of weights.
    pub const fn weights(&self) -> usize {
        self.rows as usize * self.row as usize
    }

    /// Number of biases.
    pub const fn biases(&self) -> usize {
        if self.bias { self.rows as usize } else { 0 }
    }

    /// Sums of a band of pooled rows before pooling; 0 without a pool.
    pub const fn strip(&self) -> usize {
        self.strip_rows(self.band as usize) * self.ss.w as usize * self.ss.c as usize
    }

    /// Rows of sums under `band` pooled rows.
    pub const fn strip_rows(&self, band: usize) -> usize {
        match self.pool {
            Some(pool) => (band - 1) * pool.stride.0 as usize + pool.kernel.0 as usize,
            None => 0,
        }
    }

    /// Rows of sums of what lies apart that are held at a time.
    pub(crate) const fn own_rows(&self) -> usize {
        if self.pool.is_some() { self.strip_rows(self.band as usize) } else { self.band as usize }
    }

    /// Something of it is trained.
    pub const fn trained(&self) -> bool {
        !matches!(self.learns, Learns::Nothing)
    }

    /// Weights of it are trained.
    pub const fn trains_weights(&self) -> bool {
        matches!(self.learns, Learns::Rows | Learns::RowsApart | Learns::All)
    }

    /// Bytes of the bit mask of its chosen rows: bit o % 8 of byte o / 8 for row o. 0 where all rows learn or none.
    pub const fn chosen(&self) -> usize {
        if matches!(self.learns, Learns::Rows | Learns::RowsApart) { (self.rows as usize).div_ceil(8) } else { 0 }
    }

    /// In RAM lie only the rows that learn, if any, one behind the other, and all biases; all rows are among the frozen ones, too.
    pub const fn apart(&self) -> bool {
        matches!(self.learns, Learns::Bias | Learns::RowsApart)
    }

    /// Bytes of the signs of one sample.
    pub const fn sign_bytes(&self) -> usize {
        if self.signs { self.ys.len().div_ceil(8) } else { 0 }
    }

    /// Has sums of its own.
    pub const fn sums(&self) -> bool {
        matches!(self.role, Role::Sums { .. })
    }

    /// Pool winners kept per sample for the backward pass.
    pub const fn winners(&self) -> usize {
        if self.taped && self.pools() { self.ps.len() } else { 0 }
    }

    /// Multiply-accumulates of one sample's forward pass, counted densely.
    pub const fn products(&self) -> usize {
        self.ss.places() * self.weights()
    }

    /// Parts that `samples` samples are cut into for at most `threads` threads.
    pub(crate) const fn parts(&self, samples: usize, threads: usize) -> usize {
        parts(samples, self.products(), threads)
    }

    /// Parts that the gradient from `samples` samples is cut into for at most `threads` threads.
    pub(crate) const fn gradient_parts(&self, samples: usize, threads: usize) -> usize {
        let parts = self.parts(samples, threads);
        if self.adds_up_samples() { parts_to_add_up(samples * self.ss.places(), parts) } else { parts }
    }

    /// Threads cut a gradient by samples and add up, not by weight rows: where a row is small and meets many places.
    pub(crate) const fn adds_up_samples(&self) -> bool {
        self.ss.places() > 1
    }

    /// What the slot needs of the code, as a set of layers.
    pub const fn needs(&self) -> u32 {
        let more = if self.signs { SIGNS } else { 0 } | if self.inspected { INSPECT } else { 0 };
        let further = if self.further[0] || self.further[1] { BRANCHES } else { 0 };
        let twice = if self.twice[0] || self.twice[1] { STREAMED } else { 0 };
        more | further
            | twice
            | match self.learns {
                Learns::Bias | Learns::Rows | Learns::RowsApart => CHOSEN,
                Learns::Nothing | Learns::All => 0,
            }
            | match self.role {
                Role::Sums { .. } => self.layer.bit() | if self.bias { BIAS } else { 0 },
                Role::MaxPool(_) => POOL_ALONE,
                Role::ReLU => RELU_ALONE,
                Role::Add => BRANCHES,
                Role::Rename | Role::Branch => 0,
            }
    }

    /// Pools, on sums or on mantissas.
    pub const fn pools(&self) -> bool {
        self.pool.is_some() || matches!(self.role, Role::MaxPool(_))
    }
}

/// The exponents of a slot's tensors while a net lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotScales {
    /// Of the weights.
    pub w: Scale,
    /// Of the bias.
    pub b: Scale,
    /// Of the output.
    pub y: Scale,
    /// Of the output's error.
    pub e: Scale,
}

impl SlotScales {
    /// All exponents zero.
    pub const ZERO: Self = Self { w: Scale::pow2(0), b: Scale::pow2(0), y: Scale::pow2(0), e: Scale::pow2(0) };
}

/// Elements per role of a planned net.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Check sum of the planned list (`file::list_sum`): a net loads files of its own layers only.
    pub list: u32,
    /// Slots in use.
    pub slots: usize,
    /// First trained slot; `slots` when nothing is trained.
    pub first: usize,
    /// Most samples in a step.
    pub batch: usize,
    /// Gradient rows held at once; 0 means all.
    pub gradient_rows: usize,
    /// Threads that a batch is cut over: 1 where no slot has enough to do for two.
    pub threads: usize,
    /// All weights and biases, i8.
    pub weights: usize,
    /// Those that may lie in flash, i8: the frozen prefix in front, or all where the trained ones were chosen.
    pub frozen: usize,
    /// Those that must lie in RAM, i8: all others, or what learns of the chosen layers once more.
    pub resident: usize,
    /// Input, outputs and errors, i8: what is not needed at the same time shares bytes.
    pub activations: usize,
    /// Offset of the input among them.
    pub input: usize,
    /// Signs of outputs, in bytes.
    pub signs: usize,
    /// Pool indices, one byte each.
    pub indices: usize,
    /// How many of them there are for errors: without these there would be so many less.
    pub errors: usize,
    /// Offset among them of the room for an error that is then added to another (N28).
    pub spare: usize,
    /// Bit masks of chosen rows, in bytes.
    pub chosen: usize,
    /// Sums, i32.
    pub words: usize,
    /// Workspace of the kernels, i32: patches, inputs and errors in the form they are multiplied.
    pub workspace: usize,
    /// What the plan needs of the code, as a set of layers.
    pub set: u32,
}

impl Sizes {
    /// Bytes beside the weights.
    pub const fn bytes(&self) -> usize {
        self.activations + self.signs + self.indices + self.chosen
    }

    /// All words.
    pub const fn all_words(&self) -> usize {
        self.words + self.workspace
    }

    /// What to take from the offset of resident weights: those of a prefix plan count from the first weight of all.
    pub(crate) const fn base(&self) -> usize {
        if self.frozen < self.weights { self.frozen } else { 0 }
    }

    /// Bytes of the exponents of all slots.
    pub const fn scales(&self) -> usize {
        self.slots * size_of::<SlotScales>()
    }

    /// All of RAM, in bytes: trained weights, buffers, sums, scales, seed and step.
    pub const fn ram(&self) -> usize {
        self.resident + self.bytes() + 4 * self.all_words() + self.scales() + size_of::<crate::net::State>()
    }
}
