//! `-A`, `-W` and `-D`: levels of findings from the command line.

use std::collections::BTreeMap;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::finding::levels::{Level, Lint, LintLevel};

/// The flags in the order written: of two for the same lint, the later counts.
///
/// Read by hand because clap's derive keeps the order within one flag only.
#[derive(Debug, Clone, Default)]
pub(super) struct LintFlags(pub(super) Vec<LintLevel>);

impl LintFlags {
    /// A policy's levels followed by the flags, which win.
    pub(super) fn over(&self, policy: &[LintLevel]) -> Vec<LintLevel> {
        policy.iter().chain(&self.0).cloned().collect()
    }
}

const FLAGS: [(&str, char, Level, &str); 3] = [
    ("allow", 'A', Level::Allow, "Do not report a finding (name, code or `warnings`)"),
    ("warn", 'W', Level::Warn, "Report a finding as a warning"),
    ("deny", 'D', Level::Deny, "Report a finding as an error; `-D warnings` lets none pass"),
];

impl Args for LintFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.map(|(name, short, _, help)| {
            Arg::new(name)
                .short(short)
                .long(name)
                .value_name("LINT")
                .help(help)
                .action(ArgAction::Append)
                .display_order(90)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for LintFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut by_position = BTreeMap::new();
        for (flag, _, level, _) in FLAGS {
            let names = matches.get_many::<String>(flag).into_iter().flatten();
            for (position, name) in matches.indices_of(flag).into_iter().flatten().zip(names) {
                by_position.insert(position, LintLevel::from_flag(level, checked(name)?));
            }
        }
        Ok(Self(by_position.into_values().collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn checked(name: &str) -> Result<&str, clap::Error> {
    if Lint::named(name).is_some() {
        return Ok(name);
    }
    let message = format!("there is no finding `{name}`\n\n  help: {}\n", Lint::help_for(name));
    Err(clap::Error::raw(ErrorKind::InvalidValue, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Result<Vec<String>, String> {
        let command = LintFlags::augment_args(Command::new("x"));
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|error| error.to_string())?;
        let LintFlags(levels) = LintFlags::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        Ok(levels.iter().map(|level| format!("{} {}", level.level.name(), level.name)).collect())
    }

    #[test]
    fn flags_keep_the_order_written() {
        let read = flags("x -D warnings -A unknown-lint --warn=FF603 -Aunknown-key -D FF603").unwrap();
        assert_eq!(read, ["deny warnings", "allow unknown-lint", "warn FF603", "allow unknown-key", "deny FF603"]);
        assert_eq!(flags("x"), Ok(vec![]));
    }

    #[test]
    fn a_name_that_does_not_exist_is_refused() {
        let error = flags("x -D unknwon-lint").unwrap_err();
        assert!(error.contains("there is no finding `unknwon-lint`"), "{error}");
        assert!(error.contains("did you mean `unknown-lint`?"), "{error}");
    }
}
