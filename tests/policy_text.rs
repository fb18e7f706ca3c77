//! Policies as they are typed: nothing panics, every finding stands inside its text, and a broken line is blamed alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do"
)]

#[path = "../fuzz/entries.rs"]
mod entries;

use std::path::Path;

use flow_fabric::finding::Finding;
use flow_fabric::policy::{LoadError, LoadOptions, Policy};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// The shipped policies and the wrong ones, with their paths: what mutations start from.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["policies", "syntax", "shape", "names", "patterns"];
    let mut texts = Vec::new();
    for folder in
        folders.map(|name| if name == "policies" { root.join(name) } else { root.join("tests/invalid").join(name) })
    {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            texts.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
        }
    }
    texts.sort();
    texts
}

fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..Config::default() }
}

/// An edit of a text, by fractions of its length.
#[derive(Debug, Clone)]
enum Edit {
    Delete(f64, usize),
    Repeat(f64, usize),
    Swap(f64, f64),
    Insert(f64, String),
}

/// Pieces that are more likely to matter than bytes are.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "\n",
    "\r",
    "\\",
    "\\u00e9",
    "é",
    "\u{feff}",
    "\0",
    "-",
    "0x",
    "1e400",
    "nan",
    "true",
    "\nname = \"a\"\n",
    "\n[mesh]\n",
    "\n[[expect]]\n",
    "\nextends = [\"p.toml\"]\n",
    "\noverride = true\n",
    "**",
    "(?!",
    "\\p{L}",
    "$1",
    "{path}",
    "99999999999999999999",
    "2024-01-01",
];

fn edit() -> impl Strategy<Value = Edit> {
    let at = || 0.0..1.0;
    prop_oneof![
        (at(), 1usize..12).prop_map(|(at, length)| Edit::Delete(at, length)),
        (at(), 1usize..40).prop_map(|(at, length)| Edit::Repeat(at, length)),
        (at(), at()).prop_map(|(one, other)| Edit::Swap(one, other)),
        (at(), prop::sample::select(PIECES)).prop_map(|(at, piece)| Edit::Insert(at, piece.to_owned())),
    ]
}

/// The words of a text and what stands between them, none of it lost.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let end = rest.find(|c| word(c) != word(first)).unwrap_or(rest.len());
        let end = if word(first) { end } else { first.len_utf8() };
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after;
    }
    tokens
}

fn apply(text: &str, edit: &Edit) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a text"
    )]
    let place = |of: usize, at: f64| ((of as f64 * at) as usize).min(of.saturating_sub(1));
    let chars: Vec<char> = text.chars().collect();
    if chars.is_empty() {
        return String::new();
    }
    let range = |at: f64, length: usize| {
        let start = place(chars.len(), at);
        start..(start + length).min(chars.len())
    };
    match edit {
        Edit::Delete(at, length) => {
            let gone = range(*at, *length);
            chars[..gone.start].iter().chain(&chars[gone.end..]).collect()
        }
        Edit::Repeat(at, length) => {
            let twice = range(*at, *length);
            chars[..twice.end].iter().chain(&chars[twice.start..]).collect()
        }
        Edit::Swap(one, other) => {
            let mut tokens = tokens(text);
            let (one, other) = (place(tokens.len(), *one), place(tokens.len(), *other));
            tokens.swap(one, other);
            tokens.concat()
        }
        Edit::Insert(at, piece) => {
            let at = place(chars.len(), *at);
            let (before, after) = chars.split_at(at);
            before.iter().collect::<String>() + piece + &after.iter().collect::<String>()
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn arbitrary_text_is_read_or_refused(text in "\\PC{0,80}|[\\[\\]{}=\"'\\\\#,.a-z0-9_ \\n\\r\\t-]{0,160}") {
        entries::policy(text.as_bytes());
    }

    #[test]
    fn edited_policies_are_read_or_refused(
        at in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 1..6),
    ) {
        let texts = texts();
        let (_, text) = at.get(&texts);
        let edited = edits.iter().fold(text.clone(), |text, edit| apply(&text, edit));
        entries::policy(edited.as_bytes());
    }
}

/// What is found in a shipped policy after an edit; what it extends is read from `policies/`.
fn found(name: &str, text: &str) -> Vec<Finding> {
    let read = |path: &Path| if path == Path::new(name) { Ok(text.to_owned()) } else { std::fs::read_to_string(path) };
    let (findings, sources) =
        match Policy::load_with(Path::new(name), LoadOptions { read: &read, ..LoadOptions::default() }) {
            Ok(policy) => (policy.findings().to_vec(), policy.sources().clone()),
            Err(LoadError::Rejected(rejected)) => (rejected.findings, rejected.sources),
            Err(error) => panic!("{error}"),
        };
    entries::inside(&findings, &sources);
    findings
}

/// One character is taken out of a good policy. Where that leaves no TOML, the broken line is all that is wrong, and
/// nothing is said that only follows from not reading it.
#[test]
fn what_follows_from_a_broken_line_is_not_reported() {
    let policies: Vec<_> = texts().into_iter().filter(|(name, _)| name.contains("/policies/")).collect();
    let (mut broken, mut wrong) = (0, Vec::new());
    for (name, text) in &policies {
        let structure = text.char_indices().filter(|(_, c)| "\"'[]{}=,\n".contains(*c)).map(|(at, _)| at);
        // Every character of structure would take minutes; a prime step meets all kinds.
        for at in structure.step_by(13) {
            let edited = format!("{}{}", &text[..at], &text[at + 1..]);
            if toml::from_str::<toml::Table>(&edited).is_ok() {
                continue;
            }
            broken += 1;
            let findings = found(name, &edited);
            let said: Vec<String> =
                findings.iter().map(|finding| format!("{} {}", finding.code.id, finding.message)).collect();
            if said.len() != 1 || !said[0].starts_with("FF001") {
                let line = edited[..at].lines().count();
                wrong.push(format!("{name} without `{}` in line {line}: {said:?}", &text[at..=at]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(broken > 100, "only {broken} edits broke a policy");
}
