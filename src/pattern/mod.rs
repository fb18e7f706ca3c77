//! Patterns over weight paths: what was written, and what it compiles to.
//!
//! A path is cut into tokens at the policy's [`Separators`]. The four forms of DESIGN ([`PatternSpec`]) are all lowered
//! to the same thing, a small set of token sequences with gaps, so that one matcher graph can hold them.

mod lower;

pub use lower::{Lowered, Sequence, Step, TokenKind, TokenPredicate};

use crate::finding::Code;

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
