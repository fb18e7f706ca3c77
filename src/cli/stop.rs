//! How a run ends: the one place where outcomes become exit statuses.

use std::io;
use std::process::ExitCode;

use super::Ui;
use crate::finding::{self, Finding, Severity};

/// The exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    /// Done, and nothing found at the fail level. Also when the reader of the output went away.
    Done = 0,
    /// Done, with findings at or above the fail level, or refused by a gate of the policy.
    Findings = 1,
    /// Could not do the job: usage, an unreadable file, a text that stops the work.
    Failed = 2,
    /// Interrupted, as shells say it: 128 and SIGINT.
    Interrupted = 130,
}

impl Status {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status.code())
    }
}

/// How a verb that did its job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Something found at the fail level.
    Findings,
}

impl Outcome {
    /// The outcome of a run with these findings, at the severities that `[lints]` and the command line gave them.
    pub(super) fn of(findings: &[Finding]) -> Self {
        if finding::worst(findings) == Some(Severity::Error) { Self::Findings } else { Self::Done }
    }

    /// The outcome of two parts of a run.
    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done, Self::Done) => Self::Done,
            _ => Self::Findings,
        }
    }
}

/// Why a verb could not do its job.
#[derive(Debug)]
pub(super) enum Stop {
    /// One sentence, and what to do about it.
    Failed { message: String, help: Option<String> },
    /// The same, already printed.
    Said,
    /// A gate of the policy, or content that is not what it should be, keeps the job from being done; already printed.
    Refused,
    /// Nobody reads the output any more.
    ClosedPipe,
    /// Ctrl-C. Nothing half done is left.
    Interrupted,
}

impl Stop {
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Failed { message, .. } => Self::Failed { message, help: Some(help.into()) },
            other => other,
        }
    }

    /// Prints the failure, unless that is done or nobody reads it.
    pub(super) fn say(&self, ui: &mut Ui) {
        if let Self::Failed { message, help } = self {
            // What was printed before the failure comes before its message.
            let _ = ui.flush();
            let help = help.as_ref().map(|help| format!("  help: {help}\n")).unwrap_or_default();
            ui.complain(&format!("error: {message}\n{help}"));
        }
    }

    /// What an error on the output streams means.
    pub(super) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::failed(format!("cannot write the output: {error}")),
        }
    }
}

/// Flushes, says what stopped the run, and gives its status.
pub(super) fn conclude(outcome: Result<Outcome, Stop>, ui: &mut Ui) -> Status {
    let stop = match outcome.and_then(|outcome| ui.flush().map(|()| outcome)) {
        Ok(Outcome::Done) => return Status::Done,
        Ok(Outcome::Findings) => return Status::Findings,
        Err(stop) => stop,
    };
    stop.say(ui);
    match stop {
        Stop::ClosedPipe => Status::Done,
        Stop::Interrupted => Status::Interrupted,
        Stop::Refused => Status::Findings,
        Stop::Said | Stop::Failed { .. } => Status::Failed,
    }
}

/// Makes a panic say that it is a bug and where to take it; the status is then Rust's own, 101.
pub(super) fn install_panic_hook() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        Ui::stdio().complain(concat!(
            "\nThis is a bug in flow-fabric ",
            env!("CARGO_PKG_VERSION"),
            ", not in your policy or checkpoint.\n",
            "Please report it with the message above, the command line and, if you can, the files it read.\n"
        ));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_done_and_other_errors_are_failures() {
        let stop = |kind: io::ErrorKind| Err(Stop::output(&io::Error::from(kind)));
        let status = |kind| conclude(stop(kind), &mut Ui::captured(""));
        assert_eq!(status(io::ErrorKind::BrokenPipe), Status::Done);
        assert_eq!(status(io::ErrorKind::StorageFull), Status::Failed);
        assert_eq!(
            [Status::Done, Status::Findings, Status::Failed, Status::Interrupted].map(Status::code),
            [0, 1, 2, 130]
        );
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let mut ui = Ui::captured("");
        let stop = Stop::failed("no such thing").help("did you mean `other`?");
        assert_eq!(conclude(Err(stop), &mut ui), Status::Failed);
        assert_eq!(ui.into_captured().stderr, "error: no such thing\n  help: did you mean `other`?\n");
    }
}
