//! The right to write to a place: a lock, and the sibling that is written to until it is complete.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::OutputError;

/// Ends with the lock file removed. A killed process leaves the file behind, but not the lock.
#[derive(Debug)]
pub(super) struct Claim {
    /// Where the result goes.
    pub(super) target: PathBuf,
    /// Where it is written.
    pub(super) partial: PathBuf,
    /// Where an old result waits while the new one takes its place, where both cannot be swapped at once.
    pub(super) old: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims a place, following links to it; makes the directory above it.
    pub(super) fn new(target: &Path) -> Result<Self, OutputError> {
        let target = resolve(target)?;
        let (partial, old, lock_path) =
            (sibling(&target, PARTIAL), sibling(&target, ".old"), sibling(&target, ".lock"));
        let lock = lock(&lock_path, &target)?;
        Ok(Self { target, partial, old, lock_path, _lock: lock })
    }

    /// The directory that holds the place.
    pub(super) fn above(&self) -> &Path {
        self.target.parent().unwrap_or(Path::new("/"))
    }

    /// Makes sure that a rename in the directory above outlives a power cut.
    pub(super) fn sync_above(&self) -> Result<(), OutputError> {
        sync_directory(self.above())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked, so it is ours; a file that stays harms nobody.
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// What the name of an output ends with until it is complete.
const PARTIAL: &str = ".partial";

fn sibling(target: &Path, end: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(end);
    target.with_file_name(name)
}

/// Where an output at `target` is written until it is complete; what a killed run left is there, too. `None` while the directory
/// above is absent.
pub(crate) fn partial_of(target: &Path) -> Option<PathBuf> {
    let place = fs::canonicalize(target).or_else(|error| {
        let above = target.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok::<_, std::io::Error>(fs::canonicalize(above)?.join(target.file_name().ok_or(error)?))
    });
    Some(sibling(&place.ok()?, PARTIAL))
}

/// An absolute path without links, whose directory exists.
fn resolve(target: &Path) -> Result<PathBuf, OutputError> {
    if let Ok(found) = fs::canonicalize(target) {
        return match found.file_name() {
            Some(_) => Ok(found),
            None => Err(OutputError::Exists { path: target.display().to_string() }),
        };
    }
    let Some(name) = target.file_name() else {
        return Err(OutputError::Io {
            action: "write",
            path: target.display().to_string(),
            source: std::io::ErrorKind::InvalidInput.into(),
        });
    };
    let above = target.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(above).map_err(OutputError::io("make the directory", above))?;
    Ok(fs::canonicalize(above).map_err(OutputError::io("find", above))?.join(name))
}

/// Takes the lock. The file may be removed by its holder between our opening and locking it; then it is no lock any more, and
/// we begin anew.
fn lock(path: &Path, target: &Path) -> Result<File, OutputError> {
    loop {
        let file = open_lock(path).map_err(OutputError::io("write", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OutputError::Busy { path: target.display().to_string() }),
            // A file system without locks: two runs on one place are then the user's to avoid.
            Err(TryLockError::Error(_)) => return Ok(file),
        }
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path)
}

/// Whether the path still means this file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(here), Ok(there)) => (here.dev(), here.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// An open file cannot be removed here.
#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Writes a directory's entries to disk.
pub(super) fn sync_directory(path: &Path) -> Result<(), OutputError> {
    #[cfg(unix)]
    match File::open(path).and_then(|directory| directory.sync_all()) {
        // Some file systems cannot and need not.
        Err(error) if error.kind() != std::io::ErrorKind::InvalidInput => {
            return Err(OutputError::io("sync", path)(error));
        }
        _ => {}
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_claimed_once_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new/out");
        let claim = Claim::new(&target).unwrap();
        assert!(matches!(Claim::new(&target), Err(OutputError::Busy { .. })));
        drop(claim);
        drop(Claim::new(&target).unwrap());
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_file_that_was_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".out.lock"), "").unwrap();
        drop(Claim::new(&folder.path().join("out")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn places_without_a_name_are_refused() {
        assert!(Claim::new(Path::new("/")).is_err());
        assert!(Claim::new(Path::new("")).is_err());
        assert!(Claim::new(Path::new("no-such-directory/..")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_to_a_place_mean_the_place_and_a_link_as_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let claim = Claim::new(&folder.path().join("link")).unwrap();
        assert_eq!(claim.target.file_name().unwrap(), "real");
        std::os::unix::fs::symlink("elsewhere", folder.path().join(".out.lock")).unwrap();
        assert!(matches!(Claim::new(&folder.path().join("out")), Err(OutputError::Io { .. })));
        assert!(!folder.path().join("elsewhere").exists());
    }
}
