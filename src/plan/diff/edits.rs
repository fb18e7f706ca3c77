//! What two policies say differently.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::{Edit, EditHow, EditKind, KeyChange};
use crate::plan::record::{MeshRecord, PlanRecord, RuleRecord};
use crate::policy::tables;
use crate::policy::written::{self, Written};

/// Rules in the order in which they are asked, removed ones last in their table; then what else is edited.
pub(super) fn between(old: &PlanRecord, new: &PlanRecord) -> Vec<Edit> {
    let mut edits = Vec::new();
    for table in [tables::PARTITION, tables::QUANTIZATION, tables::LOADER] {
        let of = |plan: &PlanRecord| -> Vec<RuleRecord> {
            plan.rules.iter().filter(|rule| rule.table == table).cloned().collect()
        };
        rules(of(old), &of(new), &mut edits);
    }
    settings(&old.settings, &new.settings, &mut edits);
    mesh(&old.mesh, &new.mesh, &mut edits);
    edits
}

impl Edit {
    fn new(kind: EditKind, name: &str, how: EditHow, keys: Vec<KeyChange>) -> Self {
        Self {
            kind,
            table: None,
            name: name.to_owned(),
            how,
            was: None,
            moved: false,
            before: None,
            file: None,
            line: None,
            keys,
            weights: 0,
        }
    }

    fn of_rule(rule: &RuleRecord, how: EditHow, keys: Vec<KeyChange>) -> Self {
        Self {
            table: Some(rule.table.clone()),
            file: Some(rule.file.clone()),
            line: Some(rule.line),
            ..Self::new(EditKind::Rule, &rule.name, how, keys)
        }
    }
}

/// The edits of one table.
fn rules(old: Vec<RuleRecord>, new: &[RuleRecord], edits: &mut Vec<Edit>) {
    let renamed = renamed(&old, new);
    // From here on a renamed rule has its new name, so that it has one position in both.
    let old: Vec<(RuleRecord, Option<String>)> = old
        .into_iter()
        .map(|rule| match renamed.get(&rule.name) {
            Some(name) => (RuleRecord { name: name.clone(), ..rule.clone() }, Some(rule.name)),
            None => (rule, None),
        })
        .collect();
    let before: IndexMap<&str, &(RuleRecord, Option<String>)> =
        old.iter().map(|entry| (entry.0.name.as_str(), entry)).collect();
    let moved = moved(&before.keys().copied().collect::<Vec<_>>(), new);
    for (at, rule) in new.iter().enumerate() {
        let Some((was, old_name)) = before.get(rule.name.as_str()) else {
            edits.push(Edit::of_rule(rule, EditHow::Added, keys(&Written::new(), &rule.says)));
            continue;
        };
        let keys = keys(&was.says, &rule.says);
        let moved = moved.contains(rule.name.as_str());
        let how = match (keys.is_empty(), old_name, moved) {
            (false, ..) => EditHow::Changed,
            (true, Some(_), _) => EditHow::Renamed,
            (true, None, true) => EditHow::Moved,
            (true, None, false) => continue,
        };
        let next = new.get(at + 1).filter(|_| moved).map(|next| next.name.clone());
        edits.push(Edit { was: old_name.clone(), moved, before: next, ..Edit::of_rule(rule, how, keys) });
    }
    let after: BTreeSet<&str> = new.iter().map(|rule| rule.name.as_str()).collect();
    for (rule, _) in old.iter().filter(|(rule, _)| !after.contains(rule.name.as_str())) {
        edits.push(Edit::of_rule(rule, EditHow::Removed, keys(&rule.says, &Written::new())));
    }
}

/// Old names to new ones: rules that say the same under a name that the other policy does not have.
fn renamed(old: &[RuleRecord], new: &[RuleRecord]) -> BTreeMap<String, String> {
    let has = |rules: &[RuleRecord], name: &str| rules.iter().any(|rule| rule.name == name);
    let mut added: Vec<&RuleRecord> = new.iter().filter(|rule| !has(old, &rule.name)).collect();
    let mut renamed = BTreeMap::new();
    for rule in old.iter().filter(|rule| !has(new, &rule.name)) {
        if let Some(at) = added.iter().position(|other| other.says == rule.says) {
            renamed.insert(rule.name.clone(), added.remove(at).name.clone());
        }
    }
    renamed
}

/// Rules that both have and that do not keep their order: all but a longest subsequence that does.
fn moved<'a>(old: &[&'a str], new: &[RuleRecord]) -> BTreeSet<&'a str> {
    let place: BTreeMap<&str, usize> = new.iter().enumerate().map(|(at, rule)| (rule.name.as_str(), at)).collect();
    let common: Vec<(&'a str, usize)> = old.iter().filter_map(|name| Some((*name, *place.get(name)?))).collect();
    // Patience sorting: the last of each pile, and for every rule the one before it in its subsequence.
    let mut piles: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(common.len());
    let place_of = |at: usize| common.get(at).map(|(_, place)| *place);
    for (at, (_, place)) in common.iter().enumerate() {
        let pile = piles.partition_point(|&top| place_of(top) < Some(*place));
        previous.push(pile.checked_sub(1).and_then(|below| piles.get(below).copied()));
        match piles.get_mut(pile) {
            Some(top) => *top = at,
            None => piles.push(at),
        }
    }
    let mut moved: BTreeSet<&str> = common.iter().map(|(name, _)| *name).collect();
    let mut at = piles.last().copied();
    while let Some(kept) = at {
        if let Some((name, _)) = common.get(kept) {
            moved.remove(name);
        }
        at = previous.get(kept).copied().flatten();
    }
    moved
}

/// The keys that say something else: those of the new one in its order, then those that it lacks.
fn keys(old: &Written, new: &Written) -> Vec<KeyChange> {
    let now = new.iter().map(|(key, after)| KeyChange {
        key: key.clone(),
        before: old.get(key).cloned(),
        after: Some(after.clone()),
    });
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key)).map(|(key, before)| KeyChange {
        key: key.clone(),
        before: Some(before.clone()),
        after: None,
    });
    now.chain(gone).filter(|key| key.before != key.after).collect()
}

/// Schemes, profiles and slots by name, other settings by their table.
fn settings(old: &Written, new: &Written, edits: &mut Vec<Edit>) {
    let mut changed: IndexMap<(EditKind, String), Vec<KeyChange>> = IndexMap::new();
    for change in keys(old, new) {
        let (kind, name, key) = place(&change.key);
        changed.entry((kind, name)).or_default().push(KeyChange { key, ..change });
    }
    changed.sort_by(|(kind, _), _, (other, _), _| kind.cmp(other));
    let has = |settings: &Written, thing: &(EditKind, String)| {
        settings.keys().any(|key| matches!(place(key), (kind, name, _) if (kind, &name) == (thing.0, &thing.1)))
    };
    for (thing, keys) in changed {
        let how = match (has(old, &thing), has(new, &thing)) {
            (false, _) => EditHow::Added,
            (_, false) => EditHow::Removed,
            _ => EditHow::Changed,
        };
        edits.push(Edit::new(thing.0, &thing.1, how, keys));
    }
}

/// What a setting belongs to, and what it is called there: `scheme.int8.format` is `format` of the scheme `int8`.
fn place(key: &str) -> (EditKind, String, String) {
    match written::cut(key) {
        (table, Some(name), key) => {
            let kind = match table {
                "scheme" => EditKind::Scheme,
                "sampler" => EditKind::Sampler,
                "moe" => EditKind::Moe,
                "slot" => EditKind::Slot,
                _ => EditKind::Stored,
            };
            (kind, name.to_owned(), key.to_owned())
        }
        (table, None, key) => (EditKind::Setting, table.to_owned(), key.to_owned()),
    }
}

fn mesh(old: &MeshRecord, new: &MeshRecord, edits: &mut Vec<Edit>) {
    let text = |mesh: &MeshRecord| {
        let axes: Vec<String> =
            mesh.axes.iter().zip(&mesh.shape).map(|(axis, size)| format!("{axis}={size}")).collect();
        axes.join(", ")
    };
    let change = |key: &str, before: Option<String>, after: Option<String>| {
        (before != after).then(|| KeyChange { key: key.to_owned(), before, after })
    };
    let axes = change("axes", Some(text(old)), Some(text(new)));
    let memory = |mesh: &MeshRecord| mesh.device_memory.map(crate::units::bytes);
    let memory = change("device_memory", memory(old), memory(new));
    let keys: Vec<KeyChange> = axes.into_iter().chain(memory).collect();
    if !keys.is_empty() {
        edits.push(Edit::new(EditKind::Mesh, "mesh", EditHow::Changed, keys));
    }
}
