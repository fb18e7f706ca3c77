//! Files of a checkpoint in shared memory, for as long as somebody reads them.
//!
//! A copy is named by what its source is (place, size, time, inode) and by the digest of its bytes. Its readers hold a shared
//! lock on it; the last one to let go removes it. What a killed process leaves has no lock: the next one uses it, when it is a
//! whole copy of a file that it wants, and removes it otherwise. Processes that want the same file at the same time make one
//! copy.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{StageError, copy, space};
use crate::output::{OutputError, OutputFile, failpoint, is_at};
use crate::progress::Progress;
use crate::storage::SourceFile;

/// How long a process waits before it asks again whether another one has made the copy.
const PATIENCE: Duration = Duration::from_millis(20);

/// A directory in shared memory, and how much of it may be used.
#[derive(Debug, Clone)]
pub struct SharedMemory {
    directory: PathBuf,
    budget: Option<u64>,
}

/// Copies that are held. Dropped, they are removed, unless another process holds them, too.
#[derive(Debug)]
pub struct StagedFiles {
    files: Vec<SourceFile>,
    held: Vec<(PathBuf, File)>,
    copied: u64,
    reused: usize,
}

impl SharedMemory {
    /// Where this user's copies are: `/dev/shm/flow-fabric-UID`.
    #[cfg(unix)]
    #[must_use]
    pub fn of_this_user() -> Self {
        Self::at(PathBuf::from(format!("/dev/shm/flow-fabric-{}", rustix::process::getuid().as_raw())))
    }

    /// Another directory; it is made when it is needed.
    #[must_use]
    pub const fn at(directory: PathBuf) -> Self {
        Self { directory, budget: None }
    }

    /// Most bytes of copies; without it, what is free.
    #[must_use]
    pub fn with_budget(mut self, budget: Option<u64>) -> Self {
        self.budget = budget;
        self
    }

    /// Copies files, each once, or finds whole copies that are there and verifies them; what nobody holds and these files do not
    /// need is removed first.
    ///
    /// # Errors
    /// There is too little room, the directory cannot be written or belongs to somebody else, a file cannot be read or changes:
    /// the caller then reads the files themselves. The work is cancelled.
    pub fn stage(&self, files: &[SourceFile], progress: &dyn Progress) -> Result<StagedFiles, StageError> {
        self.make()?;
        let names: Vec<String> = files.iter().map(identity).collect();
        self.reclaim(&names)?;
        let mut staged = StagedFiles { files: Vec::new(), held: Vec::new(), copied: 0, reused: 0 };
        let absent = files.iter().zip(&names).filter(|(_, name)| self.copies_of(name).is_empty());
        let needed = absent.fold(0, |sum: u64, (file, _)| sum.saturating_add(space::blocks(file.size())));
        space::fits(needed, &self.directory, self.budget)?;
        progress.begin("staging", Some(files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size()))));
        for (file, name) in files.iter().zip(&names) {
            let (path, held) = loop {
                progress.check()?;
                if let Some(found) = self.find(name, file.size(), progress)? {
                    staged.reused += 1;
                    break found;
                }
                match self.copy(file, name, progress) {
                    Ok(made) => {
                        staged.copied = staged.copied.saturating_add(file.size());
                        break made;
                    }
                    // Another process makes the same copy now.
                    Err(StageError::Output(OutputError::Busy { .. })) => std::thread::sleep(PATIENCE),
                    Err(error) => return Err(error),
                }
            };
            let opened = SourceFile::open_path(&path, path.display().to_string().into());
            staged.held.push((path, held));
            staged.files.push(opened?);
        }
        Ok(staged)
    }

    /// Makes the directory for this user alone, and refuses one of somebody else.
    fn make(&self) -> Result<(), StageError> {
        let failed = || OutputError::io("make the directory", &self.directory);
        match failpoint::hit("shared/make").and_then(|()| make_private(&self.directory)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed()(error).into()),
            _ => {}
        }
        let metadata = fs::symlink_metadata(&self.directory).map_err(failed())?;
        if metadata.is_dir() && is_private(&metadata) {
            return Ok(());
        }
        let path = self.directory.display().to_string();
        Err(StageError::Unstageable { path, reason: "is not a directory of this user alone" })
    }

    /// Removes what nobody holds, the wanted files excepted.
    fn reclaim(&self, wanted: &[String]) -> Result<(), StageError> {
        let failed = || OutputError::io("read", &self.directory);
        for entry in fs::read_dir(&self.directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(unfinished) = name.strip_prefix('.') {
                // Claiming the place clears a killed run's piece away; where it is busy, somebody writes it.
                let place = unfinished.strip_suffix(".partial").or_else(|| unfinished.strip_suffix(".lock"));
                if let Some(place) = place {
                    drop(OutputFile::create(&self.directory.join(place)));
                }
            } else if !wanted.iter().any(|wanted| name.starts_with(wanted.as_str())) {
                remove_if_free(&entry.path(), None);
            }
        }
        Ok(())
    }

    /// Whole copies of a file, by their names.
    fn copies_of(&self, name: &str) -> Vec<(PathBuf, String)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut found: Vec<(PathBuf, String)> = entries
            .filter_map(|entry| {
                let file = entry.file_name().into_string().ok()?;
                let digest = file.strip_prefix(name)?.strip_prefix('-')?.to_owned();
                Some((entry.path(), digest))
            })
            .collect();
        found.sort();
        found
    }

    /// Holds a copy that is there and whole; one that is damaged is removed.
    fn find(&self, name: &str, size: u64, progress: &dyn Progress) -> Result<Option<(PathBuf, File)>, StageError> {
        for (path, digest) in self.copies_of(name) {
            let Ok(held) = File::open(&path) else { continue };
            // Who removes it has it locked for himself.
            if held.try_lock_shared().is_err() || !is_at(&held, &path) {
                continue;
            }
            let copy = SourceFile::open_path(&path, path.display().to_string().into())?;
            let digests = copy::pieces(&copy, progress, &mut |_| Ok(()))?;
            if copy.size() == size && format!("{:016x}", digests.xxh3) == digest {
                return Ok(Some((path, held)));
            }
            remove_if_free(&path, Some(held));
        }
        Ok(None)
    }

    fn copy(&self, file: &SourceFile, name: &str, progress: &dyn Progress) -> Result<(PathBuf, File), StageError> {
        let output = OutputFile::create(&self.directory.join(name))?;
        // Somebody may have finished it while we waited for the place.
        if let Some(found) = self.find(name, file.size(), progress)? {
            return Ok(found);
        }
        let failed = || OutputError::io("write", &self.directory);
        output.allocate(file.size())?;
        let mut out = output.file();
        let mut take = |piece: &[u8]| {
            let written = failpoint::hit("shared/write").and_then(|()| out.write_all(piece));
            written.map_err(|error| OutputError::io("write", &self.directory)(error).into())
        };
        let digests = copy::pieces(file, progress, &mut take)?;
        let held = output.file().try_clone().map_err(failed())?;
        // Before it has its name: nobody may find it free.
        let _ = held.try_lock_shared();
        let path = self.directory.join(format!("{name}-{:016x}", digests.xxh3));
        output.publish_as(&path)?;
        Ok((path, held))
    }
}

impl StagedFiles {
    /// The copies, in the order of the files that were staged.
    #[must_use]
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Bytes that were copied now.
    #[must_use]
    pub const fn copied(&self) -> u64 {
        self.copied
    }

    /// How many copies were there already.
    #[must_use]
    pub const fn reused(&self) -> usize {
        self.reused
    }
}

impl Drop for StagedFiles {
    fn drop(&mut self) {
        for (path, held) in self.held.drain(..) {
            remove_if_free(&path, Some(held));
        }
    }
}

/// Removes a copy when no process holds it; ours is let go.
fn remove_if_free(path: &Path, held: Option<File>) {
    let file = match held {
        Some(file) => file,
        None => match File::open(path) {
            Ok(file) => file,
            Err(_) => return,
        },
    };
    if file.try_lock().is_ok() && is_at(&file, path) {
        // What cannot be removed is found by the next process.
        let _ = fs::remove_file(path);
    }
}

/// A digest of what a file is, as far as the file system tells.
fn identity(file: &SourceFile) -> String {
    let stamp = file.stamp();
    let place = fs::canonicalize(file.location()).unwrap_or_else(|_| file.location().to_owned());
    let text = format!("{}\n{} {} {:?}", place.display(), stamp.size, stamp.modified, stamp.inode);
    let mut name = blake3::hash(text.as_bytes()).to_hex().to_string();
    name.truncate(32);
    name
}

#[cfg(unix)]
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(unix)]
fn is_private(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
}

#[cfg(not(unix))]
fn make_private(path: &Path) -> std::io::Result<()> {
    fs::create_dir(path)
}

#[cfg(not(unix))]
fn is_private(_: &fs::Metadata) -> bool {
    true
}
