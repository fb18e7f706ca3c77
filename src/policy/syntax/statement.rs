//! Where the statements of a TOML text begin and end, whether or not they are well formed.
//!
//! The parser judges; this only finds out how far a broken statement reaches, so that what follows can be read. A bracket
//! or a string that is never closed would otherwise take the rest of the file with it.

use std::ops::Range;

/// A table header, or a key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) range: Range<usize>,
    pub(super) is_header: bool,
    /// Where the `=` of a key with its value is.
    pub(super) equals: Option<usize>,
    /// What is opened and not closed.
    pub(super) unclosed: Option<Unclosed>,
}

impl Statement {
    /// Whether it is neither a header nor a key with its value.
    pub(super) fn sets_nothing(&self) -> bool {
        !self.is_header && self.equals.is_none()
    }
}

/// Something that is opened and not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unclosed {
    /// Where it is opened.
    pub(super) at: usize,
    /// What opens it: a quote, three quotes, or a bracket.
    pub(super) open: &'static str,
}

/// Cuts a text into statements, in order.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' => at = line_end(text, at),
            b'[' => {
                let end = line_end(text, at);
                let range = at..at + content(text, at..end).len();
                found.push(Statement { range, is_header: true, equals: None, unclosed: None });
                at = end;
            }
            _ => {
                let (statement, end) = entry(text, at);
                found.push(statement);
                at = end;
            }
        }
    }
    found
}

/// The text of a range without what stands behind it: white space and a comment.
fn content(text: &str, range: Range<usize>) -> &str {
    let line = text.get(range).unwrap_or("");
    // A header with a `#` inside quotes is not a header of this language.
    line.split('#').next().unwrap_or("").trim_end()
}

fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |length| at + length)
}

/// A key with its value, which may go over several lines; and where to go on.
fn entry(text: &str, start: usize) -> (Statement, usize) {
    let first_line = text.get(start..line_end(text, start)).unwrap_or("");
    let equals = equals(first_line).map(|at| start + at);
    let Some(value) = equals.map(|at| at + 1) else {
        let end = line_end(text, start);
        let written = content(text, start..end);
        let range = start..start + written.len();
        // `mesh]` is a header that lost a bracket: what stands below it belongs to no other table.
        let is_header = written.ends_with(']') && !written.contains(['[', ':', ',', '"', '\'']);
        return (Statement { range, is_header, equals: None, unclosed: None }, end);
    };
    let mut open: Vec<(&'static str, usize)> = Vec::new();
    let mut unclosed = None;
    let mut at = value;
    let mut end = value;
    while let Some(&byte) = text.as_bytes().get(at) {
        match byte {
            b'#' => {
                at = line_end(text, at);
                continue;
            }
            b'"' | b'\'' => match string_end(text, at) {
                Ok(after) => at = after,
                Err((trouble, after)) => {
                    unclosed = unclosed.or(Some(trouble));
                    at = after;
                }
            },
            b'[' | b'{' => {
                open.push((if byte == b'[' { "[" } else { "{" }, at));
                at += 1;
            }
            b']' | b'}' => {
                open.pop();
                at += 1;
            }
            b'\n' => {
                let Some(&(bracket, bracket_at)) = open.last() else { break };
                if begins_statement(text, at, bracket) {
                    unclosed = unclosed.or(Some(Unclosed { at: bracket_at, open: bracket }));
                    open.clear();
                    break;
                }
                at += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            _ => at += 1,
        }
        end = at;
    }
    if let (Some(&(bracket, bracket_at)), None) = (open.last(), unclosed) {
        unclosed = Some(Unclosed { at: bracket_at, open: bracket });
    }
    (Statement { range: start..end, is_header: false, equals, unclosed }, at.max(start + 1))
}

/// The first `=` of a line that is not inside a quoted key.
fn equals(line: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '=') => return Some(at),
            (None, '#') => return None,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// One past a string, or what is not closed and where to go on.
fn string_end(text: &str, at: usize) -> Result<usize, (Unclosed, usize)> {
    let rest = text.get(at..).unwrap_or("");
    for open in ["\"\"\"", "'''"] {
        if let Some(body) = rest.strip_prefix(open) {
            return match closing(body, open, true) {
                // Up to two quotes more belong to the content.
                Some(length) => {
                    let after = at + 2 * open.len() + length;
                    let quote = open.as_bytes().first();
                    let more = text.as_bytes().iter().skip(after).take(2).take_while(|byte| Some(*byte) == quote);
                    Ok(after + more.count())
                }
                None => Err((Unclosed { at, open }, before_next_header(text, at))),
            };
        }
    }
    let open = if rest.starts_with('"') { "\"" } else { "'" };
    match rest.get(1..).and_then(|body| closing(body, open, false)) {
        Some(length) => Ok(at + 2 + length),
        None => {
            let line = text.get(at..line_end(text, at)).unwrap_or("");
            Err((Unclosed { at, open }, at + line.trim_end().len()))
        }
    }
}

/// Length of the content before the closing quotes.
fn closing(body: &str, quotes: &str, over_lines: bool) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quotes.starts_with('"') => escaped = true,
            '\n' if !over_lines => return None,
            _ if body.get(at..).is_some_and(|rest| rest.starts_with(quotes)) => return Some(at),
            _ => {}
        }
    }
    None
}

/// The line break before the next line that looks like a header, or the end.
fn before_next_header(text: &str, at: usize) -> usize {
    let mut end = line_end(text, at);
    while end < text.len() && !is_header(text.get(end + 1..line_end(text, end + 1)).unwrap_or("")) {
        end = line_end(text, end + 1);
    }
    end
}

/// Whether the line after a line break begins a statement, so that the bracket around it was meant to be closed.
fn begins_statement(text: &str, line_break: usize, bracket: &str) -> bool {
    let line = text.get(line_break + 1..line_end(text, line_break + 1)).unwrap_or("");
    if is_header(line) {
        return true;
    }
    let key = line.split('=').next().filter(|key| key.len() < line.len()).map_or("", str::trim_end);
    let is_entry = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    // Inside `{` a key with its value is at home, if the one before it is finished.
    let before = text.get(..line_break).unwrap_or("").trim_end();
    is_entry && (bracket == "[" || !before.ends_with([',', '{']))
}

/// Whether a line is a header of a table, not an element of an array: `[name]`, `[[NAME]]`, `[scheme."my int8"]`.
fn is_header(line: &str) -> bool {
    let line = content(line, 0..line.len()).trim_start();
    let Some(inner) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    let name = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(inner).trim();
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !["true", "false", "inf", "nan"].contains(&name)
        && !name.contains([',', '[', ']', '='])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statements of a text, each with what is not closed in it.
    fn cut(text: &str) -> Vec<(&str, Option<&'static str>)> {
        let show = |statement: &Statement| (&text[statement.range.clone()], statement.unclosed.map(|open| open.open));
        statements(text).iter().map(show).collect()
    }

    #[test]
    fn values_reach_over_lines_and_comments() {
        let text = "a = 1 # one\n[t] # two\nb = [\n  'x', # ]\n  [1],\n]\nc = \"\"\"\n[d]\"\"\"\"\n'e.f' = { g = 1 }";
        assert_eq!(
            cut(text),
            [
                ("a = 1", None),
                ("[t]", None),
                ("b = [\n  'x', # ]\n  [1],\n]", None),
                ("c = \"\"\"\n[d]\"\"\"\"", None),
                ("'e.f' = { g = 1 }", None),
            ]
        );
    }

    #[test]
    fn what_is_not_closed_ends_before_the_next_statement() {
        assert_eq!(cut("a = \"x\nb = 1"), [("a = \"x", Some("\"")), ("b = 1", None)]);
        assert_eq!(cut("a = [1,\nb = 1"), [("a = [1,", Some("[")), ("b = 1", None)]);
        assert_eq!(cut("a = [[1],\n[[R]]\nb = 1"), [("a = [[1],", Some("[")), ("[[R]]", None), ("b = 1", None)]);
        assert_eq!(cut("a = { c = 1\nb = 1"), [("a = { c = 1", Some("{")), ("b = 1", None)]);
        assert_eq!(cut("a = { c = 1,\nb = 1 }\nd = 2"), [("a = { c = 1,\nb = 1 }", None), ("d = 2", None)]);
        assert_eq!(
            cut("a = '''x\nb = 1\n[t]\nc = 2"),
            [("a = '''x\nb = 1", Some("'''")), ("[t]", None), ("c = 2", None)]
        );
        assert_eq!(cut("a = ['x,\n'y']\nb = 1"), [("a = ['x,\n'y']", Some("'")), ("b = 1", None)]);
        assert_eq!(cut("a = [1"), [("a = [1", Some("["))]);
    }

    #[test]
    fn a_line_without_an_assignment_is_a_statement() {
        let headers = |text: &str| statements(text).iter().map(|one| one.is_header).collect::<Vec<_>>();
        assert_eq!(headers("mesh]\n[mesh\nmesh\n\"a\"]"), [true, true, false, false]);
        assert_eq!(cut("a: 1\n{\n]"), [("a: 1", None), ("{", None), ("]", None)]);
        assert!(statements("a: 1 # =")[0].equals.is_none());
    }
}
