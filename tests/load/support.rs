//! Checkpoints of numbered bytes, and plans over them.

use std::path::{Path, PathBuf};

use flow_fabric::inventory::Checkpoint;
use flow_fabric::load::{LoadOptions, Loaded, Loader, ReadPlan};
use flow_fabric::plan::PlanOptions;
use flow_fabric::progress::Silent;
use flow_fabric::{Dtype, Plan, Policy};

/// A stored tensor and its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    /// Bytes that no other place of the tensor, and hardly one of another tensor, has.
    pub(crate) fn numbered(name: &str, dtype: Dtype, shape: &[u64]) -> Self {
        let length = dtype.bytes_for(shape.iter().product()).unwrap();
        let salt = name.bytes().fold(7_u64, |salt, byte| salt.wrapping_mul(31) + u64::from(byte));
        let byte = |at: u64| ((at.wrapping_add(salt)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes: (0..length).map(byte).collect() }
    }
}

/// A safetensors file as anyone would write it.
pub(crate) fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.bytes.len();
        let entry = serde_json::json!({
            "dtype": tensor.dtype.safetensors().unwrap(), "shape": tensor.shape, "data_offsets": [at, end],
        });
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    tensors.iter().for_each(|tensor| out.extend(&tensor.bytes));
    out
}

/// Spreads tensors over files of a folder, with an index where there are several.
pub(crate) fn checkpoint(folder: &Path, tensors: &[Tensor], files: usize) -> PathBuf {
    let name = |file: usize| format!("model-{:05}-of-{files:05}.safetensors", file + 1);
    let mut map = serde_json::Map::new();
    for file in 0..files {
        let own: Vec<Tensor> = tensors.iter().skip(file).step_by(files).cloned().collect();
        own.iter().for_each(|tensor| drop(map.insert(tensor.name.clone(), name(file).into())));
        std::fs::write(folder.join(name(file)), safetensors(&own)).unwrap();
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    folder.to_owned()
}

/// The plan of a policy over a checkpoint. Both must be free of errors.
pub(crate) fn plan(policy: &str, path: &Path) -> Plan {
    let policy = Policy::parse("policy.toml", policy).unwrap();
    let (checkpoint, findings) = Checkpoint::open(path).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let (inventory, findings) = policy.group(&checkpoint);
    assert!(findings.is_empty(), "{findings:?}");
    let plan = Plan::new(&policy, inventory, &PlanOptions::default()).unwrap();
    let worst = flow_fabric::finding::worst(&plan.findings);
    assert!(worst != Some(flow_fabric::finding::Severity::Error), "{:?}", plan.findings);
    plan
}

/// Loads one device.
pub(crate) fn load(plan: &Plan, device: u64, options: LoadOptions) -> Loaded {
    let read = ReadPlan::new(plan, device).unwrap();
    Loader::open(&read, options).unwrap().load(&Silent).unwrap()
}

/// Small chunks and a few threads, so that small tensors are cut too.
pub(crate) fn options(threads: usize, gap: u64) -> LoadOptions {
    let mut options = LoadOptions::default();
    (options.threads, options.chunk, options.gap, options.cached_gap) = (threads, 64 << 10, gap, gap / 2);
    options
}
