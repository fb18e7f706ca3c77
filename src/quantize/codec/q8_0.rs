//! GGML `q8_0`: 32 values in 34 bytes, f16 scale `d` then 32 signed bytes.
//!
//! `d = absmax / 127`; codes are `roundf(x * (1/d))`, half away from zero, with the f32 `d`, which is then stored as
//! f16. A zero block has `d = 0`. Source: `quantize_row_q8_0_ref` of ggml's `ggml-quants.c`.

use super::blocks::{Block, each, floor, split, truncate};
use super::step;
use crate::quantize::cast;

pub(super) struct Q80;

impl Block<32, 34> for Q80 {
    #[inline(always)]
    fn encode(values: &[[f32; 32]], out: &mut [[u8; 34]]) {
        for (x, out) in values.iter().zip(out) {
            let largest = x.iter().fold(0, |most, value| most.max((value.to_bits() & 0x7FFF_FFFF).cast_signed()));
            let largest = f32::from_bits(largest.cast_unsigned());
            let (d, codes) = if largest.is_finite() { finite(x, largest) } else { any(x) };
            let (head, tail) = out.split_at_mut(2);
            head.copy_from_slice(&cast::to_f16(d).to_le_bytes());
            tail.copy_from_slice(&codes);
        }
    }

    #[inline(always)]
    fn decode(block: &[u8; 34], out: &mut [f32; 32]) {
        let (d, codes) = split::<34, 2, 32>(block);
        let d = cast::from_f16(u16::from_le_bytes(*d));
        for (out, code) in out.iter_mut().zip(codes) {
            *out = f32::from(code.cast_signed()) * d;
        }
    }

    #[inline(always)]
    fn steps(block: &[u8; 34], out: &mut [f32; 32]) {
        let (d, codes) = split::<34, 2, 32>(block);
        let d = cast::from_f16(u16::from_le_bytes(*d));
        for (out, code) in out.iter_mut().zip(codes) {
            *out = step(d, code.cast_signed().unsigned_abs() == 127);
        }
    }
}

#[inline(always)]
fn finite(x: &[f32; 32], largest: f32) -> (f32, [u8; 32]) {
    let d = largest / 127.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    // Of a d below 2^-128 the inverse is infinite, the product does not fit an int, and C leaves 0 of it.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    // Adding the float below 0.5 and cutting off the fraction rounds half away from zero.
    (
        d,
        each(x, |value| {
            let scaled = value * inverse;
            let magnitude = floor(scaled.abs() + 0.499_999_97) as u8;
            if scaled < 0.0 { magnitude.wrapping_neg() } else { magnitude }
        }),
    )
}

/// The block as ggml's sequential comparisons treat NaN and infinity.
#[cold]
#[inline(never)]
fn any(x: &[f32; 32]) -> (f32, [u8; 32]) {
    // `amax > v ? amax : v` takes a NaN, and then loses it to the next value.
    let largest = x.iter().fold(0.0_f32, |most, value| if most > value.abs() { most } else { value.abs() });
    let d = largest / 127.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    (d, each(x, |value| truncate((value * inverse).round()) as u8))
}
