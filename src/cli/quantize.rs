//! `quantize`: carries a plan out and reports what it did to the values.

use std::path::PathBuf;

use clap::Args;

use super::drift_text::{self, Format};
use super::progress::TerminalProgress;
use super::run_options::{Output, Planned, Planning, Resources, stopped};
use super::{Outcome, Stop, Ui};
use crate::quantize::run::{self, RunOptions};

/// Quantize a checkpoint as a policy plans it, and report the drift
///
/// The output is a directory that engines load: tensors in the names of the policy's layout, `config.json` with what
/// engines ask for, and the other files of the checkpoint's directory. It is measured on the bytes that were written:
/// a weight that breaks the limits of its rule keeps everything from being published (exit status 1), and so do values
/// that are not finite. The report is also written into it, as `flow-fabric.drift.json`.
///
/// Examples:
///   $ flow-fabric quantize policies/llama-3.toml model/ -o model-int8/
///   $ flow-fabric quantize policies/llama-3.toml model/ -o out/ --memory 512MiB --resume --format json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Quantize {
    /// The policy
    policy: PathBuf,
    /// The checkpoint
    checkpoint: PathBuf,
    #[command(flatten)]
    output: Output,
    /// A GGUF file of the same model, whose metadata the output takes (layout `gguf`)
    #[arg(long, value_name = "FILE")]
    metadata_from: Option<PathBuf>,
    /// Publish even if weights break their limits; they are still findings
    #[arg(long)]
    keep_going: bool,
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

impl Quantize {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let Some(planned) = self.planning.resolve(&self.policy, &self.checkpoint, ui)? else {
            return Ok(Outcome::Findings);
        };
        let Planned { policy, plan, .. } = &planned;
        let options = RunOptions {
            keep_going: self.keep_going,
            metadata_from: self.metadata_from.clone(),
            ..self.output.options(&self.resources)
        };
        let progress = TerminalProgress::start(ui);
        let done = run::run(policy, plan, &self.output.output, &options, &progress);
        drop(progress);
        let (report, findings) = done.map_err(|error| stopped(&error, ui))?;
        ui.print(&drift_text::print(&report, self.format, self.all))?;
        let outcome = planned.report(findings, ui)?;
        if !report.run.published {
            ui.narrate(&format!("nothing was written to `{}`\n", self.output.output.display()));
            return Ok(Outcome::Findings);
        }
        Ok(outcome)
    }
}
