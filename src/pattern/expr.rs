//! The reduced syntax tree of a regex that is inside the policy dialect.
//!
//! Everything here has one meaning in Python `re` and Rust `regex` on printable ASCII names; what has not was refused by
//! [`super::dialect`]. Captures, lazy marks and redundant anchors are gone: they do not change *whether* a text matches.

use std::collections::BTreeSet;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::{Separators, TokenKind};

/// A regex, fully anchored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// The empty text.
    Empty,
    /// One character.
    Char(char),
    /// One character of a set.
    Class(ClassUnicode),
    /// One character, whichever.
    Any,
    /// `\b`: exactly one side is `[0-9A-Za-z_]`.
    WordEdge,
    /// One after the other; never nested, never with `Empty` inside.
    Concat(Vec<Expr>),
    /// Any of these.
    Alternate(Vec<Expr>),
    /// `min` to `max` times.
    Repeat {
        /// What is repeated.
        inner: Box<Expr>,
        /// At least.
        min: u32,
        /// At most; `None` = without end.
        max: Option<u32>,
    },
}

impl Expr {
    /// Joins, without nesting and without empty parts.
    pub(crate) fn concat(parts: impl IntoIterator<Item = Expr>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Expr::Empty => {}
                Expr::Concat(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Expr::Empty,
            1 => flat.remove(0),
            _ => Expr::Concat(flat),
        }
    }

    /// One character of a set, in its simplest form.
    pub(crate) fn class(set: ClassUnicode) -> Self {
        match set.ranges() {
            [only] if only.start() == only.end() => Expr::Char(only.start()),
            [only] if only.start() == '\0' && only.end() == char::MAX => Expr::Any,
            _ => Expr::Class(set),
        }
    }

    /// `.*`: any text.
    pub(crate) fn any_text() -> Self {
        Expr::Repeat { inner: Box::new(Expr::Any), min: 0, max: None }
    }

    /// The text, if there is exactly one.
    pub(crate) fn literal(&self) -> Option<String> {
        match self {
            Expr::Empty => Some(String::new()),
            Expr::Char(c) => Some(c.to_string()),
            Expr::Concat(parts) => {
                parts.iter().map(|part| if let Expr::Char(c) = part { Some(*c) } else { None }).collect()
            }
            _ => None,
        }
    }

    /// What a token must be to match this.
    pub(crate) fn token_kind(&self) -> TokenKind {
        if *self == Expr::any_text() {
            return TokenKind::Any;
        }
        self.literal().map_or_else(|| TokenKind::Regex(self.to_regex()), TokenKind::Literal)
    }

    /// The number of nodes once counted repeats are written out: what an automaton has to hold.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Expr::Empty | Expr::Char(_) | Expr::Class(_) | Expr::Any | Expr::WordEdge => 1,
            Expr::Concat(parts) | Expr::Alternate(parts) => {
                parts.iter().fold(1, |sum, part| part.weight().saturating_add(sum))
            }
            Expr::Repeat { inner, min, max } => {
                inner.weight().saturating_mul(u64::from(max.unwrap_or(*min).max(1))).saturating_add(1)
            }
        }
    }

    /// Whether a separator can stand in a text that matches this.
    pub(crate) fn touches(&self, separators: &Separators) -> bool {
        match self {
            Expr::Empty | Expr::WordEdge => false,
            Expr::Any => true,
            Expr::Char(c) => separators.contains(*c),
            Expr::Class(set) => separators.chars().iter().any(|&c| contains(set, c)),
            Expr::Concat(parts) | Expr::Alternate(parts) => parts.iter().any(|part| part.touches(separators)),
            Expr::Repeat { inner, max, .. } => *max != Some(0) && inner.touches(separators),
        }
    }

    /// Whether every text that matches this has a separator in it, so that no token ever matches.
    pub(crate) fn needs(&self, separators: &Separators) -> bool {
        match self {
            Expr::Empty | Expr::WordEdge | Expr::Any => false,
            Expr::Char(c) => separators.contains(*c),
            Expr::Class(set) => !set.ranges().is_empty() && without(set, separators).ranges().is_empty(),
            Expr::Concat(parts) => parts.iter().any(|part| part.needs(separators)),
            Expr::Alternate(parts) => parts.iter().all(|part| part.needs(separators)),
            Expr::Repeat { inner, min, .. } => *min > 0 && inner.needs(separators),
        }
    }

    /// Writes it as a plain Rust regex that needs no flags: `.` is any character, `\w \d \s \b` are ASCII.
    ///
    /// The text is not anchored and may hold a bare alternation; wrap it as `^(?:...)$`.
    pub(crate) fn to_regex(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Expr::Empty => out.push_str("(?:)"),
            Expr::Char(c) => write_char(*c, out),
            Expr::Class(set) => write_class(set, out),
            Expr::Any => out.push_str("(?s:.)"),
            Expr::WordEdge => out.push_str(r"(?-u:\b)"),
            Expr::Concat(parts) => {
                for part in parts {
                    match part {
                        Expr::Alternate(_) => group(part, out),
                        other => other.write(out),
                    }
                }
            }
            Expr::Alternate(parts) => {
                for (at, part) in parts.iter().enumerate() {
                    if at > 0 {
                        out.push('|');
                    }
                    if *part != Expr::Empty {
                        part.write(out);
                    }
                }
            }
            Expr::Repeat { inner, min, max } => {
                match **inner {
                    Expr::Char(_) | Expr::Class(_) => inner.write(out),
                    Expr::Any if (*min, *max) == (0, None) => return out.push_str("(?s:.*)"),
                    Expr::Any if (*min, *max) == (1, None) => return out.push_str("(?s:.+)"),
                    Expr::Any => inner.write(out),
                    _ => group(inner, out),
                }
                match (*min, *max) {
                    (0, None) => out.push('*'),
                    (1, None) => out.push('+'),
                    (0, Some(1)) => out.push('?'),
                    (min, None) => out.push_str(&format!("{{{min},}}")),
                    (min, Some(max)) if min == max => out.push_str(&format!("{{{min}}}")),
                    (min, Some(max)) => out.push_str(&format!("{{{min},{max}}}")),
                }
            }
        }
    }

    /// Whether the whole of `text` matches; the slow, obvious way.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.ends(text, &BTreeSet::from([0])).contains(&text.len())
    }

    /// Where a match that begins at any of `starts` can end.
    fn ends(&self, text: &str, starts: &BTreeSet<usize>) -> BTreeSet<usize> {
        let next = |at: &usize, accept: &dyn Fn(char) -> bool| {
            text.get(*at..).and_then(|rest| rest.chars().next()).filter(|&c| accept(c)).map(|c| at + c.len_utf8())
        };
        match self {
            Expr::Empty => starts.clone(),
            Expr::Char(wanted) => starts.iter().filter_map(|at| next(at, &|c| c == *wanted)).collect(),
            Expr::Class(set) => starts.iter().filter_map(|at| next(at, &|c| contains(set, c))).collect(),
            Expr::Any => starts.iter().filter_map(|at| next(at, &|_| true)).collect(),
            Expr::WordEdge => starts.iter().copied().filter(|&at| is_word_edge(text, at)).collect(),
            Expr::Concat(parts) => parts.iter().fold(starts.clone(), |at, part| part.ends(text, &at)),
            Expr::Alternate(parts) => parts.iter().flat_map(|part| part.ends(text, starts)).collect(),
            Expr::Repeat { inner, min, max } => {
                let mut at = starts.clone();
                for _ in 0..*min {
                    let after = inner.ends(text, &at);
                    if after == at {
                        break;
                    }
                    at = after;
                }
                let mut all = at.clone();
                let mut rounds = max.map(|max| max.saturating_sub(*min));
                while rounds != Some(0) {
                    at = inner.ends(text, &at);
                    let before = all.len();
                    all.extend(&at);
                    if all.len() == before {
                        break;
                    }
                    rounds = rounds.map(|left| left - 1);
                }
                all
            }
        }
    }
}

/// Whether `c` is in the set.
pub(crate) fn contains(set: &ClassUnicode, c: char) -> bool {
    set.iter().any(|range| range.start() <= c && c <= range.end())
}

/// The set less the separators.
pub(crate) fn without(set: &ClassUnicode, separators: &Separators) -> ClassUnicode {
    let mut rest = set.clone();
    rest.difference(&ClassUnicode::new(separators.chars().iter().map(|&c| ClassUnicodeRange::new(c, c))));
    rest
}

fn is_word_edge(text: &str, at: usize) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = text.as_bytes();
    is_word(at.checked_sub(1).and_then(|before| bytes.get(before))) != is_word(bytes.get(at))
}

fn group(expr: &Expr, out: &mut String) {
    out.push_str("(?:");
    expr.write(out);
    out.push(')');
}

fn write_char(c: char, out: &mut String) {
    if c.is_control() {
        out.push_str(&format!(r"\x{{{:X}}}", u32::from(c)));
    } else {
        out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4])));
    }
}

fn write_class(set: &ClassUnicode, out: &mut String) {
    let negated = set.ranges().last().is_some_and(|last| last.end() == char::MAX);
    let mut shown = set.clone();
    if negated {
        shown.negate();
    }
    out.push_str(if negated { "[^" } else { "[" });
    if shown.ranges().is_empty() {
        // Reached for the empty set only: the full one is `Expr::Any`.
        out.push_str(r"^\x00-\u{10FFFF}");
    }
    for range in shown.iter() {
        write_char(range.start(), out);
        if range.end() > range.start() {
            if u32::from(range.end()) > u32::from(range.start()) + 1 {
                out.push('-');
            }
            write_char(range.end(), out);
        }
    }
    out.push(']');
}
