//! Policies.

#![expect(clippy::needless_pass_by_value, reason = "arguments are made from Python's, and given by value")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};

use super::finding::PyFinding;
use super::plan::PyPlan;
use super::reference::{self, Given as Array};
use super::resolution::PyResolution;
use super::resolver::Resolver;
use super::{call, error, log, names};
use crate::analysis;
use crate::finding::{Code, Finding, Severity, echo, levels, worst};
use crate::inventory::Checkpoint;
use crate::mesh::Mesh;
use crate::plan::explain::{Subject, explain};
use crate::plan::when::Facts;
use crate::plan::{Plan, PlanError, PlanOptions};
use crate::policy::{LoadOptions, Policy};
use crate::sample::ReportOptions;

/// A typed, validated policy: rules that decide how each weight is sharded, quantized and loaded.
#[pyclass(frozen, name = "Policy", module = "flow_fabric")]
pub(super) struct PyPolicy {
    policy: Arc<Policy>,
    resolver: Arc<Resolver>,
    file: String,
}

/// A checkpoint to plan over.
enum Given {
    Path(PathBuf),
    /// A JSONL list of names, dtypes and shapes.
    List(Vec<u8>),
}

/// Why there is no plan.
enum Failed {
    Open(PathBuf, crate::inventory::OpenError),
    List(std::io::Error),
    Plan(PlanError),
}

impl Given {
    fn new(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(arrays) = value.cast::<PyMapping>() {
            return list(arrays).map(Self::List);
        }
        match value.extract::<PathBuf>() {
            Ok(path) => Ok(Self::Path(path)),
            Err(_) => Err(PyTypeError::new_err(format!(
                "a checkpoint is a path or a mapping of arrays, not `{}`",
                value.get_type().name()?
            ))),
        }
    }

    fn open(self) -> Result<(Checkpoint, Vec<Finding>), Failed> {
        match self {
            Self::Path(path) => Checkpoint::open(&path).map_err(|error| Failed::Open(path, error)),
            Self::List(list) => Checkpoint::from_list(list.as_slice(), "arrays").map_err(Failed::List),
        }
    }
}

/// Arrays by path, as a list: anything with a `shape` and a `dtype`.
fn list(arrays: &Bound<'_, PyMapping>) -> PyResult<Vec<u8>> {
    let mut list = Vec::new();
    for item in arrays.items()?.iter() {
        let (path, array) = item.extract::<(String, Bound<'_, PyAny>)>()?;
        let shape: Vec<u64> = array.getattr("shape")?.extract()?;
        let dtype = names::dtype(&array.getattr("dtype")?)?;
        let line = serde_json::json!({ "name": path, "dtype": dtype, "shape": shape });
        list.extend_from_slice(line.to_string().as_bytes());
        list.push(b'\n');
    }
    Ok(list)
}

impl Failed {
    fn raise(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Open(path, error) => error::not_opened(py, &path, error),
            Self::List(error) => PyValueError::new_err(error.to_string()),
            Self::Plan(error) => error::raise(py, error::Kind::Plan, &error.to_string(), Vec::new()),
        }
    }
}

/// Opens, groups and plans; the second value is what is found besides what the policy alone gives.
fn plan_over(policy: &Policy, given: Given, mesh: Option<Mesh>) -> Result<(Plan, Vec<Finding>), Failed> {
    let (checkpoint, mut found) = given.open()?;
    let (inventory, grouped) = policy.group(&checkpoint);
    let mut plan = Plan::new(policy, inventory, &PlanOptions { mesh }).map_err(Failed::Plan)?;
    let mut planned = std::mem::take(&mut plan.findings);
    let own = policy.findings();
    planned.retain(|finding| !own.contains(finding));
    found.extend(grouped);
    echo::drop_empty(&found, &mut planned);
    found.extend(planned);
    Ok((plan, found))
}

impl PyPolicy {
    fn new(py: Python<'_>, policy: Policy, file: String) -> PyResult<Self> {
        let policy = Arc::new(policy);
        let compiled = Arc::clone(&policy);
        match call::run(py, move || compiled.compile().map(Resolver::new))? {
            Ok(resolver) => Ok(Self { policy, resolver: Arc::new(resolver), file }),
            Err(error) => Err(error::raise(py, error::Kind::Policy, &error.to_string(), Vec::new())),
        }
    }

    fn mesh_of(&self, mesh: Option<&Bound<'_, PyMapping>>) -> PyResult<Option<Mesh>> {
        mesh.map(|sizes| names::mesh(&self.policy, sizes)).transpose()
    }

    /// A path given as such, or as tokens.
    fn path(&self, path: &Bound<'_, PyAny>) -> PyResult<String> {
        if let Ok(path) = path.cast::<PyString>() {
            return Ok(path.to_str()?.to_owned());
        }
        let Ok(tokens) = path.extract::<Vec<String>>() else {
            let message = format!("a path is a string or a list of tokens, not `{}`", path.get_type().name()?);
            return Err(PyTypeError::new_err(message));
        };
        Ok(tokens.join(self.policy.separators.joiner().encode_utf8(&mut [0; 4])))
    }
}

#[pymethods]
impl PyPolicy {
    /// Loads a policy file and all that it extends.
    ///
    /// ``allow_outside`` lets ``extends`` leave the policy's directory.
    #[staticmethod]
    #[pyo3(signature = (path, *, allow_outside = false))]
    fn load(py: Python<'_>, path: PathBuf, allow_outside: bool) -> PyResult<Self> {
        let read = path.clone();
        let load = move || {
            let options = LoadOptions { allow_outside, ..LoadOptions::default() };
            Policy::load_with(&read, options)
        };
        match call::run(py, load)? {
            Ok(policy) => Self::new(py, policy, path.display().to_string()),
            Err(failed) => Err(error::not_loaded(py, &path, failed)),
        }
    }

    /// Reads a policy from text; ``name`` is what findings call it, and what ``extends`` is relative to.
    #[staticmethod]
    #[pyo3(signature = (text, *, name = "policy.toml".to_owned()))]
    fn loads(py: Python<'_>, text: String, name: String) -> PyResult<Self> {
        let called = name.clone();
        match call::run(py, move || Policy::parse(&called, &text))? {
            Ok(policy) => Self::new(py, policy, name),
            Err(refused) => Err(error::rejected(py, &refused)),
        }
    }

    /// The policy's name.
    #[getter]
    fn name(&self) -> &str {
        &self.policy.name.value
    }

    /// Its files, the root first.
    #[getter]
    fn files(&self) -> Vec<String> {
        self.policy.files().iter().map(|file| file.name.clone()).collect()
    }

    /// Sizes of the declared mesh by axis, major to minor; empty when none is declared.
    #[getter]
    fn mesh(&self) -> indexmap::IndexMap<String, u64> {
        let mesh = self.policy.mesh.as_ref().map(|declared| declared.mesh.axes());
        mesh.unwrap_or_default().iter().cloned().collect()
    }

    /// Names of the slots.
    #[getter]
    fn slots(&self) -> Vec<String> {
        self.policy.slots.keys().cloned().collect()
    }

    /// Everything that can be said about the policy, and over a checkpoint if one is given; levels as in ``[lints]``.
    #[pyo3(signature = (checkpoint = None, *, mesh = None))]
    fn check(
        &self,
        py: Python<'_>,
        checkpoint: Option<&Bound<'_, PyAny>>,
        mesh: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Vec<PyFinding>> {
        let (policy, mesh) = (Arc::clone(&self.policy), self.mesh_of(mesh)?);
        let given = checkpoint.map(Given::new).transpose()?;
        let over = given.is_some();
        let check = move || -> Result<Vec<Finding>, Failed> {
            let mut findings = policy.findings().to_vec();
            findings.extend(policy.analyse(&analysis::Options::default()));
            if let Some(given) = given {
                findings.extend(plan_over(&policy, given, mesh)?.1);
            }
            let findings = echo::without_echoes(findings);
            let looked_for = |code: &Code| over || !(code.id.starts_with("FF4") || code.id.starts_with("FF5"));
            Ok(levels::settle(&policy.lints, findings, looked_for))
        };
        let findings = call::run(py, check)?.map_err(|failed| failed.raise(py))?;
        Ok(PyFinding::all(&findings, self.policy.sources()))
    }

    /// Decides one path, given as a string or as tokens, with what is known of its weight.
    #[pyo3(signature = (path, shape = None, dtype = None, format = None))]
    fn resolve(
        &self,
        path: &Bound<'_, PyAny>,
        shape: Option<Vec<u64>>,
        dtype: Option<&Bound<'_, PyAny>>,
        format: Option<&str>,
    ) -> PyResult<PyResolution> {
        let path = self.path(path)?;
        let dtype = dtype.map(names::dtype).transpose()?;
        let facts = Facts { shape: shape.as_deref(), dtype, format, layers_known: false };
        let resolution = self.resolver.resolve(&self.policy, &path, &facts)?;
        Ok(PyResolution { policy: Arc::clone(&self.policy), path, resolution })
    }

    /// Explains one path: the winner of each table, the losers and why, the near misses.
    #[pyo3(signature = (path, shape = None, dtype = None, format = None))]
    fn explain(
        &self,
        path: &Bound<'_, PyAny>,
        shape: Option<Vec<u64>>,
        dtype: Option<&Bound<'_, PyAny>>,
        format: Option<&str>,
    ) -> PyResult<String> {
        let path = self.path(path)?;
        let dtype = dtype.map(names::dtype).transpose()?;
        let subject = Subject { path: &path, shape: shape.as_deref(), dtype, format, layer: None };
        let explanation = explain(&self.policy, self.resolver.matcher(), &subject);
        Ok(crate::cli::explanation_text(&explanation, None))
    }

    /// What ``flow_fabric.sample`` is written on: ``sample --format json`` of the command line.
    #[pyo3(signature = (name, logits, *, rows, seed, slot, position, prompt, history, top, trace, token))]
    #[expect(clippy::too_many_arguments, reason = "keywords of a Python method")]
    fn _sample<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        logits: Array<'py>,
        rows: Vec<usize>,
        seed: Option<u64>,
        slot: Option<u64>,
        position: Option<u64>,
        prompt: Vec<Vec<u32>>,
        history: Vec<Vec<u32>>,
        top: usize,
        trace: bool,
        token: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options =
            ReportOptions { rows, seed, slot, position, prompt, output: history, top, trace: trace.then_some(token) };
        reference::sample(py, &self.policy, name, &logits, options)
    }

    /// What ``flow_fabric.moe_reference`` is written on.
    #[pyo3(signature = (name, weights, input, *, evaluator, stages))]
    fn _moe<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        weights: Vec<(String, Array<'py>)>,
        input: Array<'py>,
        evaluator: &str,
        stages: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let layer = reference::Layer { name, weights, input: &input, evaluator, stages };
        reference::moe(py, &self.policy, layer)
    }

    /// Resolves every weight of a checkpoint: a path, or a mapping from path to anything with a ``shape`` and a ``dtype``.
    ///
    /// Only headers are read.
    /// ``mesh`` gives axes other sizes than the policy. With ``strict``, findings of severity error are raised.
    #[pyo3(signature = (checkpoint, *, mesh = None, strict = true))]
    fn plan(
        &self,
        py: Python<'_>,
        checkpoint: &Bound<'_, PyAny>,
        mesh: Option<&Bound<'_, PyMapping>>,
        strict: bool,
    ) -> PyResult<PyPlan> {
        let (policy, mesh) = (Arc::clone(&self.policy), self.mesh_of(mesh)?);
        let given = Given::new(checkpoint)?;
        let resolve = move || -> Result<Plan, Failed> {
            let (mut plan, mut findings) = plan_over(&policy, given, mesh)?;
            findings.extend(policy.findings().iter().cloned());
            // Only static analysis knows about order and reach.
            plan.findings = levels::settle(&policy.lints, findings, |code| !code.id.starts_with("FF3"));
            Ok(plan)
        };
        let plan = call::run(py, resolve)?.map_err(|failed| failed.raise(py))?;
        if strict && worst(&plan.findings) == Some(Severity::Error) {
            return Err(error::of_findings(py, error::Kind::Plan, &plan.findings, &plan.sources));
        }
        log::planned(py, &plan)?;
        Ok(PyPlan::new(Arc::clone(&self.policy), Arc::clone(&self.resolver), plan))
    }

    fn __repr__(&self) -> String {
        let rules = self.policy.files().iter().map(|file| file.rules).sum();
        let rules = crate::units::counted(rules, "rule");
        let mesh = self.policy.mesh.as_ref().map(|declared| format!(" on {}", declared.mesh)).unwrap_or_default();
        format!("<Policy {} from {}: {rules}{mesh}>", self.policy.name, Path::new(&self.file).display())
    }
}
