//! What a conversion wrote, as other programs read it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Converted;

/// The document's name.
pub const CONVERT_FORMAT: &str = "flow-fabric-convert";

/// What `convert --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConvertRecord {
    /// `flow-fabric-convert`.
    pub format: String,
    /// 1.
    pub format_version: u32,
    /// Where it is.
    pub output: String,
    /// Tensors written.
    pub tensors: usize,
    /// Names that share the bytes of a tensor, with the name that these are written under.
    pub aliases: BTreeMap<String, String>,
    /// Bytes of the files with weights.
    pub bytes: u64,
    /// Names of the files with weights.
    pub files: Vec<String>,
    /// Names of the files that went along: config, tokenizer.
    pub carried: Vec<String>,
}

impl ConvertRecord {
    /// Writes down what was written to `output`.
    #[must_use]
    pub fn new(converted: &Converted, output: &str) -> Self {
        let Converted { tensors, aliases, bytes, files, carried } = converted.clone();
        let (format, output) = (CONVERT_FORMAT.to_owned(), output.to_owned());
        Self { format, format_version: 1, output, tensors, aliases, bytes, files, carried }
    }
}
