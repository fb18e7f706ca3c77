//! Templates: exact, stable, and what people see of real models.

use std::collections::BTreeSet;

use flow_fabric::inventory::{Grouping, Inventory, Template, collapse};
use proptest::prelude::*;

use super::support::shipped;

/// The templates of a model's logical weights, one per line, as `inspect` would list them.
fn listed(name: &str) -> String {
    let (inventory, _) = Inventory::group(&shipped(name), &Grouping::default());
    let key = |weight: &flow_fabric::inventory::Weight| (weight.format.clone(), weight.dtype, weight.shape.clone());
    let templates = collapse(inventory.weights.iter().map(|weight| (weight.path.as_str(), key(weight))));
    assert_eq!(templates.iter().map(Template::count).sum::<usize>(), inventory.weights.len());
    let lines: Vec<String> = templates
        .iter()
        .map(|template| {
            let (format, dtype, shape) = &template.key;
            format!("{template}  {} x {format} {dtype} {shape:?}", template.count())
        })
        .collect();
    lines.join("\n")
}

#[test]
fn grok_1_in_templates() {
    insta::assert_snapshot!(listed("grok-1.jsonl"), @r"
    language_model/in_out_embed/embeddings  1 x plain f32 [131072, 6144]
    language_model/rms_norm/scale  1 x plain f32 [6144]
    transformer/decoder_layer_{0..63}/moe/{linear,linear_v}/w  128 x grok-1 bf16 [8, 6144, 32768]
    transformer/decoder_layer_{0..63}/moe/linear_1/w  64 x grok-1 bf16 [8, 32768, 6144]
    transformer/decoder_layer_{0..63}/multi_head_attention/{key,value}/w  128 x grok-1 bf16 [6144, 1024]
    transformer/decoder_layer_{0..63}/multi_head_attention/{linear,query}/w  128 x grok-1 bf16 [6144, 6144]
    transformer/decoder_layer_{0..63}/rms_norm/scale  64 x plain f32 [6144]
    transformer/decoder_layer_{0..63}/rms_norm_{1..3}/scale  192 x plain f32 [6144]
    transformer/decoder_layer_{0..63}/router/w  64 x plain f32 [6144, 8]
    ");
}

#[test]
fn mixtral_in_templates() {
    insta::assert_snapshot!(listed("mixtral-8x7b.jsonl"), @r"
    lm_head.weight  1 x plain bf16 [32000, 4096]
    model.embed_tokens.weight  1 x plain bf16 [32000, 4096]
    model.layers.{0..31}.block_sparse_moe.experts.{0..7}.w{1,3}.weight  512 x plain bf16 [14336, 4096]
    model.layers.{0..31}.block_sparse_moe.experts.{0..7}.w2.weight  256 x plain bf16 [4096, 14336]
    model.layers.{0..31}.block_sparse_moe.gate.weight  32 x plain bf16 [8, 4096]
    model.layers.{0..31}.{input,post_attention}_layernorm.weight  64 x plain bf16 [4096]
    model.layers.{0..31}.self_attn.{k,v}_proj.weight  64 x plain bf16 [1024, 4096]
    model.layers.{0..31}.self_attn.{o,q}_proj.weight  64 x plain bf16 [4096, 4096]
    model.norm.weight  1 x plain bf16 [4096]
    ");
}

#[test]
fn bert_in_templates() {
    insta::assert_snapshot!(listed("bert-base-uncased.jsonl"), @r"
    bert.embeddings.LayerNorm.{beta,gamma}  2 x plain f32 [768]
    bert.embeddings.position_embeddings.weight  1 x plain f32 [512, 768]
    bert.embeddings.token_type_embeddings.weight  1 x plain f32 [2, 768]
    bert.embeddings.word_embeddings.weight  1 x plain f32 [30522, 768]
    bert.encoder.layer.{0..11}.attention.output.LayerNorm.{beta,gamma}  24 x plain f32 [768]
    bert.encoder.layer.{0..11}.attention.output.dense.bias  12 x plain f32 [768]
    bert.encoder.layer.{0..11}.attention.output.dense.weight  12 x plain f32 [768, 768]
    bert.encoder.layer.{0..11}.attention.self.{key,query,value}.bias  36 x plain f32 [768]
    bert.encoder.layer.{0..11}.attention.self.{key,query,value}.weight  36 x plain f32 [768, 768]
    bert.encoder.layer.{0..11}.intermediate.dense.bias  12 x plain f32 [3072]
    bert.encoder.layer.{0..11}.intermediate.dense.weight  12 x plain f32 [3072, 768]
    bert.encoder.layer.{0..11}.output.LayerNorm.{beta,gamma}  24 x plain f32 [768]
    bert.encoder.layer.{0..11}.output.dense.bias  12 x plain f32 [768]
    bert.encoder.layer.{0..11}.output.dense.weight  12 x plain f32 [768, 3072]
    bert.pooler.dense.bias  1 x plain f32 [768]
    bert.pooler.dense.weight  1 x plain f32 [768, 768]
    cls.predictions.bias  1 x plain f32 [30522]
    cls.predictions.transform.LayerNorm.{beta,gamma}  2 x plain f32 [768]
    cls.predictions.transform.dense.bias  1 x plain f32 [768]
    cls.predictions.transform.dense.weight  1 x plain f32 [768, 768]
    cls.seq_relationship.bias  1 x plain f32 [2]
    cls.seq_relationship.weight  1 x plain f32 [2, 768]
    ");
}

#[test]
fn deepseek_v3_in_templates() {
    insta::assert_snapshot!(listed("deepseek-v3.jsonl.gz"), @r"
    lm_head.weight  1 x plain bf16 [129280, 7168]
    model.embed_tokens.weight  1 x plain bf16 [129280, 7168]
    model.layers.{0..61}.{input,post_attention}_layernorm.weight  124 x plain bf16 [7168]
    model.layers.{0..2}.mlp.down_proj.weight  3 x fp8-block bf16 [7168, 18432]
    model.layers.{0..2}.mlp.{gate,up}_proj.weight  6 x fp8-block bf16 [18432, 7168]
    model.layers.{0..61}.self_attn.kv_a_layernorm.weight  62 x plain bf16 [512]
    model.layers.{0..61}.self_attn.kv_a_proj_with_mqa.weight  62 x fp8-block bf16 [576, 7168]
    model.layers.{0..61}.self_attn.kv_b_proj.weight  62 x fp8-block bf16 [32768, 512]
    model.layers.{0..61}.self_attn.o_proj.weight  62 x fp8-block bf16 [7168, 16384]
    model.layers.{0..61}.self_attn.q_a_layernorm.weight  62 x plain bf16 [1536]
    model.layers.{0..61}.self_attn.q_a_proj.weight  62 x fp8-block bf16 [1536, 7168]
    model.layers.{0..61}.self_attn.q_b_proj.weight  62 x fp8-block bf16 [24576, 1536]
    model.layers.{3..61}.mlp.experts.{0..255}.down_proj.weight  15104 x fp8-block bf16 [7168, 2048]
    model.layers.{3..61}.mlp.experts.{0..255}.{gate,up}_proj.weight  30208 x fp8-block bf16 [2048, 7168]
    model.layers.{3..61}.mlp.gate.e_score_correction_bias  59 x plain f32 [256]
    model.layers.{3..61}.mlp.gate.weight  59 x plain bf16 [256, 7168]
    model.layers.{3..61}.mlp.shared_experts.down_proj.weight  59 x fp8-block bf16 [7168, 2048]
    model.layers.{3..61}.mlp.shared_experts.{gate,up}_proj.weight  118 x fp8-block bf16 [2048, 7168]
    model.layers.61.eh_proj.weight  1 x plain bf16 [7168, 14336]
    model.layers.61.embed_tokens.weight  1 x plain bf16 [129280, 7168]
    model.layers.61.{enorm,hnorm}.weight  2 x plain bf16 [7168]
    model.layers.61.shared_head.head.weight  1 x plain bf16 [129280, 7168]
    model.layers.61.shared_head.norm.weight  1 x plain bf16 [7168]
    model.norm.weight  1 x plain bf16 [7168]
    ");
}

#[test]
fn gpt_oss_120b_in_templates() {
    insta::assert_snapshot!(listed("gpt-oss-120b.jsonl.gz"), @r"
    lm_head.weight  1 x plain bf16 [201088, 2880]
    model.embed_tokens.weight  1 x plain bf16 [201088, 2880]
    model.layers.{0..35}.{input,post_attention}_layernorm.weight  72 x plain bf16 [2880]
    model.layers.{0..35}.mlp.experts.down_proj  36 x mxfp4-blocks bf16 [128, 2880, 2880]
    model.layers.{0..35}.mlp.experts.down_proj_bias  36 x plain bf16 [128, 2880]
    model.layers.{0..35}.mlp.experts.gate_up_proj  36 x mxfp4-blocks bf16 [128, 5760, 2880]
    model.layers.{0..35}.mlp.experts.gate_up_proj_bias  36 x plain bf16 [128, 5760]
    model.layers.{0..35}.mlp.router.bias  36 x plain bf16 [128]
    model.layers.{0..35}.mlp.router.weight  36 x plain bf16 [128, 2880]
    model.layers.{0..35}.self_attn.{k,v}_proj.bias  72 x plain bf16 [512]
    model.layers.{0..35}.self_attn.{k,v}_proj.weight  72 x plain bf16 [512, 2880]
    model.layers.{0..35}.self_attn.o_proj.bias  36 x plain bf16 [2880]
    model.layers.{0..35}.self_attn.o_proj.weight  36 x plain bf16 [2880, 4096]
    model.layers.{0..35}.self_attn.q_proj.bias  36 x plain bf16 [4096]
    model.layers.{0..35}.self_attn.q_proj.weight  36 x plain bf16 [4096, 2880]
    model.layers.{0..35}.self_attn.sinks  36 x plain bf16 [64]
    model.norm.weight  1 x plain bf16 [2880]
    ");
}

fn lines<K: Ord + Clone>(paths: &[(&str, K)]) -> Vec<String> {
    collapse(paths.iter().cloned()).iter().map(ToString::to_string).collect()
}

#[test]
fn only_paths_of_equal_key_are_joined() {
    assert_eq!(lines(&[("h.0.w", 1), ("h.1.w", 2), ("h.2.w", 1)]), ["h.{0,2}.w", "h.1.w"]);
    assert_eq!(lines(&[("a.k", 1), ("a.q", 1), ("a.v", 2)]), ["a.{k,q}", "a.v"]);
}

#[test]
fn odd_paths_stand_for_themselves() {
    let odd = ["", "/", "a//b", "a.", "{0..3}", "a\\,b", "h.007.w", "h.7.w", "99999999999999999999", "h.{1,2}"];
    let templates = collapse(odd.iter().map(|&path| (path, ())));
    let expanded: BTreeSet<String> = templates.iter().flat_map(Template::expand).collect();
    assert_eq!(expanded, odd.iter().map(|&path| path.to_owned()).collect());
    assert_eq!(lines(&[("{0..3}", ()), ("a,{b", ())]), [r"a\,\{b", r"\{0..3\}"]);
}

#[test]
fn templates_do_not_depend_on_the_order_of_the_paths() {
    let checkpoint = shipped("mixtral-8x7b.jsonl");
    let mut paths: Vec<(&str, &[u64])> =
        checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    let forward = lines(&paths);
    paths.reverse();
    assert_eq!(lines(&paths), forward);
    paths.rotate_left(333);
    assert_eq!(lines(&paths), forward);
}

#[test]
fn a_tensor_more_adds_its_own_record() {
    let checkpoint = shipped("mixtral-8x7b.jsonl");
    let mut paths: Vec<(&str, &[u64])> =
        checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    let before: BTreeSet<String> = lines(&paths).into_iter().collect();
    for added in [
        "model.layers.32.block_sparse_moe.experts.0.w1.weight",
        "model.layers.7.block_sparse_moe.experts.8.w3.weight",
        "model.layers.7.block_sparse_moe.shared_expert.weight",
        "model.layers.32.self_attn.k_proj.weight",
        "model.layers.5.self_attn.k_proj.bias",
        "zzz",
    ] {
        let shape: &[u64] = if added.contains("attn") { &[1024, 4096] } else { &[14336, 4096] };
        paths.push((added, shape));
        let after: BTreeSet<String> = lines(&paths).into_iter().collect();
        assert_eq!(after.difference(&before).cloned().collect::<Vec<_>>(), [added]);
        assert!(after.is_superset(&before));
        paths.pop();
    }
}

/// Paths as models have them, with numbers, words and odd characters, each with one of a few keys.
fn paths() -> impl Strategy<Value = BTreeSet<(String, u8)>> {
    let token = prop_oneof![
        4 => "[0-3]",
        2 => "(h|layer)_[0-3]",
        2 => "(q|k|v|up|down)_proj",
        1 => "w[1-3]",
        1 => "[ab{},.\\\\0-9é]{0,3}",
    ];
    let path = proptest::collection::vec(token, 1..5).prop_map(|tokens| tokens.join("."));
    proptest::collection::btree_map(path, 0_u8..3, 0..80).prop_map(|paths| paths.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, rng_seed: proptest::test_runner::RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn templates_stand_for_exactly_their_members(paths in paths()) {
        let paths: Vec<(String, u8)> = paths.into_iter().collect();
        let templates = collapse(paths.iter().map(|(path, key)| (path.as_str(), *key)));
        let mut seen = BTreeSet::new();
        for template in &templates {
            let expanded: BTreeSet<(String, u8)> =
                template.expand().into_iter().map(|path| (path, template.key)).collect();
            let members: BTreeSet<(String, u8)> = template.members.iter().map(|&at| paths[at].clone()).collect();
            prop_assert_eq!(template.count(), expanded.len());
            prop_assert_eq!(template.count(), template.members.len());
            prop_assert_eq!(&expanded, &members, "{}", template);
            seen.extend(template.members.iter().copied());
        }
        prop_assert_eq!(seen.len(), paths.len());
    }
}
