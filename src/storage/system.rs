//! The few system calls and mappings that no safe crate offers.
//!
//! `cachestat` and `mincore` write into memory that we own and of the length that they are given, and `madvise` is only told to
//! provide pages for memory that we own; a mapping's danger is that
//! another process makes the file shorter, which kills this one (SIGBUS): nothing here maps unless a policy says `mmap`, but
//! for `mincore`, which looks at the mapping's pages without touching them.
#![expect(unsafe_code, reason = "system calls without a safe wrapper, and memory maps")]

use std::fs::File;

use memmap2::Mmap;

/// Pages of a range of a file that are in the page cache; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn cached_pages(file: &File, start: u64, length: u64) -> Option<u64> {
    cachestat(file, start, length).or_else(|| mincore(file, start, length))
}

#[cfg(target_os = "linux")]
fn cachestat(file: &File, start: u64, length: u64) -> Option<u64> {
    use std::os::fd::AsRawFd as _;

    /// One number on every architecture.
    const CACHESTAT: libc::c_long = 451;
    let range = [start, length];
    // Cached, dirty, under writeback, evicted, recently evicted.
    let mut pages = [0_u64; 5];
    // SAFETY: the kernel reads two u64 (`struct cachestat_range`) and writes five (`struct cachestat`), as the arrays are;
    // both live until the call returns, and the descriptor is open.
    let failed = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), pages.as_mut_ptr(), 0_u32) };
    (failed == 0).then_some(pages[0])
}

#[cfg(target_os = "linux")]
fn mincore(file: &File, start: u64, length: u64) -> Option<u64> {
    let length = usize::try_from(length).ok()?;
    let page = rustix::param::page_size();
    // SAFETY: the mapping is only handed to `mincore`; no byte of it is read or written.
    let map = unsafe { memmap2::MmapOptions::new().offset(start).len(length).map(file) }.ok()?;
    let mut resident = vec![0_u8; length.div_ceil(page)];
    // SAFETY: the range is that of the mapping, which begins at a page, and the vector has a byte for each of its pages.
    let failed = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), length, resident.as_mut_ptr()) };
    (failed == 0).then(|| resident.iter().filter(|byte| *byte & 1 == 1).count() as u64)
}

/// Backs memory with pages before it is written, in one call instead of one fault per page.
///
/// What is there already stays as it is. Where the system has no such call (before Linux 5.14), pages come when they are written.
#[cfg(target_os = "linux")]
pub(crate) fn back_with_pages(memory: &mut [u8]) {
    let page = rustix::param::page_size();
    let skipped = memory.as_ptr().align_offset(page);
    let Some(whole) = memory.get_mut(skipped..).map(|rest| rest.len() / page * page).filter(|&whole| whole > 0) else {
        return;
    };
    // SAFETY: the range is whole pages inside of memory that is ours alone for the time of the call, which changes no byte of
    // it; that it may fail is all that can go wrong, and then nothing has changed.
    unsafe { libc::madvise(memory.as_mut_ptr().add(skipped).cast(), whole, libc::MADV_POPULATE_WRITE) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn back_with_pages(_: &mut [u8]) {}

/// Maps a file for reading.
pub(super) fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the file is regular and open for reading. That nobody shortens or changes it while it is mapped is what a
    // policy that says `read = "mmap"` vouches for; the bytes are copied out before anything looks at them.
    unsafe { Mmap::map(file) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn pages_come_without_a_change() {
        let mut memory: Vec<u8> = (0..50_000_usize).map(|at| at.to_le_bytes()[0]).collect();
        let before = memory.clone();
        back_with_pages(&mut memory[123..]);
        back_with_pages(&mut memory[..5]);
        back_with_pages(&mut []);
        assert_eq!(memory, before);
    }

    #[test]
    fn what_was_just_written_is_cached_and_both_calls_agree() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 64 << 10]).unwrap();
        let pages = (64 << 10) / rustix::param::page_size() as u64;
        assert_eq!(mincore(&file, 0, 64 << 10), Some(pages));
        if let Some(cached) = cachestat(&file, 0, 64 << 10) {
            assert_eq!(cached, pages);
        }
        assert_eq!(map(&file).unwrap().len(), 64 << 10);
    }
}
