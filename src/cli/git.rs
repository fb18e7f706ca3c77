//! Files as they were: `REVISION:path`, read through git.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// A revision and a file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revision {
    revision: String,
    /// From the root of the repository.
    path: PathBuf,
}

impl Revision {
    /// Reads `main:policies/x.toml`, as `git show` takes it: from the root of the repository, or with `./` from here.
    /// `None` when the text is of another form.
    pub(super) fn parse(text: &str) -> Option<io::Result<Self>> {
        let (revision, path) =
            text.split_once(':').filter(|(revision, path)| !revision.is_empty() && !path.is_empty())?;
        // Git would take it for an option.
        if revision.starts_with('-') {
            return None;
        }
        let from_here = path.starts_with("./") || path.starts_with("../");
        let prefix = if from_here { git(&["rev-parse", "--show-prefix"]) } else { Ok(String::new()) };
        Some(prefix.map(|prefix| Self {
            revision: revision.to_owned(),
            path: tidy(&Path::new(prefix.trim_end_matches(['\n', '\r'])).join(path)),
        }))
    }

    /// The path by which policies are loaded: what they extend keeps the revision before it.
    pub(super) fn name(&self) -> PathBuf {
        self.named(&self.path)
    }

    /// Reads a file of the revision by the name that [`Revision::name`] gives, or one relative to it.
    pub(super) fn read(&self, name: &Path) -> io::Result<String> {
        let prefix = format!("{}:", self.revision);
        let text = name.to_string_lossy();
        // What a file in the root extends has no folder to keep the revision in.
        let path = text.strip_prefix(&prefix).unwrap_or(&text);
        git(&["cat-file", "blob", &self.named(Path::new(path)).to_string_lossy()])
    }

    fn named(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("{}:{}", self.revision, path.to_string_lossy().replace('\\', "/")))
    }
}

/// Runs git here; what it says when it fails is the error.
fn git(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("git")
        .args(arguments)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run git: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("git failed").trim_start_matches("fatal: ");
        return Err(io::Error::other(said.to_owned()));
    }
    String::from_utf8(output.stdout).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

/// Drops `.`, and `..` with the folder before it.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_named_before_the_path() {
        let name =
            |text: &str| Revision::parse(text).map(|parsed| parsed.unwrap().name().to_string_lossy().into_owned());
        assert_eq!(name("origin/main:policies/x.toml").as_deref(), Some("origin/main:policies/x.toml"));
        assert_eq!(name("HEAD~2:a/./b.toml").as_deref(), Some("HEAD~2:a/b.toml"));
        assert_eq!(name("x.toml"), None);
        assert_eq!(name(":x.toml"), None);
        assert_eq!(name("main:"), None);
        assert_eq!(name("--output=x:y"), None);
    }
}
