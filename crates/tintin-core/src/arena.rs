//! The static owner of a net's memory: sizes are const generics, the compiler fills them from the plan.

use crate::file::Contents;
use crate::layers::Layer;
use crate::net::{Memory, Net, State};
use crate::optim::Recipe;
use crate::plan::{Sizes, Slot, SlotScales};
use crate::shape::Shape;

/// Memory of one net. All zero at the start, so a `static` of it lies in `.bss` and costs no flash.
pub struct Arena<const BYTES: usize, const WORDS: usize, const SLOTS: usize> {
    bytes: [i8; BYTES],
    words: [i32; WORDS],
    scales: [SlotScales; SLOTS],
    state: State,
}

impl<const BYTES: usize, const WORDS: usize, const SLOTS: usize> Default for Arena<BYTES, WORDS, SLOTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize, const WORDS: usize, const SLOTS: usize> Arena<BYTES, WORDS, SLOTS> {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            bytes: [0; BYTES],
            words: [0; WORDS],
            scales: [SlotScales::ZERO; SLOTS],
            state: State { seed: 0, step: 0 },
        }
    }

    /// The net of a plan in this memory, weights as they are; `frozen` holds the weights of a frozen prefix.
    ///
    /// # Panics
    /// If the arena was sized for another plan; [`model!`](crate::model!) sizes it for its own.
    pub fn net<'m>(&'m mut self, slots: &'m [Slot], sizes: &Sizes, frozen: &'m [i8]) -> Net<'m> {
        self.lean(slots, sizes, frozen)
    }

    /// The same with the code of a set of layers alone: see [`Net::lean`].
    ///
    /// # Panics
    /// As [`net`](Self::net) and [`Net::lean`].
    pub fn lean<'m, const SET: u32>(&'m mut self, slots: &'m [Slot], sizes: &Sizes, frozen: &'m [i8]) -> Net<'m, SET> {
        let (weights, bytes) = self.bytes.split_at_mut(sizes.resident);
        let memory =
            Memory { frozen, weights, bytes, words: &mut self.words, scales: &mut self.scales, state: &mut self.state };
        Net::lean(slots, sizes, memory)
    }
    /// The model in this memory as a `.tin` file to be: of the planned `layers` for samples of shape `input`. `frozen` and sizes as
    /// for [`Arena::net`].
    pub fn contents<'m>(
        &'m self,
        (layers, input): (&'m [Layer], Shape),
        slots: &'m [Slot],
        sizes: &'m Sizes,
        frozen: &'m [i8],
        recipe: Option<Recipe>,
    ) -> Contents<'m> {
        let mantissas = &self.bytes[..sizes.resident];
        Contents { layers, input, state: self.state, recipe, slots, sizes, scales: &self.scales, frozen, mantissas }
    }
}
