//! Findings: what can be said about a policy, a checkpoint or a run. Plain data; nothing here prints.

mod codes;
mod counts;
#[cfg(feature = "cli")]
pub(crate) mod echo;
pub mod levels;
pub mod page;
mod record;
pub mod render;
pub mod suggest;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

#[doc(inline)]
pub use codes::code;
pub use codes::{ALL as CODES, Code, by_id_or_name};
pub use counts::Counts;
pub use record::{FORMAT, FORMAT_VERSION, FindingRecord, FindingsDocument, LocationRecord};

use crate::source::{SourceId, Span};

/// How serious a finding is; ordered from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; never changes the exit status.
    Info,
    /// Probably a mistake.
    Warning,
    /// Wrong: the plan cannot be trusted or made.
    Error,
}

impl Severity {
    /// `error`, `warning` or `info`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What a label points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A range of a policy text.
    Text(Span),
    /// A file that is not policy text, and a byte offset in it where that is known.
    File {
        /// The path as the user would write it.
        path: Arc<str>,
        /// Byte offset of the trouble.
        offset: Option<u64>,
    },
}

/// A place and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// What to see there; may be empty.
    pub text: String,
}

/// One thing that can be said, with its places and its remedy.
///
/// The first label is the primary one. Messages are lower case and end without a period; user text stands in
/// backticks; the remedy is in `help`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind, with its documentation.
    pub code: &'static Code,
    /// The code's own severity, or what `[lints]` and the command line made of it.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// Where; the first is primary.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub help: Option<String>,
    /// Further facts, such as the first of many weights concerned.
    pub notes: Vec<String>,
}

impl Finding {
    /// Makes a finding at the code's own severity, without a place.
    #[must_use]
    pub fn new(code: &'static Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity,
            message: message.into(),
            labels: Vec::new(),
            help: None,
            notes: Vec::new(),
        }
    }

    /// Adds a label on policy text; the first one added is the primary.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { place: Place::Text(span), text: text.into() });
        self
    }

    /// Adds a label on a file that is not policy text.
    #[must_use]
    pub fn in_file(mut self, path: impl Into<Arc<str>>, offset: Option<u64>, text: impl Into<String>) -> Self {
        self.labels.push(Label { place: Place::File { path: path.into(), offset }, text: text.into() });
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a further fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The same finding, after its sources were appended to others; see [`crate::source::Sources::append`].
    #[must_use]
    pub fn rebased(mut self, offset: u32) -> Self {
        for label in &mut self.labels {
            if let Place::Text(span) = &mut label.place {
                *span = span.rebased(offset);
            }
        }
        self
    }

    /// The first policy text span, if any.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        self.labels.iter().find_map(|label| match label.place {
            Place::Text(span) => Some(span),
            Place::File { .. } => None,
        })
    }

    /// The policy source of the primary label, if it points into one.
    #[must_use]
    pub fn source(&self) -> Option<SourceId> {
        self.span().map(|span| span.source)
    }
}

/// Sorts by file, then position, then code, and drops exact repetitions.
pub fn sort(findings: &mut Vec<Finding>) {
    findings.sort_by(|a, b| {
        let place = |finding: &Finding| finding.labels.first().map(|label| label.place.clone());
        // Findings without a place come last: they are about the whole run.
        (a.labels.is_empty(), place(a), a.code.id, &a.message).cmp(&(
            b.labels.is_empty(),
            place(b),
            b.code.id,
            &b.message,
        ))
    });
    findings.dedup();
}

/// The highest severity present.
#[must_use]
pub fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).max()
}
