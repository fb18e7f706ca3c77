//! TOML text to a tree, syntax errors and all.
//!
//! Every broken statement gives one finding, in the words of someone who writes policies, and is then blanked out, so that
//! the next parse reads the rest: one missing bracket is one error, and what stands elsewhere in the file is checked.

mod diagnose;
mod statement;

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::node::{self, Node, Table, Value};
use crate::finding::{Finding, code};
use crate::source::{SourceId, Sources, Span, Spanned};
use diagnose::Reach;
use statement::{Statement, statements};

/// Syntax errors of a file that are reported. More of them mean that it is no policy.
const MOST: usize = 20;

/// Statements that may be unreadable in a file of which the rest is read.
const MOST_STATEMENTS: usize = 1000;

/// A text as far as it could be read.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The tree. A value that could not be read is [`Value::Unread`].
    pub(crate) table: Table,
    /// The place that stands for the whole text.
    pub(crate) span: Span,
    /// Whether every table is in the tree: no header is broken, and no two are one.
    pub(crate) complete: bool,
}

/// Parses one text. Every broken statement becomes a finding; what could be read is returned all the same.
pub(crate) fn parse(sources: &Sources, source: SourceId, findings: &mut Vec<Finding>) -> Parsed {
    let text = sources.get(source).map_or("", |source| &*source.text);
    let mut reader =
        Reader { text, source, statements: None, blank: text.to_owned(), unread: BTreeMap::new(), complete: true };
    let mut broken = Vec::new();
    let table = reader.read(&mut broken, findings);
    findings.extend(broken);
    // A missing key is shown where the first one stands.
    let start = table.entries.first().map_or(0, |(key, _)| key.span.range().start);
    Parsed { table, span: Span::new(source, start..start), complete: reader.complete }
}

struct Reader<'a> {
    text: &'a str,
    source: SourceId,
    /// The statements of the text, once there is an error.
    statements: Option<Vec<Statement>>,
    /// The text with everything broken blanked out.
    blank: String,
    /// Statements blanked out, by index; whether they belong to the table that they stand in.
    unread: BTreeMap<usize, bool>,
    complete: bool,
}

impl Reader<'_> {
    fn read(&mut self, broken: &mut Vec<Finding>, findings: &mut Vec<Finding>) -> Table {
        loop {
            let blank = std::mem::take(&mut self.blank);
            let (table, errors) = DeTable::parse_recoverable(&blank);
            let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
            let Some(error) = errors.iter().min_by_key(|error| start(error)) else {
                if self.unread.len() > MOST_STATEMENTS {
                    break;
                }
                let mut table = node::convert_table(self.source, table.into_inner(), findings);
                self.mark(&mut table);
                return table;
            };
            let (at, message) = (start(error), error.message().to_owned());
            drop(table);
            self.blank = blank;
            match self.blame(at) {
                _ if broken.len() == MOST => {
                    if let Some(last) = broken.pop() {
                        broken.push(last.note(format!("more lines than these {MOST} cannot be read")));
                    }
                    break;
                }
                _ if self.unread.len() > MOST_STATEMENTS => break,
                Some(index) => self.report(index, at, &message, broken),
                None => {
                    let span = Span::new(self.source, at..at);
                    broken.push(Finding::new(&code::SYNTAX, diagnose::plain(&message).0).at(span, ""));
                    break;
                }
            }
        }
        self.complete = false;
        Table { torn: true, ..Table::default() }
    }

    /// The statement that an error at `at` is about: the first that leaves something open before it, else the one there.
    fn blame(&mut self, at: usize) -> Option<usize> {
        let text = self.text;
        let statements = self.statements.get_or_insert_with(|| statements(text));
        let unread = &self.unread;
        let fresh = |index: &usize| !unread.contains_key(index);
        let before = statements.partition_point(|statement| statement.range.start <= at);
        let leaves_open = |index: &usize| statements.get(*index).is_some_and(|statement| statement.unclosed.is_some());
        (0..before).filter(leaves_open).find(fresh).or(before.checked_sub(1).filter(fresh))
    }

    /// Says what is wrong with a statement, and blanks out all that is unreadable for the same reason.
    fn report(&mut self, index: usize, at: usize, message: &str, broken: &mut Vec<Finding>) {
        let Some(statements) = &self.statements else { return };
        let diagnosis = diagnose::diagnose(self.text, statements, index, at, message);
        broken.push(diagnosis.finding(self.source));
        let below = || statements.iter().skip(index + 1).take_while(|statement| !statement.is_header).count();
        let gone: Vec<usize> = match diagnosis.reach {
            Reach::Statement => vec![index],
            Reach::Section | Reach::LostSection => (index..=index + below()).collect(),
            Reach::Lines => {
                (0..statements.len()).filter(|at| statements.get(*at).is_some_and(Statement::sets_nothing)).collect()
            }
            Reach::Text => (0..statements.len()).collect(),
        };
        self.complete &= matches!(diagnosis.reach, Reach::Statement | Reach::Lines);
        let ranges = gone.iter().filter_map(|at| statements.get(*at)).map(|statement| statement.range.clone());
        self.blank = blanked(&self.blank, ranges);
        let own = matches!(diagnosis.reach, Reach::Statement | Reach::Lines);
        self.unread.extend(gone.into_iter().map(|index| (index, own)));
    }

    /// Notes in the tree what could not be read.
    fn mark(&mut self, table: &mut Table) {
        let Some(statements) = &self.statements else { return };
        let mut header: Option<&Statement> = None;
        for (index, statement) in statements.iter().enumerate() {
            if statement.is_header {
                header = Some(statement);
            }
            if self.unread.get(&index) != Some(&true) {
                continue;
            }
            let owner = match header {
                Some(header) => under_header(table, Span::new(self.source, header.range.clone()).start),
                None => Some(&mut *table),
            };
            // Without one, the header is gone as well.
            let Some(owner) = owner else { continue };
            // Behind what is broken there may be more keys, on the same line.
            owner.torn = true;
            let name = statement.equals.and_then(|equals| key(self.text.get(statement.range.start..equals)?));
            match name {
                Some(name) if owner.get(name).is_none() => {
                    let start = statement.range.start;
                    let span = Span::new(self.source, start..start + name.len());
                    let node = Node { value: Value::Unread, span: Span::new(self.source, statement.range.clone()) };
                    owner.entries.push((Spanned::new(name.to_owned(), span), node));
                }
                Some(_) => {}
                // It may be `extends`, or any other key that tables depend on.
                None => self.complete &= header.is_some(),
            }
        }
        if !self.complete {
            table.torn = true;
        }
    }
}

/// The key before an `=`, if it is a simple one.
fn key(text: &str) -> Option<&str> {
    let key = text.trim();
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    bare.then_some(key)
}

/// A text with spaces in place of ranges, which are in order; lines stay lines, and offsets offsets.
fn blanked(text: &str, ranges: impl Iterator<Item = std::ops::Range<usize>>) -> String {
    let mut out = String::with_capacity(text.len());
    for range in ranges {
        out.push_str(text.get(out.len()..range.start).unwrap_or(""));
        for c in text.get(range).unwrap_or("").chars() {
            if c == '\n' || c == '\r' {
                out.push(c);
            } else {
                out.extend(std::iter::repeat_n(' ', c.len_utf8()));
            }
        }
    }
    out.push_str(text.get(out.len()..).unwrap_or(""));
    out
}

/// The table that a header opens. Dotted headers open several at one place; the innermost holds the keys.
fn under_header(table: &mut Table, start: u32) -> Option<&mut Table> {
    let inner = tables(table).any(|(_, inner)| opened_below(inner, start));
    table.entries.iter_mut().flat_map(|(_, node)| node.tables_mut()).find_map(|(span, within)| {
        if inner { under_header(within, start) } else { (span.start == start).then_some(within) }
    })
}

/// Whether a header opens a table in this one.
fn opened_below(table: &Table, start: u32) -> bool {
    tables(table).any(|(span, inner)| span.start == start || opened_below(inner, start))
}

/// The tables that are values of a table, or elements of one.
fn tables(table: &Table) -> impl Iterator<Item = (Span, &Table)> {
    table
        .entries
        .iter()
        .flat_map(|(_, node)| match &node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        })
        .filter_map(|node| Some((node.span, node.as_table()?)))
}
