//! Findings as text, one format per file.
//!
//! Every renderer is a pure function of the findings, the texts they point into and its options; none looks at a
//! terminal. Findings are printed in the order given: [`sort`](super::sort) them first.

mod concise;
mod github;
#[cfg(feature = "render")]
mod human;
mod json;
mod markdown;
mod sarif;
pub(crate) mod text;

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "render")]
pub use human::Report;

use super::Finding;
use crate::source::Sources;

/// The columns of a report that goes to a file, a pipe or a test.
pub const FIXED_WIDTH: usize = 100;

/// A way to print findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// For people: the lines concerned, drawn with their labels. Needs the feature `render`.
    #[cfg(feature = "render")]
    Human,
    /// One line a finding: `file:line:column: error[FF002]: message`.
    Concise,
    /// One versioned document, see [`FindingsDocument`](super::FindingsDocument).
    Json,
    /// One [`FindingRecord`](super::FindingRecord) a line.
    Jsonl,
    /// A table for a pull request comment.
    Markdown,
    /// Workflow commands that GitHub turns into annotations.
    Github,
    /// A SARIF 2.1.0 log for code scanning.
    Sarif,
}

/// A name that is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{0}`")]
pub struct UnknownFormat(
    /// The name, as it was written.
    pub String,
);

impl Format {
    /// Every format that this build has.
    pub const ALL: &'static [Format] = &[
        #[cfg(feature = "render")]
        Format::Human,
        Format::Concise,
        Format::Json,
        Format::Jsonl,
        Format::Markdown,
        Format::Github,
        Format::Sarif,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "render")]
            Format::Human => "human",
            Format::Concise => "concise",
            Format::Json => "json",
            Format::Jsonl => "jsonl",
            Format::Markdown => "markdown",
            Format::Github => "github",
            Format::Sarif => "sarif",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.iter().copied().find(|format| format.name() == text).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// What a renderer may be told about where its text goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Columns of the human report; at least 40 are used. The default is [`FIXED_WIDTH`].
    pub width: usize,
    /// Whether the human report carries ANSI colours. The default is no.
    pub color: bool,
    /// The most bytes that the markdown may take; what does not fit is counted in a closing line. GitHub refuses
    /// comments above 65 535 characters, so the default is 60 000.
    pub max_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { width: FIXED_WIDTH, color: false, max_bytes: 60_000 }
    }
}

/// Prints findings in a format. The text is empty or ends with a newline.
///
/// ```
/// use flow_fabric::finding::{Finding, code, render};
/// use flow_fabric::source::{Sources, Span};
///
/// let mut sources = Sources::default();
/// let policy = sources.add("grok-1.toml", "[mesh]\naxis = [\"data\"]\n");
/// let finding = Finding::new(&code::UNKNOWN_KEY, "unknown key `axis`").at(Span::new(policy, 7..11), "");
/// let text = render::render(render::Format::Concise, &[finding], &sources, &render::Options::default());
/// assert_eq!(text, "grok-1.toml:2:1: error[FF002]: unknown key `axis`\n");
/// ```
#[must_use]
pub fn render(format: Format, findings: &[Finding], sources: &Sources, options: &Options) -> String {
    match format {
        #[cfg(feature = "render")]
        Format::Human => human::render(findings, sources, options),
        Format::Concise => concise::render(findings, sources),
        Format::Json => json::render(findings, sources),
        Format::Jsonl => json::render_lines(findings, sources),
        Format::Markdown => markdown::render(findings, sources, options),
        Format::Github => github::render(findings, sources),
        Format::Sarif => sarif::render(findings, sources),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_names_round_trip() {
        for &format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
        }
        assert_eq!("xml".parse::<Format>(), Err(UnknownFormat("xml".to_owned())));
    }
}
