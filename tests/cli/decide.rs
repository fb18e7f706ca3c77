//! `check`, `plan` and `explain`: the verbs that read a policy.

use super::{flow_fabric, flow_fabric_reading, output_of, stdout_of};

const SLOT09: &str = "policies/slot09.toml examples/slot09.jsonl";

#[test]
fn a_plan_reads_as_records_and_totals() {
    insta::assert_snapshot!(flow_fabric(&format!("plan {SLOT09}")));
}

#[test]
fn a_plan_in_markdown_is_a_table() {
    insta::assert_snapshot!(flow_fabric(&format!("plan {SLOT09} --format markdown")));
}

#[test]
fn a_plan_in_json_is_one_document_and_in_jsonl_a_weight_a_line() {
    let json: serde_json::Value =
        serde_json::from_str(&stdout_of(&format!("plan {SLOT09} --format json"), "")).unwrap();
    assert_eq!((json["format"].as_str(), json["format_version"].as_u64()), (Some("flow-fabric/plan"), Some(1)));
    let lines = stdout_of(&format!("plan {SLOT09} --format jsonl"), "");
    let weights: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json["tensors"].as_array().unwrap(), &weights);
    insta::assert_snapshot!(serde_json::to_string_pretty(&weights[1]).unwrap());
}

#[test]
fn one_device_shows_its_slices() {
    insta::assert_snapshot!(flow_fabric(&format!("plan {SLOT09} --device 3")));
    let by_number = stdout_of(&format!("plan {SLOT09} --device 3"), "");
    assert_eq!(by_number, stdout_of(&format!("plan {SLOT09} --device data=0,model=3"), ""));
}

#[test]
fn a_device_that_does_not_exist_is_a_failure() {
    insta::assert_snapshot!(
        [
            flow_fabric(&format!("plan {SLOT09} --device 9")),
            flow_fabric(&format!("plan {SLOT09} --device model=3")),
            flow_fabric(&format!("plan {SLOT09} --device model=4,data=0")),
            flow_fabric(&format!("plan {SLOT09} --device 1 --format json")),
        ]
        .join("\n")
    );
}

#[test]
fn a_mesh_from_the_command_line_takes_the_place_of_the_policy_s() {
    insta::assert_snapshot!(
        [
            flow_fabric("plan policies/llama-3.toml tests/data/inventories/llama-3-8b.jsonl --mesh tp=6 -q"),
            flow_fabric(&format!("plan {SLOT09} --mesh modle=2")),
            flow_fabric(&format!("plan {SLOT09} --mesh model")),
        ]
        .join("\n")
    );
}

#[test]
fn a_checkpoint_comes_from_standard_input() {
    let list = std::fs::read_to_string("examples/slot09.jsonl").unwrap();
    let piped = stdout_of("plan policies/slot09.toml - --format snapshot", &list);
    assert_eq!(piped, stdout_of(&format!("plan {SLOT09} --format snapshot"), ""));
}

#[test]
fn absent_files_are_failures() {
    insta::assert_snapshot!(
        [
            flow_fabric("plan policies/nowhere.toml examples/slot09.jsonl"),
            flow_fabric("plan policies/slot09.toml nowhere.safetensors"),
            flow_fabric("check policies/nowhere.toml"),
        ]
        .join("\n")
    );
}

#[test]
fn explain_shows_winner_losers_and_near_misses() {
    let grok = "explain policies/grok-1.toml transformer/decoder_layer_7/moe/linear_1/w";
    insta::assert_snapshot!(
        [
            flow_fabric(&format!("{grok} --against tests/data/inventories/grok-1.jsonl")),
            flow_fabric("explain policies/llama-3.toml model.layers.1.mlp.down_proj.weight --against tests/data/inventories/llama-3-8b.jsonl"),
            flow_fabric("explain policies/llama-3.toml model.layers.1.mlp.down_proj.weight"),
            flow_fabric("explain policies/llama-3.toml model.layer.1.mlp.down_proj.weight --against tests/data/inventories/llama-3-8b.jsonl"),
        ]
        .join("\n")
    );
}

#[test]
fn explain_speaks_one_line_a_table_to_scripts() {
    let paths = "transformer/decoder_layer_7/router/w\nno/such/weight\n";
    let by_line = flow_fabric_reading("explain policies/grok-1.toml --stdin --format concise", paths);
    insta::assert_snapshot!(by_line);
    let by_nul = output_of("explain policies/grok-1.toml --stdin -z --format concise", &paths.replace('\n', "\0"));
    assert!(by_line.contains(&String::from_utf8(by_nul.stdout).unwrap()));
    let table = "explain policies/grok-1.toml --stdin --format concise --table partition";
    assert_eq!(output_of(table, paths).stdout.iter().filter(|byte| **byte == b'\n').count(), 2);
}

#[test]
fn explain_in_json_carries_the_same() {
    let text = stdout_of("explain policies/slot09.toml slot09/ids/threshold/w --format json", "");
    insta::assert_snapshot!(text);
}

#[test]
fn check_counts_what_it_checked() {
    insta::assert_snapshot!(
        [
            flow_fabric("check policies/slot06.toml policies/slot07.toml policies/slot09.toml policies/slot10.toml"),
            flow_fabric("check policies/slot09.toml --against examples/slot09.jsonl"),
            flow_fabric("check policies/bert.toml --against tests/data/inventories/bert-base-uncased.jsonl --against tests/data/inventories/all-minilm-l6-v2.jsonl"),
            flow_fabric_reading("check - --format concise", "language = 1\npolicy = \"stdin\"\nmesh = 1\n"),
        ]
        .join("\n")
    );
}

#[test]
fn check_against_several_counts_a_rule_as_unused_only_where_all_agree() {
    let one = flow_fabric("check policies/bert.toml --against tests/data/inventories/grok-1.jsonl --format concise -q");
    assert!(one.contains("FF402"), "{one}");
    let both = "check policies/bert.toml --against tests/data/inventories/grok-1.jsonl --against tests/data/inventories/bert-base-uncased.jsonl --format concise -q";
    assert!(!flow_fabric(both).contains("FF402"));
    let json: serde_json::Value = serde_json::from_str(&stdout_of(&both.replace("concise", "json"), "")).unwrap();
    let tables = &json["coverage"][0]["tables"];
    assert_eq!(
        (tables[0]["rules"].as_u64(), tables[0]["deciding"].as_u64(), tables[0]["idle"].as_u64()),
        (Some(5), Some(0), Some(5))
    );
    assert_eq!(json["coverage"][1]["tables"][0]["idle"].as_u64(), Some(0));
}

#[test]
fn levels_from_the_command_line_decide_the_status() {
    let check = "check policies/bert.toml --against tests/data/inventories/grok-1.jsonl --format concise -q";
    assert_eq!(output_of(check, "").status.code(), Some(0), "warnings pass");
    assert_eq!(output_of(&format!("{check} -D warnings"), "").status.code(), Some(1));
    assert_eq!(output_of(&format!("{check} -D unused-rule"), "").status.code(), Some(1));
    assert_eq!(output_of(&format!("{check} -D warnings -A unused-rule"), "").status.code(), Some(0));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = super::command()
        .args(["plan", "policies/deepseek-v3.toml", "tests/data/inventories/deepseek-v3.jsonl.gz", "--format", "jsonl"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}
