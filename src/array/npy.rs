//! The header of a `.npy` file, read strictly.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. A magic string, a version, a header
//! length, a Python dictionary literal with exactly the keys `descr`, `fortran_order` and `shape`, then the data.

use super::bytes_of;
use crate::Dtype;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header: NumPy's own limit (`max_header_size`).
const MAX_HEADER: usize = 10_000;
/// Bytes from the start of a file that hold any header that is read.
pub(crate) const HEAD: usize = 12 + MAX_HEADER;
const MAX_RANK: usize = 32;

/// What a header says.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Offset of the data.
    pub(crate) data: usize,
    /// Where the header says that the first index moves fastest, if it does.
    pub(crate) column_major: Option<usize>,
}

/// What is wrong, and the byte at which.
#[derive(Debug, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) offset: usize,
    pub(crate) what: String,
}

fn trouble<T>(offset: usize, what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble { offset, what: what.into() })
}

/// Reads the header of a file of `length` bytes whose first are given, [`HEAD`] of them or all; its data must be all the rest.
pub(super) fn read(head: &[u8], length: u64) -> Result<Header, Trouble> {
    let header = read_head(head)?;
    if let Some(at) = header.column_major {
        return trouble(at, "column-major data; save it with `numpy.ascontiguousarray`");
    }
    let held = length.saturating_sub(header.data as u64);
    match bytes_of(header.dtype, &header.shape) {
        Some(bytes) if bytes as u64 != held => {
            trouble(header.data, format!("{held} bytes of data where the shape takes {bytes}"))
        }
        _ => Ok(header),
    }
}

/// Reads the header of a file whose first bytes are given, [`HEAD`] of them or all; nothing is said about the data.
pub(crate) fn read_head(file: &[u8]) -> Result<Header, Trouble> {
    if !file.starts_with(MAGIC) {
        return trouble(0, "not an npy file: it does not start with `\\x93NUMPY`");
    }
    let (start, length) = match file.get(6..8) {
        Some([1, 0]) => match file.get(8..10) {
            Some(&[a, b]) => (10, usize::from(u16::from_le_bytes([a, b]))),
            _ => return trouble(8, "the file ends inside the header length"),
        },
        Some([2 | 3, 0]) => match file.get(8..12) {
            Some(&[a, b, c, d]) => (12, u32::from_le_bytes([a, b, c, d]) as usize),
            _ => return trouble(8, "the file ends inside the header length"),
        },
        Some([major, minor]) => return trouble(6, format!("npy version {major}.{minor} is not known")),
        _ => return trouble(6, "the file ends inside the version"),
    };
    if length > MAX_HEADER {
        return trouble(8, format!("a header of {length} bytes, more than the limit of {MAX_HEADER}"));
    }
    let Some(text) = file.get(start..start + length) else {
        return trouble(8, format!("a header of {length} bytes, the file has {} more", file.len() - start));
    };
    let mut cursor = Cursor { text, at: 0 };
    let (dtype, shape, column_major) =
        cursor.header().map_err(|trouble| Trouble { offset: trouble.offset + start, ..trouble })?;
    if bytes_of(dtype, &shape).is_none() {
        return trouble(start, "the shape has more elements than can be counted");
    }
    Ok(Header { dtype, shape, data: start + length, column_major: column_major.map(|at| at + start) })
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn header(&mut self) -> Result<(Dtype, Vec<usize>, Option<usize>), Trouble> {
        let (mut dtype, mut shape, mut order) = (None, None, None);
        self.expect(b'{')?;
        while !self.take(b'}') {
            let at = self.at;
            let key = self.string()?;
            self.expect(b':')?;
            let repeated = match key.as_str() {
                "descr" => dtype.replace(self.dtype()?).is_some(),
                "fortran_order" => order.replace(self.order()?).is_some(),
                "shape" => shape.replace(self.shape()?).is_some(),
                _ => return trouble(at, format!("an unknown header key `{key}`")),
            };
            if repeated {
                return trouble(at, format!("the header key `{key}` stands twice"));
            }
            if !self.take(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        self.skip_space();
        if self.at != self.text.len() {
            return trouble(self.at, "text after the header's dictionary");
        }
        match (dtype, shape, order) {
            (Some(dtype), Some(shape), Some(column_major)) => Ok((dtype, shape, column_major)),
            _ => trouble(0, "the header lacks one of `descr`, `fortran_order`, `shape`"),
        }
    }

    fn dtype(&mut self) -> Result<Dtype, Trouble> {
        let at = self.at;
        let descr = self.string()?;
        Ok(match descr.as_str() {
            "<f8" => Dtype::F64,
            "<f4" => Dtype::F32,
            "<f2" => Dtype::F16,
            // NumPy has no bf16: ml_dtypes writes it as two opaque bytes.
            "<V2" | "|V2" => Dtype::Bf16,
            "<i8" => Dtype::I64,
            "<i4" => Dtype::I32,
            "<i2" => Dtype::I16,
            "|i1" => Dtype::I8,
            "<u8" => Dtype::U64,
            "<u4" => Dtype::U32,
            "<u2" => Dtype::U16,
            "|u1" => Dtype::U8,
            "|b1" => Dtype::Bool,
            big if big.starts_with('>') => return trouble(at, format!("big-endian data `{big}`")),
            other => return trouble(at, format!("dtype `{other}` is not read here")),
        })
    }

    /// Where it says that the data is column-major, if it does.
    fn order(&mut self) -> Result<Option<usize>, Trouble> {
        self.skip_space();
        let rest = self.text.get(self.at..).unwrap_or_default();
        if rest.starts_with(b"False") {
            self.at += 5;
            Ok(None)
        } else if rest.starts_with(b"True") {
            self.at += 4;
            Ok(Some(self.at - 4))
        } else {
            trouble(self.at, "`fortran_order` is neither `True` nor `False`")
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>, Trouble> {
        let mut shape = Vec::new();
        self.expect(b'(')?;
        while !self.take(b')') {
            if shape.len() == MAX_RANK {
                return trouble(self.at, format!("more than {MAX_RANK} dimensions"));
            }
            shape.push(self.number()?);
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }

    fn number(&mut self) -> Result<usize, Trouble> {
        self.skip_space();
        let at = self.at;
        let mut value = 0_usize;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            let next = value.checked_mul(10).and_then(|value| value.checked_add(usize::from(digit - b'0')));
            let Some(next) = next else { return trouble(at, "a dimension too large to count") };
            value = next;
            self.at += 1;
        }
        if self.at == at { trouble(at, "no number where a dimension should stand") } else { Ok(value) }
    }

    fn string(&mut self) -> Result<String, Trouble> {
        self.skip_space();
        let at = self.at;
        let quote = match self.text.get(at) {
            Some(&quote @ (b'\'' | b'"')) => quote,
            _ => return trouble(at, "no string where one should stand"),
        };
        let body = self.text.get(at + 1..).unwrap_or_default();
        let length = body.iter().position(|&byte| byte == quote || !(b' '..=b'~').contains(&byte) || byte == b'\\');
        match length.and_then(|length| Some((length, *body.get(length)?))) {
            Some((length, end)) if end == quote => {
                self.at = at + length + 2;
                Ok(String::from_utf8_lossy(body.get(..length).unwrap_or_default()).into_owned())
            }
            _ => trouble(at, "a string that does not end, or is not plain ASCII"),
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Trouble> {
        if self.take(byte) { Ok(()) } else { trouble(self.at, format!("no `{}` where one should stand", byte as char)) }
    }

    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\n')) {
            self.at += 1;
        }
    }
}

/// The header of an array, padded so that the data starts at a multiple of 64, as NumPy writes it.
pub(super) fn header(dtype: Dtype, shape: &[usize]) -> Option<Vec<u8>> {
    let descr = match dtype {
        Dtype::F64 => "<f8",
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
        Dtype::Bf16 => "<V2",
        Dtype::I64 => "<i8",
        Dtype::I32 => "<i4",
        Dtype::U32 => "<u4",
        _ => return None,
    };
    let sizes = shape.iter().map(|size| format!("{size},")).collect::<Vec<_>>().join(" ");
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let padding = 64 - (10 + text.len() + 1) % 64;
    text.extend(std::iter::repeat_n(' ', padding % 64));
    text.push('\n');
    let length = u16::try_from(text.len()).ok()?;
    Some([MAGIC, &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dictionary: &str, data: usize) -> Vec<u8> {
        let length = u16::try_from(dictionary.len()).unwrap().to_le_bytes();
        [MAGIC, &[1, 0], &length, dictionary.as_bytes(), &vec![0; data]].concat()
    }

    /// Reads a whole file.
    fn read(file: &[u8]) -> Result<Header, Trouble> {
        super::read(file, file.len() as u64)
    }

    #[test]
    fn numpys_own_headers_are_read() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n";
        assert_eq!(
            read(&file(text, 24)),
            Ok(Header { dtype: Dtype::F32, shape: vec![2, 3], data: 10 + text.len(), column_major: None })
        );
        let scalar = "{'descr': '|i1', 'fortran_order': False, 'shape': (), }\n";
        assert_eq!(read(&file(scalar, 1)).unwrap().shape, Vec::<usize>::new());
        for (dtype, shape) in [(Dtype::Bf16, vec![7]), (Dtype::F64, vec![]), (Dtype::U32, vec![1, 0, 5])] {
            let mut bytes = header(dtype, &shape).unwrap();
            assert_eq!(bytes.len() % 64, 0);
            bytes.resize(bytes.len() + bytes_of(dtype, &shape).unwrap(), 0);
            let read = read(&bytes).unwrap();
            assert_eq!((read.dtype, read.shape), (dtype, shape));
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_place() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        let cases = [
            (b"PK\x03\x04".to_vec(), 0, "not an npy file"),
            (b"\x93NUMPY\x04\x00\x00\x00".to_vec(), 6, "version 4.0"),
            (b"\x93NUMPY\x01".to_vec(), 6, "ends inside the version"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), 8, "more than the limit"),
            (b"\x93NUMPY\x01\x00\x40\x00{".to_vec(), 8, "the file has 1 more"),
            (file(good, 7), 10 + good.len(), "7 bytes of data where the shape takes 8"),
            (file(good, 9), 10 + good.len(), "9 bytes of data where the shape takes 8"),
            (file(&good.replace("<f4", ">f4"), 8), 19, "big-endian"),
            (file(&good.replace("<f4", "|O"), 8), 19, "`|O` is not read"),
            (file(&good.replace("False", "True"), 8), 43, "column-major"),
            (file(&good.replace("(2,)", "(99999999999999999999,)"), 8), 61, "too large"),
            (file(&good.replace("(2,)", "(4294967296, 4294967296, 4294967296)"), 8), 10, "more elements"),
            (file(&good.replace("shape", "extra"), 8), 50, "unknown header key `extra`"),
            (file(&good.replace("'fortran_order': False, ", ""), 8), 10, "lacks one of"),
            (file(&good.replace("'fortran_order': False", "'descr': '<f4'"), 8), 26, "stands twice"),
            (file(&format!("{good} x"), 8), 11 + good.len(), "text after"),
            (file("{'descr': '<f4", 8), 19, "does not end"),
        ];
        for (bytes, offset, what) in cases {
            let trouble = read(&bytes).unwrap_err();
            assert!(trouble.what.contains(what), "{trouble:?} {what}");
            assert!(trouble.offset.abs_diff(offset) <= 1, "{trouble:?} {offset}");
        }
    }
}
