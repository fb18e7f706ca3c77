//! A few lines of one text and the labels on them, cut so that miette draws them well.
//!
//! miette underlines wrongly where spans overlap, leave their text or sit in lines wider than the report, counts
//! columns in bytes, and prints control characters as they are. A frame has none of these: lines are clipped to the
//! width around their labels, characters that could reprogram a terminal are replaced, overlapping labels go to
//! different frames.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use textwrap::{WordSeparator, WordSplitter};

use super::super::text;
use crate::finding::{Finding, Place, Severity};
use crate::source::{LineColumn, Source, Sources};

/// Lines shown before the first and after the last label.
pub(super) const CONTEXT: usize = 1;

/// Columns of a tab stop.
pub(super) const TAB: usize = 4;

/// A span over more lines is drawn on its first line only.
const MOST_LINES: usize = 8;

/// What is kept before a label when the head of its line is clipped.
const LEAD: usize = 16;

/// Columns below which a label's text is not squeezed, wherever its span is.
const LEAST_LABEL: usize = 28;

/// One drawing.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// What stands above it; empty when the finding's own message does.
    pub(super) heading: String,
    /// Colours the heading's icon.
    pub(super) severity: Severity,
    name: String,
    /// Where the first label really is.
    at: LineColumn,
    first_line: usize,
    text: String,
    labels: Vec<LabeledSpan>,
}

/// Cuts a finding's text labels into frames: the primary label's first, then in order of the labels.
pub(super) fn cut(finding: &Finding, sources: &Sources, width: usize) -> Vec<Frame> {
    let mut groups: Vec<Vec<Mark<'_>>> = Vec::new();
    for label in &finding.labels {
        let Some(mark) = Mark::new(label, sources) else { continue };
        match groups.iter_mut().find(|group| mark.joins(group, width)) {
            Some(group) if mark.repeats(group) => {
                for same in group.iter_mut().filter(|same| same.bytes == mark.bytes) {
                    same.add(&mark.text);
                }
            }
            Some(group) => group.push(mark),
            None => groups.push(vec![mark]),
        }
    }
    groups.iter().filter_map(|group| Frame::new(finding.severity, group, width)).collect()
}

/// A label resolved to lines.
struct Mark<'a> {
    source: &'a Source,
    bytes: Range<usize>,
    lines: Range<usize>,
    text: String,
}

impl<'a> Mark<'a> {
    fn new(label: &crate::finding::Label, sources: &'a Sources) -> Option<Self> {
        let Place::Text(span) = label.place else { return None };
        let source = sources.get(span.source)?;
        let start = floor(&source.text, span.start as usize);
        let first = source.line_column(start).line;
        let mut end = floor(&source.text, span.end as usize).max(start);
        // A span that takes its line's ending with it is still a span of that line.
        let mut last = source.line_column(end.saturating_sub(1).max(start)).line;
        if last - first >= MOST_LINES {
            last = first;
        }
        end = end.min(source.line_range(last).end).max(start);
        let text = text::one_line(&label.text).into_owned();
        Some(Self { source, bytes: start..end, lines: first..last + 1, text })
    }

    /// Whether this one is drawn with others: same text, few lines between, no bytes shared (or all of them), and
    /// not so far along one line that clipping it for one would hide the other.
    fn joins(&self, group: &[Mark<'_>], width: usize) -> bool {
        let near = |other: &Mark<'_>| {
            self.lines.start <= other.lines.end + 2 * CONTEXT && other.lines.start <= self.lines.end + 2 * CONTEXT
        };
        let apart = |other: &Mark<'_>| {
            if self.lines.end <= other.lines.start || other.lines.end <= self.lines.start {
                return true;
            }
            let one_line = self.lines.len() == 1 && other.lines.len() == 1;
            let between = self.bytes.start.abs_diff(other.bytes.start);
            one_line
                && between + 2 * LEAD < width
                && (self.bytes == other.bytes
                    || self.bytes.end < other.bytes.start
                    || other.bytes.end < self.bytes.start)
        };
        group.iter().all(|other| std::ptr::eq(self.source, other.source) && apart(other)) && group.iter().any(near)
    }

    fn repeats(&self, group: &[Mark<'_>]) -> bool {
        group.iter().any(|other| self.bytes == other.bytes)
    }

    fn add(&mut self, text: &str) {
        if !self.text.is_empty() && !text.is_empty() {
            self.text.push_str("; ");
        }
        self.text.push_str(text);
    }
}

impl Frame {
    fn new(severity: Severity, marks: &[Mark<'_>], width: usize) -> Option<Self> {
        let primary = marks.first()?;
        let source = primary.source;
        let first = marks.iter().map(|mark| mark.lines.start).min().unwrap_or(1);
        let last = marks.iter().map(|mark| mark.lines.end - 1).max().unwrap_or(first);
        // The empty line after a final newline is shown only when a label is on it.
        let context_end = source.line_count() - usize::from(source.line_range(source.line_count()).is_empty());
        let shown = first.saturating_sub(CONTEXT).max(1)..(last + CONTEXT).min(context_end).max(last) + 1;

        let gutter =
            shown.end.to_string().len() + 4 + if marks.iter().any(|mark| mark.lines.len() > 1) { 4 } else { 0 };
        let columns = width.saturating_sub(gutter).max(LEAST_LABEL);
        let mut text = String::new();
        let mut spans = vec![0..0; marks.len()];
        for number in shown.clone() {
            let line = Line::new(source, number, marks, columns, text.len());
            for (span, mark) in spans.iter_mut().zip(marks) {
                if mark.lines.start == number {
                    span.start = line.place(mark.bytes.start);
                }
                if mark.lines.end - 1 == number {
                    span.end = line.place(mark.bytes.end);
                }
            }
            text.push_str(&line.text);
            text.push('\n');
        }
        let labels = (0..)
            .zip(marks.iter().zip(spans))
            .map(|(at, (mark, span)): (usize, _)| {
                let line_start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
                let column = (line_start..span.end).len().min(columns);
                let what = wrap(&mark.text, columns.saturating_sub(column + 4).max(LEAST_LABEL));
                let span = SourceSpan::from((span.start, span.end.saturating_sub(span.start)));
                if at == 0 {
                    LabeledSpan::new_primary_with_span(what, span)
                } else {
                    LabeledSpan::new_with_span(what, span)
                }
            })
            .collect();
        Some(Self {
            heading: String::new(),
            severity,
            name: text::one_line(&source.name).into_owned(),
            at: source.line_column(primary.bytes.start),
            first_line: shown.start,
            text,
            labels,
        })
    }
}

fn wrap(label: &str, columns: usize) -> Option<String> {
    let options = textwrap::Options::new(columns)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    (!label.is_empty()).then(|| textwrap::fill(label, options))
}

/// A line as it is shown, and where its bytes went.
struct Line {
    text: String,
    /// Byte of the source, byte of the frame's text; ascending in both.
    moved: Vec<(usize, usize)>,
}

impl Line {
    fn new(source: &Source, number: usize, marks: &[Mark<'_>], columns: usize, base: usize) -> Self {
        let range = source.line_range(number);
        let line = source.text.get(range.clone()).unwrap_or("");
        let fits = width(line, columns) <= columns;
        let here = marks.iter().filter(|mark| mark.lines.start == number);
        let label = here.map(|mark| mark.bytes.clone()).min_by_key(|bytes| bytes.start).unwrap_or(0..0);
        let label = label.start.saturating_sub(range.start)..label.end.saturating_sub(range.start);
        // The head of the line goes only when the label would not be in view with it, and no more of it than must.
        let skipped = if fits || width(line.get(..label.end).unwrap_or(""), columns) < columns {
            0
        } else {
            before(line, label.start, LEAD).min(before(line, line.len(), columns - 2))
        };

        let mut text = String::new();
        let mut moved = Vec::new();
        let (mut column, mut clipped) = (0, false);
        if skipped > 0 {
            text.push('…');
            column += 1;
        }
        for (at, c) in line.char_indices().skip_while(|(at, _)| *at < skipped) {
            let wide = char_width(c);
            if !fits && column + wide >= columns {
                moved.push((range.start + at, base + text.len()));
                text.push('…');
                clipped = true;
                break;
            }
            moved.push((range.start + at, base + text.len()));
            text.push(shown_as(c));
            column += wide;
        }
        if !clipped {
            moved.push((range.end, base + text.len()));
        }
        Self { text, moved }
    }

    /// Where a byte of the source is in the frame, or the nearest that is shown.
    fn place(&self, byte: usize) -> usize {
        let at = self.moved.partition_point(|&(from, _)| from < byte);
        self.moved.get(at).or(self.moved.last()).map_or(0, |&(_, to)| to)
    }
}

/// The byte that stands `columns` columns before another.
fn before(line: &str, byte: usize, columns: usize) -> usize {
    let mut left = columns;
    let mut start = byte;
    for (at, c) in line.get(..byte).unwrap_or("").char_indices().rev() {
        let Some(rest) = left.checked_sub(char_width(c)) else { break };
        (left, start) = (rest, at);
    }
    start
}

/// Columns of a text, as far as it takes to know that they are too many.
fn width(text: &str, enough: usize) -> usize {
    let mut columns = 0;
    for c in text.chars() {
        columns += char_width(c);
        if columns > enough {
            break;
        }
    }
    columns
}

fn char_width(c: char) -> usize {
    match c {
        '\t' => TAB,
        c if c.is_ascii() => 1,
        c => textwrap::core::display_width(c.encode_utf8(&mut [0; 4])).max(1),
    }
}

/// One visible character for each character, so that columns stay where they are.
fn shown_as(c: char) -> char {
    match c {
        '\t' => c,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        c if text::is_unsafe(c) => '\u{fffd}',
        c => c,
    }
}

/// The nearest character boundary at or before a byte.
fn floor(text: &str, byte: usize) -> usize {
    (0..=byte.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

impl SourceCode for Frame {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // miette asks without context for the position to print, with context for the lines to draw.
        let (span, line, column) = if context_lines_before == 0 {
            (*span, self.at.line - 1, self.at.column - 1)
        } else {
            (SourceSpan::from((0, self.text.len())), self.first_line - 1, 0)
        };
        let lines = self.text.lines().count();
        let data = self.text.as_bytes();
        Ok(Box::new(MietteSpanContents::new_named(self.name.clone(), data, span, line, column, lines)))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.heading)
    }
}

impl std::error::Error for Frame {}

impl Diagnostic for Frame {
    fn severity(&self) -> Option<miette::Severity> {
        Some(super::severity(self.severity))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}
