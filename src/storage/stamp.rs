//! Opening regular files, and what tells one version of a file from another.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::inventory::FileStamp;

/// Why a file is not opened.
#[derive(Debug)]
pub(crate) enum OpenTrouble {
    /// A directory, FIFO or device; says which.
    NotRegular(&'static str),
    /// The system refused.
    Io(io::Error),
}

/// Opens a file for reading. A FIFO, device or directory is refused and never waited for; links are followed (the Hugging
/// Face cache is made of them).
pub(crate) fn open_regular(path: &Path) -> Result<(File, FileStamp), OpenTrouble> {
    regular(&std::fs::metadata(path).map_err(OpenTrouble::Io)?)?;
    let file = options().open(path).map_err(OpenTrouble::Io)?;
    // Again on the descriptor: the path may mean something else by now.
    let metadata = file.metadata().map_err(OpenTrouble::Io)?;
    regular(&metadata)?;
    Ok((file, stamp(&metadata)))
}

/// What the file is now.
pub(crate) fn stamp(metadata: &Metadata) -> FileStamp {
    let modified = metadata.modified().ok().map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => i128::try_from(before.duration().as_nanos()).map_or(i128::MIN, |nanos| -nanos),
    });
    FileStamp { size: metadata.len(), modified, inode: inode(metadata) }
}

/// Opens a file for reads past the page cache; see [`super::DirectFile`].
#[cfg(target_os = "linux")]
pub(super) fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::DIRECT;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Other systems have no such reads.
#[cfg(not(target_os = "linux"))]
pub(super) fn open_direct(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

fn regular(metadata: &Metadata) -> Result<(), OpenTrouble> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(OpenTrouble::NotRegular(if metadata.is_dir() { "a directory" } else { "neither a file nor a directory" }))
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

#[cfg(unix)]
fn inode(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;

    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> (u64, u64) {
    (0, 0)
}
