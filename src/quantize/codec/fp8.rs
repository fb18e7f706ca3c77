//! Eight-bit floats with a scale: E4M3 (absmax / 448) and E5M2 (absmax / 57344), nearest even, saturating.
//!
//! compressed-tensors keeps the scale in the weight's dtype, and its reference arithmetic divides in it; DeepSeek's
//! `weight_scale_inv` is f32, and so is its arithmetic. A zero cell takes the epsilon of the scale's dtype. Sources:
//! `calculate_qparams` of compressed-tensors 0.20; `weight_dequant` of DeepSeek-V3's `inference/kernel.py`.

use super::scaled::{CodeType, HELD, Packing, Rule, Scaled};
use super::{Bound, epsilon, work_dtype};
use crate::Dtype;
use crate::quantize::{Format, Layout, Scheme};

pub(super) fn encoder(scheme: &Scheme, layout: Layout, bound: &Bound<'_>) -> Scaled {
    let (code, divisor) = match scheme.format {
        Format::Fp8E5m2 => (CodeType::E5m2, 57344.0),
        _ => (CodeType::E4m3, 448.0),
    };
    let work = if layout == Layout::DeepSeek { Dtype::F32 } else { work_dtype(scheme, bound.dtype) };
    Scaled {
        grid: bound.grid(scheme),
        rule: Rule {
            divisor,
            zero_scale: epsilon(bound.scale_dtype),
            scale_dtype: bound.scale_dtype,
            work,
            by_ratio: false,
            input: Dtype::F32,
        },
        code,
        packing: Packing::Bytes,
        zeros: None,
        held: HELD,
    }
}
