//! What is worth a line in Python's `logging`, under the logger `flow_fabric`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::finding::render::{Format, Options, render};
use crate::finding::{Finding, Severity};
use crate::plan::Plan;
use crate::source::Sources;
use crate::units;

pub(super) const INFO: u8 = 20;
const WARNING: u8 = 30;
const ERROR: u8 = 40;

/// A plan was made: what it counted, and its findings.
pub(super) fn planned(py: Python<'_>, plan: &Plan) -> PyResult<()> {
    let summary = &plan.summary;
    say(py, INFO, || {
        let stored = units::bytes(summary.stored_bytes);
        format!("planned {} over {}: {} weights, {stored}", plan.policy, plan.inventory.name, summary.weights)
    })?;
    findings(py, &plan.findings, &plan.sources)
}

/// A line for each finding.
pub(super) fn findings(py: Python<'_>, findings: &[Finding], sources: &Sources) -> PyResult<()> {
    for finding in findings {
        let level = match finding.severity {
            Severity::Error => ERROR,
            Severity::Warning => WARNING,
            Severity::Info => INFO,
        };
        say(py, level, || {
            let finding = std::slice::from_ref(finding);
            render(Format::Concise, finding, sources, &Options::default()).trim_end().to_owned()
        })?;
    }
    Ok(())
}

/// Logs a line where somebody listens at that level.
pub(super) fn say(py: Python<'_>, level: u8, text: impl FnOnce() -> String) -> PyResult<()> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logger = LOGGER.get_or_try_init(py, || {
        let logger = PyModule::import(py, "logging")?.call_method1("getLogger", ("flow_fabric",))?;
        Ok::<_, PyErr>(logger.unbind())
    })?;
    let logger = logger.bind(py);
    if logger.call_method1("isEnabledFor", (level,))?.is_truthy()? {
        // The text is an argument, so that a `%` in it means nothing.
        logger.call_method1("log", (level, "%s", text()))?;
    }
    Ok(())
}
