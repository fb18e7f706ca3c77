//! safetensors headers, read strictly.
//!
//! A file is 8 bytes of header length (u64, little-endian), a JSON header, and the tensors' bytes without holes. The
//! reference library (0.8) lets through what the format's own text forbids: repeated names, a header that starts with
//! spaces, unknown fields. Two readers that disagree about a file are an attack surface, so all of that is refused here,
//! and a refused file gives no tensors.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::header::{Header, HeaderTensor};
use super::json::Cursor;
use super::name::{self, MAX_RANK, MAX_TENSORS};
use super::trouble::{Report, Trouble, quoted};
use super::{Metadata, MetadataValue};
use crate::Dtype;
use crate::finding::{Finding, code};

/// Longest header, as the reference library has it.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the length in front of the header.
const PREFIX: u64 = 8;

/// Reads the header of a file of `length` bytes; `None` when the file is refused.
pub(super) fn read(
    reader: &mut (impl Read + Seek),
    length: u64,
    path: &Arc<str>,
    findings: &mut Vec<Finding>,
) -> Option<Header> {
    Report::of(path, findings, |report| read_header(reader, length, report))
}

fn read_header(reader: &mut (impl Read + Seek), length: u64, report: &mut Report) -> Result<Option<Header>, Trouble> {
    let text = read_text(reader, length)?;
    let data_start = PREFIX + text.len() as u64;
    let (entries, metadata) = parse(&text).map_err(|trouble| trouble.offset_by(PREFIX))?;
    if !check(&entries, data_start, length.saturating_sub(data_start), report) {
        return Ok(None);
    }
    let tensors = entries.into_iter().filter_map(|entry| {
        Some(HeaderTensor {
            name: entry.name,
            dtype: entry.dtype.ok()?,
            shape: entry.shape,
            // Coverage was checked against the file's length, so neither can overflow.
            offset: Some(data_start.saturating_add(entry.begin)),
            length: entry.end.saturating_sub(entry.begin),
            indirect: None,
        })
    });
    Ok(Some(Header { tensors: tensors.collect(), metadata }))
}

/// Says what a file is that often lies where weights should be. Its first bytes would be a length beyond any header's.
fn another_file(start: [u8; 8]) -> Option<Trouble> {
    let (what, help) = match &start {
        b"version " => ("a Git LFS pointer", "fetch the file itself with `git lfs pull`"),
        b"<!DOCTYP" | b"<!doctyp" | [b'<', b'h' | b'H', b't' | b'T', ..] => {
            ("an HTML page", "a download failed and its error page was kept; download the file again")
        }
        [b'P', b'K', 3, 4, ..] => {
            ("a zip archive, as PyTorch's `.pt` and NumPy's `.npz` are", "rename it, or convert it")
        }
        _ => return None,
    };
    Some(Trouble::new(&code::HEADER_LENGTH, 0, format!("this is {what}, not a safetensors file")).help(help))
}

/// Reads the header's text. Nothing is allocated on the length's word alone: it is checked against the file, and the
/// buffer grows with what arrives.
fn read_text(reader: &mut (impl Read + Seek), length: u64) -> Result<String, Trouble> {
    let unreadable = |error: std::io::Error| Trouble::new(&code::UNREADABLE_FILE, 0, format!("cannot read: {error}"));
    if length < PREFIX {
        return Err(Trouble::new(
            &code::HEADER_LENGTH,
            0,
            format!("the file has {length} bytes, a safetensors file at least 8"),
        ));
    }
    reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let mut prefix = [0; 8];
    reader.read_exact(&mut prefix).map_err(unreadable)?;
    if let Some(trouble) = another_file(prefix) {
        return Err(trouble);
    }
    let header = u64::from_le_bytes(prefix);
    if header > MAX_HEADER {
        return Err(Trouble::new(
            &code::HEADER_LENGTH,
            0,
            format!("the header claims {header} bytes; at most {MAX_HEADER} are taken"),
        )
        .help("this may not be a safetensors file"));
    }
    if header > length - PREFIX {
        return Err(Trouble::new(
            &code::HEADER_LENGTH,
            0,
            format!("the header claims {header} bytes, but {} follow the length", length - PREFIX),
        )
        .help("the file is cut short, or is no safetensors file"));
    }
    let mut bytes = Vec::new();
    let mut rest = reader.take(header);
    // One byte first: a file that is anything else is not read further.
    rest.by_ref().take(1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.first() {
        Some(b'{') => {}
        None => return Err(Trouble::new(&code::MALFORMED_HEADER, 0, "the header is empty")),
        Some(_) => {
            return Err(Trouble::new(&code::MALFORMED_HEADER, PREFIX, "the header does not start with `{`"));
        }
    }
    rest.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 != header {
        return Err(Trouble::new(&code::FILE_CHANGED, PREFIX, "the file became shorter while its header was read"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = PREFIX + error.utf8_error().valid_up_to() as u64;
        Trouble::new(&code::MALFORMED_HEADER, at, "the header is not UTF-8")
    })
}

/// A header entry as written, and where its parts stand in the header.
struct Entry {
    name: String,
    name_at: usize,
    /// The spelling, when it is unknown.
    dtype: Result<Dtype, String>,
    dtype_at: usize,
    shape: Vec<u64>,
    shape_at: usize,
    /// From the start of the data.
    begin: u64,
    end: u64,
    offsets_at: usize,
}

/// Reads the header's grammar. The first error ends it: what follows cannot be trusted.
fn parse(text: &str) -> Result<(Vec<Entry>, Metadata), Trouble> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut metadata: Option<Metadata> = None;
    let mut cursor = Cursor::new(text);
    cursor.object(|cursor, key, at| {
        if key == "__metadata__" {
            if metadata.is_some() {
                return Err(Trouble::new(&code::HEADER_FIELD, at as u64, "`__metadata__` stands twice"));
            }
            metadata = Some(read_metadata(cursor)?);
        } else if entries.len() >= MAX_TENSORS {
            let message = format!("the header names more than {MAX_TENSORS} tensors");
            return Err(Trouble::new(&code::TOO_LARGE, at as u64, message));
        } else {
            entries.push(read_entry(cursor, key.into_owned(), at)?);
        }
        Ok(())
    })?;
    if let Some(at) = cursor.rest().bytes().position(|byte| byte != b' ') {
        let at = (cursor.at() + at) as u64;
        return Err(Trouble::new(&code::MALFORMED_HEADER, at, "only spaces may follow the header's object"));
    }
    Ok((entries, metadata.unwrap_or_default()))
}

fn read_metadata(cursor: &mut Cursor<'_>) -> Result<Metadata, Trouble> {
    let mut metadata = Metadata::new();
    cursor.object(|cursor, key, at| {
        let value = cursor.string()?.into_owned();
        if metadata.insert(key.clone().into_owned(), MetadataValue::Text(value)).is_some() {
            let message = format!("`__metadata__` has {} twice", quoted(&key));
            return Err(Trouble::new(&code::HEADER_FIELD, at as u64, message));
        }
        Ok(())
    })?;
    Ok(metadata)
}

fn read_entry(cursor: &mut Cursor<'_>, name: String, name_at: usize) -> Result<Entry, Trouble> {
    let mut dtype = None;
    let mut shape: Option<(Vec<u64>, usize)> = None;
    let mut offsets = None;
    cursor.object(|cursor, field, at| {
        cursor.skip_space();
        let value_at = cursor.at();
        let repeated = match &*field {
            "dtype" => {
                let spelling = cursor.string()?;
                let known = Dtype::from_safetensors(&spelling).ok_or_else(|| spelling.into_owned());
                dtype.replace((known, value_at)).is_some()
            }
            "shape" => shape.replace((read_shape(cursor)?, value_at)).is_some(),
            "data_offsets" => offsets.replace((read_offsets(cursor)?, value_at)).is_some(),
            _ => {
                let message = format!("tensor {} has an unknown field {}", quoted(&name), quoted(&field));
                return Err(Trouble::new(&code::HEADER_FIELD, at as u64, message)
                    .help("the fields are `dtype`, `shape` and `data_offsets`"));
            }
        };
        if repeated {
            let message = format!("tensor {} has the field `{field}` twice", quoted(&name));
            return Err(Trouble::new(&code::HEADER_FIELD, at as u64, message));
        }
        Ok(())
    })?;
    let missing = |field: &str| {
        let message = format!("tensor {} has no `{field}`", quoted(&name));
        Trouble::new(&code::HEADER_FIELD, name_at as u64, message)
    };
    let (dtype, dtype_at) = dtype.ok_or_else(|| missing("dtype"))?;
    let (shape, shape_at) = shape.ok_or_else(|| missing("shape"))?;
    let ((begin, end), offsets_at) = offsets.ok_or_else(|| missing("data_offsets"))?;
    Ok(Entry { name, name_at, dtype, dtype_at, shape, shape_at, begin, end, offsets_at })
}

fn read_shape(cursor: &mut Cursor<'_>) -> Result<Vec<u64>, Trouble> {
    let mut shape = Vec::new();
    cursor.array(|cursor| {
        if shape.len() == MAX_RANK {
            let message = format!("a shape has more than {MAX_RANK} dimensions");
            return Err(Trouble::new(&code::TOO_LARGE, cursor.at() as u64, message));
        }
        shape.push(cursor.unsigned()?);
        Ok(())
    })?;
    Ok(shape)
}

fn read_offsets(cursor: &mut Cursor<'_>) -> Result<(u64, u64), Trouble> {
    let at = cursor.at() as u64;
    let mut offsets = [0; 2];
    let mut count = 0;
    cursor.array(|cursor| {
        let value = cursor.unsigned()?;
        if let Some(slot) = offsets.get_mut(count) {
            *slot = value;
        }
        count += 1;
        Ok::<_, Trouble>(())
    })?;
    if count != 2 {
        return Err(Trouble::new(&code::HEADER_FIELD, at, format!("`data_offsets` takes two numbers, not {count}")));
    }
    let [begin, end] = offsets;
    Ok((begin, end))
}

/// Checks what the grammar cannot: names, sizes, and that the tensors cover the `data` bytes exactly. An unknown dtype
/// is reported but refuses only its tensor.
fn check(entries: &[Entry], data_start: u64, data: u64, report: &mut Report) -> bool {
    let mut sound = true;
    let mut names = NameSet::with_capacity_and_hasher(entries.len(), RandomState::default());
    for entry in entries {
        let (troubles, fatal) = check_entry(entry, &mut names);
        sound &= !fatal;
        troubles.into_iter().flatten().for_each(|trouble| report.push(trouble.offset_by(PREFIX)));
    }
    // With a wrong size among them, holes and overlaps would only repeat it.
    sound && check_coverage(entries, data_start, data, report)
}

/// Names seen; hashed with a random seed, since they are foreign.
type NameSet<'a> = HashSet<&'a str, RandomState>;

/// Up to three things to say about one entry, and whether any of them refuses the file.
fn check_entry<'a>(entry: &'a Entry, names: &mut NameSet<'a>) -> ([Option<Trouble>; 3], bool) {
    let name = name::objection(&entry.name)
        .map(|message| Trouble::new(&code::TENSOR_NAME, entry.name_at as u64, message))
        .or_else(|| {
            let fresh = names.insert(&entry.name);
            let message = || format!("tensor {} stands twice in the header", quoted(&entry.name));
            (!fresh).then(|| {
                Trouble::new(&code::DUPLICATE_TENSOR, entry.name_at as u64, message())
                    .help("readers differ in which one they take; write the file anew")
            })
        });
    let size = check_size(entry).err();
    let dtype = entry.dtype.as_ref().err().map(|spelling| {
        let message = format!("tensor {} has the unknown dtype {}", quoted(&entry.name), quoted(spelling));
        Trouble::new(&code::UNKNOWN_DTYPE, entry.dtype_at as u64, message)
            .help("the tensor is left out of the inventory; dtype names are upper case, for example `BF16`")
    });
    let fatal = name.is_some() || size.is_some();
    ([name, size, dtype], fatal)
}

fn check_size(entry: &Entry) -> Result<(), Trouble> {
    let tensor = || quoted(&entry.name);
    let Some(length) = entry.end.checked_sub(entry.begin) else {
        let message = format!("tensor {} ends at {} before it begins at {}", tensor(), entry.end, entry.begin);
        return Err(Trouble::new(&code::TENSOR_SIZE, entry.offsets_at as u64, message));
    };
    let overflow = || {
        let message = format!("the size of tensor {} overflows 64 bits", tensor());
        Trouble::new(&code::SIZE_OVERFLOW, entry.shape_at as u64, message)
    };
    // Multiplied in order, so that `[2^40, 2^40, 0]` overflows here as it does in the reference library.
    let elements = entry.shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim)).ok_or_else(overflow)?;
    let Ok(dtype) = entry.dtype else { return Ok(()) };
    let (block_elements, block_bytes) = dtype.block();
    let bits = elements.checked_mul(block_bytes * 8 / block_elements).ok_or_else(overflow)?;
    if bits % 8 != 0 {
        let message = format!("the {elements} elements of tensor {} do not fill whole bytes as {dtype}", tensor());
        return Err(Trouble::new(&code::TENSOR_SIZE, entry.shape_at as u64, message));
    }
    if bits / 8 != length {
        let message =
            format!("tensor {} takes {} bytes by dtype and shape, {length} by `data_offsets`", tensor(), bits / 8);
        return Err(Trouble::new(&code::TENSOR_SIZE, entry.offsets_at as u64, message));
    }
    Ok(())
}

/// Holes, overlaps and trailing bytes could carry a second file; none are allowed.
fn check_coverage(entries: &[Entry], data_start: u64, data: u64, report: &mut Report) -> bool {
    let mut order: Vec<&Entry> = entries.iter().collect();
    // By both ends: an empty tensor stands before the one that begins where it does.
    order.sort_by_key(|entry| (entry.begin, entry.end));
    let mut sound = true;
    let mut covered = 0;
    let mut last = None;
    for entry in order {
        let place = format!("tensor {} begins at {} of the data", quoted(&entry.name), entry.begin);
        let trouble = match last {
            _ if entry.begin == covered => None,
            _ if entry.begin > covered => {
                Some((&code::TENSOR_GAP, format!("{place}, but only {covered} bytes before it are covered")))
            }
            Some(previous) => Some((&code::TENSOR_OVERLAP, format!("{place}, inside tensor {}", quoted(previous)))),
            None => None,
        };
        if let Some((code, message)) = trouble {
            sound = false;
            report.push(Trouble::new(code, PREFIX + entry.offsets_at as u64, message));
        }
        if entry.end > covered || last.is_none() {
            covered = covered.max(entry.end);
            last = Some(entry.name.as_str());
        }
    }
    if covered != data {
        sound = false;
        let message = format!("the tensors take {covered} bytes, but {data} follow the header");
        let help = if covered > data { "the file is cut short" } else { "bytes that no tensor owns are refused" };
        report.push(Trouble::new(&code::FILE_LENGTH, data_start + covered.min(data), message).help(help));
    }
    sound
}
