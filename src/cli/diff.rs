//! `diff`: what an edit of a policy changes.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::git::Revision;
use super::input::{self, MeshOption, PolicyOptions};
use super::{Outcome, Stop, Ui, json, plan};
use crate::finding::{Finding, levels};
use crate::inventory::Checkpoint;
use crate::plan::diff::PlanDiff;
use crate::plan::record::{self, PlanRecord};
use crate::policy::Policy;

/// Show what an edit changes: weights grouped by the edited rule, before and after, bytes per device
///
/// OLD and NEW are policy files, git revisions of them (`main:policies/grok-1.toml`; what they extend is read from the
/// same revision) or plans saved with `plan --format json`. The comparison is of plans, not of texts: an edit that
/// decides nothing otherwise changes nothing.
///
/// Examples:
///   $ flow-fabric diff main:policies/grok-1.toml policies/grok-1.toml tests/data/inventories/grok-1.jsonl
///   $ flow-fabric diff old.json policies/grok-1.toml tests/data/inventories/grok-1.jsonl --format markdown
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Diff {
    /// The policy or saved plan before
    old: String,
    /// The policy or saved plan after
    new: String,
    /// The checkpoint; needed unless both are saved plans
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    mesh: MeshOption,
    /// Exit with 1 when the plans differ
    #[arg(long)]
    exit_code: bool,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    /// With `--format markdown`: the most bytes to print; what does not fit is counted
    #[arg(long, value_name = "BYTES", default_value = "60000", value_parser = clap::value_parser!(u32).range(1024..))]
    max_bytes: u32,
    #[command(flatten)]
    options: PolicyOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
    Markdown,
}

impl Diff {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let checkpoint = OnceCell::new();
        let old = self.side(&self.old, &checkpoint, ui)?;
        let new = self.side(&self.new, &checkpoint, ui)?;
        let diff = PlanDiff::new(&self.old, &old, &self.new, &new);
        match self.format {
            Format::Human => ui.print(&diff.human())?,
            Format::Json => ui.print(&json(&diff))?,
            Format::Markdown => ui.print(&diff.markdown(usize::try_from(self.max_bytes).unwrap_or(usize::MAX)))?,
        }
        Ok(if self.exit_code && !diff.is_empty() { Outcome::Findings } else { Outcome::Done })
    }

    /// Reads a saved plan, or makes the plan of a policy.
    fn side(
        &self,
        name: &str,
        checkpoint: &OnceCell<(Checkpoint, Vec<Finding>)>,
        ui: &mut Ui,
    ) -> Result<PlanRecord, Stop> {
        let policy = match self.read(name, ui)? {
            Source::Plan(plan) => return Ok(*plan),
            Source::Policy(policy) => policy,
        };
        let Some(path) = &self.checkpoint else {
            return Err(Stop::failed(format!("`{name}` is a policy, and no checkpoint is given to plan it over"))
                .help("name the checkpoint after the two policies"));
        };
        // Opened once: standard input can be read only once, and headers of a large checkpoint take their time.
        let (checkpoint, found) = match checkpoint.get() {
            Some(opened) => opened,
            None => {
                let opened = input::open(path, ui)?;
                checkpoint.get_or_init(|| opened)
            }
        };
        let mut plan = plan::over(&policy, checkpoint, found.clone(), &self.mesh)?;
        plan.findings = levels::settle(&policy.lints, std::mem::take(&mut plan.findings), plan::is_looked_for);
        Ok(plan.record())
    }

    fn read(&self, name: &str, ui: &mut Ui) -> Result<Source, Stop> {
        let path = Path::new(name);
        if path.extension().is_some_and(|end| end == "json") && path.is_file() {
            let text = std::fs::read(path).map_err(|error| Stop::failed(format!("cannot read `{name}`: {error}")))?;
            return saved(name, &text).map(|plan| Source::Plan(Box::new(plan)));
        }
        let policy = match Revision::parse(name).filter(|_| !path.exists()) {
            None => self.options.require(path, ui)?,
            Some(Err(error)) => return Err(Stop::failed(format!("cannot read `{name}`: {error}"))),
            Some(Ok(revision)) => self.options.require_with(&revision.name(), &|file| revision.read(file), ui)?,
        };
        Ok(Source::Policy(Box::new(policy)))
    }
}

enum Source {
    Plan(Box<PlanRecord>),
    Policy(Box<Policy>),
}

/// Reads a saved plan.
fn saved(name: &str, text: &[u8]) -> Result<PlanRecord, Stop> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
        format_version: u32,
    }
    let no_plan =
        |why: String| Stop::failed(format!("`{name}` is no saved plan: {why}")).help("`plan --format json` writes one");
    let head: Head = serde_json::from_slice(text).map_err(|error| no_plan(error.to_string()))?;
    if head.format != record::FORMAT {
        return Err(no_plan(format!("its format is `{}`", head.format)));
    }
    if head.format_version != record::FORMAT_VERSION {
        let (wanted, found) = (record::FORMAT_VERSION, head.format_version);
        return Err(no_plan(format!("it has version {found} of the format, and this is version {wanted}")));
    }
    serde_json::from_slice(text).map_err(|error| no_plan(error.to_string()))
}
