//! What the system keeps of a file in memory, and what kind of device it is on.

use std::ops::Range;

use super::SourceFile;

/// Where the bytes of a range of a file are now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caching {
    /// The part of its pages that the page cache holds, 0 to 1; `None` where the system does not tell.
    pub cached: Option<f64>,
    /// Whether the file is on a disk of this machine: no network and no memory file system.
    pub local_disk: bool,
}

impl Caching {
    /// Asks the system (`cachestat`, Linux 6.5; before that `mincore`). Nothing is read.
    #[must_use]
    pub fn of(file: &SourceFile, range: Range<u64>) -> Self {
        Self { cached: cached(file, range), local_disk: local_disk(file) }
    }
}

#[cfg(target_os = "linux")]
fn cached(file: &SourceFile, range: Range<u64>) -> Option<f64> {
    let page = rustix::param::page_size() as u64;
    let start = range.start / page * page;
    let end = range.end.min(file.size());
    let pages = end.checked_sub(start)?.div_ceil(page);
    if pages == 0 {
        return None;
    }
    let cached = super::system::cached_pages(file.file(), start, end - start)?;
    #[expect(clippy::cast_precision_loss, reason = "a ratio for a rule of thumb")]
    let ratio = cached as f64 / pages as f64;
    Some(ratio.min(1.0))
}

#[cfg(not(target_os = "linux"))]
fn cached(_: &SourceFile, _: Range<u64>) -> Option<f64> {
    None
}

/// File systems by the magic numbers of `statfs(2)`.
#[cfg(target_os = "linux")]
fn local_disk(file: &SourceFile) -> bool {
    const MEMORY_OR_NETWORK: [u32; 14] = [
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0x9584_58f6, // hugetlbfs
        0x0000_6969, // nfs
        0xff53_4d42, // cifs
        0xfe53_4d42, // smb2
        0x0000_517b, // smb
        0x6573_5546, // fuse
        0x0102_1997, // 9p
        0x00c3_6400, // ceph
        0x0bd0_0bd0, // lustre
        0x4750_4653, // gpfs
        0x5346_414f, // afs
        0x7375_7245, // coda
    ];
    // The width of `f_type` differs between systems; magic numbers have 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "magic numbers have 32 bits")]
    rustix::fs::fstatfs(file.file()).is_ok_and(|system| !MEMORY_OR_NETWORK.contains(&(system.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn local_disk(_: &SourceFile) -> bool {
    false
}
