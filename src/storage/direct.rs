//! Reads past the page cache.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::{ReadAt, SourceFile, open_direct, stamp};

/// A file open for direct reads (`O_DIRECT`): offsets, lengths and addresses of every read are multiples of its block.
///
/// Reads go to the disk whatever the page cache holds, and leave nothing in it. Where the system refuses (no support in the
/// file system, no such system), opening fails and the buffered file is there instead.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    path: Arc<str>,
    block: u64,
}

/// Blocks that are tried where the system does not tell.
const TRIED: [u64; 2] = [512, 4096];

impl DirectFile {
    /// The block of most file systems, in bytes.
    pub const USUAL_BLOCK: u64 = 4096;

    /// Opens the same file once more, for direct reads, and measures its block.
    ///
    /// # Errors
    /// The system refuses, or another file has taken its place.
    pub fn open(file: &SourceFile) -> io::Result<Self> {
        let direct = open_direct(file.location())?;
        if stamp(&direct.metadata()?) != file.stamp() {
            return Err(io::Error::other("the file changed"));
        }
        let told = told_block(&direct);
        let mut opened = Self { file: direct, path: file.path(), block: 0 };
        for block in told.map_or_else(|| TRIED.to_vec(), |block| vec![block]) {
            opened.block = block;
            let mut probe = super::AlignedBuffer::aligned_to(opened.alignment(), opened.alignment());
            match opened.read_at(&mut probe, 0) {
                Ok(_) => return Ok(opened),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::InvalidInput.into())
    }

    /// What offsets, lengths and addresses are multiples of.
    #[must_use]
    pub const fn block(&self) -> u64 {
        self.block
    }

    fn alignment(&self) -> usize {
        usize::try_from(self.block).unwrap_or(4096)
    }
}

impl ReadAt for DirectFile {
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

#[cfg(unix)]
impl std::os::fd::AsRawFd for DirectFile {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

/// The block as `statx(2)` tells it (Linux 6.1): the larger of those of offsets and of addresses.
#[cfg(target_os = "linux")]
fn told_block(file: &File) -> Option<u64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};

    let told = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let block = u64::from(told.stx_dio_offset_align.max(told.stx_dio_mem_align));
    let known = StatxFlags::from_bits_retain(told.stx_mask).contains(StatxFlags::DIOALIGN);
    (known && block.is_power_of_two() && block <= 1 << 20).then_some(block)
}

#[cfg(not(target_os = "linux"))]
fn told_block(_: &File) -> Option<u64> {
    None
}
