//! Where what is stored is not what the policy plans.

use std::collections::BTreeMap;

use crate::finding::{Finding, code};
use crate::plan::{Plan, PlannedWeight};
use crate::policy::Policy;
use crate::units::counted;

/// Says, once per quantization rule and stored form, for which weights loading gives another form than the plan's.
///
/// `plan` is one of `policy`.
#[must_use]
pub fn stored_otherwise(policy: &Policy, plan: &Plan) -> Vec<Finding> {
    // Rule, scheme and stored form: how many weights, and the first of them.
    let mut differing: BTreeMap<(usize, &str, String), (usize, &str)> = BTreeMap::new();
    for planned in plan.weights() {
        let class = planned.class();
        let (Some(rule), Some(scheme)) = (class.quantization, &class.scheme) else { continue };
        if planned.weight.alias_of.is_none() && differs(&planned) {
            let key = (rule, scheme.as_ref(), stored_form(&planned));
            differing.entry(key).or_insert((0, planned.weight.path.as_str())).0 += 1;
        }
    }
    differing
        .into_iter()
        .map(|((rule, scheme, form), (weights, first))| {
            let rule = policy.quantization_rules.get(rule);
            let name = rule.map_or("", |rule| rule.name.value.as_ref());
            let message = format!("`{name}` plans `{scheme}` for {} stored as {form}", counted(weights, "weight"));
            let finding = Finding::new(&code::STORED_OTHERWISE, message)
                .note(format!("the first is `{first}`"))
                .help("a device gets what is stored; `flow-fabric quantize` writes what is planned");
            match rule {
                Some(rule) => finding.at(rule.name.span, ""),
                None => finding,
            }
        })
        .collect()
}

/// Whether the stored tensors have other roles, dtypes or shapes than the planned ones.
fn differs(planned: &PlannedWeight<'_>) -> bool {
    let class = planned.class();
    let mut stored: Vec<_> = planned
        .weight
        .components
        .iter()
        .map(|component| (&component.role, component.tensor.dtype, component.tensor.shape.as_slice()))
        .collect();
    let mut wanted: Vec<_> =
        class.planned.iter().map(|component| (&component.role, component.dtype, component.shape.as_slice())).collect();
    stored.sort_unstable();
    wanted.sort_unstable();
    !wanted.is_empty() && stored != wanted
}

/// `bf16`, or `grok-1 of bf16` where several tensors encode it.
fn stored_form(planned: &PlannedWeight<'_>) -> String {
    let weight = planned.weight;
    if weight.components.len() == 1 {
        return weight.components.first().map_or(weight.dtype, |component| component.tensor.dtype).to_string();
    }
    format!("{} of {}", weight.format.name(), weight.dtype)
}
