//! What the defining implementations wrote, through a whole run: every byte of every tensor.

use std::collections::BTreeMap;

use flow_fabric::Dtype;
use flow_fabric::inventory::{Grouping, Inventory, StoredFormat};
use flow_fabric::quantize::run::{RunOptions, Status};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::support::{self, Tensor, Tensors};

#[derive(Deserialize)]
struct Manifest {
    schemes: BTreeMap<String, BTreeMap<String, Case>>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    tensors: BTreeMap<String, Pinned>,
}

#[derive(Deserialize)]
struct Pinned {
    sha256: String,
}

fn manifest() -> Manifest {
    // Python's JSON spells figures that are not finite, which JSON does not have.
    let text = include_str!("../data/golden/quant/manifest.json")
        .replace(": NaN", ": null")
        .replace(": -Infinity", ": null")
        .replace(": Infinity", ": null");
    serde_json::from_str(&text).unwrap()
}

fn inputs() -> Tensors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden/quant/inputs.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: &safetensors::tensor::TensorView<'_>| Tensor {
        dtype: Dtype::from_safetensors(&view.dtype().to_string()).unwrap(),
        shape: view.shape().iter().map(|&size| size as u64).collect(),
        bytes: view.data().to_vec(),
    };
    tensors.iter().map(|(name, view)| (name.to_owned(), tensor(&view))).collect()
}

/// Quantizes the finite inputs that a peer took; one line with how many tensors have the peer's bytes.
fn compare(manifest: &Manifest, set: &str, layout: &str, scheme: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    let all = inputs();
    let cases = &manifest.schemes[set];
    let taken = cases.iter().filter(|(input, case)| case.ok && *input != "nonfinite_f32");
    let tensors: Tensors = taken.map(|(input, _)| (format!("{input}.weight"), all[input].clone())).collect();
    support::write(&source, &tensors, Some(100_000));
    // LLM.int8 computes from f16, in which the largest inputs are infinite.
    let scheme = format!("{scheme}\narithmetic = \"reference\"");
    let policy = support::policy(layout, &scheme, "nonfinite = \"keep\"");
    let options = RunOptions { threads: 2, ..RunOptions::default() };
    let (report, findings) = support::quantize(&policy, &source, &target, &options).unwrap();
    assert_eq!(findings, []);
    assert!(report.weights.iter().all(|weight| weight.status == Status::Quantized));
    let (mut alike, mut differ) = (0, Vec::new());
    for (name, tensor) in support::read(&target) {
        let (input, rest) = name.split_once('.').unwrap();
        // The JSON of a quant state is filled up with spaces.
        let bytes = if rest.contains("quant_state") { tensor.bytes.trim_ascii_end() } else { &tensor.bytes };
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if cases[input].tensors[&format!("m.{rest}")].sha256 == digest {
            alike += 1;
        } else {
            differ.push(name);
        }
    }
    // The inventory takes every weight for what it was written as, but for one whose scales overflow: JSON has no infinity.
    let (inventory, _) = Inventory::group(&support::open(&target), &Grouping::default());
    let plain = inventory.weights.iter().filter(|weight| weight.format == StoredFormat::Plain).count();
    format!("{set}: {} weights, {alike} tensors alike, {differ:?} not, {plain} plain", tensors.len())
}

#[test]
fn every_peer_s_bytes_come_out_of_a_whole_run() {
    let manifest = manifest();
    let ct = |set, scheme| compare(&manifest, set, "compressed-tensors", scheme);
    let lines = [
        ct("ct/int8-channel", "format = \"int8\""),
        ct("ct/int8-g128", "format = \"int8\"\ngranularity = { group = 128 }"),
        ct("ct/int4-g128", "format = \"int4\""),
        ct("ct/int4-g128-asym", "format = \"int4\"\nsymmetric = false"),
        ct("ct/fp8-tensor", "format = \"fp8_e4m3\"\ngranularity = \"tensor\""),
        ct("ct/fp8-channel", "format = \"fp8_e4m3\""),
        ct("ct/fp8-block128", "format = \"fp8_e4m3\"\ngranularity = { block = [128, 128] }"),
        ct("ct/nvfp4", "format = \"nvfp4\""),
        ct("ct/mxfp4", "format = \"mxfp4\""),
        compare(
            &manifest,
            "ds/fp8-block128",
            "deepseek",
            "format = \"fp8_e4m3\"\ngranularity = { block = [128, 128] }",
        ),
        compare(&manifest, "bnb/nf4", "bitsandbytes", "format = \"nf4\""),
        compare(&manifest, "bnb/nf4-dq", "bitsandbytes", "format = \"nf4\"\ndouble_quant = true"),
        compare(&manifest, "bnb/int8", "bitsandbytes", "format = \"int8\""),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    ct/int8-channel: 16 weights, 32 tensors alike, [] not, 0 plain
    ct/int8-g128: 15 weights, 45 tensors alike, [] not, 0 plain
    ct/int4-g128: 15 weights, 45 tensors alike, [] not, 0 plain
    ct/int4-g128-asym: 15 weights, 60 tensors alike, [] not, 0 plain
    ct/fp8-tensor: 16 weights, 32 tensors alike, [] not, 0 plain
    ct/fp8-channel: 16 weights, 32 tensors alike, [] not, 0 plain
    ct/fp8-block128: 16 weights, 32 tensors alike, [] not, 0 plain
    ct/nvfp4: 15 weights, 45 tensors alike, [] not, 0 plain
    ct/mxfp4: 15 weights, 30 tensors alike, [] not, 0 plain
    ds/fp8-block128: 16 weights, 32 tensors alike, [] not, 0 plain
    bnb/nf4: 19 weights, 76 tensors alike, [] not, 0 plain
    bnb/nf4-dq: 19 weights, 114 tensors alike, [] not, 6 plain
    bnb/int8: 16 weights, 48 tensors alike, [] not, 0 plain
    ");
}
