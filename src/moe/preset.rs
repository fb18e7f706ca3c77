//! The layers of five models.
//!
//! Sources: `model.py` of xai-org/grok-1 at 7050ed2; the sparse MoE blocks of transformers 5.23 (`mixtral`, `qwen3_moe`,
//! `deepseek_v3`, `gpt_oss`). Tensor names are those of the released checkpoints, below the prefix of one layer:
//! `transformer/decoder_layer_0` for Grok-1, `model.layers.0.block_sparse_moe` for Mixtral, `model.layers.0.mlp` for
//! the others.

use super::config::{
    Activation, Combine, FusedLayout, GroupScore, MoeConfig, MoeRounding, MoeTensors, Normalize, Orientation, Preset,
    Round, Score,
};

impl Preset {
    /// Every key that the preset sets.
    #[must_use]
    pub fn settings(self) -> MoeConfig {
        match self {
            Preset::Grok1 => grok_1(),
            Preset::Mixtral => mixtral(),
            Preset::Qwen3Moe => qwen3_moe(),
            Preset::DeepseekV3 => deepseek_v3(),
            Preset::GptOss => gpt_oss(),
        }
    }
}

/// What holds without a preset.
pub(crate) fn defaults() -> MoeConfig {
    MoeConfig {
        score: Some(Score::Softmax),
        groups: Some(1),
        group_score: Some(GroupScore::SumOfTwo),
        normalize: Some(Normalize::None),
        normalize_epsilon: Some(0.0),
        scale: Some(1.0),
        activation: Some(Activation::Silu),
        activation_alpha: Some(1.0),
        up_offset: Some(0.0),
        shared_experts: Some(0),
        fused_layout: Some(FusedLayout::Halves),
        orientation: Some(Orientation::ByShape),
        router_orientation: Some(Orientation::ByShape),
        combine: Some(Combine::Selection),
        rounding: Some(MoeRounding {
            weights: Some(Round::None),
            router_logits: Some(Round::None),
            probabilities: Some(Round::None),
            routing_weights: Some(Round::None),
            gate_up: Some(Round::None),
            activation: Some(Round::None),
            hidden: Some(Round::None),
            down: Some(Round::None),
            weighted: Some(Round::None),
            sum: Some(Round::None),
            output: Some(Round::Input),
        }),
        ..MoeConfig::default()
    }
}

fn name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// The roundings of Grok-1's own code run operation by operation, with bf16 input and bf16 scales.
fn grok_1() -> MoeConfig {
    MoeConfig {
        experts: Some(8),
        top_k: Some(2),
        activation: Some(Activation::GeluTanh),
        orientation: Some(Orientation::InOut),
        router_orientation: Some(Orientation::InOut),
        tensors: Some(MoeTensors {
            router: name("router/w"),
            gate: name("moe/linear/w"),
            up: name("moe/linear_v/w"),
            down: name("moe/linear_1/w"),
            ..MoeTensors::default()
        }),
        rounding: Some(MoeRounding {
            weights: Some(Round::Bf16),
            routing_weights: Some(Round::Bf16),
            gate_up: Some(Round::Bf16),
            ..MoeRounding::default()
        }),
        ..MoeConfig::default()
    }
}

/// Every tensor of the block in the activation dtype, as eager torch has them.
fn torch_rounding() -> MoeRounding {
    MoeRounding {
        router_logits: Some(Round::Input),
        gate_up: Some(Round::Input),
        activation: Some(Round::Input),
        hidden: Some(Round::Input),
        down: Some(Round::Input),
        weighted: Some(Round::Input),
        sum: Some(Round::Input),
        ..MoeRounding::default()
    }
}

/// Experts as linear layers of their own.
fn torch_experts(gate: &str, up: &str, down: &str) -> MoeTensors {
    MoeTensors {
        router: name("gate.weight"),
        gate: Some(format!("experts.{{expert}}.{gate}.weight")),
        up: Some(format!("experts.{{expert}}.{up}.weight")),
        down: Some(format!("experts.{{expert}}.{down}.weight")),
        ..MoeTensors::default()
    }
}

fn mixtral() -> MoeConfig {
    MoeConfig {
        experts: Some(8),
        top_k: Some(2),
        normalize: Some(Normalize::Sum),
        orientation: Some(Orientation::OutIn),
        router_orientation: Some(Orientation::OutIn),
        combine: Some(Combine::Expert),
        tensors: Some(torch_experts("w1", "w3", "w2")),
        rounding: Some(torch_rounding()),
        ..MoeConfig::default()
    }
}

fn qwen3_moe() -> MoeConfig {
    MoeConfig {
        experts: Some(128),
        top_k: Some(8),
        normalize: Some(Normalize::Sum),
        orientation: Some(Orientation::OutIn),
        router_orientation: Some(Orientation::OutIn),
        combine: Some(Combine::Expert),
        tensors: Some(torch_experts("gate_proj", "up_proj", "down_proj")),
        rounding: Some(MoeRounding { routing_weights: Some(Round::Input), ..torch_rounding() }),
        ..MoeConfig::default()
    }
}

fn deepseek_v3() -> MoeConfig {
    MoeConfig {
        experts: Some(256),
        top_k: Some(8),
        score: Some(Score::Sigmoid),
        groups: Some(8),
        group_top_k: Some(4),
        group_score: Some(GroupScore::SumOfTwo),
        normalize: Some(Normalize::Sum),
        normalize_epsilon: Some(1e-20),
        scale: Some(2.5),
        shared_experts: Some(1),
        orientation: Some(Orientation::OutIn),
        router_orientation: Some(Orientation::OutIn),
        combine: Some(Combine::Expert),
        tensors: Some(MoeTensors {
            selection_bias: name("gate.e_score_correction_bias"),
            shared_gate: name("shared_experts.gate_proj.weight"),
            shared_up: name("shared_experts.up_proj.weight"),
            shared_down: name("shared_experts.down_proj.weight"),
            ..torch_experts("gate_proj", "up_proj", "down_proj")
        }),
        rounding: Some(MoeRounding { router_logits: Some(Round::None), ..torch_rounding() }),
        ..MoeConfig::default()
    }
}

/// Plain weights are stored `[in, out]`, MXFP4 ones `[out, in]`: the orientation is read off the shape.
fn gpt_oss() -> MoeConfig {
    MoeConfig {
        experts: Some(128),
        top_k: Some(4),
        score: Some(Score::None),
        normalize: Some(Normalize::Softmax),
        activation_alpha: Some(1.702),
        clamp: Some(7.0),
        up_offset: Some(1.0),
        fused_layout: Some(FusedLayout::Interleaved),
        orientation: Some(Orientation::ByShape),
        router_orientation: Some(Orientation::OutIn),
        combine: Some(Combine::Expert),
        tensors: Some(MoeTensors {
            router: name("router.weight"),
            router_bias: name("router.bias"),
            gate_up: name("experts.gate_up_proj"),
            gate_up_bias: name("experts.gate_up_proj_bias"),
            down: name("experts.down_proj"),
            down_bias: name("experts.down_proj_bias"),
            ..MoeTensors::default()
        }),
        rounding: Some(MoeRounding { routing_weights: Some(Round::Input), ..torch_rounding() }),
        ..MoeConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::language::Presence;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let defaults = serde_json::to_value(defaults()).unwrap();
        let tables =
            [(super::super::config::FIELDS, &defaults), (super::super::config::ROUNDING_FIELDS, &defaults["rounding"])];
        for (fields, values) in tables {
            for field in fields {
                let Presence::Default(documented) = field.presence else { continue };
                match &values[field.key] {
                    serde_json::Value::Number(number) => {
                        assert_eq!(documented.parse::<f64>().ok(), number.as_f64(), "{}", field.key);
                    }
                    serde_json::Value::String(word) => assert_eq!(documented.trim_matches('"'), word, "{}", field.key),
                    _ => assert!(documented.starts_with('('), "{}", field.key),
                }
            }
        }
    }
}
