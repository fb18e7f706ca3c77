//! Deterministic layers and inputs for testing kernels, the hard cases among them.

use super::evaluate::MoeError;
use super::layer::MoeLayer;
use super::weights::{MemoryWeights, WeightError};
use crate::array::round_bf16;
use crate::sample::threefry::{Key, Layout, uniform_f64};

/// The sizes of generated layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaseSizes {
    /// Width of the layer's input and output.
    pub hidden: usize,
    /// Width between the projections.
    pub inner: usize,
    /// Tokens of the cases that do not fix their number.
    pub tokens: usize,
}

impl Default for CaseSizes {
    fn default() -> Self {
        Self { hidden: 64, inner: 96, tokens: 32 }
    }
}

/// What a generated case is hard about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CaseKind {
    /// Nothing.
    Normal,
    /// A single token.
    OneToken,
    /// Every second expert has the router weights of its neighbour: each choice holds an exact tie.
    Ties,
    /// All experts tie for every token.
    AllTie,
    /// The upper half of the experts is never chosen, where the lower half is enough.
    UnusedExperts,
    /// Every token chooses the last expert first.
    OneExpertTakesAll,
    /// Every token goes through every expert.
    EveryExpert,
    /// All expert weights are zero: the output is, whatever the routes (biases and shared experts apart).
    ZeroWeights,
    /// Router logits so far apart that probabilities underflow in f32.
    HugeRouter,
}

impl CaseKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Normal,
        Self::OneToken,
        Self::Ties,
        Self::AllTie,
        Self::UnusedExperts,
        Self::OneExpertTakesAll,
        Self::EveryExpert,
        Self::ZeroWeights,
        Self::HugeRouter,
    ];

    /// The kind's name, as files are called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::OneToken => "one-token",
            Self::Ties => "ties",
            Self::AllTie => "all-tie",
            Self::UnusedExperts => "unused-experts",
            Self::OneExpertTakesAll => "one-expert-takes-all",
            Self::EveryExpert => "every-expert",
            Self::ZeroWeights => "zero-weights",
            Self::HugeRouter => "huge-router",
        }
    }
}

/// A generated case.
#[derive(Debug, Clone)]
pub struct TestCase {
    /// What is hard about it.
    pub kind: CaseKind,
    /// The layer: the one asked for, but for `top_k` where every expert is chosen.
    pub layer: MoeLayer,
    /// Its weights, by the layer's names; every value is a bf16 number.
    pub weights: MemoryWeights,
    /// `[tokens, hidden]`: bf16 numbers.
    pub input: Vec<f64>,
}

impl TestCase {
    /// Makes a case. The same arguments give the same bits on every machine.
    ///
    /// Values are uniform, from a counter-based generator, and scaled so that activations keep a root mean square near
    /// one through the layer. Token feature 0 is 1 in every token, which lets a router favour experts.
    ///
    /// # Errors
    ///
    /// A layer whose tensors clash, such as two under one name.
    pub fn new(kind: CaseKind, layer: &MoeLayer, sizes: CaseSizes, seed: u64) -> Result<Self, MoeError> {
        let mut layer = layer.clone();
        if kind == CaseKind::EveryExpert {
            (layer.top_k, layer.group_top_k) = (layer.experts, layer.groups);
        }
        let tokens = if kind == CaseKind::OneToken { 1 } else { sizes.tokens };
        let mut generator = Generator { key: Key::from_seed(seed).fold_in(kind as u64), arrays: 0 };
        let mut input: Vec<f64> = generator.values(tokens * sizes.hidden, 1.0).into_iter().map(f64::from).collect();
        input.iter_mut().step_by(sizes.hidden.max(1)).for_each(|feature| *feature = 1.0);
        let mut weights = MemoryWeights::default();
        let mut builder = Builder { kind, layer: &layer, sizes, generator, weights: &mut weights };
        builder.router()?;
        builder.experts()?;
        builder.shared()?;
        Ok(Self { kind, layer, weights, input })
    }
}

struct Generator {
    key: Key,
    arrays: u64,
}

impl Generator {
    /// Uniform numbers of mean 0 and the given root mean square, rounded to bf16.
    fn values(&mut self, count: usize, rms: f64) -> Vec<f32> {
        self.arrays += 1;
        let key = self.key.fold_in(self.arrays);
        let width = rms * 12_f64.sqrt();
        let value = |at: usize| uniform_f64(key.bits64(Layout::Partitionable, at as u64, 0)) - 0.5;
        (0..count).map(|at| round_bf16(value(at) * width).to_f32()).collect()
    }
}

struct Builder<'a> {
    kind: CaseKind,
    layer: &'a MoeLayer,
    sizes: CaseSizes,
    generator: Generator,
    weights: &'a mut MemoryWeights,
}

impl Builder<'_> {
    fn router(&mut self) -> Result<(), WeightError> {
        let (experts, hidden) = (self.layer.experts, self.sizes.hidden);
        let scale = if self.kind == CaseKind::HugeRouter { 60.0 } else { 1.0 } / (hidden as f64).sqrt();
        let mut columns: Vec<Vec<f32>> = (0..experts).map(|_| self.generator.values(hidden, scale)).collect();
        match self.kind {
            CaseKind::Ties => (1..experts).step_by(2).for_each(|odd| columns[odd] = columns[odd - 1].clone()),
            CaseKind::AllTie => columns.iter_mut().for_each(|column| column.fill(0.0)),
            CaseKind::UnusedExperts if experts / 2 >= self.layer.top_k => {
                columns.iter_mut().skip(experts / 2).for_each(|column| column[0] = -24.0);
            }
            CaseKind::OneExpertTakesAll => columns.iter_mut().rev().take(1).for_each(|column| column[0] = 24.0),
            _ => {}
        }
        let tensors = &self.layer.tensors;
        let out_in = self.layer.router_orientation == super::Orientation::OutIn;
        let at = |index: usize| match out_in {
            true => columns[index / hidden][index % hidden],
            false => columns[index % experts][index / experts],
        };
        let values = (0..experts * hidden).map(at).collect();
        let shape = if out_in { vec![experts, hidden] } else { vec![hidden, experts] };
        self.weights.insert(tensors.router.clone().unwrap_or_default(), shape, values)?;
        // Biases that would break the case's point are left at zero.
        let quiet =
            !matches!(self.kind, CaseKind::Normal | CaseKind::OneToken | CaseKind::EveryExpert | CaseKind::HugeRouter);
        for name in [&tensors.router_bias, &tensors.selection_bias].into_iter().flatten() {
            let values = self.generator.values(experts, if quiet { 0.0 } else { 0.1 });
            self.weights.insert(name.clone(), vec![experts], values)?;
        }
        Ok(())
    }

    fn experts(&mut self) -> Result<(), WeightError> {
        let tensors = self.layer.tensors.clone();
        let CaseSizes { hidden, inner, .. } = self.sizes;
        let zero = self.kind == CaseKind::ZeroWeights;
        let rms = |inputs: usize| if zero { 0.0 } else { 1.0 / (inputs as f64).sqrt() };
        for (name, inputs, outputs) in [
            (&tensors.gate, hidden, inner),
            (&tensors.up, hidden, inner),
            (&tensors.gate_up, hidden, 2 * inner),
            (&tensors.down, inner, hidden),
        ] {
            if let Some(name) = name {
                self.each_expert(name, &self.matrix_shape(inputs, outputs), rms(inputs))?;
            }
        }
        let bias = if zero { 0.0 } else { 0.1 };
        for (name, length) in [
            (&tensors.gate_bias, inner),
            (&tensors.up_bias, inner),
            (&tensors.gate_up_bias, 2 * inner),
            (&tensors.down_bias, hidden),
        ] {
            if let Some(name) = name {
                self.each_expert(name, &[length], bias)?;
            }
        }
        Ok(())
    }

    fn shared(&mut self) -> Result<(), WeightError> {
        if !self.layer.shared {
            return Ok(());
        }
        let tensors = self.layer.tensors.clone();
        let CaseSizes { hidden, inner, .. } = self.sizes;
        for (name, inputs, outputs) in [
            (&tensors.shared_gate, hidden, inner),
            (&tensors.shared_up, hidden, inner),
            (&tensors.shared_down, inner, hidden),
        ] {
            let shape = self.matrix_shape(inputs, outputs);
            let values = self.generator.values(inputs * outputs, 1.0 / (inputs as f64).sqrt());
            self.weights.insert(name.clone().unwrap_or_default(), shape, values)?;
        }
        Ok(())
    }

    fn matrix_shape(&self, inputs: usize, outputs: usize) -> Vec<usize> {
        if self.layer.orientation == super::Orientation::OutIn { vec![outputs, inputs] } else { vec![inputs, outputs] }
    }

    /// One tensor per expert, or one that holds all of them, as the name says.
    fn each_expert(&mut self, name: &str, shape: &[usize], rms: f64) -> Result<(), WeightError> {
        let elements: usize = shape.iter().product();
        if name.contains("{expert}") {
            for expert in 0..self.layer.experts {
                let values = self.generator.values(elements, rms);
                self.weights.insert(name.replace("{expert}", &expert.to_string()), shape.to_vec(), values)?;
            }
            return Ok(());
        }
        let values = self.generator.values(elements * self.layer.experts, rms);
        self.weights.insert(name, [&[self.layer.experts], shape].concat(), values)
    }
}
