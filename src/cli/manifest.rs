//! `manifest`: the digests of a checkpoint, written or checked.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::lints::LintFlags;
use super::progress::TerminalProgress;
use super::{Outcome, Stop, Ui, input};
use crate::finding::render::Format;
use crate::finding::{self, Finding, Severity, levels};
use crate::inventory::Checkpoint;
use crate::manifest::{DEFAULT_CHUNK, Manifest, ManifestError, ManifestOptions, beside};
use crate::source::Sources;
use crate::units::{bytes, counted};

/// Write digests of every tensor and of its chunks beside a checkpoint, or check it against them
///
/// Loader rules with `verify = "xxh3"` or `"blake3"` hold what they read against the manifest. It lies in the checkpoint's
/// directory, or behind the name of its file.
///
/// Examples:
///   $ flow-fabric manifest Meta-Llama-3-8B
///   $ flow-fabric manifest Meta-Llama-3-8B --check
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ManifestVerb {
    /// A checkpoint: a file, a directory or an index
    checkpoint: PathBuf,
    /// Where the manifest is, if not beside the checkpoint
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write nothing: read all tensors and report each chunk that is not as the manifest says
    #[arg(long)]
    check: bool,
    /// Bytes of a chunk
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = super::convert::size, conflicts_with = "check")]
    chunk_size: u64,
    /// Threads that read and digest
    #[arg(long, value_name = "N", default_value_t = ManifestOptions::default().threads)]
    threads: usize,
    /// How to print the findings of `--check`
    #[arg(long, value_name = "FORMAT", default_value = "human", requires = "check")]
    format: Format,
    #[command(flatten)]
    lints: LintFlags,
}

impl ManifestVerb {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let (checkpoint, findings) = input::open(&self.checkpoint, ui)?;
        let path = self.output.clone().unwrap_or_else(|| beside(&self.checkpoint));
        if self.check {
            return self.compare(&checkpoint, findings, &path, ui);
        }
        let findings = levels::settle(&self.lints.0, findings, |_| true);
        if finding::worst(&findings) == Some(Severity::Error) {
            ui.report(&findings, &Sources::default())?;
            return Err(Stop::failed("a damaged checkpoint gets no manifest"));
        }
        let manifest = self.build(&checkpoint, self.chunk_size, ui)?;
        manifest.write(&path).map_err(|error| stop(&error.into(), ui))?;
        let tensors: usize = manifest.files.iter().map(|file| file.tensors.len()).sum();
        let sum = manifest.files.iter().flat_map(|file| file.tensors.values()).map(|tensor| tensor.bytes);
        let sum = bytes(sum.fold(0, u64::saturating_add));
        ui.narrate(&format!("wrote `{}`: {}, {sum}\n", path.display(), counted(tensors, "tensor")));
        ui.report(&findings, &Sources::default())?;
        Ok(Outcome::of(&findings))
    }

    fn build(&self, checkpoint: &Checkpoint, chunk_bytes: u64, ui: &mut Ui) -> Result<Manifest, Stop> {
        let options = ManifestOptions { chunk_bytes, threads: self.threads };
        let progress = TerminalProgress::start(ui);
        let built = Manifest::build(checkpoint, options, &progress);
        drop(progress);
        built.map_err(|error| stop(&error, ui))
    }

    fn compare(
        &self,
        checkpoint: &Checkpoint,
        mut findings: Vec<Finding>,
        path: &std::path::Path,
        ui: &mut Ui,
    ) -> Result<Outcome, Stop> {
        let mut damaged = BTreeSet::new();
        match Manifest::read(path) {
            Err(finding) => findings.push(*finding),
            Ok(None) => {
                return Err(
                    Stop::failed(format!("`{}` is absent", path.display())).help("without `--check` it is written")
                );
            }
            Ok(Some(manifest)) => {
                let differences = manifest.compare(checkpoint);
                let now = self.build(checkpoint, manifest.chunk_bytes, ui)?;
                let mismatches = manifest.mismatches(&now, checkpoint);
                // A tensor at another place has other bytes, too.
                if differences.is_empty() {
                    damaged.extend(mismatches.iter().map(|mismatch| mismatch.tensor.clone()));
                    findings.extend(mismatches.iter().map(crate::manifest::DigestMismatch::finding));
                }
                findings.extend(differences);
            }
        }
        let findings = levels::settle(&self.lints.0, findings, |_| true);
        ui.print_findings(self.format, &findings, &Sources::default())?;
        let (tensors, path) = (counted(checkpoint.tensors.len(), "tensor"), path.display());
        if !damaged.is_empty() {
            ui.narrate(&format!("{} of {tensors} not as `{path}` says\n", damaged.len()));
        } else if Outcome::of(&findings) == Outcome::Done {
            ui.narrate(&format!("{tensors} as `{path}` says\n"));
        }
        Ok(Outcome::of(&findings))
    }
}

/// What keeps the job from being done, said as a finding.
fn stop(error: &ManifestError, ui: &mut Ui) -> Stop {
    let Some(finding) = error.finding() else { return Stop::Interrupted };
    match ui.report(&[finding], &Sources::default()) {
        Ok(()) => Stop::Said,
        Err(stop) => stop,
    }
}

const _: () = assert!(DEFAULT_CHUNK == 4 << 20, "the default of `--chunk-size` says so");
