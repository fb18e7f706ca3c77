//! Snapshot files: the text of a plan below the header that insta gives its snapshots.
//!
//! Tests that use insta and teams that use only the command keep the same files: whoever writes one leaves the header as
//! it is, and compares what stands below it.

use crate::mesh::Mesh;

/// A snapshot file, cut into the header and the text below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFile<'a> {
    /// The lines between the two `---`, with line endings; `None` when the file does not start with a header.
    pub header: Option<&'a str>,
    /// What stands below.
    pub body: &'a str,
}

impl<'a> SnapshotFile<'a> {
    /// Cuts the text of a file.
    ///
    /// ```
    /// use flow_fabric::plan::snapshot::SnapshotFile;
    /// let file = SnapshotFile::parse("---\nsource: tests/plans.rs\n---\nnorm  1 x f32 [8]\n");
    /// assert_eq!((file.header, file.body), (Some("source: tests/plans.rs\n"), "norm  1 x f32 [8]\n"));
    /// ```
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let line_end = |text: &'a str| text.strip_prefix('\n').or_else(|| text.strip_prefix("\r\n"));
        let opened = text.strip_prefix("---").and_then(line_end);
        let cut = opened.and_then(|rest| {
            let mut at = 0;
            for line in rest.split_inclusive('\n') {
                if line.trim_end() == "---" {
                    return Some((rest.get(..at)?, rest.get(at + line.len()..)?));
                }
                at += line.len();
            }
            None
        });
        match cut {
            Some((header, body)) => Self { header: Some(header), body },
            None => Self { header: None, body: text },
        }
    }

    /// Whether the text below the header is this one, but for line endings and blank lines at the end.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let lines = |text: &'a str| text.trim_end().lines();
        lines(self.body).eq(text.trim_end().lines())
    }

    /// The file with another text below its header; without a header it gets a new one.
    #[must_use]
    pub fn with(&self, text: &str, description: &str) -> String {
        match self.header {
            Some(header) => format!("---\n{}---\n{}\n", header.replace("\r\n", "\n"), text.trim_end()),
            None => new(text, description),
        }
    }
}

/// A new file, as insta would read it.
#[must_use]
pub fn new(text: &str, description: &str) -> String {
    // A string of JSON is one of YAML.
    let description = serde_json::Value::from(description);
    format!("---\ndescription: {description}\n---\n{}\n", text.trim_end())
}

/// The file's name: `grok-1@grok-1.snap`, with the mesh where it is not the policy's own.
///
/// Only `a-z`, `0-9`, `.`, `_`, `-` and the `@` between the two names stand in it, so that every file system can hold it.
///
/// ```
/// use flow_fabric::{Mesh, plan::snapshot::file_name};
/// assert_eq!(file_name("grok-1", "checkpoints/Grok 1.jsonl.gz", None), "grok-1@grok-1.snap");
/// assert_eq!(file_name("llama", "Meta-Llama-3-8B/model.safetensors.index.json", None), "llama@meta-llama-3-8b.snap");
/// let mesh = Mesh::new([("data", 1), ("model", 16)]).unwrap();
/// assert_eq!(file_name("grok-1", "grok-1.jsonl", Some(&mesh)), "grok-1@grok-1.data-1.model-16.snap");
/// ```
#[must_use]
pub fn file_name(policy: &str, checkpoint: &str, mesh: Option<&Mesh>) -> String {
    let mut name = format!("{}@{}", plain(policy), plain(stem(checkpoint)));
    for (axis, size) in mesh.map(Mesh::axes).unwrap_or_default() {
        name.push_str(&format!(".{}-{size}", plain(axis)));
    }
    name + ".snap"
}

/// Endings that say how a checkpoint is kept, longest first.
const ENDINGS: &[&str] =
    &[".safetensors.index.json", ".safetensors", ".jsonl.gz", ".jsonl", ".gguf", ".npz", ".index.json", ".json"];

/// Name of a checkpoint without folders and endings; files that have the name of all such files go by their folder.
fn stem(checkpoint: &str) -> &str {
    let path = checkpoint.trim_end_matches(['/', '\\']);
    let (folder, file) = path.rsplit_once(['/', '\\']).unwrap_or(("", path));
    let stem = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
    let folder = folder.rsplit(['/', '\\']).next().unwrap_or_default();
    if stem == "model" && !folder.is_empty() { folder } else { stem }
}

fn plain(name: &str) -> String {
    let keep = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let plain: String = name.chars().map(|c| c.to_ascii_lowercase()).map(|c| if keep(c) { c } else { '-' }).collect();
    // A name of dots is a folder, and the checkpoint of standard input is called `-`.
    match plain.trim_matches(['.', '-']) {
        "" => "unnamed".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_insta_writes() {
        let cases = [
            ("---\na: 1\n---\nbody\n", Some("a: 1\n"), "body\n"),
            ("---\r\na: 1\r\n---\r\nbody\r\n", Some("a: 1\r\n"), "body\r\n"),
            ("---\n---\n", Some(""), ""),
            ("---\na: 1\n---", Some("a: 1\n"), ""),
            ("---\nnever closed\n", None, "---\nnever closed\n"),
            ("body\n---\n", None, "body\n---\n"),
            ("", None, ""),
        ];
        for (text, header, body) in cases {
            assert_eq!(SnapshotFile::parse(text), SnapshotFile { header, body }, "{text:?}");
        }
    }

    #[test]
    fn the_header_stays_and_the_rest_is_compared() {
        let file = SnapshotFile::parse("---\r\nsource: x\r\n---\r\na\r\nb\r\n");
        assert!(file.is("a\nb\n") && file.is("a\nb") && !file.is("a\nb\nc") && !file.is("a\n b"));
        assert_eq!(file.with("c\n\n", "unused"), "---\nsource: x\n---\nc\n");
        let none = SnapshotFile::parse("a\n");
        assert_eq!(none.with("c", "x \"y\""), "---\ndescription: \"x \\\"y\\\"\"\n---\nc\n");
    }

    #[test]
    fn names_hold_nothing_that_a_file_system_cannot() {
        assert_eq!(file_name("../..", "-", None), "unnamed@unnamed.snap");
        assert_eq!(file_name("Größe:1", "a/b/", None), "gr--e-1@b.snap");
        assert_eq!(file_name("p", "C:\\models\\x.gguf", None), "p@x.snap");
        assert_eq!(file_name("p", "model.safetensors", None), "p@model.snap");
    }
}
