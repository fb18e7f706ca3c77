//! Four-bit integers, packed.
//!
//! compressed-tensors `pack-quantized`: scale absmax / 7.5 or, with a zero point, (max - min) / 15; codes -8..7, half to
//! even after clamping; a zero cell takes the epsilon of the scale's dtype. A code plus 8 is stored, code `i` of a row at
//! bit `4 i` of the row's words; zero points the same way down the rows. Source: `calculate_qparams`, `pack_to_int32` of
//! compressed-tensors 0.20.

use super::scaled::{CodeType, HELD, Packing, Rule, Scaled};
use super::{Bound, epsilon, work_dtype};
use crate::Dtype;
use crate::quantize::Scheme;

pub(super) const CODES: CodeType = CodeType::Int { low: -8.0, high: 7.0 };

pub(super) fn encoder(scheme: &Scheme, bound: &Bound<'_>) -> Scaled {
    Scaled {
        grid: bound.grid(scheme),
        rule: Rule {
            divisor: 7.5,
            zero_scale: epsilon(bound.scale_dtype),
            scale_dtype: bound.scale_dtype,
            work: work_dtype(scheme, bound.dtype),
            by_ratio: false,
            input: Dtype::F32,
        },
        code: CODES,
        packing: Packing::Words(4),
        zeros: (!scheme.symmetric).then_some(Packing::Words(4)),
        held: HELD,
    }
}
