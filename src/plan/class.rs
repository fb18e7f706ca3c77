//! What weights with the same decisions, shape and storage have in common.

use std::sync::Arc;

use super::Decision;
use super::shard::{ComponentCuts, Cuts, Fallback, Misfit, Stored};
use crate::Dtype;
use crate::inventory::{Role, StoredFormat, Weight};
use crate::mesh::{AxisId, Cut, Mesh, PartitionSpec, SpecEntry};
use crate::policy::{CompanionSpec, Policy};
use crate::quantize::{self, Encoded, Granularity, Layout, Limits, Logical, NameRule, Refusal, RefusalKind, Scheme};

/// Decisions and their consequences, shared by all weights that agree in them.
#[derive(Debug, Clone)]
pub struct Class {
    /// Index of the deciding partition rule.
    pub partition: Option<usize>,
    /// Index of the deciding quantization rule.
    pub quantization: Option<usize>,
    /// The spec, stack dimension included; `None` when no rule matched.
    pub spec: Option<PartitionSpec>,
    /// How the weight's dimensions are cut.
    pub cuts: Cuts,
    /// The axis over which whole weights are distributed.
    pub place_axis: Option<AxisId>,
    /// Cuts and specs of the stored tensors, in the order of the weight's components.
    pub stored: Vec<ComponentCuts>,
    /// The scheme that applies; `None` = kept as stored.
    pub scheme: Option<Arc<str>>,
    /// A rule would quantize it, but its values are not floating-point.
    pub kept_non_float: bool,
    /// The tensors it will be stored as; empty when it is kept.
    pub planned: Vec<PlannedComponent>,
    /// Bytes of the whole weight as planned.
    pub planned_bytes: u64,
    /// Bytes of the whole weight as stored.
    pub stored_bytes: u64,
    /// How it is encoded, with everything that an encoder is bound to; `None` when it is kept.
    pub encoding: Option<Encoding>,
    /// A rule would quantize it, but no group or block divides its rows and the policy keeps such weights.
    pub kept_indivisible: bool,
    /// The scheme cannot hold it.
    pub refusal: Option<Refusal>,
    /// A scale group of the scheme that a shard boundary would cut.
    pub cut_groups: Vec<Misfit>,
    /// A stored tensor that cannot be cut as the spec says.
    pub stored_misfits: Vec<Misfit>,
    /// Weights in the class.
    pub weights: u64,
    /// Index of the first of them.
    pub first: usize,
}

/// What an encoder of a weight is bound to besides its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    /// The scheme.
    pub scheme: Scheme,
    /// Names, companions and scale rule.
    pub layout: Layout,
    /// The contracted dimension of what is encoded at a time.
    pub contracted: usize,
    /// Groups along it for [`Granularity::ShardGroup`].
    pub shard_groups: u64,
    /// Gates: the rule's own over its scheme's.
    pub limits: Limits,
    /// How a stack is cut into matrices that are written one by one; `None` when it is written as it is.
    pub split: Option<Split>,
}

/// A stack `[experts, rows, columns]` as matrices of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Index into [`PolicyBody::experts`](crate::policy::PolicyBody::experts), which names the matrices.
    pub experts: usize,
    /// How many experts there are.
    pub count: u64,
    /// How many parts an expert has, at least one.
    pub parts: u64,
    /// Shape of one matrix.
    pub shape: [u64; 2],
    /// The dimension of an expert along which its parts lie: the one that is not contracted.
    pub along: usize,
    /// The parts take turns index by index.
    pub interleaved: bool,
}

/// A tensor of the planned form of a weight.
#[derive(Debug, Clone)]
pub struct PlannedComponent {
    /// What it is to the weight.
    pub role: Role,
    /// How its name follows from the path.
    pub name: NameRule,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major.
    pub shape: Vec<u64>,
    /// Cuts and spec.
    pub cuts: ComponentCuts,
}

/// What decides which class a weight is in.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) partition: Option<usize>,
    pub(super) quantization: Option<usize>,
    pub(super) stacked: bool,
    /// Index of the entry of `[experts]` that takes it apart.
    pub(super) experts: Option<usize>,
    pub(super) dtype: Dtype,
    pub(super) format: StoredFormat,
    pub(super) shape: Vec<u64>,
    pub(super) components: Vec<(Role, Dtype, Vec<u64>)>,
}

impl Key {
    pub(super) fn new(
        weight: &Weight,
        partition: Option<usize>,
        quantization: Option<usize>,
        stacked: bool,
        experts: Option<usize>,
    ) -> Self {
        let components = weight
            .components
            .iter()
            .map(|component| (component.role.clone(), component.tensor.dtype, component.tensor.shape.clone()))
            .collect();
        Self {
            partition,
            quantization,
            stacked,
            experts,
            dtype: weight.dtype,
            format: weight.format.clone(),
            shape: weight.shape.clone(),
            components,
        }
    }
}

/// The class of a decision. Decisions are only made with classes that exist.
pub(super) fn of<'a>(classes: &'a [Class], decision: &Decision) -> &'a Class {
    #[expect(clippy::indexing_slicing, reason = "`decide` pushes the class before the decision that names it")]
    &classes[decision.class]
}

impl Class {
    /// Works out the consequences of the decisions on one weight, and so on all of its class.
    pub(super) fn new(policy: &Policy, mesh: &Mesh, key: &Key, weight: &Weight, index: usize) -> Self {
        let rule = key.partition.and_then(|at| policy.partition_rules.get(at));
        let (spec, cuts) = match rule {
            Some(rule) => {
                let mut spec = rule.decision.partition_spec();
                if key.stacked {
                    spec.entries.insert(0, SpecEntry::Unsplit);
                }
                let cuts = Cuts::new(&rule.decision, key.stacked, &weight.shape, mesh, policy.partition.indivisible);
                (Some(spec), cuts)
            }
            None => {
                let mut cuts = Cuts::whole(weight.shape.len());
                if policy.partition.unmatched_replicate {
                    cuts.fallbacks.push(Fallback::Unmatched);
                }
                (None, cuts)
            }
        };
        let place = rule.and_then(|rule| rule.decision.place.as_ref());
        let written = spec.clone().unwrap_or_default();
        let preferred_group = matches!(weight.format, StoredFormat::Fp8Block | StoredFormat::Fp8Scaled).then_some(128);
        let stored: Vec<ComponentCuts> = weight
            .components
            .iter()
            .map(|component| {
                let stored = Stored {
                    dtype: component.tensor.dtype,
                    shape: &component.tensor.shape,
                    is_weight: component.role == Role::Weight,
                    preferred_group,
                };
                match policy.partition.companion_spec {
                    CompanionSpec::Same => ComponentCuts::same(&cuts, &written, stored, mesh),
                    CompanionSpec::Derived => ComponentCuts::derive(&cuts, &weight.shape, &written, stored),
                }
            })
            .collect();
        let stored_bytes =
            weight.components.iter().fold(0, |sum: u64, component| sum.saturating_add(component.tensor.bytes.length));
        // The weight's own misfits are said once, of the weight.
        let stored_misfits = if cuts.misfits.is_empty() {
            stored.iter().flat_map(|component| component.cuts.misfits.iter().cloned()).collect()
        } else {
            Vec::new()
        };
        let mut class = Self {
            partition: key.partition,
            quantization: key.quantization,
            spec,
            place_axis: place.and_then(|place| mesh.axis(&place.value.axis.value)),
            stored,
            scheme: None,
            kept_non_float: false,
            planned: Vec::new(),
            encoding: None,
            kept_indivisible: false,
            planned_bytes: stored_bytes,
            stored_bytes,
            refusal: None,
            cut_groups: Vec::new(),
            stored_misfits,
            weights: 0,
            first: index,
            cuts,
        };
        class.quantize(policy, mesh, weight, key.experts);
        class
    }

    /// Asks the layout what the weight will be stored as.
    fn quantize(&mut self, policy: &Policy, mesh: &Mesh, weight: &Weight, experts: Option<usize>) {
        let Some(rule) = self.quantization.and_then(|at| policy.quantization_rules.get(at)) else { return };
        let Some(name) = &rule.decision.scheme.value else { return };
        let (Some(declared), Some(layout)) = (policy.schemes.get(name), &policy.quantization.layout) else { return };
        let contract = rule.decision.contract.as_ref().map_or(policy.quantization.contract, |contract| contract.value);
        let contracted = contracted(contract, weight.shape.len());
        let shard_groups = match &declared.scheme.granularity {
            Granularity::ShardGroup(axis) => self.groups_of(mesh, axis, contracted),
            _ => 1,
        };
        let split = match split(policy, weight, contracted, experts) {
            Ok(split) => split,
            Err(refusal) => {
                self.scheme = Some(name.clone());
                self.refusal = Some(refusal);
                return;
            }
        };
        // A matrix of a stack is asked about by itself; its dimensions are the stack's last two.
        let (shape, contracted) = match &split {
            Some(split) => (&split.shape[..], contracted - 1),
            None => (&weight.shape[..], contracted),
        };
        let logical = Logical { shape, contracted, dtype: weight.dtype, shard_groups };
        match quantize::companions(&declared.scheme, layout.value, logical) {
            Ok(mut encoded) => {
                self.scheme = Some(name.clone());
                let matrices = split.as_ref().map_or(1, |split| split.count.saturating_mul(split.parts));
                self.planned_bytes = encoded.bytes().saturating_mul(matrices);
                if split.is_some() {
                    encoded.unit.insert(0, Some(1));
                    for divided in encoded.components.iter_mut().flat_map(|component| component.divides.iter_mut()) {
                        *divided = divided.map(|dimension| dimension + 1);
                    }
                }
                self.cut_groups = cut_groups(&self.cuts, &encoded);
                self.planned = self.components(policy, mesh, encoded);
                self.encoding = Some(Encoding {
                    scheme: declared.scheme.clone(),
                    layout: layout.value,
                    contracted,
                    shard_groups,
                    limits: rule.decision.limits.or(declared.limits),
                    split,
                });
            }
            Err(refusal) if refusal.kind == RefusalKind::NotFloat => self.kept_non_float = true,
            Err(refusal) if refusal.kind == RefusalKind::Indivisible && policy.quantization.indivisible_keep => {
                self.kept_indivisible = true;
            }
            Err(refusal) => {
                self.scheme = Some(name.clone());
                self.refusal = Some(refusal);
            }
        }
    }

    /// Groups along the contracted dimension for `shard_group`: the axis' size where the spec puts it there.
    fn groups_of(&self, mesh: &Mesh, axis: &str, contracted: usize) -> u64 {
        let on_it = mesh
            .axis(axis)
            .filter(|axis| self.cuts.dimensions.get(contracted).is_some_and(|dimension| dimension.axes.contains(axis)));
        on_it.map_or(1, |axis| mesh.size(axis))
    }

    /// Specs of the planned tensors: an axis where the layout says that the tensor has the weight's dimension.
    fn components(&self, policy: &Policy, mesh: &Mesh, encoded: Encoded) -> Vec<PlannedComponent> {
        let written = self.spec.clone().unwrap_or_default();
        encoded
            .components
            .into_iter()
            .map(|component| {
                let stored = Stored {
                    dtype: component.dtype,
                    shape: &component.shape,
                    is_weight: component.role == Role::Weight,
                    preferred_group: None,
                };
                let cuts = match policy.partition.companion_spec {
                    CompanionSpec::Same => ComponentCuts::same(&self.cuts, &written, stored, mesh),
                    CompanionSpec::Derived => self.divided(&component.divides, &component.shape, mesh),
                };
                PlannedComponent {
                    role: component.role,
                    name: component.name,
                    dtype: component.dtype,
                    shape: component.shape,
                    cuts,
                }
            })
            .collect()
    }

    /// Carries the cuts over to a tensor whose dimensions divide the weight's evenly.
    fn divided(&self, divides: &[Option<usize>], shape: &[u64], mesh: &Mesh) -> ComponentCuts {
        let mut cuts = Cuts::whole(shape.len());
        let mut entries = Vec::new();
        let quoted = self.spec.as_ref().map_or(0, |spec| spec.entries.len());
        for (dimension, (from, &size)) in divides.iter().zip(shape).enumerate() {
            let own = from.and_then(|from| Some((from, self.cuts.dimensions.get(from)?)));
            let Some((from, cut)) = own else {
                if dimension < quoted {
                    entries.push(SpecEntry::Unsplit);
                }
                continue;
            };
            let entry = self.spec.as_ref().and_then(|spec| spec.entries.get(from));
            entries.extend(entry.cloned());
            let scaled = match cut.cut {
                Cut::Whole => continue,
                Cut::Even { replicas, .. } => {
                    Cut::Even { chunk: size / (cut.parts(mesh) / replicas.max(1)).max(1), replicas }
                }
                // Padding and uneven chunks were cut at the step that keeps groups whole.
                Cut::Padded { .. } => Cut::Padded { chunk: size.div_ceil(cut.parts(mesh)) },
                Cut::Uneven { .. } => Cut::Uneven { chunk: size.div_ceil(cut.parts(mesh)) },
            };
            if let Some(slot) = cuts.dimensions.get_mut(dimension) {
                *slot = super::shard::DimensionCut { axes: cut.axes.clone(), cut: scaled };
            }
        }
        ComponentCuts { cuts, spec: PartitionSpec { entries } }
    }
}

/// How an entry of `[experts]` takes a weight apart.
fn split(
    policy: &Policy,
    weight: &Weight,
    contracted: usize,
    experts: Option<usize>,
) -> Result<Option<Split>, Refusal> {
    let Some((index, (name, entry))) = experts.and_then(|index| Some((index, policy.experts.get_index(index)?))) else {
        return Ok(None);
    };
    let refused = |reason: String, fits: &str| Refusal {
        kind: RefusalKind::Rank,
        reason: format!("experts `{name}`: {reason}"),
        fits: Some(fits.to_owned()),
    };
    let &[count, rows, columns] = &weight.shape[..] else {
        let reason = format!("a stack has three dimensions, and the weight has {}", weight.shape.len());
        return Err(refused(reason, "a regex that leaves it out"));
    };
    let parts = entry.parts.len().max(1) as u64;
    let along = match contracted {
        1 => 1,
        2 => 0,
        _ => return Err(refused("the contracted dimension is that of the experts".into(), "`contract = -1` or `-2`")),
    };
    let mut shape = [rows, columns];
    let Some(size) = shape.get_mut(along).filter(|size| size.is_multiple_of(parts)) else {
        let reason = format!("{parts} parts do not divide {:?}", [rows, columns]);
        return Err(refused(reason, "as many `parts` as the weight holds"));
    };
    *size /= parts;
    Ok(Some(Split { experts: index, count, parts, shape, along, interleaved: entry.interleaved }))
}

/// Index of the contracted dimension, counted from the end when negative; beyond the rank where there is none.
fn contracted(contract: i64, rank: usize) -> usize {
    match usize::try_from(contract) {
        Ok(index) => index,
        Err(_) => rank.checked_sub(usize::try_from(contract.unsigned_abs()).unwrap_or(usize::MAX)).unwrap_or(rank),
    }
}

/// Boundaries that fall inside a scale group, a block or a packed word.
fn cut_groups(cuts: &Cuts, encoded: &Encoded) -> Vec<Misfit> {
    cuts.dimensions
        .iter()
        .zip(&encoded.unit)
        .enumerate()
        .filter_map(|(dimension, (cut, unit))| {
            let chunk = match cut.cut {
                Cut::Whole => return None,
                Cut::Even { chunk, .. } | Cut::Padded { chunk } | Cut::Uneven { chunk } => chunk,
            };
            match unit {
                Some(unit) if chunk % unit == 0 => None,
                Some(unit) => Some(Misfit::CutGroup { entry: dimension, dimension, chunk, group: *unit }),
                None => Some(Misfit::Flattened),
            }
        })
        .collect()
}
