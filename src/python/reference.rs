//! Samplers and mixture-of-experts layers of a policy, run on arrays of Python's.

use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;

use super::buffer::PyBuffer;
use super::{call, convert, names};
use crate::Dtype;
use crate::array::Array;
use crate::finding::suggest;
use crate::moe::{Evaluation, Evaluator, Input, MemoryWeights, MoeLayer};
use crate::policy::Policy;
use crate::sample::{ConfigIssue, LogitTable, ReportOptions, Sampler};
use crate::storage::AlignedBuffer;

/// An array as `_run.py` gives it: dtype, shape, bytes.
pub(super) type Given<'py> = (Bound<'py, PyAny>, Vec<usize>, PyBackedBytes);

fn array(given: &Given<'_>) -> PyResult<Array> {
    let (dtype, shape, bytes) = given;
    let dtype = names::dtype(dtype)?;
    Array::new(dtype, shape.clone(), bytes.to_vec())
        .ok_or_else(|| PyValueError::new_err(format!("{} bytes are no {dtype} array of {shape:?}", bytes.len())))
}

/// Why a profile does not compile; a policy with such a profile is refused, so this is never seen.
fn issues(issues: &[ConfigIssue]) -> PyErr {
    PyValueError::new_err(issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn absent<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> PyErr {
    let help =
        suggest::help_for(name, known, "the policy declares").map(|help| format!("; {help}")).unwrap_or_default();
    PyKeyError::new_err(format!("the policy has no {what} `{name}`{help}"))
}

/// Draws tokens: the report that `flow-fabric sample --format json` prints.
pub(super) fn sample<'py>(
    py: Python<'py>,
    policy: &Policy,
    name: &str,
    logits: &Given<'py>,
    mut options: ReportOptions,
) -> PyResult<Bound<'py, PyAny>> {
    let config =
        policy.samplers.get(name).ok_or_else(|| absent("sampler", name, policy.samplers.keys().map(String::as_str)))?;
    let (sampler, _) = Sampler::compile(config).map_err(|found| issues(&found))?;
    let table = LogitTable::new(&array(logits)?).map_err(|error| PyValueError::new_err(error.to_string()))?;
    if options.rows.is_empty() {
        options.rows = (0..table.rows()).collect();
    }
    if let Some(beyond) = options.rows.iter().find(|row| **row >= table.rows()) {
        return Err(PyValueError::new_err(format!("there is no row {beyond}: rows go from 0 to {}", table.rows() - 1)));
    }
    for lists in [&options.prompt, &options.output] {
        if lists.len() > 1 && lists.len() != table.rows() {
            let message = format!("{} lists of tokens for {} rows", lists.len(), table.rows());
            return Err(PyValueError::new_err(message));
        }
    }
    let report = call::run(py, move || sampler.report(&table, &options))?;
    convert::record(py, &report)
}

/// What a layer is evaluated with.
pub(super) struct Layer<'a, 'py> {
    pub(super) name: &'a str,
    pub(super) weights: Vec<(String, Given<'py>)>,
    pub(super) input: &'a Given<'py>,
    pub(super) evaluator: &'a str,
    pub(super) stages: bool,
}

/// Evaluates a layer: a dictionary from name to dtype, shape and buffer.
pub(super) fn moe<'py>(py: Python<'py>, policy: &Policy, asked: Layer<'_, 'py>) -> PyResult<Bound<'py, PyDict>> {
    let Layer { name, weights, input, evaluator, stages } = asked;
    let config = policy.moes.get(name).ok_or_else(|| absent("layer", name, policy.moes.keys().map(String::as_str)))?;
    let layer = MoeLayer::compile(config).map_err(|found| issues(&found))?;
    let evaluator = match evaluator {
        "exact" => Evaluator::Exact,
        "rounded" => Evaluator::Rounded,
        other => {
            return Err(PyValueError::new_err(format!("`{other}` is no evaluator: there are `exact` and `rounded`")));
        }
    };
    let mut memory = MemoryWeights::default();
    for (name, given) in &weights {
        let array = array(given)?;
        let values = array.to_f32().ok_or_else(|| {
            PyValueError::new_err(format!("weight `{name}` is {}: f32, f16 and bf16 are exact", array.dtype()))
        })?;
        memory
            .insert(name, array.shape().to_vec(), values)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
    }
    let input = array(input)?;
    let hidden = input.shape().last().copied().unwrap_or(0);
    let work = move || {
        let values = input.to_f64().unwrap_or_default();
        let input = Input { values: &values, hidden, dtype: input.dtype() };
        let evaluation = layer.evaluate(&memory, &input, evaluator, stages);
        evaluation.map_err(|error| error.to_string())
    };
    let evaluation = call::run(py, work)?.map_err(PyValueError::new_err)?;
    results(py, &evaluation)
}

fn results<'py>(py: Python<'py>, evaluation: &Evaluation) -> PyResult<Bound<'py, PyDict>> {
    let Evaluation { tokens, hidden, inner, routing, stages, output, dtype, .. } = evaluation;
    let (tokens, hidden, inner) = (*tokens, *hidden, *inner);
    let top_k = routing.ids.len() / tokens.max(1);
    let experts = routing.logits.len() / tokens.max(1);
    let ids: Vec<f64> = routing.ids.iter().map(|&id| f64::from(id)).collect();
    let mut all: Vec<(&str, Dtype, Vec<usize>, &[f64])> = vec![
        ("output", *dtype, vec![tokens, hidden], output),
        ("ids", Dtype::U32, vec![tokens, top_k], &ids),
        ("weights", Dtype::F64, vec![tokens, top_k], &routing.weights),
        ("probabilities", Dtype::F64, vec![tokens, experts], &routing.probabilities),
        ("gaps", Dtype::F64, vec![tokens], &routing.gaps),
    ];
    if let Some(stages) = stages {
        all.extend([
            ("gate", Dtype::F64, vec![tokens, top_k, inner], stages.gate.as_slice()),
            ("up", Dtype::F64, vec![tokens, top_k, inner], &stages.up),
            ("hidden", Dtype::F64, vec![tokens, top_k, inner], &stages.hidden),
            ("expert_output", Dtype::F64, vec![tokens, top_k, hidden], &stages.expert_output),
        ]);
        if !stages.shared_output.is_empty() {
            all.push(("shared_output", Dtype::F64, vec![tokens, hidden], &stages.shared_output));
        }
    }
    let results = PyDict::new(py);
    for (name, dtype, shape, values) in all {
        let array = Array::from_f64(dtype, shape.clone(), values)
            .ok_or_else(|| PyValueError::new_err(format!("`{name}` cannot be given as {dtype}")))?;
        let buffer = PyBuffer::new(AlignedBuffer::copy_of(array.bytes()));
        results.set_item(name, (dtype.name(), shape, Py::new(py, buffer)?))?;
    }
    Ok(results)
}
