use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use flow_fabric::Dtype;
use flow_fabric::array::{Array, write_npy};
use flow_fabric::sample::SampleReport;

use crate::{flow_fabric, output_of, stdout_of, within};

const LOGITS: &str = "tests/data/golden/sampler/hf_chain.safetensors:c0_V1000.scores";
const HISTORY: &str = "tests/data/golden/sampler/hf_chain.safetensors:c0_V1000.input_ids";

fn sample(rest: &str) -> String {
    flow_fabric(&format!("sample examples/samplers.toml --logits {LOGITS} {rest}"))
}

fn npy(folder: &Path, name: &str, dtype: Dtype, shape: &[usize], values: &[f64]) {
    let array = Array::from_f64(dtype, shape.to_vec(), values).unwrap();
    write_npy(std::fs::File::create(folder.join(name)).unwrap(), &array).unwrap();
}

#[test]
fn tokens_distributions_and_traces() {
    insta::assert_snapshot!("sample-rows", sample("--sampler response"));
    insta::assert_snapshot!(
        "sample-one",
        sample("--sampler chat --rows 1 --prompt tests/data/history.json --trace 12")
    );
    insta::assert_snapshot!("sample-history", sample(&format!("--sampler chat --history {HISTORY} --top 2")));
    insta::assert_snapshot!("sample-json", sample("--sampler grok-1 --rows 0 --top 2 --trace 12 --format json"));
}

/// The same seed, slot and position give the same token for a row, whichever rows stand beside it.
#[test]
fn a_row_is_what_it_is_alone() {
    let report = |rest: &str| -> SampleReport {
        let line = format!("sample examples/samplers.toml --sampler response --logits {LOGITS} --format json {rest}");
        serde_json::from_str(&stdout_of(&line, "")).unwrap()
    };
    let (all, one) = (report("--top 3"), report("--rows 1 --top 3"));
    assert_eq!(all.rows[1], one.rows[0]);
    let moved = report("--rows 1 --position 5 --slot 9 --seed 1 --top 3");
    assert_eq!((moved.seed, moved.rows[0].slot, moved.rows[0].position), (1, 9, 5));
    assert_eq!(moved.rows[0].distribution, one.rows[0].distribution);
    assert_ne!(moved.rows[0].drawn.unwrap().gap, one.rows[0].drawn.unwrap().gap);
}

/// Rows are read, not files: here one whose other rows are 200 GB of holes.
#[test]
fn a_row_of_a_long_file_costs_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("steps.npy");
    let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000, 5000), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header);
    let data = bytes.len() as u64;
    std::fs::write(&path, bytes).unwrap();
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    // Not every file system makes files of this size.
    if file.set_len(data + 200_000_000_000).is_err() {
        return;
    }
    let row: Vec<u8> = (0..5000).flat_map(|at: u16| f32::from(at % 4999).to_le_bytes()).collect();
    file.seek(SeekFrom::Start(data + 9_876_543 * 20_000)).unwrap();
    file.write_all(&row).unwrap();
    let line = "sample examples/samplers.toml --sampler greedy --logits DIR/steps.npy";
    insta::assert_snapshot!("sample-long", within(folder.path(), &format!("{line} --rows 9876543")));
    assert!(within(folder.path(), line).contains("more than the limit"));
}

#[test]
fn rows_that_cannot_be_sampled_are_findings() {
    let folder = tempfile::tempdir().unwrap();
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let rows = [0.0, 1.0, 2.0, nan, inf, 3.0, -inf, -inf, -inf];
    npy(folder.path(), "bad.npy", Dtype::F32, &[3, 3], &rows);
    let line = |sampler| format!("sample examples/samplers.toml --sampler {sampler} --logits DIR/bad.npy");
    insta::assert_snapshot!("sample-invalid", within(folder.path(), &line("response")));
    insta::assert_snapshot!("sample-masked", within(folder.path(), &format!("{} --rows 2", line("greedy"))));
    let json = format!("{} --format json", line("response")).replace("DIR", folder.path().to_str().unwrap());
    let report: SampleReport = serde_json::from_slice(&output_of(&json, "").stdout).unwrap();
    let error = report.rows[1].error.as_ref().unwrap();
    assert_eq!((error.nan, error.infinite, error.first), (1, 1, Some(0)));
    assert!(report.rows[2].drawn.is_none());
}

#[test]
fn wrong_files_and_arguments() {
    let folder = tempfile::tempdir().unwrap();
    npy(folder.path(), "f64.npy", Dtype::F64, &[4], &[0.0; 4]);
    npy(folder.path(), "none.npy", Dtype::F32, &[0, 4], &[]);
    npy(folder.path(), "four.npy", Dtype::F32, &[4, 4], &[0.0; 16]);
    npy(folder.path(), "floats.npy", Dtype::F32, &[2], &[0.0; 2]);
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let whole = std::fs::read(folder.path().join("four.npy")).unwrap();
    write("short.npy", &whole[..whole.len() - 4]);
    write("empty.npy", b"");
    write("archive.npz", b"PK\x03\x04");
    write("text.safetensors", b"1 2 3");
    write("three.json", b"[[1], [2], [3]]");
    write("minus.json", b"[1, -1]");
    write("beyond.json", b"[3, 4]");
    let lines = [
        "--sampler respnse --logits DIR/four.npy",
        "--sampler response --logits DIR/f64.npy",
        "--sampler response --logits DIR/none.npy",
        "--sampler response --logits DIR/short.npy",
        "--sampler response --logits DIR/empty.npy",
        "--sampler response --logits DIR/archive.npz",
        "--sampler response --logits DIR/text.safetensors",
        "--sampler response --logits DIR/absent.npy",
        "--sampler response --logits DIR",
        "--sampler response --logits tests/data/golden/sampler/nucleus_semantics.safetensors:logits",
        "--sampler response --logits DIR/four.npy --rows 4",
        "--sampler response --logits DIR/four.npy --rows 2-1",
        "--sampler response --logits DIR/four.npy --trace 4",
        "--sampler response --logits DIR/four.npy --history DIR/three.json",
        "--sampler response --logits DIR/four.npy --history DIR/minus.json",
        "--sampler response --logits DIR/four.npy --history DIR/beyond.json",
        "--sampler response --logits DIR/four.npy --history DIR/floats.npy",
    ];
    let all = lines.map(|line| within(folder.path(), &format!("sample examples/samplers.toml {line}")));
    insta::assert_snapshot!("sample-wrong", all.join("\n"));
}
