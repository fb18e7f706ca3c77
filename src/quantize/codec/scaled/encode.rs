//! The encoding kernel: widen a row into the first-level cache, find its scales, code it, pack it.

use super::{Cells, CodeType, Extremes, Outputs, Packing, Scaled, Tile};
use crate::Dtype;
use crate::quantize::cast;
use crate::quantize::codec::{Counts, Scratch};
use crate::quantize::values::{self, Values};
use crate::simd::Kernel;

/// Adds a tile to the extremes of its cells.
pub(super) struct Survey<'a> {
    pub(super) scaled: &'a Scaled,
    pub(super) tile: Tile,
    pub(super) part: Values<'a>,
    pub(super) extremes: &'a mut Extremes,
    pub(super) scratch: &'a mut Scratch,
}

impl Kernel for Survey<'_> {
    type Output = Counts;

    #[inline(always)]
    fn run(self) -> Counts {
        let Self { scaled, tile, part, extremes, scratch } = self;
        let grid = &scaled.grid;
        let mut counts = Counts::default();
        scratch.row.resize(grid.columns, 0.0);
        for index in 0..tile.rows {
            load(scaled, part, index * grid.columns, &mut scratch.row);
            let first = (tile.row + index) / grid.high * grid.across();
            counts.nonfinite += extremes.add_row(grid, &scratch.row, first);
        }
        counts
    }
}

/// Codes a tile, and finds its scales unless a survey has.
pub(super) struct Encode<'a> {
    pub(super) scaled: &'a Scaled,
    pub(super) tile: Tile,
    pub(super) part: Values<'a>,
    pub(super) cells: Option<&'a Cells>,
    pub(super) out: Outputs<'a>,
    pub(super) scratch: &'a mut Scratch,
}

impl Kernel for Encode<'_> {
    type Output = Counts;

    #[inline(always)]
    fn run(self) -> Counts {
        match (self.scaled.code, self.scaled.rule.work) {
            (CodeType::Int { low, high }, Dtype::Bf16) => self.bands::<Bf16, _>(Int { low, high }),
            (CodeType::Int { low, high }, Dtype::F16) => self.bands::<F16, _>(Int { low, high }),
            (CodeType::Int { low, high }, _) => self.bands::<F32, _>(Int { low, high }),
            (CodeType::E4m3, Dtype::Bf16) => self.bands::<Bf16, _>(E4m3),
            (CodeType::E4m3, Dtype::F16) => self.bands::<F16, _>(E4m3),
            (CodeType::E4m3, _) => self.bands::<F32, _>(E4m3),
            (CodeType::E5m2, Dtype::Bf16) => self.bands::<Bf16, _>(E5m2),
            (CodeType::E5m2, Dtype::F16) => self.bands::<F16, _>(E5m2),
            (CodeType::E5m2, _) => self.bands::<F32, _>(E5m2),
        }
    }
}

impl Encode<'_> {
    #[inline(always)]
    fn bands<W: Work, C: Code>(self, code: C) -> Counts {
        let Self { scaled, tile, part, cells: settled, out, scratch } = self;
        let grid = &scaled.grid;
        let across = grid.across();
        let Scratch { row, codes, extremes, cells: own, zeros, .. } = scratch;
        row.resize(grid.columns, 0.0);
        codes.resize(grid.columns, 0);
        zeros.clear();
        let mut counts = Counts::default();
        let scale_bytes = across * values::plain_size(scaled.rule.scale_dtype).unwrap_or(4);
        let mut scales_out = out.scales.chunks_mut(scale_bytes);
        let mut codes_out = out.codes.chunks_mut(scaled.packing.row_bytes(grid.columns));
        let band = if settled.is_some() { tile.rows } else { grid.high };
        for top in (0..tile.rows).step_by(band) {
            let rows = top..(top + band).min(tile.rows);
            if settled.is_none() {
                extremes.reset(across, scaled.zeros.is_some());
                for index in rows.clone() {
                    load(scaled, part, index * grid.columns, row);
                    counts.nonfinite += extremes.add_row(grid, row, 0);
                }
                scaled.settle(extremes, own);
                scaled.put_scales(&own.scales, scales_out.next().unwrap_or_default());
                zeros.extend_from_slice(&own.zeros);
            }
            let single = rows.len() == 1 && settled.is_none();
            for index in rows {
                if !single {
                    load(scaled, part, index * grid.columns, row);
                }
                let (cells, first) = match settled {
                    Some(cells) => (cells, (tile.row + index) / grid.high * across),
                    None => (&*own, 0),
                };
                let scales = cells.scales.get(first..).unwrap_or_default();
                let points = cells.zeros.get(first..).unwrap_or_default();
                let target = codes_out.next().unwrap_or_default();
                match scaled.packing {
                    Packing::Bytes => code_row::<W, C>(scaled, code, row, scales, points, target),
                    Packing::Words(bits) => {
                        code_row::<W, C>(scaled, code, row, scales, points, codes);
                        pack(bits, codes, target);
                    }
                }
            }
        }
        if settled.is_none() {
            scaled.put_zeros(zeros, out.zeros);
        }
        counts
    }
}

/// Widens a row, and rounds it as the peer's input would be.
#[inline(always)]
fn load(scaled: &Scaled, part: Values<'_>, start: usize, row: &mut [f32]) {
    part.widen_inline(start, row);
    if scaled.rule.input == Dtype::F16 {
        for value in row {
            *value = cast::from_f16(cast::to_f16(*value));
        }
    }
}

/// Codes a row with the scales of its row of cells.
#[inline(always)]
fn code_row<W: Work, C: Code>(scaled: &Scaled, code: C, row: &[f32], scales: &[f32], zeros: &[f32], out: &mut [u8]) {
    let grid = &scaled.grid;
    if grid.wide == 1 {
        if scaled.zeros.is_some() {
            for (((out, value), scale), zero) in out.iter_mut().zip(row).zip(scales).zip(zeros) {
                *out = code.encode(W::round(W::round(value / scale) + zero));
            }
        } else {
            for ((out, value), scale) in out.iter_mut().zip(row).zip(scales) {
                *out = code.encode(W::round(value / scale));
            }
        }
        return;
    }
    for (cell, (out, part)) in out.chunks_mut(grid.wide).zip(row.chunks(grid.wide)).enumerate() {
        let scale = scales.get(cell).copied().unwrap_or(1.0);
        if scaled.rule.by_ratio {
            if scaled.rule.input == Dtype::F16 {
                // torch divides a number by a tensor as the product with its reciprocal.
                let ratio = scaled.rule.divisor * (1.0 / scale);
                for (out, value) in out.iter_mut().zip(part) {
                    *out = code.encode(value * ratio);
                }
            } else {
                let step = scale / scaled.rule.divisor;
                for (out, value) in out.iter_mut().zip(part) {
                    *out = code.encode(value / step);
                }
            }
        } else if scaled.zeros.is_some() {
            let zero = zeros.get(cell).copied().unwrap_or_default();
            for (out, value) in out.iter_mut().zip(part) {
                *out = code.encode(W::round(W::round(value / scale) + zero));
            }
        } else {
            for (out, value) in out.iter_mut().zip(part) {
                *out = code.encode(W::round(value / scale));
            }
        }
    }
}

/// Packs a row of two's-complement codes into words of offset-binary ones; what is left of the last word is 0.
#[inline(always)]
fn pack(bits: usize, codes: &[u8], out: &mut [u8]) {
    if bits == 8 {
        let (coded, padding) = out.split_at_mut(codes.len().min(out.len()));
        for (out, code) in coded.iter_mut().zip(codes) {
            *out = code ^ 0x80;
        }
        padding.fill(0);
        return;
    }
    let (pairs, odd) = codes.as_chunks::<2>();
    let (coded, padding) = out.split_at_mut(pairs.len().min(out.len()));
    for (out, [low, high]) in coded.iter_mut().zip(pairs) {
        *out = ((low & 15) | (high << 4)) ^ 0x88;
    }
    padding.fill(0);
    if let (Some(out), Some(last)) = (padding.first_mut(), odd.first()) {
        *out = (last & 15) ^ 8;
    }
}

/// The dtype whose rounding every intermediate result has.
trait Work {
    fn round(value: f32) -> f32;
}

struct F32;
struct Bf16;
struct F16;

impl Work for F32 {
    #[inline(always)]
    fn round(value: f32) -> f32 {
        value
    }
}

impl Work for Bf16 {
    #[inline(always)]
    fn round(value: f32) -> f32 {
        cast::from_bf16(cast::to_bf16(value))
    }
}

impl Work for F16 {
    #[inline(always)]
    fn round(value: f32) -> f32 {
        cast::from_f16(cast::to_f16(value))
    }
}

/// The last step: a scaled value to its code.
trait Code: Copy {
    fn encode(self, scaled: f32) -> u8;
}

#[derive(Clone, Copy)]
struct Int {
    low: f32,
    high: f32,
}
#[derive(Clone, Copy)]
struct E4m3;
#[derive(Clone, Copy)]
struct E5m2;

impl Code for Int {
    /// Clamps, then rounds half to even; NaN is 0.
    #[inline(always)]
    fn encode(self, scaled: f32) -> u8 {
        let clamped = scaled.clamp(self.low, self.high);
        // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
        let bits = (clamped + 12_582_912.0).to_bits();
        if scaled.is_nan() { 0 } else { bits as u8 }
    }
}

impl Code for E4m3 {
    #[inline(always)]
    fn encode(self, scaled: f32) -> u8 {
        cast::to_e4m3(scaled)
    }
}

impl Code for E5m2 {
    #[inline(always)]
    fn encode(self, scaled: f32) -> u8 {
        cast::to_e5m2(scaled.clamp(-57344.0, 57344.0))
    }
}
