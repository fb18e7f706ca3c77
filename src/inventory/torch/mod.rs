//! torch's `.pt`, `.pth` and `.bin` files: zip archives, and the older form of several pickles in a row.
//!
//! The pickle is read by [`super::pickle`], which executes nothing. A tensor is taken when it lies inside its storage; one that
//! is not contiguous has no bytes that could be loaded. Tensors that share a storage are kept as they are, and become aliases
//! when they are the same bytes.

mod archive;
mod legacy;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Seek};
use std::sync::Arc;

use super::Indirect;
use super::bytes::Bytes;
use super::header::{Header, HeaderTensor};
use super::name::{self, MAX_TENSORS};
use super::pickle::Limits;
use super::trouble::{Report, Trouble, quoted};
use crate::Dtype;
use crate::finding::{Finding, code};

/// Bounds of the main pickle of a file.
const LIMITS: Limits = Limits { bytes: 64 << 20, persistent: true };

/// Reads a file of `length` bytes; `None` when it is refused.
pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    path: &Arc<str>,
    findings: &mut Vec<Finding>,
) -> Option<Header> {
    Report::of(path, findings, |report| read_header(reader, length, report))
}

fn read_header(reader: &mut (impl Read + Seek), length: u64, report: &mut Report) -> Result<Option<Header>, Trouble> {
    let magic: [u8; 2] = Bytes::new(reader, 0, length, &code::MALFORMED_PICKLE)?.array()?;
    let (tensors, storages) =
        if magic == *b"PK" { archive::read(reader, length, report)? } else { legacy::read(reader, length, report)? };
    Ok(place(&tensors, &storages, report))
}

/// A tensor as the pickle describes it.
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    /// In elements, where they are not those of a contiguous tensor.
    strides: Option<Vec<u64>>,
    /// In elements, from the start of the storage.
    offset: u64,
    storage: String,
    /// Offset of the opcode that makes it.
    at: u64,
}

/// The bytes of each storage in the file, by key.
type Storages = BTreeMap<String, Place>;

/// Where a storage lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u64,
}

/// Puts tensors into their storages; `None` when one of them does not fit.
fn place(tensors: &[Tensor], storages: &Storages, report: &mut Report) -> Option<Header> {
    let mut sound = true;
    let mut names = HashSet::new();
    let mut placed = Vec::new();
    for tensor in tensors {
        let fit = check_name(tensor, &mut names).and_then(|()| {
            let (offset, length) = range(tensor, storages)?;
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            let strides = tensor.strides.clone();
            let indirect = strides.map(|strides| Indirect::Strided { offset, strides });
            let offset = indirect.is_none().then_some(offset);
            Ok(HeaderTensor { name, dtype: tensor.dtype, shape, offset, length, indirect })
        });
        match fit {
            Ok(tensor) => placed.push(tensor),
            Err(trouble) => {
                sound = false;
                report.push(trouble);
            }
        }
    }
    sound.then_some(Header { tensors: placed, ..Header::default() })
}

fn check_name<'a>(tensor: &'a Tensor, names: &mut HashSet<&'a str>) -> Result<(), Trouble> {
    if let Some(message) = name::objection(&tensor.name) {
        return Err(Trouble::new(&code::TENSOR_NAME, tensor.at, message));
    }
    if names.len() >= MAX_TENSORS {
        let message = format!("the file names more than {MAX_TENSORS} tensors");
        return Err(Trouble::new(&code::TOO_LARGE, tensor.at, message));
    }
    if !names.insert(&tensor.name) {
        let message = format!("tensor {} stands twice in the file", quoted(&tensor.name));
        return Err(Trouble::new(&code::DUPLICATE_TENSOR, tensor.at, message));
    }
    Ok(())
}

/// First byte in the file and number of bytes; all bytes lie in the storage.
fn range(tensor: &Tensor, storages: &Storages) -> Result<(u64, u64), Trouble> {
    let outside = || {
        let message = format!("tensor {} reaches beyond its storage", quoted(&tensor.name));
        Trouble::new(&code::TENSOR_SIZE, tensor.at, message)
    };
    let storage = storages.get(&tensor.storage).ok_or_else(|| {
        let message = format!("the storage {} of tensor {} is absent", quoted(&tensor.storage), quoted(&tensor.name));
        Trouble::new(&code::MISSING_TENSOR, tensor.at, message)
    })?;
    let elements = tensor.shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    let length = elements.and_then(|elements| tensor.dtype.bytes_for(elements)).ok_or_else(outside)?;
    let start = tensor.dtype.bytes_for(tensor.offset).ok_or_else(outside)?;
    let span = match &tensor.strides {
        Some(strides) => {
            span(&tensor.shape, strides).and_then(|span| tensor.dtype.bytes_for(span)).ok_or_else(outside)?
        }
        None => length,
    };
    if start.checked_add(span).is_none_or(|end| end > storage.length) {
        return Err(outside());
    }
    Ok((storage.offset.saturating_add(start), length))
}

/// Elements from the first to the last of a tensor that has one.
fn span(shape: &[u64], strides: &[u64]) -> Option<u64> {
    shape
        .iter()
        .zip(strides)
        .try_fold(1_u64, |span, (&dim, &stride)| span.checked_add(dim.checked_sub(1)?.checked_mul(stride)?))
}
