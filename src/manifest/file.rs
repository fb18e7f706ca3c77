//! The file of a manifest.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::record::VERSION;
use super::{MANIFEST_FORMAT, Manifest};
use crate::finding::{Finding, code};
use crate::output::{OutputError, replace_file};
use crate::storage::{ReadError, SourceFile};

/// The name of a manifest in the directory of its checkpoint.
pub const MANIFEST_FILE: &str = "flow-fabric.manifest.json";

/// Largest manifest, in bytes: half a million chunks take a tenth of it.
const MAX_MANIFEST: u64 = 1 << 30;

/// Where the manifest of a checkpoint lies: in its directory, or behind the name of its file. An index stands for its directory.
///
/// ```
/// use std::path::Path;
/// use flow_fabric::manifest::beside;
/// assert_eq!(beside(Path::new("a/m.safetensors")), Path::new("a/m.safetensors.manifest.json"));
/// assert_eq!(beside(Path::new("a/model.safetensors.index.json")), Path::new("a/flow-fabric.manifest.json"));
/// ```
#[must_use]
pub fn beside(checkpoint: &Path) -> PathBuf {
    let name = checkpoint.file_name().unwrap_or_default();
    if checkpoint.is_dir() {
        return checkpoint.join(MANIFEST_FILE);
    }
    if name.to_string_lossy().ends_with(".index.json") {
        return checkpoint.with_file_name(MANIFEST_FILE);
    }
    let mut beside = OsString::from(name);
    beside.push(".manifest.json");
    checkpoint.with_file_name(beside)
}

impl Manifest {
    /// The text of its file, ending with a newline.
    ///
    /// # Errors
    /// None that a manifest of this library has; what JSON cannot say.
    pub fn text(&self) -> Result<String, OutputError> {
        let text = serde_json::to_string(self);
        text.map(|text| text + "\n").map_err(|error| OutputError::Unwritable { reason: error.to_string() })
    }

    /// Writes the manifest, replacing an old one at once.
    ///
    /// # Errors
    /// As [`replace_file`].
    pub fn write(&self, path: &Path) -> Result<(), OutputError> {
        replace_file(path, self.text()?.as_bytes())
    }

    /// Reads a manifest; `None` when there is none.
    ///
    /// # Errors
    /// A finding that says why the file cannot be used.
    pub fn read(path: &Path) -> Result<Option<Self>, Box<Finding>> {
        let shown = path.display().to_string();
        let file = match SourceFile::open_path(path, shown.as_str().into()) {
            Ok(file) => file,
            Err(ReadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Box::new(error.finding())),
        };
        let malformed = |message: String, offset| {
            let finding = Finding::new(&code::MALFORMED_MANIFEST, message).in_file(shown.as_str(), offset, "");
            Box::new(finding.help("`flow-fabric manifest` writes it anew"))
        };
        if file.size() > MAX_MANIFEST {
            return Err(malformed(
                format!("the manifest has {} bytes; at most {MAX_MANIFEST} are read", file.size()),
                None,
            ));
        }
        let mut text = String::new();
        let read = file.file().take(MAX_MANIFEST).read_to_string(&mut text);
        read.map_err(|error| malformed(format!("the manifest cannot be read: {error}"), None))?;
        Self::parse(&text).map(Some).map_err(|(message, offset)| malformed(message, offset))
    }

    /// Reads the text of a manifest; what is wrong, and at which byte.
    pub(crate) fn parse(text: &str) -> Result<Self, (String, Option<u64>)> {
        let manifest: Self = serde_json::from_str(text).map_err(|error| {
            let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
            let offset = lines.map(str::len).sum::<usize>().saturating_add(error.column().saturating_sub(1));
            (format!("the manifest cannot be read: {error}"), Some(offset as u64))
        })?;
        if manifest.format != MANIFEST_FORMAT || manifest.format_version != VERSION {
            let message = format!("this is `{}` version {}", manifest.format, manifest.format_version);
            return Err((message, None));
        }
        if manifest.chunk_bytes == 0 {
            return Err(("chunks of no bytes".to_owned(), None));
        }
        for file in &manifest.files {
            for (name, tensor) in &file.tensors {
                let expected = tensor.chunk_count(manifest.chunk_bytes);
                let held = tensor.chunks.0.len() as u64;
                // One chunk is the tensor itself.
                if held != expected && !(expected <= 1 && held == 0) {
                    let name = crate::inventory::quoted(name);
                    return Err((format!("tensor {name} has {held} chunks of {expected}"), None));
                }
            }
        }
        Ok(manifest)
    }
}
