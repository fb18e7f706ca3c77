//! What readers report: a kind, a byte offset, a sentence; and how much of it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::json::JsonError;
use crate::finding::{Code, Finding, code};

/// Findings of one kind kept per file; a hostile file could otherwise make one for each of a million tensors.
const KEPT_PER_CODE: usize = 10;

/// Longest piece of foreign text quoted in a message, in characters.
const QUOTED: usize = 120;

/// Something wrong at a place of a file.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) code: &'static Code,
    /// Offset in the file.
    pub(super) at: Option<u64>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Trouble {
    pub(super) fn new(code: &'static Code, at: u64, message: impl Into<String>) -> Self {
        Self { code, at: Some(at), message: message.into(), help: None }
    }

    pub(super) fn anywhere(code: &'static Code, message: impl Into<String>) -> Self {
        Self { code, at: None, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Moves the place: the text began at `base` of the file.
    pub(super) fn offset_by(mut self, base: u64) -> Self {
        self.at = self.at.map(|at| at.saturating_add(base));
        self
    }
}

impl From<JsonError> for Trouble {
    fn from(error: JsonError) -> Self {
        let kind = if error.wrong_type { &code::HEADER_FIELD } else { &code::MALFORMED_HEADER };
        Trouble::new(kind, error.at as u64, error.message)
    }
}

/// The findings of one file.
#[derive(Debug)]
pub(super) struct Report {
    path: Arc<str>,
    findings: Vec<Finding>,
    counts: BTreeMap<&'static str, usize>,
}

impl Report {
    /// What `read` makes of the file at `path`; what it reports, and what stops it, is handed over. `None` when it refuses.
    pub(super) fn of<T>(
        path: &Arc<str>,
        findings: &mut Vec<Finding>,
        read: impl FnOnce(&mut Self) -> Result<Option<T>, Trouble>,
    ) -> Option<T> {
        let mut report = Self::new(path);
        let value = read(&mut report).unwrap_or_else(|trouble| {
            report.push(trouble);
            None
        });
        report.finish(findings);
        value
    }

    pub(super) fn new(path: &Arc<str>) -> Self {
        Self { path: path.clone(), findings: Vec::new(), counts: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, trouble: Trouble) {
        let count = self.counts.entry(trouble.code.id).or_default();
        *count += 1;
        if *count <= KEPT_PER_CODE {
            let mut finding = Finding::new(trouble.code, trouble.message).in_file(self.path.clone(), trouble.at, "");
            finding.help = trouble.help;
            self.findings.push(finding);
        }
    }

    /// Hands the findings over; the last of a kind says how many more there were.
    pub(super) fn finish(mut self, into: &mut Vec<Finding>) {
        for (id, count) in self.counts {
            let more = count.saturating_sub(KEPT_PER_CODE);
            if more > 0
                && let Some(last) = self.findings.iter_mut().rev().find(|finding| finding.code.id == id)
            {
                last.notes.push(format!("{more} more like these are not listed"));
            }
        }
        into.append(&mut self.findings);
    }
}

/// Foreign text made fit for a message: control characters escaped, long text cut.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == QUOTED {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out.push('`');
    out
}
