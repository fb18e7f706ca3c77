//! Our data as Python's.

use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use serde::Serialize;
use serde_json::Value;

use crate::mesh::{PartitionSpec, SpecEntry};

/// A spec as a tuple that `jax.sharding.PartitionSpec(*spec)` takes: `None`, an axis, or a tuple of axes per dimension.
pub(super) fn spec<'py>(py: Python<'py>, spec: &PartitionSpec) -> PyResult<Bound<'py, PyTuple>> {
    let entry = |entry: &SpecEntry| match entry {
        SpecEntry::Unsplit => Ok(py.None().into_bound(py)),
        SpecEntry::Axis(axis) => axis.into_bound_py_any(py),
        SpecEntry::Axes(axes) => Ok(PyTuple::new(py, axes)?.into_any()),
    };
    PyTuple::new(py, spec.entries.iter().map(entry).collect::<PyResult<Vec<_>>>()?)
}

/// A record as dictionaries, lists and scalars, with the names that its JSON has.
pub(super) fn record<'py>(py: Python<'py>, record: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    match serde_json::to_value(record) {
        Ok(document) => value(py, &document),
        Err(error) => Err(pyo3::exceptions::PyValueError::new_err(error.to_string())),
    }
}

fn value<'py>(py: Python<'py>, document: &Value) -> PyResult<Bound<'py, PyAny>> {
    match document {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(flag) => flag.into_bound_py_any(py),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into_bound_py_any(py),
            (None, Some(number)) => number.into_bound_py_any(py),
            (None, None) => number.as_f64().into_bound_py_any(py),
        },
        Value::String(text) => text.into_bound_py_any(py),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| value(py, item)).collect::<PyResult<_>>()?;
            Ok(PyList::new(py, items)?.into_any())
        }
        Value::Object(entries) => {
            let dictionary = PyDict::new(py);
            for (key, entry) in entries {
                dictionary.set_item(key, value(py, entry)?)?;
            }
            Ok(dictionary.into_any())
        }
    }
}
