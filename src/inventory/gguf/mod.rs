//! GGUF headers, versions 2 and 3.
//!
//! A file is `GGUF`, a version, two counts, key-value pairs, tensor infos, and the tensors' bytes, each padded to the
//! alignment and in the order of the infos. Dimensions come fastest first and are turned round here. Sizes computed from
//! a file's own numbers are where readers of this format have been exploited (CVE-2025-53630, -2026-27940, -2026-33298);
//! all arithmetic is checked and nothing is allocated on a count's word alone.

mod pairs;
mod split;
mod types;
mod value;

use std::collections::HashSet;
use std::io::{Read, Seek};
use std::sync::Arc;

pub use pairs::GgufPairs;
pub(super) use split::{Part, open};
pub(crate) use types::number as type_number;

use super::bytes::Bytes;
use super::header::{Header, HeaderTensor};
use super::name::{self, MAX_TENSORS};
use super::trouble::{Report, Trouble, quoted};
use super::{Metadata, MetadataValue};
use crate::Dtype;
use crate::finding::{Finding, code};

/// First bytes of a file.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// Most dimensions of a tensor, as GGML has it.
pub(crate) const MAX_DIMENSIONS: u32 = 4;
/// Most key-value pairs; models have some dozens.
const MAX_PAIRS: u64 = 65_536;
/// Fewest bytes of a tensor info: an empty name, no dimensions.
const MIN_INFO: u64 = 8 + 4 + 4 + 8;
/// Alignment of the data where the file sets none.
const ALIGNMENT: u64 = 32;

/// Reads the header of a file of `length` bytes; `None` when the file is refused.
pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    path: &Arc<str>,
    findings: &mut Vec<Finding>,
) -> Option<Header> {
    Report::of(path, findings, |report| read_header(reader, length, report))
}

/// A tensor info as written.
struct Info {
    name: String,
    at: u64,
    shape: Vec<u64>,
    /// The type's number, when it is unknown.
    dtype: Result<Dtype, u32>,
    /// From the start of the data.
    offset: u64,
    offset_at: u64,
}

fn read_header(reader: &mut (impl Read + Seek), length: u64, report: &mut Report) -> Result<Option<Header>, Trouble> {
    let mut bytes = Bytes::new(reader, 0, length, &code::MALFORMED_GGUF)?;
    let (tensors, pairs) = read_counts(&mut bytes)?;
    let metadata = read_metadata(&mut bytes, pairs)?;
    let mut infos = Vec::new();
    for _ in 0..tensors {
        infos.push(read_info(&mut bytes)?);
    }
    let alignment = alignment(&metadata)?;
    let data_start = if infos.is_empty() { bytes.at() } else { padded(bytes.at(), alignment)? };
    Ok(place(infos, data_start, length, alignment, report)?.map(|tensors| Header { tensors, metadata }))
}

fn read_counts(bytes: &mut Bytes<'_, impl Read + Seek>) -> Result<(u64, u64), Trouble> {
    if bytes.array()? != MAGIC {
        return Err(bytes.malformed(0, "the file does not start with `GGUF`"));
    }
    let version_at = bytes.at();
    let version = bytes.u32()?;
    if !(2..=3).contains(&version) {
        let message = if (2..=3).contains(&version.swap_bytes()) {
            "the file is big-endian; only little-endian files are read".to_owned()
        } else {
            format!("the file is GGUF version {version}; versions 2 and 3 are read")
        };
        return Err(bytes.malformed(version_at, message));
    }
    let tensors_at = bytes.at();
    let tensors = bytes.u64()?;
    let pairs_at = bytes.at();
    let pairs = bytes.u64()?;
    if tensors > MAX_TENSORS as u64 || tensors > bytes.remaining() / MIN_INFO {
        let message = format!("{tensors} tensors are claimed; the file has {} more bytes", bytes.remaining());
        return Err(Trouble::new(&code::TOO_LARGE, tensors_at, message));
    }
    if pairs > MAX_PAIRS {
        let message = format!("{pairs} key-value pairs are claimed; at most {MAX_PAIRS} are read");
        return Err(Trouble::new(&code::TOO_LARGE, pairs_at, message));
    }
    Ok((tensors, pairs))
}

fn read_metadata(bytes: &mut Bytes<'_, impl Read + Seek>, pairs: u64) -> Result<Metadata, Trouble> {
    let mut metadata = Metadata::new();
    let mut kept = value::Budget::default();
    for _ in 0..pairs {
        let at = bytes.at();
        let key = value::key(bytes)?;
        let value = value::read(bytes, &mut kept)?;
        if metadata.contains_key(&key) {
            return Err(bytes.malformed(at, format!("the key {} stands twice", quoted(&key))));
        }
        if key == "general.alignment" && !matches!(value, MetadataValue::Unsigned(n) if is_alignment(n)) {
            return Err(bytes.malformed(at, "`general.alignment` is not a power of two"));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// A `u32`, so that what is padded to it cannot grow by more than that.
fn is_alignment(number: u64) -> bool {
    number.is_power_of_two() && u32::try_from(number).is_ok()
}

fn alignment(metadata: &Metadata) -> Result<u64, Trouble> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(value) => value
            .as_unsigned()
            .ok_or_else(|| Trouble::anywhere(&code::MALFORMED_GGUF, "`general.alignment` is not a power of two")),
    }
}

fn padded(offset: u64, alignment: u64) -> Result<u64, Trouble> {
    offset.checked_next_multiple_of(alignment).ok_or_else(|| {
        Trouble::anywhere(&code::SIZE_OVERFLOW, format!("{offset} padded to {alignment} overflows 64 bits"))
    })
}

fn read_info(bytes: &mut Bytes<'_, impl Read + Seek>) -> Result<Info, Trouble> {
    let at = bytes.at();
    let name = value::text(bytes, name::MAX_NAME as u64, "a tensor name")?;
    let rank_at = bytes.at();
    let rank = bytes.u32()?;
    if rank > MAX_DIMENSIONS {
        let message = format!("tensor {} has {rank} dimensions; at most {MAX_DIMENSIONS} are read", quoted(&name));
        return Err(Trouble::new(&code::TOO_LARGE, rank_at, message));
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(bytes.u64()?);
    }
    // The file lists the fastest dimension first.
    shape.reverse();
    let number = bytes.u32()?;
    let offset_at = bytes.at();
    let offset = bytes.u64()?;
    Ok(Info { name, at, shape, dtype: types::dtype(number).ok_or(number), offset, offset_at })
}

/// Checks names, sizes and places; `None` when any of them refuses the file. A tensor of unknown type is left out.
fn place(
    infos: Vec<Info>,
    data_start: u64,
    length: u64,
    alignment: u64,
    report: &mut Report,
) -> Result<Option<Vec<HeaderTensor>>, Trouble> {
    let mut sound = true;
    let mut names = HashSet::new();
    for info in &infos {
        let trouble = name::objection(&info.name)
            .map(|message| Trouble::new(&code::TENSOR_NAME, info.at, message))
            .or_else(|| {
                let message = || format!("tensor {} stands twice in the header", quoted(&info.name));
                (!names.insert(info.name.as_str())).then(|| Trouble::new(&code::DUPLICATE_TENSOR, info.at, message()))
            });
        if let Some(trouble) = trouble {
            sound = false;
            report.push(trouble);
        }
    }
    drop(names);
    let mut tensors = Vec::new();
    let mut expected = 0;
    let mut end = data_start;
    for info in infos {
        if info.offset != expected {
            let message = format!(
                "tensor {} is at {} of the data, but {expected} follows the tensor before it",
                quoted(&info.name),
                info.offset
            );
            let code = if info.offset < expected { &code::TENSOR_OVERLAP } else { &code::TENSOR_GAP };
            return Err(Trouble::new(code, info.offset_at, message));
        }
        let Ok(dtype) = info.dtype else {
            let number = info.dtype.err().unwrap_or_default();
            let message = format!("tensor {} has the unknown type {number}", quoted(&info.name));
            report.push(
                Trouble::new(&code::UNKNOWN_DTYPE, info.at, message)
                    .help("its size is not known either, so the file is refused"),
            );
            return Ok(None);
        };
        let size = size(&info, dtype)?;
        let offset = data_start.checked_add(expected);
        end = offset.and_then(|offset| offset.checked_add(size)).ok_or_else(|| {
            let message = format!("the end of tensor {} overflows 64 bits", quoted(&info.name));
            Trouble::new(&code::SIZE_OVERFLOW, info.offset_at, message)
        })?;
        expected = padded(expected.saturating_add(size), alignment)?;
        let offset = end.saturating_sub(size);
        tensors.push(HeaderTensor {
            name: info.name,
            dtype,
            shape: info.shape,
            offset: Some(offset),
            length: size,
            indirect: None,
        });
    }
    // The padding of the last tensor may be absent; what goes beyond it belongs to none.
    let most = data_start.saturating_add(expected);
    if length < end || length > most {
        let message = format!("the tensors end at {end}, the file at {length}");
        let help = if length < end { "the file is cut short" } else { "bytes that no tensor owns are refused" };
        report.push(Trouble::new(&code::FILE_LENGTH, end.min(length), message).help(help));
        sound = false;
    }
    Ok(sound.then_some(tensors))
}

fn size(info: &Info, dtype: Dtype) -> Result<u64, Trouble> {
    let overflow = || {
        let message = format!("the size of tensor {} overflows 63 bits", quoted(&info.name));
        Trouble::new(&code::SIZE_OVERFLOW, info.at, message)
    };
    let elements = info.shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim)).ok_or_else(overflow)?;
    let (block, _) = dtype.block();
    let row = info.shape.last().copied().unwrap_or(1);
    if row % block != 0 {
        let message =
            format!("a row of {row} elements of tensor {} does not make whole {dtype} blocks", quoted(&info.name));
        return Err(Trouble::new(&code::TENSOR_SIZE, info.at, message));
    }
    // GGML keeps sizes and dimensions in signed numbers.
    let fits = |number: u64| i64::try_from(number).is_ok();
    dtype
        .bytes_for(elements)
        .filter(|&size| fits(size) && fits(elements) && info.shape.iter().all(|&dim| fits(dim)))
        .ok_or_else(overflow)
}
