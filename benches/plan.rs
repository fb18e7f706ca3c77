//! What a whole plan costs: 92,000 weights, 1,000 rules, from files to JSON. `cargo bench --bench plan`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench fails by panicking and prints its table")]

#[path = "../tests/support/counting.rs"]
mod counting;
#[path = "resolve/paths.rs"]
mod paths;
#[allow(dead_code, reason = "the other bench also shuffles")]
#[path = "resolve/random.rs"]
mod random;
#[allow(dead_code, reason = "the other bench also writes rules as regexes")]
#[path = "resolve/rules.rs"]
mod rules;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use flow_fabric::inventory::Checkpoint;
use flow_fabric::plan::PlanOptions;
use flow_fabric::{Plan, Policy};

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// Odd, so that the median is a run.
const RUNS: usize = 5;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, list) = (folder.path().join("policy.toml"), folder.path().join("list.jsonl"));
    write_list(&list);
    println!(
        "{:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "rules", "policy", "open", "group", "plan", "json", "total", "peak MiB"
    );
    for count in [10, 1_000] {
        write_policy(&policy, count);
        let mut runs: Vec<([Duration; 5], usize)> = (0..RUNS).map(|_| counting::peak(|| run(&policy, &list))).collect();
        runs.sort_by_key(|(phases, _)| phases.iter().sum::<Duration>());
        let (phases, peak) = &runs[RUNS / 2];
        let milliseconds = |time: &Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let shown: Vec<String> =
            phases.iter().chain([&phases.iter().sum()]).map(|time| format!("{:>9}", milliseconds(time))).collect();
        println!("{count:>7} {} {:>10.1}", shown.join(" "), *peak as f64 / f64::from(1 << 20));
    }
}

/// One cold run, phase by phase.
fn run(policy: &Path, list: &Path) -> [Duration; 5] {
    let mut last = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut last, now))
    };
    let policy = Policy::load(policy).unwrap();
    let loaded = lap();
    let (checkpoint, _) = Checkpoint::open(list).unwrap();
    let opened = lap();
    let (inventory, _) = policy.group(&checkpoint);
    drop(checkpoint);
    let grouped = lap();
    let plan = Plan::new(&policy, inventory, &PlanOptions::default()).unwrap();
    let planned = lap();
    let mut sink = std::io::BufWriter::new(std::io::sink());
    plan.write_json(&mut sink).unwrap();
    sink.flush().unwrap();
    [loaded, opened, grouped, planned, lap()]
}

fn write_list(path: &Path) {
    let mut text = String::new();
    for name in paths::deepseek() {
        // Biases in place of block scales: every name a weight of its own.
        let name = name.replace("weight_scale_inv", "bias");
        let shape = if name.ends_with("_proj.weight") { "[2048,7168]" } else { "[7168]" };
        writeln!(text, r#"{{"name":"{name}","dtype":"BF16","shape":{shape},"file":"model.safetensors"}}"#).unwrap();
    }
    std::fs::write(path, text).unwrap();
}

fn write_policy(path: &Path, count: usize) {
    let mut text = String::from(
        "language = 1\npolicy = \"bench\"\n[mesh]\naxes = [\"data\", \"model\"]\nshape = [4, 8]\n[partition]\nunmatched = \"replicate\"\n",
    );
    for (index, tokens) in rules::rules(count).iter().enumerate() {
        let tokens: Vec<String> = tokens.iter().map(|token| format!("'{token}'")).collect();
        writeln!(
            text,
            "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"r{index}\"\ntokens = [{}]\nspec = [\"model\"]",
            tokens.join(", ")
        )
        .unwrap();
    }
    std::fs::write(path, text).unwrap();
}
