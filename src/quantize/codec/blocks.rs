//! GGML blocks: a fixed number of consecutive values in a fixed number of bytes.

use super::{Counts, Scratch, Want};
use crate::Dtype;
use crate::quantize::values::Values;
use crate::simd::{self, Kernel};

use super::{mxfp4, nvfp4, q4_0, q4_1, q4_k, q5, q6_k, q8_0};

/// Values that are widened at a time; a multiple of every block.
const CHUNK: usize = 4096;

/// A block of `V` values in `B` bytes.
pub(super) trait Block<const V: usize, const B: usize> {
    /// Encodes consecutive blocks. `values` and `out` have as many blocks.
    fn encode(values: &[[f32; V]], out: &mut [[u8; B]]);

    /// Decodes one block.
    fn decode(block: &[u8; B], out: &mut [f32; V]);

    /// The step at every value, as [`Want::Steps`] has it.
    fn steps(block: &[u8; B], out: &mut [f32; V]);
}

/// Encodes a part of whole blocks. Answers `None` for a dtype that is only read.
pub(super) fn encode(dtype: Dtype, part: Values<'_>, out: &mut [u8], scratch: &mut Scratch) -> Option<Counts> {
    Some(match dtype {
        Dtype::Q80 => encode_as::<q8_0::Q80, 32, 34>(part, out, scratch),
        Dtype::Q40 => encode_as::<q4_0::Q40, 32, 18>(part, out, scratch),
        Dtype::Q41 => encode_as::<q4_1::Q41, 32, 20>(part, out, scratch),
        Dtype::Q4K => encode_as::<q4_k::Q4K, 256, 144>(part, out, scratch),
        Dtype::Q6K => encode_as::<q6_k::Q6K, 256, 210>(part, out, scratch),
        Dtype::Mxfp4Block => encode_as::<mxfp4::Mxfp4Block, 32, 17>(part, out, scratch),
        Dtype::Nvfp4Block => encode_as::<nvfp4::Nvfp4Block, 64, 36>(part, out, scratch),
        _ => return None,
    })
}

/// Decodes a part of whole blocks. Answers false for a dtype that is not read.
pub(super) fn decode(dtype: Dtype, want: Want, blocks: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        Dtype::Q80 => decode_as::<q8_0::Q80, 32, 34>(want, blocks, out),
        Dtype::Q40 => decode_as::<q4_0::Q40, 32, 18>(want, blocks, out),
        Dtype::Q41 => decode_as::<q4_1::Q41, 32, 20>(want, blocks, out),
        Dtype::Q50 => decode_as::<q5::Q50, 32, 22>(want, blocks, out),
        Dtype::Q51 => decode_as::<q5::Q51, 32, 24>(want, blocks, out),
        Dtype::Q4K => decode_as::<q4_k::Q4K, 256, 144>(want, blocks, out),
        Dtype::Q5K => decode_as::<q5::Q5K, 256, 176>(want, blocks, out),
        Dtype::Q6K => decode_as::<q6_k::Q6K, 256, 210>(want, blocks, out),
        Dtype::Mxfp4Block => decode_as::<mxfp4::Mxfp4Block, 32, 17>(want, blocks, out),
        Dtype::Nvfp4Block => decode_as::<nvfp4::Nvfp4Block, 64, 36>(want, blocks, out),
        _ => return false,
    }
    true
}

/// Whether [`decode`] reads a dtype.
pub(super) fn is_read(dtype: Dtype) -> bool {
    decode(dtype, Want::Values, &[], &mut [])
}

fn encode_as<K: Block<V, B>, const V: usize, const B: usize>(
    part: Values<'_>,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Counts {
    simd::dispatch(Encode::<K, V, B> { part, out, row: &mut scratch.row, block: std::marker::PhantomData })
}

fn decode_as<K: Block<V, B>, const V: usize, const B: usize>(want: Want, blocks: &[u8], out: &mut [f32]) {
    simd::dispatch(Decode::<K, V, B> { want, blocks, out, block: std::marker::PhantomData });
}

struct Encode<'a, K, const V: usize, const B: usize> {
    part: Values<'a>,
    out: &'a mut [u8],
    row: &'a mut Vec<f32>,
    block: std::marker::PhantomData<K>,
}

impl<K: Block<V, B>, const V: usize, const B: usize> Kernel for Encode<'_, K, V, B> {
    type Output = Counts;

    #[inline(always)]
    fn run(self) -> Counts {
        let Self { part, out, row, block: _ } = self;
        let mut counts = Counts::default();
        let (mut blocks, _) = out.as_chunks_mut::<B>();
        for start in (0..part.len()).step_by(CHUNK) {
            row.resize(CHUNK.min(part.len() - start), 0.0);
            part.widen_inline(start, row);
            counts.add_nonfinite(row);
            let (values, _) = row.as_chunks::<V>();
            let (now, later) = std::mem::take(&mut blocks).split_at_mut(values.len());
            K::encode(values, now);
            blocks = later;
        }
        counts
    }
}

struct Decode<'a, K, const V: usize, const B: usize> {
    want: Want,
    blocks: &'a [u8],
    out: &'a mut [f32],
    block: std::marker::PhantomData<K>,
}

impl<K: Block<V, B>, const V: usize, const B: usize> Kernel for Decode<'_, K, V, B> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (blocks, _) = self.blocks.as_chunks::<B>();
        let (out, _) = self.out.as_chunks_mut::<V>();
        for (block, out) in blocks.iter().zip(out) {
            match self.want {
                Want::Values => K::decode(block, out),
                Want::Steps => K::steps(block, out),
            }
        }
    }
}

/// The nibbles of 16 bytes as 32 codes: low ones first, then high ones.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    let (low, high) = codes.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
    codes
}

/// Packs 32 codes below 16 as [`nibbles`] reads them.
#[inline(always)]
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (low, high) = codes.split_at(16);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low | (high << 4);
    }
    bytes
}

/// Codes a block value by value. (Unlike `map` on an array, the loop vectorizes.)
#[inline(always)]
pub(super) fn each<const N: usize>(x: &[f32; N], code: impl Fn(f32) -> u8) -> [u8; N] {
    let mut codes = [0; N];
    for (out, value) in codes.iter_mut().zip(x) {
        *out = code(*value);
    }
    codes
}

/// C's conversion of a float to int on x86: what does not fit is the smallest int.
#[inline(always)]
pub(super) fn truncate(value: f32) -> i32 {
    if value.abs() < 2_147_483_648.0 { value as i32 } else { i32::MIN }
}

/// The whole part of a number that is not negative and below 2^22; 0 of NaN. (A cast also saturates, which costs more.)
#[inline(always)]
pub(super) fn floor(value: f32) -> i32 {
    let raised = value + 8_388_608.0;
    let nearest = raised - 8_388_608.0;
    let whole = (raised.to_bits() & 0x007F_FFFF).cast_signed() - i32::from(nearest > value);
    if value.is_nan() { 0 } else { whole }
}

/// ggml's `nearest_int`: half to even by adding 1.5 * 2^23.
#[inline(always)]
pub(super) fn nearest(value: f32) -> i32 {
    ((value + 12_582_912.0).to_bits() & 0x007F_FFFF).cast_signed() - 0x0040_0000
}

/// Splits a block whose first `N` bytes are a header.
#[inline(always)]
pub(super) fn split<const B: usize, const N: usize, const R: usize>(block: &[u8; B]) -> (&[u8; N], &[u8; R]) {
    const { assert!(N + R == B) };
    let (head, rest) = block.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
    (head, rest.first_chunk::<R>().unwrap_or(&[0; R]))
}
