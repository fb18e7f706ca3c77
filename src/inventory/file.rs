//! Opening the files of a checkpoint: regular files only, each opened once for all that is read from it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::FileStamp;
use super::trouble::Trouble;
use crate::finding::code;

/// An open regular file and what it was when it was opened.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) stamp: FileStamp,
}

impl OpenFile {
    /// Opens a file for reading. A FIFO, device or directory is refused and never waited for; links are followed (the
    /// Hugging Face cache is made of them).
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Trouble::anywhere(&code::UNREADABLE_FILE, "the file is absent"),
            _ => Trouble::anywhere(&code::UNREADABLE_FILE, format!("cannot open: {error}")),
        };
        regular(&std::fs::metadata(path).map_err(unreadable)?)?;
        let file = options().open(path).map_err(unreadable)?;
        // Again on the descriptor: the path may mean something else by now.
        let metadata = file.metadata().map_err(unreadable)?;
        regular(&metadata)?;
        Ok(Self { file, stamp: stamp(&metadata) })
    }

    /// Whether the file is still what it was when it was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), Trouble> {
        match self.file.metadata() {
            Ok(metadata) if stamp(&metadata) == self.stamp => Ok(()),
            Ok(_) => Err(Trouble::anywhere(&code::FILE_CHANGED, "the file changed while its header was read")
                .help("another program is writing it; read it when it is complete")),
            Err(error) => Err(Trouble::anywhere(&code::UNREADABLE_FILE, format!("cannot read: {error}"))),
        }
    }
}

#[cfg(unix)]
fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = OpenOptions::new();
    // Should a FIFO have taken the file's place, opening it must not wait for a writer.
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    options
}

#[cfg(not(unix))]
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

fn regular(metadata: &Metadata) -> Result<(), Trouble> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "a directory" } else { "neither a file nor a directory" };
    Err(Trouble::anywhere(&code::NOT_A_FILE, format!("a regular file was expected; this is {what}")))
}

fn stamp(metadata: &Metadata) -> FileStamp {
    let modified = metadata.modified().ok().map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => i128::try_from(before.duration().as_nanos()).map_or(i128::MIN, |nanos| -nanos),
    });
    FileStamp { size: metadata.len(), modified, inode: inode(metadata) }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;

    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> (u64, u64) {
    (0, 0)
}
