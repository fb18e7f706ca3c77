//! Failures as the exceptions of `flow_fabric.errors`, each with the rendered findings as its text.

use std::path::Path;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::finding::PyFinding;
use crate::finding::render::{Format, Options, render};
use crate::finding::{Finding, Severity};
use crate::inventory::OpenError;
use crate::policy::{LoadError, Rejected};
use crate::source::Sources;

/// An exception class of `flow_fabric.errors`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Policy,
    Checkpoint,
    Plan,
    Undecided,
    Load,
    Quantize,
    Gate,
    Internal,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Policy => "PolicyError",
            Kind::Checkpoint => "CheckpointError",
            Kind::Plan => "PlanError",
            Kind::Undecided => "UndecidedError",
            Kind::Load => "LoadError",
            Kind::Quantize => "QuantizeError",
            Kind::Gate => "GateError",
            Kind::Internal => "InternalError",
        }
    }
}

/// Makes an exception; `findings` are what it is about.
pub(super) fn raise(py: Python<'_>, kind: Kind, message: &str, findings: Vec<PyFinding>) -> PyErr {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let build = || -> PyResult<PyErr> {
        let module = MODULE.get_or_try_init(py, || PyModule::import(py, "flow_fabric.errors").map(Bound::unbind))?;
        let class = module.bind(py).getattr(kind.name())?.cast_into::<PyType>()?;
        Ok(PyErr::from_value(class.call1((message, findings))?))
    };
    build().unwrap_or_else(|error| error)
}

/// The exception for work that panicked.
pub(super) fn internal(py: Python<'_>) -> PyErr {
    let message = "this is a bug in flow-fabric; its details are on standard error";
    raise(py, Kind::Internal, message, Vec::new())
}

/// An exception whose text is the rendered findings; warnings and infos are left to its `findings`.
pub(super) fn of_findings(py: Python<'_>, kind: Kind, findings: &[Finding], sources: &Sources) -> PyErr {
    let errors: Vec<Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).cloned().collect();
    let text = render(Format::Human, &errors, sources, &Options::default());
    raise(py, kind, text.trim_end(), PyFinding::all(findings, sources))
}

pub(super) fn rejected(py: Python<'_>, rejected: &Rejected) -> PyErr {
    of_findings(py, Kind::Policy, &rejected.findings, &rejected.sources)
}

pub(super) fn not_loaded(py: Python<'_>, path: &Path, error: LoadError) -> PyErr {
    match error {
        LoadError::Unreadable { source, .. } => os(path, &source),
        LoadError::Rejected(refused) => rejected(py, &refused),
    }
}

pub(super) fn not_opened(py: Python<'_>, path: &Path, error: OpenError) -> PyErr {
    match error {
        OpenError::Absent { .. } => os(path, &std::io::ErrorKind::NotFound.into()),
        OpenError::Io { source, .. } => os(path, &source),
        other => raise(py, Kind::Checkpoint, &other.to_string(), Vec::new()),
    }
}

/// An `OSError` of the right subclass, with the path.
fn os(path: &Path, error: &std::io::Error) -> PyErr {
    let number = error.raw_os_error().or_else(|| match error.kind() {
        std::io::ErrorKind::NotFound => Some(rustix::io::Errno::NOENT.raw_os_error()),
        _ => None,
    });
    let Some(number) = number else { return PyOSError::new_err(format!("{}: {error}", path.display())) };
    // `OSError(number, text, path)` gives the subclass that belongs to the number.
    let text = std::io::Error::from_raw_os_error(number).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((number, text, path.to_owned()))
}

/// A lock that was held by a thread that panicked.
pub(super) fn poisoned() -> PyErr {
    PyRuntimeError::new_err("another thread failed while it used this object")
}
