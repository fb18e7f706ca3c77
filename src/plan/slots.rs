//! Slots: the weights and profiles that an adapter asks for by name.

use indexmap::IndexMap;

use super::SlotPlan;
use super::decide::Resolved;
use super::record::{MoeRecord, SamplerRecord};
use crate::finding::{Finding, code};
use crate::policy::Policy;
use crate::sample::Sampler;

pub(super) fn resolve(policy: &Policy, resolved: &Resolved, findings: &mut Vec<Finding>) -> IndexMap<String, SlotPlan> {
    policy
        .slots
        .iter()
        .zip(&resolved.slots)
        .map(|((name, slot), weights)| {
            if let (Some(pattern), true) = (slot.tensors.first(), weights.is_empty())
                && pattern.span.source == crate::source::SourceId::ROOT
            {
                findings.push(
                    Finding::new(&code::EMPTY_SLOT, format!("slot `{name}` has no weight in this checkpoint"))
                        .at(pattern.span, "matches nothing")
                        .help("correct its patterns, or say in `[lints]` why that is fine"),
                );
            }
            let sampler = slot.sampler.as_ref().and_then(|name| {
                let config = policy.samplers.get(&name.value)?;
                let (sampler, _) = Sampler::compile(config).ok()?;
                let stages = sampler.stages().iter().map(ToString::to_string).collect();
                Some(SamplerRecord { name: name.value.clone(), profile: config.filled(), stages })
            });
            let moe = slot.moe.as_ref().and_then(|name| {
                Some(MoeRecord { name: name.value.clone(), profile: policy.moes.get(&name.value)?.filled() })
            });
            (name.clone(), SlotPlan { weights: weights.clone(), sampler, moe })
        })
        .collect()
}
