//! Plans for people: records of templates, as snapshots keep them and terminals show them.
//!
//! A record is a path template and exactly three lines, each ending in the rule that decided it. No column is aligned,
//! so that one new weight does not rewrite the lines of others; order is natural, totals stand at the end.

use std::fmt::Write as _;

use super::record::Summary;
use super::{Plan, PlannedWeight};
use crate::inventory;
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
        const NO_RULE: &str = "(no rule)";
        let (weight, class, load) = (planned.weight, planned.class(), planned.decision.load);
        let mut form = format!("{} {:?}", weight.dtype, weight.shape);
        if weight.format.is_encoded() {
            let _ = write!(form, " as {}", weight.format);
        }
        if let Some(target) = &weight.alias_of {
            let _ = write!(form, " alias of {target}");
        }
        let mut shard = class.spec.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        if let Some(axis) = class.place_axis {
            let _ = write!(shard, " placed over {}", planned.plan.mesh.name(axis));
        }
        for fallback in &class.cuts.fallbacks {
            let _ = write!(shard, " {}", fallback.name());
        }
        let mut loaded = load.read.name().to_owned();
        if load.stage != Stage::None {
            let _ = write!(loaded, " via {}", load.stage);
        }
        if load.verify != Verify::None {
            let _ = write!(loaded, ", verified by {}", load.verify);
        }
        let quant = match (&class.scheme, class.kept_non_float) {
            (Some(scheme), _) => scheme.to_string(),
            (None, true) => "keep (not floating-point)".to_owned(),
            (None, false) => "keep".to_owned(),
        };
        Self {
            form,
            shard,
            shard_rule: planned.partition_rule().unwrap_or(NO_RULE).to_owned(),
            quant,
            quant_rule: planned.quantization_rule().unwrap_or(NO_RULE).to_owned(),
            load: loaded,
            load_rule: planned.loader_rule().unwrap_or("(default)").to_owned(),
        }
    }
}

impl Record {
    /// Writes the record: the template line and three indented lines.
    pub fn write(&self, out: &mut String) {
        let text = &self.text;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}  {} x {}", self.template, self.weights.len(), text.form);
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
        let _ = writeln!(
            out,
            "load: {} by rule, {} by default",
            count(summary.weights - summary.aliases - summary.default_load),
            count(summary.default_load)
        );
        for (fallback, weights) in &summary.fallbacks {
            let _ = writeln!(out, "fallback {fallback}: {}", count(*weights));
        }
        self.devices_line(&mut out);
        out
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
