//! What verbs that quantize, decode or compare have in common.

use std::path::Path;

use clap::Args;

use super::input::{MeshOption, PolicyOptions};
use super::lints::LintFlags;
use super::{Outcome, Stop, Ui, plan};
use crate::Plan;
use crate::finding::levels::{self, LintLevel};
use crate::finding::{Finding, Severity};
use crate::policy::Policy;
use crate::quantize::Layout;
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

/// How the plan is made that a verb carries out.
#[derive(Debug, Args)]
pub(super) struct Planning {
    /// Take another layout than the policy's
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Option<Layout>,
    #[command(flatten)]
    mesh: MeshOption,
    #[command(flatten)]
    lints: LintFlags,
    #[command(flatten)]
    pub(super) options: PolicyOptions,
}

fn layout(text: &str) -> Result<Layout, String> {
    let names: Vec<&str> = Layout::ALL.iter().map(|layout| layout.name()).collect();
    text.parse().map_err(|_| format!("the layouts are {}", names.join(", ")))
}

impl Planning {
    /// Makes the plan; `None` when it has errors, which are reported.
    pub(super) fn resolve(&self, policy: &Path, checkpoint: &Path, ui: &mut Ui) -> Result<Option<Planned>, Stop> {
        let mut policy = self.options.require(policy, ui)?;
        if let Some(layout) = self.layout {
            policy = policy.with_layout(layout);
        }
        let mut plan = plan::resolve(&policy, checkpoint, &self.mesh, ui)?;
        let levels = self.lints.over(&policy.lints);
        plan.findings = levels::settle(&levels, std::mem::take(&mut plan.findings), plan::is_looked_for);
        if crate::finding::worst(&plan.findings) == Some(Severity::Error) {
            ui.report(&plan.findings, policy.sources())?;
            return Ok(None);
        }
        Ok(Some(Planned { policy, plan, levels }))
    }
}

/// A plan that can be carried out.
pub(super) struct Planned {
    pub(super) policy: Policy,
    pub(super) plan: Plan,
    levels: Vec<LintLevel>,
}

impl Planned {
    /// Reports the plan's findings and those of carrying it out.
    pub(super) fn report(self, findings: Vec<Finding>, ui: &mut Ui) -> Result<Outcome, Stop> {
        let mut all = self.plan.findings;
        all.extend(levels::settle(&self.levels, findings, |_| false));
        crate::finding::sort(&mut all);
        ui.report(&all, self.policy.sources())?;
        Ok(Outcome::of(&all))
    }
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
