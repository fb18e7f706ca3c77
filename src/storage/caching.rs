//! What the system keeps of a file in memory, and what kind of device it is on.

use std::ops::Range;

use super::SourceFile;

/// Where the bytes of some ranges of a file are now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caching {
    /// The part of their pages that the page cache holds, 0 to 1; `None` where the system does not tell.
    pub cached: Option<f64>,
    /// Whether the file is on a disk of this machine: no network and no memory file system.
    pub local_disk: bool,
}

impl Caching {
    /// Asks the system (`cachestat`, Linux 6.5; before that `mincore`). Nothing is read.
    #[must_use]
    pub fn of(file: &SourceFile, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        Self { cached: cached(file, ranges), local_disk: local_disk(file) }
    }
}

#[cfg(target_os = "linux")]
fn cached(file: &SourceFile, ranges: impl IntoIterator<Item = Range<u64>>) -> Option<f64> {
    let page = rustix::param::page_size() as u64;
    // Tensors that follow one another are one question: there may be a hundred thousand of them.
    let mut runs: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match runs.last_mut() {
            Some(run) if (run.start..=run.end.saturating_add(page)).contains(&range.start) => {
                run.end = run.end.max(range.end);
            }
            _ => runs.push(range),
        }
    }
    let (mut pages, mut cached) = (0_u64, 0_u64);
    for run in runs {
        let start = run.start / page * page;
        let length = run.end.min(file.size()).saturating_sub(start);
        if length > 0 {
            pages = pages.saturating_add(length.div_ceil(page));
            cached = cached.saturating_add(super::system::cached_pages(file.file(), start, length)?);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio for a rule of thumb")]
    let ratio = cached as f64 / pages as f64;
    (pages > 0).then(|| ratio.min(1.0))
}

#[cfg(not(target_os = "linux"))]
fn cached(_: &SourceFile, _: impl IntoIterator<Item = Range<u64>>) -> Option<f64> {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_cached_and_holes_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, vec![1; 256 << 10]).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        let file = SourceFile::open_path(&path, "f".into()).unwrap();
        let cached = |ranges: &[(u64, u64)]| Caching::of(&file, ranges.iter().map(|&(start, end)| start..end)).cached;
        assert_eq!(cached(&[(0, 1), (200_000, 256 << 10)]), Some(1.0));
        assert_eq!(cached(&[(512 << 10, 1 << 20)]), Some(0.0));
        assert_eq!(cached(&[(0, 256 << 10), (512 << 10, 768 << 10)]), Some(0.5));
        assert_eq!(cached(&[(768 << 10, 1 << 40)]), Some(0.0));
        assert_eq!(cached(&[(2 << 20, 3 << 20)]), None);
        assert_eq!(cached(&[]), None);
    }
}
