//! Findings of fit: what of the decisions does not go with the checkpoint or the mesh. One per rule and cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::class::Class;
use super::decide::{Misplaced, Resolved, SensitiveBy};
use super::totals::Device;
use crate::finding::{Finding, code};
use crate::inventory::{self, Inventory};
use crate::mesh::{Mesh, PartitionSpec};
use crate::policy::Policy;
use crate::source::{Span, Spanned};

pub(super) fn findings(
    policy: &Policy,
    inventory: &Inventory,
    mesh: &Mesh,
    resolved: &Resolved,
    findings: &mut Vec<Finding>,
) {
    if inventory.weights.is_empty() {
        findings.push(empty(policy, inventory));
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

fn empty(policy: &Policy, inventory: &Inventory) -> Finding {
    if inventory.excluded == 0 {
        return Finding::new(&code::EMPTY_CHECKPOINT, format!("`{}` has no weights", inventory.name))
            .help("a plan over nothing proves nothing; check the path");
    }
    let tensors = match inventory.excluded {
        1 => "the one tensor".to_owned(),
        many => format!("all {} tensors", crate::units::count(many as u64)),
    };
    let message = format!("`exclude` takes out {tensors} of `{}`", inventory.name);
    let mut finding = Finding::new(&code::EMPTY_CHECKPOINT, message);
    for pattern in &policy.loader.exclude {
        finding = finding.at(pattern.span, "");
    }
    finding.help("a plan over nothing proves nothing; narrow the patterns")
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
            "{} of {} {} more than {}, up to {} as planned",
            over.len(),
            crate::units::counted(devices.len(), "device"),
            if over.len() == 1 { "needs" } else { "need" },
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

pub(super) struct Report<'a> {
    pub(super) policy: &'a Policy,
    pub(super) inventory: &'a Inventory,
    pub(super) mesh: &'a Mesh,
    pub(super) resolved: &'a Resolved,
}

/// Weights that share one cause: how many, and the first of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) weights: u64,
    pub(super) first: usize,
}

impl Report<'_> {
    pub(super) fn path(&self, index: usize) -> &str {
        self.inventory.weights.get(index).map_or("?", |weight| &weight.path)
    }

    /// ` of 64 weights`, ` of `path``.
    pub(super) fn of(&self, group: Group) -> String {
        if group.weights == 1 { format!("`{}`", self.path(group.first)) } else { format!("{} weights", group.weights) }
    }

    pub(super) fn first_note(&self, finding: Finding, group: Group) -> Finding {
        if group.weights == 1 {
            finding
        } else {
            finding.note(format!("first of {}: `{}`", group.weights, self.path(group.first)))
        }
    }

    pub(super) fn grouped<K: Ord>(&self, keys: impl Fn(&Class) -> Vec<K>) -> BTreeMap<K, Group> {
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

    /// Schemes that cannot hold what they are to quantize.
    fn refusals(&self, findings: &mut Vec<Finding>) {
        let refused = self.grouped(|class| {
            let key = class.refusal.as_ref().zip(class.quantization);
            key.map(|(refusal, rule)| (rule, refusal.reason.clone(), refusal.fits.clone())).into_iter().collect()
        });
        for ((rule_index, reason, fits), group) in refused {
            let Some(rule) = self.policy.quantization_rules.get(rule_index) else { continue };
            let finding = Finding::new(
                &code::SCHEME_DOES_NOT_FIT,
                format!("rule `{}` cannot quantize {}: {reason}", rule.name, self.of(group)),
            )
            .at(rule.decision.scheme.span, "");
            let finding = match fits {
                Some(fits) => finding.help(format!("what fits: {fits}")),
                None => finding,
            };
            findings.push(self.refused_note(finding, (rule_index, &reason), group));
        }
    }

    /// Every weight that a scheme cannot hold for one reason, as templates with their shapes.
    fn refused_note(&self, mut finding: Finding, (rule, reason): (usize, &str), group: Group) -> Finding {
        if group.weights == 1 {
            return match self.inventory.weights.get(group.first) {
                Some(weight) => finding.note(format!("its shape is {:?}", weight.shape)),
                None => finding,
            };
        }
        let refused = |class: &Class| {
            class.quantization == Some(rule) && class.refusal.as_ref().is_some_and(|refusal| refusal.reason == *reason)
        };
        let classes: Vec<bool> = self.resolved.classes.iter().map(refused).collect();
        let weights = self.inventory.weights.iter().zip(&self.resolved.decisions);
        let refused = weights.filter(|(_, decision)| classes.get(decision.class) == Some(&true));
        let templates = inventory::collapse(refused.map(|(weight, _)| (weight.path.as_str(), &weight.shape)));
        for template in templates.iter().take(MOST_TEMPLATES) {
            finding = finding.note(format!("`{template}` {:?}", template.key));
        }
        if templates.len() > MOST_TEMPLATES {
            finding = finding.note(format!("and {} more templates like these", templates.len() - MOST_TEMPLATES));
        }
        finding
    }

    fn sensitive(&self, findings: &mut Vec<Finding>) {
        let mut groups: BTreeMap<usize, (Group, BTreeSet<SensitiveBy>)> = BTreeMap::new();
        for (&(class, by), &(first, weights)) in &self.resolved.sensitive {
            let Some(rule) = self.resolved.classes.get(class).and_then(|class| class.quantization) else { continue };
            let (group, reasons) = groups.entry(rule).or_insert((Group { weights: 0, first }, BTreeSet::new()));
            group.weights += weights;
            group.first = group.first.min(first);
            reasons.insert(by);
        }
        for (rule, (group, reasons)) in groups {
            let Some(rule) = self.policy.quantization_rules.get(rule) else { continue };
            let reasons: Vec<&str> = reasons
                .iter()
                .map(|by| match by {
                    SensitiveBy::Name => "name",
                    SensitiveBy::Rank => "rank",
                })
                .collect();
            let finding = Finding::new(
                &code::SENSITIVE_WEIGHT,
                format!("rule `{}` quantizes {}, sensitive by {}", rule.name, self.of(group), reasons.join(" or ")),
            )
            .at(rule.decision.scheme.span, "")
            .help("routers, norms, embeddings, heads and vectors lose more than they save: put a rule with `scheme = \"keep\"` before it, or say `force = true`");
            findings.push(self.first_note(finding, group));
        }
    }

    fn misplaced(&self, findings: &mut Vec<Finding>) {
        // One finding for all numbers beyond `of`: the largest says what it should be.
        let mut groups: BTreeMap<(usize, bool), (Group, u64)> = BTreeMap::new();
        for &(index, misplaced) in &self.resolved.misplaced {
            let class =
                self.resolved.decisions.get(index).and_then(|decision| self.resolved.classes.get(decision.class));
            let Some(rule) = class.and_then(|class| class.partition) else { continue };
            let number = match misplaced {
                Misplaced::NoNumber => None,
                Misplaced::Beyond(number) => Some(number),
            };
            let first = (Group { weights: 0, first: index }, 0);
            let (group, largest) = groups.entry((rule, number.is_some())).or_insert(first);
            group.weights += 1;
            *largest = number.unwrap_or(0).max(*largest);
        }
        for ((rule, beyond), (group, largest)) in groups {
            let Some(rule) = self.policy.partition_rules.get(rule) else { continue };
            let Some(place) = &rule.decision.place else { continue };
            let finding = if beyond {
                Finding::new(
                    &code::MISPLACED,
                    format!(
                        "rule `{}` finds numbers up to {largest}, but `of` is {}: {} would be on no device",
                        rule.name,
                        place.value.of,
                        self.of(group)
                    ),
                )
                .at(place.value.of.span, "numbers run from 0")
                .help(format!("raise `of` to {}, or to what the model has", largest.saturating_add(1)))
            } else {
                Finding::new(
                    &code::MISPLACED,
                    format!("rule `{}` places {}, but finds no number in the path", rule.name, self.of(group)),
                )
                .at(place.value.index.span, "finds nothing")
                .help("narrow the rule's pattern, or correct `index`")
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
                "add rules for them, or declare `unmatched = \"replicate\"` in `[partition]`",
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
                "add rules for them; `scheme = \"keep\"` leaves a weight alone",
                findings,
            );
        }
    }

    fn unmatched_in(&self, table: &str, weights: &[usize], none: bool, help: &str, findings: &mut Vec<Finding>) {
        let paths: Vec<&str> = weights.iter().map(|&index| self.path(index)).collect();
        if paths.is_empty() {
            return;
        }
        if none {
            let weights = crate::units::counted(paths.len(), "weight");
            let message = format!("the policy has no {table} rules, and {weights} to decide");
            findings.push(Finding::new(&code::UNMATCHED_WEIGHT, message).at(self.policy.name.span, "").help(help));
            return;
        }
        let message = match paths.as_slice() {
            [one] => format!("no {table} rule matches `{one}`"),
            many => format!("no {table} rule matches {} of {} weights", many.len(), self.inventory.weights.len()),
        };
        let mut finding = Finding::new(&code::UNMATCHED_WEIGHT, message).help(help);
        if let Some(span) = self.table_span(table) {
            finding = finding.at(span, "the table begins here");
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
            let spec = |spec: Option<&PartitionSpec>| spec.map_or_else(|| "no rule".to_owned(), ToString::to_string);
            let (what, decisions) = if own.0 != other.0 {
                ("shard", format!("{} and {}", spec(other.0), spec(own.0)))
            } else if own.1 != other.1 {
                ("quant", format!("`{}` and `{}`", other.1.unwrap_or("keep"), own.1.unwrap_or("keep")))
            } else if own.2 != other.2 {
                ("load", format!("{} and {}", load(other.2), load(own.2)))
            } else {
                continue;
            };
            let mut finding = Finding::new(
                &code::ALIAS_DISAGREES,
                format!(
                    "`{}` and `{}` are one weight, decided in two ways: {decisions}",
                    self.path(*target),
                    weight.path
                ),
            );
            for at in [*target, index] {
                let Some(decision) = self.resolved.decisions.get(at) else { continue };
                let Some(class) = self.resolved.classes.get(decision.class) else { continue };
                let policy = self.policy;
                let span = match what {
                    "shard" => {
                        class.partition.and_then(|rule| policy.partition_rules.get(rule)).map(|rule| rule.name.span)
                    }
                    "quant" => class
                        .quantization
                        .and_then(|rule| policy.quantization_rules.get(rule))
                        .map(|rule| rule.name.span),
                    _ => decision.loader.and_then(|rule| policy.loader_rules.get(rule)).map(|rule| rule.name.span),
                };
                if let Some(span) = span {
                    finding = finding.at(span, format!("decides `{}`", self.path(at)));
                }
            }
            findings.push(finding.help("give both names one rule, or untie them"));
        }
    }

    fn decided(&self, index: usize) -> Option<(Option<&PartitionSpec>, Option<&str>, super::LoadPlan)> {
        let decision = self.resolved.decisions.get(index)?;
        let class = self.resolved.classes.get(decision.class)?;
        Some((class.spec.as_ref(), class.scheme.as_deref(), decision.load))
    }
}

fn load(load: super::LoadPlan) -> String {
    format!("{} via {}, verify {}", load.read, load.stage, load.verify)
}
