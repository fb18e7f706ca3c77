//! Every suite of `tests/data/golden/sampler`, which real implementations wrote. Tolerances are those of its README.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which must stop")]

mod golden;

use flow_fabric::sample::threefry::{Key, Layout, uniform_f32, uniform_f64};
use flow_fabric::sample::{
    Candidate, Logits, OnInvalid, Preset, Row, SampleError, Sampler, SamplerConfig, StageKind, Ties, Workspace,
};
use golden::{Case, Suite, number};

fn compile(config: &SamplerConfig) -> Sampler {
    Sampler::compile(config).unwrap_or_else(|issues| panic!("{issues:?}")).0
}

/// What is left of a row, likeliest first.
fn survivors(sampler: &Sampler, row: &Row<'_>) -> Vec<Candidate> {
    sampler.distribution(row, &mut Workspace::default()).unwrap().candidates().collect()
}

fn ids(survivors: &[Candidate]) -> Vec<u32> {
    let mut ids: Vec<u32> = survivors.iter().map(|candidate| candidate.token).collect();
    ids.sort_unstable();
    ids
}

fn close(a: f64, b: f64, relative: f64, absolute: f64) -> bool {
    a == b || (a - b).abs() <= absolute + relative * b.abs()
}

/// Holds probabilities, given for every token, against survivors.
fn assert_probabilities(survivors: &[Candidate], expected: &[f32], context: &str) {
    let mut probabilities = vec![0.0; expected.len()];
    for candidate in survivors {
        probabilities[candidate.token as usize] = candidate.probability;
    }
    for (id, (ours, theirs)) in probabilities.iter().zip(expected).enumerate() {
        assert!(close(*ours, f64::from(*theirs), 1e-5, 1e-7), "{context}: token {id}: {ours} {theirs}");
    }
}

/// Holds processed scores, given for every token with -inf for removed ones, against survivors.
fn assert_scores(survivors: &[Candidate], expected: &[f32], relative: f64, context: &str) {
    let mut scores = vec![f64::NEG_INFINITY; expected.len()];
    for candidate in survivors {
        scores[candidate.token as usize] = candidate.score;
    }
    for (id, (ours, theirs)) in scores.iter().zip(expected).enumerate() {
        assert!(close(*ours, f64::from(*theirs), relative, 1e-30), "{context}: token {id}: {ours} {theirs}");
    }
}

fn grok(temperature: f64, top_p: f64) -> SamplerConfig {
    SamplerConfig {
        preset: Some(Preset::Grok1),
        temperature: Some(temperature),
        top_p: Some(top_p),
        ..SamplerConfig::default()
    }
}

#[test]
fn grok_nucleus_in_f32() {
    let mut exact = 0;
    for suite in ["grok_top_p_f32_a", "grok_top_p_f32_b"] {
        for case in Suite::read("sampler", suite).cases() {
            let logits = case.get("logits").f32();
            let kept = survivors(&compile(&grok(1.0, case.number("top_p"))), &Row::new(Logits::F32(&logits)));
            // The original also marks as kept what was -inf before, when its threshold is -inf: p = 1.
            let expected: Vec<u32> = case.get("keep").kept()[0]
                .iter()
                .copied()
                .filter(|&id| logits[id as usize] != f32::NEG_INFINITY)
                .collect();
            if case.json["exact"] == true {
                assert_eq!(ids(&kept), expected, "{}", case.id());
                exact += 1;
                if case.has("probs") {
                    assert_probabilities(&kept, &case.get("probs").f32(), case.id());
                }
            } else {
                assert!(kept.len().abs_diff(expected.len()) <= 1, "{}: {} {}", case.id(), kept.len(), expected.len());
            }
        }
    }
    assert!(exact > 100, "{exact} exact cases");
}

/// In bf16 the original rounds cumulative sums and `1 - top_p`; we give what f64 gives on the same logits.
#[test]
fn grok_nucleus_in_bf16_is_computed_in_f64() {
    for case in Suite::read("sampler", "grok_top_p_bf16").cases() {
        let logits: Vec<half::bf16> = case.get("logits").f32().into_iter().map(half::bf16::from_f32).collect();
        let sampler = compile(&grok(1.0, case.number("top_p")));
        let kept = survivors(&sampler, &Row::new(Logits::Bf16(&logits)));
        assert_eq!(ids(&kept), case.get("keep_f64").kept()[0], "{}", case.id());
    }
}

/// Facts about the original that are not copied: tiny, zero, negative and large `top_p`, NaN, +inf.
#[test]
fn grok_pathologies_are_defined_or_refused() {
    let (mut everything_kept, mut refused) = (0, 0);
    for case in Suite::read("sampler", "grok_top_p_pathology").cases() {
        let logits = case.get("logits").f32();
        let original = case.json["kept"].as_u64().unwrap() as usize;
        let config = grok(1.0, case.number("top_p"));
        let row = Row::new(Logits::F32(&logits));
        if case.id().starts_with("nan") || case.id().starts_with("posinf") {
            let error = compile(&config).distribution(&row, &mut Workspace::default()).unwrap_err();
            let expected = if case.id().starts_with("nan") { (1, 0) } else { (0, 1) };
            assert!(matches!(error, SampleError::Invalid { nan, infinite, .. } if (nan, infinite) == expected));
            refused += 1;
        } else if (0.0..=1.0).contains(&case.number("top_p")) {
            // The original keeps 1 token or all of them.
            everything_kept += usize::from(original == logits.len());
            assert_eq!(survivors(&compile(&config), &row).len(), 1, "{}", case.id());
        } else {
            assert_eq!(original, logits.len());
            assert_eq!(Sampler::compile(&config).unwrap_err()[0].key, "top_p");
            refused += 1;
        }
    }
    assert!(everything_kept > 0 && refused == 10, "{everything_kept} {refused}");
}

#[test]
fn grok_sample_token_in_f32() {
    let mut compared = 0;
    for case in Suite::read("sampler", "grok_sample_token_f32").cases() {
        let (logits, mask, filtered) =
            (case.get("logits").rows(), case.get("mask").kept(), case.get("filtered").rows());
        let (temperature, top_p) = (case.get("temperature").values, case.get("nucleus_p").values);
        let (keys, gumbel) = (case.get("keys").u32(), case.get("gumbel").rows());
        let (tokens, probabilities) = (case.get("token_id").u32(), case.get("prob").values);
        let (top_ids, top_probabilities) = (case.get("top_k_ids").rows(), case.get("top_k_probs").rows());
        for slot in 0..logits.len() {
            let context = format!("{} slot {slot}", case.id());
            let config = SamplerConfig { allow: Some(mask[slot].clone()), ..grok(temperature[slot], top_p[slot]) };
            let sampler = compile(&config);
            let row = Row::new(Logits::F32(&logits[slot]));
            let left = survivors(&sampler, &row);
            let expected: Vec<u32> = (0..).zip(&filtered[slot]).filter(|(_, f)| **f > -1e9).map(|(id, _)| id).collect();
            assert_eq!(ids(&left), expected, "{context}");
            let size = logits[slot].len() as u64;
            let key = Key(keys[2 * slot], keys[2 * slot + 1]);
            for (id, expected) in gumbel[slot].iter().enumerate() {
                let ours = gumbel_f32(key.bits32(Layout::Legacy, id as u64, size));
                assert!(close(f64::from(ours), f64::from(*expected), 0.0, 3e-6), "{context}: {id}");
            }
            if number(&case.json["gap"][slot]) > 1e-4 {
                // The key is given here, not the seed; the sum that the sampler compares is the same.
                let sum = |c: &Candidate| c.score + f64::from(gumbel[slot][c.token as usize]);
                let drawn = left.iter().max_by(|a, b| sum(a).total_cmp(&sum(b))).unwrap();
                assert_eq!(drawn.token, tokens[slot], "{context}");
                assert!(close(drawn.probability, probabilities[slot], 1e-5, 1e-7), "{context}");
                compared += 1;
            }
            for (rank, (id, probability)) in top_ids[slot].iter().zip(&top_probabilities[slot]).enumerate() {
                let ours = left.get(rank).map_or(0.0, |c| c.probability);
                assert!(close(ours, f64::from(*probability), 1e-5, 1e-7), "{context}: rank {rank}");
                if let Some(candidate) = left.get(rank) {
                    assert_eq!(candidate.token, *id as u32, "{context}: rank {rank}");
                }
            }
        }
    }
    assert!(compared >= 7, "{compared} rows compared");
}

/// The bf16 original draws with 128 noise values; ours are drawn in f32, whatever the logits' dtype.
#[test]
fn grok_sample_token_in_bf16_is_not_copied() {
    let mut distinct = std::collections::BTreeSet::new();
    for case in Suite::read("sampler", "grok_sample_token_bf16").cases() {
        let largest = case.get("gumbel").values.into_iter().fold(f64::NEG_INFINITY, f64::max);
        assert!(largest <= 4.84375, "{}: {largest}", case.id());
        distinct.extend(case.get("gumbel").values.iter().map(|value| value.to_bits()));
        // Where nothing was filtered, the rounded row of the original and ours agree on the best token.
        let (logits, mask) = (case.get("logits").rows(), case.get("mask").kept());
        for (row, allowed) in logits.iter().zip(&mask) {
            let config = SamplerConfig { allow: Some(allowed.clone()), ..grok(0.0, 1.0) };
            let row: Vec<half::bf16> = row.iter().map(|&value| half::bf16::from_f32(value)).collect();
            let best = compile(&config).decide(&Row::new(Logits::Bf16(&row)), &mut Workspace::default()).unwrap();
            let largest = allowed.iter().map(|&id| row[id as usize].to_f32()).fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(row[best.token as usize].to_f32(), largest);
        }
    }
    assert!(distinct.len() <= 128, "{} noise values", distinct.len());
}

/// Seeds to tokens through the whole chain of keys, eight slots over twelve steps, seeds beyond 32 bits included.
#[test]
fn grok_slot_streams() {
    for case in Suite::read("sampler", "grok_slot_stream").cases() {
        let logits = case.get("logits").rows();
        let (seeds, tokens) = (case.get("seeds").u64(), case.get("token_id").u32());
        let (carried, used) = (case.get("carry_keys").u32(), case.get("sample_keys").u32());
        let config = grok(case.number("temperature"), case.number("nucleus_p"));
        let sampler = compile(&config);
        let mut workspace = Workspace::default();
        let mut keys: Vec<Key> = seeds.iter().map(|&seed| Key(0, seed as u32)).collect();
        for (step, logits) in logits.iter().enumerate() {
            for slot in 0..seeds.len() {
                let at = 2 * (step * seeds.len() + slot);
                let (carry, sample) = (keys[slot].split(Layout::Legacy, 0, 2), keys[slot].split(Layout::Legacy, 1, 2));
                assert_eq!((carry, sample), (Key(carried[at], carried[at + 1]), Key(used[at], used[at + 1])));
                keys[slot] = carry;
                let row = Row {
                    seed: Some(seeds[slot]),
                    slot: slot as u64,
                    step: step as u64,
                    ..Row::new(Logits::F32(logits))
                };
                let decision = sampler.decide(&row, &mut workspace).unwrap();
                assert_eq!(decision.token, tokens[at / 2], "{} step {step} slot {slot}", case.id());
            }
        }
        assert!(number(&case.json["min_gap"]) > 1e-4);
    }
}

/// `-ln(-ln(u))` with each logarithm rounded to f32.
fn gumbel_f32(bits: u32) -> f32 {
    let uniform = uniform_f32(bits).max(f32::MIN_POSITIVE);
    let inner = -(f64::from(uniform).ln() as f32);
    -(f64::from(inner).ln() as f32)
}

#[test]
fn jax_threefry_in_both_layouts() {
    for (suite, layout) in
        [("jax_threefry_legacy", Layout::Legacy), ("jax_threefry_partitionable", Layout::Partitionable)]
    {
        for case in Suite::read("sampler", suite).cases() {
            match case.id().strip_prefix("seed") {
                Some(seed) => assert_key_suite(&case, Key::from_seed(seed.parse().unwrap()), layout),
                None => assert_categorical(&case, layout),
            }
        }
    }
}

fn assert_key_suite(case: &Case<'_>, key: Key, layout: Layout) {
    let outputs = case.json["outputs"].as_object().unwrap();
    let pair = |words: &[u32]| Key(words[0], words[1]);
    for role in outputs.keys() {
        let tensor = case.get(role);
        let (name, size) = role.split_at(role.rfind(|c: char| !c.is_ascii_digit()).unwrap() + 1);
        let size: u64 = size.parse().unwrap_or(0);
        let count = if name == "fold_in" { 0 } else { size };
        let bits: Vec<u32> = (0..count).map(|i| key.bits32(layout, i, size)).collect();
        // Words of 8 and 16 bits: slices of 32-bit words in the legacy layout, truncations in the other.
        let small = |width: u32| -> Vec<u32> {
            let per_word = 32 / width;
            let mask = u32::MAX >> (32 - width);
            let words = size.div_ceil(u64::from(per_word));
            (0..size as u32)
                .map(|i| match layout {
                    Layout::Partitionable => bits[i as usize] & mask,
                    Layout::Legacy => {
                        let word = key.bits32(layout, u64::from(i / per_word), words);
                        word >> (width * (i % per_word)) & mask
                    }
                })
                .collect()
        };
        let context = format!("{} {role}", case.id());
        match name {
            "key" => assert_eq!(pair(&tensor.u32()), key, "{context}"),
            "split" => {
                let ours: Vec<Key> = (0..size as u32).map(|i| key.split(layout, i, size as u32)).collect();
                assert_eq!(tensor.u32().chunks(2).map(pair).collect::<Vec<_>>(), ours, "{context}");
            }
            "fold_in" => assert_eq!(pair(&tensor.u32()), key.fold_in(size), "{context}"),
            "bits32_" => assert_eq!(tensor.u32(), bits, "{context}"),
            "bits16_" => assert_eq!(tensor.u32(), small(16), "{context}"),
            "bits8_" => assert_eq!(tensor.u32(), small(8), "{context}"),
            "uniform_f32_" => {
                assert_eq!(tensor.f32(), bits.iter().map(|&bits| uniform_f32(bits)).collect::<Vec<_>>(), "{context}");
            }
            "uniform_tiny_f32_" => {
                let ours = bits.iter().map(|&bits| uniform_f32(bits).max(f32::MIN_POSITIVE));
                assert_eq!(tensor.f32(), ours.collect::<Vec<_>>(), "{context}");
            }
            "gumbel_f32_" => {
                for (ours, theirs) in bits.iter().map(|&bits| gumbel_f32(bits)).zip(tensor.f32()) {
                    assert!(close(ours.into(), theirs.into(), 0.0, 3e-6), "{context}: {ours} {theirs}");
                }
            }
            "gumbel_bf16_" => {
                for (bits, theirs) in small(8).into_iter().zip(tensor.f32()) {
                    let ours = gumbel_bf16(bits as u8);
                    assert!(close(ours.into(), theirs.into(), 1.0 / 64.0, 1.0 / 128.0), "{context}: {ours} {theirs}");
                }
            }
            "gumbel_high_f32_" => {
                for (i, theirs) in (0..size).zip(tensor.f32()) {
                    let ours = gumbel_high(key, layout, i, size);
                    assert!(close(ours, theirs.into(), 1e-6, 3e-6), "{context}: {i}: {ours} {theirs}");
                }
            }
            other => panic!("{other}"),
        }
    }
}

/// JAX's bf16 noise: 7 of 8 random bits, every step rounded.
fn gumbel_bf16(bits: u8) -> f32 {
    let round = |value: f32| half::bf16::from_f32(value).to_f32();
    let uniform = f32::from(bits >> 1) / 128.0;
    let uniform = if uniform > 0.0 { uniform } else { f32::MIN_POSITIVE };
    -round(round(-round(uniform.ln())).ln())
}

/// JAX's `mode="high"`: a second uniform fills the bits below the first where that matters.
fn gumbel_high(key: Key, layout: Layout, index: u64, size: u64) -> f64 {
    let high = f64::from(uniform_f32(key.bits32(layout, index, 2 * size)));
    let low = f64::from(uniform_f32(key.bits32(layout, size + index, 2 * size)));
    let uniform = if high >= 0.5 { high } else { high + low * (-23_f64).exp2() + f64::from(f32::MIN_POSITIVE) };
    -(-(-uniform).ln_1p()).ln()
}

fn assert_categorical(case: &Case<'_>, layout: Layout) {
    let logits = case.get("logits").f32();
    let argmax = |logits: &[f32], noise: &dyn Fn(usize) -> f32| -> u32 {
        let sum = |i: usize| f64::from(logits[i]) + f64::from(noise(i));
        (0..logits.len()).rev().max_by(|&a, &b| sum(a).total_cmp(&sum(b))).unwrap() as u32
    };
    for (key, token) in case.get("keys").u32().chunks(2).zip(case.get("tokens").u32()) {
        let key = Key(key[0], key[1]);
        let noise = |i: usize| gumbel_f32(key.bits32(layout, i as u64, logits.len() as u64));
        assert_eq!(argmax(&logits, &noise), token, "{}", case.id());
    }
    let batch = case.get("blogits");
    let (key, columns) = (case.get("bkey").u32(), batch.shape[1]);
    for (at, (row, token)) in batch.rows().iter().zip(case.get("btokens").u32()).enumerate() {
        let noise = |i: usize| {
            gumbel_f32(Key(key[0], key[1]).bits32(layout, (at * columns + i) as u64, batch.values.len() as u64))
        };
        assert_eq!(argmax(row, &noise), token, "{} row {at}", case.id());
    }
}

/// The layout that the default stream uses, and its legacy twin.
#[test]
fn jax_threefry_with_x64() {
    for case in Suite::read("sampler", "jax_threefry_x64").cases() {
        let partitionable = case.json["params"]["partitionable"] == true;
        let layout = if partitionable { Layout::Partitionable } else { Layout::Legacy };
        let gumbel = |key: Key, i: u64, size: u64| {
            let uniform = uniform_f64(key.bits64(layout, i, size)).max(f64::MIN_POSITIVE);
            -(-uniform.ln()).ln()
        };
        if case.has("logits") {
            let logits = case.get("logits").values;
            let keys = case.get("keys").u32();
            for ((key, token), gap) in keys.chunks(2).zip(case.get("tokens").u32()).zip(case.get("gap").values) {
                let sum = |i: usize| logits[i] + gumbel(Key(key[0], key[1]), i as u64, logits.len() as u64);
                let best = (0..logits.len()).max_by(|&a, &b| sum(a).total_cmp(&sum(b))).unwrap();
                assert!(gap > 1e-9);
                assert_eq!(best as u32, token, "{}", case.id());
            }
            continue;
        }
        let key = Key::from_seed(case.json["params"]["seed"].as_u64().unwrap());
        assert_eq!(case.get("key").u32(), [key.0, key.1]);
        for size in [1, 3, 8, 257] {
            let ours: Vec<u64> = (0..size).map(|i| key.bits64(layout, i, size)).collect();
            assert_eq!(case.get(&format!("bits64_{size}")).u64(), ours, "{} {size}", case.id());
        }
        let (uniform, noise) = (case.get("uniform_f64_257").values, case.get("gumbel_f64_257").values);
        for i in 0..257_u64 {
            assert_eq!(uniform_f64(key.bits64(layout, i, 257)), uniform[i as usize]);
            let ours = gumbel(key, i, 257);
            assert!((ours - noise[i as usize]).abs() <= 1e-14 * noise[i as usize].abs().max(1.0), "{} {i}", case.id());
        }
    }
}

#[test]
fn hf_warpers() {
    let (mut strict, mut on_the_edge) = (0, 0);
    for case in Suite::read("sampler", "hf_warpers").cases() {
        let params = &case.json["params"];
        let value = |key: &str| params.get(key).map(number);
        let config = SamplerConfig {
            preset: Some(Preset::Hf),
            temperature: value("temperature"),
            top_k: value("top_k").map(|k| k as u32),
            top_p: value("top_p"),
            min_p: value("min_p"),
            typical_p: value("mass"),
            epsilon_cutoff: value("epsilon").filter(|_| params["warper"] == "epsilon"),
            eta_cutoff: value("epsilon").filter(|_| params["warper"] == "eta"),
            top_h: value("top_h"),
            min_keep: value("min_tokens_to_keep").map(|keep| keep as u32),
            ..SamplerConfig::default()
        };
        let sampler = compile(&config);
        for (at, scores) in case.get("scores").rows().iter().enumerate() {
            let context = format!("{} row {at}", case.id());
            let left = survivors(&sampler, &Row::new(Logits::F32(scores)));
            let kept = case.json["kept"][at].as_u64().unwrap() as usize;
            if left.len() != kept {
                // 30 of 300 equal tokens hold exactly the mass 0.1, and 40 of 100 exactly 0.4 of the entropy: there
                // the f32 sums of the original decide.
                assert_eq!(case.json["boundary_risk"], true, "{context}: {} {kept}", left.len());
                let all = survivors(&compile(&SamplerConfig::default()), &Row::new(Logits::F32(scores)));
                let held: f64 = all.iter().take(left.len().min(kept)).map(|candidate| candidate.probability).sum();
                let (held, edge) = match config.top_h {
                    Some(share) => (left.len().max(kept) as f64 / 100.0, share),
                    None => (held, config.top_p.unwrap()),
                };
                assert!(left.len().abs_diff(kept) == 1 && close(held, edge, 0.0, 1e-6), "{context}");
                on_the_edge += 1;
            }
            if case.has("out") {
                assert_scores(&left, &case.get("out").rows()[at], 1e-6, &context);
            } else if case.json["boundary_risk"] == false {
                assert_eq!(ids(&left), case.get("keep").kept()[at], "{context}");
                strict += 1;
            }
        }
    }
    assert!(strict > 300 && on_the_edge <= 8, "{strict} masks compared, {on_the_edge} on the edge");
}

#[test]
fn hf_penalties() {
    for case in Suite::read("sampler", "hf_penalties").cases() {
        let params = &case.json["params"];
        let tokens = |key: &str| -> Option<Vec<u32>> {
            Some(params.get(key)?.as_array()?.iter().map(|id| id.as_u64().unwrap() as u32).collect())
        };
        let bias = params.get("bias").and_then(|bias| bias.as_object());
        let config = SamplerConfig {
            preset: Some(Preset::Hf),
            repetition_penalty: params.get("penalty").map(number),
            no_repeat_ngram: params.get("ngram_size").map(|n| number(n) as u32),
            min_tokens: params.get("min_length").map(|n| number(n) as u32),
            min_tokens_scope: params.get("min_length").map(|_| flow_fabric::sample::Scope::All),
            eos: tokens("eos_token_id"),
            deny: tokens("tokens"),
            logit_bias: bias.map(|bias| bias.iter().map(|(id, bias)| (id.parse().unwrap(), number(bias))).collect()),
            ..SamplerConfig::default()
        };
        let sampler = compile(&config);
        let history = case.get("input_ids");
        let length = *history.shape.last().unwrap();
        for (at, scores) in case.get("scores").rows().iter().enumerate() {
            let context = format!("{} row {at}", case.id());
            let history = &history.u32()[at * length..][..length];
            let row = Row { prompt: history, ..Row::new(Logits::F32(scores)) };
            if params["processor"] == "remove_invalid_values" {
                // HF writes 0 for NaN and the largest number for +inf. A row like that is an error here.
                let bad = scores.iter().any(|score| score.is_nan() || *score == f32::INFINITY);
                let refused = sampler.distribution(&row, &mut Workspace::default()).is_err();
                assert_eq!(refused, bad, "{context}");
                let lenient = SamplerConfig { on_invalid: Some(OnInvalid::Greedy), ..config.clone() };
                if bad && scores.iter().any(|score| score.is_finite()) {
                    let decision = compile(&lenient).decide(&row, &mut Workspace::default()).unwrap();
                    assert!(decision.fallback && scores[decision.token as usize].is_finite(), "{context}");
                }
                continue;
            }
            assert_scores(&survivors(&sampler, &row), &case.get("out").rows()[at], 1e-6, &context);
        }
    }
}

#[test]
fn hf_chains() {
    for case in Suite::read("sampler", "hf_chain").cases() {
        let params = &case.json["params"];
        let value = |key: &str| params.get(key).map(number);
        let config = SamplerConfig {
            preset: Some(Preset::Hf),
            temperature: value("temperature"),
            top_k: value("top_k").map(|k| k as u32),
            top_p: value("top_p"),
            min_p: value("min_p"),
            typical_p: value("typical_p"),
            repetition_penalty: value("repetition_penalty"),
            no_repeat_ngram: value("no_repeat_ngram_size").map(|n| n as u32),
            ..SamplerConfig::default()
        };
        let sampler = compile(&config);
        let class = |kind: StageKind| match kind {
            StageKind::RepetitionPenalty => "RepetitionPenaltyLogitsProcessor",
            StageKind::NoRepeatNgram => "NoRepeatNGramLogitsProcessor",
            StageKind::Temperature => "TemperatureLogitsWarper",
            StageKind::TopK => "TopKLogitsWarper",
            StageKind::TopP => "TopPLogitsWarper",
            StageKind::MinP => "MinPLogitsWarper",
            StageKind::TypicalP => "TypicalLogitsWarper",
            other => panic!("{other}"),
        };
        let order: Vec<_> = sampler.stages().iter().map(|stage| class(stage.kind())).collect();
        let theirs: Vec<_> = params["order"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        // A neutral `min_p = 0` is a processor there and no stage here.
        let theirs: Vec<_> =
            theirs.into_iter().filter(|name| *name != "MinPLogitsWarper" || value("min_p") != Some(0.0)).collect();
        assert_eq!(order, theirs, "{}", case.id());
        let history = case.get("input_ids");
        let length = *history.shape.last().unwrap();
        for (at, scores) in case.get("scores").rows().iter().enumerate() {
            let context = format!("{} row {at}", case.id());
            let row = Row { prompt: &history.u32()[at * length..][..length], ..Row::new(Logits::F32(scores)) };
            let left = survivors(&sampler, &row);
            assert_eq!(ids(&left), case.get("keep").kept()[at], "{context}");
            assert_scores(&left, &case.get("out").rows()[at], 1e-5, &context);
            assert_probabilities(&left, &case.get("probs").rows()[at], &context);
        }
    }
}

#[test]
fn vllm_top_k_and_top_p() {
    for case in Suite::read("sampler", "vllm_topk_topp").cases() {
        let (k, p) = (case.has("k").then(|| case.get("k").u32()), case.has("p").then(|| case.get("p").values));
        for (at, logits) in case.get("logits").rows().iter().enumerate() {
            let config = SamplerConfig {
                preset: Some(Preset::Vllm),
                top_k: k.as_ref().map(|k| k[at]),
                top_p: p.as_ref().map(|p| p[at]),
                ..SamplerConfig::default()
            };
            let left = survivors(&compile(&config), &Row::new(Logits::F32(logits)));
            assert_eq!(left.len(), case.json["kept"][at].as_u64().unwrap() as usize, "{} row {at}", case.id());
            if case.json["boundary_risk"] == false {
                assert_eq!(ids(&left), case.get("keep").kept()[at], "{} row {at}", case.id());
            }
        }
    }
}

#[test]
fn vllm_penalties() {
    for case in Suite::read("sampler", "vllm_penalties").cases() {
        let logits = case.get("logits").rows();
        // Histories are padded with the vocabulary size.
        let tokens = |role: &str, row: usize| -> Vec<u32> {
            let ids = case.get(role);
            let length = ids.shape[1];
            ids.u32()[row * length..][..length]
                .iter()
                .copied()
                .filter(|&id| (id as usize) < logits[row].len())
                .collect()
        };
        for (at, row) in logits.iter().enumerate() {
            let config = SamplerConfig {
                preset: Some(Preset::Vllm),
                repetition_penalty: Some(case.get("rep").values[at]),
                frequency_penalty: Some(case.get("freq").values[at]),
                presence_penalty: Some(case.get("pres").values[at]),
                ..SamplerConfig::default()
            };
            let row =
                Row { prompt: &tokens("prompt", at), output: &tokens("output", at), ..Row::new(Logits::F32(row)) };
            let left = survivors(&compile(&config), &row);
            assert_scores(&left, &case.get("out").rows()[at], 1e-6, &format!("{} row {at}", case.id()));
        }
    }
}

/// A chain of llama.cpp samplers as a profile; the order is the chain's own.
fn llama_profile(chain: &serde_json::Value) -> SamplerConfig {
    let mut config = SamplerConfig { preset: Some(Preset::LlamaCpp), ..SamplerConfig::default() };
    for sampler in chain.as_array().unwrap() {
        let name = sampler[0].as_str().unwrap();
        let argument = |at: usize| number(&sampler[at]);
        let keep = |config: &mut SamplerConfig, keep: f64| {
            if keep > 1.0 {
                config.min_keep = Some(keep as u32);
            }
        };
        match name {
            "top_k" => config.top_k = Some(argument(1) as u32),
            "top_p" => {
                config.top_p = Some(argument(1));
                keep(&mut config, argument(2));
            }
            "min_p" => {
                config.min_p = Some(argument(1));
                keep(&mut config, argument(2));
            }
            "typical" => {
                config.typical_p = Some(argument(1));
                keep(&mut config, argument(2));
            }
            "top_n_sigma" => config.top_n_sigma = Some(argument(1)).filter(|n| *n > 0.0),
            "penalties" => {
                config.penalty_window = Some(argument(2) as u32);
                config.repetition_penalty = Some(argument(3));
                config.frequency_penalty = Some(argument(4));
                config.presence_penalty = Some(argument(5));
            }
            "xtc" => {
                config.xtc_probability = Some(argument(1));
                config.xtc_threshold = Some(argument(2));
                keep(&mut config, argument(3));
            }
            "temp" => config.temperature = Some(argument(1)),
            "temp_ext" => {
                config.temperature = Some(argument(1));
                config.dynatemp_range = Some(argument(2));
                config.dynatemp_exponent = Some(argument(3));
            }
            "dry" => {
                config.dry_multiplier = Some(argument(1));
                config.dry_base = Some(argument(2));
                config.dry_allowed_length = Some(argument(3) as u32);
                config.dry_window = Some(argument(4) as u32);
            }
            other => panic!("{other}"),
        }
    }
    config
}

#[test]
fn llama_cpp_chains() {
    for case in Suite::read("sampler", "llamacpp_samplers").cases() {
        let logits = case.get("logits").f32();
        let history = if case.has("history") { case.get("history").u32() } else { Vec::new() };
        let sampler = compile(&llama_profile(&case.json["params"]["chain"]));
        let row = Row { output: &history, ..Row::new(Logits::F32(&logits)) };
        let left = survivors(&sampler, &row);
        let expected = case.get("out_ids").u32();
        let mut sorted = expected.clone();
        sorted.sort_unstable();
        assert_eq!(ids(&left), sorted, "{}", case.id());
        let scores = case.get("out_logits").values;
        for candidate in left {
            let at = expected.iter().position(|&id| id == candidate.token).unwrap();
            assert!(close(candidate.score, scores[at], 1e-6, 1e-6), "{}: {candidate:?} {}", case.id(), scores[at]);
        }
    }
}

/// llama.cpp's own draw over our distribution: two words of mt19937 and the first token whose running sum reaches them.
#[test]
fn llama_cpp_draws() {
    let mut compared = 0;
    for case in Suite::read("sampler", "llamacpp_draws").cases() {
        if case.json["params"]["sampler"] != "dist" {
            // Mirostat is not among the stages: its state would have to travel with the row.
            continue;
        }
        let logits = case.get("logits").f32();
        let mut by_id = survivors(&compile(&SamplerConfig::default()), &Row::new(Logits::F32(&logits)));
        by_id.sort_by_key(|candidate| candidate.token);
        let mut generator = Mt19937::new(case.number("seed") as u32);
        for token in case.get("tokens").u32() {
            let (low, high) = (generator.next(), generator.next());
            let uniform = (f64::from(low) + f64::from(high) * 4_294_967_296.0) / 18_446_744_073_709_551_616.0;
            let mut sum = 0.0;
            let drawn = by_id.iter().find(|candidate| {
                sum += candidate.probability;
                sum >= uniform
            });
            assert_eq!(drawn.map(|candidate| candidate.token), Some(token), "{}", case.id());
            compared += 1;
        }
    }
    assert!(compared >= 40, "{compared} draws");
}

/// The 32-bit Mersenne Twister of C++'s `std::mt19937`.
struct Mt19937 {
    state: [u32; 624],
    at: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            state[i] = (state[i - 1] ^ state[i - 1] >> 30).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, at: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.at == 624 {
            for i in 0..624 {
                let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % 624] & 0x7FFF_FFFF;
                let twist = if y & 1 == 1 { 0x9908_B0DF } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ y >> 1 ^ twist;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9D2C_5680;
        y ^= y << 15 & 0xEFC6_0000;
        y ^ y >> 18
    }
}

/// The same rows through the nucleus of four engines: two switches tell them apart.
#[test]
fn nucleus_semantics_of_four_engines() {
    for case in Suite::read("sampler", "nucleus_semantics").cases() {
        let logits = case.get("logits").f32();
        for (engine, preset) in
            [("grok", Preset::Grok1), ("hf", Preset::Hf), ("vllm", Preset::Vllm), ("llamacpp", Preset::LlamaCpp)]
        {
            let config =
                SamplerConfig { preset: Some(preset), top_p: Some(case.number("top_p")), ..SamplerConfig::default() };
            let left = survivors(&compile(&config), &Row::new(Logits::F32(&logits)));
            let kept = case.json["kept"][engine].as_u64().unwrap() as usize;
            let informational = case.id() == "p4321_0.7";
            if !informational {
                assert_eq!(left.len(), kept, "{} {engine}", case.id());
            }
            if engine == "grok" && !informational {
                assert_eq!(ids(&left), case.get(engine).kept()[0], "{}", case.id());
            }
        }
        // One switch at a time gives one difference at a time.
        let default = SamplerConfig { top_p: Some(case.number("top_p")), ..SamplerConfig::default() };
        let keep = SamplerConfig { ties: Some(Ties::Keep), ..default.clone() };
        let row = Row::new(Logits::F32(&logits));
        assert!(survivors(&compile(&keep), &row).len() >= survivors(&compile(&default), &row).len());
    }
}
