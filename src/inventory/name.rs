//! What a stored tensor may be called.

use super::trouble::quoted;

/// Longest tensor name, in bytes.
pub(super) const MAX_NAME: usize = 4096;
/// Most tensors of one checkpoint.
pub(super) const MAX_TENSORS: usize = 1_000_000;
/// Most dimensions of one tensor.
pub(crate) const MAX_RANK: usize = 64;

/// What is wrong with a name, if anything. Names are never used as file names; `../x` is a strange name but no danger.
pub(crate) fn objection(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a tensor has an empty name".to_owned());
    }
    if name.len() > MAX_NAME {
        return Some(format!(
            "the tensor name {} has {} bytes; at most {MAX_NAME} are taken",
            quoted(name),
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return Some(format!("the tensor name {} holds a control character", quoted(name)));
    }
    None
}
