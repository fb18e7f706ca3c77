//! Findings of fit: what of the decisions does not go with the checkpoint or the mesh. One per rule and cause.

use std::collections::{BTreeMap, HashMap};

use super::class::Class;
use super::decide::{Misplaced, Resolved};
use super::shard::Misfit;
use super::totals::Device;
use crate::finding::{Finding, code};
use crate::inventory::{self, Inventory};
use crate::mesh::{Mesh, PartitionSpec};
use crate::policy::{Policy, Rule, Sharding};
use crate::source::{SourceId, Span, Spanned};

pub(super) fn findings(
    policy: &Policy,
    inventory: &Inventory,
    mesh: &Mesh,
    resolved: &Resolved,
    findings: &mut Vec<Finding>,
) {
    if inventory.weights.is_empty() {
        findings.push(Finding::new(&code::EMPTY_CHECKPOINT, format!("`{}` has no weights", inventory.name)).help(
            if inventory.excluded > 0 {
                "`exclude` takes all of its tensors out"
            } else {
                "a plan over nothing proves nothing; check the path"
            },
        ));
        return;
    }
    let report = Report { policy, inventory, mesh, resolved };
    report.misfits(findings);
    report.refusals(findings);
    report.sensitive(findings);
    report.misplaced(findings);
    report.unmatched(findings);
    report.aliases(findings);
    report.unused(findings);
}

/// Devices that hold more than the mesh declares.
pub(super) fn memory(declared: Option<&Spanned<u64>>, devices: &[Device], mesh: &Mesh, findings: &mut Vec<Finding>) {
    let Some(limit) = declared else { return };
    let over: Vec<(usize, &Device)> =
        devices.iter().enumerate().filter(|(_, device)| device.planned_bytes > limit.value).collect();
    let Some((number, worst)) =
        over.iter().max_by_key(|(number, device)| (device.planned_bytes, std::cmp::Reverse(*number)))
    else {
        return;
    };
    let gib = crate::units::bytes;
    let coordinates = mesh.coordinates(*number as u64);
    let at: Vec<String> = mesh.axes().iter().zip(coordinates).map(|((name, _), at)| format!("{name}={at}")).collect();
    let finding = Finding::new(
        &code::DEVICE_MEMORY,
        format!(
            "{} of {} devices need more than {}, up to {} as planned",
            over.len(),
            devices.len(),
            gib(limit.value),
            gib(worst.planned_bytes)
        ),
    )
    .at(limit.span, "")
    .note(format!("fullest: device {number} ({})", at.join(", ")));
    findings.push(if worst.stored_bytes <= limit.value {
        finding.help(format!("as stored it is {}; planned scales or padding add the rest", gib(worst.stored_bytes)))
    } else {
        finding.help("split over more devices, quantize further, or raise `device_memory`; activations and caches need room besides")
    });
}

/// Path templates that one finding lists.
const MOST_TEMPLATES: usize = 8;

struct Report<'a> {
    policy: &'a Policy,
    inventory: &'a Inventory,
    mesh: &'a Mesh,
    resolved: &'a Resolved,
}

/// Weights that share one cause: how many, and the first of them.
#[derive(Debug, Clone, Copy)]
struct Group {
    weights: u64,
    first: usize,
}

impl Report<'_> {
    fn path(&self, index: usize) -> &str {
        self.inventory.weights.get(index).map_or("?", |weight| &weight.path)
    }

    /// ` of 64 weights`, ` of `path``.
    fn of(&self, group: Group) -> String {
        if group.weights == 1 { format!("`{}`", self.path(group.first)) } else { format!("{} weights", group.weights) }
    }

    fn first_note(&self, finding: Finding, group: Group) -> Finding {
        if group.weights == 1 {
            finding
        } else {
            finding.note(format!("first of {}: `{}`", group.weights, self.path(group.first)))
        }
    }

    fn grouped<K: Ord>(&self, keys: impl Fn(&Class) -> Vec<K>) -> BTreeMap<K, Group> {
        let mut groups: BTreeMap<K, Group> = BTreeMap::new();
        for class in &self.resolved.classes {
            for key in keys(class) {
                let group = groups.entry(key).or_insert(Group { weights: 0, first: class.first });
                group.weights += class.weights;
                group.first = group.first.min(class.first);
            }
        }
        groups
    }

    /// Specs, units, groups and blocks that do not go with shapes.
    fn misfits(&self, findings: &mut Vec<Finding>) {
        for ((rule, misfit), group) in self.grouped(|class| keyed(class, &class.cuts.misfits)) {
            if let Some(rule) = self.policy.partition_rules.get(rule) {
                findings.push(self.misfit(rule, &misfit, group));
            }
        }
        for ((rule, misfit), group) in self.grouped(|class| keyed(class, &class.stored_misfits)) {
            if let Some(rule) = self.policy.partition_rules.get(rule) {
                let finding = self.misfit(rule, &misfit, group);
                findings.push(finding.note("this is about the tensors as they are stored"));
            }
        }
        let cut = self.grouped(|class| {
            let quantization = class.quantization.unwrap_or(usize::MAX);
            keyed(class, &class.cut_groups).into_iter().map(|(rule, misfit)| (rule, quantization, misfit)).collect()
        });
        for ((rule, quantization, misfit), group) in cut {
            let (Some(rule), Some(quantizing)) =
                (self.policy.partition_rules.get(rule), self.policy.quantization_rules.get(quantization))
            else {
                continue;
            };
            let finding = self.misfit(rule, &misfit, group);
            findings.push(finding.at(quantizing.decision.scheme.span, "the scheme"));
        }
    }

    fn misfit(&self, rule: &Rule<Sharding>, misfit: &Misfit, group: Group) -> Finding {
        let decision = &rule.decision;
        let span_of = |entry: usize| decision.spec.get(entry).map_or(decision.span, |dimension| dimension.span);
        let axes_of =
            |entry: usize| decision.spec.get(entry).map_or_else(String::new, |dimension| dimension.entry.to_string());
        let finding = match misfit {
            Misfit::SpecTooLong { entries, rank } => Finding::new(
                &code::SPEC_TOO_LONG,
                format!("rule `{}` has a spec of {entries} entries for rank {rank} in {}", rule.name, self.of(group)),
            )
            .at(decision.span, "")
            .help(format!("drop entries, or add `when = {{ rank = {entries} }}` and a rule for the others")),
            Misfit::UnknownAxis { entry, axis } => {
                let span = decision.spec.get(*entry).map_or(decision.span, |dimension| {
                    let at = dimension.entry.axes().iter().position(|name| name == axis);
                    at.and_then(|at| dimension.axis_spans.get(at)).copied().unwrap_or(dimension.span)
                });
                let finding = Finding::new(&code::UNKNOWN_AXIS, format!("unknown mesh axis `{axis}` in rule `{}`", rule.name)).at(span, "");
                if self.mesh.axes().is_empty() {
                    finding.help("no mesh is declared: add `[mesh]`, or pass `--mesh`")
                } else {
                    finding.help(format!("the mesh is {}", self.mesh))
                }
            }
            Misfit::Indivisible { entry, dimension, size, parts } => {
                let near = misfit.near();
                let mut help = match near.as_slice() {
                    [] => String::new(),
                    near => format!("sizes near {parts} that divide {size}: {}; ", list(near)),
                };
                help.push_str("or declare `indivisible = \"pad\"`, `\"uneven\"` or `\"replicate\"` in `[partition]`");
                let finding = Finding::new(
                    &code::INDIVISIBLE,
                    format!("`{}` cannot split dimension {dimension} of {}: {size} is not divisible by {parts}", axes_of(*entry), self.of(group)),
                )
                .at(span_of(*entry), format!("on a dimension of {size}"));
                self.axis_size(finding, decision.spec.get(*entry).map(|dimension| dimension.entry.axes()).unwrap_or_default()).help(help)
            }
            Misfit::CutUnit { entry, dimension, size, unit, parts } => {
                let units = size / unit;
                let finding = if size % unit == 0 {
                    let mut help = match misfit.near().as_slice() {
                        [] => String::new(),
                        near => format!("sizes near {parts} that divide {units} units: {}", list(near)),
                    };
                    if units < *parts {
                        help.push_str("; or say `fewer = \"replicate\"`, which needs a multiple of the units");
                    }
                    Finding::new(
                        &code::CUT_UNIT,
                        format!("`{}` would cut units of {unit} in dimension {dimension} of {}: {units} units over {parts} devices", axes_of(*entry), self.of(group)),
                    )
                    .help(help)
                } else {
                    Finding::new(
                        &code::CUT_UNIT,
                        format!("dimension {dimension} of {} is {size}, no whole number of units of {unit}", self.of(group)),
                    )
                    .help("check `unit` against the model's head size")
                };
                finding.at(span_of(*entry), format!("on a dimension of {size}"))
            }
            Misfit::CutGroup { entry, dimension, chunk, group: length } => Finding::new(
                &code::CUT_GROUP,
                format!("rule `{}` cuts dimension {dimension} of {} at every {chunk}, inside groups of {length}", rule.name, self.of(group)),
            )
            .at(span_of(*entry), format!("{chunk} elements per device"))
            .help("a group shares one scale, word or block and cannot be in two shards: split another dimension, use fewer devices, or smaller groups"),
            Misfit::Flattened => Finding::new(
                &code::CUT_GROUP,
                format!("rule `{}` splits {}, stored in blocks of the flattened tensor", rule.name, self.of(group)),
            )
            .at(decision.span, "")
            .help("such a layout has no dimensions to cut: replicate it, or quantize to another layout"),
        };
        self.first_note(finding, group)
    }

    /// Points at the sizes of the axes in the policy's mesh.
    fn axis_size(&self, mut finding: Finding, axes: &[String]) -> Finding {
        let Some(declared) = self.policy.mesh.as_ref().filter(|declared| declared.mesh == *self.mesh) else {
            return finding;
        };
        for axis in axes {
            let span = declared.mesh.axis(axis).and_then(|axis| declared.size_spans.get(axis.index()));
            if let Some(&span) = span {
                finding = finding.at(span, format!("size of `{axis}`"));
            }
        }
        finding
    }

    /// Schemes that cannot hold what they are to quantize.
    fn refusals(&self, findings: &mut Vec<Finding>) {
        let refused = self.grouped(|class| {
            let key = class.refusal.as_ref().zip(class.quantization);
            key.map(|(refusal, rule)| (rule, refusal.reason.clone(), refusal.fits.clone())).into_iter().collect()
        });
        for ((rule, reason, fits), group) in refused {
            let Some(rule) = self.policy.quantization_rules.get(rule) else { continue };
            let finding = Finding::new(
                &code::SCHEME_DOES_NOT_FIT,
                format!("rule `{}` cannot quantize {}: {reason}", rule.name, self.of(group)),
            )
            .at(rule.decision.scheme.span, "");
            let finding = match fits {
                Some(fits) => finding.help(format!("what fits: {fits}")),
                None => finding,
            };
            findings.push(self.first_note(finding, group));
        }
    }

    fn sensitive(&self, findings: &mut Vec<Finding>) {
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        for (&class, &(first, weights)) in &self.resolved.sensitive {
            let Some(rule) = self.resolved.classes.get(class).and_then(|class| class.quantization) else { continue };
            let group = groups.entry(rule).or_insert(Group { weights: 0, first });
            group.weights += weights;
            group.first = group.first.min(first);
        }
        for (rule, group) in groups {
            let Some(rule) = self.policy.quantization_rules.get(rule) else { continue };
            let finding = Finding::new(
                &code::SENSITIVE_WEIGHT,
                format!("rule `{}` quantizes {}, sensitive by name or rank", rule.name, self.of(group)),
            )
            .at(rule.decision.scheme.span, "")
            .help("routers, norms, embeddings, heads and vectors lose more than they save: put a rule with `scheme = \"keep\"` before it, or say `force = true`");
            findings.push(self.first_note(finding, group));
        }
    }

    fn misplaced(&self, findings: &mut Vec<Finding>) {
        let mut groups: BTreeMap<(usize, Option<u64>), Group> = BTreeMap::new();
        for &(index, misplaced) in &self.resolved.misplaced {
            let class =
                self.resolved.decisions.get(index).and_then(|decision| self.resolved.classes.get(decision.class));
            let Some(rule) = class.and_then(|class| class.partition) else { continue };
            let beyond = match misplaced {
                Misplaced::NoNumber => None,
                Misplaced::Beyond(number) => Some(number),
            };
            groups.entry((rule, beyond)).or_insert(Group { weights: 0, first: index }).weights += 1;
        }
        for ((rule, beyond), group) in groups {
            let Some(place) =
                self.policy.partition_rules.get(rule).and_then(|rule| Some((rule, rule.decision.place.as_ref()?)))
            else {
                continue;
            };
            let (rule, place) = place;
            let finding = match beyond {
                Some(number) => Finding::new(
                    &code::MISPLACED,
                    format!(
                        "rule `{}` finds number {number} in {}, but there are {}",
                        rule.name,
                        self.of(group),
                        place.value.of
                    ),
                )
                .at(place.value.of.span, "numbers run from 0")
                .help("raise `of` to the number of experts of the model"),
                None => Finding::new(
                    &code::MISPLACED,
                    format!("rule `{}` places {}, but finds no number in its path", rule.name, self.of(group)),
                )
                .at(place.value.index.span, "finds nothing")
                .help("narrow the rule's pattern, or the regex"),
            };
            findings.push(self.first_note(finding, group));
        }
    }

    /// Weights without a rule, where the policy says that every one must have one.
    fn unmatched(&self, findings: &mut Vec<Finding>) {
        let collect = |unmatched: fn(&Class) -> bool| {
            let classes: Vec<usize> = self
                .resolved
                .classes
                .iter()
                .enumerate()
                .filter(|(_, class)| unmatched(class))
                .map(|(at, _)| at)
                .collect();
            let indices =
                self.resolved.decisions.iter().enumerate().filter(|(_, decision)| classes.contains(&decision.class));
            indices.map(|(index, _)| index).collect::<Vec<_>>()
        };
        if !self.policy.partition.unmatched_replicate {
            let weights = collect(|class| class.partition.is_none());
            let none = self.policy.partition_rules.is_empty();
            self.unmatched_in(
                "partition",
                &weights,
                none,
                "add a rule for it, or declare `unmatched = \"replicate\"` in `[partition]`",
                findings,
            );
        }
        if self.policy.quantization.unmatched_error {
            let weights = collect(|class| class.quantization.is_none());
            let none = self.policy.quantization_rules.is_empty();
            self.unmatched_in(
                "quantization",
                &weights,
                none,
                "add a rule for it (`scheme = \"keep\"` leaves it alone)",
                findings,
            );
        }
    }

    fn unmatched_in(&self, table: &str, weights: &[usize], none: bool, help: &str, findings: &mut Vec<Finding>) {
        let paths: Vec<&str> = weights.iter().map(|&index| self.path(index)).collect();
        if paths.is_empty() {
            return;
        }
        let message = match paths.as_slice() {
            [one] => format!("no {table} rule matches `{one}`"),
            many => format!("no {table} rule matches {} of {} weights", many.len(), self.inventory.weights.len()),
        };
        let mut finding =
            Finding::new(&code::UNMATCHED_WEIGHT, message).help(if none { "the table has no rules" } else { help });
        if let (Some(span), false) = (self.table_span(table), none) {
            finding = finding.at(span, "the table");
        }
        if paths.len() > 1 {
            let templates = inventory::collapse(paths.iter().map(|&path| (path, ())));
            for template in templates.iter().take(MOST_TEMPLATES) {
                finding = finding.note(format!("`{template}`"));
            }
            if templates.len() > MOST_TEMPLATES {
                finding = finding.note(format!("and {} more templates like these", templates.len() - MOST_TEMPLATES));
            }
        }
        findings.push(finding);
    }

    fn table_span(&self, table: &str) -> Option<Span> {
        if table == "partition" {
            self.policy.partition_rules.first().map(|rule| rule.name.span)
        } else {
            self.policy.quantization_rules.first().map(|rule| rule.name.span)
        }
    }

    /// Names of one storage must be decided alike: it is written once.
    fn aliases(&self, findings: &mut Vec<Finding>) {
        if self.inventory.weights.iter().all(|weight| weight.alias_of.is_none()) {
            return;
        }
        let by_path: HashMap<&str, usize> =
            self.inventory.weights.iter().enumerate().map(|(index, weight)| (weight.path.as_str(), index)).collect();
        for (index, weight) in self.inventory.weights.iter().enumerate() {
            let Some(target) = weight.alias_of.as_deref().and_then(|path| by_path.get(path)) else { continue };
            let (Some(own), Some(other)) = (self.decided(index), self.decided(*target)) else { continue };
            let differs = [(own.0 != other.0, "shard"), (own.1 != other.1, "quant"), (own.2 != other.2, "load")];
            let differs: Vec<&str> = differs.iter().filter(|(differs, _)| *differs).map(|(_, what)| *what).collect();
            if differs.is_empty() {
                continue;
            }
            let mut finding = Finding::new(
                &code::ALIAS_DISAGREES,
                format!(
                    "`{}` and `{}` share storage but not their {} decision",
                    self.path(*target),
                    weight.path,
                    differs.join(" and ")
                ),
            );
            for at in [*target, index] {
                let class =
                    self.resolved.decisions.get(at).and_then(|decision| self.resolved.classes.get(decision.class));
                let span = class.and_then(|class| match differs.first() {
                    Some(&"shard") => class
                        .partition
                        .and_then(|rule| self.policy.partition_rules.get(rule))
                        .map(|rule| rule.name.span),
                    _ => class
                        .quantization
                        .and_then(|rule| self.policy.quantization_rules.get(rule))
                        .map(|rule| rule.name.span),
                });
                if let Some(span) = span {
                    finding = finding.at(span, format!("decides `{}`", self.path(at)));
                }
            }
            findings.push(finding.help("write one rule for both names, or untie them in the checkpoint"));
        }
    }

    fn decided(&self, index: usize) -> Option<(Option<&PartitionSpec>, Option<&str>, super::LoadPlan)> {
        let decision = self.resolved.decisions.get(index)?;
        let class = self.resolved.classes.get(decision.class)?;
        Some((class.spec.as_ref(), class.scheme.as_deref(), decision.load))
    }

    /// Rules of the root file that match nothing, or never decide.
    fn unused(&self, findings: &mut Vec<Finding>) {
        let (won, lost) = (&self.resolved.won, &self.resolved.lost);
        self.unused_in(&self.policy.partition_rules, &won.partition, &lost.partition, findings);
        self.unused_in(&self.policy.quantization_rules, &won.quantization, &lost.quantization, findings);
        self.unused_in(&self.policy.loader_rules, &won.loader, &lost.loader, findings);
    }

    fn unused_in<D>(&self, rules: &[Rule<D>], won: &[u64], lost: &[bool], findings: &mut Vec<Finding>) {
        for ((rule, won), matches) in rules.iter().zip(won).zip(lost) {
            if *won > 0 || rule.name.span.source != SourceId::ROOT {
                continue;
            }
            findings.push(if *matches {
                Finding::new(
                    &code::NEVER_DECIDES,
                    format!("rule `{}` matches weights of `{}` but decides none", rule.name, self.inventory.name),
                )
                .at(rule.name.span, "")
                .help("earlier rules take them, or its conditions fail: `flow-fabric explain` says which")
            } else {
                Finding::new(&code::UNUSED_RULE, format!("rule `{}` matches no weight of `{}`", rule.name, self.inventory.name))
                    .at(rule.name.span, "")
                    .help("fine if it is for another checkpoint: then say so in `[lints]` with a reason; else correct its pattern")
            });
        }
    }
}

fn keyed(class: &Class, misfits: &[Misfit]) -> Vec<(usize, Misfit)> {
    let Some(rule) = class.partition else { return Vec::new() };
    misfits.iter().map(|misfit| (rule, misfit.clone())).collect()
}

fn list(numbers: &[u64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
