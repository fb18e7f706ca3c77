//! Systems without io_uring.

use std::convert::Infallible;
use std::io;

use super::RingRead;
use crate::storage::DirectFile;

/// A queue to the kernel, which this system does not have: there is no value of it.
#[derive(Debug)]
pub struct Ring(Infallible);

impl Ring {
    /// Is refused.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: u32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// Never.
    pub fn read(&mut self, _: &DirectFile, _: &mut [RingRead<'_>]) -> io::Result<()> {
        match self.0 {}
    }
}
