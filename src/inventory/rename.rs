//! Renames: from stored paths to the paths that rules see.

use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use super::Weight;
use super::trouble::{Report, Trouble, quoted};
use crate::finding::code;

/// Compiled size of one rename pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Ordered renames: the first pattern that matches a whole path gives its new path.
///
/// ```
/// use flow_fabric::inventory::Renames;
/// let renames = Renames::new([(r"model\.(.*)", "$1"), (r"(?P<head>lm_head)\..*", "${head}/w")])?;
/// assert_eq!(renames.apply("model.norm.weight").as_deref(), Some("norm.weight"));
/// assert_eq!(renames.apply("lm_head.weight").as_deref(), Some("lm_head/w"));
/// assert_eq!(renames.apply("a.model.norm.weight"), None);
/// # Ok::<(), regex::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Renames {
    rules: Vec<(Regex, String)>,
}

impl Renames {
    /// Compiles patterns and their templates. A template takes `$1`, `${name}` and `$$`; write `${1}_x` where a letter,
    /// digit or `_` follows.
    ///
    /// # Errors
    ///
    /// When a pattern is not a regex of the `regex` crate or compiles to more than 1 MiB.
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, regex::Error> {
        let rules = rules.into_iter().map(|(pattern, template)| {
            // Alone first: `a)|(b` must not slip out of the anchors.
            Regex::new(pattern)?;
            let regex = RegexBuilder::new(&format!(r"\A(?:{pattern})\z")).size_limit(MAX_PATTERN).build()?;
            Ok((regex, template.to_owned()))
        });
        Ok(Self { rules: rules.collect::<Result<_, regex::Error>>()? })
    }

    /// The new path, or `None` when no pattern matches.
    #[must_use]
    pub fn apply(&self, path: &str) -> Option<String> {
        self.rules.iter().find_map(|(regex, template)| {
            let captures = regex.captures(path)?;
            let mut renamed = String::new();
            captures.expand(template, &mut renamed);
            Some(renamed)
        })
    }
}

/// Renames all weights; those whose new paths are not unique keep the stored ones.
pub(super) fn apply(weights: &mut [Weight], rename: &dyn Fn(&str) -> Option<String>, report: &mut Report) {
    let renamed: Vec<Option<String>> =
        weights.iter().map(|weight| rename(&weight.stored_path).filter(|path| !path.is_empty())).collect();
    if renamed.iter().all(Option::is_none) {
        return;
    }
    let paths: Vec<String> = renamed
        .into_iter()
        .zip(weights.iter())
        .map(|(renamed, weight)| renamed.unwrap_or_else(|| weight.stored_path.clone()))
        .collect();
    let mut holders: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, path) in paths.iter().enumerate() {
        holders.entry(path).or_default().push(at);
    }
    // A weight that falls back to its stored path may collide there in turn; stored paths are unique, so this ends.
    let mut kept = vec![false; weights.len()];
    let mut contested: Vec<usize> = (0..paths.len()).rev().collect();
    let mut collisions: Vec<String> = Vec::new();
    while let Some(at) = contested.pop() {
        let Some(path) = paths.get(at).filter(|_| kept.get(at) == Some(&false)) else { continue };
        let Some(others) = holders.get(path.as_str()).filter(|others| others.len() > 1).cloned() else { continue };
        let names: Vec<&str> =
            others.iter().filter_map(|&at| weights.get(at)).map(|weight| weight.stored_path.as_str()).collect();
        if let [first, second, ..] = names.as_slice() {
            collisions.push(format!("{} and {} both become {}", quoted(first), quoted(second), quoted(path)));
        }
        holders.remove(path.as_str());
        for at in others {
            let (Some(weight), Some(kept)) = (weights.get(at), kept.get_mut(at)) else { continue };
            *kept = true;
            let holders = holders.entry(&weight.stored_path).or_default();
            holders.push(at);
            contested.extend(holders.iter().copied());
        }
    }
    // One rename makes as many collisions as a model has layers times tensors: the first shows what they are.
    let more = collisions.len().saturating_sub(1);
    if let Some(first) = collisions.into_iter().next() {
        let also = if more == 0 { String::new() } else { format!(", as do those of {more} more collisions") };
        report.push(
            Trouble::anywhere(&code::RENAME_COLLISION, first)
                .help(format!("they keep their stored paths{also}; capture what tells them apart")),
        );
    }
    for ((weight, path), kept) in weights.iter_mut().zip(paths).zip(kept) {
        if !kept {
            weight.path = path;
        }
    }
}
