//! Slots: what an adapter asks for by name.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::convert;
use super::plan::Shared;
use super::weight::PyPlannedWeight;
use crate::plan::SlotPlan;

/// A slot's weights, sampler and mixture-of-experts profile.
#[pyclass(frozen, name = "Slot", module = "flow_fabric")]
pub(super) struct PySlot {
    shared: Arc<Shared>,
    index: usize,
}

impl PySlot {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self { shared, index }
    }

    fn slot(&self) -> Option<(&str, &SlotPlan)> {
        self.shared.plan.slots.get_index(self.index).map(|(name, slot)| (name.as_str(), slot))
    }
}

#[pymethods]
impl PySlot {
    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.slot().map_or("", |(name, _)| name)
    }

    /// Its weights, in checkpoint order.
    #[getter]
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let weights = self.slot().map(|(_, slot)| slot.weights.as_slice()).unwrap_or_default();
        PyTuple::new(py, weights.iter().map(|&index| PyPlannedWeight::new(Arc::clone(&self.shared), index)))
    }

    /// The sampler's settings and its ``name``; ``None`` when the slot names none.
    #[getter]
    fn sampler<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let sampler = self.slot().and_then(|(_, slot)| slot.sampler.as_ref());
        sampler.map(|sampler| convert::record(py, sampler)).transpose()
    }

    /// The mixture-of-experts profile and its ``name``; ``None`` when the slot names none.
    #[getter]
    fn moe<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let moe = self.slot().and_then(|(_, slot)| slot.moe.as_ref());
        moe.map(|moe| convert::record(py, moe)).transpose()
    }

    fn __repr__(&self) -> String {
        let Some((name, slot)) = self.slot() else { return String::new() };
        let sampler = slot.sampler.as_ref().map(|sampler| format!(", sampler {}", sampler.name)).unwrap_or_default();
        let moe = slot.moe.as_ref().map(|moe| format!(", moe {}", moe.name)).unwrap_or_default();
        format!("<Slot {name}: {} tensors{sampler}{moe}>", slot.weights.len())
    }
}
