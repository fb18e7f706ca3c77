//! GGML `q4_1`: 32 values in 20 bytes, f16 scale `d`, f16 minimum `m`, then nibbles as `q4_0` has them.
//!
//! `d = (max - min) / 15`; a code is `min(15, trunc((x - min) * (1/d) + 0.5))`. Source: `quantize_row_q4_1_ref` of ggml's
//! `ggml-quants.c`, without fused multiply-add.

use super::blocks::{Block, each, floor, nibbles, pack_nibbles, split, truncate};
use super::step;
use crate::quantize::cast;

pub(super) struct Q41;

impl Block<32, 20> for Q41 {
    #[inline(always)]
    fn encode(values: &[[f32; 32]], out: &mut [[u8; 20]]) {
        for (x, out) in values.iter().zip(out) {
            let [least, most] = span(x);
            let d = (most - least) / 15.0;
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            let codes = if inverse.is_finite() && d.is_finite() {
                each(x, |value| floor((value - least) * inverse + 0.5).min(15) as u8)
            } else {
                each(x, |value| (truncate((value - least) * inverse + 0.5) as i8).min(15).cast_unsigned())
            };
            let (head, tail) = out.split_at_mut(4);
            let (scale, minimum) = head.split_at_mut(2);
            scale.copy_from_slice(&cast::to_f16(d).to_le_bytes());
            minimum.copy_from_slice(&cast::to_f16(least).to_le_bytes());
            tail.copy_from_slice(&pack_nibbles(&codes));
        }
    }

    #[inline(always)]
    fn decode(block: &[u8; 20], out: &mut [f32; 32]) {
        let (head, codes) = split::<20, 4, 16>(block);
        let [d, m] = halves(head);
        for (out, code) in out.iter_mut().zip(nibbles(codes)) {
            *out = f32::from(code) * d + m;
        }
    }

    #[inline(always)]
    fn steps(block: &[u8; 20], out: &mut [f32; 32]) {
        let (head, codes) = split::<20, 4, 16>(block);
        let [d, _] = halves(head);
        for (out, code) in out.iter_mut().zip(nibbles(codes)) {
            *out = step(d, code == 0 || code == 15);
        }
    }
}

/// Least and greatest value. Of zeros of either sign the first one counts.
#[inline(always)]
fn span(x: &[f32; 32]) -> [f32; 2] {
    let ordered = |bits: i32| bits ^ ((bits >> 31) & 0x7FFF_FFFF);
    let (mut least, mut most) = (i32::MAX, i32::MIN);
    for value in x {
        let order = ordered(value.to_bits().cast_signed());
        (least, most) = (least.min(order), most.max(order));
    }
    let [least, most] = [least, most].map(|order| f32::from_bits(ordered(order).cast_unsigned()));
    if least == 0.0 || least.is_nan() || most.is_nan() { span_in_order(x) } else { [least, most] }
}

/// As ggml compares: in order, and NaN is neither less nor more.
#[inline(never)]
fn span_in_order(x: &[f32; 32]) -> [f32; 2] {
    x.iter().fold([f32::MAX, -f32::MAX], |[least, most], value| {
        [if *value < least { *value } else { least }, if *value > most { *value } else { most }]
    })
}

/// Two f16 numbers.
#[inline(always)]
pub(super) fn halves(bytes: &[u8; 4]) -> [f32; 2] {
    let [a, b, c, d] = *bytes;
    [cast::from_f16(u16::from_le_bytes([a, b])), cast::from_f16(u16::from_le_bytes([c, d]))]
}
