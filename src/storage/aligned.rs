//! Memory whose first byte is aligned for vector loads and accelerators.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// What tensors are aligned to, in bytes: a cache line, and what the widest vector loads want.
pub const ALIGNMENT: usize = 64;

/// Owned bytes at an aligned address, zero until written. Dereferences to `[u8]`.
///
/// Memory comes from the system as zero pages, so that making a large buffer costs nothing until it is filled.
///
/// ```
/// use flow_fabric::storage::{ALIGNMENT, AlignedBuffer};
///
/// let mut buffer = AlignedBuffer::zeroed(100);
/// assert_eq!(buffer.as_ptr().align_offset(ALIGNMENT), 0);
/// buffer[..3].copy_from_slice(b"abc");
/// assert_eq!(buffer.len(), 100);
/// ```
pub struct AlignedBuffer {
    /// Longer than needed by what the address may be off. It never grows, so that its address stays.
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// Makes a buffer of `length` zero bytes, aligned to [`ALIGNMENT`].
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        Self::aligned_to(ALIGNMENT, length)
    }

    /// The same, unless the system does not have that much memory to give.
    #[must_use]
    pub fn try_zeroed(length: usize) -> Option<Self> {
        // Zero pages can only be asked for in a way that ends the process when there are none; this asks first.
        let mut probe: Vec<u8> = Vec::new();
        probe.try_reserve_exact(length.checked_add(ALIGNMENT)?).ok()?;
        drop(probe);
        Some(Self::zeroed(length))
    }

    /// Makes a buffer of `length` zero bytes whose address is a multiple of `alignment`, a power of two.
    #[must_use]
    pub fn aligned_to(alignment: usize, length: usize) -> Self {
        let memory = vec![0; length.saturating_add(alignment)];
        let start = memory.as_ptr().align_offset(alignment).min(alignment);
        Self { memory, start, length }
    }

    /// Makes a buffer that holds a copy of `bytes`, aligned to [`ALIGNMENT`].
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.length).unwrap_or_default()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.length).unwrap_or_default()
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for AlignedBuffer {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl PartialEq for AlignedBuffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for AlignedBuffer {}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_aligned_and_zero() {
        for alignment in [1, 64, 4096] {
            for length in [0, 1, 63, 64, 4095, 1 << 20] {
                let buffer = AlignedBuffer::aligned_to(alignment, length);
                assert_eq!((buffer.len(), buffer.as_ptr().align_offset(alignment)), (length, 0));
                assert!(buffer.iter().all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    fn more_than_there_is_is_not_given() {
        assert_eq!(AlignedBuffer::try_zeroed(usize::MAX), None);
        assert_eq!(AlignedBuffer::try_zeroed(isize::MAX.unsigned_abs() - 4096), None);
        assert_eq!(AlignedBuffer::try_zeroed(5).map(|buffer| buffer.len()), Some(5));
    }

    #[test]
    fn a_copy_is_aligned_too() {
        let copy = AlignedBuffer::copy_of(b"abc").clone();
        assert_eq!(&*copy, b"abc");
        assert_eq!(copy.as_ptr().align_offset(ALIGNMENT), 0);
    }
}
