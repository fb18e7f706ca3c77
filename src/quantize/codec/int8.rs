//! Eight-bit integers.
//!
//! | layout | scale | codes | zero cell | source |
//! |---|---|---|---|---|
//! | grok-1 | absmax / 127 | -127..127 | scale 0 | `QuantizedWeight8bit` in xAI's `model.py` (the decoder; no encoder was released) |
//! | compressed-tensors | absmax / 127.5, or (max - min) / 255 with a zero point | -128..127 | epsilon of the scale's dtype | `calculate_qparams`, `_quantize` of compressed-tensors 0.20 |
//! | bitsandbytes | absmax, kept as it is; code = x / (absmax / 127), the peer's x * (127 * (1 / absmax)) | -127..127 | scale 0 | `int8_vectorwise_quant` of bitsandbytes 0.50 |
//!
//! All round half to even after clamping. The reference arithmetic of compressed-tensors rounds every quotient to the
//! weight's own dtype, that of bitsandbytes rounds the weight to f16 first.

use super::scaled::{CodeType, HELD, Packing, Rule, Scaled};
use super::{Bound, epsilon, work_dtype};
use crate::Dtype;
use crate::quantize::{Arithmetic, Granularity, Layout, Scheme};

pub(super) const FULL: CodeType = CodeType::Int { low: -128.0, high: 127.0 };
pub(super) const RESTRICTED: CodeType = CodeType::Int { low: -127.0, high: 127.0 };

pub(super) fn encoder(scheme: &Scheme, layout: Layout, bound: &Bound<'_>) -> Scaled {
    let scale_dtype = bound.scale_dtype;
    let reference = scheme.arithmetic == Arithmetic::Reference;
    let rule =
        Rule { divisor: 127.0, zero_scale: 0.0, scale_dtype, work: Dtype::F32, by_ratio: false, input: Dtype::F32 };
    let bytes =
        |rule, code| Scaled { grid: bound.grid(scheme), rule, code, packing: Packing::Bytes, zeros: None, held: HELD };
    match layout {
        Layout::BitsAndBytes => {
            let input = if reference { Dtype::F16 } else { Dtype::F32 };
            bytes(Rule { by_ratio: true, input, ..rule }, RESTRICTED)
        }
        Layout::CompressedTensors => {
            let rule = Rule {
                divisor: 127.5,
                zero_scale: epsilon(scale_dtype),
                work: work_dtype(scheme, bound.dtype),
                ..rule
            };
            let packing =
                if matches!(scheme.granularity, Granularity::Group(_)) { Packing::Words(8) } else { Packing::Bytes };
            let zeros = (!scheme.symmetric).then_some(packing);
            Scaled { packing, zeros, ..bytes(rule, FULL) }
        }
        _ => bytes(rule, RESTRICTED),
    }
}
