//! Plans: for every weight of a checkpoint how it is sharded, quantized and loaded, and which rule decided each.
//!
//! [`Plan::new`] walks the inventory once: the matcher gives the candidates of every table, conditions pick the first
//! that holds, and weights that agree in decision, shape and storage share one [`Class`], so that cuts, companions and
//! bytes are worked out once per class. What does not fit becomes findings, one per rule and cause, not one per weight.

mod class;
mod coverage;
mod decide;
pub mod diff;
mod expect;
pub mod explain;
mod fit;
pub mod layers;
mod misfit;
pub mod record;
pub mod resolve;
pub mod shard;
mod siblings;
mod slots;
pub mod snapshot;
pub mod text;
mod totals;
mod unused;
pub mod when;
mod write;

use std::sync::Arc;

use indexmap::IndexMap;

pub use class::{Class, Encoding, PlannedComponent, Split};
pub use coverage::{Coverage, TableCoverage};
pub use totals::Device;

use crate::finding::{self, Finding};
use crate::inventory::{Inventory, Weight};
use crate::matcher::BuildError;
use crate::mesh::Mesh;
use crate::policy::{Experts, Loading, Policy, Read, Stage, Verify, Written};
use crate::source::Sources;

use record::{MoeRecord, RuleRecord, SamplerRecord, Summary};

/// What a plan may be told besides policy and checkpoint.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Takes the place of the policy's mesh; its axes must be those that the policy's specs name.
    pub mesh: Option<Mesh>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The policy's patterns are too large together.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The resolved plan of one policy over one checkpoint. Plain data; it never reads tensor bytes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the policy.
    pub policy: String,
    /// The checkpoint.
    pub inventory: Arc<Inventory>,
    /// The mesh that specs are laid over.
    pub mesh: Mesh,
    /// Bytes of one device, where the policy says.
    pub device_memory: Option<u64>,
    /// Every rule: partition, then quantization, then loader, each in the order in which it is asked.
    pub rules: Vec<RuleRecord>,
    /// Where each table starts in `rules`.
    tables: [usize; 3],
    /// What the policy says besides rules and mesh: `scheme.int8.format` is `"int8"`.
    pub settings: Written,
    /// How stacked experts that are written one by one are called, by the indices of [`Split::experts`].
    pub experts: Vec<Experts>,
    /// Sets of weights that engines fuse, as indices of the inventory; only sets of two and more.
    pub families: Vec<Vec<usize>>,
    /// One per weight of the inventory, in its order.
    pub decisions: Vec<Decision>,
    /// What weights with the same decisions, shape and storage have in common.
    pub classes: Vec<Class>,
    /// Every device, by number.
    pub devices: Vec<Device>,
    /// Slots by name.
    pub slots: IndexMap<String, SlotPlan>,
    /// Counts.
    pub summary: Summary,
    /// What there is to say; not yet passed through `[lints]`.
    pub findings: Vec<Finding>,
    /// The texts that findings point into.
    pub sources: Sources,
}

/// What is decided for one weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Index into [`Plan::classes`]: sharding and quantization.
    pub class: usize,
    /// Index of the loader rule; `None` = the defaults.
    pub loader: Option<usize>,
    /// How it is read, rule and defaults combined.
    pub load: LoadPlan,
    /// The weight's number on the axis of a `place`, as a device coordinate.
    pub owner: Option<u64>,
}

/// How a weight is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoadPlan {
    /// How bytes are read.
    pub read: Read,
    /// Where they pass through.
    pub stage: Stage,
    /// How they are verified.
    pub verify: Verify,
}

/// A slot, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotPlan {
    /// Indices of its weights in the inventory.
    pub weights: Vec<usize>,
    /// Its sampler.
    pub sampler: Option<SamplerRecord>,
    /// Its mixture-of-experts profile.
    pub moe: Option<MoeRecord>,
}

impl Plan {
    /// Resolves every weight of `inventory`.
    ///
    /// The inventory must have been grouped by the policy itself ([`Policy::group`]), so that excludes, renames and ties
    /// apply.
    ///
    /// ```
    /// use flow_fabric::inventory::Checkpoint;
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
    /// let shard = plan.weight("mlp/w").unwrap().record().shard;
    /// assert_eq!(shard.rule.as_deref(), Some("columns"));
    /// assert_eq!(shard.local_shape, Some(vec![512, 512]));
    /// assert_eq!(plan.devices[0].stored_bytes, 512 * 512 * 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The policy's patterns are too large together. All else is a finding.
    pub fn new(
        policy: &Policy,
        inventory: impl Into<Arc<Inventory>>,
        options: &PlanOptions,
    ) -> Result<Self, PlanError> {
        let inventory = inventory.into();
        let matcher = policy.compile()?;
        let declared = policy.mesh.as_ref();
        let mesh = options.mesh.clone().or_else(|| declared.map(|declared| declared.mesh.clone())).unwrap_or_default();
        let resolved = decide::decide(policy, &matcher, &inventory, &mesh);
        let mut findings: Vec<Finding> = policy.findings().to_vec();
        fit::findings(policy, &inventory, &mesh, &resolved, &mut findings);
        expect::check(policy, &inventory, &resolved, &mut findings);
        let devices = totals::devices(&mesh, &inventory, &resolved);
        let device_memory = declared.and_then(|declared| declared.device_memory.as_ref());
        fit::memory(device_memory, &devices, &mesh, &mut findings);
        let families = siblings::families(policy, &inventory);
        siblings::check(policy, &inventory, &resolved, &families, &mut findings);
        let summary = totals::summary(&inventory, &resolved);
        let slots = slots::resolve(policy, &resolved, &mut findings);
        finding::sort(&mut findings);
        Ok(Self {
            policy: policy.name.value.clone(),
            rules: decide::rules(policy, &resolved),
            tables: [0, policy.partition_rules.len(), policy.partition_rules.len() + policy.quantization_rules.len()],
            settings: policy.settings.clone(),
            experts: policy.experts.values().cloned().collect(),
            families,
            mesh,
            device_memory: device_memory.map(|bytes| bytes.value),
            decisions: resolved.decisions,
            classes: resolved.classes,
            devices,
            slots,
            summary,
            findings,
            sources: policy.sources().clone(),
            inventory,
        })
    }

    /// Every weight with its decisions, in the order of the checkpoint.
    pub fn weights(&self) -> impl ExactSizeIterator<Item = PlannedWeight<'_>> {
        self.inventory.weights.iter().zip(&self.decisions).map(|(weight, decision)| PlannedWeight {
            plan: self,
            weight,
            decision,
        })
    }

    /// The weight at a position of the inventory.
    #[must_use]
    pub fn weight_at(&self, index: usize) -> Option<PlannedWeight<'_>> {
        let (weight, decision) = (self.inventory.weights.get(index)?, self.decisions.get(index)?);
        Some(PlannedWeight { plan: self, weight, decision })
    }

    /// The weight at a path. Linear; collect [`Plan::weights`] into a map to ask often.
    #[must_use]
    pub fn weight(&self, path: &str) -> Option<PlannedWeight<'_>> {
        self.weights().find(|planned| planned.weight.path == path)
    }

    /// The weights of a slot.
    pub fn slot_weights<'a>(&'a self, slot: &'a SlotPlan) -> impl Iterator<Item = PlannedWeight<'a>> {
        slot.weights.iter().filter_map(|&index| self.weight_at(index))
    }
}

/// A weight and what is decided for it.
#[derive(Debug, Clone, Copy)]
pub struct PlannedWeight<'a> {
    plan: &'a Plan,
    /// The weight.
    pub weight: &'a Weight,
    /// The decisions.
    pub decision: &'a Decision,
}

impl<'a> PlannedWeight<'a> {
    /// What it has in common with others of the same decisions, shape and storage.
    #[must_use]
    pub fn class(&self) -> &'a Class {
        class::of(&self.plan.classes, self.decision)
    }

    /// Name of one of its planned tensors. Where a stack is written as matrices, `{expert}` and `{part}` stand in it.
    #[must_use]
    pub fn planned_name(&self, component: &PlannedComponent) -> String {
        let split = self.class().encoding.as_ref().and_then(|encoding| encoding.split.as_ref());
        let experts = split.and_then(|split| self.plan.experts.get(split.experts));
        let template = experts.and_then(|experts| {
            let part = (!experts.parts.is_empty()).then_some("{part}");
            experts.path_of(&self.weight.path, "{expert}", part)
        });
        component.name.of(template.as_deref().unwrap_or(&self.weight.path))
    }

    /// Name of the deciding partition rule.
    #[must_use]
    pub fn partition_rule(&self) -> Option<&'a str> {
        self.rule(0, self.class().partition)
    }

    /// Name of the deciding quantization rule.
    #[must_use]
    pub fn quantization_rule(&self) -> Option<&'a str> {
        self.rule(1, self.class().quantization)
    }

    /// Name of the deciding loader rule.
    #[must_use]
    pub fn loader_rule(&self) -> Option<&'a str> {
        self.rule(2, self.decision.loader)
    }

    /// A rule of a table, by the table's place in [`Plan::rules`].
    fn rule(&self, table: usize, index: Option<usize>) -> Option<&'a str> {
        let start = self.plan.tables.get(table)?;
        self.plan.rules.get(start + index?).map(|rule| rule.name.as_str())
    }

    /// Numbers of the devices that hold it, when it is placed.
    #[must_use]
    pub fn owners(&self) -> Option<Vec<u64>> {
        let (axis, at) = (self.class().place_axis?, self.decision.owner?);
        Some(self.plan.mesh.devices_at(axis, at).collect())
    }
}

impl LoadPlan {
    pub(crate) fn new(policy: &Policy, loading: Option<&Loading>) -> Self {
        let default = &policy.loader;
        Self {
            read: loading.and_then(|loading| loading.read).unwrap_or(default.read),
            stage: loading.and_then(|loading| loading.stage).unwrap_or(default.stage),
            verify: loading.and_then(|loading| loading.verify).unwrap_or(default.verify),
        }
    }
}
