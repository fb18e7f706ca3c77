//! The report for people, drawn by miette.
//!
//! miette draws one text a diagnostic and reads whole files to do so; a finding may point into several files, at bytes
//! that are no text, and into lines of any length. So a finding is first cut into [`Frame`]s (a few lines of one file
//! and the labels on them), each of which miette can draw well, and the frames are put under one heading.

mod frame;
mod report;

use std::fmt::{self, Write as _};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, ThemeStyles};
use textwrap::{WordSeparator, WordSplitter};

pub use self::report::Report;
use super::{Options, text};
use crate::finding::{Finding, Place, Severity};
use crate::source::Sources;

/// The least width that leaves room for a line of policy beside its number.
const LEAST_WIDTH: usize = 40;

pub(super) fn render(findings: &[Finding], sources: &Sources, options: &Options) -> String {
    let painter = Painter::new(options);
    let mut out = String::new();
    for finding in findings {
        if !out.is_empty() {
            out.push('\n');
        }
        painter.finding(&mut out, finding, sources);
    }
    out
}

struct Painter {
    handler: GraphicalReportHandler,
    styles: ThemeStyles,
    width: usize,
}

impl Painter {
    fn new(options: &Options) -> Self {
        let width = options.width.max(LEAST_WIDTH);
        let theme = if options.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme.clone())
            .with_width(width)
            .with_context_lines(frame::CONTEXT)
            .with_urls(false)
            .with_break_words(false)
            // Paths and names are for copying: they are never cut, at a hyphen or elsewhere.
            .with_word_separator(WordSeparator::AsciiSpace)
            .with_word_splitter(WordSplitter::NoHyphenation)
            .tab_width(frame::TAB);
        Self { handler, styles: theme.styles, width }
    }

    fn finding(&self, out: &mut String, finding: &Finding, sources: &Sources) {
        let mut headline = String::new();
        self.diagnostic(&mut headline, &Headline(finding));
        // miette leaves a line between code and message; together they are one heading.
        out.push_str(&headline.replacen("\n\n", "\n", 1));
        match finding.labels.first().map(|label| &label.place) {
            Some(Place::File { .. }) => {
                self.files(out, finding, sources);
                self.frames(out, finding, sources);
            }
            _ => {
                self.frames(out, finding, sources);
                self.files(out, finding, sources);
            }
        }
        let help = finding.help.iter().map(|help| ("help", help));
        for (title, text) in help.chain(finding.notes.iter().map(|note| ("note", note))) {
            self.footer(out, title, text);
        }
    }

    fn frames(&self, out: &mut String, finding: &Finding, sources: &Sources) {
        for frame in frame::cut(finding, sources, self.width) {
            // Without a heading, what miette draws above a frame is its icon alone.
            let mut drawn = String::new();
            self.diagnostic(&mut drawn, &frame);
            out.push_str(drawn.split_once('\n').map_or("", |(_, frame)| frame));
        }
    }

    /// Places that are no text, drawn like frames without lines.
    fn files(&self, out: &mut String, finding: &Finding, sources: &Sources) {
        for label in finding.labels.iter().filter(|label| matches!(label.place, Place::File { .. })) {
            let place = text::place(label, sources);
            let place = self.styles.link.style(place);
            let _ = match &*text::one_line(&label.text) {
                "" => writeln!(out, "   ╰─[{place}]"),
                what => writeln!(out, "   ╭─[{place}]\n   ╰── {what}"),
            };
        }
    }

    fn diagnostic(&self, out: &mut String, diagnostic: &dyn Diagnostic) {
        #[expect(
            clippy::expect_used,
            reason = "a String takes everything, and frames hold every span miette asks for"
        )]
        self.handler.render_report(out, diagnostic).expect("frames are readable");
    }

    /// Wraps a closing line as miette wraps its help.
    fn footer(&self, out: &mut String, title: &str, message: &str) {
        let lead = format!("  {title}: ");
        let styled = format!("  {} ", self.styles.help.style(format!("{title}:")));
        let rest = " ".repeat(lead.len());
        let options = textwrap::Options::new(self.width.saturating_sub(2))
            .initial_indent(&lead)
            .subsequent_indent(&rest)
            .break_words(false)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation);
        let message: Vec<_> = message.lines().map(text::one_line).collect();
        let filled = textwrap::fill(&message.join("\n"), options);
        out.push_str(&styled);
        out.push_str(filled.strip_prefix(&lead).unwrap_or(&filled));
        out.push('\n');
    }
}

/// What stands above the frames: code, name and message.
#[derive(Debug)]
struct Headline<'a>(&'a Finding);

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::one_line(&self.0.message))
    }
}

impl std::error::Error for Headline<'_> {}

impl Diagnostic for Headline<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("{}[{}] {}", self.0.severity.name(), self.0.code.id, self.0.code.name)))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(severity(self.0.severity))
    }
}

const fn severity(severity: Severity) -> miette::Severity {
    match severity {
        Severity::Error => miette::Severity::Error,
        Severity::Warning => miette::Severity::Warning,
        Severity::Info => miette::Severity::Advice,
    }
}
