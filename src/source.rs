//! Policy texts and places in them.
//!
//! A [`Span`] is a file and a byte range. It is `Copy` and means nothing without the [`Sources`] it came from, so that
//! every field of a policy can carry one for four words.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Which text of a [`Sources`] a span points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u32);

impl SourceId {
    /// The first text added: the root policy.
    pub const ROOT: Self = Self(0);

    /// Position among the sources, in the order they were read (0 is the root file).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A byte range of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Makes a span; texts are capped at 4 GiB when they are read.
    #[must_use]
    pub fn new(source: SourceId, range: Range<usize>) -> Self {
        let clamp = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Self { source, start: clamp(range.start), end: clamp(range.end) }
    }

    /// The byte range.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The same range, after its source's set was appended to another; see [`Sources::append`].
    #[must_use]
    pub const fn rebased(self, offset: u32) -> Self {
        Self { source: SourceId(self.source.0.saturating_add(offset)), ..self }
    }

    /// A sub-range of this span, `inner` counted in bytes from its start; never leaves the span.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "takes a range; nobody would write it with an operator")]
    pub fn sub(self, inner: Range<usize>) -> Self {
        let at = |offset: usize| self.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX)).min(self.end);
        Self { source: self.source, start: at(inner.start), end: at(inner.end) }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Pairs a value with its place.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// Applies `f` to the value and keeps the place.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// One text: the name shown to people, and its content.
#[derive(Debug, Clone)]
pub struct Source {
    /// What findings print: the path as the user would write it, `-` for standard input.
    pub name: Arc<str>,
    /// The content.
    pub text: Arc<str>,
    line_starts: Arc<[u32]>,
}

/// A position for people: both numbers count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in Unicode scalar values.
    pub column: usize,
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1))
            .map(|at| u32::try_from(at).unwrap_or(u32::MAX))
            .collect();
        Self { name: name.into(), text: text.into(), line_starts: starts }
    }

    /// Line and column of a byte offset.
    #[must_use]
    pub fn line_column(&self, offset: usize) -> LineColumn {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|&start| start as usize <= offset).max(1);
        let start = self.line_starts.get(line - 1).map_or(0, |&start| start as usize);
        let column = self.text.get(start..offset).map_or(0, |head| head.chars().count()) + 1;
        LineColumn { line, column }
    }

    /// How many lines there are; a text that ends with a newline has an empty last one.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.line_starts.len()
    }

    /// The bytes of a line (counted from 1) without its line ending; empty past the last line.
    #[must_use]
    pub fn line_range(&self, line: usize) -> Range<usize> {
        let start_of = |line: usize| {
            line.checked_sub(1).and_then(|at| self.line_starts.get(at)).map_or(self.text.len(), |&start| start as usize)
        };
        let (start, next) = (start_of(line), start_of(line.saturating_add(1)));
        let text = self.text.get(start..next).unwrap_or("");
        let text = text.strip_suffix('\n').unwrap_or(text);
        start..start + text.strip_suffix('\r').unwrap_or(text).len()
    }
}

/// The texts that a run has read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    all: Vec<Source>,
}

impl Sources {
    /// Adds a text and returns its id.
    pub fn add(&mut self, name: &str, text: &str) -> SourceId {
        let id = SourceId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(Source::new(name, text));
        id
    }

    /// The text behind an id of this set.
    #[must_use]
    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.all.get(id.index())
    }

    /// The name behind an id, `?` for an id of another set.
    #[must_use]
    pub fn name(&self, id: SourceId) -> &str {
        self.get(id).map_or("?", |source| &*source.name)
    }

    /// The text that a span covers.
    #[must_use]
    pub fn snippet(&self, span: Span) -> &str {
        self.get(span.source).and_then(|source| source.text.get(span.range())).unwrap_or("")
    }

    /// Line and column of a span's start.
    #[must_use]
    pub fn start(&self, span: Span) -> LineColumn {
        self.get(span.source)
            .map_or(LineColumn { line: 1, column: 1 }, |source| source.line_column(span.start as usize))
    }

    /// Line and column just past a span's end.
    #[must_use]
    pub fn end(&self, span: Span) -> LineColumn {
        self.get(span.source).map_or(LineColumn { line: 1, column: 1 }, |source| source.line_column(span.end as usize))
    }

    /// Adds all texts of another set, and returns how far their ids move; see [`Span::rebased`].
    pub fn append(&mut self, other: &Self) -> u32 {
        let offset = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.extend(other.all.iter().cloned());
        offset
    }

    /// All texts, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        (0..).map(SourceId).zip(&self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let mut sources = Sources::default();
        let id = sources.add("a.toml", "a = 1\nβγ = 2\n");
        let source = sources.get(id).unwrap();
        assert_eq!(source.line_column(0), LineColumn { line: 1, column: 1 });
        assert_eq!(source.line_column(6), LineColumn { line: 2, column: 1 });
        assert_eq!(source.line_column(10), LineColumn { line: 2, column: 3 });
        assert_eq!(source.line_column(999), LineColumn { line: 3, column: 1 });
    }

    #[test]
    fn lines_end_before_their_line_ending() {
        let mut sources = Sources::default();
        let id = sources.add("a.toml", "a = 1\r\n\nb\n");
        let source = sources.get(id).unwrap();
        let lines: Vec<&str> = (1..=source.line_count()).map(|line| &source.text[source.line_range(line)]).collect();
        assert_eq!(lines, ["a = 1", "", "b", ""]);
        assert_eq!(source.line_range(9), 10..10);
        assert_eq!(source.line_range(0), 10..10);
    }

    #[test]
    fn a_sub_span_stays_inside() {
        let mut sources = Sources::default();
        let id = sources.add("a.toml", "0123456789");
        let span = Span::new(id, 2..6);
        assert_eq!(sources.snippet(span.sub(1..2)), "3");
        assert_eq!(sources.snippet(span.sub(1..99)), "345");
    }
}
