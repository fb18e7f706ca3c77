//! The layer beside a slow and obvious one, its promises, and its refusals.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which must stop")]

use flow_fabric::Dtype;
use flow_fabric::moe::{
    Activation, CaseKind, CaseSizes, Combine, Evaluation, Evaluator, FusedLayout, GroupScore, Input, MemoryWeights,
    MoeConfig, MoeLayer, MoeTensors, Normalize, Orientation, Preset, RouteComparison, RouteVerdict, Score, TestCase,
    WeightSource,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn tensors(fused: bool, each: bool, shared: bool, biases: bool) -> MoeTensors {
    let expert = |name: &str| Some(if each { format!("experts.{{expert}}.{name}") } else { format!("experts.{name}") });
    let some = |holds: bool, name: Option<String>| if holds { name } else { None };
    let plain = |name: &str| Some(name.to_owned());
    MoeTensors {
        router: plain("router"),
        router_bias: some(biases, plain("router_bias")),
        selection_bias: some(biases, plain("selection_bias")),
        gate: some(!fused, expert("gate")),
        up: some(!fused, expert("up")),
        gate_up: some(fused, expert("gate_up")),
        down: expert("down"),
        gate_bias: some(biases && !fused, expert("gate_bias")),
        up_bias: some(biases && !fused, expert("up_bias")),
        gate_up_bias: some(biases && fused, expert("gate_up_bias")),
        down_bias: some(biases, expert("down_bias")),
        shared_gate: some(shared, plain("shared.gate")),
        shared_up: some(shared, plain("shared.up")),
        shared_down: some(shared, plain("shared.down")),
    }
}

prop_compose! {
    fn configs()(
        top_k in 1..5_u32, groups in prop::sample::select(vec![1_u32, 2, 4]), open in 1..5_u32,
        score in prop::sample::select(Score::ALL), group_score in prop::sample::select(GroupScore::ALL),
        normalize in prop::sample::select(Normalize::ALL), scale in 0.5..3.0_f64,
        activation in prop::sample::select(Activation::ALL), alpha in 0.5..2.0_f64,
        clamp in prop::option::of(0.2..2.0_f64), up_offset in prop::sample::select(vec![0.0, 1.0]),
        layout in prop::sample::select(FusedLayout::ALL),
        orientations in (prop::sample::select(Orientation::ALL), prop::sample::select(Orientation::ALL)),
        combine in prop::sample::select(Combine::ALL), switches in any::<[bool; 4]>(),
    ) -> MoeConfig {
        let open = open.min(groups);
        MoeConfig {
            experts: Some(8), top_k: Some(top_k.min(8 / groups * open)), score: Some(score), groups: Some(groups),
            group_top_k: Some(open), group_score: Some(group_score), normalize: Some(normalize),
            normalize_epsilon: Some(1e-9), scale: Some(scale), activation: Some(activation),
            activation_alpha: Some(alpha), clamp, up_offset: Some(up_offset),
            shared_experts: Some(u32::from(switches[2])), fused_layout: Some(layout),
            orientation: Some(orientations.0), router_orientation: Some(orientations.1), combine: Some(combine),
            tensors: Some(tensors(switches[0], switches[1], switches[2], switches[3])),
            ..MoeConfig::default()
        }
    }
}

/// Reads tensors the obvious way: a value at an index.
struct Slow<'a> {
    config: &'a MoeConfig,
    weights: &'a MemoryWeights,
    hidden: usize,
    inner: usize,
}

impl Slow<'_> {
    fn value(&self, name: &str, index: usize) -> f64 {
        let mut value = [0.0];
        self.weights.read(name, index, &mut value).unwrap();
        value[0].into()
    }

    fn vector(&self, name: Option<&String>, expert: usize, length: usize, at: usize) -> f64 {
        let Some(name) = name else { return 0.0 };
        if name.contains("{expert}") {
            return self.value(&name.replace("{expert}", &expert.to_string()), at);
        }
        let stacked = self.weights.shape(name).unwrap().len() > 1;
        self.value(name, if stacked { expert * length + at } else { at })
    }

    /// The weight between an input and an output.
    fn weight(&self, name: &str, expert: usize, inputs: usize, outputs: usize, from: usize, to: usize) -> f64 {
        let full = name.replace("{expert}", &expert.to_string());
        let shape = self.weights.shape(&full).unwrap();
        let out_in = shape[shape.len() - 2..] == [outputs, inputs];
        let at = if out_in { to * inputs + from } else { from * outputs + to };
        self.value(&full, if shape.len() == 3 { expert * inputs * outputs + at } else { at })
    }

    fn activate(&self, x: f64) -> f64 {
        let x = self.config.clamp.map_or(x, |limit| x.min(limit));
        match self.config.activation.unwrap() {
            Activation::Silu => x / (1.0 + (-self.config.activation_alpha.unwrap() * x).exp()),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::GeluErf => 0.5 * x * (1.0 + erf(x / 2_f64.sqrt())),
        }
    }

    fn mlp(&self, x: &[f64], expert: usize, shared: bool) -> Vec<f64> {
        let t = self.config.tensors.as_ref().unwrap();
        let (hidden, inner) = (self.hidden, self.inner);
        let dot = |name: &str, inputs: usize, outputs: usize, to: usize, x: &[f64]| -> f64 {
            (0..inputs).map(|from| x[from] * self.weight(name, expert, inputs, outputs, from, to)).sum()
        };
        let units: Vec<f64> = (0..inner)
            .map(|j| {
                let (gate, up) = match &t.gate_up {
                    Some(name) if !shared => {
                        let halves = self.config.fused_layout == Some(FusedLayout::Halves);
                        let (g, u) = if halves { (j, inner + j) } else { (2 * j, 2 * j + 1) };
                        let part = |to: usize| {
                            dot(name, hidden, 2 * inner, to, x)
                                + self.vector(t.gate_up_bias.as_ref(), expert, 2 * inner, to)
                        };
                        (part(g), part(u))
                    }
                    _ => {
                        let (gate, up) = if shared { (&t.shared_gate, &t.shared_up) } else { (&t.gate, &t.up) };
                        let bias = |name: &Option<String>| {
                            if shared { 0.0 } else { self.vector(name.as_ref(), expert, inner, j) }
                        };
                        (
                            dot(gate.as_ref().unwrap(), hidden, inner, j, x) + bias(&t.gate_bias),
                            dot(up.as_ref().unwrap(), hidden, inner, j, x) + bias(&t.up_bias),
                        )
                    }
                };
                let up = self.config.clamp.map_or(up, |limit| up.clamp(-limit, limit));
                self.activate(gate) * (up + self.config.up_offset.unwrap())
            })
            .collect();
        let down = if shared { &t.shared_down } else { &t.down };
        let bias = |to: usize| if shared { 0.0 } else { self.vector(t.down_bias.as_ref(), expert, hidden, to) };
        (0..hidden).map(|to| dot(down.as_ref().unwrap(), inner, hidden, to, &units) + bias(to)).collect()
    }

    fn token(&self, x: &[f64]) -> Vec<f64> {
        let c = self.config;
        let t = c.tensors.as_ref().unwrap();
        let logit = |e: usize| {
            let products = (0..self.hidden)
                .map(|from| x[from] * self.weight(t.router.as_ref().unwrap(), 0, self.hidden, 8, from, e));
            products.sum::<f64>() + self.vector(t.router_bias.as_ref(), 0, 8, e)
        };
        let logits: Vec<f64> = (0..8).map(logit).collect();
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let scores: Vec<f64> = logits
            .iter()
            .map(|logit| match c.score.unwrap() {
                Score::Softmax => logit.exp() / total,
                Score::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
                Score::None => *logit,
            })
            .collect();
        let choice: Vec<f64> = (0..8).map(|e| scores[e] + self.vector(t.selection_bias.as_ref(), 0, 8, e)).collect();
        let size = 8 / c.groups.unwrap() as usize;
        let mut groups: Vec<(f64, usize)> = choice
            .chunks(size)
            .map(|group| {
                let mut group = group.to_vec();
                group.sort_by(|a, b| b.total_cmp(a));
                let pair = group[0] + group.get(1).unwrap_or(&0.0);
                if c.group_score == Some(GroupScore::Max) { group[0] } else { pair }
            })
            .zip(0..)
            .collect();
        groups.sort_by(|a, b| b.0.total_cmp(&a.0));
        groups.truncate(c.group_top_k.unwrap() as usize);
        let mut experts: Vec<usize> = (0..8).filter(|e| groups.iter().any(|(_, group)| *group == e / size)).collect();
        experts.sort_by(|&a, &b| choice[b].total_cmp(&choice[a]));
        experts.truncate(c.top_k.unwrap() as usize);
        let sum: f64 = experts.iter().map(|&e| scores[e]).sum();
        let exponentials: f64 = experts.iter().map(|&e| scores[e].exp()).sum();
        let mut out = vec![0.0; self.hidden];
        for &e in &experts {
            let weight = match c.normalize.unwrap() {
                Normalize::None => scores[e],
                Normalize::Sum => scores[e] / (sum + c.normalize_epsilon.unwrap()),
                Normalize::Softmax => scores[e].exp() / exponentials,
            };
            for (out, value) in out.iter_mut().zip(self.mlp(x, e, false)) {
                *out += weight * c.scale.unwrap() * value;
            }
        }
        if c.shared_experts.unwrap() > 0 {
            out.iter_mut().zip(self.mlp(x, 0, true)).for_each(|(out, value)| *out += value);
        }
        out
    }
}

/// By its Maclaurin series, which is exact enough for the small arguments here.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..80 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

const SIZES: CaseSizes = CaseSizes { hidden: 12, inner: 10, tokens: 9 };

fn evaluate(case: &TestCase, evaluator: Evaluator) -> Evaluation {
    let hidden = SIZES.hidden;
    let input = Input { values: &case.input, hidden, dtype: Dtype::Bf16 };
    case.layer.evaluate(&case.weights, &input, evaluator, true).unwrap()
}

fn cases(count: u32, seed: u64) -> Config {
    Config { cases: count, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases(60, 3))]

    #[test]
    fn the_exact_layer_is_the_slow_one(config in configs(), kind in 0..2_usize, seed in any::<u64>()) {
        let layer = MoeLayer::compile(&config).unwrap();
        let kind = [CaseKind::Normal, CaseKind::OneToken][kind];
        let case = TestCase::new(kind, &layer, SIZES, seed).unwrap();
        let slow = Slow { config: &config, weights: &case.weights, hidden: SIZES.hidden, inner: SIZES.inner };
        let exact = evaluate(&case, Evaluator::Exact);
        let expected: Vec<f64> = case.input.chunks(SIZES.hidden).flat_map(|x| slow.token(x)).collect();
        for (ours, slow) in exact.sum.iter().zip(&expected) {
            prop_assert!((ours - slow).abs() <= 1e-11 * slow.abs().max(1.0), "{} {}", ours, slow);
        }
        // Without roundings, the rounded layer differs by f32 sums only, wherever it takes the same routes.
        let rounded = evaluate(&case, Evaluator::Rounded);
        for (token, gap) in exact.routing.gaps.iter().enumerate().filter(|(_, gap)| **gap > 1e-5) {
            for at in token * SIZES.hidden..(token + 1) * SIZES.hidden {
                let (ours, exact) = (rounded.sum[at], exact.sum[at]);
                prop_assert!((ours - exact).abs() <= 2e-4 * exact.abs().max(1.0), "{} {} gap {}", ours, exact, gap);
            }
        }
    }

    #[test]
    fn threads_and_neighbours_change_nothing(config in configs(), kind in prop::sample::select(CaseKind::ALL), seed in any::<u64>()) {
        let layer = MoeLayer::compile(&config).unwrap();
        let case = TestCase::new(kind, &layer, SIZES, seed).unwrap();
        for evaluator in [Evaluator::Exact, Evaluator::Rounded] {
            let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let one = pool(1).install(|| evaluate(&case, evaluator));
            let three = pool(3).install(|| evaluate(&case, evaluator));
            prop_assert_eq!(&one, &three);
            for (token, x) in case.input.chunks(SIZES.hidden).enumerate() {
                let input = Input { values: x, hidden: SIZES.hidden, dtype: Dtype::Bf16 };
                let alone = case.layer.evaluate(&case.weights, &input, evaluator, false).unwrap();
                prop_assert_eq!(&alone.sum[..], &one.sum[token * SIZES.hidden..][..SIZES.hidden]);
            }
        }
    }
}

fn grok(kind: CaseKind) -> (TestCase, Evaluation) {
    let config = MoeConfig { preset: Some(Preset::Grok1), ..MoeConfig::default() };
    let case = TestCase::new(kind, &MoeLayer::compile(&config).unwrap(), SIZES, 1).unwrap();
    let evaluation = evaluate(&case, Evaluator::Rounded);
    (case, evaluation)
}

#[test]
fn generated_cases_are_as_hard_as_they_say() {
    let pairs = |evaluation: &Evaluation| evaluation.routing.ids.chunks(2).map(<[u32]>::to_vec).collect::<Vec<_>>();
    assert_eq!(grok(CaseKind::OneToken).1.tokens, 1);
    assert!(pairs(&grok(CaseKind::Ties).1).iter().all(|pair| pair[0] % 2 == 0 && pair[1] == pair[0] + 1));
    assert!(pairs(&grok(CaseKind::AllTie).1).iter().all(|pair| pair == &[0, 1]));
    assert!(pairs(&grok(CaseKind::UnusedExperts).1).iter().flatten().all(|&id| id < 4));
    assert!(pairs(&grok(CaseKind::OneExpertTakesAll).1).iter().all(|pair| pair[0] == 7));
    let (every, evaluation) = grok(CaseKind::EveryExpert);
    assert_eq!((every.layer.top_k(), evaluation.routing.min_gap()), (8, f64::INFINITY));
    assert!(grok(CaseKind::ZeroWeights).1.output.iter().all(|&value| value == 0.0));
    // Where f32 has no probability left, the tie rule chooses, with weight 0.
    let (_, huge) = grok(CaseKind::HugeRouter);
    assert!(huge.routing.weights.chunks(2).any(|pair| pair[1] == 0.0));
    let rms = |values: &[f64]| (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
    assert!((0.05..2.0).contains(&rms(&grok(CaseKind::Normal).1.output)));
}

/// The same numbers on every machine and for all time: kernels' stored expectations depend on them.
#[test]
fn generated_numbers_are_these() {
    let (case, _) = grok(CaseKind::Normal);
    assert_eq!(case.input[..4], [1.0, -0.223_632_812_5, 0.820_312_5, -0.416_015_625]);
}

#[test]
fn routes_differ_by_ties_or_faults() {
    let (_, evaluation) = grok(CaseKind::Ties);
    let verdicts = |ids: &[u32]| RouteComparison::of(ids, &evaluation, 1e-6).unwrap();
    let ours = evaluation.routing.ids.clone();
    assert_eq!(verdicts(&ours).count(RouteVerdict::Same), 9);
    let swapped: Vec<u32> = ours.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
    assert_eq!(verdicts(&swapped).count(RouteVerdict::Same), 9);
    let mut other = ours.clone();
    other[0] = (ours[0] + 4) % 8;
    assert_eq!(verdicts(&other).verdicts[0], RouteVerdict::Fault);
    let mut repeated = ours.clone();
    repeated[1] = repeated[0];
    assert_eq!(verdicts(&repeated).verdicts[0], RouteVerdict::Fault);
    assert!(RouteComparison::of(&ours[1..], &evaluation, 0.0).is_none());
    let (_, all_tie) = grok(CaseKind::AllTie);
    let any: Vec<u32> = (0..18).map(|at| (at * 3) % 8).collect();
    assert_eq!(RouteComparison::of(&any, &all_tie, 0.0).unwrap().count(RouteVerdict::Fault), 0);
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let base = |json: &str| -> MoeConfig { serde_json::from_str(json).unwrap() };
    let mut report = Vec::new();
    for json in [
        "{}",
        r#"{"preset": "mixtral", "top_k": 9}"#,
        r#"{"preset": "deepseek-v3", "groups": 7}"#,
        r#"{"preset": "deepseek-v3", "group_top_k": 1, "top_k": 33}"#,
        r#"{"preset": "grok-1", "tensors": {"gate_up": "w13", "gate": "w1"}}"#,
        r#"{"preset": "grok-1", "shared_experts": 1, "scale": 1e9}"#,
    ] {
        let issues = MoeLayer::compile(&base(json)).unwrap_err();
        let lines: Vec<String> = issues
            .iter()
            .map(|issue| format!("[{}] {issue}; {}", issue.key, issue.help.as_deref().unwrap_or("-")))
            .collect();
        report.push(format!("{json}\n{}", lines.join("\n")));
    }
    let evaluate = |weights: &MemoryWeights, config: &str, values: &[f64], hidden: usize| {
        let layer = MoeLayer::compile(&base(config)).unwrap();
        let input = Input { values, hidden, dtype: Dtype::F32 };
        layer.evaluate(weights, &input, Evaluator::Exact, false).unwrap_err().to_string()
    };
    let (case, _) = grok(CaseKind::Normal);
    let preset = r#"{"preset": "grok-1"}"#;
    let mut run = |what: &str, weights: &MemoryWeights, config: &str, values: &[f64], hidden: usize| {
        report.push(format!("{what}\n{}", evaluate(weights, config, values, hidden)));
    };
    run("no weights", &MemoryWeights::default(), preset, &[0.0; 12], 12);
    run("a wider input", &case.weights, preset, &[0.0; 13], 13);
    run("half a token", &case.weights, preset, &[0.0; 18], 12);
    run("ten experts", &case.weights, r#"{"preset": "grok-1", "experts": 10}"#, &[0.0; 12], 12);
    run("a NaN", &case.weights, preset, &[f64::NAN; 12], 12);
    let mut square = case.weights.clone();
    square.insert("moe/linear/w", vec![8, 12, 12], vec![0.0; 8 * 144]).unwrap();
    run("a square gate", &square, r#"{"preset": "grok-1", "orientation": "by-shape"}"#, &[0.0; 12], 12);
    run("an up of another width", &square, preset, &[0.0; 12], 12);
    let mut flat = case.weights.clone();
    flat.insert("moe/linear_1/w", vec![8, 120], vec![0.0; 960]).unwrap();
    run("a flat down", &flat, preset, &[0.0; 12], 12);
    insta::assert_snapshot!(report.join("\n\n"));
}
