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
    /// These layers, in any order, of each the same rows all the time. Of a layer RAM holds all weights and biases, or, where
    /// [`Slot::apart`](crate::plan::Slot::apart) is true, the rows that learn in rising order and all biases. All other weights stay
    /// where they are.
    Chosen(&'a [Choice]),
    /// These layers, in any order, of each now these rows and now those: all weights of the layers are copied to RAM.
    Redrawn(&'a [Choice]),
    /// None: backward passes down to this index and looks at outputs and errors (N33).
    Inspect(usize),
}

impl<'a> Learning<'a> {
    /// The layers that were chosen, if any were.
    pub const fn choices(self) -> &'a [Choice] {
        match self {
            Self::Chosen(choices) | Self::Redrawn(choices) => choices,
            Self::From(_) | Self::Inspect(_) => &[],
        }
    }

    /// Layers were chosen.
    pub(crate) const fn chooses(self) -> bool {
        matches!(self, Self::Chosen(_) | Self::Redrawn(_))
    }
}
