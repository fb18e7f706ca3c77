//! What the header of a file says, whatever its format.

use super::{Indirect, Metadata};
use crate::Dtype;

/// Metadata and tensors of one file.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// In the order of the header.
    pub(super) tensors: Vec<HeaderTensor>,
    pub(super) metadata: Metadata,
}

/// A tensor whose dtype, shape and place agree with one another.
#[derive(Debug)]
pub(super) struct HeaderTensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    /// Row-major.
    pub(super) shape: Vec<u64>,
    /// From the start of the file; `None` for one whose bytes do not lie there as they are.
    pub(super) offset: Option<u64>,
    pub(super) length: u64,
    /// How they lie there instead.
    pub(super) indirect: Option<Indirect>,
}
