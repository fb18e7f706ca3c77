//! Why a checkpoint was not converted.

use crate::finding::{Finding, code};
use crate::output::OutputError;
use crate::progress::Cancelled;
use crate::storage::ReadError;

/// A conversion that wrote nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The checkpoint is damaged, or holds what safetensors cannot.
    #[error("the checkpoint cannot be converted")]
    Refused {
        /// Why.
        findings: Vec<Finding>,
    },
    /// A tensor is known by name only.
    #[error("the bytes of tensor `{tensor}` are in no file")]
    NoBytes {
        /// Its name.
        tensor: String,
    },
    /// A packed tensor cannot be unpacked.
    #[error("tensor `{tensor}` cannot be unpacked: {reason}")]
    Packed {
        /// Its name.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// What was read back is not what was written.
    #[error("`{tensor}` does not read back as it was written")]
    Differs {
        /// The tensor, or the file whose header differs.
        tensor: String,
    },
    /// A file of the checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The work was told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl ConvertError {
    /// The same as findings; none when the work was cancelled.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let one = match self {
            Self::Refused { findings } => return findings.clone(),
            Self::Cancelled(_) => return Vec::new(),
            Self::NoBytes { .. } => Finding::new(&code::UNREADABLE_FILE, self.to_string())
                .help("a list holds no weights; name the checkpoint itself"),
            Self::Packed { .. } => Finding::new(&code::MALFORMED_ZIP, self.to_string()),
            Self::Differs { .. } => Finding::new(&code::OUTPUT_FAILED, self.to_string())
                .help("the disk or the memory is at fault; nothing was published"),
            Self::Read(error) => error.finding(),
            Self::Output(error) => error.finding(),
        };
        vec![one]
    }
}
