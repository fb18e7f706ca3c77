//! Manifests: what rules with `verify` hold loads against.

use std::path::PathBuf;

use pyo3::prelude::*;

use super::error::{self, Kind};
use super::progress;
use crate::finding::{Severity, worst};
use crate::inventory::Checkpoint;
use crate::manifest::{self, Manifest, ManifestOptions};
use crate::progress::Progress;
use crate::source::Sources;

/// Why there is no manifest.
enum Failed {
    Open(crate::inventory::OpenError),
    Findings(Vec<crate::finding::Finding>),
    Text(String),
}

/// Digests every tensor of a checkpoint and writes the manifest beside it; returns its path. The work is what
/// ``flow-fabric manifest`` does.
#[pyfunction]
#[pyo3(signature = (checkpoint, *, progress = None))]
pub(super) fn write_manifest(
    py: Python<'_>,
    checkpoint: PathBuf,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<PathBuf> {
    let path = checkpoint.clone();
    let work = move |progress: &dyn Progress| -> Result<PathBuf, Failed> {
        let (opened, findings) = Checkpoint::open(&checkpoint).map_err(Failed::Open)?;
        if worst(&findings) == Some(Severity::Error) {
            return Err(Failed::Findings(findings));
        }
        let built = Manifest::build(&opened, ManifestOptions::default(), progress);
        let built = built.map_err(|error| match error.finding() {
            Some(finding) => Failed::Findings(vec![finding]),
            None => Failed::Text(error.to_string()),
        })?;
        let beside = manifest::beside(&checkpoint);
        built.write(&beside).map_err(|error| Failed::Findings(vec![error.finding()]))?;
        Ok(beside)
    };
    progress::run(py, progress, work)?.map_err(|failed| match failed {
        Failed::Open(error) => error::not_opened(py, &path, error),
        Failed::Findings(findings) => error::of_findings(py, Kind::Checkpoint, &findings, &Sources::default()),
        Failed::Text(text) => error::raise(py, Kind::Checkpoint, &text, Vec::new()),
    })
}
