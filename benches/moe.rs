//! A Grok-1-shaped layer at 1/8 of its width (768 wide, 4096 between the projections, 8 experts, 2 per token), on all
//! processors.
//!
//! `cargo bench --bench moe`

#![allow(clippy::expect_used, reason = "a broken case must stop the run")]

use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::ItemsCount;
use flow_fabric::Dtype;
use flow_fabric::moe::{CaseKind, CaseSizes, Evaluator, Input, MoeConfig, MoeLayer, Preset, TestCase};

fn main() {
    divan::main();
}

const SIZES: CaseSizes = CaseSizes { hidden: 768, inner: 4096, tokens: 512 };

static CASE: LazyLock<TestCase> = LazyLock::new(|| {
    let config = MoeConfig { preset: Some(Preset::Grok1), ..MoeConfig::default() };
    let layer = MoeLayer::compile(&config).expect("a preset");
    TestCase::new(CaseKind::Normal, &layer, SIZES, 1).expect("a case")
});

/// Tokens per second; 512 tokens take 2 x 512 x 3 products with 768 x 4096 weights, 19 GFLOP.
#[divan::bench(args = [1, 64, 512], sample_count = 10)]
fn exact(bencher: Bencher<'_, '_>, tokens: usize) {
    layer(bencher, tokens, Evaluator::Exact);
}

#[divan::bench(args = [1, 64, 512], sample_count = 10)]
fn rounded(bencher: Bencher<'_, '_>, tokens: usize) {
    layer(bencher, tokens, Evaluator::Rounded);
}

fn layer(bencher: Bencher<'_, '_>, tokens: usize, evaluator: Evaluator) {
    let values = &CASE.input[..tokens * SIZES.hidden];
    let input = Input { values, hidden: SIZES.hidden, dtype: Dtype::Bf16 };
    bencher
        .counter(ItemsCount::new(tokens))
        .bench_local(|| CASE.layer.evaluate(&CASE.weights, &input, evaluator, false).expect("an evaluation"));
}
