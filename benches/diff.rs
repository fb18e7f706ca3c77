//! What a diff costs beside the plans that it compares: DeepSeek-V3's 46,183 weights. `cargo bench --bench diff`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use flow_fabric::inventory::{Checkpoint, Inventory};
use flow_fabric::plan::diff::PlanDiff;
use flow_fabric::plan::record::PlanRecord;
use flow_fabric::plan::{Plan, PlanOptions};
use flow_fabric::policy::Policy;

/// Edits of the policy: one decides nothing otherwise, one moves 45,312 experts.
const EDITS: [(&str, &str); 2] = [("# Layer 61 is", "# The layer 61 is"), ("read = \"direct\"", "read = \"pread\"")];

fn main() {
    divan::main();
}

fn policy(edit: (&str, &str)) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/deepseek-v3.toml");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(edit.0));
    // Without the inline tests, which an edit breaks.
    let (rules, _) = text.split_once("[[expect]]").unwrap();
    Policy::parse("deepseek-v3.toml", &rules.replace(edit.0, edit.1)).unwrap()
}

fn inventory() -> Arc<Inventory> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inventories/deepseek-v3.jsonl.gz");
    policy(EDITS[0]).group(&Checkpoint::open(&path).unwrap().0).0.into()
}

fn plan(edit: (&str, &str), inventory: &Arc<Inventory>) -> Plan {
    Plan::new(&policy(edit), Arc::clone(inventory), &PlanOptions::default()).unwrap()
}

fn records(edit: (&str, &str)) -> (PlanRecord, PlanRecord) {
    let inventory = inventory();
    (plan(("", ""), &inventory).record(), plan(edit, &inventory).record())
}

/// The baseline: one of the two plans.
#[divan::bench]
fn a_plan(bencher: Bencher<'_, '_>) {
    let inventory = inventory();
    let weights = ItemsCount::new(inventory.weights.len());
    bencher.counter(weights).bench_local(|| plan(EDITS[0], &inventory));
}

#[divan::bench]
fn a_plan_as_a_record(bencher: Bencher<'_, '_>) {
    let plan = plan(EDITS[0], &inventory());
    bencher.counter(ItemsCount::new(plan.decisions.len())).bench_local(|| plan.record());
}

#[divan::bench(args = [0, 1], name = "diff_of_edit")]
fn diff(bencher: Bencher<'_, '_>, edit: usize) {
    let (old, new) = records(EDITS[edit]);
    bencher.counter(ItemsCount::new(new.tensors.len())).bench_local(|| PlanDiff::new("old", &old, "new", &new));
}

#[divan::bench(args = [0, 1], name = "text_of_edit")]
fn text(bencher: Bencher<'_, '_>, edit: usize) {
    let (old, new) = records(EDITS[edit]);
    let diff = PlanDiff::new("old", &old, "new", &new);
    bencher.counter(ItemsCount::new(new.tensors.len())).bench_local(|| diff.human());
}
