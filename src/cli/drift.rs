//! `drift`: what quantizing would do to the values, or what somebody else's did.

use std::path::{Path, PathBuf};

use clap::Args;

use super::drift_text::{self, Format};
use super::input;
use super::progress::TerminalProgress;
use super::run_options::{Planned, Planning, Resources, stopped};
use super::{Outcome, Stop, Ui};
use crate::finding::Finding;
use crate::inventory::{Grouping, Inventory};
use crate::policy::Policy;
use crate::quantize::run::{self, RunOptions};
use crate::source::Sources;

/// Measure what quantizing as planned would do to the values, without writing; or compare two checkpoints
///
/// With `--compare`, weights of the same path are measured against each other, whoever quantized them; `--policy` gives
/// its renames and declared layouts.
///
/// Examples:
///   $ flow-fabric drift policies/llama-3.toml model/ --sample 2
///   $ flow-fabric drift --compare model/ model-int8/ --format markdown
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct DriftVerb {
    /// The policy and the checkpoint
    #[arg(value_names = ["POLICY", "CHECKPOINT"], num_args = 2, required_unless_present = "compare")]
    plan: Vec<PathBuf>,
    /// Two checkpoints: the original, and what became of it
    #[arg(long, value_names = ["A", "B"], num_args = 2, conflicts_with_all = ["plan", "sample", "layout"])]
    compare: Vec<PathBuf>,
    /// The policy that names the weights of both checkpoints
    #[arg(long = "policy", value_name = "POLICY", requires = "compare")]
    names: Option<PathBuf>,
    /// Of each path template only so many weights, evenly spread
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// List every weight instead of templates
    #[arg(long)]
    all: bool,
    /// How to print the report
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    #[command(flatten)]
    resources: Resources,
    #[command(flatten)]
    planning: Planning,
}

impl DriftVerb {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        match (self.plan.as_slice(), self.compare.as_slice()) {
            ([policy, checkpoint], _) => self.planned(policy, checkpoint, ui),
            (_, [before, after]) => self.compared(before, after, ui),
            _ => Err(Stop::failed("a policy and a checkpoint are needed, or `--compare` and two checkpoints")),
        }
    }

    fn planned(&self, policy: &Path, checkpoint: &Path, ui: &mut Ui) -> Result<Outcome, Stop> {
        let Some(planned) = self.planning.resolve(policy, checkpoint, ui)? else { return Ok(Outcome::Findings) };
        let Planned { policy, plan, .. } = &planned;
        let options = RunOptions { sample: self.sample, ..self.resources.options() };
        let progress = TerminalProgress::start(ui);
        let done = run::drift(policy, plan, &options, &progress);
        drop(progress);
        let (report, findings) = done.map_err(|error| stopped(&error, ui))?;
        ui.print(&drift_text::print(&report, self.format, self.all))?;
        planned.report(findings, ui)
    }

    fn compared(&self, before: &Path, after: &Path, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.names.as_ref().map(|path| self.planning.options.require(path, ui)).transpose()?;
        let (before, mut findings) = grouped(policy.as_ref(), before, ui)?;
        let (after, more) = grouped(policy.as_ref(), after, ui)?;
        findings.extend(more);
        let progress = TerminalProgress::start(ui);
        let done = run::compare(&before, &after, &self.resources.options(), &progress);
        drop(progress);
        let (report, more) = done.map_err(|error| stopped(&error, ui))?;
        findings.extend(more);
        ui.print(&drift_text::print(&report, self.format, self.all))?;
        let none = Sources::default();
        ui.report(&findings, policy.as_ref().map_or(&none, Policy::sources))?;
        Ok(Outcome::of(&findings))
    }
}

/// Opens a checkpoint and groups it, as a policy says where there is one.
pub(super) fn grouped(policy: Option<&Policy>, path: &Path, ui: &mut Ui) -> Result<(Inventory, Vec<Finding>), Stop> {
    let Some(policy) = policy else {
        let (checkpoint, mut findings) = input::open(path, ui)?;
        let (inventory, more) = Inventory::group(&checkpoint, &Grouping::default());
        findings.extend(more);
        return Ok((inventory, findings));
    };
    input::inventory(policy, path, ui)
}
