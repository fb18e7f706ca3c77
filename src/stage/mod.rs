//! Staging: copies of artifacts on storage that is faster, or that is there when the artifact's own is not.
//!
//! [`stage`] copies a tree of files into a directory, several files at a time, and writes beside them what they are, so that the
//! copy is found again, verified, and brought back by [`restore`]. [`StagedFiles`] holds the files of a checkpoint in shared
//! memory for as long as somebody reads them.

mod copy;
mod error;
mod record;
mod shared;
mod space;
mod tree;

use std::path::Path;

pub use self::error::StageError;
pub use self::record::{STAGE_FILE, STAGE_FORMAT, StageRecord, StagedFile};
pub use self::shared::{SharedMemory, StagedFiles};
use self::tree::Tree;
use crate::output::{Leftover, OutputDirectory, OutputFile, OutputOptions};
use crate::progress::Progress;

/// How a tree is staged.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// Read everything that was copied again and compare it; also what an earlier run copied.
    pub verify: bool,
    /// Replace a target that is there and is no staged copy.
    pub replace: bool,
    /// Most bytes of files. `None` for as many as fit.
    pub budget: Option<u64>,
    /// Threads that copy; each holds some MiB.
    pub threads: usize,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self { verify: false, replace: false, budget: None, threads: 4 }
    }
}

/// What a staging did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// What is in the copy.
    pub record: StageRecord,
    /// Bytes that were copied now; the others were there.
    pub copied: u64,
    /// The copy was there, and nothing was written.
    pub reused: bool,
    /// An unfinished copy was continued.
    pub resumed: bool,
    /// A copy was there, differed from the source or was damaged, and gave way to this one.
    pub renewed: bool,
}

/// Copies a file or a directory into the new directory `target`. A complete copy of the same files that is there is kept; a
/// killed run is continued.
///
/// Links that stay inside the tree stay links; others are copied as what they lead to.
///
/// # Errors
/// The source cannot be read or changes meanwhile; the target has too little space, is taken, or cannot be written; a copy does
/// not read back as it was; the work is cancelled.
///
/// ```
/// use flow_fabric::progress::Silent;
/// use flow_fabric::stage::{StageOptions, restore, stage};
/// let folder = tempfile::tempdir()?;
/// let (source, copy) = (folder.path().join("bundle"), folder.path().join("copy"));
/// std::fs::create_dir(&source)?;
/// std::fs::write(source.join("a"), "abc")?;
/// assert_eq!(stage(&source, &copy, &StageOptions::default(), &Silent)?.copied, 3);
/// assert!(stage(&source, &copy, &StageOptions::default(), &Silent)?.reused);
/// std::fs::remove_dir_all(&source)?;
/// restore(&source, &copy, &StageOptions::default(), &Silent)?;
/// assert_eq!(std::fs::read(source.join("a"))?, b"abc");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn stage(
    source: &Path,
    target: &Path,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<Staged, StageError> {
    present(source)?;
    apart(source, target)?;
    let tree = Tree::list(source)?;
    let known = StageRecord::read(target)?;
    if let Some(record) = &known
        && tree.is_recorded(record)
        && copy::is_intact(target, record, options, progress)?
    {
        OutputDirectory::sweep(target)?;
        return Ok(Staged { record: record.clone(), copied: 0, reused: true, resumed: false, renewed: false });
    }
    // A copy that we made may be replaced by one that we make.
    let replace = options.replace || known.is_some();
    space::check(&tree, target, options.budget)?;
    let (output, resumed) = open(target, replace, &tree)?;
    let copied = copy::all(&tree, &output, None, options, progress)?;
    copied.record.write(output.path())?;
    output.publish()?;
    Ok(Staged { record: copied.record, copied: copied.bytes, reused: false, resumed, renewed: known.is_some() })
}

/// Brings a staged copy back to where it came from. Every byte is held against what was staged before anything gets its name.
///
/// # Errors
/// `copy` is no staged copy or is damaged; otherwise as [`stage`].
pub fn restore(
    source: &Path,
    copy: &Path,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<Staged, StageError> {
    present(copy)?;
    apart(copy, source)?;
    let Some(record) = StageRecord::read(copy)? else {
        return Err(StageError::NotStaged { path: copy.display().to_string() });
    };
    let tree = Tree::of_record(copy, &record);
    space::check(&tree, source, options.budget)?;
    if let (Some(single), [file]) = (&record.single, record.files.as_slice()) {
        if source.exists() && !options.replace {
            return Err(crate::output::OutputError::Exists { path: source.display().to_string() }.into());
        }
        let output = OutputFile::create(source)?;
        progress.begin("restoring", Some(file.bytes));
        let digests = copy::one(&copy.join(single), output.file(), source, progress)?;
        if digests != file.digests {
            return Err(StageError::Damaged { path: copy.join(single).display().to_string() });
        }
        copy::dress(output.file(), file.modified, file.mode, source)?;
        output.publish()?;
        return Ok(Staged { copied: file.bytes, record, reused: false, resumed: false, renewed: false });
    }
    let (output, resumed) = open(source, options.replace, &tree)?;
    let copied = copy::all(&tree, &output, Some(&record), options, progress)?;
    output.publish()?;
    Ok(Staged { record, copied: copied.bytes, reused: false, resumed, renewed: false })
}

/// Refuses what is not there in words of its own.
fn present(path: &Path) -> Result<(), StageError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(StageError::Absent { path: path.display().to_string() })
        }
        _ => Ok(()),
    }
}

/// Refuses to copy a tree into itself or over itself.
fn apart(source: &Path, target: &Path) -> Result<(), StageError> {
    OutputDirectory::check_apart(target, [source])?;
    // A target that is not there yet lies where its directory lies.
    let above = target.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (std::fs::canonicalize(source), std::fs::canonicalize(above)) {
        (Ok(source), Ok(above)) if above.starts_with(&source) => {
            Err(crate::output::OutputError::Source { path: target.display().to_string() }.into())
        }
        _ => Ok(()),
    }
}

/// Begins the directory; what a killed run of the same files left is continued.
fn open(target: &Path, replace: bool, tree: &Tree) -> Result<(OutputDirectory, bool), StageError> {
    let options = OutputOptions { replace, run: Some(tree.identity()), resume: true };
    let mut output = OutputDirectory::create(target, &options)?;
    // Only a killed run leaves something.
    output.keep_on_failure(false);
    let resumed = output.leftover() == Leftover::Resumed;
    Ok((output, resumed))
}
