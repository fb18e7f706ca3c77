//! What a directory holds: an index, safetensors files, or one GGUF model.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::open::{open_index, open_safetensors};
use super::{Checkpoint, OpenError, gguf};
use crate::finding::Finding;

/// The index that Hugging Face's own tools look for.
const INDEX: &str = "model.safetensors.index.json";

/// Opens the checkpoint in a directory: its index where it has one, else all its safetensors files, else its GGUF model.
pub(super) fn open(path: &Path) -> Result<(Checkpoint, Vec<Finding>), OpenError> {
    let shown = path.display().to_string();
    let io = |source| OpenError::Io { path: shown.clone(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        // A name that is not Unicode cannot be one of those looked for.
        if let Ok(name) = entry.map_err(io)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    let ending = |ending: &str| names.iter().filter(|name| name.ends_with(ending)).cloned().collect::<Vec<_>>();
    let ambiguous = |candidates| Err(OpenError::Ambiguous { path: shown.clone(), candidates });
    let indexes = ending(".safetensors.index.json");
    match indexes.as_slice() {
        [] => {}
        [one] => return Ok(open_index(&path.join(one))),
        _ if indexes.iter().any(|name| name == INDEX) => return Ok(open_index(&path.join(INDEX))),
        _ => return ambiguous(indexes),
    }
    let files = ending(".safetensors");
    if !files.is_empty() {
        let config = path.join("config.json");
        return Ok(open_safetensors(shown, &config, files.iter().map(|file| path.join(file))));
    }
    // A split model counts once, by its first part.
    let models: BTreeSet<String> = ending(".gguf")
        .into_iter()
        .map(|name| gguf::Part::of_name(&name).and_then(|part| part.names().next()).unwrap_or(name))
        .collect();
    let models: Vec<String> = models.into_iter().collect();
    match models.as_slice() {
        [] => {
            let reason =
                "the directory holds neither safetensors files, nor an index of them, nor GGUF files".to_owned();
            Err(OpenError::NotACheckpoint { path: shown, reason })
        }
        [one] => Ok(gguf::open(&path.join(one))),
        _ => ambiguous(models),
    }
}
