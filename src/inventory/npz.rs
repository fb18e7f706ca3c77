//! numpy's `.npz`: a zip archive of `.npy` arrays.

use std::io::{Read, Seek};
use std::sync::Arc;

use flate2::read::DeflateDecoder;

use super::Indirect;
use super::bytes::Bytes;
use super::header::{Header, HeaderTensor};
use super::name;
use super::trouble::{Report, Trouble, quoted};
use super::zip::{self, Compression, Member};
use crate::array::npy;
use crate::finding::{Finding, code};

/// Reads a file of `length` bytes; `None` when it is refused.
pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    path: &Arc<str>,
    findings: &mut Vec<Finding>,
) -> Option<Header> {
    Report::of(path, findings, |report| read_members(reader, length, report))
}

fn read_members(reader: &mut (impl Read + Seek), length: u64, report: &mut Report) -> Result<Option<Header>, Trouble> {
    let mut header = Header::default();
    let mut sound = true;
    for member in zip::members(reader, length)? {
        let Some(name) = member.name.strip_suffix(".npy") else {
            let message = format!("member {} is no array", quoted(&member.name));
            report.push(Trouble::new(&code::MALFORMED_NPY, member.offset, message));
            sound = false;
            continue;
        };
        match read_member(reader, &member, name) {
            Ok(tensor) => {
                if matches!(tensor.indirect, Some(Indirect::Strided { .. })) {
                    let message = format!("array {} is stored column by column", quoted(name));
                    report.push(
                        Trouble::new(&code::STRIDED_TENSOR, member.offset, message)
                            .help("`flow-fabric convert` writes it row by row, and so does `numpy.ascontiguousarray`"),
                    );
                } else if tensor.indirect.is_some() {
                    let message = format!("array {} is compressed; its bytes have no place in the file", quoted(name));
                    report.push(
                        Trouble::new(&code::COMPRESSED_MEMBER, member.offset, message)
                            .help("it is in the inventory, but cannot be loaded; `flow-fabric convert` unpacks it, or save it with `numpy.savez`"),
                    );
                }
                header.tensors.push(tensor);
            }
            Err(trouble) => {
                sound = false;
                report.push(trouble);
            }
        }
    }
    Ok(sound.then_some(header))
}

fn read_member(reader: &mut (impl Read + Seek), member: &Member, name: &str) -> Result<HeaderTensor, Trouble> {
    if let Some(message) = name::objection(name) {
        return Err(Trouble::new(&code::TENSOR_NAME, member.offset, message));
    }
    let end = member.offset.saturating_add(member.stored);
    let mut bytes = Bytes::new(reader, member.offset, end, &code::MALFORMED_NPY)?;
    let malformed = |at, what: &str| malformed_array(member, name, at, what);
    let stored = bytes.vec(member.stored.min(npy::HEAD as u64))?;
    let (head, is_stored) = match member.compression {
        Compression::Stored => (stored, true),
        Compression::Deflated => {
            let mut head = Vec::new();
            // What cannot be unpacked ends here; whether enough came out is for the header to say.
            let unpacked = DeflateDecoder::new(stored.as_slice()).take(npy::HEAD as u64).read_to_end(&mut head);
            if unpacked.is_err() && head.is_empty() {
                return Err(malformed(0, "it cannot be unpacked"));
            }
            (head, false)
        }
    };
    let npy::Header { dtype, shape, data, column_major } = npy::read_head(&head)
        .map_err(|trouble| malformed(if is_stored { trouble.offset as u64 } else { 0 }, &trouble.what))?;
    let (shape, data) = (shape.into_iter().map(|dim| dim as u64).collect::<Vec<u64>>(), data as u64);
    let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    let length = elements.and_then(|elements| dtype.bytes_for(elements));
    let Some(length) = length.filter(|length| length.checked_add(data) == Some(member.size)) else {
        let message = format!(
            "array {} does not take the {} bytes that follow its header",
            quoted(name),
            member.size.saturating_sub(data)
        );
        return Err(Trouble::new(&code::TENSOR_SIZE, member.offset, message));
    };
    let offset = member.offset.saturating_add(data);
    let indirect = match (is_stored, column_major.filter(|_| !is_row_major_too(&shape))) {
        (true, None) => None,
        (true, Some(_)) => Some(Indirect::Strided { offset, strides: column_strides(&shape) }),
        (false, None) => Some(Indirect::Deflated { offset: member.offset, stored: member.stored, skip: data }),
        (false, Some(at)) => {
            return Err(malformed(at as u64, "it is compressed and stored column by column"));
        }
    };
    let offset = indirect.is_none().then_some(offset);
    Ok(HeaderTensor { name: name.to_owned(), dtype, shape, offset, length, indirect })
}

/// Whether the two orders are one: all dimensions but one have at most one element.
fn is_row_major_too(shape: &[u64]) -> bool {
    shape.contains(&0) || shape.iter().filter(|&&dim| dim > 1).count() <= 1
}

/// The first index moves fastest. The product fits: it was counted.
fn column_strides(shape: &[u64]) -> Vec<u64> {
    let next = |stride: &mut u64, &dim: &u64| Some(std::mem::replace(stride, stride.saturating_mul(dim)));
    shape.iter().scan(1, next).collect()
}

fn malformed_array(member: &Member, name: &str, at: u64, what: &str) -> Trouble {
    let at = member.offset.saturating_add(at);
    Trouble::new(&code::MALFORMED_NPY, at, format!("array {} cannot be read: {what}", quoted(name)))
}
