//! Every suite of `tests/data/golden/moe`, which real implementations wrote. Tolerances are those of its README.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which must stop")]

mod golden;

use std::collections::BTreeMap;

use flow_fabric::Dtype;
use flow_fabric::moe::{
    Evaluation, Evaluator, Input, MemoryWeights, MoeConfig, MoeLayer, MoeRounding, MoeTensors, Normalize, Preset, Round,
};
use golden::{Case, Suite, Tensor, number};

fn dtype(tensor: &Tensor) -> Dtype {
    if tensor.dtype == safetensors::Dtype::BF16 { Dtype::Bf16 } else { Dtype::F32 }
}

fn evaluate(config: &MoeConfig, weights: &MemoryWeights, x: &Tensor, evaluator: Evaluator) -> Evaluation {
    let layer = MoeLayer::compile(config).unwrap();
    let input = Input { values: &x.values, hidden: *x.shape.last().unwrap(), dtype: dtype(x) };
    layer.evaluate(weights, &input, evaluator, true).unwrap()
}

fn rms(values: &[f64]) -> f64 {
    (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
}

fn largest_error(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn assert_close(ours: &[f64], theirs: &[f64], relative: f64, context: &str) {
    assert_eq!(ours.len(), theirs.len(), "{context}");
    for (at, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= relative * b.abs() + 1e-30, "{context}: element {at}: {a} {b}");
    }
}

/// Distances in bf16 ulp of `max(|reference|, rms)`.
fn ulps(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    let rms = rms(theirs);
    let ulp = |value: f64| (value.abs().max(rms).log2().floor() - 7.0).exp2();
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / ulp(*b)).collect()
}

/// `int8 * scale` in f32, each scale for its block of input rows: what a decoder of the layout gives.
fn dequantize(codes: &Tensor, scales: &Tensor) -> (Vec<usize>, Vec<f32>) {
    let [experts, inputs, outputs] = codes.shape[..] else { panic!("{:?}", codes.shape) };
    let blocks = scales.shape[1];
    let (codes_f32, scales) = (codes.f32(), scales.f32());
    let value = |at: usize| {
        let (expert, row, column) = (at / (inputs * outputs), at / outputs % inputs, at % outputs);
        codes_f32[at] * scales[(expert * blocks + row / (inputs / blocks)) * outputs + column]
    };
    (codes.shape.clone(), (0..experts * inputs * outputs).map(value).collect())
}

fn grok_case(case: &Case<'_>) -> (MoeConfig, MemoryWeights) {
    let mut weights = MemoryWeights::default();
    let router = case.get("router_w");
    weights.insert("router/w", router.shape.clone(), router.f32()).unwrap();
    for name in ["linear", "linear_v", "linear_1"] {
        let (shape, values) = dequantize(&case.get(&format!("{name}.w")), &case.get(&format!("{name}.s")));
        weights.insert(format!("moe/{name}/w"), shape, values).unwrap();
    }
    let config = MoeConfig {
        preset: Some(Preset::Grok1),
        experts: Some(case.number("num_experts") as u32),
        top_k: Some(case.number("num_selected") as u32),
        ..MoeConfig::default()
    };
    (config, weights)
}

#[test]
fn grok_layer() {
    for suite in ["grok_moe_a", "grok_moe_b", "grok_moe_c", "grok_moe_d", "grok_moe_e", "grok_moe_f"] {
        for case in Suite::read("moe", suite).cases() {
            let (config, weights) = grok_case(&case);
            let x = case.get("x");
            let bf16_scales = case.json["params"]["scales_dtype"] == "bf16";
            let bf16_input = dtype(&x) == Dtype::Bf16;
            let when = |holds: bool| Some(if holds { Round::Bf16 } else { Round::None });
            // Which of the source's roundings happen depends on the dtypes of input and scales.
            let rounding = MoeRounding {
                weights: when(bf16_scales),
                gate_up: when(bf16_scales && bf16_input),
                output: Some(Round::Bf16),
                ..MoeRounding::default()
            };
            let config = MoeConfig { rounding: Some(rounding), ..config };

            let exact = evaluate(&config, &weights, &x, Evaluator::Exact);
            let reference = case.get("out_f64").values;
            assert!(largest_error(&exact.sum, &reference) <= 1e-5 * rms(&reference), "{}", case.id());
            let jit = case.get("out_jit").values;
            assert_eq!(exact.output, jit, "{}: one rounding of the exact result is the jitted layer", case.id());

            let rounded = evaluate(&config, &weights, &x, Evaluator::Rounded);
            let eager = case.get("out_eager").values;
            let distances = ulps(&rounded.output, &eager);
            assert!(distances.iter().all(|ulps| *ulps <= 1.0), "{}: {distances:?}", case.id());
            let differing = distances.iter().filter(|ulps| **ulps > 0.0).count();
            assert!(differing * 100 <= distances.len(), "{}: {differing} of {}", case.id(), distances.len());

            for evaluation in [&exact, &rounded] {
                let ids: Vec<u32> = case.get("index").u32();
                assert_eq!(evaluation.routing.ids, ids, "{}", case.id());
                assert_close(&evaluation.routing.probabilities, &case.get("routing_probs").values, 1e-5, case.id());
                let gap = number(&case.json["min_route_gap"]);
                let ours = evaluation.routing.min_gap();
                assert!((ours - gap).abs() < 1e-6 || (ours.is_infinite() && gap == 1.0), "{}: {ours} {gap}", case.id());
            }
            assert_close(&exact.routing.weights, &case.get("gate").values, 1e-5, case.id());
            let gate = case.get("gate").values;
            let rounded_gate: Vec<f64> = gate.iter().map(|gate| half::bf16::from_f32(*gate as f32).to_f64()).collect();
            assert_eq!(rounded.routing.weights, rounded_gate, "{}", case.id());
        }
    }
}

/// A dense block is a layer of one expert whose weight is 1.
#[test]
fn grok_dense_block_and_linear() {
    for case in Suite::read("moe", "grok_dense_linear").cases() {
        let x = case.get("x");
        let mut weights = MemoryWeights::default();
        let hidden = *x.shape.last().unwrap();
        weights.insert("router/w", vec![hidden, 1], vec![0.0; hidden]).unwrap();
        let config =
            MoeConfig { preset: Some(Preset::Grok1), experts: Some(1), top_k: Some(1), ..MoeConfig::default() };
        if case.id() == "dense" {
            for name in ["linear", "linear_v", "linear_1"] {
                let tensor = case.get(&format!("{name}.w"));
                weights.insert(format!("moe/{name}/w"), [&[1], &tensor.shape[..]].concat(), tensor.f32()).unwrap();
            }
            let rounding = MoeRounding {
                activation: Some(Round::Bf16),
                hidden: Some(Round::Bf16),
                down: Some(Round::Bf16),
                ..MoeRounding::default()
            };
            let config = MoeConfig { rounding: Some(rounding), ..config };
            let eager = evaluate(&config, &weights, &x, Evaluator::Rounded).output;
            let distances = ulps(&eager, &case.get("out_eager").values);
            assert!(distances.iter().all(|ulps| *ulps <= 2.0), "{distances:?}");
            // The jitted block rounds less; the exact evaluator, over bf16 weights, rounds least.
            let config = MoeConfig { rounding: None, ..config };
            let mut rounded = MemoryWeights::default();
            for (name, shape, values) in weights.iter() {
                let values = values.iter().map(|value| half::bf16::from_f32(*value).to_f32()).collect();
                rounded.insert(name, shape.to_vec(), values).unwrap();
            }
            let exact = evaluate(&config, &rounded, &x, Evaluator::Exact).output;
            let distances = ulps(&exact, &case.get("out_jit").values);
            assert!(distances.iter().all(|ulps| *ulps <= 4.0), "{distances:?}");
        } else {
            // A product alone, seen as the gate stage of a layer.
            assert_linear(&case, &x, hidden);
        }
    }
}

/// The quantised `Linear`, seen as the gate stage of a layer.
fn assert_linear(case: &Case<'_>, x: &Tensor, hidden: usize) {
    let (codes, scales) = (case.get("w"), case.get("s"));
    let (codes_f32, scales_f32) = (codes.f32(), scales.f32());
    let outputs = codes.shape[1];
    let values: Vec<f32> = codes_f32.iter().enumerate().map(|(at, code)| code * scales_f32[at % outputs]).collect();
    let mut weights = MemoryWeights::default();
    weights.insert("router/w", vec![hidden, 1], vec![0.0; hidden]).unwrap();
    for name in ["linear", "linear_v"] {
        weights.insert(format!("moe/{name}/w"), vec![1, hidden, outputs], values.clone()).unwrap();
    }
    weights.insert("moe/linear_1/w", vec![1, outputs, hidden], vec![0.0; outputs * hidden]).unwrap();
    let bf16 = dtype(x) == Dtype::Bf16;
    let round = Some(if bf16 { Round::Bf16 } else { Round::None });
    let config = MoeConfig {
        preset: Some(Preset::Grok1),
        experts: Some(1),
        top_k: Some(1),
        rounding: Some(MoeRounding { weights: round, gate_up: round, ..MoeRounding::default() }),
        ..MoeConfig::default()
    };
    let ours = evaluate(&config, &weights, x, Evaluator::Rounded).stages.unwrap().gate;
    let theirs = case.get("out_eager").values;
    if bf16 {
        assert!(ulps(&ours, &theirs).iter().all(|ulps| *ulps <= 2.0), "{}", case.id());
    } else {
        assert!(largest_error(&ours, &theirs) <= 1e-5 * rms(&theirs), "{}", case.id());
    }
}

fn hf_case(case: &Case<'_>, preset: Preset) -> (MoeConfig, MemoryWeights) {
    let mut weights = MemoryWeights::default();
    for role in case.json["inputs"].as_object().unwrap().keys().filter(|role| *role != "x") {
        let tensor = case.get(role);
        weights.insert(role.as_str(), tensor.shape.clone(), tensor.f32()).unwrap();
    }
    let count = |key: &str| case.json["params"].get(key).map(|value| number(value) as u32);
    // The modules of transformers keep experts fused and stacked, whatever the checkpoint has.
    let fused = MoeTensors {
        gate_up: Some("experts.gate_up_proj".into()),
        down: Some("experts.down_proj".into()),
        ..MoeTensors::default()
    };
    let config = MoeConfig {
        preset: Some(preset),
        experts: count("E"),
        top_k: count("k"),
        groups: count("G"),
        group_top_k: count("KG"),
        scale: case.json["params"].get("scale").map(number),
        normalize: match case.json["params"].get("norm").map(|norm| norm == true) {
            Some(true) => Some(Normalize::Sum),
            Some(false) => Some(Normalize::None),
            None => None,
        },
        tensors: Some(fused),
        ..MoeConfig::default()
    };
    (config, weights)
}

#[test]
fn hf_layers() {
    for (suite, preset) in [
        ("hf_mixtral", Preset::Mixtral),
        ("hf_qwen3_moe", Preset::Qwen3Moe),
        ("hf_deepseek_v3", Preset::DeepseekV3),
        ("hf_gpt_oss", Preset::GptOss),
    ] {
        for case in Suite::read("moe", suite).cases() {
            let context = format!("{suite} {}", case.id());
            let (config, weights) = hf_case(&case, preset);
            let x = case.get("x");
            let exact = evaluate(&config, &weights, &x, Evaluator::Exact);
            let rounded = evaluate(&config, &weights, &x, Evaluator::Rounded);
            let (reference, out) = (case.get("out_f64").values, case.get("out").values);
            let rms = rms(&reference);
            assert!(largest_error(&exact.sum, &reference) <= 1e-5 * rms, "{context}");
            if dtype(&x) == Dtype::F32 {
                assert!(largest_error(&rounded.output, &out) <= 1e-5 * rms, "{context}");
                assert!(largest_error(&rounded.output, &reference) <= 1e-5 * rms, "{context}");
            } else {
                for theirs in [&reference, &out] {
                    assert!(largest_error(&rounded.output, theirs) <= 0.05 * rms, "{context}");
                    assert!(largest_error(&exact.output, theirs) <= 0.05 * rms, "{context}");
                }
            }
            assert!(number(&case.json["min_route_gap"]) > 1e-4);
            let relative = if dtype(&x) == Dtype::F32 { 1e-5 } else { 1.0 / 128.0 };
            assert_routes(&rounded, &case, relative, &context);
        }
    }
}

/// Holds ids as sets, and weights by id.
fn assert_routes(evaluation: &Evaluation, case: &Case<'_>, relative: f64, context: &str) {
    let k = case.number("k") as usize;
    let pairs = |ids: &[u32], weights: &[f64]| -> Vec<BTreeMap<u32, f64>> {
        ids.chunks(k)
            .zip(weights.chunks(k))
            .map(|(ids, weights)| ids.iter().copied().zip(weights.iter().copied()).collect())
            .collect()
    };
    let theirs = pairs(&case.get("indices").u32(), &case.get("weights").values);
    let ours = pairs(&evaluation.routing.ids, &evaluation.routing.weights);
    for (token, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{context}: token {token}");
        for (id, weight) in theirs {
            assert!((ours[id] - weight).abs() <= relative * weight.abs(), "{context}: token {token} expert {id}");
        }
    }
    assert_close(&evaluation.routing.logits, &case.get("router_logits").values, relative.max(1e-4), context);
}

/// Selection of scores as they are: each row is a token whose router is the identity.
fn select(scores: &[f64], experts: usize, k: usize) -> Result<Vec<u32>, String> {
    let mut weights = MemoryWeights::default();
    let identity: Vec<f32> =
        (0..experts * experts).map(|at| if at / experts == at % experts { 1.0 } else { 0.0 }).collect();
    weights.insert("router/w", vec![experts, experts], identity).unwrap();
    for (name, shape) in
        [("linear", [experts, experts, 1]), ("linear_v", [experts, experts, 1]), ("linear_1", [experts, 1, experts])]
    {
        weights.insert(format!("moe/{name}/w"), shape.to_vec(), vec![0.0; experts * experts]).unwrap();
    }
    let config = MoeConfig {
        preset: Some(Preset::Grok1),
        experts: Some(experts as u32),
        top_k: Some(k as u32),
        score: Some(flow_fabric::moe::Score::None),
        ..MoeConfig::default()
    };
    let layer = MoeLayer::compile(&config).unwrap();
    let input = Input { values: scores, hidden: experts, dtype: Dtype::F32 };
    layer
        .evaluate(&weights, &input, Evaluator::Rounded, false)
        .map(|evaluation| evaluation.routing.ids)
        .map_err(|error| error.to_string())
}

#[test]
fn ties_go_to_the_lower_expert() {
    let mut torch_differs = 0;
    for case in Suite::read("moe", "router_ties").cases() {
        let scores = case.get("scores");
        let (experts, k) = (case.number("E") as usize, case.number("k") as usize);
        let ours = select(&scores.values, experts, k).unwrap();
        assert_eq!(ours, case.get("indices_low").u32(), "{}", case.id());
        let theirs = case.get("indices").u32();
        torch_differs += ours.chunks(k).zip(theirs.chunks(k)).filter(|(ours, theirs)| ours != theirs).count();
    }
    assert!(torch_differs > 0, "torch picks others");
}

#[test]
fn jax_primitives() {
    let mut rows = 0;
    for case in Suite::read("moe", "jax_primitives").cases() {
        match case.id() {
            "gelu" => assert_gelu(&case),
            "bf16" => {
                let bits: Vec<u16> = case.get("x").f32().iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect();
                assert_eq!(bits.iter().map(|&bits| f64::from(bits)).collect::<Vec<_>>(), case.get("bits").values);
            }
            _ => {
                let (x, indices, k) = (case.get("x"), case.get("indices").u32(), case.number("k") as usize);
                let experts = x.shape[1];
                for (row, theirs) in x.values.chunks(experts).zip(indices.chunks(k)) {
                    // JAX ranks NaN and infinities; a router that gives them is an error here.
                    match select(row, experts, k) {
                        Ok(ours) => assert_eq!(ours, theirs, "{}", case.id()),
                        Err(error) => assert!(row.iter().any(|x| !x.is_finite()), "{error}"),
                    }
                    rows += usize::from(row.iter().all(|x| x.is_finite()));
                }
            }
        }
    }
    assert!(rows >= 5, "{rows} rows");
}

/// The activation, seen through a layer whose up projection gives one.
fn assert_gelu(case: &Case<'_>) {
    let x = case.get("x");
    let mut weights = MemoryWeights::default();
    weights.insert("router/w", vec![2, 1], vec![0.0; 2]).unwrap();
    weights.insert("moe/linear/w", vec![1, 2, 1], vec![1.0, 0.0]).unwrap();
    weights.insert("moe/linear_v/w", vec![1, 2, 1], vec![0.0, 1.0]).unwrap();
    weights.insert("moe/linear_1/w", vec![1, 1, 2], vec![1.0, 0.0]).unwrap();
    let config = MoeConfig { preset: Some(Preset::Grok1), experts: Some(1), top_k: Some(1), ..MoeConfig::default() };
    let layer = MoeLayer::compile(&config).unwrap();
    let values: Vec<f64> = x.values.iter().flat_map(|&x| [x, 1.0]).collect();
    let input = Input { values: &values, hidden: 2, dtype: Dtype::F32 };
    let stages = layer.evaluate(&weights, &input, Evaluator::Exact, true).unwrap().stages.unwrap();
    assert!(largest_error(&stages.hidden, &case.get("f32").values) <= 2e-6);
}
