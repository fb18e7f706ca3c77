//! Did-you-mean: which known names a misspelt one may stand for.

use std::fmt::Write as _;

/// Suggestions beyond this many would be a list to search, not an answer.
const MOST: usize = 2;

/// Edits beyond this many are a different name, however long both are.
const MOST_EDITS: usize = 4;

/// Finds the known names nearest to `word`: none, one, or two that are equally near.
///
/// A name is near when at most one edit (insertion, deletion, substitution, swap of neighbours) per three characters of
/// the longer of the two separates them, letter case and `-` against `_` being no edit; or when `word` is the
/// beginning of it. Ties keep the order of `known`; repeated names count once.
///
/// ```
/// use flow_fabric::finding::suggest::nearest;
/// assert_eq!(nearest("modle", ["data", "model"]), ["model"]);
/// assert_eq!(nearest("Group-Size", ["group_size", "granularity"]), ["group_size"]);
/// assert_eq!(nearest("quant", ["mesh", "quantization"]), ["quantization"]);
/// assert_eq!(nearest("tp", ["dp", "pp"]), [""; 0]);
/// ```
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let word = fold(word);
    let mut best = usize::MAX;
    let mut found: Vec<&'a str> = Vec::new();
    for name in known {
        let Some(edits) = edits(&word, &fold(name)) else { continue };
        if edits < best {
            best = edits;
            found.clear();
        }
        if edits == best && found.len() < MOST && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Words the answer of [`nearest`] as a help text: ``did you mean `model`?``
///
/// ```
/// use flow_fabric::finding::suggest::did_you_mean;
/// assert_eq!(did_you_mean("modle", ["data", "model"]).as_deref(), Some("did you mean `model`?"));
/// assert_eq!(did_you_mean("w3", ["w1", "w2"]), None);
/// ```
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    match nearest(word, known).as_slice() {
        [] => None,
        [one] => Some(format!("did you mean `{one}`?")),
        [one, other, ..] => Some(format!("did you mean `{one}` or `{other}`?")),
    }
}

/// Words a help text for an unknown name: the nearest known ones, else every one.
///
/// `whose` says whose names they are, such as `this policy declares` or `the language has`. `None` when nothing is
/// near and nothing is known.
///
/// ```
/// use flow_fabric::finding::suggest::help_for;
/// let axes = ["data", "model"];
/// assert_eq!(
///     help_for("modle", axes, "the mesh has").as_deref(),
///     Some("did you mean `model`? the mesh has `data`, `model`"),
/// );
/// assert_eq!(help_for("expert", axes, "the mesh has").as_deref(), Some("the mesh has `data`, `model`"));
/// ```
#[must_use]
pub fn help_for<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone, whose: &str) -> Option<String> {
    let mut help = did_you_mean(word, known.clone()).unwrap_or_default();
    let near = nearest(word, known.clone());
    let names = list(known.clone());
    // A list of what was just suggested says nothing new.
    if !names.is_empty() && !known.into_iter().all(|name| near.contains(&name)) {
        if !help.is_empty() {
            help.push(' ');
        }
        let _ = write!(help, "{whose} {names}");
    }
    (!help.is_empty()).then_some(help)
}

/// Joins names for a sentence, each in backticks; beyond twelve it counts the rest.
///
/// ```
/// use flow_fabric::finding::suggest::list;
/// assert_eq!(list(["data", "model"]), "`data`, `model`");
/// ```
#[must_use]
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let mut names = names.into_iter();
    let mut text = String::new();
    for (at, name) in names.by_ref().take(SHOWN).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}`{name}`");
    }
    match names.count() {
        0 => {}
        rest => {
            let _ = write!(text, " and {rest} more");
        }
    }
    text
}

/// What is not an edit: letter case, and which of `-` and `_` joins words.
fn fold(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// Edits from one folded name to another, if few enough to call them near.
fn edits(word: &str, name: &str) -> Option<usize> {
    let length = |text: &str| text.chars().count();
    let (short, long) = (length(word).min(length(name)), length(word).max(length(name)));
    let allowed = (long / 3).min(MOST_EDITS);
    // The distance is at least the difference in length: most names need no matrix.
    let distance = if long - short > allowed { usize::MAX } else { strsim::osa_distance(word, name) };
    if distance <= allowed {
        return Some(distance);
    }
    // A beginning ranks behind every near spelling.
    (length(word) >= 3 && name.starts_with(word)).then_some(MOST_EDITS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_spellings_come_before_beginnings_and_ties_keep_their_order() {
        assert_eq!(nearest("axis", ["axes", "axis_types"]), ["axes"]);
        assert_eq!(nearest("part", ["partition", "partition_by", "partitions"]), ["partition", "partition_by"]);
        assert_eq!(nearest("cart", ["part", "card", "cars"]), ["part", "card"]);
        assert_eq!(nearest("cart", ["part", "part"]), ["part"]);
    }

    #[test]
    fn an_exact_fold_beats_a_near_spelling() {
        assert_eq!(nearest("TOP-P", ["top_k", "top_p"]), ["top_p"]);
    }

    #[test]
    fn short_or_long_names_are_not_guessed_at() {
        assert_eq!(nearest("tp", ["dp"]), [""; 0]);
        assert_eq!(nearest("x", [""]), [""; 0]);
        assert_eq!(nearest("", ["data"]), [""; 0]);
        let path = "model.layers.0.self_attn.q_proj.weight";
        assert_eq!(nearest("model.layers.0.mlp.experts.3.up_proj.weight", [path]), [""; 0]);
        assert_eq!(nearest("model.layers.0.self_atn.q_proj.wieght", [path]), [path]);
    }

    #[test]
    fn long_lists_are_counted() {
        let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
        assert!(list(names.iter().map(String::as_str)).ends_with("`n11` and 8 more"));
        assert_eq!(list([]), "");
        assert_eq!(help_for("x", [], "the policy has"), None);
    }
}
