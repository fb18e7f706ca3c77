//! Runs that are killed, or whose disk fails: the old output is whole, nothing else has its name, and `--resume` ends as a
//! run that was never stopped.

#![cfg(all(unix, feature = "cli", debug_assertions))]

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{self, Tensor, Tensors};

const POLICY: &str = r#"language = 1
policy = "test"
[partition]
unmatched = "replicate"
[siblings]
first = ["0", "1", "2"]
[scheme.s]
format = "nvfp4"
[quantization]
layout = "compressed-tensors"
[[QUANTIZATION_RULES]]
name = "matrices"
glob = "**"
scheme = "s"
"#;

fn tensors() -> Tensors {
    let mut tensors: Tensors =
        (0..6).map(|index| (format!("layers.{index}.weight"), Tensor::noise(&[16, 64], index))).collect();
    // Two parts.
    tensors.insert("large.weight".into(), Tensor::noise(&[1, 1 << 18 | 64], 9));
    tensors.insert("norm".into(), Tensor { dtype: flow_fabric::Dtype::I64, shape: vec![2], bytes: vec![1; 16] });
    tensors
}

/// A folder with a policy, a checkpoint and an output that is there already.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    support::write(&folder.path().join("in"), &tensors(), Some(20_000));
    std::fs::write(folder.path().join("in/tokenizer.json"), "{}").unwrap();
    std::fs::create_dir(folder.path().join("out")).unwrap();
    std::fs::write(folder.path().join("out/old"), "old").unwrap();
    folder
}

fn quantize(folder: &Path, failpoint: &str, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flow-fabric"));
    command.current_dir(folder).env("FLOW_FABRIC_FAILPOINT", failpoint);
    command.args(["quantize", "policy.toml", "in", "-o", "out", "--force", "--threads", "2", "--shard-size", "40KB"]);
    command.args(options).output().unwrap()
}

/// The tensors of a run that nothing stopped.
fn whole() -> Tensors {
    let folder = folder();
    let output = quantize(folder.path(), "", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    support::read(&folder.path().join("out"))
}

fn is_old(folder: &Path) -> bool {
    support::names(&folder.join("out")) == ["old"]
}

#[test]
fn a_killed_run_leaves_the_old_output_and_is_resumed() {
    use std::os::unix::process::ExitStatusExt as _;

    let whole = whole();
    let places = [
        "directory/created:1",
        "writer/create:1",
        "writer/create:2",
        "writer/write:1",
        "writer/write:3",
        "writer/write:7",
        "writer/write:12",
        "writer/write:20",
        "directory/note:1",
        "directory/note:5",
        "directory/note:12",
        "writer/index:1",
        "carry:1",
        "directory/swap:1",
    ];
    let mut resumed = 0;
    for place in places {
        let folder = folder();
        let killed = quantize(folder.path(), &format!("{place}=kill"), &[]);
        assert_eq!(killed.status.signal(), Some(9), "{place}: {}", String::from_utf8_lossy(&killed.stderr));
        assert!(is_old(folder.path()), "{place}");
        let output = quantize(folder.path(), "", &["--resume", "--format", "json"]);
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(support::read(&folder.path().join("out")), whole, "{place}");
        assert_eq!(support::names(folder.path()), ["in", "out", "policy.toml"], "{place}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        resumed += report["run"]["resumed"].as_u64().unwrap();
    }
    assert!(resumed > 10, "{resumed} tensors were not written again");
}

#[test]
fn a_run_killed_while_it_takes_its_place_is_whole_either_way() {
    let whole = whole();
    for place in ["directory/renamed:1", "directory/published:1"] {
        let folder = folder();
        let killed = quantize(folder.path(), &format!("{place}=kill"), &[]);
        assert_eq!(killed.status.code(), None, "{place}");
        let output = folder.path().join("out");
        assert!(is_old(folder.path()) || support::read(&output) == whole, "{place}");
        let again = quantize(folder.path(), "", &[]);
        assert!(again.status.success(), "{place}: {}", String::from_utf8_lossy(&again.stderr));
        assert_eq!(support::read(&output), whole);
        assert_eq!(support::names(folder.path()), ["in", "out", "policy.toml"], "{place}");
    }
}

#[test]
fn a_full_or_failing_disk_leaves_the_old_output() {
    for (failpoint, said) in [
        ("writer/create:1=ENOSPC", "No space left"),
        ("writer/write:5=ENOSPC", "No space left"),
        ("writer/write:2=EIO", "Input/output error"),
        ("writer/create:1=EROFS", "Read-only file system"),
        ("directory/swap:1=EACCES", "Permission denied"),
        ("carry:1=EACCES", "Permission denied"),
    ] {
        let folder = folder();
        let output = quantize(folder.path(), failpoint, &[]);
        // Lines are wrapped.
        let stderr = String::from_utf8_lossy(&output.stderr).replace('│', " ");
        let stderr = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{failpoint}: {stderr}");
        assert!(stderr.contains(said), "{failpoint}: {stderr}");
        assert!(is_old(folder.path()), "{failpoint}");
    }
}
