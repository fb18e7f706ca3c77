//! The spike: float against 8-bit storage of one checkpoint, in size, time and drift.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use flow_fabric::finding::Finding;
use flow_fabric::inventory::{Checkpoint, Grouping, Inventory};
use flow_fabric::plan::PlanOptions;
use flow_fabric::progress::Silent;
use flow_fabric::quantize::run::{self, DriftReport, RunOptions};
use flow_fabric::quantize::{Arithmetic, decode};
use flow_fabric::{Plan, Policy};

use crate::tensors;

/// Bytes after for each byte before that 8-bit storage may take; more would not be worth the change.
pub(crate) const MAX_RATIO: f64 = 0.30;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Spike {
    pub(crate) report: DriftReport,
    pub(crate) findings: Vec<Finding>,
    pub(crate) seconds: Seconds,
}

/// How long saving and loading took.
#[derive(Debug, Default)]
pub(crate) struct Seconds {
    save_float: f64,
    save_int8: f64,
    load_float: f64,
    load_int8: f64,
}

/// Makes the tensors in `folder`, quantizes them as the policy says, and measures both checkpoints.
pub(crate) fn run(examples: &Path, folder: &Path) -> Result<Spike, Box<dyn std::error::Error>> {
    let (float, int8) = (folder.join("float"), folder.join("int8"));
    let clock = Instant::now();
    tensors::write(&examples.join("slot09.jsonl"), &float)?;
    let save_float = clock.elapsed().as_secs_f64();

    let policy = Policy::load(examples.join("slot09/policy.toml"))?;
    let (checkpoint, _) = Checkpoint::open(&float)?;
    let (inventory, _) = policy.group(&checkpoint);
    let plan = Plan::new(&policy, inventory, &PlanOptions::default())?;
    let clock = Instant::now();
    let options = RunOptions { replace: true, ..RunOptions::default() };
    let (report, findings) = run::run(&policy, &plan, &int8, &options, &Silent)?;
    let save_int8 = clock.elapsed().as_secs_f64();

    let mut seconds = Seconds { save_float, save_int8, load_float: load(&float)?, load_int8: 0.0 };
    if report.run.published {
        seconds.load_int8 = load(&int8)?;
    }
    Ok(Spike { report, findings, seconds })
}

/// Seconds to read every weight of a checkpoint into floats.
fn load(folder: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let clock = Instant::now();
    let (checkpoint, _) = Checkpoint::open(folder)?;
    let (inventory, _) = Inventory::group(&checkpoint, &Grouping::default());
    let bytes = std::fs::read(folder.join("model.safetensors"))?;
    for weight in &inventory.weights {
        let mut components = Vec::new();
        for component in &weight.components {
            let range = component.tensor.bytes;
            let start = usize::try_from(range.offset.unwrap_or_default())?;
            components.push(bytes.get(start..start + usize::try_from(range.length)?).ok_or("beyond the file")?);
        }
        std::hint::black_box(decode(weight, &components, Arithmetic::F32)?);
    }
    Ok(clock.elapsed().as_secs_f64())
}

impl Spike {
    /// Whether 8-bit storage is adopted: every limit of the policy holds, and it is small enough.
    pub(crate) fn is_adopted(&self) -> bool {
        self.report.run.published && self.report.total.ratio <= MAX_RATIO
    }

    /// What differs from run to run.
    pub(crate) fn times(&self) -> String {
        let Seconds { save_float, save_int8, load_float, load_int8 } = &self.seconds;
        format!(
            "save   float {save_float:.3} s (made and written), int8 {save_int8:.3} s (read, encoded, written, read back, compared)\n\
             load   float {load_float:.3} s, int8 {load_int8:.3} s (read and decoded to float)\n"
        )
    }
}

impl fmt::Display for Spike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.report.total;
        let name = "weight";
        writeln!(f, "{name:30}  scheme        bits  max abs     relative  SQNR dB  cosine")?;
        for weight in &self.report.weights {
            let scheme = weight.scheme.as_deref().unwrap_or("keep");
            write!(f, "{:30}  {scheme:12}  {:4.1}", weight.path, weight.bits_per_weight)?;
            match &weight.figures {
                Some(figures) => writeln!(
                    f,
                    "  {:.3e}  {:.5}   {:.2}    {:.6}",
                    figures.max_abs_error,
                    figures.relative_error.unwrap_or_default(),
                    figures.sqnr_db.unwrap_or(f64::INFINITY),
                    figures.cosine.unwrap_or(1.0),
                )?,
                None => writeln!(f)?,
            }
        }
        writeln!(
            f,
            "\nsize   {} bytes before, {} after: {:.3} (at most {MAX_RATIO})",
            total.bytes_before, total.bytes_after, total.ratio
        )?;
        match self.findings.as_slice() {
            [] => writeln!(f, "drift  within the limits of every rule")?,
            findings => findings.iter().try_for_each(|finding| writeln!(f, "drift  {}", finding.message))?,
        }
        writeln!(f, "answer {}", if self.is_adopted() { "adopt" } else { "defer" })
    }
}
