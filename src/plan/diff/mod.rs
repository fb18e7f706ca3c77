//! What an edit changes: two plans compared weight by weight, each change laid at the door of the edit that makes it.
//!
//! The comparison knows plans only, as records, so that saved ones serve as well as fresh ones: first what differs
//! between the two policies ([`Edit`]), then which weights are decided otherwise ([`WeightChange`]), and for each the
//! edits that explain it, from the rule that decided before and the rule that decides now.

mod cause;
mod edits;
mod markdown;
mod text;

use std::collections::{BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::text::{ChangeRecord, ChangeText, Group};

use self::cause::Causes;
use super::record::{
    DeviceBytes, DeviceRecord, LoadRecord, MeshRecord, PlanRecord, QuantRecord, RuleRecord, ShardRecord, SlotRecord,
    TensorRecord,
};
use crate::Dtype;
use crate::finding::FindingRecord;
use crate::policy::tables;

/// What the `format` key of a diff says.
pub const FORMAT: &str = "flow-fabric/diff";

/// What the `format_version` key says; it changes when a reader of the old one could be misled.
pub const FORMAT_VERSION: u32 = 1;

/// What differs between two plans, and why. Keys that a reader does not know are additions; they do not raise
/// `format_version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "flow-fabric diff")]
pub struct PlanDiff {
    /// Always `flow-fabric/diff`.
    #[schemars(extend("const" = FORMAT))]
    pub format: String,
    /// Version of this shape.
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// The plan before.
    pub old: Side,
    /// The plan after.
    pub new: Side,
    /// Counts.
    pub summary: DiffSummary,
    /// What differs between the policies: rules in the order in which they are asked, then schemes, settings, mesh.
    pub edits: Vec<Edit>,
    /// Every weight that is decided otherwise, in the order of the checkpoint; those that only the old plan has, last.
    pub weights: Vec<WeightChange>,
    /// Weights that no rule decides any more.
    pub newly_unmatched: Vec<UnmatchedRecord>,
    /// Rules that decide no weight and did before, or are new.
    pub newly_unused: Vec<RuleName>,
    /// Rules of both that decide a weight and did not before.
    pub newly_used: Vec<RuleName>,
    /// Slots with other weights or profiles.
    pub slots: Vec<SlotChange>,
    /// Every device of each plan, by number.
    pub devices: Change<Vec<DeviceRecord>>,
    /// Findings of the new plan that the old one does not have, wherever they are written.
    pub new_findings: Vec<FindingRecord>,
    /// Findings of the old plan that the new one does not have.
    pub resolved_findings: Vec<FindingRecord>,
}

/// One of the two plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// What the caller calls it: a file, a revision and a file.
    pub name: String,
    /// Name of the policy.
    pub policy: String,
    /// Name of the checkpoint.
    pub inventory: String,
    /// The device mesh.
    pub mesh: MeshRecord,
}

/// Before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct Change<T> {
    /// In the old plan.
    pub before: T,
    /// In the new plan.
    pub after: T,
}

/// Counts of a diff, in weights.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DiffSummary {
    /// Weights of each plan.
    pub weights: Change<u64>,
    /// Weights with any change.
    pub changed: u64,
    /// Cut otherwise.
    pub resharded: u64,
    /// Quantized otherwise.
    pub requantized: u64,
    /// Read, staged or verified otherwise.
    pub reloaded: u64,
    /// Decided alike, but by another rule.
    pub other_rule: u64,
    /// Only in the new plan.
    pub appeared: u64,
    /// Only in the old plan.
    pub disappeared: u64,
    /// Without a partition rule.
    pub unmatched_partition: Change<u64>,
    /// Without a quantization rule.
    pub unmatched_quantization: Change<u64>,
    /// Rules that decide no weight.
    pub unused_rules: Change<u64>,
    /// Bytes of all weights as planned.
    pub planned_bytes: Change<u64>,
    /// Bytes of the fullest device as stored.
    pub device_stored_bytes: Change<u64>,
    /// Bytes of the fullest device as planned.
    pub device_planned_bytes: Change<u64>,
}

/// Something that the two policies say differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edit {
    /// What is edited.
    pub kind: EditKind,
    /// The rule's table: `partition`, `quantization` or `loader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub table: Option<String>,
    /// The rule's, scheme's, profile's or slot's name; the table of a setting.
    pub name: String,
    /// What happened to it.
    pub how: EditHow,
    /// The name it had before, when it is renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub was: Option<String>,
    /// It is asked at another place among the rules that both policies have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    /// When it moved, the rule that it is asked before now; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub before: Option<String>,
    /// Where the rule is written now; where it was, when it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub file: Option<String>,
    /// The line of its name there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize")]
    pub line: Option<usize>,
    /// The keys that say something else, as TOML on one line.
    pub keys: Vec<KeyChange>,
    /// Changed weights that it explains, alone or with others.
    pub weights: u64,
}

/// What is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EditKind {
    /// A rule.
    Rule,
    /// A quantization scheme.
    Scheme,
    /// A sampler profile.
    Sampler,
    /// A mixture-of-experts profile.
    Moe,
    /// A slot.
    Slot,
    /// A declared stored layout.
    Stored,
    /// A setting of a table, or at the top of the policy.
    Setting,
    /// The mesh that both plans are laid over.
    Mesh,
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EditHow {
    /// Only the new policy has it.
    Added,
    /// Only the old policy has it.
    Removed,
    /// Some of its keys say something else.
    Changed,
    /// It says the same under another name.
    Renamed,
    /// It says the same and is asked at another place.
    Moved,
}

/// A key that says something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// What it said; `null` when it was absent.
    pub before: Option<String>,
    /// What it says; `null` when it is absent.
    pub after: Option<String>,
}

/// A weight that is decided otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightChange {
    /// Its path.
    pub path: String,
    /// What changes.
    pub changes: BTreeSet<ChangeKind>,
    /// The edits that explain it, as positions in `edits`; empty when none does.
    pub edits: BTreeSet<usize>,
    /// What was decided; `null` when the old plan lacks the weight.
    pub before: Option<DecisionRecord>,
    /// What is decided; `null` when the new plan lacks the weight.
    pub after: Option<DecisionRecord>,
}

/// What changes of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// How it is cut.
    Shard,
    /// How it is quantized.
    Quant,
    /// How it is loaded.
    Load,
    /// Only the name of a rule that decides it.
    Rule,
    /// The stored tensors that it consists of, or what they stand for.
    Form,
    /// Only the new plan has it.
    Appears,
    /// Only the old plan has it.
    Disappears,
}

/// What is decided for a weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionRecord {
    /// Dtype of the values.
    pub dtype: Dtype,
    /// Logical dimensions, row-major.
    pub shape: Vec<u64>,
    /// Stored format.
    pub stored: String,
    /// The weight that this one shares storage with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub alias_of: Option<String>,
    /// How it is sharded.
    pub shard: ShardRecord,
    /// How it is quantized.
    pub quant: QuantRecord,
    /// How it is loaded.
    pub load: LoadRecord,
    /// Bytes of it on the device that holds most of it.
    pub on_device: DeviceBytes,
}

/// A weight that a table does not decide any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct UnmatchedRecord {
    /// `partition` or `quantization`.
    pub table: String,
    /// The weight's path.
    pub path: String,
    /// The rule that decided it; `null` when the old plan lacks the weight.
    pub before: Option<String>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct RuleName {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// A slot with other weights or profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlotChange {
    /// The slot's name.
    pub name: String,
    /// What it was; `null` when it is new.
    pub before: Option<SlotRecord>,
    /// What it is; `null` when it is gone.
    pub after: Option<SlotRecord>,
}

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

impl Side {
    fn new(name: &str, plan: &PlanRecord) -> Self {
        Self {
            name: name.to_owned(),
            policy: plan.policy.clone(),
            inventory: plan.inventory.clone(),
            mesh: plan.mesh.clone(),
        }
    }
}

impl<T> Change<T> {
    fn of<'a, P>(old: &'a P, new: &'a P, get: impl Fn(&'a P) -> T) -> Self {
        Self { before: get(old), after: get(new) }
    }
}

impl From<&TensorRecord> for DecisionRecord {
    fn from(tensor: &TensorRecord) -> Self {
        Self {
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            stored: tensor.stored.format.clone(),
            alias_of: tensor.alias_of.clone(),
            shard: tensor.shard.clone(),
            quant: tensor.quant.clone(),
            load: tensor.load.clone(),
            on_device: tensor.on_device,
        }
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
