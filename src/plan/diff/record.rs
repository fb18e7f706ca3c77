//! The diff as other programs read it: `diff --format json`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Dtype;
use crate::finding::FindingRecord;
use crate::plan::record::{
    DeviceBytes, DeviceRecord, LoadRecord, MeshRecord, PlanRecord, QuantRecord, ShardRecord, SlotRecord, TensorRecord,
};

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

impl Side {
    pub(super) fn new(name: &str, plan: &PlanRecord) -> Self {
        Self {
            name: name.to_owned(),
            policy: plan.policy.clone(),
            inventory: plan.inventory.clone(),
            mesh: plan.mesh.clone(),
        }
    }
}

impl<T> Change<T> {
    pub(super) fn of<'a, P>(old: &'a P, new: &'a P, get: impl Fn(&'a P) -> T) -> Self {
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
