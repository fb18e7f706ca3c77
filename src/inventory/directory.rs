//! What a directory holds: an index, safetensors files, one GGUF model, or pickles.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::open::{open_files, open_index};
use super::{Checkpoint, Container, OpenError, gguf, grok};
use crate::finding::Finding;

/// The index that Hugging Face's own tools look for.
const INDEX: &str = "model.safetensors.index.json";

/// The same for shards that torch wrote.
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
/// The directory below Grok-1's download that holds its files.
const INNER: &str = "ckpt-0";

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
        let files = files.iter().map(|file| path.join(file));
        return Ok(open_files(shown, Container::Safetensors, &config, files));
    }
    // A split model counts once, by its first part.
    let models: BTreeSet<String> = ending(".gguf")
        .into_iter()
        .map(|name| gguf::Part::of_name(&name).and_then(|part| part.names().next()).unwrap_or(name))
        .collect();
    let models: Vec<String> = models.into_iter().collect();
    match models.as_slice() {
        [] => open_pickles(path, &names),
        [one] => Ok(gguf::open(&path.join(one))),
        _ => ambiguous(models),
    }
}

/// Opens what only pickles are left for: torch's files, or Grok-1's, here or in `ckpt-0`.
fn open_pickles(path: &Path, names: &[String]) -> Result<(Checkpoint, Vec<Finding>), OpenError> {
    let shown = path.display().to_string();
    let named = |test: fn(&str) -> bool| names.iter().filter(|name| test(name)).cloned().collect::<Vec<_>>();
    if names.iter().any(|name| name == TORCH_INDEX) {
        return Ok(open_index(&path.join(TORCH_INDEX)));
    }
    let torch = named(|name| name.starts_with("pytorch_model") && name.ends_with(".bin"));
    if !torch.is_empty() {
        let files = torch.iter().map(|file| path.join(file));
        return Ok(open_files(shown, Container::Torch, &path.join("config.json"), files));
    }
    let arrays = named(|name| grok::number(name).is_some());
    if !arrays.is_empty() {
        return grok::open(path, &arrays);
    }
    let inner = path.join(INNER);
    if path.file_name() != Some(INNER.as_ref()) && inner.is_dir() {
        return open(&inner);
    }
    let reason = "the directory holds no safetensors, GGUF, `pytorch_model*.bin` or `tensorNNNNN_000` files".to_owned();
    Err(OpenError::NotACheckpoint { path: shown, reason })
}
