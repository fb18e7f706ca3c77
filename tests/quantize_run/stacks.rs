//! Stacked experts, requantizing, shards.

use flow_fabric::Dtype;
use flow_fabric::progress::Silent;
use flow_fabric::quantize::Arithmetic;
use flow_fabric::quantize::run::{self, RunOptions};

use crate::support::{self, Tensor, Tensors};

fn number(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Rows of a stack `[experts, rows, columns]` whose values say where they are.
fn stack(shape: [u64; 3]) -> Tensor {
    let [_, rows, columns] = shape;
    let value = |at: u64| {
        let (expert, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
        (expert * 100 + row + 1) as f32 * (column as f32 - 15.5) / 127.5
    };
    Tensor::f32(&shape, (0..shape.iter().product()).map(value))
}

const EXPERTS: &str = r#"
[experts.gate-up]
regex = '(.*)\.experts\.gate_up_proj'
template = '$1.experts.{expert}.{part}.weight'
parts = ["gate_proj", "up_proj"]
interleaved = INTERLEAVED
[scheme.s]
format = "int8"
[quantization]
layout = "compressed-tensors"
[[QUANTIZATION_RULES]]
name = "experts"
glob = "**"
scheme = "s"
"#;

#[test]
fn a_stack_is_written_as_the_matrices_that_engines_load() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    let stacked = stack([3, 6, 32]);
    support::write(&source, &[("mlp.experts.gate_up_proj".to_owned(), stacked.clone())].into(), None);
    let values = number(&stacked.bytes);
    for interleaved in [false, true] {
        let policy = support::policy_of(&EXPERTS.replace("INTERLEAVED", &interleaved.to_string()));
        let options = RunOptions { replace: true, ..RunOptions::default() };
        let (report, findings) = support::quantize(&policy, &source, &target, &options).unwrap();
        assert_eq!(findings, []);
        assert_eq!(report.weights.len(), 6);
        for expert in 0..3 {
            for (part, name) in ["gate_proj", "up_proj"].into_iter().enumerate() {
                let path = format!("mlp.experts.{expert}.{name}.weight");
                let written = support::values(&target, &path, Arithmetic::F32);
                for row in 0..3 {
                    let stacked_row = if interleaved { row * 2 + part } else { part * 3 + row };
                    let from = (expert * 6 + stacked_row) * 32;
                    let error = |at: usize| (written[row * 32 + at] - values[from + at]).abs();
                    let largest = values[from].abs();
                    assert!((0..32).all(|at| error(at) <= largest / 200.0), "{path} row {row}");
                }
            }
        }
    }
}

#[test]
fn grok_pairs_are_written_stacked_and_requantized() {
    let folder = tempfile::tempdir().unwrap();
    let [source, pairs, fp8] = ["in", "pairs", "fp8"].map(|name| folder.path().join(name));
    let tensors: Tensors =
        [("moe/linear_1/w".to_owned(), stack([2, 16, 32])), ("attention/w".to_owned(), Tensor::noise(&[256, 128], 3))]
            .into();
    support::write(&source, &tensors, None);
    let grok = support::policy_of(
        r#"
[mesh]
axes = ["data", "model"]
shape = [1, 4]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "down"
glob = "moe/**"
spec = ["-", "model", "data"]
[scheme.s]
format = "int8"
granularity = { shard_group = "model" }
[quantization]
layout = "grok-1"
contract = -2
[[QUANTIZATION_RULES]]
name = "all"
glob = "**"
scheme = "s"
"#,
    );
    let (report, findings) = support::quantize(&grok, &source, &pairs, &RunOptions::default()).unwrap();
    assert_eq!(findings, []);
    assert!(report.weights.iter().all(|weight| weight.figures.unwrap().max_error_steps.unwrap() <= 0.5));
    let written = support::read(&pairs);
    let shape = |name: &str| (written[name].dtype, written[name].shape.clone());
    assert_eq!(shape("moe/linear_1/w/weight"), (Dtype::I8, vec![2, 16, 32]));
    assert_eq!(shape("moe/linear_1/w/scales"), (Dtype::Bf16, vec![2, 4, 32]));
    assert_eq!(shape("attention/w/scales"), (Dtype::Bf16, vec![1, 128]));

    // What is stored as pairs is quantized again, from the values that it stands for.
    let blocks = support::policy_of(
        "[scheme.s]\nformat = \"fp8_e4m3\"\ngranularity = { block = [128, 128] }\n[quantization]\n\
         layout = \"deepseek\"\n[[QUANTIZATION_RULES]]\nname = \"a\"\nglob = \"attention/**\"\nscheme = \"s\"\n",
    );
    let (report, _) = support::quantize(&blocks, &pairs, &fp8, &RunOptions::default()).unwrap();
    let weight = report.weights.iter().find(|weight| weight.path == "attention/w").unwrap();
    assert!(weight.figures.unwrap().sqnr_db.unwrap() > 25.0);
    let again = support::read(&fp8);
    assert_eq!(again["attention/w_scale_inv"].shape, [2, 1]);
    assert_eq!(again["moe/linear_1/w/weight"], written["moe/linear_1/w/weight"], "what is kept stays as it is stored");
}

/// Rows `from..to` of a matrix.
fn rows(tensor: &Tensor, from: u64, to: u64) -> Tensor {
    let bytes = tensor.bytes.len() as u64 / tensor.shape[0];
    let range = usize::try_from(from * bytes).unwrap()..usize::try_from(to * bytes).unwrap();
    let shape = std::iter::once(to - from).chain(tensor.shape[1..].iter().copied()).collect();
    Tensor { dtype: tensor.dtype, shape, bytes: tensor.bytes[range].to_vec() }
}

#[test]
fn a_shard_that_no_scale_spans_is_quantized_as_the_whole_is() {
    let folder = tempfile::tempdir().unwrap();
    let matrix = Tensor::noise(&[256, 128], 5);
    for (layout, scheme) in [
        ("compressed-tensors", "format = \"int8\""),
        ("compressed-tensors", "format = \"int4\"\ngranularity = { group = 32 }\nsymmetric = false"),
        ("compressed-tensors", "format = \"mxfp4\""),
        ("deepseek", "format = \"fp8_e4m3\"\ngranularity = { block = [128, 128] }"),
        ("bitsandbytes", "format = \"int8\""),
    ] {
        let written = |name: &str, tensor: Tensor| {
            let (source, target) = (folder.path().join(format!("{name}-in")), folder.path().join(name));
            support::write(&source, &[("w.weight".to_owned(), tensor)].into(), None);
            let policy = support::policy(layout, scheme, "");
            let options = RunOptions { replace: true, ..RunOptions::default() };
            support::quantize(&policy, &source, &target, &options).unwrap();
            support::read(&target)
        };
        let whole = written("whole", matrix.clone());
        for (name, from, to) in [("top", 0, 128), ("bottom", 128, 256)] {
            for (part, shard) in written(name, rows(&matrix, from, to)) {
                if part.ends_with("_shape") || part.ends_with("_format") {
                    continue;
                }
                let of = |row: u64| row * whole[&part].shape[0] / 256;
                assert_eq!(shard, rows(&whole[&part], of(from), of(to)), "{layout} {scheme} {part}");
            }
        }
    }
}

#[test]
fn a_sample_has_the_figures_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    let tensors: Tensors = (0..7).map(|at| (format!("layers.{at}.weight"), Tensor::noise(&[8, 64], at))).collect();
    support::write(&source, &tensors, None);
    let policy = support::policy("compressed-tensors", "format = \"int8\"", "");
    let plan = support::plan(&policy, &source);
    let drift =
        |sample| run::drift(&policy, &plan, &RunOptions { sample, ..RunOptions::default() }, &Silent).unwrap().0;
    let (all, sampled) = (drift(None), drift(Some(3)));
    let paths: Vec<&str> = sampled.weights.iter().map(|weight| weight.path.as_str()).collect();
    assert_eq!(paths, ["layers.0.weight", "layers.2.weight", "layers.4.weight"]);
    assert!(sampled.weights.iter().all(|weight| all.weights.contains(weight)));
}
