//! What the written tensors are kept in.

use std::collections::BTreeMap;

use super::RunOptions;
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
}

/// The container of a layout.
pub(super) fn of(layout: Option<Kind>, options: &RunOptions) -> Box<dyn Container> {
    match layout {
        // The names and companions of every other layout are those of safetensors files.
        Some(_) | None => Box::new(Safetensors { shard_bytes: options.shard_bytes }),
    }
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
