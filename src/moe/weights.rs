//! Where a layer's weights come from.

use std::collections::BTreeMap;

/// Gives a layer's weights as values, whatever they are stored as.
///
/// Names are those of [`MoeTensors`](super::MoeTensors) below the layer's prefix, `{expert}` filled in.
pub trait WeightSource: Sync {
    /// The logical shape of a tensor, `None` when there is no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Reads values of a tensor into `into`, counted row-major from element `start`.
    ///
    /// # Errors
    ///
    /// A tensor that is not there, cannot be read, or cannot be decoded.
    fn read(&self, name: &str, start: usize, into: &mut [f32]) -> Result<(), WeightError>;
}

/// Why a weight could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}`: {reason}")]
pub struct WeightError {
    /// The tensor.
    pub name: String,
    /// What is wrong, lower case.
    pub reason: String,
}

/// Weights in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryWeights {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl MemoryWeights {
    /// Adds a tensor, or replaces the one of that name.
    ///
    /// # Errors
    ///
    /// Values that are not as many as the shape says.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) -> Result<(), WeightError> {
        let name = name.into();
        let elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        if elements != Some(values.len()) {
            return Err(WeightError { name, reason: format!("{} values for the shape {shape:?}", values.len()) });
        }
        self.tensors.insert(name, (shape, values));
        Ok(())
    }

    /// The tensors, by name: shape and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.tensors.iter().map(|(name, (shape, values))| (&**name, &**shape, &**values))
    }
}

impl WeightSource for MemoryWeights {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|(shape, _)| shape.clone())
    }

    fn read(&self, name: &str, start: usize, into: &mut [f32]) -> Result<(), WeightError> {
        let error = |reason: &str| WeightError { name: name.to_owned(), reason: reason.to_owned() };
        let (_, values) = self.tensors.get(name).ok_or_else(|| error("there is no such tensor"))?;
        let part = start.checked_add(into.len()).and_then(|end| values.get(start..end));
        into.copy_from_slice(part.ok_or_else(|| error("a part beyond its end"))?);
        Ok(())
    }
}
