//! Plans for people: records of templates, as snapshots keep them and terminals show them.
//!
//! A record is a path template and exactly three lines, each ending in the rule that decided it. No column is aligned,
//! so that one new weight does not rewrite the lines of others; order is natural, totals stand at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::diff::DecisionRecord;
use super::record::Summary;
use super::{Plan, PlannedWeight, SlotPlan};
use crate::Dtype;
use crate::finding::render::text::one_line;
use crate::inventory::{self, StoredFormat};
use crate::mesh::PartitionSpec;
use crate::policy::written;
use crate::policy::{Stage, Verify};
use crate::units;

/// Weights that are decided alike and whose paths make one template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The path template.
    pub template: String,
    /// Indices of its weights in the inventory, ascending.
    pub weights: Vec<usize>,
    /// What its weights have in common.
    pub text: RecordText,
}

/// The lines of a [`Record`], without the template and the count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordText {
    /// `bf16 [8, 6144, 32768]`, with ` as grok-1` when it is not stored plain, and the weight it is an alias of.
    pub form: String,
    /// `[-, data, model]`, with placement and fallbacks.
    pub shard: String,
    /// The partition rule, or `(no rule)`.
    pub shard_rule: String,
    /// `int8`, or `keep`.
    pub quant: String,
    /// The quantization rule, or `(no rule)`.
    pub quant_rule: String,
    /// `direct via shm, verified by xxh3`.
    pub load: String,
    /// The loader rule, or `(default)`.
    pub load_rule: String,
}

impl RecordText {
    fn new(planned: &PlannedWeight<'_>) -> Self {
        let (weight, class, load) = (planned.weight, planned.class(), planned.decision.load);
        let placed = class.place_axis.map(|axis| planned.plan.mesh.name(axis));
        let fallbacks = class.cuts.fallbacks.iter().map(|fallback| fallback.name());
        Self {
            form: form(weight.dtype, &weight.shape, weight.format.name(), weight.alias_of.as_deref()),
            shard: shard(class.spec.as_ref(), placed, fallbacks),
            shard_rule: planned.partition_rule().unwrap_or(NO_RULE).to_owned(),
            quant: quant(class.scheme.as_deref().unwrap_or("keep"), class.kept_non_float),
            quant_rule: planned.quantization_rule().unwrap_or(NO_RULE).to_owned(),
            load: loading(load.read.name(), load.stage.name(), load.verify.name()),
            load_rule: planned.loader_rule().unwrap_or(DEFAULT).to_owned(),
        }
    }
}

impl From<&DecisionRecord> for RecordText {
    fn from(decision: &DecisionRecord) -> Self {
        let DecisionRecord { shard: sharded, quant: quantized, load, .. } = decision;
        let name = |rule: &Option<String>, none: &str| rule.as_deref().unwrap_or(none).to_owned();
        Self {
            form: form(decision.dtype, &decision.shape, &decision.stored, decision.alias_of.as_deref()),
            shard: shard(
                sharded.spec.as_ref(),
                sharded.placed_over.as_deref(),
                sharded.fallbacks.iter().map(String::as_str),
            ),
            shard_rule: name(&sharded.rule, NO_RULE),
            quant: quant(&quantized.scheme, quantized.kept_non_float),
            quant_rule: name(&quantized.rule, NO_RULE),
            load: loading(&load.read, &load.stage, &load.verify),
            load_rule: name(&load.rule, DEFAULT),
        }
    }
}

const NO_RULE: &str = "(no rule)";
const DEFAULT: &str = "(default)";

fn form(dtype: Dtype, shape: &[u64], format: &str, alias_of: Option<&str>) -> String {
    let mut form = format!("{dtype} {shape:?}");
    if format != StoredFormat::Plain.name() {
        let _ = write!(form, " as {format}");
    }
    if let Some(target) = alias_of {
        let _ = write!(form, " alias of {target}");
    }
    form
}

fn shard<'a>(
    spec: Option<&PartitionSpec>,
    placed_over: Option<&str>,
    fallbacks: impl Iterator<Item = &'a str>,
) -> String {
    let mut shard = spec.map_or_else(|| "none".to_owned(), ToString::to_string);
    if let Some(axis) = placed_over {
        let _ = write!(shard, " placed over {axis}");
    }
    for fallback in fallbacks {
        let _ = write!(shard, " {fallback}");
    }
    shard
}

fn quant(scheme: &str, kept_non_float: bool) -> String {
    if kept_non_float { "keep (not floating-point)".to_owned() } else { scheme.to_owned() }
}

fn loading(read: &str, stage: &str, verify: &str) -> String {
    let mut loading = read.to_owned();
    if stage != Stage::None.name() {
        let _ = write!(loading, " via {stage}");
    }
    if verify != Verify::None.name() {
        let _ = write!(loading, ", verified by {verify}");
    }
    loading
}

impl Record {
    /// Writes the record: the template line and three indented lines.
    pub fn write(&self, out: &mut String) {
        let text = &self.text;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}  {} x {}", one_line(&self.template), self.weights.len(), one_line(&text.form));
        let _ = writeln!(out, "  shard {}  {}", text.shard, text.shard_rule);
        let _ = writeln!(out, "  quant {}  {}", text.quant, text.quant_rule);
        let _ = writeln!(out, "  load {}  {}", text.load, text.load_rule);
    }
}

impl Plan {
    /// The plan as records, collapsed into templates, in natural order.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let texts: Vec<RecordText> = self.texts();
        let paths = self.inventory.weights.iter().map(|weight| weight.path.as_str()).zip(&texts);
        inventory::collapse(paths)
            .into_iter()
            .map(|template| Record {
                template: template.to_string(),
                text: template.key.clone(),
                weights: template.members,
            })
            .collect()
    }

    /// The plan as records, one per weight, in the order of the checkpoint.
    #[must_use]
    pub fn records_uncollapsed(&self) -> Vec<Record> {
        let weights = self.inventory.weights.iter().enumerate().zip(self.texts());
        weights
            .map(|((index, weight), text)| Record { template: weight.path.clone(), weights: vec![index], text })
            .collect()
    }

    fn texts(&self) -> Vec<RecordText> {
        self.weights().map(|planned| RecordText::new(&planned)).collect()
    }

    /// The snapshot: every record, then the totals. What reviewers read, and what `snapshot --check` compares.
    #[must_use]
    pub fn snapshot(&self) -> String {
        let mut out = String::new();
        for record in self.records() {
            record.write(&mut out);
            out.push('\n');
        }
        out.push_str(&self.totals());
        out
    }

    /// Counts, bytes and devices in a few lines.
    #[must_use]
    pub fn totals(&self) -> String {
        let summary = &self.summary;
        let mut out = String::new();
        let count = units::count;
        let _ = write!(out, "{} weights of {} stored tensors", count(summary.weights), count(summary.stored_tensors));
        if summary.aliases > 0 {
            let _ = write!(out, ", {} of them aliases", count(summary.aliases));
        }
        if summary.excluded > 0 {
            let _ = write!(out, ", {} tensors excluded", count(summary.excluded));
        }
        let _ = writeln!(out);
        let _ = writeln!(
            out,
            "stored {}, planned {}, {} elements",
            units::bytes(summary.stored_bytes),
            units::bytes(summary.planned_bytes),
            count(summary.elements)
        );
        let _ = writeln!(
            out,
            "shard: {} split, {} replicated, {} placed",
            count(summary.sharded),
            count(summary.replicated),
            count(summary.placed)
        );
        let _ = writeln!(
            out,
            "quant: {} quantized, {} kept{}",
            count(summary.quantized),
            count(summary.kept),
            non_float(summary)
        );
        self.schemes(&mut out);
        let _ = writeln!(
            out,
            "load: {} by rule, {} by default",
            count(summary.weights - summary.aliases - summary.default_load),
            count(summary.default_load)
        );
        for (fallback, weights) in &summary.fallbacks {
            let _ = writeln!(out, "fallback {fallback}: {}", count(*weights));
        }
        for (name, slot) in &self.slots {
            self.slot(name, slot, &mut out);
        }
        self.devices_line(&mut out);
        out
    }

    /// The schemes that apply: records only name them.
    fn schemes(&self, out: &mut String) {
        let mut weights: BTreeMap<&str, usize> = BTreeMap::new();
        for planned in self.weights().filter(|planned| planned.weight.alias_of.is_none()) {
            if let Some(scheme) = planned.class().scheme.as_deref() {
                *weights.entry(scheme).or_default() += 1;
            }
        }
        for (name, weights) in weights {
            let says = written::of(&self.settings, "scheme", name);
            let _ = writeln!(out, "scheme {name}: {}, {says}", units::counted(weights, "weight"));
        }
    }

    fn slot(&self, name: &str, slot: &SlotPlan, out: &mut String) {
        let _ = write!(out, "slot {name}: {}", units::counted(slot.weights.len(), "weight"));
        let sampler = slot.sampler.as_ref().map(|sampler| ("sampler", &sampler.name));
        let moe = slot.moe.as_ref().map(|moe| ("moe", &moe.name));
        for (kind, name) in sampler.into_iter().chain(moe) {
            let _ = write!(out, "; {kind} {name}: {}", written::of(&self.settings, kind, name));
        }
        let _ = writeln!(out);
    }

    fn devices_line(&self, out: &mut String) {
        let mesh = if self.mesh.axes().is_empty() { "no mesh".to_owned() } else { self.mesh.to_string() };
        let stored = range(self.devices.iter().map(|device| device.stored_bytes));
        let planned = range(self.devices.iter().map(|device| device.planned_bytes));
        let _ = write!(out, "{} devices ({mesh}): each stores {stored}, planned {planned}", self.devices.len());
        if let Some(memory) = self.device_memory {
            let fits = |bytes: fn(&super::Device) -> u64| self.devices.iter().all(|device| bytes(device) <= memory);
            let word = match (fits(|device| device.stored_bytes), fits(|device| device.planned_bytes)) {
                (true, true) => "fits",
                (false, true) => "fits as planned, not as stored",
                (true, false) => "fits as stored, not as planned",
                (false, false) => "does not fit",
            };
            let _ = write!(out, "; {word} in {}", units::bytes(memory));
        }
        let _ = writeln!(out);
    }
}

fn non_float(summary: &Summary) -> String {
    match summary.kept_non_float {
        0 => String::new(),
        some => format!(" ({} of them not floating-point)", units::count(some)),
    }
}

/// `1.00 GiB`, or `1.00 GiB to 2.00 GiB` when they differ.
fn range(bytes: impl Iterator<Item = u64> + Clone) -> String {
    let (least, most) = (bytes.clone().min().unwrap_or(0), bytes.max().unwrap_or(0));
    if least == most { units::bytes(most) } else { format!("{} to {}", units::bytes(least), units::bytes(most)) }
}
