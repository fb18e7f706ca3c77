//! `quantize`, `drift` and `dequantize`, as people meet them.

use std::fs;
use std::path::Path;

use super::within;

const POLICY: &str = r#"language = 1
policy = "tiny"
[partition]
unmatched = "replicate"
[scheme.int8]
format = "int8"
[quantization]
layout = "compressed-tensors"
[[QUANTIZATION_RULES]]
name = "matrices"
glob = "**.weight"
scheme = "int8"
"#;

/// A folder with a policy and a checkpoint of two matrices and a bias.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tiny.toml"), POLICY).unwrap();
    write(&folder.path().join("in.safetensors"), |at| ((at * 37 % 101) as f32 - 50.0) / 64.0);
    folder
}

fn write(path: &Path, value: impl Fn(usize) -> f32) {
    let header = concat!(
        r#"{"a.weight":{"dtype":"F32","shape":[4,8],"data_offsets":[0,128]},"#,
        r#""b.weight":{"dtype":"F32","shape":[4,8],"data_offsets":[128,256]},"#,
        r#""bias":{"dtype":"F32","shape":[4],"data_offsets":[256,272]}}"#
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..68).flat_map(|at| value(at).to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

/// A transcript without its times.
fn told(folder: &Path, line: &str) -> String {
    let text = within(folder, line);
    let kept = text.lines().filter(|line| !line.starts_with("time ") && !line.starts_with("- **time**"));
    kept.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_checkpoint_is_quantized_compared_and_decoded() {
    let folder = folder();
    let folder = folder.path();
    let session = [
        "quantize DIR/tiny.toml DIR/in.safetensors -o DIR/out --threads 1",
        "quantize DIR/tiny.toml DIR/in.safetensors -o DIR/out",
        "drift --compare DIR/in.safetensors DIR/out --threads 1 --format markdown",
        "dequantize DIR/out -o DIR/back --dtype f32 --threads 1",
        "drift DIR/tiny.toml DIR/in.safetensors --sample 1 --all --threads 1",
    ];
    let told: Vec<String> = session.iter().map(|line| told(folder, line)).collect();
    insta::assert_snapshot!("quantize-session", told.join("\n"));
}

#[test]
fn what_is_refused_is_1_and_nothing_is_written() {
    let folder = folder();
    let folder = folder.path();
    let limits = POLICY.replace("name = \"m", "limits = { min_sqnr_db = 90 }\nname = \"m");
    fs::write(folder.join("limits.toml"), limits).unwrap();
    let groups = POLICY.replace("\"int8\"\n[", "\"int8\"\ngranularity = { group = 16 }\n[");
    fs::write(folder.join("groups.toml"), groups).unwrap();
    write(&folder.join("nan.safetensors"), |at| if at == 3 { f32::NAN } else { at as f32 });
    let session = [
        "quantize DIR/limits.toml DIR/in.safetensors -o DIR/out --threads 1",
        "quantize DIR/groups.toml DIR/in.safetensors -o DIR/out",
        "quantize DIR/tiny.toml DIR/nan.safetensors -o DIR/out --quiet --threads 1",
        "quantize DIR/tiny.toml DIR/in.safetensors -o DIR/out --memory 100B",
    ];
    let told: Vec<String> = session.iter().map(|line| told(folder, line)).collect();
    insta::assert_snapshot!("quantize-refused", told.join("\n"));
    assert!(!folder.join("out").exists());
}
