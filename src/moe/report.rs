//! What an evaluation and a comparison come to, as people and other programs read it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compare::{Comparison, RouteComparison, RouteVerdict, Tolerance, ToleranceKind};
use super::evaluate::{Evaluation, Evaluator};
use super::layer::MoeLayer;
use crate::Dtype;

/// What the `format` key of a report says.
pub const MOE_FORMAT: &str = "flow-fabric/moe";

/// What a layer made of an input, and how a kernel's result compares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "flow-fabric moe")]
pub struct MoeReport {
    /// Always `flow-fabric/moe`.
    #[schemars(extend("const" = MOE_FORMAT))]
    pub format: String,
    /// Version of this shape; additions do not raise it.
    #[schemars(extend("const" = 1))]
    pub format_version: u32,
    /// `exact` or `rounded`.
    pub evaluator: Evaluator,
    /// Tokens of the input.
    pub tokens: usize,
    /// Width of the input and the output.
    pub hidden: usize,
    /// Width between the projections of an expert.
    pub inner: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts per token.
    pub top_k: usize,
    /// Dtype of the output.
    pub dtype: Dtype,
    /// Root mean square of the output.
    pub rms: f64,
    /// How many tokens chose each expert.
    pub tokens_per_expert: Vec<u64>,
    /// By how little the last chosen expert of a token beat the first that was not; null where every expert is chosen.
    pub min_route_gap: Option<RouteGap>,
    /// Tokens whose choice is an exact tie, decided for the lower expert.
    pub exact_ties: usize,
    /// How a result compares with the output, on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ComparisonReport")]
    pub comparison: Option<ComparisonReport>,
    /// How routes compare, on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RouteReport")]
    pub routes: Option<RouteReport>,
}

/// The closest choice of all tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouteGap {
    /// The token.
    pub token: usize,
    /// The gap, in the scores that experts are chosen by.
    pub gap: f64,
}

/// A result beside the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparisonReport {
    /// The tolerance asked for.
    pub tolerance: ToleranceKind,
    /// Its limits.
    pub limits: Tolerance,
    /// Whether every limit holds.
    pub within: bool,
    /// Tokens that were left out, as a tie of theirs went the other way.
    pub tokens_left_out: usize,
    /// Token and feature of the largest error.
    pub worst: [usize; 2],
    /// The result there; null where it is not a finite number.
    pub result: Option<f64>,
    /// The reference there; null where it is not a finite number.
    pub reference: Option<f64>,
    /// The figures.
    pub figures: Comparison,
}

/// Routes beside the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouteReport {
    /// Scores that are as near as this may go either way.
    pub tie: f64,
    /// Tokens with the same experts.
    pub same: usize,
    /// Tokens with other experts, where scores tie.
    pub ties: usize,
    /// Tokens with other experts, where scores are apart.
    pub faults: Vec<usize>,
}

impl MoeReport {
    /// Says what an evaluation came to.
    #[must_use]
    pub fn new(layer: &MoeLayer, evaluator: Evaluator, evaluation: &Evaluation) -> Self {
        let routing = &evaluation.routing;
        let mut tokens_per_expert = vec![0; layer.experts()];
        for &id in &routing.ids {
            if let Some(tokens) = tokens_per_expert.get_mut(id as usize) {
                *tokens += 1;
            }
        }
        let gaps = routing.gaps.iter().copied().enumerate().filter(|(_, gap)| gap.is_finite());
        let smallest = gaps.min_by(|(_, a), (_, b)| a.total_cmp(b));
        let squares: f64 = evaluation.output.iter().map(|value| value * value).sum();
        Self {
            format: MOE_FORMAT.to_owned(),
            format_version: 1,
            evaluator,
            tokens: evaluation.tokens,
            hidden: evaluation.hidden,
            inner: evaluation.inner,
            experts: layer.experts(),
            top_k: layer.top_k(),
            dtype: evaluation.dtype,
            rms: (squares / evaluation.output.len().max(1) as f64).sqrt(),
            tokens_per_expert,
            min_route_gap: smallest.map(|(token, gap)| RouteGap { token, gap }),
            exact_ties: routing.gaps.iter().filter(|gap| **gap == 0.0).count(),
            comparison: None,
            routes: None,
        }
    }

    /// Adds how a result compares: `[tokens, hidden]` values. False when there are not as many.
    ///
    /// Tokens whose routes are known to have gone the other way at a tie are left out: both outputs are right.
    pub fn compare(
        &mut self,
        result: &[f64],
        evaluation: &Evaluation,
        tolerance: ToleranceKind,
        routes: Option<&RouteComparison>,
    ) -> bool {
        if result.len() != evaluation.output.len() {
            return false;
        }
        let tied = |token: usize| routes.is_some_and(|routes| routes.verdicts.get(token) == Some(&RouteVerdict::Tie));
        let kept: Vec<usize> = (0..evaluation.tokens).filter(|&token| !tied(token)).collect();
        let width = evaluation.hidden;
        let rows = |values: &[f64]| -> Vec<f64> {
            kept.iter().flat_map(|&token| values.iter().skip(token * width).take(width)).copied().collect()
        };
        let (ours, theirs) = (rows(&evaluation.output), rows(result));
        let Some(figures) = Comparison::of(&theirs, &ours) else { return false };
        let limits = tolerance.limits();
        let finite = |values: &[f64]| values.get(figures.worst).copied().filter(|value| value.is_finite());
        self.comparison = Some(ComparisonReport {
            tolerance,
            within: figures.within(&limits),
            limits,
            tokens_left_out: evaluation.tokens - kept.len(),
            worst: [
                kept.get(figures.worst.checked_div(width).unwrap_or(0)).copied().unwrap_or(0),
                figures.worst.checked_rem(width).unwrap_or(0),
            ],
            result: finite(&theirs),
            reference: finite(&ours),
            figures,
        });
        true
    }

    /// Adds how routes compare.
    pub fn compare_routes(&mut self, routes: &RouteComparison, tie: f64) {
        let faults = routes.verdicts.iter().enumerate().filter(|(_, verdict)| **verdict == RouteVerdict::Fault);
        self.routes = Some(RouteReport {
            tie,
            same: routes.count(RouteVerdict::Same),
            ties: routes.count(RouteVerdict::Tie),
            faults: faults.map(|(token, _)| token).collect(),
        });
    }

    /// Whether everything that was compared holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.comparison.as_ref().is_none_or(|comparison| comparison.within)
            && self.routes.as_ref().is_none_or(|routes| routes.faults.is_empty())
    }
}
