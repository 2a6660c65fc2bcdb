//! The model behind `tintin.Sequential`: a heap model, a lock, and loops over batches.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, TryLockError};

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyDict, PyList};
use tintin_core::heap::Model;
use tintin_core::layers::{Fields, Layer};
use tintin_core::plan::{Options, Slot, SlotScales};
use tintin_core::shape::Shape;
use tintin_core::tensor::Scale;

use crate::arrays::{Batch, Samples, Targets};
use crate::error::{self, value};
use crate::memory;
use crate::recipe::{self, Recipe};

/// One setting of all layers: name, outputs, kernel, stride, padding, bias; zeros where a layer has no such setting.
type Spec = (String, u16, (u16, u16), (u16, u16), (u16, u16), bool);

/// A net on the heap. Every method may be called from any thread; calls wait for each other.
#[pyclass(frozen, module = "tintin._tintin")]
pub struct Engine(Mutex<Model>);

impl Engine {
    /// The model, once no other thread uses it; the interpreter is free meanwhile.
    fn lock<'a>(&'a self, py: Python<'_>) -> PyResult<MutexGuard<'a, Model>> {
        if LISTENING.get() && matches!(self.0.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(value(
                "this net is at work below the signal handler that asks it: wait until the call is over",
            ));
        }
        self.0.lock_py_attached(py).map_err(|_| value("this net was left half-changed by an earlier failure"))
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
fn host(batch: u32, train_from: usize) -> Options {
    Options::training(batch).train_from(train_from).spacious()
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
        Ok(Self(Mutex::new(model)))
    }

    /// The model in the bytes of a .tin file.
    #[staticmethod]
    fn from_bytes(bytes: &[u8]) -> PyResult<Self> {
        Ok(Self(Mutex::new(Model::from_bytes(bytes).map_err(error::file)?)))
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
        let mut shape = model.input();
        model
            .layers()
            .iter()
            .map(|layer| {
                shape = layer.need(shape).map_err(value)?.ys;
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
    /// `plan_batch` is the largest batch of this and the calls to come, so that one plan serves them all.
    /// The interpreter is free while a batch is computed; Ctrl-C is heard between batches.
    #[pyo3(signature = (x, exponent, y, target_exponent, order, batch_size, plan_batch, recipe, train_from))]
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
        let options = host(plan_batch, train_from);
        model.net(options).map_err(error::plan)?;
        if batch_size == 0 || batch_size > plan_batch {
            return Err(value(format!("batch_size must be 1 to plan_batch, which is {plan_batch}, got {batch_size}")));
        }
        model.recipe = Some(recipe.0); // only now: what cannot be planned leaves the model as it was
        drop(model);
        let mut batch = Batch::default();
        let mut score = tintin_core::loss::Score::default();
        for part in order.chunks(batch_size as usize) {
            batch.clear();
            batch.x.resize(part.len().saturating_mul(inputs), 0);
            for (&i, out) in part.iter().zip(batch.x.chunks_exact_mut(inputs)) {
                samples.copy(i as usize, out);
            }
            for &i in part {
                targets.push(i as usize, outputs, &mut batch);
            }
            let target = batch.target(&targets);
            let mut model = self.lock(py)?;
            let mut net = model.net(options).map_err(error::plan)?;
            let (net, x) = (&mut net, &batch.x);
            score = score.plus(py.detach(|| net.train_step(x, exponent, target, &recipe.0)));
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
        let inputs = model.input().len();
        let samples = Samples::new(x, inputs)?;
        let mut net = model.net(Options::inference().spacious()).map_err(error::plan)?;
        let outputs = net.output_len();
        let (mut mantissas, mut scales) = (room(samples.count(), outputs)?, room(samples.count(), 3)?);
        let mut one = vec![0; inputs];
        for i in 0..samples.count() {
            samples.copy(i, &mut one);
            let (net, one, mantissas, scales) = (&mut net, &one, &mut mantissas, &mut scales);
            py.detach(|| {
                let y = net.predict(one, exponent);
                mantissas.extend_from_slice(y.mantissas);
                scales.extend_from_slice(&[y.scale.s, y.scale.u, y.scale.d]);
            });
            listen(py)?;
        }
        let n = samples.count();
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
        let inputs = model.input().len();
        let samples = Samples::new(x, inputs)?;
        let loss = recipe::loss(loss)?;
        recipe::check_outputs(loss, model.slots().last().map_or(0, |slot| slot.ys.len()))?;
        let mut net = model.net(Options::inference().spacious()).map_err(error::plan)?;
        let outputs = net.output_len();
        let targets = Targets::new(y, target_exponent, samples.count(), outputs)?;
        let mut batch = Batch::default();
        batch.x.resize(inputs, 0);
        let mut score = tintin_core::loss::Score::default();
        for i in 0..samples.count() {
            let mut x = std::mem::take(&mut batch.x);
            batch.clear();
            samples.copy(i, &mut x);
            batch.x = x;
            targets.push(i, outputs, &mut batch);
            let target = batch.target(&targets);
            let (net, x) = (&mut net, &batch.x);
            score = score.plus(py.detach(|| net.evaluate(x, exponent, target, loss)));
            listen(py)?;
        }
        Ok((score.loss, score.correct))
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

/// Room for `count` results of `each` values, or a `MemoryError` where Rust would abort the process.
fn room<T>(count: usize, each: usize) -> PyResult<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(count.saturating_mul(each))
        .map_err(|_| PyMemoryError::new_err(format!("no room for {count} samples of {each} outputs")))?;
    Ok(room)
}

fn tensor<'py>(py: Python<'py>, slot: &Slot, bias: bool, scales: &SlotScales) -> PyResult<Bound<'py, PyDict>> {
    let entry = PyDict::new(py);
    entry.set_item("layer", slot.index)?;
    entry.set_item("bias", bias)?;
    let scale = if bias { scales.b } else { scales.w };
    entry.set_item("scale", (scale.s, scale.u, scale.d))?;
    Ok(entry)
}
