//! The decoding kernel.

use super::{CodeType, Packing, Scaled, Tile};
use crate::Dtype;
use crate::quantize::cast;
use crate::quantize::codec::{Scratch, Want, step};
use crate::simd::Kernel;

/// 1/127 as bitsandbytes writes it.
const INVERSE_127: f32 = 7.874_016e-3;

/// Decodes a tile with the cells in `scratch`, numbered from the tile's first row of cells.
pub(super) struct Decode<'a> {
    pub(super) scaled: &'a Scaled,
    pub(super) want: Want,
    pub(super) tile: Tile,
    pub(super) codes: &'a [u8],
    pub(super) rounding: Dtype,
    pub(super) out: &'a mut [f32],
    pub(super) scratch: &'a mut Scratch,
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match (self.scaled.code, self.want) {
            (CodeType::Int { .. }, Want::Values) => self.rows(|code| f32::from(code.cast_signed())),
            (CodeType::E4m3, Want::Values) => self.rows(cast::from_e4m3),
            (CodeType::E5m2, Want::Values) => self.rows(cast::from_e5m2),
            (CodeType::Int { low, high }, Want::Steps) => {
                self.rows(|code| step(1.0, !(low + 1.0..high).contains(&f32::from(code.cast_signed()))));
            }
            // A float's unit in the last place; subnormals have that of the smallest exponent.
            (CodeType::E4m3, Want::Steps) => self.rows(|code| {
                let unit = cast::from_e4m3(1) * (1_u32 << ((code & 0x7F) >> 3).saturating_sub(1)) as f32;
                step(unit, code & 0x7F == 0x7E)
            }),
            (CodeType::E5m2, Want::Steps) => self.rows(|code| {
                let unit = cast::from_e5m2(1) * (1_u32 << ((code & 0x7F) >> 2).saturating_sub(1)) as f32;
                step(unit, code & 0x7F == 0x7B)
            }),
        }
    }
}

impl Decode<'_> {
    #[inline(always)]
    fn rows(self, widen: impl Fn(u8) -> f32 + Copy) {
        let Self { scaled, want, tile, codes, rounding, out, scratch } = self;
        let grid = &scaled.grid;
        let across = grid.across();
        let Scratch { codes: unpacked, cells, .. } = scratch;
        unpacked.resize(grid.columns, 0);
        let mut packed_rows = codes.chunks(scaled.packing.row_bytes(grid.columns));
        for (index, out) in out.chunks_mut(grid.columns).enumerate() {
            let packed = packed_rows.next().unwrap_or_default();
            let codes = match scaled.packing {
                Packing::Bytes => packed,
                Packing::Words(bits) => {
                    unpack(bits, packed, unpacked);
                    &*unpacked
                }
            };
            let first = ((tile.row + index) / grid.high - tile.row / grid.high) * across;
            let scales = cells.scales.get(first..).unwrap_or_default();
            let zeros = cells.zeros.get(first..).filter(|_| want == Want::Values && scaled.zeros.is_some());
            decode_row(scaled, codes, scales, zeros, out, widen);
            match rounding {
                _ if want == Want::Steps => {}
                Dtype::Bf16 => out.iter_mut().for_each(|value| *value = cast::from_bf16(cast::to_bf16(*value))),
                Dtype::F16 => out.iter_mut().for_each(|value| *value = cast::from_f16(cast::to_f16(*value))),
                _ => {}
            }
        }
    }
}

#[inline(always)]
fn decode_row(
    scaled: &Scaled,
    codes: &[u8],
    scales: &[f32],
    zeros: Option<&[f32]>,
    out: &mut [f32],
    widen: impl Fn(u8) -> f32 + Copy,
) {
    let grid = &scaled.grid;
    if grid.wide == 1 {
        if let Some(zeros) = zeros {
            for (((out, code), scale), zero) in out.iter_mut().zip(codes).zip(scales).zip(zeros) {
                *out = (widen(*code) - zero) * scale;
            }
        } else {
            for ((out, code), scale) in out.iter_mut().zip(codes).zip(scales) {
                *out = widen(*code) * scale;
            }
        }
        return;
    }
    for (cell, (out, codes)) in out.chunks_mut(grid.wide).zip(codes.chunks(grid.wide)).enumerate() {
        let scale = scales.get(cell).copied().unwrap_or(f32::NAN);
        if scaled.rule.by_ratio {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = widen(*code) * scale * INVERSE_127;
            }
        } else if let Some(zeros) = zeros {
            let zero = zeros.get(cell).copied().unwrap_or_default();
            for (out, code) in out.iter_mut().zip(codes) {
                *out = (widen(*code) - zero) * scale;
            }
        } else {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = widen(*code) * scale;
            }
        }
    }
}

/// Turns offset-binary codes in words back into a byte each, two's complement.
#[inline(always)]
fn unpack(bits: usize, packed: &[u8], out: &mut [u8]) {
    match bits {
        8 => {
            for (out, code) in out.iter_mut().zip(packed) {
                *out = code ^ 0x80;
            }
        }
        4 => {
            let (pairs, odd) = out.as_chunks_mut::<2>();
            for ([low, high], byte) in pairs.iter_mut().zip(packed) {
                *low = (byte & 15).wrapping_sub(8);
                *high = (byte >> 4).wrapping_sub(8);
            }
            if let (Some(last), Some(byte)) = (odd.first_mut(), packed.get(pairs.len())) {
                *last = (byte & 15).wrapping_sub(8);
            }
        }
        _ => {
            let byte = |at: usize| u16::from(packed.get(at).copied().unwrap_or_default());
            let (mask, half) = ((1_u16 << bits) - 1, 1_u8 << (bits - 1));
            for (i, out) in out.iter_mut().enumerate() {
                let (at, shift) = (i * bits / 8, i * bits % 8);
                *out = (((byte(at) | byte(at + 1) << 8) >> shift & mask) as u8).wrapping_sub(half);
            }
        }
    }
}
