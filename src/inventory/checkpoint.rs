//! Checkpoints: the stored tensors of one model, as its files name them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::{Metadata, ModelConfig};
use crate::Dtype;

/// Stored tensors of one checkpoint, in the order of its files. Names are unique: a reader reports a repeated name and
/// keeps the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What people call it: the path given.
    pub name: Arc<str>,
    /// How it is kept.
    pub container: Container,
    /// Its files.
    pub files: Vec<CheckpointFile>,
    /// Its tensors.
    pub tensors: Vec<StoredTensor>,
    /// Bytes of the few small tensors that hold a layout's shape instead of weights (bitsandbytes' `quant_state`), by name.
    pub contents: BTreeMap<String, Arc<[u8]>>,
    /// How the tensors lie in their files that do not lie there as they are, by name. Only a conversion reads them.
    pub indirect: BTreeMap<String, Indirect>,
    /// Names that a safetensors file's metadata gives to a tensor beside its own: the tied weights that were left out of it. They
    /// are among `tensors`, with the same bytes.
    pub aliases: BTreeSet<String>,
    /// What the model's `config.json` says about ties and quantization, where there is one.
    pub config: Option<ModelConfig>,
}

impl Checkpoint {
    /// Makes a checkpoint without files and tensors.
    #[must_use]
    pub fn empty(name: impl Into<Arc<str>>, container: Container) -> Self {
        Self {
            name: name.into(),
            container,
            files: Vec::new(),
            tensors: Vec::new(),
            contents: BTreeMap::new(),
            indirect: BTreeMap::new(),
            aliases: BTreeSet::new(),
            config: None,
        }
    }
}

/// How a checkpoint is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Container {
    /// One or more safetensors files.
    Safetensors,
    /// A GGUF file, or the parts of a split one.
    Gguf,
    /// One or more files that `torch.save` wrote.
    Torch,
    /// A numpy archive.
    Npz,
    /// Grok-1's directory of pickled arrays, or one of its files.
    Pickle,
    /// A JSONL list of names, dtypes and shapes, without weights.
    List,
}

impl Container {
    /// The name people read: `safetensors`, `gguf`, `torch`, `npz`, `pickle`, `list`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Container::Safetensors => "safetensors",
            Container::Gguf => "gguf",
            Container::Torch => "torch",
            Container::Npz => "npz",
            Container::Pickle => "pickle",
            Container::List => "list",
        }
    }
}

/// Index into [`Checkpoint::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointFile {
    /// Path as the user would write it; for a list, the file's name as the list gives it.
    pub path: Arc<str>,
    /// Where to open it; `None` for the files of a list.
    pub location: Option<Arc<Path>>,
    /// Size in bytes, where the file is present.
    pub size: Option<u64>,
    /// What the file was when its header was read, so that a later reader can tell that it was replaced.
    pub stamp: Option<FileStamp>,
    /// What the header says besides its tensors (safetensors' `__metadata__`, GGUF's key-value pairs).
    pub metadata: Metadata,
}

/// Identity of a file's content as far as the file system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    /// Size in bytes.
    pub size: u64,
    /// Last modification, in nanoseconds since 1970; 0 where the system keeps none.
    pub modified: i128,
    /// Device and inode; zeros where the system has none.
    pub inode: (u64, u64),
}

/// One tensor as a file stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// The name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major (slowest first) whatever the file's own convention. Their product fits 64 bits.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub bytes: ByteRange,
}

impl StoredTensor {
    /// Number of elements; saturates for shapes that no reader lets through.
    #[must_use]
    pub fn elements(&self) -> u64 {
        elements(&self.shape)
    }
}

/// Product of the dimensions, saturating; 1 for a scalar.
pub(super) fn elements(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |product: u64, &dimension| product.saturating_mul(dimension))
}

/// Where a stored tensor's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    /// The file; `None` when the inventory is a list that names none.
    pub file: Option<FileId>,
    /// First byte, counted from the start of the file; `None` when only the file is known, or when the bytes do not lie there
    /// as they are (see [`Checkpoint::indirect`]).
    pub offset: Option<u64>,
    /// Number of bytes.
    pub length: u64,
}

/// How a tensor lies in its file when its bytes do not stand there one after the other, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Indirect {
    /// Elements at strides: a torch tensor that is a view, a numpy array that is stored column by column.
    Strided {
        /// First byte of the first element, counted from the start of the file.
        offset: u64,
        /// Elements from one index to the next, for each dimension. All elements lie in the file.
        strides: Vec<u64>,
    },
    /// Packed by DEFLATE.
    Deflated {
        /// First packed byte, counted from the start of the file.
        offset: u64,
        /// Number of packed bytes.
        stored: u64,
        /// Unpacked bytes in front of the tensor's.
        skip: u64,
    },
}
