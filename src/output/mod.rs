//! Writing results so that they appear whole or not at all.
//!
//! A result is written beside its place, under a name that only depends on it, and takes that place by one rename when it is
//! complete and on disk. What was there stays untouched until then. Two runs on one place cannot mix: the second is told that
//! the place is busy. What a killed run leaves behind is taken up by the next one: cleared away, or continued from its
//! [`OutputDirectory::finished`] pieces.
//!
//! - [`OutputFile`] and [`OutputDirectory`]: one file, one directory.
//! - [`Layout`] and [`SafetensorsWriter`]: a checkpoint of safetensors files in such a directory, written at any place in any
//!   order from any thread.
//! - [`GgufFile`]: a GGUF file instead, laid out by [`Layout::gguf`].
//! - [`carry`]: the small files of a model (config, tokenizer) that go along.

mod carry;
mod claim;
mod directory;
mod error;
pub(crate) mod failpoint;
mod file;
mod gguf;
mod journal;
mod layout;
mod writer;

pub use carry::carry;
pub(crate) use claim::{is_at, partial_of};
pub use directory::{Leftover, OutputDirectory, OutputOptions};
pub use error::OutputError;
pub use file::{OutputFile, replace_file};
pub use gguf::GgufFile;
pub use layout::{Layout, LayoutFile, Placement, TensorSpec};
pub use writer::SafetensorsWriter;
