//! GGML's numbers for tensor types (`ggml.h`, `enum ggml_type`; gguf 0.19, `GGMLQuantizationType`).

use crate::Dtype;

/// The largest number that is known.
const LAST: u32 = 41;

/// The number of a dtype; `None` for one that GGUF does not have.
pub(crate) fn number(dtype: Dtype) -> Option<u32> {
    (0..=LAST).find(|&number| self::dtype(number) == Some(dtype))
}

/// The dtype behind a number; `None` for numbers that were withdrawn or are not known.
pub(super) const fn dtype(number: u32) -> Option<Dtype> {
    Some(match number {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::Q40,
        3 => Dtype::Q41,
        6 => Dtype::Q50,
        7 => Dtype::Q51,
        8 => Dtype::Q80,
        9 => Dtype::Q81,
        10 => Dtype::Q2K,
        11 => Dtype::Q3K,
        12 => Dtype::Q4K,
        13 => Dtype::Q5K,
        14 => Dtype::Q6K,
        15 => Dtype::Q8K,
        16 => Dtype::Iq2Xxs,
        17 => Dtype::Iq2Xs,
        18 => Dtype::Iq3Xxs,
        19 => Dtype::Iq1S,
        20 => Dtype::Iq4Nl,
        21 => Dtype::Iq3S,
        22 => Dtype::Iq2S,
        23 => Dtype::Iq4Xs,
        24 => Dtype::I8,
        25 => Dtype::I16,
        26 => Dtype::I32,
        27 => Dtype::I64,
        28 => Dtype::F64,
        29 => Dtype::Iq1M,
        30 => Dtype::Bf16,
        34 => Dtype::Tq10,
        35 => Dtype::Tq20,
        39 => Dtype::Mxfp4Block,
        40 => Dtype::Nvfp4Block,
        41 => Dtype::Q10,
        _ => return None,
    })
}
