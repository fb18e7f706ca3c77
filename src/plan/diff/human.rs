//! Diffs for a terminal, and the sentences that every form has.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::text::{arrow, grown};
use super::{Change, ChangeRecord, Edit, EditHow, EditKind, Group, PlanDiff};
use crate::finding::code;
use crate::finding::render::text::one_line;
use crate::inventory;
use crate::plan::record::SlotRecord;
use crate::units::{count, counted};

impl PlanDiff {
    /// The diff for a terminal; its last line is [`PlanDiff::sentence`].
    #[must_use]
    pub fn human(&self) -> String {
        let mut out = format!("{} -> {}, over {}\n\n", self.old.name, self.new.name, self.over());
        let mut shown: BTreeSet<usize> = BTreeSet::new();
        for Group { edits, records } in self.groups() {
            shown.extend(&edits);
            if edits.is_empty() {
                out.push_str("by no edit of the policies\n");
            }
            for edit in edits.iter().filter_map(|&at| self.edits.get(at)) {
                edit.write(&mut out);
            }
            for ChangeRecord { template, weights, text } in &records {
                let _ = writeln!(
                    out,
                    "\n  {}  {} x {}",
                    one_line(template),
                    count(weights.len() as u64),
                    one_line(&text.form)
                );
                for line in text.lines() {
                    let _ = writeln!(out, "    {}", one_line(&line));
                }
            }
            out.push('\n');
        }
        self.write_idle(&shown, &mut out);
        for (title, lines) in self.remarks() {
            let _ = writeln!(out, "{title}");
            for line in lines {
                let _ = writeln!(out, "  {}", one_line(&line));
            }
            out.push('\n');
        }
        let _ = writeln!(out, "{}", self.on_devices());
        let _ = writeln!(out, "{}", self.sentence());
        out
    }

    /// Edits that change no weight: profiles and slots say so themselves.
    fn write_idle(&self, shown: &BTreeSet<usize>, out: &mut String) {
        let idle: Vec<&Edit> =
            self.edits.iter().enumerate().filter(|(at, _)| !shown.contains(at)).map(|(_, edit)| edit).collect();
        if idle.is_empty() {
            return;
        }
        out.push_str("no weight is decided otherwise by\n");
        for edit in idle {
            let mut text = String::new();
            edit.write(&mut text);
            for line in text.lines() {
                let _ = writeln!(out, "  {line}");
            }
        }
        out.push('\n');
    }

    /// What there is to know besides weights and edits, each with its title.
    pub(super) fn remarks(&self) -> Vec<(&'static str, Vec<String>)> {
        let unmatched = inventory::collapse(
            self.newly_unmatched.iter().map(|one| (one.path.as_str(), (one.table.clone(), one.before.clone()))),
        );
        let unmatched = unmatched.into_iter().map(|template| {
            let (table, before) = &template.key;
            let before = before.as_ref().map(|rule| format!(", was {rule}")).unwrap_or_default();
            format!("{}  {} x {table}{before}", one_line(&template.to_string()), template.members.len())
        });
        let rules = |rules: &[super::RuleName]| -> Vec<String> {
            rules.iter().map(|rule| format!("{} rule {}", rule.table, rule.name)).collect()
        };
        // Rules without weights have a title of their own, which no level silences.
        let said = [code::UNUSED_RULE.id, code::NEVER_DECIDES.id];
        let findings = |findings: &[crate::finding::FindingRecord]| -> Vec<String> {
            findings
                .iter()
                .filter(|finding| !said.contains(&finding.code.as_str()))
                .map(|finding| format!("{} {}: {}", finding.code, finding.name, one_line(&finding.message)))
                .collect()
        };
        let slots = self.slots.iter().map(|slot| {
            let text = |slot: &Option<SlotRecord>| slot.as_ref().map_or_else(|| "absent".to_owned(), slot_text);
            let (before, after) = (text(&slot.before), text(&slot.after));
            if before == after {
                format!("{}: other weights or profile, {after}", slot.name)
            } else {
                format!("{}: {before} -> {after}", slot.name)
            }
        });
        let remarks = [
            ("without a rule now", unmatched.collect()),
            ("decides nothing now", rules(&self.newly_unused)),
            ("decides something now", rules(&self.newly_used)),
            ("slots", slots.collect()),
            ("finds now", findings(&self.new_findings)),
            ("finds no more", findings(&self.resolved_findings)),
        ];
        remarks.into_iter().filter(|(_, lines): &(_, Vec<String>)| !lines.is_empty()).collect()
    }

    /// The checkpoint and the mesh.
    pub(super) fn over(&self) -> String {
        let mesh = |mesh: &crate::plan::record::MeshRecord| {
            let axes = mesh.axes.iter().zip(&mesh.shape).map(|(axis, size)| format!("{axis}={size}"));
            match axes.collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "one device".to_owned(),
                axes => axes,
            }
        };
        let inventory = arrow(Change { before: self.old.inventory.as_str(), after: &self.new.inventory });
        let (then, now) = (mesh(&self.old.mesh), mesh(&self.new.mesh));
        format!("{} on {}", one_line(&inventory), arrow(Change { before: &then, after: &now }))
    }

    /// Bytes of the fullest device before and after.
    #[must_use]
    pub fn on_devices(&self) -> String {
        let summary = &self.summary;
        let devices = Change { before: self.devices.before.len(), after: self.devices.after.len() };
        let number = if devices.before == devices.after {
            counted(devices.after, "device")
        } else {
            format!("{} -> {} devices", count(devices.before as u64), count(devices.after as u64))
        };
        format!(
            "{number}, the fullest: stored {}, planned {}",
            grown(summary.device_stored_bytes),
            grown(summary.device_planned_bytes)
        )
    }

    /// The counts, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let summary = &self.summary;
        let kinds = [
            (summary.resharded, "resharded"),
            (summary.requantized, "requantized"),
            (summary.reloaded, "loaded otherwise"),
            (summary.other_rule, "decided alike by another rule"),
            (summary.appeared, "new"),
            (summary.disappeared, "gone"),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{} {what}", count(*number)))
            .collect();
        let all = count(summary.weights.after.max(summary.weights.before));
        let mut sentence = match summary.changed {
            0 => format!("none of {all} weights changes"),
            1 => format!("1 of {all} weights changes: {}", kinds.join(", ")),
            changed => format!("{} of {all} weights change: {}", count(changed), kinds.join(", ")),
        };
        let change = |change: Change<u64>| arrow(Change { before: &count(change.before), after: &count(change.after) });
        let _ = write!(sentence, "; without a partition rule {}", change(summary.unmatched_partition));
        let _ = write!(sentence, ", rules that decide nothing {}", change(summary.unused_rules));
        sentence
    }
}

fn slot_text(slot: &SlotRecord) -> String {
    let mut text = counted(slot.tensors.len(), "weight");
    for (kind, name) in slot
        .sampler
        .iter()
        .map(|sampler| ("sampler", &sampler.name))
        .chain(slot.moe.iter().map(|moe| ("moe", &moe.name)))
    {
        let _ = write!(text, ", {kind} {name}");
    }
    text
}

impl Edit {
    /// What is edited, where: `partition rule moe-down  policies/grok-1.toml:158`, `scheme int8`, `[partition]`.
    pub(super) fn title(&self) -> String {
        let mut title = match (self.kind, &self.table) {
            (EditKind::Rule, table) => format!("{} rule {}", table.as_deref().unwrap_or_default(), self.name),
            (EditKind::Setting, _) => format!("[{}]", self.name),
            (EditKind::Mesh, _) => "mesh".to_owned(),
            (EditKind::Scheme, _) => format!("scheme {}", self.name),
            (EditKind::Sampler, _) => format!("sampler {}", self.name),
            (EditKind::Moe, _) => format!("moe {}", self.name),
            (EditKind::Slot, _) => format!("slot {}", self.name),
            (EditKind::Stored, _) => format!("stored {}", self.name),
        };
        match self.how {
            EditHow::Added => title.push_str(" added"),
            EditHow::Removed => title.push_str(" removed"),
            EditHow::Changed | EditHow::Renamed | EditHow::Moved => {}
        }
        if let Some(was) = &self.was {
            let _ = write!(title, ", was {was}");
        }
        if self.moved {
            match &self.before {
                Some(next) => {
                    let _ = write!(title, ", moved before {next}");
                }
                None => title.push_str(", moved to the end"),
            }
        }
        title
    }

    /// The place where it is written.
    fn place(&self) -> Option<String> {
        let (file, line) = (self.file.as_ref()?, self.line?);
        Some(format!("{}:{line}", one_line(file)))
    }

    /// `spec = ["data"] -> []` and the like.
    pub(super) fn key_lines(&self) -> impl Iterator<Item = String> + '_ {
        self.keys.iter().map(|key| {
            let name = if key.key.is_empty() { self.name.as_str() } else { key.key.as_str() };
            match (&key.before, &key.after) {
                (Some(before), Some(after)) => format!("{name} = {before} -> {after}"),
                (None, Some(after)) => format!("+ {name} = {after}"),
                (Some(before), None) => format!("- {name} = {before}"),
                (None, None) => name.to_owned(),
            }
        })
    }

    fn write(&self, out: &mut String) {
        let place = self.place().map(|place| format!("  {place}")).unwrap_or_default();
        let _ = writeln!(out, "{}{place}", one_line(&self.title()));
        for line in self.key_lines() {
            let _ = writeln!(out, "  {}", one_line(&line));
        }
    }
}
