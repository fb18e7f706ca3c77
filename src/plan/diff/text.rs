//! Changed weights as people read them: under the edits that explain them, collapsed into templates.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Change, ChangeKind, DecisionRecord, PlanDiff, WeightChange};
use crate::inventory;
use crate::plan::text::RecordText;
use crate::units::{bytes, bytes_change};

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
pub(super) fn arrow(change: Change<&str>) -> String {
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
pub(super) fn grown(change: Change<u64>) -> String {
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
}
