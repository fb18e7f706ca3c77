//! A kernel's result beside the reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evaluate::Evaluation;
use crate::sample::words;

words! {
    /// How far a result of some arithmetic may be from the exact one. Sources: the test suites of DeepGEMM and Triton.
    ToleranceKind:
    F32 "f32" "f32 throughout: 1e-4 and 1e-5 of the scale, similarity 1e-9.";
    Bf16 "bf16" "bf16 values, f32 sums: 2e-2 and 4e-3 of the scale, similarity 1e-5.";
    Int8 "int8" "int8 weights or activations: similarity 1e-3.";
    Fp8 "fp8" "fp8 weights or activations: similarity 1e-3.";
    Fp4 "fp4" "One operand in 4 bits: similarity 1e-2.";
}

/// What a comparison must stay under. A limit that is `None` is not held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tolerance {
    /// For the largest of `|error| / max(rms, |reference|)`.
    pub max_error: Option<f64>,
    /// For the root mean square of that.
    pub rms_error: Option<f64>,
    /// For `1 - 2 <x, y> / (<x, x> + <y, y>)`.
    pub dissimilarity: f64,
}

impl ToleranceKind {
    /// The limits meant.
    #[must_use]
    pub fn limits(self) -> Tolerance {
        let scale = |max_error, rms_error, dissimilarity| Tolerance {
            max_error: Some(max_error),
            rms_error: Some(rms_error),
            dissimilarity,
        };
        let angle = |dissimilarity| Tolerance { max_error: None, rms_error: None, dissimilarity };
        match self {
            ToleranceKind::F32 => scale(1e-4, 1e-5, 1e-9),
            ToleranceKind::Bf16 => scale(2e-2, 4e-3, 1e-5),
            ToleranceKind::Int8 | ToleranceKind::Fp8 => angle(1e-3),
            ToleranceKind::Fp4 => angle(1e-2),
        }
    }
}

/// Upper ends of the histogram's buckets, in bf16 ulp of `max(rms, |reference|)`; a last bucket holds the rest.
pub const ULP_BUCKETS: [f64; 7] = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 64.0];

/// How a result differs from a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Number of elements.
    pub elements: usize,
    /// Root mean square of the reference.
    pub rms: f64,
    /// The largest of `|error| / max(rms, |reference|)`, NaN left out.
    pub max_error: f64,
    /// Where that is.
    pub worst: usize,
    /// Root mean square of `|error| / max(rms, |reference|)`.
    pub rms_error: f64,
    /// `1 - 2 <x, y> / (<x, x> + <y, y>)`: 0 for equal arrays, 1 for orthogonal ones.
    pub dissimilarity: f64,
    /// Elements by distance in bf16 ulp: up to each of [`ULP_BUCKETS`], and beyond.
    pub ulps: [usize; ULP_BUCKETS.len() + 1],
    /// Elements that are NaN or infinite on one side only, or infinite with different signs.
    pub unequal_non_finite: usize,
}

impl Comparison {
    /// Compares two arrays of one length; `None` when the lengths differ.
    ///
    /// ```
    /// use flow_fabric::moe::{Comparison, ToleranceKind};
    /// let reference = [1.0, -2.0, 0.5];
    /// let comparison = Comparison::of(&[1.0, -2.0, 0.505], &reference).unwrap();
    /// assert_eq!(comparison.worst, 2);
    /// assert!(comparison.within(&ToleranceKind::Bf16.limits()));
    /// assert!(!comparison.within(&ToleranceKind::F32.limits()));
    /// ```
    #[must_use]
    pub fn of(result: &[f64], reference: &[f64]) -> Option<Self> {
        if result.len() != reference.len() {
            return None;
        }
        let finite = reference.iter().filter(|value| value.is_finite());
        let rms = (finite.clone().map(|value| value * value).sum::<f64>() / finite.count().max(1) as f64).sqrt();
        let mut comparison = Self {
            elements: reference.len(),
            rms,
            max_error: 0.0,
            worst: 0,
            rms_error: 0.0,
            dissimilarity: 0.0,
            ulps: [0; ULP_BUCKETS.len() + 1],
            unequal_non_finite: 0,
        };
        let (mut squares, mut product, mut norms) = (0.0, 0.0, 0.0);
        for (at, (&x, &y)) in result.iter().zip(reference).enumerate() {
            if !(x.is_finite() && y.is_finite()) {
                comparison.unequal_non_finite += usize::from(!(x == y || x.is_nan() && y.is_nan()));
                continue;
            }
            let scale = y.abs().max(rms);
            let error = if x == y { 0.0 } else { (x - y).abs() / scale };
            if error > comparison.max_error {
                (comparison.max_error, comparison.worst) = (error, at);
            }
            squares += error * error;
            product += x * y;
            norms += x * x + y * y;
            let ulps = if x == y { 0.0 } else { (x - y).abs() / bf16_ulp(scale) };
            let bucket = ULP_BUCKETS.iter().position(|&end| ulps <= end).unwrap_or(ULP_BUCKETS.len());
            comparison.ulps[bucket] += 1;
        }
        comparison.rms_error = (squares / reference.len().max(1) as f64).sqrt();
        comparison.dissimilarity = if norms == 0.0 { 0.0 } else { (1.0 - 2.0 * product / norms).max(0.0) };
        Some(comparison)
    }

    /// Whether every limit holds. A NaN or infinity on one side only never does.
    #[must_use]
    pub fn within(&self, tolerance: &Tolerance) -> bool {
        let under = |value: f64, limit: Option<f64>| limit.is_none_or(|limit| value <= limit);
        self.unequal_non_finite == 0
            && under(self.max_error, tolerance.max_error)
            && under(self.rms_error, tolerance.rms_error)
            && self.dissimilarity <= tolerance.dissimilarity
    }
}

/// `2^(floor(log2(scale)) - 7)`.
fn bf16_ulp(scale: f64) -> f64 {
    let exponent = f64::from_bits(scale.to_bits() & 0x7FF0_0000_0000_0000);
    exponent / 128.0
}

/// What became of a token's experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteVerdict {
    /// The same experts, in any order.
    Same,
    /// Others, where the scores that decided are as near as the tolerance: arithmetic may go either way.
    Tie,
    /// Others, where the scores are apart.
    Fault,
}

/// Routes that a kernel chose, beside the reference's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteComparison {
    /// One verdict per token.
    pub verdicts: Vec<RouteVerdict>,
}

impl RouteComparison {
    /// Compares `[tokens, top_k]` expert ids with an evaluation's. Two scores nearer than `tie` could go either way.
    ///
    /// `None` when the number of ids differs, or one is not an expert.
    #[must_use]
    pub fn of(ids: &[u32], evaluation: &Evaluation, tie: f64) -> Option<Self> {
        let routing = &evaluation.routing;
        let tokens = evaluation.tokens;
        if ids.len() != routing.ids.len() || tokens == 0 {
            return (ids.len() == routing.ids.len()).then(|| Self { verdicts: Vec::new() });
        }
        let (k, experts) = (ids.len() / tokens, routing.choice.len() / tokens);
        if ids.iter().any(|&id| id as usize >= experts) {
            return None;
        }
        let verdict = |token: usize| {
            let (theirs, ours) = (&ids[token * k..][..k], &routing.ids[token * k..][..k]);
            let score = |id: &u32| routing.choice[token * experts + *id as usize];
            let mut distinct = theirs.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            if distinct.len() != k {
                return RouteVerdict::Fault;
            }
            let extra = theirs.iter().filter(|id| !ours.contains(id)).map(score).fold(f64::INFINITY, f64::min);
            let missed = ours.iter().filter(|id| !theirs.contains(id)).map(score).fold(f64::NEG_INFINITY, f64::max);
            // Of those exchanged, the best that was missed against the worst that was taken. Where groups decide, the
            // scores of single experts do not tell: the token's gap does.
            if missed == f64::NEG_INFINITY {
                RouteVerdict::Same
            } else if missed - extra <= tie || routing.gaps[token] <= tie {
                RouteVerdict::Tie
            } else {
                RouteVerdict::Fault
            }
        };
        Some(Self { verdicts: (0..tokens).map(verdict).collect() })
    }

    /// How many tokens have a verdict.
    #[must_use]
    pub fn count(&self, verdict: RouteVerdict) -> usize {
        self.verdicts.iter().filter(|other| **other == verdict).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_arrays_have_no_distance() {
        let values = [1.5, -3.0, 0.0, f64::NAN, f64::INFINITY];
        let comparison = Comparison::of(&values, &values).unwrap();
        assert_eq!((comparison.max_error, comparison.dissimilarity, comparison.unequal_non_finite), (0.0, 0.0, 0));
        assert_eq!(comparison.ulps, [3, 0, 0, 0, 0, 0, 0, 0]);
        assert!(comparison.within(&ToleranceKind::F32.limits()));
        assert!(Comparison::of(&values, &values[1..]).is_none());
        assert!(Comparison::of(&[0.0; 4], &[0.0; 4]).unwrap().within(&ToleranceKind::F32.limits()));
    }

    #[test]
    fn a_nan_on_one_side_fails_every_tolerance() {
        for (x, y) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, f64::NEG_INFINITY), (f64::INFINITY, 1.0)] {
            let comparison = Comparison::of(&[x, 2.0], &[y, 2.0]).unwrap();
            assert_eq!(comparison.unequal_non_finite, 1);
            assert!(ToleranceKind::ALL.iter().all(|kind| !comparison.within(&kind.limits())));
        }
    }

    /// An absolute tolerance passes this: the values are tiny, and all of them have the wrong sign.
    #[test]
    fn small_values_are_judged_by_their_own_scale() {
        let reference = [1e-6, -2e-6, 3e-6];
        let flipped = reference.map(|value| -value);
        let comparison = Comparison::of(&flipped, &reference).unwrap();
        assert!((comparison.dissimilarity - 2.0).abs() < 1e-12);
        assert!(ToleranceKind::ALL.iter().all(|kind| !comparison.within(&kind.limits())));
    }

    #[test]
    fn distances_fall_into_buckets_of_ulp() {
        assert_eq!(bf16_ulp(1.0), (-7_f64).exp2());
        assert_eq!(bf16_ulp(1.99), (-7_f64).exp2());
        assert_eq!(bf16_ulp(2.0), (-6_f64).exp2());
        let ulp = (-7_f64).exp2();
        let reference = [1.0; 6];
        let result = [1.0, 1.0 + ulp / 2.0, 1.0 - ulp, 1.0 + 3.0 * ulp, 1.0 + 50.0 * ulp, 3.0];
        assert_eq!(Comparison::of(&result, &reference).unwrap().ulps, [1, 1, 1, 0, 1, 0, 1, 1]);
    }
}
