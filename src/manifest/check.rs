//! Holding bytes against a manifest.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Algorithm, Manifest, TensorDigests};
use crate::finding::{Finding, code};
use crate::inventory::{Checkpoint, quoted};

/// A chunk whose bytes are not those that the manifest was made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunk {chunk} of tensor {} does not have its {} digest", quoted(.tensor), .algorithm.name())]
pub struct DigestMismatch {
    /// The tensor, as the file names it.
    pub tensor: String,
    /// The file, as the user would write it.
    pub file: Arc<str>,
    /// Which chunk of the tensor, from 0.
    pub chunk: u64,
    /// First byte of the chunk in the file.
    pub offset: u64,
    /// Number of bytes of the chunk.
    pub length: u64,
    /// The digest that was asked for.
    pub algorithm: Algorithm,
}

impl DigestMismatch {
    /// The same as a finding, placed in the file.
    #[must_use]
    pub fn finding(&self) -> Finding {
        Finding::new(&code::DIGEST_MISMATCH, self.to_string())
            .in_file(self.file.clone(), Some(self.offset), "")
            .help("the file was damaged or replaced after its manifest was made; fetch it again")
            .note(format!(
                "the chunk is {} long",
                crate::units::counted(usize::try_from(self.length).unwrap_or(usize::MAX), "byte")
            ))
    }
}

impl TensorDigests {
    /// Holds the bytes of a chunk against its digest. `bytes` must be the whole chunk; fewer or more are a mismatch.
    ///
    /// # Errors
    /// They differ.
    pub fn check_chunk(
        &self,
        chunk: u64,
        bytes: &[u8],
        chunk_bytes: u64,
        algorithm: Algorithm,
        name: &str,
        file: &Arc<str>,
    ) -> Result<(), DigestMismatch> {
        let range = self.chunk_range(chunk, chunk_bytes);
        let length = range.end.saturating_sub(range.start);
        let digests = self.chunk(chunk).filter(|_| bytes.len() as u64 == length);
        if digests.is_some_and(|digests| digests.hold(bytes, algorithm)) {
            return Ok(());
        }
        let (tensor, file, offset) = (name.to_owned(), file.clone(), self.offset.saturating_add(range.start));
        Err(DigestMismatch { tensor, file, chunk, offset, length, algorithm })
    }
}

impl Manifest {
    /// What a checkpoint's headers say against what the manifest says: files of another size, tensors that are absent, at
    /// another place, of another dtype or shape. No tensor byte is read.
    #[must_use]
    pub fn compare(&self, checkpoint: &Checkpoint) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (at, file) in checkpoint.files.iter().enumerate() {
            let name = file.path.rsplit(['/', '\\']).next().unwrap_or(&file.path);
            let mut differs = |message: String, offset| {
                let finding = Finding::new(&code::MANIFEST_DIFFERS, message).in_file(file.path.clone(), offset, "");
                findings.push(finding.help("the checkpoint is another one than the manifest was made from"));
            };
            let Some(known) = self.files.iter().find(|known| known.name == name) else {
                differs("the manifest does not know this file".to_owned(), None);
                continue;
            };
            if file.size.is_some_and(|size| size != known.bytes) {
                let size = file.size.unwrap_or_default();
                differs(format!("the file has {size} bytes, {} in the manifest", known.bytes), None);
            }
            let here = |tensor: &&crate::inventory::StoredTensor| {
                tensor.bytes.file.is_some_and(|file| file.0 as usize == at) && tensor.bytes.offset.is_some()
            };
            let mut seen = BTreeSet::new();
            for tensor in checkpoint.tensors.iter().filter(here) {
                seen.insert(tensor.name.as_str());
                let offset = tensor.bytes.offset;
                match known.tensors.get(&tensor.name) {
                    None => differs(format!("the manifest does not know tensor {}", quoted(&tensor.name)), offset),
                    Some(digests) => {
                        let told = (digests.dtype, &digests.shape, Some(digests.offset), digests.bytes);
                        if told != (tensor.dtype, &tensor.shape, offset, tensor.bytes.length) {
                            differs(format!("tensor {} is another one in the manifest", quoted(&tensor.name)), offset);
                        }
                    }
                }
            }
            let absent: Vec<&String> = known.tensors.keys().filter(|name| !seen.contains(name.as_str())).collect();
            if let Some(first) = absent.first() {
                let count = crate::units::counted(absent.len(), "tensor");
                differs(format!("{count} of the manifest are not in the file, {} first", quoted(first)), None);
            }
        }
        for known in &self.files {
            let here = |file: &crate::inventory::CheckpointFile| {
                file.path.rsplit(['/', '\\']).next().unwrap_or(&file.path) == known.name
            };
            if !checkpoint.files.iter().any(here) {
                let message = format!("file {} of the manifest is absent", quoted(&known.name));
                findings.push(
                    Finding::new(&code::MANIFEST_DIFFERS, message)
                        .in_file(checkpoint.name.clone(), None, "")
                        .help("fetch it again, or write the manifest anew"),
                );
            }
        }
        findings
    }

    /// Where another manifest of the same checkpoint has other digests: one finding for each chunk, in the order of the files.
    #[must_use]
    pub fn mismatches(&self, other: &Self, checkpoint: &Checkpoint) -> Vec<DigestMismatch> {
        let mut mismatches = Vec::new();
        for file in &self.files {
            let shown = checkpoint.files.iter().find(|known| known.path.ends_with(file.name.as_str()));
            let shown = shown.map_or_else(|| file.name.as_str().into(), |known| known.path.clone());
            for (name, tensor) in &file.tensors {
                let Some(found) = other.tensor(&file.name, name) else { continue };
                for chunk in 0..tensor.chunk_count(self.chunk_bytes) {
                    if tensor.chunk(chunk) != found.chunk(chunk) {
                        let range = tensor.chunk_range(chunk, self.chunk_bytes);
                        mismatches.push(DigestMismatch {
                            tensor: name.clone(),
                            file: shown.clone(),
                            chunk,
                            offset: tensor.offset.saturating_add(range.start),
                            length: range.end.saturating_sub(range.start),
                            algorithm: Algorithm::Blake3,
                        });
                    }
                }
            }
        }
        mismatches
    }
}
