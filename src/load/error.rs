//! Why a load gives nothing.

use crate::finding::Finding;
use crate::progress::Cancelled;
use crate::storage::ReadError;

/// Why tensors are not handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be opened, or is not the one whose header was read.
    #[error(transparent)]
    Open(ReadError),
    /// Bytes of a tensor cannot be read.
    #[error("tensor `{tensor}`: {source}")]
    Read {
        /// The tensor.
        tensor: String,
        /// What happened, in which file and where.
        source: ReadError,
    },
    /// The inventory is a list that does not say where a tensor's bytes are.
    #[error("nothing says where the bytes of tensor `{tensor}` are; name the checkpoint itself")]
    Nowhere {
        /// The tensor.
        tensor: String,
    },
    /// The work was told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl LoadError {
    /// The same as a finding, where a file or its contents are at fault.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        match self {
            Self::Open(error) => Some(error.finding()),
            Self::Read { tensor, source } => Some(source.finding().note(format!("while reading tensor `{tensor}`"))),
            Self::Nowhere { .. } | Self::Cancelled(_) => None,
        }
    }
}
