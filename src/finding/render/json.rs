//! One versioned document, or one record a line.

use serde::Serialize;

use crate::finding::{Finding, FindingRecord, FindingsDocument};
use crate::source::Sources;

pub(super) fn render(findings: &[Finding], sources: &Sources) -> String {
    let mut out = String::new();
    push(&mut out, serde_json::to_string_pretty, &FindingsDocument::new(findings, sources));
    out
}

pub(super) fn render_lines(findings: &[Finding], sources: &Sources) -> String {
    let mut out = String::new();
    for finding in findings {
        push(&mut out, serde_json::to_string, &FindingRecord::new(finding, sources));
    }
    out
}

fn push<T: Serialize>(out: &mut String, to_string: fn(&T) -> serde_json::Result<String>, value: &T) {
    #[expect(clippy::expect_used, reason = "the records hold strings and integers only, which JSON can always say")]
    let text = to_string(value).expect("strings and integers are JSON");
    out.push_str(&text);
    out.push('\n');
}
