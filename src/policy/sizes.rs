//! Other sizes for a policy's mesh.

use super::Policy;
use crate::finding::suggest;
use crate::mesh::{Mesh, MeshError};

/// Why sizes do not fit a policy's mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeshSizesError {
    /// The policy's mesh has no such axis.
    #[error("unknown mesh axis `{axis}`")]
    UnknownAxis {
        /// The name.
        axis: String,
        /// What the axes are called.
        help: Option<String>,
    },
    /// The sizes make no mesh.
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

impl MeshSizesError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        match self {
            MeshSizesError::UnknownAxis { help, .. } => help.as_deref(),
            MeshSizesError::Mesh(_) => None,
        }
    }
}

impl Policy {
    /// The declared mesh with other sizes: axes that are not named keep theirs, and the order stays the policy's. Of several
    /// sizes for one axis the last counts. A policy that declares no mesh takes the sizes as its mesh.
    ///
    /// # Errors
    /// An axis that the policy does not declare, a size of zero, or too many devices.
    pub fn mesh_with(&self, sizes: &[(String, u64)]) -> Result<Mesh, MeshSizesError> {
        let Some(declared) = &self.mesh else { return Ok(Mesh::new(sizes.iter().cloned())?) };
        let axes = || declared.mesh.axes().iter().map(|(name, _)| name.as_str());
        if let Some((axis, _)) = sizes.iter().find(|(name, _)| !axes().any(|axis| axis == name)) {
            let help = suggest::help_for(axis, axes(), "this policy declares");
            return Err(MeshSizesError::UnknownAxis { axis: axis.clone(), help });
        }
        let merged = declared.mesh.axes().iter().map(|(name, size)| {
            let given = sizes.iter().rev().find(|(other, _)| other == name).map(|(_, size)| *size);
            (name.clone(), given.unwrap_or(*size))
        });
        Ok(Mesh::new(merged)?)
    }
}
