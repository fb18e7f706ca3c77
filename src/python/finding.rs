//! Findings as objects.

use pyo3::prelude::*;

use crate::finding::render::{Format, Options, render};
use crate::finding::{Finding, FindingRecord, LocationRecord};
use crate::source::Sources;

/// One thing that can be said about a policy, a checkpoint or a plan. ``str()`` draws it as the command line does.
#[pyclass(frozen, name = "Finding", module = "flow_fabric")]
#[derive(Debug, Clone)]
pub(super) struct PyFinding {
    record: FindingRecord,
    rendered: String,
}

/// A place that a finding points at.
#[pyclass(frozen, get_all, eq, name = "Location", module = "flow_fabric")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PyLocation {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    offset: Option<u64>,
    text: String,
}

impl PyFinding {
    pub(super) fn all(findings: &[Finding], sources: &Sources) -> Vec<Self> {
        findings
            .iter()
            .map(|finding| Self {
                record: FindingRecord::new(finding, sources),
                rendered: render(Format::Human, std::slice::from_ref(finding), sources, &Options::default()),
            })
            .collect()
    }

    fn first(&self) -> Option<&LocationRecord> {
        self.record.locations.first()
    }
}

#[pymethods]
impl PyFinding {
    /// ``FF`` and three digits.
    #[getter]
    fn code(&self) -> &str {
        &self.record.code
    }

    /// The kebab-case name, as ``[lints]`` spells it.
    #[getter]
    fn name(&self) -> &str {
        &self.record.name
    }

    /// ``"error"``, ``"warning"`` or ``"info"``.
    #[getter]
    fn severity(&self) -> &str {
        self.record.severity.name()
    }

    /// One sentence.
    #[getter]
    fn message(&self) -> &str {
        &self.record.message
    }

    /// The file of the first place.
    #[getter]
    fn file(&self) -> Option<&str> {
        self.first().map(|location| location.file.as_str())
    }

    /// The line of the first place, from 1.
    #[getter]
    fn line(&self) -> Option<usize> {
        self.first().and_then(|location| location.line)
    }

    /// The column of the first place, from 1.
    #[getter]
    fn column(&self) -> Option<usize> {
        self.first().and_then(|location| location.column)
    }

    /// What to do about it.
    #[getter]
    fn help(&self) -> Option<&str> {
        self.record.help.as_deref()
    }

    /// Further facts.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.record.notes.clone()
    }

    /// Every place; the first is the primary one.
    #[getter]
    fn locations(&self) -> Vec<PyLocation> {
        self.record
            .locations
            .iter()
            .map(|location| PyLocation {
                file: location.file.clone(),
                line: location.line,
                column: location.column,
                offset: location.offset,
                text: location.text.clone(),
            })
            .collect()
    }

    fn __str__(&self) -> &str {
        self.rendered.trim_end()
    }

    fn __repr__(&self) -> String {
        let FindingRecord { code, name, severity, message, .. } = &self.record;
        let place = match self.first() {
            Some(LocationRecord { file, line: Some(line), column: Some(column), .. }) => {
                format!(" at {file}:{line}:{column}")
            }
            Some(LocationRecord { file, .. }) => format!(" in {file}"),
            None => String::new(),
        };
        format!("<{} {code} {name}{place}: {message}>", severity.name())
    }
}

#[pymethods]
impl PyLocation {
    fn __repr__(&self) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("<{}:{line}:{column}>", self.file),
            _ => format!("<{}>", self.file),
        }
    }
}
