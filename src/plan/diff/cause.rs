//! Which edit makes a weight's change: from the rule that decided before and the one that decides now.

use std::collections::{BTreeSet, HashMap};

use super::{Edit, EditKind};
use crate::plan::record::{PlanRecord, TensorRecord};
use crate::policy::tables;

/// Keys of a rule that say which weights it is for; the others say what it decides.
const SELECTING: &[&str] = &["tokens", "glob", "regex", "path", "except", "when"];
/// Keys of a rule or scheme that gate a run and leave the plan as it is.
const GATING: &[&str] = &["limits"];

/// The edits, by what they are of.
pub(super) struct Causes<'a> {
    edits: &'a [Edit],
    /// Rules of both plans by table and name; a renamed one under its new name.
    rules: HashMap<(&'a str, &'a str), RuleFacts>,
    /// New names of renamed rules by table and old name.
    renamed: HashMap<(&'a str, &'a str), &'a str>,
}

/// What is known of a rule in both plans.
#[derive(Debug, Clone, Copy, Default)]
struct RuleFacts {
    edit: Option<usize>,
    /// Position among the old rules.
    then: Option<usize>,
    /// Position among the new ones.
    now: Option<usize>,
}

impl<'a> Causes<'a> {
    pub(super) fn new(old: &'a PlanRecord, new: &'a PlanRecord, edits: &'a [Edit]) -> Self {
        let mut renamed = HashMap::new();
        let mut rules: HashMap<(&str, &str), RuleFacts> = HashMap::new();
        for (at, edit) in edits.iter().enumerate() {
            let Some(table) = edit.table.as_deref() else { continue };
            rules.entry((table, &edit.name)).or_default().edit = Some(at);
            if let Some(was) = &edit.was {
                renamed.insert((table, was.as_str()), edit.name.as_str());
            }
        }
        for (at, rule) in old.rules.iter().enumerate() {
            let (table, name) = super::key(rule);
            let name = renamed.get(&(table, name)).copied().unwrap_or(name);
            rules.entry((table, name)).or_default().then = Some(at);
        }
        for (at, rule) in new.rules.iter().enumerate() {
            rules.entry(super::key(rule)).or_default().now = Some(at);
        }
        Self { edits, rules, renamed }
    }

    /// Whether a scheme that both plans have codes otherwise.
    pub(super) fn scheme_is_edited(&self, name: &str) -> bool {
        let edit = self.named(EditKind::Scheme, name).and_then(|at| self.edits.get(at));
        edit.is_some_and(|edit| edit.keys.iter().any(|key| !GATING.contains(&key.key.as_str())))
    }

    /// Why weights appear, disappear or consist of other tensors.
    pub(super) fn of_form(&self) -> BTreeSet<usize> {
        let layouts = (0..).zip(self.edits).filter(|(_, edit)| edit.kind == EditKind::Stored).map(|(at, _)| at);
        self.settings(&["loader", "tie"]).into_iter().chain(layouts).collect()
    }

    pub(super) fn of_shard(&self, before: &TensorRecord, after: &TensorRecord) -> BTreeSet<usize> {
        let by_rule = self.by_rule(tables::PARTITION, before.shard.rule.as_deref(), after.shard.rule.as_deref());
        first_of([by_rule, self.mesh(), self.settings(&["partition", "separators", "layers"])])
    }

    /// A scheme's scales may follow the cut, so that what changes the one changes the other.
    pub(super) fn of_quant(
        &self,
        before: &TensorRecord,
        after: &TensorRecord,
        shard_cause: &BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        let by_rule = self.by_rule(tables::QUANTIZATION, before.quant.rule.as_deref(), after.quant.rule.as_deref());
        let schemes = [&before.quant.scheme, &after.quant.scheme];
        let by_scheme = schemes.iter().filter_map(|name| self.named(EditKind::Scheme, name));
        // Names, companions and scale rule are the layout's, so it has a part in whatever a scheme does.
        let by_layout = self.settings(&["quantization"]).into_iter().filter(|&at| {
            self.edits.get(at).is_some_and(|edit| any_key(edit, |key| key == "layout" || key == "contract"))
        });
        let by_scheme: BTreeSet<usize> = by_scheme.chain(by_layout).collect();
        let by_setting = self.settings(&["quantization", "separators", "layers"]);
        first_of([by_rule, by_scheme, shard_cause.clone(), by_setting, self.mesh()])
    }

    pub(super) fn of_load(&self, before: &TensorRecord, after: &TensorRecord) -> BTreeSet<usize> {
        let by_rule = self.by_rule(tables::LOADER, before.load.rule.as_deref(), after.load.rule.as_deref());
        first_of([by_rule, self.settings(&["loader", "separators", "layers"])])
    }

    /// The edits of rules that turn a decision of one rule into that of another.
    fn by_rule(&self, table: &str, before: Option<&str>, after: Option<&str>) -> BTreeSet<usize> {
        let before = before.map(|name| self.renamed.get(&(table, name)).copied().unwrap_or(name));
        let facts = |name| self.rules.get(&(table, name)).copied();
        let (loser, winner) = (before.and_then(facts), after.and_then(facts));
        let edits = |rules: [Option<RuleFacts>; 2], matters: &dyn Fn(&Edit) -> bool| {
            let edits = rules.into_iter().flatten().filter_map(|rule| rule.edit);
            edits.filter(|&at| self.edits.get(at).is_some_and(matters)).collect::<BTreeSet<usize>>()
        };
        if before == after {
            return edits([None, winner], &|edit| edit.was.is_some() || any_key(edit, |key| !SELECTING.contains(&key)));
        }
        // A rule that only one of the policies has.
        let added = winner.filter(|rule| rule.then.is_none());
        let removed = loser.filter(|rule| rule.now.is_none());
        if added.is_some() || removed.is_some() {
            return edits([added, removed], &|_| true);
        }
        // Both policies have both: either they changed places, or one of them is for other weights now.
        let flipped =
            loser.zip(winner).is_some_and(|(loser, winner)| (winner.then < loser.then) != (winner.now < loser.now));
        if flipped {
            edits([loser, winner], &|edit| edit.moved)
        } else {
            edits([loser, winner], &|edit| any_key(edit, |key| SELECTING.contains(&key)))
        }
    }

    fn named(&self, kind: EditKind, name: &str) -> Option<usize> {
        self.edits.iter().position(|edit| edit.kind == kind && edit.name == name)
    }

    fn settings(&self, tables: &[&str]) -> BTreeSet<usize> {
        tables.iter().filter_map(|table| self.named(EditKind::Setting, table)).collect()
    }

    fn mesh(&self) -> BTreeSet<usize> {
        self.named(EditKind::Mesh, "mesh").into_iter().collect()
    }
}

fn any_key(edit: &Edit, matters: impl Fn(&str) -> bool) -> bool {
    edit.keys.iter().any(|key| matters(&key.key))
}

/// The first explanation that there is.
fn first_of<const N: usize>(causes: [BTreeSet<usize>; N]) -> BTreeSet<usize> {
    causes.into_iter().find(|cause| !cause.is_empty()).unwrap_or_default()
}
