//! Which experts a token goes through, and with what weight.

use std::cmp::Ordering;

use super::activation::sigmoid;
use super::config::{GroupScore, Normalize, Round, Score};
use super::evaluate::MoeError;
use super::geometry::Geometry;
use super::layer::MoeLayer;
use super::number::{Number, round_at, round_to};
use super::product::project;
use super::weights::WeightSource;
use crate::Dtype;
use crate::sample::math::exp_non_positive;

/// The routes of all tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// `[tokens, experts]`: the router's logits.
    pub logits: Vec<f64>,
    /// `[tokens, experts]`: the scores, over all experts.
    pub probabilities: Vec<f64>,
    /// `[tokens, experts]`: what experts are chosen by: the scores with the choice bias.
    pub choice: Vec<f64>,
    /// `[tokens, top_k]`: the chosen experts, best first, ties by the lower id.
    pub ids: Vec<u32>,
    /// `[tokens, top_k]`: their weights.
    pub weights: Vec<f64>,
    /// `[tokens]`: by how much the last chosen expert (or group) beat the first that was not; infinite when all are.
    pub gaps: Vec<f64>,
}

impl Routing {
    /// The smallest gap of all tokens.
    #[must_use]
    pub fn min_gap(&self) -> f64 {
        self.gaps.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Routes every token of `[tokens, hidden]` activations.
pub(crate) fn route<N: Number>(
    layer: &MoeLayer,
    geometry: &Geometry,
    source: &dyn WeightSource,
    activations: &[N],
    input: Dtype,
) -> Result<Routing, MoeError> {
    let mut logits = project(activations, &geometry.router, 0, source, (Round::None, input))?;
    let bias = geometry.router_bias.as_ref().map(|bias| bias.read(source, 0)).transpose()?;
    let logits_dtype = layer.rounding.router_logits.dtype(input);
    for row in logits.chunks_mut(layer.experts) {
        for (expert, logit) in row.iter_mut().enumerate() {
            let bias = bias.as_ref().map_or(N::zero(), |bias| N::from_f32(bias[expert]));
            *logit = round_at(logits_dtype, *logit + bias);
        }
    }
    let selection_bias = match &geometry.selection_bias {
        Some(bias) => bias.read(source, 0)?,
        None => vec![0.0; layer.experts],
    };
    let tokens = logits.len() / layer.experts;
    let mut routing = Routing {
        logits: logits.iter().map(|logit| logit.to_f64()).collect(),
        probabilities: Vec::with_capacity(logits.len()),
        choice: Vec::with_capacity(logits.len()),
        ids: Vec::with_capacity(tokens * layer.top_k),
        weights: Vec::with_capacity(tokens * layer.top_k),
        gaps: Vec::with_capacity(tokens),
    };
    // Weights and scores are never kept in less than f32 by the rounded evaluator, nor in more.
    let at_least = |round: Round| if N::ROUNDS { round.dtype(input).or(Some(Dtype::F32)) } else { None };
    let mut router = Router {
        layer,
        probabilities: at_least(layer.rounding.probabilities),
        weights: at_least(layer.rounding.routing_weights),
        selection_bias: &selection_bias,
        routing: &mut routing,
    };
    for token in 0..tokens {
        router.token(token)?;
    }
    Ok(routing)
}

struct Router<'a> {
    layer: &'a MoeLayer,
    probabilities: Option<Dtype>,
    weights: Option<Dtype>,
    selection_bias: &'a [f32],
    routing: &'a mut Routing,
}

impl Router<'_> {
    fn token(&mut self, token: usize) -> Result<(), MoeError> {
        let layer = self.layer;
        let logits = &self.routing.logits[token * layer.experts..][..layer.experts];
        if let Some(expert) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(MoeError::Router { token, expert });
        }
        let mut scores = match layer.score {
            Score::None => logits.to_vec(),
            Score::Sigmoid => logits.iter().map(|&logit| sigmoid(logit)).collect(),
            Score::Softmax => softmax(logits),
        };
        scores.iter_mut().for_each(|score| *score = round_to(self.probabilities, *score));
        let add_bias = |(score, bias): (&f64, &f32)| round_to(self.probabilities, score + f64::from(*bias));
        let choice: Vec<f64> = scores.iter().zip(self.selection_bias).map(add_bias).collect();
        let (open, group_gap) = self.open_groups(&choice);
        let mut ranked: Vec<usize> = (0..layer.experts).filter(|expert| open[expert / self.group_size()]).collect();
        ranked.sort_by(|&a, &b| descending(choice[a], choice[b]).then(a.cmp(&b)));
        let next = ranked.get(layer.top_k).copied();
        ranked.truncate(layer.top_k);
        let last = ranked.last().copied();
        let expert_gap = match (last, next) {
            (Some(last), Some(next)) => choice[last] - choice[next],
            _ => f64::INFINITY,
        };
        let weights = self.weights_of(&ranked.iter().map(|&expert| scores[expert]).collect::<Vec<_>>());
        self.routing.ids.extend(ranked.iter().map(|&expert| expert as u32));
        self.routing.weights.extend(weights);
        self.routing.gaps.push(expert_gap.min(group_gap));
        self.routing.probabilities.extend(scores);
        self.routing.choice.extend(choice);
        Ok(())
    }

    fn group_size(&self) -> usize {
        self.layer.experts / self.layer.groups
    }

    /// Which groups are open to a token, and by how much the last of them beat the first that is not.
    fn open_groups(&self, choice: &[f64]) -> (Vec<bool>, f64) {
        let layer = self.layer;
        let rank_of = |group: &[f64]| {
            let mut group = group.to_vec();
            group.sort_by(|a, b| descending(*a, *b));
            match layer.group_score {
                GroupScore::Max => group[0],
                GroupScore::SumOfTwo => group.iter().take(2).sum(),
            }
        };
        let ranks: Vec<f64> = choice.chunks(self.group_size()).map(rank_of).collect();
        let mut order: Vec<usize> = (0..layer.groups).collect();
        order.sort_by(|&a, &b| descending(ranks[a], ranks[b]).then(a.cmp(&b)));
        let mut open = vec![false; layer.groups];
        order.iter().take(layer.group_top_k).for_each(|&group| open[group] = true);
        let gap = match (order.get(layer.group_top_k - 1), order.get(layer.group_top_k)) {
            (Some(&last), Some(&next)) => ranks[last] - ranks[next],
            _ => f64::INFINITY,
        };
        (open, gap)
    }

    /// The weights of chosen experts, given their scores.
    fn weights_of(&self, scores: &[f64]) -> Vec<f64> {
        let layer = self.layer;
        let weights = match layer.normalize {
            Normalize::None => scores.to_vec(),
            Normalize::Softmax => softmax(scores),
            Normalize::Sum => {
                let sum = scores.iter().sum::<f64>() + layer.normalize_epsilon;
                scores.iter().map(|score| score / sum).collect()
            }
        };
        weights.into_iter().map(|weight| round_to(self.weights, weight * layer.scale)).collect()
    }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| exp_non_positive(logit - max)).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Larger first; the numbers are finite.
fn descending(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}
