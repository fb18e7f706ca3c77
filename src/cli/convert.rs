//! `convert`: a checkpoint of another format as safetensors.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::progress::TerminalProgress;
use super::{Outcome, Stop, Ui, input};
use crate::convert::{ConvertError, ConvertOptions, ConvertRecord, Converted, convert};
use crate::finding::{Finding, Severity, levels};
use crate::source::Sources;
use crate::units::{bytes, counted};

/// Write a checkpoint as safetensors: torch's `.pt` and `.bin`, `.npz`, Grok-1's `ckpt-0`, GGUF floats, or safetensors cut anew
///
/// No value changes, and no pickle is run. Tied weights are written once. Everything is read back and compared before the
/// directory gets its name; config and tokenizer go along.
///
/// Examples:
///   $ flow-fabric convert bert/pytorch_model.bin -o bert-safetensors
///   $ flow-fabric convert grok-1/ckpt-0 -o grok-1-safetensors --shard-size 10GB
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Convert {
    /// A checkpoint: a file, a directory or an index
    checkpoint: PathBuf,
    /// The directory to write; it must be absent or empty
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace the directory, as a whole and only when the new one is complete
    #[arg(long)]
    force: bool,
    /// Most bytes of tensors in a file; a larger tensor has a file of its own
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    shard_size: u64,
    /// Threads that copy
    #[arg(long, value_name = "N", default_value_t = ConvertOptions::default().threads)]
    threads: usize,
    /// How to say what was written
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    match crate::policy::parse_bytes(text) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("a size such as `5GB` or `512MiB`".to_owned()),
    }
}

impl Convert {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let (checkpoint, findings) = input::open(&self.checkpoint, ui)?;
        let options = ConvertOptions { shard_bytes: Some(self.shard_size), replace: self.force, threads: self.threads };
        let progress = TerminalProgress::start(ui);
        let converted = convert(&checkpoint, &findings, &self.output, &options, &progress);
        drop(progress);
        match converted {
            Ok(converted) => self.say(&converted, &findings, ui),
            Err(ConvertError::Cancelled(cancelled)) => Err(cancelled.into()),
            Err(error) => {
                ui.report(&error.findings(), &Sources::default())?;
                Err(Stop::Said)
            }
        }
    }

    fn say(&self, converted: &Converted, findings: &[Finding], ui: &mut Ui) -> Result<Outcome, Stop> {
        // What kept tensors from being loaded is what was put right.
        let left = findings.iter().filter(|finding| finding.severity != Severity::Error).cloned().collect();
        let left = levels::settle(&[], left, |_| true);
        let output = self.output.display().to_string();
        match self.format {
            Format::Json => ui.print(&super::json(&ConvertRecord::new(converted, &output)))?,
            Format::Human => {
                let mut line = format!(
                    "wrote {} in {}, {}, to `{output}`; all read back as written\n",
                    counted(converted.tensors, "tensor"),
                    counted(converted.files.len(), "file"),
                    bytes(converted.bytes)
                );
                if !converted.aliases.is_empty() {
                    let aliases = counted(converted.aliases.len(), "tied name");
                    line.push_str(&format!("{aliases} written once, noted in the metadata\n"));
                }
                if !converted.carried.is_empty() {
                    line.push_str(&format!("beside them: {}\n", converted.carried.join(", ")));
                }
                ui.narrate(&line);
            }
        }
        ui.report(&left, &Sources::default())?;
        Ok(Outcome::Done)
    }
}
