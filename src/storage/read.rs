//! Exact positioned reads, and what can be said when they fail.

use std::io;
use std::sync::Arc;

use crate::finding::{Finding, code};
use crate::units::counted;

/// Something that bytes are read from at offsets, by several threads at once.
///
/// ```
/// use flow_fabric::storage::ReadAt;
///
/// let file: &[u8] = b"0123456789";
/// let mut middle = [0; 4];
/// file.read_exact_at(&mut middle, 3)?;
/// assert_eq!(&middle, b"3456");
/// assert_eq!(file.read_exact_at(&mut middle, 8).unwrap_err().offset(), Some(10));
/// # Ok::<(), flow_fabric::storage::ReadError>(())
/// ```
pub trait ReadAt: Send + Sync {
    /// What errors call it.
    fn path(&self) -> Arc<str>;

    /// Reads once, from `offset` on; like `pread(2)` it may give fewer bytes than asked for, and 0 only at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buffer` from `offset` on; interrupted and short reads are taken up again.
    ///
    /// # Errors
    /// The file ends too early, or the system cannot read it. What `buffer` then holds is not to be used.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            match self.read_at(rest, at) {
                Ok(0) => return Err(ReadError::Ended { path: self.path(), offset: at, missing: rest.len() as u64 }),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { path: self.path(), offset: Some(at), source }),
            }
        }
        Ok(())
    }
}

/// Memory, in place of a file.
impl ReadAt for &[u8] {
    fn path(&self) -> Arc<str> {
        "memory".into()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn path(&self) -> Arc<str> {
        (**self).path()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

/// Why bytes of a file are not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system cannot read it.
    #[error("cannot read `{path}`{}: {source}", at(offset))]
    Io {
        /// The file, as the user would write it.
        path: Arc<str>,
        /// Where, unless it could not even be opened.
        offset: Option<u64>,
        /// What the system said.
        source: io::Error,
    },
    /// The file is shorter than its header says.
    #[error("`{path}` is too short: from byte {offset} on it lacks {}", counted(usize::try_from(*missing).unwrap_or(usize::MAX), "byte"))]
    Ended {
        /// The file, as the user would write it.
        path: Arc<str>,
        /// The first byte that did not come; the file ends there or before.
        offset: u64,
        /// Bytes that are not there.
        missing: u64,
    },
    /// The file is not the one whose header was read.
    #[error("`{path}` changed after its header was read")]
    Changed {
        /// The file, as the user would write it.
        path: Arc<str>,
    },
    /// A directory, FIFO or device stands where the file was.
    #[error("`{path}` is {what}, not a regular file")]
    NotRegular {
        /// The file, as the user would write it.
        path: Arc<str>,
        /// What it is.
        what: &'static str,
    },
    /// The inventory names no file to open: it comes from a list.
    #[error("`{path}` is known from a list only; there are no bytes to read")]
    NoBytes {
        /// The file as the list calls it.
        path: Arc<str>,
    },
}

impl ReadError {
    /// The file concerned.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        match self {
            Self::Io { path, .. }
            | Self::Ended { path, .. }
            | Self::Changed { path }
            | Self::NotRegular { path, .. }
            | Self::NoBytes { path } => path,
        }
    }

    /// The byte offset concerned, where there is one.
    #[must_use]
    pub const fn offset(&self) -> Option<u64> {
        match self {
            Self::Io { offset, .. } => *offset,
            Self::Ended { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// The same as a finding, placed in the file.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let (code, help) = match self {
            Self::Io { .. } => (&code::UNREADABLE_FILE, None),
            Self::Ended { .. } | Self::Changed { .. } => {
                (&code::FILE_CHANGED, Some("another program is writing it; read it when it is complete"))
            }
            Self::NotRegular { .. } => (&code::NOT_A_FILE, None),
            Self::NoBytes { .. } => (&code::UNREADABLE_FILE, Some("name the checkpoint itself")),
        };
        let finding = Finding::new(code, self.to_string()).in_file(self.path().clone(), self.offset(), "");
        match help {
            Some(help) => finding.help(help),
            None => finding,
        }
    }
}

fn at(offset: &Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!(" at byte {offset}"))
}
