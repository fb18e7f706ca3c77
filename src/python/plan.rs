//! Plans: a mapping from path to planned weight, with devices, slots and findings.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use super::finding::PyFinding;
use super::load::PyLoadedWeight;
use super::resolver::Resolver;
use super::slot::PySlot;
use super::weight::PyPlannedWeight;
use super::{call, convert, load, names, run};
use crate::finding::suggest;
use crate::plan::explain::{LayerOf, Subject, explain};
use crate::plan::layers::Layers;
use crate::plan::{Plan, PlannedWeight};
use crate::policy::Policy;
use crate::quantize::run::RunOptions;
use crate::units;

/// The resolved plan of a policy over a checkpoint: a mapping from path to ``PlannedWeight``, in checkpoint order.
#[pyclass(frozen, mapping, name = "Plan", module = "flow_fabric")]
pub(super) struct PyPlan {
    shared: Arc<Shared>,
}

/// A plan and what is worked out from it once.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) policy: Arc<Policy>,
    resolver: Arc<Resolver>,
    /// Index of each weight by path.
    by_path: OnceLock<HashMap<String, usize>>,
    layers: OnceLock<Layers>,
}

/// A device of a plan's mesh.
#[pyclass(frozen, get_all, eq, name = "Device", module = "flow_fabric")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PyDevice {
    number: u64,
    coordinates: IndexMap<String, u64>,
    stored_bytes: u64,
    planned_bytes: u64,
}

impl Shared {
    pub(super) fn index(&self, path: &str) -> Option<usize> {
        let by_path = self.by_path.get_or_init(|| {
            self.plan.inventory.weights.iter().enumerate().map(|(index, weight)| (weight.path.clone(), index)).collect()
        });
        by_path.get(path).copied()
    }

    pub(super) fn weight(&self, index: usize) -> Option<PlannedWeight<'_>> {
        self.plan.weight_at(index)
    }
}

impl PyPlan {
    pub(super) fn new(policy: Arc<Policy>, resolver: Arc<Resolver>, plan: Plan) -> Self {
        let shared = Shared { plan, policy, resolver, by_path: OnceLock::new(), layers: OnceLock::new() };
        Self { shared: Arc::new(shared) }
    }

    fn at(&self, index: usize) -> PyPlannedWeight {
        PyPlannedWeight::new(Arc::clone(&self.shared), index)
    }

    /// The exception for a path that is not in the plan.
    fn absent(&self, path: &str) -> PyErr {
        let paths = self.shared.plan.inventory.weights.iter().map(|weight| weight.path.as_str());
        let help = suggest::did_you_mean(path, paths).map(|help| format!("; {help}")).unwrap_or_default();
        PyKeyError::new_err(format!("no weight `{path}`{help}"))
    }
}

#[pymethods]
impl PyPlan {
    fn __getitem__(&self, path: &str) -> PyResult<PyPlannedWeight> {
        self.shared.index(path).map(|index| self.at(index)).ok_or_else(|| self.absent(path))
    }

    fn __len__(&self) -> usize {
        self.shared.plan.decisions.len()
    }

    fn __contains__(&self, path: &Bound<'_, PyAny>) -> bool {
        path.extract::<&str>().is_ok_and(|path| self.shared.index(path).is_some())
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.keys(py)?.try_iter()?.into_any().unbind())
    }

    /// The weight at a path, or ``default``.
    #[pyo3(signature = (path, default = None))]
    fn get(&self, py: Python<'_>, path: &str, default: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        match self.shared.index(path) {
            Some(index) => Ok(Py::new(py, self.at(index))?.into_any()),
            None => Ok(default.unwrap_or_else(|| py.None())),
        }
    }

    /// The paths, in checkpoint order.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.shared.plan.inventory.weights.iter().map(|weight| weight.path.as_str()))
    }

    /// The weights, in checkpoint order.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, (0..self.__len__()).map(|index| self.at(index)))
    }

    /// Pairs of path and weight, in checkpoint order.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let weights = self.shared.plan.inventory.weights.iter().enumerate();
        PyTuple::new(py, weights.map(|(index, weight)| (weight.path.as_str(), self.at(index))))
    }

    /// Name of the policy.
    #[getter]
    fn policy(&self) -> &str {
        &self.shared.plan.policy
    }

    /// Name of the checkpoint.
    #[getter]
    fn checkpoint(&self) -> &str {
        &self.shared.plan.inventory.name
    }

    /// The characters at which paths are cut.
    #[getter]
    fn separators(&self) -> String {
        self.shared.policy.separators.chars().iter().collect()
    }

    /// Sizes of the mesh by axis, major to minor.
    #[getter]
    fn mesh(&self) -> IndexMap<String, u64> {
        self.shared.plan.mesh.axes().iter().cloned().collect()
    }

    /// Every device, by number.
    #[getter]
    fn devices(&self) -> Vec<PyDevice> {
        let plan = &self.shared.plan;
        let names = || plan.mesh.axes().iter().map(|(name, _)| name.clone());
        (0..)
            .zip(&plan.devices)
            .map(|(number, device)| PyDevice {
                number,
                coordinates: names().zip(plan.mesh.coordinates(number)).collect(),
                stored_bytes: device.stored_bytes,
                planned_bytes: device.planned_bytes,
            })
            .collect()
    }

    /// What there is to say, at the levels of ``[lints]``.
    #[getter]
    fn findings(&self) -> Vec<PyFinding> {
        PyFinding::all(&self.shared.plan.findings, &self.shared.plan.sources)
    }

    /// The counts of the plan, by name.
    #[getter]
    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::record(py, &self.shared.plan.summary)
    }

    /// Names of the slots.
    #[getter]
    fn slots(&self) -> Vec<String> {
        self.shared.plan.slots.keys().cloned().collect()
    }

    /// A slot's weights and profiles.
    fn slot(&self, name: &str) -> PyResult<PySlot> {
        let slots = &self.shared.plan.slots;
        match slots.get_index_of(name) {
            Some(index) => Ok(PySlot::new(Arc::clone(&self.shared), index)),
            None => {
                let known = slots.keys().map(String::as_str);
                let help = suggest::did_you_mean(name, known).map(|help| format!("; {help}")).unwrap_or_default();
                Err(PyKeyError::new_err(format!("no slot `{name}`{help}")))
            }
        }
    }

    /// Explains one path: the winner of each table, the losers and why, the near misses.
    fn explain(&self, path: &str) -> PyResult<String> {
        let shared = &self.shared;
        let weight = shared.index(path).and_then(|index| shared.plan.inventory.weights.get(index));
        let weight = weight.ok_or_else(|| self.absent(path))?;
        let layers = shared.layers.get_or_init(|| Layers::of_policy(&shared.policy, &shared.plan.inventory));
        let layer: &LayerOf<'_> = &|of| layers.of(path, of);
        let subject = Subject {
            path,
            shape: Some(&weight.shape),
            dtype: Some(weight.dtype),
            format: Some(weight.format.name()),
            layer: Some(layer),
        };
        let explanation = explain(&shared.policy, shared.resolver.matcher(), &subject);
        let form = format!("{} {:?}", weight.dtype, weight.shape);
        Ok(crate::cli::explanation_text(&explanation, Some(&form)))
    }

    /// Reads a device's part of the checkpoint: a dictionary from path to numpy array, or to ``QuantizedWeight`` where a
    /// weight is stored as codes. Nothing is encoded anew.
    ///
    /// ``device`` is a number or coordinates; it may be left out on a mesh of one device. ``tensors`` are paths or
    /// ``PlannedWeight``s, all when left out; what other devices own is left out. ``progress`` is called as
    /// ``progress(step, done, total)`` with bytes; ``True`` draws a bar with tqdm.
    #[pyo3(signature = (device = None, tensors = None, *, threads = None, progress = None))]
    fn load<'py>(
        slf: &Bound<'py, Self>,
        device: Option<&Bound<'py, PyAny>>,
        tensors: Option<&Bound<'py, PyAny>>,
        threads: Option<usize>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static LOAD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        // Arrays are Python's business: `_load` makes them over what `read` gives.
        LOAD.import(slf.py(), "flow_fabric._load", "load")?.call1((slf, device, tensors, threads, progress))
    }

    /// What ``load`` makes arrays of.
    #[pyo3(signature = (device, paths, threads, progress))]
    fn _read(
        &self,
        py: Python<'_>,
        device: &Bound<'_, PyAny>,
        paths: Option<BTreeSet<String>>,
        threads: Option<usize>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<PyLoadedWeight>> {
        let device = names::device(&self.shared.plan.mesh, device)?;
        load::read(py, &self.shared, device, paths, threads, progress)
    }

    /// Findings of weights that are stored otherwise than their scheme says: ``load`` gives them as they are stored.
    fn stored_otherwise(&self) -> Vec<PyFinding> {
        run::stored_otherwise(&self.shared)
    }

    /// Quantizes the checkpoint as planned into a directory, which appears whole or not at all; returns the drift report
    /// as a dictionary.
    ///
    /// A gate of the policy that is not passed raises ``GateError``, whose ``report`` says how far off it is. ``memory``
    /// is in bytes, ``threads=0`` is one for each core; ``resume`` goes on with what an earlier run left.
    #[pyo3(signature = (target, *, memory = 256 << 20, threads = 0, replace = false, resume = false, keep_going = false, shard_bytes = Some(5_000_000_000), verify = true, progress = None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of a Python method")]
    fn quantize<'py>(
        &self,
        py: Python<'py>,
        target: PathBuf,
        memory: u64,
        threads: usize,
        replace: bool,
        resume: bool,
        keep_going: bool,
        shard_bytes: Option<u64>,
        verify: bool,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options =
            RunOptions { memory, threads, replace, resume, keep_going, shard_bytes, verify, ..RunOptions::default() };
        run::quantize(py, &self.shared, target, options, progress)
    }

    /// Measures what quantizing as planned would do to the values, and writes nothing; ``sample`` takes so many weights
    /// of each template.
    #[pyo3(signature = (*, sample = None, memory = 256 << 20, threads = 0, progress = None))]
    fn drift<'py>(
        &self,
        py: Python<'py>,
        sample: Option<usize>,
        memory: u64,
        threads: usize,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = RunOptions { sample, memory, threads, ..RunOptions::default() };
        run::drift(py, &self.shared, options, progress)
    }

    /// The whole plan as the command line's ``plan --format json`` prints it.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        let shared = Arc::clone(&self.shared);
        let write = move || {
            let mut text = Vec::new();
            shared.plan.write_json(&mut text).map(|()| text)
        };
        let text = call::run(py, write)?.map_err(|error| PyValueError::new_err(error.to_string()))?;
        String::from_utf8(text).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// The plan as reviewers read it: a record per template, then the totals.
    fn snapshot(&self) -> String {
        self.shared.plan.snapshot()
    }

    fn __str__(&self) -> String {
        self.shared.plan.snapshot()
    }

    fn __repr__(&self) -> String {
        let plan = &self.shared.plan;
        let summary = &plan.summary;
        let mesh = if plan.mesh.axes().is_empty() { "one device".to_owned() } else { plan.mesh.to_string() };
        format!(
            "<Plan {} over {} on {mesh}: {} weights, {} stored, {} planned; {} split, {} quantized>",
            plan.policy,
            plan.inventory.name,
            summary.weights,
            units::bytes(summary.stored_bytes),
            units::bytes(summary.planned_bytes),
            summary.sharded,
            summary.quantized,
        )
    }
}

#[pymethods]
impl PyDevice {
    fn __repr__(&self) -> String {
        let at: Vec<String> = self.coordinates.iter().map(|(axis, at)| format!("{axis}={at}")).collect();
        let (stored, planned) = (units::bytes(self.stored_bytes), units::bytes(self.planned_bytes));
        format!("<Device {} ({}): {stored} stored, {planned} planned>", self.number, at.join(", "))
    }
}
