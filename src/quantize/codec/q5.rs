//! GGML `q5_0`, `q5_1` and `q5_k`, which are read but not written.
//!
//! `q5_0` and `q5_1` are `q4_0` and `q4_1` with a 32-bit word of fifth bits between header and nibbles; `q5_k` is `q4_k`
//! with 32 bytes of fifth bits. Source: `dequantize_row_q5_0`, `_q5_1`, `_q5_K` of ggml's `ggml-quants.c`.

use super::blocks::{Block, nibbles, split};
use super::q4_1::halves;
use super::q4_k::scale_and_min;
use super::step;
use crate::quantize::cast;

pub(super) struct Q50;
pub(super) struct Q51;
pub(super) struct Q5K;

impl Block<32, 22> for Q50 {
    fn encode(_: &[[f32; 32]], _: &mut [[u8; 22]]) {}

    #[inline(always)]
    fn decode(block: &[u8; 22], out: &mut [f32; 32]) {
        let (head, codes) = split::<22, 6, 16>(block);
        let (d, fifth) = split::<6, 2, 4>(head);
        let d = cast::from_f16(u16::from_le_bytes(*d));
        let fifth = u32::from_le_bytes(*fifth);
        for (i, (out, code)) in out.iter_mut().zip(nibbles(codes)).enumerate() {
            let code = u32::from(code) | ((fifth >> i) & 1) << 4;
            *out = (code.cast_signed() - 16) as f32 * d;
        }
    }

    fn steps(block: &[u8; 22], out: &mut [f32; 32]) {
        let (d, _) = split::<22, 2, 20>(block);
        out.fill(step(cast::from_f16(u16::from_le_bytes(*d)), false));
    }
}

impl Block<32, 24> for Q51 {
    fn encode(_: &[[f32; 32]], _: &mut [[u8; 24]]) {}

    #[inline(always)]
    fn decode(block: &[u8; 24], out: &mut [f32; 32]) {
        let (head, codes) = split::<24, 8, 16>(block);
        let (head, fifth) = split::<8, 4, 4>(head);
        let [d, m] = halves(head);
        let fifth = u32::from_le_bytes(*fifth);
        for (i, (out, code)) in out.iter_mut().zip(nibbles(codes)).enumerate() {
            let code = u32::from(code) | ((fifth >> i) & 1) << 4;
            *out = code as f32 * d + m;
        }
    }

    fn steps(block: &[u8; 24], out: &mut [f32; 32]) {
        let (head, _) = split::<24, 4, 20>(block);
        let [d, _] = halves(head);
        out.fill(step(d, false));
    }
}

impl Block<256, 176> for Q5K {
    fn encode(_: &[[f32; 256]], _: &mut [[u8; 176]]) {}

    #[inline(always)]
    fn decode(block: &[u8; 176], out: &mut [f32; 256]) {
        let (head, rest) = split::<176, 16, 160>(block);
        let (head, scales) = split::<16, 4, 12>(head);
        let (fifth, codes) = split::<160, 32, 128>(rest);
        let [d, dmin] = halves(head);
        let (codes, _) = codes.as_chunks::<32>();
        let (out, _) = out.as_chunks_mut::<64>();
        for (pair, (codes, out)) in codes.iter().zip(out).enumerate() {
            let (low, high) = out.split_at_mut(32);
            for (half, out) in [low, high].into_iter().enumerate() {
                let sub = 2 * pair + half;
                let (scale, min) = scale_and_min(scales, sub);
                let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
                for ((out, code), fifth) in out.iter_mut().zip(codes).zip(fifth) {
                    let code = ((code >> (4 * half)) & 15) | (((fifth >> sub) & 1) << 4);
                    *out = scale * f32::from(code) - min;
                }
            }
        }
    }

    fn steps(block: &[u8; 176], out: &mut [f32; 256]) {
        let (head, _) = split::<176, 16, 160>(block);
        let (head, scales) = split::<16, 4, 12>(head);
        let [d, _] = halves(head);
        for (sub, out) in out.chunks_exact_mut(32).enumerate() {
            out.fill(step(d * f32::from(scale_and_min(scales, sub).0), false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_bits_are_those_of_the_values_in_order() {
        // d = 2, m = -1; value i has code i.
        let mut block = [0_u8; 24];
        block[..4].copy_from_slice(&[0x00, 0x40, 0x00, 0xBC]);
        block[4..8].copy_from_slice(&0xFFFF_0000_u32.to_le_bytes());
        for i in 0..16 {
            block[8 + i] = (i as u8) | ((i as u8) << 4);
        }
        let mut out = [0.0; 32];
        Q51::decode(&block, &mut out);
        assert_eq!(out, std::array::from_fn(|i| 2.0 * i as f32 - 1.0));
    }
}
