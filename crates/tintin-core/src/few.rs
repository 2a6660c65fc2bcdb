//! Few-sample learning on the heap, for hosts: memory for an [`Adapter`], and episodes to pre-train with.

use alloc::vec;
use alloc::vec::Vec;

use crate::adapt::{Adapter, Needs, Origin, Policy, Room, Settings, Support, fixed_choice, needs, pool_words};
use crate::choice::{Choice, Learning};
use crate::error::{AdaptError, PlanError};
use crate::fewshot::{Candidate, Prototypes, RowRate};
use crate::heap::{Model, zeros};
use crate::loss::Score;
use crate::optim::Recipe;
use crate::own_rows::most_workspace;
use crate::plan::{Options, Slot, SlotScales, empty_slots, most_slots, plan_for};
use crate::queries::Queries;

/// Memory of one adaptation.
#[derive(Debug)]
pub struct Workroom {
    slots: Vec<Slot>,
    scales: Vec<SlotScales>,
    pool: Vec<i32>,
    order: Vec<u32>,
    queries: Vec<i8>,
    labels: Vec<u16>,
    sums: Vec<i32>,
    units: Vec<i16>,
    scratch: Vec<i32>,
    information: Vec<u64>,
    exponents: Vec<Option<i32>>,
    candidates: Vec<Candidate>,
    chosen: Vec<Choice>,
    rates: Vec<RowRate>,
}

impl Workroom {
    /// Room for `samples` support samples of `classes` classes.
    ///
    /// # Errors
    /// A net that cannot be planned so, and memory that is not there.
    pub fn new(
        origin: &Origin<'_>,
        settings: &Settings<'_>,
        samples: usize,
        classes: usize,
    ) -> Result<Self, AdaptError> {
        let n = most_slots(origin.layers);
        let mut slots = vec![empty_slots::<1>()[0]; n];
        let mut chosen = vec![Choice { layer: 0, rows: 0 }; n];
        let (words, Needs { slots: used, queries, features, channels }) =
            Self::sizes(origin, settings, &mut slots, &mut chosen).map_err(AdaptError::Plan)?;
        let room = || -> Result<Self, PlanError> {
            let centres = classes.saturating_mul(features);
            Ok(Self {
                slots,
                scales: vec![SlotScales::ZERO; used],
                pool: zeros(words)?,
                order: zeros(samples)?,
                queries: zeros(queries)?,
                labels: zeros(settings.batch as usize)?,
                sums: zeros(centres)?,
                units: zeros(centres)?,
                scratch: zeros(2 * classes)?,
                information: zeros(channels)?,
                exponents: vec![None; used],
                candidates: vec![Candidate { layer: 0, rows: 0, score: None }; used],
                chosen,
                rates: vec![RowRate::new(0, 0); used],
            })
        };
        room().map_err(AdaptError::Plan)
    }

    /// Words of the largest pool that may be needed: for inspection, for a fixed choice, or for whatever may be chosen.
    fn sizes(
        origin: &Origin<'_>,
        settings: &Settings<'_>,
        slots: &mut [Slot],
        chosen: &mut [Choice],
    ) -> Result<(usize, Needs), PlanError> {
        let all = needs(origin, settings, slots)?;
        let run = |batch| settings.run(batch);
        let inspection = plan_for(origin.layers, origin.input, run(1), Learning::Inspect(settings.first()), slots)?;
        let chooses = matches!(settings.policy, Policy::TinyTrain | Policy::RandomChannels);
        let batch = settings.batch as usize;
        let fixed = if chooses { Settings { policy: Policy::Full, ..*settings } } else { *settings };
        let count = fixed_choice(origin, &fixed, slots, chosen)?;
        let still = run(1).with_training(false);
        let prediction = pool_words(&plan_for(origin.layers, origin.input, still, Learning::Chosen(&[]), slots)?);
        if settings.policy == Policy::Nothing {
            return Ok((prediction, all));
        }
        let learning = settings.policy.learning(&chosen[..count]);
        let full = plan_for(origin.layers, origin.input, run(settings.batch), learning, slots)?;
        // what is chosen in part needs masks of its rows, may be less than all, and its rows may lie apart
        let masks = slots[..full.slots].iter().map(|slot| (slot.rows as usize).div_ceil(8)).sum::<usize>();
        let apart = if chooses { most_workspace(&slots[..full.slots], batch, settings.spacious) } else { 0 };
        // shorter lives may be placed less well
        let slack = if chooses { full.activations.div_ceil(8) } else { 0 };
        Ok((pool_words(&inspection).max(pool_words(&full)).max(prediction) + masks + apart + slack, all))
    }

    /// The memory, lent.
    pub fn room(&mut self) -> Room<'_> {
        Room {
            slots: &mut self.slots,
            scales: &mut self.scales,
            pool: &mut self.pool,
            order: &mut self.order,
            queries: &mut self.queries,
            labels: &mut self.labels,
            sums: &mut self.sums,
            units: &mut self.units,
            scratch: &mut self.scratch,
            information: &mut self.information,
            exponents: &mut self.exponents,
            candidates: &mut self.candidates,
            chosen: &mut self.chosen,
            rates: &mut self.rates,
        }
    }
}

/// An episode of pre-training: who shows the classes, and who is asked (arXiv 1703.05175).
#[derive(Clone, Copy, Debug)]
pub struct Episode<'a> {
    /// Support and queries.
    pub support: Support<'a>,
    /// (queries, input) mantissas, of the support's exponent.
    pub x: &'a [i8],
    /// Their classes.
    pub labels: &'a [u16],
    /// Power of two of the temperature, 0 to 6.
    pub temperature: u8,
}

impl Model {
    /// The model as what an adaptation starts from.
    pub fn origin(&self) -> Origin<'_> {
        Origin {
            layers: self.layers(),
            input: self.input(),
            weights: self.weights(),
            scales: self.scales(),
            state: self.state(),
        }
    }

    /// An adaptation of this model, in that memory.
    ///
    /// # Errors
    /// As [`Adapter::new`].
    pub fn adapter<'m>(
        &'m self,
        support: Support<'m>,
        settings: Settings<'m>,
        workroom: &'m mut Workroom,
    ) -> Result<Adapter<'m>, AdaptError> {
        Adapter::new(self.origin(), support, settings, workroom.room())
    }

    /// This model with the weights, scales and step of an adaptation that started from it.
    #[must_use]
    pub fn adapted(&self, adapter: &mut Adapter<'_>) -> Self {
        let mut model = self.clone();
        let (scales, state) = (adapter.scales().to_vec(), adapter.state());
        adapter.each_resident(|_, from, w| model.weights_mut()[from..][..w.len()].copy_from_slice(w));
        model.set_progress(&scales, state);
        model
    }

    /// One training step on an episode: prototypes of its support, each sample predicted on its own, then the loss of its queries (N31).
    ///
    /// # Errors
    /// As [`plan`](crate::plan::plan).
    pub fn episode_step(
        &mut self,
        episode: &Episode<'_>,
        options: Options,
        recipe: &Recipe,
        centres: &mut Centres,
    ) -> Result<Score, PlanError> {
        let mut net = self.net(options)?;
        let Support { x, exponent, labels, classes } = episode.support;
        let features = net.output_len();
        let Centres { sums, units, scratch } = centres;
        sums.resize(classes * features, 0);
        units.resize(classes * features, 0);
        scratch.resize(2 * classes, 0);
        let mut prototypes = Prototypes::new(sums, units, features);
        prototypes.clear();
        for (x, &label) in x.chunks_exact(net.input_len()).zip(labels) {
            prototypes.add(net.predict(x, exponent).mantissas, label);
        }
        prototypes.finish();
        let Episode { x, labels, temperature, .. } = *episode;
        let queries = Queries { x, exponent, labels, prototypes: &prototypes, temperature };
        Ok(net.query_step(&queries, recipe, None, scratch))
    }
}

/// Prototypes of an episode and what they are made of, kept from episode to episode.
#[derive(Clone, Debug, Default)]
pub struct Centres {
    sums: Vec<i32>,
    units: Vec<i16>,
    scratch: Vec<i32>,
}
