//! Whole runs: what is written, how it reads back, and that neither threads nor memory change a byte of it.

use flow_fabric::quantize::run::{self, DriftReport, RunOptions};
use flow_fabric::quantize::{Arithmetic, Drift};
use flow_fabric::{Dtype, progress::Silent};

use crate::support::{self, Tensor, Tensors};

/// A small model: matrices of several sizes, a norm, an embedding, indices.
fn model() -> Tensors {
    let mut tensors = Tensors::new();
    for layer in 0..2 {
        for (index, part) in ["q_proj", "k_proj", "v_proj"].into_iter().enumerate() {
            let seed = layer * 10 + index as u64;
            tensors.insert(format!("layers.{layer}.{part}.weight"), Tensor::noise(&[24, 256], seed + 1));
        }
        // More than a part.
        let rows = if layer == 0 { 1100 } else { 20 };
        tensors.insert(format!("layers.{layer}.up.weight"), Tensor::noise(&[rows, 256], layer + 100));
        tensors.insert(format!("layers.{layer}.norm.weight"), Tensor::noise(&[256], layer + 200));
    }
    tensors.insert("ids".into(), Tensor { dtype: Dtype::I64, shape: vec![3], bytes: vec![7; 24] });
    tensors
}

const RULES: &str = r#"
[[QUANTIZATION_RULES]]
name = "norms"
glob = "**/norm.*"
scheme = "keep"
[[QUANTIZATION_RULES]]
name = "matrices"
glob = "**"
scheme = "s"
"#;

fn text(layout: &str, scheme: &str) -> String {
    format!("[scheme.s]\n{scheme}\n[quantization]\nlayout = \"{layout}\"\n{RULES}")
}

const SCHEMES: [(&str, &str); 8] = [
    ("compressed-tensors", "format = \"int8\""),
    ("compressed-tensors", "format = \"int4\"\nsymmetric = false"),
    ("compressed-tensors", "format = \"fp8_e4m3\"\ngranularity = \"tensor\""),
    ("compressed-tensors", "format = \"nvfp4\""),
    ("compressed-tensors", "format = \"mxfp4\""),
    ("deepseek", "format = \"fp8_e4m3\"\ngranularity = { block = [128, 128] }"),
    ("bitsandbytes", "format = \"nf4\"\ndouble_quant = true"),
    ("bitsandbytes", "format = \"int8\""),
];

/// The report without how the run went.
fn figures(mut report: DriftReport) -> String {
    report.run = run::RunFigures::default();
    report.output = None;
    serde_json::to_string(&report).unwrap()
}

#[test]
fn neither_threads_nor_memory_change_a_byte_or_a_figure() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    support::write(&source, &model(), Some(100_000));
    for (index, (layout, scheme)) in SCHEMES.into_iter().enumerate() {
        let policy = support::policy_of(&text(layout, scheme));
        let outputs = [(1, 64 << 20), (4, 256 << 20), (3, 8 << 20)].map(|(threads, memory)| {
            let target = folder.path().join(format!("out-{index}-{threads}"));
            let options = RunOptions { threads, memory, ..RunOptions::default() };
            let (report, findings) = support::quantize(&policy, &source, &target, &options).unwrap();
            assert_eq!(findings, []);
            assert!(report.run.published);
            (support::read(&target), figures(report))
        });
        assert!(outputs.iter().all(|output| *output == outputs[0]), "{layout} {scheme}");
        // What is only measured has the same figures.
        let plan = support::plan(&policy, &source);
        let (report, _) = run::drift(&policy, &plan, &RunOptions::default(), &Silent).unwrap();
        assert_eq!(figures(report), outputs[0].1, "{layout} {scheme}");
    }
}

#[test]
fn figures_are_those_of_the_bytes_that_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    let tensors = model();
    support::write(&source, &tensors, None);
    for (layout, scheme) in SCHEMES {
        let policy = support::policy_of(&text(layout, scheme));
        let options = RunOptions { replace: true, ..RunOptions::default() };
        let (report, _) = support::quantize(&policy, &source, &target, &options).unwrap();
        for weight in report.weights.iter().filter(|weight| weight.scheme.is_some()) {
            let before = support::values(&source, &weight.path, Arithmetic::F32);
            let after = support::values(&target, &weight.path, Arithmetic::F32);
            let mut drift = Drift::new(1);
            drift.add(0, &before, &after, None);
            let (slow, fast) = (drift.figures(), weight.figures.unwrap());
            assert_eq!(slow.max_abs_error, fast.max_abs_error, "{layout} {scheme} {}", weight.path);
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs();
            assert!(near(slow.rmse, fast.rmse) && near(slow.sqnr_db.unwrap(), fast.sqnr_db.unwrap()));
            assert!(fast.sqnr_db.unwrap() > 15.0, "{layout} {scheme} {}: {fast:?}", weight.path);
        }
        let written = support::read(&target);
        for (name, tensor) in tensors.iter().filter(|(name, _)| name.contains("norm") || *name == "ids") {
            assert_eq!(written[name], *tensor);
        }
        // A comparison of what was written with what it was made from finds the same.
        let (compared, findings) =
            run::compare(&support::group(&source), &support::group(&target), &RunOptions::default(), &Silent).unwrap();
        assert_eq!(findings, []);
        let of = |report: &DriftReport, path: &str| {
            let found = report.weights.iter().find(|weight| weight.path == path).unwrap().figures.unwrap();
            (found.max_abs_error, found.max_error_steps)
        };
        let path = "layers.0.up.weight";
        assert_eq!(of(&compared, path), of(&report, path), "{layout} {scheme}");
    }
}

#[test]
fn siblings_share_their_global_scale() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    support::write(&source, &model(), None);
    let siblings = "[siblings]\nqkv = [\"q_proj\", \"k_proj\", \"v_proj\"]\n";
    let policy = support::policy_of(&(siblings.to_owned() + &text("compressed-tensors", "format = \"nvfp4\"")));
    support::quantize(&policy, &source, &target, &RunOptions::default()).unwrap();
    let written = support::read(&target);
    let scale = |layer: usize, part: &str| written[&format!("layers.{layer}.{part}.weight_global_scale")].bytes.clone();
    for layer in 0..2 {
        assert_eq!(scale(layer, "q_proj"), scale(layer, "k_proj"));
        assert_eq!(scale(layer, "q_proj"), scale(layer, "v_proj"));
    }
    // It is the least of the divisors that each would have alone.
    let alone = folder.path().join("alone");
    let policy = support::policy_of(&text("compressed-tensors", "format = \"nvfp4\""));
    support::quantize(&policy, &source, &alone, &RunOptions::default()).unwrap();
    let written = support::read(&alone);
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let own = |part: &str| number(&written[&format!("layers.1.{part}.weight_global_scale")].bytes);
    let least = ["q_proj", "k_proj", "v_proj"].map(own).into_iter().fold(f32::INFINITY, f32::min);
    assert_eq!(number(&scale(1, "q_proj")), least);
}

#[test]
fn dequantizing_gives_the_values_that_codes_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let (source, quantized, target) = (folder.path().join("in"), folder.path().join("q"), folder.path().join("out"));
    support::write(&source, &model(), None);
    let policy = support::policy_of(&text("compressed-tensors", "format = \"int8\""));
    support::quantize(&policy, &source, &quantized, &RunOptions::default()).unwrap();
    let inventory = support::group(&quantized);
    let (report, _) = run::dequantize(&inventory, Some(Dtype::F32), &target, &RunOptions::default(), &Silent).unwrap();
    assert_eq!(report.total.changed, 8);
    let written = support::read(&target);
    assert_eq!(written["layers.0.up.weight"].dtype, Dtype::F32);
    let path = "layers.0.up.weight";
    assert_eq!(
        support::values(&target, path, Arithmetic::F32),
        support::values(&quantized, path, Arithmetic::Reference)
    );
    let mut names: Vec<&String> = written.keys().collect();
    names.sort();
    assert_eq!(names, model().keys().collect::<Vec<_>>());
}
