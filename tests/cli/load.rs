use std::path::Path;

use super::{flow_fabric, within};

/// A policy and a checkpoint of one file: `w` u8 [4, 6] and `norm` u8 [3].
pub(crate) fn tiny(folder: &Path) {
    let policy = "language = 1\npolicy = \"tiny\"\n[mesh]\naxes = [\"model\"]\nshape = [2]\n[loader]\nread = \"pread\"\n\
        [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"columns\"\nglob = \"w\"\nspec = [\"-\", \"model\"]\n\
        [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"rest\"\nglob = \"**\"\nspec = []\n";
    std::fs::write(folder.join("tiny.toml"), policy).unwrap();
    let header = br#"{"w":{"dtype":"U8","shape":[4,6],"data_offsets":[0,24]},"norm":{"dtype":"U8","shape":[3],"data_offsets":[24,27]}}"#;
    let data: Vec<u8> = (b'A'..b'A' + 27).collect();
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &data].concat();
    std::fs::create_dir(folder.join("model")).unwrap();
    std::fs::write(folder.join("model/model.safetensors"), file).unwrap();
    std::fs::write(folder.join("model/tokenizer.json"), "{}").unwrap();
}

/// Without the lines that differ from run to run.
pub(crate) fn untimed(transcript: &str) -> String {
    transcript.lines().filter(|line| !line.starts_with("done in")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_dry_run_says_what_a_device_would_read() {
    let grok = "policies/grok-1.toml tests/data/inventories/grok-1.jsonl";
    insta::assert_snapshot!("load-dry-run", flow_fabric(&format!("load {grok} --device model=3,data=0 --dry-run")));
    insta::assert_snapshot!("load-list", flow_fabric(&format!("load {grok} --device 3")));
    insta::assert_snapshot!("load-no-device", flow_fabric(&format!("load {grok} --device 8 --dry-run")));
}

#[test]
fn a_device_s_own_checkpoint_holds_its_slices_and_loads_again() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    let line = "load DIR/tiny.toml DIR/model --device 1 --out DIR/model-1";
    insta::assert_snapshot!("load-out", untimed(&within(folder.path(), line)));
    let file = std::fs::read(folder.path().join("model-1/model.safetensors")).unwrap();
    assert!(
        file.ends_with(b"YZ[DEFJKLPQRVWX") || file.ends_with(b"DEFJKLPQRVWXYZ["),
        "{}",
        String::from_utf8_lossy(&file)
    );
    assert!(folder.path().join("model-1/tokenizer.json").exists());
    let note = std::fs::read_to_string(folder.path().join("model-1/flow-fabric.device.json")).unwrap();
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    assert_eq!((&note["device"], &note["mesh"]["axes"][0]), (&1.into(), &"model".into()));
    insta::assert_snapshot!("load-out-inspect", within(folder.path(), "inspect DIR/model-1"));
    // What is there is not replaced unasked.
    insta::assert_snapshot!("load-out-again", within(folder.path(), line));
    assert!(within(folder.path(), &format!("{line} --force")).contains("exit status 0"));
}

#[test]
fn the_document_says_how_it_went() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    let printed = within(folder.path(), "load DIR/tiny.toml DIR/model --device 0 --format json");
    let (_, document) = printed.split_once("-- stdout\n").unwrap();
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string("schemas/load.schema.json").unwrap()).unwrap();
    assert!(jsonschema::is_valid(&schema, &document), "{document:#}");
    assert_eq!(document["totals"]["bytes_wanted"], 15);
    assert_eq!(document["files"][0]["read"], "buffered");
    assert_eq!(document["tensors"][0]["start"], serde_json::json!([0, 0]));
    assert!(document["timings"]["elapsed"].as_f64().unwrap() > 0.0);
}

/// Puts a line into the `[loader]` table of the tiny policy.
pub(crate) fn say(folder: &Path, line: &str) {
    let text = std::fs::read_to_string(folder.join("tiny.toml")).unwrap();
    std::fs::write(folder.join("tiny.toml"), text.replace("[loader]\n", &format!("[loader]\n{line}\n"))).unwrap();
}

#[test]
fn what_is_to_be_verified_needs_a_manifest_and_holds_against_it() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    say(folder.path(), "verify = \"blake3\"");
    let line = "load DIR/tiny.toml DIR/model --device 0";
    insta::assert_snapshot!("load-no-manifest", within(folder.path(), line));
    assert!(within(folder.path(), "manifest DIR/model").contains("exit status 0"));
    assert!(within(folder.path(), line).contains("exit status 0"));
    let file = folder.path().join("model/model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    insta::assert_snapshot!("load-mismatch", within(folder.path(), line));
}

#[test]
fn a_staged_file_is_read_from_shared_memory_or_the_finding_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    say(folder.path(), "stage = \"shm\"");
    let staged = within(folder.path(), "load DIR/tiny.toml DIR/model --device 1 --out DIR/model-1");
    assert!(staged.contains("read: 1 file staged") || staged.contains("the files themselves are read"), "{staged}");
    let file = std::fs::read(folder.path().join("model-1/model.safetensors")).unwrap();
    assert!(file.ends_with(b"YZ[DEFJKLPQRVWX") || file.ends_with(b"DEFJKLPQRVWXYZ["));
    say(folder.path(), "stage_budget = \"1B\"");
    let refused = within(folder.path(), "load DIR/tiny.toml DIR/model --device 1");
    assert!(
        refused.contains("the files themselves are read") && refused.contains("read: 1 file buffered"),
        "{refused}"
    );
    assert!(refused.contains("warning[FF570] stage-space") && refused.contains("exit status 0"), "{refused}");
    assert!(!refused.contains("shared memory:"), "nothing was copied: {refused}");
    let denied = within(folder.path(), "load DIR/tiny.toml DIR/model --device 1 -D warnings");
    assert!(denied.contains("error[FF570] stage-space") && denied.contains("exit status 1"), "{denied}");
}

/// Each file is open twice, for reads past the page cache and for what they fall back to.
#[cfg(unix)]
#[test]
fn a_checkpoint_of_more_files_than_a_process_may_open_by_default_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    say(folder.path(), "read = \"direct\"");
    let text = std::fs::read_to_string(folder.path().join("tiny.toml")).unwrap();
    std::fs::write(folder.path().join("tiny.toml"), text.replace("read = \"pread\"\n", "")).unwrap();
    let model = folder.path().join("many");
    std::fs::create_dir(&model).unwrap();
    let mut map = serde_json::Map::new();
    for number in 0..60 {
        let header = format!(r#"{{"t{number}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[number]].concat();
        std::fs::write(model.join(format!("{number}.safetensors")), file).unwrap();
        map.insert(format!("t{number}"), format!("{number}.safetensors").into());
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    std::fs::write(model.join("model.safetensors.index.json"), index).unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -Sn 64 && exec \"$0\" load tiny.toml many --device 0", env!("CARGO_BIN_EXE_flow-fabric")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("60 tensors: 60 B wanted"), "{output:?}");
}
