//! TOML text as an owned tree in which every key and value has its span.

use toml::de::{DeTable, DeValue};

use crate::finding::{Finding, code};
use crate::source::{SourceId, Sources, Span, Spanned};

/// A TOML value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// The value of a [`Node`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Dates and times: the language has no use for them.
    Datetime,
    Array(Vec<Node>),
    Table(Table),
    /// Written, but not to be read; a finding says why. It passes for any type and means nothing.
    Unread,
}

/// Keys in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<(Spanned<String>, Node)>,
    /// Keys may be missing that are in the text, behind something that could not be read.
    pub(crate) torn: bool,
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|(name, _)| name.value == key).map(|(_, node)| node)
    }

    pub(crate) fn key(&self, key: &str) -> Option<&Spanned<String>> {
        self.entries.iter().find(|(name, _)| name.value == key).map(|(name, _)| name)
    }
}

impl Value {
    /// The type's name in TOML's words, with an article.
    pub(crate) const fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime => "a date or time",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
            Value::Unread => "a value",
        }
    }
}

impl Node {
    pub(crate) fn as_str(&self) -> Option<Spanned<&str>> {
        match &self.value {
            Value::String(text) => Some(Spanned::new(text, self.span)),
            _ => None,
        }
    }

    pub(crate) fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The table that it is, or the tables that are its elements, with their places.
    pub(crate) fn tables_mut(&mut self) -> impl Iterator<Item = (Span, &mut Table)> {
        let nodes = if self.as_array().is_none() {
            std::slice::from_mut(self)
        } else if let Value::Array(items) = &mut self.value {
            items.as_mut_slice()
        } else {
            &mut []
        };
        nodes.iter_mut().filter_map(|node| match &mut node.value {
            Value::Table(table) => Some((node.span, table)),
            _ => None,
        })
    }

    pub(crate) fn as_array(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }
}

/// Makes an owned tree. An integer beyond 64 bits is a finding, and reads as unread.
pub(crate) fn convert_table(source: SourceId, table: DeTable<'_>, findings: &mut Vec<Finding>) -> Table {
    let entries = table
        .into_iter()
        .map(|(key, value)| {
            let key = Spanned::new(key.get_ref().clone().into_owned(), Span::new(source, key.span()));
            let span = Span::new(source, value.span());
            let value = convert(source, span, value.into_inner(), findings);
            (key, Node { value, span })
        })
        .collect();
    Table { entries, torn: false }
}

fn convert(source: SourceId, span: Span, value: DeValue<'_>, findings: &mut Vec<Finding>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                findings.push(
                    Finding::new(&code::BAD_VALUE, "an integer of more than 64 bits")
                        .at(span, "")
                        .help(format!("the largest is {}", i64::MAX)),
                );
                Value::Unread
            }
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| {
                    let span = Span::new(source, item.span());
                    Node { value: convert(source, span, item.into_inner(), findings), span }
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(source, table, findings)),
    }
}

/// Maps a byte range of a string's *content* to the text it was written as, through TOML's quotes and escapes.
///
/// `span` covers the string with its quotes. A range inside an escape covers the whole escape.
pub(crate) fn locate(sources: &Sources, span: Span, range: std::ops::Range<usize>) -> Span {
    let written = sources.snippet(span);
    let (open, literal) = if written.starts_with("'''") {
        (3, true)
    } else if written.starts_with("\"\"\"") {
        (3, false)
    } else if written.starts_with('\'') {
        (1, true)
    } else if written.starts_with('"') {
        (1, false)
    } else {
        return span;
    };
    // A newline right after the opening of a multi-line string is not content.
    let body = written.get(open..).unwrap_or("");
    let open = if open == 3 {
        open + if body.starts_with("\r\n") { 2 } else { usize::from(body.starts_with('\n')) }
    } else {
        open
    };
    if literal {
        return span.sub(open + range.start..open + range.end);
    }
    let mut content = 0;
    let mut at = open;
    let mut start = None;
    let bytes = written.as_bytes();
    while at < bytes.len() {
        let rest = written.get(at..).unwrap_or("");
        let (written_length, content_length) = if rest.starts_with('\\') { escape(rest) } else { (1, 1) };
        if content >= range.start && content_length > 0 && start.is_none() {
            start = Some(at);
        }
        if content >= range.end && start.is_some_and(|start| at > start || range.is_empty()) {
            break;
        }
        at += written_length;
        content += content_length;
    }
    let start = start.unwrap_or(at);
    span.sub(start..at.max(start))
}

/// Length of an escape as written and as content.
fn escape(rest: &str) -> (usize, usize) {
    let digits = |count: usize| {
        let decoded = rest.get(2..2 + count).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        (2 + count, decoded.map_or(1, char::len_utf8))
    };
    match rest.as_bytes().get(1) {
        Some(b'u') => digits(4),
        Some(b'U') => digits(8),
        Some(b'x') => digits(2),
        // Line-ending backslash: swallows white space, gives nothing.
        Some(b'\n' | b'\r' | b' ' | b'\t') => {
            let white = rest.bytes().skip(1).take_while(u8::is_ascii_whitespace).count();
            (1 + white, 0)
        }
        _ => (2, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(text: &str) -> (Sources, Node) {
        let mut sources = Sources::default();
        let id = sources.add("t.toml", text);
        let mut findings = Vec::new();
        let root = crate::policy::syntax::parse(&sources, id, &mut findings).table;
        assert_eq!(findings, []);
        let node = root.get("k").unwrap().clone();
        (sources, node)
    }

    #[test]
    fn a_place_in_a_string_is_found_through_quotes_and_escapes() {
        for (text, content, find, written) in [
            (r"k = 'ab\d+c'", r"ab\d+c", r"\d", r"\d"),
            (r#"k = "ab\\d+c""#, r"ab\d+c", r"\d", r"\\d"),
            (r#"k = "ab\\d+c""#, r"ab\d+c", "+c", "+c"),
            (r#"k = "\u00e9x""#, "\u{e9}x", "x", "x"),
            (r#"k = "\u00e9x""#, "\u{e9}x", "\u{e9}", r"\u00e9"),
            ("k = '''\nab(c'''", "ab(c", "(", "("),
            ("k = \"\"\"\nab\\\n   (c\"\"\"", "ab(c", "(c", "(c"),
        ] {
            let (sources, node) = value_of(text);
            assert_eq!(node.as_str().unwrap().value, content);
            let start = content.find(find).unwrap();
            let span = locate(&sources, node.span, start..start + find.len());
            assert_eq!(sources.snippet(span), written, "in {text}");
        }
    }
}
