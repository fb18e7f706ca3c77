//! Opening the files of a checkpoint: regular files only, each opened once for all that is read from it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::FileStamp;
use super::trouble::Trouble;
use crate::finding::code;
use crate::storage::{self, OpenTrouble};

/// An open regular file and what it was when it was opened.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) stamp: FileStamp,
}

impl OpenFile {
    /// Opens a file for reading. A FIFO, device or directory is refused and never waited for.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        let (file, stamp) = storage::open_regular(path).map_err(|trouble| match trouble {
            OpenTrouble::NotRegular(what) => {
                Trouble::anywhere(&code::NOT_A_FILE, format!("a regular file was expected; this is {what}"))
            }
            OpenTrouble::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                Trouble::anywhere(&code::UNREADABLE_FILE, "the file is absent")
            }
            OpenTrouble::Io(error) => Trouble::anywhere(&code::UNREADABLE_FILE, format!("cannot open: {error}")),
        })?;
        Ok(Self { file, stamp })
    }

    /// Whether the file is still what it was when it was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), Trouble> {
        match self.file.metadata() {
            Ok(metadata) if storage::stamp(&metadata) == self.stamp => Ok(()),
            Ok(_) => Err(Trouble::anywhere(&code::FILE_CHANGED, "the file changed while its header was read")
                .help("another program is writing it; read it when it is complete")),
            Err(error) => Err(Trouble::anywhere(&code::UNREADABLE_FILE, format!("cannot read: {error}"))),
        }
    }
}
