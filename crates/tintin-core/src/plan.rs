//! The planner: from a list of layers to slots with offsets, at compile time or at run time, by the same function.
//!
//! A slot is one stop of the net: a layer with sums together with the Flatten, ReLU and MaxPool2d it takes over (N13), or a ReLU or
//! MaxPool2d on its own. The plan decides where, never what.

use crate::error::PlanError;
use crate::file::list_sum;
use crate::follow::follow;
use crate::kernels::OUTER_WORDS;
use crate::layers::{Layer, Need, Role};
use crate::place::{place_errors, place_outputs};
use crate::rescale::MAX_TERMS;
use crate::shape::Shape;

pub use crate::choice::{Choice, Learning};
pub use crate::own_rows::resident_len;
pub use crate::slot::{INPUT, Learns, NONE, Sizes, Slot, SlotScales};

/// Most values of one kind in a plan.
const MOST_VALUES: u64 = 1 << 28;

/// What the memory is planned for. None of it moves a bit of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most samples in one step.
    pub batch: u32,
    /// Index of the first layer that may be trained: those before stay frozen (and may stay in flash).
    pub train_from: usize,
    /// Plan for training, or for prediction alone.
    pub training: bool,
    /// Rows of a weight gradient held at once; 1 saves memory, 0 means all of a layer.
    pub gradient_rows: u32,
    /// Sums of a pooled layer held as a whole map and not one pooled row at a time: faster on hosts.
    pub whole_maps: bool,
    /// Threads a batch is cut over, at most: sums and workspace for each; needs the feature `threads`.
    pub threads: u32,
    /// Most bytes the plan may take: above it the sums of large slots are computed twice instead of held, and then the plan is refused.
    pub ram_limit: usize,
}

impl Options {
    /// Training of all layers in batches of `batch` with the least memory.
    pub const fn training(batch: u32) -> Self {
        Self {
            batch,
            train_from: 0,
            training: true,
            gradient_rows: 1,
            whole_maps: false,
            threads: 1,
            ram_limit: usize::MAX,
        }
    }

    /// The same with room for speed: for hosts, where memory is no concern.
    pub const fn spacious(self) -> Self {
        Self { gradient_rows: 0, whole_maps: true, ..self }
    }

    /// The same for at most `threads` threads.
    pub const fn threads(self, threads: u32) -> Self {
        Self { threads, ..self }
    }

    /// Prediction, sample by sample.
    pub const fn inference() -> Self {
        Self { training: false, ..Self::training(1) }
    }

    /// The same for training, or for prediction alone.
    pub const fn with_training(self, training: bool) -> Self {
        Self { training, ..self }
    }

    /// The same with a frozen prefix.
    pub const fn train_from(self, train_from: usize) -> Self {
        Self { train_from, ..self }
    }

    /// The same with a limit in bytes.
    pub const fn ram_limit(self, ram_limit: usize) -> Self {
        Self { ram_limit, ..self }
    }
}

/// Number of slots a list of layers needs, at most.
pub const fn most_slots(layers: &[Layer]) -> usize {
    layers.len()
}

/// Slot table of `N` entries for [`plan`] to fill.
pub const fn empty_slots<const N: usize>() -> [Slot; N] {
    [Slot::EMPTY; N]
}

/// Plans `layers` for samples of shape `input`: fills `slots` (at least [`most_slots`] of them) and gives the sizes.
///
/// # Errors
/// The first layer that cannot be, with the reason; a sum that could overflow; too little memory.
pub const fn plan(layers: &[Layer], input: Shape, options: Options, slots: &mut [Slot]) -> Result<Sizes, PlanError> {
    plan_for(layers, input, options, Learning::From(options.train_from), slots)
}

/// The same for training of what `learning` says; [`Options::train_from`] counts for nothing.
///
/// # Errors
/// As [`plan`], and a choice of a layer that is not there or has not so many rows.
pub const fn plan_for(
    layers: &[Layer],
    input: Shape,
    options: Options,
    learning: Learning<'_>,
    slots: &mut [Slot],
) -> Result<Sizes, PlanError> {
    if layers.is_empty() {
        return Err(PlanError::list("a net needs at least one layer"));
    }
    if layers.len() > 1000 {
        return Err(PlanError::list("more than 1000 layers"));
    }
    if input.checked_len().is_none() {
        return Err(PlanError::list("input shape is empty or has more than 2^24 values"));
    }
    if options.batch == 0 || options.batch > 1 << 20 {
        return Err(PlanError::list("batch size must be 1 to 1048576"));
    }
    if slots.len() < layers.len() {
        return Err(PlanError::list("slot table shorter than the list of layers"));
    }
    let mut sizes = Sizes {
        list: list_sum(layers, input),
        slots: 0,
        first: 0,
        batch: options.batch as usize,
        gradient_rows: options.gradient_rows as usize,
        threads: 1,
        weights: 0,
        frozen: 0,
        resident: 0,
        activations: 0,
        input: 0,
        signs: 0,
        indices: 0,
        errors: 0,
        spare: 0,
        chosen: 0,
        words: 0,
        workspace: 0,
        set: 0,
    };
    match assign_slots(layers, input, options, learning, slots, &mut sizes) {
        Ok(()) => {}
        Err(error) => return Err(error),
    }
    match follow(layers, options, learning, slots, &mut sizes) {
        Ok(()) => {}
        Err(error) => return Err(error),
    }
    place_all(options, slots, &mut sizes);
    let mut widest = size_buffers(options, usize::MAX, slots, &mut sizes);
    if sizes.ram() > options.ram_limit {
        let others = sizes.ram() - 4 * sizes.words;
        widest = size_buffers(options, options.ram_limit.saturating_sub(others) / 4, slots, &mut sizes);
    }
    if sizes.ram() > options.ram_limit {
        let slot = &slots[widest];
        let mut error =
            PlanError::new(slot.index as usize, slot.layer, "the net does not fit, and this layer needs most");
        error.bytes = Some((sizes.ram(), options.ram_limit));
        return Err(error);
    }
    let mut i = 0;
    while i < sizes.slots {
        sizes.set |= slots[i].needs();
        i += 1;
    }
    Ok(sizes)
}

/// The layer that `layer` names, if it names one (N28).
const fn named_by(layer: Layer) -> Option<usize> {
    match layer {
        Layer::Branch(branch) => Some(branch.from as usize),
        Layer::Add(add) => Some(add.from as usize),
        _ => None,
    }
}

/// A later layer names layer `i`, so nothing behind it is taken over.
const fn is_named(layers: &[Layer], i: usize) -> bool {
    let mut k = i + 1;
    while k < layers.len() {
        if matches!(named_by(layers[k]), Some(from) if from == i) {
            return true;
        }
        k += 1;
    }
    false
}

/// The slot that ends in layer `from`, named by layer `i`.
const fn slot_of(layers: &[Layer], i: usize, from: usize, slots: &[Slot], n: usize) -> Result<usize, PlanError> {
    if from >= i {
        return Err(PlanError::new(i, layers[i], "names a layer that does not come before it"));
    }
    if matches!(layers[from], Layer::Branch(_) | Layer::Flatten(_)) {
        return Err(PlanError::new(i, layers[i], "names a Branch or a Flatten: name the layer whose output is meant"));
    }
    let mut k = n - 1;
    while k > 0 && slots[k].index as usize > from {
        k -= 1;
    }
    Ok(k)
}

/// What is trained of layer `i`.
const fn learns(learning: Learning<'_>, training: bool, i: usize, need: &Need) -> Learns {
    if !training || need.rows == 0 {
        return Learns::Nothing;
    }
    match learning {
        Learning::From(first) if i >= first => Learns::All,
        Learning::From(_) | Learning::Inspect(_) => Learns::Nothing,
        Learning::Chosen(choices) | Learning::Redrawn(choices) => {
            let mut k = 0;
            while k < choices.len() {
                if choices[k].layer as usize == i {
                    return match choices[k].rows {
                        0 => Learns::Bias,
                        some if some >= need.rows => Learns::All,
                        _ if need.apart && matches!(learning, Learning::Chosen(_)) => Learns::RowsApart,
                        _ => Learns::Rows,
                    };
                }
                k += 1;
            }
            Learns::Nothing
        }
    }
}

/// Pass 1: shapes, roles, sources, weights; layers taken over by the slot before (N13).
#[allow(clippy::cast_possible_truncation)] // at most 1000 layers
const fn assign_slots(
    layers: &[Layer],
    input: Shape,
    options: Options,
    learning: Learning<'_>,
    slots: &mut [Slot],
    sizes: &mut Sizes,
) -> Result<(), PlanError> {
    let mut shape = input;
    let mut source = INPUT; // of what comes next
    let mut open = false; // the newest slot may take over what comes next
    let mut flat = true; // nothing to pool into
    let mut backward_terms = 0;
    let mut values = options.batch as u64 * input.len() as u64;
    if values > MOST_VALUES {
        return Err(PlanError::list("input values times batch size above 2^28: use a smaller batch"));
    }
    let mut weights = 0;
    let mut n = 0;
    let mut i = 0;
    while i < layers.len() {
        let mut second = NONE;
        if let Some(from) = named_by(layers[i]) {
            if n == 0 {
                return Err(PlanError::new(i, layers[i], "names a layer that does not come before it"));
            }
            let k = match slot_of(layers, i, from, slots, n) {
                Ok(k) => k,
                Err(error) => return Err(error),
            };
            if matches!(layers[i], Layer::Branch(_)) {
                (source, shape, open, flat) = (k as u16, slots[k].ys, false, true);
            } else {
                let other = slots[k].ys;
                if other.h != shape.h || other.w != shape.w || other.c != shape.c {
                    let why = "adds outputs of different shapes: bring both to one shape";
                    return Err(PlanError { input: Some(shape), ..PlanError::new(i, layers[i], why) });
                }
                second = k as u16;
            }
        }
        let need: Need = match layers[i].need(shape) {
            Ok(need) => need,
            Err(why) => return Err(PlanError { input: Some(shape), ..PlanError::new(i, layers[i], why) }),
        };
        // everything the plan will multiply stays below 2^31, so that `usize` holds it on every machine
        values += options.batch as u64 * need.ys.len() as u64;
        if values > MOST_VALUES {
            return Err(PlanError::new(i, layers[i], "outputs times batch size above 2^28: use a smaller batch"));
        }
        weights += need.rows as u64 * (need.row as u64 + 1);
        if weights > MOST_VALUES {
            return Err(PlanError::new(i, layers[i], "more than 2^28 weights"));
        }
        let sums = open && slots[n - 1].sums();
        match need.role {
            Role::Branch => {}
            Role::Rename => {
                flat = true;
                if open {
                    slots[n - 1].ys = need.ys;
                }
            }
            Role::ReLU if open && (sums || slots[n - 1].relu || matches!(slots[n - 1].role, Role::Add)) => {
                slots[n - 1].relu = true;
                open = !is_named(layers, i);
            }
            Role::MaxPool(pool) if sums && slots[n - 1].pool.is_none() && !flat => {
                if backward_terms > MAX_TERMS / pool.overlap() {
                    return Err(PlanError::new(
                        i,
                        layers[i],
                        "sum of errors could overflow 32 bits: pooling windows overlap too much",
                    ));
                }
                let strip = pool.kernel.0 as u64 * shape.w as u64 * shape.c as u64;
                if strip > MOST_VALUES {
                    return Err(PlanError::new(i, layers[i], "one row of pooling windows has more than 2^28 values"));
                }
                slots[n - 1].pool = Some(pool);
                slots[n - 1].band = if options.whole_maps { need.ys.h } else { 1 };
                slots[n - 1].ps = need.ys;
                slots[n - 1].ys = need.ys;
                open = !is_named(layers, i);
            }
            _ => {
                slots[n] = Slot {
                    layer: layers[i],
                    index: i as u32,
                    role: need.role,
                    source,
                    second,
                    relu: matches!(need.role, Role::ReLU),
                    xs: shape,
                    ss: need.ys,
                    ps: need.ys,
                    ys: need.ys,
                    rows: need.rows,
                    row: need.row,
                    fan_out: need.fan_out,
                    bias: need.bias,
                    learns: learns(learning, options.training, i, &need),
                    inspected: options.training
                        && need.rows > 0
                        && matches!(learning, Learning::Inspect(first) if i >= first),
                    w: sizes.weights,
                    workspace: need.workspace as usize,
                    ..Slot::EMPTY
                };
                sizes.weights += slots[n].weights() + slots[n].biases();
                sizes.workspace = max(sizes.workspace, need.workspace as usize);
                sizes.threads = max(sizes.threads, slots[n].parts(options.batch as usize, options.threads as usize));
                (source, open, flat) = (n as u16, !is_named(layers, i), false);
                backward_terms = need.backward_terms;
                n += 1;
            }
        }
        shape = need.ys;
        i += 1;
    }
    if n == 0 {
        return Err(PlanError::list("no layer computes anything"));
    }
    if source as usize != n - 1 {
        return Err(PlanError::list("the list ends in a Branch: end it in the layer whose output is meant"));
    }
    sizes.slots = n;
    sizes.workspace *= sizes.threads;
    Ok(())
}

/// Pass 3: offsets of outputs, errors and signs.
const fn place_all(options: Options, slots: &mut [Slot], sizes: &mut Sizes) {
    sizes.activations = place_outputs(slots, sizes);
    let mut i = 0;
    while i < sizes.slots {
        slots[i].x = if slots[i].source == INPUT { sizes.input } else { slots[slots[i].source as usize].y };
        slots[i].bits = sizes.signs;
        sizes.signs += options.batch as usize * slots[i].sign_bytes();
        i += 1;
    }
    if options.training {
        let all = place_errors(slots, sizes);
        (sizes.errors, sizes.activations) = (all - sizes.activations, all);
    }
}

/// Pass 4: indices and sums, where a slot would hold more than `most` of them computed twice; returns the slot with the largest share.
const fn size_buffers(options: Options, most: usize, slots: &mut [Slot], sizes: &mut Sizes) -> usize {
    let batch = options.batch as usize;
    let (mut widest, mut share) = (0, 0);
    (sizes.indices, sizes.words) = (0, 0);
    let mut i = 0;
    while i < sizes.slots {
        let slot = &mut slots[i];
        let mut words = 0;
        if slot.sums() {
            words = batch * slot.ps.len() + sizes.threads * slot.strip();
            slot.twice[0] = words > most;
            if slot.twice[0] {
                words = max(slot.band as usize, 1) * slot.ps.w as usize * slot.ps.c as usize + slot.strip();
            }
        }
        if slot.taped {
            slot.indices = sizes.indices;
            if slot.pools() {
                sizes.indices += batch * slot.ps.len();
            }
            if slot.trains_weights() {
                words =
                    max(words, slot_gradient(slot, options.gradient_rows, slot.gradient_parts(batch, sizes.threads)));
            }
            if slot.trained() {
                words = max(words, slot.biases());
            }
            if slot.inspected {
                words = max(words, slot.ps.c as usize);
            }
            if slot.passes[0] && !matches!(slot.role, Role::Add | Role::ReLU) {
                let all = batch * slot.xs.len();
                slot.twice[1] = all > most;
                words = max(words, if slot.twice[1] { slot.xs.w as usize * slot.xs.c as usize } else { all });
            }
        } else if slot.pools() {
            // winners nobody asks for: one pooled row, again and again
            sizes.indices = max(sizes.indices, sizes.threads * slot.ps.w as usize * slot.ps.c as usize);
        }
        if i + 1 == sizes.slots {
            words = max(words, batch * slot.ys.len()); // output errors, also when only the loss is asked for
        }
        slot.words = words;
        sizes.words = max(sizes.words, words);
        let own = slot.weights() + slot.biases() + 4 * words + batch * slot.ys.len();
        if own > share {
            (widest, share) = (i, own);
        }
        i += 1;
    }
    widest
}

/// Words of a slot's gradient block, as many as there are parts to add up; the bias needs one row of its own.
const fn slot_gradient(slot: &Slot, rows_at_once: u32, parts: usize) -> usize {
    let rows = if rows_at_once == 0 || rows_at_once > slot.rows { slot.rows } else { rows_at_once };
    let blocks = if slot.adds_up_samples() { parts } else { 1 };
    max(max(blocks.saturating_mul(rows as usize * slot.row as usize), slot.biases()), OUTER_WORDS)
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
