//! The plan as other programs read it: `plan --format json`, saved plans, the input of `diff`.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Dtype;
use crate::finding::FindingRecord;
use crate::mesh::PartitionSpec;
use crate::moe::MoeConfig;
use crate::policy::Written;
use crate::sample::SamplerConfig;

/// What the `format` key of a plan says.
pub const FORMAT: &str = "flow-fabric/plan";

/// What the `format_version` key says; it changes when a reader of the old one could be misled.
pub const FORMAT_VERSION: u32 = 1;

/// A resolved plan. Keys that a reader does not know are additions; they do not raise `format_version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "flow-fabric plan")]
pub struct PlanRecord {
    /// Always `flow-fabric/plan`.
    #[schemars(extend("const" = FORMAT))]
    pub format: String,
    /// Version of this shape.
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// Name of the policy.
    pub policy: String,
    /// Name of the checkpoint.
    pub inventory: String,
    /// The device mesh.
    pub mesh: MeshRecord,
    /// Every rule of the three tables, in the order in which they are asked.
    pub rules: Vec<RuleRecord>,
    /// What the policy says besides rules and mesh, as TOML on one line: `scheme.int8.format` is `"int8"`.
    pub settings: Written,
    /// Every logical weight, in the order of the checkpoint.
    pub tensors: Vec<TensorRecord>,
    /// Every device, by number.
    pub devices: Vec<DeviceRecord>,
    /// Every slot, by name.
    pub slots: IndexMap<String, SlotRecord>,
    /// Counts.
    pub summary: Summary,
    /// What there is to say.
    pub findings: Vec<FindingRecord>,
}

/// A device mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshRecord {
    /// Axis names, major to minor.
    pub axes: Vec<String>,
    /// Devices along each axis.
    pub shape: Vec<u64>,
    /// Bytes of one device, where the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub device_memory: Option<u64>,
}

/// A rule, and what came of it on this checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleRecord {
    /// `partition`, `quantization` or `loader`.
    pub table: String,
    /// The rule's name.
    pub name: String,
    /// File that declares it.
    pub file: String,
    /// Line of its name.
    pub line: usize,
    /// Weights that it decides.
    pub won: u64,
    /// Whether it matches any weight: a rule that does and still decides none stands behind others.
    pub matches: bool,
    /// What it says besides its name, key by key, as TOML on one line.
    pub says: Written,
}

/// One logical weight and its decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TensorRecord {
    /// The path that rules see.
    pub path: String,
    /// How it is stored.
    pub stored: StoredRecord,
    /// Dtype of the values.
    pub dtype: Dtype,
    /// Logical dimensions, row-major.
    pub shape: Vec<u64>,
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

/// Bytes on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeviceBytes {
    /// As stored now.
    pub stored_bytes: u64,
    /// As planned.
    pub planned_bytes: u64,
}

/// The stored tensors of a weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoredRecord {
    /// Stored format: `plain`, `grok-1`, `fp8-block`, ...
    pub format: String,
    /// The path before renames, where one applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub path: Option<String>,
    /// The tensors, codes first.
    pub components: Vec<StoredComponentRecord>,
}

/// One stored tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoredComponentRecord {
    /// Its name in the file.
    pub name: String,
    /// What it is to the weight: `weight`, `scales`, ...
    pub role: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major.
    pub shape: Vec<u64>,
    /// The file, where known.
    pub file: Option<String>,
    /// First byte in the file, where known.
    pub offset: Option<u64>,
    /// Number of bytes.
    pub length: u64,
    /// Its spec, derived from the weight's; absent when no partition rule matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PartitionSpec")]
    pub spec: Option<PartitionSpec>,
}

/// How a weight is sharded. `spec: null` with `rule: null` means that no rule matched, unlike `[]` and `[null]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardRecord {
    /// The deciding rule.
    pub rule: Option<String>,
    /// One entry per leading dimension; `null` is not split.
    pub spec: Option<PartitionSpec>,
    /// Sizes that each device that holds it stores, padding included; `null` when they differ (see `shards`).
    pub local_shape: Option<Vec<u64>>,
    /// Devices that hold each piece.
    pub replicas: u64,
    /// The axis over which whole weights are distributed, when it is placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub placed_over: Option<String>,
    /// Devices that hold the weight at all, when it is placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<u64>")]
    pub owners: Option<Vec<u64>>,
    /// Every device's own piece, when they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<ShardPieceRecord>")]
    pub shards: Option<Vec<ShardPieceRecord>>,
    /// Ways out that were taken: `replicated`, `padded`, `uneven`, `fewer-units`, `unmatched`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
}

/// The piece of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardPieceRecord {
    /// Device number.
    pub device: u64,
    /// First index of each dimension.
    pub start: Vec<u64>,
    /// Size of each dimension; 0 where nothing is left for the device.
    pub shape: Vec<u64>,
}

/// How a weight is quantized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuantRecord {
    /// The deciding rule; `null` when none matched and the weight is kept.
    pub rule: Option<String>,
    /// The scheme's name, or `keep`.
    pub scheme: String,
    /// The rule's scheme does not apply, as the values are not floating-point.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept_non_float: bool,
    /// Bytes of the whole weight as planned, companions included.
    pub bytes: u64,
    /// The tensors it will consist of; empty when it is kept.
    pub companions: Vec<CompanionRecord>,
}

/// A tensor that a quantized weight will consist of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompanionRecord {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major.
    pub shape: Vec<u64>,
    /// Its spec, derived from the weight's; `null` when no partition rule matched.
    pub spec: Option<PartitionSpec>,
}

/// How a weight is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadRecord {
    /// The deciding rule; `null` when the `[loader]` defaults hold.
    pub rule: Option<String>,
    /// `auto`, `mmap`, `pread` or `direct`.
    pub read: String,
    /// `none` or `shm`.
    pub stage: String,
    /// `none`, `xxh3` or `blake3`.
    pub verify: String,
}

/// What one device holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRecord {
    /// One coordinate per axis.
    pub coordinates: Vec<u64>,
    /// Bytes of its pieces as they are stored now.
    pub stored_bytes: u64,
    /// Bytes of its pieces as planned.
    pub planned_bytes: u64,
}

/// A slot's weights and profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlotRecord {
    /// Paths of its weights, in the order of the checkpoint.
    pub tensors: Vec<String>,
    /// Its sampler.
    pub sampler: Option<SamplerRecord>,
    /// Its mixture-of-experts profile.
    pub moe: Option<MoeRecord>,
}

/// A sampler's profile and its name in the policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SamplerRecord {
    /// The name.
    pub name: String,
    /// The profile with all that it inherits, what its preset fixes, and the defaults.
    pub profile: SamplerConfig,
    /// Its stages in the order in which they run, in words.
    pub stages: Vec<String>,
}

/// A mixture-of-experts profile and its name in the policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MoeRecord {
    /// The name.
    pub name: String,
    /// The profile with its preset's settings, and the defaults.
    pub profile: MoeConfig,
}

/// Counts of a plan. Aliases count once, as the weight they share storage with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Logical weights.
    pub weights: u64,
    /// Of those, names of storage that another weight has.
    pub aliases: u64,
    /// Stored tensors that they consist of.
    pub stored_tensors: u64,
    /// Stored tensors that `exclude` took out.
    pub excluded: u64,
    /// Logical elements.
    pub elements: u64,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Bytes as planned.
    pub planned_bytes: u64,
    /// Weights of which no device holds the whole.
    pub sharded: u64,
    /// Weights that every device holds whole.
    pub replicated: u64,
    /// Weights that only their owners hold.
    pub placed: u64,
    /// Weights that a scheme applies to.
    pub quantized: u64,
    /// Weights that stay as they are stored.
    pub kept: u64,
    /// Of those, weights that a rule would quantize but that are not floating-point.
    pub kept_non_float: u64,
    /// Weights without a partition rule.
    pub unmatched_partition: u64,
    /// Weights without a quantization rule.
    pub unmatched_quantization: u64,
    /// Weights without a loader rule, loaded by the defaults.
    pub default_load: u64,
    /// Ways out that were taken, by name, in weights.
    pub fallbacks: BTreeMap<String, u64>,
}
