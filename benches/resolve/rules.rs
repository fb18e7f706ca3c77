//! Rule tables of any size: ten rules that cover the model, behind as many special cases as asked for. The cases are
//! of the kinds that generated mixed-precision tables consist of.

use std::collections::HashSet;

use crate::random::Random;

/// The table without special cases.
const BASE: [&[&str]; 10] = [
    &["embed_tokens|lm_head", "weight"],
    &["self_attn", "(q|kv)_b_proj", "weight.*"],
    &["self_attn", "q_a_proj|kv_a_proj_with_mqa", "weight.*"],
    &["self_attn", "o_proj", "weight.*"],
    &[".*norm", "weight"],
    &["mlp", "gate", "weight|e_score_correction_bias"],
    &["shared_experts", "(gate|up)_proj", ".*"],
    &["shared_experts", "down_proj", ".*"],
    &["experts", "[0-9]+", "(gate|up)_proj", ".*"],
    &["experts", "[0-9]+", "down_proj", ".*"],
];

const MODULES: [&[&str]; 15] = [
    &["self_attn", "q_a_proj"],
    &["self_attn", "q_b_proj"],
    &["self_attn", "kv_a_proj_with_mqa"],
    &["self_attn", "kv_b_proj"],
    &["self_attn", "o_proj"],
    &["self_attn", "q_a_layernorm"],
    &["self_attn", "kv_a_layernorm"],
    &["input_layernorm"],
    &["post_attention_layernorm"],
    &["mlp", "gate_proj"],
    &["mlp", "down_proj"],
    &["mlp", "gate"],
    &["mlp", "shared_experts", "gate_proj"],
    &["mlp", "shared_experts", "up_proj"],
    &["mlp", "shared_experts", "down_proj"],
];

/// Ranges of layers or experts, as people write them.
const RANGES: [&str; 12] = [
    "[0-9]",
    "1[0-9]",
    "2[0-9]",
    "[3-5][0-9]",
    "[0-2]",
    "(3|7|11)",
    "5[5-9]|60",
    "[0-9]+",
    r"\d+",
    "1[0-9][0-9]",
    "2[0-5][0-9]",
    "[0-9]*[02468]",
];

const PROJECTIONS: [&str; 5] = ["gate_proj", "up_proj", "down_proj", "gate_proj|up_proj", "(gate|up|down)_proj"];

const LEAVES: [&str; 4] = ["weight", "weight_scale_inv", "weight|weight_scale_inv", "weight.*"];

/// `count` different `tokens` patterns, in file order.
pub(crate) fn rules(count: usize) -> Vec<Vec<String>> {
    let mut random = Random(7);
    let mut known = HashSet::new();
    let mut rules = Vec::new();
    while rules.len() + BASE.len() < count {
        let rule = special(&mut random);
        if known.insert(rule.clone()) {
            rules.push(rule);
        }
    }
    rules.extend(BASE.iter().map(|rule| owned(rule)));
    rules
}

fn special(random: &mut Random) -> Vec<String> {
    let layer = random.below(62).to_string();
    let expert = random.below(256).to_string();
    let range = *random.pick(&RANGES);
    let leaf = *random.pick(&LEAVES);
    let projection = *random.pick(&PROJECTIONS);
    match random.below(20) {
        // One module of one layer.
        0..8 => {
            [&["layers", &layer], *random.pick(&MODULES), &[leaf]].concat().into_iter().map(str::to_owned).collect()
        }
        // One module, or all experts, of a range of layers.
        8..10 => {
            [&["layers", range], *random.pick(&MODULES), &[leaf]].concat().into_iter().map(str::to_owned).collect()
        }
        10..12 => owned(&["layers", &layer, "mlp", "experts", range, projection, leaf]),
        // One expert of one layer.
        12..15 => owned(&["layers", &layer, "mlp", "experts", &expert, projection, leaf]),
        // Some experts of all layers.
        15..17 => {
            let some = format!("({expert}|{}|{})", random.below(256), random.below(256));
            owned(&["experts", &some, projection, leaf])
        }
        // Rules for other models, which match nothing here.
        17 => owned(&[
            "h",
            &layer,
            *random.pick(&["attn", "mlp"]),
            *random.pick(&["c_attn", "c_proj", "c_fc"]),
            "weight|bias",
        ]),
        18 => owned(&[&format!("decoder_layer_{range}"), &format!("linear(_{})?", random.below(40)), "w|b"]),
        _ => {
            let block = format!("blk{layer}_[a-z]+");
            owned(&[&block, &format!(".*_exp{expert}"), &format!("ffn_{projection}")])
        }
    }
}

fn owned(tokens: &[&str]) -> Vec<String> {
    tokens.iter().map(|token| (*token).to_owned()).collect()
}

/// The regex over whole paths that a rule is equal to: any window of tokens, `.` within a token.
pub(crate) fn whole_path(rule: &[String]) -> String {
    let tokens: Vec<String> = rule.iter().map(|token| format!("(?:{})", token.replace(".*", "[^./]*"))).collect();
    format!("(?:^|[./]){}(?:[./]|$)", tokens.join("[./]"))
}
