//! Digesting a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use super::digest::Digester;
use super::{Chunks, Digests, Manifest, ManifestFile, TensorDigests};
use crate::inventory::{Checkpoint, StoredTensor};
use crate::output::{OutputError, failpoint};
use crate::parallel::in_parallel;
use crate::progress::{Cancelled, Progress};
use crate::storage::{ReadAt as _, ReadError, SourceFile};

/// Bytes of a chunk unless said otherwise: small enough that a slice verifies little more than it reads.
pub const DEFAULT_CHUNK: u64 = 4 << 20;

/// How a manifest is made.
#[derive(Debug, Clone, Copy)]
pub struct ManifestOptions {
    /// Bytes of a chunk, at least one. Each thread holds one chunk.
    pub chunk_bytes: u64,
    /// Threads that read and digest.
    pub threads: usize,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        Self { chunk_bytes: DEFAULT_CHUNK, threads: 2 }
    }
}

/// A manifest that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A file of the checkpoint cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The manifest cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The work was told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl ManifestError {
    /// The same as a finding; none when the work was cancelled.
    #[must_use]
    pub fn finding(&self) -> Option<crate::finding::Finding> {
        match self {
            Self::Read(error) => Some(error.finding()),
            Self::Output(error) => Some(error.finding()),
            Self::Cancelled(_) => None,
        }
    }
}

impl Manifest {
    /// Reads all tensors of a checkpoint and digests them. Tensors whose bytes do not lie in their file as they are (see
    /// [`Checkpoint::indirect`]) are left out: they cannot be loaded from there either.
    ///
    /// # Errors
    /// A file cannot be read or changes meanwhile; the work is cancelled.
    pub fn build(
        checkpoint: &Checkpoint,
        options: ManifestOptions,
        progress: &dyn Progress,
    ) -> Result<Self, ManifestError> {
        let files = checkpoint.files.iter().map(SourceFile::open).collect::<Result<Vec<_>, _>>()?;
        let mut manifest = Self::empty(options.chunk_bytes.max(1));
        manifest.files = files
            .iter()
            .map(|file| ManifestFile { name: plain_name(file), bytes: file.size(), tensors: BTreeMap::new() })
            .collect();
        // Names that share bytes share the work.
        let mut ranges: BTreeMap<(usize, u64, u64), Vec<&StoredTensor>> = BTreeMap::new();
        for tensor in &checkpoint.tensors {
            if let (Some(file), Some(offset)) = (tensor.bytes.file, tensor.bytes.offset) {
                ranges.entry((file.0 as usize, offset, tensor.bytes.length)).or_default().push(tensor);
            }
        }
        let ranges: Vec<_> = ranges.into_iter().collect();
        progress.begin(
            "digesting",
            Some(ranges.iter().fold(0, |sum: u64, ((_, _, length), _)| sum.saturating_add(*length))),
        );
        let digested = in_parallel(options.threads, &ranges, |((file, offset, length), tensors)| {
            progress.at(tensors.first().map_or("", |tensor| &*tensor.name));
            match files.get(*file) {
                Some(file) => digest(file, *offset, *length, manifest.chunk_bytes, progress),
                None => Ok((Digests::of(&[]), Chunks::default())),
            }
        })?;
        files.iter().try_for_each(SourceFile::check_unchanged)?;
        for (((file, offset, bytes), tensors), (digests, chunks)) in ranges.iter().zip(digested) {
            let Some(file) = manifest.files.get_mut(*file) else { continue };
            for tensor in tensors {
                let (dtype, shape, chunks) = (tensor.dtype, tensor.shape.clone(), chunks.clone());
                let record = TensorDigests { dtype, shape, offset: *offset, bytes: *bytes, digests, chunks };
                file.tensors.insert(tensor.name.clone(), record);
            }
        }
        Ok(manifest)
    }
}

/// The name in its directory, links not followed: that is what the manifest lies beside.
fn plain_name(file: &SourceFile) -> String {
    let location: &Path = file.location();
    location.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn digest(
    file: &SourceFile,
    offset: u64,
    length: u64,
    chunk_bytes: u64,
    progress: &dyn Progress,
) -> Result<(Digests, Chunks), ManifestError> {
    let mut whole = Digester::default();
    let mut chunks = Vec::new();
    let mut buffer = vec![0; usize::try_from(chunk_bytes.min(length)).unwrap_or(0)];
    let mut at = 0;
    while at < length {
        progress.check()?;
        failpoint::hit("manifest/digest").map_err(OutputError::io("read", file.location()))?;
        let piece = usize::try_from(chunk_bytes.min(length - at)).unwrap_or(0);
        let piece = buffer.get_mut(..piece).unwrap_or_default();
        file.read_exact_at(piece, offset.saturating_add(at))?;
        if length > chunk_bytes {
            chunks.push(Digests::of(piece));
        }
        whole.update(piece);
        at = at.saturating_add(piece.len() as u64);
        progress.advance(piece.len() as u64);
    }
    Ok((whole.finish(), Chunks(chunks)))
}
