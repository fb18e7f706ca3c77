//! Which rule decides each weight.

use std::collections::HashMap;

use super::class::{Class, Key};
use super::layers::Layers;
use super::record::RuleRecord;
use super::when::{Facts, Verdict, evaluate};
use super::{Decision, LoadPlan};
use crate::inventory::{Inventory, Weight};
use crate::matcher::RuleIndex;
use crate::mesh::Mesh;
use crate::policy::{Place, Policy, PolicyMatcher, Rule, When, tables};
use crate::source::Spanned;

/// The decisions over a checkpoint, before totals and findings.
pub(super) struct Resolved {
    pub(super) decisions: Vec<Decision>,
    pub(super) classes: Vec<Class>,
    /// Weights of each slot.
    pub(super) slots: Vec<Vec<usize>>,
    /// Weights that each rule decides, per table.
    pub(super) won: Won,
    /// Rules that match some weight without deciding any, per table.
    pub(super) lost: Lost,
    /// Classes with a sensitive weight that an unforced rule quantizes, and why; the first such weight and their number.
    pub(super) sensitive: HashMap<(usize, SensitiveBy), (usize, u64)>,
    /// Weights of placing rules without a usable number.
    pub(super) misplaced: Vec<(usize, Misplaced)>,
}

/// Counts per rule.
#[derive(Debug, Default)]
pub(super) struct Won {
    pub(super) partition: Vec<u64>,
    pub(super) quantization: Vec<u64>,
    pub(super) loader: Vec<u64>,
}

/// Per rule that decides nothing, the first weight that it matches.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) partition: Vec<Option<usize>>,
    pub(super) quantization: Vec<Option<usize>>,
    pub(super) loader: Vec<Option<usize>>,
}

/// Why a weight is not quantized by accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum SensitiveBy {
    /// A pattern of `[sensitive]` matches it.
    Name,
    /// It has few dimensions.
    Rank,
}

/// Why a placed weight has no owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// The index regex does not match, or not with a number.
    NoNumber,
    /// The number is not below `of`.
    Beyond(u64),
}

pub(super) fn decide(policy: &Policy, matcher: &PolicyMatcher, inventory: &Inventory, mesh: &Mesh) -> Resolved {
    // Counted only when some rule asks.
    let layers = policy.layer_conditions().next().map(|_| Layers::of_policy(policy, inventory));
    let mut walk = matcher.graph.matcher();
    let mut resolved = Resolved {
        decisions: Vec::with_capacity(inventory.weights.len()),
        classes: Vec::new(),
        slots: vec![Vec::new(); policy.slots.len()],
        won: Won {
            partition: vec![0; policy.partition_rules.len()],
            quantization: vec![0; policy.quantization_rules.len()],
            loader: vec![0; policy.loader_rules.len()],
        },
        lost: Lost::default(),
        sensitive: HashMap::new(),
        misplaced: Vec::new(),
    };
    let mut by_key: HashMap<Key, usize> = HashMap::new();
    for (index, weight) in inventory.weights.iter().enumerate() {
        let matches = walk.resolve(&weight.path);
        let partition = first(&policy.partition_rules, matches.candidates(matcher.partition), weight, layers.as_ref());
        let quantization =
            first(&policy.quantization_rules, matches.candidates(matcher.quantization), weight, layers.as_ref());
        let loader = first(&policy.loader_rules, matches.candidates(matcher.loader), weight, layers.as_ref());
        let named_sensitive = !matches.candidates(matcher.sensitive).is_empty();
        for rule in matches.candidates(matcher.slots) {
            let slot = matcher.slot_of.get(rule.index()).and_then(|&slot| resolved.slots.get_mut(slot));
            if let Some(slot) = slot.filter(|slot| slot.last() != Some(&index)) {
                slot.push(index);
            }
        }
        let experts = policy.experts.values().position(|experts| experts.regex.value.is_match(&weight.path));
        let key = Key::new(weight, partition, quantization, stacked(policy, &weight.path), experts);
        let classes = &mut resolved.classes;
        let class = match by_key.get(&key) {
            Some(&class) => class,
            None => {
                classes.push(Class::new(policy, mesh, &key, weight, index));
                by_key.insert(key, classes.len() - 1);
                classes.len() - 1
            }
        };
        let owner = owner(policy, mesh, partition, &weight.path).unwrap_or_else(|misplaced| {
            resolved.misplaced.push((index, misplaced));
            None
        });
        let forced =
            quantization.and_then(|at| policy.quantization_rules.get(at)).is_some_and(|rule| rule.decision.force);
        if let Some(class_entry) = classes.get_mut(class) {
            class_entry.weights += 1;
            let low_rank = weight.shape.len() as u64 <= policy.sensitive.max_rank;
            if class_entry.scheme.is_some() && !forced && (named_sensitive || low_rank) {
                let by = if named_sensitive { SensitiveBy::Name } else { SensitiveBy::Rank };
                resolved.sensitive.entry((class, by)).or_insert((index, 0)).1 += 1;
            }
        }
        count(&mut resolved.won.partition, partition);
        count(&mut resolved.won.quantization, quantization);
        count(&mut resolved.won.loader, loader);
        let loading = loader.and_then(|at| policy.loader_rules.get(at)).map(|rule| &rule.decision);
        resolved.decisions.push(Decision { class, loader, load: LoadPlan::new(policy, loading), owner });
    }
    resolved.lost = lost(policy, inventory, &resolved.won);
    resolved
}

fn count(won: &mut [u64], rule: Option<usize>) {
    if let Some(count) = rule.and_then(|rule| won.get_mut(rule)) {
        *count += 1;
    }
}

/// The first candidate whose conditions hold. With a checkpoint every fact is known.
fn first<D>(rules: &[Rule<D>], candidates: &[RuleIndex], weight: &Weight, layers: Option<&Layers>) -> Option<usize> {
    candidates.iter().map(|rule| rule.index()).find(|&at| match rules.get(at).and_then(|rule| rule.when.as_ref()) {
        Some(when) => holds(when, weight, layers),
        None => true,
    })
}

fn holds(when: &Spanned<When>, weight: &Weight, layers: Option<&Layers>) -> bool {
    let facts = Facts {
        shape: Some(&weight.shape),
        dtype: Some(weight.dtype),
        format: Some(weight.format.name()),
        layers_known: true,
    };
    evaluate(&when.value, &facts, |of| layers.and_then(|layers| layers.of(&weight.path, of))) == Verdict::Holds
}

/// Whether the path holds the stack token.
pub(super) fn stacked(policy: &Policy, path: &str) -> bool {
    policy.partition.stack_token.as_deref().is_some_and(|token| policy.separators.split(path).any(|part| part == token))
}

/// The device coordinate that owns a placed weight: consecutive numbers share a device.
fn owner(policy: &Policy, mesh: &Mesh, rule: Option<usize>, path: &str) -> Result<Option<u64>, Misplaced> {
    let Some(place) = rule.and_then(|at| policy.partition_rules.get(at)).and_then(|rule| rule.decision.place.as_ref())
    else {
        return Ok(None);
    };
    let Place { axis, index, of } = &place.value;
    let number = index
        .value
        .captures(path)
        .and_then(|groups| groups.get(1))
        .and_then(|group| group.as_str().parse::<u64>().ok());
    let number = number.ok_or(Misplaced::NoNumber)?;
    if number >= of.value {
        return Err(Misplaced::Beyond(number));
    }
    let devices = mesh.axis(&axis.value).map_or(1, |axis| mesh.size(axis));
    // As even as can be: device d owns the numbers from floor(d * of / devices) on.
    let owner = u128::from(number) * u128::from(devices) / u128::from(of.value);
    Ok(u64::try_from(owner).ok())
}

/// Which rules that won nothing match something all the same: a second, much smaller graph of those rules alone.
fn lost(policy: &Policy, inventory: &Inventory, won: &Won) -> Lost {
    use crate::matcher::{MatcherGraph, Mode, Rule as MatcherRule, Table};
    fn idle<'a, D>(rules: &'a [Rule<D>], won: &[u64]) -> (Vec<usize>, Vec<MatcherRule<'a>>) {
        rules
            .iter()
            .zip(won)
            .enumerate()
            .filter(|(_, (_, won))| **won == 0)
            .map(|(index, (rule, _))| {
                let rule = MatcherRule {
                    name: &rule.name.value,
                    pattern: rule.pattern.value.lowered(),
                    excepts: rule.except.iter().map(|pattern| pattern.value.lowered()).collect(),
                    conditional: rule.when.is_some(),
                };
                (index, rule)
            })
            .unzip()
    }
    let mut lost = Lost {
        partition: vec![None; won.partition.len()],
        quantization: vec![None; won.quantization.len()],
        loader: vec![None; won.loader.len()],
    };
    let (partition, partition_rules) = idle(&policy.partition_rules, &won.partition);
    let (quantization, quantization_rules) = idle(&policy.quantization_rules, &won.quantization);
    let (loader, loader_rules) = idle(&policy.loader_rules, &won.loader);
    let tables = [
        Table { name: "partition", mode: Mode::All, rules: partition_rules },
        Table { name: "quantization", mode: Mode::All, rules: quantization_rules },
        Table { name: "loader", mode: Mode::All, rules: loader_rules },
    ];
    // The whole policy compiled, so does a part of it.
    let Ok(graph) = MatcherGraph::new(&tables, &policy.separators) else { return lost };
    let ids: Vec<_> = graph.tables().collect();
    let mut walk = graph.matcher();
    for (index, weight) in inventory.weights.iter().enumerate() {
        let matches = walk.resolve(&weight.path);
        let flags = [&mut lost.partition, &mut lost.quantization, &mut lost.loader];
        for ((&table, flags), origin) in ids.iter().zip(flags).zip([&partition, &quantization, &loader]) {
            for rule in matches.candidates(table) {
                if let Some(flag) = origin.get(rule.index()).and_then(|&at| flags.get_mut(at)) {
                    flag.get_or_insert(index);
                }
            }
        }
    }
    lost
}

/// Every rule with its place and what came of it.
pub(super) fn rules(policy: &Policy, resolved: &Resolved) -> Vec<RuleRecord> {
    fn records<'a, D>(
        policy: &'a Policy,
        table: &'a str,
        rules: &'a [Rule<D>],
        won: &'a [u64],
        lost: &'a [Option<usize>],
    ) -> impl Iterator<Item = RuleRecord> + 'a {
        rules.iter().zip(won).zip(lost).map(move |((rule, &won), &lost)| RuleRecord {
            table: table.to_owned(),
            name: rule.name.value.to_string(),
            file: policy.sources().name(rule.name.span.source).to_owned(),
            line: policy.sources().start(rule.name.span).line,
            won,
            matches: won > 0 || lost.is_some(),
            says: rule.written.clone(),
        })
    }
    let Resolved { won, lost, .. } = resolved;
    records(policy, tables::PARTITION, &policy.partition_rules, &won.partition, &lost.partition)
        .chain(records(policy, tables::QUANTIZATION, &policy.quantization_rules, &won.quantization, &lost.quantization))
        .chain(records(policy, tables::LOADER, &policy.loader_rules, &won.loader, &lost.loader))
        .collect()
}
