//! Slicing as one would do it by hand: element by element, from the spec and the mesh alone.

use super::support::Tensor;

/// Axis sizes, major to minor.
pub(crate) type Mesh = Vec<(String, u64)>;

/// What a dimension is split over, and what holds where it does not divide.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) axes: Vec<String>,
    pub(crate) unit: u64,
    pub(crate) fewer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indivisible {
    Replicate,
    Pad,
    Uneven,
}

/// The range of a dimension that a device holds, and how many elements it stores for it.
fn range(size: u64, entry: Option<&Entry>, mesh: &Mesh, at: &[u64], otherwise: Indivisible) -> (u64, u64, u64) {
    let Some(entry) = entry.filter(|entry| !entry.axes.is_empty()) else { return (0, size, size) };
    let (mut parts, mut index) = (1, 0);
    for axis in &entry.axes {
        let number = mesh.iter().position(|(name, _)| name == axis).unwrap();
        index = index * mesh[number].1 + at[number];
        parts *= mesh[number].1;
    }
    if size.is_multiple_of(entry.unit * parts) {
        let chunk = size / parts;
        return (index * chunk, chunk, chunk);
    }
    let units = size / entry.unit;
    if entry.fewer && size.is_multiple_of(entry.unit) && units > 0 && units < parts && parts % units == 0 {
        return (index / (parts / units) * entry.unit, entry.unit, entry.unit);
    }
    let chunk = size.div_ceil(entry.unit).div_ceil(parts) * entry.unit;
    let start = (index * chunk).min(size);
    let count = chunk.min(size - start);
    match otherwise {
        Indivisible::Replicate => (0, size, size),
        Indivisible::Pad => (start, count, chunk),
        Indivisible::Uneven => (start, count, count),
    }
}

/// A device's copy of a tensor: shape, bytes, and which elements of the original it holds.
pub(crate) fn slice(
    tensor: &Tensor,
    spec: &[Entry],
    mesh: &Mesh,
    at: &[u64],
    otherwise: Indivisible,
) -> (Vec<u64>, Vec<u8>, Vec<usize>) {
    let ranges: Vec<(u64, u64, u64)> = tensor
        .shape
        .iter()
        .enumerate()
        .map(|(dimension, &size)| range(size, spec.get(dimension), mesh, at, otherwise))
        .collect();
    let shape: Vec<u64> = ranges.iter().map(|range| range.2).collect();
    let width = tensor.dtype.bytes_for(1).unwrap() as usize;
    let mut bytes = Vec::new();
    let mut held = Vec::new();
    for element in 0..shape.iter().product() {
        let (mut rest, mut stride, mut source, mut inside) = (element, 1, 0, true);
        for (&size, &(start, count, stored)) in tensor.shape.iter().zip(&ranges).rev() {
            let index = rest % stored;
            rest /= stored;
            inside &= index < count;
            source += (start + index) * stride;
            stride *= size;
        }
        if inside {
            let from = source as usize * width;
            bytes.extend(&tensor.bytes[from..from + width]);
            held.push(source as usize);
        } else {
            bytes.extend(vec![0; width]);
        }
    }
    (shape, bytes, held)
}
