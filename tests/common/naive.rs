//! A naive evaluator of lowered patterns: recursion over steps and tokens, one regex per question.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;

use flow_fabric::pattern::{Pattern, Separators, Step, TokenKind};

/// Whether the lowered form of `pattern` matches `path`.
pub(crate) fn is_match(pattern: &Pattern, path: &str) -> bool {
    let lowered = pattern.lowered();
    let tokens = cut(path, pattern.separators());
    for sequence in &lowered.sequences {
        assert!(
            !sequence.steps.windows(2).any(|pair| pair == [Step::Gap, Step::Gap]),
            "two gaps in a row: {sequence:?}"
        );
    }
    lowered.sequences.iter().any(|sequence| covers(&sequence.steps, &tokens))
        || lowered.whole_path.as_deref().is_some_and(|regex| matches(regex, path))
}

/// The tokens, each with the separator before it.
fn cut<'a>(path: &'a str, separators: &Separators) -> Vec<(Option<char>, &'a str)> {
    let mut tokens = Vec::new();
    let mut start = 0;
    let mut before = None;
    for (at, c) in path.char_indices().filter(|&(_, c)| separators.contains(c)) {
        tokens.push((before, &path[start..at]));
        before = Some(c);
        start = at + c.len_utf8();
    }
    tokens.push((before, &path[start..]));
    tokens
}

fn covers(steps: &[Step], tokens: &[(Option<char>, &str)]) -> bool {
    match steps.split_first() {
        None => tokens.is_empty(),
        Some((Step::Gap, rest)) => (0..=tokens.len()).any(|skipped| covers(rest, &tokens[skipped..])),
        Some((Step::Token(wanted), rest)) => tokens.split_first().is_some_and(|(&(before, text), others)| {
            (wanted.separator.is_none() || wanted.separator == before)
                && match &wanted.kind {
                    TokenKind::Any => true,
                    TokenKind::Literal(literal) => literal == text,
                    TokenKind::Regex(regex) => matches(regex, text),
                }
                && covers(rest, others)
        }),
    }
}

fn matches(regex: &str, text: &str) -> bool {
    thread_local! {
        // Compiling is most of the work, and the same few regexes are asked again and again.
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        if compiled.len() > 1000 {
            compiled.clear();
        }
        let new = || Regex::new(&format!("^(?:{regex})$")).unwrap();
        compiled.entry(regex.to_owned()).or_insert_with(new).is_match(text)
    })
}
