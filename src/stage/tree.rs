//! What a tree of files holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{StageError, StageRecord};
use crate::output::OutputError;
use crate::storage::stamp;

/// Deepest directory; links to directories could otherwise lead in circles.
const MAX_DEPTH: usize = 64;
const MAX_FILES: usize = 1_000_000;

/// A file or a directory tree. Paths are relative, with `/` between their parts.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Where the files are.
    pub(super) root: PathBuf,
    /// The file's name, when the tree is a single file.
    pub(super) single: Option<String>,
    pub(super) files: Vec<TreeFile>,
    pub(super) directories: Vec<String>,
    /// Links that stay inside the tree, with what they say.
    pub(super) links: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeFile {
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i64,
    /// Permission bits.
    pub(super) mode: u32,
}

impl Tree {
    /// Lists a file or a directory, sorted by path.
    pub(super) fn list(source: &Path) -> Result<Self, StageError> {
        let metadata = fs::metadata(source).map_err(OutputError::io("read", source))?;
        let mut tree = Self { root: source.to_owned(), ..Self::default() };
        if metadata.is_dir() {
            tree.walk(source, "", 0, false)?;
        } else {
            let name = source.file_name().and_then(|name| name.to_str()).ok_or_else(|| unnamed(source))?;
            tree.root = source.parent().unwrap_or(Path::new("")).to_owned();
            tree.single = Some(name.to_owned());
            tree.file(source, name.to_owned(), &metadata)?;
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.directories.sort_unstable();
        Ok(tree)
    }

    /// The tree of a staged copy, as its record has it.
    pub(super) fn of_record(copy: &Path, record: &StageRecord) -> Self {
        let file = |file: &super::StagedFile| TreeFile {
            path: file.path.clone(),
            bytes: file.bytes,
            modified: file.modified,
            mode: file.mode,
        };
        Self {
            root: copy.to_owned(),
            single: record.single.clone(),
            files: record.files.iter().map(file).collect(),
            directories: record.directories.clone(),
            links: record.links.clone(),
        }
    }

    /// Whether a record is about these files, as far as names, sizes and times tell.
    pub(super) fn is_recorded(&self, record: &StageRecord) -> bool {
        let Self { files, directories, links, .. } = Self::of_record(&self.root, record);
        (&files, &directories, &links, &record.single) == (&self.files, &self.directories, &self.links, &self.single)
    }

    /// A digest of names, sizes and times.
    pub(super) fn identity(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(&self.root.display().to_string());
        for TreeFile { path, bytes, modified, mode } in &self.files {
            add(path);
            add(&format!("{bytes} {modified} {mode}"));
        }
        hasher.finalize().to_hex().to_string()
    }

    fn walk(&mut self, directory: &Path, below: &str, depth: usize, followed: bool) -> Result<(), StageError> {
        if depth > MAX_DEPTH {
            let path = directory.display().to_string();
            return Err(StageError::Unstageable {
                path,
                reason: "lies deeper than 64 directories, or links lead in a circle",
            });
        }
        let failed = || OutputError::io("read", directory);
        for entry in fs::read_dir(directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let path = entry.path();
            let name = entry.file_name().into_string().map_err(|_| unnamed(&path))?;
            // A copy of a copy has a record of its own.
            if below.is_empty() && name == super::STAGE_FILE {
                continue;
            }
            let relative = if below.is_empty() { name } else { format!("{below}/{name}") };
            let link = entry.file_type().map_err(failed())?.is_symlink();
            // In a directory that a link led to, links lead to where they would not lead in the copy.
            if link && !followed {
                let told = fs::read_link(&path).map_err(OutputError::io("read", &path))?;
                if let Some(told) = told.to_str().filter(|_| stays_inside(below, &told)) {
                    self.links.insert(relative, told.to_owned());
                    continue;
                }
            }
            let metadata = fs::metadata(&path).map_err(OutputError::io("read", &path))?;
            if metadata.is_dir() {
                self.directories.push(relative.clone());
                self.walk(&path, &relative, depth + 1, followed || link)?;
            } else {
                self.file(&path, relative, &metadata)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, relative: String, metadata: &fs::Metadata) -> Result<(), StageError> {
        if !metadata.is_file() {
            let path = path.display().to_string();
            return Err(StageError::Unstageable { path, reason: "is neither a file nor a directory" });
        }
        let modified = i64::try_from(stamp(metadata).modified).unwrap_or_default();
        if self.files.len() >= MAX_FILES {
            let path = path.display().to_string();
            return Err(StageError::Unstageable { path, reason: "is one file too many: a tree has at most a million" });
        }
        self.files.push(TreeFile { path: relative, bytes: metadata.len(), modified, mode: mode(metadata) });
        Ok(())
    }
}

fn unnamed(path: &Path) -> StageError {
    StageError::Unstageable { path: path.display().to_string(), reason: "has a name that is not Unicode" }
}

/// Whether what a link says leads to a place in the tree, from the directory `below` its root.
pub(super) fn stays_inside(below: &str, told: &Path) -> bool {
    let mut depth = below.split('/').filter(|part| !part.is_empty()).count();
    told.components().all(|component| match component {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => match depth.checked_sub(1) {
            Some(above) => {
                depth = above;
                true
            }
            None => false,
        },
        Component::RootDir | Component::Prefix(_) => false,
    })
}

#[cfg(unix)]
fn mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;

    metadata.permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn mode(_: &fs::Metadata) -> u32 {
    0o644
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_inside_a_tree_are_told_from_those_that_leave_it() {
        for (below, told, inside) in [
            ("", "a", true),
            ("", "a/../b", true),
            ("", "../a", false),
            ("", "/a", false),
            ("a/b", "../../c", true),
            ("a/b", "../../../c", false),
            ("a", "./b", true),
        ] {
            assert_eq!(stays_inside(below, Path::new(told)), inside, "{below} {told}");
        }
    }
}
