//! Core errors as `ValueError`s with the core's own words.

use pyo3::PyErr;
use pyo3::exceptions::PyValueError;
use tintin_core::error::{FileError, PlanError};

pub fn plan(error: PlanError) -> PyErr {
    PyValueError::new_err(error.message().as_str().to_owned())
}

pub fn file(error: FileError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub fn value(message: impl Into<String>) -> PyErr {
    PyValueError::new_err(message.into())
}
