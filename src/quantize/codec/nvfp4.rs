//! NVFP4: 16 E2M1 numbers under an E4M3 scale.
//!
//! compressed-tensors: the tensor has one f32 divisor `global = 448 * 6 * (1 / absmax)`; a group's scale is
//! `global * absmax / 6` in E4M3, and its values are divided by `scale / global`. A zero scale becomes 0.125.
//!
//! GGUF: blocks of 64 in 36 bytes, four unsigned E4M3 scales `absmax / 6` (rounded half up, everything from 256 on to
//! 448) and 32 bytes of nibbles, each group's first 8 values low; no scale of the tensor inside. Sources:
//! `calculate_qparams`, `generate_gparam` of compressed-tensors 0.20; `quantize_row_nvfp4_ref` of ggml's
//! `ggml-quants.c`, `ggml_fp32_to_ue4m3` of `ggml-impl.h`.

use super::blocks::Block;
use super::fp4;
use super::mxfp4::{self, largest, twice};
use super::step;
use crate::Dtype;
use crate::quantize::cast;

/// What the scale of a zero group is, in E4M3: 0.125.
const ZERO_SCALE: u8 = 0x20;

/// The tensor's divisor.
pub(super) fn global(absmax: f32, work: Dtype) -> f32 {
    let smallest = match work {
        Dtype::F16 => f32::from_bits(0x3880_0000),
        _ => f32::MIN_POSITIVE,
    };
    let floored = if absmax.is_nan() { absmax } else { absmax.max(smallest) };
    // torch divides a number by a tensor as the product with its reciprocal.
    let global = cast::round_to(work, 2688.0 * cast::round_to(work, 1.0 / floored));
    // Nothing to scale by: compressed-tensors takes 1.
    if global.is_finite() { global } else { 1.0 }
}

/// The E4M3 byte of a group and what its values are divided by.
#[inline(always)]
pub(super) fn scale(largest: f32, global: f32, work: Dtype) -> (u8, f32) {
    let scale = global * cast::round_to(work, largest / 6.0);
    let byte = match cast::to_e4m3(scale) {
        0 => ZERO_SCALE,
        byte if scale.is_nan() => byte | 0x80,
        byte => byte,
    };
    (byte, cast::from_e4m3(byte) / global)
}

/// A GGUF block.
pub(super) struct Nvfp4Block;

impl Block<64, 36> for Nvfp4Block {
    #[inline(always)]
    fn encode(values: &[[f32; 64]], out: &mut [[u8; 36]]) {
        for (x, out) in values.iter().zip(out) {
            let (scales, codes) = out.split_at_mut(4);
            let (groups, _) = x.as_chunks::<16>();
            for ((x, scale), codes) in groups.iter().zip(scales).zip(codes.chunks_exact_mut(8)) {
                let largest = largest(x);
                *scale = to_ue4m3(largest / 6.0);
                let coded = mxfp4::codes(x, largest, half(*scale));
                for (i, out) in codes.iter_mut().enumerate() {
                    *out = coded[i] | (coded[i + 8] << 4);
                }
            }
        }
    }

    #[inline(always)]
    fn decode(block: &[u8; 36], out: &mut [f32; 64]) {
        let (scales, codes) = block.split_at(4);
        let (groups, _) = out.as_chunks_mut::<16>();
        for ((out, scale), codes) in groups.iter_mut().zip(scales).zip(codes.chunks_exact(8)) {
            let half_scale = half(*scale);
            for (i, byte) in codes.iter().enumerate() {
                out[i] = twice(byte & 15) * half_scale;
                out[i + 8] = twice(byte >> 4) * half_scale;
            }
        }
    }

    #[inline(always)]
    fn steps(block: &[u8; 36], out: &mut [f32; 64]) {
        let (scales, codes) = block.split_at(4);
        let (groups, _) = out.as_chunks_mut::<16>();
        for ((out, scale), codes) in groups.iter_mut().zip(scales).zip(codes.chunks_exact(8)) {
            let scale = 2.0 * half(*scale);
            for (i, byte) in codes.iter().enumerate() {
                out[i] = step(scale * fp4::gap(byte & 15), byte & 7 == 7);
                out[i + 8] = step(scale * fp4::gap(byte >> 4), (byte >> 4) & 7 == 7);
            }
        }
    }
}

/// ggml's rounding to E4M3 without a sign.
#[inline(always)]
fn to_ue4m3(value: f32) -> u8 {
    let value = value.min(448.0);
    let bits = value.to_bits();
    let exponent = (bits >> 23).cast_signed() - 127 + 7;
    if value.is_nan() || value <= 0.0 {
        0
    } else if exponent <= 0 {
        (value * 512.0 + 0.5).min(7.0) as u8
    } else {
        // Rounding up may carry into the exponent, which is where it belongs.
        let rounded = ((bits >> 20) + ((bits >> 19) & 1)).cast_signed() - (120 << 3);
        if rounded >= 15 << 3 { 0x7E } else { rounded as u8 }
    }
}

/// Half of an unsigned E4M3 scale; ggml reads 0x7F as 0.
#[inline(always)]
fn half(byte: u8) -> f32 {
    if byte == 0x7F { 0.0 } else { 0.5 * cast::from_e4m3(byte & 0x7F) }
}
