//! What a loader may be told.

use crate::policy::LoaderSettings;
use crate::storage::DirectFile;

/// How much a loader does at once. What the defaults cost is measured in `benches/load.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Threads that read; 0 for one for each core, and four at least, since threads that wait for a disk need none.
    pub threads: usize,
    /// Most bytes that a thread reads at a time.
    pub chunk: u64,
    /// Reads that a thread has in flight at once, where it reads small pieces past the page cache (io_uring); 1 means one after
    /// the other.
    pub queue_depth: u32,
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
        Self { threads: 0, chunk: 2 << 20, queue_depth: 32, gap: 64 << 10, cached_gap: 4 << 10, budget: 32 << 20 }
    }
}

impl From<&LoaderSettings> for LoadOptions {
    /// What a policy says, and the defaults where it says nothing.
    fn from(settings: &LoaderSettings) -> Self {
        let default = Self::default();
        let threads = settings.threads.and_then(|threads| usize::try_from(threads).ok());
        Self {
            threads: threads.unwrap_or(default.threads),
            chunk: settings.chunk.unwrap_or(default.chunk),
            queue_depth: settings
                .queue_depth
                .and_then(|depth| u32::try_from(depth).ok())
                .unwrap_or(default.queue_depth),
            gap: settings.gap.unwrap_or(default.gap),
            cached_gap: settings.cached_gap.unwrap_or(default.cached_gap),
            budget: settings.budget.unwrap_or(default.budget),
        }
    }
}

impl LoadOptions {
    /// Least bytes of a chunk: below, requests cost more than what they read.
    const LEAST_CHUNK: u64 = 64 << 10;

    /// Most bytes of a chunk: what one read may take at once on every system.
    const MOST_CHUNK: u64 = 1 << 30;

    /// Bytes of a chunk, as the budget allows.
    #[must_use]
    pub(super) fn chunk(&self) -> u64 {
        self.chunk.min(self.budget).clamp(Self::LEAST_CHUNK, Self::MOST_CHUNK)
    }

    /// Threads, as the budget allows: each may hold that many bytes that are not yet where they belong, and a block of the disk
    /// before and behind them.
    #[must_use]
    pub(super) fn threads(&self, held: u64) -> usize {
        let most =
            usize::try_from(self.budget / held.saturating_add(2 * DirectFile::USUAL_BLOCK)).unwrap_or(usize::MAX);
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get).max(4),
            threads => threads,
        };
        threads.min(most).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    fn options(loader: &str) -> LoadOptions {
        let text = format!("language = 1\npolicy = \"p\"\n[loader]\n{loader}");
        LoadOptions::from(&Policy::parse("p.toml", &text).unwrap().loader)
    }

    #[test]
    fn the_defaults_that_the_language_states_are_the_loader_s() {
        assert_eq!(options(""), LoadOptions::default());
        let stated = crate::policy::language::LOADER.fields.iter().filter_map(|field| match field.presence {
            crate::policy::language::Presence::Default(default)
                if ["threads", "chunk", "queue_depth", "gap", "cached_gap", "budget"].contains(&field.key) =>
            {
                Some(format!("{} = {default}\n", field.key))
            }
            _ => None,
        });
        assert_eq!(options(&stated.collect::<String>()), LoadOptions::default());
    }

    #[test]
    fn a_small_budget_means_fewer_threads_and_then_smaller_chunks() {
        let few = options("threads = 4\nbudget = \"7MiB\"");
        assert_eq!((few.threads(few.chunk()), few.chunk()), (3, 2 << 20));
        let small = options("budget = \"256KiB\"");
        assert_eq!((small.threads(small.chunk()), small.chunk()), (1, 256 << 10));
        assert_eq!(options("chunk = \"1B\"").chunk(), LoadOptions::LEAST_CHUNK);
        assert_eq!(options("budget = \"9TiB\"\nchunk = \"8TiB\"").chunk(), LoadOptions::MOST_CHUNK);
    }
}
