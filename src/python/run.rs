//! Quantizing and measuring, as the command line does it.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;

use super::error::{self, Kind};
use super::finding::PyFinding;
use super::plan::Shared;
use super::{convert, log, progress};
use crate::finding::{Finding, Severity, levels, worst};
use crate::progress::Progress;
use crate::quantize::run::{self, DriftReport, RunError, RunOptions};

/// What a run gives, or why it gave nothing.
type Outcome = Result<(DriftReport, Vec<Finding>), RunError>;

/// Quantizes a plan's checkpoint into a directory.
pub(super) fn quantize<'py>(
    py: Python<'py>,
    shared: &Arc<Shared>,
    target: PathBuf,
    options: RunOptions,
    callback: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let planned = Arc::clone(shared);
    let work = move |progress: &dyn Progress| run::run(&planned.policy, &planned.plan, &target, &options, progress);
    let outcome = progress::run(py, callback, work)?;
    concluded(py, shared, outcome)
}

/// Measures what quantizing would do.
pub(super) fn drift<'py>(
    py: Python<'py>,
    shared: &Arc<Shared>,
    options: RunOptions,
    callback: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let planned = Arc::clone(shared);
    let work = move |progress: &dyn Progress| run::drift(&planned.policy, &planned.plan, &options, progress);
    let outcome = progress::run(py, callback, work)?;
    concluded(py, shared, outcome)
}

/// The report as a dictionary; findings of severity error are raised with it, the others logged.
fn concluded<'py>(py: Python<'py>, shared: &Shared, outcome: Outcome) -> PyResult<Bound<'py, PyAny>> {
    let sources = &shared.plan.sources;
    let (report, findings) = outcome.map_err(|error| match error.finding() {
        Some(finding) => error::of_findings(py, Kind::Quantize, &[finding], sources),
        None => {
            let help = error.help().map(|help| format!("\n  help: {help}")).unwrap_or_default();
            error::raise(py, Kind::Quantize, &format!("{error}{help}"), Vec::new())
        }
    })?;
    let report = convert::record(py, &report)?;
    let findings = levels::settle(&shared.policy.lints, findings, |_| false);
    if worst(&findings) == Some(Severity::Error) {
        let refused = error::of_findings(py, Kind::Gate, &findings, sources);
        refused.value(py).setattr("report", report)?;
        return Err(refused);
    }
    log::findings(py, &findings, sources)?;
    Ok(report)
}

/// Weights that are loaded although the plan has another scheme for them.
pub(super) fn stored_otherwise(shared: &Shared) -> Vec<PyFinding> {
    PyFinding::all(&crate::load::stored_otherwise(&shared.policy, &shared.plan), &shared.plan.sources)
}
