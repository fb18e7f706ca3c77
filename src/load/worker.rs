//! One thread's part: a job's requests, each read and put where it belongs.

use std::io;
use std::ops::Range;
use std::time::Instant;

use super::jobs::{Job, Placed, Request};
use super::ladder::Source;
use super::report::Meter;
use super::{LoadError, Target};
use crate::storage::{AlignedBuffer, DirectFile, ReadAt, ReadError};

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

/// Scratch memory of a thread.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pieces: Vec<Placed>,
    bounce: AlignedBuffer,
}

impl Worker {
    /// Reads a job; gives the wanted bytes.
    pub(super) fn run(
        &mut self,
        source: &Source<'_>,
        meter: &Meter,
        job: &Job,
        gap: u64,
        targets: &[Target],
        dests: &mut [Dest<'_>],
    ) -> Result<u64, LoadError> {
        let began = Instant::now();
        let mut wanted = 0;
        let mut copied = std::time::Duration::ZERO;
        let bounce = &mut self.bounce;
        job.requests(targets, gap, &mut self.pieces, |request| {
            let served = serve(source, meter, &request, bounce, dests, &mut copied);
            let length: u64 = request.pieces.iter().map(|piece| piece.length).sum();
            wanted += length;
            served.map_err(|error| named(error, job, &request, targets))
        })?;
        meter.job(wanted, began.elapsed().saturating_sub(copied), copied);
        Ok(wanted)
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

fn serve(
    source: &Source<'_>,
    meter: &Meter,
    request: &Request<'_>,
    bounce: &mut AlignedBuffer,
    dests: &mut [Dest<'_>],
    copied: &mut std::time::Duration,
) -> Result<(), ReadError> {
    if let Some(map) = &source.mapped {
        meter.request(request.length);
        for piece in request.pieces {
            let ended = || ReadError::Ended {
                path: source.buffered.reader().path(),
                offset: piece.source,
                missing: piece.length,
            };
            put(dests, piece, map.get(piece.source, piece.length).ok_or_else(ended)?);
        }
        return Ok(());
    }
    if let Some(direct) = &source.direct {
        match read_direct(direct, request, bounce) {
            Ok(skipped) => {
                meter.request(bounce_length(direct.block(), request));
                scatter(bounce, skipped, request, dests, copied);
                return Ok(());
            }
            Err(error) if is_refusal(&error) => meter.fell_back(&error),
            Err(error) => return Err(error),
        }
    }
    let reader = source.buffered.reader();
    meter.request(request.length);
    if let [piece] = request.pieces {
        return match dests.get_mut(piece.part) {
            Some(dest) => reader.read_exact_at(dest.of(piece), piece.source),
            None => Ok(()),
        };
    }
    let bytes = reserve(bounce, 1, request.length);
    reader.read_exact_at(bytes, request.offset)?;
    scatter(bounce, 0, request, dests, copied);
    Ok(())
}

/// Copies the pieces of a request out of the bounce buffer; its first byte is `skipped` bytes into it.
fn scatter(
    bounce: &[u8],
    skipped: usize,
    request: &Request<'_>,
    dests: &mut [Dest<'_>],
    copied: &mut std::time::Duration,
) {
    let began = Instant::now();
    for piece in request.pieces {
        let start = skipped + usize::try_from(piece.source - request.offset).unwrap_or(usize::MAX);
        let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
        put(dests, piece, bounce.get(start..start.saturating_add(length)).unwrap_or_default());
    }
    *copied += began.elapsed();
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
fn bounce_length(block: u64, request: &Request<'_>) -> u64 {
    let start = request.offset / block * block;
    (request.offset + request.length).next_multiple_of(block) - start
}

/// Reads whole blocks around a request; gives how many bytes of the buffer lie before it.
fn read_direct(direct: &DirectFile, request: &Request<'_>, bounce: &mut AlignedBuffer) -> Result<usize, ReadError> {
    let block = direct.block();
    let start = request.offset / block * block;
    let skipped = request.offset - start;
    let alignment = usize::try_from(block).unwrap_or(4096);
    let bytes = reserve(bounce, alignment, bounce_length(block, request));
    let needed = usize::try_from(skipped + request.length).unwrap_or(usize::MAX);
    let mut done = 0;
    // The last block of the file is short; only the wanted bytes must arrive.
    while done < needed {
        // A short read may have stopped inside a block: that block is read again.
        let resume = done / alignment * alignment;
        let at = start + resume as u64;
        let failed = |source| ReadError::Io { path: direct.path(), offset: Some(at), source };
        match direct.read_at(bytes.get_mut(resume..).unwrap_or_default(), at) {
            Ok(count) if resume + count > done => done = resume + count,
            Ok(_) => {
                let offset = start + done as u64;
                return Err(ReadError::Ended { path: direct.path(), offset, missing: (needed - done) as u64 });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    usize::try_from(skipped).map_err(|_| ReadError::Ended { path: direct.path(), offset: start, missing: 0 })
}

/// Whether the system takes no such read, unlike one that fails.
fn is_refusal(error: &ReadError) -> bool {
    matches!(error, ReadError::Io { source, .. }
        if matches!(source.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported))
}
