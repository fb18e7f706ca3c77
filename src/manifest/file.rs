//! The file of a manifest.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::record::VERSION;
use super::{MANIFEST_FORMAT, Manifest, TensorDigests};
use crate::finding::{Finding, code};
use crate::inventory::quoted;
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
        let malformed = |message: String| malformed(&shown, message, None);
        if file.size() > MAX_MANIFEST {
            let message = format!("the manifest has {} bytes; at most {MAX_MANIFEST} are read", file.size());
            return Err(malformed(message));
        }
        let mut text = String::new();
        let read = file.file().take(MAX_MANIFEST).read_to_string(&mut text);
        read.map_err(|error| malformed(format!("the manifest cannot be read: {error}")))?;
        Self::parse(&text, &shown).map(Some)
    }

    /// Reads the text of a manifest; `name` is what findings call it.
    ///
    /// # Errors
    /// A finding that says why it cannot be used: it is no manifest, or contradicts itself.
    ///
    /// ```
    /// use flow_fabric::manifest::Manifest;
    /// let text = r#"{"format": "flow-fabric-manifest", "format_version": 2, "chunk_bytes": 4194304, "files": []}"#;
    /// let finding = Manifest::parse(text, "flow-fabric.manifest.json").unwrap_err();
    /// assert_eq!(finding.message, "this is `flow-fabric-manifest` version 2");
    /// ```
    pub fn parse(text: &str, name: &str) -> Result<Self, Box<Finding>> {
        let manifest: Self = serde_json::from_str(text).map_err(|error| {
            let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
            let offset = lines.map(str::len).sum::<usize>().saturating_add(error.column().saturating_sub(1));
            let offset = offset.min(text.len()) as u64;
            malformed(name, format!("the manifest cannot be read: {error}"), Some(offset))
        })?;
        match manifest.objection() {
            Some(message) => Err(malformed(name, message, None)),
            None => Ok(manifest),
        }
    }

    /// What a manifest of that shape may not say.
    fn objection(&self) -> Option<String> {
        if self.format != MANIFEST_FORMAT || self.format_version != VERSION {
            return Some(format!("this is {} version {}", quoted(&self.format), self.format_version));
        }
        if self.chunk_bytes == 0 {
            return Some("chunks of no bytes".to_owned());
        }
        let mut names = BTreeSet::new();
        self.files.iter().find_map(|file| {
            if !names.insert(&file.name) {
                return Some(format!("file {} stands twice", quoted(&file.name)));
            }
            file.tensors.iter().find_map(|(name, tensor)| {
                tensor.objection(file.bytes, self.chunk_bytes).map(|what| format!("tensor {} {what}", quoted(name)))
            })
        })
    }
}

impl TensorDigests {
    /// What is wrong with a tensor of a file of so many bytes.
    fn objection(&self, file: u64, chunk_bytes: u64) -> Option<String> {
        let elements = self.shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
        if elements.and_then(|elements| self.dtype.bytes_for(elements)) != Some(self.bytes) {
            return Some(format!("does not take {} bytes by dtype and shape", self.bytes));
        }
        if self.offset.checked_add(self.bytes).is_none_or(|end| end > file) {
            return Some("lies beyond its file".to_owned());
        }
        let expected = self.chunk_count(chunk_bytes);
        let held = self.chunks.0.len() as u64;
        // One chunk is the tensor itself.
        (held != expected && !(expected <= 1 && held == 0)).then(|| format!("has {held} chunks of {expected}"))
    }
}

fn malformed(name: &str, message: String, offset: Option<u64>) -> Box<Finding> {
    let finding = Finding::new(&code::MALFORMED_MANIFEST, message).in_file(name, offset, "");
    Box::new(finding.help("`flow-fabric manifest` writes it anew"))
}
