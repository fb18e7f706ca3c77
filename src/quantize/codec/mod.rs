//! Encoders and decoders: a weight's values to the bytes of its stored components, and back.
//!
//! Both work on parts, ranges of values in row-major order, into buffers that the caller reuses; nothing is allocated
//! per part once a [`Scratch`] has grown. Where scales depend on the whole weight, a [`Survey`] of all parts comes first.

mod blocks;
mod decoder;
mod encoder;
mod fp4;
mod fp8;
mod int4;
mod int8;
mod mxfp4;
mod nf4;
mod nvfp4;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5;
mod q6_k;
mod q8_0;
mod scaled;

use super::{Arithmetic, Granularity, Scheme};
use crate::Dtype;

pub use decoder::{Decoder, Undecodable, decode};
pub use encoder::{Encoder, Settled, Survey, encode};

/// Working memory of one thread. It grows to what the largest part needs and is reused.
#[derive(Debug, Default)]
pub struct Scratch {
    /// A row or chunk of values, widened.
    row: Vec<f32>,
    /// Codes of a row before they are packed.
    codes: Vec<u8>,
    /// Extremes of a band.
    extremes: scaled::Extremes,
    /// Scales and zero points of a band.
    cells: scaled::Cells,
    /// Zero points of a part, until they are packed.
    zeros: Vec<f32>,
    /// Absmax of every block of a part.
    absmax: Vec<f32>,
}

/// What was counted while values were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Values that are NaN or infinite.
    pub nonfinite: u64,
}

impl Counts {
    /// Adds another part's counts.
    pub fn merge(&mut self, other: Counts) {
        self.nonfinite += other.nonfinite;
    }

    #[inline(always)]
    fn add_nonfinite(&mut self, values: &[f32]) {
        let most = values.iter().fold(0, |most, value| most.max((value.to_bits() & 0x7FFF_FFFF).cast_signed()));
        if most >= 0x7F80_0000 {
            self.nonfinite += values.iter().filter(|value| !value.is_finite()).count() as u64;
        }
    }
}

/// What a decoder is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// The values that the codes stand for.
    Values,
    /// The distance to the code's farther neighbour, negative for a code at the end of its range.
    Steps,
}

/// A step as [`Want::Steps`] has it.
#[inline(always)]
fn step(size: f32, at_end: bool) -> f32 {
    if at_end { -size.abs() } else { size.abs() }
}

/// A weight's shape and dtypes, as a scaled format is bound to it.
struct Bound<'a> {
    shape: &'a [u64],
    contracted: usize,
    dtype: Dtype,
    scale_dtype: Dtype,
    /// Scales along the contracted dimension.
    groups: usize,
}

impl Bound<'_> {
    /// How the scheme's scales lie over the weight.
    fn grid(&self, scheme: &Scheme) -> scaled::Grid {
        let size = |dims: &[u64]| usize::try_from(dims.iter().product::<u64>()).unwrap_or(usize::MAX);
        let columns = self.shape.last().map_or(1, |&last| size(&[last]));
        let rows = size(self.shape) / columns;
        match scheme.granularity {
            Granularity::Tensor => scaled::Grid { rows, columns, high: rows, wide: columns },
            Granularity::Block([high, wide]) => {
                let [high, wide] = [high, wide].map(|side| usize::try_from(side).unwrap_or(usize::MAX));
                scaled::Grid { rows, columns, high: high.min(rows), wide: wide.min(columns) }
            }
            _ => along(self.shape, self.contracted, self.groups),
        }
    }
}

/// The grid of `groups` scales along one dimension. The groups divide it.
fn along(shape: &[u64], contracted: usize, groups: usize) -> scaled::Grid {
    let size = |dims: &[u64]| usize::try_from(dims.iter().product::<u64>()).unwrap_or(usize::MAX);
    let outer = size(shape.get(..contracted).unwrap_or_default());
    let length = size(shape.get(contracted..=contracted).unwrap_or_default());
    let inner = size(shape.get(contracted + 1..).unwrap_or_default());
    if inner == 1 {
        scaled::Grid { rows: outer, columns: length, high: 1, wide: length / groups }
    } else {
        scaled::Grid { rows: outer * length, columns: inner, high: length / groups, wide: 1 }
    }
}

/// The dtype that every result is rounded to: the weight's own for the reference arithmetic.
fn work_dtype(scheme: &Scheme, dtype: Dtype) -> Dtype {
    match (scheme.arithmetic, dtype) {
        (Arithmetic::Reference, Dtype::Bf16 | Dtype::F16) => dtype,
        _ => Dtype::F32,
    }
}

/// The distance from 1 to the next number of a dtype.
fn epsilon(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Bf16 => 0.007_812_5,
        Dtype::F16 => 0.000_976_562_5,
        _ => f32::EPSILON,
    }
}

#[cfg(test)]
mod tests;
