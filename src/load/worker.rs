//! One thread's part: a job's requests, each read, verified and put where it belongs.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::jobs::{Job, Placed, Request, Scratch};
use super::ladder::Source;
use super::report::Meter;
use super::verify::Digested;
use super::{LoadError, Target};
use crate::storage::{AlignedBuffer, DirectFile, MappedFile, ReadAt, ReadError};

/// A part of a tensor's memory that one job fills.
#[derive(Debug, Default)]
pub(super) struct Dest<'t> {
    /// Offset of the first byte in the tensor.
    start: u64,
    bytes: &'t mut [u8],
}

impl<'t> Dest<'t> {
    pub(super) fn new(bytes: &'t mut [u8]) -> Self {
        Self { start: 0, bytes }
    }

    /// Takes off a range that begins no earlier than what is left; what lies before it is nobody's.
    pub(super) fn split_off(&mut self, range: &Range<u64>) -> Self {
        let within =
            |at: u64| usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.bytes.len());
        let (from, to) = (within(range.start), within(range.end));
        let (taken, rest) = std::mem::take(&mut self.bytes).split_at_mut(to.max(from));
        self.bytes = rest;
        self.start = range.end;
        Self { start: range.start, bytes: taken.get_mut(from..).unwrap_or_default() }
    }

    /// The bytes of a piece.
    fn of(&mut self, piece: &Placed) -> &mut [u8] {
        let start = usize::try_from(piece.target.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
        self.bytes.get_mut(start..start.saturating_add(length)).unwrap_or_default()
    }
}

/// What a thread works with.
pub(super) struct Worker<'w> {
    targets: &'w [Target],
    digested: &'w Digested<'w>,
    scratch: Scratch,
    bounce: AlignedBuffer,
    /// Time of the job at hand that went into digests, and into copies.
    verifying: Duration,
    copying: Duration,
}

impl<'w> Worker<'w> {
    pub(super) fn new(targets: &'w [Target], digested: &'w Digested<'w>) -> Self {
        Self {
            targets,
            digested,
            scratch: Scratch::default(),
            bounce: AlignedBuffer::default(),
            verifying: Duration::ZERO,
            copying: Duration::ZERO,
        }
    }

    /// Reads a job; gives the wanted bytes.
    pub(super) fn run(
        &mut self,
        source: &Source<'_>,
        meter: &Meter,
        job: &Job,
        gap: u64,
        dests: &mut [Dest<'_>],
    ) -> Result<u64, LoadError> {
        let began = Instant::now();
        (self.verifying, self.copying) = (Duration::ZERO, Duration::ZERO);
        let mut wanted = 0;
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = job.requests(self.targets, gap, &mut scratch, |request| {
            wanted += request.pieces.iter().map(|piece| piece.length).sum::<u64>();
            self.serve(source, meter, job, &request, dests)
        });
        self.scratch = scratch;
        done?;
        let reading = began.elapsed().saturating_sub(self.verifying + self.copying);
        meter.job(wanted, reading, self.verifying, self.copying);
        Ok(wanted)
    }

    fn serve(
        &mut self,
        source: &Source<'_>,
        meter: &Meter,
        job: &Job,
        request: &Request<'_>,
        dests: &mut [Dest<'_>],
    ) -> Result<(), LoadError> {
        let targets = self.targets;
        let named = |error| named(error, job, request, targets);
        if let Some(map) = &source.mapped {
            meter.request(request.length);
            return self.serve_mapped(map, source, job, request, dests);
        }
        if let Some(direct) = &source.direct {
            match read_direct(direct, request, &mut self.bounce) {
                Ok(skipped) => {
                    meter.request(blocks(direct.block(), request));
                    return self.scatter(skipped, job, request, dests);
                }
                Err(error) if is_refusal(&error) => meter.fell_back(&error),
                Err(error) => return Err(named(error)),
            }
        }
        let reader = source.buffered.reader();
        meter.request(request.length);
        if let ([piece], Some(dest)) =
            (request.pieces, request.pieces.first().and_then(|piece| dests.get_mut(piece.part)))
            && piece.length == request.length
        {
            let bytes = dest.of(piece);
            reader.read_exact_at(bytes, piece.source).map_err(named)?;
            return self.digested.check(job, request.checks, targets, request.offset, bytes, &mut self.verifying);
        }
        reader.read_exact_at(reserve(&mut self.bounce, 1, request.length), request.offset).map_err(named)?;
        self.scatter(0, job, request, dests)
    }

    fn serve_mapped(
        &mut self,
        map: &MappedFile,
        source: &Source<'_>,
        job: &Job,
        request: &Request<'_>,
        dests: &mut [Dest<'_>],
    ) -> Result<(), LoadError> {
        let get = |offset, length| {
            let ended = || ReadError::Ended { path: source.buffered.reader().path(), offset, missing: length };
            map.get(offset, length).ok_or_else(|| named(ended(), job, request, self.targets))
        };
        if !request.checks.is_empty() {
            // What is verified must be what is used: the mapping could change in between.
            let bytes = get(request.offset, request.length)?;
            reserve(&mut self.bounce, 1, request.length).copy_from_slice(bytes);
            return self.scatter(0, job, request, dests);
        }
        for piece in request.pieces {
            put(dests, piece, get(piece.source, piece.length)?);
        }
        Ok(())
    }

    /// Verifies what is in the bounce buffer and copies the pieces of a request out of it; its first byte is `skipped` bytes in.
    fn scatter(
        &mut self,
        skipped: usize,
        job: &Job,
        request: &Request<'_>,
        dests: &mut [Dest<'_>],
    ) -> Result<(), LoadError> {
        let bytes = self.bounce.get(skipped..).unwrap_or_default();
        self.digested.check(job, request.checks, self.targets, request.offset, bytes, &mut self.verifying)?;
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

/// Says which tensor the bytes are of.
fn named(source: ReadError, job: &Job, request: &Request<'_>, targets: &[Target]) -> LoadError {
    let at = source.offset().unwrap_or(request.offset);
    let piece = request.pieces.iter().find(|piece| piece.source + piece.length > at).or(request.pieces.last());
    let part = piece.and_then(|piece| job.parts.get(piece.part));
    let tensor = part.and_then(|part| targets.get(part.target)).map(|target| target.name.clone()).unwrap_or_default();
    LoadError::Read { tensor, source }
}

fn put(dests: &mut [Dest<'_>], piece: &Placed, bytes: &[u8]) {
    if let Some(dest) = dests.get_mut(piece.part) {
        dest.of(piece).copy_from_slice(bytes);
    }
}

/// Scratch memory of at least that many bytes, its address a multiple of `alignment`.
fn reserve(bounce: &mut AlignedBuffer, alignment: usize, length: u64) -> &mut [u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if bounce.len() < length || bounce.as_ptr().align_offset(alignment) != 0 {
        *bounce = AlignedBuffer::aligned_to(alignment.max(crate::storage::ALIGNMENT), length);
    }
    bounce.get_mut(..length).unwrap_or_default()
}

/// Bytes from block to block around a request.
fn blocks(block: u64, request: &Request<'_>) -> u64 {
    let start = request.offset / block * block;
    (request.offset + request.length).next_multiple_of(block) - start
}

/// Reads whole blocks around a request; gives how many bytes of the buffer lie before it.
fn read_direct(direct: &DirectFile, request: &Request<'_>, bounce: &mut AlignedBuffer) -> Result<usize, ReadError> {
    let block = direct.block();
    let start = request.offset / block * block;
    let skipped = usize::try_from(request.offset - start).unwrap_or(0);
    let alignment = usize::try_from(block).unwrap_or(4096);
    let bytes = reserve(bounce, alignment, blocks(block, request));
    let needed = skipped.saturating_add(usize::try_from(request.length).unwrap_or(usize::MAX));
    let mut done = 0;
    // The last block of the file is short; only the wanted bytes must arrive.
    while done < needed {
        // A short read may have stopped inside a block: that block is read again.
        let resume = done / alignment * alignment;
        let at = start + resume as u64;
        match direct.read_at(bytes.get_mut(resume..).unwrap_or_default(), at) {
            Ok(count) if resume + count > done => done = resume + count,
            Ok(_) => {
                let offset = start + done as u64;
                return Err(ReadError::Ended { path: direct.path(), offset, missing: (needed - done) as u64 });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ReadError::Io { path: direct.path(), offset: Some(at), source }),
        }
    }
    Ok(skipped)
}

/// Whether the system takes no such read, unlike one that fails.
fn is_refusal(error: &ReadError) -> bool {
    matches!(error, ReadError::Io { source, .. }
        if matches!(source.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported))
}
