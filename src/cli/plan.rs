//! `plan`: how every weight of a checkpoint is sharded, quantized and loaded.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::input::{self, MeshOption, PolicyOptions};
use super::lints::LintFlags;
use super::watch::watch;
use super::{Outcome, Stop, Ui};
use crate::finding::{Code, Finding, echo, levels};
use crate::inventory::{Checkpoint, natural_cmp};
use crate::plan::text::Record;
use crate::plan::{Plan, PlanOptions, PlannedWeight};
use crate::policy::Policy;
use crate::units;

/// Resolve every weight of a checkpoint: shard spec, quantization, loading, and the rule that decided each
///
/// CHECKPOINT is a safetensors file, a directory of them, their index, a GGUF, torch or numpy file, Grok-1's `ckpt-0`,
/// or a JSONL list of names, dtypes and shapes (`.gz` too, `-` for standard input). Only headers are read.
///
/// Examples:
///   $ flow-fabric plan policies/grok-1.toml tests/data/inventories/grok-1.jsonl
///   $ flow-fabric plan policies/llama-3.toml model/ --mesh tp=4 --format json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct PlanVerb {
    /// The policy
    policy: PathBuf,
    /// The checkpoint
    checkpoint: PathBuf,
    #[command(flatten)]
    mesh: MeshOption,
    /// Show what one device holds: its number, or its coordinates `data=0,model=3`
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// List every weight instead of templates
    #[arg(long)]
    all: bool,
    /// How to print it; json and jsonl always list every weight
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    /// Run again whenever a policy file or checkpoint changes, until interrupted
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    lints: LintFlags,
    #[command(flatten)]
    options: PolicyOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    #[value(alias = "table")]
    Human,
    Json,
    Jsonl,
    Markdown,
    Snapshot,
}

impl PlanVerb {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        if self.watch { watch(ui, |ui| self.once(ui)) } else { self.once(ui) }
    }

    fn once(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.options.require(&self.policy, ui)?;
        let mut plan = resolve(&policy, &self.checkpoint, &self.mesh, ui)?;
        let declared = self.lints.over(&policy.lints);
        plan.findings = levels::settle(&declared, std::mem::take(&mut plan.findings), is_looked_for);
        let device = self.device.as_deref().map(|text| device(&plan, text)).transpose()?;
        match (self.format, device) {
            (Format::Human, None) => ui.print(&human(&plan, self.all))?,
            (Format::Human, Some(device)) => ui.print(&held(&plan, device, self.all))?,
            (Format::Json, None) => ui.write_with(|out| {
                plan.write_json(&mut *out)?;
                out.write_all(b"\n")
            })?,
            (Format::Jsonl, None) => ui.write_with(|out| plan.write_jsonl(out).map_err(std::io::Error::from))?,
            (Format::Markdown, None) => ui.print(&markdown(&plan, self.all))?,
            (Format::Snapshot, None) => ui.print(&plan.snapshot())?,
            (_, Some(_)) => {
                return Err(Stop::failed("`--device` is for people").help(
                    "in json and jsonl every weight says its pieces and owners, and `devices` lists all devices",
                ));
            }
        }
        ui.report(&plan.findings, policy.sources())?;
        Ok(Outcome::of(&plan.findings))
    }
}

/// Opens, groups and plans; all findings end up in the plan.
pub(super) fn resolve(policy: &Policy, checkpoint: &Path, mesh: &MeshOption, ui: &mut Ui) -> Result<Plan, Stop> {
    let (checkpoint, findings) = input::open(checkpoint, ui)?;
    over(policy, &checkpoint, findings, mesh)
}

/// Groups and plans; `found` is what opening the checkpoint found.
pub(super) fn over(
    policy: &Policy,
    checkpoint: &Checkpoint,
    found: Vec<Finding>,
    mesh: &MeshOption,
) -> Result<Plan, Stop> {
    let options = PlanOptions { mesh: mesh.resolve(policy)? };
    let (inventory, grouped) = policy.group(checkpoint);
    let mut plan = Plan::new(policy, inventory, &options).map_err(|error| Stop::failed(error.to_string()))?;
    echo::drop_empty(&found, &mut plan.findings);
    plan.findings.extend(found.into_iter().chain(grouped));
    crate::finding::sort(&mut plan.findings);
    Ok(plan)
}

/// Planning asks everything but what only static analysis knows.
pub(super) fn is_looked_for(code: &Code) -> bool {
    !code.id.starts_with("FF3")
}

fn head(plan: &Plan) -> String {
    let mesh = if plan.mesh.axes().is_empty() { "one device".to_owned() } else { plan.mesh.to_string() };
    format!("{} over {} on {mesh}\n\n", plan.policy, plan.inventory.name)
}

fn records(plan: &Plan, all: bool) -> Vec<Record> {
    if all { plan.records_uncollapsed() } else { plan.records() }
}

fn human(plan: &Plan, all: bool) -> String {
    let mut out = head(plan);
    for record in records(plan, all) {
        record.write(&mut out);
        out.push('\n');
    }
    out.push_str(&plan.totals());
    out
}

/// A device by number or by coordinates.
pub(super) fn device(plan: &Plan, text: &str) -> Result<u64, Stop> {
    let devices = plan.mesh.devices();
    if let Ok(number) = text.parse::<u64>() {
        if number < devices {
            return Ok(number);
        }
        return Err(Stop::failed(format!("no device {number}")).help(format!(
            "the mesh ({}) has devices 0 to {}",
            plan.mesh,
            devices - 1
        )));
    }
    let mut coordinates = vec![None; plan.mesh.axes().len()];
    for part in text.split(',') {
        let parsed = part
            .split_once('=')
            .and_then(|(name, at)| Some((plan.mesh.axis(name.trim())?, at.trim().parse::<u64>().ok()?)));
        let Some((axis, at)) = parsed.filter(|(axis, at)| *at < plan.mesh.size(*axis)) else {
            return Err(Stop::failed(format!("`{part}` is not a coordinate of the mesh ({})", plan.mesh))
                .help("write a number, or `data=0,model=3`"));
        };
        if let Some(slot) = coordinates.get_mut(axis.index()) {
            *slot = Some(at);
        }
    }
    let coordinates: Option<Vec<u64>> = coordinates.into_iter().collect();
    match coordinates {
        Some(coordinates) => Ok(plan.mesh.device(&coordinates)),
        None => {
            Err(Stop::failed(format!("`{text}` leaves a coordinate open")).help(format!("the axes are {}", plan.mesh)))
        }
    }
}

/// What one device holds: for every template its slice and bytes.
fn held(plan: &Plan, device: u64, all: bool) -> String {
    let coordinates = plan.mesh.coordinates(device);
    let at: Vec<String> =
        plan.mesh.axes().iter().zip(&coordinates).map(|((name, _), at)| format!("{name}={at}")).collect();
    let mut out = format!("{} over {}, device {device} ({})\n\n", plan.policy, plan.inventory.name, at.join(", "));
    let slices: Vec<Option<String>> =
        plan.weights().map(|planned| slice(plan, &planned, device, &coordinates)).collect();
    let mut lines: Vec<(String, usize, String)> = Vec::new();
    if all {
        let weights = plan.weights().zip(slices);
        lines.extend(weights.filter_map(|(planned, slice)| Some((planned.weight.path.clone(), 1, slice?))));
    } else {
        let kept = plan
            .weights()
            .zip(&slices)
            .filter_map(|(planned, slice)| Some((planned.weight.path.as_str(), slice.as_ref()?)));
        for template in crate::inventory::collapse(kept) {
            lines.push((template.to_string(), template.members.len(), template.key.clone()));
        }
        lines.sort_by(|a, b| natural_cmp(&a.0, &b.0));
    }
    for (template, count, slice) in lines {
        let _ = writeln!(out, "{template}  {count} x {slice}");
    }
    if let Some(held) = usize::try_from(device).ok().and_then(|device| plan.devices.get(device)) {
        let _ =
            writeln!(out, "\nstored {}, planned {}", units::bytes(held.stored_bytes), units::bytes(held.planned_bytes));
    }
    out
}

/// `bf16 [0:6144, 768:1536]`, or nothing when the device does not hold the weight.
fn slice(plan: &Plan, planned: &PlannedWeight<'_>, device: u64, coordinates: &[u64]) -> Option<String> {
    if planned.owners().is_some_and(|owners| !owners.contains(&device)) {
        return None;
    }
    let ranges: Vec<String> = planned
        .class()
        .cuts
        .dimensions
        .iter()
        .zip(&planned.weight.shape)
        .map(|(dimension, &size)| {
            let (start, stop) = dimension.cut.range(size, dimension.index(&plan.mesh, coordinates));
            format!("{start}:{stop}")
        })
        .collect();
    Some(format!("{} [{}]", planned.weight.dtype, ranges.join(", ")))
}

fn markdown(plan: &Plan, all: bool) -> String {
    let mut out = format!("### `{}` over `{}`\n\n", plan.policy, plan.inventory.name);
    for line in plan.totals().lines() {
        let _ = writeln!(out, "- {line}");
    }
    out.push_str("\n| weights | | shard | quant | load |\n|---|---|---|---|---|\n");
    for record in records(plan, all) {
        let text = &record.text;
        let _ = writeln!(
            out,
            "| `{}` | {} x {} | `{}` {} | `{}` {} | `{}` {} |",
            record.template,
            record.weights.len(),
            text.form,
            text.shard,
            text.shard_rule,
            text.quant,
            text.quant_rule,
            text.load,
            text.load_rule
        );
    }
    out
}
