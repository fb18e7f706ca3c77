//! What fuzz targets check of one input, and the test that replays their seeds.
//!
//! An input is a pattern, a line feed, and a path.

use flow_fabric::pattern::{Pattern, PatternSpec, Separators};

use super::naive;

/// Beyond this, the naive evaluator takes too long to be of use.
const MAX_INPUT: usize = 160;

/// Checks a regex as a whole-path pattern and as one token.
pub(crate) fn dialect(input: &str) {
    let Some((text, path)) = cut(input) else { return };
    let whole = check(PatternSpec::Regex(text.to_owned()), text, path);
    check(PatternSpec::Tokens(vec![text.to_owned()]), text, path);
    // What the dialect lets through means the same in Rust's own engine, where `.` excepts the line feed.
    if let Some(pattern) = whole.filter(|_| path.is_ascii() && !path.contains('\n')) {
        let rust = regex::Regex::new(&format!("^(?:{text})$")).unwrap();
        assert_eq!(rust.is_match(path), pattern.is_match(path), "`{text}` on `{path}` differs from Rust");
    }
}

/// Checks a glob.
pub(crate) fn glob(input: &str) {
    let Some((text, path)) = cut(input) else { return };
    check(PatternSpec::Glob(text.to_owned()), text, path);
}

fn cut(input: &str) -> Option<(&str, &str)> {
    let (text, path) = input.split_once('\n').unwrap_or((input, "model.layers.0.w"));
    // Counts of two digits and more find nothing that smaller ones do not, and compile for long.
    let large = |counts: &str| counts.split(|c: char| !c.is_ascii_digit()).take(2).any(|digits| digits.len() > 1);
    let is_large = text.split('{').skip(1).any(large);
    (input.len() <= MAX_INPUT && !is_large).then_some((text, path))
}

/// Refused with places inside the text, or lowered to what the reference says.
fn check(spec: PatternSpec, text: &str, path: &str) -> Option<Pattern> {
    match Pattern::new(spec, &Separators::default()) {
        Err(errors) => {
            assert!(!errors.is_empty(), "`{text}` is refused without a reason");
            for error in errors {
                assert!(text.get(error.range.clone()).is_some(), "`{text}`: {:?} is not in it", error.range);
                assert!(!error.range.is_empty() || text.is_empty(), "`{text}`: nothing to see at {:?}", error.range);
                assert!(!error.message.is_empty() && error.help.is_some());
            }
            None
        }
        Ok(pattern) => {
            for path in [path, text, "", "a/b.c"] {
                assert_eq!(naive::is_match(&pattern, path), pattern.is_match(path), "`{text}` on `{path}`");
            }
            Some(pattern)
        }
    }
}
