//! Joining paths that differ in one word.

use std::collections::BTreeMap;

use super::skeleton::Skeleton;
use super::{Pool, Segment, Tuples, escape, natural_cmp, products};

/// Tokens that are looked at, from the last one on; no model's paths have as many.
const TOKENS: usize = 32;

/// Takes products of two or more words out of the pool, tried from the last token to the first. The words are one more
/// number of the tuples, so that a word that misses some numbers leaves the others joined.
pub(super) fn join(pool: &mut Pool<'_>) -> Vec<(Vec<Segment>, Vec<usize>)> {
    let longest = pool.keys().map(Skeleton::len).max().unwrap_or(0);
    let mut joined = Vec::new();
    for from_last in 0..longest.min(TOKENS) {
        let mut frames: BTreeMap<Skeleton<'_>, Vec<(&str, Skeleton<'_>)>> = BTreeMap::new();
        for skeleton in pool.keys() {
            if let Some((word, frame)) = skeleton.without_word(from_last) {
                frames.entry(frame).or_default().push((word, skeleton.clone()));
            }
        }
        for (frame, mut alike) in frames {
            if alike.len() > 1 {
                alike.sort_by(|(a, _), (b, _)| natural_cmp(a, b));
                join_alike(&frame, &alike, from_last, pool, &mut joined);
            }
        }
    }
    joined
}

/// Joins skeletons that differ in the word they have at one place; what joins with no other stays in the pool.
fn join_alike<'a>(
    frame: &Skeleton<'a>,
    alike: &[(&str, Skeleton<'a>)],
    from_last: usize,
    pool: &mut Pool<'a>,
    joined: &mut Vec<(Vec<Segment>, Vec<usize>)>,
) {
    let mut tuples = Tuples::new();
    for (word, (_, skeleton)) in (0..).zip(alike) {
        for (mut numbers, members) in pool.remove(skeleton).unwrap_or_default() {
            numbers.push(word);
            tuples.insert(numbers, members);
        }
    }
    for (mut sets, members) in products(&tuples) {
        let words = sets.pop().unwrap_or_default();
        let at = |word: u64| usize::try_from(word).ok().and_then(|at| alike.get(at));
        if let [word] = *words {
            let Some((_, skeleton)) = at(word) else { continue };
            let rest = pool.entry(skeleton.clone()).or_default();
            super::product::each(&sets, |numbers| {
                let mut key = numbers.to_vec();
                key.push(word);
                rest.insert(numbers.to_vec(), tuples.get(&key).cloned().unwrap_or_default());
            });
        } else {
            let words = words.into_iter().filter_map(|word| Some(at(word)?.0.to_owned())).collect();
            joined.push((frame.segments(sets, Some((from_last, words))), members));
        }
    }
}

/// Writes words as alternatives, what they share outside the braces where `_` or `-` bounds it: `{k,v}_proj`.
pub(super) fn alternatives(words: &[String], out: &mut String) {
    let Some(first) = words.first() else { return };
    let bounded = |c: char| matches!(c, '_' | '-');
    // The longest shared ending that leaves something of every word.
    let suffix = first
        .char_indices()
        .filter(|&(at, c)| at > 0 && bounded(c))
        .filter_map(|(at, _)| first.get(at..))
        .find(|suffix| words.iter().all(|word| word.len() > suffix.len() && word.ends_with(suffix)))
        .unwrap_or("");
    let stems: Vec<&str> = words.iter().map(|word| word.strip_suffix(suffix).unwrap_or(word)).collect();
    let stem = stems.first().copied().unwrap_or("");
    let prefix = stem
        .char_indices()
        .rev()
        .filter(|&(_, c)| bounded(c))
        .filter_map(|(at, c)| stem.get(..at + c.len_utf8()))
        .find(|prefix| stems.iter().all(|stem| stem.len() > prefix.len() && stem.starts_with(prefix)))
        .unwrap_or("");
    escape(prefix, out);
    out.push('{');
    for (count, stem) in stems.iter().enumerate() {
        if count > 0 {
            out.push(',');
        }
        escape(stem.strip_prefix(prefix).unwrap_or(stem), out);
    }
    out.push('}');
    escape(suffix, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let mut out = String::new();
        alternatives(&words, &mut out);
        out
    }

    #[test]
    fn what_words_share_stands_outside_the_braces() {
        assert_eq!(shown(&["k_proj", "v_proj"]), "{k,v}_proj");
        assert_eq!(shown(&["kv_a_proj", "q_a_proj"]), "{kv,q}_a_proj");
        assert_eq!(shown(&["linear", "linear_v"]), "{linear,linear_v}");
        assert_eq!(shown(&["moe_a_w", "moe_b_w"]), "moe_{a,b}_w");
        assert_eq!(shown(&["rms_norm", "rms_norm_1"]), "rms_{norm,norm_1}");
        assert_eq!(shown(&["a_", "b_"]), "{a,b}_");
        assert_eq!(shown(&["_a", "_b"]), "_{a,b}");
        assert_eq!(shown(&["a{", "b,\\"]), "{a\\{,b\\,\\\\}");
    }
}
