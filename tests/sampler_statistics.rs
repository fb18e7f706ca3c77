//! What a draw is like over many steps.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which must stop")]

use flow_fabric::sample::{Decision, Logits, Row, Sampler, SamplerConfig, Workspace};

fn sampler(profile: &str) -> Sampler {
    let config: SamplerConfig = serde_json::from_str(profile).unwrap();
    Sampler::compile(&config).unwrap().0
}

/// Draws one token per row.
fn draw<'a>(sampler: &Sampler, rows: impl Iterator<Item = Row<'a>>) -> Vec<Decision> {
    let mut workspace = Workspace::default();
    rows.map(|row| sampler.decide(&row, &mut workspace).unwrap()).collect()
}

/// Pearson's statistic of counts against probabilities.
fn chi_square(counts: &[f64], probabilities: &[f64]) -> f64 {
    let total: f64 = counts.iter().sum();
    counts.iter().zip(probabilities).map(|(count, p)| (count - total * p).powi(2) / (total * p)).sum()
}

/// A bound that a statistic of so many degrees of freedom exceeds once in a hundred thousand (Wilson and Hilferty).
fn bound(degrees: f64) -> f64 {
    degrees * (1.0 - 2.0 / (9.0 * degrees) + 4.265 * (2.0 / (9.0 * degrees)).sqrt()).powi(3)
}

/// Counts draws of a row over steps, and holds them against the row's distribution.
fn assert_distribution(profile: &str, logits: &[f32], steps: u64) {
    let sampler = sampler(profile);
    let row = Row { seed: Some(20), ..Row::new(Logits::F32(logits)) };
    let mut workspace = Workspace::default();
    let expected: Vec<(u32, f64)> = sampler
        .distribution(&row, &mut workspace)
        .unwrap()
        .candidates()
        .map(|candidate| (candidate.token, candidate.probability))
        .collect();
    let rows: Vec<Row<'_>> = (0..steps).map(|step| Row { step, ..row }).collect();
    let mut counts = vec![0.0; logits.len()];
    for decision in sampler.decide_batch(&rows) {
        counts[decision.unwrap().token as usize] += 1.0;
    }
    let (counts, probabilities): (Vec<f64>, Vec<f64>) =
        expected.iter().map(|&(token, probability)| (counts[token as usize], probability)).unzip();
    assert_eq!(counts.iter().sum::<f64>(), steps as f64, "only survivors are drawn");
    let statistic = chi_square(&counts, &probabilities);
    assert!(statistic < bound(counts.len() as f64 - 1.0), "{profile}: {statistic}");
}

#[test]
fn a_million_draws_have_the_distribution() {
    assert_distribution("{}", &[0.3, -1.2, 2.0, -0.4], 1_000_000);
}

#[test]
fn draws_of_other_rows_and_streams_have_the_distribution() {
    let logits = [0.3, -1.2, 2.0, 0.0, -2.5, 1.1, f32::NEG_INFINITY, 0.3, -0.4, 1.9];
    for profile in ["{}", r#"{"temperature": 0.6, "top_p": 0.9}"#, r#"{"preset": "grok-1", "top_p": 0.97}"#] {
        assert_distribution(profile, &logits, 40_000);
    }
}

/// Pairs of streams that differ in one coordinate are independent: each pair of tokens is as frequent as the product.
#[test]
fn streams_of_slots_steps_and_seeds_are_independent() {
    let logits = [0.0_f32; 5];
    let sampler = sampler("{}");
    let base = Row { seed: Some(3), ..Row::new(Logits::F32(&logits)) };
    let row = |seed, slot, step| Row { seed: Some(seed), slot, step, ..base };
    let draws = 20_000;
    let first = draw(&sampler, (0..draws).map(|step| row(3, 0, step)));
    for what in ["slot", "seed", "next step", "slot and step exchanged"] {
        let second = (0..draws).map(|step| match what {
            "slot" => row(3, 1, step),
            "seed" => row(4, 0, step),
            "next step" => row(3, 0, step + 1),
            _ => row(3, step + 1, 0),
        });
        let second = draw(&sampler, second);
        let mut pairs = vec![0.0; 25];
        for (a, b) in first.iter().zip(&second) {
            pairs[(a.token * 5 + b.token) as usize] += 1.0;
        }
        let statistic = chi_square(&pairs, &[1.0 / 25.0; 25]);
        assert!(statistic < bound(24.0), "{what}: {statistic}");
    }
}

/// The token stands as long as its lead over all others shrinks by less than the gap, and no longer.
#[test]
fn the_gap_says_how_much_error_a_draw_bears() {
    let sampler = sampler("{}");
    let mut workspace = Workspace::default();
    for step in 0..300 {
        let logits: Vec<f32> = (0..12).map(|token| ((token * 37 + step as i32 * 11) % 23) as f32 / 8.0).collect();
        let row = |logits| Row { step, ..Row::new(Logits::F32(logits)) };
        let decision = sampler.decide(&row(&logits), &mut workspace).unwrap();
        let shifted = |amount: f64| {
            let mut shifted: Vec<f32> = logits.iter().map(|&logit| (f64::from(logit) + amount / 2.0) as f32).collect();
            shifted[decision.token as usize] -= amount as f32;
            shifted
        };
        // The winner falls back by the amount against all others.
        let (less, more) = (shifted(decision.gap * 0.99), shifted(decision.gap * 1.01));
        assert_eq!(sampler.decide(&row(&less), &mut workspace).unwrap().token, decision.token, "step {step}");
        assert_ne!(
            sampler.decide(&row(&more), &mut workspace).unwrap().token,
            decision.token,
            "step {step} {decision:?}"
        );
    }
}
