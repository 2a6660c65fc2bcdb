//! What decides how a net learns, as a Python value.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tintin_core::file::pack_recipe;
use tintin_core::loss::Loss;
use tintin_core::optim::{self, MILESTONES, Rule, Schedule};
use tintin_core::rescale::Rounding;

use crate::error::value;

/// Update rule, rounding, loss and schedule. Rules and limits: `docs/numerics.md`, N15 to N22.
#[pyclass(frozen, eq, module = "tintin._tintin", from_py_object)]
#[derive(Clone, Copy, PartialEq)]
pub struct Recipe(pub optim::Recipe);

const ROUNDINGS: [(&str, Rounding); 3] =
    [("nearest", Rounding::Nearest), ("pseudo", Rounding::Pseudo), ("stochastic", Rounding::Stochastic)];
const LOSSES: [(&str, Loss); 3] = [
    ("cross_entropy", Loss::CrossEntropy),
    ("niti_cross_entropy", Loss::NitiCrossEntropy),
    ("squared_error", Loss::SquaredError),
];

fn find<T: Copy>(what: &str, table: &[(&str, T)], name: &str) -> PyResult<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, v)| *v).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(known, _)| *known).collect();
        value(format!("unknown {what} '{name}'; known are {}", known.join(", ")))
    })
}

fn name<T: PartialEq>(table: &[(&'static str, T)], v: &T) -> &'static str {
    table.iter().find(|(_, known)| known == v).map_or("", |(name, _)| name)
}

/// The loss of that name.
pub fn loss(name: &str) -> PyResult<Loss> {
    find("loss", &LOSSES, name)
}

/// Refuses a net with more outputs than the loss can take.
pub fn check_outputs(loss: Loss, outputs: usize) -> PyResult<()> {
    let most = loss.most_outputs();
    if outputs > most {
        return Err(value(format!(
            "the net has {outputs} outputs, the loss '{}' takes at most {most}",
            name(&LOSSES, &loss)
        )));
    }
    Ok(())
}

#[pymethods]
impl Recipe {
    #[new]
    #[pyo3(signature = (rule, rounding, loss, start, change, milestones, margin))]
    fn new(
        rule: &str,
        rounding: &str,
        loss: &str,
        start: i8,
        change: i8,
        milestones: Vec<u32>,
        margin: u8,
    ) -> PyResult<Self> {
        let rule = find("rule", &[("tintin", Rule::TinTin { margin }), ("niti", Rule::Niti)], rule)?;
        if margin > 6 {
            return Err(value(format!("margin must be 0 to 6, got {margin}")));
        }
        if milestones.len() > MILESTONES {
            return Err(value(format!("at most {MILESTONES} milestones, got {}", milestones.len())));
        }
        let mut table = [u32::MAX; MILESTONES];
        for (entry, step) in table.iter_mut().zip(milestones) {
            *entry = step;
        }
        Ok(Self(optim::Recipe {
            rule,
            rounding: find("rounding", &ROUNDINGS, rounding)?,
            loss: find("loss", &LOSSES, loss)?,
            schedule: Schedule { start, change, milestones: table },
        }))
    }

    /// "tintin" or "niti".
    #[getter]
    fn rule(&self) -> &'static str {
        match self.0.rule {
            Rule::TinTin { .. } => "tintin",
            Rule::Niti => "niti",
        }
    }

    /// "nearest", "pseudo" or "stochastic".
    #[getter]
    fn rounding(&self) -> &'static str {
        name(&ROUNDINGS, &self.0.rounding)
    }

    /// "cross_entropy", "niti_cross_entropy" or "squared_error".
    #[getter]
    fn loss(&self) -> &'static str {
        name(&LOSSES, &self.0.loss)
    }

    /// The recipe as it stands in a .tin file and in a runner's frames: 24 bytes.
    #[allow(clippy::wrong_self_convention)] // Python lends itself
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &pack_recipe(&self.0))
    }

    /// Learning shift (TinTin) or mu (NITI) in force at a step.
    fn at(&self, step: u32) -> i32 {
        match self.0.rule {
            Rule::TinTin { .. } => self.0.learning_shift(step),
            Rule::Niti => self.0.mu(step),
        }
    }
}
