//! Whether there is room.

use std::path::Path;

use super::StageError;
use super::tree::Tree;
#[cfg(unix)]
use crate::output::partial_of;

/// What a file takes beyond its bytes, at most: the rest of its last block.
const BLOCK: u64 = 4096;

/// Refuses a tree that does not fit where it is to go, before a byte is copied.
pub(super) fn check(tree: &Tree, target: &Path, budget: Option<u64>) -> Result<(), StageError> {
    let needed = tree.files.iter().fold(0, |sum: u64, file| sum.saturating_add(blocks(file.bytes)));
    fits(needed, target, budget)
}

/// The same for a number of bytes.
pub(super) fn fits(needed: u64, target: &Path, budget: Option<u64>) -> Result<(), StageError> {
    if let Some(budget) = budget.filter(|&budget| needed > budget) {
        return Err(StageError::Budget { needed, budget });
    }
    match available(target) {
        // What a killed run left there is continued or makes room.
        Some(available) if needed > available.saturating_add(left(target)) => {
            Err(StageError::Space { path: target.display().to_string(), needed, available })
        }
        _ => Ok(()),
    }
}

/// Whole blocks of a file.
pub(super) const fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// Bytes that this user may still write where a path is or will be; `None` where the system does not say.
#[cfg(unix)]
fn available(target: &Path) -> Option<u64> {
    // The nearest directory that is there.
    let mut at = Some(target);
    while let Some(path) = at {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        if let Ok(status) = rustix::fs::statvfs(path) {
            return Some(status.f_bavail.saturating_mul(status.f_frsize));
        }
        at = path.parent();
    }
    None
}

/// Bytes that a killed run's unfinished copy takes.
#[cfg(unix)]
fn left(target: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;

    let mut open: Vec<_> = partial_of(target).into_iter().collect();
    let mut left = 0_u64;
    while let Some(path) = open.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        left = left.saturating_add(metadata.blocks().saturating_mul(512));
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    left
}

#[cfg(not(unix))]
fn left(_: &Path) -> u64 {
    0
}

#[cfg(not(unix))]
fn available(_: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_counts_as_room() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("copy");
        assert_eq!(left(&target), 0);
        assert_eq!(left(&folder.path().join("absent/copy")), 0);
        let below = folder.path().join(".copy.partial/below");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("a"), vec![1; 100_000]).unwrap();
        assert!((100_000..200_000).contains(&left(&target)), "{}", left(&target));
    }
}
