//! What a layer profile says, as written: every key optional, nothing checked yet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::language::{Field, Kind, Presence, Shape};
use crate::sample::words;

words! {
    /// A model whose layer a profile describes. It fills every key that the profile leaves out.
    Preset:
    Grok1 "grok-1" "Grok-1: softmax over all experts, best two, not renormalised; tanh GELU.";
    Mixtral "mixtral" "Mixtral: softmax over all experts, best two, renormalised; SiLU.";
    Qwen3Moe "qwen3-moe" "Qwen3-MoE: softmax over all experts, best eight, renormalised; SiLU.";
    DeepseekV3 "deepseek-v3" "DeepSeek-V3: sigmoid scores, a bias for the choice only, expert groups, a shared expert; SiLU.";
    GptOss "gpt-oss" "GPT-OSS: best four logits, softmax over them; clamped SwiGLU with biases, interleaved.";
}

words! {
    /// What a router's logits become before experts are chosen.
    Score:
    Softmax "softmax" "Softmax over all experts.";
    Sigmoid "sigmoid" "Sigmoid of each.";
    None "none" "The logits themselves.";
}

words! {
    /// How the weights of the chosen experts are made of their scores.
    Normalize:
    None "none" "The scores.";
    Sum "sum" "The scores over their sum.";
    Softmax "softmax" "Softmax over the chosen scores.";
}

words! {
    /// What a group of experts is ranked by.
    GroupScore:
    SumOfTwo "sum-of-two" "The sum of its two best choice scores.";
    Max "max" "Its best choice score.";
}

words! {
    /// The function that the gate goes through.
    Activation:
    Silu "silu" "`x * sigmoid(activation_alpha * x)`.";
    GeluTanh "gelu-tanh" "GELU by its tanh approximation.";
    GeluErf "gelu-erf" "GELU by the error function.";
}

words! {
    /// How gate and up share a fused tensor.
    FusedLayout:
    Halves "halves" "Gate first, then up.";
    Interleaved "interleaved" "Gate in even places, up in odd ones.";
}

words! {
    /// The order of a matrix' two dimensions.
    Orientation:
    InOut "in-out" "`[in, out]`, as JAX stores them.";
    OutIn "out-in" "`[out, in]`, as torch's `Linear` stores them.";
    ByShape "by-shape" "Whichever fits; an error where both do.";
}

words! {
    /// The order in which the outputs of a token's experts are added.
    Combine:
    Selection "selection" "As they were chosen, best first.";
    Expert "expert" "By expert, ascending.";
}

words! {
    /// What a value is rounded to where the rounded evaluator stores it.
    Round:
    None "none" "Not beyond f32.";
    Input "input" "The dtype of the layer's input.";
    Bf16 "bf16" "bf16.";
    F16 "f16" "f16.";
    F32 "f32" "f32.";
}

const COUNT: Kind = Kind::Integer { min: 1, max: 1 << 20 };

/// Sets fields of a table of keys, with their description for the checker, the schema and the reference.
macro_rules! keys {
    ($(#[$outer:meta])* $name:ident $fields:ident: $( $field:ident: $type:ty, $kind:expr, $default:literal, $doc:literal; )*) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                #[doc = $doc]
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        /// The keys, in the order of the reference.
        pub(crate) const $fields: &[Field] = &[
            $( Field { key: stringify!($field), kind: $kind, presence: presence($default), doc: $doc }, )*
        ];

        impl $name {
            /// These settings on top of others: each key they set wins.
            #[must_use]
            pub fn over(&self, base: &Self) -> Self {
                Self { $( $field: Over::over(&self.$field, &base.$field), )* }
            }
        }
    };
}

/// How one key goes on top of another.
trait Over {
    fn over(&self, base: &Self) -> Self;
}

macro_rules! replace {
    ($($type:ty),*) => {
        $(impl Over for Option<$type> {
            fn over(&self, base: &Self) -> Self {
                self.clone().or_else(|| base.clone())
            }
        })*
    };
}

replace!(Preset, Score, Normalize, GroupScore, Activation, FusedLayout, Orientation, Combine, Round, u32, f64, String);

macro_rules! merge {
    ($($type:ty),*) => {
        $(impl Over for Option<$type> {
            fn over(&self, base: &Self) -> Self {
                match (self, base) {
                    (Some(own), Some(base)) => Some(own.over(base)),
                    (own, base) => own.clone().or_else(|| base.clone()),
                }
            }
        })*
    };
}

merge!(MoeTensors, MoeRounding);

/// No default stands as an empty string.
const fn presence(default: &'static str) -> Presence {
    if default.is_empty() { Presence::Optional } else { Presence::Default(default) }
}

keys! {
    /// A mixture-of-experts layer as written. [`MoeLayer::compile`](super::MoeLayer::compile) checks it.
    MoeConfig FIELDS:
    preset: Preset, Kind::Words(Preset::WORDS), "",
        "The model whose layer this is. Keys that are left out come from it.";
    experts: u32, COUNT, "(the preset's)",
        "Number of experts.";
    top_k: u32, COUNT, "(the preset's)",
        "Experts per token.";
    score: Score, Kind::Words(Score::WORDS), "\"softmax\"",
        "What router logits become before experts are chosen.";
    groups: u32, COUNT, "1",
        "Number of equal groups, of consecutive experts, of which only some are open to a token.";
    group_top_k: u32, COUNT, "(all)",
        "Groups that are open to a token.";
    group_score: GroupScore, Kind::Words(GroupScore::WORDS), "\"sum-of-two\"",
        "What groups are ranked by.";
    normalize: Normalize, Kind::Words(Normalize::WORDS), "\"none\"",
        "How weights are made of the chosen experts' scores (never of their choice bias).";
    normalize_epsilon: f64, Kind::Number { min: 0.0, max: 1.0 }, "0",
        "Added to the sum that `normalize = \"sum\"` divides by.";
    scale: f64, Kind::Number { min: -1e6, max: 1e6 }, "1",
        "Factor of all weights.";
    activation: Activation, Kind::Words(Activation::WORDS), "\"silu\"",
        "The function that the gate goes through.";
    activation_alpha: f64, Kind::Number { min: 0.0, max: 100.0 }, "1",
        "Slope inside the sigmoid of `silu`.";
    clamp: f64, Kind::Number { min: 0.0, max: 1e6 }, "",
        "Gate is limited from above, up from both sides, to this magnitude.";
    up_offset: f64, Kind::Number { min: -1e6, max: 1e6 }, "0",
        "Added to up before it multiplies the activated gate.";
    shared_experts: u32, Kind::Integer { min: 0, max: 1 << 20 }, "0",
        "Experts that every token goes through besides its own, stored as one wider expert; their output has weight 1.";
    fused_layout: FusedLayout, Kind::Words(FusedLayout::WORDS), "\"halves\"",
        "How gate and up share `tensors.gate_up`.";
    orientation: Orientation, Kind::Words(Orientation::WORDS), "\"by-shape\"",
        "Order of the dimensions of gate, up and down.";
    router_orientation: Orientation, Kind::Words(Orientation::WORDS), "\"by-shape\"",
        "Order of the dimensions of the router.";
    combine: Combine, Kind::Words(Combine::WORDS), "\"selection\"",
        "The order in which the outputs of a token's experts are added.";
    tensors: MoeTensors, Kind::Table(&TENSORS), "(the preset's)",
        "Where each tensor is, relative to `--prefix`.";
    rounding: MoeRounding, Kind::Table(&ROUNDING), "(the preset's)",
        "Where the rounded evaluator rounds, and to what.";
}

const TENSOR: Kind = Kind::String("path");
const ROUND: Kind = Kind::Words(Round::WORDS);

keys! {
    /// Names of a layer's tensors. `{expert}` stands for an expert's number; without it a tensor holds all experts in
    /// its first dimension.
    MoeTensors TENSOR_FIELDS:
    router: String, TENSOR, "",
        "Router weight.";
    router_bias: String, TENSOR, "",
        "Bias of the router's logits.";
    selection_bias: String, TENSOR, "",
        "Bias of the scores for the choice only.";
    gate: String, TENSOR, "",
        "Gate projection, which goes through the activation.";
    up: String, TENSOR, "",
        "Up projection, which multiplies the activated gate.";
    gate_up: String, TENSOR, "",
        "Gate and up in one tensor; replaces the two.";
    down: String, TENSOR, "",
        "Down projection.";
    gate_bias: String, TENSOR, "",
        "Bias of gate.";
    up_bias: String, TENSOR, "",
        "Bias of up.";
    gate_up_bias: String, TENSOR, "",
        "Bias of the fused tensor, in its layout.";
    down_bias: String, TENSOR, "",
        "Bias of down, added before the expert's weight is applied.";
    shared_gate: String, TENSOR, "",
        "Gate projection of the shared experts.";
    shared_up: String, TENSOR, "",
        "Up projection of the shared experts.";
    shared_down: String, TENSOR, "",
        "Down projection of the shared experts.";
}

keys! {
    /// What the rounded evaluator rounds each value to when it stores it. Sums of products are f32 throughout.
    MoeRounding ROUNDING_FIELDS:
    weights: Round, ROUND, "\"none\"",
        "Weights of the experts, after they were decoded.";
    router_logits: Round, ROUND, "\"none\"",
        "Logits of the router, bias included.";
    probabilities: Round, ROUND, "\"none\"",
        "Scores of the experts.";
    routing_weights: Round, ROUND, "\"none\"",
        "Weights of the chosen experts.";
    gate_up: Round, ROUND, "\"none\"",
        "Outputs of gate and up, bias included.";
    activation: Round, ROUND, "\"none\"",
        "The activated gate.";
    hidden: Round, ROUND, "\"none\"",
        "The activated gate times up.";
    down: Round, ROUND, "\"none\"",
        "Output of down, bias included.";
    weighted: Round, ROUND, "\"none\"",
        "Output of an expert times its weight.";
    sum: Round, ROUND, "\"none\"",
        "Each partial sum over experts.";
    output: Round, ROUND, "\"input\"",
        "The layer's output, by both evaluators.";
}

pub(crate) static TENSORS: Shape = Shape {
    title: "moe.tensors",
    doc: "Where a layer's tensors are, relative to `--prefix`. `{expert}` stands for an expert's number.",
    fields: TENSOR_FIELDS,
};

pub(crate) static ROUNDING: Shape = Shape {
    title: "moe.rounding",
    doc: "What the rounded evaluator rounds each value to when it stores it.",
    fields: ROUNDING_FIELDS,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known_to_serde() {
        for (fields, parse) in [
            (FIELDS, (|json| serde_json::from_str::<MoeConfig>(json).is_ok()) as fn(&str) -> bool),
            (TENSOR_FIELDS, |json| serde_json::from_str::<MoeTensors>(json).is_ok()),
            (ROUNDING_FIELDS, |json| serde_json::from_str::<MoeRounding>(json).is_ok()),
        ] {
            for field in fields {
                assert!(field.doc.ends_with('.'), "{}", field.key);
                assert!(parse(&format!("{{\"{}\": null}}", field.key)), "{}", field.key);
            }
            assert!(!parse("{\"other\": 1}"));
        }
    }

    #[test]
    fn tables_merge_key_by_key() {
        let tensors = |router: Option<&str>, gate: Option<&str>| MoeConfig {
            tensors: Some(MoeTensors {
                router: router.map(str::to_owned),
                gate: gate.map(str::to_owned),
                ..MoeTensors::default()
            }),
            ..MoeConfig::default()
        };
        let merged = tensors(Some("own"), None).over(&tensors(Some("base"), Some("gate"))).tensors.unwrap();
        assert_eq!((merged.router.as_deref(), merged.gate.as_deref()), (Some("own"), Some("gate")));
    }
}
