//! Loading a device's part of a checkpoint.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::buffer::PyBuffer;
use super::error::{self, Kind};
use super::form::PyForm;
use super::plan::Shared;
use super::{log, progress};
use crate::finding::Finding;
use crate::inventory::Role;
use crate::load::{LoadError, LoadOptions, LoadReport, Loaded, Loader, ReadPlan, Target};
use crate::manifest::{self, Manifest};
use crate::policy::Verify;
use crate::progress::Progress;
#[cfg(unix)]
use crate::stage::SharedMemory;
use crate::units;

/// What a device holds of one stored tensor.
#[pyclass(frozen, get_all, name = "LoadedTensor", module = "flow_fabric")]
pub(super) struct PyLoadedTensor {
    /// Its name in the checkpoint.
    name: String,
    /// What it is to its weight: ``weight``, ``scales``, ...
    role: String,
    /// Element type.
    dtype: &'static str,
    /// Elements and bytes of the smallest unit that fills whole bytes.
    block: (u64, u64),
    /// Dimensions on the device, padding included.
    shape: Py<PyTuple>,
    /// Its bytes.
    buffer: Py<PyBuffer>,
}

/// What a device holds of one weight.
#[pyclass(frozen, get_all, name = "LoadedWeight", module = "flow_fabric")]
pub(super) struct PyLoadedWeight {
    /// Its path.
    path: String,
    /// How its tensors make it up.
    form: PyForm,
    /// Its tensors, codes first.
    tensors: Vec<Py<PyLoadedTensor>>,
}

/// Reads the weights at `wanted`, all when there are none given, that the device holds a part of.
pub(super) fn read(
    py: Python<'_>,
    shared: &Arc<Shared>,
    device: u64,
    wanted: Option<BTreeSet<String>>,
    threads: Option<usize>,
    callback: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<PyLoadedWeight>> {
    let planned = Arc::clone(shared);
    let work = move |progress: &dyn Progress| -> Result<Read, Failed> {
        let mut plan = ReadPlan::new(&planned.plan, device).map_err(|error| Failed::Plan(error.to_string()))?;
        if let Some(wanted) = wanted {
            plan.targets.retain(|target| wanted.contains(&target.weight));
        }
        let mut options = LoadOptions::from(&planned.policy.loader);
        options.threads = threads.unwrap_or(options.threads);
        let manifest = manifest(&planned, &plan).map_err(Failed::Finding)?;
        let loader = Loader::open(&plan, options).and_then(|loader| loader.verified_by(manifest.as_ref()));
        let (mut loader, findings) =
            loader.and_then(|loader| staged(loader, &planned, progress)).map_err(Failed::Load)?;
        let loaded = loader.load(progress).map_err(Failed::Load)?;
        let report = loader.report();
        drop(loader);
        Ok(Read { plan, loaded, report, findings })
    };
    let read = progress::run(py, callback, work)?.map_err(|failed| failed.raise(py, shared))?;
    let Read { plan, mut loaded, report, findings } = read;
    log::findings(py, &findings, &shared.plan.sources)?;
    log::say(py, log::INFO, || {
        let wanted = units::bytes(report.traffic.wanted);
        format!("loaded device {device} of {}: {wanted} in {:.3} s", shared.plan.policy, report.elapsed.as_secs_f64())
    })?;
    let mut weights: indexmap::IndexMap<&str, Vec<&Target>> = indexmap::IndexMap::new();
    for target in &plan.targets {
        weights.entry(&target.weight).or_default().push(target);
    }
    weights
        .into_iter()
        .map(|(path, mut targets)| {
            // The codes first, then by role: the order of files is not that of components.
            targets.sort_by_key(|target| (target.role != Role::Weight, target.role.clone()));
            weight(py, shared, &plan, path, &targets, &mut loaded)
        })
        .collect()
}

fn weight(
    py: Python<'_>,
    shared: &Shared,
    plan: &ReadPlan,
    path: &str,
    targets: &[&Target],
    loaded: &mut Loaded,
) -> PyResult<PyLoadedWeight> {
    let planned = shared.index(path).and_then(|index| shared.weight(index));
    let planned =
        planned.ok_or_else(|| error::raise(py, Kind::Internal, "a weight that is not planned", Vec::new()))?;
    let mesh = &shared.plan.mesh;
    let shape = planned.class().cuts.local_shape(&planned.weight.shape, mesh, &plan.coordinates);
    let tensor = |target: &&Target| -> PyResult<Py<PyLoadedTensor>> {
        let bytes = loaded.tensors.swap_remove(&target.name).map(|tensor| tensor.bytes).unwrap_or_default();
        let tensor = PyLoadedTensor {
            name: target.name.clone(),
            role: target.role.name().to_owned(),
            dtype: target.dtype.name(),
            block: target.dtype.block(),
            shape: PyTuple::new(py, &target.shape)?.unbind(),
            buffer: Py::new(py, PyBuffer::new(bytes))?,
        };
        Py::new(py, tensor)
    };
    Ok(PyLoadedWeight {
        path: path.to_owned(),
        form: PyForm::part(planned.weight, shape, targets),
        tensors: targets.iter().map(tensor).collect::<PyResult<_>>()?,
    })
}

/// What was read, and what there is to say of staging.
struct Read {
    plan: ReadPlan,
    loaded: Loaded,
    report: LoadReport,
    findings: Vec<Finding>,
}

/// The manifest beside the checkpoint, where a rule asks for verification.
fn manifest(shared: &Shared, plan: &ReadPlan) -> Result<Option<Manifest>, Box<Finding>> {
    if plan.targets.iter().all(|target| target.load.verify == Verify::None) {
        return Ok(None);
    }
    Manifest::read(&manifest::beside(Path::new(&*shared.plan.inventory.name)))
}

/// Stages the files whose rules want it, where there is shared memory.
#[cfg(unix)]
fn staged<'a>(
    loader: Loader<'a>,
    shared: &Shared,
    progress: &dyn Progress,
) -> Result<(Loader<'a>, Vec<Finding>), LoadError> {
    let memory = SharedMemory::of_this_user().with_budget(shared.policy.loader.stage_budget);
    loader.staged_in(&memory, progress)
}

#[cfg(not(unix))]
fn staged<'a>(loader: Loader<'a>, _: &Shared, _: &dyn Progress) -> Result<(Loader<'a>, Vec<Finding>), LoadError> {
    Ok((loader, Vec::new()))
}

/// Why nothing was loaded.
enum Failed {
    Plan(String),
    Finding(Box<Finding>),
    Load(LoadError),
}

impl Failed {
    fn raise(self, py: Python<'_>, shared: &Shared) -> PyErr {
        let error = match self {
            Self::Plan(message) => return error::raise(py, Kind::Load, &message, Vec::new()),
            Self::Finding(finding) => {
                return error::of_findings(py, Kind::Load, &[*finding], &shared.plan.sources);
            }
            Self::Load(error) => error,
        };
        match error.finding() {
            Some(finding) => error::of_findings(py, Kind::Load, &[finding], &shared.plan.sources),
            None => error::raise(py, Kind::Load, &error.to_string(), Vec::new()),
        }
    }
}

#[pymethods]
impl PyLoadedTensor {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<LoadedTensor {}: {} {} {}>", self.name, self.role, self.dtype, self.shape.bind(py))
    }
}

#[pymethods]
impl PyLoadedWeight {
    fn __repr__(&self) -> String {
        format!("<LoadedWeight {}: {} tensors>", self.path, self.tensors.len())
    }
}
