//! How a file is read: what was asked for, what the machine allows, and which of the two it became.

use std::ops::Range;

use super::{LoadOptions, Target};
use crate::policy::Read;
use crate::storage::{Caching, DirectFile, MappedFile, ReadAt, ReadError, SourceFile};

/// How a file is read in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// Positioned reads through the page cache.
    Buffered,
    /// Positioned reads past the page cache.
    Direct,
    /// The same, many at once by io_uring where pieces are small.
    Ring,
    /// Copies out of a mapping.
    Mapped,
    /// Positioned reads of a copy in shared memory.
    Staged,
}

impl Rung {
    /// The name people read: `buffered`, `direct`, `io_uring`, `mapped`, `staged`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Direct => "direct",
            Self::Ring => "io_uring",
            Self::Mapped => "mapped",
            Self::Staged => "staged",
        }
    }
}

/// A file that is read in one way.
pub(super) struct Source<'a> {
    /// Also what the other ways fall back to.
    pub(super) buffered: Buffered<'a>,
    pub(super) direct: Option<DirectFile>,
    pub(super) mapped: Option<MappedFile>,
    /// The part of the wanted bytes that the page cache held at the start, where it was asked.
    pub(super) cached: Option<f64>,
    /// Why it is not read as the policy says.
    pub(super) because: Option<String>,
    /// What is read is a copy in shared memory.
    pub(super) staged: bool,
}

/// Where buffered reads go.
pub(super) enum Buffered<'a> {
    File(SourceFile),
    /// Any source, in tests and for bytes that are no file.
    Other(&'a dyn ReadAt),
}

impl Buffered<'_> {
    pub(super) fn reader(&self) -> &dyn ReadAt {
        match self {
            Self::File(file) => file,
            Self::Other(source) => *source,
        }
    }

    pub(super) fn check_unchanged(&self) -> Result<(), ReadError> {
        match self {
            Self::File(file) => file.check_unchanged(),
            Self::Other(_) => Ok(()),
        }
    }
}

/// From this part of the wanted bytes on, the page cache is the faster place.
const MOSTLY_CACHED: f64 = 0.8;

/// Below this many wanted bytes, it does not matter.
const SMALL: u64 = 1 << 20;

impl<'a> Source<'a> {
    pub(super) const fn other(source: &'a dyn ReadAt) -> Self {
        Self {
            buffered: Buffered::Other(source),
            direct: None,
            mapped: None,
            cached: None,
            because: None,
            staged: false,
        }
    }

    /// A copy of the file in shared memory.
    pub(super) const fn staged(copy: SourceFile) -> Self {
        let buffered = Buffered::File(copy);
        Self { buffered, direct: None, mapped: None, cached: Some(1.0), because: None, staged: true }
    }

    /// Picks the way to read a file for these targets.
    pub(super) fn choose(file: SourceFile, read: Read, targets: &[(usize, &Target)]) -> Self {
        let mut source = Self {
            direct: None,
            mapped: None,
            cached: None,
            because: None,
            staged: false,
            buffered: Buffered::File(file),
        };
        let Buffered::File(file) = &source.buffered else { return source };
        match read {
            // How it is read is settled; how much is read along is not.
            Read::Pread => source.cached = Caching::of(file, spans(targets)).cached,
            Read::Mmap => match MappedFile::map(file) {
                Ok(map) => source.mapped = Some(map),
                Err(error) => source.because = Some(format!("mapping is refused: {error}")),
            },
            Read::Direct => match DirectFile::open(file) {
                Ok(direct) => source.direct = Some(direct),
                Err(error) => source.because = Some(format!("direct reads are refused: {error}")),
            },
            Read::Auto => {
                let wanted: u64 = targets.iter().map(|(_, target)| target.slice.wanted()).sum();
                let caching = Caching::of(file, spans(targets));
                source.cached = caching.cached;
                let cold = caching.cached.is_some_and(|cached| cached < MOSTLY_CACHED);
                if cold && caching.local_disk && wanted >= SMALL {
                    // Refused here is no surprise to anybody: the policy left the choice to us.
                    source.direct = DirectFile::open(file).ok();
                }
            }
        }
        source
    }

    pub(super) const fn rung(&self) -> Rung {
        match (&self.direct, &self.mapped) {
            (Some(_), _) => Rung::Direct,
            (None, Some(_)) => Rung::Mapped,
            (None, None) if self.staged => Rung::Staged,
            (None, None) => Rung::Buffered,
        }
    }

    /// Unwanted bytes that are read along.
    pub(super) fn gap(&self, options: &LoadOptions) -> u64 {
        match self.rung() {
            Rung::Mapped => 0,
            Rung::Buffered | Rung::Staged if self.cached.is_some_and(|cached| cached >= MOSTLY_CACHED) => {
                options.cached_gap.min(options.gap)
            }
            _ => options.gap,
        }
    }
}

/// The parts of the file that its targets lie in, each from its first wanted byte to its last; neighbours are one.
fn spans(targets: &[(usize, &Target)]) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for (_, target) in targets.iter().filter(|(_, target)| target.slice.wanted() > 0) {
        let (Some(place), span) = (target.place, target.slice.span()) else { continue };
        let (start, end) = (place.offset.saturating_add(span.start), place.offset.saturating_add(span.end));
        match spans.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => spans.push(start..end),
        }
    }
    spans
}
