//! A slot adapter: asks for slot09's tensors, specs, schemes and sampler.
//!
//! `cargo run --example slot_adapter` plans the small checkpoint that lies beside it.

#![expect(clippy::print_stdout, reason = "an example shows what it got")]

use flow_fabric::finding::Severity;
use flow_fabric::inventory::Checkpoint;
use flow_fabric::plan::PlanOptions;
use flow_fabric::{Plan, Policy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = Policy::load("policies/slot09.toml")?;
    let (checkpoint, _) = Checkpoint::open("examples/slot09.jsonl".as_ref())?;
    let (inventory, _) = policy.group(&checkpoint);
    let plan = Plan::new(&policy, inventory, &PlanOptions::default())?;
    if let Some(finding) = plan.findings.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(finding.message.clone().into());
    }

    let slot = plan.slots.get("slot09").ok_or("the policy has no slot09")?;
    for planned in plan.slot_weights(slot) {
        let class = planned.class();
        let spec = class.spec.as_ref().map_or_else(|| "no rule".to_owned(), ToString::to_string);
        let scheme = class.scheme.as_deref().unwrap_or("keep");
        println!("{}  shard {spec}  quant {scheme}", planned.weight.path);
    }
    if let Some(sampler) = &slot.sampler {
        println!("sampler {}: {}", sampler.name, sampler.stages.join("; "));
    }
    Ok(())
}
