//! Patterns over weight paths: what was written, and what it compiles to.
//!
//! A path is cut into tokens at the policy's [`Separators`]. The four forms of DESIGN ([`PatternSpec`]) are all lowered
//! to the same thing, a small set of token sequences with gaps, so that one matcher graph can hold them.
//!
//! # The regex dialect
//!
//! What Python `re` and Rust `regex` share, with one meaning; each place where they disagree (look-around, back-references,
//! `a++`, `[[:alpha:]]`, `[a&&b]`, `\<`, `(?i)`, `x{,3}`, ...) is an error with its range and a remedy. On printable ASCII
//! names a pattern means what Python's `re.fullmatch` says:
//!
//! - Always anchored at both ends. `^`, `\A` and `$` are accepted where they are redundant, refused elsewhere.
//! - `\d` is `[0-9]`, `\w` is `[0-9A-Za-z_]`, `\s` is `[\t\n\x0b\f\r ]`, `\b` is an edge of `\w`. The Unicode tables of
//!   Rust and Python differ from each other; on ASCII both give these sets (but for Python's `\s`, which has the control
//!   characters U+001C to U+001F too). Beyond ASCII, the sets stay as they are here.
//! - `.` is every character. Both engines except the line feed, which no checked name holds; so `.*` is every token.
//! - Letters match their own case only; there are no flags.
//! - Lazy marks and captures are allowed and do not change whether a text matches.
//! - Alternation at top level is of whole texts: `query|key` matches `key` and not `keys`.
//!
//! Matching is linear in the text. [`MAX_TEXT`], [`MAX_WEIGHT`] and [`MAX_NESTING`] keep automata small.

mod cut;
mod dialect;
mod expr;
mod glob;
mod lower;
mod reference;
mod scan;

use std::fmt;

pub use cut::MAX_CUT;
pub use dialect::{MAX_NESTING, MAX_TEXT, MAX_WEIGHT};
pub use glob::{MAX_BRACES, MAX_SEQUENCES};
pub use lower::{Lowered, Sequence, Step, TokenKind, TokenPredicate};

use crate::finding::{Code, code};

/// The characters at which paths are cut into tokens, `/` and `.` by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Separators {
    chars: Vec<char>,
}

impl Default for Separators {
    fn default() -> Self {
        Self { chars: vec!['/', '.'] }
    }
}

impl Separators {
    /// Makes a set; at least one character, ASCII punctuation only (checked where the policy is read).
    #[must_use]
    pub fn new(chars: Vec<char>) -> Self {
        if chars.is_empty() { Self::default() } else { Self { chars } }
    }

    /// The characters, in the order written.
    #[must_use]
    pub fn chars(&self) -> &[char] {
        &self.chars
    }

    /// The one used to join tokens that come without separators.
    #[must_use]
    pub fn joiner(&self) -> char {
        self.chars.first().copied().unwrap_or('/')
    }

    /// Whether `c` cuts.
    #[must_use]
    pub fn contains(&self, c: char) -> bool {
        self.chars.contains(&c)
    }

    /// Cuts a path: `n` separators give `n + 1` tokens, empty ones included.
    pub fn split<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        path.split(|c| self.contains(c))
    }
}

/// A pattern as written. Exactly one form per rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternSpec {
    /// One regex per token, each matching a whole token, over any consecutive window of the path.
    Tokens(Vec<String>),
    /// A glob over the whole path.
    Glob(String),
    /// A regex over the whole path, anchored at both ends.
    Regex(String),
    /// Exact paths.
    Path(Vec<String>),
}

/// Written as findings quote it: `a / b|c / w` for tokens, the text itself for the others.
impl fmt::Display for PatternSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternSpec::Tokens(tokens) => f.write_str(&tokens.join(" / ")),
            PatternSpec::Glob(text) | PatternSpec::Regex(text) => f.write_str(text),
            PatternSpec::Path(paths) => f.write_str(&paths.join(", ")),
        }
    }
}

/// A pattern that was checked and lowered.
///
/// ```
/// use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
///
/// let spec = PatternSpec::Glob("model.layers.*.self_attn.{k,v}_proj.weight".to_owned());
/// let pattern = Pattern::new(spec, &Separators::default()).unwrap();
/// assert!(pattern.is_match("model.layers.7.self_attn.k_proj.weight"));
/// assert!(!pattern.is_match("model.layers.7.self_attn.q_proj.weight"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    spec: PatternSpec,
    separators: Separators,
    lowered: Lowered,
}

impl Pattern {
    /// Checks a pattern and lowers it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in order of place.
    pub fn new(spec: PatternSpec, separators: &Separators) -> Result<Self, Vec<PatternError>> {
        let lowered = match &spec {
            PatternSpec::Tokens(tokens) => lower_tokens(tokens, separators)?,
            PatternSpec::Glob(text) => Lowered { sequences: glob::lower(text, separators)?, whole_path: None },
            PatternSpec::Regex(text) => lower_regex(text, separators)?,
            PatternSpec::Path(paths) => lower_paths(paths, separators)?,
        };
        Ok(Self { spec, separators: separators.clone(), lowered })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn spec(&self) -> &PatternSpec {
        &self.spec
    }

    /// The separators that it was lowered for.
    #[must_use]
    pub fn separators(&self) -> &Separators {
        &self.separators
    }

    /// The form that the matcher graph and the analysis read.
    #[must_use]
    pub fn lowered(&self) -> &Lowered {
        &self.lowered
    }

    /// Whether the path matches, by the reference matcher.
    ///
    /// The reference reads the written form each time, in the most obvious way: it is what the matcher graph and the
    /// analysis are held against, and far too slow for a checkpoint.
    #[must_use]
    pub fn is_match(&self, path: &str) -> bool {
        reference::is_match(&self.spec, &self.separators, path)
    }

    /// Whether the path of these tokens matches, by the reference matcher.
    ///
    /// The tokens are joined with [`Separators::joiner`]; a token that holds a separator is cut there.
    #[must_use]
    pub fn is_match_tokens(&self, tokens: &[&str]) -> bool {
        self.is_match(&tokens.join(self.separators.joiner().encode_utf8(&mut [0; 4])))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

/// The most tokens that a `tokens` pattern may list.
pub const MAX_TOKENS: usize = 64;

fn lower_tokens(tokens: &[String], separators: &Separators) -> Result<Lowered, Vec<PatternError>> {
    if tokens.is_empty() {
        return Err(vec![empty_pattern(0, "no tokens", "list at least one; `\".*\"` is any token")]);
    }
    if tokens.len() > MAX_TOKENS {
        let message = format!("{} tokens, more than {MAX_TOKENS}", tokens.len());
        let help = "shorten the window; it may lie anywhere in the path".to_owned();
        return Err(vec![PatternError {
            code: &code::PATTERN_TOO_LARGE,
            part: MAX_TOKENS,
            range: 0..0,
            message,
            help: Some(help),
        }]);
    }
    let mut errors = Vec::new();
    let mut steps = vec![Step::Gap];
    for (part, text) in tokens.iter().enumerate() {
        if text.is_empty() {
            errors.push(empty_pattern(part, "an empty token", "write `.*` for any token"));
            continue;
        }
        let regex = match dialect::parse(text) {
            Ok(regex) => regex,
            Err(found) => {
                errors.extend(found.into_iter().map(|error| PatternError { part, ..error }));
                continue;
            }
        };
        for (range, branch) in &regex.branches {
            if branch.needs(separators) {
                let message = "a token never holds a separator, and this matches nothing without one".to_owned();
                let help = Some("cut it at the separator and write each part as a token of its own".to_owned());
                errors.push(PatternError {
                    code: &code::SEPARATOR_IN_TOKEN,
                    part,
                    range: range.clone(),
                    message,
                    help,
                });
            }
        }
        steps.push(Step::Token(TokenPredicate { separator: None, kind: regex.expr.token_kind() }));
    }
    steps.push(Step::Gap);
    if errors.is_empty() { Ok(Lowered { sequences: vec![Sequence { steps }], whole_path: None }) } else { Err(errors) }
}

fn lower_regex(text: &str, separators: &Separators) -> Result<Lowered, Vec<PatternError>> {
    if text.is_empty() {
        return Err(vec![empty_pattern(0, "an empty regex", "write `.*` for every path")]);
    }
    let expr = dialect::parse(text)?.expr;
    Ok(match cut::cut(&expr, separators) {
        Some(sequences) => Lowered { sequences, whole_path: None },
        None => Lowered { sequences: Vec::new(), whole_path: Some(expr.to_regex()) },
    })
}

fn lower_paths(paths: &[String], separators: &Separators) -> Result<Lowered, Vec<PatternError>> {
    if paths.is_empty() {
        return Err(vec![empty_pattern(0, "no paths", "list at least one path")]);
    }
    let empty = paths.iter().enumerate().filter(|(_, path)| path.is_empty());
    let errors: Vec<_> =
        empty.map(|(part, _)| empty_pattern(part, "an empty path", "write the path in full")).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let sequences = paths.iter().map(|path| {
        let mut before = None;
        let steps = path
            .split_inclusive(|c| separators.contains(c))
            .chain(path.ends_with(|c| separators.contains(c)).then_some(""));
        let steps = steps.map(|token| {
            let separator = before;
            before = token.chars().next_back().filter(|&c| separators.contains(c));
            let text = before.and_then(|c| token.strip_suffix(c)).unwrap_or(token);
            Step::Token(TokenPredicate { separator, kind: TokenKind::Literal(text.to_owned()) })
        });
        Sequence { steps: steps.collect() }
    });
    Ok(Lowered { sequences: sequences.collect(), whole_path: None })
}

fn empty_pattern(part: usize, message: &str, help: &str) -> PatternError {
    let help = Some(help.to_owned());
    PatternError { code: &code::EMPTY_PATTERN, part, range: 0..0, message: message.to_owned(), help }
}

/// Compiles a regex of the policy dialect that stands outside a pattern (renames, place indices), with its groups.
///
/// `anchored` asks for the whole text, otherwise it may match anywhere.
///
/// # Errors
/// Everything that is outside the dialect, with its place.
pub fn regex(text: &str, anchored: bool) -> Result<regex::Regex, Vec<PatternError>> {
    dialect::parse(text)?;
    let whole = if anchored { format!(r"\A(?:{text})\z") } else { text.to_owned() };
    regex::Regex::new(&whole).map_err(|error| {
        let (code, range) = (&code::PATTERN_TOO_LARGE, 0..text.len());
        vec![PatternError { code, part: 0, range, message: error.to_string(), help: None }]
    })
}

/// What is wrong with a pattern, with the place inside the written text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    /// The kind of finding.
    pub code: &'static Code,
    /// Which element of a list form (`tokens`, `path`); 0 for the others.
    pub part: usize,
    /// Byte range inside that element's text.
    pub range: std::ops::Range<usize>,
    /// One sentence.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}
