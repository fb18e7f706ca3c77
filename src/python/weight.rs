//! One weight of a plan.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PySlice, PyTuple};

use super::form::PyForm;
use super::plan::Shared;
use super::{convert, names};
use crate::mesh::{Cut, Mesh, PartitionSpec};
use crate::plan::shard::{Cuts, DimensionCut};
use crate::plan::{LoadPlan, PlannedWeight};

/// A weight and what is decided for it.
#[pyclass(frozen, name = "PlannedWeight", module = "flow_fabric")]
pub(super) struct PyPlannedWeight {
    shared: Arc<Shared>,
    index: usize,
}

/// A stored tensor of a weight, or one that it is to consist of.
#[pyclass(frozen, get_all, name = "Component", module = "flow_fabric")]
pub(super) struct PyComponent {
    /// Its name in the file.
    name: String,
    /// What it is to the weight: ``weight``, ``scales``, ...
    role: String,
    /// Element type.
    dtype: String,
    /// Dimensions, row-major.
    shape: Py<PyTuple>,
    /// Its spec, derived from the weight's; ``None`` when no partition rule matched.
    spec: Option<Py<PyTuple>>,
    /// How each dimension is cut.
    cuts: Vec<PyCut>,
    /// The file; ``None`` where it is not known or not yet written.
    file: Option<String>,
    /// First byte in the file.
    offset: Option<u64>,
    /// Number of bytes.
    length: u64,
}

/// How one dimension is cut over the devices of its axes.
#[pyclass(frozen, get_all, eq, name = "Cut", module = "flow_fabric")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PyCut {
    /// The axes, major to minor; empty when the dimension is not split.
    axes: Vec<String>,
    /// ``whole``, ``even``, ``padded`` or ``uneven``.
    kind: &'static str,
    /// Elements per device, where it is split.
    chunk: Option<u64>,
    /// Neighbouring devices that keep the same chunk.
    replicas: u64,
}

impl PyCut {
    fn all(cuts: &Cuts, mesh: &Mesh) -> Vec<Self> {
        let cut = |dimension: &DimensionCut| {
            let (kind, chunk, replicas) = match dimension.cut {
                Cut::Whole => ("whole", None, 1),
                Cut::Even { chunk, replicas } => ("even", Some(chunk), replicas),
                Cut::Padded { chunk } => ("padded", Some(chunk), 1),
                Cut::Uneven { chunk } => ("uneven", Some(chunk), 1),
            };
            // A declared fallback may leave a dimension whole that the spec would split.
            let axes: &[_] = if chunk.is_some() { &dimension.axes } else { &[] };
            Self { axes: axes.iter().map(|&axis| mesh.name(axis).to_owned()).collect(), kind, chunk, replicas }
        };
        cuts.dimensions.iter().map(cut).collect()
    }
}

/// How a weight is read.
#[pyclass(frozen, get_all, eq, name = "LoadSettings", module = "flow_fabric")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PyLoadSettings {
    /// ``auto``, ``mmap``, ``pread`` or ``direct``.
    read: &'static str,
    /// ``none`` or ``shm``.
    stage: &'static str,
    /// ``none``, ``xxh3`` or ``blake3``.
    verify: &'static str,
}

impl From<LoadPlan> for PyLoadSettings {
    fn from(load: LoadPlan) -> Self {
        Self { read: load.read.name(), stage: load.stage.name(), verify: load.verify.name() }
    }
}

impl PyPlannedWeight {
    /// The index must be one of the plan's.
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self { shared, index }
    }

    fn planned(&self) -> PyResult<PlannedWeight<'_>> {
        self.shared.weight(self.index).ok_or_else(|| PyRuntimeError::new_err("the weight is not of this plan"))
    }

    fn own_spec<'py>(&self, py: Python<'py>, spec: &PartitionSpec) -> PyResult<Option<Py<PyTuple>>> {
        match self.planned()?.class().spec {
            Some(_) => Ok(Some(convert::spec(py, spec)?.unbind())),
            None => Ok(None),
        }
    }

    /// A device's part of a tensor with these cuts; `None` when it holds nothing of the weight.
    fn ranges(&self, cuts: &Cuts, shape: &[u64], device: &Bound<'_, PyAny>) -> PyResult<Option<Vec<(u64, u64)>>> {
        let (planned, mesh) = (self.planned()?, &self.shared.plan.mesh);
        let device = names::device(mesh, device)?;
        if planned.owners().is_some_and(|owners| !owners.contains(&device)) {
            return Ok(None);
        }
        Ok(Some(cuts.ranges(shape, mesh, &mesh.coordinates(device))))
    }
}

#[pymethods]
impl PyPlannedWeight {
    /// The path that rules see.
    #[getter]
    fn path(&self) -> PyResult<&str> {
        Ok(&self.planned()?.weight.path)
    }

    /// The path before renames.
    #[getter]
    fn stored_path(&self) -> PyResult<&str> {
        Ok(&self.planned()?.weight.stored_path)
    }

    /// Dtype of the values.
    #[getter]
    fn dtype(&self) -> PyResult<&'static str> {
        Ok(self.planned()?.weight.dtype.name())
    }

    /// Logical dimensions, row-major.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.planned()?.weight.shape)
    }

    /// How it is stored: ``plain``, ``grok-1``, ``fp8-block``, ...
    #[getter]
    fn format(&self) -> PyResult<&str> {
        Ok(self.planned()?.weight.format.name())
    }

    /// The weight that this one shares storage with.
    #[getter]
    fn alias_of(&self) -> PyResult<Option<&str>> {
        Ok(self.planned()?.weight.alias_of.as_deref())
    }

    /// ``PartitionSpec(*spec)``: per leading dimension an axis, a tuple of axes or ``None``. ``None`` when no rule matches.
    #[getter]
    fn spec<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let spec = self.planned()?.class().spec.as_ref();
        spec.map(|spec| convert::spec(py, spec)).transpose()
    }

    /// Name of the deciding partition rule.
    #[getter]
    fn partition_rule(&self) -> PyResult<Option<&str>> {
        Ok(self.planned()?.partition_rule())
    }

    /// How each dimension is cut.
    #[getter]
    fn cuts(&self) -> PyResult<Vec<PyCut>> {
        Ok(PyCut::all(&self.planned()?.class().cuts, &self.shared.plan.mesh))
    }

    /// Ways out that were taken: ``replicated``, ``padded``, ``uneven``, ``fewer-units``, ``unmatched``.
    #[getter]
    fn fallbacks(&self) -> PyResult<Vec<&'static str>> {
        Ok(self.planned()?.class().cuts.fallbacks.iter().map(|fallback| fallback.name()).collect())
    }

    /// The axis over which whole weights are distributed, when this one is placed.
    #[getter]
    fn placed_over(&self) -> PyResult<Option<&str>> {
        Ok(self.planned()?.class().place_axis.map(|axis| self.shared.plan.mesh.name(axis)))
    }

    /// Numbers of the devices that hold it, when it is placed.
    #[getter]
    fn owners(&self) -> PyResult<Option<Vec<u64>>> {
        Ok(self.planned()?.owners())
    }

    /// Name of the quantization scheme; ``None`` when the weight is kept as stored.
    #[getter]
    fn scheme(&self) -> PyResult<Option<&str>> {
        Ok(self.planned()?.class().scheme.as_deref())
    }

    /// Name of the deciding quantization rule.
    #[getter]
    fn quantization_rule(&self) -> PyResult<Option<&str>> {
        Ok(self.planned()?.quantization_rule())
    }

    /// How it is read.
    #[getter]
    fn load(&self) -> PyResult<PyLoadSettings> {
        Ok(self.planned()?.decision.load.into())
    }

    /// Name of the deciding loader rule; ``None`` when the defaults of ``[loader]`` hold.
    #[getter]
    fn loader_rule(&self) -> PyResult<Option<&str>> {
        Ok(self.planned()?.loader_rule())
    }

    /// The tensors that it is stored as, codes first.
    #[getter]
    fn components(&self, py: Python<'_>) -> PyResult<Vec<PyComponent>> {
        let planned = self.planned()?;
        let files = &self.shared.plan.inventory.files;
        let stored = planned.weight.components.iter().zip(&planned.class().stored);
        stored
            .map(|(component, cuts)| {
                let tensor = &component.tensor;
                let file = tensor.bytes.file.and_then(|file| files.get(file.0 as usize));
                Ok(PyComponent {
                    name: tensor.name.clone(),
                    role: component.role.name().to_owned(),
                    dtype: tensor.dtype.name().to_owned(),
                    shape: PyTuple::new(py, &tensor.shape)?.unbind(),
                    spec: self.own_spec(py, &cuts.spec)?,
                    cuts: PyCut::all(&cuts.cuts, &self.shared.plan.mesh),
                    file: file.map(|file| file.path.to_string()),
                    offset: tensor.bytes.offset,
                    length: tensor.bytes.length,
                })
            })
            .collect()
    }

    /// The tensors that it is to consist of once quantized; empty when it is kept.
    #[getter]
    fn companions(&self, py: Python<'_>) -> PyResult<Vec<PyComponent>> {
        let planned = self.planned()?;
        let components = planned.class().planned.iter();
        components
            .map(|component| {
                let elements = component.shape.iter().fold(1u64, |product, size| product.saturating_mul(*size));
                Ok(PyComponent {
                    name: component.name.of(&planned.weight.path),
                    role: component.role.name().to_owned(),
                    dtype: component.dtype.name().to_owned(),
                    shape: PyTuple::new(py, &component.shape)?.unbind(),
                    spec: self.own_spec(py, &component.cuts.spec)?,
                    cuts: PyCut::all(&component.cuts.cuts, &self.shared.plan.mesh),
                    file: None,
                    offset: None,
                    length: component.dtype.bytes_for(elements).unwrap_or_default(),
                })
            })
            .collect()
    }

    /// A device's part as slices, one per dimension and without padding; ``None`` when it holds nothing of the weight.
    fn slice<'py>(&self, py: Python<'py>, device: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let planned = self.planned()?;
        let Some(ranges) = self.ranges(&planned.class().cuts, &planned.weight.shape, device)? else { return Ok(None) };
        let end = |end: u64| isize::try_from(end).unwrap_or(isize::MAX);
        PyTuple::new(py, ranges.iter().map(|(start, stop)| PySlice::new(py, end(*start), end(*stop), 1))).map(Some)
    }

    /// How its stored components make it up.
    #[getter]
    fn form(&self) -> PyResult<PyForm> {
        Ok(PyForm::whole(&self.planned()?))
    }

    /// The weight as ``plan --format json`` has it.
    fn record<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::record(py, &self.planned()?.record())
    }

    fn __repr__(&self) -> PyResult<String> {
        let planned = self.planned()?;
        let (weight, class) = (planned.weight, planned.class());
        let by = |rule: Option<&str>| rule.map(|rule| format!(" by {rule}")).unwrap_or_default();
        let spec = class.spec.as_ref().map_or_else(|| "unmatched".to_owned(), ToString::to_string);
        Ok(format!(
            "<PlannedWeight {}: {} {:?}, shard {spec}{}, quant {}{}, load {}>",
            weight.path,
            weight.dtype,
            weight.shape,
            by(planned.partition_rule()),
            class.scheme.as_deref().unwrap_or("keep"),
            by(planned.quantization_rule()),
            planned.decision.load.read,
        ))
    }
}

#[pymethods]
impl PyComponent {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Component {}: {} {} {}>", self.name, self.role, self.dtype, self.shape.bind(py))
    }
}

#[pymethods]
impl PyCut {
    fn __repr__(&self) -> String {
        match self.chunk {
            Some(chunk) => format!("<Cut over {}: {} chunks of {chunk}>", self.axes.join(", "), self.kind),
            None => "<Cut: whole>".to_owned(),
        }
    }
}

#[pymethods]
impl PyLoadSettings {
    fn __repr__(&self) -> String {
        format!("<LoadSettings read={} stage={} verify={}>", self.read, self.stage, self.verify)
    }
}
