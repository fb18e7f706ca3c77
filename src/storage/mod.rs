//! Reading tensor bytes out of a checkpoint's files.
//!
//! A [`SourceFile`] is a file of a checkpoint, opened once for all that is read from it and held against what it was when its
//! header was read. [`ReadAt`] is what readers of bytes need of it: exact ranges, with the file and the byte offset in every
//! error. [`AlignedBuffer`] is memory for what was read; [`Faulty`] makes any source fail, for tests.

mod aligned;
mod fault;
mod file;
mod read;
mod stamp;

pub use aligned::{ALIGNMENT, AlignedBuffer};
pub use fault::{Fault, Faulty};
pub use file::SourceFile;
pub use read::{ReadAt, ReadError};
pub(crate) use stamp::{OpenTrouble, open_regular, stamp};
