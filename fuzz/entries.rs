//! What is fuzzed, and what must hold for any input. The targets and `tests/fuzz_seeds.rs` run the same functions.

#![allow(dead_code, reason = "each target uses one of them")]

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use flow_fabric::finding::render::{self, Format};
use flow_fabric::finding::{Finding, Place, Severity, worst};
use flow_fabric::inventory::{Checkpoint, Container, Grouping, Indirect, Inventory, ShardIndex, Template, collapse};
use flow_fabric::manifest::Manifest;
use flow_fabric::policy::{LoadError, LoadOptions, Policy};
use flow_fabric::source::Sources;
use flow_fabric::stage::StageRecord;

/// The text of a policy: read, or refused for a reason; every place that a finding names lies in the text.
pub(crate) fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A policy from memory extends nothing: there is nothing to read.
    let read = |path: &Path| {
        if path == Path::new("input.toml") { Ok(text.to_owned()) } else { Err(std::io::ErrorKind::NotFound.into()) }
    };
    let options = LoadOptions { allow_outside: true, read: &read };
    let (findings, sources) = match Policy::load_with(Path::new("input.toml"), options) {
        Ok(policy) => {
            assert_ne!(worst(policy.findings()), Some(Severity::Error));
            (policy.findings().to_vec(), policy.sources().clone())
        }
        Err(LoadError::Rejected(rejected)) => {
            assert_eq!(worst(&rejected.findings), Some(Severity::Error), "refused without a reason");
            (rejected.findings, rejected.sources)
        }
        Err(LoadError::Unreadable { .. }) => return,
    };
    inside(&findings, &sources);
}

/// Every finding about a policy has a place, inside its text, and is one line when it is printed as one.
pub(crate) fn inside(findings: &[Finding], sources: &Sources) {
    let lines = render::render(Format::Concise, findings, sources, &render::Options::default());
    assert_eq!(lines.lines().count(), findings.len(), "{lines}");
    for finding in findings {
        assert!(!finding.message.is_empty() && !finding.labels.is_empty(), "{finding:?}");
        for label in &finding.labels {
            let Place::Text(span) = label.place else { continue };
            let source = sources.get(span.source).map_or("", |source| &*source.text);
            assert!(source.get(span.range()).is_some(), "{}: {span:?} is not in the text", finding.message);
        }
    }
}

/// A safetensors file.
pub(crate) fn safetensors_header(data: &[u8]) {
    of_format(data, Container::Safetensors, true);
}

/// A GGUF file.
pub(crate) fn gguf_header(data: &[u8]) {
    of_format(data, Container::Gguf, true);
}

/// A file that torch might have written.
pub(crate) fn torch_file(data: &[u8]) {
    of_format(data, Container::Torch, false);
}

/// One of Grok-1's pickled arrays.
pub(crate) fn pickled_array(data: &[u8]) {
    of_format(data, Container::Pickle, false);
}

/// A numpy archive.
pub(crate) fn numpy_archive(data: &[u8]) {
    of_format(data, Container::Npz, true);
}

fn of_format(data: &[u8], container: Container, disjoint: bool) {
    let (checkpoint, findings) = Checkpoint::from_reader(&mut Cursor::new(data), data.len() as u64, "input", container);
    check(&checkpoint, &findings, data, disjoint);
}

/// A JSONL list, compressed or not.
pub(crate) fn tensor_list(data: &[u8]) {
    if let Ok((checkpoint, findings)) = Checkpoint::from_list(data, "input") {
        check(&checkpoint, &findings, data, true);
    }
}

/// The text of a `*.safetensors.index.json`.
pub(crate) fn shard_index(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (index, findings) = ShardIndex::parse(text, "input");
    assert!(index.is_some() || worst(&findings) == Some(Severity::Error));
    let mut names = BTreeSet::new();
    for (file, tensors) in index.iter().flat_map(|index| &index.shards) {
        assert!(!file.contains(['/', '\\', '\0']) && file != ".." && file != "." && !file.is_empty());
        for (name, at) in tensors {
            assert!(names.insert(name), "{name} twice");
            assert_eq!(data.get(usize::try_from(*at).expect("an offset of the text")), Some(&b'"'));
        }
    }
}

/// The text of a manifest: refused for a reason, or one whose chunks cover its tensors and whose tensors lie in their files; it
/// reads back as it is written.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let manifest = match Manifest::parse(text, "input") {
        Ok(manifest) => manifest,
        Err(finding) => return refused_for_a_reason(&finding, data),
    };
    let written = manifest.text().expect("a manifest that was read");
    assert_eq!(Manifest::parse(&written, "written").as_ref(), Ok(&manifest));
    let mut files = BTreeSet::new();
    for file in &manifest.files {
        assert!(files.insert(&file.name), "{} twice", file.name);
        for tensor in file.tensors.values() {
            assert!(tensor.offset.checked_add(tensor.bytes).is_some_and(|end| end <= file.bytes), "beyond the file");
            let chunks = tensor.chunk_count(manifest.chunk_bytes);
            // As many digests as chunks, so this ends where the text does.
            let ranges = (0..chunks).map(|chunk| tensor.chunk_range(chunk, manifest.chunk_bytes));
            let end = ranges.fold(0, |end, range| {
                assert!(range.start == end && range.end > end, "a hole or nothing");
                range.end
            });
            assert_eq!(end, tensor.bytes);
            assert!((0..chunks).all(|chunk| tensor.chunk(chunk).is_some()) && tensor.chunk(chunks.max(1)).is_none());
        }
    }
    let (empty, _) = Checkpoint::from_list(&b""[..], "list").expect("an empty list");
    assert_eq!(manifest.compare(&empty).len(), manifest.files.len());
}

/// The text of a staged copy's record: refused for a reason, or one that names nothing twice and nothing outside.
pub(crate) fn stage_record(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let record = match StageRecord::parse(text, "input") {
        Ok(record) => record,
        Err(finding) => return refused_for_a_reason(&finding, data),
    };
    let mut paths = BTreeSet::new();
    let files = record.files.iter().map(|file| &file.path);
    for path in files.chain(&record.directories).chain(record.links.keys()) {
        assert!(paths.insert(path), "{path} twice");
        assert!(!path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path}");
    }
    let files: BTreeSet<&String> = record.files.iter().map(|file| &file.path).collect();
    for path in &paths {
        let above = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        assert!(above.into_iter().all(|above| !files.contains(&above) && !record.links.contains_key(&above)), "{path}");
    }
    let written = serde_json::to_string(&record).expect("a record that was read");
    assert_eq!(StageRecord::parse(&written, "written").as_ref(), Ok(&record));
}

/// An error with a message, at a place of the text if at any.
fn refused_for_a_reason(finding: &Finding, data: &[u8]) {
    assert!(finding.severity == Severity::Error && !finding.message.is_empty());
    for label in &finding.labels {
        if let Place::File { offset: Some(offset), .. } = label.place {
            assert!(offset <= data.len() as u64, "{offset} is not in the text");
        }
    }
}

/// What is accepted is inside the file, named once, and disjoint where the format says so; grouping loses no tensor;
/// templates lose no path.
fn check(checkpoint: &Checkpoint, findings: &[Finding], data: &[u8], disjoint: bool) {
    let mut names = BTreeSet::new();
    let mut ranges = Vec::new();
    for tensor in &checkpoint.tensors {
        assert!(names.insert(&tensor.name), "{} twice", tensor.name);
        assert_eq!(tensor.dtype.bytes_for(tensor.elements()), Some(tensor.bytes.length));
        if let Some(Indirect::Strided { offset, strides }) = checkpoint.indirect.get(&tensor.name) {
            let steps =
                tensor.shape.iter().zip(strides).map(|(dim, stride)| dim.saturating_sub(1).saturating_mul(*stride));
            let bytes = tensor.dtype.bytes_for(steps.fold(1, u64::saturating_add)).expect("a span in 64 bits");
            assert!(offset.checked_add(bytes).is_some_and(|end| end <= data.len() as u64), "beyond the file");
        }
        if let Some(offset) = tensor.bytes.offset.filter(|_| !checkpoint.aliases.contains(&tensor.name)) {
            ranges.push((offset, offset.checked_add(tensor.bytes.length).expect("an end in 64 bits")));
        }
    }
    ranges.sort_unstable();
    assert!(!disjoint || ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "overlap");
    assert!(ranges.iter().all(|range| range.1 <= data.len() as u64), "beyond the file");
    if worst(findings) == Some(Severity::Error) && checkpoint.tensors.is_empty() {
        return;
    }
    let (inventory, _) = Inventory::group(checkpoint, &Grouping::default());
    let stored: usize = inventory.weights.iter().map(|weight| weight.components.len()).sum();
    assert_eq!(stored, checkpoint.tensors.len());
    let paths: BTreeSet<&str> = inventory.weights.iter().map(|weight| weight.path.as_str()).collect();
    assert_eq!(paths.len(), inventory.weights.len());
    let templates = collapse(inventory.weights.iter().map(|weight| (weight.path.as_str(), weight.dtype)));
    let expanded: BTreeSet<String> = templates.iter().flat_map(Template::expand).collect();
    assert!(expanded.iter().map(String::as_str).eq(paths));
}
