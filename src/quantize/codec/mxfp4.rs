//! OCP MX FP4: 32 E2M1 numbers under a power of two (E8M0).
//!
//! | layout | exponent of the scale | codes |
//! |---|---|---|
//! | compressed-tensors | that of absmax after adding a quarter of its power of two (bumps from 1.75 x 2^k), minus 2 | even nibble low |
//! | GGUF | `floor(log2f(absmax)) - 2` | nibbles 0..15 low, 16..31 high |
//!
//! A GGUF block is 17 bytes, the scale first; -0 is never coded and ties go to the smaller magnitude. Sources: OCP
//! Microscaling Formats 1.0; `generate_mx_scales` of compressed-tensors 0.20; `quantize_row_mxfp4_ref` of ggml's
//! `ggml-quants.c`.

use super::blocks::{Block, each, nibbles, pack_nibbles};
use super::fp4::{self, from_code};
use super::step;
use crate::Dtype;
use crate::quantize::cast;

/// The E8M0 byte of a group and what its values are divided by, as compressed-tensors has them.
///
/// With `reference`, groups that overflow the rule (a NaN, an infinity, a largest magnitude that rounds up beyond the
/// work dtype) get the byte that the peer gets; without, NaN and infinity get E8M0's NaN and the rest its largest power.
#[inline(always)]
pub(super) fn even(largest: f32, work: Dtype, reference: bool) -> (u8, f32) {
    let bits = largest.to_bits();
    let exponent = (bits + 0x0020_0000) >> 23;
    // 2^15 x 1.75 is where f16 rounds up to infinity, 2^-14 x 0.75 where it rounds up to a normal number.
    let overflows = exponent >= 255 || (work == Dtype::F16 && largest >= 57344.0);
    if overflows {
        return match (largest.is_finite(), reference) {
            (_, true) if largest.is_nan() => (0, cast::from_e8m0(0)),
            (_, true) => (127, f32::INFINITY),
            (true, false) => (exponent.min(254) as u8 - 2, cast::from_e8m0(exponent.min(254) as u8 - 2)),
            (false, false) => (0xFF, f32::NAN),
        };
    }
    if work == Dtype::F16 && largest < 0.75 * f32::from_bits(0x3880_0000) {
        // The scale underflows in f16, and compressed-tensors puts 1 in its place.
        return (127, 1.0);
    }
    let byte = exponent.saturating_sub(2) as u8;
    (byte, cast::from_e8m0(byte))
}

/// A GGUF block.
pub(super) struct Mxfp4Block;

impl Block<32, 17> for Mxfp4Block {
    #[inline(always)]
    fn encode(values: &[[f32; 32]], out: &mut [[u8; 17]]) {
        for (x, out) in values.iter().zip(out) {
            let largest = largest(x);
            let byte = if largest > 0.0 { floor_log2(largest).wrapping_add(125) as u8 } else { 0 };
            let (head, tail) = out.split_at_mut(1);
            head.fill(byte);
            tail.copy_from_slice(&pack_nibbles(&codes(x, largest, half(byte))));
        }
    }

    #[inline(always)]
    fn decode(block: &[u8; 17], out: &mut [f32; 32]) {
        if let Some((scale, codes)) = block.split_first()
            && let Some(codes) = codes.first_chunk()
        {
            // ggml multiplies twice the number by half the scale, which differs where the half is subnormal.
            let scale = half(*scale);
            for (out, code) in out.iter_mut().zip(nibbles(codes)) {
                *out = twice(code) * scale;
            }
        }
    }

    #[inline(always)]
    fn steps(block: &[u8; 17], out: &mut [f32; 32]) {
        if let Some((scale, codes)) = block.split_first()
            && let Some(codes) = codes.first_chunk()
        {
            for (out, code) in out.iter_mut().zip(nibbles(codes)) {
                *out = step(2.0 * half(*scale) * fp4::gap(code), code & 7 == 7);
            }
        }
    }
}

/// The greatest magnitude that compares as greater; NaN never does.
#[inline(always)]
pub(super) fn largest<const N: usize>(x: &[f32; N]) -> f32 {
    let most = x.iter().fold(0, |most, value| most.max((value.to_bits() & 0x7FFF_FFFF).cast_signed()));
    let most = f32::from_bits(most.cast_unsigned());
    if most.is_nan() {
        return x.iter().fold(0.0_f32, |most, value| if most < value.abs() { value.abs() } else { most });
    }
    most
}

/// The nearest codes to the values of a group where `half_scale` stands for 0.5.
#[inline(always)]
pub(super) fn codes<const N: usize>(x: &[f32; N], largest: f32, half_scale: f32) -> [u8; N] {
    // Far beyond the largest number all distances round alike, and the first number wins.
    if largest > 64.0 * half_scale {
        each(x, |value| first_nearest(value, half_scale))
    } else {
        each(x, |value| code(value, half_scale))
    }
}

/// The nearest code: ties to the smaller magnitude, and no -0.
#[inline(always)]
fn code(value: f32, half_scale: f32) -> u8 {
    let magnitude = value.abs();
    // Halfway between the doubled numbers 0 1 2 3 4 6 8 12. The products are exact.
    let above = |doubled: f32| i32::from(magnitude > doubled * half_scale);
    let index = above(0.5) + above(1.5) + above(2.5) + above(3.5) + above(5.0) + above(7.0) + above(10.0);
    let signed = if index > 0 && value < 0.0 { index | 8 } else { index };
    signed as u8
}

/// The first code of least rounded distance, tried one by one as ggml does.
#[cold]
#[inline(never)]
fn first_nearest(value: f32, half_scale: f32) -> u8 {
    let distance = |code: u8| (twice(code) * half_scale - value).abs();
    (1..16).fold(0, |best, code| if distance(code) < distance(best) { code } else { best })
}

/// Twice the number that a code stands for. -0 does not exist: both zero codes give 0.
#[inline(always)]
pub(super) fn twice(code: u8) -> f32 {
    if code == 8 { 0.0 } else { 2.0 * from_code(code) }
}

/// Half of an E8M0 scale, down to 2^-128.
#[inline(always)]
fn half(byte: u8) -> f32 {
    let byte = u32::from(byte);
    f32::from_bits(if byte < 2 { 0x0020_0000 << byte } else { (byte - 1) << 23 })
}

/// `floor(log2f(value))`, where log2f rounds to f32: just below a power of two it gives that power's exponent.
#[inline(always)]
fn floor_log2(value: f32) -> i32 {
    let bits = value.to_bits();
    let near_power = bits & 0x007F_FFFF > 0x007F_FF00;
    if near_power || !(0x0080_0000..0x7F80_0000).contains(&bits) {
        return rounded_log2(value);
    }
    (bits >> 23).cast_signed() - 127
}

#[cold]
#[inline(never)]
fn rounded_log2(value: f32) -> i32 {
    let log = f64::from(value).log2() as f32;
    // An infinite block: C converts infinity to the smallest int, and with the bias added a byte of it is 0.
    if log.is_finite() { log.floor() as i32 } else { -125 }
}
