//! Inventories: what a checkpoint holds, as logical weights.
//!
//! A reader gives a [`Checkpoint`], the stored tensors as the files name them, from headers alone. Grouping gives an
//! [`Inventory`] of logical [`Weight`]s, each with the stored [`Component`]s that it consists of.

use std::sync::Arc;

use crate::Dtype;

/// Index into [`Checkpoint::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// Where a stored tensor's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    /// The file; `None` when the inventory is a list that names none.
    pub file: Option<FileId>,
    /// First byte, counted from the start of the file; `None` when only the file is known.
    pub offset: Option<u64>,
    /// Number of bytes.
    pub length: u64,
}

/// One tensor as a file stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// The name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major (slowest first) whatever the file's own convention.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub bytes: ByteRange,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Path as the user would write it; for a list, the file's name as the list gives it.
    pub path: Arc<str>,
    /// Size in bytes, where the file is present.
    pub size: Option<u64>,
}

/// How a checkpoint is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// One or more safetensors files.
    Safetensors,
    /// A JSONL list of names, dtypes and shapes, without weights.
    List,
}

/// Stored tensors of one checkpoint, in the order of its files.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What people call it: the path given.
    pub name: Arc<str>,
    /// How it is kept.
    pub container: Container,
    /// Its files.
    pub files: Vec<CheckpointFile>,
    /// Its tensors.
    pub tensors: Vec<StoredTensor>,
}

/// What a stored component is to its weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// The values, or the codes that stand for them.
    Weight,
    /// Multipliers (or divisors) of groups of codes.
    Scales,
    /// Integer offsets of groups of codes.
    ZeroPoint,
    /// One multiplier over all scales.
    GlobalScale,
    /// The logical shape, stored as a tensor.
    Shape,
    /// Anything else a layout keeps beside the weight, by its suffix.
    Other(Arc<str>),
}

/// A stored tensor in its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What it is to the weight.
    pub role: Role,
    /// The stored tensor.
    pub tensor: StoredTensor,
}

/// How a weight's components encode it. `when.format` and the plan's `stored.format` use [`StoredFormat::name`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoredFormat {
    /// One tensor, its own values.
    Plain,
    /// Grok-1's `QuantizedWeight8bit`: `<path>/weight` i8 `[*lead, K, N]`, `<path>/scales` `[*lead, G, N]`.
    Grok1,
    /// DeepSeek's fp8: `weight` f8_e4m3, `weight_scale_inv` f32 per 128x128 block.
    Fp8Block,
    /// fp8 with `weight_scale` (per tensor, channel or block).
    Fp8Scaled,
    /// compressed-tensors int8, unpacked: `weight` i8, `weight_scale`, perhaps `weight_zero_point`.
    IntQuantized,
    /// compressed-tensors `pack-quantized`: `weight_packed` i32, `weight_scale`, `weight_shape`, perhaps `weight_zero_point`.
    PackQuantized,
    /// compressed-tensors NVFP4: `weight_packed` u8, `weight_scale` f8_e4m3, `weight_global_scale`.
    Nvfp4Packed,
    /// compressed-tensors MXFP4: `weight_packed` u8, `weight_scale` u8 (e8m0).
    Mxfp4Packed,
    /// GPT-OSS MXFP4: `X_blocks` u8 `[..., K/32, 16]`, `X_scales` u8 `[..., K/32]`.
    Mxfp4Blocks,
    /// bitsandbytes NF4 or FP4 with its companions.
    Bnb4Bit,
    /// bitsandbytes LLM.int8: `weight` i8, `SCB` f32.
    BnbInt8,
    /// GGML blocks: one tensor of a block dtype.
    Ggml,
    /// A layout that the policy declares as `[stored.NAME]`.
    Declared(Arc<str>),
}

/// One logical weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// The path that rules see (after renames).
    pub path: String,
    /// The path before renames; equal to `path` where none applied.
    pub stored_path: String,
    /// How the components encode it.
    pub format: StoredFormat,
    /// Dtype of the values it stands for (what decoding gives), not of the codes.
    pub dtype: Dtype,
    /// Logical dimensions, row-major.
    pub shape: Vec<u64>,
    /// The stored tensors; the one with [`Role::Weight`] first.
    pub components: Vec<Component>,
    /// Path of the weight that this one shares storage with, when it is an alias.
    pub alias_of: Option<String>,
}

/// What a checkpoint holds, as logical weights in inventory order.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// What people call it.
    pub name: Arc<str>,
    /// How it is kept.
    pub container: Container,
    /// Its files.
    pub files: Vec<CheckpointFile>,
    /// Its weights, in the order of the checkpoint.
    pub weights: Vec<Weight>,
}
