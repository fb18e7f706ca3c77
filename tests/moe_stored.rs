//! A layer evaluated on a checkpoint as it is stored: every format gives what its decoded values give.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;

use flow_fabric::array::{Array, write_safetensors};
use flow_fabric::inventory::{Checkpoint, GgufPairs, Grouping, Inventory};
use flow_fabric::moe::{
    CaseKind, CaseSizes, Comparison, Evaluation, Evaluator, Input, MemoryWeights, MoeConfig, MoeError, MoeLayer,
    StoredWeights, TestCase, WeightSource as _,
};
use flow_fabric::output::{GgufFile, Layout, OutputDirectory, OutputOptions, SafetensorsWriter, TensorSpec};
use flow_fabric::plan::PlanOptions;
use flow_fabric::progress::Silent;
use flow_fabric::quantize::run::{self, RunOptions};
use flow_fabric::quantize::{self, Format, Logical, Scheme, Values};
use flow_fabric::{Dtype, Plan, Policy};

fn case(profile: &str) -> TestCase {
    let config: MoeConfig = serde_json::from_str(profile).unwrap();
    let layer = MoeLayer::compile(&config).unwrap();
    TestCase::new(CaseKind::Normal, &layer, CaseSizes { hidden: 64, inner: 96, tokens: 24 }, 3).unwrap()
}

/// The tensors of a case in bf16, under `layer`.
fn arrays(case: &TestCase) -> Vec<(String, Array)> {
    let of = |(name, shape, values): (&str, &[usize], &[f32])| {
        let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
        let separator = if name.contains('/') { '/' } else { '.' };
        (format!("layer{separator}{name}"), Array::from_f64(Dtype::Bf16, shape.to_vec(), &values).unwrap())
    };
    case.weights.iter().map(of).collect()
}

fn save(path: &Path, arrays: &[(String, Array)]) {
    let arrays: Vec<(String, &Array)> = arrays.iter().map(|(name, array)| (name.clone(), array)).collect();
    write_safetensors(std::fs::File::create(path).unwrap(), &arrays).unwrap();
}

fn inventory(path: &Path) -> Inventory {
    Inventory::group(&Checkpoint::open(path).unwrap().0, &Grouping::default()).0
}

fn evaluate(case: &TestCase, source: &dyn flow_fabric::moe::WeightSource, evaluator: Evaluator) -> Evaluation {
    let input = Input { values: &case.input, hidden: 64, dtype: Dtype::Bf16 };
    case.layer.evaluate(source, &input, evaluator, true).unwrap()
}

/// Evaluates a checkpoint, and again on its values decoded whole; gives how far it is from the case's own weights.
fn assert_as_decoded(case: &TestCase, path: &Path, expert_format: &str) -> f64 {
    let inventory = inventory(path);
    let stored = StoredWeights::new(&inventory, "layer");
    let formats: Vec<&str> =
        stored.names().filter(|name| name.contains("exp")).filter_map(|name| stored.format(name)).collect();
    let of_experts = if formats.is_empty() { stored.format("moe/linear/w").into_iter().collect() } else { formats };
    assert!(of_experts.contains(&expert_format), "{of_experts:?}");
    let mut decoded = MemoryWeights::default();
    for name in stored.names() {
        let shape = stored.shape(name).unwrap();
        let mut values = vec![0.0; shape.iter().product()];
        stored.read(name, 0, &mut values).unwrap();
        // Any part of it is that part, wherever it begins and ends.
        for (start, length) in [(0, 1), (1, values.len() / 3), (values.len() - 1, 1)] {
            let mut part = vec![f32::NAN; length];
            stored.read(name, start, &mut part).unwrap();
            assert_eq!(part, values[start..start + length], "{name} from {start}");
        }
        decoded.insert(name, shape, values).unwrap();
    }
    for evaluator in [Evaluator::Exact, Evaluator::Rounded] {
        assert_eq!(evaluate(case, &stored, evaluator), evaluate(case, &decoded, evaluator), "{expert_format}");
    }
    stored.check_unchanged().unwrap();
    let (ours, own) = (evaluate(case, &stored, Evaluator::Exact), evaluate(case, &case.weights, Evaluator::Exact));
    Comparison::of(&ours.output, &own.output).unwrap().dissimilarity
}

fn quantized(source: &Path, target: &Path, layout: &str, scheme: &str, glob: &str, contract: i64) {
    let text = format!(
        "language = 1\npolicy = \"q\"\n[partition]\nunmatched = \"replicate\"\n[scheme.s]\n{scheme}\n\
         [quantization]\nlayout = \"{layout}\"\ncontract = {contract}\n\
         [[QUANTIZATION_RULES]]\nname = \"experts\"\nglob = \"{glob}\"\nscheme = \"s\"\nforce = true\n"
    );
    let policy = Policy::parse("q.toml", &text).unwrap_or_else(|rejected| panic!("{rejected}\n{text}"));
    let (inventory, _) = policy.group(&Checkpoint::open(source).unwrap().0);
    let plan = Plan::new(&policy, inventory, &PlanOptions::default()).unwrap();
    run::run(&policy, &plan, target, &RunOptions::default(), &Silent).unwrap_or_else(|error| panic!("{error}\n{text}"));
}

#[test]
fn what_the_quantizer_writes_is_evaluated_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let torch = case(r#"{"preset": "mixtral", "experts": 6}"#);
    let torch_source = folder.path().join("torch.safetensors");
    save(&torch_source, &arrays(&torch));
    assert_eq!(assert_as_decoded(&torch, &torch_source, "plain"), 0.0);
    let jax = case(r#"{"preset": "grok-1"}"#);
    let jax_source = folder.path().join("jax.safetensors");
    save(&jax_source, &arrays(&jax));
    for (number, (layout, scheme, format, most)) in [
        ("compressed-tensors", "format = \"int8\"", "int-quantized", 1e-3),
        ("compressed-tensors", "format = \"int4\"\ngranularity = { group = 32 }", "pack-quantized", 2e-2),
        ("compressed-tensors", "format = \"fp8_e4m3\"", "fp8-scaled", 4e-3),
        ("compressed-tensors", "format = \"mxfp4\"", "mxfp4-packed", 5e-2),
        ("compressed-tensors", "format = \"nvfp4\"", "nvfp4-packed", 4e-2),
        ("deepseek", "format = \"fp8_e4m3\"\ngranularity = { block = [32, 32] }", "fp8-block", 4e-3),
        ("bitsandbytes", "format = \"nf4\"", "bnb-nf4", 3e-2),
    ]
    .into_iter()
    .enumerate()
    {
        let target = folder.path().join(number.to_string());
        quantized(&torch_source, &target, layout, scheme, "**.experts.**", -1);
        let distance = assert_as_decoded(&torch, &target, format);
        assert!(distance > 0.0 && distance < most, "{format}: {distance:e}");
    }
    let target = folder.path().join("grok");
    quantized(&jax_source, &target, "grok-1", "format = \"int8\"", "**/moe/**", -2);
    let distance = assert_as_decoded(&jax, &target, "grok-1");
    assert!(distance > 0.0 && distance < 1e-3, "{distance:e}");
}

/// GPT-OSS keeps its fused experts as `[experts, out, in / 32, 16]` blocks, transposed to its plain `[experts, in, out]`.
#[test]
fn gpt_oss_blocks_are_evaluated_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let profile = r#"{"preset": "gpt-oss", "experts": 6, "top_k": 3, "orientation": "out-in"}"#;
    let case = case(profile);
    let mut stored = Vec::new();
    for (name, array) in arrays(&case) {
        let &[experts, rows, columns] = array.shape() else {
            stored.push((name, array));
            continue;
        };
        if !name.ends_with("_proj") {
            stored.push((name, array));
            continue;
        }
        let shape = [experts * rows, columns].map(|size| size as u64);
        let weight = Logical { shape: &shape, contracted: 1, dtype: Dtype::Bf16, shard_groups: 1 };
        let values = Values::stored(Dtype::Bf16, array.bytes()).unwrap();
        let (_, mut bytes) =
            quantize::encode(&Scheme::new(Format::Mxfp4), quantize::Layout::CompressedTensors, weight, values).unwrap();
        let (codes, scales) = (bytes.remove(0), bytes.remove(0));
        let blocks = Array::new(Dtype::U8, vec![experts, rows, columns / 32, 16], codes).unwrap();
        let scales = Array::new(Dtype::U8, vec![experts, rows, columns / 32], scales).unwrap();
        stored.extend([(format!("{name}_blocks"), blocks), (format!("{name}_scales"), scales)]);
    }
    let path = folder.path().join("gpt-oss.safetensors");
    save(&path, &stored);
    let distance = assert_as_decoded(&case, &path, "mxfp4-blocks");
    assert!(distance > 0.0 && distance < 5e-2, "{distance:e}");
}

/// GGUF stacks experts and has names of its own, which the layer declares.
#[test]
fn gguf_is_evaluated_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let case = case(
        r#"{"preset": "mixtral", "experts": 6, "tensors": {"router": "ffn_gate_inp.weight",
            "gate": "ffn_gate_exps.weight", "up": "ffn_up_exps.weight", "down": "ffn_down_exps.weight"}}"#,
    );
    let tensors: Vec<(TensorSpec, Vec<u8>)> = arrays(&case)
        .into_iter()
        .map(|(name, array)| {
            let shape: Vec<u64> = array.shape().iter().map(|&size| size as u64).collect();
            if shape.len() < 3 {
                return (TensorSpec { name, dtype: Dtype::Bf16, shape }, array.bytes().to_vec());
            }
            let weight = Logical { shape: &shape, contracted: 2, dtype: Dtype::Bf16, shard_groups: 1 };
            let values = Values::stored(Dtype::Bf16, array.bytes()).unwrap();
            let (_, mut bytes) =
                quantize::encode(&Scheme::new(Format::Q80), quantize::Layout::Gguf, weight, values).unwrap();
            (TensorSpec { name, dtype: Dtype::Q80, shape }, bytes.remove(0))
        })
        .collect();
    let mut pairs = GgufPairs::default();
    pairs.set_text("general.architecture", "llama");
    let files = [GgufFile { name: "m.gguf".to_owned(), pairs }];
    let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let directory = OutputDirectory::create(&folder.path().join("gguf"), &OutputOptions::default()).unwrap();
    let writer = SafetensorsWriter::create(directory, Layout::gguf(&files, &specs, |_| 0).unwrap()).unwrap();
    for (index, (_, bytes)) in tensors.iter().enumerate() {
        writer.write_at(index, 0, bytes).unwrap();
    }
    writer.publish().unwrap();
    let distance = assert_as_decoded(&case, &folder.path().join("gguf/m.gguf"), "ggml");
    assert!(distance > 0.0 && distance < 1e-3, "{distance:e}");
}

#[test]
fn what_is_not_there_and_what_changed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let case = case(r#"{"preset": "grok-1"}"#);
    let path = folder.path().join("m.safetensors");
    save(&path, &arrays(&case));
    let inventory = inventory(&path);
    let input = Input { values: &case.input, hidden: 64, dtype: Dtype::Bf16 };
    let evaluate =
        |prefix: &str| case.layer.evaluate(&StoredWeights::new(&inventory, prefix), &input, Evaluator::Exact, false);
    assert!(evaluate("layer").is_ok() && evaluate("layer/").is_ok());
    assert_eq!(evaluate("lay").unwrap_err(), MoeError::Missing { name: "router/w".to_owned() });
    assert_eq!(evaluate("").unwrap_err(), MoeError::Missing { name: "router/w".to_owned() });
    let narrow = Input { values: &case.input[..96], hidden: 48, dtype: Dtype::Bf16 };
    let source = StoredWeights::new(&inventory, "layer");
    let error = case.layer.evaluate(&source, &narrow, Evaluator::Exact, false).unwrap_err().to_string();
    assert_eq!(error, "`router/w` is [64, 8]; it needs 48 inputs and 8 outputs");
    std::fs::write(&path, b"short").unwrap();
    let error = evaluate("layer").unwrap_err().to_string();
    assert!(error.ends_with("changed after its header was read"), "{error}");
}
