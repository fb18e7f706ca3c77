//! One thread's part: a job's requests, each read, verified and put where it belongs.

use std::time::Instant;

use super::bounce::Bounce;
use super::disk::{Batch, Disk};
use super::jobs::{Job, Request, Scratch};
use super::ladder::Source;
use super::report::Meter;
use super::sink::{Dest, Sink, put};
use super::verify::Digested;
use super::{LoadError, LoadOptions, Target};
use crate::storage::{DirectFile, MappedFile, ReadError};

/// What a thread works with.
pub(super) struct Worker<'w> {
    sink: Sink<'w>,
    scratch: Scratch,
    bounce: Bounce,
    disk: Disk,
    batch: Batch,
    chunk: u64,
}

impl<'w> Worker<'w> {
    pub(super) fn new(targets: &'w [Target], digested: &'w Digested<'w>, options: &LoadOptions) -> Self {
        let chunk = options.chunk();
        Self {
            sink: Sink::new(targets, digested),
            scratch: Scratch::default(),
            // A chunk has a block before and behind it where neither end is that of one.
            bounce: Bounce::new(chunk + 2 * DirectFile::USUAL_BLOCK),
            disk: Disk::new(options.queue_depth),
            batch: Batch::default(),
            chunk,
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
        dests.iter_mut().for_each(Dest::back_with_pages);
        let mut wanted = 0;
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = job.requests(self.sink.targets, gap, &mut scratch, |request| {
            wanted += request.pieces.iter().map(|piece| piece.length).sum::<u64>();
            match (&source.mapped, &source.direct) {
                (Some(map), _) => self.read_mapped(map, source, meter, job, &request, dests),
                (None, Some(direct)) => {
                    let block = direct.block();
                    if !self.batch.takes(&request, block, self.chunk + 2 * block) {
                        self.read_blocks(direct, source, meter, job, dests)?;
                    }
                    self.batch.push(&request, block);
                    Ok(())
                }
                (None, None) => self.read_cached(source, meter, job, &request, dests),
            }
        });
        self.scratch = scratch;
        let done = done.and_then(|()| match &source.direct {
            Some(direct) if source.mapped.is_none() => self.read_blocks(direct, source, meter, job, dests),
            _ => Ok(()),
        });
        self.batch.clear();
        let (verifying, copying) = self.sink.times();
        done?;
        let reading = began.elapsed().saturating_sub(verifying + copying);
        meter.job(wanted, reading, verifying, copying);
        Ok(wanted)
    }

    /// Reads the batch and empties it.
    fn read_blocks(
        &mut self,
        direct: &DirectFile,
        source: &Source<'_>,
        meter: &Meter,
        job: &Job,
        dests: &mut [Dest<'_>],
    ) -> Result<(), LoadError> {
        let Self { sink, disk, bounce, batch, .. } = self;
        disk.read(batch, direct, source.buffered.reader(), bounce, meter, |request, bytes| {
            let bytes = bytes.map_err(|error| named(error, job, request, sink.targets))?;
            sink.scatter(job, request, bytes, dests)
        })?;
        batch.clear();
        Ok(())
    }

    /// Reads a request through the page cache: where all of it is wanted, right to where it belongs.
    fn read_cached(
        &mut self,
        source: &Source<'_>,
        meter: &Meter,
        job: &Job,
        request: &Request<'_>,
        dests: &mut [Dest<'_>],
    ) -> Result<(), LoadError> {
        let Self { sink, bounce, .. } = self;
        let named = |error| named(error, job, request, sink.targets);
        let reader = source.buffered.reader();
        meter.request(request.length);
        if let [piece] = request.pieces
            && piece.length == request.length
            && let Some(dest) = dests.get_mut(piece.part)
        {
            let bytes = dest.of(piece);
            reader.read_exact_at(bytes, piece.source).map_err(named)?;
            return sink.verify(job, request, bytes);
        }
        let bytes = bounce.reserve(1, request.length);
        reader.read_exact_at(bytes, request.offset).map_err(named)?;
        sink.scatter(job, request, bytes, dests)
    }

    fn read_mapped(
        &mut self,
        map: &MappedFile,
        source: &Source<'_>,
        meter: &Meter,
        job: &Job,
        request: &Request<'_>,
        dests: &mut [Dest<'_>],
    ) -> Result<(), LoadError> {
        let Self { sink, bounce, .. } = self;
        meter.request(request.length);
        let get = |offset, length| {
            let ended = || ReadError::Ended { path: source.buffered.reader().path(), offset, missing: length };
            map.get(offset, length).ok_or_else(|| named(ended(), job, request, sink.targets))
        };
        if request.checks.is_empty() {
            for piece in request.pieces {
                put(dests, piece, get(piece.source, piece.length)?);
            }
            return Ok(());
        }
        // What is verified must be what is used: the mapping could change in between.
        let bytes = get(request.offset, request.length)?;
        let copy = bounce.reserve(1, request.length);
        copy.copy_from_slice(bytes);
        sink.scatter(job, request, copy, dests)
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
