//! Reachability of whole tables. The baseline of a row is the number of rules: cost per rule should stay flat.

#![expect(clippy::unwrap_used, reason = "bench data that cannot be read ends the run")]

use divan::{Bencher, black_box};
use flow_fabric::analysis::{Options, Rule, Universe, analyze};
use flow_fabric::pattern::{Pattern, PatternSpec, Separators};

fn main() {
    divan::main();
}

fn data(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/inventories/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn paths(name: &str) -> Vec<String> {
    let path = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["name"].as_str().unwrap().to_owned()
    };
    data(name).lines().map(path).collect()
}

/// The published rules of Grok-1: 36 windows of token regexes.
fn grok() -> Vec<Pattern> {
    let file: serde_json::Value = serde_json::from_str(&data("grok-1.rules.json")).unwrap();
    let tokens = |rule: &serde_json::Value| {
        let tokens = rule["match"].as_array().unwrap().iter().map(|token| token.as_str().unwrap().to_owned());
        Pattern::new(PatternSpec::Tokens(tokens.collect()), &Separators::default()).unwrap()
    };
    file["rules"].as_array().unwrap().iter().map(tokens).collect()
}

/// A table of many kinds: globs by layer, windows, whole-path regexes, and a catch-all at the end.
fn mixed(rules: usize) -> Vec<Pattern> {
    let one = |at: usize| {
        let part = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "router"][at % 8];
        match at % 5 {
            0 => PatternSpec::Glob(format!("model.layers.{}.*.{part}.weight", at / 5)),
            1 => PatternSpec::Tokens(vec![format!("layer_{at}|block_{at}"), part.to_owned(), "w|b".to_owned()]),
            2 => PatternSpec::Regex(format!(r".*\.experts\.{at}\..*{part}.*")),
            3 => PatternSpec::Glob(format!("**/{part}{at}*/**")),
            _ => PatternSpec::Regex(format!(r"model\.layers\.\d+\.h{at}_[a-z0-9_]+\.{part}\.(weight|bias)")),
        }
    };
    let last = PatternSpec::Glob("**".to_owned());
    let all = (1..rules).map(one).chain([last]);
    all.map(|spec| Pattern::new(spec, &Separators::default()).unwrap()).collect()
}

/// A table that covers a checkpoint shape by shape, with duplicates at the end: the proofs have to go all the way.
fn covering() -> Vec<Pattern> {
    let universe = universe();
    let globs = universe.templates().map(|template| template.to_string().replace("{N}", "*"));
    let globs: Vec<String> = globs.collect();
    let all = globs.iter().chain(globs.iter().step_by(4)).cloned().chain(["**".to_owned()]);
    all.map(|glob| Pattern::new(PatternSpec::Glob(glob), &Separators::default()).unwrap()).collect()
}

fn universe() -> Universe {
    let mut universe = Universe::default();
    for name in ["grok-1.oracle.jsonl", "mixtral-8x7b.jsonl", "llama-3-8b.jsonl", "bert-base-uncased.jsonl"] {
        universe.extend(&Universe::from_paths(paths(name).iter().map(String::as_str), &Separators::default()));
    }
    universe
}

fn rules(patterns: &[Pattern]) -> Vec<Rule<'_>> {
    patterns.iter().map(|pattern| Rule { pattern, except: &[], conditional: false }).collect()
}

#[divan::bench]
fn grok_over_free_paths(bencher: Bencher<'_, '_>) {
    let patterns = grok();
    bencher.bench(|| analyze(black_box(&rules(&patterns)), &Options::default()));
}

#[divan::bench]
fn grok_over_a_universe(bencher: Bencher<'_, '_>) {
    let (patterns, universe) = (grok(), universe());
    let options = Options { universe: Some(&universe), ..Options::default() };
    bencher.bench(|| analyze(black_box(&rules(&patterns)), &options));
}

#[divan::bench(args = [60, 120, 250], sample_count = 10)]
fn mixed_over_free_paths(bencher: Bencher<'_, '_>, count: usize) {
    let patterns = mixed(count);
    bencher.bench(|| analyze(black_box(&rules(&patterns)), &Options::default()));
}

#[divan::bench(args = [60, 120, 250], sample_count = 10)]
fn mixed_over_a_universe(bencher: Bencher<'_, '_>, count: usize) {
    let (patterns, universe) = (mixed(count), universe());
    let options = Options { universe: Some(&universe), ..Options::default() };
    bencher.bench(|| analyze(black_box(&rules(&patterns)), &options));
}

#[divan::bench(sample_count = 10)]
fn covering_over_its_universe(bencher: Bencher<'_, '_>) {
    let (patterns, universe) = (covering(), universe());
    let options = Options { universe: Some(&universe), ..Options::default() };
    bencher.bench(|| analyze(black_box(&rules(&patterns)), &options));
}

#[divan::bench(sample_count = 10)]
fn covering_over_free_paths(bencher: Bencher<'_, '_>) {
    let patterns = covering();
    bencher.bench(|| analyze(black_box(&rules(&patterns)), &Options::default()));
}
