//! A file of logits as rows.

use std::ops::Range;

use half::{bf16, f16};

use super::row::Logits;
use crate::Dtype;
use crate::array::Array;

/// Rows of logits in the dtype in which they were stored: `[.., tokens]`, leading dimensions counted as rows.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitTable {
    values: Values,
    shape: Vec<usize>,
    tokens: usize,
    /// The rows that are held, one after the other.
    held: Vec<Range<usize>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

/// Why an array is no table of logits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLogits {
    /// Another dtype than f32, f16 or bf16.
    #[error("{0} values are no logits that are sampled as they are: f32, f16 and bf16 are")]
    Dtype(Dtype),
    /// No dimension of tokens, or none of any row.
    #[error("an array of shape {0:?} holds no row of logits")]
    Shape(Vec<usize>),
}

impl LogitTable {
    /// Takes an array as rows of logits.
    ///
    /// # Errors
    ///
    /// An array of another dtype, or without a row.
    ///
    /// ```
    /// use flow_fabric::{Dtype, array::Array, sample::LogitTable};
    /// let array = Array::from_f64(Dtype::Bf16, vec![2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    /// let table = LogitTable::new(&array).unwrap();
    /// assert_eq!((table.rows(), table.tokens()), (2, 3));
    /// assert_eq!(table.row(1).unwrap().get(0), Some(4.0));
    /// ```
    pub fn new(array: &Array) -> Result<Self, NotLogits> {
        let rows = array.shape().split_last().map_or(0, |(_, before)| before.iter().product());
        Self::of_rows(array, array.shape(), std::slice::from_ref(&(0..rows)))
    }

    /// Takes some rows of an array of that shape, which `array` holds one after the other. The others are not in the table: their
    /// numbers count, and [`LogitTable::row`] is `None` for them.
    ///
    /// # Errors
    ///
    /// As [`LogitTable::new`]; also when the array is not those rows.
    ///
    /// ```
    /// use flow_fabric::{Dtype, array::Array, sample::LogitTable};
    /// let one = Array::from_f64(Dtype::F32, vec![1, 2], &[1.0, 2.0]).unwrap();
    /// let table = LogitTable::of_rows(&one, &[100, 2], &[7..8]).unwrap();
    /// assert_eq!((table.rows(), table.row(7).unwrap().get(1)), (100, Some(2.0)));
    /// assert!(table.row(6).is_none());
    /// ```
    pub fn of_rows(array: &Array, shape: &[usize], held: &[Range<usize>]) -> Result<Self, NotLogits> {
        let shape = shape.to_vec();
        let tokens = shape.last().copied().unwrap_or(0);
        let elements = held.iter().try_fold(0_usize, |sum, rows| sum.checked_add(rows.len().checked_mul(tokens)?));
        if array.is_empty() || tokens == 0 || elements != Some(array.len()) {
            return Err(NotLogits::Shape(shape));
        }
        let bytes = array.bytes();
        let halves = || bytes.as_chunks::<2>().0.iter();
        let values = match array.dtype() {
            Dtype::F32 => Values::F32(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()),
            Dtype::F16 => Values::F16(halves().map(|two| f16::from_le_bytes(*two)).collect()),
            Dtype::Bf16 => Values::Bf16(halves().map(|two| bf16::from_le_bytes(*two)).collect()),
            other => return Err(NotLogits::Dtype(other)),
        };
        Ok(Self { values, shape, tokens, held: held.to_vec() })
    }

    /// Number of rows, whether they are held or not.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(0, |(_, before)| before.iter().product())
    }

    /// Tokens of a row.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// The dimensions, rows and tokens.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The dtype.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::F16(_) => Dtype::F16,
            Values::Bf16(_) => Dtype::Bf16,
        }
    }

    /// One row.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<Logits<'_>> {
        let mut before = 0;
        let rows = self.held.iter().find(|rows| {
            let found = rows.contains(&row);
            before += if found { 0 } else { rows.len() };
            found
        })?;
        let start = (before + row - rows.start).checked_mul(self.tokens)?;
        let part = start..start.checked_add(self.tokens)?;
        Some(match &self.values {
            Values::F32(values) => Logits::F32(values.get(part)?),
            Values::F16(values) => Logits::F16(values.get(part)?),
            Values::Bf16(values) => Logits::Bf16(values.get(part)?),
        })
    }
}
