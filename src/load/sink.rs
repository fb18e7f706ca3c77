//! Where read bytes end: held against their digests, and put into tensors.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::jobs::{Job, Placed, Request};
use super::verify::Digested;
use super::{LoadError, Target};
use crate::storage::back_with_pages;

/// A part of a tensor's memory that one job fills.
#[derive(Debug, Default)]
pub(super) struct Dest<'t> {
    /// Offset of the first byte in the tensor.
    start: u64,
    bytes: &'t mut [u8],
    /// Whether nothing of it has been touched, so that it has no pages yet.
    fresh: bool,
}

impl<'t> Dest<'t> {
    pub(super) fn new(bytes: &'t mut [u8], fresh: bool) -> Self {
        Self { start: 0, bytes, fresh }
    }

    /// Takes off a range that begins no earlier than what is left; what lies before it is nobody's.
    pub(super) fn split_off(&mut self, range: &Range<u64>) -> Self {
        let within =
            |at: u64| usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.bytes.len());
        let (from, to) = (within(range.start), within(range.end));
        let (taken, rest) = std::mem::take(&mut self.bytes).split_at_mut(to.max(from));
        self.bytes = rest;
        self.start = range.end;
        Self { start: range.start, bytes: taken.get_mut(from..).unwrap_or_default(), fresh: self.fresh }
    }

    /// Gets the pages of memory that was never touched, in one call: reads and copies would stop at each.
    pub(super) fn back_with_pages(&mut self) {
        if std::mem::take(&mut self.fresh) {
            back_with_pages(self.bytes);
        }
    }

    /// The bytes of a piece.
    pub(super) fn of(&mut self, piece: &Placed) -> &mut [u8] {
        let start = usize::try_from(piece.target.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
        self.bytes.get_mut(start..start.saturating_add(length)).unwrap_or_default()
    }
}

/// What a thread does with bytes that are read.
pub(super) struct Sink<'w> {
    pub(super) targets: &'w [Target],
    digested: &'w Digested<'w>,
    /// Time that went into digests, and into copies, since it was last asked.
    verifying: Duration,
    copying: Duration,
}

impl<'w> Sink<'w> {
    pub(super) fn new(targets: &'w [Target], digested: &'w Digested<'w>) -> Self {
        Self { targets, digested, verifying: Duration::ZERO, copying: Duration::ZERO }
    }

    /// The times, which begin anew.
    pub(super) fn times(&mut self) -> (Duration, Duration) {
        (std::mem::take(&mut self.verifying), std::mem::take(&mut self.copying))
    }

    /// Verifies a request whose bytes are where they belong already.
    pub(super) fn verify(&mut self, job: &Job, request: &Request<'_>, bytes: &[u8]) -> Result<(), LoadError> {
        self.digested.check(job, request.checks, self.targets, request.offset, bytes, &mut self.verifying)
    }

    /// Verifies the bytes of a request and copies its pieces to where they belong.
    pub(super) fn scatter(
        &mut self,
        job: &Job,
        request: &Request<'_>,
        bytes: &[u8],
        dests: &mut [Dest<'_>],
    ) -> Result<(), LoadError> {
        self.verify(job, request, bytes)?;
        let began = Instant::now();
        for piece in request.pieces {
            let start = usize::try_from(piece.source - request.offset).unwrap_or(usize::MAX);
            let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
            put(dests, piece, bytes.get(start..start.saturating_add(length)).unwrap_or_default());
        }
        self.copying += began.elapsed();
        Ok(())
    }
}

/// Copies a piece to where it belongs.
pub(super) fn put(dests: &mut [Dest<'_>], piece: &Placed, bytes: &[u8]) {
    if let Some(dest) = dests.get_mut(piece.part) {
        dest.of(piece).copy_from_slice(bytes);
    }
}
