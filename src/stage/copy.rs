//! Copying files, digested on their way.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::tree::{Tree, TreeFile};
use super::{StageError, StageOptions, StageRecord, StagedFile};
use crate::manifest::{Digester, Digests};
use crate::output::{OutputDirectory, OutputError, failpoint};
use crate::parallel::in_parallel;
use crate::progress::{Cancelled, Progress};
use crate::storage::{ReadAt as _, SourceFile};

const PIECE: usize = 4 << 20;

/// What was copied.
pub(super) struct Copied {
    pub(super) record: StageRecord,
    /// Bytes that were not there already.
    pub(super) bytes: u64,
}

/// Copies a tree into a directory; what a killed run had copied is kept when it still has its digest. With `expected` every file
/// must be what that record says.
pub(super) fn all(
    tree: &Tree,
    output: &OutputDirectory,
    expected: Option<&StageRecord>,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<Copied, StageError> {
    for directory in &tree.directories {
        let path = output.path().join(directory);
        fs::create_dir_all(&path).map_err(OutputError::io("make the directory", &path))?;
    }
    let total = tree.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.bytes));
    progress.begin(if expected.is_some() { "restoring" } else { "staging" }, Some(total));
    let expected: Option<BTreeMap<&str, &Digests>> =
        expected.map(|record| record.files.iter().map(|file| (&*file.path, &file.digests)).collect());
    let done = in_parallel(options.threads, &tree.files, |file| {
        progress.at(&file.path);
        let (source, target) = (tree.root.join(&file.path), output.path().join(&file.path));
        let (digests, copied) = match finished(file, &target, output, progress)? {
            Some(digests) => (digests, 0),
            None => {
                let digests = fresh(&source, &target, file, progress)?;
                let note = serde_json::to_string(&digests).unwrap_or_default();
                output.finish(&file.path, &note)?;
                (digests, file.bytes)
            }
        };
        let told = expected.as_ref().and_then(|expected| expected.get(&*file.path));
        if told.is_some_and(|told| **told != digests) {
            return Err(StageError::Damaged { path: source.display().to_string() });
        }
        let TreeFile { path, bytes, modified, mode } = file.clone();
        Ok((StagedFile { path, bytes, modified, mode, digests }, copied))
    })?;
    let bytes = done.iter().fold(0, |sum: u64, (_, copied)| sum.saturating_add(*copied));
    let files: Vec<StagedFile> = done.into_iter().map(|(file, _)| file).collect();
    for (path, told) in &tree.links {
        link(&output.path().join(path), told)?;
    }
    let record = StageRecord::new(tree.single.clone(), files, tree.directories.clone(), tree.links.clone());
    if options.verify {
        verify(output.path(), &record, options, progress)?.map_or(Ok(()), |path| Err(StageError::Damaged { path }))?;
    }
    Ok(Copied { record, bytes })
}

/// Whether a copy is still what its record says: sizes and times, and with `verify` every byte.
pub(super) fn is_intact(
    copy: &Path,
    record: &StageRecord,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<bool, StageError> {
    let Ok(tree) = Tree::list(copy) else { return Ok(false) };
    if tree.files != Tree::of_record(copy, record).files || tree.links != record.links {
        return Ok(false);
    }
    Ok(!options.verify || verify(copy, record, options, progress)?.is_none())
}

/// Reads a copy; the first file that is not what its record says.
fn verify(
    copy: &Path,
    record: &StageRecord,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<Option<String>, StageError> {
    progress.begin("verifying", Some(record.bytes()));
    let found = in_parallel(options.threads, &record.files, |file| {
        let path = copy.join(&file.path);
        forget(&path);
        Ok::<_, StageError>((digest(&path, progress)? != file.digests).then(|| path.display().to_string()))
    })?;
    Ok(found.into_iter().flatten().next())
}

/// The digests of a file that a killed run had copied, if it is still as that run noted.
fn finished(
    file: &TreeFile,
    target: &Path,
    output: &OutputDirectory,
    progress: &dyn Progress,
) -> Result<Option<Digests>, StageError> {
    let noted = output.finished().get(&file.path).and_then(|note| serde_json::from_str::<Digests>(note).ok());
    let same_size = || fs::symlink_metadata(target).is_ok_and(|found| found.is_file() && found.len() == file.bytes);
    match noted.filter(|_| same_size()) {
        Some(noted) => Ok((digest(target, progress)? == noted).then_some(noted)),
        None => Ok(None),
    }
}

fn fresh(source: &Path, target: &Path, file: &TreeFile, progress: &dyn Progress) -> Result<Digests, StageError> {
    let failed = || OutputError::io("write", target);
    let open = || {
        failpoint::hit("stage/create")?;
        OpenOptions::new().write(true).create(true).truncate(true).open(target)
    };
    let out = open().map_err(failed())?;
    let digests = one(source, &out, target, progress)?;
    dress(&out, file.modified, file.mode, target)?;
    Ok(digests)
}

/// Copies a file's bytes and digests them.
pub(super) fn one(
    source: &Path,
    mut out: &File,
    target: &Path,
    progress: &dyn Progress,
) -> Result<Digests, StageError> {
    let file = SourceFile::open_path(source, source.display().to_string().into())?;
    let mut take = |piece: &[u8]| {
        let written = failpoint::hit("stage/write").and_then(|()| out.write_all(piece));
        written.map_err(|error| OutputError::io("write", target)(error).into())
    };
    pieces(&file, progress, &mut take)
}

fn digest(path: &Path, progress: &dyn Progress) -> Result<Digests, StageError> {
    let file = SourceFile::open_path(path, path.display().to_string().into())?;
    pieces(&file, progress, &mut |_| Ok(()))
}

/// Reads a file piece by piece; its digests.
pub(super) fn pieces(
    file: &SourceFile,
    progress: &dyn Progress,
    take: &mut dyn FnMut(&[u8]) -> Result<(), StageError>,
) -> Result<Digests, StageError> {
    let mut digester = Digester::default();
    let mut buffer = vec![0; usize::try_from(file.size()).unwrap_or(PIECE).min(PIECE)];
    let mut at = 0;
    while at < file.size() {
        progress.check().map_err(|cancelled: Cancelled| StageError::from(cancelled))?;
        let length = usize::try_from(file.size() - at).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        digester.update(piece);
        take(piece)?;
        at += length as u64;
        progress.advance(length as u64);
    }
    file.check_unchanged()?;
    Ok(digester.finish())
}

/// Gives a copy the time and the permissions of its source.
pub(super) fn dress(out: &File, modified: i64, mode: u32, target: &Path) -> Result<(), StageError> {
    let since = Duration::from_nanos(modified.unsigned_abs());
    let time = if modified < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
    let dressed = (|| {
        failpoint::hit("stage/dress")?;
        if let Some(time) = time {
            out.set_times(FileTimes::new().set_modified(time))?;
        }
        permit(out, mode)
    })();
    Ok(dressed.map_err(OutputError::io("write", target))?)
}

#[cfg(unix)]
fn permit(out: &File, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    out.set_permissions(fs::Permissions::from_mode(mode & 0o777))
}

#[cfg(not(unix))]
fn permit(_: &File, _: u32) -> std::io::Result<()> {
    Ok(())
}

/// Makes a link; one that a killed run made is kept.
#[cfg(unix)]
fn link(path: &Path, told: &str) -> Result<(), StageError> {
    if fs::read_link(path).is_ok_and(|found| found == Path::new(told)) {
        return Ok(());
    }
    Ok(std::os::unix::fs::symlink(told, path).map_err(OutputError::io("make the link", path))?)
}

#[cfg(not(unix))]
fn link(path: &Path, _: &str) -> Result<(), StageError> {
    Err(StageError::Unstageable { path: path.display().to_string(), reason: "is a link, which is not made here" })
}

/// Lets the system forget a file that is on disk, so that what is read is what the disk holds.
fn forget(path: &Path) {
    #[cfg(target_os = "linux")]
    if let Ok(file) = File::open(path)
        && file.sync_all().is_ok()
    {
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
}
