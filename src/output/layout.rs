//! Where the tensors of a checkpoint go in its safetensors files, before a byte of them is known.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

use super::OutputError;
use crate::Dtype;
use crate::inventory::{MAX_RANK, name_objection};

/// Longest header that readers take.
const MAX_HEADER: usize = 100_000_000;
/// Bytes of the length in front of the header; headers are padded to a multiple of it.
const PREFIX: usize = 8;

/// Name, dtype and shape of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major.
    pub shape: Vec<u64>,
}

/// Where a tensor's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Index into [`Layout::files`].
    pub file: usize,
    /// First byte, counted from the start of the file.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

impl Placement {
    /// The bytes in the file.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.length)
    }
}

/// A file of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutFile {
    /// `model.safetensors` or `model-00001-of-00004.safetensors`.
    pub name: String,
    /// Its first bytes: the header and the length in front of it.
    pub head: Vec<u8>,
    /// Bytes of the whole file.
    pub length: u64,
}

/// The safetensors files of a checkpoint: their names and headers, and the place of every tensor.
///
/// Tensors are dealt out to files in the order given, a new file when the next one would not fit. In a file they are sorted
/// as the reference library (0.8) sorts them, widest elements first and then by name, so that all are aligned; a file of at
/// most one metadata key is the same, byte for byte, as what the library would write.
///
/// ```
/// use flow_fabric::Dtype;
/// use flow_fabric::output::{Layout, TensorSpec};
/// let spec = |name: &str| TensorSpec { name: name.to_owned(), dtype: Dtype::F32, shape: vec![2, 4] };
/// let layout = Layout::new(&[spec("a"), spec("b"), spec("c")], &Default::default(), Some(64))?;
/// assert_eq!(layout.files()[0].name, "model-00001-of-00002.safetensors");
/// assert_eq!(layout.placement(2).map(|place| (place.file, place.length)), Some((1, 32)));
/// assert!(layout.index().is_some());
/// # Ok::<(), flow_fabric::output::OutputError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    files: Vec<LayoutFile>,
    placements: Vec<Placement>,
    index: Option<String>,
}

impl Layout {
    /// The name of the index of several files.
    pub const INDEX: &'static str = "model.safetensors.index.json";

    /// Lays tensors out. `metadata` goes into every file's `__metadata__` and into the index; a file takes at most
    /// `shard_bytes` bytes of tensors, unless a single tensor is larger.
    ///
    /// # Errors
    /// [`OutputError::Unwritable`] for a dtype that safetensors has not, a name that readers refuse, a repeated name, a shape
    /// that does not fill whole bytes, or a header beyond 100 MB.
    pub fn new(
        tensors: &[TensorSpec],
        metadata: &BTreeMap<String, String>,
        shard_bytes: Option<u64>,
    ) -> Result<Self, OutputError> {
        let lengths = lengths(tensors)?;
        let shards = deal(&lengths, shard_bytes.unwrap_or(u64::MAX));
        let mut placements = vec![Placement { file: 0, offset: 0, length: 0 }; tensors.len()];
        let mut files = Vec::with_capacity(shards.len());
        for (file, mut shard) in shards.iter().cloned().enumerate() {
            shard.sort_by_key(|&at| {
                tensors.get(at).map(|tensor| (std::cmp::Reverse(width_rank(tensor.dtype)), &tensor.name))
            });
            let entries = shard.iter().filter_map(|&at| Some((tensors.get(at)?, *lengths.get(at)?)));
            let head = head(entries, metadata)?;
            let mut offset = head.len() as u64;
            for at in shard {
                let length = lengths.get(at).copied().unwrap_or_default();
                if let Some(place) = placements.get_mut(at) {
                    *place = Placement { file, offset, length };
                }
                offset = offset.saturating_add(length);
            }
            let name = match shards.len() {
                1 => "model.safetensors".to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", file + 1),
            };
            files.push(LayoutFile { name, head, length: offset });
        }
        let mut layout = Self { files, placements, index: None };
        if layout.files.len() > 1 {
            layout.index = Some(layout.index_of(tensors, metadata)?);
        }
        Ok(layout)
    }

    /// A layout of another format than safetensors; it has no index.
    pub(super) fn of_parts(files: Vec<LayoutFile>, placements: Vec<Placement>) -> Self {
        Self { files, placements, index: None }
    }

    /// The files, in order.
    #[must_use]
    pub fn files(&self) -> &[LayoutFile] {
        &self.files
    }

    /// Where a tensor goes, by its index in the list that was laid out.
    #[must_use]
    pub fn placement(&self, tensor: usize) -> Option<Placement> {
        self.placements.get(tensor).copied()
    }

    /// The text of [`Layout::INDEX`], where there are several files.
    #[must_use]
    pub fn index(&self) -> Option<&str> {
        self.index.as_deref()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.length))
    }

    fn index_of(&self, tensors: &[TensorSpec], metadata: &BTreeMap<String, String>) -> Result<String, OutputError> {
        #[derive(Serialize)]
        struct Index<'a> {
            metadata: BTreeMap<&'a str, Value>,
            weight_map: BTreeMap<&'a str, &'a str>,
        }
        let total = self.placements.iter().fold(0, |sum: u64, place| sum.saturating_add(place.length));
        let given = metadata.iter().map(|(key, value)| (key.as_str(), Value::from(value.as_str())));
        let metadata = given.chain([("total_size", Value::from(total))]).collect();
        let file = |place: &Placement| self.files.get(place.file).map_or("", |file| file.name.as_str());
        let names = tensors.iter().zip(&self.placements);
        let weight_map = names.map(|(tensor, place)| (tensor.name.as_str(), file(place))).collect();
        let text =
            serde_json::to_string_pretty(&Index { metadata, weight_map }).map_err(|error| unspeakable(&error))?;
        Ok(text + "\n")
    }
}

/// Bytes of each tensor; refuses what readers would refuse.
fn lengths(tensors: &[TensorSpec]) -> Result<Vec<u64>, OutputError> {
    let mut names = HashSet::new();
    let unwritable = |reason: String| Err(OutputError::Unwritable { reason });
    let mut lengths = Vec::with_capacity(tensors.len());
    for TensorSpec { name, dtype, shape } in tensors {
        if name == "__metadata__" {
            return unwritable("`__metadata__` cannot be the name of a tensor".to_owned());
        }
        if let Some(objection) = name_objection(name) {
            return unwritable(objection);
        }
        if !names.insert(name) {
            return unwritable(format!("two tensors are called `{name}`"));
        }
        if dtype.safetensors().is_none() {
            return unwritable(format!("tensor `{name}` is {dtype}, which safetensors has not"));
        }
        let elements = shape.iter().try_fold(1_u64, |product, &dimension| product.checked_mul(dimension));
        let length = elements.and_then(|elements| dtype.bytes_for(elements));
        let Some(length) = length.filter(|&length| shape.len() <= MAX_RANK && i64::try_from(length).is_ok()) else {
            return unwritable(format!("tensor `{name}` of {dtype} {shape:?} does not fill a whole number of bytes"));
        };
        lengths.push(length);
    }
    Ok(lengths)
}

/// Deals tensors out to files, in order; there is one file at least.
fn deal(lengths: &[u64], limit: u64) -> Vec<Vec<usize>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0_u64;
    for (at, &length) in lengths.iter().enumerate() {
        let full = filled.saturating_add(length) > limit;
        match shards.last_mut() {
            Some(last) if !full || last.is_empty() => last.push(at),
            _ => {
                shards.push(vec![at]);
                filled = 0;
            }
        }
        filled = filled.saturating_add(length);
    }
    shards
}

/// The length and the header of a file.
fn head<'a>(
    entries: impl Iterator<Item = (&'a TensorSpec, u64)>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, OutputError> {
    #[derive(Serialize)]
    struct Entry<'a> {
        dtype: &'a str,
        shape: &'a [u64],
        data_offsets: [u64; 2],
    }
    let mut text = String::from("{");
    let mut push = |key: &str, value: String| -> Result<(), OutputError> {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(key).map_err(|error| unspeakable(&error))?);
        text.push(':');
        text.push_str(&value);
        Ok(())
    };
    if !metadata.is_empty() {
        push("__metadata__", serde_json::to_string(metadata).map_err(|error| unspeakable(&error))?)?;
    }
    let mut begin = 0_u64;
    for (TensorSpec { name, dtype, shape }, length) in entries {
        let end = begin
            .checked_add(length)
            .ok_or_else(|| OutputError::Unwritable { reason: format!("tensor `{name}` ends beyond 64 bits") })?;
        let entry = Entry { dtype: dtype.safetensors().unwrap_or_default(), shape, data_offsets: [begin, end] };
        push(name, serde_json::to_string(&entry).map_err(|error| unspeakable(&error))?)?;
        begin = end;
    }
    text.push('}');
    let length = text.len().next_multiple_of(PREFIX);
    if length > MAX_HEADER {
        let reason = format!("the header of a file would take {length} bytes; readers take {MAX_HEADER}");
        return Err(OutputError::Unwritable { reason });
    }
    let mut head = Vec::with_capacity(PREFIX + length);
    head.extend_from_slice(&(length as u64).to_le_bytes());
    head.extend_from_slice(text.as_bytes());
    head.resize(PREFIX + length, b' ');
    Ok(head)
}

fn unspeakable(error: &serde_json::Error) -> OutputError {
    OutputError::Unwritable { reason: format!("the header cannot be written as JSON: {error}") }
}

/// Place of a dtype in the reference library's order, which is what it sorts tensors by.
fn width_rank(dtype: Dtype) -> usize {
    const ORDER: [Dtype; 22] = [
        Dtype::Bool,
        Dtype::F4,
        Dtype::F6E2m3,
        Dtype::F6E3m2,
        Dtype::U8,
        Dtype::I8,
        Dtype::F8E5m2,
        Dtype::F8E4m3,
        Dtype::F8E8m0,
        Dtype::F8E4m3Fnuz,
        Dtype::F8E5m2Fnuz,
        Dtype::I16,
        Dtype::U16,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::I32,
        Dtype::U32,
        Dtype::F32,
        Dtype::C64,
        Dtype::F64,
        Dtype::I64,
        Dtype::U64,
    ];
    ORDER.iter().position(|&other| other == dtype).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use safetensors::tensor::{Dtype as Reference, TensorView};

    use super::*;

    fn spec(name: &str, dtype: Dtype, shape: &[u64]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }
    }

    fn reason(tensors: &[TensorSpec]) -> String {
        Layout::new(tensors, &BTreeMap::new(), None).unwrap_err().to_string()
    }

    #[test]
    fn what_readers_refuse_is_not_written() {
        assert_eq!(reason(&[spec("w", Dtype::Q40, &[32])]), "tensor `w` is q4_0, which safetensors has not");
        assert_eq!(reason(&[spec("w", Dtype::U8, &[1]), spec("w", Dtype::U8, &[1])]), "two tensors are called `w`");
        assert_eq!(reason(&[spec("__metadata__", Dtype::U8, &[])]), "`__metadata__` cannot be the name of a tensor");
        assert_eq!(reason(&[spec("w", Dtype::F4, &[3])]), "tensor `w` of f4 [3] does not fill a whole number of bytes");
        assert_eq!(
            reason(&[spec("w", Dtype::F64, &[1 << 40, 1 << 40])]),
            "tensor `w` of f64 [1099511627776, 1099511627776] does not fill a whole number of bytes"
        );
        assert!(reason(&[spec("a\0b", Dtype::U8, &[1])]).contains("control character"));
        assert!(!reason(&[spec("", Dtype::U8, &[1])]).is_empty());
    }

    #[test]
    fn shards_fill_in_order_and_a_large_tensor_has_its_own() {
        let sizes = |limit| {
            let tensors: Vec<TensorSpec> = [4, 4, 100, 1, 0]
                .iter()
                .zip('a'..)
                .map(|(&size, name)| spec(&name.to_string(), Dtype::U8, &[size]))
                .collect();
            let layout = Layout::new(&tensors, &BTreeMap::new(), limit).unwrap();
            (0..tensors.len()).map(|at| layout.placement(at).unwrap().file).collect::<Vec<_>>()
        };
        assert_eq!(sizes(None), [0, 0, 0, 0, 0]);
        assert_eq!(sizes(Some(8)), [0, 0, 1, 2, 2]);
        assert_eq!(sizes(Some(1)), [0, 1, 2, 3, 3]);
    }

    #[test]
    fn an_index_names_the_file_of_every_tensor() {
        let metadata = BTreeMap::from([("policy".to_owned(), "grok-1".to_owned())]);
        let tensors = [spec("b", Dtype::U8, &[2]), spec("a", Dtype::U8, &[2])];
        let layout = Layout::new(&tensors, &metadata, Some(2)).unwrap();
        insta::assert_snapshot!(layout.index().unwrap(), @r#"
        {
          "metadata": {
            "policy": "grok-1",
            "total_size": 4
          },
          "weight_map": {
            "a": "model-00002-of-00002.safetensors",
            "b": "model-00001-of-00002.safetensors"
          }
        }
        "#);
        assert_eq!(Layout::new(&tensors, &metadata, None).unwrap().index(), None);
    }

    #[test]
    fn no_tensors_are_a_file_too() {
        let layout = Layout::new(&[], &BTreeMap::new(), None).unwrap();
        let reference = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
        assert_eq!(layout.files()[0].head, reference);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64,
            rng_seed: proptest::test_runner::RngSeed::Fixed(11),
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_head_is_the_reference_library_s(
            tensors in prop::collection::btree_map(
                "[a-z\"\\\\é]{1,5}",
                (0_usize..22, prop::collection::vec(0_u64..5, 0..4)),
                0..8,
            ),
            format in any::<bool>(),
        ) {
            let stored: Vec<Dtype> = Dtype::ALL.iter().copied().filter(|dtype| dtype.safetensors().is_some()).collect();
            // Sub-byte types fill whole bytes when one dimension is a multiple of 4.
            let tensors: Vec<TensorSpec> = tensors.into_iter().map(|(name, (dtype, mut shape))| {
                if stored[dtype].is_block() { shape.push(4); }
                spec(&name, stored[dtype], &shape)
            }).collect();
            let metadata = if format { BTreeMap::from([("format".to_owned(), "pt".to_owned())]) } else { BTreeMap::new() };
            let layout = Layout::new(&tensors, &metadata, None).unwrap();
            let zeros = vec![0; 4096];
            let views = tensors.iter().map(|tensor| {
                let dtype: Reference =
                    serde_json::from_value(Value::from(tensor.dtype.safetensors().unwrap())).unwrap();
                let shape = tensor.shape.iter().map(|&dim| usize::try_from(dim).unwrap()).collect();
                let length = tensor.dtype.bytes_for(tensor.shape.iter().product()).unwrap();
                (tensor.name.clone(), TensorView::new(dtype, shape, &zeros[..usize::try_from(length).unwrap()]).unwrap())
            });
            let given = format.then(|| HashMap::from([("format".to_owned(), "pt".to_owned())]));
            let reference = safetensors::serialize(views.collect::<Vec<_>>(), given).unwrap();
            let file = &layout.files()[0];
            prop_assert_eq!(String::from_utf8_lossy(&file.head), String::from_utf8_lossy(&reference[..file.head.len()]));
            prop_assert_eq!(file.length, reference.len() as u64);
        }
    }
}
