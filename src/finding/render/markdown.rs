//! A table for a pull request comment: the counts first, then one row a finding, inside a byte budget.

use std::fmt::Write as _;

use super::{Options, text};
use crate::finding::{Counts, Finding};
use crate::source::Sources;

/// Room kept for the line that says how many rows were left out.
const CLOSING: usize = 80;

pub(super) fn render(findings: &[Finding], sources: &Sources, options: &Options) -> String {
    let mut out = format!("**{}**\n", Counts::of(findings));
    if findings.is_empty() {
        return out;
    }
    out.push_str("\n| severity | where | finding |\n|---|---|---|\n");
    let mut shown = 0;
    for finding in findings {
        let row = row(finding, sources);
        if out.len() + row.len() + CLOSING > options.max_bytes {
            break;
        }
        out.push_str(&row);
        shown += 1;
    }
    if shown < findings.len() {
        let _ = writeln!(out, "\n{} of {} findings are shown; the rest did not fit.", shown, findings.len());
    }
    out
}

fn row(finding: &Finding, sources: &Sources) -> String {
    let place = finding.labels.first().map_or_else(String::new, |label| code(&text::place(label, sources)));
    let mut cell = format!("**{} {}**<br>{}", finding.code.id, finding.code.name, inline(&finding.message));
    for (at, label) in finding.labels.iter().enumerate() {
        match (at, label.text.as_str()) {
            (0, "") => {}
            (0, text) => {
                let _ = write!(cell, "<br>{}", inline(text));
            }
            (_, text) => {
                let _ = write!(cell, "<br>{}", code(&text::place(label, sources)));
                if !text.is_empty() {
                    let _ = write!(cell, " {}", inline(text));
                }
            }
        }
    }
    if let Some(help) = &finding.help {
        let _ = write!(cell, "<br>help: {}", inline(help));
    }
    for note in &finding.notes {
        let _ = write!(cell, "<br>note: {}", inline(note));
    }
    format!("| {} | {place} | {cell} |\n", finding.severity.name())
}

/// A code span in a table cell: longer fence where the text has backticks, bars escaped because cells end at them.
fn code(text: &str) -> String {
    let fence = "`".repeat(longest_backticks(text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", text::one_line(text).replace('|', "\\|"))
}

fn longest_backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Message text in a table cell: what stands in backticks stays code, the rest loses every markup it might have.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let text = text::one_line(text);
    let mut parts = text.split('`').peekable();
    let mut in_code = false;
    while let Some(part) = parts.next() {
        let closes = parts.peek().is_some();
        if in_code && closes {
            out.push_str(&code(part));
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
