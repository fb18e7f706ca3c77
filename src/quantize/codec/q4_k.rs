//! GGML `q4_k`: 256 values in 144 bytes, as 8 sub-blocks of 32 with a 6-bit scale and minimum each.
//!
//! f16 `d`, f16 `dmin`, 12 bytes of scales and minima, 128 bytes of nibbles (of each 64 values the low nibbles are the
//! first 32). A value is `d * scale * code - dmin * min`. Each sub-block's scale and minimum come from a search over 21
//! steps that minimizes the error weighted by `rms + |x|`. Source: `quantize_row_q4_K_ref` and `make_qkx2_quants` of
//! ggml's `ggml-quants.c`, without fused multiply-add.
//!
//! The sums of the search are rounded in the order of the values, so a sub-block cannot be spread over a vector. Sixteen
//! sub-blocks (two blocks) are searched at a time instead, one to a lane, each in its own order.

use super::blocks::{Block, nearest, split};
use super::q4_1::halves;
use super::step;
use crate::quantize::cast;

pub(super) struct Q4K;

/// Sub-blocks that are searched at a time.
const LANES: usize = 16;
/// Values of a sub-block.
const SUB: usize = 32;
/// Sub-blocks of a block.
const SUBS: usize = 8;

type Lanes = [f32; LANES];

impl Block<256, 144> for Q4K {
    #[inline(always)]
    fn encode(values: &[[f32; 256]], out: &mut [[u8; 144]]) {
        for (x, out) in values.chunks(LANES / SUBS).zip(out.chunks_mut(LANES / SUBS)) {
            let lanes = transpose(x);
            let (scales, mins) = search(&lanes);
            for (i, (x, out)) in x.iter().zip(out).enumerate() {
                let (scales, _) = scales.as_chunks::<SUBS>();
                let (mins, _) = mins.as_chunks::<SUBS>();
                if let (Some(scales), Some(mins)) = (scales.get(i), mins.get(i)) {
                    write(x, scales, mins, out);
                }
            }
        }
    }

    #[inline(always)]
    fn decode(block: &[u8; 144], out: &mut [f32; 256]) {
        let (head, codes) = split::<144, 16, 128>(block);
        let (head, scales) = split::<16, 4, 12>(head);
        let [d, dmin] = halves(head);
        let (codes, _) = codes.as_chunks::<32>();
        let (out, _) = out.as_chunks_mut::<64>();
        for (pair, (codes, out)) in codes.iter().zip(out).enumerate() {
            let (low, high) = out.split_at_mut(SUB);
            for (half, out) in [low, high].into_iter().enumerate() {
                let (scale, min) = scale_and_min(scales, 2 * pair + half);
                let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = scale * f32::from((code >> (4 * half)) & 15) - min;
                }
            }
        }
    }

    #[inline(always)]
    fn steps(block: &[u8; 144], out: &mut [f32; 256]) {
        let (head, codes) = split::<144, 16, 128>(block);
        let (head, scales) = split::<16, 4, 12>(head);
        let [d, _] = halves(head);
        for (sub, (out, codes)) in out.chunks_exact_mut(SUB).zip(codes.chunks(SUB).flat_map(|c| [c, c])).enumerate() {
            let scale = d * f32::from(scale_and_min(scales, sub).0);
            for (out, code) in out.iter_mut().zip(codes) {
                let code = (code >> (4 * (sub % 2))) & 15;
                *out = step(scale, code == 0 || code == 15);
            }
        }
    }
}

/// The 6-bit scale and minimum of sub-block `sub`: the first four whole, the others split over low and high bits.
#[inline(always)]
pub(super) fn scale_and_min(packed: &[u8; 12], sub: usize) -> (u8, u8) {
    match sub {
        0..4 => (packed[sub] & 63, packed[sub + 4] & 63),
        4..8 => {
            ((packed[sub + 4] & 15) | ((packed[sub - 4] >> 6) << 4), (packed[sub + 4] >> 4) | ((packed[sub] >> 6) << 4))
        }
        _ => (0, 0),
    }
}

/// Value `i` of every sub-block side by side. Lanes without a sub-block are zero.
#[inline(always)]
fn transpose(x: &[[f32; 256]]) -> [Lanes; SUB] {
    let mut lanes = [[0.0; LANES]; SUB];
    for (lane, sub) in x.as_flattened().chunks_exact(SUB).enumerate() {
        for (row, value) in lanes.iter_mut().zip(sub) {
            row[lane] = *value;
        }
    }
    lanes
}

/// Scale and (negated) minimum of every lane's sub-block.
#[inline(always)]
fn search(x: &[Lanes; SUB]) -> (Lanes, Lanes) {
    const CODES: f32 = 15.0;
    let mut squares = [0.0; LANES];
    for x in x {
        for l in 0..LANES {
            squares[l] += x[l] * x[l];
        }
    }
    let rms = squares.map(|sum| (sum / 32.0).sqrt());
    let weights: [Lanes; SUB] = std::array::from_fn(|i| std::array::from_fn(|l| rms[l] + x[i][l].abs()));

    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = weights[0];
    let mut sum_x: Lanes = std::array::from_fn(|l| weights[0][l] * x[0][l]);
    for (x, w) in x.iter().zip(&weights).skip(1) {
        for l in 0..LANES {
            min[l] = if x[l] < min[l] { x[l] } else { min[l] };
            max[l] = if x[l] > max[l] { x[l] } else { max[l] };
            sum_w[l] += w[l];
            sum_x[l] += w[l] * x[l];
        }
    }
    min = min.map(|min| if min > 0.0 { 0.0 } else { min });
    // A sub-block of one value only has no span to search.
    let flat: [bool; LANES] = std::array::from_fn(|l| max[l] == min[l]);
    let flat_min = min;

    let inverse: Lanes = std::array::from_fn(|l| CODES / (max[l] - min[l]));
    let mut scale: Lanes = inverse.map(|inverse| 1.0 / inverse);
    let mut best = [0.0; LANES];
    for (x, w) in x.iter().zip(&weights) {
        for l in 0..LANES {
            let code = code(inverse[l] * (x[l] - min[l]));
            let difference = scale[l] * code + min[l] - x[l];
            best[l] += w[l] * (difference * difference);
        }
    }
    let mut codes = [[0.0; LANES]; SUB];
    for step in 0..=20_u8 {
        let target = -1.0 + 0.1 * f32::from(step) + CODES;
        let mut inverse = [0.0; LANES];
        for l in 0..LANES {
            inverse[l] = target / (max[l] - min[l]);
        }
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for ((x, w), codes) in x.iter().zip(&weights).zip(&mut codes) {
            for l in 0..LANES {
                let code = code(inverse[l] * (x[l] - min[l]));
                codes[l] = code;
                sum_l[l] += w[l] * code;
                sum_l2[l] += w[l] * code * code;
                sum_xl[l] += w[l] * code * x[l];
            }
        }
        // Both quotients of a lane are made and one is taken: a branch would keep the lanes from one vector.
        let (mut determinant, mut plain_scale) = ([0.0; LANES], [0.0; LANES]);
        let (mut this_scale, mut this_min) = ([0.0; LANES], [0.0; LANES]);
        for l in 0..LANES {
            determinant[l] = sum_w[l] * sum_l2[l] - sum_l[l] * sum_l[l];
            plain_scale[l] = sum_xl[l] / sum_l2[l];
        }
        for l in 0..LANES {
            this_min[l] = (sum_l2[l] * sum_x[l] - sum_l[l] * sum_xl[l]) / determinant[l];
            this_scale[l] = (sum_w[l] * sum_xl[l] - sum_x[l] * sum_l[l]) / determinant[l];
        }
        for l in 0..LANES {
            let above = this_min[l] > 0.0;
            this_scale[l] = if above { plain_scale[l] } else { this_scale[l] };
            this_min[l] = if above { 0.0 } else { this_min[l] };
        }
        let mut error = [0.0; LANES];
        for ((x, w), codes) in x.iter().zip(&weights).zip(&codes) {
            for l in 0..LANES {
                let difference = this_scale[l] * codes[l] + this_min[l] - x[l];
                error[l] += w[l] * (difference * difference);
            }
        }
        for l in 0..LANES {
            let better = (determinant[l] > 0.0) & (error[l] < best[l]);
            best[l] = if better { error[l] } else { best[l] };
            scale[l] = if better { this_scale[l] } else { scale[l] };
            min[l] = if better { this_min[l] } else { min[l] };
        }
    }
    let scale = std::array::from_fn(|l| if flat[l] { 0.0 } else { scale[l] });
    (scale, std::array::from_fn(|l| if flat[l] { -flat_min[l] } else { -min[l] }))
}

/// The nearest code, as a number.
#[inline(always)]
fn code(scaled: f32) -> f32 {
    nearest(scaled).clamp(0, 15) as f32
}

/// Writes a block: scales and minima to six bits, then codes against what was stored.
#[inline(always)]
fn write(x: &[f32; 256], scales: &[f32; SUBS], mins: &[f32; SUBS], out: &mut [u8; 144]) {
    let largest =
        |values: &[f32; SUBS]| values.iter().fold(0.0_f32, |most, value| if *value > most { *value } else { most });
    let (max_scale, max_min) = (largest(scales), largest(mins));
    let inverse = |largest: f32| if largest > 0.0 { 63.0 / largest } else { 0.0 };
    let (inverse_scale, inverse_min) = (inverse(max_scale), inverse(max_min));
    let (d, dmin) = (cast::to_f16(max_scale / 63.0), cast::to_f16(max_min / 63.0));

    let mut packed = [0_u8; 12];
    for sub in 0..SUBS {
        let scale = (nearest(inverse_scale * scales[sub]) as u8).min(63);
        let min = (nearest(inverse_min * mins[sub]) as u8).min(63);
        if sub < 4 {
            packed[sub] = scale;
            packed[sub + 4] = min;
        } else {
            packed[sub + 4] = (scale & 15) | ((min & 15) << 4);
            packed[sub - 4] |= (scale >> 4) << 6;
            packed[sub] |= (min >> 4) << 6;
        }
    }
    let mut codes = [0_u8; 256];
    let (d_stored, dmin_stored) = (cast::from_f16(d), cast::from_f16(dmin));
    for (sub, (x, codes)) in x.chunks_exact(SUB).zip(codes.chunks_exact_mut(SUB)).enumerate() {
        let (scale, min) = scale_and_min(&packed, sub);
        let (scale, min) = (d_stored * f32::from(scale), dmin_stored * f32::from(min));
        if scale == 0.0 {
            // The codes of the search stay although nothing will be made of them.
            leftover(x, codes);
            continue;
        }
        for (code, value) in codes.iter_mut().zip(x) {
            *code = nearest((value + min) / scale).clamp(0, 15) as u8;
        }
    }

    let (head, nibbles) = out.split_at_mut(16);
    let (halves, scales) = head.split_at_mut(4);
    let (first, second) = halves.split_at_mut(2);
    first.copy_from_slice(&d.to_le_bytes());
    second.copy_from_slice(&dmin.to_le_bytes());
    scales.copy_from_slice(&packed);
    for (nibbles, codes) in nibbles.chunks_exact_mut(SUB).zip(codes.chunks_exact(2 * SUB)) {
        let (low, high) = codes.split_at(SUB);
        for ((byte, low), high) in nibbles.iter_mut().zip(low).zip(high) {
            *byte = low | (high << 4);
        }
    }
}

/// The codes that the search of one sub-block ends with.
#[cold]
#[inline(never)]
fn leftover(x: &[f32], codes: &mut [u8]) {
    const CODES: f32 = 15.0;
    let rms = (x.iter().fold(0.0, |sum, value| sum + value * value) / 32.0).sqrt();
    let weight = |value: f32| rms + value.abs();
    let first = x.first().copied().unwrap_or_default();
    let (mut min, mut max, mut sum_w, mut sum_x) = (first, first, weight(first), weight(first) * first);
    for value in x.iter().copied().skip(1) {
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
        sum_w += weight(value);
        sum_x += weight(value) * value;
    }
    min = if min > 0.0 { 0.0 } else { min };
    if max == min {
        codes.fill(0);
        return;
    }
    let inverse = CODES / (max - min);
    let scale = 1.0 / inverse;
    let mut best = 0.0;
    for (value, kept) in x.iter().copied().zip(codes.iter_mut()) {
        let code = code(inverse * (value - min));
        *kept = code as u8;
        let difference = scale * code + min - value;
        best += weight(value) * (difference * difference);
    }
    for step in 0..=20_u8 {
        let inverse = (-1.0 + 0.1 * f32::from(step) + CODES) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for value in x.iter().copied() {
            let code = code(inverse * (value - min));
            sum_l += weight(value) * code;
            sum_l2 += weight(value) * code * code;
            sum_xl += weight(value) * code * value;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let error = x.iter().copied().fold(0.0, |error, value| {
                let difference = this_scale * code(inverse * (value - min)) + this_min - value;
                error + weight(value) * (difference * difference)
            });
            if error < best {
                for (value, kept) in x.iter().copied().zip(codes.iter_mut()) {
                    *kept = code(inverse * (value - min)) as u8;
                }
                (best, min) = (error, this_min);
            }
        }
    }
}
