//! From a plan and a device to the stored tensors that the device holds, each with its slice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Extent, Slice};
use crate::Dtype;
use crate::inventory::{CheckpointFile, Component, Role, StoredTensor};
use crate::mesh::Mesh;
use crate::plan::shard::Cuts;
use crate::plan::{LoadPlan, Plan, PlannedWeight};
use crate::policy::Stage;

/// What one device of a mesh loads.
#[derive(Debug, Clone)]
pub struct ReadPlan {
    /// The device's number.
    pub device: u64,
    /// Its coordinates, one per axis of the mesh.
    pub coordinates: Vec<u64>,
    /// The checkpoint's files; targets name them by index.
    pub files: Vec<CheckpointFile>,
    /// The stored tensors that the device holds a part of, by file and place in it.
    pub targets: Vec<Target>,
    /// Further names of weights: the alias, and the weight whose tensors it shares.
    pub aliases: BTreeMap<String, String>,
}

/// One stored tensor on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in the file.
    pub name: String,
    /// Path of the weight it belongs to.
    pub weight: String,
    /// What it is to the weight.
    pub role: Role,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions in the file.
    pub stored_shape: Vec<u64>,
    /// First index of each dimension.
    pub start: Vec<u64>,
    /// Dimensions on the device, padding included.
    pub shape: Vec<u64>,
    /// Where it is; `None` when the inventory is a list that does not say.
    pub place: Option<Place>,
    /// Bytes of the stored tensor.
    pub length: u64,
    /// Its bytes on the device.
    pub slice: Slice,
    /// How it is read.
    pub load: LoadPlan,
    /// The deciding partition rule.
    pub partition_rule: Option<Arc<str>>,
    /// The deciding loader rule; `None` for the defaults.
    pub loader_rule: Option<Arc<str>>,
    /// For a tensor that holds the weight's logical shape: that shape, and the device's part of it, which takes its place.
    pub reshape: Option<Reshape>,
}

/// The first byte of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index of its file.
    pub file: usize,
    /// Offset in the file.
    pub offset: u64,
}

/// A shape written down in a tensor, and what it is on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reshape {
    /// The whole weight's.
    pub from: Vec<u64>,
    /// The device's.
    pub to: Vec<u64>,
}

/// Why there is nothing to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadPlanError {
    /// The mesh has fewer devices.
    #[error("no device {device}: the mesh has {devices}")]
    NoDevice {
        /// The device asked for.
        device: u64,
        /// Devices of the mesh.
        devices: u64,
    },
    /// A packed or block dtype would be cut inside a byte or block.
    #[error("the piece of `{tensor}` does not consist of whole blocks of {dtype}")]
    InsideBlock {
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: Dtype,
    },
}

impl ReadPlan {
    /// Works out what a device loads.
    ///
    /// A weight that is placed elsewhere is absent; an alias is loaded once, under the weight it shares storage with; a tensor
    /// of which nothing is left for the device (`uneven`) is there with a dimension of 0.
    ///
    /// # Errors
    /// There is no such device, or a piece is not whole bytes.
    ///
    /// ```
    /// use flow_fabric::inventory::Checkpoint;
    /// use flow_fabric::load::ReadPlan;
    /// use flow_fabric::plan::PlanOptions;
    /// use flow_fabric::{Plan, Policy};
    ///
    /// let policy = Policy::parse("tiny.toml", r#"
    ///     language = 1
    ///     policy = "tiny"
    ///     [mesh]
    ///     axes = ["model"]
    ///     shape = [4]
    ///     [[FLOW_FABRIC_PARTITION_RULES]]
    ///     name = "columns"
    ///     glob = "**/w"
    ///     spec = ["-", "model"]
    /// "#)?;
    /// let list = r#"{"name":"mlp/w","dtype":"BF16","shape":[512,2048]}"#;
    /// let (checkpoint, _) = Checkpoint::from_list(list.as_bytes(), "list")?;
    /// let (inventory, _) = policy.group(&checkpoint);
    /// let plan = Plan::new(&policy, inventory, &PlanOptions::default())?;
    ///
    /// let device = ReadPlan::new(&plan, 3)?;
    /// let target = &device.targets[0];
    /// assert_eq!((target.start.as_slice(), target.shape.as_slice()), (&[0, 1536][..], &[512, 512][..]));
    /// assert_eq!((target.slice.runs(), target.slice.run()), (512, 1024));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(plan: &Plan, device: u64) -> Result<Self, ReadPlanError> {
        let devices = plan.mesh.devices();
        if device >= devices {
            return Err(ReadPlanError::NoDevice { device, devices });
        }
        let coordinates = plan.mesh.coordinates(device);
        let mut rules = Names::default();
        let mut targets = Vec::new();
        let mut aliases = BTreeMap::new();
        for planned in plan.weights() {
            if !planned.is_on(&coordinates) {
                continue;
            }
            if let Some(weight) = &planned.weight.alias_of {
                aliases.insert(planned.weight.path.clone(), weight.clone());
                continue;
            }
            for (component, cuts) in planned.weight.components.iter().zip(&planned.class().stored) {
                targets.push(target(&plan.mesh, &coordinates, &planned, component, &cuts.cuts, &mut rules)?);
            }
        }
        // Stable: what has no place keeps the order of the inventory, behind the rest.
        targets.sort_by_key(|target: &Target| (target.place.is_none(), target.place));
        Ok(Self { device, coordinates, files: plan.inventory.files.clone(), targets, aliases })
    }

    /// Bytes of the device's tensors in memory, padding included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.targets.iter().fold(0, |sum: u64, target| sum.saturating_add(target.slice.bytes()))
    }

    /// Bytes of the files that rules want copied into shared memory before they are read, where the files' sizes are known.
    #[must_use]
    pub fn staged_bytes(&self) -> u64 {
        let staged = self.targets.iter().filter(|target| target.load.stage == Stage::Shm);
        let files: BTreeSet<usize> = staged.filter_map(|target| Some(target.place?.file)).collect();
        let sizes = files.into_iter().filter_map(|file| self.files.get(file)?.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Bytes wanted from the files.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.targets.iter().fold(0, |sum: u64, target| sum.saturating_add(target.slice.wanted()))
    }
}

impl PlannedWeight<'_> {
    /// Whether the device at `coordinates` holds any of it, as far as `place` decides.
    pub(crate) fn is_on(&self, coordinates: &[u64]) -> bool {
        match (self.class().place_axis, self.decision.owner) {
            (Some(axis), Some(owner)) => coordinates.get(axis.index()) == Some(&owner),
            _ => true,
        }
    }
}

/// Rule names, each kept once however many tensors quote it.
#[derive(Debug, Default)]
struct Names(BTreeMap<String, Arc<str>>);

impl Names {
    fn shared(&mut self, name: Option<&str>) -> Option<Arc<str>> {
        let name = name?;
        Some(self.0.entry(name.to_owned()).or_insert_with(|| name.into()).clone())
    }
}

fn target(
    mesh: &Mesh,
    coordinates: &[u64],
    planned: &PlannedWeight<'_>,
    component: &Component,
    cuts: &Cuts,
    rules: &mut Names,
) -> Result<Target, ReadPlanError> {
    let tensor = &component.tensor;
    let extents = extents(mesh, coordinates, tensor, cuts);
    let slice = Slice::new(tensor.dtype, &extents)
        .filter(|slice| slice.span().end <= tensor.bytes.length)
        .ok_or_else(|| ReadPlanError::InsideBlock { tensor: tensor.name.clone(), dtype: tensor.dtype })?;
    Ok(Target {
        name: tensor.name.clone(),
        weight: planned.weight.path.clone(),
        role: component.role.clone(),
        dtype: tensor.dtype,
        stored_shape: tensor.shape.clone(),
        start: extents.iter().map(|extent| extent.start).collect(),
        shape: extents.iter().map(|extent| extent.stored).collect(),
        place: place(tensor),
        length: tensor.bytes.length,
        slice,
        load: planned.decision.load,
        partition_rule: rules.shared(planned.partition_rule()),
        loader_rule: rules.shared(planned.loader_rule()),
        reshape: reshape(mesh, coordinates, planned, component),
    })
}

fn place(tensor: &StoredTensor) -> Option<Place> {
    Some(Place { file: usize::try_from(tensor.bytes.file?.0).ok()?, offset: tensor.bytes.offset? })
}

fn extents(mesh: &Mesh, coordinates: &[u64], tensor: &StoredTensor, cuts: &Cuts) -> Vec<Extent> {
    let extent = |(dimension, &size): (usize, &u64)| {
        let Some(cut) = cuts.dimensions.get(dimension) else {
            return Extent { size, start: 0, count: size, stored: size };
        };
        let index = cut.index(mesh, coordinates);
        let (start, stop) = cut.cut.range(size, index);
        Extent { size, start, count: stop - start, stored: cut.cut.stored(size, index) }
    };
    tensor.shape.iter().enumerate().map(extent).collect()
}

/// The device's shape, for a tensor that holds the whole weight's and no longer tells the truth.
fn reshape(mesh: &Mesh, coordinates: &[u64], planned: &PlannedWeight<'_>, component: &Component) -> Option<Reshape> {
    let from = &planned.weight.shape;
    let to = planned.class().cuts.local_shape(from, mesh, coordinates);
    (component.role == Role::Shape && *from != to).then(|| Reshape { from: from.clone(), to })
}
