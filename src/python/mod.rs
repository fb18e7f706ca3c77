//! The Python module `flow_fabric._native`: what `python/flow_fabric/` is written on.
//!
//! Classes are frozen and share their data behind `Arc`s, so threads may use one object at once. Every call that reads
//! files or walks a checkpoint runs on a thread of its own ([`call`]) with the GIL released, and ends on Ctrl-C.

mod buffer;
mod call;
mod convert;
mod error;
mod finding;
mod form;
mod load;
mod log;
mod manifest;
mod names;
mod plan;
mod policy;
mod progress;
mod reference;
mod resolution;
mod resolver;
mod run;
mod slot;
mod weight;

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::cli::{self, Ui};

/// The compiled part of `flow_fabric`. Use that package; names here may change.
#[pymodule]
#[pyo3(name = "_native")]
mod native {
    #[pymodule_export]
    use super::buffer::PyBuffer;
    #[pymodule_export]
    use super::finding::{PyFinding, PyLocation};
    #[pymodule_export]
    use super::form::PyForm;
    #[pymodule_export]
    use super::load::{PyLoadedTensor, PyLoadedWeight};
    #[pymodule_export]
    use super::manifest::write_manifest;
    #[pymodule_export]
    use super::plan::{PyDevice, PyPlan};
    #[pymodule_export]
    use super::policy::PyPolicy;
    #[pymodule_export]
    use super::resolution::{PyCandidate, PyResolution};
    #[pymodule_export]
    use super::run_command_line;
    #[pymodule_export]
    use super::slot::PySlot;
    #[pymodule_export]
    use super::weight::{PyComponent, PyCut, PyLoadSettings, PyPlannedWeight};

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}

/// Runs a command line, the program's name first, on the streams of the process; returns the exit status.
#[pyfunction]
#[pyo3(name = "main")]
fn run_command_line(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| cli::run(args, &mut Ui::stdio()).code())
}
