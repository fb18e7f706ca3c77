//! What goes in and what comes out.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::config::StageKind;
use super::stream::Position;

/// Logits of one row, in the model's dtype. They are widened, which is exact; nothing is computed in 16 bits.
#[derive(Debug, Clone, Copy)]
pub enum Logits<'a> {
    /// f32.
    F32(&'a [f32]),
    /// f16.
    F16(&'a [f16]),
    /// bf16.
    Bf16(&'a [bf16]),
}

impl Logits<'_> {
    /// Number of tokens.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Logits::F32(values) => values.len(),
            Logits::F16(values) => values.len(),
            Logits::Bf16(values) => values.len(),
        }
    }

    /// Whether there are no tokens at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The logit of a token, if there is such a token.
    #[must_use]
    pub fn get(&self, token: u32) -> Option<f32> {
        let index = token as usize;
        match self {
            Logits::F32(values) => values.get(index).copied(),
            Logits::F16(values) => values.get(index).map(|value| value.to_f32()),
            Logits::Bf16(values) => values.get(index).map(|value| value.to_f32()),
        }
    }

    /// Replaces `into` by the logits, widened.
    pub(crate) fn widen(&self, into: &mut Vec<f32>) {
        into.clear();
        match self {
            Logits::F32(values) => into.extend_from_slice(values),
            Logits::F16(values) => {
                into.resize(values.len(), 0.0);
                values.convert_to_f32_slice(into);
            }
            // By its bits: `to_f32` quiets a NaN, which costs a branch per value and changes nothing here.
            Logits::Bf16(values) => {
                into.extend(values.iter().map(|value| f32::from_bits(u32::from(value.to_bits()) << 16)));
            }
        }
    }
}

/// One row to sample: logits, the tokens before it, and its place in the random stream.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The model's logits, one per token id.
    pub logits: Logits<'a>,
    /// Tokens of the prompt.
    pub prompt: &'a [u32],
    /// Tokens drawn so far.
    pub output: &'a [u32],
    /// The request's seed; the profile's when there is none.
    pub seed: Option<u64>,
    /// Which of several streams of one seed.
    pub slot: u64,
    /// The step in its stream, usually the number of tokens drawn so far.
    pub step: u64,
}

impl<'a> Row<'a> {
    /// A row without history, at step 0 of slot 0.
    #[must_use]
    pub const fn new(logits: Logits<'a>) -> Self {
        Self { logits, prompt: &[], output: &[], seed: None, slot: 0, step: 0 }
    }

    pub(crate) fn position(&self, seed: u64) -> Position {
        Position { seed: self.seed.unwrap_or(seed), slot: self.slot, step: self.step }
    }
}

/// The token that was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Its id.
    pub token: u32,
    /// Its probability among the tokens that were left.
    pub probability: f64,
    /// Its log-probability at the stage that `logprobs` names.
    pub logprob: f64,
    /// How many tokens were left.
    pub kept: usize,
    /// By how much it won: noise plus logit of this token minus the same of the runner-up; infinite when it was alone.
    ///
    /// Two kernels whose logits differ by less than half of this draw the same token.
    pub gap: f64,
    /// Whether the row was invalid and `on_invalid = "greedy"` chose.
    pub fallback: bool,
}

/// A token with what the sampler made of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub token: u32,
    /// Its score after the last stage (the logit itself in a raw report).
    pub score: f64,
    /// Its probability.
    pub probability: f64,
    /// The logarithm of that.
    pub logprob: f64,
}

/// Why a row has no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The row has no logits, or more than there are token ids.
    #[error("a row of {tokens} logits")]
    Length {
        /// How many.
        tokens: usize,
    },
    /// A token that is allowed has a score that has no place in an order.
    #[error("{nan} NaN and {infinite} +inf among {tokens} scores, the first at token {first}")]
    Invalid {
        /// How many are NaN.
        nan: usize,
        /// How many are +inf.
        infinite: usize,
        /// How many tokens are masked (-inf).
        masked: usize,
        /// How many there are.
        tokens: usize,
        /// The first NaN or +inf.
        first: u32,
    },
    /// Every token is masked.
    #[error("no token left: {masked} of {tokens} are masked")]
    NoSurvivor {
        /// How many tokens are masked (-inf) or removed.
        masked: usize,
        /// How many there are.
        tokens: usize,
    },
    /// A token id beyond the row.
    #[error("`{what}` names token {token}, the row has {tokens}")]
    Token {
        /// Where the id stands.
        what: &'static str,
        /// The id.
        token: u32,
        /// How many tokens there are.
        tokens: usize,
    },
}

/// What a row went through.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// One entry per stage, in order.
    pub steps: Vec<TraceStep>,
}

/// What a stage left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceStep {
    /// The stage.
    pub stage: StageKind,
    /// How many tokens are left after it.
    pub kept: usize,
    /// The smallest score that is left, as scaled so far.
    pub cut: f64,
    /// The score of the token that was asked about, `None` once it is removed.
    pub token: Option<f64>,
}

impl Trace {
    /// The stage that removed the token asked about; `None` when it survived them all.
    #[must_use]
    pub fn removed_by(&self) -> Option<StageKind> {
        self.steps.iter().find(|step| step.token.is_none()).map(|step| step.stage)
    }
}
