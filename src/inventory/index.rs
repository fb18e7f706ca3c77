//! `*.safetensors.index.json`: which shard holds which tensor.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::json::Cursor;
use super::name::{self, MAX_TENSORS};
use super::trouble::{Report, Trouble, quoted};
use crate::finding::{Finding, code};

/// Largest index, in bytes.
pub(super) const MAX_INDEX: u64 = 100_000_000;

/// A `weight_map`, turned round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardIndex {
    /// Shard file names (plain ones: no separator, no `..`), sorted, with the tensors mapped to each and the byte offset
    /// of each entry in the text.
    pub shards: BTreeMap<String, Vec<(String, u64)>>,
    /// `metadata.total_size`, meant as bytes of tensors; writers differ, so it is only compared.
    pub total_size: Option<u64>,
}

impl ShardIndex {
    /// Parses the text of a `*.safetensors.index.json`; `name` is what findings call it. `None` when it cannot be used at
    /// all; an entry that maps to anything but a plain file name is a finding and left out.
    ///
    /// ```
    /// use flow_fabric::inventory::ShardIndex;
    /// let text = r#"{"weight_map": {"a": "1.safetensors", "b": "../2.safetensors"}}"#;
    /// let (index, findings) = ShardIndex::parse(text, "model.safetensors.index.json");
    /// assert_eq!(index.unwrap().shards["1.safetensors"], [("a".to_owned(), 16)]);
    /// assert_eq!(findings[0].message, "`../2.safetensors` is not a plain file name");
    /// ```
    #[must_use]
    pub fn parse(text: &str, name: &str) -> (Option<Self>, Vec<Finding>) {
        let mut report = Report::new(&name.into());
        let index = parse(text, &mut report);
        let mut findings = Vec::new();
        report.finish(&mut findings);
        (index, findings)
    }
}

/// Parses an index. `None` when it cannot be used at all; entries that name no plain file are reported and left out.
pub(super) fn parse(text: &str, report: &mut Report) -> Option<ShardIndex> {
    let mut index = ShardIndex::default();
    let mut mapped = false;
    let mut cursor = Cursor::new(text);
    let read = cursor
        .object(|cursor, key, at| {
            match &*key {
                "weight_map" => {
                    if std::mem::replace(&mut mapped, true) {
                        return Err(Trouble::new(&code::MALFORMED_INDEX, at as u64, "`weight_map` stands twice"));
                    }
                    read_weight_map(cursor, &mut index, report)?;
                }
                "metadata" => index.total_size = read_total_size(cursor)?,
                _ => cursor.skip()?,
            }
            Ok(())
        })
        .and_then(|()| {
            cursor.skip_space();
            if cursor.rest().is_empty() { Ok(()) } else { Err(cursor.error("text follows the index's object").into()) }
        });
    if let Err(trouble) = read {
        report.push(as_index_trouble(trouble));
        return None;
    }
    if !mapped {
        report.push(Trouble::new(&code::MALFORMED_INDEX, 0, "the index has no `weight_map`"));
        return None;
    }
    Some(index)
}

fn read_weight_map(cursor: &mut Cursor<'_>, index: &mut ShardIndex, report: &mut Report) -> Result<(), Trouble> {
    let mut names: HashSet<String> = HashSet::new();
    let mut judged: HashMap<String, bool> = HashMap::new();
    cursor.object(|cursor, key, at| {
        let at = at as u64;
        cursor.skip_space();
        let file_at = cursor.at() as u64;
        let file = cursor.string()?;
        if names.len() >= MAX_TENSORS {
            let message = format!("the index names more than {MAX_TENSORS} tensors");
            return Err(Trouble::new(&code::TOO_LARGE, at, message));
        }
        if let Some(message) = name::objection(&key) {
            report.push(Trouble::new(&code::TENSOR_NAME, at, message));
            return Ok(());
        }
        if !names.insert(key.clone().into_owned()) {
            let message = format!("tensor {} stands twice in `weight_map`", quoted(&key));
            return Err(Trouble::new(&code::DUPLICATE_TENSOR, at, message));
        }
        // One finding per bad file name, not one per tensor that is mapped to it.
        let plain = *judged.entry(file.clone().into_owned()).or_insert_with(|| {
            let plain = is_plain_file_name(&file);
            if !plain {
                let message = format!("{} is not a plain file name", quoted(&file));
                report.push(
                    Trouble::new(&code::INDEX_PATH, file_at, message)
                        .help("a shard lies beside its index: no separator, no `..`, no absolute path"),
                );
            }
            plain
        });
        if plain {
            index.shards.entry(file.into_owned()).or_default().push((key.into_owned(), at));
        }
        Ok(())
    })
}

fn read_total_size(cursor: &mut Cursor<'_>) -> Result<Option<u64>, Trouble> {
    let mut total = None;
    cursor.object(|cursor, key, _| {
        if key == "total_size" {
            // Some writers put a float or a string here; it decides nothing, so that is no error.
            let mut probe = cursor.clone();
            total = probe.unsigned().ok();
        }
        cursor.skip().map_err(Trouble::from)
    })?;
    Ok(total)
}

/// Whether a name stays in its directory: one component, on any system.
fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control())
}

/// What the JSON reader says is said about an index, not about a header.
fn as_index_trouble(mut trouble: Trouble) -> Trouble {
    if trouble.code == &code::MALFORMED_HEADER || trouble.code == &code::HEADER_FIELD {
        trouble.code = &code::MALFORMED_INDEX;
    }
    trouble
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_file_names_have_one_component_everywhere() {
        for good in ["model-00001-of-00004.safetensors", "..model", "a b", "模型.safetensors", "..."] {
            assert!(is_plain_file_name(good), "{good}");
        }
        for bad in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "C:x", "x\0", "a\nb"] {
            assert!(!is_plain_file_name(bad), "{bad:?}");
        }
        assert!(!is_plain_file_name(&"x".repeat(256)));
    }
}
