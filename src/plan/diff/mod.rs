//! What an edit changes: two plans compared weight by weight, each change laid at the door of the edit that makes it.
//!
//! The comparison knows plans only, as records, so that saved ones serve as well as fresh ones: first what differs
//! between the two policies ([`Edit`]), then which weights are decided otherwise ([`WeightChange`]), and for each the
//! edits that explain it, from the rule that decided before and the rule that decides now.

mod cause;
mod edits;
mod human;
mod markdown;
pub mod record;
mod text;

use std::collections::{BTreeSet, HashMap};

pub use self::record::{
    Change, ChangeKind, DecisionRecord, DiffSummary, Edit, EditHow, EditKind, FORMAT, FORMAT_VERSION, KeyChange,
    PlanDiff, RuleName, Side, SlotChange, UnmatchedRecord, WeightChange,
};
pub use self::text::{ChangeRecord, ChangeText, Group};

use self::cause::Causes;
use super::record::{DeviceRecord, LoadRecord, PlanRecord, QuantRecord, RuleRecord, ShardRecord, TensorRecord};
use crate::finding::FindingRecord;
use crate::policy::tables;

impl PlanDiff {
    /// Compares two plans; the names are what people call them.
    ///
    /// ```
    /// use flow_fabric::inventory::Checkpoint;
    /// use flow_fabric::plan::diff::PlanDiff;
    /// use flow_fabric::{Plan, Policy, plan::PlanOptions};
    ///
    /// let plan = |spec: &str| {
    ///     let rules = format!("[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = {spec}\n");
    ///     let head = "language = 1\npolicy = \"tiny\"\n[mesh]\naxes = [\"model\"]\nshape = [2]\n";
    ///     let policy = Policy::parse("tiny.toml", &format!("{head}{rules}")).unwrap();
    ///     let list = r#"{"name":"w","dtype":"F32","shape":[8,8]}"#;
    ///     let (checkpoint, _) = Checkpoint::from_list(list.as_bytes(), "tiny").unwrap();
    ///     Plan::new(&policy, policy.group(&checkpoint).0, &PlanOptions::default()).unwrap().record()
    /// };
    /// let diff = PlanDiff::new("old", &plan(r#"["model"]"#), "new", &plan("[]"));
    /// assert_eq!((diff.edits[0].name.as_str(), diff.edits[0].weights), ("all", 1));
    /// assert_eq!(diff.summary.device_planned_bytes.before * 2, diff.summary.device_planned_bytes.after);
    /// ```
    #[must_use]
    pub fn new(old_name: &str, old: &PlanRecord, new_name: &str, new: &PlanRecord) -> Self {
        let mut edits = edits::between(old, new);
        let weights = weights(old, new, &Causes::new(old, new, &edits));
        for weight in &weights {
            for &edit in &weight.edits {
                if let Some(edit) = edits.get_mut(edit) {
                    edit.weights += 1;
                }
            }
        }
        let (newly_unused, newly_used) = rule_use(old, new, &edits);
        Self {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            summary: summary(old, new, &weights),
            edits,
            newly_unmatched: newly_unmatched(&weights),
            weights,
            newly_unused,
            newly_used,
            slots: slots(old, new),
            devices: Change { before: old.devices.clone(), after: new.devices.clone() },
            new_findings: findings_missing(&new.findings, &old.findings),
            resolved_findings: findings_missing(&old.findings, &new.findings),
            old: Side::new(old_name, old),
            new: Side::new(new_name, new),
        }
    }

    /// Whether the plans decide the same, whatever the policies say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty() && self.slots.is_empty() && self.devices.before == self.devices.after
    }
}

fn weights(old: &PlanRecord, new: &PlanRecord, causes: &Causes<'_>) -> Vec<WeightChange> {
    let before: HashMap<&str, &TensorRecord> = by_path(old);
    let after: HashMap<&str, &TensorRecord> = by_path(new);
    let changed = new.tensors.iter().filter_map(|tensor| match before.get(tensor.path.as_str()) {
        Some(before) => changed(before, tensor, causes),
        None => Some(one_sided(ChangeKind::Appears, tensor, causes)),
    });
    let gone = old.tensors.iter().filter(|tensor| !after.contains_key(tensor.path.as_str()));
    changed.chain(gone.map(|tensor| one_sided(ChangeKind::Disappears, tensor, causes))).collect()
}

fn by_path(plan: &PlanRecord) -> HashMap<&str, &TensorRecord> {
    plan.tensors.iter().map(|tensor| (tensor.path.as_str(), tensor)).collect()
}

fn one_sided(kind: ChangeKind, tensor: &TensorRecord, causes: &Causes<'_>) -> WeightChange {
    let decision = Some(DecisionRecord::from(tensor));
    let (before, after) = if kind == ChangeKind::Appears { (None, decision) } else { (decision, None) };
    WeightChange { path: tensor.path.clone(), changes: BTreeSet::from([kind]), edits: causes.of_form(), before, after }
}

/// Compares a weight that both plans have.
fn changed(before: &TensorRecord, after: &TensorRecord, causes: &Causes<'_>) -> Option<WeightChange> {
    let mut changes = BTreeSet::new();
    let mut edits = BTreeSet::new();
    let form = |tensor: &TensorRecord| {
        (tensor.dtype, tensor.shape.clone(), tensor.stored.format.clone(), tensor.alias_of.clone())
    };
    if form(before) != form(after) {
        changes.insert(ChangeKind::Form);
        edits.extend(causes.of_form());
    }
    let mut shard_cause = BTreeSet::new();
    if before.shard != after.shard {
        let anonymous = |shard: &ShardRecord| ShardRecord { rule: None, ..shard.clone() };
        let alike = anonymous(&before.shard) == anonymous(&after.shard);
        changes.insert(if alike { ChangeKind::Rule } else { ChangeKind::Shard });
        shard_cause = causes.of_shard(before, after);
    }
    if let Some(kind) = requantized(&before.quant, &after.quant, causes) {
        changes.insert(kind);
        edits.extend(causes.of_quant(before, after, &shard_cause));
    }
    edits.extend(shard_cause);
    if before.load != after.load {
        let alike = LoadRecord { rule: None, ..before.load.clone() } == LoadRecord { rule: None, ..after.load.clone() };
        changes.insert(if alike { ChangeKind::Rule } else { ChangeKind::Load });
        edits.extend(causes.of_load(before, after));
    }
    (!changes.is_empty()).then(|| WeightChange {
        path: after.path.clone(),
        changes,
        edits,
        before: Some(before.into()),
        after: Some(after.into()),
    })
}

/// Whether a weight is quantized otherwise. Specs of its companions follow from the weight's own.
fn requantized(before: &QuantRecord, after: &QuantRecord, causes: &Causes<'_>) -> Option<ChangeKind> {
    let same_companions = before.companions.len() == after.companions.len()
        && before.companions.iter().zip(&after.companions).all(|(before, after)| {
            (&before.name, before.dtype, &before.shape) == (&after.name, after.dtype, &after.shape)
        });
    let same = before.scheme == after.scheme
        && before.kept_non_float == after.kept_non_float
        && before.bytes == after.bytes
        && same_companions
        && !causes.scheme_is_edited(&after.scheme);
    match (same, before.rule == after.rule) {
        (true, true) => None,
        (true, false) => Some(ChangeKind::Rule),
        (false, _) => Some(ChangeKind::Quant),
    }
}

fn newly_unmatched(weights: &[WeightChange]) -> Vec<UnmatchedRecord> {
    let mut unmatched = Vec::new();
    for weight in weights {
        let Some(after) = &weight.after else { continue };
        let rules = |decision: &DecisionRecord| [decision.shard.rule.clone(), decision.quant.rule.clone()];
        let before = weight.before.as_ref().map(rules);
        for (at, (table, rule)) in [tables::PARTITION, tables::QUANTIZATION].into_iter().zip(rules(after)).enumerate() {
            let before = before.as_ref().map(|before| before.get(at).cloned().flatten());
            if rule.is_none() && before != Some(None) {
                let before = before.flatten();
                unmatched.push(UnmatchedRecord { table: table.to_owned(), path: weight.path.clone(), before });
            }
        }
    }
    unmatched
}

/// Rules that decide nothing now and did before or are new, and the other way round.
fn rule_use(old: &PlanRecord, new: &PlanRecord, edits: &[Edit]) -> (Vec<RuleName>, Vec<RuleName>) {
    let renamed = |rule: &RuleRecord| {
        let mut edits = edits.iter().filter(|edit| edit.table.as_deref() == Some(rule.table.as_str()));
        edits.find(|edit| edit.was.as_ref() == Some(&rule.name)).map(|edit| edit.name.as_str())
    };
    let before: HashMap<(&str, &str), bool> = old
        .rules
        .iter()
        .map(|rule| ((rule.table.as_str(), renamed(rule).unwrap_or(&rule.name)), rule.won > 0))
        .collect();
    let names = |used: bool, known: &dyn Fn(Option<bool>) -> bool| {
        let rules = new.rules.iter().filter(|rule| (rule.won > 0) == used && known(before.get(&key(rule)).copied()));
        rules.map(|rule| RuleName { table: rule.table.clone(), name: rule.name.clone() }).collect()
    };
    // A new rule is expected to decide something; that it does is no news.
    (names(false, &|before| before != Some(false)), names(true, &|before| before == Some(false)))
}

fn key(rule: &RuleRecord) -> (&str, &str) {
    (&rule.table, &rule.name)
}

fn slots(old: &PlanRecord, new: &PlanRecord) -> Vec<SlotChange> {
    let names = new.slots.keys().chain(old.slots.keys().filter(|name| !new.slots.contains_key(*name)));
    names
        .map(|name| SlotChange {
            name: name.clone(),
            before: old.slots.get(name).cloned(),
            after: new.slots.get(name).cloned(),
        })
        .filter(|slot| slot.before != slot.after)
        .collect()
}

/// The findings of one plan that the other lacks: the same words are the same finding, wherever it is written.
fn findings_missing(from: &[FindingRecord], other: &[FindingRecord]) -> Vec<FindingRecord> {
    let known: BTreeSet<(&str, &str)> =
        other.iter().map(|finding| (finding.code.as_str(), finding.message.as_str())).collect();
    let missing = from.iter().filter(|finding| !known.contains(&(finding.code.as_str(), finding.message.as_str())));
    missing.cloned().collect()
}

fn summary(old: &PlanRecord, new: &PlanRecord, weights: &[WeightChange]) -> DiffSummary {
    let having = |kind: ChangeKind| weights.iter().filter(|weight| weight.changes.contains(&kind)).count() as u64;
    let only_rule = |weight: &&WeightChange| weight.changes.iter().eq(&[ChangeKind::Rule]);
    let fullest = |bytes: fn(&DeviceRecord) -> u64| {
        Change::of(old, new, |plan| plan.devices.iter().map(bytes).max().unwrap_or_default())
    };
    DiffSummary {
        weights: Change::of(old, new, |plan| plan.tensors.len() as u64),
        changed: weights.len() as u64,
        resharded: having(ChangeKind::Shard),
        requantized: having(ChangeKind::Quant),
        reloaded: having(ChangeKind::Load),
        other_rule: weights.iter().filter(only_rule).count() as u64,
        appeared: having(ChangeKind::Appears),
        disappeared: having(ChangeKind::Disappears),
        unmatched_partition: Change::of(old, new, |plan| plan.summary.unmatched_partition),
        unmatched_quantization: Change::of(old, new, |plan| plan.summary.unmatched_quantization),
        unused_rules: Change::of(old, new, |plan| plan.rules.iter().filter(|rule| rule.won == 0).count() as u64),
        planned_bytes: Change::of(old, new, |plan| plan.summary.planned_bytes),
        device_stored_bytes: fullest(|device| device.stored_bytes),
        device_planned_bytes: fullest(|device| device.planned_bytes),
    }
}
