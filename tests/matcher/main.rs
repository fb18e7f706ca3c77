//! The matcher against a slow, obvious reference, on random policies and on real inventories.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod explain;
mod naive;
mod parity;
mod properties;

use flow_fabric::pattern::{Lowered, Sequence, Step, TokenKind, TokenPredicate};

/// A token that must match a regex, after any separator.
fn regex(text: &str) -> Step {
    Step::Token(TokenPredicate { separator: None, kind: TokenKind::Regex(text.to_owned()) })
}

/// The window that a `tokens` pattern is.
fn window(tokens: &[String]) -> Lowered {
    let steps =
        std::iter::once(Step::Gap).chain(tokens.iter().map(|token| regex(token))).chain(std::iter::once(Step::Gap));
    Lowered { sequences: vec![Sequence { steps: steps.collect() }], whole_path: None }
}
