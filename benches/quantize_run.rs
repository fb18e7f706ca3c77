//! Whole runs over 1 GiB of bf16: as peers measure them (no wait for the disk, no reading back), and durable, verified and
//! reported; beside them a copy of the same bytes, and writing what is written until it is on disk.
//!
//! ```text
//! cargo bench --bench quantize_run                   # every scheme
//! cargo bench --bench quantize_run -- int8 q8_0      # some
//! ```

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use flow_fabric::inventory::Checkpoint;
use flow_fabric::output::{Layout, OutputDirectory, OutputOptions, SafetensorsWriter, TensorSpec};
use flow_fabric::plan::PlanOptions;
use flow_fabric::progress::Silent;
use flow_fabric::quantize::run::{self, RunOptions};
use flow_fabric::{Dtype, Plan, Policy};

/// Matrices of the checkpoint: 64 x [4096, 2048] in bf16.
const MATRICES: u64 = 64;
const SHAPE: [u64; 2] = [4096, 2048];
const ROUNDS: usize = 3;

const SCHEMES: [(&str, &str, &str); 8] = [
    ("int8", "compressed-tensors", "format = \"int8\""),
    ("int4", "compressed-tensors", "format = \"int4\""),
    ("fp8", "compressed-tensors", "format = \"fp8_e4m3\""),
    ("fp8-block", "deepseek", "format = \"fp8_e4m3\"\ngranularity = { block = [128, 128] }"),
    ("nf4", "bitsandbytes", "format = \"nf4\""),
    ("nvfp4", "compressed-tensors", "format = \"nvfp4\""),
    ("q8_0", "gguf", "format = \"q8_0\""),
    ("q4_0", "gguf", "format = \"q4_0\""),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let source = folder.path().join("in");
    let bytes = generate(&source);
    let gigabytes = |time: Duration| bytes as f64 / 1e9 / time.as_secs_f64();
    println!("{:.2} GB of bf16, best of {ROUNDS}; GB of input a second, peak resident memory", bytes as f64 / 1e9);
    let copied = best(|| copy(&source.join("model.safetensors"), &folder.path().join("copy"), u64::MAX, false));
    println!("{:<10} {:>6.2}", "copy", gigabytes(copied));
    println!("{:<10} {:>7} {:>8} {:>8} {:>9}", "scheme", "as peers", "durable", "ceiling", "resident");
    for (name, layout, scheme) in SCHEMES {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        let target = folder.path().join(name);
        let peers = best(|| once(&source, &target, layout, scheme, false).0);
        let durable = best(|| once(&source, &target, layout, scheme, true).1);
        let written: u64 = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        let ceiling = best(|| copy(&source.join("model.safetensors"), &folder.path().join("copy"), written, true));
        println!(
            "{name:<10} {:>8.2} {:>8.2} {:>8.2} {:>5} MiB",
            gigabytes(peers),
            gigabytes(durable),
            gigabytes(ceiling),
            peak_mebibytes()
        );
        fs::remove_dir_all(&target).unwrap();
    }
}

fn best(mut time: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| time()).min().unwrap_or_default()
}

/// Time until everything is written, and until it has its place.
fn once(source: &Path, target: &Path, layout: &str, scheme: &str, verify: bool) -> (Duration, Duration) {
    let text = format!(
        "language = 1\npolicy = \"bench\"\n[partition]\nunmatched = \"replicate\"\n[scheme.s]\n{scheme}\n[quantization]\n\
         layout = \"{layout}\"\n[[QUANTIZATION_RULES]]\nname = \"all\"\nglob = \"**\"\nscheme = \"s\"\n"
    );
    let policy = Policy::parse("bench.toml", &text).unwrap();
    let start = Instant::now();
    let (checkpoint, _) = Checkpoint::open(source).unwrap();
    let (inventory, _) = policy.group(&checkpoint);
    let plan = Plan::new(&policy, inventory, &PlanOptions::default()).unwrap();
    let options = RunOptions { verify, replace: true, ..RunOptions::default() };
    let (report, _) = run::run(&policy, &plan, target, &options, &Silent).unwrap();
    assert!(report.run.published);
    let all = start.elapsed();
    (all - Duration::from_secs_f64(report.run.seconds.publish), all)
}

/// Writes the first bytes of a file to another one in pieces of a MiB, and waits for the disk if asked to.
fn copy(from: &Path, to: &Path, most: u64, sync: bool) -> Duration {
    let start = Instant::now();
    let (mut from, mut to) = (File::open(from).unwrap().take(most), File::create(to).unwrap());
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = from.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        to.write_all(&piece[..count]).unwrap();
    }
    if sync {
        to.sync_all().unwrap();
    }
    start.elapsed()
}

/// A checkpoint of normal-looking numbers. The pieces repeat: time does not depend on values.
fn generate(folder: &Path) -> u64 {
    let specs: Vec<TensorSpec> = (0..MATRICES)
        .map(|at| TensorSpec { name: format!("layers.{at}.up_proj.weight"), dtype: Dtype::Bf16, shape: SHAPE.to_vec() })
        .collect();
    let layout = Layout::new(&specs, &BTreeMap::new(), None).unwrap();
    let writer =
        SafetensorsWriter::create(OutputDirectory::create(folder, &OutputOptions::default()).unwrap(), layout).unwrap();
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let piece: Vec<u8> =
        (0..1 << 20).flat_map(|_| half::bf16::from_f32((next() + next() + next()) * 0.04).to_le_bytes()).collect();
    let size = SHAPE.iter().product::<u64>() * 2;
    for tensor in 0..specs.len() {
        for offset in (0..size).step_by(piece.len()) {
            writer.write_at(tensor, offset, &piece).unwrap();
        }
    }
    writer.publish().unwrap();
    size * MATRICES
}

/// The most that this process ever had in memory.
fn peak_mebibytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0) / 1024
}
