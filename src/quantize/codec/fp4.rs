//! E2M1 numbers in groups with a scale of one byte, codes and scales in tensors of their own: what compressed-tensors
//! (and GPT-OSS) keep for MXFP4 and NVFP4. The rules for the scales are in `mxfp4.rs` and `nvfp4.rs`.
//!
//! Two codes share a byte, the even one in the low nibble. The sign bit is set where the scaled value is below zero,
//! so that a negative value that rounds to zero is stored as -0, and -0 itself as 0 (`cast_to_fp4`, `pack_fp4_to_uint8`
//! of compressed-tensors 0.20).

use super::blocks::each;
use super::{Counts, Scratch, Want, mxfp4, nvfp4, step};
use crate::Dtype;
use crate::quantize::cast;
use crate::quantize::values::Values;
use crate::simd::{self, Kernel};

/// Values that are widened at a time; a multiple of both groups.
const CHUNK: usize = 4096;

/// Which scale a group has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fp4 {
    /// 32 values, E8M0.
    Mx {
        /// Whether non-finite and overflowing groups come out as the peer's do.
        reference: bool,
        /// Dtype that the peer computes in.
        work: Dtype,
    },
    /// 16 values, E4M3, under a scale of the whole tensor.
    Nv {
        /// Dtype that the peer computes in.
        work: Dtype,
    },
}

/// What all scales of a tensor are divided (compressed-tensors) or multiplied (ModelOpt) by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global {
    Divisor(f32),
    Factor(f32),
}

impl Fp4 {
    /// Values of a group.
    pub(super) fn group(self) -> usize {
        match self {
            Fp4::Mx { .. } => 32,
            Fp4::Nv { .. } => 16,
        }
    }

    /// Encodes a part of whole groups. `global` is NVFP4's divisor.
    pub(super) fn encode(
        self,
        global: f32,
        part: Values<'_>,
        codes: &mut [u8],
        scales: &mut [u8],
        scratch: &mut Scratch,
    ) -> Counts {
        simd::dispatch(Encode { format: self, global, part, codes, scales, row: &mut scratch.row })
    }

    /// Decodes a part of whole groups; `rounding` as the peer's output has it.
    pub(super) fn decode(
        self,
        want: Want,
        global: Global,
        codes: &[u8],
        scales: &[u8],
        rounding: Dtype,
        out: &mut [f32],
    ) {
        simd::dispatch(Decode { format: self, want, global, codes, scales, rounding, out });
    }
}

/// The bits of the greatest magnitude, for NVFP4's scale of the tensor.
pub(super) fn survey(part: Values<'_>, scratch: &mut Scratch) -> (u32, Counts) {
    simd::dispatch(Survey { part, row: &mut scratch.row })
}

struct Survey<'a> {
    part: Values<'a>,
    row: &'a mut Vec<f32>,
}

impl Kernel for Survey<'_> {
    type Output = (u32, Counts);

    #[inline(always)]
    fn run(self) -> (u32, Counts) {
        let Self { part, row } = self;
        let (mut largest, mut counts) = (0, Counts::default());
        for start in (0..part.len()).step_by(CHUNK) {
            row.resize(CHUNK.min(part.len() - start), 0.0);
            part.widen_inline(start, row);
            counts.add_nonfinite(row);
            largest = row.iter().fold(largest, |most, value| most.max((value.to_bits() & 0x7FFF_FFFF).cast_signed()));
        }
        (largest.cast_unsigned(), counts)
    }
}

struct Encode<'a> {
    format: Fp4,
    global: f32,
    part: Values<'a>,
    codes: &'a mut [u8],
    scales: &'a mut [u8],
    row: &'a mut Vec<f32>,
}

impl Kernel for Encode<'_> {
    type Output = Counts;

    #[inline(always)]
    fn run(self) -> Counts {
        match self.format {
            Fp4::Mx { reference, work: Dtype::F16 } => self.groups::<32, 16>(
                |largest, _| mxfp4::even(largest, Dtype::F16, reference),
                |scaled| cast::from_f16(cast::to_f16(scaled)),
            ),
            // A quotient of bf16 numbers by a power of two is exact.
            Fp4::Mx { reference, work } => {
                self.groups::<32, 16>(|largest, _| mxfp4::even(largest, work, reference), |scaled| scaled)
            }
            Fp4::Nv { work } => {
                self.groups::<16, 8>(|largest, global| nvfp4::scale(largest, global, work), |scaled| scaled)
            }
        }
    }
}

impl Encode<'_> {
    #[inline(always)]
    fn groups<const N: usize, const H: usize>(
        self,
        scale: impl Fn(f32, f32) -> (u8, f32),
        round: impl Fn(f32) -> f32,
    ) -> Counts {
        let Self { format: _, global, part, codes, scales, row } = self;
        let mut counts = Counts::default();
        let (codes, _) = codes.as_chunks_mut::<H>();
        let mut outputs = codes.iter_mut().zip(scales);
        for start in (0..part.len()).step_by(CHUNK) {
            row.resize(CHUNK.min(part.len() - start), 0.0);
            part.widen_inline(start, row);
            counts.add_nonfinite(row);
            let (groups, _) = row.as_chunks::<N>();
            for (x, (codes, stored)) in groups.iter().zip(&mut outputs) {
                let most = x.iter().fold(0, |most, value| most.max((value.to_bits() & 0x7FFF_FFFF).cast_signed()));
                let (byte, divisor) = scale(f32::from_bits(most.cast_unsigned()), global);
                *stored = byte;
                let coded = each(x, |value| code(round(value / divisor)));
                let (pairs, _) = coded.as_chunks::<2>();
                for (byte, [even, odd]) in codes.iter_mut().zip(pairs) {
                    *byte = even | (odd << 4);
                }
            }
        }
        counts
    }
}

/// Clamps and rounds half to even; NaN is 0.
#[inline(always)]
fn code(scaled: f32) -> u8 {
    let magnitude = cast::to_e2m1(scaled.abs().min(6.0));
    let signed = magnitude | if scaled < 0.0 { 8 } else { 0 };
    if scaled.is_nan() { 0 } else { signed }
}

struct Decode<'a> {
    format: Fp4,
    want: Want,
    global: Global,
    codes: &'a [u8],
    scales: &'a [u8],
    rounding: Dtype,
    out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.format {
            Fp4::Mx { .. } => self.groups::<32, 16>(|byte, _| cast::from_e8m0(byte)),
            Fp4::Nv { .. } => self.groups::<16, 8>(|byte, global| match global {
                Global::Divisor(global) => cast::from_e4m3(byte) / global,
                Global::Factor(global) => cast::from_e4m3(byte) * global,
            }),
        }
    }
}

impl Decode<'_> {
    #[inline(always)]
    fn groups<const N: usize, const H: usize>(self, scale: impl Fn(u8, Global) -> f32) {
        let (out, _) = self.out.as_chunks_mut::<N>();
        let (codes, _) = self.codes.as_chunks::<H>();
        for ((out, codes), stored) in out.iter_mut().zip(codes).zip(self.scales) {
            let scale = scale(*stored, self.global);
            let mut unpacked = [0; N];
            let (pairs, _) = unpacked.as_chunks_mut::<2>();
            for ([even, odd], byte) in pairs.iter_mut().zip(codes) {
                (*even, *odd) = (byte & 15, byte >> 4);
            }
            if self.want == Want::Steps {
                for (out, code) in out.iter_mut().zip(unpacked) {
                    *out = step(gap(code) * scale, code & 7 == 7);
                }
                continue;
            }
            for (out, code) in out.iter_mut().zip(unpacked) {
                *out = from_code(code) * scale;
            }
            if self.rounding == Dtype::Bf16 {
                for out in out {
                    *out = cast::from_bf16(cast::to_bf16(*out));
                }
            }
        }
    }
}

/// The number that a code stands for.
#[inline(always)]
pub(super) fn from_code(code: u8) -> f32 {
    // Exponent and mantissa land in f32's places; the product sets the bias right and normalizes.
    let magnitude = f32::from_bits(u32::from(code & 7) << 22) * f32::from_bits(0x7E80_0000);
    f32::from_bits(magnitude.to_bits() | (u32::from(code & 8) << 28))
}

/// The distance from a code's number to its farther neighbour.
#[inline(always)]
pub(super) fn gap(code: u8) -> f32 {
    match code & 7 {
        0..=3 => 0.5,
        4 | 5 => 1.0,
        _ => 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_agree() {
        for code_bits in 0..16_u8 {
            let value = from_code(code_bits);
            assert_eq!(value.abs(), cast::E2M1[usize::from(code_bits & 7)]);
            assert_eq!(value.is_sign_negative(), code_bits >= 8);
            assert_eq!(code(value), if code_bits == 8 { 0 } else { code_bits });
        }
        assert_eq!([code(-0.1), code(100.0), code(f32::NEG_INFINITY), code(f32::NAN)], [8, 7, 15, 0]);
    }
}
