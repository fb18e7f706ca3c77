//! Findings that only follow from others, and are not said twice.

use super::{Code, Finding, Severity, code};
use crate::source::Span;

/// Leaves out what only follows from another finding about the same rule or table: one that can never match is unused, one
/// that is shadowed never decides, and weights without rules are what an empty table means.
pub(crate) fn without_echoes(mut findings: Vec<Finding>) -> Vec<Finding> {
    let of = |codes: &[&'static Code]| -> Vec<Span> {
        let all = findings.iter().filter(|finding| codes.contains(&finding.code));
        all.filter_map(Finding::span).collect()
    };
    let (never, shadowed) = (of(&[&code::UNREACHABLE_RULE]), of(&[&code::SHADOWED_RULE]));
    let unmatched = of(&[&code::UNMATCHED_WEIGHT]);
    findings.retain(|finding| {
        let at = |spans: &[Span]| finding.span().is_some_and(|span| spans.contains(&span));
        let echo = (finding.code == &code::UNUSED_RULE && at(&never))
            || (finding.code == &code::NEVER_DECIDES && (at(&never) || at(&shadowed)))
            || (finding.code == &code::EMPTY_TABLE && at(&unmatched));
        !echo
    });
    findings
}

/// Leaves out that a checkpoint is empty where opening it found out why.
pub(crate) fn drop_empty(opened: &[Finding], planned: &mut Vec<Finding>) {
    if super::worst(opened) == Some(Severity::Error) {
        planned.retain(|finding| finding.code != &code::EMPTY_CHECKPOINT);
    }
}
