//! One tensor on its way.

use std::hash::Hasher as _;
use twox_hash::xxhash3_64::Hasher as Xxh3;

use super::{ConvertError, deflated, strided};
use crate::Dtype;
use crate::output::SafetensorsWriter;
use crate::progress::Progress;
use crate::storage::{ReadAt as _, SourceFile};

/// Bytes copied at a time.
pub(super) const PIECE: usize = 4 << 20;

/// A tensor to be copied.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// Its number in the layout.
    pub(super) index: usize,
    pub(super) name: &'a str,
    pub(super) file: &'a SourceFile,
    pub(super) source: Source<'a>,
    pub(super) dtype: Dtype,
    pub(super) shape: &'a [u64],
    pub(super) length: u64,
}

/// Where its bytes are.
#[derive(Debug)]
pub(super) enum Source<'a> {
    Range { offset: u64 },
    Strided { offset: u64, strides: &'a [u64] },
    Deflated { offset: u64, stored: u64, skip: u64 },
}

/// Takes the bytes of a tensor in order: writes them, digests them, and says how far it is.
pub(super) struct Sink<'a> {
    writer: &'a SafetensorsWriter,
    progress: &'a dyn Progress,
    index: usize,
    at: u64,
    hasher: Xxh3,
}

impl Sink<'_> {
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), ConvertError> {
        self.progress.check()?;
        self.writer.write_at(self.index, self.at, bytes)?;
        self.hasher.write(bytes);
        self.at = self.at.saturating_add(bytes.len() as u64);
        self.progress.advance(bytes.len() as u64);
        Ok(())
    }
}

impl Job<'_> {
    /// Copies the tensor and returns the digest of its bytes.
    pub(super) fn copy(&self, writer: &SafetensorsWriter, progress: &dyn Progress) -> Result<u64, ConvertError> {
        progress.at(self.name);
        let mut sink = Sink { writer, progress, index: self.index, at: 0, hasher: Xxh3::new() };
        match self.source {
            Source::Range { offset } => self.range(offset, &mut sink)?,
            Source::Strided { offset, strides } => {
                let view = strided::View { shape: self.shape, strides, dtype: self.dtype, offset };
                strided::copy(self.file, &view, PIECE, &mut |bytes| sink.take(bytes))?;
            }
            Source::Deflated { offset, stored, skip } => {
                let packed = deflated::Packed { offset, stored, skip, length: self.length };
                deflated::copy(self.file, &packed, self.name, &mut |bytes| sink.take(bytes))?;
            }
        }
        Ok(sink.hasher.finish())
    }

    fn range(&self, offset: u64, sink: &mut Sink<'_>) -> Result<(), ConvertError> {
        let mut buffer = vec![0; usize::try_from(self.length).unwrap_or(PIECE).min(PIECE)];
        let mut at = 0;
        while at < self.length {
            let length = usize::try_from(self.length - at).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..length).unwrap_or_default();
            self.file.read_exact_at(piece, offset.saturating_add(at))?;
            sink.take(piece)?;
            at += length as u64;
        }
        Ok(())
    }
}
