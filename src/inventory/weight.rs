//! Logical weights: what rules see, and the stored tensors each consists of.

use std::sync::Arc;

use super::{CheckpointFile, Container, StoredFormat, StoredTensor};
use crate::Dtype;

/// What a checkpoint holds, as logical weights in inventory order. Paths are unique.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// What people call it.
    pub name: Arc<str>,
    /// How it is kept.
    pub container: Container,
    /// Its files.
    pub files: Vec<CheckpointFile>,
    /// Its weights, in the order of the checkpoint (of each weight's first stored tensor).
    pub weights: Vec<Weight>,
    /// How many stored tensors the `exclude` patterns took out.
    pub excluded: usize,
}

/// One logical weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// The path that rules see (after renames).
    pub path: String,
    /// The path before renames; equal to `path` where none applied.
    pub stored_path: String,
    /// How the components encode it.
    pub format: StoredFormat,
    /// Dtype of the values it stands for (what decoding gives), not of the codes. See [`StoredFormat`] for the rule of
    /// each format.
    pub dtype: Dtype,
    /// Logical dimensions, row-major.
    pub shape: Vec<u64>,
    /// The stored tensors; the one with [`Role::Weight`] first.
    pub components: Vec<Component>,
    /// Path of the weight that this one shares storage with, when it is an alias.
    pub alias_of: Option<String>,
}

impl Weight {
    /// Number of logical elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        super::checkpoint::elements(&self.shape)
    }

    /// Bytes of all its components; those of an alias are the same bytes as its weight's, where storage is shared.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.components.iter().fold(0, |sum: u64, component| sum.saturating_add(component.tensor.bytes.length))
    }

    /// The first component in a role.
    #[must_use]
    pub fn component(&self, role: &Role) -> Option<&StoredTensor> {
        self.components.iter().find(|component| component.role == *role).map(|component| &component.tensor)
    }
}

/// A stored tensor in its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What it is to the weight.
    pub role: Role,
    /// The stored tensor.
    pub tensor: StoredTensor,
}

/// What a stored component is to its weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// The values, or the codes that stand for them.
    Weight,
    /// Multipliers of groups of codes.
    Scales,
    /// Integer offsets of groups of codes.
    ZeroPoint,
    /// One multiplier (ModelOpt) or divisor (compressed-tensors) over all scales.
    GlobalScale,
    /// The logical shape, stored as a tensor.
    Shape,
    /// Anything else a layout keeps beside the weight, by its suffix (`absmax`, `input_scale`).
    Other(Arc<str>),
}

impl Role {
    /// The name people read: `weight`, `scales`, `zero-point`, `global-scale`, `shape`, or the suffix.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Role::Weight => "weight",
            Role::Scales => "scales",
            Role::ZeroPoint => "zero-point",
            Role::GlobalScale => "global-scale",
            Role::Shape => "shape",
            Role::Other(suffix) => suffix,
        }
    }
}
