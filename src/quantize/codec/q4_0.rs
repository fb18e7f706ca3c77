//! GGML `q4_0`: 32 values in 18 bytes, f16 scale `d` then 16 bytes, low nibbles 0..15, high nibbles 16..31.
//!
//! `d` is the value of largest magnitude (the first, with its sign) divided by -8; a code is `min(15, trunc(x * (1/d) +
//! 8.5))`. Source: `quantize_row_q4_0_ref` of ggml's `ggml-quants.c`, without fused multiply-add.

use super::blocks::{Block, each, floor, nibbles, pack_nibbles, split, truncate};
use super::step;
use crate::quantize::cast;

pub(super) struct Q40;

impl Block<32, 18> for Q40 {
    #[inline(always)]
    fn encode(values: &[[f32; 32]], out: &mut [[u8; 18]]) {
        for (x, out) in values.iter().zip(out) {
            let d = extreme(x) / -8.0;
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            let codes = if inverse.is_finite() && d.is_finite() {
                // What is cut off is positive, so the fraction can be dropped by rounding and stepping back.
                each(x, |value| floor(value * inverse + 8.5).min(15) as u8)
            } else {
                each(x, |value| (truncate(value * inverse + 8.5) as i8).min(15).cast_unsigned())
            };
            let (head, tail) = out.split_at_mut(2);
            head.copy_from_slice(&cast::to_f16(d).to_le_bytes());
            tail.copy_from_slice(&pack_nibbles(&codes));
        }
    }

    #[inline(always)]
    fn decode(block: &[u8; 18], out: &mut [f32; 32]) {
        let (d, codes) = split::<18, 2, 16>(block);
        let d = cast::from_f16(u16::from_le_bytes(*d));
        for (out, code) in out.iter_mut().zip(nibbles(codes)) {
            *out = f32::from(code.cast_signed() - 8) * d;
        }
    }

    #[inline(always)]
    fn steps(block: &[u8; 18], out: &mut [f32; 32]) {
        let (d, codes) = split::<18, 2, 16>(block);
        let d = cast::from_f16(u16::from_le_bytes(*d));
        for (out, code) in out.iter_mut().zip(nibbles(codes)) {
            *out = step(d, code == 0 || code == 15);
        }
    }
}

/// The first value of largest magnitude; 0 where none compares as larger.
#[inline(always)]
fn extreme(x: &[f32; 32]) -> f32 {
    let [least, most] = bounds(x);
    if most > -least {
        most
    } else if -least > most {
        least
    } else {
        first_of_largest(x)
    }
}

/// Least and greatest value, zero among them, found by integers that order as floats do.
#[inline(always)]
pub(super) fn bounds(x: &[f32; 32]) -> [f32; 2] {
    let ordered = |bits: i32| bits ^ ((bits >> 31) & 0x7FFF_FFFF);
    let (mut least, mut most) = (0, 0);
    for value in x {
        let order = ordered(value.to_bits().cast_signed());
        (least, most) = (least.min(order), most.max(order));
    }
    [least, most].map(|order| f32::from_bits(ordered(order).cast_unsigned()))
}

/// As ggml compares: in order, and NaN is never larger.
#[cold]
#[inline(never)]
fn first_of_largest(x: &[f32; 32]) -> f32 {
    x.iter().fold(0.0_f32, |most, value| if most.abs() < value.abs() { *value } else { most })
}
