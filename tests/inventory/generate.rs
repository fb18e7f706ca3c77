//! Inventories derived from published configs: DeepSeek-V3 and GPT-OSS-120b as their checkpoints store them.
//!
//! The committed `.jsonl.gz` files are compared with what this makes; `UPDATE_GENERATED=1 cargo test --test inventory generated`
//! writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};

use flate2::{Compression, GzBuilder, read::GzDecoder};
use flow_fabric::Dtype;
use flow_fabric::inventory::{Grouping, Inventory};

use super::support::{data, lines, shipped};

/// Lines of an inventory in the making.
#[derive(Default)]
struct List(String);

impl List {
    fn add(&mut self, name: &str, dtype: &str, shape: &[u64]) {
        let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
        writeln!(self.0, r#"{{"name":"{name}","dtype":"{dtype}","shape":[{}]}}"#, shape.join(",")).unwrap();
    }

    /// A matrix as DeepSeek stores it: fp8 with one f32 per 128 x 128 block.
    fn fp8(&mut self, name: &str, rows: u64, columns: u64) {
        self.add(&format!("{name}.weight"), "F8_E4M3", &[rows, columns]);
        self.add(&format!("{name}.weight_scale_inv"), "F32", &[rows.div_ceil(128), columns.div_ceil(128)]);
    }
}

/// DeepSeek-V3 (config.json of the published model): 61 layers, of which 3 dense, and layer 61 for multi-token prediction.
fn deepseek_v3() -> String {
    const HIDDEN: u64 = 7168;
    const VOCABULARY: u64 = 129_280;
    const HEADS: u64 = 128;
    const Q_RANK: u64 = 1536;
    const KV_RANK: u64 = 512;
    const NOPE: u64 = 128;
    const ROPE: u64 = 64;
    const VALUE: u64 = 128;
    let mut list = List::default();
    list.add("model.embed_tokens.weight", "BF16", &[VOCABULARY, HIDDEN]);
    for layer in 0..=61 {
        let at = format!("model.layers.{layer}");
        let feed_forward = |list: &mut List, module: &str, inner: u64| {
            list.fp8(&format!("{at}.mlp.{module}gate_proj"), inner, HIDDEN);
            list.fp8(&format!("{at}.mlp.{module}up_proj"), inner, HIDDEN);
            list.fp8(&format!("{at}.mlp.{module}down_proj"), HIDDEN, inner);
        };
        list.add(&format!("{at}.input_layernorm.weight"), "BF16", &[HIDDEN]);
        list.fp8(&format!("{at}.self_attn.q_a_proj"), Q_RANK, HIDDEN);
        list.add(&format!("{at}.self_attn.q_a_layernorm.weight"), "BF16", &[Q_RANK]);
        list.fp8(&format!("{at}.self_attn.q_b_proj"), HEADS * (NOPE + ROPE), Q_RANK);
        list.fp8(&format!("{at}.self_attn.kv_a_proj_with_mqa"), KV_RANK + ROPE, HIDDEN);
        list.add(&format!("{at}.self_attn.kv_a_layernorm.weight"), "BF16", &[KV_RANK]);
        list.fp8(&format!("{at}.self_attn.kv_b_proj"), HEADS * (NOPE + VALUE), KV_RANK);
        list.fp8(&format!("{at}.self_attn.o_proj"), HIDDEN, HEADS * VALUE);
        list.add(&format!("{at}.post_attention_layernorm.weight"), "BF16", &[HIDDEN]);
        if layer < 3 {
            feed_forward(&mut list, "", 18_432);
        } else {
            list.add(&format!("{at}.mlp.gate.weight"), "BF16", &[256, HIDDEN]);
            list.add(&format!("{at}.mlp.gate.e_score_correction_bias"), "F32", &[256]);
            feed_forward(&mut list, "shared_experts.", 2048);
            for expert in 0..256 {
                feed_forward(&mut list, &format!("experts.{expert}."), 2048);
            }
        }
        if layer == 61 {
            list.add(&format!("{at}.embed_tokens.weight"), "BF16", &[VOCABULARY, HIDDEN]);
            list.add(&format!("{at}.enorm.weight"), "BF16", &[HIDDEN]);
            list.add(&format!("{at}.hnorm.weight"), "BF16", &[HIDDEN]);
            list.add(&format!("{at}.eh_proj.weight"), "BF16", &[HIDDEN, 2 * HIDDEN]);
            list.add(&format!("{at}.shared_head.norm.weight"), "BF16", &[HIDDEN]);
            list.add(&format!("{at}.shared_head.head.weight"), "BF16", &[VOCABULARY, HIDDEN]);
        }
    }
    list.add("model.norm.weight", "BF16", &[HIDDEN]);
    list.add("lm_head.weight", "BF16", &[VOCABULARY, HIDDEN]);
    list.0
}

/// GPT-OSS-120b (config.json of the published model): 36 layers of 128 experts, experts in MXFP4.
fn gpt_oss_120b() -> String {
    const HIDDEN: u64 = 2880;
    const VOCABULARY: u64 = 201_088;
    const EXPERTS: u64 = 128;
    let mut list = List::default();
    list.add("model.embed_tokens.weight", "BF16", &[VOCABULARY, HIDDEN]);
    for layer in 0..36 {
        let at = format!("model.layers.{layer}");
        list.add(&format!("{at}.input_layernorm.weight"), "BF16", &[HIDDEN]);
        for (name, rows, columns) in [("q", 4096, HIDDEN), ("k", 512, HIDDEN), ("v", 512, HIDDEN), ("o", HIDDEN, 4096)]
        {
            list.add(&format!("{at}.self_attn.{name}_proj.weight"), "BF16", &[rows, columns]);
            list.add(&format!("{at}.self_attn.{name}_proj.bias"), "BF16", &[rows]);
        }
        list.add(&format!("{at}.self_attn.sinks"), "BF16", &[64]);
        list.add(&format!("{at}.post_attention_layernorm.weight"), "BF16", &[HIDDEN]);
        list.add(&format!("{at}.mlp.router.weight"), "BF16", &[EXPERTS, HIDDEN]);
        list.add(&format!("{at}.mlp.router.bias"), "BF16", &[EXPERTS]);
        for (name, rows) in [("gate_up_proj", 2 * HIDDEN), ("down_proj", HIDDEN)] {
            list.add(&format!("{at}.mlp.experts.{name}_blocks"), "U8", &[EXPERTS, rows, HIDDEN / 32, 16]);
            list.add(&format!("{at}.mlp.experts.{name}_scales"), "U8", &[EXPERTS, rows, HIDDEN / 32]);
            list.add(&format!("{at}.mlp.experts.{name}_bias"), "BF16", &[EXPERTS, rows]);
        }
    }
    list.add("model.norm.weight", "BF16", &[HIDDEN]);
    list.add("lm_head.weight", "BF16", &[VOCABULARY, HIDDEN]);
    list.0
}

#[test]
fn generated_inventories_are_up_to_date() {
    for (name, text) in [("deepseek-v3.jsonl.gz", deepseek_v3()), ("gpt-oss-120b.jsonl.gz", gpt_oss_120b())] {
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            let mut encoder = GzBuilder::new().write(fs::File::create(data(name)).unwrap(), Compression::best());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        let mut committed = String::new();
        GzDecoder::new(fs::File::open(data(name)).unwrap()).read_to_string(&mut committed).unwrap();
        assert!(committed == text, "{name}: run `UPDATE_GENERATED=1 cargo test --test inventory generated`");
    }
}

/// Stored elements by dtype.
fn elements(name: &str) -> BTreeMap<Dtype, u64> {
    let mut elements = BTreeMap::new();
    for tensor in shipped(name).tensors {
        *elements.entry(tensor.dtype).or_default() += tensor.elements();
    }
    elements
}

#[test]
fn generated_inventories_have_the_published_numbers_of_elements() {
    let deepseek = [(Dtype::F32, 41_555_600), (Dtype::Bf16, 3_918_786_560), (Dtype::F8E4m3, 680_571_043_840)];
    assert_eq!(elements("deepseek-v3.jsonl.gz"), BTreeMap::from(deepseek));
    let oss = elements("gpt-oss-120b.jsonl.gz");
    assert_eq!(oss[&Dtype::Bf16], 2_167_371_072);
    // 57,330,892,800 bytes of blocks with two codes each and 3,583,180,800 scales: 118,244,966,400 as it is published.
    assert_eq!(oss[&Dtype::U8], 57_330_892_800 + 3_583_180_800);
}

#[test]
fn generated_inventories_group_without_findings() {
    for (name, stored, logical) in [("deepseek-v3.jsonl.gz", 91991, 46183), ("gpt-oss-120b.jsonl.gz", 687, 615)] {
        let checkpoint = shipped(name);
        let (inventory, findings) = Inventory::group(&checkpoint, &Grouping::default());
        assert_eq!(lines(&findings), "");
        assert_eq!((checkpoint.tensors.len(), inventory.weights.len()), (stored, logical), "{name}");
        assert!(inventory.weights.iter().all(|weight| matches!(weight.dtype, Dtype::Bf16 | Dtype::F32)));
    }
}
