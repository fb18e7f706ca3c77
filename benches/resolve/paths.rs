//! The tensor names of a DeepSeek-V3 checkpoint, in the order of its index: 61 layers and one for multi-token
//! prediction, 256 experts in each layer from the fourth on, a scale beside each fp8 weight.

const LAYERS: usize = 62;
const DENSE_LAYERS: usize = 3;
const EXPERTS: usize = 256;

/// Every name.
pub(crate) fn deepseek() -> Vec<String> {
    let mut paths = vec!["model.embed_tokens.weight".to_owned()];
    for layer in 0..LAYERS {
        let layer_name = format!("model.layers.{layer}");
        let mut fp8 = |name: String| {
            paths.push(format!("{layer_name}.{name}.weight"));
            paths.push(format!("{layer_name}.{name}.weight_scale_inv"));
        };
        for name in ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"] {
            fp8(format!("self_attn.{name}"));
        }
        let projections = ["gate_proj", "up_proj", "down_proj"];
        if layer < DENSE_LAYERS {
            projections.iter().for_each(|name| fp8(format!("mlp.{name}")));
        } else {
            for expert in 0..EXPERTS {
                projections.iter().for_each(|name| fp8(format!("mlp.experts.{expert}.{name}")));
            }
            projections.iter().for_each(|name| fp8(format!("mlp.shared_experts.{name}")));
            paths.push(format!("{layer_name}.mlp.gate.weight"));
            paths.push(format!("{layer_name}.mlp.gate.e_score_correction_bias"));
        }
        for name in
            ["self_attn.q_a_layernorm", "self_attn.kv_a_layernorm", "input_layernorm", "post_attention_layernorm"]
        {
            paths.push(format!("{layer_name}.{name}.weight"));
        }
    }
    for name in ["eh_proj.weight", "enorm.weight", "hnorm.weight", "shared_head.norm.weight", "shared_head.head.weight"]
    {
        paths.push(format!("model.layers.{}.{name}", LAYERS - 1));
    }
    paths.extend(["model.norm.weight", "lm_head.weight"].map(str::to_owned));
    paths
}
