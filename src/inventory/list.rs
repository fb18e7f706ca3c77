//! JSONL lists: `{"name","dtype","shape","file"?}`, one tensor per line, without weights.
//!
//! Other fields are passed over, so that the output of other tools can be read as it is.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Cursor as Bytes, Read};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::json::Cursor;
use super::name::{self, MAX_RANK, MAX_TENSORS};
use super::names::Names;
use super::trouble::{Report, Trouble, quoted};
use super::{ByteRange, Checkpoint, CheckpointFile, Container, FileId, Metadata, StoredTensor};
use crate::Dtype;
use crate::finding::{Finding, code, suggest};

/// Longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// First bytes of a gzip stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads a list, compressed by gzip or not.
///
/// # Errors
///
/// When the reader fails. A bad line is a finding, and the tensor it would have named is left out.
pub(super) fn read(reader: impl Read, name: &str) -> io::Result<(Checkpoint, Vec<Finding>)> {
    let mut reader = BufReader::new(reader);
    let mut magic = [0; 2];
    let count = read_up_to(&mut reader, &mut magic)?;
    let reader = Bytes::new(magic).take(count as u64).chain(reader);
    if magic == GZIP {
        read_lines(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(reader)), name)
    } else {
        read_lines(reader, name)
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_lines(mut reader: impl BufRead, name: &str) -> io::Result<(Checkpoint, Vec<Finding>)> {
    let mut list =
        List { checkpoint: Checkpoint::empty(name, Container::List), names: Names::default(), files: HashMap::new() };
    let mut report = Report::new(&list.checkpoint.name);
    let mut line = Vec::new();
    let mut at = 0;
    for number in 1_u64.. {
        line.clear();
        let count = reader.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)? as u64;
        if count == 0 {
            break;
        }
        let is_array = list.checkpoint.tensors.is_empty() && line.trim_ascii_start().starts_with(b"[");
        let read = if count > MAX_LINE {
            let message = format!("longer than {MAX_LINE} bytes; the list is read no further");
            Err(Trouble::new(&code::TOO_LARGE, 0, message))
        } else if is_array {
            Err(Trouble::new(&code::MALFORMED_LIST, 0, "a JSON array, and a list has one object on each line")
                .help("leave out the brackets around the objects and the commas between them: `jq -c '.[]'`"))
        } else {
            list.line(line.trim_ascii_end())
        };
        if let Err(mut trouble) = read {
            let end = trouble.code == &code::TOO_LARGE || is_array;
            trouble.message = format!("line {number}: {}", trouble.message);
            report.push(trouble.offset_by(at));
            if end {
                break;
            }
        }
        at += count;
    }
    let mut findings = Vec::new();
    report.finish(&mut findings);
    Ok((list.checkpoint, findings))
}

struct List {
    checkpoint: Checkpoint,
    names: Names,
    files: HashMap<String, FileId>,
}

impl List {
    fn line(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Trouble::new(&code::MALFORMED_LIST, error.valid_up_to() as u64, "not UTF-8"))?;
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let Line { name, dtype, shape, file } = Line::parse(text)?;
        if self.checkpoint.tensors.len() >= MAX_TENSORS {
            let message = format!("the list names more than {MAX_TENSORS} tensors; it is read no further");
            return Err(Trouble::new(&code::TOO_LARGE, 0, message));
        }
        let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim)).ok_or_else(|| {
            Trouble::new(&code::SIZE_OVERFLOW, 0, format!("the size of tensor {} overflows 64 bits", quoted(&name)))
        })?;
        let length = dtype.bytes_for(elements).ok_or_else(|| {
            let message =
                format!("{elements} elements of {dtype} in tensor {} do not make whole blocks", quoted(&name));
            Trouble::new(&code::TENSOR_SIZE, 0, message)
        })?;
        if self.names.contains(&self.checkpoint.tensors, &name) {
            let message = format!("tensor {} stands twice in the list", quoted(&name));
            return Err(Trouble::new(&code::DUPLICATE_TENSOR, 0, message));
        }
        let file = file.map(|file| self.file(file));
        let bytes = ByteRange { file, offset: None, length };
        self.checkpoint.tensors.push(StoredTensor { name, dtype, shape, bytes });
        self.names.note_last(&self.checkpoint.tensors);
        Ok(())
    }

    fn file(&mut self, name: String) -> FileId {
        let next = FileId(u32::try_from(self.checkpoint.files.len()).unwrap_or(u32::MAX));
        *self.files.entry(name).or_insert_with_key(|name| {
            self.checkpoint.files.push(CheckpointFile {
                path: Arc::from(name.as_str()),
                location: None,
                size: None,
                stamp: None,
                metadata: Metadata::new(),
            });
            next
        })
    }
}

/// One line, its fields checked one by one.
struct Line {
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    file: Option<String>,
}

impl Line {
    fn parse(text: &str) -> Result<Self, Trouble> {
        let (mut name, mut dtype, mut shape, mut file) = (None, None, None, None);
        let mut cursor = Cursor::new(text);
        let read = cursor.object(|cursor, field, at| {
            cursor.skip_space();
            let value_at = cursor.at() as u64;
            let repeated = match &*field {
                "name" => {
                    let value = cursor.string()?.into_owned();
                    if let Some(message) = name::objection(&value) {
                        return Err(Trouble::new(&code::TENSOR_NAME, value_at, message));
                    }
                    name.replace(value).is_some()
                }
                "dtype" => {
                    let spelling = cursor.string()?;
                    let exact = Dtype::from_safetensors(&spelling);
                    let value = exact.map_or_else(|| spelling.parse(), Ok).map_err(|_| {
                        let guess = suggest::did_you_mean(&spelling, Dtype::ALL.iter().map(|dtype| dtype.name()));
                        let guess = guess.map_or_else(String::new, |guess| format!("{guess} "));
                        Trouble::new(&code::UNKNOWN_DTYPE, value_at, format!("unknown dtype {}", quoted(&spelling)))
                            .help(format!("{guess}the tensor is left out of the inventory"))
                    })?;
                    dtype.replace(value).is_some()
                }
                "shape" => {
                    let mut dims = Vec::new();
                    cursor.array(|cursor| {
                        if dims.len() == MAX_RANK {
                            let message = format!("a shape has more than {MAX_RANK} dimensions");
                            return Err(Trouble::new(&code::MALFORMED_LIST, value_at, message));
                        }
                        dims.push(cursor.unsigned()?);
                        Ok(())
                    })?;
                    shape.replace(dims).is_some()
                }
                "file" => {
                    let value = cursor.string()?.into_owned();
                    if name::objection(&value).is_some() {
                        let message = format!("{} cannot name a file", quoted(&value));
                        return Err(Trouble::new(&code::MALFORMED_LIST, value_at, message));
                    }
                    file.replace(value).is_some()
                }
                _ => {
                    cursor.skip()?;
                    false
                }
            };
            if repeated {
                return Err(Trouble::new(
                    &code::MALFORMED_LIST,
                    at as u64,
                    format!("the field `{field}` stands twice"),
                ));
            }
            Ok(())
        });
        read.map_err(as_list_trouble)?;
        cursor.skip_space();
        if !cursor.rest().is_empty() {
            let at = cursor.at() as u64;
            return Err(Trouble::new(&code::MALFORMED_LIST, at, "something follows the object"));
        }
        let missing = |field: &str| {
            Trouble::new(&code::MALFORMED_LIST, 0, format!("no `{field}`"))
                .help("a line is `{\"name\": ..., \"dtype\": ..., \"shape\": [...]}` with an optional `file`")
        };
        Ok(Self {
            name: name.ok_or_else(|| missing("name"))?,
            dtype: dtype.ok_or_else(|| missing("dtype"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
            file,
        })
    }
}

/// What the JSON reader says about a line is said about a list, not about a header.
fn as_list_trouble(mut trouble: Trouble) -> Trouble {
    if trouble.code == &code::MALFORMED_HEADER || trouble.code == &code::HEADER_FIELD {
        trouble.code = &code::MALFORMED_LIST;
    }
    trouble
}
