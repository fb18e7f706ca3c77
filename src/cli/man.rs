//! `man`: manual pages.

use clap::Args;
use clap_mangen::Man as Page;

use super::{Outcome, Stop, Ui};
use crate::finding::suggest;

/// Print a manual page
///
/// Examples:
///   $ flow-fabric man > flow-fabric.1
///   $ flow-fabric man rule > flow-fabric-rule.1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Man {
    /// The verb; without one, the page of the command itself
    verb: Option<String>,
}

impl Man {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let mut command = super::definition();
        // Makes the usage lines and names of the verbs known to their own pages.
        command.build();
        let page = match &self.verb {
            None => Page::new(command),
            Some(name) => {
                let verb = command.find_subcommand(name).ok_or_else(|| unknown(name, &command))?;
                Page::new(verb.clone())
            }
        };
        let mut text = Vec::new();
        page.render(&mut text).map_err(|error| Stop::output(&error))?;
        ui.print(&String::from_utf8_lossy(&text))?;
        Ok(Outcome::Done)
    }
}

fn unknown(name: &str, command: &clap::Command) -> Stop {
    let verbs = command.get_subcommands().map(clap::Command::get_name);
    let stop = Stop::failed(format!("there is no verb `{name}`"));
    match suggest::did_you_mean(name, verbs) {
        Some(help) => stop.help(help),
        None => stop,
    }
}
