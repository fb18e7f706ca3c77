//! A directory of files that appears at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::claim::{Claim, sync_directory};
use super::journal::{self, Journal};
use super::{OutputError, failpoint};

/// How an [`OutputDirectory`] begins.
#[derive(Debug, Clone, Default)]
pub struct OutputOptions {
    /// Replace a directory that is there and not empty, as a whole. Without it that is an error.
    pub replace: bool,
    /// What identifies the run: digests of the policy, the checkpoint, whatever decides the bytes. With it finished pieces are
    /// journaled, and an unfinished directory is kept when the run fails.
    pub run: Option<String>,
    /// Continue what an unfinished run of the same identity left, instead of clearing it away.
    pub resume: bool,
}

/// What an earlier run had left in the place where this one writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Nothing.
    None,
    /// Pieces that were cleared away.
    Cleared,
    /// Pieces of the same run; [`OutputDirectory::finished`] names them.
    Resumed,
}

/// A directory that takes its place when it is published. Dropped before, it is removed, unless its run can be resumed.
///
/// ```
/// use flow_fabric::output::{OutputDirectory, OutputOptions};
/// let folder = tempfile::tempdir()?;
/// let target = folder.path().join("model");
/// let output = OutputDirectory::create(&target, &OutputOptions::default())?;
/// std::fs::write(output.path().join("config.json"), "{}")?;
/// assert!(!target.exists());
/// output.publish()?;
/// assert!(target.join("config.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OutputDirectory {
    claim: Claim,
    journal: Option<Journal>,
    finished: BTreeMap<String, String>,
    leftover: Leftover,
    keep: bool,
}

impl OutputDirectory {
    /// Claims a place and makes the directory that is written to.
    ///
    /// # Errors
    /// [`OutputError::Exists`] when something is there and may not be replaced, [`OutputError::Busy`] when another run writes
    /// it, [`OutputError::Io`] when the system refuses.
    pub fn create(target: &Path, options: &OutputOptions) -> Result<Self, OutputError> {
        let claim = Claim::new(target)?;
        recover(&claim)?;
        check_free(&claim.target, options.replace)?;
        let partial = claim.partial.clone();
        let unwritable = || OutputError::io("write", &partial);
        let mut output = Self { claim, journal: None, finished: BTreeMap::new(), leftover: Leftover::None, keep: true };
        if fs::symlink_metadata(&partial).is_ok() {
            output.leftover = Leftover::Cleared;
            if let Some(run) = options.run.as_deref().filter(|_| options.resume)
                && let Some((journal, finished)) = Journal::resume(&partial, run).map_err(unwritable())?
            {
                output.leftover = Leftover::Resumed;
                output.finished = finished;
                output.journal = Some(journal);
                return Ok(output);
            }
        }
        // From here on there is nothing to be kept for another run.
        output.keep = false;
        remove_all(&partial).map_err(OutputError::io("clear away", &partial))?;
        fs::create_dir(&partial).map_err(unwritable())?;
        failpoint::hit("directory/created").map_err(unwritable())?;
        if let Some(run) = &options.run {
            output.journal = Some(Journal::create(&partial, run).map_err(unwritable())?);
            output.keep = true;
        }
        Ok(output)
    }

    /// Whether an output at `target` leaves its sources alone: it is not the directory of one, nor one above it.
    ///
    /// # Errors
    /// [`OutputError::Source`].
    pub fn check_apart<'a>(target: &Path, sources: impl IntoIterator<Item = &'a Path>) -> Result<(), OutputError> {
        // A place that is not there yet holds nothing.
        let Ok(place) = fs::canonicalize(target) else { return Ok(()) };
        let within = |source: &Path| fs::canonicalize(source).is_ok_and(|source| source.starts_with(&place));
        // Links are looked at both ways: a cache's snapshot leads elsewhere, and is a source nevertheless.
        let beside = |source: &Path| source.parent().is_some_and(within);
        match sources.into_iter().any(|source| within(source) || beside(source)) {
            true => Err(OutputError::Source { path: target.display().to_string() }),
            false => Ok(()),
        }
    }

    /// Clears away what a killed run left beside a place that needs no new output; what a run at work writes
    /// there stays.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn sweep(target: &Path) -> Result<(), OutputError> {
        let claim = match Claim::new(target) {
            Err(OutputError::Busy { .. }) => return Ok(()),
            claim => claim?,
        };
        recover(&claim)?;
        remove_all(&claim.partial).map_err(OutputError::io("clear away", &claim.partial))
    }

    /// Where files are written until the directory is published.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.claim.partial
    }

    /// Where they will be.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.claim.target
    }

    /// What an earlier run had left.
    #[must_use]
    pub const fn leftover(&self) -> Leftover {
        self.leftover
    }

    /// The pieces that an unfinished run of the same identity had finished, with what it noted about each.
    #[must_use]
    pub const fn finished(&self) -> &BTreeMap<String, String> {
        &self.finished
    }

    /// Notes that a piece is finished; any thread may. Without an identity of the run this does nothing.
    ///
    /// The bytes of the piece need not be on disk: the note should hold a digest by which the next run checks them.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn finish(&self, key: &str, note: &str) -> Result<(), OutputError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let noted = failpoint::hit("directory/note").and_then(|()| journal.note(key, note));
        noted.map_err(OutputError::io("write", &self.claim.partial.join(journal::NAME)))
    }

    /// Whether the directory stays for a later run when this one fails; it does where the run has an identity.
    pub fn keep_on_failure(&mut self, keep: bool) {
        self.keep = keep && self.journal.is_some();
    }

    /// Writes everything to disk, then gives the directory its place. An old one is removed after that.
    ///
    /// # Errors
    /// [`OutputError::Io`]; the old directory is then as it was, unless only its removal failed.
    pub fn publish(mut self) -> Result<(), OutputError> {
        let (partial, target) = (self.claim.partial.clone(), self.claim.target.clone());
        let place = |name: &str| failpoint::hit(name).map_err(OutputError::io("write", &target));
        place("directory/sync")?;
        sync_tree(&partial)?;
        place("directory/journal")?;
        if self.journal.take().is_some() {
            let path = partial.join(journal::NAME);
            fs::remove_file(&path).map_err(OutputError::io("remove", &path))?;
            self.keep = false;
        }
        sync_directory(&partial)?;
        place("directory/rename")?;
        take_place(&self.claim)?;
        failpoint::hit("directory/renamed").map_err(OutputError::io("sync", &target))?;
        self.claim.sync_above()?;
        // After a swap the old output is what has the working name now.
        remove_all(&partial).map_err(OutputError::io("remove the old output", &partial))?;
        failpoint::hit("directory/published").map_err(OutputError::io("sync", &target))
    }
}

impl Drop for OutputDirectory {
    fn drop(&mut self) {
        if !self.keep {
            // What stays is cleared away by the next run.
            let _ = remove_all(&self.claim.partial);
        }
    }
}

/// Refuses a place that holds something, unless it may be replaced; only directories are.
fn check_free(target: &Path, replace: bool) -> Result<(), OutputError> {
    let exists = || OutputError::Exists { path: target.display().to_string() };
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OutputError::io("read", target)(error)),
        Ok(metadata) if !metadata.is_dir() => Err(exists()),
        Ok(_) if replace => Ok(()),
        Ok(_) => match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(exists()),
            Err(error) => Err(OutputError::io("read", target)(error)),
        },
    }
}

/// Puts back what a killed run had moved out of the way, or removes what it had replaced.
fn recover(claim: &Claim) -> Result<(), OutputError> {
    if fs::symlink_metadata(&claim.old).is_err() {
        return Ok(());
    }
    let recovered = if fs::symlink_metadata(&claim.target).is_ok() {
        remove_all(&claim.old)
    } else {
        fs::rename(&claim.old, &claim.target)
    };
    recovered.map_err(OutputError::io("recover", &claim.old))
}

/// Renames the new directory into its place; where something is there, swaps the two.
fn take_place(claim: &Claim) -> Result<(), OutputError> {
    let Claim { partial, target, old, .. } = claim;
    let failed = |error| OutputError::io("replace", target)(error);
    // An empty directory is replaced by a plain rename.
    match fs::rename(partial, target) {
        Ok(()) => return Ok(()),
        Err(error) if !is_taken(target) => return Err(failed(error)),
        Err(_) => {}
    }
    match swap(partial, target) {
        Ok(()) => return Ok(()),
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            return Err(failed(error));
        }
        Err(_) => {}
    }
    // A file system that cannot swap: the place is empty for a moment, and `recover` knows.
    fs::rename(target, old).map_err(failed)?;
    failpoint::hit("directory/between").map_err(failed)?;
    if let Err(error) = fs::rename(partial, target) {
        let _ = fs::rename(old, target);
        return Err(failed(error));
    }
    remove_all(old).map_err(OutputError::io("remove the old output", old))
}

fn is_taken(target: &Path) -> bool {
    fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn swap(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    failpoint::hit("directory/swap")?;
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(|errno| match errno {
        rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP => {
            io::ErrorKind::Unsupported.into()
        }
        other => other.into(),
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn swap(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes a file, a link or a whole directory; absent is fine.
fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Writes all files and directories below a path to disk.
fn sync_tree(path: &Path) -> Result<(), OutputError> {
    let mut open: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        let failed = || OutputError::io("read", &directory);
        for entry in fs::read_dir(&directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let kind = entry.file_type().map_err(failed())?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                File::open(&path).and_then(|file| file.sync_all()).map_err(OutputError::io("write", &path))?;
            }
        }
        sync_directory(&directory)?;
    }
    Ok(())
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

    fn write(output: &OutputDirectory, text: &str) {
        fs::write(output.path().join("file"), text).unwrap();
    }

    #[test]
    fn a_directory_appears_when_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let output = OutputDirectory::create(&target, &OutputOptions::default()).unwrap();
        assert_eq!(output.leftover(), Leftover::None);
        write(&output, "one");
        assert!(!target.exists());
        output.publish().unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "one");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn what_is_there_is_replaced_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        fs::create_dir(&target).unwrap();
        // An empty directory is as good as none.
        let output = OutputDirectory::create(&target, &OutputOptions::default()).unwrap();
        write(&output, "one");
        output.publish().unwrap();
        let refused = OutputDirectory::create(&target, &OutputOptions::default());
        assert!(matches!(refused, Err(OutputError::Exists { .. })));
        let output = OutputDirectory::create(&target, &OutputOptions { replace: true, ..Default::default() }).unwrap();
        write(&output, "two");
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "one");
        output.publish().unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "two");
        assert_eq!(names(folder.path()), ["out"]);
        fs::write(folder.path().join("taken"), "").unwrap();
        let options = OutputOptions { replace: true, ..Default::default() };
        assert!(matches!(
            OutputDirectory::create(&folder.path().join("taken"), &options),
            Err(OutputError::Exists { .. })
        ));
    }

    #[test]
    fn a_dropped_directory_leaves_nothing_unless_it_can_be_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let output = OutputDirectory::create(&target, &OutputOptions::default()).unwrap();
        write(&output, "one");
        drop(output);
        assert_eq!(names(folder.path()), [""; 0]);
        let options = OutputOptions { run: Some("a".to_owned()), resume: true, ..Default::default() };
        let output = OutputDirectory::create(&target, &options).unwrap();
        output.finish("w", "digest").unwrap();
        write(&output, "two");
        drop(output);
        let output = OutputDirectory::create(&target, &options).unwrap();
        assert_eq!(output.leftover(), Leftover::Resumed);
        assert_eq!(output.finished().get("w").map(String::as_str), Some("digest"));
        assert_eq!(fs::read_to_string(output.path().join("file")).unwrap(), "two");
        drop(output);
        let other = OutputOptions { run: Some("b".to_owned()), ..options.clone() };
        let output = OutputDirectory::create(&target, &other).unwrap();
        assert_eq!(output.leftover(), Leftover::Cleared);
        assert_eq!(names(output.path()), [journal::NAME]);
        output.publish().unwrap();
        assert_eq!((names(folder.path()), names(&target)), (vec!["out".to_owned()], vec![]));
    }

    #[test]
    fn an_old_output_that_was_moved_away_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        fs::create_dir(folder.path().join(".out.old")).unwrap();
        fs::write(folder.path().join(".out.old/file"), "old").unwrap();
        assert!(matches!(OutputDirectory::create(&target, &OutputOptions::default()), Err(OutputError::Exists { .. })));
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "old");
        assert_eq!(names(folder.path()), ["out"]);
    }
}
