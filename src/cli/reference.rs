//! The command line reference, as markdown, from the same definitions as `--help`.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// Writes the reference of every verb, ending with a newline.
#[must_use]
pub fn reference() -> String {
    let mut command = super::definition();
    command.build();
    let mut out = String::from("# Command line\n");
    for verb in command.get_subcommands() {
        section(&mut out, verb);
    }
    let _ = writeln!(out, "\n## Options of every verb\n");
    options(&mut out, command.get_arguments());
    out
}

fn section(out: &mut String, verb: &Command) {
    let _ = writeln!(out, "\n## `flow-fabric {}`\n", verb.get_name());
    about(out, &verb.get_long_about().or(verb.get_about()).map(ToString::to_string).unwrap_or_default());
    let usage = verb.clone().render_usage().to_string();
    let _ = writeln!(out, "\n```text\n{}\n```\n", usage.trim_start_matches("Usage: ").trim_end());
    options(out, verb.get_arguments().filter(|argument| !argument.is_global_set()));
}

/// The description; its examples become a block of their own.
fn about(out: &mut String, text: &str) {
    let (prose, examples) = text.split_once("Examples:\n").unwrap_or((text, ""));
    out.push_str(prose.trim_end());
    out.push('\n');
    if !examples.is_empty() {
        out.push_str("\n```console\n");
        for line in examples.lines() {
            let _ = writeln!(out, "{}", line.trim_start());
        }
        out.push_str("```\n");
    }
}

fn options<'a>(out: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let shown = |argument: &&Arg| !matches!(argument.get_id().as_str(), "help" | "version") && !argument.is_hide_set();
    let mut arguments: Vec<&Arg> = arguments.filter(shown).collect();
    arguments.sort_by_key(|argument| !argument.is_positional());
    for argument in arguments {
        let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
        let _ = write!(out, "- {} — {}", spelling(argument), help.replace('\n', " "));
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set() && argument.get_action().takes_values())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() {
            let _ = write!(out, "; one of {}", values.join(", "));
        }
        let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if argument.get_action().takes_values() && !defaults.is_empty() {
            let _ = write!(out, "; default `{}`", defaults.join(" "));
        }
        out.push('\n');
    }
}

/// `` `-q`, `--quiet` ``, `` `--color <WHEN>` ``, `` `[CODE]` ``.
fn spelling(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .map(|names| names.iter().map(|name| format!(" <{name}>")).collect::<String>())
        .unwrap_or_default();
    if argument.is_positional() {
        return format!("`{}`", value.trim_start());
    }
    let short = argument.get_short().map(|short| format!("`-{short}`"));
    let long = argument.get_long().map(|long| format!("`--{long}{value}`"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}
