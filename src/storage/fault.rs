//! Sources that fail on purpose, so that tests see what comes of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ReadAt;

/// What goes wrong with a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The read fails with this kind of error.
    Error(io::ErrorKind),
    /// A signal comes first; the same read works when it is tried again.
    Interrupted,
    /// At most this many bytes arrive.
    Short(usize),
    /// The file ends here.
    End,
}

/// A source whose reads fail as a function says, by the number of the read (from 0, over all threads).
///
/// ```
/// use flow_fabric::storage::{Fault, Faulty, ReadAt as _};
///
/// let faults = [Fault::Interrupted, Fault::Short(1)];
/// let file = Faulty::new(&b"0123456789"[..], |read| faults.get(read as usize).copied());
/// let mut bytes = [0; 4];
/// file.read_exact_at(&mut bytes, 2)?;
/// assert_eq!((&bytes, file.reads()), (b"2345", 3));
/// # Ok::<(), flow_fabric::storage::ReadError>(())
/// ```
#[derive(Debug)]
pub struct Faulty<R, F> {
    source: R,
    fault: F,
    reads: AtomicU64,
}

impl<R: ReadAt, F: Fn(u64) -> Option<Fault> + Send + Sync> Faulty<R, F> {
    /// Wraps a source.
    pub const fn new(source: R, fault: F) -> Self {
        Self { source, fault, reads: AtomicU64::new(0) }
    }

    /// Reads so far, failed ones included.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl<R: ReadAt, F: Fn(u64) -> Option<Fault> + Send + Sync> ReadAt for Faulty<R, F> {
    fn path(&self) -> Arc<str> {
        self.source.path()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match (self.fault)(self.reads.fetch_add(1, Ordering::Relaxed)) {
            None => self.source.read_at(buffer, offset),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::End) => Ok(0),
            Some(Fault::Short(most)) => {
                let length = buffer.len().min(most.max(1));
                self.source.read_at(buffer.get_mut(..length).unwrap_or_default(), offset)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ReadError;

    fn read(fault: impl Fn(u64) -> Option<Fault> + Send + Sync) -> Result<Vec<u8>, ReadError> {
        let bytes: Vec<u8> = (0..100).collect();
        let mut out = vec![0; 50];
        Faulty::new(&bytes[..], fault).read_exact_at(&mut out, 20).map(|()| out)
    }

    #[test]
    fn interrupted_and_short_reads_are_taken_up_again() {
        let right: Vec<u8> = (20..70).collect();
        assert_eq!(read(|_| Some(Fault::Short(7))).unwrap(), right);
        assert_eq!(read(|number| (number % 2 == 0).then_some(Fault::Interrupted)).unwrap(), right);
    }

    #[test]
    fn an_error_names_the_byte_it_happened_at() {
        let second = |fault| move |number| Some(if number == 0 { Fault::Short(7) } else { fault });
        let error = read(second(Fault::Error(io::ErrorKind::Other))).unwrap_err();
        assert_eq!(error.offset(), Some(27));
        let error = read(second(Fault::End)).unwrap_err();
        assert!(matches!(error, ReadError::Ended { offset: 27, missing: 43, .. }), "{error}");
    }
}
