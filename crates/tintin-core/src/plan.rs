//! The planner: from a list of layers to slots with offsets, at compile time or at run time, by the same function.
//!
//! A slot is one stop of the net: a layer with sums together with the Flatten, ReLU and MaxPool2d it takes over (N13), or a ReLU or
//! MaxPool2d on its own. The plan decides where, never what.

use crate::error::PlanError;
use crate::file::list_sum;
use crate::kernels::OUTER_WORDS;
use crate::layers::{Layer, Need, Role, STREAMED};
use crate::rescale::MAX_TERMS;
use crate::shape::Shape;
pub use crate::slot::{INPUT, NONE, Sizes, Slot, SlotScales};

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
    /// Most bytes the plan may take: above it sums are computed twice instead of held, and then the plan is refused.
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

/// What a plan needs of the code, as a set of layers.
pub const fn layer_set(slots: &[Slot], sizes: &Sizes) -> u16 {
    let (mut set, mut i) = (if sizes.streamed { STREAMED } else { 0 }, 0);
    while i < sizes.slots {
        set |= slots[i].bits();
        i += 1;
    }
    set
}

/// Plans `layers` for samples of shape `input`: fills `slots` (at least [`most_slots`] of them) and gives the sizes.
///
/// # Errors
/// The first layer that cannot be, with the reason; a sum that could overflow; too little memory.
pub const fn plan(layers: &[Layer], input: Shape, options: Options, slots: &mut [Slot]) -> Result<Sizes, PlanError> {
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
        streamed: false,
        weights: 0,
        frozen: 0,
        activations: 0,
        indices: 0,
        deltas: [0, 0],
        words: 0,
        workspace: 0,
    };
    match assign_slots(layers, input, options, slots, &mut sizes) {
        Ok(()) => {}
        Err(error) => return Err(error),
    }
    place_activations(input, options, slots, &mut sizes);
    let mut widest = size_buffers(options, slots, &mut sizes);
    if sizes.ram() > options.ram_limit {
        sizes.streamed = true;
        widest = size_buffers(options, slots, &mut sizes);
    }
    if sizes.ram() > options.ram_limit {
        let slot = &slots[widest];
        let mut error =
            PlanError::new(slot.index as usize, slot.layer, "the net does not fit, and this layer needs most");
        error.bytes = Some((sizes.ram(), options.ram_limit));
        return Err(error);
    }
    Ok(sizes)
}

/// Pass 1: shapes, roles, weights; layers taken over by the slot before (N13).
#[allow(clippy::cast_possible_truncation)] // at most 1000 layers
const fn assign_slots(
    layers: &[Layer],
    input: Shape,
    options: Options,
    slots: &mut [Slot],
    sizes: &mut Sizes,
) -> Result<(), PlanError> {
    let mut shape = input;
    let mut flat = true; // nothing to pool into yet
    let mut backward_terms = 0;
    let mut values = options.batch as u64 * input.len() as u64;
    if values > MOST_VALUES {
        return Err(PlanError::list("input values times batch size above 2^28: use a smaller batch"));
    }
    let mut weights = 0;
    let mut n = 0;
    let mut i = 0;
    let mut first = usize::MAX;
    while i < layers.len() {
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
        let takes_over = n > 0 && slots[n - 1].sums();
        match need.role {
            Role::Rename => {
                flat = true;
                if n > 0 {
                    slots[n - 1].ys = need.ys;
                }
            }
            Role::ReLU if n > 0 && (takes_over || slots[n - 1].relu) => slots[n - 1].relu = true,
            Role::MaxPool(pool) if takes_over && slots[n - 1].pool.is_none() && !flat => {
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
            }
            _ => {
                let trained = options.training && need.rows > 0 && i >= options.train_from;
                slots[n] = Slot {
                    layer: layers[i],
                    index: i as u32,
                    role: need.role,
                    source: if n == 0 { INPUT } else { (n - 1) as u16 },
                    second: NONE,
                    relu: matches!(need.role, Role::ReLU),
                    masked: n > 0 && slots[n - 1].relu,
                    pool: None,
                    band: 0,
                    xs: shape,
                    ss: need.ys,
                    ps: need.ys,
                    ys: need.ys,
                    rows: need.rows,
                    row: need.row,
                    fan_out: need.fan_out,
                    bias: need.bias,
                    trained,
                    taped: false,
                    w: sizes.weights,
                    x: 0,
                    y: 0,
                    indices: 0,
                    workspace: need.workspace as usize,
                    words: 0,
                };
                if trained && first == usize::MAX {
                    first = n;
                    sizes.frozen = sizes.weights;
                }
                sizes.weights += slots[n].weights() + slots[n].biases();
                sizes.workspace = max(sizes.workspace, need.workspace as usize);
                sizes.threads = max(sizes.threads, slots[n].parts(options.batch as usize, options.threads as usize));
                flat = false;
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
    sizes.slots = n;
    sizes.workspace *= sizes.threads;
    sizes.first = if first == usize::MAX { n } else { first };
    if first == usize::MAX {
        sizes.frozen = sizes.weights;
        if options.training {
            return Err(PlanError::list("no layer is left to train"));
        }
    }
    // gradient sums: one product per pooled place and sample (N2)
    i = sizes.first;
    while i < n {
        let slot = &slots[i];
        if slot.trained && slot.ps.places() as u64 * options.batch as u64 > MAX_TERMS as u64 {
            return Err(PlanError::new(
                slot.index as usize,
                slot.layer,
                "gradient could overflow 32 bits: output places times batch size above 132624, use a smaller batch",
            ));
        }
        i += 1;
    }
    Ok(())
}

/// Pass 2: the tape keeps what backward needs, the rest takes turns in two buffers.
const fn place_activations(input: Shape, options: Options, slots: &mut [Slot], sizes: &mut Sizes) {
    // tensor 0 is the input, tensor k the output of slot k − 1
    let batch = options.batch as usize;
    let mut turns = [0usize; 2];
    let mut k = 0;
    while k <= sizes.slots {
        let len = batch * if k == 0 { input.len() } else { slots[k - 1].ys.len() };
        if !(options.training && k >= sizes.first) && len > turns[k % 2] {
            turns[k % 2] = len;
        }
        k += 1;
    }
    let mut at = turns[0] + turns[1];
    k = 0;
    while k <= sizes.slots {
        let len = batch * if k == 0 { input.len() } else { slots[k - 1].ys.len() };
        let offset = if options.training && k >= sizes.first {
            at += len;
            at - len
        } else if k % 2 == 0 {
            0
        } else {
            turns[0]
        };
        if k > 0 {
            slots[k - 1].y = offset;
        }
        if k < sizes.slots {
            slots[k].x = offset;
        }
        k += 1;
    }
    sizes.activations = at;
}

/// Pass 3: indices, errors and sums; returns the slot with the largest share.
const fn size_buffers(options: Options, slots: &mut [Slot], sizes: &mut Sizes) -> usize {
    let batch = options.batch as usize;
    let (mut widest, mut share) = (0, 0);
    (sizes.indices, sizes.deltas, sizes.words) = (0, [0, 0], 0);
    let mut i = 0;
    while i < sizes.slots {
        let slot = &mut slots[i];
        let mut words = match (slot.sums(), sizes.streamed) {
            (false, _) => 0,
            (true, false) => batch * slot.ps.len() + sizes.threads * slot.strip(),
            (true, true) => max(slot.band as usize, 1) * slot.ps.w as usize * slot.ps.c as usize + slot.strip(),
        };
        slot.taped = options.training && i >= sizes.first;
        if slot.taped {
            slot.indices = sizes.indices;
            if slot.pools() {
                sizes.indices += batch * slot.ps.len();
            }
            let turn = (sizes.slots - 1 - i) % 2;
            words = max(words, slot_gradient(slot, options.gradient_rows, slot.gradient_parts(batch, sizes.threads)));
            sizes.deltas[turn] = max(sizes.deltas[turn], batch * slot.ys.len());
            if i > sizes.first {
                let row = slot.xs.w as usize * slot.xs.c as usize;
                words = max(words, if sizes.streamed { row } else { batch * slot.xs.len() });
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
