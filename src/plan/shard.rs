//! How a spec cuts a weight, and how the cut carries over to the stored tensors that make it up.

use crate::Dtype;
use crate::mesh::{AxisId, Cut, Mesh, PartitionSpec, SpecEntry, near_divisors};
use crate::policy::{Indivisible, Sharding};

/// How one dimension is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimensionCut {
    /// The axes, major to minor; empty when the dimension is not split.
    pub axes: Vec<AxisId>,
    /// The cut over them.
    pub cut: Cut,
}

impl DimensionCut {
    const WHOLE: Self = Self { axes: Vec::new(), cut: Cut::Whole };

    /// The chunk number that a device at `coordinates` holds.
    #[must_use]
    pub fn index(&self, mesh: &Mesh, coordinates: &[u64]) -> u64 {
        self.axes
            .iter()
            .fold(0, |index, &axis| index * mesh.size(axis) + coordinates.get(axis.index()).copied().unwrap_or(0))
    }

    /// Devices along the axes.
    #[must_use]
    pub fn parts(&self, mesh: &Mesh) -> u64 {
        parts(mesh, &self.axes)
    }
}

fn parts(mesh: &Mesh, axes: &[AxisId]) -> u64 {
    axes.iter().map(|&axis| mesh.size(axis)).product()
}

/// A declared way out that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fallback {
    /// An indivisible dimension that is not split.
    Replicated,
    /// A padded dimension.
    Padded,
    /// A dimension cut in unequal chunks.
    Uneven,
    /// Fewer units than devices: groups of devices share a unit.
    FewerUnits,
    /// A weight without a rule that is replicated.
    Unmatched,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Misfit {
    /// More entries than dimensions.
    SpecTooLong {
        /// Entries, a stack dimension included.
        entries: usize,
        /// Dimensions.
        rank: usize,
    },
    /// An axis that the mesh lacks.
    UnknownAxis {
        /// Entry of the spec as written.
        entry: usize,
        /// The axis.
        axis: String,
    },
    /// A dimension that the axes do not divide.
    Indivisible {
        /// Entry of the spec as written.
        entry: usize,
        /// Dimension of the weight.
        dimension: usize,
        /// Its size.
        size: u64,
        /// Devices along the axes.
        parts: u64,
    },
    /// A unit that would be cut.
    CutUnit {
        /// Entry of the spec as written.
        entry: usize,
        /// Dimension of the weight.
        dimension: usize,
        /// Its size.
        size: u64,
        /// Elements of a unit.
        unit: u64,
        /// Devices along the axes.
        parts: u64,
    },
    /// A group of elements that share a scale, a word or a block, and that a shard boundary would cut.
    CutGroup {
        /// Entry of the spec as written.
        entry: usize,
        /// Dimension of the weight.
        dimension: usize,
        /// Elements per device.
        chunk: u64,
        /// Elements per group.
        group: u64,
    },
    /// A stored tensor without the weight's dimensions (flattened blocks): it cannot be cut.
    Flattened,
}

impl Misfit {
    /// Near sizes that would fit, for help texts.
    #[must_use]
    pub fn near(&self) -> Vec<u64> {
        match *self {
            Misfit::Indivisible { size, parts, .. } => near_divisors(size, parts),
            Misfit::CutUnit { size, unit, parts, .. } if unit > 0 && size % unit == 0 => {
                near_divisors(size / unit, parts)
            }
            _ => Vec::new(),
        }
    }
}

/// The cuts of a weight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cuts {
    /// One per dimension of the weight.
    pub dimensions: Vec<DimensionCut>,
    /// Declared ways out that were taken.
    pub fallbacks: Vec<Fallback>,
    /// What does not fit; the dimensions concerned are left whole.
    pub misfits: Vec<Misfit>,
}

impl Cuts {
    /// A weight that every device holds whole.
    #[must_use]
    pub fn whole(rank: usize) -> Self {
        Self { dimensions: vec![DimensionCut::WHOLE; rank], ..Self::default() }
    }

    /// Lays a rule's spec over a weight; `stacked` puts one unsplit dimension in front.
    #[must_use]
    pub fn new(sharding: &Sharding, stacked: bool, shape: &[u64], mesh: &Mesh, indivisible: Indivisible) -> Self {
        let mut cuts = Self::whole(shape.len());
        let offset = usize::from(stacked);
        let entries = sharding.spec.len() + offset;
        if entries > shape.len() {
            cuts.misfits.push(Misfit::SpecTooLong { entries, rank: shape.len() });
        }
        for (entry, written) in sharding.spec.iter().enumerate() {
            let names = written.entry.axes();
            let mut axes = Vec::with_capacity(names.len());
            for name in names {
                match mesh.axis(name) {
                    Some(axis) => axes.push(axis),
                    None => cuts.misfits.push(Misfit::UnknownAxis { entry, axis: name.clone() }),
                }
            }
            let dimension = entry + offset;
            let (Some(&size), true) = (shape.get(dimension), !axes.is_empty() && axes.len() == names.len()) else {
                continue;
            };
            let parts = parts(mesh, &axes);
            let cut = cuts.cut(entry, dimension, size, parts, written.unit, written.fewer_replicate, indivisible);
            if let Some(slot) = cuts.dimensions.get_mut(dimension) {
                *slot = DimensionCut { axes, cut };
            }
        }
        cuts
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one private function, each argument a number of the rule or the weight"
    )]
    fn cut(
        &mut self,
        entry: usize,
        dimension: usize,
        size: u64,
        parts: u64,
        unit: u64,
        fewer_replicate: bool,
        indivisible: Indivisible,
    ) -> Cut {
        let unit = unit.max(1);
        let whole_units = size.is_multiple_of(unit);
        let units = size / unit;
        if whole_units && units.is_multiple_of(parts) {
            return Cut::Even { chunk: size / parts, replicas: 1 };
        }
        if whole_units && fewer_replicate && units > 0 && units < parts && parts.is_multiple_of(units) {
            self.fallbacks.push(Fallback::FewerUnits);
            return Cut::Even { chunk: unit, replicas: parts / units };
        }
        let chunk = size.div_ceil(unit).div_ceil(parts).saturating_mul(unit);
        match indivisible {
            Indivisible::Error => {
                self.misfits.push(if unit == 1 {
                    Misfit::Indivisible { entry, dimension, size, parts }
                } else {
                    Misfit::CutUnit { entry, dimension, size, unit, parts }
                });
                Cut::Whole
            }
            Indivisible::Replicate => {
                self.fallbacks.push(Fallback::Replicated);
                Cut::Whole
            }
            Indivisible::Pad => {
                self.fallbacks.push(Fallback::Padded);
                Cut::Padded { chunk }
            }
            Indivisible::Uneven => {
                self.fallbacks.push(Fallback::Uneven);
                Cut::Uneven { chunk }
            }
        }
    }

    /// Whether every device that holds the weight holds equally much of it.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.dimensions.iter().all(|dimension| dimension.cut.is_uniform())
    }

    /// Sizes that the device with these chunk numbers stores.
    #[must_use]
    pub fn local_shape(&self, shape: &[u64], mesh: &Mesh, coordinates: &[u64]) -> Vec<u64> {
        let local =
            |(dimension, size): (&DimensionCut, &u64)| dimension.cut.stored(*size, dimension.index(mesh, coordinates));
        self.dimensions.iter().zip(shape).map(local).collect()
    }

    /// The half-open range of each dimension that the device at `coordinates` holds, without padding.
    #[must_use]
    pub fn ranges(&self, shape: &[u64], mesh: &Mesh, coordinates: &[u64]) -> Vec<(u64, u64)> {
        let range =
            |(dimension, size): (&DimensionCut, &u64)| dimension.cut.range(*size, dimension.index(mesh, coordinates));
        self.dimensions.iter().zip(shape).map(range).collect()
    }

    /// Devices that hold each piece, of those that hold any: the mesh over the distinct pieces.
    #[must_use]
    pub fn replicas(&self, mesh: &Mesh) -> u64 {
        let pieces: u64 = self
            .dimensions
            .iter()
            .map(|dimension| match dimension.cut {
                Cut::Whole => 1,
                Cut::Even { replicas, .. } => dimension.parts(mesh) / replicas.max(1),
                Cut::Padded { .. } | Cut::Uneven { .. } => dimension.parts(mesh),
            })
            .product();
        mesh.devices() / pieces.max(1)
    }
}

/// The cuts of one stored tensor of a weight, and its spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentCuts {
    /// One per dimension of the stored tensor.
    pub cuts: Cuts,
    /// The spec to quote for it.
    pub spec: PartitionSpec,
}

/// How a stored tensor relates to its weight.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions as stored.
    pub shape: &'a [u64],
    /// Whether it holds the values or codes.
    pub is_weight: bool,
    /// Group length to assume where several would give the same number of groups (128 for fp8 blocks).
    pub preferred_group: Option<u64>,
}

impl ComponentCuts {
    /// Carries a weight's cuts over to one of its stored tensors: an axis only where the tensor has the dimension, in
    /// groups where it has one entry per group.
    ///
    /// `spec` is the weight's own, `stacked` as for [`Cuts::new`].
    #[must_use]
    pub fn derive(weight: &Cuts, shape: &[u64], spec: &PartitionSpec, stored: Stored<'_>) -> Self {
        let mut cuts = Cuts::whole(stored.shape.len());
        // Blocks may be stored as dimensions of their own: GPT-OSS keeps `[.., K]` as `[.., K/32, 16]`.
        let own_blocks = stored.is_weight && stored.shape.len() == shape.len() + 1;
        if stored.shape.len() != shape.len() && !own_blocks {
            let split = weight.dimensions.iter().any(|dimension| !dimension.axes.is_empty());
            if stored.is_weight && split {
                cuts.misfits.push(Misfit::Flattened);
            }
            return Self { cuts, spec: PartitionSpec::default() };
        }
        let (block, _) = stored.dtype.block();
        let last = shape.len().saturating_sub(1);
        let mut entries = Vec::new();
        for (dimension, ((from, &size), &own)) in weight.dimensions.iter().zip(shape).zip(stored.shape).enumerate() {
            // A spec may be shorter than the rank: quote no more entries than it has.
            let quoted = spec.entries.get(dimension);
            if own == 1 && size != 1 {
                entries.extend(quoted.map(|_| SpecEntry::Unsplit));
                continue;
            }
            let group = if own == size {
                if dimension == last { block } else { 1 }
            } else {
                group_length(size, own, stored.preferred_group)
            };
            let grouped = in_groups(from, own == size, group, dimension);
            match grouped {
                Ok(cut) => {
                    if let Some(slot) = cuts.dimensions.get_mut(dimension) {
                        *slot = DimensionCut { axes: from.axes.clone(), cut };
                    }
                }
                Err(misfit) => cuts.misfits.push(misfit),
            }
            entries.extend(quoted.cloned());
        }
        Self { cuts, spec: PartitionSpec { entries } }
    }

    /// Gives a stored tensor the weight's own spec, dimension by dimension, whatever its shape.
    #[must_use]
    pub fn same(weight: &Cuts, spec: &PartitionSpec, stored: Stored<'_>, mesh: &Mesh) -> Self {
        let mut cuts = Cuts::whole(stored.shape.len());
        if spec.entries.len() > stored.shape.len() {
            cuts.misfits.push(Misfit::SpecTooLong { entries: spec.entries.len(), rank: stored.shape.len() });
        }
        for (dimension, (from, &size)) in weight.dimensions.iter().zip(stored.shape).enumerate() {
            let parts = from.parts(mesh);
            if from.axes.is_empty() {
                continue;
            }
            if size % parts == 0 {
                if let Some(slot) = cuts.dimensions.get_mut(dimension) {
                    *slot =
                        DimensionCut { axes: from.axes.clone(), cut: Cut::Even { chunk: size / parts, replicas: 1 } };
                }
            } else {
                cuts.misfits.push(Misfit::Indivisible { entry: dimension, dimension, size, parts });
            }
        }
        Self { cuts, spec: spec.clone() }
    }
}

/// Elements along a dimension of `size` that each of `groups` entries stands for.
fn group_length(size: u64, groups: u64, preferred: Option<u64>) -> u64 {
    const USUAL: [u64; 5] = [128, 64, 32, 16, 256];
    let fits = |group: &u64| size.div_ceil(*group) == groups;
    if let Some(group) = preferred.filter(fits) {
        return group;
    }
    if groups > 0 && size.is_multiple_of(groups) {
        return size / groups;
    }
    USUAL.iter().copied().find(fits).unwrap_or_else(|| size.div_ceil(groups.max(1)))
}

/// A cut of elements as a cut of groups, when no boundary falls inside a group.
fn in_groups(from: &DimensionCut, elementwise: bool, group: u64, dimension: usize) -> Result<Cut, Misfit> {
    let group = group.max(1);
    // A stored dimension as long as the weight's keeps its element count; only the boundaries matter there.
    let scale = |chunk: u64| if elementwise { chunk } else { chunk / group };
    match from.cut {
        Cut::Whole => Ok(Cut::Whole),
        Cut::Even { chunk, .. } | Cut::Padded { chunk } | Cut::Uneven { chunk } if chunk % group != 0 => {
            Err(Misfit::CutGroup { entry: dimension, dimension, chunk, group })
        }
        Cut::Even { chunk, replicas } => Ok(Cut::Even { chunk: scale(chunk), replicas }),
        Cut::Padded { chunk } => Ok(Cut::Padded { chunk: scale(chunk) }),
        Cut::Uneven { chunk } => Ok(Cut::Uneven { chunk: scale(chunk) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even(axes: &[u16], mesh: &Mesh, size: u64) -> DimensionCut {
        let axes: Vec<AxisId> = axes.iter().filter_map(|&axis| mesh.axis(&mesh.axes()[axis as usize].0)).collect();
        let parts = parts(mesh, &axes);
        DimensionCut { axes, cut: Cut::Even { chunk: size / parts, replicas: 1 } }
    }

    fn spec(entries: &[&str]) -> PartitionSpec {
        let entry = |name: &&str| if *name == "-" { SpecEntry::Unsplit } else { SpecEntry::Axis((*name).to_owned()) };
        PartitionSpec { entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn scales_follow_the_weight_where_they_have_its_dimension() {
        let mesh = Mesh::new([("data", 1), ("model", 8)]).unwrap();
        let shape = [8, 32768, 6144];
        let weight = Cuts {
            dimensions: vec![DimensionCut::WHOLE, even(&[1], &mesh, 32768), even(&[0], &mesh, 6144)],
            ..Cuts::default()
        };
        let derive = |stored: &[u64]| {
            let stored = Stored { dtype: Dtype::Bf16, shape: stored, is_weight: false, preferred_group: None };
            ComponentCuts::derive(&weight, &shape, &spec(&["-", "model", "data"]), stored)
        };
        let grouped = derive(&[8, 8, 6144]);
        assert_eq!(grouped.spec.to_string(), "[-, model, data]");
        assert_eq!(grouped.cuts.local_shape(&[8, 8, 6144], &mesh, &[0, 3]), [8, 1, 6144]);
        let channel = derive(&[8, 1, 6144]);
        assert_eq!(channel.spec.to_string(), "[-, -, data]");
        let four = derive(&[8, 4, 6144]);
        assert_eq!(four.cuts.misfits, [Misfit::CutGroup { entry: 1, dimension: 1, chunk: 4096, group: 8192 }]);
        assert_eq!(derive(&[1]).spec.to_string(), "[]");
    }

    #[test]
    fn packed_words_and_blocks_are_not_cut() {
        let mesh = Mesh::new([("model", 4)]).unwrap();
        let weight =
            |size: u64| Cuts { dimensions: vec![DimensionCut::WHOLE, even(&[0], &mesh, size)], ..Cuts::default() };
        let derive = |size: u64, dtype: Dtype, stored: u64| {
            let shape = [2, stored];
            let stored = Stored { dtype, shape: &shape, is_weight: true, preferred_group: None };
            ComponentCuts::derive(&weight(size), &[2, size], &spec(&["-", "model"]), stored).cuts
        };
        assert_eq!(derive(64, Dtype::I32, 8).local_shape(&[2, 8], &mesh, &[1]), [2, 2]);
        assert_eq!(
            derive(16, Dtype::I32, 2).misfits,
            [Misfit::CutGroup { entry: 1, dimension: 1, chunk: 4, group: 8 }]
        );
        assert_eq!(derive(128, Dtype::Q40, 128).misfits, []);
        assert_eq!(
            derive(64, Dtype::Q40, 64).misfits,
            [Misfit::CutGroup { entry: 1, dimension: 1, chunk: 16, group: 32 }]
        );
    }

    #[test]
    fn group_lengths_prefer_what_the_layout_says() {
        assert_eq!(group_length(192, 2, Some(128)), 128);
        assert_eq!(group_length(192, 2, None), 96);
        assert_eq!(group_length(7000, 55, None), 128);
        assert_eq!(group_length(7168, 56, Some(128)), 128);
    }
}
