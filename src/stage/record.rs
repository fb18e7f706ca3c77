//! What a staged copy holds, in a file in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StageError;
use super::tree::stays_inside;
use crate::finding::{Finding, code};
use crate::inventory::quoted;
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
    #[serde(deserialize_with = "crate::manifest::unique")]
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
        read.map_err(|error| StageError::Record(malformed(&shown, unreadable(&error))))?;
        Self::parse(&text, &shown).map(Some).map_err(StageError::Record)
    }

    /// Reads the text of a record; `name` is what findings call it. A record may have been written by anybody: nothing that it
    /// names leads out of the copy.
    ///
    /// # Errors
    /// A finding that says why it cannot be used.
    ///
    /// ```
    /// use flow_fabric::stage::StageRecord;
    /// let text = r#"{"format": "flow-fabric-stage", "format_version": 1, "single": null, "files": [],
    ///     "directories": ["../elsewhere"], "links": {}}"#;
    /// let finding = StageRecord::parse(text, "flow-fabric.stage.json").unwrap_err();
    /// assert_eq!(finding.message, "the path `../elsewhere` leaves the copy");
    /// ```
    pub fn parse(text: &str, name: &str) -> Result<Self, Box<Finding>> {
        let record: Self = serde_json::from_str(text).map_err(|error| malformed(name, unreadable(&error)))?;
        match record.objection() {
            Some(what) => Err(malformed(name, what)),
            None => Ok(record),
        }
    }

    /// What a record of that shape may not say.
    fn objection(&self) -> Option<String> {
        if self.format != STAGE_FORMAT || self.format_version != VERSION {
            return Some(format!("this is {} version {}", quoted(&self.format), self.format_version));
        }
        let files = self.files.iter().map(|file| &file.path);
        let named = files.chain(&self.directories).chain(self.links.keys());
        if let Some(path) = named.clone().chain(&self.single).find(|path| !is_plain(path)) {
            return Some(format!("the path {} leaves the copy", quoted(path)));
        }
        let mut paths = BTreeSet::new();
        let directories: BTreeSet<&str> = self.directories.iter().map(String::as_str).collect();
        for path in named {
            if !paths.insert(path) {
                return Some(format!("the path {} stands twice", quoted(path)));
            }
            // Otherwise it would lead through a file or a link.
            if path.rsplit_once('/').is_some_and(|(above, _)| !directories.contains(above)) {
                return Some(format!("the path {} lies in no directory of the copy", quoted(path)));
            }
        }
        let leaves = |(path, told): &(&String, &String)| {
            !stays_inside(path.rsplit_once('/').map_or("", |(above, _)| above), Path::new(told))
        };
        if let Some((path, told)) = self.links.iter().find(leaves) {
            return Some(format!("the link {} leads to {}, out of the copy", quoted(path), quoted(told)));
        }
        match (&self.single, self.files.as_slice()) {
            (Some(single), [file]) if *single == file.path && self.directories.is_empty() && self.links.is_empty() => {
                None
            }
            (Some(single), _) => Some(format!("the copy is of the file {} and holds other things", quoted(single))),
            (None, _) => None,
        }
    }

    pub(super) fn write(&self, copy: &Path) -> Result<(), OutputError> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|error| OutputError::Unwritable { reason: error.to_string() })?;
        replace_file(&copy.join(STAGE_FILE), (text + "\n").as_bytes())
    }
}

fn unreadable(error: &dyn std::error::Error) -> String {
    format!("the record of the copy cannot be read: {error}")
}

fn malformed(name: &str, what: String) -> Box<Finding> {
    let finding = Finding::new(&code::MALFORMED_MANIFEST, what).in_file(name, None, "");
    Box::new(finding.help("remove the copy and stage it again"))
}

/// Whether a path is relative and goes down only.
fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\0', '\\'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}
