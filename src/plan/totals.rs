//! What each device holds, and the counts of a plan.

use std::collections::BTreeMap;

use super::class::Class;
use super::decide::Resolved;
use super::record::Summary;
use super::shard::{Cuts, Fallback};
use crate::Dtype;
use crate::inventory::Inventory;
use crate::mesh::Mesh;

/// What one device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Device {
    /// Bytes of its pieces as they are stored now.
    pub stored_bytes: u64,
    /// Bytes of its pieces as planned.
    pub planned_bytes: u64,
}

/// Adds up every device. Aliases count once.
///
/// Classes whose pieces are equal everywhere are added up once for all devices, placed ones once per owner; only uneven
/// classes are asked device by device.
pub(super) fn devices(mesh: &Mesh, inventory: &Inventory, resolved: &Resolved) -> Vec<Device> {
    let mut everywhere = Device::default();
    // Per axis and coordinate: what weights placed there weigh.
    let mut placed: BTreeMap<(usize, u64), Device> = BTreeMap::new();
    let mut uneven: BTreeMap<(usize, Option<u64>), u64> = BTreeMap::new();
    let mut uniform: Vec<Option<Device>> = vec![None; resolved.classes.len()];
    for (decision, weight) in resolved.decisions.iter().zip(&inventory.weights) {
        let Some(class) = resolved.classes.get(decision.class) else { continue };
        if weight.alias_of.is_some() {
            continue;
        }
        if !class.is_uniform() {
            *uneven.entry((decision.class, decision.owner)).or_default() += 1;
            continue;
        }
        let Some(slot) = uniform.get_mut(decision.class) else { continue };
        let share = *slot.get_or_insert_with(|| class.share(mesh, &vec![0; mesh.axes().len()], weight));
        match (class.place_axis, decision.owner) {
            (Some(axis), Some(owner)) => placed.entry((axis.index(), owner)).or_default().add(share, 1),
            _ => everywhere.add(share, 1),
        }
    }
    (0..mesh.devices())
        .map(|number| {
            let coordinates = mesh.coordinates(number);
            let mut device = everywhere;
            for (axis, &at) in coordinates.iter().enumerate() {
                if let Some(share) = placed.get(&(axis, at)) {
                    device.add(*share, 1);
                }
            }
            for (&(class, owner), &weights) in &uneven {
                let Some(class) = resolved.classes.get(class) else { continue };
                let absent = class
                    .place_axis
                    .zip(owner)
                    .is_some_and(|(axis, owner)| coordinates.get(axis.index()) != Some(&owner));
                let Some(weight) = inventory.weights.get(class.first).filter(|_| !absent) else { continue };
                device.add(class.share(mesh, &coordinates, weight), weights);
            }
            device
        })
        .collect()
}

impl Device {
    fn add(&mut self, share: Device, times: u64) {
        self.stored_bytes = self.stored_bytes.saturating_add(share.stored_bytes.saturating_mul(times));
        self.planned_bytes = self.planned_bytes.saturating_add(share.planned_bytes.saturating_mul(times));
    }
}

impl Class {
    /// Whether every device that holds a weight of the class holds equally many bytes of it.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.cuts.is_uniform()
            && self.stored.iter().all(|component| component.cuts.is_uniform())
            && self.planned.iter().all(|component| component.cuts.cuts.is_uniform())
    }

    /// Bytes that the device at `coordinates` holds of one weight of the class.
    pub(super) fn share(&self, mesh: &Mesh, coordinates: &[u64], weight: &crate::inventory::Weight) -> Device {
        let stored_bytes = self
            .stored
            .iter()
            .zip(&weight.components)
            .map(|(cuts, component)| {
                bytes(&cuts.cuts, component.tensor.dtype, &component.tensor.shape, mesh, coordinates)
            })
            .fold(0, u64::saturating_add);
        let planned_bytes = if self.planned.is_empty() {
            stored_bytes
        } else {
            let pieces = self
                .planned
                .iter()
                .map(|component| bytes(&component.cuts.cuts, component.dtype, &component.shape, mesh, coordinates));
            pieces.fold(0, u64::saturating_add)
        };
        Device { stored_bytes, planned_bytes }
    }
}

fn bytes(cuts: &Cuts, dtype: Dtype, shape: &[u64], mesh: &Mesh, coordinates: &[u64]) -> u64 {
    let elements = cuts.local_shape(shape, mesh, coordinates).into_iter().fold(1, u64::saturating_mul);
    let (block_elements, block_bytes) = dtype.block();
    elements.div_ceil(block_elements).saturating_mul(block_bytes)
}

/// Counts the plan.
pub(super) fn summary(inventory: &Inventory, resolved: &Resolved) -> Summary {
    let mut summary = Summary { excluded: inventory.excluded as u64, ..Summary::default() };
    for (decision, weight) in resolved.decisions.iter().zip(&inventory.weights) {
        let Some(class) = resolved.classes.get(decision.class) else { continue };
        summary.weights += 1;
        if weight.alias_of.is_some() {
            summary.aliases += 1;
            continue;
        }
        summary.stored_tensors += weight.components.len() as u64;
        summary.elements = summary.elements.saturating_add(weight.elements());
        summary.stored_bytes = summary.stored_bytes.saturating_add(class.stored_bytes);
        summary.planned_bytes = summary.planned_bytes.saturating_add(class.planned_bytes);
        if class.place_axis.is_some() {
            summary.placed += 1;
        } else if class.cuts.dimensions.iter().any(|dimension| dimension.cut != crate::mesh::Cut::Whole) {
            summary.sharded += 1;
        } else {
            summary.replicated += 1;
        }
        if class.scheme.is_some() {
            summary.quantized += 1;
        } else {
            summary.kept += 1;
        }
        summary.kept_non_float += u64::from(class.kept_non_float);
        summary.unmatched_partition += u64::from(class.partition.is_none());
        summary.unmatched_quantization += u64::from(class.quantization.is_none());
        summary.default_load += u64::from(decision.loader.is_none());
        let mut fallbacks = class.cuts.fallbacks.clone();
        fallbacks.sort_unstable();
        fallbacks.dedup();
        if class.kept_indivisible {
            *summary.fallbacks.entry("kept-indivisible".to_owned()).or_default() += 1;
        }
        for fallback in fallbacks {
            *summary.fallbacks.entry(fallback.name().to_owned()).or_default() += 1;
        }
    }
    summary
}

impl Fallback {
    /// The name in plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fallback::Replicated => "replicated",
            Fallback::Padded => "padded",
            Fallback::Uneven => "uneven",
            Fallback::FewerUnits => "fewer-units",
            Fallback::Unmatched => "unmatched",
        }
    }
}
