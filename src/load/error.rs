//! Why a load gives nothing.

use crate::finding::{Finding, code};
use crate::manifest::DigestMismatch;
use crate::progress::Cancelled;
use crate::storage::ReadError;
use crate::units;

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
    /// A rule wants a tensor verified, and there is nothing to hold it against.
    #[error("tensor `{tensor}` is to be verified, and {}", if *.known { "the manifest does not have it" } else { "there is no manifest" })]
    Unverified {
        /// The tensor.
        tensor: String,
        /// There is a manifest, but of other tensors.
        known: bool,
    },
    /// The chunks that a tensor has digests of do not fit into the memory budget.
    #[error("tensor `{tensor}` is verified in chunks of {}, more than the budget of {}", units::bytes(*.chunk), units::bytes(*.budget))]
    OverBudget {
        /// The tensor.
        tensor: String,
        /// Bytes of its largest chunk.
        chunk: u64,
        /// Bytes besides the tensors that the load may hold.
        budget: u64,
    },
    /// Bytes are not those that the manifest was made from.
    #[error(transparent)]
    Mismatch(#[from] DigestMismatch),
    /// The system does not have the memory for a tensor.
    #[error("there is no memory for the {bytes} bytes of tensor `{tensor}`")]
    NoMemory {
        /// The tensor.
        tensor: String,
        /// Its bytes on the device.
        bytes: u64,
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
            Self::Unverified { known, .. } => {
                let code = if *known { &code::MANIFEST_DIFFERS } else { &code::MISSING_MANIFEST };
                Some(Finding::new(code, self.to_string()).help("`flow-fabric manifest CHECKPOINT` writes one"))
            }
            Self::OverBudget { .. } => Some(
                Finding::new(&code::CHUNK_OVER_BUDGET, self.to_string())
                    .help("raise `budget` in `[loader]`, or write the manifest with a smaller `--chunk-size`"),
            ),
            Self::Mismatch(mismatch) => Some(mismatch.finding().note("nothing of the tensor is handed out")),
            Self::NoMemory { .. } | Self::Cancelled(_) => None,
        }
    }
}
