//! Findings of rules that do nothing over a checkpoint: those that match no weight, and those that decide none.

use std::collections::HashSet;

use super::fit::Report;
use super::layers::Layers;
use super::when::{Facts, Verdict, evaluate};
use crate::finding::{Finding, code};
use crate::matcher::{MatcherGraph, Mode, NearMiss, Rule as MatcherRule, Table};
use crate::policy::Rule;
use crate::source::SourceId;

/// Rules for which the nearest path is looked up.
const MOST_RULES: usize = 64;

/// Shapes of paths that are looked at for it; each costs a walk of all those rules.
const MOST_SHAPES: usize = 256;

impl Report<'_> {
    /// Rules of the root file that match nothing, or never decide.
    pub(super) fn unused(&self, findings: &mut Vec<Finding>) {
        let (policy, won, lost) = (self.policy, &self.resolved.won, &self.resolved.lost);
        let class = |index: usize| self.resolved.classes.get(self.resolved.decisions.get(index)?.class);
        let partition = |index| policy.partition_rules.get(class(index)?.partition?);
        let quantization = |index| policy.quantization_rules.get(class(index)?.quantization?);
        let loader = |index: usize| policy.loader_rules.get(self.resolved.decisions.get(index)?.loader?);
        self.unused_in(&policy.partition_rules, &won.partition, &lost.partition, partition, findings);
        self.unused_in(&policy.quantization_rules, &won.quantization, &lost.quantization, quantization, findings);
        self.unused_in(&policy.loader_rules, &won.loader, &lost.loader, loader, findings);
    }

    fn unused_in<'r, D: 'r>(
        &self,
        rules: &'r [Rule<D>],
        won: &[u64],
        lost: &[Option<usize>],
        winner: impl Fn(usize) -> Option<&'r Rule<D>>,
        findings: &mut Vec<Finding>,
    ) {
        let own = |rule: &Rule<D>| rule.name.span.source == SourceId::ROOT;
        let idle = rules.iter().zip(won).zip(lost).filter(|((rule, won), _)| **won == 0 && own(rule));
        let mut unused = Vec::new();
        for ((rule, _), first) in idle {
            match first {
                Some(first) => findings.push(self.never_decides(rule, *first, winner(*first))),
                None => unused.push(rule),
            }
        }
        let near = self.nearest(&unused);
        for (at, rule) in unused.into_iter().enumerate() {
            let message = format!("rule `{}` matches no weight of `{}`", rule.name, self.inventory.name);
            let finding = Finding::new(&code::UNUSED_RULE, message).at(rule.pattern.span, "").help(
                "correct its pattern; if it is for another checkpoint, allow `unused-rule` in `[lints]` and say so",
            );
            findings.push(match near.get(at).and_then(Option::as_ref) {
                Some(near) => finding.note(near.clone()),
                None => finding,
            });
        }
    }

    /// A rule that matches, and the weight on which it lost: to its own conditions, or to an earlier rule.
    fn never_decides<D>(&self, rule: &Rule<D>, first: usize, winner: Option<&Rule<D>>) -> Finding {
        let message = format!("rule `{}` matches weights of `{}` but decides none", rule.name, self.inventory.name);
        let finding = Finding::new(&code::NEVER_DECIDES, message).at(rule.pattern.span, "");
        let path = self.path(first);
        if let Some(why) = self.failed_condition(rule, first) {
            return finding
                .help("correct its conditions, or delete it")
                .note(format!("first of them: `{path}`, where `when` {why}"));
        }
        match winner {
            Some(winner) => finding
                .at(winner.pattern.span, format!("takes `{path}` first"))
                .help(format!("move it before `{}`, narrow that one, or delete it", winner.name)),
            None => finding.help("`flow-fabric explain` says why"),
        }
    }

    fn failed_condition<D>(&self, rule: &Rule<D>, index: usize) -> Option<String> {
        let (when, weight) = (rule.when.as_ref()?, self.inventory.weights.get(index)?);
        let facts = Facts {
            shape: Some(&weight.shape),
            dtype: Some(weight.dtype),
            format: Some(weight.format.name()),
            layers_known: true,
        };
        let layers = when.value.layer.as_ref().map(|_| Layers::of_policy(self.policy, self.inventory));
        let layer = |of: Option<&str>| layers.as_ref().and_then(|layers| layers.of(&weight.path, of));
        match evaluate(&when.value, &facts, layer) {
            Verdict::Fails(why) => Some(why),
            Verdict::Holds | Verdict::Undecided(_) => None,
        }
    }

    /// For each rule the path that it misses by one token, as a sentence.
    fn nearest<D>(&self, rules: &[&Rule<D>]) -> Vec<Option<String>> {
        let asked = rules.iter().take(MOST_RULES).map(|rule| MatcherRule {
            name: &rule.name.value,
            pattern: rule.pattern.value.lowered(),
            excepts: Vec::new(),
            conditional: false,
        });
        let table = Table { name: "unused", mode: Mode::All, rules: asked.collect() };
        let Ok(graph) = MatcherGraph::new(&[table], &self.policy.separators) else { return Vec::new() };
        let Some(table) = graph.tables().next().filter(|_| !rules.is_empty()) else { return Vec::new() };
        let mut best: Vec<Option<(NearMiss, &str)>> = vec![None; rules.len()];
        for path in self.shapes() {
            for miss in graph.explain(table, path).near_misses {
                let close = miss.steps > 1 && miss.missing() == 1 && miss.found.is_some();
                let Some(slot) = best.get_mut(miss.rule.index()).filter(|slot| close && slot.is_none()) else {
                    continue;
                };
                *slot = Some((miss, path));
            }
        }
        let say = |(miss, path): (NearMiss, &str)| {
            // The lowered form spells "any character" so that it holds in every mode; people write `.`.
            let wanted = miss.wanted.first()?.to_string().replace("(?s:.*)", ".*").replace("(?s:.)", ".");
            Some(format!("nearest is `{path}`, with `{}` where the pattern has `{wanted}`", miss.found?))
        };
        best.into_iter().map(|near| near.and_then(say)).collect()
    }

    /// The first path of each shape, numbers aside.
    fn shapes(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let mut shapes = Vec::new();
        for weight in &self.inventory.weights {
            let shape: String = weight.path.chars().filter(|c| !c.is_ascii_digit()).collect();
            if shapes.len() < MOST_SHAPES && seen.insert(shape) {
                shapes.push(weight.path.as_str());
            }
        }
        shapes
    }
}
