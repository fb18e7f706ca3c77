//! fp8 weights with their scales beside them, and ModelOpt's NVFP4, which is named the same way.
//!
//! The suffix stands on the weight's own name, so both `q_proj.weight` + `q_proj.weight_scale_inv` and fused experts'
//! `gate_up_proj` + `gate_up_proj_scale_inv` are found.

use super::spread::{self, fits_runs, is_e8m0, is_real};
use super::{Found, Misfit, Role, StoredFormat, StoredTensor, Tensors, Verdict, compressed_tensors};
use crate::Dtype;

pub(super) fn recognise(tensors: &Tensors<'_>, at: usize, weight: &StoredTensor) -> Verdict {
    let inverse = tensors.suffixed(&weight.name, "_scale_inv");
    let (scales_at, scales) = inverse.or_else(|| tensors.suffixed(&weight.name, "_scale"))?;
    let Some(format) = format_of(tensors, weight, scales, inverse.is_some()) else {
        let expected = "one scale per tensor, row or block was expected";
        return Some(Err(Misfit::pair(tensors, at, scales_at, expected)));
    };
    let dtype = match format {
        StoredFormat::Fp8Scaled if is_real(scales.dtype) => scales.dtype,
        // DeepSeek's own dequantisation writes bf16 from f32 scales.
        _ if matches!(scales.dtype, Dtype::F16) => Dtype::F16,
        _ => Dtype::Bf16,
    };
    let mut components = vec![(Role::Weight, at), (Role::Scales, scales_at)];
    compressed_tensors::add_activation_scales(tensors, weight, &mut components);
    Some(Ok(Found { path: weight.name.clone(), format, dtype, shape: weight.shape.clone(), components }))
}

fn format_of(
    tensors: &Tensors<'_>,
    weight: &StoredTensor,
    scales: &StoredTensor,
    inverse: bool,
) -> Option<StoredFormat> {
    if scales.elements() == 1 && is_real(scales.dtype) {
        return Some(StoredFormat::Fp8Scaled);
    }
    if inverse {
        let block = tensors.quantization().and_then(|config| config.block);
        let block_fits = match (block, weight.shape.as_slice(), scales.shape.as_slice()) {
            (Some([rows, columns]), [lead @ .., m, n], [scale_lead @ .., by_m, by_n]) => {
                lead == scale_lead && m.div_ceil(rows) == *by_m && n.div_ceil(columns) == *by_n
            }
            (Some(_), ..) => false,
            (None, shape, by) => shape.len() >= 2 && shape.len() == by.len() && spread::fits(shape, by),
        };
        let real = is_real(scales.dtype) || scales.dtype == Dtype::F8E8m0;
        return (block_fits && real).then_some(StoredFormat::Fp8Block);
    }
    if is_e8m0(scales.dtype) {
        return fits_runs(&weight.shape, &scales.shape, 32).then_some(StoredFormat::Mxfp8);
    }
    (is_real(scales.dtype) && spread::fits(&weight.shape, &scales.shape)).then_some(StoredFormat::Fp8Scaled)
}

/// ModelOpt's NVFP4: two codes per byte, a scale per 16 codes, one multiplier over all.
pub(super) fn modelopt_fp4(tensors: &Tensors<'_>, at: usize, weight: &StoredTensor) -> Verdict {
    let (scales_at, scales) = tensors.suffixed(&weight.name, "_scale")?;
    let (global_at, global) = tensors.suffixed(&weight.name, "_scale_2")?;
    let shape = compressed_tensors::unpacked(&weight.shape, 2)?;
    let fits = scales.dtype == Dtype::F8E4m3 && fits_runs(&shape, &scales.shape, 16);
    if !fits || !is_real(global.dtype) || global.shape.len() > shape.len() {
        let expected = "an f8_e4m3 scale per 16 codes and a global scale were expected";
        return Some(Err(Misfit::pair(tensors, at, if fits { global_at } else { scales_at }, expected)));
    }
    let mut components = vec![(Role::Weight, at), (Role::Scales, scales_at), (Role::GlobalScale, global_at)];
    compressed_tensors::add_activation_scales(tensors, weight, &mut components);
    let format = StoredFormat::Nvfp4ModelOpt;
    Some(Ok(Found { path: weight.name.clone(), format, dtype: Dtype::Bf16, shape, components }))
}
