//! Manifests: what every tensor of a checkpoint is, down to its bytes, in a file beside it.
//!
//! A manifest has two digests of each tensor and of each chunk of it: XXH3 finds accidents at the speed of memory, BLAKE3 holds
//! against anybody who can write the checkpoint but not the manifest. Chunks are counted from the start of a tensor, so that a
//! device that reads a slice verifies the chunks it touches and no others.

mod build;
mod check;
mod digest;
mod file;
mod record;
mod unique;

pub use build::{DEFAULT_CHUNK, ManifestError, ManifestOptions};
pub use check::DigestMismatch;
pub(crate) use digest::Digester;
pub use digest::{Algorithm, Digests};
pub use file::{MANIFEST_FILE, beside};
pub use record::{Chunks, MANIFEST_FORMAT, Manifest, ManifestFile, TensorDigests};
pub(crate) use unique::unique;
