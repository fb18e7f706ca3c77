//! A manifest as it is kept and written.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Digests;
use super::digest::{bytes_of_hex, hex_of, hex_of_u64, u64_of_hex};
use crate::Dtype;

/// The document's name.
pub const MANIFEST_FORMAT: &str = "flow-fabric-manifest";
/// The document's version.
pub(super) const VERSION: u32 = 1;

/// The digests of a checkpoint's tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `flow-fabric-manifest`.
    pub format: String,
    /// 1.
    pub format_version: u32,
    /// Bytes of a chunk; the last one of a tensor may be shorter.
    #[schemars(range(min = 1))]
    pub chunk_bytes: u64,
    /// The files, in the checkpoint's order.
    pub files: Vec<ManifestFile>,
}

/// A file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Its name in the directory of the manifest.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its tensors, by the name in the file. Names that share bytes are all listed.
    #[serde(deserialize_with = "super::unique")]
    pub tensors: BTreeMap<String, TensorDigests>,
}

/// A tensor of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorDigests {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major.
    pub shape: Vec<u64>,
    /// First byte in the file.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// Digests of all its bytes.
    pub digests: Digests,
    /// Digests of its chunks, in order; empty when it has at most one.
    #[serde(default, skip_serializing_if = "Chunks::is_empty")]
    pub chunks: Chunks,
}

/// Digests of the chunks of a tensor, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Chunks(pub Vec<Digests>);

impl Chunks {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Manifest {
    /// A manifest of no files.
    #[must_use]
    pub fn empty(chunk_bytes: u64) -> Self {
        Self { format: MANIFEST_FORMAT.to_owned(), format_version: VERSION, chunk_bytes, files: Vec::new() }
    }

    /// The digests of a tensor of a file; `file` is its plain name.
    #[must_use]
    pub fn tensor(&self, file: &str, tensor: &str) -> Option<&TensorDigests> {
        self.files.iter().find(|known| known.name == file)?.tensors.get(tensor)
    }

    /// The digests of a tensor, whatever its file.
    #[must_use]
    pub fn find(&self, tensor: &str) -> Option<(&ManifestFile, &TensorDigests)> {
        self.files.iter().find_map(|file| Some((file, file.tensors.get(tensor)?)))
    }
}

impl TensorDigests {
    /// How many chunks the tensor has, for chunks of so many bytes; none when it has no bytes.
    #[must_use]
    pub const fn chunk_count(&self, chunk_bytes: u64) -> u64 {
        if chunk_bytes == 0 { 0 } else { self.bytes.div_ceil(chunk_bytes) }
    }

    /// The bytes of a chunk, counted from the start of the tensor; empty beyond the last one.
    #[must_use]
    pub fn chunk_range(&self, chunk: u64, chunk_bytes: u64) -> Range<u64> {
        let start = chunk.saturating_mul(chunk_bytes).min(self.bytes);
        start..start.saturating_add(chunk_bytes).min(self.bytes)
    }

    /// The chunks that a range of the tensor's bytes touches.
    #[must_use]
    pub fn chunks_of(&self, range: &Range<u64>, chunk_bytes: u64) -> Range<u64> {
        let end = range.end.min(self.bytes);
        if chunk_bytes == 0 || range.start >= end {
            return 0..0;
        }
        range.start / chunk_bytes..end.div_ceil(chunk_bytes)
    }

    /// The digests of a chunk.
    #[must_use]
    pub fn chunk(&self, chunk: u64) -> Option<&Digests> {
        match self.chunks.0.as_slice() {
            [] if chunk == 0 => Some(&self.digests),
            chunks => chunks.get(usize::try_from(chunk).ok()?),
        }
    }
}

/// As it is written: a list of each kind.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Chunks")]
struct Written {
    /// XXH3, 64 bits, of each chunk: 16 hexadecimal digits.
    xxh3: Vec<String>,
    /// BLAKE3, 256 bits, of each chunk: 64 hexadecimal digits.
    blake3: Vec<String>,
}

impl From<Chunks> for Written {
    fn from(Chunks(chunks): Chunks) -> Self {
        Self {
            xxh3: chunks.iter().map(|chunk| hex_of_u64(chunk.xxh3)).collect(),
            blake3: chunks.iter().map(|chunk| hex_of(&chunk.blake3)).collect(),
        }
    }
}

impl TryFrom<Written> for Chunks {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.xxh3.len() != written.blake3.len() {
            return Err(format!("{} xxh3 and {} blake3 digests of chunks", written.xxh3.len(), written.blake3.len()));
        }
        let pairs = written.xxh3.iter().zip(&written.blake3);
        let pair = |(xxh3, blake3): (&String, &String)| {
            Ok::<_, super::digest::NotHex>(Digests { xxh3: u64_of_hex(xxh3)?, blake3: bytes_of_hex(blake3)? })
        };
        pairs.map(pair).collect::<Result<_, _>>().map(Self).map_err(|error| error.to_string())
    }
}

impl JsonSchema for Chunks {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Written::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(bytes: u64) -> TensorDigests {
        TensorDigests {
            dtype: Dtype::U8,
            shape: vec![bytes],
            offset: 0,
            bytes,
            digests: Digests::of(b""),
            chunks: Chunks::default(),
        }
    }

    #[test]
    fn chunks_cover_a_tensor() {
        let tensor = tensor(10);
        assert_eq!(tensor.chunk_count(4), 3);
        let ranges: Vec<_> = (0..4).map(|chunk| tensor.chunk_range(chunk, 4)).collect();
        assert_eq!(ranges, [0..4, 4..8, 8..10, 10..10]);
        assert_eq!(tensor.chunks_of(&(3..5), 4), 0..2);
        assert_eq!(tensor.chunks_of(&(4..8), 4), 1..2);
        assert_eq!(tensor.chunks_of(&(9..99), 4), 2..3);
        assert_eq!(tensor.chunks_of(&(10..11), 4), 0..0);
        assert_eq!(tensor.chunks_of(&(3..3), 4), 0..0);
        assert_eq!(self::tensor(0).chunk_count(4), 0);
    }
}
