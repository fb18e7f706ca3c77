//! Patterns: the dialect and glob tables, and the properties that hold the lowering to the reference.

#![expect(clippy::unwrap_used, reason = "a table that cannot be read fails the test")]

mod common;

use common::generate::{glob, path, regex};
use common::naive;
use flow_fabric::pattern::{Pattern, PatternError, PatternSpec, Separators};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    case: Vec<Case>,
}

/// One line of a table under `tests/data`.
#[derive(Deserialize)]
struct Case {
    #[serde(alias = "regex", alias = "glob")]
    text: String,
    #[serde(default)]
    at: Vec<String>,
    code: Option<String>,
    #[serde(default)]
    matches: Vec<String>,
    #[serde(default)]
    rejects: Vec<String>,
}

fn table(name: &str) -> Vec<Case> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    toml::from_str::<Table>(&std::fs::read_to_string(path).unwrap()).unwrap().case
}

/// Runs a table and returns every error as people read it.
fn run(table: &[Case], default_code: &str, spec: fn(String) -> PatternSpec) -> String {
    // Without separators in the way, `is_match` is what the table says for the bare regex.
    let mut shown = String::new();
    for case in table {
        match Pattern::new(spec(case.text.clone()), &Separators::default()) {
            Ok(pattern) => {
                assert!(case.at.is_empty(), "`{}` was accepted", case.text);
                for (paths, expected) in [(&case.matches, true), (&case.rejects, false)] {
                    for path in paths {
                        assert_eq!(pattern.is_match(path), expected, "reference: `{}` on `{path}`", case.text);
                        assert_eq!(naive::is_match(&pattern, path), expected, "lowered: `{}` on `{path}`", case.text);
                    }
                }
            }
            Err(errors) => {
                let at: Vec<&str> = errors.iter().map(|error| &case.text[error.range.clone()]).collect();
                assert_eq!(at, case.at, "`{}`: {errors:?}", case.text);
                let code = case.code.as_deref().unwrap_or(default_code);
                assert!(errors.iter().all(|error| error.code.name == code), "`{}`: {errors:?}", case.text);
                shown += &show(&case.text, &errors);
            }
        }
    }
    shown
}

fn show(text: &str, errors: &[PatternError]) -> String {
    let mut shown = format!("{text}\n");
    for error in errors {
        let before = text[..error.range.start].chars().count();
        let width = text[error.range.clone()].chars().count().max(1);
        shown += &format!("{}{} {}\n", " ".repeat(before), "^".repeat(width), error.message);
        shown += &format!("    {}: {}\n", error.code.name, error.help.as_deref().unwrap());
    }
    shown
}

#[test]
fn the_dialect_is_what_its_table_says() {
    insta::assert_snapshot!("dialect_errors", run(&table("dialect.toml"), "", PatternSpec::Regex));
}

#[test]
fn globs_are_what_their_table_says() {
    insta::assert_snapshot!("glob_errors", run(&table("glob.toml"), "glob-syntax", PatternSpec::Glob));
}

/// Python's verdict is in the table; Rust's own engine has to give the same for what the dialect lets through.
#[test]
fn the_dialect_means_what_rust_means() {
    for case in table("dialect.toml").iter().filter(|case| case.at.is_empty()) {
        let regex = regex::Regex::new(&format!("^(?:{})$", case.text)).unwrap();
        for (paths, expected) in [(&case.matches, true), (&case.rejects, false)] {
            for path in paths {
                assert_eq!(regex.is_match(path), expected, "`{}` on `{path}`", case.text);
            }
        }
    }
}

#[test]
fn a_token_cannot_hold_a_separator() {
    let tokens = |tokens: &[&str]| {
        let spec = PatternSpec::Tokens(tokens.iter().map(ToString::to_string).collect());
        Pattern::new(spec, &Separators::default())
    };
    let errors = tokens(&["moe/linear", r"a\.b|w|[./]+", "a.b", "x{,2}"]).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| (error.code.name, error.part, error.range.clone())).collect();
    insta::assert_debug_snapshot!(places, @r#"
    [
        (
            "separator-in-token",
            0,
            0..10,
        ),
        (
            "separator-in-token",
            1,
            0..4,
        ),
        (
            "separator-in-token",
            1,
            7..12,
        ),
        (
            "regex-repeat",
            3,
            1..5,
        ),
    ]
    "#);
    assert!(tokens(&["a.b"]).is_ok(), "`.` also matches what is not a separator");
}

#[test]
fn patterns_show_as_they_read_best() {
    let shown = |spec: PatternSpec| Pattern::new(spec, &Separators::default()).unwrap().to_string();
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(PatternSpec::Tokens(texts(&["mha", "query|key", "w"]))), "mha / query|key / w");
    assert_eq!(shown(PatternSpec::Glob("**/w".into())), "**/w");
    assert_eq!(shown(PatternSpec::Path(texts(&["a/w", "b/w"]))), "a/w, b/w");
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() }
}

/// A path that a pattern is likely to match: its own text with the special characters replaced.
fn near(pattern: &str, noise: &str) -> String {
    let plain: String = pattern.chars().filter(|c| !"\\(){}?*|[]^:!,+-".contains(*c)).collect();
    if noise.len().is_multiple_of(3) { plain } else { format!("{plain}{noise}") }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_lowered_regex_matches_what_the_reference_does(text in regex(), paths in prop::collection::vec(path(), 12)) {
        let pattern = Pattern::new(PatternSpec::Regex(text.clone()), &Separators::default());
        let Ok(pattern) = pattern else { return Ok(()) };
        // On ASCII the dialect is Rust's own.
        let rust = regex::Regex::new(&format!("^(?:{text})$")).unwrap();
        for path in paths.iter().map(String::clone).chain(paths.iter().map(|noise| near(&text, noise))) {
            prop_assert_eq!(naive::is_match(&pattern, &path), pattern.is_match(&path), "{} on {}: {:?}", text, path, pattern.lowered());
            if path.is_ascii() {
                prop_assert_eq!(rust.is_match(&path), pattern.is_match(&path), "{} on {}", text, path);
            }
        }
    }

    #[test]
    fn lowered_tokens_match_what_the_reference_does(
        texts in prop::collection::vec(regex(), 1..4), paths in prop::collection::vec(path(), 12)
    ) {
        let Ok(pattern) = Pattern::new(PatternSpec::Tokens(texts.clone()), &Separators::default()) else { return Ok(()) };
        for path in paths.iter().map(String::clone).chain(paths.iter().map(|noise| near(&texts.join("/"), noise))) {
            prop_assert_eq!(naive::is_match(&pattern, &path), pattern.is_match(&path), "{} on {}", &pattern, path);
        }
    }

    #[test]
    fn a_lowered_glob_matches_what_the_reference_does(text in glob(), paths in prop::collection::vec(path(), 12)) {
        let Ok(pattern) = Pattern::new(PatternSpec::Glob(text.clone()), &Separators::default()) else { return Ok(()) };
        for path in paths.iter().map(String::clone).chain(paths.iter().map(|noise| near(&text, noise))) {
            prop_assert_eq!(naive::is_match(&pattern, &path), pattern.is_match(&path), "{} on {}: {:?}", text, path, pattern.lowered());
        }
    }

    #[test]
    fn an_exact_path_matches_itself_alone(texts in prop::collection::vec(path(), 1..3), others in prop::collection::vec(path(), 6)) {
        let Ok(pattern) = Pattern::new(PatternSpec::Path(texts.clone()), &Separators::default()) else {
            prop_assert!(texts.iter().any(String::is_empty));
            return Ok(());
        };
        for path in texts.iter().chain(&others) {
            prop_assert_eq!(naive::is_match(&pattern, path), texts.contains(path), "{:?} on {}", &texts, path);
        }
    }

    /// Whatever is typed gives a pattern or errors inside the text, and what is accepted compiles.
    #[test]
    fn any_text_is_a_pattern_or_errors_within_it(text in r#"([ab/.]|[\[\](){}?*+|^$\\,:=!<>&~#-]|[PnNbBzd0-9]|é){0,12}"#) {
        for spec in [
            PatternSpec::Regex(text.clone()), PatternSpec::Glob(text.clone()),
            PatternSpec::Tokens(vec![text.clone()]), PatternSpec::Path(vec![text.clone()]),
        ] {
            match Pattern::new(spec, &Separators::default()) {
                Ok(pattern) => {
                    prop_assert_eq!(naive::is_match(&pattern, "a/b"), pattern.is_match("a/b"), "{}", text);
                    prop_assert_eq!(naive::is_match(&pattern, &text), pattern.is_match(&text), "{}", text);
                }
                Err(errors) => {
                    prop_assert!(!errors.is_empty());
                    for error in errors {
                        prop_assert!(text.get(error.range.clone()).is_some(), "{text}: {error:?}");
                    }
                }
            }
        }
    }
}
