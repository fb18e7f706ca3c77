use std::fs;

use crate::{edited_grok, flow_fabric, stdout_of, within};

const GROK: &str = "policies/grok-1.toml tests/data/inventories/grok-1.jsonl";

#[test]
fn the_command_and_the_tests_agree_on_the_committed_snapshots() {
    let checkpoints = ["grok-1 grok-1.jsonl", "llama-3 llama-3-8b.jsonl", "gpt-oss gpt-oss-120b.jsonl.gz"];
    for (policy, checkpoint) in checkpoints.iter().map(|pair| pair.split_once(' ').unwrap()) {
        let line =
            format!("snapshot policies/{policy}.toml tests/data/inventories/{checkpoint} --dir snapshots --check");
        let name = checkpoint.split(".jsonl").next().unwrap();
        let said = format!("-- stderr\n`snapshots/{policy}@{name}.snap` is up to date\n");
        assert_eq!(flow_fabric(&line), format!("$ flow-fabric {line}\nexit status 0\n{said}"));
    }
}

#[test]
fn a_snapshot_is_written_once_and_keeps_insta_s_header() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("snapshot {GROK} --dir DIR/new");
    let path = folder.path().join("new/grok-1@grok-1.snap");
    assert!(
        within(folder.path(), &format!("{line} --check")).contains("exit status 1\n-- stderr\n`DIR/new/grok-1@grok")
    );
    assert!(!path.exists());
    assert!(within(folder.path(), &line).contains("exit status 0\n-- stderr\nwrote `DIR/new/grok-1@grok-1.snap`\n"));
    let fresh = fs::read_to_string(&path).unwrap();
    let head = "---\ndescription: \"grok-1 over tests/data/inventories/grok-1.jsonl\"\n---\nlanguage_model/";
    assert!(fresh.starts_with(head), "{fresh}");
    assert!(within(folder.path(), &line).contains("is up to date"));
    assert!(within(folder.path(), &format!("{line} --check")).contains("exit status 0"));

    // The one that the tests keep, gone stale: only the text is renewed.
    let committed = fs::read_to_string("snapshots/grok-1@grok-1.snap").unwrap();
    assert!(committed.starts_with("---\nsource: "));
    fs::write(&path, committed.replace("  shard [data]  router\n", "")).unwrap();
    assert!(within(folder.path(), &line).contains("wrote"));
    assert_eq!(fs::read_to_string(&path).unwrap(), committed);
    assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
}

#[test]
fn a_mesh_of_the_command_line_has_a_snapshot_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let said = within(folder.path(), &format!("snapshot {GROK} --dir DIR --mesh model=16"));
    assert!(said.contains("wrote `DIR/grok-1@grok-1.data-1.model-16.snap`"), "{said}");
}

#[test]
fn an_edit_is_printed_as_the_lines_that_change() {
    let folder = tempfile::tempdir().unwrap();
    edited_grok(folder.path(), r#"spec = ["-", "model", "data"]"#, r#"spec = ["-", "data", "model"]"#);
    let line = "snapshot DIR/grok-1.toml tests/data/inventories/grok-1.jsonl --dir snapshots --check";
    insta::assert_snapshot!("snapshot-edited", within(folder.path(), line));
}

#[test]
fn a_plan_with_errors_is_written_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let said = within(folder.path(), &format!("snapshot {GROK} --dir DIR --mesh model=7"));
    assert!(said.contains("exit status 1") && said.contains("wrote `DIR/grok-1@grok-1.data-1.model-7.snap`"), "{said}");
    assert!(!stdout_of("snapshot --help", "").is_empty());
}
