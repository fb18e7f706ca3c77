//! Inventories: what a checkpoint holds, as logical weights.
//!
//! A reader gives a [`Checkpoint`], the stored tensors as the files name them, from headers alone. Grouping gives an
//! [`Inventory`] of logical [`Weight`]s, each with the stored [`Component`]s that it consists of.

mod bytes;
mod checkpoint;
mod config;
mod directory;
mod file;
mod format;
pub(crate) mod gguf;
mod grok;
mod group;
mod header;
mod index;
mod json;
mod layouts;
mod list;
mod metadata;
mod name;
mod names;
mod npz;
mod open;
mod pickle;
mod record;
mod rename;
mod safetensors;
mod shards;
mod template;
mod tie;
mod torch;
mod trouble;
mod weight;
mod zip;

pub use checkpoint::{ByteRange, Checkpoint, CheckpointFile, Container, FileId, FileStamp, Indirect, StoredTensor};
pub use config::{ModelConfig, QuantizationConfig, QuantizationGroup};
pub use format::StoredFormat;
pub use gguf::GgufPairs;
pub(crate) use grok::number as pickled_array_number;
pub use group::Grouping;
pub use index::ShardIndex;
pub use layouts::{DeclaredLayout, DeclaredShape};
pub use metadata::{Metadata, MetadataValue};
pub(crate) use name::{MAX_RANK, objection as name_objection};
pub use open::OpenError;
pub use record::{
    ComponentRecord, FileRecord, INVENTORY_FORMAT, InventoryDocument, InventoryTotals, TensorRecord, WeightRecord,
};
pub use rename::Renames;
pub use template::{Segment, Template, collapse, natural_cmp};
pub(crate) use trouble::quoted;
pub use weight::{Component, Inventory, Role, Weight};
