//! Checkpoints and policies in a folder, and runs over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flow_fabric::finding::Finding;
use flow_fabric::inventory::{Checkpoint, Grouping, Inventory};
use flow_fabric::output::{Layout, OutputDirectory, OutputOptions, SafetensorsWriter, TensorSpec};
use flow_fabric::plan::PlanOptions;
use flow_fabric::progress::Silent;
use flow_fabric::quantize::run::{self, DriftReport, RunError, RunOptions};
use flow_fabric::quantize::{Arithmetic, decode};
use flow_fabric::{Dtype, Plan, Policy};

/// A tensor with its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn f32(shape: &[u64], values: impl IntoIterator<Item = f32>) -> Self {
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(bytes.len() as u64, shape.iter().product::<u64>() * 4);
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// Numbers of a normal-looking spread, from a small generator, in bf16.
    pub(crate) fn noise(shape: &[u64], seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let count = shape.iter().product::<u64>();
        let values = (0..count).map(|_| half::bf16::from_f32((next() + next() + next()) * 0.02));
        let bytes = values.flat_map(half::bf16::to_le_bytes).collect();
        Self { dtype: Dtype::Bf16, shape: shape.to_vec(), bytes }
    }
}

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// Writes a checkpoint of one file, or of files of at most so many bytes.
pub(crate) fn write(folder: &Path, tensors: &Tensors, shard_bytes: Option<u64>) {
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|(name, tensor)| TensorSpec { name: name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() })
        .collect();
    let layout = Layout::new(&specs, &BTreeMap::new(), shard_bytes).unwrap();
    let directory = OutputDirectory::create(folder, &OutputOptions { replace: true, ..Default::default() }).unwrap();
    let writer = SafetensorsWriter::create(directory, layout).unwrap();
    for (index, tensor) in tensors.values().enumerate() {
        writer.write_at(index, 0, &tensor.bytes).unwrap();
    }
    writer.publish().unwrap();
}

pub(crate) fn open(path: &Path) -> Checkpoint {
    let (checkpoint, findings) = Checkpoint::open(path).unwrap();
    assert_eq!(findings, []);
    checkpoint
}

pub(crate) fn group(path: &Path) -> Inventory {
    let (inventory, findings) = Inventory::group(&open(path), &Grouping::default());
    assert_eq!(findings, []);
    inventory
}

/// All tensors of a checkpoint, read by the reference library.
pub(crate) fn read(folder: &Path) -> Tensors {
    let mut tensors = Tensors::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "safetensors")) {
        let bytes = std::fs::read(file).unwrap();
        for (name, view) in safetensors::SafeTensors::deserialize(&bytes).unwrap().iter() {
            let dtype = Dtype::from_safetensors(&view.dtype().to_string()).unwrap();
            let shape = view.shape().iter().map(|&size| size as u64).collect();
            tensors.insert(name.to_owned(), Tensor { dtype, shape, bytes: view.data().to_vec() });
        }
    }
    tensors
}

/// A policy of one scheme for everything that a glob takes.
pub(crate) fn policy(layout: &str, scheme: &str, settings: &str) -> Policy {
    policy_of(&format!(
        "[scheme.s]\n{scheme}\n[quantization]\nlayout = \"{layout}\"\n{settings}\n\
         [[QUANTIZATION_RULES]]\nname = \"all\"\nglob = \"**\"\nscheme = \"s\"\nforce = true\n"
    ))
}

pub(crate) fn policy_of(body: &str) -> Policy {
    let text = format!("language = 1\npolicy = \"test\"\n[partition]\nunmatched = \"replicate\"\n{body}");
    Policy::parse("test.toml", &text).unwrap_or_else(|rejected| panic!("{rejected}\n{text}"))
}

pub(crate) fn plan(policy: &Policy, checkpoint: &Path) -> Plan {
    let (inventory, _) = policy.group(&open(checkpoint));
    Plan::new(policy, inventory, &PlanOptions::default()).unwrap()
}

/// Runs a policy over a checkpoint.
pub(crate) fn quantize(
    policy: &Policy,
    checkpoint: &Path,
    target: &Path,
    options: &RunOptions,
) -> Result<(DriftReport, Vec<Finding>), RunError> {
    run::run(policy, &plan(policy, checkpoint), target, options, &Silent)
}

/// The values of a weight of a checkpoint, by its path.
pub(crate) fn values(folder: &Path, path: &str, arithmetic: Arithmetic) -> Vec<f32> {
    let inventory = group(folder);
    let weight = inventory.weights.iter().find(|weight| weight.path == path).unwrap_or_else(|| panic!("no {path}"));
    let tensors = read(folder);
    let parts: Vec<&[u8]> =
        weight.components.iter().map(|component| &tensors[&component.tensor.name].bytes[..]).collect();
    decode(weight, &parts, arithmetic).unwrap()
}

/// Names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
