//! Stored numbers as a stream of f32.

use super::cast;
use crate::Dtype;

/// Values of a weight in row-major order, as they are kept in memory or in a file.
///
/// ```
/// use flow_fabric::{Dtype, quantize::Values};
///
/// let bytes = [0x80, 0x3F, 0x00, 0xC0]; // bf16, little endian
/// let values = Values::stored(Dtype::Bf16, &bytes).unwrap();
/// let mut wide = [0.0; 2];
/// values.widen(0, &mut wide);
/// assert_eq!(wide, [1.0, -2.0]);
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// f32 in memory, as a decoder gives them.
    F32(&'a [f32]),
    /// Little-endian numbers of a dtype, as a file has them. Made by [`Values::stored`].
    Stored(Stored<'a>),
}

/// Little-endian numbers of a dtype that [`Values`] can widen.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    dtype: Dtype,
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    /// Takes the bytes of a file. `None` unless `dtype` is a plain float of f64, f32, f16, bf16 or an fp8 type and
    /// `bytes` holds whole elements.
    #[must_use]
    pub fn stored(dtype: Dtype, bytes: &'a [u8]) -> Option<Self> {
        let size = plain_size(dtype)?;
        bytes.len().is_multiple_of(size).then_some(Values::Stored(Stored { dtype, bytes }))
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::Stored(Stored { dtype, bytes }) => bytes.len() / plain_size(*dtype).unwrap_or(1),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the values from `start` on to `out` as f32. f64 rounds to nearest; all else is exact.
    ///
    /// What lies beyond the end is left as it was.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        crate::simd::dispatch(Widen { values: *self, start, out });
    }

    /// As [`Values::widen`], for use within a kernel.
    #[inline(always)]
    pub(crate) fn widen_inline(&self, start: usize, out: &mut [f32]) {
        match *self {
            Values::F32(values) => {
                for (out, value) in out.iter_mut().zip(values.get(start..).unwrap_or_default()) {
                    *out = *value;
                }
            }
            Values::Stored(Stored { dtype, bytes }) => {
                let size = plain_size(dtype).unwrap_or(1);
                let bytes = bytes.get(start.saturating_mul(size)..).unwrap_or_default();
                match dtype {
                    Dtype::Bf16 => each(bytes, out, |raw| cast::from_bf16(u16::from_le_bytes(raw))),
                    Dtype::F16 => each(bytes, out, |raw| cast::from_f16(u16::from_le_bytes(raw))),
                    Dtype::F32 => each(bytes, out, f32::from_le_bytes),
                    Dtype::F64 => each(bytes, out, |raw| f64::from_le_bytes(raw) as f32),
                    Dtype::F8E4m3 => each(bytes, out, |[code]| cast::from_e4m3(code)),
                    Dtype::F8E5m2 => each(bytes, out, |[code]| cast::from_e5m2(code)),
                    Dtype::F8E4m3Fnuz => each(bytes, out, |[code]| cast::from_e4m3fnuz(code)),
                    Dtype::F8E5m2Fnuz => each(bytes, out, |[code]| cast::from_e5m2fnuz(code)),
                    Dtype::F8E8m0 => each(bytes, out, |[code]| cast::from_e8m0(code)),
                    _ => {}
                }
            }
        }
    }
}

/// Bytes of one element of a dtype that is widened one by one.
pub(crate) fn plain_size(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 => Some(8),
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::Bf16 => Some(2),
        Dtype::F8E4m3 | Dtype::F8E5m2 | Dtype::F8E4m3Fnuz | Dtype::F8E5m2Fnuz | Dtype::F8E8m0 => Some(1),
        _ => None,
    }
}

/// Writes `values` to `out` as little-endian numbers of `dtype`: f32, f16, bf16 (rounding to nearest even), f64 or fp8.
///
/// Answers false, writing nothing, for any other dtype or where the lengths differ.
pub fn narrow(values: &[f32], dtype: Dtype, out: &mut [u8]) -> bool {
    if plain_size(dtype).and_then(|size| values.len().checked_mul(size)) != Some(out.len()) {
        return false;
    }
    crate::simd::dispatch(Narrow { values, dtype, out })
}

struct Narrow<'a> {
    values: &'a [f32],
    dtype: Dtype,
    out: &'a mut [u8],
}

impl crate::simd::Kernel for Narrow<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { values, dtype, out } = self;
        match dtype {
            Dtype::F64 => put(values, out, |value| f64::from(value).to_le_bytes()),
            Dtype::F32 => put(values, out, f32::to_le_bytes),
            Dtype::F16 => put(values, out, |value| cast::to_f16(value).to_le_bytes()),
            Dtype::Bf16 => put(values, out, |value| cast::to_bf16(value).to_le_bytes()),
            Dtype::F8E4m3 => put(values, out, |value| [cast::to_e4m3(value)]),
            Dtype::F8E5m2 => put(values, out, |value| [cast::to_e5m2(value)]),
            _ => return false,
        }
        true
    }
}

struct Widen<'a> {
    values: Values<'a>,
    start: usize,
    out: &'a mut [f32],
}

impl crate::simd::Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.values.widen_inline(self.start, self.out);
    }
}

#[inline(always)]
fn each<const N: usize>(bytes: &[u8], out: &mut [f32], widen: impl Fn([u8; N]) -> f32) {
    let (chunks, _) = bytes.as_chunks::<N>();
    for (out, chunk) in out.iter_mut().zip(chunks) {
        *out = widen(*chunk);
    }
}

#[inline(always)]
fn put<const N: usize>(values: &[f32], out: &mut [u8], narrow: impl Fn(f32) -> [u8; N]) {
    let (chunks, _) = out.as_chunks_mut::<N>();
    for (chunk, value) in chunks.iter_mut().zip(values) {
        *chunk = narrow(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_narrows_widens_again() {
        let values: Vec<f32> = (-64..64).map(|i| i as f32 * 0.25).collect();
        for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let mut bytes = vec![0; values.len() * plain_size(dtype).unwrap()];
            assert!(narrow(&values, dtype, &mut bytes));
            let mut back = vec![0.0; values.len()];
            Values::stored(dtype, &bytes).unwrap().widen(0, &mut back);
            assert_eq!(back, values, "{dtype}");
            let mut tail = [0.0; 3];
            Values::stored(dtype, &bytes).unwrap().widen(126, &mut tail);
            assert_eq!(tail, [15.5, 15.75, 0.0], "{dtype}");
        }
        assert!(!narrow(&values, Dtype::I8, &mut [0; 128]));
        assert!(!narrow(&values, Dtype::F32, &mut [0; 128]));
        assert!(Values::stored(Dtype::Q80, &[0; 34]).is_none());
        assert!(Values::stored(Dtype::F32, &[0; 34]).is_none());
    }
}
