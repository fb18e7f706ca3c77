//! One line a finding, in the shape that editors and `grep` know.

use std::fmt::Write as _;

use super::text;
use crate::finding::Finding;
use crate::source::Sources;

pub(super) fn render(findings: &[Finding], sources: &Sources) -> String {
    let mut out = String::new();
    for finding in findings {
        if let Some(label) = finding.labels.first() {
            let _ = write!(out, "{}: ", text::place(label, sources));
        }
        let message = text::one_line(&finding.message);
        let _ = writeln!(out, "{}[{}]: {message}", finding.severity.name(), finding.code.id);
    }
    out
}
