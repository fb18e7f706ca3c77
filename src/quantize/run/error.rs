//! Why a run could not do its job.

use std::sync::Arc;

use crate::finding::Finding;
use crate::output::OutputError;
use crate::progress::Cancelled;
use crate::quantize::{Refusal, Undecodable};
use crate::storage::ReadError;

/// What kept a run from its end. The output, if there was one, is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The source cannot be read, or changed while it was.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A weight is stored in a way that nobody here can decode.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// The plan has a weight that its scheme cannot hold.
    #[error("`{path}` cannot be quantized: {refusal}")]
    Refused {
        /// The weight.
        path: String,
        /// Why, and what would fit.
        refusal: Refusal,
    },
    /// The bytes of a tensor do not lie in its file as they are: a view, or a packed member.
    #[error("tensor `{name}` of `{file}` is strided or packed, and cannot be read in parts")]
    Indirect {
        /// The tensor.
        name: String,
        /// Its file.
        file: Arc<str>,
    },
    /// The key-value pairs of a GGUF file cannot be read.
    #[error("the key-value pairs of `{path}` cannot be read")]
    Metadata {
        /// The file.
        path: String,
        /// What is wrong with it.
        finding: Option<Box<Finding>>,
    },
    /// A weight needs more memory than the run is allowed.
    #[error("`{path}` needs {} of memory, and the budget is {}", crate::units::bytes(*needed), crate::units::bytes(*budget))]
    Memory {
        /// The weight.
        path: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that the run is allowed.
        budget: u64,
    },
    /// What was read back is not what was written.
    #[error("`{path}` reads back otherwise than it was written")]
    Differs {
        /// The weight.
        path: String,
    },
    /// It was told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl RunError {
    /// The same as a finding, where there is one of its kind.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        match self {
            RunError::Read(error) => Some(error.finding()),
            RunError::Output(error) => Some(error.finding()),
            RunError::Metadata { finding, .. } => finding.as_deref().cloned(),
            _ => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            RunError::Refused { refusal, .. } => refusal.fits.as_ref().map(|fits| format!("what fits: {fits}")),
            RunError::Indirect { .. } => Some("`flow-fabric convert` writes it to safetensors as it is".to_owned()),
            RunError::Memory { needed, .. } => {
                let mebibytes = needed.div_ceil(1 << 20);
                Some(format!("rows are handled whole; allow it with `--memory {mebibytes}MiB`"))
            }
            RunError::Differs { .. } => Some("the disk or its memory is faulty".to_owned()),
            _ => None,
        }
    }
}
