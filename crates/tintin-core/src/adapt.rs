//! Adaptation to a new task from a few labelled samples (N30 to N37): inspect, choose, learn. The same code on hosts and devices.
//!
//! TinyTrain, arXiv 2307.09988, algorithm 1. The net ends in features, not classes: prototypes of the support set stand for the classes.

use crate::choice::{Choice, Learning};
use crate::error::{AdaptError, PlanError};
use crate::fewshot::{
    Candidate, Inspection, Price, Prototypes, RowRate, channels, choose, drawn, largest, move_by, moved, prototypes,
    unit,
};
use crate::kernels::as_bytes;
use crate::layers::Layer;
use crate::loss::Score;
use crate::net::{Memory, Net, State};
use crate::optim::Recipe;
use crate::plan::{Learns, Options, Sizes, Slot, SlotScales, plan_for};
use crate::queries::Queries;
use crate::rng::shuffle;
use crate::shape::Shape;

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
    /// Needs an inspection.
    const fn inspects(self) -> bool {
        matches!(self, Self::TinyTrain | Self::RandomChannels | Self::Layers(_))
    }
}

/// How to adapt.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// What learns.
    pub policy: Policy<'a>,
    /// Most bytes of RAM of the plan that learns ([`Sizes::ram`]), for policies that choose.
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
    /// Run with room for speed: for hosts. Prices stay those of the least memory, bits stay the same.
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
        let options = Options::training(batch);
        if self.spacious { options.spacious() } else { options.ram_limit(limit_of(self.memory)) }
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

/// What memory these settings need beside the pool.
///
/// # Errors
/// As [`plan_for`].
pub fn needs(origin: &Origin<'_>, settings: &Settings<'_>, slots: &mut [Slot]) -> Result<Needs, PlanError> {
    let learning = Learning::Inspect(settings.first());
    let sizes = plan_for(origin.layers, origin.input, Options::training(1), learning, slots)?;
    let features = slots[sizes.slots - 1].ys.len();
    let channels = slots[..sizes.slots].iter().map(channels).sum();
    Ok(Needs { slots: sizes.slots, queries: settings.batch as usize * origin.input.len(), features, channels })
}

/// Words of the pool under a plan of these sizes.
pub const fn pool_words(sizes: &Sizes) -> usize {
    (sizes.resident + sizes.bytes()).div_ceil(4) + sizes.all_words()
}

/// Products of one sample's backward pass, counted densely: input errors and gradients, of which `choices` count by their rows.
pub fn backward_products(slots: &[Slot], choices: &[Choice]) -> u64 {
    slots.iter().fold(0, |sum, slot| {
        let products = slot.products() as u64;
        let learning = match slot.learns {
            Learns::All => products,
            Learns::Rows => {
                let rows = choices.iter().find(|c| c.layer == slot.index).map_or(slot.rows, |c| c.rows);
                products * u64::from(rows) / u64::from(slot.rows)
            }
            Learns::Nothing | Learns::Bias => 0,
        };
        sum + learning + if slot.passes[0] { products } else { 0 }
    })
}

/// What a plan for `choices` costs: memory, and the products of a backward pass. Above `limit` bytes sums are computed twice instead of
/// held, as on a device.
///
/// # Errors
/// As [`plan_for`].
pub fn price(
    origin: &Origin<'_>,
    (batch, limit): (u32, u64),
    choices: &[Choice],
    slots: &mut [Slot],
) -> Result<Price, PlanError> {
    let options = Options::training(batch).ram_limit(limit_of(limit));
    let sizes = plan_for(origin.layers, origin.input, options, Learning::Chosen(choices), slots)?;
    Ok(Price { bytes: sizes.ram() as u64, products: backward_products(&slots[..sizes.slots], choices) })
}

/// Bytes as a limit of plans.
pub(crate) fn limit_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Backward products of full training, which [`Settings::compute`] is a share of.
///
/// # Errors
/// As [`plan_for`].
pub fn full_products(origin: &Origin<'_>, slots: &mut [Slot]) -> Result<u64, PlanError> {
    let sizes = plan_for(origin.layers, origin.input, Options::training(1), Learning::From(0), slots)?;
    Ok(backward_products(&slots[..sizes.slots], &[]))
}

/// The choice of a policy that needs no inspection, into `chosen`; gives how many.
///
/// # Errors
/// As [`plan_for`].
pub fn fixed_choice(
    origin: &Origin<'_>,
    settings: &Settings<'_>,
    slots: &mut [Slot],
    chosen: &mut [Choice],
) -> Result<usize, PlanError> {
    if let Policy::Sparse(choices) | Policy::Layers(choices) = settings.policy {
        // refuses layers that are not there, named twice, or have not so many rows
        plan_for(origin.layers, origin.input, Options::training(1), Learning::Chosen(choices), slots)?;
    }
    let sizes = plan_for(origin.layers, origin.input, Options::inference(), Learning::From(0), slots)?;
    let weighted = slots[..sizes.slots].iter().filter(|slot| slot.rows > 0);
    let last = weighted.clone().next_back().map_or(0, |slot| slot.index);
    let mut count = 0;
    for slot in weighted {
        let late = slot.index as usize >= settings.inspect;
        let rows = match settings.policy {
            Policy::Full => Some(slot.rows),
            Policy::LastLayer => (slot.index == last).then_some(slot.rows),
            Policy::BiasOnly => (late && slot.bias).then_some(0),
            Policy::Sparse(choices) | Policy::Layers(choices) => {
                choices.iter().find(|c| c.layer == slot.index).map(|c| c.rows)
            }
            Policy::Dynamic { most, .. } => late.then_some(((slot.rows * u32::from(most)) >> 15).max(1)),
            Policy::TinyTrain | Policy::RandomChannels => None,
        };
        if let Some(rows) = rows {
            chosen[count] = Choice { layer: slot.index, rows };
            count += 1;
        }
    }
    Ok(count)
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
            adapter.plan(settings.run(1), Learning::Inspect(settings.first()))?;
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
        let mut table = Inspection::new(information, &mut exponents[..n], &slots[..n]);
        for (i, slot) in slots[..n].iter().enumerate().filter(|(_, slot)| slot.inspected) {
            let scale = scales[i].y.times(scales[i].e);
            let parameters = (slot.weights() + slot.biases()) as u64;
            let score = table.slot(i).score(scale, parameters, slot.products() as u64);
            candidates[count] = Candidate { layer: slot.index, rows: slot.rows, score };
            count += 1;
        }
        let full = full_products(&self.origin, slots).map_err(AdaptError::Plan)?;
        let budget = Price { bytes: self.settings.memory, products: (full * u64::from(self.settings.compute)) >> 15 };
        let (origin, terms) = (&self.origin, (self.settings.batch, self.settings.memory));
        let ask = |choices: &[Choice]| price(origin, terms, choices, slots).ok();
        self.choices = choose(&mut candidates[..count], self.settings.ratio, budget, chosen, ask);
        if self.choices == 0 {
            return Err(self.least(count, budget, full));
        }
        Ok(())
    }

    /// The error of a budget in which no layer fits: what would do.
    fn least(&mut self, count: usize, budget: Price, full: u64) -> AdaptError {
        let Room { slots, candidates, .. } = &mut self.room;
        let (mut bytes, mut products) = (None, None);
        for candidate in candidates[..count].iter().filter(|c| c.score.is_some()) {
            let most = (u64::from(candidate.rows) * u64::from(self.settings.ratio)).div_ceil(1 << 15);
            let rows = u32::try_from(most.div_ceil(8)).unwrap_or(candidate.rows);
            let choice = [Choice { layer: candidate.layer, rows }];
            let terms = |limit| (self.settings.batch, limit);
            let Ok(mut found) = price(&self.origin, terms(u64::MAX), &choice, slots) else { continue };
            // no plan takes a single byte: the error tells the least it can do with
            if let Err(PlanError { bytes: Some((least, _)), .. }) = price(&self.origin, terms(1), &choice, slots) {
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

    /// Plans for the choice and copies its weights; rows that stay the same are marked.
    fn start(&mut self) -> Result<(), AdaptError> {
        let Origin { layers, input, weights, .. } = self.origin;
        let options = self.settings.run(self.settings.batch);
        let Room { slots, chosen, .. } = &mut self.room;
        self.sizes = plan_for(layers, input, options, Learning::Chosen(&chosen[..self.choices]), slots)
            .map_err(AdaptError::Plan)?;
        self.fits()?;
        let Policy::Dynamic { least, most } = self.settings.policy else {
            let (net, _) = self.parts();
            copy(net, weights);
            self.mark();
            return Ok(());
        };
        self.room.rates.fill(RowRate::new(least.into(), most.into()));
        copy(self.parts().0, weights);
        Ok(())
    }

    /// Marks the rows that learn from here on: by information, by lot for this step, or by the weights they started with.
    fn mark(&mut self) {
        let (policy, inspect, State { seed, step }) = (self.settings.policy, self.settings.first(), self.state);
        let (choices, weights, sizes) = (self.choices, self.origin.weights, self.sizes);
        let Self { origin, room, state, .. } = self;
        let slots = &room.slots[..sizes.slots];
        let net = net_in(origin, slots, &sizes, room.pool, room.scales, state);
        let (mut at, mut from, mut information) = (0, 0, 0);
        for slot in slots {
            let rows = slot.rows as usize;
            if slot.learns == Learns::Rows {
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
            from += slot.weights() + slot.biases();
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

    /// Calls `f` with every slot that learns, where its weights lie among all weights, and its weights and biases.
    pub fn each_resident(&mut self, mut f: impl FnMut(&Slot, usize, &[i8])) {
        let mut from = 0;
        let (net, _) = self.parts();
        for slot in net.slots {
            let len = slot.weights() + slot.biases();
            if slot.resident {
                f(slot, from, &net.weights[slot.w..][..len]);
            }
            from += len;
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

/// Copies what learns from all weights.
fn copy(net: Net<'_>, weights: &[i8]) {
    let mut from = 0;
    for slot in net.slots {
        let len = slot.weights() + slot.biases();
        if slot.resident {
            net.weights[slot.w..][..len].copy_from_slice(&weights[from..][..len]);
        }
        from += len;
    }
}

/// Squared length of a row of weights.
fn squares(row: &[i8]) -> u64 {
    row.iter().map(|&w| u64::from(w.unsigned_abs()) * u64::from(w.unsigned_abs())).sum()
}

/// Refuses a support set to learn nothing from, and settings out of range.
fn check(support: &Support<'_>, settings: &Settings<'_>) -> Result<(), AdaptError> {
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
