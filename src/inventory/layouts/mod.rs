//! Layouts: how known formats spread one weight over several stored tensors. One file per family.
//!
//! A layout looks at one tensor, the one that would hold the codes, and asks for its companions by name. It answers
//! nothing (not mine), a [`Found`] weight, or a [`Misfit`]: the names are those of the layout but the shapes are not.

mod bitsandbytes;
mod compressed_tensors;
mod declared;
mod fp8;
mod gpt_oss;
mod grok;
mod spread;

use std::cell::RefCell;
use std::collections::HashMap;

use foldhash::fast::RandomState;

pub use declared::{DeclaredLayout, DeclaredShape};

use super::trouble::{Trouble, quoted};
use super::{Checkpoint, QuantizationConfig, Role, StoredFormat, StoredTensor};
use crate::Dtype;
use crate::finding::code;

/// A weight that a layout recognises. Components are positions among the stored tensors, the codes first.
pub(super) struct Found {
    pub(super) path: String,
    pub(super) format: StoredFormat,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    pub(super) components: Vec<(Role, usize)>,
}

/// Tensors named like a weight of a layout, but not shaped like one.
pub(super) struct Misfit {
    pub(super) trouble: Trouble,
    pub(super) involved: Vec<usize>,
}

impl Misfit {
    fn new(involved: Vec<usize>, message: String) -> Self {
        let trouble = Trouble::anywhere(&code::COMPANION_MISMATCH, message)
            .help("they stay weights of their own; declare their layout as `[stored.NAME]` if they belong together");
        Self { trouble, involved }
    }

    /// `weight` and a companion that does not fit it.
    fn pair(tensors: &Tensors<'_>, weight: usize, companion: usize, expected: &str) -> Self {
        let form = |at| {
            tensors.get(at).map_or_else(String::new, |tensor: &StoredTensor| {
                format!("{} ({} {:?})", quoted(&tensor.name), tensor.dtype, tensor.shape)
            })
        };
        Self::new(vec![weight, companion], format!("{} does not fit {}: {expected}", form(companion), form(weight)))
    }
}

/// What a layout says about a tensor.
type Verdict = Option<Result<Found, Misfit>>;

/// The stored tensors, found by name.
pub(super) struct Tensors<'a> {
    all: &'a [&'a StoredTensor],
    names: HashMap<&'a str, usize, RandomState>,
    checkpoint: &'a Checkpoint,
    /// Whether any module has scales of its activations; most checkpoints have none, and need no look-ups.
    activation_scales: bool,
    /// Where names are put together to be looked up.
    scratch: RefCell<String>,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(all: &'a [&'a StoredTensor], checkpoint: &'a Checkpoint) -> Self {
        let names = all.iter().enumerate().map(|(at, tensor)| (tensor.name.as_str(), at)).collect();
        let activation_scales = all.iter().any(|tensor| compressed_tensors::is_activation_scale(&tensor.name));
        Self { all, names, checkpoint, activation_scales, scratch: RefCell::default() }
    }

    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&'a StoredTensor> {
        self.all.get(at).copied()
    }

    pub(super) fn find(&self, name: &str) -> Option<(usize, &'a StoredTensor)> {
        let &at = self.names.get(name)?;
        Some((at, self.get(at)?))
    }

    /// The tensor whose name these pieces make.
    fn joined(&self, pieces: &[&str]) -> Option<(usize, &'a StoredTensor)> {
        let mut name = self.scratch.borrow_mut();
        name.clear();
        name.extend(pieces.iter().copied());
        self.find(&name)
    }

    /// The tensor called `stem` and `suffix` in one.
    fn suffixed(&self, stem: &str, suffix: &str) -> Option<(usize, &'a StoredTensor)> {
        self.joined(&[stem, suffix])
    }

    fn quantization(&self) -> Option<&'a QuantizationConfig> {
        self.checkpoint.config.as_ref()?.quantization.as_ref()
    }

    fn content(&self, name: &str) -> Option<&'a [u8]> {
        self.checkpoint.contents.get(name).map(|bytes| &**bytes)
    }
}

/// Asks every layout that codes of the tensor's dtype can belong to.
pub(super) fn recognise(tensors: &Tensors<'_>, declared: &[DeclaredLayout], at: usize) -> Verdict {
    let tensor = tensors.get(at)?;
    let known: &[fn(&Tensors<'_>, usize, &StoredTensor) -> Verdict] = match tensor.dtype {
        Dtype::I8 => &[grok::recognise, bitsandbytes::int8, compressed_tensors::int],
        Dtype::F8E4m3 | Dtype::F8E5m2 | Dtype::F8E4m3Fnuz | Dtype::F8E5m2Fnuz => &[fp8::recognise],
        Dtype::U8 => &[gpt_oss::recognise, compressed_tensors::fp4, fp8::modelopt_fp4, bitsandbytes::four_bit],
        Dtype::I32 => &[compressed_tensors::packed],
        _ => &[],
    };
    declared
        .iter()
        .find_map(|layout| layout.recognise(tensors, at, tensor))
        .or_else(|| known.iter().find_map(|layout| layout(tensors, at, tensor)))
}

/// Format and logical dtype of a tensor that stands for itself.
pub(super) fn plain(dtype: Dtype) -> (StoredFormat, Dtype) {
    // Packed sub-byte floats are elements of their own; GGML's types are blocks with scales inside.
    if dtype.is_block() && dtype.safetensors().is_none() {
        (StoredFormat::Ggml, Dtype::F32)
    } else {
        (StoredFormat::Plain, dtype)
    }
}

/// Names that no weight has on its own.
const COMPANIONS: [(&str, &str); 13] = [
    ("weight_scale_inv", "weight"),
    ("weight_scale", "weight"),
    ("weight_scale_2", "weight"),
    ("weight_packed", "weight_scale"),
    ("weight_global_scale", "weight_packed"),
    ("weight_zero_point", "weight"),
    (".absmax", ""),
    (".quant_map", ""),
    (".nested_absmax", ""),
    (".nested_quant_map", ""),
    (".quant_state.bitsandbytes__nf4", ""),
    (".quant_state.bitsandbytes__fp4", ""),
    (".SCB", ".weight"),
];

/// What to say about a tensor that no weight took although it is named like a companion.
pub(super) fn orphan(tensor: &StoredTensor) -> Option<Trouble> {
    let byte = matches!(tensor.dtype, Dtype::U8 | Dtype::F8E8m0);
    let grok = tensor.name.strip_suffix("/scales").map(|stem| (stem, "/weight"));
    let blocks = tensor.name.strip_suffix("_blocks").filter(|_| byte).map(|stem| (stem, "_scales"));
    let scales = tensor.name.strip_suffix("_scales").filter(|_| byte).map(|stem| (stem, "_blocks"));
    let known = || {
        COMPANIONS.iter().find_map(|&(suffix, weight)| {
            let stem = tensor.name.strip_suffix(suffix)?;
            (suffix.starts_with('.') || stem.is_empty() || stem.ends_with(['.', '/'])).then_some((stem, weight))
        })
    };
    let (stem, weight) = grok.or(blocks).or(scales).or_else(known)?;
    let message = format!(
        "{} is named like a part of a quantized weight, but no {} goes with it",
        quoted(&tensor.name),
        quoted(&[stem, weight].concat())
    );
    Some(
        Trouble::anywhere(&code::ORPHAN_COMPANION, message)
            .help("it is a weight of its own; its partner may be missing, excluded or of another dtype"),
    )
}
