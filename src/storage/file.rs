//! A file of a checkpoint, open for its tensor bytes.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{OpenTrouble, ReadAt, ReadError, open_regular, stamp};
use crate::inventory::{CheckpointFile, FileStamp};

/// An open regular file that is the one whose header was read.
///
/// ```
/// use flow_fabric::inventory::Checkpoint;
/// use flow_fabric::storage::{ReadAt as _, SourceFile};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("m.safetensors");
/// let header = br#"{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
/// std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header, b"abc"].concat())?;
/// let (checkpoint, _) = Checkpoint::open(&path)?;
///
/// let file = SourceFile::open(&checkpoint.files[0])?;
/// let mut bytes = [0; 3];
/// file.read_exact_at(&mut bytes, checkpoint.tensors[0].bytes.offset.unwrap())?;
/// file.check_unchanged()?;
/// assert_eq!(&bytes, b"abc");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SourceFile {
    path: Arc<str>,
    location: Arc<Path>,
    file: File,
    stamp: FileStamp,
}

impl SourceFile {
    /// Opens a file of a checkpoint. A FIFO, device or directory in its place is refused and never waited for.
    ///
    /// # Errors
    /// It is known from a list only, cannot be opened, is no regular file, or is not what it was when its header was read.
    pub fn open(file: &CheckpointFile) -> Result<Self, ReadError> {
        let path = file.path.clone();
        let Some(location) = &file.location else { return Err(ReadError::NoBytes { path }) };
        let opened = Self::open_path(location, path)?;
        match file.stamp {
            Some(stamp) if stamp != opened.stamp => Err(ReadError::Changed { path: opened.path }),
            _ => Ok(opened),
        }
    }

    /// Opens any regular file; `path` is what errors call it.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file.
    pub fn open_path(location: &Path, path: Arc<str>) -> Result<Self, ReadError> {
        let (file, stamp) = match open_regular(location) {
            Ok(opened) => opened,
            Err(OpenTrouble::NotRegular(what)) => return Err(ReadError::NotRegular { path, what }),
            Err(OpenTrouble::Io(source)) => return Err(ReadError::Io { path, offset: None, source }),
        };
        Ok(Self { path, location: location.into(), file, stamp })
    }

    /// The same open file once more.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn reopen(&self) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Io { path: self.path.clone(), offset: None, source };
        let file = self.file.try_clone().map_err(failed)?;
        Ok(Self { path: self.path.clone(), location: self.location.clone(), file, stamp: self.stamp })
    }

    /// Size in bytes when it was opened.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.stamp.size
    }

    /// What it was when it was opened.
    #[must_use]
    pub const fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Where it was opened.
    #[must_use]
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// The descriptor, for what the standard library does not know (residency, advice, direct reads).
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Whether the file is still what it was when it was opened: to be asked after the last read, before the bytes are used.
    ///
    /// # Errors
    /// [`ReadError::Changed`] when it is not, and what the system says when it cannot be asked.
    pub fn check_unchanged(&self) -> Result<(), ReadError> {
        match self.file.metadata() {
            Ok(metadata) if stamp(&metadata) == self.stamp => Ok(()),
            Ok(_) => Err(ReadError::Changed { path: self.path.clone() }),
            Err(source) => Err(ReadError::Io { path: self.path.clone(), offset: None, source }),
        }
    }
}

impl ReadAt for SourceFile {
    fn path(&self) -> Arc<str> {
        self.path.clone()
    }

    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(path: &Path) -> CheckpointFile {
        let (_, stamp) = open_regular(path).unwrap();
        CheckpointFile {
            path: "m".into(),
            location: Some(path.into()),
            size: Some(stamp.size),
            stamp: Some(stamp),
            metadata: crate::inventory::Metadata::default(),
        }
    }

    #[test]
    fn a_file_that_was_replaced_or_grew_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        std::fs::write(&path, "abc").unwrap();
        let before = described(&path);
        let open = SourceFile::open(&before).unwrap();
        open.check_unchanged().unwrap();
        std::fs::write(&path, "abcd").unwrap();
        assert!(matches!(open.check_unchanged(), Err(ReadError::Changed { .. })));
        assert!(matches!(SourceFile::open(&before), Err(ReadError::Changed { .. })));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = described(&{
            let path = folder.path().join("m");
            std::fs::write(&path, "abc").unwrap();
            path
        });
        file.location = Some(folder.path().into());
        assert!(matches!(SourceFile::open(&file), Err(ReadError::NotRegular { what: "a directory", .. })));
        file.location = Some(folder.path().join("none").into());
        assert!(matches!(SourceFile::open(&file), Err(ReadError::Io { offset: None, .. })));
        file.location = None;
        assert!(matches!(SourceFile::open(&file), Err(ReadError::NoBytes { .. })));
    }
}
