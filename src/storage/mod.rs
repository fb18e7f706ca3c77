//! Reading tensor bytes out of a checkpoint's files.
//!
//! A [`SourceFile`] is a file of a checkpoint, opened once for all that is read from it and held against what it was when its
//! header was read. [`ReadAt`] is what readers of bytes need of it: exact ranges, with the file and the byte offset in every
//! error. [`DirectFile`] reads past the page cache, [`Ring`] many ranges of it at once, [`MappedFile`] maps, [`Caching`] says
//! which of them pays. [`AlignedBuffer`] is memory for what was read; [`Faulty`] makes any source fail, for tests.

mod aligned;
mod caching;
mod direct;
mod fault;
mod file;
mod mapped;
mod read;
mod ring;
mod stamp;
mod system;

pub use aligned::{ALIGNMENT, AlignedBuffer};
pub use caching::Caching;
pub use direct::DirectFile;
pub use fault::{Fault, Faulty};
pub use file::SourceFile;
pub use mapped::MappedFile;
pub use read::{ReadAt, ReadError};
pub use ring::{Ring, RingRead};
use stamp::open_direct;
pub(crate) use stamp::{OpenTrouble, open_regular, stamp};
pub(crate) use system::back_with_pages;
