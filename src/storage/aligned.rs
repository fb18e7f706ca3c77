//! Memory whose first byte is aligned for vector loads and accelerators.

use std::fmt;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// What tensors are aligned to, in bytes: a cache line, and what the widest vector loads want.
pub const ALIGNMENT: usize = 64;

/// Owned bytes at an aligned address, zero until written. Dereferences to `[u8]`.
///
/// Large buffers are pages that come from the system and go back to it, so that making one costs nothing until it is filled and
/// its bytes are written once only.
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
    memory: Memory,
    start: usize,
    length: usize,
}

/// Longer than needed by what the address may be off. It never grows, so that its address stays.
enum Memory {
    Heap(Vec<u8>),
    /// Of its own, by `mmap`. The heap would hand out memory again that was used before, after filling it with zeros.
    Pages(MmapMut),
}

/// From this length on, a buffer has pages of its own. The system allows a process some 65,000 of them: what does not get
/// any lives on the heap.
const OWN_PAGES: usize = 1 << 20;

/// What a huge page holds on x86-64 and, with pages of 4 KiB, on ARM.
const HUGE_PAGE: usize = 2 << 20;

impl AlignedBuffer {
    /// Makes a buffer of `length` zero bytes, aligned to [`ALIGNMENT`].
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        Self::aligned_to(ALIGNMENT, length)
    }

    /// The same, unless the system does not have that much memory to give.
    #[must_use]
    pub fn try_zeroed(length: usize) -> Option<Self> {
        let whole = length.checked_add(ALIGNMENT)?;
        let memory = own_pages(whole).or_else(|| {
            // Zeros can only be asked of the heap in a way that ends the process when there are none; this asks first.
            let mut probe: Vec<u8> = Vec::new();
            probe.try_reserve_exact(whole).ok()?;
            drop(probe);
            Some(Memory::Heap(vec![0; whole]))
        })?;
        Some(Self::within(memory, ALIGNMENT, length))
    }

    /// Makes a buffer of `length` zero bytes whose address is a multiple of `alignment`, a power of two.
    #[must_use]
    pub fn aligned_to(alignment: usize, length: usize) -> Self {
        let whole = length.saturating_add(alignment);
        let memory = own_pages(whole).unwrap_or_else(|| Memory::Heap(vec![0; whole]));
        Self::within(memory, alignment, length)
    }

    /// Makes a buffer of `length` zero bytes for direct reads, aligned like [`AlignedBuffer::aligned_to`]: in huge pages, where it
    /// has room for one and the system has them. A disk fills a few long stretches of memory faster than hundreds of single pages.
    #[must_use]
    pub fn for_disk(alignment: usize, length: usize) -> Self {
        if length < HUGE_PAGE {
            return Self::aligned_to(alignment, length);
        }
        let buffer = Self::aligned_to(alignment.max(HUGE_PAGE), length);
        #[cfg(target_os = "linux")]
        if let Memory::Pages(pages) = &buffer.memory {
            // Without huge pages it is memory like any other.
            let _ = pages.advise_range(memmap2::Advice::HugePage, buffer.start, length);
        }
        buffer
    }

    /// Makes a buffer that holds a copy of `bytes`, aligned to [`ALIGNMENT`].
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    fn within(memory: Memory, alignment: usize, length: usize) -> Self {
        let start = memory.bytes().as_ptr().align_offset(alignment).min(alignment);
        Self { memory, start, length }
    }
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(bytes) => bytes,
        }
    }
}

fn own_pages(length: usize) -> Option<Memory> {
    if length < OWN_PAGES {
        return None;
    }
    MmapMut::map_anon(length).ok().map(Memory::Pages)
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.bytes().get(self.start..self.start + self.length).unwrap_or_default()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut().get_mut(self.start..self.start + self.length).unwrap_or_default()
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
            for length in [0, 1, 63, 64, 4095, OWN_PAGES - 64, OWN_PAGES] {
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
    fn memory_for_disks_is_aligned_and_written_like_any_other() {
        for length in [4096, HUGE_PAGE, HUGE_PAGE + 8192] {
            let mut buffer = AlignedBuffer::for_disk(4096, length);
            assert_eq!((buffer.len(), buffer.as_ptr().align_offset(4096)), (length, 0));
            buffer.fill(7);
            assert!(buffer.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn a_copy_is_aligned_too() {
        let copy = AlignedBuffer::copy_of(b"abc").clone();
        assert_eq!(&*copy, b"abc");
        assert_eq!(copy.as_ptr().align_offset(ALIGNMENT), 0);
    }
}
