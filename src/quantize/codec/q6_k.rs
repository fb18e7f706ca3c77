//! GGML `q6_k`: 256 values in 210 bytes, as 16 sub-blocks of 16 with an 8-bit scale each.
//!
//! 128 bytes of low nibbles, 64 of high pairs of bits, 16 signed scales, f16 `d`. A value is `d * scale * (code - 32)`.
//! Each sub-block's scale comes from a search over 19 steps that minimizes the error weighted by `x^2`. Source:
//! `quantize_row_q6_K_ref` and `make_qx_quants` of ggml's `ggml-quants.c`, without fused multiply-add.
//!
//! As in `q4_k`, sub-blocks are searched side by side, one to a lane, each in its own order.

use super::blocks::{Block, nearest};
use super::step;
use crate::quantize::cast;

pub(super) struct Q6K;

/// Values of a sub-block.
const SUB: usize = 16;
/// Sub-blocks of a block, which are searched at a time.
const SUBS: usize = 16;

/// Below this a sub-block is zero.
const ZERO: f32 = 1e-15;

type Lanes = [f32; SUBS];

impl Block<256, 210> for Q6K {
    #[inline(always)]
    fn encode(values: &[[f32; 256]], out: &mut [[u8; 210]]) {
        for (x, out) in values.iter().zip(out) {
            let mut lanes = [[0.0; SUBS]; SUB];
            for (lane, sub) in x.chunks_exact(SUB).enumerate() {
                for (row, value) in lanes.iter_mut().zip(sub) {
                    row[lane] = *value;
                }
            }
            write(x, &search(&lanes), out);
        }
    }

    #[inline(always)]
    fn decode(block: &[u8; 210], out: &mut [f32; 256]) {
        each_code(block, out, |scale, code| scale * f32::from(code));
    }

    #[inline(always)]
    fn steps(block: &[u8; 210], out: &mut [f32; 256]) {
        each_code(block, out, |scale, code| step(scale, code == -32 || code == 31));
    }
}

/// Makes a number of each value's scale and code.
#[inline(always)]
fn each_code(block: &[u8; 210], out: &mut [f32; 256], make: impl Fn(f32, i8) -> f32) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = cast::from_f16(u16::from_le_bytes(d.first_chunk().copied().unwrap_or_default()));
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            let nibbles = low.iter().skip(64 * half + 32 * (quarter % 2));
            let pairs = high.iter().skip(32 * half);
            for (i, ((out, nibble), pair)) in out.iter_mut().zip(nibbles).zip(pairs).enumerate() {
                let scale = scales.get(8 * half + 2 * quarter + i / 16).copied().unwrap_or_default();
                let code = ((nibble >> (4 * (quarter / 2))) & 15) | (((pair >> (2 * quarter)) & 3) << 4);
                *out = make(d * f32::from(scale.cast_signed()), code.cast_signed() - 32);
            }
        }
    }
}

/// The scale of every lane's sub-block.
#[inline(always)]
fn search(x: &[Lanes; SUB]) -> Lanes {
    let (mut extreme, mut largest) = ([0.0_f32; SUBS], [0.0_f32; SUBS]);
    for x in x {
        for l in 0..SUBS {
            let larger = x[l].abs() > largest[l];
            largest[l] = if larger { x[l].abs() } else { largest[l] };
            extreme[l] = if larger { x[l] } else { extreme[l] };
        }
    }
    let (mut scale, mut best) = ([0.0; SUBS], [0.0; SUBS]);
    for step in std::iter::once(0).chain(-9..=-1_i8).chain(1..=9) {
        let target = -(32.0 + 0.1 * f32::from(step));
        let mut inverse = [0.0; SUBS];
        for l in 0..SUBS {
            inverse[l] = target / extreme[l];
        }
        let (mut sum_lx, mut sum_l2) = ([0.0; SUBS], [0.0; SUBS]);
        for x in x {
            for l in 0..SUBS {
                let code = nearest(inverse[l] * x[l]).clamp(-32, 31) as f32;
                let weight = x[l] * x[l];
                sum_lx[l] += weight * x[l] * code;
                sum_l2[l] += weight * code * code;
            }
        }
        for l in 0..SUBS {
            let fitted = sum_lx[l] / sum_l2[l];
            // The first step is taken as it is, the others where they lower the error. (No branch: one vector.)
            let lower = (sum_l2[l] > 0.0) & (sum_lx[l] * sum_lx[l] > best[l] * sum_l2[l]);
            let taken = if step == 0 { sum_l2[l] != 0.0 } else { lower };
            scale[l] = if taken { fitted } else { scale[l] };
            best[l] = if taken { fitted * sum_lx[l] } else { best[l] };
        }
    }
    std::array::from_fn(|l| if largest[l] < ZERO { 0.0 } else { scale[l] })
}

/// Writes a block: scales to eight bits, then codes against what was stored.
#[inline(always)]
fn write(x: &[f32; 256], scales: &Lanes, out: &mut [u8; 210]) {
    let (mut largest, mut extreme) = (0.0_f32, 0.0_f32);
    for scale in scales {
        if scale.abs() > largest {
            (largest, extreme) = (scale.abs(), *scale);
        }
    }
    if largest < ZERO {
        *out = [0; 210];
        return;
    }
    let inverse = -128.0 / extreme;
    let d = cast::to_f16(1.0 / inverse);
    let stored: [i8; SUBS] = scales.map(|scale| nearest(inverse * scale).min(127) as i8);

    let mut codes = [0_u8; 256];
    for ((x, codes), scale) in x.chunks_exact(SUB).zip(codes.chunks_exact_mut(SUB)).zip(stored) {
        let scale = cast::from_f16(d) * f32::from(scale);
        if scale == 0.0 {
            // The codes of the search stay although nothing will be made of them.
            leftover(x, codes);
            continue;
        }
        for (code, value) in codes.iter_mut().zip(x) {
            *code = (nearest(value / scale).clamp(-32, 31) + 32) as u8;
        }
    }

    let (low, rest) = out.split_at_mut(128);
    let (high, rest) = rest.split_at_mut(64);
    let (scale_bytes, d_bytes) = rest.split_at_mut(16);
    let (low, _) = low.as_chunks_mut::<64>();
    let (high, _) = high.as_chunks_mut::<32>();
    let (codes, _) = codes.as_chunks::<128>();
    for ((codes, low), high) in codes.iter().zip(low).zip(high) {
        for i in 0..32 {
            let [a, b, c, d] = [codes[i], codes[i + 32], codes[i + 64], codes[i + 96]];
            low[i] = (a & 15) | ((c & 15) << 4);
            low[i + 32] = (b & 15) | ((d & 15) << 4);
            high[i] = (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((d >> 4) << 6);
        }
    }
    scale_bytes.copy_from_slice(&stored.map(i8::cast_unsigned));
    d_bytes.copy_from_slice(&d.to_le_bytes());
}

/// The codes that the search of one sub-block ends with.
#[cold]
#[inline(never)]
fn leftover(x: &[f32], codes: &mut [u8]) {
    let (mut extreme, mut largest) = (0.0_f32, 0.0_f32);
    for value in x {
        if value.abs() > largest {
            (largest, extreme) = (value.abs(), *value);
        }
    }
    if largest < ZERO {
        codes.fill(0);
        return;
    }
    let mut best = 0.0;
    for step in std::iter::once(0).chain(-9..=-1_i8).chain(1..=9) {
        let inverse = -(32.0 + 0.1 * f32::from(step)) / extreme;
        let code = |value: f32| nearest(inverse * value).clamp(-32, 31);
        let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
        for value in x.iter().copied() {
            let (weight, code) = (value * value, code(value) as f32);
            sum_lx += weight * value * code;
            sum_l2 += weight * code * code;
        }
        if step == 0 || (sum_l2 > 0.0 && sum_lx * sum_lx > best * sum_l2) {
            for (kept, value) in codes.iter_mut().zip(x) {
                *kept = (code(*value) + 32) as u8;
            }
            best = if sum_l2 != 0.0 { sum_lx / sum_l2 * sum_lx } else { 0.0 };
        }
    }
}
