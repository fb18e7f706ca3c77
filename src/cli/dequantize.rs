//! `dequantize`: codes back to numbers.

use std::path::PathBuf;

use clap::Args;

use super::drift::grouped;
use super::drift_text::{self, Format};
use super::input::PolicyOptions;
use super::progress::TerminalProgress;
use super::run_options::{Output, Resources, stopped};
use super::{Outcome, Stop, Ui};
use crate::Dtype;
use crate::policy::Policy;
use crate::quantize::run;
use crate::source::Sources;

/// Decode every quantized weight of a checkpoint into numbers
///
/// Weights that are numbers already stay as they are. Without `--dtype`, each gets the dtype that its format stands for.
///
/// Examples:
///   $ flow-fabric dequantize model-int8/ -o model-f32/ --dtype f32
///   $ flow-fabric dequantize model.gguf -o model/ --policy names.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Dequantize {
    /// The checkpoint
    checkpoint: PathBuf,
    #[command(flatten)]
    output: Output,
    /// Dtype of the numbers: `f32`, `bf16` or `f16`
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    dtype: Option<Dtype>,
    /// A policy that names the weights: its renames, excludes and declared layouts hold
    #[arg(long, value_name = "POLICY")]
    policy: Option<PathBuf>,
    /// How to print the report
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    #[command(flatten)]
    resources: Resources,
    #[command(flatten)]
    options: PolicyOptions,
}

fn dtype(text: &str) -> Result<Dtype, String> {
    match text.parse() {
        Ok(dtype @ (Dtype::F32 | Dtype::Bf16 | Dtype::F16)) => Ok(dtype),
        _ => Err("write `f32`, `bf16` or `f16`".to_owned()),
    }
}

impl Dequantize {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.policy.as_ref().map(|path| self.options.require(path, ui)).transpose()?;
        let (inventory, mut findings) = grouped(policy.as_ref(), &self.checkpoint, ui)?;
        let options = self.output.options(&self.resources);
        let progress = TerminalProgress::start(ui);
        let done = run::dequantize(&inventory, self.dtype, &self.output.output, &options, &progress);
        drop(progress);
        let (report, more) = done.map_err(|error| stopped(&error, ui))?;
        findings.extend(more);
        ui.print(&drift_text::print(&report, self.format, false))?;
        let none = Sources::default();
        ui.report(&findings, policy.as_ref().map_or(&none, Policy::sources))?;
        Ok(Outcome::of(&findings))
    }
}
