//! Findings of specs that do not go with shapes or with the mesh: one per rule and cause, however many weights it meets.

use std::collections::{BTreeMap, BTreeSet};

use super::class::Class;
use super::fit::{Group, Report};
use super::shard::Misfit;
use crate::finding::{Finding, code, suggest};
use crate::mesh::near_divisors;
use crate::policy::{Rule, Sharding};
use crate::source::Span;

/// Sizes that one finding lists.
const MOST_SIZES: usize = 6;

/// What an axis does not divide: the sizes, each for some weights.
type Sizes = (Group, BTreeSet<u64>);

impl Report<'_> {
    /// Specs, units, groups and blocks that do not go with shapes.
    pub(super) fn misfits(&self, findings: &mut Vec<Finding>) {
        if self.mesh.axes().is_empty() {
            findings.extend(self.no_mesh());
        }
        self.own_misfits(findings);
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

    /// Misfits of the weights themselves; what one axis does not divide is one finding for all sizes.
    fn own_misfits(&self, findings: &mut Vec<Finding>) {
        let mut indivisible: BTreeMap<(usize, usize, usize, u64), Sizes> = BTreeMap::new();
        for ((rule, misfit), group) in self.grouped(|class| keyed(class, &class.cuts.misfits)) {
            let Some(written) = self.policy.partition_rules.get(rule) else { continue };
            match misfit {
                Misfit::Indivisible { entry, dimension, size, parts } => {
                    let first = (Group { weights: 0, ..group }, BTreeSet::new());
                    let (all, sizes) = indivisible.entry((rule, entry, dimension, parts)).or_insert(first);
                    all.weights += group.weights;
                    all.first = all.first.min(group.first);
                    sizes.insert(size);
                }
                // Said once, of all rules.
                Misfit::UnknownAxis { .. } if self.mesh.axes().is_empty() => {}
                other => findings.push(self.misfit(written, &other, group)),
            }
        }
        for ((rule, entry, dimension, parts), (group, sizes)) in indivisible {
            let Some(rule) = self.policy.partition_rules.get(rule) else { continue };
            findings.push(self.indivisible(rule, entry, dimension, parts, (group, sizes)));
        }
    }

    /// Specs name axes, and there are none.
    fn no_mesh(&self) -> Option<Finding> {
        let mut names: Vec<&str> = Vec::new();
        let mut first: Option<Span> = None;
        let unknown = self.grouped(|class| keyed(class, &class.cuts.misfits));
        for (rule, misfit) in unknown.keys() {
            let (Misfit::UnknownAxis { entry, axis }, Some(rule)) = (misfit, self.policy.partition_rules.get(*rule))
            else {
                continue;
            };
            first = first.or_else(|| rule.decision.spec.get(*entry).map(|dimension| dimension.span));
            if !names.contains(&axis.as_str()) {
                names.push(axis);
            }
        }
        let first = first?;
        let sizes: Vec<String> = names.iter().map(|name| format!("{name}=..")).collect();
        Some(
            Finding::new(&code::UNKNOWN_AXIS, format!("specs name {}, and no mesh is declared", suggest::list(names)))
                .at(first, "")
                .help(format!("add `[mesh]` with `axes` and `shape`, or pass `--mesh {}`", sizes.join(","))),
        )
    }

    fn indivisible(&self, rule: &Rule<Sharding>, entry: usize, dimension: usize, parts: u64, sizes: Sizes) -> Finding {
        let (group, sizes) = sizes;
        let common = sizes.iter().copied().fold(0, gcd);
        let near = match near_divisors(common, parts).as_slice() {
            [] => String::new(),
            near if sizes.len() == 1 => format!("sizes near {parts} that divide {common}: {}; or ", list(near)),
            near => format!("sizes near {parts} that divide all of them: {}; or ", list(near)),
        };
        let mut listed: Vec<String> = sizes.iter().take(MOST_SIZES).map(ToString::to_string).collect();
        if sizes.len() > MOST_SIZES {
            listed.push(format!("{} more sizes", sizes.len() - MOST_SIZES));
        }
        let finding = Finding::new(
            &code::INDIVISIBLE,
            format!(
                "`{}` of rule `{}` cannot split dimension {dimension} of {}: {parts} does not divide {}",
                axes_of(rule, entry),
                rule.name,
                self.of(group),
                and(&listed)
            ),
        )
        .at(span_of(rule, entry), "");
        let finding = self.axis_sizes(finding, rule, entry);
        let help = format!("{near}declare `indivisible = \"pad\"`, `\"uneven\"` or `\"replicate\"` in `[partition]`");
        self.first_note(finding.help(help), group)
    }

    fn misfit(&self, rule: &Rule<Sharding>, misfit: &Misfit, group: Group) -> Finding {
        let decision = &rule.decision;
        let finding = match misfit {
            Misfit::SpecTooLong { entries, rank } => {
                let written = decision.spec.len();
                let dimensions = crate::units::counted(*rank, "dimension");
                let of = if group.weights == 1 { "has" } else { "have" };
                let stacked = if *entries > written { " behind the stack's" } else { "" };
                let message = format!(
                    "the spec of rule `{}` has {}{stacked}, but {} {of} {dimensions}",
                    rule.name,
                    if written == 1 { "1 entry".to_owned() } else { format!("{written} entries") },
                    self.of(group)
                );
                let finding = Finding::new(&code::SPEC_TOO_LONG, message)
                    .at(decision.span, "")
                    .help(format!("drop entries, or add `when = {{ rank = {entries} }}` and a rule for the others"));
                match entries - written {
                    0 => finding,
                    _ => finding.note(
                        "`stack_token` stands in their paths: the first dimension is the stack's and takes no entry",
                    ),
                }
            }
            Misfit::UnknownAxis { entry, axis } => {
                let span = decision.spec.get(*entry).map_or(decision.span, |dimension| {
                    let at = dimension.entry.axes().iter().position(|name| name == axis);
                    at.and_then(|at| dimension.axis_spans.get(at)).copied().unwrap_or(dimension.span)
                });
                let known: Vec<&str> = self.mesh.axes().iter().map(|(name, _)| name.as_str()).collect();
                let help = suggest::help_for(axis, known.iter().copied(), "the mesh has").unwrap_or_default();
                Finding::new(&code::UNKNOWN_AXIS, format!("unknown mesh axis `{axis}` in rule `{}`", rule.name))
                    .at(span, "")
                    .help(help)
            }
            Misfit::Indivisible { entry, dimension, size, parts } => {
                return self.indivisible(rule, *entry, *dimension, *parts, (group, BTreeSet::from([*size])));
            }
            Misfit::CutUnit { entry, dimension, size, unit, parts } => {
                let axes = axes_of(rule, *entry);
                let finding = if size % unit == 0 {
                    let units = size / unit;
                    Finding::new(
                        &code::CUT_UNIT,
                        format!(
                            "`{axes}` of rule `{}` would cut units of {unit}: dimension {dimension} of {} has {units} of them for {parts} devices",
                            rule.name,
                            self.of(group)
                        ),
                    )
                    .help(unit_help(misfit, units, *parts))
                } else {
                    Finding::new(
                        &code::CUT_UNIT,
                        format!(
                            "`{axes}` of rule `{}` has units of {unit}, but dimension {dimension} of {} is {size}, no multiple of it",
                            rule.name,
                            self.of(group)
                        ),
                    )
                    .help("check `unit` against the model's head size")
                };
                self.axis_sizes(finding.at(span_of(rule, *entry), ""), rule, *entry)
            }
            Misfit::CutGroup { entry, dimension, chunk, group: length } => Finding::new(
                &code::CUT_GROUP,
                format!(
                    "rule `{}` cuts dimension {dimension} of {} every {chunk} elements, inside groups of {length}",
                    rule.name,
                    self.of(group)
                ),
            )
            .at(span_of(rule, *entry), "")
            .help(self.group_help(*dimension, *chunk, *length, group)),
            Misfit::Flattened => Finding::new(
                &code::CUT_GROUP,
                format!("rule `{}` splits {}, stored in blocks of the flattened tensor", rule.name, self.of(group)),
            )
            .at(decision.span, "")
            .help("such a layout has no dimensions to cut: replicate it, or quantize to another layout"),
        };
        self.first_note(finding, group)
    }

    /// What would keep groups whole: sizes of the axis, or of the group.
    fn group_help(&self, dimension: usize, chunk: u64, length: u64, group: Group) -> String {
        let size = self.inventory.weights.get(group.first).and_then(|weight| weight.shape.get(dimension));
        let whole = size.filter(|size| length > 0 && size.is_multiple_of(length) && chunk > 0);
        let parts = whole.map(|size| near_divisors(size / length, size.div_ceil(chunk))).unwrap_or_default();
        let smaller = 1u64 << chunk.trailing_zeros().min(63);
        let mut ways = Vec::new();
        if !parts.is_empty() {
            ways.push(format!(
                "split it over {} devices",
                parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
            ));
        }
        if smaller >= 16 && smaller < length {
            ways.push(format!("take groups of {smaller}"));
        }
        ways.push("split another dimension".to_owned());
        format!("what shares a scale, a word or a block stays in one shard: {}", ways.join(", or "))
    }

    /// Points at the sizes of the axes of an entry in the policy's mesh.
    fn axis_sizes(&self, mut finding: Finding, rule: &Rule<Sharding>, entry: usize) -> Finding {
        let Some(declared) = self.policy.mesh.as_ref().filter(|declared| declared.mesh == *self.mesh) else {
            return finding;
        };
        for axis in rule.decision.spec.get(entry).map(|dimension| dimension.entry.axes()).unwrap_or_default() {
            let span = declared.mesh.axis(axis).and_then(|axis| declared.size_spans.get(axis.index()));
            if let Some(&span) = span {
                finding = finding.at(span, format!("size of `{axis}`"));
            }
        }
        finding
    }
}

/// What lets units stay whole.
fn unit_help(misfit: &Misfit, units: u64, parts: u64) -> String {
    let near = match misfit.near().as_slice() {
        [] => String::new(),
        near => format!("sizes near {parts} that divide {units} units: {}", list(near)),
    };
    if units == 0 || units >= parts {
        return near;
    }
    let or = if near.is_empty() { "" } else { "; or " };
    if parts.is_multiple_of(units) {
        return format!("{near}{or}say `fewer = \"replicate\"`: {} devices then keep each unit", parts / units);
    }
    format!("{near}{or}say `fewer = \"replicate\"` with a multiple of {units} devices")
}

fn keyed(class: &Class, misfits: &[Misfit]) -> Vec<(usize, Misfit)> {
    let Some(rule) = class.partition else { return Vec::new() };
    misfits.iter().map(|misfit| (rule, misfit.clone())).collect()
}

fn span_of(rule: &Rule<Sharding>, entry: usize) -> Span {
    rule.decision.spec.get(entry).map_or(rule.decision.span, |dimension| dimension.span)
}

fn axes_of(rule: &Rule<Sharding>, entry: usize) -> String {
    rule.decision.spec.get(entry).map_or_else(String::new, |dimension| dimension.entry.to_string())
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn list(numbers: &[u64]) -> String {
    and(&numbers.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// `1`, `1 and 2`, `1, 2 and 3`.
fn and(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}
