//! DeepSeek's fp8: `weight` and `weight_scale_inv` f32, one multiplier per block (the name notwithstanding).
//!
//! Blocks at the right and lower edge may be smaller. Source: `inference/kernel.py` of DeepSeek-V3 and transformers'
//! `finegrained_fp8`.

use super::{Checked, Encoded, Refusal, component};
use crate::Dtype;
use crate::inventory::{Role, StoredFormat};
use crate::quantize::{Format, Granularity, Layout, Scheme};

pub(super) fn check(scheme: &Scheme) -> Result<(), Refusal> {
    if !matches!(scheme.format, Format::Fp8E4m3 | Format::Fp8E5m2)
        || !matches!(scheme.granularity, Granularity::Block(_))
    {
        return Err(Refusal::not_in(Layout::DeepSeek, scheme, "`fp8_e4m3` with `{ block = [128, 128] }`"));
    }
    match scheme.scale_dtype {
        None | Some(Dtype::F32) => Ok(()),
        Some(dtype) => {
            Err(Refusal::unsupported(format!("layout `deepseek` has no `{dtype}` scales"), "`scale_dtype` `f32`"))
        }
    }
}

pub(super) fn companions(scheme: &Scheme, weight: &Checked<'_>) -> Result<Encoded, Refusal> {
    let [rows, columns] = weight.out_in(Layout::DeepSeek)?;
    let [high, wide] = match scheme.granularity {
        Granularity::Block(block) => block,
        _ => [128, 128],
    };
    let code = if scheme.format == Format::Fp8E5m2 { Dtype::F8E5m2 } else { Dtype::F8E4m3 };
    let scales = vec![rows.div_ceil(high), columns.div_ceil(wide)];
    Ok(Encoded {
        components: vec![
            component(Role::Weight, "", code, weight.shape.to_vec(), weight),
            component(Role::Scales, "_scale_inv", Dtype::F32, scales, weight),
        ],
        group: Some(wide),
        unit: vec![Some(high), Some(wide)],
        stored: StoredFormat::Fp8Block,
        elements: weight.elements,
    })
}
