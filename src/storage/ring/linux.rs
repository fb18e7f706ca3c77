//! The queue of Linux, io_uring.
//!
//! Nothing here outlives a call: [`Ring::read`] comes back when the kernel holds none of the buffers any more.
#![expect(unsafe_code, reason = "the kernel writes into buffers by address")]

use std::io;
use std::os::fd::AsRawFd as _;

use io_uring::{IoUring, Probe, opcode, types};

use super::RingRead;
use crate::storage::DirectFile;

/// A queue to the kernel that takes several reads before it answers the first; for one thread.
///
/// Small pieces that lie far apart in a file pay a disk's answering time each; in flight together they pay it once.
pub struct Ring {
    ring: IoUring,
    depth: usize,
    /// Reads of a batch that failed may still lie in the queue; they must never be sent off, since their buffers are gone.
    given_up: bool,
}

impl Ring {
    /// Opens a queue of at most `depth` reads in flight.
    ///
    /// # Errors
    /// The system has no io_uring, does not allow it (containers often do not: `EPERM`), or it cannot read (before Linux 5.6).
    pub fn new(depth: u32) -> io::Result<Self> {
        let ring = IoUring::new(depth.clamp(1, 4096))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Read::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { ring, depth: usize::try_from(depth.clamp(1, 4096)).unwrap_or(1), given_up: false })
    }

    /// Carries out reads of a file, in any order; each has its outcome afterwards.
    ///
    /// # Errors
    /// The queue takes nothing any more, now and ever after. The reads that have an outcome are as good as any.
    pub fn read(&mut self, file: &DirectFile, reads: &mut [RingRead<'_>]) -> io::Result<()> {
        if std::mem::replace(&mut self.given_up, true) {
            return Err(io::Error::other("the queue was given up"));
        }
        let mut in_flight = InFlight { ring: &mut self.ring, reads, sent: 0, open: 0 };
        while in_flight.push(file, self.depth) {
            in_flight.wait()?;
        }
        drop(in_flight);
        self.given_up = false;
        Ok(())
    }

    /// Takes nothing from now on, as after an error.
    #[cfg(test)]
    pub(crate) const fn give_up(&mut self) {
        self.given_up = true;
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("depth", &self.depth).finish_non_exhaustive()
    }
}

/// A batch under way. However it is left, the kernel has answered for every buffer that it was given.
struct InFlight<'r, 'b, 'a> {
    ring: &'r mut IoUring,
    reads: &'a mut [RingRead<'b>],
    /// Reads put into the queue so far, which are the first ones.
    sent: usize,
    /// Those of them that are not answered.
    open: usize,
}

impl InFlight<'_, '_, '_> {
    /// Fills the queue; whether there is anything to wait for.
    fn push(&mut self, file: &DirectFile, depth: usize) -> bool {
        let mut queue = self.ring.submission();
        while self.open < depth
            && let Some(read) = self.reads.get_mut(self.sent)
        {
            let length = u32::try_from(read.buffer.len()).unwrap_or(u32::MAX);
            let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), read.buffer.as_mut_ptr(), length)
                .offset(read.offset)
                .build()
                .user_data(self.sent as u64);
            // SAFETY: the buffer is borrowed for longer than this value lives, and `drop` waits until the kernel has let go
            // of it; the length is the buffer's or less, and the file is open as long.
            if unsafe { queue.push(&entry) }.is_err() {
                break;
            }
            self.sent += 1;
            self.open += 1;
        }
        self.open > 0
    }

    /// Sends off what is queued and takes at least one answer.
    fn wait(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            // Too many answers wait to be taken, or memory is short for the moment.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {
                std::thread::yield_now();
            }
            Err(error) => return Err(error),
        }
        self.take();
        Ok(())
    }

    /// Takes the answers that are there.
    fn take(&mut self) {
        for answer in self.ring.completion() {
            self.open -= 1;
            let read = usize::try_from(answer.user_data()).ok().and_then(|at| self.reads.get_mut(at));
            if let Some(read) = read {
                read.outcome = match usize::try_from(answer.result()) {
                    Ok(count) => Ok(count),
                    Err(_) => Err(io::Error::from_raw_os_error(-answer.result())),
                };
            }
        }
    }
}

impl Drop for InFlight<'_, '_, '_> {
    fn drop(&mut self) {
        // What still lies in the queue was never seen by the kernel, and never will be: the queue is given up after an error.
        let unseen = self.ring.submission().len();
        while self.open > unseen {
            self.take();
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::{AlignedBuffer, SourceFile};

    #[test]
    fn a_batch_deeper_than_the_queue_is_read_and_each_read_has_its_own_outcome() {
        // On the disk of the build, since memory file systems take no direct reads.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("f");
        let bytes: Vec<u8> = (0..64_u32 << 10).map(|at| (at / 4096 * 3 + at % 251).to_le_bytes()[0]).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = SourceFile::open_path(&path, Arc::from("f")).unwrap();
        let (Ok(direct), Ok(mut ring)) = (DirectFile::open(&file), Ring::new(4)) else {
            eprintln!("this system has no direct reads or no io_uring");
            return;
        };
        for _ in 0..2 {
            let mut memory = AlignedBuffer::aligned_to(4096, 18 * 4096);
            let mut reads: Vec<RingRead<'_>> = memory
                .chunks_mut(4096)
                .enumerate()
                .map(|(number, buffer)| RingRead::new(((17 - number) * 4096) as u64, buffer))
                .collect();
            ring.read(&direct, &mut reads).unwrap();
            let counts: Vec<usize> = reads.iter().map(|read| *read.outcome.as_ref().unwrap()).collect();
            assert_eq!(counts, [&[0, 0][..], &[4096; 16]].concat(), "two lie behind the end");
            let backwards: Vec<u8> = bytes.chunks(4096).rev().flatten().copied().collect();
            assert_eq!(memory[2 * 4096..], backwards);
        }
        let mut memory = AlignedBuffer::aligned_to(4096, 2 * 4096);
        let (odd, good) = memory.split_at_mut(4096);
        let mut reads = [RingRead::new(1, odd), RingRead::new(4096, good)];
        ring.read(&direct, &mut reads).unwrap();
        assert_eq!(reads[0].outcome.as_ref().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(reads[1].outcome.as_ref().unwrap(), &4096);
    }
}
