//! What a file's header says besides its tensors.

use std::collections::BTreeMap;

/// Key-value pairs of one file, by key.
pub type Metadata = BTreeMap<String, MetadataValue>;

/// A value of a file's metadata. safetensors has only text; GGUF has all of these.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MetadataValue {
    /// A string.
    Text(String),
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A floating-point number of any width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A list; a long one keeps its length and its first elements.
    List {
        /// How many elements the file holds.
        length: u64,
        /// The first of them.
        first: Vec<MetadataValue>,
    },
}

impl MetadataValue {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            MetadataValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is an integer that is not negative.
    #[must_use]
    pub fn as_unsigned(&self) -> Option<u64> {
        match *self {
            MetadataValue::Unsigned(value) => Some(value),
            MetadataValue::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }
}
