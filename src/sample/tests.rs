//! What needs the inside: every instruction set gives the same bits.

use super::threefry::{Key, uniform_f64};
use super::{Logits, Row, Sampler, SamplerConfig, Workspace};
use crate::simd::{Level, with_level};

fn normal_row(size: usize, deviation: f64, seed: u64) -> Vec<f32> {
    let uniform = |counter| {
        let (high, low) = Key::from_seed(seed).hash(counter);
        uniform_f64(u64::from(high) << 32 | u64::from(low))
    };
    let normal = |token: u32| {
        let radius = (-2.0 * uniform((0, token)).max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * uniform((1, token))).cos()
    };
    (0..size as u32).map(|token| (deviation * normal(token)) as f32).collect()
}

/// Everything a run computes, as bits.
fn bits(sampler: &Sampler, row: &Row<'_>) -> Vec<u64> {
    let mut workspace = Workspace::default();
    let decision = sampler.decide(row, &mut workspace).unwrap();
    let mut bits = vec![decision.token.into(), decision.kept as u64];
    bits.extend([decision.probability, decision.logprob, decision.gap].map(f64::to_bits));
    bits.extend(workspace.top().iter().flat_map(|top| [top.token.into(), top.probability.to_bits()]));
    let distribution = sampler.distribution(row, &mut workspace).unwrap();
    bits.extend(
        distribution.candidates().flat_map(|left| [left.score, left.probability, left.logprob].map(f64::to_bits)),
    );
    bits
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let profiles = [
        "{}",
        r#"{"temperature": 0.7}"#,
        r#"{"top_p": 0.9}"#,
        r#"{"top_k": 50, "top_p": 0.9}"#,
        r#"{"temperature": 1.3, "typical_p": 0.8}"#,
        r#"{"top_n_sigma": 1.5}"#,
        r#"{"eta_cutoff": 0.001}"#,
        r#"{"min_p": 0.02, "dynatemp_range": 0.4, "order": ["temperature", "min_p"]}"#,
        r#"{"preset": "grok-1", "top_p": 0.95}"#,
        r#"{"temperature": 0, "top_logprobs": 5, "logprobs": "raw"}"#,
    ];
    for profile in profiles {
        let config: SamplerConfig = serde_json::from_str(profile).unwrap();
        let (sampler, _) = Sampler::compile(&config).unwrap();
        for size in [1, 15, 16, 63, 64, 65, 1000, 5003] {
            let logits = normal_row(size, 3.0, 5);
            let row = Row { seed: Some(11), slot: 3, step: 8, ..Row::new(Logits::F32(&logits)) };
            let expected = with_level(Level::Plain, || bits(&sampler, &row));
            for &level in Level::ALL.iter().filter(|level| level.is_available()) {
                let found = with_level(level, || bits(&sampler, &row));
                assert_eq!(found, expected, "{profile} on {size} tokens, {level:?}");
            }
        }
    }
}

/// Known bits, so that a platform whose arithmetic differs is noticed there.
#[test]
fn the_bits_are_these() {
    let (sampler, _) = Sampler::compile(&SamplerConfig { top_p: Some(0.9), ..SamplerConfig::default() }).unwrap();
    // Multiples of 1/64 from integers alone: the row does not depend on the platform's own functions.
    let logits: Vec<f32> =
        (0..3000).map(|token| ((Key(3, 1).hash((0, token)).0 >> 22) as f32 - 512.0) / 64.0).collect();
    let row = Row { seed: Some(7), slot: 1, step: 2, ..Row::new(Logits::F32(&logits)) };
    let decision = sampler.decide(&row, &mut Workspace::default()).unwrap();
    let found = (decision.token, decision.kept, decision.probability.to_bits(), decision.gap.to_bits());
    assert_eq!(found, (2862, 436, 4_571_976_015_349_594_351, 4_599_087_335_287_162_512));
}
