//! Adaptation of a pre-trained net to a few samples, both in flash, and what came of it: the same text on every machine.
//!
//! A task, little-endian, every part on a multiple of 4 bytes:
//!
//! | at | | |
//! |---|---|---|
//! | 0 | `TTT1` | |
//! | 4 | 5 × u32 | bytes of the task, bytes of the `.tin` file, support samples, classes, queries |
//! | 24 | i32 | exponent of all samples |
//! | 28 | u8, u8, u16 | policy (see [`Kind`]), power of two of the temperature, 0 |
//! | 32 | u16, u16 | most places a query is moved, down and right |
//! | 36 | 5 × u32 | batch, passes, memory (`FFFFFFFF`: any), compute and ratio in 2^-15 |
//! | 56 | u32 | first inspected layer |
//! | 60 | u16, u16 | least and most rows of the policy `dynamic`, in 2^-15 |
//! | 64 | u32 | choices told |
//! | 68 | 24 bytes | recipe, as in a `.tin` file |
//! | 92 | | choices (u32 layer, u32 rows); u16 label of each support sample; the file; support samples; queries |

use bytemuck::{Pod, cast_slice_mut, try_cast_slice};
use core::fmt::{self, Write};
use core::mem::take;
use tintin_core::adapt::{Adapter, Origin, Policy, Room, Settings, Support, fixed_choice, needs, pool_words, price};
use tintin_core::error::{AdaptError, FileError, PlanError};
use tintin_core::fewshot::{Candidate, RowRate};
use tintin_core::file::{self, Header, RECIPE, Weights, unpack_recipe};
use tintin_core::kernels::as_mantissas;
use tintin_core::layers::{Flatten, Layer};
use tintin_core::net::State;
use tintin_core::optim::Recipe;
use tintin_core::plan::{Choice, Learning, Options, Sizes, Slot, SlotScales, empty_slots, plan, plan_for};

const MAGIC: [u8; 4] = *b"TTT1";
const HEAD: usize = 92;
/// What untouched memory of the pool holds.
const UNTOUCHED: i32 = 0x5AC3_A53C;

/// What learns: [`Policy`] by number, and nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing: prototypes of the net as it is.
    Nothing,
    /// See [`Policy::LastLayer`].
    LastLayer,
    /// See [`Policy::Full`].
    Full,
    /// See [`Policy::BiasOnly`].
    BiasOnly,
    /// See [`Policy::Sparse`].
    Sparse,
    /// See [`Policy::TinyTrain`].
    TinyTrain,
    /// See [`Policy::Layers`].
    Layers,
    /// See [`Policy::RandomChannels`].
    RandomChannels,
    /// See [`Policy::Dynamic`].
    Dynamic,
}

impl Kind {
    /// All, by number, with their names.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Nothing, "none"),
        (Self::LastLayer, "last_layer"),
        (Self::Full, "full"),
        (Self::BiasOnly, "bias_only"),
        (Self::Sparse, "sparse"),
        (Self::TinyTrain, "tinytrain"),
        (Self::Layers, "layers"),
        (Self::RandomChannels, "random_channels"),
        (Self::Dynamic, "dynamic"),
    ];
}

/// Why there is no adaptation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes are no task.
    Task(&'static str),
    /// The net of the task cannot be read.
    File(FileError),
    /// The engine refuses.
    Adapt(AdaptError),
    /// More layers than there are tables for.
    Layers {
        /// Layers of the net.
        needed: usize,
        /// Most layers.
        available: usize,
    },
    /// No memory for what an adaptation keeps beside its plan.
    Room,
    /// The text could not be written.
    Output,
}

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Self {
        Self::Output
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<AdaptError> for Error {
    fn from(error: AdaptError) -> Self {
        Self::Adapt(error)
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        Self::Adapt(AdaptError::Plan(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(why) => write!(f, "not a task: {why}"),
            Self::File(error) => write!(f, "the net of the task: {error}"),
            Self::Adapt(AdaptError::Plan(error)) => write!(f, "the net of the task: {error}"),
            Self::Adapt(AdaptError::Room { needed, room }) => {
                write!(
                    f,
                    "the plan needs {needed} bytes and there are {room}: a smaller batch, or a smaller memory budget"
                )
            }
            Self::Adapt(AdaptError::Budget { least_memory, least_compute, .. }) => write!(
                f,
                "no layer fits into the budgets: with this compute budget the least memory is {least_memory:?}, with this memory \
                 the least compute {least_compute:?}"
            ),
            Self::Adapt(error) => write!(f, "{error:?}"),
            Self::Layers { needed, available } => write!(f, "a net of {needed} layers, and room for {available}"),
            Self::Room => f.write_str("no memory for the prototypes, a batch and a number for every sample"),
            Self::Output => f.write_str("the output cannot be written"),
        }
    }
}

/// A task where it lies.
pub struct Task<'t> {
    /// What learns.
    pub kind: Kind,
    /// The net's file.
    pub file: &'t [u8],
    /// What it says before its weights.
    pub header: Header,
    /// The samples to learn from.
    pub support: Support<'t>,
    /// The samples to classify.
    pub queries: &'t [i8],
    choices: &'t [u8],
    head: &'t [u8],
    recipe: Recipe,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl<'t> Task<'t> {
    /// Reads a task at the start of `bytes`, which lie on a multiple of 4.
    ///
    /// # Errors
    /// No task, cut short, or one whose net cannot be read.
    pub fn read(bytes: &'t [u8]) -> Result<Self, Error> {
        let (head, _) = bytes.split_at_checked(HEAD).ok_or(Error::Task("cut short"))?;
        if head[..4] != MAGIC {
            return Err(Error::Task("it does not begin with TTT1"));
        }
        let number = |at| u32_at(head, at) as usize;
        let mut rest = bytes.get(HEAD..number(4)).ok_or(Error::Task("cut short"))?;
        let mut part = |count: usize, size: usize| -> Result<&'t [u8], Error> {
            let len = count.checked_mul(size).ok_or(Error::Task("a part too long"))?;
            let (part, after) = rest.split_at_checked(len).ok_or(Error::Task("shorter than its parts"))?;
            rest = after.get(len.wrapping_neg() % 4..).unwrap_or_default();
            Ok(part)
        };
        let (samples, queries) = (number(12), number(20));
        let choices = part(number(64), 8)?;
        let labels = part(samples, 2)?;
        let file = part(number(8), 1)?;
        let header = Header::read(file)?;
        let x = as_mantissas(part(samples, header.input.len())?);
        let queries = as_mantissas(part(queries, header.input.len())?);
        if x.contains(&-128) || queries.contains(&-128) {
            return Err(Error::Task("a mantissa must be -127 to 127"));
        }
        let kind = Kind::ALL.get(usize::from(head[28])).ok_or(Error::Task("an unknown policy"))?.0;
        let exponent = u32_at(head, 24).cast_signed();
        if !(-128..=127).contains(&exponent) {
            return Err(Error::Task("the exponent must be -128 to 127"));
        }
        let labels = try_cast_slice(labels).map_err(|_| Error::Task("not on a multiple of 4 bytes"))?;
        #[allow(clippy::cast_possible_truncation)] // seen above
        let support = Support { x, exponent: exponent as i16, labels, classes: number(16) };
        let recipe = unpack_recipe(&head[68..]).ok_or(Error::Task("the recipe has a value out of range"))?;
        const { assert!(HEAD == 68 + RECIPE) };
        Ok(Self { kind, file, header, support, queries, choices, head, recipe })
    }

    /// Number of choices that the task tells.
    pub const fn told(&self) -> usize {
        self.choices.len() / 8
    }

    /// Its settings; `told` has room for the choices.
    pub fn settings<'a>(&self, told: &'a mut [Choice]) -> Settings<'a> {
        let choices = &mut told[..self.told()];
        for (choice, bytes) in choices.iter_mut().zip(self.choices.chunks_exact(8)) {
            *choice = Choice { layer: u32_at(bytes, 0), rows: u32_at(bytes, 4) };
        }
        let (choices, head) = (&*choices, self.head);
        let memory = u32_at(head, 44);
        Settings {
            policy: match self.kind {
                Kind::Nothing => Policy::Nothing,
                Kind::LastLayer => Policy::LastLayer,
                Kind::Full => Policy::Full,
                Kind::BiasOnly => Policy::BiasOnly,
                Kind::Sparse => Policy::Sparse(choices),
                Kind::TinyTrain => Policy::TinyTrain,
                Kind::Layers => Policy::Layers(choices),
                Kind::RandomChannels => Policy::RandomChannels,
                Kind::Dynamic => Policy::Dynamic { least: u16_at(head, 60), most: u16_at(head, 62) },
            },
            memory: if memory == u32::MAX { u64::MAX } else { memory.into() },
            compute: u32_at(head, 48),
            ratio: u32_at(head, 52),
            inspect: u32_at(head, 56) as usize,
            temperature: head[29],
            limits: (u16_at(head, 32), u16_at(head, 34)),
            batch: u32_at(head, 36),
            passes: u32_at(head, 40),
            recipe: self.recipe,
            spacious: false,
        }
    }

    /// Tells what the task is.
    fn tell(&self, out: &mut dyn Write) -> fmt::Result {
        let (Support { labels, classes, .. }, name) = (self.support, Kind::ALL[self.kind as usize].1);
        writeln!(out, "numerics {} policy {name} samples {} classes {classes}", tintin_core::NUMERICS, labels.len())
    }
}

/// What an adaptation took, by some clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// All steps, with the prototypes of every pass.
    pub steps: u64,
    /// Classification of all queries.
    pub queries: u64,
}

/// Takes all steps, classifies the queries, and tells every choice, step and class.
///
/// # Errors
/// The text cannot be written.
pub fn learn(
    adapter: &mut Adapter<'_>,
    task: &Task<'_>,
    out: &mut dyn Write,
    clock: &mut dyn FnMut() -> u64,
) -> Result<Costs, Error> {
    let mut costs = Costs::default();
    for choice in adapter.choices() {
        writeln!(out, "choice layer {} rows {}", choice.layer, choice.rows)?;
    }
    writeln!(out, "step 0 {:#018x}", adapter.digest())?;
    for n in 1.. {
        let start = clock();
        let Some(score) = adapter.step() else { break };
        costs.steps += clock() - start;
        writeln!(out, "step {n} {:#018x} loss {} correct {}", adapter.digest(), score.loss, score.correct)?;
    }
    for x in task.queries.chunks_exact(task.header.input.len()) {
        let start = clock();
        let class = adapter.classify(x, task.support.exponent);
        costs.queries += clock() - start;
        writeln!(out, "class {class}")?;
    }
    Ok(costs)
}

/// What is kept for every layer of a net of at most `LAYERS`.
pub struct Tables<const LAYERS: usize> {
    layers: [Layer; LAYERS],
    slots: [Slot; LAYERS],
    pretrained: [SlotScales; LAYERS],
    scales: [SlotScales; LAYERS],
    exponents: [Option<i32>; LAYERS],
    candidates: [Candidate; LAYERS],
    chosen: [Choice; LAYERS],
    told: [Choice; LAYERS],
    rates: [RowRate; LAYERS],
}

impl<const LAYERS: usize> Tables<LAYERS> {
    /// For a `static`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        const NO: Choice = Choice { layer: 0, rows: 0 };
        Self {
            layers: [Layer::Flatten(Flatten); LAYERS],
            slots: empty_slots(),
            pretrained: [SlotScales::ZERO; LAYERS],
            scales: [SlotScales::ZERO; LAYERS],
            exponents: [None; LAYERS],
            candidates: [Candidate { layer: 0, rows: 0, score: None }; LAYERS],
            chosen: [NO; LAYERS],
            told: [NO; LAYERS],
            rates: [RowRate { least: 0, most: 0, highest: None }; LAYERS],
        }
    }
}

/// `n` values from the front of `memory`, and the rest stays.
fn carve<'m, T: Pod>(memory: &mut &'m mut [u64], n: usize) -> Result<&'m mut [T], Error> {
    let words = n.checked_mul(size_of::<T>()).ok_or(Error::Room)?.div_ceil(8);
    let (part, rest) = take(memory).split_at_mut_checked(words).ok_or(Error::Room)?;
    *memory = rest;
    Ok(&mut cast_slice_mut(part)[..n])
}

/// Adapts in this memory and tells choices, steps and classes; and, in lines that begin with `#` and differ from machine to
/// machine, what it took. `clock` counts instructions, or nothing.
///
/// # Errors
/// No task, no memory, or what the engine refuses.
pub fn run<const LAYERS: usize>(
    bytes: &[u8],
    memory: &mut [u64],
    tables: &mut Tables<LAYERS>,
    out: &mut dyn Write,
    clock: &mut dyn FnMut() -> u64,
) -> Result<(), Error> {
    let task = Task::read(bytes)?;
    task.tell(out)?;
    let Header { layers: n, input, state, .. } = task.header;
    if n > LAYERS || task.told() > LAYERS {
        return Err(Error::Layers { needed: n.max(task.told()), available: LAYERS });
    }
    let Tables { layers, slots, pretrained, scales, exponents, candidates, chosen, told, rates } = tables;
    for (i, layer) in layers[..n].iter_mut().enumerate() {
        *layer = file::layer(task.file, i)?;
    }
    let (layers, slots) = (&layers[..n], &mut slots[..n]);
    let inference = plan(layers, input, Options::inference(), slots)?;
    let used = inference.slots;
    let weights = Weights::read(task.file, slots, &inference)?;
    weights.scales(slots, &mut pretrained[..used]);
    let origin = Origin { layers, input, weights: weights.mantissas, scales: &pretrained[..used], state };
    let settings = task.settings(told);
    let Support { labels, classes, .. } = task.support;
    let needs = needs(&origin, &settings, slots)?;
    let centres = classes.checked_mul(needs.features).ok_or(Error::Room)?;

    let all = size_of_val::<[u64]>(memory);
    let mut free = memory;
    let information = carve(&mut free, needs.channels)?;
    let sums = carve(&mut free, centres)?;
    let units = carve(&mut free, centres)?;
    let scratch = carve(&mut free, classes.checked_mul(2).ok_or(Error::Room)?)?;
    let order = carve(&mut free, labels.len())?;
    let queries = carve(&mut free, needs.queries)?;
    let batch = carve(&mut free, settings.batch as usize)?;
    let room = all - size_of_val::<[u64]>(free);
    let pool: &mut [i32] = cast_slice_mut(free);
    pool.fill(UNTOUCHED);

    let state_and_scales = size_of::<State>() + size_of_val::<[SlotScales]>(&scales[..used]);
    let inspects = matches!(task.kind, Kind::TinyTrain | Kind::Layers | Kind::RandomChannels);
    let limit = usize::try_from(settings.memory).unwrap_or(usize::MAX);
    let (look, last) = (Options::training(1).ram_limit(limit), Learning::Inspect(settings.first()));
    let first = if inspects { plan_for(layers, input, look, last, slots)? } else { Sizes::default() };
    let lent = Room {
        slots: &mut *slots,
        scales: &mut scales[..used],
        pool: &mut *pool,
        order,
        queries,
        labels: batch,
        sums,
        units,
        scratch,
        information,
        exponents: &mut exponents[..used],
        candidates: &mut candidates[..used],
        chosen: &mut chosen[..n],
        rates: &mut rates[..used],
    };
    let start = clock();
    let mut adapter = Adapter::new(origin, task.support, settings, lent)?;
    let mut selection = clock() - start;
    let mut costs = learn(&mut adapter, &task, out, clock)?;
    if adapter.choices().is_empty() {
        costs.steps += take(&mut selection); // the prototypes: nothing was chosen
    }
    let sizes = *adapter.sizes();
    let touched = pool.iter().rposition(|&word| word != UNTOUCHED).map_or(0, |last| last + 1);
    let planned = pool_words(&sizes).max(pool_words(&first));
    writeln!(
        out,
        "# ram plan {} used {} inspection {} pool {} touched {} room {room} tables {}",
        sizes.ram(),
        4 * pool_words(&sizes) + state_and_scales,
        first.ram(),
        4 * planned,
        4 * touched,
        size_of::<Tables<LAYERS>>() / LAYERS * n,
    )?;
    let count = fixed_choice(&origin, &Settings { policy: Policy::LastLayer, ..settings }, slots, chosen)?;
    let start = clock();
    let learning = Policy::LastLayer.learning(&chosen[..count]);
    price(&origin, (settings.batch, settings.memory), learning, slots)?;
    let price = clock() - start;
    let Costs { steps, queries } = costs;
    writeln!(out, "# instructions selection {selection} steps {steps} queries {queries} price {price}")?;
    Ok(())
}
