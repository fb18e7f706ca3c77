//! `graph`: the matcher graph as people and programs see it.

use crate::{flow_fabric, output_of, stdout_of};

#[test]
fn a_drawing_shows_tables_shared_steps_and_rules() {
    insta::assert_snapshot!("graph-mermaid", flow_fabric("graph policies/llama-3.toml --format mermaid"));
    insta::assert_snapshot!("graph-dot", flow_fabric("graph policies/bert.toml"));
    let against = "graph policies/slot09.toml --against examples/slot09.jsonl --format mermaid";
    insta::assert_snapshot!("graph-against", flow_fabric(against));
}

#[test]
fn rules_that_a_checkpoint_never_uses_are_marked() {
    let grok = "graph policies/grok-1.toml --against tests/data/inventories/grok-1.jsonl --format json";
    let drawing: serde_json::Value = serde_json::from_str(&stdout_of(grok, "")).unwrap();
    let rules: Vec<&serde_json::Value> = drawing["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["kind"] == "rule" && node["table"] == "partition")
        .collect();
    assert_eq!(rules.len(), 36);
    assert_eq!(rules.iter().filter(|rule| rule["dead"] == "unused").count(), 24);
    let schema = flow_fabric::schema::by_name("graph").unwrap().schema().to_value();
    assert!(jsonschema::draft7::new(&schema).unwrap().is_valid(&drawing));
}

#[test]
fn rules_that_can_never_decide_are_marked_without_a_checkpoint() {
    let policy = "language = 1\npolicy = \"p\"\n\
        [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = []\n\
        [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"late\"\nglob = \"a.**\"\nexcept = [\"a.\\\"b\"]\nspec = []\n";
    let output = output_of("graph - --format mermaid", policy);
    let text = String::from_utf8(output.stdout).unwrap();
    insta::assert_snapshot!("graph-shadowed", text);
}
