//! What the written tensors are kept in.

use std::collections::BTreeMap;

use super::{Gguf, RunError, RunOptions};
use crate::finding::Finding;
use crate::inventory::Inventory;
use crate::output::{Layout, OutputError, TensorSpec};
use crate::quantize::Layout as Kind;

/// A file format that a run writes to: where every tensor goes, before a byte of it is known.
///
/// Laying out is all that formats differ in; [`SafetensorsWriter`](crate::output::SafetensorsWriter) writes any layout.
pub trait Container: Sync {
    /// Names and heads of the files, and the place of every tensor, in the order of `tensors`.
    ///
    /// `notes` say where the tensors come from; a format that has room for them keeps them.
    ///
    /// # Errors
    /// [`OutputError::Unwritable`] for a tensor that the format cannot hold.
    fn lay_out(&self, tensors: &[TensorSpec], notes: &BTreeMap<String, String>) -> Result<Layout, OutputError>;

    /// What users of the written files should know, and is no reason not to write them.
    fn remarks(&self, tensors: &[TensorSpec]) -> Vec<Finding> {
        let _ = tensors;
        Vec::new()
    }
}

/// The container of what a run writes for a checkpoint.
pub(super) fn of(
    layout: Option<Kind>,
    inventory: &Inventory,
    options: &RunOptions,
) -> Result<Box<dyn Container>, RunError> {
    Ok(match layout {
        Some(Kind::Gguf) => Box::new(Gguf::of(inventory, options.metadata_from.as_deref())?),
        // The names and companions of every other layout are those of safetensors files.
        Some(_) | None => Box::new(Safetensors { shard_bytes: options.shard_bytes }),
    })
}

/// Safetensors files and their index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Safetensors {
    /// Bytes of tensors that a file takes at most; `None` is no limit.
    pub shard_bytes: Option<u64>,
}

impl Container for Safetensors {
    fn lay_out(&self, tensors: &[TensorSpec], notes: &BTreeMap<String, String>) -> Result<Layout, OutputError> {
        Layout::new(tensors, notes, self.shard_bytes)
    }
}
