//! Diffs for people: groups of weights under the edits that explain them, collapsed into templates.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Change, ChangeKind, DecisionRecord, Edit, EditHow, EditKind, PlanDiff, WeightChange};
use crate::finding::code;
use crate::finding::render::text::one_line;
use crate::inventory;
use crate::plan::record::SlotRecord;
use crate::plan::text::RecordText;
use crate::units::{bytes, bytes_change, count, counted};

/// Weights that the same edits change alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The edits, as positions in [`PlanDiff::edits`]; empty for weights that no edit explains.
    pub edits: BTreeSet<usize>,
    /// Weights that change alike and whose paths make one template.
    pub records: Vec<ChangeRecord>,
}

/// Weights that change alike and whose paths make one template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRecord {
    /// The path template.
    pub template: String,
    /// Positions in [`PlanDiff::weights`], ascending.
    pub weights: Vec<usize>,
    /// What changes.
    pub text: ChangeText,
}

/// The lines of a [`ChangeRecord`]: `before -> after`, and the rules; empty where nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChangeText {
    /// `bf16 [8, 6144, 32768] as grok-1`.
    pub form: String,
    /// Sharding and the deciding rules.
    pub shard: String,
    /// Quantization, companions of the same scheme included, and the deciding rules.
    pub quant: String,
    /// Loading and the deciding rules.
    pub load: String,
    /// Bytes of one weight, and of it on a device.
    pub bytes: String,
}

impl ChangeText {
    /// The lines that say something, each with its word: `shard [data] -> []  router`.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let lines = [("shard", &self.shard), ("quant", &self.quant), ("load", &self.load), ("bytes", &self.bytes)];
        lines.into_iter().filter(|(_, text)| !text.is_empty()).map(|(word, text)| format!("{word} {text}"))
    }

    pub(super) fn new(weight: &WeightChange) -> Self {
        let (Some(before), Some(after)) = (&weight.before, &weight.after) else {
            let only = weight.before.as_ref().or(weight.after.as_ref());
            return only.map(|decision| Self::one_sided(weight, decision)).unwrap_or_default();
        };
        let texts = Change { before: RecordText::from(before), after: RecordText::from(after) };
        let line = |decided: fn(&RecordText) -> &str, rule: fn(&RecordText) -> &str, extra: &str| {
            let changed = Change { before: decided(&texts.before), after: decided(&texts.after) };
            let rules = Change { before: rule(&texts.before), after: rule(&texts.after) };
            format!("{}{extra}  {}", arrow(changed), arrow(rules))
        };
        let mut text = Self {
            form: arrow(Change { before: texts.before.form.as_str(), after: &texts.after.form }),
            ..Self::default()
        };
        if before.shard != after.shard {
            let extra = shard_extra(before, after, texts.before.shard == texts.after.shard);
            text.shard = line(|text| &text.shard, |text| &text.shard_rule, &extra);
        }
        let requantized = weight.changes.contains(&ChangeKind::Quant);
        if requantized || before.quant.rule != after.quant.rule {
            let extra = if requantized { quant_extra(&weight.path, before, after) } else { String::new() };
            text.quant = line(|text| &text.quant, |text| &text.quant_rule, &extra);
        }
        if before.load != after.load {
            text.load = line(|text| &text.load, |text| &text.load_rule, "");
        }
        text.bytes = bytes_line(before, after);
        text
    }

    fn one_sided(weight: &WeightChange, decision: &DecisionRecord) -> Self {
        let text = RecordText::from(decision);
        let word = if weight.before.is_some() { "gone" } else { "new" };
        Self {
            form: format!("{word}, {}", text.form),
            shard: format!("{}  {}", text.shard, text.shard_rule),
            quant: format!("{}  {}", text.quant, text.quant_rule),
            load: format!("{}  {}", text.load, text.load_rule),
            bytes: bytes(decision.quant.bytes),
        }
    }
}

/// `before -> after`, or the one text that both are.
fn arrow(change: Change<&str>) -> String {
    if change.before == change.after {
        change.after.to_owned()
    } else {
        format!("{} -> {}", change.before, change.after)
    }
}

/// What the spec does not show: pieces that change while it stays.
fn shard_extra(before: &DecisionRecord, after: &DecisionRecord, same_text: bool) -> String {
    let pieces = (&before.shard.local_shape, &after.shard.local_shape);
    match pieces {
        (Some(before), Some(after)) if before != after => format!(", {before:?} -> {after:?} on a device"),
        _ if same_text && before.shard.owners != after.shard.owners => ", other owners".to_owned(),
        _ if same_text && before.shard.replicas != after.shard.replicas => {
            format!(", {} -> {} replicas", before.shard.replicas, after.shard.replicas)
        }
        _ if same_text && before.shard.shards != after.shard.shards => ", other pieces".to_owned(),
        _ => String::new(),
    }
}

/// What a scheme of the same name does otherwise.
fn quant_extra(path: &str, before: &DecisionRecord, after: &DecisionRecord) -> String {
    if before.quant.scheme != after.quant.scheme {
        return String::new();
    }
    match (before.quant.companions.is_empty(), after.quant.companions.is_empty()) {
        (false, true) => return ", which cannot hold it now".to_owned(),
        (true, false) => return ", which could not hold it".to_owned(),
        _ => {}
    }
    let own = |name: &str| {
        let own = name.strip_prefix(path).unwrap_or(name).trim_start_matches(['/', '.', '_']);
        if own.is_empty() { "codes".to_owned() } else { own.to_owned() }
    };
    let companions = |decision: &DecisionRecord| -> BTreeMap<String, String> {
        let companions = decision.quant.companions.iter();
        companions.map(|one| (own(&one.name), format!("{} {:?}", one.dtype, one.shape))).collect()
    };
    let (then, now) = (companions(before), companions(after));
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let mut extra = String::new();
    for name in names {
        match (then.get(name), now.get(name)) {
            (Some(before), Some(after)) if before != after => {
                let _ = write!(extra, ", {name} {before} -> {after}");
            }
            (Some(before), None) => {
                let _ = write!(extra, ", no {name} {before}");
            }
            (None, Some(after)) => {
                let _ = write!(extra, ", and {name} {after}");
            }
            _ => {}
        }
    }
    if extra.is_empty() { ", other codes".to_owned() } else { extra }
}

fn bytes_line(before: &DecisionRecord, after: &DecisionRecord) -> String {
    let change =
        |what: &str, change: Change<u64>| (change.before != change.after).then(|| format!("{}{what}", grown(change)));
    let of = |get: fn(&DecisionRecord) -> u64| Change { before: get(before), after: get(after) };
    let planned = of(|decision| decision.on_device.planned_bytes);
    let stored = of(|decision| decision.on_device.stored_bytes);
    let on_device = if planned == stored {
        [change(" on a device", planned), None]
    } else {
        [change(" on a device", planned), change(" as stored", stored)]
    };
    let parts = std::iter::once(change("", of(|decision| decision.quant.bytes))).chain(on_device);
    parts.flatten().collect::<Vec<_>>().join("; ")
}

/// `3.00 MiB -> 1.00 MiB (-2.00 MiB)`, or the size when it stays.
fn grown(change: Change<u64>) -> String {
    if change.before == change.after {
        return bytes(change.after);
    }
    let by = i128::from(change.after) - i128::from(change.before);
    format!("{} -> {} ({})", bytes(change.before), bytes(change.after), bytes_change(by))
}

impl PlanDiff {
    /// The changed weights under the edits that explain them, in the order of the edits, collapsed into templates.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut by_edits: BTreeMap<&BTreeSet<usize>, Vec<usize>> = BTreeMap::new();
        for (at, weight) in self.weights.iter().enumerate() {
            by_edits.entry(&weight.edits).or_default().push(at);
        }
        by_edits
            .into_iter()
            .map(|(edits, members)| {
                let weights = members.iter().filter_map(|&at| self.weights.get(at));
                let paths = weights.map(|weight| (weight.path.as_str(), ChangeText::new(weight)));
                let records = inventory::collapse(paths).into_iter().map(|template| ChangeRecord {
                    template: template.to_string(),
                    weights: template.members.iter().filter_map(|&at| members.get(at).copied()).collect(),
                    text: template.key,
                });
                Group { edits: edits.clone(), records: records.collect() }
            })
            .collect()
    }

    /// The diff for a terminal; its last line is [`PlanDiff::sentence`].
    #[must_use]
    pub fn human(&self) -> String {
        let mut out = format!("{} -> {}, over {}\n\n", self.old.name, self.new.name, self.over());
        let mut shown: BTreeSet<usize> = BTreeSet::new();
        for Group { edits, records } in self.groups() {
            shown.extend(&edits);
            if edits.is_empty() {
                out.push_str("by no edit of the policies\n");
            }
            for edit in edits.iter().filter_map(|&at| self.edits.get(at)) {
                edit.write(&mut out);
            }
            for ChangeRecord { template, weights, text } in &records {
                let _ = writeln!(
                    out,
                    "\n  {}  {} x {}",
                    one_line(template),
                    count(weights.len() as u64),
                    one_line(&text.form)
                );
                for line in text.lines() {
                    let _ = writeln!(out, "    {line}");
                }
            }
            out.push('\n');
        }
        self.write_idle(&shown, &mut out);
        for (title, lines) in self.remarks() {
            let _ = writeln!(out, "{title}");
            for line in lines {
                let _ = writeln!(out, "  {line}");
            }
            out.push('\n');
        }
        let _ = writeln!(out, "{}", self.on_devices());
        let _ = writeln!(out, "{}", self.sentence());
        out
    }

    /// Edits that change no weight: profiles and slots say so themselves.
    fn write_idle(&self, shown: &BTreeSet<usize>, out: &mut String) {
        let idle: Vec<&Edit> =
            self.edits.iter().enumerate().filter(|(at, _)| !shown.contains(at)).map(|(_, edit)| edit).collect();
        if idle.is_empty() {
            return;
        }
        out.push_str("no weight is decided otherwise by\n");
        for edit in idle {
            let mut text = String::new();
            edit.write(&mut text);
            for line in text.lines() {
                let _ = writeln!(out, "  {line}");
            }
        }
        out.push('\n');
    }

    /// What there is to know besides weights and edits, each with its title.
    pub(super) fn remarks(&self) -> Vec<(&'static str, Vec<String>)> {
        let unmatched = inventory::collapse(
            self.newly_unmatched.iter().map(|one| (one.path.as_str(), (one.table.clone(), one.before.clone()))),
        );
        let unmatched = unmatched.into_iter().map(|template| {
            let (table, before) = &template.key;
            let before = before.as_ref().map(|rule| format!(", was {rule}")).unwrap_or_default();
            format!("{}  {} x {table}{before}", one_line(&template.to_string()), template.members.len())
        });
        let rules = |rules: &[super::RuleName]| -> Vec<String> {
            rules.iter().map(|rule| format!("{} rule {}", rule.table, rule.name)).collect()
        };
        // Rules without weights have a title of their own, which no level silences.
        let said = [code::UNUSED_RULE.id, code::NEVER_DECIDES.id];
        let findings = |findings: &[crate::finding::FindingRecord]| -> Vec<String> {
            findings
                .iter()
                .filter(|finding| !said.contains(&finding.code.as_str()))
                .map(|finding| format!("{} {}: {}", finding.code, finding.name, one_line(&finding.message)))
                .collect()
        };
        let slots = self.slots.iter().map(|slot| {
            let text = |slot: &Option<SlotRecord>| slot.as_ref().map_or_else(|| "absent".to_owned(), slot_text);
            let (before, after) = (text(&slot.before), text(&slot.after));
            if before == after {
                format!("{}: other weights or profile, {after}", slot.name)
            } else {
                format!("{}: {before} -> {after}", slot.name)
            }
        });
        let remarks = [
            ("without a rule now", unmatched.collect()),
            ("decides nothing now", rules(&self.newly_unused)),
            ("decides something now", rules(&self.newly_used)),
            ("slots", slots.collect()),
            ("finds now", findings(&self.new_findings)),
            ("finds no more", findings(&self.resolved_findings)),
        ];
        remarks.into_iter().filter(|(_, lines): &(_, Vec<String>)| !lines.is_empty()).collect()
    }

    /// The checkpoint and the mesh.
    pub(super) fn over(&self) -> String {
        let mesh = |mesh: &crate::plan::record::MeshRecord| {
            let axes = mesh.axes.iter().zip(&mesh.shape).map(|(axis, size)| format!("{axis}={size}"));
            match axes.collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "one device".to_owned(),
                axes => axes,
            }
        };
        let inventory = arrow(Change { before: self.old.inventory.as_str(), after: &self.new.inventory });
        let (then, now) = (mesh(&self.old.mesh), mesh(&self.new.mesh));
        format!("{} on {}", one_line(&inventory), arrow(Change { before: &then, after: &now }))
    }

    /// Bytes of the fullest device before and after.
    #[must_use]
    pub fn on_devices(&self) -> String {
        let summary = &self.summary;
        let devices = Change { before: self.devices.before.len(), after: self.devices.after.len() };
        let number = if devices.before == devices.after {
            counted(devices.after, "device")
        } else {
            format!("{} -> {} devices", count(devices.before as u64), count(devices.after as u64))
        };
        format!(
            "{number}, the fullest: stored {}, planned {}",
            grown(summary.device_stored_bytes),
            grown(summary.device_planned_bytes)
        )
    }

    /// The counts, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let summary = &self.summary;
        let kinds = [
            (summary.resharded, "resharded"),
            (summary.requantized, "requantized"),
            (summary.reloaded, "loaded otherwise"),
            (summary.other_rule, "decided alike by another rule"),
            (summary.appeared, "new"),
            (summary.disappeared, "gone"),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{} {what}", count(*number)))
            .collect();
        let all = count(summary.weights.after.max(summary.weights.before));
        let mut sentence = match summary.changed {
            0 => format!("none of {all} weights changes"),
            1 => format!("1 of {all} weights changes: {}", kinds.join(", ")),
            changed => format!("{} of {all} weights change: {}", count(changed), kinds.join(", ")),
        };
        let change = |change: Change<u64>| arrow(Change { before: &count(change.before), after: &count(change.after) });
        let _ = write!(sentence, "; without a partition rule {}", change(summary.unmatched_partition));
        let _ = write!(sentence, ", rules that decide nothing {}", change(summary.unused_rules));
        sentence
    }
}

fn slot_text(slot: &SlotRecord) -> String {
    let mut text = counted(slot.tensors.len(), "weight");
    for (kind, name) in slot
        .sampler
        .iter()
        .map(|sampler| ("sampler", &sampler.name))
        .chain(slot.moe.iter().map(|moe| ("moe", &moe.name)))
    {
        let _ = write!(text, ", {kind} {name}");
    }
    text
}

impl Edit {
    /// What is edited, where: `partition rule moe-down  policies/grok-1.toml:158`, `scheme int8`, `[partition]`.
    pub(super) fn title(&self) -> String {
        let mut title = match (self.kind, &self.table) {
            (EditKind::Rule, table) => format!("{} rule {}", table.as_deref().unwrap_or_default(), self.name),
            (EditKind::Setting, _) => format!("[{}]", self.name),
            (EditKind::Mesh, _) => "mesh".to_owned(),
            (EditKind::Scheme, _) => format!("scheme {}", self.name),
            (EditKind::Sampler, _) => format!("sampler {}", self.name),
            (EditKind::Moe, _) => format!("moe {}", self.name),
            (EditKind::Slot, _) => format!("slot {}", self.name),
            (EditKind::Stored, _) => format!("stored {}", self.name),
        };
        match self.how {
            EditHow::Added => title.push_str(" added"),
            EditHow::Removed => title.push_str(" removed"),
            EditHow::Changed | EditHow::Renamed | EditHow::Moved => {}
        }
        if let Some(was) = &self.was {
            let _ = write!(title, ", was {was}");
        }
        if self.moved {
            match &self.before {
                Some(next) => {
                    let _ = write!(title, ", moved before {next}");
                }
                None => title.push_str(", moved to the end"),
            }
        }
        title
    }

    /// The place where it is written.
    fn place(&self) -> Option<String> {
        let (file, line) = (self.file.as_ref()?, self.line?);
        Some(format!("{}:{line}", one_line(file)))
    }

    /// `spec = ["data"] -> []` and the like.
    pub(super) fn key_lines(&self) -> impl Iterator<Item = String> + '_ {
        self.keys.iter().map(|key| {
            let name = if key.key.is_empty() { self.name.as_str() } else { key.key.as_str() };
            match (&key.before, &key.after) {
                (Some(before), Some(after)) => format!("{name} = {before} -> {after}"),
                (None, Some(after)) => format!("+ {name} = {after}"),
                (Some(before), None) => format!("- {name} = {before}"),
                (None, None) => name.to_owned(),
            }
        })
    }

    fn write(&self, out: &mut String) {
        let place = self.place().map(|place| format!("  {place}")).unwrap_or_default();
        let _ = writeln!(out, "{}{place}", self.title());
        for line in self.key_lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
}
