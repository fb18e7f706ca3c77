//! numpy's `.npz`: a zip archive of `.npy` arrays.

use std::io::{Cursor, Read, Seek};
use std::sync::Arc;

use flate2::read::DeflateDecoder;

use super::bytes::Bytes;
use super::header::{Header, HeaderTensor};
use super::name::{self, MAX_RANK};
use super::pickle::numpy;
use super::trouble::{Report, Trouble, quoted};
use super::zip::{self, Compression, Member};
use crate::Dtype;
use crate::finding::{Finding, code};

/// Longest `.npy` header.
const MAX_HEADER: u64 = 65_536;
/// What a member must unpack to for its header to be read.
const UNPACKED: u64 = MAX_HEADER + 12;

/// Reads a file of `length` bytes; `None` when it is refused.
pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    path: &Arc<str>,
    findings: &mut Vec<Finding>,
) -> Option<Header> {
    let mut report = Report::new(path);
    let header = read_members(reader, length, &mut report).unwrap_or_else(|trouble| {
        report.push(trouble);
        None
    });
    report.finish(findings);
    header
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
                if tensor.offset.is_none() {
                    let message = format!("array {} is compressed; its bytes have no place in the file", quoted(name));
                    report.push(
                        Trouble::new(&code::COMPRESSED_MEMBER, member.offset, message)
                            .help("it is in the inventory, but cannot be loaded; save it with `numpy.savez`"),
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
    let (dtype, shape, header) = match member.compression {
        Compression::Stored => {
            let (dtype, shape) = read_npy(&mut bytes, member, name)?;
            (dtype, shape, bytes.at() - member.offset)
        }
        Compression::Deflated => {
            // No more packed bytes than a header can take, however well it is packed.
            let packed = bytes.vec(member.stored.min(UNPACKED))?;
            let mut head = Vec::new();
            let unpacked = DeflateDecoder::new(packed.as_slice()).take(UNPACKED).read_to_end(&mut head);
            if unpacked.is_err() && head.is_empty() {
                return Err(bytes.malformed(member.offset, format!("array {} cannot be unpacked", quoted(name))));
            }
            let length = head.len() as u64;
            let mut head = Cursor::new(head);
            let mut bytes = Bytes::new(&mut head, 0, length, &code::MALFORMED_NPY)?;
            let (dtype, shape) =
                read_npy(&mut bytes, member, name).map_err(|trouble| trouble.moved_to(member.offset))?;
            (dtype, shape, bytes.at())
        }
    };
    let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    let length = elements.and_then(|elements| dtype.bytes_for(elements));
    if length.and_then(|length| length.checked_add(header)) != Some(member.size) {
        let message = format!(
            "array {} does not take the {} bytes that follow its header",
            quoted(name),
            member.size.saturating_sub(header)
        );
        return Err(Trouble::new(&code::TENSOR_SIZE, member.offset, message));
    }
    let offset = (member.compression == Compression::Stored).then(|| member.offset.saturating_add(header));
    Ok(HeaderTensor { name: name.to_owned(), dtype, shape, offset, length: length.unwrap_or_default() })
}

/// Reads magic, version and the header: a Python dictionary of `descr`, `fortran_order` and `shape`.
fn read_npy(
    bytes: &mut Bytes<'_, impl Read + Seek>,
    member: &Member,
    name: &str,
) -> Result<(Dtype, Vec<u64>), Trouble> {
    let at = bytes.at();
    if bytes.array()? != *b"\x93NUMPY" {
        return Err(bytes.malformed(at, format!("member {} is no `.npy` array", quoted(&member.name))));
    }
    let [major, minor] = bytes.array()?;
    let length = match (major, minor) {
        (1, 0) => u64::from(bytes.u16()?),
        (2 | 3, 0) => u64::from(bytes.u32()?),
        _ => return Err(bytes.malformed(at, format!("the `.npy` version {major}.{minor} is not known"))),
    };
    if length > MAX_HEADER {
        let message = format!("the header claims {length} bytes; at most {MAX_HEADER} are read");
        return Err(Trouble::new(&code::TOO_LARGE, at, message));
    }
    let header_at = bytes.at();
    let text =
        String::from_utf8(bytes.vec(length)?).map_err(|_| bytes.malformed(header_at, "the header is not UTF-8"))?;
    let mut literal = Literal { text: &text, at: 0 };
    let fields = literal.fields().ok_or_else(|| {
        let message = format!("the header of array {} is not what numpy writes", quoted(name));
        bytes.malformed(header_at.saturating_add(literal.at as u64), message)
    })?;
    let dtype = dtype(&fields.descr).ok_or_else(|| {
        let message =
            format!("array {} has the dtype {}, which weights do not have", quoted(name), quoted(&fields.descr));
        Trouble::new(&code::UNKNOWN_DTYPE, header_at, message)
    })?;
    if fields.fortran_order && fields.shape.len() > 1 {
        let message = format!("array {} is stored column by column", quoted(name));
        return Err(
            Trouble::new(&code::STRIDED_TENSOR, header_at, message).help("save it with `numpy.ascontiguousarray`")
        );
    }
    Ok((dtype, fields.shape))
}

/// `<f4` and the like; one-byte types also with `|`.
fn dtype(descr: &str) -> Option<Dtype> {
    let dtype = numpy::named(descr.get(1..)?)?;
    let little = descr.starts_with('<') || descr.starts_with('|') && dtype.bytes_for(1) == Some(1);
    little.then_some(dtype)
}

/// The three fields of a header.
struct Fields {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// The few forms of a Python literal that a header is made of.
struct Literal<'a> {
    text: &'a str,
    at: usize,
}

impl Literal<'_> {
    fn fields(&mut self) -> Option<Fields> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.take("{")?;
        while self.take("}").is_none() {
            let repeated = match self.string()?.as_str() {
                "descr" => self.take(":").and_then(|()| descr.replace(self.string()?)).is_some(),
                "fortran_order" => self.take(":").and_then(|()| fortran_order.replace(self.boolean()?)).is_some(),
                "shape" => self.take(":").and_then(|()| shape.replace(self.shape()?)).is_some(),
                _ => return None,
            };
            if repeated {
                return None;
            }
            if self.take(",").is_none() {
                self.take("}")?;
                break;
            }
        }
        self.skip_space();
        if self.at != self.text.len() {
            return None;
        }
        Some(Fields { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_ascii_start().len();
    }

    fn take(&mut self, token: &str) -> Option<()> {
        self.skip_space();
        self.rest().starts_with(token).then(|| self.at += token.len())
    }

    /// A text in either quotes, without escapes.
    fn string(&mut self) -> Option<String> {
        let quote = if self.take("'").is_some() { '\'' } else { self.take("\"").map(|()| '"')? };
        let (text, _) = self.rest().split_once(quote)?;
        let text = text.to_owned();
        self.at += text.len() + 1;
        (!text.contains('\\')).then_some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        self.take("True").map(|()| true).or_else(|| self.take("False").map(|()| false))
    }

    /// `()`, `(2,)`, `(2, 3)`; Python 2 wrote `2L`.
    fn shape(&mut self) -> Option<Vec<u64>> {
        let mut shape = Vec::new();
        self.take("(")?;
        while self.take(")").is_none() {
            self.skip_space();
            let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
            shape.push(self.rest().get(..digits)?.parse().ok()?);
            self.at += digits;
            self.take("L");
            if shape.len() > MAX_RANK {
                return None;
            }
            if self.take(",").is_none() {
                self.take(")")?;
                break;
            }
        }
        Some(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_of(header: &str) -> Option<Vec<u64>> {
        Literal { text: header, at: 0 }.fields().map(|fields| fields.shape)
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        let with = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}   \n");
        assert_eq!(shape_of(&with("()")), Some(vec![]));
        assert_eq!(shape_of(&with("(2,)")), Some(vec![2]));
        assert_eq!(shape_of(&with("(2, 3)")), Some(vec![2, 3]));
        assert_eq!(shape_of(&with("(2L, 3L)")), Some(vec![2, 3]));
        for shape in ["2", "(2", "(-2,)", "(2.0,)", "(,)", "(2,,)", "[2]", "(99999999999999999999,)"] {
            assert_eq!(shape_of(&with(shape)), None, "{shape}");
        }
        assert_eq!(shape_of("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}"), None);
        assert_eq!(shape_of("{'descr': '<f4', 'fortran_order': False, 'shape': ()} x"), None);
        assert_eq!(shape_of("{'fortran_order': False, 'shape': ()}"), None);
    }
}
