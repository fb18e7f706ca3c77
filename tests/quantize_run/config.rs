//! What engines read beside the tensors.

use flow_fabric::quantize::run::RunOptions;
use serde_json::{Value, json};

use crate::support::{self, Tensor, Tensors};

fn tensors() -> Tensors {
    let mut tensors = Tensors::new();
    for layer in 0..2 {
        for part in ["q_proj", "k_proj", "up_proj", "router"] {
            tensors.insert(format!("model.layers.{layer}.{part}.weight"), Tensor::noise(&[128, 128], layer));
        }
    }
    tensors.insert("lm_head.weight".into(), Tensor::noise(&[128, 128], 7));
    tensors.insert("norm.weight".into(), Tensor::noise(&[128], 8));
    tensors
}

/// The `config.json` that a run over a model writes, and the names of all files.
fn config(policy: &str) -> (Value, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    support::write(&source, &tensors(), None);
    let model = r#"{"model_type": "llama", "quantization_config": {"quant_method": "old"}, "hidden_size": 128}"#;
    std::fs::write(source.join("config.json"), model).unwrap();
    std::fs::write(source.join("tokenizer.json"), "{}").unwrap();
    support::quantize(&support::policy_of(policy), &source, &target, &RunOptions::default()).unwrap();
    let text = std::fs::read_to_string(target.join("config.json")).unwrap();
    assert!(text.find("model_type").unwrap() < text.find("hidden_size").unwrap(), "keys keep their order");
    (serde_json::from_str(&text).unwrap(), support::names(&target))
}

const RULES: &str = r#"
[[QUANTIZATION_RULES]]
name = "kept"
glob = "**.{router,lm_head,norm}.weight"
scheme = "keep"
[[QUANTIZATION_RULES]]
name = "all"
glob = "**"
scheme = "s"
"#;

#[test]
fn compressed_tensors_groups_are_named_and_the_rest_ignored() {
    let policy = format!(
        "[scheme.s]\nformat = \"int8\"\n[scheme.fine]\nformat = \"int4\"\ngranularity = {{ group = 32 }}\nsymmetric = false\n\
         [quantization]\nlayout = \"compressed-tensors\"\n[[QUANTIZATION_RULES]]\nname = \"up\"\nglob = \"**.up_proj.*\"\n\
         scheme = \"fine\"\n{RULES}"
    );
    let (config, names) = config(&policy);
    assert_eq!(names, ["config.json", "flow-fabric.drift.json", "model.safetensors", "tokenizer.json"]);
    let quantization = &config["quantization_config"];
    assert_eq!(quantization["format"], "mixed-precision");
    assert_eq!(quantization["ignore"], json!(["lm_head", r"re:model\.layers\.(?:0|1)\.router$"]));
    let [fine, coarse] = ["group_0", "group_1"].map(|name| &quantization["config_groups"][name]);
    assert_eq!(fine["targets"], json!([r"re:model\.layers\.(?:0|1)\.up_proj$"]));
    assert_eq!((&fine["format"], &fine["weights"]["group_size"]), (&json!("pack-quantized"), &json!(32)));
    assert_eq!((&fine["weights"]["symmetric"], &fine["input_activations"]), (&json!(false), &Value::Null));
    assert_eq!((&coarse["targets"], &coarse["format"]), (&json!(["Linear"]), &json!("int-quantized")));
    assert_eq!(coarse["input_activations"]["strategy"], "token");
}

#[test]
fn deepseek_and_bitsandbytes_say_what_their_loaders_ask_for() {
    let of = |layout: &str, scheme: &str| {
        let policy = format!("[scheme.s]\n{scheme}\n[quantization]\nlayout = \"{layout}\"\n{RULES}");
        config(&policy).0["quantization_config"].clone()
    };
    let kept = json!(["lm_head", "model.layers.0.router", "model.layers.1.router"]);
    let fp8 = of("deepseek", "format = \"fp8_e4m3\"\ngranularity = { block = [128, 128] }");
    assert_eq!(
        fp8,
        json!({
            "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
            "modules_to_not_convert": kept,
        })
    );
    let nf4 = of("bitsandbytes", "format = \"nf4\"\ndouble_quant = true");
    assert_eq!((&nf4["load_in_4bit"], &nf4["bnb_4bit_use_double_quant"]), (&json!(true), &json!(true)));
    assert_eq!(nf4["llm_int8_skip_modules"], kept);
}
