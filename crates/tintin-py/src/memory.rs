//! A plan's bytes by role and slot, as `memory.py` shows them.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tintin_core::file::file_len;
use tintin_core::heap::planned;
use tintin_core::layers::{Layer, RECORD};
use tintin_core::net::State;
use tintin_core::plan::{INPUT, Options, Sizes, Slot, resident_len};
use tintin_core::shape::Shape;

use crate::error;

/// Sizes of a plan by role and its slots, nothing allocated.
pub fn plan<'py>(py: Python<'py>, layers: &[Layer], input: Shape, options: Options) -> PyResult<Bound<'py, PyDict>> {
    let (slots, sizes) = planned(layers, input, options).map_err(error::plan)?;
    describe(py, layers, input, &slots, &sizes)
}

/// The same of a plan that is there.
pub fn describe<'py>(
    py: Python<'py>,
    layers: &[Layer],
    input: Shape,
    slots: &[Slot],
    sizes: &Sizes,
) -> PyResult<Bound<'py, PyDict>> {
    let plan = sizes_dict(py, sizes)?;
    plan.set_item("file", file_len(layers.len(), slots, sizes))?;
    plan.set_item("records", layers.len().saturating_mul(RECORD))?;
    plan.set_item("input", input.len().saturating_mul(sizes.batch))?;
    plan.set_item("input_kept", slots.iter().any(|slot| slot.source == INPUT && slot.trains_weights()))?;
    let list = PyList::empty(py);
    for (i, slot) in slots.iter().enumerate() {
        let resident = resident_len(slots, i, sizes.resident);
        list.append(slot_dict(py, slot, resident, sizes.batch)?)?;
    }
    plan.set_item("slots_used", list)?;
    Ok(plan)
}

fn sizes_dict<'py>(py: Python<'py>, sizes: &Sizes) -> PyResult<Bound<'py, PyDict>> {
    let plan = PyDict::new(py);
    plan.set_item("ram", sizes.ram())?;
    plan.set_item("weights", sizes.weights)?;
    plan.set_item("frozen", sizes.frozen)?;
    plan.set_item("trained_weights", sizes.resident)?;
    plan.set_item("activations", sizes.activations)?;
    plan.set_item("indices", sizes.indices)?;
    plan.set_item("signs", sizes.signs)?;
    plan.set_item("errors", sizes.errors)?;
    plan.set_item("chosen", sizes.chosen)?;
    plan.set_item("workspace", sizes.workspace)?;
    plan.set_item("words", sizes.words)?;
    plan.set_item("scales", sizes.scales())?;
    plan.set_item("state", size_of::<State>())?;
    plan.set_item("slots", sizes.slots)?;
    plan.set_item("first", sizes.first)?;
    Ok(plan)
}

/// What a slot needs, in elements, `resident` of them weights in RAM: of its own, or of a buffer all share.
fn slot_dict<'py>(py: Python<'py>, slot: &Slot, resident: usize, batch: usize) -> PyResult<Bound<'py, PyDict>> {
    let times = |len: usize| batch.saturating_mul(len);
    let output = times(slot.ys.len());
    let entry = PyDict::new(py);
    entry.set_item("layer", slot.index)?;
    entry.set_item("name", slot.layer.name())?;
    entry.set_item("weights", slot.weights().saturating_add(slot.biases()))?;
    entry.set_item("tensors", [slot.rows > 0, slot.bias].into_iter().filter(|has| *has).count())?;
    entry.set_item("taped", slot.taped)?;
    entry.set_item("resident", resident)?;
    entry.set_item("kept", slot.kept)?;
    entry.set_item("signs", times(slot.sign_bytes()))?;
    entry.set_item("chosen", slot.chosen())?;
    entry.set_item("output", output)?;
    entry.set_item("indices", times(slot.winners()))?;
    let row = (slot.ps.w as usize).saturating_mul(slot.ps.c as usize);
    entry.set_item("row_of_indices", if slot.pools() { row } else { 0 })?;
    entry.set_item("errors", if slot.taped { output } else { 0 })?;
    entry.set_item("words", slot.words)?;
    entry.set_item("workspace", slot.workspace)?;
    entry.set_item("products", slot.products())?;
    Ok(entry)
}
