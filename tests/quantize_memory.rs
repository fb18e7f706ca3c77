//! A run's memory stays within its budget, whatever the size of a tensor: counted at the allocator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/counting.rs"]
mod counting;

use std::collections::BTreeMap;

use flow_fabric::inventory::Checkpoint;
use flow_fabric::output::{OutputDirectory, OutputOptions, SafetensorsWriter, TensorSpec};
use flow_fabric::plan::PlanOptions;
use flow_fabric::progress::Silent;
use flow_fabric::quantize::run::{self, RunOptions};
use flow_fabric::{Dtype, Plan, Policy};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// One test in this file: a second thread would be counted too.
#[test]
fn the_budget_holds_for_a_tensor_larger_than_it() {
    const BUDGET: u64 = 8 << 20;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    // Zeros: how much is held does not depend on values.
    let specs = [TensorSpec { name: "a.weight".to_owned(), dtype: Dtype::Bf16, shape: vec![4096, 2048] }];
    let layout = flow_fabric::output::Layout::new(&specs, &BTreeMap::new(), None).unwrap();
    let directory = OutputDirectory::create(&source, &OutputOptions::default()).unwrap();
    SafetensorsWriter::create(directory, layout).unwrap().publish().unwrap();

    for (index, (layout, contract, scheme)) in [
        ("compressed-tensors", -1, "format = \"int8\""),
        ("grok-1", -2, "format = \"int8\"\ngranularity = \"channel\""),
        ("bitsandbytes", -1, "format = \"nf4\"\ndouble_quant = true"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!(
            "language = 1\npolicy = \"p\"\n[partition]\nunmatched = \"replicate\"\n[scheme.s]\n{scheme}\n[quantization]\n\
             layout = \"{layout}\"\ncontract = {contract}\n[[QUANTIZATION_RULES]]\nname = \"all\"\nglob = \"**\"\nscheme = \"s\"\n"
        );
        let policy = Policy::parse("p.toml", &text).unwrap();
        let (checkpoint, _) = Checkpoint::open(&source).unwrap();
        let (inventory, _) = policy.group(&checkpoint);
        let plan = Plan::new(&policy, inventory, &PlanOptions::default()).unwrap();
        let options = RunOptions { memory: BUDGET, threads: 2, ..RunOptions::default() };
        let target = folder.path().join(format!("out-{index}"));
        let ((report, _), most) = counting::peak(|| run::run(&policy, &plan, &target, &options, &Silent).unwrap());
        assert!(report.run.published);
        // A MiB for what is no buffer: names, records, the report.
        assert!(most as u64 <= BUDGET + (1 << 20), "{layout} {scheme}: {most} bytes");
    }
}
