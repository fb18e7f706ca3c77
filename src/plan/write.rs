//! Plans as records, and as JSON written weight by weight.

use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};

use super::record::{
    CompanionRecord, DeviceBytes, DeviceRecord, FORMAT, FORMAT_VERSION, LoadRecord, MeshRecord, PlanRecord,
    QuantRecord, ShardPieceRecord, ShardRecord, SlotRecord, StoredComponentRecord, StoredRecord, TensorRecord,
};
use super::{Plan, PlannedWeight, SlotPlan};
use crate::finding::FindingRecord;

impl PlannedWeight<'_> {
    /// The weight as other programs read it.
    #[must_use]
    pub fn record(&self) -> TensorRecord {
        let weight = self.weight;
        TensorRecord {
            path: weight.path.clone(),
            stored: self.stored(),
            dtype: weight.dtype,
            shape: weight.shape.clone(),
            alias_of: weight.alias_of.clone(),
            shard: self.shard(),
            quant: self.quant(),
            load: LoadRecord {
                rule: self.loader_rule().map(str::to_owned),
                read: self.decision.load.read.name().to_owned(),
                stage: self.decision.load.stage.name().to_owned(),
                verify: self.decision.load.verify.name().to_owned(),
            },
            on_device: self.on_device(),
        }
    }

    /// Bytes of the weight on a device that holds it: the first of each axis, which never holds less than others.
    fn on_device(&self) -> DeviceBytes {
        let mesh = &self.plan.mesh;
        let share = self.class().share(mesh, &vec![0; mesh.axes().len()], self.weight);
        DeviceBytes { stored_bytes: share.stored_bytes, planned_bytes: share.planned_bytes }
    }

    fn stored(&self) -> StoredRecord {
        let (weight, class) = (self.weight, self.class());
        let files = &self.plan.inventory.files;
        let components = weight
            .components
            .iter()
            .zip(&class.stored)
            .map(|(component, cuts)| {
                let tensor = &component.tensor;
                let file = tensor.bytes.file.and_then(|file| files.get(file.0 as usize));
                StoredComponentRecord {
                    name: tensor.name.clone(),
                    role: component.role.name().to_owned(),
                    dtype: tensor.dtype,
                    shape: tensor.shape.clone(),
                    file: file.map(|file| file.path.to_string()),
                    offset: tensor.bytes.offset,
                    length: tensor.bytes.length,
                    spec: class.spec.is_some().then(|| cuts.spec.clone()),
                }
            })
            .collect();
        StoredRecord {
            format: weight.format.name().to_owned(),
            path: (weight.stored_path != weight.path).then(|| weight.stored_path.clone()),
            components,
        }
    }

    fn shard(&self) -> ShardRecord {
        let (weight, class, mesh) = (self.weight, self.class(), &self.plan.mesh);
        let uniform = class.cuts.is_uniform();
        let owners = self.owners();
        let placed = class.place_axis.map_or(1, |axis| mesh.size(axis));
        ShardRecord {
            rule: self.partition_rule().map(str::to_owned),
            spec: class.spec.clone(),
            local_shape: uniform.then(|| class.cuts.local_shape(&weight.shape, mesh, &vec![0; mesh.axes().len()])),
            replicas: class.cuts.replicas(mesh) / placed.max(1),
            shards: (!uniform).then(|| self.pieces(owners.as_deref())),
            placed_over: class.place_axis.map(|axis| mesh.name(axis).to_owned()),
            owners,
            fallbacks: class.cuts.fallbacks.iter().map(|fallback| fallback.name().to_owned()).collect(),
        }
    }

    /// Every device's own piece.
    fn pieces(&self, owners: Option<&[u64]>) -> Vec<ShardPieceRecord> {
        let (class, mesh) = (self.class(), &self.plan.mesh);
        (0..mesh.devices())
            .filter(|device| owners.is_none_or(|owners| owners.contains(device)))
            .map(|device| {
                let coordinates = mesh.coordinates(device);
                let ranges = class.cuts.ranges(&self.weight.shape, mesh, &coordinates);
                ShardPieceRecord {
                    device,
                    start: ranges.iter().map(|(start, _)| *start).collect(),
                    shape: ranges.iter().map(|(start, stop)| stop - start).collect(),
                }
            })
            .collect()
    }

    fn quant(&self) -> QuantRecord {
        let class = self.class();
        let companions = class
            .planned
            .iter()
            .map(|component| CompanionRecord {
                name: self.planned_name(component),
                dtype: component.dtype,
                shape: component.shape.clone(),
                spec: class.spec.is_some().then(|| component.cuts.spec.clone()),
            })
            .collect();
        QuantRecord {
            rule: self.quantization_rule().map(str::to_owned),
            scheme: class.scheme.as_deref().unwrap_or("keep").to_owned(),
            kept_non_float: class.kept_non_float,
            bytes: class.planned_bytes,
            companions,
        }
    }
}

impl Plan {
    /// The whole plan as a record, in memory. [`Plan::write_json`] does not need it.
    #[must_use]
    pub fn record(&self) -> PlanRecord {
        PlanRecord {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            policy: self.policy.clone(),
            inventory: self.inventory.name.to_string(),
            mesh: self.mesh_record(),
            rules: self.rules.clone(),
            settings: self.settings.clone(),
            tensors: self.weights().map(|weight| weight.record()).collect(),
            devices: self.device_records(),
            slots: self.slots.iter().map(|(name, slot)| (name.clone(), self.slot_record(slot))).collect(),
            summary: self.summary.clone(),
            findings: self.finding_records(),
        }
    }

    /// Writes the plan as one JSON document, one weight in memory at a time.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_json(&self, writer: impl std::io::Write) -> serde_json::Result<()> {
        serde_json::to_writer(writer, &Streamed(self))
    }

    /// Writes one JSON object per weight and line.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_jsonl(&self, mut writer: impl std::io::Write) -> serde_json::Result<()> {
        for weight in self.weights() {
            serde_json::to_writer(&mut writer, &weight.record())?;
            writer.write_all(b"\n").map_err(serde_json::Error::io)?;
        }
        Ok(())
    }

    fn mesh_record(&self) -> MeshRecord {
        MeshRecord {
            axes: self.mesh.axes().iter().map(|(name, _)| name.clone()).collect(),
            shape: self.mesh.axes().iter().map(|(_, size)| *size).collect(),
            device_memory: self.device_memory,
        }
    }

    fn device_records(&self) -> Vec<DeviceRecord> {
        (0..)
            .zip(&self.devices)
            .map(|(number, device)| DeviceRecord {
                coordinates: self.mesh.coordinates(number),
                stored_bytes: device.stored_bytes,
                planned_bytes: device.planned_bytes,
            })
            .collect()
    }

    fn slot_record(&self, slot: &SlotPlan) -> SlotRecord {
        SlotRecord {
            tensors: self.slot_weights(slot).map(|weight| weight.weight.path.clone()).collect(),
            sampler: slot.sampler.clone(),
            moe: slot.moe.clone(),
        }
    }

    fn finding_records(&self) -> Vec<FindingRecord> {
        self.findings.iter().map(|finding| FindingRecord::new(finding, &self.sources)).collect()
    }
}

/// The same document as [`PlanRecord`], weight by weight.
struct Streamed<'a>(&'a Plan);

impl Serialize for Streamed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plan = self.0;
        let mut document = serializer.serialize_struct("PlanRecord", 12)?;
        document.serialize_field("format", FORMAT)?;
        document.serialize_field("format_version", &FORMAT_VERSION)?;
        document.serialize_field("policy", &plan.policy)?;
        document.serialize_field("inventory", &plan.inventory.name)?;
        document.serialize_field("mesh", &plan.mesh_record())?;
        document.serialize_field("rules", &plan.rules)?;
        document.serialize_field("settings", &plan.settings)?;
        document.serialize_field("tensors", &Tensors(plan))?;
        document.serialize_field("devices", &plan.device_records())?;
        let slots: indexmap::IndexMap<&str, SlotRecord> =
            plan.slots.iter().map(|(name, slot)| (name.as_str(), plan.slot_record(slot))).collect();
        document.serialize_field("slots", &slots)?;
        document.serialize_field("summary", &plan.summary)?;
        document.serialize_field("findings", &plan.finding_records())?;
        document.end()
    }
}

struct Tensors<'a>(&'a Plan);

impl Serialize for Tensors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tensors = serializer.serialize_seq(Some(self.0.decisions.len()))?;
        for weight in self.0.weights() {
            tensors.serialize_element(&weight.record())?;
        }
        tensors.end()
    }
}
