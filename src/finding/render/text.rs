//! What the renderers share: places in words, and user text made safe for a line of a terminal or of markdown.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::finding::{Label, Place};
use crate::source::Sources;

/// `file:line:column`, `file @ byte 123`, or the file alone.
pub(crate) fn place(label: &Label, sources: &Sources) -> String {
    match &label.place {
        Place::Text(span) => {
            let start = sources.start(*span);
            format!("{}:{}:{}", one_line(sources.name(span.source)), start.line, start.column)
        }
        Place::File { path, offset: Some(offset) } => format!("{} @ byte {offset}", one_line(path)),
        Place::File { path, offset: None } => one_line(path).into_owned(),
    }
}

/// Replaces what would break a line or reprogram a terminal: `\n`, `\u{1b}` and the like are spelled out.
///
/// Names come from checkpoints, and a checkpoint may be hostile.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            let _ = write!(safe, "{}", c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Control characters, and the marks that reorder or hide the text around them.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A code span in a table cell: longer fence where the text has backticks, bars escaped because cells end at them.
pub(crate) fn markdown_code(text: &str) -> String {
    let fence = "`".repeat(longest_backticks(text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", one_line(text).replace('|', "\\|"))
}

fn longest_backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Message text in a table cell: what stands in backticks stays code, the rest loses every markup it might have.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let text = one_line(text);
    let mut parts = text.split('`').peekable();
    let mut in_code = false;
    while let Some(part) = parts.next() {
        let closes = parts.peek().is_some();
        if in_code && closes {
            out.push_str(&markdown_code(part));
        } else {
            if in_code {
                // A backtick that nothing closes is a backtick.
                out.push_str("\\`");
            }
            escape(&mut out, part);
        }
        in_code = !in_code;
    }
    out
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '|' | '*' | '_' | '[' | ']' | '~' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(one_line("a\u{1b}[31mb\nc\td"), "a\\u{1b}[31mb\\nc\\td");
        assert_eq!(one_line("left\u{202e}right"), "left\\u{202e}right");
        assert!(matches!(one_line("βγ `x`"), Cow::Borrowed(_)));
    }
}
