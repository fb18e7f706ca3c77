//! The one form that every pattern is lowered to: sequences of token predicates and gaps.

/// What one token must satisfy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenKind {
    /// Every token, the empty one included.
    Any,
    /// This text.
    Literal(String),
    /// This regex, which must match the whole token. It is plain Rust regex that needs no flags (`.` is written
    /// `(?s:.)`, `\w` as its ASCII set) and may be a bare alternation: compile `^(?:...)$`.
    Regex(String),
}

/// A predicate on one token of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenPredicate {
    /// The separator that must stand before the token; `None` = any. Always `None` on the first token of a path.
    pub separator: Option<char>,
    /// What the text must be.
    pub kind: TokenKind,
}

/// One element of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Zero or more tokens.
    Gap,
    /// Exactly one token.
    Token(TokenPredicate),
}

/// Steps that must cover a path from its first token to its last. A window is a sequence with a gap at both ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence {
    /// The steps, in path order; never two gaps in a row.
    pub steps: Vec<Step>,
}

/// A pattern, lowered: it matches a path that any of `sequences` covers or that `whole_path` matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lowered {
    /// Alternatives.
    pub sequences: Vec<Sequence>,
    /// A regex that cannot be cut at separators, over the literal text of the path; written as in [`TokenKind::Regex`].
    pub whole_path: Option<String>,
}
