//! What a staged copy holds, in a file in it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StageError;
use crate::finding::{Finding, code};
use crate::manifest::Digests;
use crate::output::{OutputError, replace_file};
use crate::storage::{ReadError, SourceFile};

/// The document's name.
pub const STAGE_FORMAT: &str = "flow-fabric-stage";
/// The name of the record in a staged copy.
pub const STAGE_FILE: &str = "flow-fabric.stage.json";
const VERSION: u32 = 1;
const MAX_RECORD: u64 = 1 << 28;

/// A staged copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// `flow-fabric-stage`.
    pub format: String,
    /// 1.
    pub format_version: u32,
    /// The name of the file, when a single file was staged.
    pub single: Option<String>,
    /// The files, sorted by path.
    pub files: Vec<StagedFile>,
    /// The directories, sorted.
    pub directories: Vec<String>,
    /// Links inside the tree, with what they say.
    pub links: BTreeMap<String, String>,
}

/// A file of a staged copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StagedFile {
    /// Path in the tree, `/` between its parts.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Last modification of its source, in nanoseconds since 1970; the copy has the same.
    pub modified: i64,
    /// Permission bits.
    pub mode: u32,
    /// Digests of its bytes.
    pub digests: Digests,
}

impl StageRecord {
    pub(super) fn new(
        single: Option<String>,
        files: Vec<StagedFile>,
        directories: Vec<String>,
        links: BTreeMap<String, String>,
    ) -> Self {
        Self { format: STAGE_FORMAT.to_owned(), format_version: VERSION, single, files, directories, links }
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.bytes))
    }

    /// Reads the record of a copy; `None` when there is none.
    ///
    /// # Errors
    /// It is there and cannot be used.
    pub fn read(copy: &Path) -> Result<Option<Self>, StageError> {
        let path = copy.join(STAGE_FILE);
        let shown = path.display().to_string();
        let malformed = |what: String| {
            let finding = Finding::new(&code::MALFORMED_MANIFEST, what).in_file(shown.as_str(), None, "");
            StageError::Record(Box::new(finding.help("remove the copy and stage it again")))
        };
        let file = match SourceFile::open_path(&path, shown.as_str().into()) {
            Ok(file) => file,
            Err(ReadError::Io { source, .. })
                if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        let read = file.file().take(MAX_RECORD).read_to_string(&mut text);
        read.map_err(|error| malformed(format!("the record of the copy cannot be read: {error}")))?;
        let record: Self = serde_json::from_str(&text)
            .map_err(|error| malformed(format!("the record of the copy cannot be read: {error}")))?;
        if record.format != STAGE_FORMAT || record.format_version != VERSION {
            return Err(malformed(format!("this is `{}` version {}", record.format, record.format_version)));
        }
        let files = record.files.iter().map(|file| &file.path);
        let named = files.chain(&record.directories).chain(record.links.keys()).chain(&record.single);
        // A record may have been written by anybody; it must not lead out of the copy.
        if let Some(path) = named.clone().find(|path| !is_plain(path)) {
            return Err(malformed(format!("the path {} leaves the copy", crate::inventory::quoted(path))));
        }
        if let Some(link) = record.links.keys().find(|link| {
            let below = format!("{link}/");
            record.files.iter().map(|file| &file.path).chain(&record.directories).any(|path| path.starts_with(&below))
        }) {
            return Err(malformed(format!("a path leads through the link {}", crate::inventory::quoted(link))));
        }
        Ok(Some(record))
    }

    pub(super) fn write(&self, copy: &Path) -> Result<(), OutputError> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|error| OutputError::Unwritable { reason: error.to_string() })?;
        replace_file(&copy.join(STAGE_FILE), (text + "\n").as_bytes())
    }
}

/// Whether a path is relative and goes down only.
fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\0', '\\'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}
