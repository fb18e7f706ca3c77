//! Inventories as other programs read them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CheckpointFile, Inventory, StoredTensor, Weight};
use crate::Dtype;
use crate::finding::{Finding, FindingRecord};
use crate::source::Sources;

/// What the `format` key of an inventory document says.
pub const INVENTORY_FORMAT: &str = "flow-fabric/inventory";

/// What a checkpoint holds: every weight, whatever was collapsed for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "flow-fabric inventory")]
pub struct InventoryDocument {
    /// Always `flow-fabric/inventory`.
    #[schemars(extend("const" = INVENTORY_FORMAT))]
    pub format: String,
    /// Version of this shape; additions do not raise it.
    #[schemars(extend("const" = 1))]
    pub format_version: u32,
    /// What the checkpoint was called on the command line.
    pub name: String,
    /// How it is kept: `safetensors`, `list` and the like.
    pub container: String,
    /// Its files, in the order read.
    pub files: Vec<FileRecord>,
    /// Its weights, in the order of their first stored tensors.
    pub weights: Vec<WeightRecord>,
    /// What all of it comes to.
    pub totals: InventoryTotals,
    /// What is wrong with the checkpoint.
    pub findings: Vec<FindingRecord>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// The path as the user would write it.
    pub path: String,
    /// Size in bytes, where the file is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub size: Option<u64>,
}

/// One logical weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightRecord {
    /// The path that rules match.
    pub path: String,
    /// The path before renames, where one applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub stored_path: Option<String>,
    /// How its stored tensors encode it; `plain` for one tensor of its own values.
    pub stored_format: String,
    /// Dtype of the values it stands for.
    pub dtype: Dtype,
    /// Logical dimensions, row-major.
    pub shape: Vec<u64>,
    /// Bytes of its stored tensors.
    pub bytes: u64,
    /// Path of the weight that it is another name of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub alias_of: Option<String>,
    /// The stored tensors; the one with the values or codes first.
    pub components: Vec<ComponentRecord>,
}

/// A stored tensor in its role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentRecord {
    /// What it is to the weight: `weight`, `scales`, `zero-point`, ...
    pub role: String,
    /// The tensor.
    #[serde(flatten)]
    pub tensor: TensorRecord,
}

/// One tensor as a file stores it. A line of these is a line of a JSONL list, which every command reads as a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorRecord {
    /// The name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major.
    pub shape: Vec<u64>,
    /// Number of bytes.
    pub bytes: u64,
    /// The file that holds it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub file: Option<String>,
    /// Its first byte in the file, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub offset: Option<u64>,
}

/// Counts over an inventory. Aliases are weights that are counted once, under their first path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryTotals {
    /// Weights, aliases not counted.
    pub weights: usize,
    /// Further names of weights.
    pub aliases: usize,
    /// Stored tensors of the weights.
    pub tensors: usize,
    /// Stored tensors that the policy excludes.
    pub excluded: usize,
    /// Files.
    pub files: usize,
    /// Logical elements of the weights.
    pub elements: u64,
    /// Bytes of the stored tensors of the weights.
    pub bytes: u64,
}

impl InventoryTotals {
    /// Adds an inventory up.
    #[must_use]
    pub fn of(inventory: &Inventory) -> Self {
        let empty = Self { excluded: inventory.excluded, files: inventory.files.len(), ..Self::default() };
        inventory.weights.iter().fold(empty, |mut totals, weight| {
            if weight.alias_of.is_some() {
                totals.aliases += 1;
                return totals;
            }
            totals.weights += 1;
            totals.tensors += weight.components.len();
            totals.elements = totals.elements.saturating_add(weight.elements());
            totals.bytes = totals.bytes.saturating_add(weight.stored_bytes());
            totals
        })
    }
}

impl InventoryDocument {
    /// Writes an inventory down, with what there is to say about its checkpoint.
    #[must_use]
    pub fn new(inventory: &Inventory, findings: &[Finding], sources: &Sources) -> Self {
        let file = |file: &CheckpointFile| FileRecord { path: file.path.to_string(), size: file.size };
        Self {
            format: INVENTORY_FORMAT.to_owned(),
            format_version: 1,
            name: inventory.name.to_string(),
            container: inventory.container.name().to_owned(),
            files: inventory.files.iter().map(file).collect(),
            weights: inventory.weights.iter().map(|weight| WeightRecord::new(weight, &inventory.files)).collect(),
            totals: InventoryTotals::of(inventory),
            findings: FindingRecord::all(findings, sources),
        }
    }
}

impl WeightRecord {
    /// Writes a weight down; `files` are those of its inventory.
    #[must_use]
    pub fn new(weight: &Weight, files: &[CheckpointFile]) -> Self {
        let component = |component: &super::Component| ComponentRecord {
            role: component.role.name().to_owned(),
            tensor: TensorRecord::new(&component.tensor, files),
        };
        Self {
            path: weight.path.clone(),
            stored_path: (weight.stored_path != weight.path).then(|| weight.stored_path.clone()),
            stored_format: weight.format.name().to_owned(),
            dtype: weight.dtype,
            shape: weight.shape.clone(),
            bytes: weight.stored_bytes(),
            alias_of: weight.alias_of.clone(),
            components: weight.components.iter().map(component).collect(),
        }
    }
}

impl TensorRecord {
    /// Writes a stored tensor down; `files` are those of its checkpoint.
    #[must_use]
    pub fn new(tensor: &StoredTensor, files: &[CheckpointFile]) -> Self {
        let file = tensor.bytes.file.and_then(|id| files.get(usize::try_from(id.0).ok()?));
        Self {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: tensor.bytes.length,
            file: file.map(|file| file.path.to_string()),
            offset: tensor.bytes.offset,
        }
    }
}
