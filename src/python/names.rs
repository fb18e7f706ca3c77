//! What Python code may write for a path, a dtype, a device or mesh sizes.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString, PyType};

use crate::Dtype;
use crate::mesh::Mesh;
use crate::policy::Policy;

/// A dtype by name, or anything with one: numpy's, ml_dtypes', JAX's and PyTorch's dtypes and scalar types.
pub(super) fn dtype(value: &Bound<'_, PyAny>) -> PyResult<Dtype> {
    let parse = |name: &str| {
        // PyTorch says `torch.bfloat16`.
        let name = name.strip_prefix("torch.").unwrap_or(name);
        name.parse::<Dtype>().map_err(|error| PyValueError::new_err(error.to_string()))
    };
    if let Ok(name) = value.cast::<PyString>() {
        return parse(name.to_str()?);
    }
    if let Ok(scalar) = value.cast::<PyType>() {
        return parse(scalar.name()?.to_str()?);
    }
    let dtype = value.getattr_opt("dtype")?.unwrap_or_else(|| value.clone());
    if let Some(name) = dtype.getattr_opt("name")?
        && let Ok(name) = name.cast_into::<PyString>()
    {
        return parse(name.to_str()?);
    }
    // PyTorch's have no name of their own.
    if dtype.get_type().name()?.to_str()? == "dtype" {
        return parse(dtype.str()?.to_str()?);
    }
    Err(PyTypeError::new_err(format!("a dtype was expected, not `{}`", value.get_type().name()?)))
}

/// Sizes of mesh axes, `{"data": 1, "model": 16}`.
pub(super) fn mesh(policy: &Policy, sizes: &Bound<'_, PyMapping>) -> PyResult<Mesh> {
    let sizes: Vec<(String, u64)> =
        sizes.items()?.iter().map(|item| item.extract::<(String, u64)>()).collect::<PyResult<_>>()?;
    policy.mesh_with(&sizes).map_err(|error| {
        let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
        PyValueError::new_err(format!("{error}{help}"))
    })
}

/// A device, by number or as coordinates `{"data": 0, "model": 3}`.
pub(super) fn device(mesh: &Mesh, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    if let Ok(coordinates) = value.cast::<PyMapping>() {
        return at(mesh, coordinates);
    }
    let Ok(number) = value.extract::<i64>() else {
        let message = format!("a device is a number or `{{axis: coordinate}}`, not `{}`", value.get_type().name()?);
        return Err(PyTypeError::new_err(message));
    };
    match u64::try_from(number).ok().filter(|number| *number < mesh.devices()) {
        Some(number) => Ok(number),
        None => Err(PyValueError::new_err(format!(
            "no device {number}: the mesh ({mesh}) has devices 0 to {}",
            mesh.devices() - 1
        ))),
    }
}

fn at(mesh: &Mesh, given: &Bound<'_, PyMapping>) -> PyResult<u64> {
    let mut coordinates = vec![None; mesh.axes().len()];
    for item in given.items()?.iter() {
        let (name, at) = item.extract::<(String, u64)>()?;
        let axis = mesh.axis(&name).filter(|axis| at < mesh.size(*axis));
        let slot = axis.and_then(|axis| coordinates.get_mut(axis.index()));
        let Some(slot) = slot else {
            return Err(PyValueError::new_err(format!("`{name}={at}` is not a coordinate of the mesh ({mesh})")));
        };
        *slot = Some(at);
    }
    let coordinates: Option<Vec<u64>> = coordinates.into_iter().collect();
    match coordinates {
        Some(coordinates) => Ok(mesh.device(&coordinates)),
        None => Err(PyValueError::new_err(format!("a coordinate is left open: the axes are {mesh}"))),
    }
}
