//! `load`: what one device of the mesh reads, read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::input::{MeshOption, PolicyOptions};
use super::lints::LintFlags;
use super::progress::TerminalProgress;
use super::table::{Align, Cell, Table};
use super::{Outcome, Stop, Ui, plan};
use crate::finding::{Finding, FindingRecord, Severity, levels, worst};
use crate::load::{
    ExportError, ExportOptions, LoadDocument, LoadError, LoadOptions, LoadReport, Loader, ReadPlan, Rung, Traffic,
    export, stored_otherwise, traffic,
};
use crate::manifest::{self, Manifest};
use crate::plan::Plan;
use crate::policy::{Policy, Verify};
use crate::stage::SharedMemory;
use crate::units;

/// Load what one device of the mesh holds: only the bytes it needs, with timings
///
/// Without `--out` the tensors are read into memory and dropped: a measurement. `--dry-run` reads headers only and says
/// what would be read, so it works on lists too. Nothing is re-encoded.
///
/// Where rules say `verify`, chunks of the manifest (of 4 MiB while there is none) are read whole and held against it before
/// anything is handed out. Bytes that are others than the manifest's, and a manifest that is absent or of another checkpoint,
/// give exit status 1, in a dry run too as far as headers tell.
///
/// Examples:
///   $ flow-fabric load policies/grok-1.toml tests/data/inventories/grok-1.jsonl --device 3 --dry-run
///   $ flow-fabric load policies/llama-3.toml model/ --device tp=1 --out model-tp1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Load {
    /// The policy
    policy: PathBuf,
    /// The checkpoint
    checkpoint: PathBuf,
    #[command(flatten)]
    mesh: MeshOption,
    /// The device: its number, or its coordinates `data=0,model=3`
    #[arg(long, value_name = "DEVICE")]
    device: String,
    /// Say what would be read, and read nothing
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
    /// Write the device's own safetensors to this directory; it appears when it is complete
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the directory of `--out`
    #[arg(long, requires = "out")]
    force: bool,
    /// How to print what was read
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    #[command(flatten)]
    lints: LintFlags,
    #[command(flatten)]
    options: PolicyOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
    Markdown,
}

/// The note beside a device's own checkpoint.
const NOTE: &str = "flow-fabric.device.json";

/// Files of `--out` are no larger, unless one tensor is.
const SHARD: u64 = 5_000_000_000;

impl Load {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.options.require(&self.policy, ui)?;
        let mut plan = plan::resolve(&policy, &self.checkpoint, &self.mesh, ui)?;
        plan.findings.extend(stored_otherwise(&policy, &plan));
        let declared = self.lints.over(&policy.lints);
        plan.findings = levels::settle(&declared, std::mem::take(&mut plan.findings), plan::is_looked_for);
        crate::finding::sort(&mut plan.findings);
        let number = plan::device(&plan, &self.device)?;
        if worst(&plan.findings) == Some(Severity::Error) && !self.dry_run {
            ui.report(&plan.findings, policy.sources())?;
            ui.narrate("nothing is loaded: the plan has errors\n");
            return Ok(Outcome::Findings);
        }
        let device = ReadPlan::new(&plan, number).map_err(|error| Stop::failed(error.to_string()))?;
        let options = LoadOptions::from(&policy.loader);
        let (counted, report) = if self.dry_run {
            let (manifest, refusal) = self.foreseen(&device, &options);
            plan.findings.extend(refusal);
            (traffic(&device, &options, manifest.as_ref()), None)
        } else {
            let (counted, report, staging) = self.read(&policy, &plan, &device, options, ui)?;
            plan.findings.extend(levels::Levels::new(&declared).0.apply(staging).findings);
            (counted, Some(report))
        };
        let findings = FindingRecord::all(&plan.findings, policy.sources());
        let mut document = LoadDocument::new(&plan, &device, &options, &counted, report.as_ref(), findings);
        if let Some(timings) = &mut document.timings {
            timings.peak_memory = peak_memory();
        }
        match self.format {
            Format::Human => ui.print(&human(&plan, &document))?,
            Format::Markdown => ui.print(&markdown(&plan, &document))?,
            Format::Json => ui.print(&super::json(&document))?,
        }
        ui.report(&plan.findings, policy.sources())?;
        Ok(Outcome::of(&plan.findings))
    }

    /// Reads, and writes where that is asked.
    fn read(
        &self,
        policy: &Policy,
        plan: &Plan,
        device: &ReadPlan,
        options: LoadOptions,
        ui: &mut Ui,
    ) -> Result<(Vec<Traffic>, LoadReport, Vec<Finding>), Stop> {
        let manifest = match self.manifest(device) {
            Ok(manifest) => manifest,
            Err(finding) => return Err(refuse(policy, plan, *finding, Stop::Said, ui)),
        };
        let progress = TerminalProgress::start(ui);
        let mut written = None;
        let mut read = || -> Result<(Vec<Traffic>, LoadReport, Vec<Finding>), ExportError> {
            let loader = Loader::open(device, options)?.verified_by(manifest.as_ref())?;
            let (mut loader, findings) = staged(loader, policy, &progress)?;
            let counted = loader.traffic();
            match &self.out {
                Some(out) => {
                    let options = self.export_options(plan, device, &options, &counted);
                    export(device, &mut loader, out, &options, &progress)?;
                    written = Some(out);
                }
                None => drop(loader.load(&progress)?),
            }
            Ok((counted, loader.report(), findings))
        };
        let done = read();
        drop(progress);
        if let Some(out) = written {
            ui.narrate(&format!("wrote the device's own checkpoint to `{}`\n", out.display()));
        }
        let (finding, stop) = match done {
            Ok(done) => return Ok(done),
            Err(ExportError::Load(LoadError::Cancelled(cancelled))) => return Err(cancelled.into()),
            Err(ExportError::Load(error)) => {
                // `verify` is a gate of the policy: the bytes do not pass it, or cannot be held against anything.
                let gate = matches!(error, LoadError::Mismatch(_) | LoadError::Unverified { .. });
                let finding = error.finding().ok_or_else(|| Stop::failed(error.to_string()))?;
                (finding, if gate { Stop::Refused } else { Stop::Said })
            }
            Err(ExportError::Output(error)) => (error.finding(), Stop::Said),
        };
        Err(refuse(policy, plan, finding, stop, ui))
    }

    /// The manifest that a load would be held against, and what would keep that load from being done. A list has no bytes and so
    /// no manifest.
    fn foreseen(&self, device: &ReadPlan, options: &LoadOptions) -> (Option<Manifest>, Option<Finding>) {
        let manifest = match self.manifest(device) {
            Ok(manifest) => manifest,
            Err(finding) => return (None, Some(*finding)),
        };
        let is_list = device.targets.iter().all(|target| target.place.is_none());
        let checked = if is_list { Ok(()) } else { device.check_manifest(manifest.as_ref(), options) };
        (manifest, checked.err().and_then(|error| error.finding()))
    }

    /// The manifest beside the checkpoint, where a rule asks for verification.
    fn manifest(&self, device: &ReadPlan) -> Result<Option<Manifest>, Box<Finding>> {
        if device.targets.iter().all(|target| target.load.verify == Verify::None) {
            return Ok(None);
        }
        Manifest::read(&manifest::beside(&self.checkpoint))
    }

    fn export_options(
        &self,
        plan: &Plan,
        device: &ReadPlan,
        options: &LoadOptions,
        counted: &[Traffic],
    ) -> ExportOptions<'_> {
        let mut note = LoadDocument::new(plan, device, options, counted, None, Vec::new());
        // The same bytes wherever the checkpoint lies.
        note.checkpoint = self.checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let metadata = BTreeMap::from([
            ("flow-fabric.policy".to_owned(), plan.policy.clone()),
            ("flow-fabric.mesh".to_owned(), plan.mesh.to_string()),
            ("flow-fabric.device".to_owned(), place(plan, device.device)),
            // What readers of Hugging Face checkpoints look for.
            ("format".to_owned(), "pt".to_owned()),
        ]);
        let folder = if self.checkpoint.is_dir() { Some(self.checkpoint.as_path()) } else { self.checkpoint.parent() };
        ExportOptions {
            replace: self.force,
            shard_bytes: Some(SHARD),
            metadata,
            carry: folder.filter(|folder| *folder != Path::new("")),
            files: vec![(NOTE.to_owned(), super::json(&note))],
        }
    }
}

/// Says why nothing is loaded, with what there is to say of the plan.
fn refuse(policy: &Policy, plan: &Plan, finding: Finding, stop: Stop, ui: &mut Ui) -> Stop {
    let findings: Vec<Finding> = plan.findings.iter().cloned().chain([finding]).collect();
    ui.report(&findings, policy.sources()).err().unwrap_or(stop)
}

/// Stages the files whose rules want it, where there is shared memory.
fn staged<'a>(
    loader: Loader<'a>,
    policy: &Policy,
    progress: &TerminalProgress,
) -> Result<(Loader<'a>, Vec<Finding>), LoadError> {
    #[cfg(unix)]
    let (loader, findings) = {
        let shared = SharedMemory::of_this_user().with_budget(policy.loader.stage_budget);
        loader.staged_in(&shared, progress)?
    };
    #[cfg(not(unix))]
    let findings = Vec::new();
    Ok((loader, findings))
}

/// `3 (data=0, model=3)`.
fn place(plan: &Plan, device: u64) -> String {
    let coordinates = plan.mesh.coordinates(device);
    let at: Vec<String> =
        plan.mesh.axes().iter().zip(coordinates).map(|((name, _), at)| format!("{name}={at}")).collect();
    if at.is_empty() { device.to_string() } else { format!("{device} ({})", at.join(", ")) }
}

/// What is read, by the rules that decide it.
fn table(document: &LoadDocument) -> Table {
    let mut table = Table::new(&[
        ("tensors", Align::Right),
        ("wanted", Align::Right),
        ("read", Align::Right),
        ("requests", Align::Right),
        ("how", Align::Left),
        ("by", Align::Left),
        ("sliced by", Align::Left),
    ]);
    for rule in &document.rules {
        let traffic = &rule.traffic;
        table.row(vec![
            Cell::Plain(units::count(traffic.tensors)),
            Cell::Plain(units::bytes(traffic.bytes_wanted)),
            Cell::Plain(units::bytes(traffic.bytes_read)),
            Cell::Plain(units::count(traffic.requests)),
            Cell::Plain(if rule.verify == Verify::None.name() {
                rule.read.clone()
            } else {
                format!("{}, {}", rule.read, rule.verify)
            }),
            name(rule.loader.as_deref(), "(defaults)"),
            name(rule.partition.as_deref(), "(no rule)"),
        ]);
    }
    table
}

fn name(rule: Option<&str>, none: &str) -> Cell {
    rule.map_or_else(|| Cell::Plain(none.to_owned()), |name| Cell::Code(name.to_owned()))
}

fn human(plan: &Plan, document: &LoadDocument) -> String {
    let mut out = format!(
        "{} over {}, device {}\n\n{}\n",
        document.policy,
        document.checkpoint,
        place(plan, document.device),
        table(document).human()
    );
    for line in summary(document) {
        let _ = writeln!(out, "{line}");
    }
    out
}

fn markdown(plan: &Plan, document: &LoadDocument) -> String {
    let mut out = format!(
        "### `{}` over `{}`, device {}\n\n",
        document.policy,
        document.checkpoint,
        place(plan, document.device)
    );
    for line in summary(document) {
        let _ = writeln!(out, "- {line}");
    }
    let _ = write!(out, "\n{}", table(document).markdown());
    out
}

/// Totals, fit, and how it went.
fn summary(document: &LoadDocument) -> Vec<String> {
    let totals = &document.totals;
    let read = if document.timings.is_some() { "read" } else { "to read" };
    let mut lines = vec![format!(
        "{}: {} wanted, {} {read}{} in {}",
        units::counted(document.tensors.len(), "tensor"),
        units::bytes(totals.bytes_wanted),
        units::bytes(totals.bytes_read),
        times(totals.bytes_read, totals.bytes_wanted),
        units::counted(usize::try_from(totals.requests).unwrap_or(usize::MAX), "request"),
    )];
    let mut fit = format!(
        "on the device: {} as stored, {} as planned",
        units::bytes(document.stored_bytes),
        units::bytes(document.planned_bytes)
    );
    if let Some(memory) = document.mesh.device_memory {
        let _ = write!(fit, ", of {}", units::bytes(memory));
    }
    lines.push(fit);
    if document.staged_bytes > 0 {
        let how = if document.timings.is_some() { "read from copies in" } else { "to copy first into" };
        lines.push(format!("{how} shared memory: {}", units::bytes(document.staged_bytes)));
    }
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    document.files.iter().for_each(|file| *ways.entry(file.read.as_str()).or_default() += 1);
    if !ways.is_empty() {
        let ways: Vec<String> =
            ways.iter().map(|(way, files)| format!("{} {way}", units::counted(*files, "file"))).collect();
        lines.push(format!("read: {}", ways.join(", ")));
    }
    for file in &document.files {
        if let Some(because) = &file.because {
            // Where a way is refused, these take its place; the others are ways to do what the policy says.
            let replaced = file.read == Rung::Buffered.name();
            let not = if replaced { format!(", not {}", file.asked) } else { String::new() };
            lines.push(format!("  {}: {}{not}: {because}", file.path, file.read));
        }
    }
    if let Some(timings) = &document.timings {
        let mut line = format!(
            "done in {}, {:.2} GB/s: open {}, read {}, verify {}, copy {} over {}",
            seconds(timings.elapsed),
            timings.gigabytes_per_second,
            seconds(timings.open),
            seconds(timings.read),
            seconds(timings.verify),
            seconds(timings.copy),
            units::counted(document.options.threads, "thread"),
        );
        if let Some(peak) = timings.peak_memory {
            let _ = write!(line, "; peak memory {}", units::bytes(peak));
        }
        lines.push(line);
    }
    lines
}

/// ` (1.02 x)` where more is read than wanted.
fn times(read: u64, wanted: u64) -> String {
    if read <= wanted || wanted == 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let times = read as f64 / wanted as f64;
    format!(" ({times:.2} x)")
}

fn seconds(seconds: f64) -> String {
    if seconds < 0.01 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// The most memory that this process had at once, as Linux tells it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines about files and shared memory of a load that read one file.
    fn told(asked: &str, read: &str, staged: u64) -> Vec<String> {
        let document = format!(
            r#"{{"format": "flow-fabric/load", "format_version": 1, "policy": "p", "checkpoint": "c", "device": 0,
                "mesh": {{"axes": [], "shape": []}}, "coordinates": [], "stored_bytes": 1, "planned_bytes": 1,
                "staged_bytes": {staged}, "rules": [], "tensors": [], "findings": [],
                "options": {{"threads": 1, "chunk": 1, "queue_depth": 1, "gap": 1, "cached_gap": 1, "budget": 1}},
                "totals": {{"tensors": 1, "bytes_wanted": 1, "bytes_read": 1, "requests": 1}},
                "files": [{{"path": "f", "asked": "{asked}", "read": "{read}", "because": "the system says no",
                    "bytes_wanted": 1, "bytes_read": 1, "requests": 1}}]}}"#
        );
        let document: LoadDocument = serde_json::from_str(&document).unwrap();
        summary(&document).split_off(2)
    }

    #[test]
    fn a_file_is_said_to_be_read_otherwise_only_where_it_is() {
        let because = |asked, read| told(asked, read, 0).pop().unwrap();
        assert_eq!(because("direct", "buffered"), "  f: buffered, not direct: the system says no");
        assert_eq!(because("mmap", "buffered"), "  f: buffered, not mmap: the system says no");
        assert_eq!(because("direct", "direct"), "  f: direct: the system says no");
        assert_eq!(because("auto", "direct"), "  f: direct: the system says no");
        assert_eq!(told("auto", "direct", 1 << 20)[0], "to copy first into shared memory: 1.00 MiB");
    }
}
