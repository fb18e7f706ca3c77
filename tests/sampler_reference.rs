//! The sampler beside a slow and obvious one: every stage over a sorted list, with the platform's own `exp` and `ln`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which must stop")]

use std::collections::{BTreeMap, BTreeSet};

use flow_fabric::sample::threefry::{Key, Layout, uniform_f64};
use flow_fabric::sample::{
    Boundary, Candidate, Logits, Row, SampleError, Sampler, SamplerConfig, Scope, Stage, StageKind, Ties, Workspace,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// Survivors as `(token, score)`, best first, and one over the temperature.
struct Slow {
    left: Vec<(u32, f32)>,
    scale: f64,
}

impl Slow {
    fn new(logits: &[f32]) -> Self {
        let left = (0..).zip(logits.iter().copied()).filter(|(_, score)| *score != f32::NEG_INFINITY).collect();
        let mut slow = Self { left, scale: 1.0 };
        slow.sort();
        slow
    }

    fn sort(&mut self) {
        self.left.sort_by(|a, b| (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0)));
    }

    fn logits(&self) -> Vec<f64> {
        let max = self.left.first().map_or(0.0, |first| f64::from(first.1));
        self.left.iter().map(|&(_, score)| (f64::from(score) - max) * self.scale).collect()
    }

    fn probabilities(&self) -> Vec<f64> {
        let weights: Vec<f64> = self.logits().into_iter().map(f64::exp).collect();
        let mass: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / mass).collect()
    }

    fn entropy(&self) -> f64 {
        self.probabilities().into_iter().filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
    }

    fn truncate(&mut self, count: usize, ties: Ties) {
        let mut count = count.clamp(1, self.left.len());
        if ties == Ties::Keep {
            count += self.left[count..].iter().take_while(|entry| entry.1 == self.left[count - 1].1).count();
        }
        self.left.truncate(count);
    }

    fn adjust(&mut self, change: impl Fn(u32, f64) -> f64) {
        let scale = std::mem::replace(&mut self.scale, 1.0);
        for (token, score) in &mut self.left {
            let settled = if scale == 1.0 { *score } else { (f64::from(*score) * scale) as f32 };
            *score = change(*token, f64::from(settled)) as f32;
        }
        self.sort();
    }

    fn apply(&mut self, stage: &Stage, prompt: &[u32], output: &[u32]) {
        let seen = |seen: &flow_fabric::sample::Seen| -> BTreeMap<u32, u32> {
            let prompt: &[u32] = if seen.scope == Scope::All { prompt } else { &[] };
            let tokens: Vec<u32> = prompt.iter().chain(output).copied().collect();
            let from = seen.window.map_or(0, |window| tokens.len().saturating_sub(window as usize));
            let mut counts = BTreeMap::new();
            for &token in &tokens[from..] {
                *counts.entry(token).or_insert(0) += 1;
            }
            counts
        };
        match stage {
            Stage::VocabLimit(limit) => self.left.retain(|(token, _)| token < limit),
            Stage::Allow(tokens) => self.left.retain(|(token, _)| tokens.contains(token)),
            Stage::Deny(tokens) => self.left.retain(|(token, _)| !tokens.contains(token)),
            Stage::LogitBias(bias) => {
                let bias: BTreeMap<u32, f64> = bias.iter().copied().collect();
                self.adjust(|token, score| score + bias.get(&token).unwrap_or(&0.0));
            }
            Stage::Repetition { penalty, seen: scope } => {
                let counts = seen(scope);
                self.adjust(|token, score| match counts.contains_key(&token) {
                    true if score > 0.0 => score / penalty,
                    true => score * penalty,
                    false => score,
                });
            }
            Stage::Frequency { penalty, seen: scope } => {
                let counts = seen(scope);
                self.adjust(|token, score| score - penalty * f64::from(*counts.get(&token).unwrap_or(&0)));
            }
            Stage::Presence { penalty, seen: scope } => {
                let counts = seen(scope);
                self.adjust(|token, score| if counts.contains_key(&token) { score - penalty } else { score });
            }
            Stage::Temperature(temperature) => self.scale /= temperature,
            Stage::Greedy => self.truncate(1, Ties::ById),
            Stage::TopK { k, ties } => self.truncate(*k as usize, *ties),
            Stage::TopP { p, boundary, ties, min_keep } => {
                let mut before = 0.0;
                let mut kept = 0;
                for probability in self.probabilities() {
                    let inside = if *boundary == Boundary::Exclude { before < *p } else { before <= *p };
                    if kept > 0 && !inside {
                        break;
                    }
                    kept += 1;
                    before += probability;
                }
                self.truncate(kept.max(*min_keep as usize), *ties);
            }
            Stage::MinP { p, min_keep } => {
                let kept = self.logits().iter().filter(|logit| **logit >= p.ln()).count();
                self.truncate(kept.max(*min_keep as usize), Ties::ById);
            }
            Stage::EpsilonCutoff { epsilon, min_keep } => self.cutoff(*epsilon, *min_keep as usize),
            Stage::EtaCutoff { eta, min_keep } => {
                let least = eta.min(eta.sqrt() * (-self.entropy()).exp());
                self.cutoff(least, *min_keep as usize);
            }
            Stage::TopNSigma(n) => {
                let count = self.left.len() as f64;
                let mean = self.left.iter().map(|(_, score)| f64::from(*score)).sum::<f64>() / count;
                let squares: f64 = self.left.iter().map(|(_, score)| (f64::from(*score) - mean).powi(2)).sum();
                let least = f64::from(self.left[0].1) - n * (squares / count).sqrt();
                self.left.retain(|(_, score)| f64::from(*score) >= least);
            }
            Stage::TypicalP { p, min_keep } => {
                let (probabilities, entropy) = (self.probabilities(), self.entropy());
                let distance = |rank: usize| (-probabilities[rank].ln() - entropy).abs();
                let mut ranks: Vec<usize> = (0..self.left.len()).collect();
                ranks.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
                let mut kept = BTreeSet::new();
                let (mut held, mut edge) = (0.0, f64::INFINITY);
                for rank in ranks {
                    let more = distance(rank) <= edge + 1e-9 || kept.len() < *min_keep as usize;
                    if !more {
                        break;
                    }
                    held += probabilities[rank];
                    kept.insert(self.left[rank].0);
                    if edge == f64::INFINITY && held >= *p {
                        edge = distance(rank);
                    }
                }
                self.left.retain(|(token, _)| kept.contains(token));
            }
            Stage::TopH { share, min_keep } => {
                self.left.truncate(100);
                let term =
                    |p: &f64| if *p as f32 > 0.0 { -f64::from(*p as f32) * f64::from(*p as f32).ln() } else { 0.0 };
                let terms: Vec<f64> = self.probabilities().iter().map(term).collect();
                let whole: f64 = terms.iter().sum();
                let mut sum = 0.0;
                let kept = terms.iter().take_while(|term| {
                    sum += **term;
                    sum <= share * whole
                });
                let kept = kept.count();
                self.truncate(kept.max(*min_keep as usize), Ties::ById);
            }
            Stage::Xtc { probability, threshold, min_keep } => {
                assert_eq!(*probability, 1.0, "the coin is not part of the reference");
                let likely = self.probabilities().iter().take_while(|p| **p >= *threshold).count();
                let removed = likely.saturating_sub(1);
                if self.left.len() - removed >= *min_keep as usize {
                    self.left.drain(..removed);
                }
            }
            other => panic!("{other}"),
        }
    }

    fn cutoff(&mut self, least: f64, min_keep: usize) {
        let kept = self.probabilities().iter().filter(|p| **p >= least).count();
        if kept < min_keep { self.truncate(min_keep, Ties::Keep) } else { self.left.truncate(kept) }
    }

    /// Gumbel-max with the documented key: seed, slot and step folded in, token ids as counters.
    fn draw(&self, seed: u64, slot: u64, step: u64) -> u32 {
        let key = Key::from_seed(seed).fold_in(slot).fold_in(step);
        let noise = |token: u32| {
            let uniform = uniform_f64(key.bits64(Layout::Partitionable, token.into(), 0)).max(f64::MIN_POSITIVE);
            -(-uniform.ln()).ln()
        };
        let sums = self.logits().into_iter().zip(&self.left).map(|(logit, (token, _))| (logit + noise(*token), *token));
        sums.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).unwrap().1
    }
}

/// Rows of several kinds: smooth, with ties, peaked, flat, partly masked.
fn logits(largest: usize) -> impl Strategy<Value = Vec<f32>> {
    let size = prop_oneof![3 => 1..80_usize, 1 => (largest / 2)..largest];
    (size, 0..6_u8, any::<u64>()).prop_map(|(size, kind, seed)| {
        let key = Key::from_seed(seed);
        let uniform =
            |token: usize, lane: u64| uniform_f64(key.fold_in(lane).bits64(Layout::Partitionable, token as u64, 0));
        let normal = |token: usize| {
            let (a, b) = (uniform(token, 0).max(1e-300), uniform(token, 1));
            (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
        };
        let mut row: Vec<f32> = (0..size)
            .map(|token| match kind {
                0 => (3.0 * normal(token)) as f32,
                1 => (2.0 * normal(token)).round() as f32,
                2 => (0.05 * normal(token)) as f32,
                3 => 1.5,
                4 if uniform(token, 2) < 0.4 => f32::NEG_INFINITY,
                4 => (4.0 * normal(token)) as f32,
                _ => normal(token) as f32 + if token == size / 2 { 25.0 } else { 0.0 },
            })
            .collect();
        if row.iter().all(|score| *score == f32::NEG_INFINITY) {
            row[0] = 0.0;
        }
        row
    })
}

fn tokens(size: u32) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..size, 0..12)
}

fn share() -> impl Strategy<Value = Option<f64>> {
    prop::option::of(prop_oneof![0.0..1.0_f64, Just(0.9), Just(0.5), Just(0.0), Just(0.999)])
}

prop_compose! {
    fn filters()(
        temperature in prop::option::of(0.2..3.0_f64), top_k in prop::option::of(1..70_u32), top_p in share(),
        min_p in share(), typical_p in share(), epsilon in prop::option::of(0.0..0.1_f64),
        eta in prop::option::of(0.0..0.1_f64), top_h in share(), sigma in prop::option::of(0.1..3.0_f64),
        xtc in prop::option::of(0.0..0.5_f64), min_keep in 1..5_u32, wide in any::<[bool; 3]>(),
    ) -> SamplerConfig {
        SamplerConfig {
            temperature, top_k, top_p, min_p: min_p.map(|p| p * 0.3), typical_p,
            epsilon_cutoff: epsilon, eta_cutoff: eta, top_h, top_n_sigma: sigma,
            xtc_probability: xtc.map(|_| 1.0), xtc_threshold: xtc, min_keep: Some(min_keep),
            boundary: Some(if wide[0] { Boundary::Include } else { Boundary::Exclude }),
            ties: Some(if wide[1] { Ties::Keep } else { Ties::ById }),
            top_k_ties: Some(if wide[2] { Ties::Keep } else { Ties::ById }),
            ..SamplerConfig::default()
        }
    }
}

/// At most a few stages, in any order: a chain of all filters keeps one token and shows nothing.
fn chain() -> impl Strategy<Value = SamplerConfig> {
    (filters(), Just(StageKind::ALL.to_vec()).prop_shuffle(), 1..4_usize).prop_map(|(mut config, order, stages)| {
        let active: Vec<StageKind> = {
            let (sampler, _) = Sampler::compile(&config).unwrap();
            sampler.stages().iter().map(Stage::kind).collect()
        };
        let chosen: Vec<StageKind> = order.iter().copied().filter(|kind| active.contains(kind)).take(stages).collect();
        let off = |kind: StageKind| !chosen.contains(&kind);
        config.temperature = config.temperature.filter(|_| !off(StageKind::Temperature));
        config.top_k = config.top_k.filter(|_| !off(StageKind::TopK));
        config.top_p = config.top_p.filter(|_| !off(StageKind::TopP));
        config.min_p = config.min_p.filter(|_| !off(StageKind::MinP));
        config.typical_p = config.typical_p.filter(|_| !off(StageKind::TypicalP));
        config.epsilon_cutoff = config.epsilon_cutoff.filter(|_| !off(StageKind::EpsilonCutoff));
        config.eta_cutoff = config.eta_cutoff.filter(|_| !off(StageKind::EtaCutoff));
        config.top_h = config.top_h.filter(|_| !off(StageKind::TopH));
        config.top_n_sigma = config.top_n_sigma.filter(|_| !off(StageKind::TopNSigma));
        config.xtc_probability = config.xtc_probability.filter(|_| !off(StageKind::Xtc));
        config.order = Some(order);
        config
    })
}

fn cases(count: u32, seed: u64) -> Config {
    Config { cases: count, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() }
}

fn distribution(sampler: &Sampler, row: &Row<'_>) -> Result<Vec<Candidate>, SampleError> {
    Ok(sampler.distribution(row, &mut Workspace::default())?.candidates().collect())
}

fn ids(survivors: &[Candidate]) -> BTreeSet<u32> {
    survivors.iter().map(|candidate| candidate.token).collect()
}

proptest! {
    #![proptest_config(cases(600, 1))]

    #[test]
    fn filters_in_any_order_keep_what_the_slow_sampler_keeps(
        row in logits(6000), config in chain(), seed in any::<u64>(), slot in 0..9_u64, step in 0..9_u64,
    ) {
        let (sampler, _) = Sampler::compile(&config).unwrap();
        let mut slow = Slow::new(&row);
        for stage in sampler.stages() {
            slow.apply(stage, &[], &[]);
        }
        let row = Row { seed: Some(seed), slot, step, ..Row::new(Logits::F32(&row)) };
        let fast = distribution(&sampler, &row).unwrap();
        let fast_ids: Vec<u32> = fast.iter().map(|candidate| candidate.token).collect();
        let slow_ids: Vec<u32> = slow.left.iter().map(|entry| entry.0).collect();
        prop_assert_eq!(fast_ids, slow_ids, "{:?}", sampler.stages());
        for (candidate, probability) in fast.iter().zip(slow.probabilities()) {
            prop_assert!((candidate.probability - probability).abs() <= 1e-12, "{:?} {}", candidate, probability);
        }
        let sum: f64 = fast.iter().map(|candidate| candidate.probability).sum();
        prop_assert!((sum - 1.0).abs() <= 1e-12, "{}", sum);
        let decision = sampler.decide(&row, &mut Workspace::default()).unwrap();
        prop_assert_eq!(decision.token, slow.draw(seed, slot, step));
        prop_assert_eq!(decision.kept, slow.left.len());
    }

    #[test]
    fn masks_and_penalties_do_what_the_slow_sampler_does(
        row in logits(300),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 40),
        numbers in (0.5..2.0_f64, -2.0..2.0_f64, -2.0..2.0_f64, -3.0..3.0_f64, 0.5..2.0_f64),
        window in prop::option::of(0..20_u32), all in any::<bool>(), top_k in prop::option::of(1..30_u32),
        order in Just(StageKind::ALL.to_vec()).prop_shuffle(),
    ) {
        let pick = |range: std::ops::Range<usize>| -> Vec<u32> {
            picks[range].iter().map(|pick| pick.index(row.len()) as u32).collect()
        };
        let (repetition, frequency, presence, bias, temperature) = numbers;
        let (prompt, output) = (pick(0..12), pick(12..30));
        let config = SamplerConfig {
            repetition_penalty: Some(repetition), frequency_penalty: Some(frequency), presence_penalty: Some(presence),
            frequency_scope: Some(if all { Scope::All } else { Scope::Output }), penalty_window: window,
            logit_bias: Some(pick(30..35).into_iter().map(|token| (token, bias)).collect()),
            deny: Some(pick(35..38)), temperature: Some(temperature), top_k, order: Some(order),
            vocab_limit: Some((row.len() as u32 * 3 / 4).max(1)),
            ..SamplerConfig::default()
        };
        let (sampler, _) = Sampler::compile(&config).unwrap();
        let mut slow = Slow::new(&row);
        for stage in sampler.stages() {
            if slow.left.is_empty() {
                break;
            }
            slow.apply(stage, &prompt, &output);
        }
        let row = Row { prompt: &prompt, output: &output, ..Row::new(Logits::F32(&row)) };
        match distribution(&sampler, &row) {
            Ok(fast) => {
                let fast_ids: Vec<u32> = fast.iter().map(|candidate| candidate.token).collect();
                prop_assert_eq!(fast_ids, slow.left.iter().map(|entry| entry.0).collect::<Vec<_>>());
                for (candidate, (_, score)) in fast.iter().zip(&slow.left) {
                    prop_assert_eq!(candidate.score, f64::from(*score) * slow.scale);
                }
            }
            Err(error) => {
                let none_left = matches!(error, SampleError::NoSurvivor { .. });
                prop_assert!(none_left && slow.left.is_empty());
            }
        }
    }

    #[test]
    fn filters_are_monotone(row in logits(3000), low in 0.0..1.0_f64, high in 0.0..1.0_f64, k in 1..60_u32, more in 0..60_u32) {
        let (low, high) = (low.min(high), low.max(high));
        let kept = |config: SamplerConfig| {
            let (sampler, _) = Sampler::compile(&config).unwrap();
            ids(&distribution(&sampler, &Row::new(Logits::F32(&row))).unwrap())
        };
        let p = |p: f64| kept(SamplerConfig { top_p: Some(p), ..SamplerConfig::default() });
        prop_assert!(p(low).is_subset(&p(high)));
        let min = |p: f64| kept(SamplerConfig { min_p: Some(p), ..SamplerConfig::default() });
        prop_assert!(min(high).is_subset(&min(low)));
        let top = |k: u32| kept(SamplerConfig { top_k: Some(k), ..SamplerConfig::default() });
        prop_assert!(top(k).is_subset(&top(k + more)));
        let include = SamplerConfig { top_p: Some(low), boundary: Some(Boundary::Include), ..SamplerConfig::default() };
        prop_assert!(p(low).is_subset(&kept(include)));
    }

    #[test]
    fn survivors_do_not_depend_on_the_numbering_of_tokens(row in logits(3000), config in chain(), by in any::<u64>()) {
        // Ties that are all kept, so that no id decides.
        let config = SamplerConfig {
            ties: Some(Ties::Keep), top_k_ties: Some(Ties::Keep), min_keep: None, top_h: None, ..config
        };
        let (sampler, _) = Sampler::compile(&config).unwrap();
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by_key(|&token| Key::from_seed(by).hash((0, token as u32)));
        let permuted: Vec<f32> = order.iter().map(|&token| row[token]).collect();
        let scores = |row: &[f32]| -> Vec<f64> {
            distribution(&sampler, &Row::new(Logits::F32(row))).unwrap().iter().map(|c| c.score).collect()
        };
        prop_assert_eq!(scores(&row), scores(&permuted));
    }

    #[test]
    fn a_row_is_independent_of_its_neighbours(rows in prop::collection::vec(logits(200), 1..6), config in chain()) {
        let (sampler, _) = Sampler::compile(&config).unwrap();
        let rows: Vec<Row<'_>> =
            rows.iter().zip(0..).map(|(row, slot)| Row { slot, ..Row::new(Logits::F32(row)) }).collect();
        let mut shared = Workspace::default();
        for (row, batched) in rows.iter().zip(sampler.decide_batch(&rows)) {
            prop_assert_eq!(&sampler.decide(row, &mut shared), &batched);
            prop_assert_eq!(&sampler.decide(row, &mut Workspace::default()), &batched);
        }
    }

    #[test]
    fn a_trace_tells_the_same_story(row in logits(300), config in chain(), token in tokens(300)) {
        let (sampler, _) = Sampler::compile(&config).unwrap();
        let token = token.first().copied().filter(|token| (*token as usize) < row.len() && row[*token as usize].is_finite());
        let row = Row::new(Logits::F32(&row));
        let (decision, trace) = sampler.trace(&row, token, &mut Workspace::default()).unwrap();
        prop_assert_eq!(decision, sampler.decide(&row, &mut Workspace::default()).unwrap());
        let left = distribution(&sampler, &row).unwrap();
        prop_assert_eq!(trace.steps.last().map(|step| step.kept), Some(left.len()));
        prop_assert!(trace.steps.windows(2).all(|pair| pair[0].kept >= pair[1].kept));
        if let Some(token) = token {
            prop_assert_eq!(trace.removed_by().is_none(), ids(&left).contains(&token));
        }
    }
}
