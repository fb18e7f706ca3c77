//! What verbs that quantize, decode or compare have in common.

use clap::Args;

use super::{Stop, Ui};
use crate::finding::Finding;
use crate::quantize::run::{RunError, RunOptions};
use crate::source::Sources;

/// How much of the machine a run takes.
#[derive(Debug, Clone, Args)]
pub(super) struct Resources {
    /// Memory for buffers: `256MiB`, `1GiB`
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    memory: u64,
    /// Threads; 0 is one for each core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

impl Resources {
    pub(super) fn options(&self) -> RunOptions {
        RunOptions { memory: self.memory, threads: self.threads, ..RunOptions::default() }
    }
}

/// Where a run writes to.
#[derive(Debug, Clone, Args)]
pub(super) struct Output {
    /// The directory to write; it appears whole, or not at all
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: std::path::PathBuf,
    /// Replace the directory if it is there
    #[arg(long)]
    pub(super) force: bool,
    /// Continue what a killed run of the same policy and checkpoint left
    #[arg(long)]
    pub(super) resume: bool,
    /// Bytes of tensors in a file, at most
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    shard_size: u64,
}

impl Output {
    pub(super) fn options(&self, resources: &Resources) -> RunOptions {
        RunOptions {
            replace: self.force,
            resume: self.resume,
            shard_bytes: Some(self.shard_size),
            ..resources.options()
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    crate::policy::parse_bytes(text).ok_or_else(|| "write a number and a unit, such as `256MiB`".to_owned())
}

/// What a run that could not do its job comes to; what is a finding is printed as one.
pub(super) fn stopped(error: &RunError, ui: &mut Ui) -> Stop {
    if let RunError::Cancelled(cancelled) = error {
        return (*cancelled).into();
    }
    if let Some(finding) = error.finding() {
        return match ui.report(&[finding], &Sources::default()) {
            Ok(()) => Stop::Said,
            Err(stop) => stop,
        };
    }
    let stop = Stop::failed(error.to_string());
    match error.help() {
        Some(help) => stop.help(help),
        None => stop,
    }
}

/// Errors of a plan that keep it from being carried out.
pub(super) fn is_refused(findings: &[Finding]) -> bool {
    crate::finding::worst(findings) == Some(crate::finding::Severity::Error)
}
