//! When to use colour.

use std::ffi::OsString;

use clap::ValueEnum;

/// The answer of `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, ValueEnum)]
pub(super) enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Reads `--color` off a command line that may not parse.
    pub(super) fn scan(args: &[OsString]) -> Self {
        let mut args = args.iter().filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--");
        let mut choice = Self::Auto;
        while let Some(arg) = args.next() {
            let value = if arg == "--color" { args.next() } else { arg.strip_prefix("--color=") };
            choice = value.and_then(|value| Self::from_str(value, false).ok()).unwrap_or(choice);
        }
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_is_found_on_lines_that_do_not_parse() {
        let scan = |line: &str| ColorChoice::scan(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(scan("flow-fabric --no-such --color never"), ColorChoice::Never);
        assert_eq!(scan("flow-fabric --color=always x"), ColorChoice::Always);
        assert_eq!(scan("flow-fabric --color=pink x"), ColorChoice::Auto);
        assert_eq!(scan("flow-fabric -- --color=always"), ColorChoice::Auto);
    }
}
