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
    let mut checks = Checks { path: &expect.path, findings };
    let partition = name(&policy.partition_rules, class.partition);
    let quantization = name(&policy.quantization_rules, class.quantization);
    let loader = name(&policy.loader_rules, decision.loader);
    let load = decision.load;
    checks.that("spec", expect.spec.as_ref(), class.spec.as_ref(), partition);
    let scheme = expect.scheme.clone().map(|scheme| scheme.map(|name| name.unwrap_or_else(|| "keep".to_owned())));
    let found = class.scheme.as_deref().unwrap_or("keep").to_owned();
    checks.that("scheme", scheme.as_ref(), Some(&found), quantization);
    checks.that("read", expect.read.as_ref(), Some(&load.read), loader);
    checks.that("stage", expect.stage.as_ref(), Some(&load.stage), loader);
    checks.that("verify", expect.verify.as_ref(), Some(&load.verify), loader);
    let owned = |name: Option<&str>| name.map(str::to_owned);
    checks.that("partition rule", expect.partition_rule.as_ref(), owned(partition).as_ref(), None);
    checks.that("quantization rule", expect.quantization_rule.as_ref(), owned(quantization).as_ref(), None);
    checks.that("loader rule", expect.loader_rule.as_ref(), owned(loader).as_ref(), None);
}

struct Checks<'a> {
    path: &'a Spanned<String>,
    findings: &'a mut Vec<Finding>,
}

impl Checks<'_> {
    /// Compares one decision with what is expected of it, if anything is; `by` names the rule that made it.
    fn that<T: Display + PartialEq>(
        &mut self,
        what: &str,
        wanted: Option<&Spanned<T>>,
        found: Option<&T>,
        by: Option<&str>,
    ) {
        let Some(wanted) = wanted.filter(|wanted| found != Some(&wanted.value)) else { return };
        let (path, value) = (self.path, &wanted.value);
        let message = match (found, by) {
            (Some(found), Some(by)) => format!("rule `{by}` gives {what} `{found}`, not `{value}`, to `{path}`"),
            (Some(found), None) => format!("{what} is `{found}`, not `{value}`, for `{path}`"),
            (None, _) => format!("{what} is none, not `{value}`, for `{path}`: no rule matches"),
        };
        self.findings.push(
            Finding::new(&code::EXPECT_FAILED, message)
                .at(wanted.span, "")
                .help("`flow-fabric explain` shows which rules match it; change them, or what is expected"),
        );
    }
}

fn name<D>(rules: &[Rule<D>], index: Option<usize>) -> Option<&str> {
    rules.get(index?).map(|rule| &*rule.name.value)
}
