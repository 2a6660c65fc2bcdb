//! Adaptation to a new task from a few labelled samples (N30 to N37): inspect, choose, learn. The same code on hosts and devices.
//!
//! TinyTrain, arXiv 2307.09988, algorithm 1. The net ends in features, not classes: prototypes of the support set stand for the classes.

mod price;
mod told;

use crate::choice::{Choice, Learning};
use crate::error::{AdaptError, PlanError};
use crate::fewshot::{Candidate, Inspection, Price, Prototypes, RowRate, choose, drawn, largest, move_by, moved, unit};
use crate::kernels::as_bytes;
use crate::loss::Score;
use crate::net::{Memory, Net, State};
use crate::own_rows::each_run;
use crate::plan::{Options, Sizes, Slot, SlotScales, plan_for};
use crate::queries::Queries;
use crate::rng::shuffle;

pub(crate) use price::limit_of;
pub use price::{backward_products, fixed_choice, full_products, needs, pool_words, price};
use told::check;
pub use told::{Needs, Origin, Policy, Room, Settings, Support};

/// An adaptation under way.
pub struct Adapter<'m> {
    origin: Origin<'m>,
    support: Support<'m>,
    settings: Settings<'m>,
    room: Room<'m>,
    sizes: Sizes,
    choices: usize,
    state: State,
    pass: u32,
    batch: usize,
}

impl<'m> Adapter<'m> {
    /// Checks what is given, inspects if the policy needs it, chooses, and copies what learns to the pool.
    ///
    /// # Errors
    /// A support set to learn nothing from, settings out of range, a budget too small for any layer, a pool too small.
    pub fn new(
        origin: Origin<'m>,
        support: Support<'m>,
        settings: Settings<'m>,
        room: Room<'m>,
    ) -> Result<Self, AdaptError> {
        check(&support, &settings)?;
        let mut adapter = Self {
            origin,
            support,
            settings,
            room,
            sizes: Sizes::default(),
            choices: 0,
            state: origin.state,
            pass: 0,
            batch: 0,
        };
        let features = needs(&origin, &settings, adapter.room.slots).map_err(AdaptError::Plan)?.features;
        if !(1..=unit::MOST_FEATURES).contains(&features) {
            return Err(AdaptError::Features(features));
        }
        adapter.room.scales.copy_from_slice(origin.scales);
        if settings.policy.inspects() {
            let look = Learning::Inspect(settings.first());
            // what a device would refuse, a host refuses too
            let held = plan_for(origin.layers, origin.input, settings.held(1), look, adapter.room.slots);
            if let Err(error) = held {
                return Err(adapter.too_small(error, look));
            }
            adapter.plan(settings.run(1), look)?;
            adapter.inspect();
        }
        if matches!(settings.policy, Policy::TinyTrain | Policy::RandomChannels) {
            adapter.choose()?;
        } else {
            let Room { slots, chosen, .. } = &mut adapter.room;
            adapter.choices = fixed_choice(&origin, &settings, slots, chosen).map_err(AdaptError::Plan)?;
        }
        adapter.start()?;
        Ok(adapter)
    }

    /// Plans in the pool.
    fn plan(&mut self, options: Options, learning: Learning<'_>) -> Result<(), AdaptError> {
        let Origin { layers, input, .. } = self.origin;
        self.sizes = plan_for(layers, input, options, learning, self.room.slots).map_err(AdaptError::Plan)?;
        self.fits()
    }

    fn fits(&self) -> Result<(), AdaptError> {
        let (needed, room) = (pool_words(&self.sizes), self.room.pool.len());
        if needed > room { Err(AdaptError::Room { needed: 4 * needed, room: 4 * room }) } else { Ok(()) }
    }

    /// Makes the prototypes of the support set with the weights as they are (N30).
    fn centre(&mut self) {
        let Support { x, exponent, labels, .. } = self.support;
        let (mut net, room) = self.parts();
        let mut prototypes = Prototypes::new(room.sums, room.units, net.output_len());
        prototypes.clear();
        for (x, &label) in x.chunks_exact(net.input_len()).zip(labels) {
            prototypes.add(net.predict(x, exponent).mantissas, label);
        }
        prototypes.finish();
    }

    /// Fisher information of the inspected slots over the support set (N33).
    fn inspect(&mut self) {
        self.centre();
        let (Support { x, exponent, labels, .. }, temperature) = (self.support, self.settings.temperature);
        let sizes = self.sizes;
        // the net and the table both read the slots
        let Self { origin, room, state, .. } = self;
        let slots = &room.slots[..sizes.slots];
        let mut table = Inspection::new(room.information, &mut room.exponents[..sizes.slots], slots);
        table.clear();
        let mut net = net_in(origin, slots, &sizes, room.pool, room.scales, state);
        let prototypes = Prototypes::new(&mut [], room.units, net.output_len());
        for (x, label) in x.chunks_exact(net.input_len()).zip(labels.chunks_exact(1)) {
            let query = Queries { x, exponent, labels: label, prototypes: &prototypes, temperature };
            net.inspect(&query, &mut table, room.scratch);
        }
    }

    /// Scores, and the greedy choice within both budgets (N34, N35).
    fn choose(&mut self) -> Result<(), AdaptError> {
        let Room { slots, scales, information, exponents, candidates, chosen, .. } = &mut self.room;
        let n = self.sizes.slots;
        let mut count = 0;
        let mut any = false;
        let mut table = Inspection::new(information, &mut exponents[..n], &slots[..n]);
        for (i, slot) in slots[..n].iter().enumerate().filter(|(_, slot)| slot.inspected) {
            let scale = scales[i].y.times(scales[i].e);
            let parameters = (slot.weights() + slot.biases()) as u64;
            let score = table.slot(i).score(scale, parameters, slot.products() as u64);
            any |= score.is_some();
            candidates[count] = Candidate { layer: slot.index, rows: slot.rows, score };
            count += 1;
        }
        if !any {
            // not a sample has any error: there is nothing to learn, and that is no failure
            self.settings.policy = Policy::Nothing;
            return Ok(());
        }
        let full = full_products(&self.origin, slots).map_err(AdaptError::Plan)?;
        let budget = Price { bytes: self.settings.memory, products: (full * u64::from(self.settings.compute)) >> 15 };
        let (origin, terms, policy) = (&self.origin, (self.settings.batch, self.settings.memory), self.settings.policy);
        let ask = |choices: &[Choice]| price(origin, terms, policy.learning(choices), slots).ok();
        self.choices = choose(&mut candidates[..count], self.settings.ratio, budget, chosen, ask);
        if self.choices == 0 {
            return Err(self.least(count, budget, full));
        }
        Ok(())
    }

    /// The error of a budget that the inspection does not fit into: what would do for it and for a layer.
    fn too_small(&mut self, error: PlanError, look: Learning<'_>) -> AdaptError {
        if matches!(self.settings.policy, Policy::Layers(_)) {
            return AdaptError::Plan(error); // its layers are told: no other would do
        }
        let (PlanError { bytes: Some((needed, _)), .. }, Origin { layers, input, .. }) = (error, self.origin) else {
            return AdaptError::Plan(error);
        };
        let Room { slots, candidates, .. } = &mut self.room;
        let Ok(sizes) = plan_for(layers, input, Options::training(1), look, slots) else {
            return AdaptError::Plan(error);
        };
        let mut count = 0;
        for slot in slots[..sizes.slots].iter().filter(|slot| slot.inspected) {
            candidates[count] = Candidate { layer: slot.index, rows: slot.rows, score: Some(0) };
            count += 1;
        }
        let full = match full_products(&self.origin, slots) {
            Ok(full) => full,
            Err(error) => return AdaptError::Plan(error),
        };
        match self.least(count, self.budget(full), full) {
            AdaptError::Budget { memory, compute, least_memory, least_compute } => {
                let least_memory = least_memory.map(|bytes| bytes.max(needed as u64));
                AdaptError::Budget { memory, compute, least_memory, least_compute }
            }
            other => other,
        }
    }

    /// What a choice may cost, if full training takes so many products.
    fn budget(&self, full: u64) -> Price {
        Price { bytes: self.settings.memory, products: (full * u64::from(self.settings.compute)) >> 15 }
    }

    /// The error of a budget in which no layer fits: what would do.
    fn least(&mut self, count: usize, budget: Price, full: u64) -> AdaptError {
        let Room { slots, candidates, .. } = &mut self.room;
        let (mut bytes, mut products) = (None, None);
        for candidate in candidates[..count].iter().filter(|c| c.score.is_some()) {
            let most = (u64::from(candidate.rows) * u64::from(self.settings.ratio)).div_ceil(1 << 15);
            let rows = u32::try_from(most.div_ceil(8)).unwrap_or(candidate.rows);
            let choice = [Choice { layer: candidate.layer, rows }];
            let learning = self.settings.policy.learning(&choice);
            let terms = |limit| (self.settings.batch, limit);
            let Ok(mut found) = price(&self.origin, terms(u64::MAX), learning, slots) else { continue };
            // no plan takes a single byte: the error tells the least it can do with
            if let Err(PlanError { bytes: Some((least, _)), .. }) = price(&self.origin, terms(1), learning, slots) {
                found.bytes = least as u64;
            }
            let less = |old: Option<u64>, new: u64| Some(old.map_or(new, |old| old.min(new)));
            if found.products <= budget.products {
                bytes = less(bytes, found.bytes);
            }
            if found.bytes <= budget.bytes {
                products = less(products, found.products);
            }
        }
        let share = products.map(|products| (products << 15).div_ceil(full.max(1)));
        AdaptError::Budget {
            memory: budget.bytes,
            compute: self.settings.compute,
            least_memory: bytes,
            least_compute: share,
        }
    }

    /// Plans for the choice, marks rows that stay the same, and copies what learns.
    fn start(&mut self) -> Result<(), AdaptError> {
        let Origin { layers, input, weights, .. } = self.origin;
        let nothing = self.settings.policy == Policy::Nothing;
        let options =
            if nothing { self.settings.run(1).with_training(false) } else { self.settings.run(self.settings.batch) };
        let Room { slots, chosen, .. } = &mut self.room;
        let learning = self.settings.policy.learning(&chosen[..self.choices]);
        self.sizes = plan_for(layers, input, options, learning, slots).map_err(AdaptError::Plan)?;
        self.fits()?;
        if nothing {
            self.settings.passes = 0;
            self.centre();
            return Ok(());
        }
        if let Policy::Dynamic { least, most } = self.settings.policy {
            self.room.rates.fill(RowRate::new(least.into(), most.into()));
        } else {
            self.mark();
        }
        let (net, _) = self.parts();
        for i in 0..net.slots.len() {
            each_run(net.slots, i, net.weights.len(), net.chosen, &mut |from, own| {
                let len = own.len();
                net.weights[own].copy_from_slice(&weights[from..][..len]);
            });
        }
        Ok(())
    }

    /// Marks the rows that learn from here on: by information, by lot for this step, or by the weights they started with.
    fn mark(&mut self) {
        let (policy, inspect, State { seed, step }) = (self.settings.policy, self.settings.first(), self.state);
        let (choices, weights, sizes) = (self.choices, self.origin.weights, self.sizes);
        let Self { origin, room, state, .. } = self;
        let slots = &room.slots[..sizes.slots];
        let net = net_in(origin, slots, &sizes, room.pool, room.scales, state);
        let (mut at, mut information) = (0, 0);
        let mut next = 0;
        for slot in slots {
            let (rows, from) = (slot.rows as usize, next);
            next += slot.weights() + slot.biases();
            if slot.chosen() > 0 {
                let count =
                    room.chosen[..choices].iter().find(|c| c.layer == slot.index).map_or(rows, |c| c.rows as usize);
                let mask = &mut net.chosen[at..][..slot.chosen()];
                match policy {
                    Policy::TinyTrain | Policy::Layers(_) => {
                        let sums = &room.information[information..][..rows];
                        largest(sums.iter().copied(), count, mask);
                    }
                    Policy::RandomChannels => drawn(seed, step, slot.index, rows, count, mask),
                    _ => {
                        let w = weights[from..][..slot.weights()].chunks_exact(slot.row as usize);
                        largest(w.map(squares), count, mask);
                    }
                }
                at += mask.len();
            }
            if slot.rows > 0 && slot.index as usize >= inspect {
                information += rows;
            }
        }
    }

    /// One training step; none once all passes are done, and then the prototypes are those of the adapted net.
    pub fn step(&mut self) -> Option<Score> {
        let Settings { limits, temperature, recipe, passes, batch: most, policy, .. } = self.settings;
        if self.pass == passes {
            return None;
        }
        let n = self.support.labels.len();
        let batches = n.div_ceil(most as usize);
        if self.batch == 0 {
            self.centre();
            shuffle(self.state.seed, self.state.step, &mut self.room.order[..n]);
            if policy == Policy::RandomChannels {
                self.mark();
            }
        }
        let range = self.batch * n / batches..(self.batch + 1) * n / batches;
        let (count, input) = (range.len(), self.origin.input);
        let Support { x, exponent, labels, .. } = self.support;
        let State { seed, step } = self.state;
        let (mut net, room) = self.parts();
        for (place, &sample) in (0u32..).zip(&room.order[range]) {
            let (i, s) = (place as usize, sample as usize);
            let by = moved(seed, step, place, limits);
            move_by(
                &x[s * input.len()..][..input.len()],
                input,
                by,
                &mut room.queries[i * input.len()..][..input.len()],
            );
            room.labels[i] = labels[s];
        }
        let prototypes = Prototypes::new(&mut [], room.units, net.output_len());
        let queries = Queries {
            x: &room.queries[..count * input.len()],
            exponent,
            labels: &room.labels[..count],
            prototypes: &prototypes,
            temperature,
        };
        let rates = matches!(policy, Policy::Dynamic { .. }).then_some(room.rates);
        let score = net.query_step(&queries, &recipe, rates, room.scratch);
        self.batch += 1;
        if self.batch == batches {
            (self.batch, self.pass) = (0, self.pass + 1);
            if self.pass == passes {
                self.centre();
            }
        }
        Some(score)
    }

    /// Class of one sample of scale 2^`exponent` by the prototypes made last.
    pub fn classify(&mut self, x: &[i8], exponent: i16) -> usize {
        let (mut net, room) = self.parts();
        let features = net.output_len();
        let prototypes = Prototypes::new(&mut [], room.units, features);
        prototypes.classify(net.predict(x, exponent).mantissas, room.scratch)
    }

    /// Digest of all weights and scales (N24).
    pub fn digest(&mut self) -> u64 {
        self.parts().0.digest()
    }

    /// Layers that learn, with the number of their rows, in the order they were taken.
    pub fn choices(&self) -> &[Choice] {
        &self.room.chosen[..self.choices]
    }

    /// The rows of a layer that learn now, a bit each ([`crate::fewshot::is_set`]); none where all of them do.
    pub fn mask(&mut self, layer: u32) -> Option<&[i8]> {
        let (Net { slots, chosen, .. }, _) = self.parts();
        let mut at = 0;
        for slot in slots {
            if slot.index == layer && slot.chosen() > 0 {
                return Some(&chosen[at..][..slot.chosen()]);
            }
            at += slot.chosen();
        }
        None
    }

    /// Sizes of the plan that learns.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Its slots.
    pub fn slots(&self) -> &[Slot] {
        &self.room.slots[..self.sizes.slots]
    }

    /// Scales of every slot.
    pub fn scales(&self) -> &[SlotScales] {
        self.room.scales
    }

    /// Seed and step.
    pub fn state(&self) -> State {
        self.state
    }

    /// Prototypes made last, (classes, features), each of length 2^14 (N30).
    pub fn prototypes(&self) -> &[i16] {
        self.room.units
    }

    /// Steps of all passes together.
    pub fn steps(&self) -> usize {
        self.support.labels.len().div_ceil(self.settings.batch as usize) * self.settings.passes as usize
    }

    /// Calls `f` with every run of weights and biases in RAM: its slot, where it lies among all weights, and the run. A layer of which the
    /// same rows learn all the time has one for each of them, and one of its biases.
    pub fn each_resident(&mut self, mut f: impl FnMut(&Slot, usize, &[i8])) {
        let (net, _) = self.parts();
        for (i, slot) in net.slots.iter().enumerate().filter(|(_, slot)| slot.resident) {
            each_run(net.slots, i, net.weights.len(), net.chosen, &mut |from, own| f(slot, from, &net.weights[own]));
        }
    }

    /// The net in the pool, and the rest of the room.
    fn parts(&mut self) -> (Net<'_>, Rest<'_>) {
        let Self { origin, room, sizes, state, .. } = self;
        let Room { slots, scales, pool, order, queries, labels, sums, units, scratch, rates, .. } = room;
        let net = net_in(origin, &slots[..sizes.slots], sizes, pool, scales, state);
        (net, Rest { order, queries, labels, sums, units, scratch, rates })
    }
}

/// What a step needs of the room beside the net.
struct Rest<'a> {
    order: &'a [u32],
    queries: &'a mut [i8],
    labels: &'a mut [u16],
    sums: &'a mut [i32],
    units: &'a mut [i16],
    scratch: &'a mut [i32],
    rates: &'a mut [RowRate],
}

/// The net of a plan in the pool.
fn net_in<'a>(
    origin: &Origin<'a>,
    slots: &'a [Slot],
    sizes: &Sizes,
    pool: &'a mut [i32],
    scales: &'a mut [SlotScales],
    state: &'a mut State,
) -> Net<'a> {
    let (bytes, words) = pool.split_at_mut((sizes.resident + sizes.bytes()).div_ceil(4));
    let (weights, bytes) = as_bytes(bytes).split_at_mut(sizes.resident);
    let words = &mut words[..sizes.all_words()];
    Net::new(slots, sizes, Memory { frozen: origin.weights, weights, bytes, words, scales, state })
}

/// Squared length of a row of weights.
fn squares(row: &[i8]) -> u64 {
    row.iter().map(|&w| u64::from(w.unsigned_abs()) * u64::from(w.unsigned_abs())).sum()
}
