//! A finding for programs that already report through miette.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, SourceCode};

use super::frame::{self, Frame};
use crate::finding::render::{FIXED_WIDTH, text};
use crate::finding::{Finding, Place, Severity};
use crate::source::Sources;

/// A finding as a [`miette::Diagnostic`].
///
/// miette has no labels in several files of one diagnostic, so every further file, and every further stretch of the
/// same one, is a `related` child. It owns what it shows.
///
/// ```
/// use flow_fabric::finding::{Finding, code, render::Report};
/// use flow_fabric::source::{Sources, Span};
///
/// let mut sources = Sources::default();
/// let policy = sources.add("grok-1.toml", "[mesh]\naxis = [\"data\"]\n");
/// let finding = Finding::new(&code::UNKNOWN_KEY, "unknown key `axis`").at(Span::new(policy, 7..11), "no such key");
/// let report = miette::Report::new(Report::new(&finding, &sources));
/// assert_eq!(report.code().unwrap().to_string(), "FF002");
/// ```
#[derive(Debug, Clone)]
pub struct Report {
    code: &'static str,
    severity: Severity,
    message: String,
    help: Option<String>,
    frames: Vec<Frame>,
}

impl Report {
    /// Makes the diagnostic of a finding, with what it points at.
    #[must_use]
    pub fn new(finding: &Finding, sources: &Sources) -> Self {
        let mut frames = frame::cut(finding, sources, FIXED_WIDTH);
        for frame in frames.iter_mut().skip(1) {
            frame.heading = String::from("see also");
            frame.severity = Severity::Info;
        }
        // Bytes of files that are no text have no lines to draw; they join the notes.
        let places = finding.labels.iter().filter(|label| matches!(label.place, Place::File { .. })).map(|label| {
            let colon = if label.text.is_empty() { "" } else { ": " };
            format!("{}{colon}{}", text::place(label, sources), text::one_line(&label.text))
        });
        let lines: Vec<String> =
            finding.help.iter().cloned().chain(places).chain(finding.notes.iter().cloned()).collect();
        Self {
            code: finding.code.id,
            severity: finding.severity,
            message: finding.message.clone(),
            help: (!lines.is_empty()).then(|| lines.join("\n")),
            frames,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::one_line(&self.message))
    }
}

impl std::error::Error for Report {}

impl Diagnostic for Report {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(super::severity(self.severity))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.frames.first().map(|frame| frame as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.frames.first().and_then(Diagnostic::labels)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let further = self.frames.get(1..).filter(|further| !further.is_empty())?;
        Some(Box::new(further.iter().map(|frame| frame as &dyn Diagnostic)))
    }
}
