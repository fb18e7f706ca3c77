//! Writing files so that a reader sees the old one or the new one, whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Replaces a file: writes a sibling and renames it. Makes the folder if it is absent.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let sibling = sibling(path);
    let written = OpenOptions::new().write(true).create_new(true).open(&sibling).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&sibling, path));
    if replaced.is_err() {
        // What is left is ours; that it cannot be removed either adds nothing to the first error.
        let _ = fs::remove_file(&sibling);
    }
    replaced
}

fn sibling(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/x.snap");
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        // A folder cannot be replaced by a file.
        assert!(replace(folder.path().join("new").as_path(), "three").is_err());
        let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!((names(folder.path()), names(&folder.path().join("new"))), (1, 1));
    }
}
