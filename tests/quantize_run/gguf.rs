//! GGUF files as the output of a run.

use std::path::Path;

use flow_fabric::Dtype;
use flow_fabric::finding::Finding;
use flow_fabric::inventory::{Checkpoint, GgufPairs};
use flow_fabric::output::{GgufFile, Layout, OutputDirectory, OutputOptions, SafetensorsWriter, TensorSpec};
use flow_fabric::quantize::run::RunOptions;
use flow_fabric::quantize::{self, Format, Logical, Scheme, Values};

use crate::support::{self, Tensor, Tensors};

const RULES: &str =
    "[[QUANTIZATION_RULES]]\nname = \"blocks\"\nglob = \"blk.**.weight\"\nwhen = { rank = [2, 3] }\nscheme = \"s\"\n";

fn policy(format: &str) -> flow_fabric::Policy {
    let head = format!("[scheme.s]\nformat = \"{format}\"\n[quantization]\nlayout = \"gguf\"\n");
    support::policy_of(&(head + RULES))
}

fn model() -> Tensors {
    let mut tensors = Tensors::new();
    for layer in 0..2 {
        tensors.insert(format!("blk.{layer}.attn_q.weight"), Tensor::noise(&[24, 256], layer + 1));
        tensors.insert(format!("blk.{layer}.ffn_up_exps.weight"), Tensor::noise(&[3, 8, 256], layer + 9));
        tensors.insert(format!("blk.{layer}.attn_norm.weight"), Tensor::f32(&[5], [1.0, 2.0, 3.0, 4.0, 5.0]));
    }
    tensors
}

/// Pairs of a model that lacks no key.
fn pairs() -> GgufPairs {
    let mut pairs = GgufPairs::default();
    pairs.set_text("general.architecture", "llama");
    pairs.set_u32("general.alignment", 64);
    pairs.set_u32("general.file_type", 32);
    for key in ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"] {
        pairs.set_u32(&format!("llama.{key}"), 2);
    }
    pairs.set_u32("llama.attention.layer_norm_rms_epsilon", 1);
    pairs.set_text("tokenizer.ggml.model", "gpt2");
    pairs.set_text("tokenizer.ggml.tokens", "not really a list");
    pairs
}

/// Writes a model as GGUF files; tensors of layer 1 go to the last.
fn write(folder: &Path, tensors: &Tensors, files: &[GgufFile]) {
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(name, tensor)| TensorSpec { name: name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() })
        .collect();
    let home = |at: usize| if specs[at].name.starts_with("blk.1.") { files.len() - 1 } else { 0 };
    let layout = Layout::gguf(files, &specs, home).unwrap();
    let directory = OutputDirectory::create(folder, &OutputOptions::default()).unwrap();
    let writer = SafetensorsWriter::create(directory, layout).unwrap();
    for (index, tensor) in tensors.values().enumerate() {
        writer.write_at(index, 0, &tensor.bytes).unwrap();
    }
    writer.publish().unwrap();
}

/// The bytes of a tensor of an opened checkpoint, and its file's name.
fn bytes(checkpoint: &Checkpoint, name: &str) -> (Dtype, Vec<u8>, String) {
    let tensor = checkpoint.tensors.iter().find(|tensor| tensor.name == name).unwrap();
    let file = checkpoint.files[tensor.bytes.file.unwrap().0 as usize].location.clone().unwrap();
    let start = usize::try_from(tensor.bytes.offset.unwrap()).unwrap();
    let all = std::fs::read(&file).unwrap();
    let own = all[start..start + usize::try_from(tensor.bytes.length).unwrap()].to_vec();
    (tensor.dtype, own, file.file_name().unwrap().to_str().unwrap().to_owned())
}

fn encoded(format: Format, tensor: &Tensor) -> Vec<u8> {
    let values = Values::stored(tensor.dtype, &tensor.bytes).unwrap();
    let weight =
        Logical { shape: &tensor.shape, contracted: tensor.shape.len() - 1, dtype: tensor.dtype, shard_groups: 1 };
    let (_, mut bytes) = quantize::encode(&Scheme::new(format), quantize::Layout::Gguf, weight, values).unwrap();
    bytes.remove(0)
}

fn shown(findings: &[Finding]) -> String {
    let lines = findings
        .iter()
        .map(|finding| format!("{}: {}\n  {}", finding.code.name, finding.message, finding.notes.join("; ")));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_gguf_model_in_parts_stays_one_with_other_types() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    let mut pairs = pairs();
    pairs.set_u32("split.count", 2);
    let part = |number: u32| {
        let mut pairs = pairs.clone();
        pairs.set_u32("split.no", number);
        GgufFile { name: format!("m-0000{}-of-00002.gguf", number + 1), pairs }
    };
    let files = [part(0), part(1)];
    let tensors = model();
    write(&source, &tensors, &files);
    let (report, findings) =
        support::quantize(&policy("q8_0"), &source.join(&files[0].name), &target, &RunOptions::default()).unwrap();
    assert_eq!(shown(&findings), "");
    assert_eq!(report.total.changed, 4);

    let written = support::open(&target.join(&files[0].name));
    assert_eq!(written.tensors.len(), tensors.len());
    for (name, tensor) in &tensors {
        let (dtype, found, file) = bytes(&written, name);
        let layer: usize = if name.starts_with("blk.1.") { 1 } else { 0 };
        assert_eq!(file, files[layer].name);
        if name.contains("norm") {
            assert_eq!((dtype, &found), (tensor.dtype, &tensor.bytes), "{name}");
        } else {
            assert_eq!((dtype, found), (Dtype::Q80, encoded(Format::Q80, tensor)), "{name}");
        }
    }
    for file in &files {
        let (carried, _) = GgufPairs::read(&target.join(&file.name));
        let mut expected = file.pairs.clone();
        expected.set_u32("general.file_type", 7);
        expected.set_u32("general.quantization_version", 2);
        assert_eq!(carried.unwrap(), expected);
    }
}

#[test]
fn blocks_are_requantized_from_what_they_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = GgufFile { name: "model.gguf".to_owned(), pairs: pairs() };
    let at = |name: &str| folder.path().join(name);
    write(&at("in"), &model(), std::slice::from_ref(&file));
    support::quantize(&policy("q8_0"), &at("in").join("model.gguf"), &at("q8"), &RunOptions::default()).unwrap();
    support::quantize(&policy("q4_k"), &at("q8").join("model.gguf"), &at("q4"), &RunOptions::default()).unwrap();
    let (q8, q4) = (support::open(&at("q8").join("model.gguf")), support::open(&at("q4").join("model.gguf")));
    let name = "blk.1.ffn_up_exps.weight";
    let inventory = support::group(&at("q8").join("model.gguf"));
    let weight = inventory.weights.iter().find(|weight| weight.path == name).unwrap();
    let (_, stored, _) = bytes(&q8, name);
    let values = quantize::decode(weight, &[&stored], quantize::Arithmetic::F32).unwrap();
    assert_eq!(bytes(&q4, name).1, encoded(Format::Q4K, &Tensor::f32(&[3, 8, 256], values)));
}

#[test]
fn safetensors_take_the_metadata_of_a_gguf_file_and_are_told_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    support::write(&at("in"), &model(), None);
    let (_, findings) = support::quantize(&policy("q4_0"), &at("in"), &at("bare"), &RunOptions::default()).unwrap();
    insta::assert_snapshot!(shown(&findings), @r"
    engine-metadata: the GGUF file lacks 9 keys that engines need
      `general.architecture`, `ARCHITECTURE.context_length`, `ARCHITECTURE.embedding_length`, `ARCHITECTURE.block_count`, `ARCHITECTURE.feed_forward_length`, `ARCHITECTURE.attention.head_count`, `ARCHITECTURE.attention.layer_norm_rms_epsilon`, `tokenizer.ggml.model`, `tokenizer.ggml.tokens`
    ");
    assert_eq!(support::open(&at("bare").join("model.gguf")).tensors.len(), 6);

    let file = GgufFile { name: "model.gguf".to_owned(), pairs: pairs() };
    let mut tensors = model();
    write(&at("template"), &tensors, std::slice::from_ref(&file));
    let with =
        |template: &str| RunOptions { metadata_from: Some(at(template).join("model.gguf")), ..Default::default() };
    let (_, findings) = support::quantize(&policy("q4_0"), &at("in"), &at("whole"), &with("template")).unwrap();
    assert_eq!(shown(&findings), "");
    let (carried, _) = GgufPairs::read(&at("whole").join("model.gguf"));
    assert_eq!(carried.unwrap().text("tokenizer.ggml.model").as_deref(), Some("gpt2"));

    // A model of one more tensor, and of one with other sizes.
    tensors.insert("token_embd.weight".to_owned(), Tensor::noise(&[7, 256], 3));
    tensors.insert("blk.0.attn_norm.weight".to_owned(), Tensor::noise(&[6], 3));
    write(&at("larger"), &tensors, std::slice::from_ref(&file));
    let (_, findings) = support::quantize(&policy("q4_0"), &at("in"), &at("part"), &with("larger")).unwrap();
    insta::assert_snapshot!(shown(&findings).replace(&folder.path().display().to_string(), ""), @r"
    engine-metadata: 2 tensors of `/larger/model.gguf` have no tensor of that name and shape in what is written
      `blk.0.attn_norm.weight`, `token_embd.weight`
    ");
    let refused = support::quantize(&policy("q4_0"), &at("in"), &at("none"), &with("in")).unwrap_err();
    assert_eq!(refused.finding().unwrap().code.name, "unreadable-file");
    assert!(!at("none").exists());
}
