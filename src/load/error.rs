//! Why a load gives nothing.

use crate::finding::{Finding, code};
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
    /// A tensor's bytes do not stand in a file one after the other, or the inventory is a list that does not say where.
    #[error("tensor `{tensor}` is no range of bytes of a file")]
    NotARange {
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
            Self::NotARange { .. } => Some(
                Finding::new(&code::NOT_A_RANGE, self.to_string())
                    .help("of a list, only a dry run is possible; of packed or strided tensors, `flow-fabric convert` makes ranges"),
            ),
            Self::Cancelled(_) => None,
        }
    }
}
