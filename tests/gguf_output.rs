//! GGUF files that are written, read back by the strict reader.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Cursor;

use flow_fabric::Dtype;
use flow_fabric::inventory::{Checkpoint, Container, GgufPairs};
use flow_fabric::output::{GgufFile, Layout, TensorSpec};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A pair as a file has it.
fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), value].concat()
}

/// Pairs of every type, and how many they are.
fn every_type() -> (Vec<u8>, u64) {
    let tokens = [&8_u32.to_le_bytes()[..], &10_u64.to_le_bytes(), &text("ab").repeat(10)].concat();
    let pairs = [
        pair("general.architecture", 8, &text("llama")),
        pair("a.u8", 0, &[255]),
        pair("a.i16", 3, &[0, 128]),
        pair("a.f32", 6, &f32::NAN.to_le_bytes()),
        pair("a.bool", 7, &[1]),
        pair("a.i64", 11, &i64::MIN.to_le_bytes()),
        pair("tokens", 9, &tokens),
        pair("types", 9, &[&5_u32.to_le_bytes()[..], &9_u64.to_le_bytes(), &[7; 36]].concat()),
        pair("general.file_type", 4, &1_u32.to_le_bytes()),
    ];
    (pairs.concat(), pairs.len() as u64)
}

/// The pairs of a file that holds `pairs` and no tensors.
fn read_pairs(pairs: &[u8], count: u64) -> GgufPairs {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.gguf");
    let head = [&b"GGUF"[..], &3_u32.to_le_bytes(), &0_u64.to_le_bytes(), &count.to_le_bytes()].concat();
    fs::write(&path, [&head[..], pairs].concat()).unwrap();
    let (pairs, findings) = GgufPairs::read(&path);
    assert_eq!(findings, []);
    pairs.unwrap()
}

/// Reads a file of a layout's head and as many zeros as it says.
fn reread(layout: &Layout, file: usize) -> Checkpoint {
    let file = &layout.files()[file];
    let mut bytes = file.head.clone();
    bytes.resize(usize::try_from(file.length).unwrap(), 0);
    let (checkpoint, findings) =
        Checkpoint::from_reader(&mut Cursor::new(&bytes), bytes.len() as u64, "f", Container::Gguf);
    assert_eq!(findings, []);
    checkpoint
}

fn tensor(name: &str, dtype: Dtype, shape: &[u64]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

fn file(pairs: GgufPairs) -> GgufFile {
    GgufFile { name: "model.gguf".to_owned(), pairs }
}

#[test]
fn pairs_are_carried_byte_for_byte() {
    let (bytes, count) = every_type();
    let file = file(read_pairs(&bytes, count));
    let layout = Layout::gguf(&[file], &[tensor("output.weight", Dtype::F16, &[3, 5])], |_| 0).unwrap();
    let head = &layout.files()[0].head;
    assert_eq!(head[24..24 + bytes.len()], bytes);
    assert_eq!(head[16..24], count.to_le_bytes());
}

#[test]
fn only_what_describes_the_types_changes() {
    let (bytes, count) = every_type();
    let mut file = file(read_pairs(&bytes, count));
    let norm = tensor("norm", Dtype::F32, &[64]);
    let before = file.pairs.clone();
    file.describe_types(&[norm.clone(), tensor("w", Dtype::F16, &[64, 64])]);
    assert_eq!(file.pairs, before, "nothing is quantized, and the file type is right");
    file.describe_types(&[norm.clone(), tensor("w", Dtype::Q80, &[64, 64])]);
    assert_eq!(file.pairs.unsigned("general.file_type"), Some(7));
    assert_eq!(file.pairs.unsigned("general.quantization_version"), Some(2));
    let keys: Vec<&str> = file.pairs.keys().collect();
    assert_eq!(keys[..keys.len() - 1], before.keys().collect::<Vec<_>>());
    let mut unnamed = GgufFile { name: "f".to_owned(), pairs: GgufPairs::default() };
    unnamed.describe_types(&[norm]);
    assert!(unnamed.pairs.is_empty());
}

#[test]
fn keys_that_an_engine_needs_are_named() {
    let mut file = file(GgufPairs::default());
    insta::assert_snapshot!(file.missing_keys().join("\n"), @r"
    general.architecture
    ARCHITECTURE.context_length
    ARCHITECTURE.embedding_length
    ARCHITECTURE.block_count
    ARCHITECTURE.feed_forward_length
    ARCHITECTURE.attention.head_count
    ARCHITECTURE.attention.layer_norm_rms_epsilon
    tokenizer.ggml.model
    tokenizer.ggml.tokens
    ");
    file.pairs.set_text("general.architecture", "bert");
    for key in ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"] {
        file.pairs.set_u32(&format!("bert.{key}"), 6);
    }
    file.pairs.set_u32("bert.attention.layer_norm_epsilon", 0);
    assert_eq!(file.missing_keys(), ["tokenizer.ggml.model", "tokenizer.ggml.tokens"]);
}

#[test]
fn what_cannot_stand_in_a_file_is_named() {
    let long = "x".repeat(64);
    let lay_out = |tensors: &[TensorSpec]| Layout::gguf(&[file(GgufPairs::default())], tensors, |_| 0);
    let cases = [
        vec![tensor("w", Dtype::F8E4m3, &[2])],
        vec![tensor("w", Dtype::F32, &[1; 5])],
        vec![tensor(&long, Dtype::F32, &[2])],
        vec![tensor("w", Dtype::F32, &[2]), tensor("w", Dtype::F16, &[2])],
        vec![tensor("w", Dtype::Q4K, &[4, 128])],
        vec![tensor("w", Dtype::F32, &[1 << 40, 1 << 30])],
        vec![tensor("v", Dtype::F32, &[1 << 60]), tensor("w", Dtype::F32, &[1 << 60])],
    ];
    let shown: Vec<String> = cases.iter().map(|tensors| lay_out(tensors).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    tensor `w` is f8_e4m3, which GGUF has not
    tensor `w` has 5 dimensions; GGUF holds at most 4
    the name `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx` has 64 bytes; GGUF's readers take 1 to 63
    two tensors are called `w`
    a row of 128 values of tensor `w` does not make whole q4_k blocks
    the size of tensor `w` of f32 [1099511627776, 1073741824] overflows 64 bits
    tensor `w` ends beyond 63 bits
    ");
    assert!(lay_out(&[tensor(&long[1..], Dtype::F32, &[])]).is_ok());
}

#[test]
fn a_model_in_parts_stays_in_parts() {
    let part = |number: u32| {
        let mut pairs = GgufPairs::default();
        pairs.set_u32("split.no", number);
        GgufFile { name: format!("m-0000{}-of-00002.gguf", number + 1), pairs }
    };
    let tensors = ["a", "b", "c"].map(|name| tensor(name, Dtype::F32, &[5]));
    let layout = Layout::gguf(&[part(0), part(1)], &tensors, |at| usize::from(at != 1)).unwrap();
    let names = |file| reread(&layout, file).tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
    assert_eq!([names(0), names(1)], [vec!["b"], vec!["a", "c"]]);
    let files: Vec<usize> = (0..3).map(|at| layout.placement(at).unwrap().file).collect();
    assert_eq!(files, [1, 0, 1]);
}

#[test]
fn pairs_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.gguf");
    let head = [&b"GGUF"[..], &3_u32.to_le_bytes(), &0_u64.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    let lie = [&text("k")[..], &8_u32.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    fs::write(&path, [head, lie].concat()).unwrap();
    let (pairs, findings) = GgufPairs::read(&path);
    assert_eq!((pairs, findings.len()), (None, 1));
    assert_eq!(findings[0].code.name, "too-large");
    assert_eq!(GgufPairs::read(&folder.path().join("absent.gguf")).1[0].code.name, "unreadable-file");
}

fn any_tensor() -> impl Strategy<Value = (Dtype, Vec<u64>)> {
    const DTYPES: &[Dtype] =
        &[Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I8, Dtype::Q80, Dtype::Q41, Dtype::Q6K, Dtype::Mxfp4Block];
    (prop::sample::select(DTYPES), prop::collection::vec(1_u64..4, 0..4)).prop_map(|(dtype, mut shape)| {
        // The last dimension holds whole blocks; a scalar only where values stand alone.
        match shape.last_mut() {
            Some(last) => *last *= dtype.block().0,
            None if dtype.is_block() => shape.push(dtype.block().0),
            None => {}
        }
        (dtype, shape)
    })
}

proptest! {
    #![proptest_config(Config { cases: 64, rng_seed: RngSeed::Fixed(4), failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_is_laid_out_is_what_is_read(tensors in prop::collection::vec(any_tensor(), 1..8), power in 0_u32..8) {
        let mut pairs = GgufPairs::default();
        pairs.set_u32("general.alignment", 1 << power);
        pairs.set_text("general.name", "x".repeat(power as usize).as_str());
        let names: Vec<String> = (0..tensors.len()).map(|i| format!("blk.{i}.w")).collect();
        let specs: Vec<_> = names.iter().zip(&tensors).map(|(name, (dtype, shape))| tensor(name, *dtype, shape)).collect();
        let layout = Layout::gguf(&[file(pairs)], &specs, |_| 0).unwrap();
        let read = reread(&layout, 0);
        prop_assert_eq!(read.tensors.len(), specs.len());
        for (i, (tensor, spec)) in read.tensors.iter().zip(&specs).enumerate() {
            prop_assert_eq!((&tensor.name, tensor.dtype, &tensor.shape), (&spec.name, spec.dtype, &spec.shape));
            let place = layout.placement(i).unwrap();
            prop_assert_eq!((tensor.bytes.offset, tensor.bytes.length), (Some(place.offset), place.length));
            prop_assert_eq!(place.offset % (1 << power), 0);
        }
    }
}
