//! Inline tests: the decisions that `[[expect]]` states, against those that were made.

use std::collections::HashMap;
use std::fmt::Display;

use super::Decision;
use super::class::Class;
use super::decide::Resolved;
use crate::finding::{Finding, code, suggest};
use crate::inventory::Inventory;
use crate::policy::{Expect, Policy, Rule};
use crate::source::Spanned;

pub(super) fn check(policy: &Policy, inventory: &Inventory, resolved: &Resolved, findings: &mut Vec<Finding>) {
    if policy.expects.is_empty() || inventory.weights.is_empty() {
        return;
    }
    let by_path: HashMap<&str, usize> =
        inventory.weights.iter().enumerate().map(|(index, weight)| (weight.path.as_str(), index)).collect();
    for expect in &policy.expects {
        let Some(&index) = by_path.get(expect.path.value.as_str()) else {
            let finding =
                Finding::new(&code::EXPECT_NO_WEIGHT, format!("`{}` is not in `{}`", expect.path, inventory.name))
                    .at(expect.path.span, "");
            findings.push(match suggest::did_you_mean(&expect.path.value, by_path.keys().copied()) {
                Some(guess) => finding.help(guess),
                None => finding.help("`flow-fabric inspect` lists the paths that rules see"),
            });
            continue;
        };
        let decision = resolved.decisions.get(index);
        let class = decision.and_then(|decision| resolved.classes.get(decision.class));
        if let (Some(decision), Some(class)) = (decision, class) {
            compare(policy, expect, decision, class, findings);
        }
    }
}

fn compare(policy: &Policy, expect: &Expect, decision: &Decision, class: &Class, findings: &mut Vec<Finding>) {
    let found_spec = class.spec.as_ref().map_or_else(|| "no rule".to_owned(), ToString::to_string);
    let mut checks = Checks { path: &expect.path, findings };
    if let Some(spec) = &expect.spec {
        checks.that(
            class.spec.as_ref() == Some(&spec.value),
            "shard",
            spec,
            &found_spec,
            name(&policy.partition_rules, class.partition),
        );
    }
    if let Some(scheme) = &expect.scheme {
        let shown = Spanned::new(scheme.value.clone().unwrap_or_else(|| "keep".to_owned()), scheme.span);
        let found = class.scheme.as_deref().unwrap_or("keep");
        checks.that(
            shown.value == found,
            "quant",
            &shown,
            &found,
            name(&policy.quantization_rules, class.quantization),
        );
    }
    let loader = name(&policy.loader_rules, decision.loader);
    if let Some(read) = &expect.read {
        checks.that(read.value == decision.load.read, "read", read, &decision.load.read, loader);
    }
    if let Some(stage) = &expect.stage {
        checks.that(stage.value == decision.load.stage, "stage", stage, &decision.load.stage, loader);
    }
    if let Some(verify) = &expect.verify {
        checks.that(verify.value == decision.load.verify, "verify", verify, &decision.load.verify, loader);
    }
    let rules = [
        (&expect.partition_rule, "partition rule", name(&policy.partition_rules, class.partition)),
        (&expect.quantization_rule, "quantization rule", name(&policy.quantization_rules, class.quantization)),
        (&expect.loader_rule, "loader rule", loader),
    ];
    for (wanted, what, found) in rules {
        if let Some(wanted) = wanted {
            let holds = found == Some(wanted.value.as_str());
            checks.that(
                holds,
                what,
                wanted,
                &found.map_or_else(|| "none".to_owned(), |name| format!("`{name}`")),
                None,
            );
        }
    }
}

struct Checks<'a> {
    path: &'a Spanned<String>,
    findings: &'a mut Vec<Finding>,
}

impl Checks<'_> {
    fn that<T: Display>(
        &mut self,
        holds: bool,
        what: &str,
        wanted: &Spanned<T>,
        found: &dyn Display,
        by: Option<&str>,
    ) {
        if holds {
            return;
        }
        let by = by.map_or_else(String::new, |rule| format!(", by rule `{rule}`"));
        self.findings.push(
            Finding::new(
                &code::EXPECT_FAILED,
                format!("`{}` was expected to have {what} {}, but has {found}{by}", self.path, wanted.value),
            )
            .at(wanted.span, "expected here")
            .help(format!("`flow-fabric explain` shows why; change the rules, or what is expected of {what}")),
        );
    }
}

fn name<D>(rules: &[Rule<D>], index: Option<usize>) -> Option<&str> {
    rules.get(index?).map(|rule| &*rule.name.value)
}
