//! GGUF's metadata values, kept within bounds.

use std::io::{Read, Seek};

use super::Bytes;
use crate::finding::code;
use crate::inventory::MetadataValue;
use crate::inventory::trouble::{Trouble, quoted};

/// Longest key, as the format has it.
const MAX_KEY: u64 = 65_535;
/// Longest string that is read; chat templates have some ten thousand bytes.
const MAX_TEXT: u64 = 1 << 20;
/// Bytes of strings kept of all values of a file.
const MAX_KEPT: usize = 16 << 20;
/// Elements kept of a list.
const FIRST: u64 = 8;

/// Bytes of strings kept so far.
#[derive(Default)]
pub(super) struct Budget {
    kept: usize,
}

/// Reads a key.
pub(super) fn key(bytes: &mut Bytes<'_, impl Read + Seek>) -> Result<String, Trouble> {
    let at = bytes.at();
    let key = text(bytes, MAX_KEY, "a key")?;
    if key.is_empty() || key.chars().any(char::is_control) {
        return Err(bytes.malformed(at, format!("{} cannot be a key", quoted(&key))));
    }
    Ok(key)
}

/// Reads a string of at most `limit` bytes: its length (u64), then UTF-8.
pub(super) fn text(bytes: &mut Bytes<'_, impl Read + Seek>, limit: u64, what: &str) -> Result<String, Trouble> {
    let at = bytes.at();
    let length = bytes.u64()?;
    if length > limit {
        let message = format!("{what} claims {length} bytes; at most {limit} are read");
        return Err(Trouble::new(&code::TOO_LARGE, at, message));
    }
    let text_at = bytes.at();
    String::from_utf8(bytes.vec(length)?).map_err(|error| {
        let at = text_at.saturating_add(error.utf8_error().valid_up_to() as u64);
        bytes.malformed(at, format!("{what} is not UTF-8"))
    })
}

/// Reads a type and a value of it.
pub(super) fn read(bytes: &mut Bytes<'_, impl Read + Seek>, budget: &mut Budget) -> Result<MetadataValue, Trouble> {
    let at = bytes.at();
    match bytes.u32()? {
        LIST => read_list(bytes, budget),
        kind => read_scalar(bytes, kind, at, budget),
    }
}

const TEXT: u32 = 8;
const LIST: u32 = 9;

/// Bytes of a value of a type of fixed size.
const fn fixed_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn read_scalar(
    bytes: &mut Bytes<'_, impl Read + Seek>,
    kind: u32,
    kind_at: u64,
    budget: &mut Budget,
) -> Result<MetadataValue, Trouble> {
    use MetadataValue::{Bool, Float, Signed, Text, Unsigned};
    let at = bytes.at();
    Ok(match kind {
        0 => Unsigned(bytes.u8()?.into()),
        1 => Signed(i8::from_le_bytes(bytes.array()?).into()),
        2 => Unsigned(u16::from_le_bytes(bytes.array()?).into()),
        3 => Signed(i16::from_le_bytes(bytes.array()?).into()),
        4 => Unsigned(bytes.u32()?.into()),
        5 => Signed(i32::from_le_bytes(bytes.array()?).into()),
        6 => Float(f32::from_le_bytes(bytes.array()?).into()),
        7 => match bytes.u8()? {
            0 => Bool(false),
            1 => Bool(true),
            other => return Err(bytes.malformed(at, format!("a truth value is {other}, neither 0 nor 1"))),
        },
        TEXT => {
            let text = text(bytes, MAX_TEXT, "a string")?;
            budget.kept = budget.kept.saturating_add(text.len());
            if budget.kept > MAX_KEPT {
                let message = format!("the strings of the header take more than {MAX_KEPT} bytes");
                return Err(Trouble::new(&code::TOO_LARGE, at, message));
            }
            Text(text)
        }
        10 => Unsigned(bytes.u64()?),
        11 => Signed(i64::from_le_bytes(bytes.array()?)),
        12 => Float(f64::from_le_bytes(bytes.array()?)),
        LIST => return Err(bytes.malformed(kind_at, "a list of lists; GGML reads none")),
        other => return Err(bytes.malformed(kind_at, format!("no such value type: {other}"))),
    })
}

/// A list keeps its first elements; the others are checked to be there and passed over.
fn read_list(bytes: &mut Bytes<'_, impl Read + Seek>, budget: &mut Budget) -> Result<MetadataValue, Trouble> {
    let kind_at = bytes.at();
    let kind = bytes.u32()?;
    let length_at = bytes.at();
    let length = bytes.u64()?;
    // Every element takes at least this, so a lying count ends here and not in a loop.
    let least = fixed_size(kind).unwrap_or(8);
    if length > bytes.remaining() / least {
        let message = format!("a list claims {length} elements; the file has {} more bytes", bytes.remaining());
        return Err(bytes.malformed(length_at, message));
    }
    let mut first = Vec::new();
    for _ in 0..length.min(FIRST) {
        first.push(read_scalar(bytes, kind, kind_at, budget)?);
    }
    let rest = length.saturating_sub(FIRST);
    match fixed_size(kind) {
        Some(size) => bytes.skip(rest.saturating_mul(size))?,
        None => {
            for _ in 0..rest {
                let length = bytes.u64()?;
                bytes.skip(length)?;
            }
        }
    }
    Ok(MetadataValue::List { length, first })
}
