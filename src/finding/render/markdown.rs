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
    let place =
        finding.labels.first().map_or_else(String::new, |label| text::markdown_code(&text::place(label, sources)));
    let mut cell = format!("**{} {}**<br>{}", finding.code.id, finding.code.name, text::markdown(&finding.message));
    for (at, label) in finding.labels.iter().enumerate() {
        match (at, label.text.as_str()) {
            (0, "") => {}
            (0, text) => {
                let _ = write!(cell, "<br>{}", text::markdown(text));
            }
            (_, text) => {
                let _ = write!(cell, "<br>{}", text::markdown_code(&text::place(label, sources)));
                if !text.is_empty() {
                    let _ = write!(cell, " {}", text::markdown(text));
                }
            }
        }
    }
    if let Some(help) = &finding.help {
        let _ = write!(cell, "<br>help: {}", text::markdown(help));
    }
    for note in &finding.notes {
        let _ = write!(cell, "<br>note: {}", text::markdown(note));
    }
    format!("| {} | {place} | {cell} |\n", finding.severity.name())
}
