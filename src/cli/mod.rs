//! The command line, one file per verb.
//!
//! Only this module meets the outside: streams, terminal and environment come in through a [`Ui`], and every outcome
//! leaves through [`Status`]. [`main`] is the binary; the Python module and the tests enter [`run`].

mod arrays;
mod check;
mod color;
mod completions;
mod convert;
mod dequantize;
mod diff;
mod drift;
mod drift_text;
mod explain;
mod git;
mod graph;
mod input;
mod inspect;
mod lints;
mod load;
mod man;
mod manifest;
mod moe;
mod plan;
mod progress;
mod quantize;
mod reference;
mod rule;
mod run_options;
mod sample;
mod schema;
mod snapshot;
mod stage;
mod stop;
mod table;
mod ui;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::color::ColorChoice;
#[cfg(feature = "python")]
pub(crate) use self::explain::human as explanation_text;
pub use self::reference::reference;
pub use self::stop::Status;
use self::stop::{Outcome, Stop};
pub use self::ui::{Captured, Ui};

/// Policy-as-code for model weights: TOML rules decide how each weight is sharded, quantized and loaded.
#[derive(Debug, Parser)]
#[command(name = "flow-fabric", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every verb.
#[derive(Debug, clap::Args)]
struct Global {
    /// When to use colour; `auto` asks the terminal and honours `NO_COLOR` and `CLICOLOR_FORCE`
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", display_order = 100)]
    color: ColorChoice,
    /// Print data and errors only: no narration, no warnings beside the data
    #[arg(short, long, global = true, display_order = 101)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    Plan(plan::PlanVerb),
    Explain(explain::Explain),
    Diff(diff::Diff),
    Snapshot(snapshot::Snapshot),
    Graph(graph::GraphVerb),
    Inspect(inspect::Inspect),
    Load(load::Load),
    Sample(sample::Sample),
    Moe(moe::Moe),
    Convert(convert::Convert),
    Quantize(quantize::Quantize),
    Drift(drift::DriftVerb),
    Dequantize(dequantize::Dequantize),
    Manifest(manifest::ManifestVerb),
    Stage(stage::StageVerb),
    Rule(rule::Rule),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        match self {
            Command::Check(verb) => verb.run(ui),
            Command::Plan(verb) => verb.run(ui),
            Command::Explain(verb) => verb.run(ui),
            Command::Diff(verb) => verb.run(ui),
            Command::Snapshot(verb) => verb.run(ui),
            Command::Graph(verb) => verb.run(ui),
            Command::Inspect(verb) => verb.run(ui),
            Command::Load(verb) => verb.run(ui),
            Command::Sample(verb) => verb.run(ui),
            Command::Moe(verb) => verb.run(ui),
            Command::Convert(verb) => verb.run(ui),
            Command::Quantize(verb) => verb.run(ui),
            Command::Drift(verb) => verb.run(ui),
            Command::Dequantize(verb) => verb.run(ui),
            Command::Manifest(verb) => verb.run(ui),
            Command::Stage(verb) => verb.run(ui),
            Command::Rule(verb) => verb.run(ui),
            Command::Schema(verb) => verb.run(ui),
            Command::Completions(verb) => verb.run(ui),
            Command::Man(verb) => verb.run(ui),
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    stop::install_panic_hook();
    #[cfg(unix)]
    allow_open_files();
    #[cfg(all(debug_assertions, unix))]
    if let Ok(place) = std::env::var("FLOW_FABRIC_FAILPOINT") {
        crate::output::failpoint::arm(&place);
    }
    run(std::env::args_os(), &mut Ui::stdio()).into()
}

/// Asks for as many open files as the system lets this process have: a checkpoint may have a thousand, and 1024 are usual.
#[cfg(unix)]
fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    // Refused, it stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Runs a command line (the first argument is the program's name) on the streams of `ui`.
///
/// ```
/// use flow_fabric::cli::{self, Status, Ui};
/// let mut ui = Ui::captured("");
/// assert_eq!(cli::run(["flow-fabric", "schema"], &mut ui), Status::Done);
/// assert!(ui.into_captured().stdout.contains("findings"));
/// ```
pub fn run<I, T>(args: I, ui: &mut Ui) -> Status
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    // Messages about the command line itself are printed before its options are known.
    ui.set_color(ColorChoice::scan(&args));
    let parsed = command(ui).try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let outcome = match parsed {
        Ok(cli) => {
            ui.set_color(cli.global.color);
            ui.set_quiet(cli.global.quiet);
            cli.command.run(ui)
        }
        Err(error) => usage(&error, ui),
    };
    stop::conclude(outcome, ui)
}

/// Prints what clap has to say: help and version are data, the rest is a failure.
fn usage(error: &clap::Error, ui: &mut Ui) -> Result<Outcome, Stop> {
    let text = error.render();
    if error.use_stderr() {
        ui.complain(&if ui.error_color() { text.ansi().to_string() } else { text.to_string() });
        return Err(Stop::Said);
    }
    let text = if ui.color() { text.ansi().to_string() } else { text.to_string() };
    ui.print(&text)?;
    Ok(Outcome::Done)
}

/// Spells a document out, ending with a newline.
fn json(document: &impl serde::Serialize) -> String {
    #[expect(clippy::expect_used, reason = "our documents have string keys only, so JSON can say them")]
    let text = serde_json::to_string_pretty(document).expect("string keys");
    text + "\n"
}

/// The same on one line.
fn json_line(record: &impl serde::Serialize) -> String {
    #[expect(clippy::expect_used, reason = "our records have string keys only, so JSON can say them")]
    let text = serde_json::to_string(record).expect("string keys");
    text + "\n"
}

/// The command line as clap sees it: what help, completions, manual pages and the reference are made from.
fn definition() -> clap::Command {
    Cli::command().mut_subcommands(|verb| match verb.get_long_about().map(|about| unwrapped(&about.to_string())) {
        Some(about) => verb.long_about(about),
        None => verb,
    })
}

/// Joins the lines of each paragraph, so that help is wrapped to its own width; indented lines stay as they are.
fn unwrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut() {
            Some(paragraph) if !paragraph.is_empty() && !line.is_empty() && !line.starts_with(' ') => {
                paragraph.push(' ');
                paragraph.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

fn command(ui: &Ui) -> clap::Command {
    definition().term_width(ui.width())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        definition().debug_assert();
    }

    #[test]
    fn paragraphs_are_joined_and_indented_lines_are_kept() {
        assert_eq!(unwrapped("A\n\nb\nc.\n\nExamples:\n  $ d\n  $ e"), "A\n\nb c.\n\nExamples:\n  $ d\n  $ e");
    }

    /// The examples at the top of a verb's help, without their prompts.
    fn examples(verb: &clap::Command) -> Vec<String> {
        let help = verb.get_long_about().map(ToString::to_string).unwrap_or_default();
        help.lines().filter_map(|line| line.trim_start().strip_prefix("$ ").map(str::to_owned)).collect()
    }

    #[test]
    fn every_verb_starts_with_two_examples_that_parse() {
        for verb in definition().get_subcommands() {
            let examples = examples(verb);
            assert_eq!(examples.len(), 2, "{}", verb.get_name());
            for example in examples {
                let (example, _) = example.split_once(" > ").unwrap_or((&example, ""));
                let args: Vec<&str> = example.split_whitespace().collect();
                assert_eq!(args[..2], ["flow-fabric", verb.get_name()]);
                Cli::try_parse_from(args).unwrap();
            }
        }
    }
}
