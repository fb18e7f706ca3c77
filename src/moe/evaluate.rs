//! The layer itself.

use rayon::prelude::*;

use super::config::{Combine, FusedLayout};
use super::geometry::{First, Geometry, Mlp};
use super::layer::MoeLayer;
use super::number::{Number, round_all, round_at, round_to};
use super::product::project;
use super::router::{Routing, route};
use super::weights::{WeightError, WeightSource};
use crate::Dtype;

/// How a layer is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Evaluator {
    /// f64 everywhere, one rounding of the output at the end.
    Exact,
    /// f32, with the roundings that the layer names.
    Rounded,
}

/// A layer's input: `[tokens, hidden]`, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The values; they fit `dtype`.
    pub values: &'a [f64],
    /// Width of a token.
    pub hidden: usize,
    /// What the values are stored as, and what `"input"` means as a rounding.
    pub dtype: Dtype,
}

/// What a layer computed. Stages of experts stand in the order of [`Routing::ids`].
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Number of tokens.
    pub tokens: usize,
    /// Width of the input and the output.
    pub hidden: usize,
    /// Width between the projections of an expert.
    pub inner: usize,
    /// The routes.
    pub routing: Routing,
    /// Every stage between routes and output, on request.
    pub stages: Option<Stages>,
    /// `[tokens, hidden]`: the sum over experts, before the last rounding.
    pub sum: Vec<f64>,
    /// `[tokens, hidden]`: the output, rounded to its dtype.
    pub output: Vec<f64>,
    /// The output's dtype.
    pub dtype: Dtype,
}

/// What a kernel author compares step by step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stages {
    /// `[tokens, top_k, inner]`: output of gate, bias included.
    pub gate: Vec<f64>,
    /// `[tokens, top_k, inner]`: output of up, bias included.
    pub up: Vec<f64>,
    /// `[tokens, top_k, inner]`: activated gate times up.
    pub hidden: Vec<f64>,
    /// `[tokens, top_k, hidden]`: output of each expert, before its weight.
    pub expert_output: Vec<f64>,
    /// `[tokens, hidden]`: output of the shared experts, empty without them.
    pub shared_output: Vec<f64>,
}

/// Why a layer could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoeError {
    /// A tensor that the layer names is not there.
    #[error("there is no tensor `{name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor of a shape that does not fit.
    #[error("`{name}` is {shape:?}; it needs {wanted}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What would fit.
        wanted: String,
    },
    /// A square matrix whose orientation its shape does not tell.
    #[error("`{name}` is {rows} x {columns}, which fits both orientations")]
    Orientation {
        /// Its name.
        name: String,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
    },
    /// A router logit that is not a finite number.
    #[error("the router's logit of token {token} for expert {expert} is not finite")]
    Router {
        /// The token.
        token: usize,
        /// The expert.
        expert: usize,
    },
    /// Input that is not a whole number of tokens.
    #[error("{values} input values do not make tokens of {hidden}")]
    Input {
        /// How many values there are.
        values: usize,
        /// How many a token has.
        hidden: usize,
    },
    /// A weight that could not be had.
    #[error(transparent)]
    Weight(#[from] WeightError),
}

impl MoeLayer {
    /// Evaluates the layer on some tokens. `stages` asks for everything in between.
    ///
    /// The result does not depend on the number of threads, nor a token's on its neighbours.
    ///
    /// # Errors
    ///
    /// Tensors that are missing or do not fit, weights that cannot be read, a router that gives no number.
    pub fn evaluate(
        &self,
        source: &dyn WeightSource,
        input: &Input<'_>,
        evaluator: Evaluator,
        stages: bool,
    ) -> Result<Evaluation, MoeError> {
        if input.hidden == 0 || !input.values.len().is_multiple_of(input.hidden) {
            return Err(MoeError::Input { values: input.values.len(), hidden: input.hidden });
        }
        let geometry = Geometry::find(self, source, input.hidden)?;
        match evaluator {
            Evaluator::Exact => self.run::<f64>(source, &geometry, input, stages),
            Evaluator::Rounded => self.run::<f32>(source, &geometry, input, stages),
        }
    }

    fn run<N: Number>(
        &self,
        source: &dyn WeightSource,
        geometry: &Geometry,
        input: &Input<'_>,
        stages: bool,
    ) -> Result<Evaluation, MoeError> {
        let activations: Vec<N> = input.values.iter().map(|&value| N::from_f64(value)).collect();
        let routing = route(self, geometry, source, &activations, input.dtype)?;
        let tokens = activations.len() / geometry.hidden;
        let experts = self.run_experts::<N>(source, geometry, &activations, &routing, input.dtype)?;
        let shared = match &geometry.shared {
            Some(mlp) => Some(self.mlp(source, mlp, 0, &activations, input.dtype)?.output),
            None => None,
        };
        let sum = self.combine(&experts, shared.as_deref(), &routing, geometry.hidden, input.dtype);
        let dtype = self.rounding.output.dtype(input.dtype).unwrap_or(if N::ROUNDS { Dtype::F32 } else { Dtype::F64 });
        let widen = |values: &[N]| values.iter().map(|value| value.to_f64()).collect::<Vec<_>>();
        let sum = widen(&sum);
        Ok(Evaluation {
            tokens,
            hidden: geometry.hidden,
            inner: geometry.experts.inner,
            stages: stages.then(|| Stages {
                gate: gather(&experts, tokens * self.top_k, geometry.experts.inner, |part| &part.gate),
                up: gather(&experts, tokens * self.top_k, geometry.experts.inner, |part| &part.up),
                hidden: gather(&experts, tokens * self.top_k, geometry.experts.inner, |part| &part.hidden),
                expert_output: gather(&experts, tokens * self.top_k, geometry.hidden, |part| &part.output),
                shared_output: shared.as_deref().map(widen).unwrap_or_default(),
            }),
            output: sum.iter().map(|&value| round_to(Some(dtype), value)).collect(),
            routing,
            sum,
            dtype,
        })
    }

    /// Runs each expert over the tokens that chose it.
    fn run_experts<N: Number>(
        &self,
        source: &dyn WeightSource,
        geometry: &Geometry,
        activations: &[N],
        routing: &Routing,
        input: Dtype,
    ) -> Result<Vec<ExpertRun<N>>, MoeError> {
        let mut places = vec![Vec::new(); self.experts];
        for (place, &expert) in routing.ids.iter().enumerate() {
            places[expert as usize].push(place);
        }
        let run = |(expert, places): (usize, Vec<usize>)| {
            let token = |place: &usize| &activations[place / self.top_k * geometry.hidden..][..geometry.hidden];
            let inputs: Vec<N> = places.iter().flat_map(token).copied().collect();
            let run = self.mlp(source, &geometry.experts, expert, &inputs, input)?;
            Ok(ExpertRun { places, ..run })
        };
        places.into_par_iter().enumerate().filter(|(_, places)| !places.is_empty()).map(run).collect()
    }

    /// One gated linear unit over `[rows, hidden]` inputs.
    fn mlp<N: Number>(
        &self,
        source: &dyn WeightSource,
        mlp: &Mlp,
        expert: usize,
        inputs: &[N],
        input: Dtype,
    ) -> Result<ExpertRun<N>, MoeError> {
        let weights = (self.rounding.weights, input);
        let first_dtype = self.rounding.gate_up.dtype(input);
        let (gate, up) = match &mlp.first {
            First::Apart { gate, up, gate_bias, up_bias } => {
                let mut gates = project(inputs, gate, expert, source, weights)?;
                let mut ups = project(inputs, up, expert, source, weights)?;
                for (bias, values) in [(gate_bias, &mut gates), (up_bias, &mut ups)] {
                    let bias = bias.as_ref().map(|bias| bias.read(source, expert)).transpose()?;
                    add_bias(values, bias.as_deref());
                }
                (gates, ups)
            }
            First::Fused { gate_up, bias, layout } => {
                let mut fused = project(inputs, gate_up, expert, source, weights)?;
                let bias = bias.as_ref().map(|bias| bias.read(source, expert)).transpose()?;
                add_bias(&mut fused, bias.as_deref());
                split(&fused, mlp.inner, *layout)
            }
        };
        let (mut gate, mut up) = (gate, up);
        round_all(first_dtype, &mut gate);
        round_all(first_dtype, &mut up);
        let activation_dtype = self.rounding.activation.dtype(input);
        let hidden_dtype = self.rounding.hidden.dtype(input);
        let unit = |(gate, up): (&N, &N)| {
            let activated = round_at(activation_dtype, N::from_f64(self.activate(gate.to_f64())));
            round_at(hidden_dtype, activated * N::from_f64(self.lift(up.to_f64())))
        };
        let hidden: Vec<N> = gate.iter().zip(&up).map(unit).collect();
        let mut output = project(&hidden, &mlp.down, expert, source, weights)?;
        let bias = mlp.down_bias.as_ref().map(|bias| bias.read(source, expert)).transpose()?;
        add_bias(&mut output, bias.as_deref());
        round_all(self.rounding.down.dtype(input), &mut output);
        Ok(ExpertRun { places: Vec::new(), gate, up, hidden, output })
    }

    /// Adds the weighted outputs of each token's experts, one after another.
    fn combine<N: Number>(
        &self,
        experts: &[ExpertRun<N>],
        shared: Option<&[N]>,
        routing: &Routing,
        width: usize,
        input: Dtype,
    ) -> Vec<N> {
        let (weighted_dtype, sum_dtype) = (self.rounding.weighted.dtype(input), self.rounding.sum.dtype(input));
        // Where each place's output is.
        let mut outputs: Vec<&[N]> = vec![&[]; routing.ids.len()];
        for run in experts {
            for (&place, output) in run.places.iter().zip(run.output.chunks(width)) {
                outputs[place] = output;
            }
        }
        let mut sum = vec![N::zero(); routing.gaps.len() * width];
        sum.par_chunks_mut(width).enumerate().for_each(|(token, sum)| {
            let mut places: Vec<usize> = (token * self.top_k..(token + 1) * self.top_k).collect();
            if self.combine == Combine::Expert {
                places.sort_by_key(|&place| routing.ids[place]);
            }
            for place in places {
                let weight = N::from_f64(routing.weights[place]);
                for (sum, &value) in sum.iter_mut().zip(outputs[place]) {
                    *sum = round_at(sum_dtype, *sum + round_at(weighted_dtype, weight * value));
                }
            }
            if let Some(shared) = shared {
                for (sum, &value) in sum.iter_mut().zip(&shared[token * width..]) {
                    *sum = round_at(sum_dtype, *sum + value);
                }
            }
        });
        sum
    }
}

/// What one expert computed, row by row for the places that chose it.
struct ExpertRun<N> {
    places: Vec<usize>,
    gate: Vec<N>,
    up: Vec<N>,
    hidden: Vec<N>,
    output: Vec<N>,
}

fn add_bias<N: Number>(values: &mut [N], bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    for row in values.chunks_mut(bias.len().max(1)) {
        for (value, &bias) in row.iter_mut().zip(bias) {
            *value = *value + N::from_f32(bias);
        }
    }
}

/// Gate and up out of a fused output.
fn split<N: Number>(fused: &[N], inner: usize, layout: FusedLayout) -> (Vec<N>, Vec<N>) {
    let rows = fused.chunks(2 * inner);
    match layout {
        FusedLayout::Halves => (
            rows.clone().flat_map(|row| &row[..inner]).copied().collect(),
            rows.flat_map(|row| &row[inner..]).copied().collect(),
        ),
        FusedLayout::Interleaved => {
            let every_second = |from: usize| fused.iter().skip(from).step_by(2).copied().collect();
            (every_second(0), every_second(1))
        }
    }
}

/// Puts the rows of all experts where their places are.
fn gather<N: Number>(
    experts: &[ExpertRun<N>],
    places: usize,
    width: usize,
    of: impl Fn(&ExpertRun<N>) -> &Vec<N>,
) -> Vec<f64> {
    let mut all = vec![0.0; places * width];
    for run in experts {
        for (&place, row) in run.places.iter().zip(of(run).chunks(width)) {
            for (value, &row) in all[place * width..].iter_mut().zip(row) {
                *value = row.to_f64();
            }
        }
    }
    all
}
