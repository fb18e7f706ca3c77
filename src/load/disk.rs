//! Reads past the page cache: whole blocks around what is wanted, several requests of a job at once.

use std::io;
use std::ops::Range;

use super::bounce::Bounce;
use super::jobs::{Checked, Placed, Request};
use super::report::Meter;
use crate::storage::{DirectFile, ReadAt, ReadError, Ring, RingRead};

/// Requests that are read together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    requests: Vec<Held>,
    pieces: Vec<Placed>,
    checks: Vec<Checked>,
    bytes: u64,
}

/// A request of a batch.
#[derive(Debug)]
struct Held {
    offset: u64,
    length: u64,
    /// The blocks around it, in the file.
    blocks: Range<u64>,
    /// What it is read for, in the lists of the batch.
    pieces: Range<usize>,
    checks: Range<usize>,
}

impl Batch {
    /// Whether a request fits in `room` bytes of memory with those before it; a request alone always does.
    pub(super) fn takes(&self, request: &Request<'_>, block: u64, room: u64) -> bool {
        let blocks = blocks(block, request);
        self.requests.is_empty() || self.bytes.saturating_add(blocks.end - blocks.start) <= room
    }

    pub(super) fn push(&mut self, request: &Request<'_>, block: u64) {
        let blocks = blocks(block, request);
        self.bytes = self.bytes.saturating_add(blocks.end - blocks.start);
        let (pieces, checks) = (self.pieces.len(), self.checks.len());
        self.pieces.extend_from_slice(request.pieces);
        self.checks.extend_from_slice(request.checks);
        self.requests.push(Held {
            offset: request.offset,
            length: request.length,
            blocks,
            pieces: pieces..self.pieces.len(),
            checks: checks..self.checks.len(),
        });
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.pieces.clear();
        self.checks.clear();
        self.bytes = 0;
    }

    fn request(&self, held: &Held) -> Request<'_> {
        Request {
            offset: held.offset,
            length: held.length,
            pieces: self.pieces.get(held.pieces.clone()).unwrap_or_default(),
            checks: self.checks.get(held.checks.clone()).unwrap_or_default(),
        }
    }
}

/// How a thread reads from disks.
#[derive(Debug)]
pub(super) struct Disk {
    queue: Queue,
}

#[derive(Debug)]
enum Queue {
    /// Opened when a batch first has several requests.
    Later {
        depth: u32,
    },
    Open(Box<Ring>),
    /// One read after the other.
    None,
}

impl Disk {
    pub(super) fn new(depth: u32) -> Self {
        Self { queue: if depth > 1 { Queue::Later { depth } } else { Queue::None } }
    }

    /// Reads a batch and hands out the bytes of each request, in their order. What the system refuses to read directly is read
    /// from `buffered`.
    pub(super) fn read<E>(
        &mut self,
        batch: &Batch,
        direct: &DirectFile,
        buffered: &dyn ReadAt,
        bounce: &mut Bounce,
        meter: &Meter,
        mut each: impl FnMut(&Request<'_>, Result<&[u8], ReadError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let alignment = usize::try_from(direct.block()).unwrap_or(4096);
        let mut rest = bounce.reserve(alignment, batch.bytes);
        let mut reads = Vec::with_capacity(batch.requests.len());
        for held in &batch.requests {
            let length = usize::try_from(held.blocks.end - held.blocks.start).unwrap_or(usize::MAX).min(rest.len());
            let (buffer, others) = rest.split_at_mut(length);
            reads.push(RingRead::new(held.blocks.start, buffer));
            rest = others;
        }
        if let ([_, _, ..], Some(ring)) = (reads.as_slice(), self.ring(meter)) {
            match ring.read(direct, &mut reads) {
                Ok(()) => meter.used_ring(),
                Err(error) => {
                    meter.no_ring(&error);
                    self.queue = Queue::None;
                }
            }
        }
        for (held, read) in batch.requests.iter().zip(reads) {
            let request = batch.request(held);
            let skipped = held.offset - held.blocks.start;
            let needed = usize::try_from(skipped.saturating_add(held.length)).unwrap_or(usize::MAX);
            let done = match read.outcome {
                Ok(count) if count >= needed => Ok(()),
                // Not sent, short or failed: read again in the way that deals with all of that.
                _ => fill(direct, direct.block(), read.offset, read.buffer, needed),
            };
            let within = usize::try_from(skipped).unwrap_or(usize::MAX)..needed;
            match done {
                Ok(()) => {
                    meter.request(held.blocks.end - held.blocks.start);
                    each(&request, Ok(read.buffer.get(within).unwrap_or_default()))?;
                }
                Err(error) if is_refusal(&error) => {
                    meter.fell_back(&error);
                    meter.request(held.length);
                    let bytes = read.buffer.get_mut(within).unwrap_or_default();
                    let done = buffered.read_exact_at(bytes, held.offset);
                    each(&request, done.map(|()| &*bytes))?;
                }
                Err(error) => each(&request, Err(error))?,
            }
        }
        Ok(())
    }

    fn ring(&mut self, meter: &Meter) -> Option<&mut Ring> {
        if let Queue::Later { depth } = self.queue {
            self.queue = match Ring::new(depth) {
                Ok(ring) => Queue::Open(Box::new(ring)),
                Err(error) => {
                    meter.no_ring(&error);
                    Queue::None
                }
            };
        }
        match &mut self.queue {
            Queue::Open(ring) => Some(ring),
            Queue::Later { .. } | Queue::None => None,
        }
    }
}

/// The range from block to block around a request.
fn blocks(block: u64, request: &Request<'_>) -> Range<u64> {
    let start = request.offset / block * block;
    start..request.offset.saturating_add(request.length).checked_next_multiple_of(block).unwrap_or(u64::MAX)
}

/// Reads whole blocks into `bytes` until `needed` bytes are there: the last block of a file is short.
fn fill(direct: &dyn ReadAt, block: u64, start: u64, bytes: &mut [u8], needed: usize) -> Result<(), ReadError> {
    let block = usize::try_from(block).unwrap_or(4096);
    let (mut done, mut again) = (0, true);
    while done < needed {
        // A short read may have stopped inside a block: that block is read again.
        let resume = done / block * block;
        let at = start + resume as u64;
        match direct.read_at(bytes.get_mut(resume..).unwrap_or_default(), at) {
            Ok(count) if resume + count > done => (done, again) = (resume + count, true),
            // An even shorter read of that block says nothing about the end of the file, twice nothing new does.
            Ok(_) if again => again = false,
            Ok(_) => {
                let offset = start + done as u64;
                return Err(ReadError::Ended { path: direct.path(), offset, missing: (needed - done) as u64 });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ReadError::Io { path: direct.path(), offset: Some(at), source }),
        }
    }
    Ok(())
}

/// Whether the system takes no such read, unlike one that fails.
fn is_refusal(error: &ReadError) -> bool {
    matches!(error, ReadError::Io { source, .. }
        if matches!(source.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Fault, Faulty};

    #[test]
    fn a_fault_at_any_read_of_blocks_is_overcome_or_reported() {
        let file: Vec<u8> = (0..5000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
        let file = file.as_slice();
        // Blocks 2 to 9 and the short end of the file, of which all that is needed is there.
        let (start, needed) = (1024, 5000 - 1024);
        for at in 0..4 {
            let broken = Fault::Error(io::ErrorKind::Other);
            for fault in [Fault::Interrupted, Fault::Short(700), Fault::Short(1), Fault::End, broken] {
                // Short reads first, so that a fault can come at any of several.
                let faulty = Faulty::new(file, |read| if read == at { Some(fault) } else { Some(Fault::Short(1300)) });
                let mut bytes = vec![0; 4096];
                match fill(&faulty, 512, start, &mut bytes, needed) {
                    Ok(()) => assert_eq!(bytes.get(..needed), file.get(1024..), "{at} {fault:?}"),
                    Err(ReadError::Ended { .. }) => assert_eq!(fault, Fault::End),
                    Err(error) => assert_eq!((fault, error.offset().map(|at| at % 512)), (broken, Some(0))),
                }
            }
        }
        let ended = fill(&file, 512, start, &mut vec![0; 4608], needed + 1).unwrap_err();
        assert!(matches!(ended, ReadError::Ended { offset: 5000, missing: 1, .. }));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_queue_that_is_refused_at_its_first_read_is_not_what_the_report_names() {
        use crate::load::traffic::Traffic;
        use crate::storage::SourceFile;

        // On the disk of the build, since not every memory file system takes direct reads.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("f");
        let bytes: Vec<u8> = (0..40_000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = SourceFile::open_path(&path, "f".into()).unwrap();
        let (Ok(direct), Ok(())) = (DirectFile::open(&file), Ring::new(4).map(drop)) else {
            eprintln!("this system has no direct reads or no io_uring");
            return;
        };
        for refused in [true, false] {
            let mut ring = Ring::new(4).unwrap();
            if refused {
                ring.give_up();
            }
            let mut disk = Disk { queue: Queue::Open(Box::new(ring)) };
            let mut batch = Batch::default();
            for offset in [10, 20_000, 39_999] {
                batch.push(&Request { offset, length: 1, pieces: &[], checks: &[] }, direct.block());
            }
            let (meter, mut read) = (Meter::default(), Vec::new());
            disk.read(&batch, &direct, &file, &mut Bounce::new(0), &meter, |request, bytes| {
                read.push((request.offset, bytes.unwrap().to_vec()));
                Ok::<(), ()>(())
            })
            .unwrap();
            let wanted = [10, 20_000, 39_999].map(|at: u64| (at, vec![(at % 251).to_le_bytes()[0]]));
            assert_eq!(read, wanted);
            assert_eq!(meter.by_ring(), !refused);
            assert_eq!(meter.fallback().is_some_and(|why| why.starts_with("io_uring is refused")), refused);
            assert_eq!(meter.traffic(), Traffic { wanted: 0, read: 3 * direct.block(), requests: 3 });
        }
    }
}
