//! Findings as other programs read them: names instead of pointers, lines and columns instead of spans.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, Finding, Label, Place, Severity};
use crate::plan::Coverage;
use crate::source::Sources;

/// What the `format` key of a findings document says.
pub const FORMAT: &str = "flow-fabric/findings";

/// What the `format_version` key says; it changes when a reader of the old one could be misled.
pub const FORMAT_VERSION: u32 = 1;

/// One finding, readable without the texts it points into.
///
/// Every document that carries findings carries them in this shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingRecord {
    /// `FF` and three digits; never reused for another kind.
    pub code: String,
    /// The kebab-case name, as `[lints]` spells it.
    pub name: String,
    /// How serious it is, after `[lints]` and the command line.
    pub severity: Severity,
    /// One sentence; user text stands in backticks.
    pub message: String,
    /// Where; the first is the primary one. Empty when the finding is about the whole run.
    pub locations: Vec<LocationRecord>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub help: Option<String>,
    /// Further facts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A place that a finding points at: a range of a policy text, or a byte of another file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocationRecord {
    /// The path as the user wrote it, `-` for standard input.
    pub file: String,
    /// Line of the first character, from 1. Absent for files that are not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize", range(min = 1))]
    pub line: Option<usize>,
    /// Column of the first character, from 1, in Unicode scalar values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize", range(min = 1))]
    pub column: Option<usize>,
    /// Line of the position just past the last character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize", range(min = 1))]
    pub end_line: Option<usize>,
    /// Column of the position just past the last character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize", range(min = 1))]
    pub end_column: Option<usize>,
    /// The first byte, from 0. Absent when only the file is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub offset: Option<u64>,
    /// What to see there; may be empty.
    pub text: String,
}

/// The findings of one run, with their counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "flow-fabric findings")]
pub struct FindingsDocument {
    /// Always `flow-fabric/findings`.
    #[schemars(extend("const" = FORMAT))]
    pub format: String,
    /// Version of this shape; additions do not raise it.
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// The findings, sorted by file, position and code.
    pub findings: Vec<FindingRecord>,
    /// How many there are of each severity.
    pub counts: Counts,
    /// What `check --against` counted, a policy and a checkpoint each; absent elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<Coverage>,
}

impl FindingRecord {
    /// Resolves a finding against the texts it points into.
    #[must_use]
    pub fn new(finding: &Finding, sources: &Sources) -> Self {
        Self {
            code: finding.code.id.to_owned(),
            name: finding.code.name.to_owned(),
            severity: finding.severity,
            message: finding.message.clone(),
            locations: finding.labels.iter().map(|label| LocationRecord::new(label, sources)).collect(),
            help: finding.help.clone(),
            notes: finding.notes.clone(),
        }
    }

    /// Resolves every finding of a run.
    #[must_use]
    pub fn all(findings: &[Finding], sources: &Sources) -> Vec<Self> {
        findings.iter().map(|finding| Self::new(finding, sources)).collect()
    }
}

impl LocationRecord {
    /// Resolves a label against the texts it may point into.
    #[must_use]
    pub fn new(label: &Label, sources: &Sources) -> Self {
        let text = label.text.clone();
        match &label.place {
            Place::Text(span) => {
                let (start, end) = (sources.start(*span), sources.end(*span));
                Self {
                    file: sources.name(span.source).to_owned(),
                    line: Some(start.line),
                    column: Some(start.column),
                    end_line: Some(end.line),
                    end_column: Some(end.column),
                    offset: Some(u64::from(span.start)),
                    text,
                }
            }
            Place::File { path, offset } => Self {
                file: path.to_string(),
                line: None,
                column: None,
                end_line: None,
                end_column: None,
                offset: *offset,
                text,
            },
        }
    }
}

impl FindingsDocument {
    /// Resolves the findings of a run.
    #[must_use]
    pub fn new(findings: &[Finding], sources: &Sources) -> Self {
        Self {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            findings: FindingRecord::all(findings, sources),
            counts: Counts::of(findings),
            coverage: Vec::new(),
        }
    }
}
