//! What a load did: bytes, requests, times, and how each file was read.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Traffic;
use super::ladder::Rung;
use crate::policy::Read;
use crate::storage::ReadError;

/// How a load went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadReport {
    /// Bytes and requests of all files.
    pub traffic: Traffic,
    /// Opening files and picking the way to read each.
    pub open: Duration,
    /// Reading, added up over threads.
    pub read: Duration,
    /// Digests, added up over threads.
    pub verify: Duration,
    /// Copying out of buffers, added up over threads.
    pub copy: Duration,
    /// All of it, by the clock.
    pub elapsed: Duration,
    /// One entry per file and way to read it, in the order of the plan.
    pub files: Vec<FileReport>,
}

/// How one file was read.
#[derive(Debug, Clone, PartialEq)]
pub struct FileReport {
    /// The file.
    pub path: Arc<str>,
    /// What the policy says.
    pub asked: Read,
    /// What it became.
    pub rung: Rung,
    /// The part of the wanted bytes that the page cache held at the start, where it was asked.
    pub cached: Option<f64>,
    /// Why it was not read as the policy says, or not in the fastest of the ways that it leaves open.
    pub because: Option<String>,
    /// Bytes and requests.
    pub traffic: Traffic,
}

/// Counts of one file while threads read it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    wanted: AtomicU64,
    read: AtomicU64,
    requests: AtomicU64,
    nanoseconds: [AtomicU64; 3],
    fallback: Mutex<Option<String>>,
    by_ring: AtomicBool,
}

impl Meter {
    /// A read of that many bytes.
    pub(super) fn request(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A job is done.
    pub(super) fn job(&self, wanted: u64, read: Duration, verify: Duration, copy: Duration) {
        self.wanted.fetch_add(wanted, Ordering::Relaxed);
        for (total, time) in self.nanoseconds.iter().zip([read, verify, copy]) {
            total.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// A direct read was refused and taken up through the page cache.
    pub(super) fn fell_back(&self, error: &ReadError) {
        let mut fallback = self.fallback.lock().unwrap_or_else(PoisonError::into_inner);
        fallback.get_or_insert_with(|| format!("some direct reads were refused: {error}"));
    }

    /// The queue that takes many reads at once was refused; they go one after the other.
    pub(super) fn no_ring(&self, error: &io::Error) {
        let mut fallback = self.fallback.lock().unwrap_or_else(PoisonError::into_inner);
        fallback.get_or_insert_with(|| format!("io_uring is refused: {error}"));
    }

    /// Reads went out many at once.
    pub(super) fn used_ring(&self) {
        self.by_ring.store(true, Ordering::Relaxed);
    }

    pub(super) fn by_ring(&self) -> bool {
        self.by_ring.load(Ordering::Relaxed)
    }

    pub(super) fn fallback(&self) -> Option<String> {
        self.fallback.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            wanted: self.wanted.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }

    /// Reading, digests, copying.
    pub(super) fn times(&self) -> [Duration; 3] {
        self.nanoseconds.each_ref().map(|time| Duration::from_nanos(time.load(Ordering::Relaxed)))
    }
}
