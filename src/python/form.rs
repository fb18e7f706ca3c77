//! How stored components make up a weight, for decoding what was loaded of it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyTuple;

use super::buffer::PyBuffer;
use super::call;
use crate::Dtype;
use crate::inventory::{ByteRange, Component, Role, StoredTensor, Weight};
use crate::load::Target;
use crate::plan::PlannedWeight;
use crate::quantize::{Arithmetic, decode};
use crate::storage::AlignedBuffer;

/// The stored format, dtype and shape of a weight or of a device's part of it, and those of its components.
///
/// Two weights that are stored alike have equal forms.
#[pyclass(frozen, eq, name = "Form", module = "flow_fabric")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PyForm {
    /// Without names and places.
    weight: Arc<Weight>,
}

impl PyForm {
    /// The form of a whole weight.
    pub(super) fn whole(planned: &PlannedWeight<'_>) -> Self {
        let weight = planned.weight;
        let parts = weight
            .components
            .iter()
            .map(|part| (part.role.clone(), part.tensor.dtype, part.tensor.shape.clone(), part.tensor.bytes.length));
        Self::new(weight, weight.shape.clone(), parts)
    }

    /// The form of what a device loads of a weight; `shape` is its logical part.
    pub(super) fn part(weight: &Weight, shape: Vec<u64>, targets: &[&Target]) -> Self {
        let parts = targets
            .iter()
            .map(|target| (target.role.clone(), target.dtype, target.shape.clone(), target.slice.bytes()));
        Self::new(weight, shape, parts)
    }

    fn new(weight: &Weight, shape: Vec<u64>, parts: impl Iterator<Item = (Role, Dtype, Vec<u64>, u64)>) -> Self {
        let component = |(role, dtype, shape, length)| {
            let bytes = ByteRange { file: None, offset: None, length };
            Component { role, tensor: StoredTensor { name: String::new(), dtype, shape, bytes } }
        };
        let weight = Weight {
            path: String::new(),
            stored_path: String::new(),
            format: weight.format.clone(),
            dtype: weight.dtype,
            shape,
            components: parts.map(component).collect(),
            alias_of: None,
        };
        Self { weight: Arc::new(weight) }
    }
}

#[pymethods]
impl PyForm {
    /// The stored format's name.
    #[getter]
    fn format(&self) -> &str {
        self.weight.format.name()
    }

    /// Dtype of the values.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.weight.dtype.name()
    }

    /// Logical dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.weight.shape)
    }

    /// Roles of the components, codes first.
    #[getter]
    fn roles(&self) -> Vec<&str> {
        self.weight.components.iter().map(|component| component.role.name()).collect()
    }

    /// Decodes the components' bytes, in the order of ``roles``, to float32.
    fn decode(&self, py: Python<'_>, parts: Vec<PyBackedBytes>) -> PyResult<PyBuffer> {
        let weight = Arc::clone(&self.weight);
        let work = move || -> Result<AlignedBuffer, String> {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
            for (part, component) in parts.iter().zip(&weight.components) {
                if part.len() as u64 != component.tensor.bytes.length {
                    let (found, wanted) = (part.len(), component.tensor.bytes.length);
                    return Err(format!("`{}` has {found} bytes in place of {wanted}", component.role.name()));
                }
            }
            let values = decode(&weight, &parts, Arithmetic::F32).map_err(|error| error.to_string())?;
            let mut buffer = AlignedBuffer::zeroed(values.len() * 4);
            for (to, value) in buffer.chunks_exact_mut(4).zip(values) {
                to.copy_from_slice(&value.to_ne_bytes());
            }
            Ok(buffer)
        };
        call::run(py, work)?.map(PyBuffer::new).map_err(PyValueError::new_err)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let Weight { format, dtype, shape, components, .. } = &*self.weight;
        (format, dtype, shape, components.len()).hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("<Form {}: {} {:?}>", self.weight.format, self.weight.dtype, self.weight.shape)
    }
}
