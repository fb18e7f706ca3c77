//! The streams of a run, and what is known about where they go.

use std::fmt;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use super::{ColorChoice, Stop};
use crate::finding::render::{self, FIXED_WIDTH, Format};
use crate::finding::{Counts, Finding, Severity};
use crate::source::Sources;

/// Beyond this, lines are hard to read however wide the terminal is.
const MOST_COLUMNS: usize = 120;

/// Standard input, output and error of a run.
///
/// Data goes to `stdout`, narration to `stderr`. Off a terminal the text is the same, without colour, at a fixed width.
pub struct Ui {
    stdin: Box<dyn Read + Send>,
    stdout: Stream,
    stderr: Stream,
    quiet: bool,
    /// Files that the run has read, for `--watch`.
    opened: Vec<PathBuf>,
}

#[derive(Debug)]
struct Stream {
    sink: Sink,
    /// What `--color auto` means here.
    takes_color: bool,
    color: bool,
    /// Columns of the terminal, if it is one.
    columns: Option<usize>,
}

#[derive(Debug)]
enum Sink {
    Stdout(io::BufWriter<io::Stdout>),
    Stderr(io::Stderr),
    Memory(Vec<u8>),
}

/// What a run on [`Ui::captured`] has printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The data.
    pub stdout: String,
    /// The narration and the failures.
    pub stderr: String,
}

impl Ui {
    /// The streams of this process.
    #[must_use]
    pub fn stdio() -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let takes_color = |choice: anstream::ColorChoice| choice != anstream::ColorChoice::Never;
        Self {
            stdin: Box::new(io::stdin()),
            stdout: Stream {
                takes_color: takes_color(anstream::AutoStream::choice(&stdout)),
                color: false,
                columns: stdout.is_terminal().then(|| columns(terminal_size::terminal_size_of(&stdout))).flatten(),
                sink: Sink::Stdout(io::BufWriter::new(stdout)),
            },
            stderr: Stream {
                takes_color: takes_color(anstream::AutoStream::choice(&stderr)),
                color: false,
                columns: stderr.is_terminal().then(|| columns(terminal_size::terminal_size_of(&stderr))).flatten(),
                sink: Sink::Stderr(stderr),
            },
            quiet: false,
            opened: Vec::new(),
        }
    }

    /// Streams in memory that are no terminals; standard input holds `stdin`.
    #[must_use]
    pub fn captured(stdin: impl Into<Vec<u8>>) -> Self {
        let memory = || Stream { sink: Sink::Memory(Vec::new()), takes_color: false, color: false, columns: None };
        Self {
            stdin: Box::new(io::Cursor::new(stdin.into())),
            stdout: memory(),
            stderr: memory(),
            quiet: false,
            opened: Vec::new(),
        }
    }

    /// What was printed on streams in memory; empty for those of the process.
    #[must_use]
    pub fn into_captured(self) -> Captured {
        let text = |stream: Stream| match stream.sink {
            Sink::Memory(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Sink::Stdout(_) | Sink::Stderr(_) => String::new(),
        };
        Captured { stdout: text(self.stdout), stderr: text(self.stderr) }
    }

    pub(super) fn set_color(&mut self, choice: ColorChoice) {
        for stream in [&mut self.stdout, &mut self.stderr] {
            stream.color = match choice {
                ColorChoice::Auto => stream.takes_color,
                ColorChoice::Always => true,
                ColorChoice::Never => false,
            };
        }
    }

    pub(super) fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Whether data may carry colour.
    pub(super) fn color(&self) -> bool {
        self.stdout.color
    }

    /// Whether failures may carry colour.
    pub(super) fn error_color(&self) -> bool {
        self.stderr.color
    }

    /// Whether a line that is drawn again and again has a place: standard error is a terminal, and nobody asked for quiet.
    pub(super) fn draws_progress(&self) -> bool {
        self.stderr.columns.is_some() && !self.quiet
    }

    /// Whether these are the streams of the process, so that its signals are ours.
    pub(super) const fn is_process(&self) -> bool {
        matches!(self.stderr.sink, Sink::Stderr(_))
    }

    /// Columns for data.
    pub(super) fn width(&self) -> usize {
        self.stdout.width()
    }

    pub(super) fn stdin(&mut self) -> &mut (dyn Read + Send) {
        &mut *self.stdin
    }

    /// Notes that the run reads a file, whether it is there or not.
    pub(super) fn opened(&mut self, file: &Path) {
        self.opened.push(file.to_owned());
    }

    /// The files that were read since the last call.
    pub(super) fn take_opened(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.opened)
    }

    /// Prints data.
    pub(super) fn print(&mut self, text: &str) -> Result<(), Stop> {
        self.stdout.sink.writer().write_all(text.as_bytes()).map_err(|error| Stop::output(&error))
    }

    /// Writes data piece by piece.
    pub(super) fn write_with(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Stop> {
        write(self.stdout.sink.writer()).map_err(|error| Stop::output(&error))
    }

    /// Says what was done, unless told to be quiet.
    pub(super) fn narrate(&mut self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Prints what keeps the job from being done. Where that cannot be printed, nothing can.
    pub(super) fn complain(&mut self, text: &str) {
        let _ = self.stderr.sink.writer().write_all(text.as_bytes());
    }

    /// Prints findings as the data of a verb.
    pub(super) fn print_findings(
        &mut self,
        format: Format,
        findings: &[Finding],
        sources: &Sources,
    ) -> Result<(), Stop> {
        let options = render::Options { width: self.width(), color: self.color(), ..Default::default() };
        self.print(&render::render(format, findings, sources, &options))?;
        self.flush()
    }

    /// Prints findings beside the data of a verb that has other data, and their counts.
    pub(super) fn report(&mut self, findings: &[Finding], sources: &Sources) -> Result<(), Stop> {
        // On a terminal both streams are one; findings come after the data that they are about.
        self.flush()?;
        let shown: Vec<Finding> =
            findings.iter().filter(|finding| !self.quiet || finding.severity == Severity::Error).cloned().collect();
        if !shown.is_empty() {
            let stream = &self.stderr;
            let options = render::Options { width: stream.width(), color: stream.color, ..Default::default() };
            let text = render::render(Format::Human, &shown, sources, &options);
            self.complain(&format!("{text}\n{}\n", Counts::of(&shown)));
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        self.stdout.sink.writer().flush().map_err(|error| Stop::output(&error))
    }
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ui").field("stdout", &self.stdout).field("stderr", &self.stderr).finish_non_exhaustive()
    }
}

impl Stream {
    fn width(&self) -> usize {
        self.columns.map_or(FIXED_WIDTH, |columns| columns.min(MOST_COLUMNS))
    }
}

impl Sink {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Sink::Stdout(stdout) => stdout,
            Sink::Stderr(stderr) => stderr,
            Sink::Memory(bytes) => bytes,
        }
    }
}

fn columns(size: Option<(terminal_size::Width, terminal_size::Height)>) -> Option<usize> {
    size.map(|(terminal_size::Width(columns), _)| usize::from(columns)).filter(|columns| *columns > 0)
}
