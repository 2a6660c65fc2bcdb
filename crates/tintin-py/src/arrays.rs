//! numpy arrays to slices of mantissas, with messages that say what was given and what is expected.

use std::mem;
use std::ops::Range;

use numpy::{PyReadonlyArray1, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use tintin_core::cut::{Share, items, over};
use tintin_core::loss::Target;

use crate::error::value;

/// Samples as they lie in the caller's array; copied batch by batch.
pub enum Samples<'py> {
    /// Pixels 0..255; mantissa = value / 2 (N10).
    Pixels(PyReadonlyArrayDyn<'py, u8>),
    /// Mantissas.
    Mantissas(PyReadonlyArrayDyn<'py, i8>),
}

impl<'py> Samples<'py> {
    /// Takes a C-contiguous uint8 or int8 array of (n, …) with `len` values per sample.
    pub fn new(x: &Bound<'py, PyAny>, len: usize) -> PyResult<Self> {
        let samples = if let Ok(x) = x.extract::<PyReadonlyArrayDyn<'py, u8>>() {
            Self::Pixels(x)
        } else if let Ok(x) = x.extract::<PyReadonlyArrayDyn<'py, i8>>() {
            Self::Mantissas(x)
        } else {
            return Err(value(format!("samples must be a uint8 or int8 array, got {}", describe(x))));
        };
        let shape = match &samples {
            Self::Pixels(x) => x.shape().to_vec(),
            Self::Mantissas(x) => x.shape().to_vec(),
        };
        let each: usize = shape.iter().skip(1).product();
        if shape.is_empty() || each != len {
            return Err(value(format!("samples of {len} values expected, got an array of shape {shape:?}")));
        }
        samples.check_contiguous()?;
        Ok(samples)
    }

    fn check_contiguous(&self) -> PyResult<()> {
        // `as_slice` alone would take Fortran's order too
        let contiguous = match self {
            Self::Pixels(x) => x.is_c_contiguous(),
            Self::Mantissas(x) => x.is_c_contiguous(),
        };
        if contiguous {
            Ok(())
        } else {
            Err(value("samples must be C-contiguous: numpy.ascontiguousarray makes them so"))
        }
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        match self {
            Self::Pixels(x) => x.shape()[0],
            Self::Mantissas(x) => x.shape()[0],
        }
    }

    /// Writes sample `i` as mantissas (N10). `i` is below `count`.
    pub fn copy(&self, i: usize, out: &mut [i8]) {
        self.values().copy(i, out);
    }

    /// The values themselves, for threads that have no interpreter.
    pub fn values(&self) -> Values<'_> {
        match self {
            Self::Pixels(x) => Values::Pixels(x.as_slice().unwrap_or(&[])),
            Self::Mantissas(x) => Values::Mantissas(x.as_slice().unwrap_or(&[])),
        }
    }
}

/// Least bytes that a thread copies.
const LEAST_COPIED: usize = 1 << 16;

/// Values of all samples.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    Pixels(&'a [u8]),
    Mantissas(&'a [i8]),
}

impl Values<'_> {
    /// See [`Samples::copy`].
    fn copy(self, i: usize, out: &mut [i8]) {
        let at = i.saturating_mul(out.len());
        match self {
            Self::Pixels(x) => {
                for (out, &x) in out.iter_mut().zip(x.get(at..).unwrap_or(&[])) {
                    *out = (x >> 1).cast_signed();
                }
            }
            Self::Mantissas(x) => {
                for (out, &x) in out.iter_mut().zip(x.get(at..).unwrap_or(&[])) {
                    *out = x.max(-127);
                }
            }
        }
    }
}

fn describe(x: &Bound<'_, PyAny>) -> String {
    match x.cast::<PyUntypedArray>() {
        Ok(array) => format!("{} of shape {:?}", array.dtype(), array.shape()),
        Err(_) => x.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string()),
    }
}

/// Labels or values, one entry per sample.
pub enum Targets<'py> {
    Labels(PyReadonlyArray1<'py, u16>),
    Values(PyReadonlyArrayDyn<'py, i8>, i16),
}

impl<'py> Targets<'py> {
    /// uint16 labels below `outputs`, or int8 values of (n, outputs) with an exponent.
    pub fn new(y: &Bound<'py, PyAny>, exponent: Option<i16>, count: usize, outputs: usize) -> PyResult<Self> {
        if let Some(exponent) = exponent {
            let y: PyReadonlyArrayDyn<'py, i8> = y.extract().map_err(|_| {
                value(format!("targets must be int8 of shape ({count}, {outputs}), got {}", describe(y)))
            })?;
            let each: usize = y.shape().iter().skip(1).product();
            if y.shape().first() != Some(&count) || each != outputs || !y.is_c_contiguous() {
                let shape = y.shape().to_vec();
                return Err(value(format!(
                    "targets must be C-contiguous and of shape ({count}, {outputs}), got {shape:?}"
                )));
            }
            return Ok(Self::Values(y, exponent));
        }
        let y: PyReadonlyArray1<'py, u16> = y
            .extract()
            .map_err(|_| value(format!("labels must be uint16 of shape ({count},), got {}", describe(y))))?;
        let labels = y.as_slice().map_err(|_| value("labels must be C-contiguous"))?;
        if labels.len() != count {
            return Err(value(format!("{count} samples but {} labels", labels.len())));
        }
        if let Some(label) = labels.iter().find(|label| usize::from(**label) >= outputs) {
            return Err(value(format!("label {label} out of range: the net has {outputs} outputs, 0 the first")));
        }
        Ok(Self::Labels(y))
    }

    /// Target `i`, appended to the copies.
    fn push(&self, i: usize, outputs: usize, copies: &mut Copies) {
        match self {
            Self::Labels(y) => copies.labels.extend(y.as_slice().ok().and_then(|y| y.get(i))),
            Self::Values(y, exponent) => {
                copies.exponent = *exponent;
                if let Some(y) = y.as_slice().ok().and_then(|y| y.chunks_exact(outputs).nth(i)) {
                    copies.values.extend(y.iter().map(|v| (*v).max(-127)));
                }
            }
        }
    }
}

/// Copies of some samples and their targets, so that the interpreter is free while the engine works on them.
#[derive(Default)]
pub struct Copies {
    pub x: Vec<i8>,
    labels: Vec<u16>,
    values: Vec<i8>,
    exponent: i16,
}

impl Copies {
    /// Takes `count` samples in place of those before, `number` says which; on so many threads of the pool that this one belongs to.
    pub fn take(
        &mut self,
        values: Values<'_>,
        inputs: usize,
        count: usize,
        number: impl Fn(usize) -> usize + Sync,
        threads: usize,
    ) {
        let len = count.saturating_mul(inputs);
        self.x.resize(len, 0);
        let part = |(range, x): (Range<usize>, Share<&mut [i8]>)| {
            for (i, x) in range.zip(x.slice.chunks_exact_mut(inputs)) {
                values.copy(number(i), x);
            }
            0
        };
        let parts = (len / LEAST_COPIED).min(threads).min(count);
        over((0..count, items(&mut self.x[..], inputs)), count, parts, &part);
    }

    /// Takes the targets of the samples `order` in place of those before.
    pub fn take_targets(&mut self, targets: &Targets<'_>, outputs: usize, order: impl Iterator<Item = usize>) {
        self.labels.clear();
        self.values.clear();
        order.for_each(|i| targets.push(i, outputs, self));
    }

    /// The target of the sample that was taken as number `i`, if targets were taken; `outputs` are values a sample.
    pub fn target(&self, i: usize, outputs: usize) -> Option<Target<'_>> {
        let label = self.labels.chunks(1).nth(i).map(Target::Labels);
        let values = || self.values.chunks_exact(outputs.max(1)).nth(i);
        label.or_else(|| values().map(|values| Target::Values(values, self.exponent)))
    }

    /// Inputs and targets of batches, of which `ends` has the ends, ascending from the first sample on; `inputs` and `outputs` are values a
    /// sample.
    pub fn batches(
        &self,
        ends: impl Iterator<Item = usize>,
        inputs: usize,
        outputs: usize,
    ) -> impl Iterator<Item = (&[i8], Target<'_>)> {
        let mut start = 0;
        let of = |range: &Range<usize>, each: usize| range.start.saturating_mul(each)..range.end.saturating_mul(each);
        ends.map(move |end| {
            let range = mem::replace(&mut start, end)..end;
            let target = match self.labels.get(range.clone()) {
                Some(labels) => Target::Labels(labels),
                None => Target::Values(&self.values[of(&range, outputs)], self.exponent),
            };
            (&self.x[of(&range, inputs)], target)
        })
    }
}
