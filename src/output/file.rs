//! One file.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use super::claim::Claim;
use super::writer::allocate;
use super::{OutputError, failpoint};

/// A file that takes its place when it is published. Dropped before, it is removed.
///
/// ```
/// use std::io::Write as _;
/// use flow_fabric::output::OutputFile;
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("report.json");
/// let output = OutputFile::create(&path)?;
/// output.file().write_all(b"{}\n")?;
/// assert!(!path.exists());
/// output.publish()?;
/// assert_eq!(std::fs::read(&path)?, b"{}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    claim: Claim,
    published: bool,
}

impl OutputFile {
    /// Begins a file; what a killed run left of it is cleared away.
    ///
    /// # Errors
    /// [`OutputError::Busy`] when another run writes it, [`OutputError::Io`] when the system refuses.
    pub fn create(target: &Path) -> Result<Self, OutputError> {
        let claim = Claim::new(target)?;
        // What is there is ours: a file that a killed run left, or nothing. A link is removed, not followed.
        match fs::remove_file(&claim.partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OutputError::io("clear away", &claim.partial)(error));
            }
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&claim.partial);
        let file = file.map_err(OutputError::io("write", &claim.partial))?;
        Ok(Self { file, claim, published: false })
    }

    /// The file to write to.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes the space of the file, where the file system can, so that a full disk is known before the work is done.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn allocate(&self, bytes: u64) -> Result<(), OutputError> {
        let taken = failpoint::hit("file/allocate").and_then(|()| allocate(&self.file, bytes));
        taken.map_err(OutputError::io("write", &self.claim.target))
    }

    /// Writes the file to disk and gives it its name.
    ///
    /// # Errors
    /// [`OutputError::Io`]; the old file is then as it was.
    pub fn publish(self) -> Result<(), OutputError> {
        let target = self.claim.target.clone();
        self.publish_as(&target)
    }

    /// The same under another name in the same directory, for a name that is known only when the file is complete.
    pub(crate) fn publish_as(mut self, target: &Path) -> Result<(), OutputError> {
        let partial = &self.claim.partial;
        let written = failpoint::hit("file/sync").and_then(|()| self.file.sync_all());
        written.map_err(OutputError::io("write", target))?;
        let renamed = failpoint::hit("file/rename").and_then(|()| fs::rename(partial, target));
        renamed.map_err(OutputError::io("replace", target))?;
        self.published = true;
        failpoint::hit("file/published").map_err(OutputError::io("sync", target))?;
        self.claim.sync_above()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.published {
            // What stays is cleared away by the next run.
            let _ = fs::remove_file(&self.claim.partial);
        }
    }
}

/// Replaces a file's content at once: readers see the old one or the new one, whole. Makes the directory above it.
///
/// # Errors
/// As [`OutputFile`].
pub fn replace_file(target: &Path, content: &[u8]) -> Result<(), OutputError> {
    let output = OutputFile::create(target)?;
    let written = failpoint::hit("file/write").and_then(|()| (&output.file).write_all(content));
    written.map_err(OutputError::io("write", target))?;
    output.publish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/x.snap");
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        // A directory cannot be replaced by a file.
        assert!(replace_file(&folder.path().join("new"), b"three").is_err());
        assert_eq!(names(folder.path()), ["new"]);
        assert_eq!(names(&folder.path().join("new")), ["x.snap"]);
    }

    #[test]
    fn a_dropped_file_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "old").unwrap();
        let output = OutputFile::create(&path).unwrap();
        output.file().write_all(b"new").unwrap();
        drop(output);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".x.partial"), "a longer piece of an older run").unwrap();
        replace_file(&folder.path().join("x"), b"new").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("x")).unwrap(), "new");
        assert_eq!(names(folder.path()), ["x"]);
    }
}
