//! Several reads of one file in flight at once.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod none;

use std::io;

#[cfg(target_os = "linux")]
pub use linux::Ring;
#[cfg(not(target_os = "linux"))]
pub use none::Ring;

/// One read of a batch.
#[derive(Debug)]
pub struct RingRead<'b> {
    /// Where in the file.
    pub offset: u64,
    /// Filled from the start.
    pub buffer: &'b mut [u8],
    /// Bytes that came, once the batch is through; like `pread(2)` that may be fewer than asked for. A read that was never
    /// sent off counts as interrupted.
    pub outcome: io::Result<usize>,
}

impl<'b> RingRead<'b> {
    /// A read that is still to be sent off.
    #[must_use]
    pub fn new(offset: u64, buffer: &'b mut [u8]) -> Self {
        Self { offset, buffer, outcome: Err(io::ErrorKind::Interrupted.into()) }
    }
}
