//! GGUF files: their heads, and where each tensor's bytes go in them.
//!
//! A file is `GGUF`, version 3, two counts, key-value pairs, tensor infos with the fastest dimension first, and the
//! tensors' bytes, each padded with zeros to the alignment and in the order of the infos. The head is complete before the
//! first byte of data. Sources: the GGUF specification of the ggml project; limits as `gguf.cpp` and `ggml.h` of ggml 0.20
//! have them.

use std::collections::{BTreeMap, HashSet};

use super::{Layout, LayoutFile, OutputError, Placement, TensorSpec};
use crate::Dtype;
use crate::inventory::GgufPairs;
use crate::inventory::gguf::{MAGIC, MAX_DIMENSIONS, type_number};

/// The version that is written.
const VERSION: u32 = 3;

/// Longest name that ggml reads, in bytes (`GGML_MAX_NAME` less the final zero).
const MAX_NAME: usize = 63;

/// Version of ggml's blocks (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// A GGUF file to be: its name and its key-value pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufFile {
    /// `model.gguf`, or a part's `model-00001-of-00003.gguf`.
    pub name: String,
    /// What stands before the tensors.
    pub pairs: GgufPairs,
}

impl GgufFile {
    /// Makes the pairs that describe types say what these tensors are, and leaves all others as they are.
    ///
    /// `general.file_type` becomes the type that most values have, by the number that llama.cpp guesses;
    /// `general.quantization_version` is set where a tensor is quantized. A file that never named its type is not given one.
    pub fn describe_types<'a>(&mut self, tensors: impl IntoIterator<Item = &'a TensorSpec>) {
        let mut values: BTreeMap<Dtype, u64> = BTreeMap::new();
        for tensor in tensors {
            let elements = tensor.shape.iter().fold(1_u64, |product, &dimension| product.saturating_mul(dimension));
            let sum = values.entry(tensor.dtype).or_default();
            *sum = sum.saturating_add(elements);
        }
        let most = values.iter().max_by_key(|&(_, &count)| count).map(|(&dtype, _)| dtype);
        let pairs = &mut self.pairs;
        if pairs.contains("general.file_type")
            && let Some(number) = most.and_then(file_type)
            && pairs.unsigned("general.file_type") != Some(u64::from(number))
        {
            pairs.set_u32("general.file_type", number);
        }
        if values.keys().any(|dtype| dtype.is_block()) && !pairs.contains("general.quantization_version") {
            pairs.set_u32("general.quantization_version", QUANTIZATION_VERSION);
        }
    }

    /// The keys without which llama.cpp loads no model (`load_hparams` of its models, `llama_vocab::load`).
    #[must_use]
    pub fn missing_keys(&self) -> Vec<String> {
        const OF_MODEL: [&str; 5] =
            ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"];
        const RMS_EPSILON: &str = "attention.layer_norm_rms_epsilon";
        const EPSILON: &str = "attention.layer_norm_epsilon";
        const OF_VOCABULARY: [&str; 2] = ["tokenizer.ggml.model", "tokenizer.ggml.tokens"];

        let pairs = &self.pairs;
        let named = pairs.text("general.architecture");
        let full = |key: &str| format!("{}.{key}", named.as_deref().unwrap_or("ARCHITECTURE"));
        let mut missing = Vec::new();
        if named.is_none() {
            missing.push("general.architecture".to_owned());
        }
        missing.extend(OF_MODEL.iter().map(|key| full(key)).filter(|key| !pairs.contains(key)));
        if !pairs.contains(&full(EPSILON)) && !pairs.contains(&full(RMS_EPSILON)) {
            missing.push(full(RMS_EPSILON));
        }
        missing.extend(OF_VOCABULARY.iter().filter(|key| !pairs.contains(key)).map(|key| (*key).to_owned()));
        missing
    }
}

impl Layout {
    /// Lays tensors out in GGUF files, aligned as the pairs of each say; `home` gives the file of a tensor by its index.
    /// Within a file tensors keep their order.
    ///
    /// ```
    /// use flow_fabric::Dtype;
    /// use flow_fabric::inventory::GgufPairs;
    /// use flow_fabric::output::{GgufFile, Layout, TensorSpec};
    ///
    /// let mut pairs = GgufPairs::default();
    /// pairs.set_text("general.architecture", "llama");
    /// let file = GgufFile { name: "model.gguf".to_owned(), pairs };
    /// let tensor = TensorSpec { name: "output.weight".to_owned(), dtype: Dtype::Q80, shape: vec![2, 64] };
    /// let layout = Layout::gguf(&[file], &[tensor], |_| 0)?;
    /// assert!(layout.files()[0].head.starts_with(b"GGUF"));
    /// assert_eq!(layout.placement(0).map(|place| place.length), Some(4 * 34));
    /// # Ok::<(), flow_fabric::output::OutputError>(())
    /// ```
    ///
    /// # Errors
    /// [`OutputError::Unwritable`] for the first tensor that cannot stand in such a file.
    pub fn gguf(
        files: &[GgufFile],
        tensors: &[TensorSpec],
        home: impl Fn(usize) -> usize,
    ) -> Result<Self, OutputError> {
        let mut placements = vec![Placement { file: 0, offset: 0, length: 0 }; tensors.len()];
        let mut laid_out = Vec::with_capacity(files.len());
        for (index, file) in files.iter().enumerate() {
            let own = tensors.iter().zip(&mut placements).enumerate();
            let own = own.filter(|(at, _)| home(*at) == index).map(|(_, (tensor, place))| (tensor, place));
            laid_out.push(lay_out(index, file, own.collect())?);
        }
        Ok(Self::of_parts(laid_out, placements))
    }
}

/// The head of one file; places its tensors.
fn lay_out(
    index: usize,
    file: &GgufFile,
    tensors: Vec<(&TensorSpec, &mut Placement)>,
) -> Result<LayoutFile, OutputError> {
    let alignment = file.pairs.alignment();
    let mut head = Vec::new();
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((file.pairs.len() as u64).to_le_bytes());
    file.pairs.write(&mut head);
    let (mut names, mut places, mut end) = (HashSet::new(), Vec::with_capacity(tensors.len()), 0_u64);
    for (tensor, place) in tensors {
        let (number, length) = check(tensor)?;
        let TensorSpec { name, shape, .. } = tensor;
        if !names.insert(name) {
            return unwritable(format!("two tensors are called `{name}`"));
        }
        head.extend((name.len() as u64).to_le_bytes());
        head.extend(name.as_bytes());
        head.extend(u32::try_from(shape.len()).unwrap_or(MAX_DIMENSIONS).to_le_bytes());
        head.extend(shape.iter().rev().flat_map(|dimension| dimension.to_le_bytes()));
        head.extend(number.to_le_bytes());
        head.extend(end.to_le_bytes());
        let next = end.checked_add(length).and_then(|to| to.checked_next_multiple_of(alignment));
        let Some(next) = next.filter(|&next| i64::try_from(next).is_ok()) else {
            return unwritable(format!("tensor `{name}` ends beyond 63 bits"));
        };
        places.push((place, end, length));
        end = next;
    }
    let start = (head.len() as u64).next_multiple_of(alignment);
    head.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
    for (place, offset, length) in places {
        *place = Placement { file: index, offset: start.saturating_add(offset), length };
    }
    Ok(LayoutFile { name: file.name.clone(), head, length: start.saturating_add(end) })
}

/// GGML's number for a tensor's type, and its size.
fn check(tensor: &TensorSpec) -> Result<(u32, u64), OutputError> {
    let TensorSpec { name, dtype, shape } = tensor;
    let Some(number) = type_number(*dtype) else {
        return unwritable(format!("tensor `{name}` is {dtype}, which GGUF has not"));
    };
    if name.len() > MAX_NAME || name.is_empty() {
        let length = name.len();
        return unwritable(format!("the name `{name}` has {length} bytes; GGUF's readers take 1 to {MAX_NAME}"));
    }
    if shape.len() > MAX_DIMENSIONS as usize {
        let rank = shape.len();
        return unwritable(format!("tensor `{name}` has {rank} dimensions; GGUF holds at most {MAX_DIMENSIONS}"));
    }
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(dtype.block().0) {
        return unwritable(format!("a row of {row} values of tensor `{name}` does not make whole {dtype} blocks"));
    }
    let elements = shape.iter().try_fold(1_u64, |product, &dimension| product.checked_mul(dimension));
    match elements.and_then(|elements| dtype.bytes_for(elements)) {
        Some(length) => Ok((number, length)),
        None => unwritable(format!("the size of tensor `{name}` of {dtype} {shape:?} overflows 64 bits")),
    }
}

fn unwritable<T>(reason: String) -> Result<T, OutputError> {
    Err(OutputError::Unwritable { reason })
}

/// llama.cpp's number for a file that is mostly of a type (`llama_ftype`).
fn file_type(dtype: Dtype) -> Option<u32> {
    Some(match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q40 => 2,
        Dtype::Q41 => 3,
        Dtype::Q80 => 7,
        Dtype::Q50 => 8,
        Dtype::Q51 => 9,
        Dtype::Q2K => 10,
        Dtype::Q3K => 12,
        Dtype::Q4K => 15,
        Dtype::Q5K => 17,
        Dtype::Q6K => 18,
        Dtype::Bf16 => 32,
        Dtype::Mxfp4Block => 38,
        Dtype::Nvfp4Block => 39,
        _ => return None,
    })
}
