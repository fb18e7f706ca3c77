//! Why something was not staged.

use crate::finding::{Finding, code};
use crate::output::OutputError;
use crate::progress::Cancelled;
use crate::storage::ReadError;
use crate::units::bytes;

/// Something that was not staged or not brought back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// There is too little room.
    #[error("`{path}` has {} free, and the files take {} in whole blocks", bytes(*.available), bytes(*.needed))]
    Space {
        /// Where the copy was to be.
        path: String,
        /// Bytes that the files take.
        needed: u64,
        /// Bytes that are free there.
        available: u64,
    },
    /// The files take more than the caller allows.
    #[error("the files take {} in whole blocks, and {} may be staged", bytes(*.needed), bytes(*.budget))]
    Budget {
        /// Bytes that the files take.
        needed: u64,
        /// Bytes that were allowed.
        budget: u64,
    },
    /// There is nothing to copy.
    #[error("`{path}` does not exist")]
    Absent {
        /// The path.
        path: String,
    },
    /// Something in the tree is neither a file nor a directory, or cannot be named in a record.
    #[error("`{path}` {reason}")]
    Unstageable {
        /// The path.
        path: String,
        /// What it is.
        reason: &'static str,
    },
    /// A directory that was to be brought back is no staged copy.
    #[error("`{path}` is no staged copy: it has no `flow-fabric.stage.json`")]
    NotStaged {
        /// The directory.
        path: String,
    },
    /// A copy is not what was staged.
    #[error("`{path}` is not what was staged")]
    Damaged {
        /// The file.
        path: String,
    },
    /// The record of a staged copy cannot be read.
    #[error("{}", .0.message)]
    Record(Box<Finding>),
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The copy cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The work was told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl StageError {
    /// The same as a finding; none when the work was cancelled.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let finding = |code, help: &str| Some(Finding::new(code, self.to_string()).help(help));
        match self {
            Self::Space { .. } => finding(&code::STAGE_SPACE, "make room, or stage to another place"),
            Self::Budget { .. } => finding(&code::STAGE_SPACE, "allow more, or stage less"),
            Self::Absent { .. } => finding(&code::UNREADABLE_FILE, "nothing was written"),
            Self::Unstageable { .. } => finding(&code::NOT_A_FILE, "remove it from the tree"),
            Self::NotStaged { .. } => finding(&code::MALFORMED_MANIFEST, "name the directory that `stage --to` wrote"),
            Self::Damaged { .. } => finding(&code::STAGE_DAMAGED, "stage it again from its source"),
            Self::Record(finding) => Some((**finding).clone()),
            Self::Read(error) => Some(error.finding()),
            Self::Output(error) => Some(error.finding()),
            Self::Cancelled(_) => None,
        }
    }
}
