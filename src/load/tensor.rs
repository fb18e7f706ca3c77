//! What was loaded: tensors that own their bytes.

use indexmap::IndexMap;

use super::plan::Reshape;
use super::{LoadError, Target};
use crate::Dtype;
use crate::inventory::Role;
use crate::storage::AlignedBuffer;

/// A tensor of one device. It owns its bytes, aligned to [`crate::storage::ALIGNMENT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedTensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// Path of the weight it belongs to.
    pub weight: String,
    /// What it is to the weight.
    pub role: Role,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions on the device, row-major, padding included.
    pub shape: Vec<u64>,
    /// Its values, as they are stored.
    pub bytes: AlignedBuffer,
}

/// All tensors of one device, by their names in the checkpoint, in the order of its files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The tensors.
    pub tensors: IndexMap<String, LoadedTensor>,
}

impl Loaded {
    /// The tensor of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&LoadedTensor> {
        self.tensors.get(name)
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.bytes.len() as u64).sum()
    }
}

impl LoadedTensor {
    /// Makes place for a target.
    pub(super) fn reserve(target: &Target) -> Result<Self, LoadError> {
        let length = usize::try_from(target.slice.bytes()).ok();
        let bytes = length
            .and_then(AlignedBuffer::try_zeroed)
            .ok_or_else(|| LoadError::NoMemory { tensor: target.name.clone(), bytes: target.slice.bytes() })?;
        Ok(Self {
            name: target.name.clone(),
            weight: target.weight.clone(),
            role: target.role.clone(),
            dtype: target.dtype,
            shape: target.shape.clone(),
            bytes,
        })
    }

    /// Whether a target can be read into it.
    pub(super) fn fits(&self, target: &Target) -> bool {
        self.dtype == target.dtype && self.shape == target.shape && self.bytes.len() as u64 == target.slice.bytes()
    }

    /// Writes the device's shape over the whole weight's. What holds something else stays as it is.
    pub(super) fn reshape(&mut self, reshape: &Reshape) {
        let Some(width) = integer_bytes(self.dtype) else { return };
        let numbers = |bytes: &[u8]| -> Option<Vec<u64>> { bytes.chunks_exact(width).map(number).collect() };
        if numbers(&self.bytes).as_ref() != Some(&reshape.from) {
            return;
        }
        for (to, size) in self.bytes.chunks_exact_mut(width).zip(&reshape.to) {
            // A part is no larger than the whole, which did fit.
            for (byte, value) in to.iter_mut().zip(size.to_le_bytes()) {
                *byte = value;
            }
        }
    }
}

fn integer_bytes(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::I64 | Dtype::U64 => Some(8),
        Dtype::I32 | Dtype::U32 => Some(4),
        _ => None,
    }
}

/// A little-endian number of at most 8 bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(wide))
}
