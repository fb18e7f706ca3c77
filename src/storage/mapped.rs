//! Files mapped into memory, where a policy asks for it.

use std::io;

use memmap2::Mmap;

use super::{SourceFile, system};

/// A mapping of a whole file.
///
/// When another process makes the file shorter, or a network disk fails, touching what is gone **kills this process** with
/// SIGBUS. Mappings are for local files that nobody writes.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// The system refuses, or the file is not what it was when it was opened.
    pub fn map(file: &SourceFile) -> io::Result<Self> {
        let map = system::map(file.file())?;
        file.check_unchanged().map_err(io::Error::other)?;
        Ok(Self(map))
    }

    /// The bytes at an offset; `None` beyond the end.
    #[must_use]
    pub fn get(&self, offset: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.0.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }
}
