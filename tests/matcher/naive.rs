//! The reference: every rule, every pattern, every way to lay the steps over the tokens.

use std::cell::RefCell;
use std::collections::HashMap;

use flow_fabric::pattern::{Lowered, Separators, Step, TokenKind};
use regex::Regex;

/// A path: its text, and its tokens with the separators before them.
pub(crate) struct Path {
    text: String,
    tokens: Vec<(Option<char>, String)>,
}

impl Path {
    pub(crate) fn cut(text: &str, separators: &Separators) -> Self {
        let mut tokens = vec![(None, String::new())];
        for c in text.chars() {
            if separators.contains(c) {
                tokens.push((Some(c), String::new()));
            } else {
                tokens.last_mut().unwrap().1.push(c);
            }
        }
        Self { text: text.to_owned(), tokens }
    }
}

/// Whether a pattern matches, from first principles.
pub(crate) fn is_match(pattern: &Lowered, path: &Path) -> bool {
    pattern.sequences.iter().any(|sequence| covers(&sequence.steps, &path.tokens))
        || pattern.whole_path.as_ref().is_some_and(|text| regex_matches(text, &path.text))
}

fn covers(steps: &[Step], tokens: &[(Option<char>, String)]) -> bool {
    match steps {
        [] => tokens.is_empty(),
        [Step::Gap, steps @ ..] => (0..=tokens.len()).any(|skipped| covers(steps, &tokens[skipped..])),
        [Step::Token(predicate), steps @ ..] => match tokens {
            [] => false,
            [(separator, token), tokens @ ..] => {
                (predicate.separator.is_none() || predicate.separator == *separator)
                    && match &predicate.kind {
                        TokenKind::Any => true,
                        TokenKind::Literal(text) => text == token,
                        TokenKind::Regex(text) => regex_matches(text, token),
                    }
                    && covers(steps, tokens)
            }
        },
    }
}

fn regex_matches(text: &str, haystack: &str) -> bool {
    thread_local!(static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default());
    COMPILED.with_borrow_mut(|compiled| {
        let regex = compiled.entry(text.to_owned());
        regex.or_insert_with(|| Regex::new(&format!(r"\A(?:{text})\z")).unwrap()).is_match(haystack)
    })
}
