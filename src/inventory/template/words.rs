//! Joining templates that differ in one word.

use std::collections::BTreeMap;

use super::product::Product;
use super::{Segment, escape, natural_cmp};

/// The characters that end a token, whatever a policy's separators are: templates are read, not matched.
const SEPARATORS: [char; 2] = ['/', '.'];

/// A template in the making, cut into tokens. A token keeps the separator that stands after it.
#[derive(Debug, Clone)]
pub(super) struct Form {
    tokens: Vec<Vec<Segment>>,
    members: Vec<usize>,
}

impl Form {
    /// From the texts around the numbers and the set of each number; a set of one is text.
    pub(super) fn new(texts: &[&str], sets: Product, members: Vec<usize>) -> Self {
        let mut form = Self { tokens: vec![Vec::new()], members };
        let mut sets = sets.into_iter();
        for text in texts {
            form.push_text(text);
            match sets.next() {
                Some(set) if set.len() == 1 => set.iter().for_each(|number| form.push_text(&number.to_string())),
                Some(set) => form.push(Segment::Numbers(set)),
                None => {}
            }
        }
        form
    }

    fn push(&mut self, segment: Segment) {
        if let Some(token) = self.tokens.last_mut() {
            token.push(segment);
        }
    }

    fn push_text(&mut self, text: &str) {
        for (count, piece) in text.split_inclusive(SEPARATORS).enumerate() {
            if count > 0 {
                self.tokens.push(Vec::new());
            }
            match self.tokens.last_mut().and_then(|token| token.last_mut()) {
                Some(Segment::Text(last)) => last.push_str(piece),
                _ => self.push(Segment::Text(piece.to_owned())),
            }
        }
        if text.ends_with(SEPARATORS) {
            self.tokens.push(Vec::new());
        }
    }

    /// The token counted from the last, if it is a word: text without numbers that vary, and not a number itself.
    fn word(&self, from_last: usize) -> Option<&str> {
        let at = self.tokens.len().checked_sub(from_last + 1)?;
        match self.tokens.get(at)?.as_slice() {
            [Segment::Text(text)] => {
                let word = text.strip_suffix(SEPARATORS).unwrap_or(text);
                let number = word.bytes().all(|byte| byte.is_ascii_digit());
                (!number).then_some(word)
            }
            _ => None,
        }
    }

    /// Everything but that word, as something to compare by.
    fn frame(&self, from_last: usize) -> Option<Vec<Vec<Segment>>> {
        let at = self.tokens.len().checked_sub(from_last + 1)?;
        let word = self.word(from_last)?;
        let mut tokens = self.tokens.clone();
        if let [Segment::Text(text)] = tokens.get_mut(at)?.as_mut_slice() {
            text.drain(..word.len());
        }
        Some(tokens)
    }
}

/// Joins forms that differ in one word, tried from the last token to the first; each form is joined at most once.
pub(super) fn join(mut forms: Vec<Form>) -> Vec<(Vec<Segment>, Vec<usize>)> {
    let longest = forms.iter().map(|form| form.tokens.len()).max().unwrap_or(0);
    let mut done = Vec::new();
    for from_last in 0..longest {
        let mut frames: BTreeMap<Vec<Vec<Segment>>, Vec<Form>> = BTreeMap::new();
        let mut others = Vec::new();
        for form in forms {
            match form.frame(from_last) {
                Some(frame) => frames.entry(frame).or_default().push(form),
                None => others.push(form),
            }
        }
        for (frame, alike) in frames {
            match alike.as_slice() {
                [] | [_] => others.extend(alike),
                _ => done.push(joined(frame, &alike, from_last)),
            }
        }
        forms = others;
    }
    done.extend(forms.into_iter().map(|form| (flatten(form.tokens), form.members)));
    done
}

fn joined(mut frame: Vec<Vec<Segment>>, alike: &[Form], from_last: usize) -> (Vec<Segment>, Vec<usize>) {
    let mut words: Vec<String> = alike.iter().filter_map(|form| form.word(from_last)).map(str::to_owned).collect();
    words.sort_by(|a, b| natural_cmp(a, b));
    let members = alike.iter().flat_map(|form| form.members.iter().copied()).collect();
    let at = frame.len().checked_sub(from_last + 1);
    if let Some(token) = at.and_then(|at| frame.get_mut(at)) {
        token.insert(0, Segment::Words(words));
    }
    (flatten(frame), members)
}

/// Tokens back to one list, texts that meet made one.
fn flatten(tokens: Vec<Vec<Segment>>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for segment in tokens.into_iter().flatten() {
        match (segments.last_mut(), segment) {
            (_, Segment::Text(text)) if text.is_empty() => {}
            (Some(Segment::Text(last)), Segment::Text(text)) => last.push_str(&text),
            (_, segment) => segments.push(segment),
        }
    }
    segments
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
