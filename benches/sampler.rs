//! One row of 131,072 logits on one thread, beside an implementation that sorts the whole row.
//!
//! `cargo bench --bench sampler`
#![allow(
    clippy::expect_used,
    clippy::ptr_arg,
    reason = "a bench fails by panicking, and divan hands cases over as they are"
)]

use std::sync::LazyLock;

use divan::Bencher;
use flow_fabric::sample::threefry::{Key, Layout, uniform_f64};
use flow_fabric::sample::{Logits, Row, Sampler, SamplerConfig, Workspace};

fn main() {
    divan::main();
}

const VOCABULARY: usize = 131_072;

/// Rows by name: what the row looks like decides what a sampler has to do.
static ROWS: LazyLock<Vec<(&str, Vec<f32>)>> = LazyLock::new(|| {
    let size = std::hint::black_box(VOCABULARY);
    let zipf = |token: usize| (-1.1 * ((token * 48_271 % size) as f64 + 1.0).ln()) as f32;
    vec![
        ("normal(0, 3)", (0..size).map(|token| 3.0 * normal(token)).collect()),
        ("zipf 1.1", (0..size).map(zipf).collect()),
        ("normal(0, 0.1)", (0..size).map(|token| 0.1 * normal(token)).collect()),
        ("flat", vec![1.0; size]),
    ]
});

fn normal(token: usize) -> f32 {
    let uniform = |lane: u64| uniform_f64(Key(7, 7).fold_in(lane).bits64(Layout::Partitionable, token as u64, 0));
    let radius = (-2.0 * uniform(0).max(1e-300).ln()).sqrt();
    (radius * (std::f64::consts::TAU * uniform(1)).cos()) as f32
}

const PROFILES: &[(&str, &str)] = &[
    ("greedy", r#"{"temperature": 0}"#),
    ("top-k 50", r#"{"top_k": 50}"#),
    ("top-k 50, top-p 0.9", r#"{"top_k": 50, "top_p": 0.9}"#),
    ("top-k 1024", r#"{"top_k": 1024}"#),
    ("top-p 0.9", r#"{"top_p": 0.9}"#),
    ("min-p 0.05", r#"{"min_p": 0.05}"#),
    ("temperature 0.7, top-p 0.95", r#"{"temperature": 0.7, "top_p": 0.95}"#),
    ("grok-1, top-p 0.9", r#"{"preset": "grok-1", "top_p": 0.9}"#),
    ("typical 0.9", r#"{"typical_p": 0.9}"#),
    ("no filter", "{}"),
];

/// Every profile on every row. The names live as long as the run.
fn cases() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().flat_map(|(profile, _)| ROWS.iter().map(move |(row, _)| &*format!("{profile} | {row}").leak()))
}

fn row(name: &str) -> &'static [f32] {
    &ROWS.iter().find(|(row, _)| name.ends_with(row)).expect("a case names its row").1
}

#[divan::bench(args = cases())]
fn sampler(bencher: Bencher<'_, '_>, case: &str) {
    let (profile, _) = case.split_once(" | ").expect("a case names its profile");
    let (_, config) = PROFILES.iter().find(|(name, _)| *name == profile).expect("a known profile");
    let config: SamplerConfig = serde_json::from_str(config).expect("a profile");
    let (sampler, _) = Sampler::compile(&config).expect("a valid profile");
    let (logits, mut workspace, mut step) = (row(case), Workspace::default(), 0);
    bencher.bench_local(|| {
        step += 1;
        sampler.decide(&Row { step, ..Row::new(Logits::F32(logits)) }, &mut workspace).expect("a token")
    });
}

#[divan::bench]
fn bf16_top_k_50(bencher: Bencher<'_, '_>) {
    let logits: Vec<half::bf16> = row("normal(0, 3)").iter().map(|&logit| half::bf16::from_f32(logit)).collect();
    let (sampler, _) =
        Sampler::compile(&SamplerConfig { top_k: Some(50), ..SamplerConfig::default() }).expect("a valid profile");
    let (mut workspace, mut step) = (Workspace::default(), 0);
    bencher.bench_local(|| {
        step += 1;
        sampler.decide(&Row { step, ..Row::new(Logits::Bf16(&logits)) }, &mut workspace).expect("a token")
    });
}

/// The baseline: softmax over the row, a full sort, the nucleus, Gumbel-max over what is left. `std` only.
#[divan::bench(args = ROWS.iter().map(|(name, _)| *name))]
fn full_sort_top_p_90(bencher: Bencher<'_, '_>, name: &str) {
    let logits = row(name);
    let mut order: Vec<u32> = Vec::new();
    let mut step = 0_u64;
    bencher.bench_local(|| {
        step += 1;
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mass: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
        order.clear();
        order.extend(0..logits.len() as u32);
        order.sort_unstable_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        let key = Key::from_seed(0).fold_in(0).fold_in(step);
        let mut before = 0.0;
        let mut best = (f64::NEG_INFINITY, u32::MAX);
        for &token in &order {
            if before >= 0.9 * mass {
                break;
            }
            let logit = f64::from(logits[token as usize] - max);
            before += logit.exp();
            let uniform = uniform_f64(key.bits64(Layout::Partitionable, token.into(), 0)).max(f64::MIN_POSITIVE);
            let sum = logit - (-uniform.ln()).ln();
            if sum > best.0 {
                best = (sum, token);
            }
        }
        best.1
    });
}
