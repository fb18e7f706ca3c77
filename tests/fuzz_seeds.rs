//! The fuzzers' seeds, run through the fuzzers' own functions on every test run.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may unwrap as tests do")]

#[path = "../fuzz/entries.rs"]
mod entries;

use std::fs;
use std::path::Path;

/// Runs each seed, and each seed with every one of its bytes set to a few values that matter.
fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no seeds");
    for file in files {
        let seed = fs::read(&file).unwrap();
        assert!(seed.len() <= 4096, "{} is no small seed", file.display());
        run(&seed);
        let mut bytes = seed.clone();
        for at in 0..seed.len() {
            for value in [0, 1, b'"', b'{', 0x7f, 0xff] {
                bytes[at] = value;
                run(&bytes);
            }
            bytes[at] = seed[at];
        }
    }
}

#[test]
fn safetensors_header() {
    replay("safetensors_header", entries::safetensors_header);
}

#[test]
fn shard_index() {
    replay("shard_index", entries::shard_index);
}

#[test]
fn gguf_header() {
    replay("gguf_header", entries::gguf_header);
}

#[test]
fn tensor_list() {
    replay("tensor_list", entries::tensor_list);
}

#[test]
fn policies() {
    replay("policy", entries::policy);
}

#[test]
fn torch_file() {
    replay("torch_file", entries::torch_file);
}

#[test]
fn pickled_array() {
    replay("pickled_array", entries::pickled_array);
}

#[test]
fn numpy_archive() {
    replay("numpy_archive", entries::numpy_archive);
}

#[test]
fn manifest() {
    replay("manifest", entries::manifest);
}

#[test]
fn stage_record() {
    replay("stage_record", entries::stage_record);
}
