//! Python bindings: conversion and checks only, all arithmetic is in `tintin-core`.
#![deny(clippy::arithmetic_side_effects)]

mod arrays;
mod engine;
mod error;
mod few;
mod memory;
mod pace;
mod recipe;
mod threads;

use pyo3::prelude::*;

/// The engine of tintin. Private: use the names in `tintin`.
#[pymodule(gil_used = false)]
fn _tintin(m: &Bound<'_, PyModule>) -> PyResult<()> {
    threads::initialise()?;
    check_kernels()?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add("NUMERICS", tintin_core::NUMERICS)?;
    m.add("FORMAT", tintin_core::FORMAT)?;
    m.add_class::<engine::Engine>()?;
    m.add_class::<recipe::Recipe>()?;
    m.add_class::<few::Adaptation>()?;
    m.add_function(wrap_pyfunction!(few::nearest, m)?)?;
    m.add_function(wrap_pyfunction!(kernels, m)?)?;
    m.add_function(wrap_pyfunction!(shuffle, m)?)?;
    m.add_function(wrap_pyfunction!(threads::get_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(threads::set_num_threads, m)?)?;
    Ok(())
}

/// Refuses kernels that were asked for and are not to be had, before anything is measured with others.
fn check_kernels() -> PyResult<()> {
    match std::env::var("TINTIN_KERNELS") {
        Ok(asked) if !asked.is_empty() && asked != tintin_core::kernels::name() => {
            let present = tintin_core::kernels::names().collect::<Vec<_>>().join(", ");
            Err(error::value(format!("TINTIN_KERNELS is '{asked}'; this machine has {present}")))
        }
        _ => Ok(()),
    }
}

/// Name of the instruction set the kernels use on this machine.
#[pyfunction]
fn kernels() -> &'static str {
    tintin_core::kernels::name()
}

/// Order of epoch `epoch` over `n` samples as uint32 (rule N23).
#[pyfunction]
fn shuffle(py: Python<'_>, seed: u32, epoch: u32, n: u32) -> Bound<'_, numpy::PyArray1<u32>> {
    let mut order = vec![0; n as usize];
    py.detach(|| tintin_core::rng::shuffle(seed, epoch, &mut order));
    numpy::PyArray1::from_vec(py, order)
}
