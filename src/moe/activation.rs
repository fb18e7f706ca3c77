//! Activations, in f64 with the same bits on every platform.

use super::config::Activation;
use super::layer::MoeLayer;
use crate::sample::math::exp_non_positive;

impl MoeLayer {
    /// The activated gate.
    pub(crate) fn activate(&self, gate: f64) -> f64 {
        let gate = self.clamp.map_or(gate, |limit| gate.min(limit));
        match self.activation {
            Activation::Silu => gate * sigmoid(self.activation_alpha * gate),
            Activation::GeluTanh => gelu_tanh(gate),
            Activation::GeluErf => 0.5 * gate * (1.0 + libm::erf(gate * std::f64::consts::FRAC_1_SQRT_2)),
        }
    }

    /// What multiplies the activated gate.
    pub(crate) fn lift(&self, up: f64) -> f64 {
        self.clamp.map_or(up, |limit| up.clamp(-limit, limit)) + self.up_offset
    }
}

/// `1 / (1 + exp(-x))`, without overflow for either sign.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let small = exp_non_positive(-x.abs());
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

/// GELU by `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, as `jax.nn.gelu` has it.
pub(crate) fn gelu_tanh(x: f64) -> f64 {
    const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
    // 0.5 (1 + tanh(u)) is the sigmoid of 2u, which loses nothing where tanh is near -1.
    x * sigmoid(2.0 * SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x))
}
