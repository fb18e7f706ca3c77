//! Small arrays that verbs are given: logits, token ids, inputs and results of layers.

use std::path::Path;

use super::{Stop, Ui};
use crate::array::{self, Array, ArrayError, ArrayFile};
use crate::source::Sources;

/// Reads one array. `tensor` names it in a file that holds several.
pub(super) fn read(path: &Path, tensor: Option<&str>, ui: &mut Ui) -> Result<Array, Stop> {
    ui.opened(path);
    array::read(path, tensor).map_err(|error| stop(error, ui))
}

/// Opens the array that `FILE` or `FILE:TENSOR` names.
pub(super) fn open(argument: &Path, ui: &mut Ui) -> Result<ArrayFile, Stop> {
    let (path, tensor) = cut(argument);
    ui.opened(path);
    ArrayFile::open(path, tensor).map_err(|error| stop(error, ui))
}

/// Why there is no array.
pub(super) fn stop(error: ArrayError, ui: &mut Ui) -> Stop {
    match error {
        ArrayError::Safetensors { ref findings, .. } => {
            let findings = findings.clone();
            match ui.report(&findings, &Sources::default()) {
                Ok(()) => Stop::failed(error.to_string()).help("arrays are read from `.npy` and `.safetensors` files"),
                Err(stop) => stop,
            }
        }
        ArrayError::Name { .. } => Stop::failed(error.to_string()).help("`FILE:TENSOR` names a tensor of a file"),
        other => Stop::failed(other.to_string()),
    }
}

/// Cuts `FILE:TENSOR`. A file whose own name holds the colon is taken as it is.
pub(super) fn cut(argument: &Path) -> (&Path, Option<&str>) {
    match argument.to_str().and_then(|text| text.rsplit_once(':')) {
        Some((file, tensor)) if !argument.exists() && !file.is_empty() && !tensor.is_empty() => {
            (Path::new(file), Some(tensor))
        }
        _ => (argument, None),
    }
}

/// Reads the array that `FILE` or `FILE:TENSOR` names.
pub(super) fn named(argument: &Path, ui: &mut Ui) -> Result<Array, Stop> {
    let (path, tensor) = cut(argument);
    read(path, tensor, ui)
}

/// Reads lists of token ids below `tokens`: one for all rows, or one for each of `rows`.
///
/// A `.json` file holds `[1, 2]` or `[[1, 2], [3]]`; other files hold an array of integers, a row of it for each row.
pub(super) fn token_lists(argument: &Path, rows: usize, tokens: usize, ui: &mut Ui) -> Result<Vec<Vec<u32>>, Stop> {
    let shown = argument.display();
    let lists = if argument.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        ui.opened(argument);
        let text = std::fs::read_to_string(argument).map_err(|error| Stop::failed(format!("`{shown}`: {error}")))?;
        let listed = match text.chars().filter(|c| !c.is_whitespace()).nth(1) {
            Some('[') => serde_json::from_str::<Vec<Vec<u32>>>(&text),
            _ => serde_json::from_str(&text).map(|one| vec![one]),
        };
        listed.map_err(|error| {
            Stop::failed(format!("`{shown}`: {error}"))
                .help("token ids are written `[1, 2]` for all rows, or `[[1, 2], [3]]` for each")
        })?
    } else {
        let array = named(argument, ui)?;
        let ids = array.to_tokens().ok_or_else(|| {
            Stop::failed(format!("`{shown}` holds {} values that are no token ids", array.dtype()))
                .help("token ids are integers from 0 to 4294967295")
        })?;
        match array.shape() {
            [_] => vec![ids],
            [_, width] => ids.chunks(*width.max(&1)).map(<[u32]>::to_vec).collect(),
            other => {
                return Err(Stop::failed(format!("`{shown}` has the shape {other:?}"))
                    .help("token ids are `[length]` for all rows, or `[rows, length]`"));
            }
        }
    };
    if lists.len() > 1 && lists.len() != rows {
        return Err(Stop::failed(format!("`{shown}` holds {} lists of token ids for {rows} rows", lists.len()))
            .help("give one list for all rows, or one for each row of the logits"));
    }
    if let Some(beyond) = lists.iter().flatten().find(|id| **id as usize >= tokens) {
        return Err(Stop::failed(format!("`{shown}` holds token {beyond}, and rows have {tokens} tokens"))
            .help(format!("token ids go from 0 to {}", tokens.saturating_sub(1))));
    }
    Ok(lists)
}
