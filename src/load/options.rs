//! What a loader may be told.

/// How much a loader does at once. The defaults are measured (`benches/load.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Threads that read.
    pub threads: usize,
    /// Most bytes that a thread reads at a time.
    pub chunk: u64,
    /// Unwanted bytes between two pieces that are read along, so that one request serves both.
    ///
    /// Small pieces far apart cost a request each; small pieces side by side cost the bytes between them. Where a file is in
    /// the page cache a request costs little, and no more than [`LoadOptions::cached_gap`] is read along.
    pub gap: u64,
    /// The same for files that are in the page cache.
    pub cached_gap: u64,
    /// Most bytes of memory besides the tensors themselves.
    pub budget: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { threads: 4, chunk: 1 << 20, gap: 64 << 10, cached_gap: 4 << 10, budget: 32 << 20 }
    }
}

impl LoadOptions {
    /// Least bytes of a chunk: below, requests cost more than what they read.
    const LEAST_CHUNK: u64 = 64 << 10;

    /// Bytes of a chunk, as the budget allows.
    #[must_use]
    pub(super) fn chunk(&self) -> u64 {
        self.chunk.min(self.budget).max(Self::LEAST_CHUNK)
    }

    /// Threads, as the budget allows: each may hold one chunk that is not yet where it belongs.
    #[must_use]
    pub(super) fn threads(&self) -> usize {
        let most = usize::try_from(self.budget / self.chunk()).unwrap_or(usize::MAX);
        self.threads.min(most).max(1)
    }
}
