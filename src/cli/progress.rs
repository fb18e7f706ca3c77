//! Long work on a terminal: how far it is, how fast, whether it stands still; and Ctrl-C.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Stop, Ui};
use crate::progress::{Cancelled, Progress};
use crate::units;

/// Work that is done by then shows nothing.
const UNSEEN: Duration = Duration::from_millis(300);

/// From then on the line says that no bytes come.
const STALLED: Duration = Duration::from_secs(5);

const TICK: Duration = Duration::from_millis(100);

/// The progress of one run of a verb, on standard error where that is a terminal.
#[derive(Debug)]
pub(super) struct TerminalProgress {
    bar: ProgressBar,
    shown: Arc<Shown>,
    signals: Signals,
}

/// What the line is made of, besides the bar's own position and rate.
#[derive(Debug)]
struct Shown {
    started: Instant,
    step: Mutex<(String, String)>,
    /// Milliseconds since the start when bytes last came.
    moved: AtomicU64,
}

impl TerminalProgress {
    /// Starts to watch and, on the streams of the process, to take Ctrl-C as the wish to stop.
    pub(super) fn start(ui: &Ui) -> Self {
        let shown = Arc::new(Shown {
            started: Instant::now(),
            step: Mutex::new((String::new(), String::new())),
            moved: AtomicU64::new(0),
        });
        let bar = match ui.draws_progress() {
            true => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                bar.set_style(style(shown.clone()));
                bar.enable_steady_tick(TICK);
                bar
            }
            false => ProgressBar::hidden(),
        };
        Self { bar, shown, signals: Signals::take(ui) }
    }
}

impl Drop for TerminalProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.signals.release();
    }
}

impl Progress for TerminalProgress {
    fn begin(&self, step: &str, bytes: Option<u64>) {
        *self.shown.step.lock().unwrap_or_else(PoisonError::into_inner) = (step.to_owned(), String::new());
        self.bar.reset();
        match bytes {
            Some(bytes) => self.bar.set_length(bytes),
            None => self.bar.unset_length(),
        }
        self.shown.now_moved();
    }

    fn at(&self, item: &str) {
        let mut step = self.shown.step.lock().unwrap_or_else(PoisonError::into_inner);
        step.1.clear();
        step.1.push_str(item);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.shown.now_moved();
    }

    fn is_cancelled(&self) -> bool {
        self.signals.interrupted()
    }
}

impl From<Cancelled> for Stop {
    fn from(_: Cancelled) -> Self {
        Self::Interrupted
    }
}

impl Shown {
    fn now_moved(&self) {
        self.moved.store(millis(self.started.elapsed()), Ordering::Relaxed);
    }

    /// `reading 1.20 GiB of 4.00 GiB, 1.90 GiB/s, 2 s left  model-00002-of-00004.safetensors`
    fn line(&self, state: &ProgressState) -> String {
        let running = self.started.elapsed();
        if running < UNSEEN {
            return String::new();
        }
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let still = running.saturating_sub(Duration::from_millis(self.moved.load(Ordering::Relaxed)));
        let pace = Pace { done: state.pos(), of: state.len(), per_second: state.per_sec(), left: state.eta(), still };
        sentence(&step.0, &step.1, &pace)
    }
}

/// How far and how fast.
#[derive(Debug)]
struct Pace {
    done: u64,
    of: Option<u64>,
    per_second: f64,
    left: Duration,
    still: Duration,
}

fn sentence(step: &str, item: &str, pace: &Pace) -> String {
    let mut line = format!("{step} {}", units::bytes(pace.done));
    if let Some(of) = pace.of {
        let _ = write!(line, " of {}", units::bytes(of));
    }
    if pace.still >= STALLED {
        let _ = write!(line, ", no bytes for {} s", pace.still.as_secs());
    } else if pace.per_second >= 1.0 {
        let _ = write!(line, ", {}/s", units::bytes(pace.per_second as u64));
        if pace.of.is_some() {
            let _ = write!(line, ", {} s left", pace.left.as_secs());
        }
    }
    if !item.is_empty() {
        let _ = write!(line, "  {item}");
    }
    line
}

fn style(shown: Arc<Shown>) -> ProgressStyle {
    let line = move |state: &ProgressState, out: &mut dyn Write| {
        let _ = out.write_str(&shown.line(state));
    };
    ProgressStyle::default_bar()
        .with_key("line", line)
        .template("{line}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Ctrl-C and a polite kill, while long work runs. A second one ends the process at once, and so does the first one that
/// comes when the work is over.
#[derive(Debug, Clone, Copy)]
struct Signals {
    flags: Option<&'static Flags>,
}

/// The handlers are put in place once and stay.
static FLAGS: OnceLock<Flags> = OnceLock::new();

#[derive(Debug, Default)]
struct Flags {
    interrupted: Arc<AtomicBool>,
    at_once: Arc<AtomicBool>,
}

impl Flags {
    /// A signal that cannot be taken keeps its usual effect.
    fn installed() -> Self {
        let flags = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds `at_once` unset and sets it for the second.
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, flags.at_once.clone());
            let _ = flag::register(signal, flags.interrupted.clone());
            let _ = flag::register(signal, flags.at_once.clone());
        }
        flags
    }
}

impl Signals {
    fn take(ui: &Ui) -> Self {
        let flags = ui.is_process().then(|| FLAGS.get_or_init(Flags::installed));
        if let Some(flags) = flags {
            flags.interrupted.store(false, Ordering::Relaxed);
            flags.at_once.store(false, Ordering::Relaxed);
        }
        Self { flags }
    }

    fn interrupted(self) -> bool {
        self.flags.is_some_and(|flags| flags.interrupted.load(Ordering::Relaxed))
    }

    fn release(self) {
        if let Some(flags) = self.flags {
            flags.at_once.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_whether_it_stands_still() {
        let mut pace = Pace {
            done: 1 << 30,
            of: Some(4 << 30),
            per_second: f64::from(1 << 30),
            left: Duration::from_secs(3),
            still: Duration::ZERO,
        };
        assert_eq!(sentence("reading", "m", &pace), "reading 1.00 GiB of 4.00 GiB, 1.00 GiB/s, 3 s left  m");
        pace.still = Duration::from_secs(12);
        assert_eq!(sentence("reading", "", &pace), "reading 1.00 GiB of 4.00 GiB, no bytes for 12 s");
        pace = Pace { of: None, per_second: 0.0, still: Duration::ZERO, ..pace };
        assert_eq!(sentence("reading", "", &pace), "reading 1.00 GiB");
    }

    #[test]
    fn off_a_terminal_nothing_is_shown_and_nothing_interrupts() {
        let ui = Ui::captured("");
        let progress = TerminalProgress::start(&ui);
        progress.begin("reading", Some(10));
        progress.advance(10);
        assert_eq!(progress.check(), Ok(()));
        drop(progress);
        assert_eq!(ui.into_captured().stderr, "");
    }
}
