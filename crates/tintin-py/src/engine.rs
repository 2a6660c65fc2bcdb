//! The model behind `tintin.Sequential`: a heap model, a lock, and loops over batches.

use std::cell::Cell;
use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyDict, PyList};
use tintin_core::adapt::Support;
use tintin_core::cut::{self, Cut, Share, items, over, scratch};
use tintin_core::few::{Centres, Episode};
use tintin_core::fewshot::{move_by, moved};
use tintin_core::heap::{Model, Reader};
use tintin_core::layers::{Fields, Layer};
use tintin_core::loss::{Score, Target};
use tintin_core::net::{Net, State};
use tintin_core::plan::{Options, Slot, SlotScales};
use tintin_core::shape::Shape;
use tintin_core::tensor::Scale;

use crate::arrays::{Copies, Samples, Targets};
use crate::error::{self, value};
use crate::few::{self, Adaptation};
use crate::memory;
use crate::pace::{self, Pace};
use crate::recipe::{self, Recipe};
use crate::threads;

/// One setting of all layers: name, outputs, kernel, stride, padding, bias; zeros where a layer has no such setting.
type Spec = (String, u16, (u16, u16), (u16, u16), (u16, u16), bool);

/// A net on the heap. Every method may be called from any thread; calls wait for each other.
#[pyclass(frozen, module = "tintin._tintin")]
pub struct Engine {
    model: Mutex<Model>,
    /// Samples of a batch and nanoseconds that a step of so many took, last time; 0 before the first.
    pace: [AtomicU64; 2],
}

impl Engine {
    fn of(model: Model) -> Self {
        Self { model: Mutex::new(model), pace: [const { AtomicU64::new(0) }; 2] }
    }

    /// The model, once no other thread uses it; the interpreter is free meanwhile.
    fn lock<'a>(&'a self, py: Python<'_>) -> PyResult<MutexGuard<'a, Model>> {
        if LISTENING.get() && matches!(self.model.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(value(
                "this net is at work below the signal handler that asks it: wait until the call is over",
            ));
        }
        self.model.lock_py_attached(py).map_err(|_| value("this net was left half-changed by an earlier failure"))
    }
}

thread_local! {
    /// This thread runs signal handlers while it has locked a net: waiting for that net would be for ever.
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Hears Ctrl-C and other signals with a net locked.
fn listen(py: Python<'_>) -> PyResult<()> {
    let before = LISTENING.replace(true);
    let heard = py.check_signals();
    LISTENING.set(before);
    heard
}

/// A training plan for the host.
fn host(batch: u32, train_from: usize, threads: usize) -> Options {
    Options::training(batch).train_from(train_from).spacious().threads(u32::try_from(threads).unwrap_or(1))
}

#[pymethods]
impl Engine {
    #[new]
    fn new(layers: Vec<Spec>, input_shape: (u32, u32, u32), seed: u32) -> PyResult<Self> {
        let layers = layers
            .into_iter()
            .map(|(name, out, kernel, stride, padding, bias)| {
                Layer::from_fields(&name, Fields { bias, out, kernel, stride, padding })
                    .ok_or_else(|| value(format!("no layer {name} with these settings")))
            })
            .collect::<PyResult<Vec<_>>>()?;
        let (h, w, c) = input_shape;
        let model = Model::new(layers, Shape::new(h, w, c), seed).map_err(error::plan)?;
        Ok(Self::of(model))
    }

    /// The model in the bytes of a .tin file.
    #[staticmethod]
    fn from_bytes(bytes: &[u8]) -> PyResult<Self> {
        Ok(Self::of(Model::from_bytes(bytes).map_err(error::file)?))
    }

    /// The model as the bytes of a .tin file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.lock(py)?.to_bytes().map_err(error::file)?))
    }

    /// Layers as (name, out, kernel, stride, padding, bias).
    fn layers(&self, py: Python<'_>) -> PyResult<Vec<Spec>> {
        let model = self.lock(py)?;
        Ok(model
            .layers()
            .iter()
            .map(|layer| {
                let f = layer.fields();
                (layer.name().to_owned(), f.out, f.kernel, f.stride, f.padding, f.bias)
            })
            .collect())
    }

    /// (height, width, channels) of one sample.
    #[getter]
    fn input_shape(&self, py: Python<'_>) -> PyResult<(u32, u32, u32)> {
        let input = self.lock(py)?.input();
        Ok((input.h, input.w, input.c))
    }

    /// Output shape of every layer in order.
    fn shapes(&self, py: Python<'_>) -> PyResult<Vec<(u32, u32, u32)>> {
        let model = self.lock(py)?;
        let (mut shape, mut shapes) = (model.input(), vec![]);
        model
            .layers()
            .iter()
            .map(|layer| {
                if let Layer::Branch(branch) = layer {
                    shape = shapes[usize::from(branch.from)];
                }
                shape = layer.need(shape).map_err(value)?.ys;
                shapes.push(shape);
                Ok((shape.h, shape.w, shape.c))
            })
            .collect()
    }

    /// Number of outputs.
    #[getter]
    fn outputs(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.lock(py)?.slots().last().map_or(0, |slot| slot.ys.len()))
    }

    /// Seed of all draws.
    #[getter]
    fn seed(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.lock(py)?.state().seed)
    }

    /// Training steps so far.
    #[getter]
    fn step(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.lock(py)?.state().step)
    }

    /// How it was last trained, if it was.
    #[getter]
    fn recipe(&self, py: Python<'_>) -> PyResult<Option<Recipe>> {
        Ok(self.lock(py)?.recipe.map(Recipe))
    }

    /// Digest of weights and scales (rule N24).
    fn digest(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.digest())
    }

    /// Draws new initial weights (rule N9) and starts again at step 0.
    fn initialise(&self, py: Python<'_>, seed: u32) -> PyResult<()> {
        let mut model = self.lock(py)?;
        model.recipe = None;
        model.initialise(seed);
        Ok(())
    }

    /// Weight and bias tensors: a list of dicts layer, bias, mantissas (rows, row) or (rows,), scale (s, u, d).
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let model = self.lock(py)?;
        let list = PyList::empty(py);
        for (slot, scales) in model.slots().iter().zip(model.scales()) {
            if slot.rows == 0 {
                continue;
            }
            let own = model.weights().iter().skip(slot.w);
            let weights: Vec<i8> = own.clone().take(slot.weights()).copied().collect();
            let entry = tensor(py, slot, false, scales)?;
            let shape = [slot.rows as usize, slot.row as usize];
            entry.set_item("mantissas", PyArray1::from_vec(py, weights).reshape(shape)?)?;
            list.append(entry)?;
            if slot.bias {
                let bias: Vec<i8> = own.skip(slot.weights()).take(slot.biases()).copied().collect();
                let entry = tensor(py, slot, true, scales)?;
                entry.set_item("mantissas", PyArray1::from_vec(py, bias))?;
                list.append(entry)?;
            }
        }
        Ok(list)
    }

    /// Replaces one tensor of `tensors`.
    fn set_tensor(
        &self,
        py: Python<'_>,
        layer: u32,
        bias: bool,
        mantissas: PyReadonlyArray1<'_, i8>,
        scale: (i8, i8, i8),
    ) -> PyResult<()> {
        let mantissas = mantissas.as_slice().map_err(|_| value("mantissas must be contiguous"))?;
        let scale = Scale { s: scale.0.into(), u: scale.1.into(), d: scale.2.into() };
        let mut model = self.lock(py)?;
        let len = model
            .slots()
            .iter()
            .find(|slot| slot.index == layer)
            .map_or(0, |slot| if bias { slot.biases() } else { slot.weights() });
        let what = if bias { "biases" } else { "weights" };
        if len == 0 {
            return Err(value(format!("layer {layer} has no {what}")));
        }
        if len != mantissas.len() {
            return Err(value(format!("layer {layer} has {len} {what}, got {} mantissas", mantissas.len())));
        }
        if mantissas.contains(&-128) {
            return Err(value("mantissas must be -127 to 127, got -128"));
        }
        model.set_tensor(layer, bias, mantissas, scale).map_err(error::file)
    }

    /// Trains on the samples named by `order`, `batch_size` at a time; returns the loss sum (2^-16) and the right answers.
    ///
    /// `plan_batch` is the largest batch of this and the calls to come, so that one plan serves them all. With `ends`, where batches end
    /// in `order`, batches have at most `batch_size` samples.
    /// The interpreter is free while some batches are computed; Ctrl-C is heard between them.
    #[pyo3(signature = (x, exponent, y, target_exponent, order, batch_size, plan_batch, recipe, train_from, ends = None))]
    #[allow(clippy::too_many_arguments)]
    fn train(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        exponent: i16,
        y: &Bound<'_, PyAny>,
        target_exponent: Option<i16>,
        order: PyReadonlyArray1<'_, u32>,
        batch_size: u32,
        plan_batch: u32,
        recipe: Recipe,
        train_from: usize,
        ends: Option<PyReadonlyArray1<'_, u32>>,
    ) -> PyResult<(u64, u32)> {
        let mut model = self.lock(py)?;
        let (inputs, outputs) = (model.input().len(), model.slots().last().map_or(0, |slot| slot.ys.len()));
        recipe::check_outputs(recipe.0.loss, outputs)?;
        let samples = Samples::new(x, inputs)?;
        let targets = Targets::new(y, target_exponent, samples.count(), outputs)?;
        let order = order.as_slice().map_err(|_| value("order must be contiguous"))?;
        if let Some(i) = order.iter().find(|i| **i as usize >= samples.count()) {
            return Err(value(format!("sample {i} of {} does not exist", samples.count())));
        }
        let count = threads::get_num_threads();
        let options = host(plan_batch, train_from, count);
        // a net too small for threads needs no pool
        let count = if model.net(options).map_err(error::plan)?.threads() > 1 { count } else { 1 };
        let given =
            ends.as_ref().map(|ends| ends.as_slice().map_err(|_| value("ends must be contiguous"))).transpose()?;
        let ends = pace::ends(given, batch_size, plan_batch, order.len())?;
        threads::pool(count)?;
        model.recipe = Some(recipe.0); // only now: what cannot be planned leaves the model as it was
        drop(model);
        let (mut copies, mut score, mut rest, mut at) = (Copies::default(), Score::default(), &ends[..], 0);
        let size = batch_size as usize;
        let [of, took] = [0, 1].map(|i| self.pace[i].load(Relaxed));
        let time = (of == u64::from(batch_size)).then_some(Duration::from_nanos(took));
        let mut pace = Pace::new(size.saturating_mul(inputs), time);
        while let Some((some, others)) = rest.split_at_checked(pace.count.min(rest.len()))
            && let Some(&end) = some.last()
        {
            rest = others;
            let start = mem::replace(&mut at, end);
            let part = &order[start..end];
            let pool = threads::pool(count)?;
            copies.take_targets(&targets, outputs, part.iter().map(|&i| i as usize));
            let mut model = self.lock(py)?;
            let mut net = model.net(options).map_err(error::plan)?;
            let (net, values, begin) = (&mut net, samples.values(), Instant::now());
            let take = |copies: &mut Copies| copies.take(values, inputs, part.len(), |i| part[i] as usize, count);
            let steps = |copies: &mut Copies| {
                let batches = copies.batches(some.iter().map(|end| end.saturating_sub(start)), inputs, outputs);
                batches.fold(score, |score, (x, target)| score.plus(net.train_step(x, exponent, target, &recipe.0)))
            };
            score = threads::run_both(py, pool.as_deref(), &mut copies, take, steps);
            let took = begin.elapsed();
            pace.keep(took);
            let each = took.as_nanos().checked_div(some.len() as u128).map(u64::try_from);
            self.pace[1].store(each.and_then(Result::ok).unwrap_or(u64::MAX), Relaxed);
            self.pace[0].store(batch_size.into(), Relaxed);
            // between batches anyone may use the net: another thread, or a signal handler that saves it
            drop(model);
            py.check_signals()?;
        }
        Ok((score.loss, score.correct))
    }

    /// Outputs of every sample on its own: int8 mantissas (n, outputs) and int16 scales (n, 3).
    #[allow(clippy::type_complexity)]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'_, PyAny>,
        exponent: i16,
    ) -> PyResult<(Bound<'py, PyArray2<i8>>, Bound<'py, PyArray2<i16>>)> {
        let mut model = self.lock(py)?;
        let samples = Samples::new(x, model.input().len())?;
        let outputs = model.slots().last().map_or(0, |slot| slot.ys.len());
        let n = samples.count();
        let (mut mantissas, mut scales) = (zeros(n, outputs)?, zeros(n, 3)?);
        let out = (items(&mut mantissas[..], outputs), items(&mut scales[..], 3));
        each(py, &mut model, &samples, None, out, &|net, x, _, (mantissas, scales)| {
            let y = net.predict(x, exponent);
            mantissas.slice.copy_from_slice(y.mantissas);
            scales.slice.copy_from_slice(&[y.scale.s, y.scale.u, y.scale.d]);
        })?;
        Ok((PyArray1::from_vec(py, mantissas).reshape([n, outputs])?, PyArray1::from_vec(py, scales).reshape([n, 3])?))
    }

    /// Loss sum (2^-16) and right answers over all samples, each on its own, without learning.
    #[pyo3(signature = (x, exponent, y, target_exponent, loss))]
    fn evaluate(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        exponent: i16,
        y: &Bound<'_, PyAny>,
        target_exponent: Option<i16>,
        loss: &str,
    ) -> PyResult<(u64, u32)> {
        let mut model = self.lock(py)?;
        let samples = Samples::new(x, model.input().len())?;
        let loss = recipe::loss(loss)?;
        let outputs = model.slots().last().map_or(0, |slot| slot.ys.len());
        recipe::check_outputs(loss, outputs)?;
        let targets = Targets::new(y, target_exponent, samples.count(), outputs)?;
        let mut scores = zeros::<Score>(samples.count(), 1)?;
        let out = items(&mut scores[..], 1);
        each(py, &mut model, &samples, Some((&targets, outputs)), out, &|net, x, target, score| {
            if let (Some(target), Some(score)) = (target, score.slice.first_mut()) {
                *score = net.evaluate(x, exponent, target, loss);
            }
        })?;
        let score = scores.into_iter().fold(Score::default(), Score::plus);
        Ok((score.loss, score.correct))
    }

    /// Adapts to the classes of a support set; this model stays as it is. The adapted one, and a dict of what happened.
    fn adapt<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'_, PyAny>,
        exponent: i16,
        y: PyReadonlyArray1<'_, u16>,
        classes: usize,
        adaptation: &Adaptation,
    ) -> PyResult<(Self, Bound<'py, PyDict>)> {
        let model = self.lock(py)?.clone();
        let samples = Samples::new(x, model.input().len())?;
        let labels = y.as_slice()?;
        if labels.len() != samples.count() {
            return Err(value(format!("{} labels for {} samples", labels.len(), samples.count())));
        }
        let (adapted, told) = few::adapt(py, &model, &samples, exponent, labels, classes, adaptation)?;
        Ok((Self::of(adapted), told))
    }

    /// Trains on episodes: `support` (episodes, n) and `queries` (episodes, m) number samples of `x`; labels likewise. Loss sum and right
    /// answers of all queries.
    #[allow(clippy::too_many_arguments)] // as `train`
    fn episodes(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        exponent: i16,
        support: PyReadonlyArray2<'_, u32>,
        support_labels: PyReadonlyArray2<'_, u16>,
        queries: PyReadonlyArray2<'_, u32>,
        query_labels: PyReadonlyArray2<'_, u16>,
        temperature: u8,
        limits: (u16, u16),
        recipe: &Recipe,
    ) -> PyResult<(u64, u32)> {
        let mut model = self.lock(py)?;
        let (shape, input) = (model.input(), model.input().len());
        let mut still = vec![0; input];
        let samples = Samples::new(x, input)?;
        let order = [support.as_array(), queries.as_array()];
        if order.iter().any(|order| order.iter().any(|&i| i as usize >= samples.count())) {
            return Err(value("an episode numbers a sample that is not there"));
        }
        if order[0].nrows() != order[1].nrows() {
            return Err(value("every episode needs a support and queries"));
        }
        let features = model.slots().last().map_or(0, |slot| slot.ys.len());
        if !(1..=few::MOST_FEATURES).contains(&features) || temperature > few::MOST_TEMPERATURE {
            return Err(value(format!(
                "{features} features and temperature 2^{temperature}: 1 to 1024 and 2^0 to 2^6 can be"
            )));
        }
        let labels = [support_labels.as_array(), query_labels.as_array()];
        let classes = labels.iter().flat_map(|labels| labels.iter()).max().map_or(0, |&top| usize::from(top) + 1);
        if order.iter().zip(&labels).any(|(order, labels)| order.dim() != labels.dim()) || classes > few::MOST_CLASSES {
            return Err(value("episodes need a label for every sample, below 4096"));
        }
        let count = order[1].ncols();
        let options = host(u32::try_from(count).unwrap_or(u32::MAX), 0, threads::get_num_threads());
        let mut centres = Centres::default();
        let (mut total, [mut asked, mut shown]) = (Score::default(), [vec![], vec![]]);
        let pool = threads::pool(threads::get_num_threads())?;
        model.recipe = Some(recipe.0);
        for e in 0..order[0].nrows() {
            let rows = [0, 1].map(|k| (order[k].row(e).to_vec(), labels[k].row(e).to_vec()));
            // queries are moved as those of an adaptation (N32), the support as if it came behind them
            let State { seed, step } = model.state();
            let mut place = 0u32;
            for (x, (rows, _)) in [&mut asked, &mut shown].into_iter().zip(rows.iter().rev()) {
                x.resize(rows.len().saturating_mul(input), 0);
                for (x, &i) in x.chunks_exact_mut(input).zip(rows) {
                    samples.copy(i as usize, &mut still);
                    move_by(&still, shape, moved(seed, step, place, limits), x);
                    place = place.wrapping_add(1);
                }
            }
            let episode = Episode {
                support: Support { x: &shown, exponent, labels: &rows[0].1, classes },
                x: &asked,
                labels: &rows[1].1,
                temperature,
            };
            let (net, centres, pool) = (&mut *model, &mut centres, pool.as_deref());
            let score = py
                .detach(|| threads::run(pool, || net.episode_step(&episode, options, &recipe.0, centres)))
                .map_err(error::plan)?;
            total = total.plus(score);
            listen(py)?;
        }
        Ok((total.loss, total.correct))
    }

    /// What a policy that needs no support set will train, and what that costs: a dict.
    fn foresee<'py>(&self, py: Python<'py>, adaptation: &Adaptation) -> PyResult<Bound<'py, PyDict>> {
        few::foresee(py, &*self.lock(py)?, adaptation)
    }

    /// The plan for chosen layers, [(layer, rows), ...]; see `plan`. `redrawn`: which rows learn changes, so whole layers lie in RAM.
    #[pyo3(signature = (batch_size, choices, limit, redrawn = false))]
    fn plan_choice<'py>(
        &self,
        py: Python<'py>,
        batch_size: u32,
        choices: Vec<(u32, u32)>,
        limit: Option<usize>,
        redrawn: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        few::plan_choice(py, &*self.lock(py)?, batch_size, &choices, limit, redrawn)
    }

    /// Sizes of a plan by role and slots with their shapes and offsets, nothing allocated.
    #[pyo3(signature = (batch_size, train_from, training, limit))]
    fn plan<'py>(
        &self,
        py: Python<'py>,
        batch_size: u32,
        train_from: usize,
        training: bool,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let model = self.lock(py)?;
        let options = Options {
            training,
            ..Options::training(batch_size).train_from(train_from).ram_limit(limit.unwrap_or(usize::MAX))
        };
        memory::plan(py, model.layers(), model.input(), options)
    }
}

/// Some samples: their numbers, the net to use, the samples, and what there is of `out`.
type Part<'a, 'm, W> = (Range<usize>, Share<&'a mut [Net<'m>]>, Share<&'a [i8]>, W);

/// Calls `one` for every sample with a net, the sample, its target if there are targets, and its share of `out`: some at a time, and over
/// threads where there is enough to do.
fn each<W: Cut>(
    py: Python<'_>,
    model: &mut Model,
    samples: &Samples<'_>,
    targets: Option<(&Targets<'_>, usize)>,
    mut out: W,
    one: &(impl Fn(&mut Net<'_>, &[i8], Option<Target<'_>>, W) + Sync),
) -> PyResult<()> {
    let (n, inputs, options) = (samples.count(), model.input().len(), Options::inference().spacious());
    let products = model.slots().iter().fold(0usize, |sum, slot| sum.saturating_add(slot.products()));
    let count = cut::parts(n, products, threads::get_num_threads());
    let mut readers = Vec::new();
    let mut nets: Vec<Net<'_>> = if count == 1 {
        vec![model.net(options).map_err(error::plan)?]
    } else {
        readers.extend(model.readers(options, count).map_err(error::plan)?);
        readers.iter_mut().map(Reader::net).collect()
    };
    let (mut copies, mut pace, mut done) = (Copies::default(), Pace::new(inputs, None), 0usize);
    while done < n {
        let range = done..done.saturating_add(pace.count).min(n);
        done = range.end;
        let (some, outputs) = (range.len(), targets.map_or(0, |(_, outputs)| outputs));
        let pool = threads::pool(count)?;
        let numbers = range.clone();
        if let Some((targets, outputs)) = targets {
            copies.take_targets(targets, outputs, range);
        }
        let (now, later) = out.cut(some, 0);
        out = later;
        let (nets, values, start) = (&mut nets[..], samples.values(), Instant::now());
        let take = |copies: &mut Copies| copies.take(values, inputs, some, |i| numbers.start.saturating_add(i), count);
        let work = |copies: &mut Copies| {
            let copies = &*copies;
            let part = |(range, nets, x, mut out): Part<'_, '_, W>| {
                if let Some(net) = nets.slice.first_mut() {
                    for (i, x) in range.zip(x.slice.chunks_exact(inputs)) {
                        let own;
                        (own, out) = out.cut(1, 0);
                        one(net, x, copies.target(i, outputs), own);
                    }
                }
                0
            };
            let work = (0..some, scratch(nets, 1), items(&copies.x[..], inputs), now);
            over(work, some, cut::parts(some, products, count), &part)
        };
        threads::run_both(py, pool.as_deref(), &mut copies, take, work);
        pace.keep(start.elapsed());
        listen(py)?;
    }
    Ok(())
}

/// `count` results of `each` values, all zero, or a `MemoryError` where Rust would abort the process.
fn zeros<T: Clone + Default>(count: usize, each: usize) -> PyResult<Vec<T>> {
    let (mut zeros, len) = (Vec::new(), count.saturating_mul(each));
    zeros
        .try_reserve_exact(len)
        .map_err(|_| PyMemoryError::new_err(format!("no room for {count} samples of {each} outputs")))?;
    zeros.resize(len, T::default());
    Ok(zeros)
}

fn tensor<'py>(py: Python<'py>, slot: &Slot, bias: bool, scales: &SlotScales) -> PyResult<Bound<'py, PyDict>> {
    let entry = PyDict::new(py);
    entry.set_item("layer", slot.index)?;
    entry.set_item("bias", bias)?;
    let scale = if bias { scales.b } else { scales.w };
    entry.set_item("scale", (scale.s, scale.u, scale.d))?;
    Ok(entry)
}
