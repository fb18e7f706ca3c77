//! The page of a code: what it finds, why that matters, a smallest input that has it and the same put right.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, Severity};

/// A code's page as other programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CodeRecord {
    /// `FF` and three digits.
    pub code: String,
    /// The kebab-case name, as `[lints]` spells it.
    pub name: String,
    /// Severity unless `[lints]` or the command line say otherwise.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// A smallest input that has it.
    pub bad: String,
    /// The same, put right.
    pub good: String,
}

impl From<&Code> for CodeRecord {
    fn from(code: &Code) -> Self {
        Self {
            code: code.id.to_owned(),
            name: code.name.to_owned(),
            severity: code.severity,
            what: code.what.to_owned(),
            why: code.why.to_owned(),
            bad: code.bad.to_owned(),
            good: code.good.to_owned(),
        }
    }
}

/// The page for a terminal, ending with a newline.
///
/// ```
/// use flow_fabric::finding::{code, page};
/// assert!(page::text(&code::UNKNOWN_KEY).starts_with("FF002 unknown-key (error)\n"));
/// ```
#[must_use]
pub fn text(code: &Code) -> String {
    let mut out = format!("{} {} ({})\n", code.id, code.name, code.severity.name());
    for paragraph in [code.what, code.why] {
        out.push('\n');
        wrap(&mut out, paragraph, 88);
    }
    for (title, example) in [("Has it:", code.bad), ("Put right:", code.good)] {
        let _ = writeln!(out, "\n{title}\n");
        for line in example.lines() {
            out.push_str(if line.is_empty() { "" } else { "    " });
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The page as markdown, its heading at level 3, ending with a newline.
#[must_use]
pub fn markdown(code: &Code) -> String {
    let Code { id, name, what, why, bad, good, .. } = code;
    let severity = code.severity.name();
    let (bad_fence, good_fence) = (fence(bad), fence(good));
    format!(
        "### {id} `{name}`\n\nSeverity: {severity}.\n\n{what}\n\n{why}\n\n\
         Has it:\n\n{bad_fence}\n{bad}\n```\n\nPut right:\n\n{good_fence}\n{good}\n```\n"
    )
}

/// Opens a code block in the language that an example is written in: policy, JSON, a command line, or words.
fn fence(example: &str) -> &'static str {
    let first = example.lines().map(str::trim_start).find(|line| !line.starts_with('#')).unwrap_or("");
    if first.starts_with("$ ") {
        "```console"
    } else if first.starts_with('{') {
        "```json"
    } else if first.starts_with('[') || first.contains(" = ") {
        "```toml"
    } else {
        "```text"
    }
}

/// Breaks a paragraph at spaces; a longer word gets a line of its own.
fn wrap(out: &mut String, paragraph: &str, width: usize) {
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_shown_in_their_language() {
        assert_eq!(fence("# a comment\nspec = []"), "```toml");
        assert_eq!(fence("[lints]"), "```toml");
        assert_eq!(fence(" {\"w\": 1}"), "```json");
        assert_eq!(fence("$ flow-fabric check a.toml"), "```console");
        assert_eq!(fence("a download that stopped"), "```text");
    }

    #[test]
    fn paragraphs_wrap_at_spaces() {
        let mut out = String::new();
        wrap(&mut out, "one two  three four", 9);
        assert_eq!(out, "one two\nthree\nfour\n");
        out.clear();
        wrap(&mut out, "a verylongwordthatdoesnotfit b", 5);
        assert_eq!(out, "a\nverylongwordthatdoesnotfit\nb\n");
    }
}
