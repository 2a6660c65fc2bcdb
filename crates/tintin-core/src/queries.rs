//! Learning from queries by prototypes, and looking at what would learn (N31, N33).

use crate::backward::After;
use crate::fewshot::{Inspection, Prototypes, RowRate, error_scale};
use crate::loss::Score;
use crate::net::Net;
use crate::optim::Recipe;
use crate::tensor::Scale;

/// Queries and what they are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// (samples, input) mantissas of scale 2^`exponent`.
    pub x: &'a [i8],
    /// See `x`.
    pub exponent: i16,
    /// Class of each sample: a prototype's number.
    pub labels: &'a [u16],
    /// What the samples are compared with.
    pub prototypes: &'a Prototypes<'a>,
    /// Power of two of the temperature, 0 to 6.
    pub temperature: u8,
}

impl<const SET: u32> Net<'_, SET> {
    /// One training step on `queries` under the prototype loss (N31, N25). `scratch`: (2, classes).
    ///
    /// `rates`, one for every slot, choose the rows of partly trained slots anew by the size of their errors (N37): those of a plan for
    /// [`Learning::Redrawn`](crate::plan::Learning::Redrawn).
    ///
    /// # Panics
    /// As [`train_step`](Net::train_step).
    pub fn query_step(
        &mut self,
        queries: &Queries<'_>,
        recipe: &Recipe,
        rates: Option<&mut [RowRate]>,
        scratch: &mut [i32],
    ) -> Score {
        let samples = self.forward(queries.x, queries.exponent);
        let (score, any) = self.compare(queries, samples, scratch);
        if any {
            let after = match rates {
                Some(rates) => After::LearnBySize(recipe, rates),
                None => After::Learn(recipe),
            };
            self.backward(samples, Scale::pow2(queries.exponent), after);
        }
        self.count(recipe);
        score
    }

    /// The same look at one sample without learning from it: `table` gathers the Fisher information of inspected slots (N33).
    pub fn inspect(&mut self, queries: &Queries<'_>, table: &mut Inspection<'_>, scratch: &mut [i32]) -> Score {
        let samples = self.forward(queries.x, queries.exponent);
        let (score, any) = self.compare(queries, samples, scratch);
        if any {
            self.backward(samples, Scale::pow2(queries.exponent), After::Inspect(table));
        }
        score
    }

    /// Value of the loss, and whether any output error is not 0.
    fn compare(&mut self, queries: &Queries<'_>, samples: usize, scratch: &mut [i32]) -> (Score, bool) {
        let last = self.slots.len() - 1;
        let (slot, scale) = (&self.slots[last], self.scales[last].y);
        let n = slot.ys.len();
        let features = self.activations[slot.y..][..samples * n].chunks_exact(n);
        let mut score = Score::default();
        for ((f, errors), &label) in features.zip(self.words.chunks_exact_mut(n)).zip(queries.labels) {
            score = score.plus(queries.prototypes.loss(f, label, queries.temperature, errors, scratch));
        }
        (score, self.narrow_errors(samples, error_scale(scale, queries.temperature)))
    }
}
