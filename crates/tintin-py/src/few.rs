//! Few-sample learning for Python: adaptation, episodes, nearest prototypes.

use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tintin_core::adapt::{Adapter, Policy, Settings, Support, backward_products, fixed_choice, full_products, price};
use tintin_core::error::AdaptError;
use tintin_core::few::Workroom;
pub use tintin_core::fewshot::prototypes::{MOST_CLASSES, MOST_TEMPERATURE};
pub use tintin_core::fewshot::unit::MOST_FEATURES;
use tintin_core::fewshot::{Prototypes, is_set};
use tintin_core::heap::Model;
use tintin_core::plan::{Choice, Learning, Options, empty_slots, most_slots, plan_for};

use crate::arrays::Samples;
use crate::error::{self, value};
use crate::recipe::Recipe;

/// How to adapt, as Python tells it: `docs/adapt.md` and `tintin.Sequential.adapt` say what each is.
#[pyclass(frozen, module = "tintin._tintin", from_py_object)]
#[derive(Clone)]
pub struct Adaptation {
    #[pyo3(get)]
    policy: String,
    choices: Vec<Choice>,
    #[pyo3(get)]
    memory: u64,
    #[pyo3(get)]
    compute: u32,
    #[pyo3(get)]
    ratio: u32,
    #[pyo3(get)]
    inspect: usize,
    #[pyo3(get)]
    temperature: u8,
    #[pyo3(get)]
    limits: (u16, u16),
    #[pyo3(get)]
    batch: u32,
    #[pyo3(get)]
    passes: u32,
    #[pyo3(get)]
    rows: (u16, u16),
    #[pyo3(get)]
    recipe: Recipe,
}

#[pymethods]
impl Adaptation {
    #[new]
    #[pyo3(signature = (policy, choices, memory, compute, ratio, inspect, temperature, limits, batch, passes, rows, recipe))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn new(
        policy: String,
        choices: Vec<(u32, u32)>,
        memory: u64,
        compute: u32,
        ratio: u32,
        inspect: usize,
        temperature: u8,
        limits: (u16, u16),
        batch: u32,
        passes: u32,
        rows: (u16, u16),
        recipe: Recipe,
    ) -> PyResult<Self> {
        let choices = choices.into_iter().map(|(layer, rows)| Choice { layer, rows }).collect();
        let told =
            Self { policy, choices, memory, compute, ratio, inspect, temperature, limits, batch, passes, rows, recipe };
        told.settings(true)?;
        Ok(told)
    }

    /// (layer, number of rows) of the layers that are told.
    #[getter]
    fn choices(&self) -> Vec<(u32, u32)> {
        self.choices.iter().map(|c| (c.layer, c.rows)).collect()
    }
}

impl Adaptation {
    fn settings(&self, spacious: bool) -> PyResult<Settings<'_>> {
        let policy = match self.policy.as_str() {
            "none" => Policy::Nothing,
            "full" => Policy::Full,
            "last_layer" => Policy::LastLayer,
            "bias_only" => Policy::BiasOnly,
            "sparse" => Policy::Sparse(&self.choices),
            "tinytrain" => Policy::TinyTrain,
            "layers" => Policy::Layers(&self.choices),
            "random_channels" => Policy::RandomChannels,
            "dynamic" => Policy::Dynamic { least: self.rows.0, most: self.rows.1 },
            other => return Err(value(format!("unknown policy '{other}'"))),
        };
        Ok(Settings {
            policy,
            memory: self.memory,
            compute: self.compute,
            ratio: self.ratio,
            inspect: self.inspect,
            temperature: self.temperature,
            limits: self.limits,
            batch: self.batch,
            passes: self.passes,
            recipe: self.recipe.0,
            spacious,
        })
    }
}

/// The mantissas of all samples, one behind the other.
pub fn mantissas(samples: &Samples<'_>, len: usize) -> Vec<i8> {
    let mut x = vec![0; samples.count().saturating_mul(len)];
    for (i, x) in x.chunks_exact_mut(len).enumerate() {
        samples.copy(i, x);
    }
    x
}

/// What an adaptation left: the adapted model, and what is to be told of the rest.
pub fn adapt<'py>(
    py: Python<'py>,
    model: &Model,
    x: &Samples<'_>,
    exponent: i16,
    labels: &[u16],
    classes: usize,
    told: &Adaptation,
) -> PyResult<(Model, Bound<'py, PyDict>)> {
    let settings = told.settings(true)?;
    let x = mantissas(x, model.input().len());
    let support = Support { x: &x, exponent, labels, classes };
    let mut room = py.detach(|| Workroom::new(&model.origin(), &settings, labels.len(), classes)).map_err(refused)?;
    let mut adapter = py.detach(|| model.adapter(support, settings, &mut room)).map_err(refused)?;
    let out = PyDict::new(py);
    out.set_item("choices", choices(py, &mut adapter)?)?;
    let (mut losses, mut digests) = (vec![], vec![]);
    while let Some(score) = py.detach(|| adapter.step()) {
        losses.push((score.loss, score.correct));
        digests.push(py.detach(|| adapter.digest()));
        py.check_signals()?;
    }
    out.set_item("losses", losses)?;
    out.set_item("digests", digests)?;
    out.set_item("prototypes", PyArray1::from_slice(py, adapter.prototypes()))?;
    let chosen = adapter.choices().to_vec();
    let adapted = model.adapted(&mut adapter);
    costs(&out, model, &settings, &chosen)?;
    Ok((adapted, out))
}

/// Memory and products of a choice beside those of full training.
fn costs(out: &Bound<'_, PyDict>, model: &Model, settings: &Settings<'_>, chosen: &[Choice]) -> PyResult<()> {
    let mut slots = vec![empty_slots::<1>()[0]; most_slots(model.layers())];
    let found = price(&model.origin(), (settings.batch, settings.memory), settings.policy.learning(chosen), &mut slots)
        .map_err(error::plan)?;
    out.set_item("memory", found.bytes)?;
    out.set_item("products", found.products)?;
    out.set_item("full_products", full_products(&model.origin(), &mut slots).map_err(error::plan)?)?;
    Ok(())
}

/// Layers that learn: (layer, number of rows, the rows marked now; all where every row learns).
fn choices<'py>(py: Python<'py>, adapter: &mut Adapter<'_>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for Choice { layer, rows } in adapter.choices().to_vec() {
        let marked: Vec<usize> = adapter.mask(layer).map_or_else(
            || (0..rows as usize).collect(),
            |mask| (0..mask.len().saturating_mul(8)).filter(|&o| is_set(mask, o)).collect(),
        );
        list.append((layer, rows, marked))?;
    }
    Ok(list)
}

/// The choice of a policy that needs no support set, and what it costs.
pub fn foresee<'py>(py: Python<'py>, model: &Model, told: &Adaptation) -> PyResult<Bound<'py, PyDict>> {
    let settings = told.settings(false)?;
    let n = most_slots(model.layers());
    let (mut slots, mut chosen) = (vec![empty_slots::<1>()[0]; n], vec![Choice { layer: 0, rows: 0 }; n]);
    let count = fixed_choice(&model.origin(), &settings, &mut slots, &mut chosen).map_err(error::plan)?;
    chosen.truncate(count);
    let out = PyDict::new(py);
    out.set_item("choices", chosen.iter().map(|c| (c.layer, c.rows)).collect::<Vec<_>>())?;
    costs(&out, model, &settings, &chosen)?;
    Ok(out)
}

/// The plan for some choices: of the same rows all the time, or `redrawn`.
pub fn plan_choice<'py>(
    py: Python<'py>,
    model: &Model,
    batch: u32,
    choices: &[(u32, u32)],
    limit: Option<usize>,
    redrawn: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let choices: Vec<Choice> = choices.iter().map(|&(layer, rows)| Choice { layer, rows }).collect();
    let options = Options::training(batch).ram_limit(limit.unwrap_or(usize::MAX));
    let learning = if redrawn { Learning::Redrawn(&choices) } else { Learning::Chosen(&choices) };
    let mut slots = vec![empty_slots::<1>()[0]; most_slots(model.layers())];
    let sizes = plan_for(model.layers(), model.input(), options, learning, &mut slots).map_err(error::plan)?;
    slots.truncate(sizes.slots);
    let plan = crate::memory::describe(py, model.layers(), model.input(), &slots, &sizes)?;
    plan.set_item("backward_products", backward_products(&slots, &choices))?;
    Ok(plan)
}

/// Class of every row of `features` (n, features) by `prototypes` (classes · features).
#[pyfunction]
pub fn nearest<'py>(
    py: Python<'py>,
    features: PyReadonlyArray2<'py, i8>,
    prototypes: PyReadonlyArray1<'py, i16>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let width = features.as_array().ncols();
    // in the order of rows, however the array lies
    let features: Vec<i8> = features.as_array().iter().copied().collect();
    let prototypes = prototypes.as_slice()?;
    if width == 0 || prototypes.is_empty() || !prototypes.len().is_multiple_of(width) {
        return Err(value(format!("{} values of prototypes for {width} features", prototypes.len())));
    }
    let mut units = prototypes.to_vec();
    let centres = Prototypes::new(&mut [], &mut units, width);
    let mut dots = vec![0; centres.classes()];
    let classes = features.chunks_exact(width).map(|f| i64::try_from(centres.classify(f, &mut dots)).unwrap_or(0));
    Ok(PyArray1::from_iter(py, classes))
}

/// The errors of the engine in Python's words.
fn refused(error: AdaptError) -> PyErr {
    // in ten-thousandths, rounded up: what is called the smallest must do
    let share = |v: u64| {
        let parts = v.saturating_mul(10_000).div_ceil(1 << 15);
        format!("{}.{:04}", parts / 10_000, parts % 10_000)
    };
    match error {
        AdaptError::Plan(error) => error::plan(error),
        AdaptError::Classes(n) => value(format!("adaptation needs 2 to 4096 classes, got {n}")),
        AdaptError::Samples { class, samples } => value(format!(
            "class {class} has {samples} support sample{}, but every class needs at least 2: one to compare with and one to learn from",
            if samples == 1 { "" } else { "s" }
        )),
        AdaptError::Label { label, classes } => {
            value(format!("label {label} is not below the number of classes, {classes}"))
        }
        AdaptError::Features(n) => value(format!("the net yields {n} features, prototypes take 1 to 1024")),
        AdaptError::Budget { memory, compute, least_memory, least_compute } => {
            let told = if memory > u64::MAX / 4 { "None".to_owned() } else { memory.to_string() };
            let share_told = share(compute.into());
            let mut text = format!("no layer fits into memory_budget {told} and compute_budget {share_told}");
            text += &match (least_memory, least_compute) {
                (Some(bytes), Some(v)) => format!(
                    ": with this compute_budget the smallest memory_budget is {bytes}, with this memory_budget the smallest compute_budget is {}",
                    share(v)
                ),
                (Some(bytes), None) => format!(": the smallest memory_budget is {bytes}"),
                (None, Some(v)) => format!(": the smallest compute_budget is {}", share(v)),
                (None, None) => {
                    ": both are too small for any layer, or no layer has any error to learn from".to_owned()
                }
            };
            value(text)
        }
        AdaptError::Room { needed, room } => value(format!("a pool of {room} bytes for a plan of {needed}")),
        AdaptError::Value(why) => value(why),
    }
}
