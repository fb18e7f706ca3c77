//! How long work says how far it is, and learns that it should stop.

/// What long work tells and asks while it runs; several threads do so at once.
///
/// The library never prints. The command line shows a [`Progress`] on a terminal; [`Silent`] shows nothing and never stops.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use flow_fabric::progress::{Cancelled, Progress};
///
/// #[derive(Default)]
/// struct Count(AtomicU64);
/// impl Progress for Count {
///     fn advance(&self, bytes: u64) {
///         self.0.fetch_add(bytes, Ordering::Relaxed);
///     }
///     fn is_cancelled(&self) -> bool {
///         self.0.load(Ordering::Relaxed) >= 3
///     }
/// }
///
/// let count = Count::default();
/// count.advance(2);
/// assert_eq!(count.check(), Ok(()));
/// count.advance(2);
/// assert_eq!(count.check(), Err(Cancelled));
/// ```
pub trait Progress: Sync {
    /// A step begins: what is done (`reading`, `quantizing`), and over how many bytes, where that is known.
    ///
    /// It ends when the next one begins or the work is over.
    fn begin(&self, step: &str, bytes: Option<u64>) {
        let _ = (step, bytes);
    }

    /// What the step is at now: a path, a file.
    fn at(&self, item: &str) {
        let _ = item;
    }

    /// That many more bytes of the step are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Whether the work should stop. Cheap: asked once per piece of some MiB.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// The same, for `?`.
    ///
    /// # Errors
    /// The work should stop.
    fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}

/// The work was told to stop. It leaves nothing half done behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

/// Shows nothing and never stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Silent;

impl Progress for Silent {}
