//! Whether there is room.

use std::path::Path;

use super::StageError;
use super::tree::Tree;

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
        Some(available) if needed > available => {
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

#[cfg(not(unix))]
fn available(_: &Path) -> Option<u64> {
    None
}
