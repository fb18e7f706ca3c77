//! `stage`: copies of artifacts, there and back.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::progress::TerminalProgress;
use super::{Outcome, Stop, Ui};
use crate::source::Sources;
use crate::stage::{StageError, StageOptions, Staged, restore, stage};
use crate::units::{bytes, counted};

/// Copy a file or a tree of files to faster or safer storage, several at a time, and bring it back
///
/// The copy is a new directory with a record of what it holds: a second run finds it and copies nothing, a killed run is
/// continued, and `--restore` holds every byte against the record: a damaged copy gives exit status 1. Nothing appears under its
/// name before it is whole.
///
/// Examples:
///   $ flow-fabric stage bundles/audit-2026 --to /dev/shm/audit-2026 --verify
///   $ flow-fabric stage bundles/audit-2026 --to /dev/shm/audit-2026 --restore
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct StageVerb {
    /// What is copied: a file or a directory
    source: PathBuf,
    /// The directory that is the copy
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Read the copy again and compare it with what was read from the source; also a copy that is there
    #[arg(long)]
    verify: bool,
    /// The other way: write the source from the copy
    #[arg(long)]
    restore: bool,
    /// Replace what stands in the way, as a whole and only when the new one is complete
    #[arg(long)]
    force: bool,
    /// Most bytes of files
    #[arg(long, value_name = "SIZE", value_parser = super::convert::size)]
    budget: Option<u64>,
    /// Threads that copy
    #[arg(long, value_name = "N", default_value_t = StageOptions::default().threads)]
    threads: usize,
    /// How to say what was done; `json` is the record of the copy
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

impl StageVerb {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let options =
            StageOptions { verify: self.verify, replace: self.force, budget: self.budget, threads: self.threads };
        let progress = TerminalProgress::start(ui);
        let work = if self.restore { restore } else { stage };
        let staged = work(&self.source, &self.to, &options, &progress);
        drop(progress);
        match staged {
            Ok(staged) => {
                if self.format == Format::Json {
                    ui.print(&super::json(&staged.record))?;
                } else {
                    ui.narrate(&self.said(&staged));
                }
                Ok(Outcome::Done)
            }
            Err(StageError::Cancelled(cancelled)) => Err(cancelled.into()),
            Err(error) => {
                ui.report(&error.finding().into_iter().collect::<Vec<_>>(), &Sources::default())?;
                Err(if matches!(error, StageError::Damaged { .. }) { Stop::Refused } else { Stop::Said })
            }
        }
    }

    fn said(&self, staged: &Staged) -> String {
        let files = format!("{}, {}", counted(staged.record.files.len(), "file"), bytes(staged.record.bytes()));
        let (source, to) = (self.source.display(), self.to.display());
        let verified = if self.verify { ", verified" } else { "" };
        match (self.restore, staged.reused) {
            (true, _) => format!("brought `{source}` back from `{to}`: {files}, as staged\n"),
            (false, true) => format!("`{to}` is a copy of `{source}` already: {files}{verified}\n"),
            (false, false) if staged.resumed => {
                format!("continued `{to}`: {files}, {} of them now{verified}\n", bytes(staged.copied))
            }
            (false, false) if staged.renewed => {
                format!("copied `{source}` to `{to}` anew, where the copy was another or damaged: {files}{verified}\n")
            }
            (false, false) => format!("copied `{source}` to `{to}`: {files}{verified}\n"),
        }
    }
}
