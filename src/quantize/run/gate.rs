//! What keeps a run from being published: gates that weights do not pass, values that are not finite.

use std::collections::BTreeMap;

use super::report::WeightDrift;
use super::tally::UnitFigures;
use super::work::{Task, Work};
use crate::finding::{Finding, code};
use crate::policy::Policy;
use crate::quantize::{Breach, NonFinite};
use crate::units::number;

/// Weights that one finding lists.
const MOST: usize = 8;

/// A weight and the gate that it does not pass.
struct Broken<'a> {
    path: &'a str,
    breach: &'a Breach,
}

/// A finding for every rule and limit that weights do not keep to, the worst of them first.
pub(super) fn limits(policy: &Policy, work: &Work<'_>, weights: &[WeightDrift], findings: &mut Vec<Finding>) {
    let mut broken: BTreeMap<(Option<usize>, &str), Vec<Broken<'_>>> = BTreeMap::new();
    for (unit, weight) in work.units.iter().zip(weights) {
        for breach in &weight.breaches {
            broken.entry((unit.rule, breach.limit)).or_default().push(Broken { path: &weight.path, breach });
        }
    }
    for ((rule, _), mut breaches) in broken {
        breaches.sort_by(|a, b| distance(b.breach).total_cmp(&distance(a.breach)));
        let Some(Broken { path, breach }) = breaches.first() else { continue };
        let message = format!("`{path}` has {}: {}", said(breach), allowed(breach));
        let mut finding = Finding::new(&code::LIMIT_BROKEN, message);
        if let Some(rule) = rule.and_then(|rule| policy.quantization_rules.get(rule)) {
            finding = finding.at(rule.decision.scheme.span, format!("rule `{}`", rule.name));
        }
        for Broken { path, breach } in breaches.iter().skip(1).take(MOST) {
            finding = finding.note(format!("`{path}` has {}", said(breach)));
        }
        if breaches.len() > MOST + 1 {
            finding = finding.note(format!("and {} more weights of the rule", breaches.len() - MOST - 1));
        }
        findings.push(finding.help("give these weights a finer scheme, or let a rule before it keep them"));
    }
}

/// How far a figure is beyond its limit, whatever the direction.
fn distance(breach: &Breach) -> f64 {
    (breach.found - breach.allowed).abs()
}

fn said(breach: &Breach) -> String {
    match breach.limit {
        "max_abs_error" => format!("an absolute error of {}", number(breach.found)),
        "max_relative_error" => format!("a relative error of {}", number(breach.found)),
        "min_sqnr_db" => format!("an SQNR of {} dB", number(breach.found)),
        _ => format!("a cosine of {}", number(breach.found)),
    }
}

fn allowed(breach: &Breach) -> String {
    let edge = if breach.limit.starts_with("max") { "at most" } else { "at least" };
    format!("`{}` allows {edge} {}", breach.limit, number(breach.allowed))
}

/// Weights that hold NaN or infinity, or that come back so from finite values, where the policy refuses them.
pub(super) fn nonfinite(policy: &Policy, work: &Work<'_>, figures: &[UnitFigures], findings: &mut Vec<Finding>) {
    if policy.quantization.nonfinite == NonFinite::Keep {
        return;
    }
    let mut by_rule: BTreeMap<Option<usize>, Vec<String>> = BTreeMap::new();
    for (unit, figures) in work.units.iter().zip(figures) {
        if let (Task::Encode(_), Some(trouble)) = (&unit.task, trouble(&unit.path, figures)) {
            by_rule.entry(unit.rule).or_default().push(trouble);
        }
    }
    for (rule, troubles) in by_rule {
        let Some(first) = troubles.first() else { continue };
        let mut finding = Finding::new(&code::NONFINITE_WEIGHT, first);
        if let Some(rule) = rule.and_then(|rule| policy.quantization_rules.get(rule)) {
            finding = finding.at(rule.decision.scheme.span, format!("rule `{}`", rule.name));
        }
        for trouble in troubles.iter().skip(1).take(MOST) {
            finding = finding.note(trouble);
        }
        if troubles.len() > MOST + 1 {
            finding = finding.note(format!("and {} more weights of the rule", troubles.len() - MOST - 1));
        }
        findings.push(
            finding.help("mend the checkpoint, keep these weights, or say `nonfinite = \"keep\"` in `[quantization]`"),
        );
    }
}

/// What is not finite of a weight.
fn trouble(path: &str, figures: &UnitFigures) -> Option<String> {
    let values = |count: u64| crate::units::counted(usize::try_from(count).unwrap_or(usize::MAX), "value");
    let spoilt = figures.figures.map_or(0, |figures| figures.spoilt);
    match (figures.nonfinite, spoilt) {
        (0, 0) => None,
        (0, 1) => Some(format!("`{path}` holds 1 value that is finite and comes back NaN or infinite")),
        (0, spoilt) => Some(format!("`{path}` holds {} that are finite and come back NaN or infinite", values(spoilt))),
        (1, _) => Some(format!("`{path}` holds 1 value that is NaN or infinite")),
        (count, _) => Some(format!("`{path}` holds {} that are NaN or infinite", values(count))),
    }
}
