//! `snapshot`: the plan as a file that reviewers read, written or compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use similar::TextDiff;

use super::input::{MeshOption, PolicyOptions};
use super::lints::LintFlags;
use super::{Outcome, Stop, Ui, plan};
use crate::finding::{Counts, Finding, levels};
use crate::output::replace_file;
use crate::plan::snapshot::{self, SnapshotFile};

/// Write the plan as a snapshot for review, or check that the one in the repository still holds
///
/// The file is `<policy>@<checkpoint>.snap`. It is what insta reads and writes: a header, which stays as it is, and the
/// text of the plan. `--check` compares that text and prints the difference.
///
/// Examples:
///   $ flow-fabric snapshot policies/grok-1.toml tests/data/inventories/grok-1.jsonl --dir snapshots
///   $ flow-fabric snapshot policies/grok-1.toml tests/data/inventories/grok-1.jsonl --dir snapshots --check
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Snapshot {
    /// The policy
    policy: PathBuf,
    /// The checkpoint
    checkpoint: PathBuf,
    /// Where snapshots are kept
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Write nothing: print how the plan differs from its snapshot, and fail if it does
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    mesh: MeshOption,
    #[command(flatten)]
    lints: LintFlags,
    #[command(flatten)]
    options: PolicyOptions,
}

impl Snapshot {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.options.require(&self.policy, ui)?;
        let plan = plan::resolve(&policy, &self.checkpoint, &self.mesh, ui)?;
        let findings = levels::settle(&self.lints.over(&policy.lints), plan.findings.clone(), plan::is_looked_for);
        let mesh = self.mesh.is_given().then_some(&plan.mesh);
        let name = snapshot::file_name(&plan.policy, &self.checkpoint.to_string_lossy(), mesh);
        let path = self.dir.join(&name);
        let text = plan.snapshot();
        let known = read(&path)?;
        let outcome = if self.check {
            compare(&path, known.as_deref(), &text, ui)?
        } else {
            let description = format!("{} over {}", plan.policy, plan.inventory.name);
            write(&path, known.as_deref(), &text, &description, ui)?
        };
        ui.flush()?;
        ui.narrate(&found(&findings));
        Ok(outcome.and(Outcome::of(&findings)))
    }
}

/// Findings in one line: what they say is for `check` and `plan`, and a reviewer reads the difference here.
fn found(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let codes: BTreeSet<(&str, &str)> = findings.iter().map(|finding| (finding.code.id, finding.code.name)).collect();
    let codes: Vec<String> = codes.iter().map(|(id, name)| format!("{id} {name}")).collect();
    format!("{} in the plan: {}; `flow-fabric check` says more\n", Counts::of(findings), codes.join(", "))
}

/// What the file holds; `None` when it is absent.
fn read(path: &Path) -> Result<Option<String>, Stop> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Stop::failed(format!("cannot read `{}`: {error}", path.display()))),
    }
}

fn compare(path: &Path, known: Option<&str>, text: &str, ui: &mut Ui) -> Result<Outcome, Stop> {
    let shown = path.display();
    let Some(known) = known else {
        ui.narrate(&format!("`{shown}` is absent; without `--check` it is written\n"));
        return Ok(Outcome::Findings);
    };
    let file = SnapshotFile::parse(known);
    if file.is(text) {
        ui.narrate(&format!("`{shown}` is up to date\n"));
        return Ok(Outcome::Done);
    }
    let old = format!("{}\n", file.body.replace("\r\n", "\n").trim_end());
    let new = format!("{}\n", text.trim_end());
    let unified =
        TextDiff::from_lines(&old, &new).unified_diff().header(&shown.to_string(), "the plan as it is now").to_string();
    let colored = ui.color();
    ui.print(&if colored { color(&unified) } else { unified })?;
    Ok(Outcome::Findings)
}

fn write(path: &Path, known: Option<&str>, text: &str, description: &str, ui: &mut Ui) -> Result<Outcome, Stop> {
    let shown = path.display();
    let file = match known {
        Some(known) => SnapshotFile::parse(known).with(text, description),
        None => snapshot::new(text, description),
    };
    if known == Some(file.as_str()) {
        ui.narrate(&format!("`{shown}` is up to date\n"));
        return Ok(Outcome::Done);
    }
    replace_file(path, file.as_bytes()).map_err(|error| Stop::failed(error.to_string()))?;
    ui.narrate(&format!("wrote `{shown}`\n"));
    Ok(Outcome::Done)
}

/// As git colours its diffs.
fn color(unified: &str) -> String {
    let paint = |line: &str| match line.as_bytes().first() {
        Some(b'+') => format!("\u{1b}[32m{line}\u{1b}[0m\n"),
        Some(b'-') => format!("\u{1b}[31m{line}\u{1b}[0m\n"),
        Some(b'@') => format!("\u{1b}[36m{line}\u{1b}[0m\n"),
        _ => format!("{line}\n"),
    };
    unified.lines().map(paint).collect()
}
