//! Memory of one thread that bytes pass through on their way into tensors.

use crate::storage::AlignedBuffer;

/// Scratch memory, made when it is first needed and kept.
#[derive(Debug)]
pub(super) struct Bounce {
    memory: AlignedBuffer,
    /// Bytes that are made at once, so that it need not grow from request to request.
    usual: usize,
}

impl Bounce {
    pub(super) fn new(usual: u64) -> Self {
        Self { memory: AlignedBuffer::default(), usual: usize::try_from(usual).unwrap_or(usize::MAX) }
    }

    /// At least `length` bytes whose address is a multiple of `alignment`; what they hold is of no meaning.
    pub(super) fn reserve(&mut self, alignment: usize, length: u64) -> &mut [u8] {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if self.memory.len() < length || self.memory.as_ptr().align_offset(alignment) != 0 {
            self.memory = AlignedBuffer::default();
            self.memory = AlignedBuffer::for_disk(alignment, length.max(self.usual));
        }
        self.memory.get_mut(..length).unwrap_or_default()
    }
}
