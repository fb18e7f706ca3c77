//! Small dense arrays in files: logits, layer inputs and outputs, reference results.
//!
//! For tensors that are read whole: a row of logits, a layer's input. Checkpoints, which are not, are an
//! [`Inventory`](crate::inventory::Inventory).

mod file;
pub(crate) mod npy;

use half::{bf16, f16};

pub use file::{ArrayError, ArrayFile, MAX_BYTES, read, write_npy, write_safetensors};

use crate::Dtype;

/// A dense array: row-major, little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// Makes an array of bytes that are as many as dtype and shape say; `None` when they are not.
    #[must_use]
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Option<Self> {
        (bytes_of(dtype, &shape)? == bytes.len()).then_some(Self { dtype, shape, bytes })
    }

    /// Makes an array of numbers, rounded to `dtype`. `None` when they are not as many as the shape says, or when the
    /// dtype is not one of f64, f32, bf16, f16, i32, u32.
    #[must_use]
    pub fn from_f64(dtype: Dtype, shape: Vec<usize>, values: &[f64]) -> Option<Self> {
        fn encode<const N: usize>(values: &[f64], one: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
            values.iter().flat_map(|&value| one(value)).collect()
        }
        let bytes = match dtype {
            Dtype::F64 => encode(values, f64::to_le_bytes),
            Dtype::F32 => encode(values, |value| (value as f32).to_le_bytes()),
            Dtype::Bf16 => encode(values, |value| round_bf16(value).to_le_bytes()),
            Dtype::F16 => encode(values, |value| round_f16(value).to_le_bytes()),
            Dtype::I32 => encode(values, |value| (value as i32).to_le_bytes()),
            Dtype::U32 => encode(values, |value| (value as u32).to_le_bytes()),
            _ => return None,
        };
        Self::new(dtype, shape, bytes)
    }

    /// Element type.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Dimensions, slowest first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements' bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a dimension is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as f64, exact for all but 64-bit integers. `None` for packed types and complex numbers.
    #[must_use]
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        fn decode<const N: usize>(bytes: &[u8], one: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| one(*chunk)).collect()
        }
        let bytes = &self.bytes;
        Some(match self.dtype {
            Dtype::F64 => decode(bytes, f64::from_le_bytes),
            Dtype::F32 => decode(bytes, |chunk| f32::from_le_bytes(chunk).into()),
            Dtype::F16 => decode(bytes, |chunk| f16::from_le_bytes(chunk).into()),
            Dtype::Bf16 => decode(bytes, |chunk| bf16::from_le_bytes(chunk).into()),
            Dtype::I64 => decode(bytes, |chunk| i64::from_le_bytes(chunk) as f64),
            Dtype::I32 => decode(bytes, |chunk| i32::from_le_bytes(chunk).into()),
            Dtype::I16 => decode(bytes, |chunk| i16::from_le_bytes(chunk).into()),
            Dtype::I8 => decode(bytes, |chunk| i8::from_le_bytes(chunk).into()),
            Dtype::U64 => decode(bytes, |chunk| u64::from_le_bytes(chunk) as f64),
            Dtype::U32 => decode(bytes, |chunk| u32::from_le_bytes(chunk).into()),
            Dtype::U16 => decode(bytes, |chunk| u16::from_le_bytes(chunk).into()),
            Dtype::U8 | Dtype::Bool => decode(bytes, |chunk: [u8; 1]| chunk[0].into()),
            _ => return None,
        })
    }

    /// The elements as f32, where that is exact: f32, f16 and bf16.
    #[must_use]
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
            .then(|| self.to_f64().unwrap_or_default().into_iter().map(|value| value as f32).collect())
    }

    /// The elements as token ids; `None` for a dtype that is not an integer or a value that is no id.
    #[must_use]
    pub fn to_tokens(&self) -> Option<Vec<u32>> {
        let integer = matches!(
            self.dtype,
            Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U64 | Dtype::U32 | Dtype::U16 | Dtype::U8
        );
        // Ids are below 2^32, so f64 holds each of them exactly.
        let id = |value: f64| (0.0..4_294_967_296.0).contains(&value).then_some(value as u32);
        if integer { self.to_f64()?.into_iter().map(id).collect() } else { None }
    }
}

/// Rounds to the nearest bf16, ties to even, once. (`bf16::from_f64` drops the lower half of the number first.)
#[must_use]
pub fn round_bf16(value: f64) -> bf16 {
    bf16::from_f32(round_to_odd(value))
}

/// Rounds to the nearest f16, ties to even, once.
#[must_use]
pub fn round_f16(value: f64) -> f16 {
    f16::from_f32(round_to_odd(value))
}

/// The f32 next to a number that has an odd last bit, unless an f32 is equal to it.
///
/// Rounding that to fewer bits gives what rounding the number itself would give (Boldo and Melquiond, 2008).
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    if back == value || value.is_nan() {
        return nearest;
    }
    let toward_zero = nearest.to_bits() - u32::from(back.abs() > value.abs());
    f32::from_bits(toward_zero | 1)
}

/// Bytes that an array takes, `None` on overflow or for types that do not fill whole bytes.
fn bytes_of(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size as u64))?;
    usize::try_from(dtype.bytes_for(elements)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_through_every_written_dtype() {
        let values = [0.0, 1.5, -2.0, 7.0];
        for dtype in [Dtype::F64, Dtype::F32, Dtype::Bf16, Dtype::F16] {
            let array = Array::from_f64(dtype, vec![2, 2], &values).unwrap();
            assert_eq!(array.to_f64().unwrap(), values, "{dtype}");
        }
        assert_eq!(Array::from_f64(Dtype::U32, vec![2], &[3.0, 9.0]).unwrap().to_tokens(), Some(vec![3, 9]));
        assert_eq!(Array::from_f64(Dtype::I32, vec![1], &[-1.0]).unwrap().to_tokens(), None);
        assert_eq!(Array::from_f64(Dtype::F32, vec![3], &values), None);
        assert_eq!(Array::new(Dtype::F32, vec![usize::MAX, 8], Vec::new()), None);
    }

    /// `1 + 2^-8 + 2^-30` lies above the middle of two bf16 numbers; through f32 it would become the middle.
    #[test]
    fn bf16_is_rounded_once() {
        assert_eq!(round_bf16(1.0 + (-8_f64).exp2() + (-30_f64).exp2()).to_f64(), 1.0 + (-7_f64).exp2());
        assert_eq!(round_bf16(1.0 + (-8_f64).exp2()).to_f64(), 1.0);
        assert_eq!(round_bf16(-1.0 - (-8_f64).exp2() - (-40_f64).exp2()).to_f64(), -1.0 - (-7_f64).exp2());
        assert_eq!(round_f16(1.0 + (-11_f64).exp2() + (-45_f64).exp2()).to_f64(), 1.0 + (-10_f64).exp2());
        assert_eq!(round_bf16(1e300).to_f64(), f64::INFINITY);
        assert_eq!(round_bf16(f64::MAX).to_f64(), f64::INFINITY);
        assert_eq!(round_bf16(1e-300).to_f64(), 0.0);
        assert!(round_bf16(f64::NAN).is_nan());
        assert_eq!(round_bf16(f64::NEG_INFINITY).to_f64(), f64::NEG_INFINITY);
        for bits in 0..=u16::MAX {
            let exact = bf16::from_bits(bits);
            assert!(exact.is_nan() || round_bf16(exact.to_f64()) == exact);
        }
    }
}
