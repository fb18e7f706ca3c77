//! The two precisions: f64 without roundings, f32 with them.

use half::f16;
use ndarray::LinalgScalar;

use super::config::Round;
use crate::Dtype;
use crate::array::{round_bf16, round_f16};

/// What an evaluator computes in.
pub(crate) trait Number: LinalgScalar + PartialOrd + Send + Sync {
    /// Whether named roundings happen.
    const ROUNDS: bool;

    fn from_f64(value: f64) -> Self;
    fn from_f32(value: f32) -> Self;
    fn to_f64(self) -> f64;
}

impl Number for f64 {
    const ROUNDS: bool = false;

    fn from_f64(value: f64) -> Self {
        value
    }

    fn from_f32(value: f32) -> Self {
        value.into()
    }

    fn to_f64(self) -> f64 {
        self
    }
}

impl Number for f32 {
    const ROUNDS: bool = true;

    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn from_f32(value: f32) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Round {
    /// The dtype meant, given the input's.
    pub(crate) fn dtype(self, input: Dtype) -> Option<Dtype> {
        match self {
            Round::None => None,
            Round::Input => Some(input),
            Round::Bf16 => Some(Dtype::Bf16),
            Round::F16 => Some(Dtype::F16),
            Round::F32 => Some(Dtype::F32),
        }
    }
}

/// Rounds to a dtype, once and to nearest even. Dtypes that a layer's values never have leave the number alone.
pub(crate) fn round_to(dtype: Option<Dtype>, value: f64) -> f64 {
    match dtype {
        Some(Dtype::Bf16) => round_bf16(value).to_f64(),
        Some(Dtype::F16) => f16::to_f64(round_f16(value)),
        Some(Dtype::F32) => f64::from(value as f32),
        _ => value,
    }
}

/// Rounds at a named place: only where the evaluator rounds at all.
pub(crate) fn round_at<N: Number>(dtype: Option<Dtype>, value: N) -> N {
    match dtype {
        Some(dtype) if N::ROUNDS => N::from_f64(round_to(Some(dtype), value.to_f64())),
        _ => value,
    }
}

/// [`round_at`] over a whole array.
pub(crate) fn round_all<N: Number>(dtype: Option<Dtype>, values: &mut [N]) {
    if N::ROUNDS && matches!(dtype, Some(Dtype::Bf16 | Dtype::F16)) {
        values.iter_mut().for_each(|value| *value = round_at(dtype, *value));
    }
}
