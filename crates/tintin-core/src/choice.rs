//! Which layers learn: told to the planner, found by [`fewshot`](crate::fewshot) or by hand.

/// A layer that learns, wholly or in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index in the list of layers.
    pub layer: u32,
    /// Number of rows that learn, with their biases; 0 for all biases and no weights.
    pub rows: u32,
}

/// What a plan trains.
#[derive(Clone, Copy, Debug)]
pub enum Learning<'a> {
    /// Every layer with weights from this index on. The weights before stay where they are.
    From(usize),
    /// These layers, in any order. Their weights are copied to RAM, all others stay where they are.
    Chosen(&'a [Choice]),
    /// None: backward passes down to this index and looks at outputs and errors (N33).
    Inspect(usize),
}
