//! A load as other programs read it: `load --format json`, and the note beside a device's own checkpoint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LoadOptions, LoadReport, ReadPlan, Rung, Traffic};
use crate::Dtype;
use crate::finding::FindingRecord;
use crate::plan::Plan;
use crate::plan::record::MeshRecord;
use crate::policy::Verify;

/// The `format` key of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadFormat {
    /// The one value.
    #[serde(rename = "flow-fabric/load")]
    Load,
}

/// What one device loads, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "flow-fabric load")]
pub struct LoadDocument {
    /// Always `flow-fabric/load`.
    pub format: LoadFormat,
    /// Version of this shape; additions do not raise it.
    #[schemars(extend("const" = 1))]
    pub format_version: u32,
    /// Name of the policy.
    pub policy: String,
    /// Name of the checkpoint.
    pub checkpoint: String,
    /// The device mesh.
    pub mesh: MeshRecord,
    /// The device's number.
    pub device: u64,
    /// Its coordinates, one per axis.
    pub coordinates: Vec<u64>,
    /// Bytes of the device's tensors as they are stored.
    pub stored_bytes: u64,
    /// Bytes of the device's tensors as they are planned.
    pub planned_bytes: u64,
    /// Bytes of the files that are read from copies in shared memory, by rules with `stage = "shm"`; 0 where they could not be
    /// copied.
    #[serde(default)]
    pub staged_bytes: u64,
    /// What the loader was told.
    pub options: OptionsRecord,
    /// All of it.
    pub totals: TrafficRecord,
    /// The same by the rules that decide it.
    pub rules: Vec<RuleTrafficRecord>,
    /// How each file was read; empty for a dry run.
    pub files: Vec<DeviceFileRecord>,
    /// The device's tensors, by file and place in it.
    pub tensors: Vec<LoadedTensorRecord>,
    /// Times; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TimingsRecord")]
    pub timings: Option<TimingsRecord>,
    /// What there is to say.
    pub findings: Vec<FindingRecord>,
}

/// What the loader was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OptionsRecord {
    /// Threads that read.
    pub threads: usize,
    /// Most bytes that a thread reads at a time.
    pub chunk: u64,
    /// Reads that a thread has in flight at once past the page cache.
    pub queue_depth: u32,
    /// Unwanted bytes between two pieces that are read along.
    pub gap: u64,
    /// The same for files in the page cache.
    pub cached_gap: u64,
    /// Most bytes of memory besides the tensors.
    pub budget: u64,
}

/// Tensors, bytes and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TrafficRecord {
    /// Stored tensors.
    pub tensors: u64,
    /// Bytes that the device wants.
    pub bytes_wanted: u64,
    /// Bytes that are read for it.
    pub bytes_read: u64,
    /// Reads.
    pub requests: u64,
}

/// What one pair of rules comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleTrafficRecord {
    /// The partition rule that decides the slices; `null` where none matched.
    pub partition: Option<String>,
    /// The loader rule that decides how they are read; `null` for the defaults.
    pub loader: Option<String>,
    /// `auto`, `mmap`, `pread` or `direct`.
    pub read: String,
    /// What it is held against while it is read: `none`, `xxh3` or `blake3`.
    #[serde(default = "unverified")]
    pub verify: String,
    /// Counts.
    #[serde(flatten)]
    pub traffic: TrafficRecord,
}

/// How one file was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceFileRecord {
    /// The path as the user would write it.
    pub path: String,
    /// What the policy says: `auto`, `mmap`, `pread` or `direct`.
    pub asked: String,
    /// What it became: `buffered`, `direct`, `io_uring`, `mapped` or `staged`.
    pub read: String,
    /// The part of the wanted bytes that the page cache held at the start, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub cached: Option<f64>,
    /// Why it was not read as the policy says, or not in the fastest of the ways that it leaves open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub because: Option<String>,
    /// Bytes that the device wants of it.
    pub bytes_wanted: u64,
    /// Bytes that were read for it.
    pub bytes_read: u64,
    /// Reads.
    pub requests: u64,
}

/// One stored tensor on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadedTensorRecord {
    /// Its name in the checkpoint.
    pub name: String,
    /// Path of the weight it belongs to.
    pub weight: String,
    /// What it is to the weight: `weight`, `scales`, ...
    pub role: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions in the checkpoint.
    pub stored_shape: Vec<u64>,
    /// First index of each dimension.
    pub start: Vec<u64>,
    /// Dimensions on the device, padding included.
    pub shape: Vec<u64>,
    /// Its bytes on the device.
    pub bytes: u64,
    /// Runs of bytes that it is read from.
    pub runs: u64,
}

/// Times in seconds. Those of reading, verifying and copying are added up over threads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimingsRecord {
    /// By the clock, from opening the files to the last byte.
    pub elapsed: f64,
    /// Opening files and picking the way to read each.
    pub open: f64,
    /// Reading.
    pub read: f64,
    /// Digests.
    pub verify: f64,
    /// Copying out of buffers.
    pub copy: f64,
    /// Wanted bytes per second by the clock, in units of 1e9.
    pub gigabytes_per_second: f64,
    /// Most memory that the process had at once, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub peak_memory: Option<u64>,
}

impl LoadDocument {
    /// Writes down what a device loads: `traffic` is that of each target, `report` how it went, if it did.
    #[must_use]
    pub fn new(
        plan: &Plan,
        device: &ReadPlan,
        options: &LoadOptions,
        traffic: &[Traffic],
        report: Option<&LoadReport>,
        findings: Vec<FindingRecord>,
    ) -> Self {
        let held = usize::try_from(device.device).ok().and_then(|number| plan.devices.get(number));
        let mut totals = TrafficRecord::default();
        traffic.iter().for_each(|one| totals.add(*one));
        if let Some(report) = report {
            (totals.bytes_read, totals.requests) = (report.traffic.read, report.traffic.requests);
        }
        Self {
            format: LoadFormat::Load,
            format_version: 1,
            policy: plan.policy.clone(),
            checkpoint: plan.inventory.name.to_string(),
            mesh: MeshRecord {
                axes: plan.mesh.axes().iter().map(|(name, _)| name.clone()).collect(),
                shape: plan.mesh.axes().iter().map(|(_, size)| *size).collect(),
                device_memory: plan.device_memory,
            },
            device: device.device,
            coordinates: device.coordinates.clone(),
            stored_bytes: held.map_or(0, |held| held.stored_bytes),
            planned_bytes: held.map_or(0, |held| held.planned_bytes),
            staged_bytes: staged_bytes(device, report),
            options: options.into(),
            totals,
            rules: rules(device, traffic),
            files: report.map(files).unwrap_or_default(),
            tensors: device.targets.iter().map(tensor).collect(),
            timings: report.map(TimingsRecord::new),
            findings,
        }
    }
}

impl TrafficRecord {
    fn add(&mut self, traffic: Traffic) {
        self.tensors += 1;
        self.bytes_wanted = self.bytes_wanted.saturating_add(traffic.wanted);
        self.bytes_read = self.bytes_read.saturating_add(traffic.read);
        self.requests = self.requests.saturating_add(traffic.requests);
    }
}

impl From<&LoadOptions> for OptionsRecord {
    fn from(options: &LoadOptions) -> Self {
        Self {
            threads: options.threads(options.chunk()),
            chunk: options.chunk(),
            queue_depth: options.queue_depth,
            gap: options.gap,
            cached_gap: options.cached_gap,
            budget: options.budget,
        }
    }
}

impl TimingsRecord {
    fn new(report: &LoadReport) -> Self {
        let elapsed = report.elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = if elapsed > 0.0 { report.traffic.wanted as f64 / elapsed / 1e9 } else { 0.0 };
        Self {
            elapsed,
            open: report.open.as_secs_f64(),
            read: report.read.as_secs_f64(),
            verify: report.verify.as_secs_f64(),
            copy: report.copy.as_secs_f64(),
            gigabytes_per_second: rate,
            peak_memory: None,
        }
    }
}

/// What is read from shared memory, or would be.
fn staged_bytes(device: &ReadPlan, report: Option<&LoadReport>) -> u64 {
    // Files are staged together or not at all.
    match report {
        Some(report) if report.files.iter().all(|file| file.rung != Rung::Staged) => 0,
        _ => device.staged_bytes(),
    }
}

fn unverified() -> String {
    Verify::None.name().to_owned()
}

/// One record per pair of rules and way to read, in the order of the first tensor of each.
fn rules(device: &ReadPlan, traffic: &[Traffic]) -> Vec<RuleTrafficRecord> {
    let mut records: indexmap::IndexMap<_, TrafficRecord> = indexmap::IndexMap::new();
    for (target, traffic) in device.targets.iter().zip(traffic) {
        let key = (
            target.partition_rule.clone(),
            target.loader_rule.clone(),
            target.load.read.name(),
            target.load.verify.name(),
        );
        records.entry(key).or_default().add(*traffic);
    }
    records
        .into_iter()
        .map(|((partition, loader, read, verify), traffic)| RuleTrafficRecord {
            partition: partition.map(|name| name.to_string()),
            loader: loader.map(|name| name.to_string()),
            read: read.to_owned(),
            verify: verify.to_owned(),
            traffic,
        })
        .collect()
}

fn files(report: &LoadReport) -> Vec<DeviceFileRecord> {
    report
        .files
        .iter()
        .map(|file| DeviceFileRecord {
            path: file.path.to_string(),
            asked: file.asked.name().to_owned(),
            read: file.rung.name().to_owned(),
            cached: file.cached,
            because: file.because.clone(),
            bytes_wanted: file.traffic.wanted,
            bytes_read: file.traffic.read,
            requests: file.traffic.requests,
        })
        .collect()
}

fn tensor(target: &super::Target) -> LoadedTensorRecord {
    LoadedTensorRecord {
        name: target.name.clone(),
        weight: target.weight.clone(),
        role: target.role.name().to_owned(),
        dtype: target.dtype,
        stored_shape: target.stored_shape.clone(),
        start: target.start.clone(),
        shape: target.shape.clone(),
        bytes: target.slice.bytes(),
        runs: target.slice.runs(),
    }
}
