//! GitHub workflow commands: `::error file=...,line=...::message`.
//!
//! The escapes are those of the runner's own toolkit (`actions/toolkit`, `packages/core/src/command.ts`): `%`, CR and
//! LF in the message; `:` and `,` besides in a property.

use std::fmt::Write as _;

use super::text;
use crate::finding::{Finding, Place, Severity};
use crate::source::Sources;

pub(super) fn render(findings: &[Finding], sources: &Sources) -> String {
    let mut out = String::new();
    for finding in findings {
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        let title = format!("{} {}", finding.code.id, finding.code.name);
        let _ = write!(out, "::{command} {}title={}", properties(finding, sources), property(&title));
        let _ = writeln!(out, "::{}", data(&message(finding, sources)));
    }
    out
}

/// `file=...,line=...,` of the primary label; every property ends with its comma.
fn properties(finding: &Finding, sources: &Sources) -> String {
    match finding.labels.first().map(|label| &label.place) {
        Some(Place::Text(span)) => {
            let (start, end) = (sources.start(*span), sources.end(*span));
            let mut text = format!("file={},line={},", property(sources.name(span.source)), start.line);
            // Columns are read only when the range stays on its line.
            if start.line == end.line {
                let _ = write!(text, "col={},endColumn={},", start.column, end.column);
            } else {
                let _ = write!(text, "endLine={},", end.line);
            }
            text
        }
        Some(Place::File { path, .. }) => format!("file={},", property(path)),
        None => String::new(),
    }
}

/// The message and what else there is to say; an annotation has no other room for it.
fn message(finding: &Finding, sources: &Sources) -> String {
    let mut out = finding.message.clone();
    for (at, label) in finding.labels.iter().enumerate() {
        // The annotation stands on the primary label, except that it cannot stand on a byte.
        let byte = matches!(label.place, Place::File { offset: Some(_), .. });
        match (at, label.text.as_str()) {
            (0, "") if !byte => {}
            (0, text) if !byte => {
                let _ = write!(out, "\n{text}");
            }
            (_, "") => {
                let _ = write!(out, "\n{}", text::place(label, sources));
            }
            (_, text) => {
                let _ = write!(out, "\n{}: {text}", text::place(label, sources));
            }
        }
    }
    if let Some(help) = &finding.help {
        let _ = write!(out, "\nhelp: {help}");
    }
    for note in &finding.notes {
        let _ = write!(out, "\nnote: {note}");
    }
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
