//! Opening a checkpoint: what a path is decides which reader is asked.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::MAX_CONFIG;
use super::file::OpenFile;
use super::index::{self, MAX_INDEX};
use super::shards::{self, ReadHeader, Shards};
use super::trouble::{Report, Trouble};
use super::{Checkpoint, Container, ModelConfig, directory, gguf, grok, list, npz, safetensors, torch};
use crate::finding::{Finding, code};

/// A path that cannot be opened as a checkpoint at all. What is wrong *inside* a checkpoint is findings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing is there.
    #[error("`{path}` does not exist")]
    Absent {
        /// The path given.
        path: String,
    },
    /// The system refused.
    #[error("cannot read `{path}`: {source}")]
    Io {
        /// The path given, or the file below it.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is something else.
    #[error("`{path}` is not a checkpoint: {reason}")]
    NotACheckpoint {
        /// The path given.
        path: String,
        /// What is there instead.
        reason: String,
    },
    /// A directory holds several checkpoints.
    #[error("`{path}` holds several checkpoints; name one of {}", candidates.join(", "))]
    Ambiguous {
        /// The path given.
        path: String,
        /// File names to choose from, sorted.
        candidates: Vec<String>,
    },
}

impl Checkpoint {
    /// Reads what a checkpoint holds, from headers alone: a safetensors file, a `*.safetensors.index.json`, a GGUF file
    /// (any part of a split one), a directory of these, a file that torch or numpy wrote, Grok-1's `ckpt-0`, or a JSONL
    /// list (also compressed by gzip).
    ///
    /// A file that is refused gives findings and no tensors; the other files are still read.
    ///
    /// # Errors
    ///
    /// When the path is absent, unreadable or no checkpoint.
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use flow_fabric::inventory::Checkpoint;
    /// let (checkpoint, findings) = Checkpoint::open(Path::new("Meta-Llama-3-8B"))?;
    /// println!("{} tensors, {} findings", checkpoint.tensors.len(), findings.len());
    /// # Ok::<(), flow_fabric::inventory::OpenError>(())
    /// ```
    pub fn open(path: &Path) -> Result<(Self, Vec<Finding>), OpenError> {
        let shown = path.display().to_string();
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => OpenError::Absent { path: shown.clone() },
            _ => OpenError::Io { path: shown.clone(), source },
        })?;
        if metadata.is_dir() {
            return directory::open(path);
        }
        if !metadata.is_file() {
            let reason = "neither a file nor a directory; a list may be piped to `-`".to_owned();
            return Err(OpenError::NotACheckpoint { path: shown, reason });
        }
        match kind_of(path)? {
            Kind::Safetensors => {
                Ok(open_files(shown, Container::Safetensors, &beside(path, "config.json"), [path.to_owned()]))
            }
            Kind::Index => Ok(open_index(path)),
            Kind::Gguf => Ok(gguf::open(path)),
            Kind::Torch => Ok(open_files(shown, Container::Torch, &beside(path, "config.json"), [path.to_owned()])),
            Kind::Npz => Ok(open_files(shown, Container::Npz, &beside(path, "config.json"), [path.to_owned()])),
            Kind::Pickle => Ok(open_files(shown, Container::Pickle, &beside(path, "config.json"), [path.to_owned()])),
            Kind::List => {
                list::read(open_plainly(path)?, &shown).map_err(|source| OpenError::Io { path: shown.clone(), source })
            }
        }
    }

    /// Reads a JSONL list from any reader, compressed by gzip or not. `name` is what findings call it.
    ///
    /// # Errors
    ///
    /// When the reader fails. A bad line is a finding.
    ///
    /// ```
    /// use flow_fabric::inventory::Checkpoint;
    /// let list = "{\"name\":\"w\",\"dtype\":\"BF16\",\"shape\":[4,2]}\n{\"name\":\"b\"}\n";
    /// let (checkpoint, findings) = Checkpoint::from_list(list.as_bytes(), "-")?;
    /// assert_eq!(checkpoint.tensors[0].bytes.length, 16);
    /// assert_eq!(findings[0].message, "line 2: no `dtype`");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_list(reader: impl Read, name: &str) -> io::Result<(Self, Vec<Finding>)> {
        list::read(reader, name)
    }

    /// Reads one file of a format, of `length` bytes, from any reader. `name` is what findings call it.
    ///
    /// A list is read by [`Checkpoint::from_list`]; for [`Container::List`] this gives nothing.
    pub fn from_reader(
        reader: &mut (impl Read + Seek),
        length: u64,
        name: &str,
        container: Container,
    ) -> (Self, Vec<Finding>) {
        match container {
            Container::Safetensors => shards::of_reader(reader, length, name, container, safetensors::read),
            Container::Gguf => shards::of_reader(reader, length, name, container, gguf::read),
            Container::Torch => shards::of_reader(reader, length, name, container, torch::read),
            Container::Npz => shards::of_reader(reader, length, name, container, npz::read),
            Container::Pickle => shards::of_reader(reader, length, name, container, grok::read),
            Container::List => (Self::empty(name, container), Vec::new()),
        }
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Safetensors,
    Index,
    List,
    Gguf,
    Torch,
    Npz,
    Pickle,
}

/// Decides by the name and, where that says nothing (the Hugging Face cache names files by digest), by the first bytes.
fn kind_of(path: &Path) -> Result<Kind, OpenError> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    if name.ends_with(".safetensors") {
        return Ok(Kind::Safetensors);
    }
    if name.ends_with(".gguf") {
        return Ok(Kind::Gguf);
    }
    if name.ends_with(".npz") {
        return Ok(Kind::Npz);
    }
    if [".pt", ".pth", ".bin"].iter().any(|extension| name.ends_with(extension)) {
        return Ok(Kind::Torch);
    }
    if grok::number(&name).is_some() {
        return Ok(Kind::Pickle);
    }
    if name.ends_with(".index.json") {
        return Ok(Kind::Index);
    }
    if [".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"].iter().any(|extension| name.ends_with(extension)) {
        return Ok(Kind::List);
    }
    let shown = path.display().to_string();
    let mut head = Vec::new();
    open_plainly(path)?
        .take(16)
        .read_to_end(&mut head)
        .map_err(|source| OpenError::Io { path: shown.clone(), source })?;
    match head.as_slice() {
        [b'G', b'G', b'U', b'F', ..] => Ok(Kind::Gguf),
        [b'P', b'K', 3, 4, ..] | [0x80, 2, 0x8a, 10, ..] => Ok(Kind::Torch),
        [0x1f, 0x8b, ..] | [b'{', ..] => Ok(Kind::List),
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Ok(Kind::Safetensors),
        _ => {
            let reason = "neither its name nor its first bytes are those of a checkpoint".to_owned();
            Err(OpenError::NotACheckpoint { path: shown, reason })
        }
    }
}

/// Opens a regular file for which there is no checkpoint yet that could hold findings.
fn open_plainly(path: &Path) -> Result<fs::File, OpenError> {
    let open = OpenFile::open(path);
    open.map(|open| open.file)
        .map_err(|trouble| OpenError::NotACheckpoint { path: path.display().to_string(), reason: trouble.message })
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(name)
}

/// Opens files of one format that make up one checkpoint.
pub(super) fn open_files(
    name: String,
    container: Container,
    config: &Path,
    files: impl IntoIterator<Item = PathBuf>,
) -> (Checkpoint, Vec<Finding>) {
    let mut shards = Shards::new(name, container, reader(container));
    shards.read_config(config);
    for file in files {
        shards.add(&file);
    }
    shards.finish()
}

/// The reader of a format's headers.
fn reader(container: Container) -> ReadHeader<fs::File> {
    match container {
        Container::Safetensors => safetensors::read,
        Container::Gguf => gguf::read,
        Container::Torch => torch::read,
        Container::Npz => npz::read,
        Container::Pickle => grok::read,
        // A list is no file with a header.
        Container::List => |_, _, _, _| None,
    }
}

/// Opens a `*.safetensors.index.json` or `*.bin.index.json` and the shards beside it.
pub(super) fn open_index(path: &Path) -> (Checkpoint, Vec<Finding>) {
    let shown: Arc<str> = path.display().to_string().into();
    let torch = path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b".bin.index.json"));
    let container = if torch { Container::Torch } else { Container::Safetensors };
    let mut shards = Shards::new(shown.clone(), container, reader(container));
    shards.read_config(&beside(path, "config.json"));
    let mut report = Report::new(&shown);
    let index = match read_text(path, MAX_INDEX, &code::MALFORMED_INDEX) {
        Ok(text) => index::parse(&text, &mut report),
        Err(trouble) => {
            report.push(trouble);
            None
        }
    };
    if let Some(index) = index {
        shards.add_indexed(path.parent().unwrap_or(Path::new("")), &index, &mut report);
    }
    report.finish(&mut shards.findings);
    shards.finish()
}

impl Shards {
    /// Reads the model's config, if there is one; a broken one is a finding and counts as absent.
    fn read_config(&mut self, path: &Path) {
        if !path.exists() {
            return;
        }
        let parsed = read_text(path, MAX_CONFIG, &code::MALFORMED_CONFIG).and_then(|text| {
            ModelConfig::parse(&text).map_err(|error| {
                let message = format!("the config cannot be read: {error}");
                Trouble::anywhere(&code::MALFORMED_CONFIG, message)
            })
        });
        match parsed {
            Ok(config) => self.checkpoint.config = Some(config),
            Err(trouble) => {
                let mut report = Report::new(&path.display().to_string().into());
                report.push(trouble);
                report.finish(&mut self.findings);
            }
        }
    }
}

/// Reads a small text file; `code` is the kind of finding when it is too large or not UTF-8.
fn read_text(path: &Path, limit: u64, code: &'static crate::finding::Code) -> Result<String, Trouble> {
    let mut open = OpenFile::open(path)?;
    if open.stamp.size > limit {
        let message = format!("the file has {} bytes; at most {limit} are read", open.stamp.size);
        return Err(Trouble::anywhere(code, message));
    }
    let unreadable = |error: io::Error| Trouble::anywhere(&code::UNREADABLE_FILE, format!("cannot read: {error}"));
    let mut bytes = Vec::new();
    open.file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    (&mut open.file).take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes)
        .map_err(|error| Trouble::new(code, error.utf8_error().valid_up_to() as u64, "the file is not UTF-8"))
}
