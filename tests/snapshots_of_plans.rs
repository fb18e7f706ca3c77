//! Every shipped policy over the checkpoints that it is for: what reviewers of a policy read, in `snapshots/`.
//!
//! `INSTA_UPDATE=always cargo test --test snapshots_of_plans` rewrites them, as `flow-fabric snapshot` does one by one.
//! The table below is the whole list; a policy or an inventory that is not in it fails a test, and so does a snapshot
//! that nothing makes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use flow_fabric::finding::levels;
use flow_fabric::inventory::Checkpoint;
use flow_fabric::plan::{Plan, PlanOptions};
use flow_fabric::policy::Policy;
use serde_json::Value;

/// A test for each policy and checkpoint, and the list of all.
macro_rules! plans {
    ($($test:ident: $policy:literal over $checkpoint:literal;)*) => {
        const PLANS: &[(&str, &str)] = &[$(($policy, $checkpoint)),*];

        $(#[test]
        fn $test() {
            assert_snapshot($policy, $checkpoint);
        })*
    };
}

plans! {
    grok_1: "grok-1" over "inventories/grok-1.jsonl";
    llama_3: "llama-3" over "inventories/llama-3-8b.jsonl";
    mixtral: "mixtral" over "inventories/mixtral-8x7b.jsonl";
    deepseek_v3: "deepseek-v3" over "inventories/deepseek-v3.jsonl.gz";
    gpt_oss: "gpt-oss" over "inventories/gpt-oss-120b.jsonl.gz";
    bert: "bert" over "inventories/bert-base-uncased.jsonl";
    bert_sentences: "bert" over "inventories/all-minilm-l6-v2.jsonl";
    easylm_llama: "easylm-llama" over "inventories/easylm-llama3-8b.oracle.jsonl";
    slots: "flow-fabric" over "slots.jsonl";
    slot06: "slot06" over "slots.jsonl";
    slot07: "slot07" over "slots.jsonl";
    slot09: "slot09" over "slots.jsonl";
    slot10: "slot10" over "slots.jsonl";
}

/// Files beside the inventories that are no checkpoint of their own.
const NO_CHECKPOINTS: &[&str] = &[
    // The same model as grok-1.jsonl before it was quantized, a variant of two layers, and made-up paths: all three are
    // held against the policy's specs in tests/plan.rs.
    "grok-1.oracle.jsonl",
    "grok-1-dense-variant.oracle.jsonl",
    "grok-1-paths.oracle.jsonl",
    // Which tensor of one file is which of another.
    "all-minilm-l6-v2-int8-onnx.map.jsonl",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Opens a checkpoint of `tests/data/`. Of an oracle the names, shapes and initial dtypes make the list.
fn open(checkpoint: &str) -> Checkpoint {
    let path = root().join("tests/data").join(checkpoint);
    let (checkpoint, findings) = if checkpoint.ends_with(".oracle.jsonl") {
        let list = fs::read_to_string(&path).unwrap().replace("\"init_dtype\"", "\"dtype\"");
        Checkpoint::from_list(list.as_bytes(), checkpoint).unwrap()
    } else {
        Checkpoint::open(&path).unwrap()
    };
    assert_eq!(findings, []);
    checkpoint
}

/// Plans without a finding that the policy does not explain.
fn plan(policy: &str, checkpoint: &str) -> Plan {
    let policy = Policy::load(root().join(format!("policies/{policy}.toml"))).unwrap();
    let (inventory, findings) = policy.group(&open(checkpoint));
    assert_eq!(findings, []);
    let mut plan = Plan::new(&policy, inventory, &PlanOptions::default()).unwrap();
    plan.findings = levels::settle(&policy.lints, plan.findings, |_| false);
    let messages: Vec<&str> = plan.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages, [""; 0]);
    plan
}

/// Name of a checkpoint without folder and endings.
fn stem(checkpoint: &str) -> &str {
    let name = Path::new(checkpoint).file_name().unwrap().to_str().unwrap();
    name.split(".jsonl").next().unwrap().trim_end_matches(".oracle")
}

fn name(policy: &str, checkpoint: &str) -> String {
    format!("{policy}@{}", stem(checkpoint))
}

fn assert_snapshot(policy: &str, checkpoint: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(format!("policies/{policy}.toml over {}", stem(checkpoint)));
    settings.bind(|| insta::assert_snapshot!(name(policy, checkpoint), plan(policy, checkpoint).snapshot()));
}

/// Names of the files of a folder.
fn files(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_snapshot_is_of_a_plan_of_the_list() {
    let expected: BTreeSet<String> =
        PLANS.iter().map(|(policy, checkpoint)| format!("{}.snap", name(policy, checkpoint))).collect();
    let found: BTreeSet<String> = files("snapshots").into_iter().filter(|name| !name.ends_with(".snap.new")).collect();
    assert_eq!(found, expected);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._@-".contains(c);
    assert!(found.iter().all(|name| name.chars().all(plain)), "some file system cannot hold a name of {found:?}");
}

#[test]
fn every_policy_and_every_inventory_is_in_the_list() {
    let policies: BTreeSet<String> = PLANS.iter().map(|(policy, _)| format!("{policy}.toml")).collect();
    assert_eq!(files("policies"), policies);
    let mut inventories: BTreeSet<String> =
        PLANS.iter().filter_map(|(_, checkpoint)| checkpoint.strip_prefix("inventories/")).map(str::to_owned).collect();
    inventories.extend(NO_CHECKPOINTS.iter().map(|&name| name.to_owned()));
    let found = files("tests/data/inventories").into_iter();
    let found: BTreeSet<String> =
        found.filter(|name| name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")).collect();
    assert_eq!(found, inventories);
}

/// The snapshot of Llama 3 over its list, with lines added or left out.
fn llama(edit: impl Fn(String) -> String) -> String {
    let list = edit(fs::read_to_string(root().join("tests/data/inventories/llama-3-8b.jsonl")).unwrap());
    let policy = Policy::load(root().join("policies/llama-3.toml")).unwrap();
    let (checkpoint, _) = Checkpoint::from_list(list.as_bytes(), "llama").unwrap();
    Plan::new(&policy, policy.group(&checkpoint).0, &PlanOptions::default()).unwrap().snapshot()
}

#[test]
fn one_tensor_more_is_one_record_more() {
    let before = llama(|list| list);
    let after =
        llama(|list| list + "{\"name\":\"model.layers.3.mlp.gate_norm.weight\",\"dtype\":\"BF16\",\"shape\":[4096]}\n");
    let (before, after): (Vec<&str>, Vec<&str>) = (before.split("\n\n").collect(), after.split("\n\n").collect());
    let totals = before.len() - 1;
    let kept: Vec<&str> = after.iter().copied().filter(|record| before[..totals].contains(record)).collect();
    assert_eq!(kept, before[..totals], "records of other weights change");
    let new: Vec<&str> = after[..after.len() - 1].iter().copied().filter(|record| !kept.contains(record)).collect();
    assert_eq!(
        new,
        [
            "model.layers.3.mlp.gate_norm.weight  1 x bf16 [4096]\n  shard []  norms\n  quant keep  (no rule)\n  load auto  (default)"
        ]
    );
}

#[test]
fn a_gap_in_the_layers_stays_one_record() {
    let without = llama(|list| {
        let lines = list.lines().filter(|line| !line.contains("layers.5.self_attn.o_proj"));
        lines.map(|line| format!("{line}\n")).collect()
    });
    assert!(
        without.contains("model.layers.{0..4,6..31}.self_attn.o_proj.weight  31 x bf16 [4096, 4096]\n"),
        "{without}"
    );
}

#[test]
fn easylm_gets_the_specs_of_its_own_match_partition_rules() {
    let oracle = fs::read_to_string(root().join("tests/data/inventories/easylm-llama3-8b.oracle.jsonl")).unwrap();
    let oracle: Vec<Value> = oracle.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let plan = plan("easylm-llama", "inventories/easylm-llama3-8b.oracle.jsonl");
    assert_eq!((oracle.len(), plan.weights().len()), (291, 291));
    for (leaf, planned) in oracle.iter().zip(plan.weights()) {
        assert_eq!(leaf["name"], planned.weight.path.as_str());
        // Length and all: `[null]` is not `[]`.
        assert_eq!(serde_json::to_value(&planned.class().spec).unwrap(), leaf["spec"], "{}", planned.weight.path);
    }
}
