//! Families of weights that engines fuse: paths that differ only in one token of `[siblings]`.

use std::collections::BTreeMap;

use super::class;
use super::decide::Resolved;
use crate::finding::{Finding, code};
use crate::inventory::Inventory;
use crate::policy::Policy;

/// Sets of two and more weights whose paths differ only in a token of one list, as indices of the inventory in its order.
pub(super) fn families(policy: &Policy, inventory: &Inventory) -> Vec<Vec<usize>> {
    if policy.siblings.is_empty() {
        return Vec::new();
    }
    let mut families: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
    for (index, weight) in inventory.weights.iter().enumerate().filter(|(_, weight)| weight.alias_of.is_none()) {
        if let Some(key) = key(policy, &weight.path) {
            families.entry(key).or_default().push(index);
        }
    }
    let mut families: Vec<Vec<usize>> = families.into_values().filter(|family| family.len() > 1).collect();
    families.sort();
    families
}

/// The list that a token of the path is in, and the path without that token.
fn key(policy: &Policy, path: &str) -> Option<(usize, String)> {
    let is_separator = |c: char| policy.separators.contains(c);
    let mut start = 0;
    for token in path.split(is_separator) {
        let found = policy.siblings.values().position(|tokens| tokens.iter().any(|own| own.value == token));
        if let Some(list) = found {
            let rest = [path.get(..start)?, "\0", path.get(start + token.len()..)?].concat();
            return Some((list, rest));
        }
        start += token.len() + 1;
    }
    None
}

/// Two members of a family that are decided differently, and how many families two rules do that to.
struct Clash {
    first: usize,
    other: usize,
    families: u64,
}

/// A family of several schemes: no engine can fuse it.
pub(super) fn check(
    policy: &Policy,
    inventory: &Inventory,
    resolved: &Resolved,
    families: &[Vec<usize>],
    findings: &mut Vec<Finding>,
) {
    // One finding per pair of rules, not per layer.
    let mut clashes: BTreeMap<[Option<usize>; 2], Clash> = BTreeMap::new();
    for family in families {
        let decided = |index: usize| {
            let class = class::of(&resolved.classes, resolved.decisions.get(index)?);
            Some((class.scheme.clone(), class.quantization))
        };
        let mut members = family.iter().filter_map(|&index| Some((index, decided(index)?)));
        let Some((first, (scheme, rule))) = members.next() else { continue };
        if let Some((other, (_, other_rule))) = members.find(|(_, (other, _))| *other != scheme) {
            clashes.entry([rule, other_rule]).or_insert(Clash { first, other, families: 0 }).families += 1;
        }
    }
    let path = |index: usize| inventory.weights.get(index).map_or("?", |weight| weight.path.as_str());
    for (rules, Clash { first, other, families }) in clashes {
        let mut finding = Finding::new(
            &code::SIBLINGS_DISAGREE,
            format!("`{}` and `{}` are fused, but quantized differently", path(first), path(other)),
        );
        for rule in rules.into_iter().flatten() {
            if let Some(rule) = policy.quantization_rules.get(rule) {
                finding = finding.at(rule.decision.scheme.span, format!("rule `{}`", rule.name));
            }
        }
        if families > 1 {
            finding = finding.note(format!("first of {families} such families"));
        }
        findings.push(finding.help("let one rule decide all of them, or drop them from `[siblings]`"));
    }
}
