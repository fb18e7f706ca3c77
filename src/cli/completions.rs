//! `completions`: what a shell needs to complete our command line.

use clap::Args;
use clap_complete::Shell;

use super::{Outcome, Stop, Ui};

/// Print a completion script for a shell
///
/// Examples:
///   $ flow-fabric completions bash > /etc/bash_completion.d/flow-fabric
///   $ flow-fabric completions zsh > ~/.zfunc/_flow-fabric
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::definition(), "flow-fabric", &mut script);
        ui.print(&String::from_utf8_lossy(&script))?;
        Ok(Outcome::Done)
    }
}
