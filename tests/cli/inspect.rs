use std::collections::BTreeSet;

use flow_fabric::inventory::{InventoryDocument, TensorRecord, WeightRecord};

use crate::{flow_fabric, flow_fabric_reading, stdout_of};

const GROK: &str = "tests/data/inventories/grok-1.jsonl";
const MINILM: &str = "tests/data/inventories/all-minilm-l6-v2.jsonl";

/// A weight and its scales, a plain tensor, a line that is no tensor, and a name that means to move the cursor.
const LIST: &str = r#"{"name":"moe/w/weight","dtype":"I8","shape":[6144,1024],"file":"a"}
{"name":"moe/w/scales","dtype":"BF16","shape":[8,1024],"file":"b"}
{"name":"norm/\u001b[2Jscale","dtype":"F32","shape":[6144]}
{"name":"bad","dtype":"F3","shape":[1]}
"#;

#[test]
fn templates_with_counts_bytes_and_totals() {
    insta::assert_snapshot!("inspect-grok-1", flow_fabric(&format!("inspect {GROK}")));
    insta::assert_snapshot!("inspect-gpt-oss", flow_fabric("inspect tests/data/inventories/gpt-oss-120b.jsonl.gz"));
    insta::assert_snapshot!("inspect-markdown", flow_fabric(&format!("inspect {GROK} --format markdown")));
    insta::assert_snapshot!("inspect-stored", flow_fabric(&format!("inspect --stored {GROK}")));
}

#[test]
fn a_list_on_standard_input_with_its_findings() {
    insta::assert_snapshot!("inspect-stdin", flow_fabric_reading("inspect --all -", LIST));
    insta::assert_snapshot!("inspect-stdin-jsonl", flow_fabric_reading("inspect --format jsonl -", LIST));
    insta::assert_snapshot!("inspect-stdin-json", flow_fabric_reading("inspect --format json -", LIST));
}

#[test]
fn all_lists_every_weight_in_the_order_of_the_checkpoint() {
    let text = stdout_of(&format!("inspect --all {MINILM}"), "");
    let paths: Vec<&str> = text.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let lines = std::fs::read_to_string(MINILM).unwrap();
    assert_eq!(paths.len(), lines.lines().count());
    for (row, line) in paths.iter().zip(lines.lines()) {
        let tensor: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row.ends_with(&format!(" plain   {}", tensor["name"].as_str().unwrap())), "{row}");
    }
}

#[test]
fn json_and_jsonl_say_the_same_of_every_weight() {
    let document: InventoryDocument =
        serde_json::from_str(&stdout_of(&format!("inspect {GROK} --format json"), "")).unwrap();
    let lines = stdout_of(&format!("inspect {GROK} --format jsonl"), "");
    let weights: Vec<WeightRecord> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(document.weights, weights);
    assert_eq!((document.totals.weights, document.totals.tensors, document.totals.files), (770, 1218, 770));
    assert_eq!(document.totals.bytes, weights.iter().map(|weight| weight.bytes).sum::<u64>());
}

#[test]
fn stored_tensors_as_lines_stand_for_the_checkpoint() {
    let list = stdout_of(&format!("inspect --stored --format jsonl {GROK}"), "");
    let names: BTreeSet<String> =
        list.lines().map(|line| serde_json::from_str::<TensorRecord>(line).unwrap().name).collect();
    assert_eq!(names.len(), 1218);
    let again = stdout_of("inspect -", &list);
    assert_eq!(again, stdout_of(&format!("inspect {GROK}"), ""));
}

#[test]
fn what_cannot_be_inspected_is_2() {
    insta::assert_snapshot!("inspect-absent", flow_fabric("inspect no/such/checkpoint"));
    insta::assert_snapshot!("inspect-not-one", flow_fabric("inspect Cargo.toml"));
    insta::assert_snapshot!("inspect-stored-json", flow_fabric(&format!("inspect --stored --format json {GROK}")));
    insta::assert_snapshot!("inspect-unknown-lint", flow_fabric(&format!("inspect {GROK} -D unknwon-dtype")));
}
