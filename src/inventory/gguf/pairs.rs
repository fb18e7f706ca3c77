//! The key-value pairs of a GGUF file as their bytes, so that a writer can carry them along unread.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::value::{self, Budget};
use super::{ALIGNMENT, Bytes, is_alignment};
use crate::finding::{Finding, code};
use crate::inventory::MetadataValue;
use crate::inventory::file::OpenFile;
use crate::inventory::trouble::{Report, Trouble, quoted};

/// Most bytes of pairs that are carried along; the largest vocabularies take some twenty million.
const MAX_BYTES: u64 = 256 << 20;

/// The key-value pairs of a GGUF file, in order, each as the bytes that the file has.
///
/// ```
/// use flow_fabric::inventory::GgufPairs;
///
/// let mut pairs = GgufPairs::default();
/// pairs.set_text("general.architecture", "llama");
/// pairs.set_u32("llama.block_count", 2);
/// assert_eq!(pairs.text("general.architecture").as_deref(), Some("llama"));
/// assert_eq!(pairs.keys().collect::<Vec<_>>(), ["general.architecture", "llama.block_count"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GgufPairs {
    pairs: Vec<Pair>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    key: String,
    /// Type (u32) and value.
    value: Vec<u8>,
}

impl GgufPairs {
    /// Reads the pairs of a file; `None`, with the findings that say why, when they cannot be read.
    #[must_use]
    pub fn read(path: &Path) -> (Option<Self>, Vec<Finding>) {
        let shown: Arc<str> = path.display().to_string().into();
        let mut report = Report::new(&shown);
        let mut findings = Vec::new();
        let pairs = OpenFile::open(path).and_then(|mut open| {
            let pairs = read(&mut open.file, open.stamp.size)?;
            open.check_unchanged().map(|()| pairs)
        });
        let pairs = pairs.map_err(|trouble| report.push(trouble)).ok();
        report.finish(&mut findings);
        (pairs, findings)
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The keys, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|pair| pair.key.as_str())
    }

    /// Whether a key is there.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.keys().any(|one| one == key)
    }

    /// The text under a key, if it is one.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            MetadataValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number under a key, if it is an integer that is not negative.
    #[must_use]
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        self.value(key)?.as_unsigned()
    }

    /// What the data are aligned to: `general.alignment`, 32 where it is absent.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.unsigned("general.alignment").filter(|&n| is_alignment(n)).unwrap_or(ALIGNMENT)
    }

    /// Sets a pair to a u32; one that is there keeps its place.
    pub fn set_u32(&mut self, key: &str, value: u32) {
        self.set(key, [4_u32.to_le_bytes(), value.to_le_bytes()].concat());
    }

    /// Sets a pair to a text; one that is there keeps its place.
    pub fn set_text(&mut self, key: &str, value: &str) {
        let length = (value.len() as u64).to_le_bytes();
        self.set(key, [&8_u32.to_le_bytes()[..], &length, value.as_bytes()].concat());
    }

    /// Appends the pairs as a file has them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for Pair { key, value } in &self.pairs {
            out.extend((key.len() as u64).to_le_bytes());
            out.extend(key.as_bytes());
            out.extend(value);
        }
    }

    fn set(&mut self, key: &str, value: Vec<u8>) {
        match self.pairs.iter_mut().find(|pair| pair.key == key) {
            Some(pair) => pair.value = value,
            None => self.pairs.push(Pair { key: key.to_owned(), value }),
        }
    }

    fn value(&self, key: &str) -> Option<MetadataValue> {
        let pair = self.pairs.iter().find(|pair| pair.key == key)?;
        let length = pair.value.len() as u64;
        let mut cursor = std::io::Cursor::new(&pair.value);
        let mut bytes = Bytes::new(&mut cursor, 0, length, &code::MALFORMED_GGUF).ok()?;
        value::read(&mut bytes, &mut Budget::default()).ok()
    }
}

fn read(reader: &mut (impl Read + Seek), length: u64) -> Result<GgufPairs, Trouble> {
    // The strict pass finds where each value ends and what is wrong with it; the bytes are taken afterwards.
    let mut places = Vec::new();
    let mut bytes = Bytes::new(reader, 0, length, &code::MALFORMED_GGUF)?;
    let (_, count) = super::read_counts(&mut bytes)?;
    let mut kept = Budget::default();
    let mut total = 0_u64;
    for _ in 0..count {
        let at = bytes.at();
        let key = value::key(&mut bytes)?;
        let from = bytes.at();
        value::read(&mut bytes, &mut kept)?;
        let size = bytes.at() - from;
        total = total.saturating_add(size);
        if total > MAX_BYTES {
            let message = format!("the key-value pairs take more than {MAX_BYTES} bytes at {}", quoted(&key));
            return Err(Trouble::new(&code::TOO_LARGE, at, message));
        }
        places.push((key, from, size));
    }
    drop(bytes);
    let mut pairs = Vec::new();
    for (key, from, size) in places {
        let mut value = Vec::new();
        let read = reader.seek(SeekFrom::Start(from)).and_then(|_| reader.by_ref().take(size).read_to_end(&mut value));
        read.map_err(|error| Trouble::new(&code::UNREADABLE_FILE, from, format!("cannot read: {error}")))?;
        if value.len() as u64 != size {
            return Err(Trouble::new(&code::FILE_CHANGED, from, "the file became shorter while its header was read"));
        }
        pairs.push(Pair { key, value });
    }
    Ok(GgufPairs { pairs })
}
