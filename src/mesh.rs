//! Device meshes, partition specs, and the slices they give each device.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A mesh of devices: named axes and their sizes, major to minor (the last axis varies fastest over device numbers).
///
/// ```
/// use flow_fabric::Mesh;
/// let mesh = Mesh::new([("data", 2), ("model", 4)]).unwrap();
/// assert_eq!(mesh.devices(), 8);
/// assert_eq!(mesh.coordinates(5), [1, 1]);
/// assert_eq!(mesh.device(&[1, 1]), 5);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mesh {
    axes: Vec<(String, u64)>,
}

/// Index of an axis in its [`Mesh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AxisId(u16);

impl AxisId {
    /// Position in the mesh, 0 = most major.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why axes do not make a mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeshError {
    /// Two axes have one name.
    #[error("axis `{0}` is named twice")]
    Repeated(String),
    /// An axis of size zero.
    #[error("axis `{0}` has size 0")]
    Empty(String),
    /// More devices than any machine has.
    #[error("the mesh has more than {MAX_DEVICES} devices")]
    TooLarge,
    /// More axes than can be told apart.
    #[error("the mesh has more than {MAX_AXES} axes")]
    TooManyAxes,
}

/// Devices of a mesh are listed one by one in plans.
pub const MAX_DEVICES: u64 = 1 << 20;
const MAX_AXES: usize = 32;

impl Mesh {
    /// Makes a mesh from names and sizes, major to minor. No axes is one device.
    ///
    /// # Errors
    /// A repeated name, a size of zero, or more than [`MAX_DEVICES`] devices.
    pub fn new<N: Into<String>>(axes: impl IntoIterator<Item = (N, u64)>) -> Result<Self, MeshError> {
        let axes: Vec<(String, u64)> = axes.into_iter().map(|(name, size)| (name.into(), size)).collect();
        if axes.len() > MAX_AXES {
            return Err(MeshError::TooManyAxes);
        }
        let mut devices: u64 = 1;
        for (index, (name, size)) in axes.iter().enumerate() {
            if axes.iter().take(index).any(|(other, _)| other == name) {
                return Err(MeshError::Repeated(name.clone()));
            }
            if *size == 0 {
                return Err(MeshError::Empty(name.clone()));
            }
            devices = devices.checked_mul(*size).filter(|&n| n <= MAX_DEVICES).ok_or(MeshError::TooLarge)?;
        }
        Ok(Self { axes })
    }

    /// Axis names and sizes, major to minor.
    #[must_use]
    pub fn axes(&self) -> &[(String, u64)] {
        &self.axes
    }

    /// Number of devices.
    #[must_use]
    pub fn devices(&self) -> u64 {
        self.axes.iter().map(|(_, size)| size).product()
    }

    /// Finds an axis by name.
    #[must_use]
    pub fn axis(&self, name: &str) -> Option<AxisId> {
        let index = self.axes.iter().position(|(axis, _)| axis == name)?;
        u16::try_from(index).ok().map(AxisId)
    }

    /// Devices along an axis.
    #[must_use]
    pub fn size(&self, axis: AxisId) -> u64 {
        self.axes.get(axis.index()).map_or(1, |(_, size)| *size)
    }

    /// An axis' name.
    #[must_use]
    pub fn name(&self, axis: AxisId) -> &str {
        self.axes.get(axis.index()).map_or("?", |(name, _)| name)
    }

    /// Coordinates of a device, one per axis.
    #[must_use]
    pub fn coordinates(&self, device: u64) -> Vec<u64> {
        let mut rest = device;
        let mut coordinates: Vec<u64> = self
            .axes
            .iter()
            .rev()
            .map(|(_, size)| {
                let at = rest % size;
                rest /= size;
                at
            })
            .collect();
        coordinates.reverse();
        coordinates
    }

    /// Numbers of the devices that have coordinate `at` on an axis, ascending.
    ///
    /// ```
    /// use flow_fabric::Mesh;
    /// let mesh = Mesh::new([("expert", 2), ("model", 3)]).unwrap();
    /// let axis = mesh.axis("model").unwrap();
    /// assert_eq!(mesh.devices_at(axis, 1).collect::<Vec<_>>(), [1, 4]);
    /// ```
    pub fn devices_at(&self, axis: AxisId, at: u64) -> impl Iterator<Item = u64> + use<> {
        let stride: u64 = self.axes.iter().skip(axis.index() + 1).map(|(_, size)| size).product();
        let (block, size) = (stride * self.size(axis), self.size(axis));
        (0..self.devices()).step_by(usize::try_from(block).unwrap_or(usize::MAX)).flat_map(move |start| {
            let first = start + at * stride;
            first..if at < size { first + stride } else { first }
        })
    }

    /// Number of the device at coordinates.
    #[must_use]
    pub fn device(&self, coordinates: &[u64]) -> u64 {
        self.axes.iter().zip(coordinates).fold(0, |device, ((_, size), at)| device * size + at)
    }
}

impl fmt::Display for Mesh {
    /// `data=1, model=8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, size)) in self.axes.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={size}")?;
        }
        Ok(())
    }
}

/// Which axes split one dimension, as a rule writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum SpecEntry {
    /// Not split. `null` in JSON, `-` in policies and for people.
    Unsplit,
    /// Split over one axis.
    Axis(String),
    /// Split over several axes, major to minor.
    Axes(Vec<String>),
}

impl SpecEntry {
    /// The axes, major to minor.
    #[must_use]
    pub fn axes(&self) -> &[String] {
        match self {
            SpecEntry::Unsplit => &[],
            SpecEntry::Axis(axis) => std::slice::from_ref(axis),
            SpecEntry::Axes(axes) => axes,
        }
    }
}

impl fmt::Display for SpecEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpecEntry::Unsplit => f.write_str("-"),
            SpecEntry::Axis(axis) => f.write_str(axis),
            SpecEntry::Axes(axes) => write!(f, "[{}]", axes.join(", ")),
        }
    }
}

/// One entry per leading dimension; dimensions beyond it are not split.
///
/// `[]` and `["-"]` mean the same placement and stay distinct, as `P()` and `P(None)` do in JAX.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct PartitionSpec {
    /// The entries.
    pub entries: Vec<SpecEntry>,
}

impl fmt::Display for PartitionSpec {
    /// `[-, data, model]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            entry.fmt(f)?;
        }
        f.write_str("]")
    }
}

/// How one dimension is cut over the devices of its axes.
///
/// Chunk numbers run over the entry's axes, major to minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Every device holds the whole dimension.
    Whole,
    /// Equal chunks of `chunk` elements; `groups` neighbouring devices share each (1 unless units are fewer than devices).
    Even {
        /// Elements per device.
        chunk: u64,
        /// Devices that keep the same chunk.
        replicas: u64,
    },
    /// Chunks of `chunk` elements of a dimension padded with zeros to a multiple of it.
    Padded {
        /// Elements per device, padding included.
        chunk: u64,
    },
    /// Chunks of `chunk` elements while they last (`torch.chunk`): the last one may be shorter, later ones empty.
    Uneven {
        /// Elements per device where there are enough.
        chunk: u64,
    },
}

impl Cut {
    /// The half-open range of a dimension of `size` that chunk number `index` holds, without padding.
    ///
    /// ```
    /// use flow_fabric::mesh::Cut;
    /// assert_eq!(Cut::Even { chunk: 4, replicas: 2 }.range(8, 3), (4, 8));
    /// assert_eq!(Cut::Uneven { chunk: 3 }.range(7, 2), (6, 7));
    /// assert_eq!(Cut::Uneven { chunk: 3 }.range(7, 3), (7, 7));
    /// ```
    #[must_use]
    pub fn range(self, size: u64, index: u64) -> (u64, u64) {
        let (chunk, index) = match self {
            Cut::Whole => return (0, size),
            Cut::Even { chunk, replicas } => (chunk, index / replicas.max(1)),
            Cut::Padded { chunk } | Cut::Uneven { chunk } => (chunk, index),
        };
        let start = chunk.saturating_mul(index).min(size);
        (start, start.saturating_add(chunk).min(size))
    }

    /// Elements that a device stores for chunk `index`: the range's length, padding included.
    #[must_use]
    pub fn stored(self, size: u64, index: u64) -> u64 {
        match self {
            Cut::Padded { chunk } => chunk,
            other => {
                let (start, stop) = other.range(size, index);
                stop - start
            }
        }
    }

    /// Whether every device holds equally many elements.
    #[must_use]
    pub const fn is_uniform(self) -> bool {
        !matches!(self, Cut::Uneven { .. })
    }
}

/// Sizes near `parts` that divide `units`, for help texts: the next smaller and the next larger.
#[must_use]
pub fn near_divisors(units: u64, parts: u64) -> Vec<u64> {
    let divides = |n: &u64| *n > 0 && units.is_multiple_of(*n);
    let below = (1..parts).rev().take(4096).find(divides);
    let above = (parts + 1..=units).take(4096).find(divides);
    below.into_iter().chain(above).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_refuses_what_is_no_mesh() {
        assert_eq!(Mesh::new([("a", 2), ("a", 2)]), Err(MeshError::Repeated("a".into())));
        assert_eq!(Mesh::new([("a", 0)]), Err(MeshError::Empty("a".into())));
        assert_eq!(Mesh::new([("a", u64::MAX), ("b", 2)]), Err(MeshError::TooLarge));
        assert_eq!(Mesh::default().devices(), 1);
    }

    #[test]
    fn devices_and_coordinates_are_inverse() {
        let mesh = Mesh::new([("x", 2), ("y", 3), ("z", 5)]).unwrap();
        for device in 0..mesh.devices() {
            assert_eq!(mesh.device(&mesh.coordinates(device)), device);
        }
        assert_eq!(mesh.coordinates(29), [1, 2, 4]);
    }

    #[test]
    fn chunks_cover_a_dimension_once() {
        for size in 0..40u64 {
            for parts in 1..9u64 {
                let chunk = size.div_ceil(parts);
                let covered: Vec<u64> = (0..parts)
                    .flat_map(|index| {
                        let (start, stop) = Cut::Uneven { chunk }.range(size, index);
                        start..stop
                    })
                    .collect();
                assert_eq!(covered, (0..size).collect::<Vec<_>>(), "{size} over {parts}");
            }
        }
    }

    #[test]
    fn near_divisors_stand_on_both_sides() {
        assert_eq!(near_divisors(6144, 10), [8, 12]);
        assert_eq!(near_divisors(7, 3), [1, 7]);
        assert_eq!(near_divisors(0, 3), [2]);
    }
}
