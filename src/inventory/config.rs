//! What a model's `config.json` says about its stored tensors: ties and quantization.

use regex::RegexBuilder;
use serde_json::Value;

/// Largest `config.json`, in bytes.
pub(super) const MAX_CONFIG: u64 = 16 << 20;

/// The part of a `config.json` (Hugging Face) that describes stored tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelConfig {
    /// `tie_word_embeddings`: the output head is the input embedding. Only an explicit `true` counts, because what
    /// absence means differs by model class.
    pub tie_word_embeddings: bool,
    /// `quantization_config` (or `compression_config`), where there is one.
    pub quantization: Option<QuantizationConfig>,
}

/// How a checkpoint says its weights are quantized.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuantizationConfig {
    /// `quant_method`: `compressed-tensors`, `fp8`, `mxfp4`, `bitsandbytes`, ...
    pub method: String,
    /// `weight_block_size`: rows and columns of a block that shares one scale.
    pub block: Option<[u64; 2]>,
    /// compressed-tensors' `config_groups`, in order of their names.
    pub groups: Vec<QuantizationGroup>,
}

/// One of compressed-tensors' `config_groups`, as far as it concerns stored weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuantizationGroup {
    /// Module names, `re:` patterns and class names (`Linear`).
    pub targets: Vec<String>,
    /// `weights.num_bits`.
    pub bits: Option<u8>,
    /// `weights.group_size`.
    pub group_size: Option<u64>,
}

impl ModelConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    ///
    /// When the text is not JSON or not an object. Fields of an unexpected kind are taken as absent.
    ///
    /// ```
    /// use flow_fabric::inventory::ModelConfig;
    /// let config = ModelConfig::parse(r#"{"tie_word_embeddings": true}"#)?;
    /// assert!(config.tie_word_embeddings && config.quantization.is_none());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let config: serde_json::Map<String, Value> = serde_json::from_str(text)?;
        let tied = |config: Option<&Value>| config.and_then(Value::as_bool).unwrap_or(false);
        let of_text = config.get("text_config").and_then(|text| text.get("tie_word_embeddings"));
        let quantization = config.get("quantization_config").or_else(|| config.get("compression_config"));
        Ok(Self {
            tie_word_embeddings: tied(config.get("tie_word_embeddings")) || tied(of_text),
            quantization: quantization.and_then(Value::as_object).map(read_quantization),
        })
    }
}

fn read_quantization(config: &serde_json::Map<String, Value>) -> QuantizationConfig {
    let block = config.get("weight_block_size").and_then(Value::as_array).and_then(|block| match block.as_slice() {
        [rows, columns] => Some([rows.as_u64().filter(|&n| n > 0)?, columns.as_u64().filter(|&n| n > 0)?]),
        _ => None,
    });
    let groups = config.get("config_groups").and_then(Value::as_object);
    QuantizationConfig {
        method: config.get("quant_method").and_then(Value::as_str).unwrap_or_default().to_owned(),
        block,
        groups: groups.into_iter().flatten().map(|(_, group)| read_group(group)).collect(),
    }
}

fn read_group(group: &Value) -> QuantizationGroup {
    let targets = group.get("targets").and_then(Value::as_array);
    let weights = group.get("weights");
    let number = |key| weights.and_then(|weights| weights.get(key)).and_then(Value::as_u64);
    QuantizationGroup {
        targets: targets.into_iter().flatten().filter_map(|target| target.as_str().map(str::to_owned)).collect(),
        bits: number("num_bits").and_then(|bits| u8::try_from(bits).ok()).filter(|bits| (1..=8).contains(bits)),
        group_size: number("group_size").filter(|&size| size > 0),
    }
}

impl QuantizationConfig {
    /// The group that a module belongs to: the first that names it, else the first that names a class.
    #[must_use]
    pub fn group_of(&self, module: &str) -> Option<&QuantizationGroup> {
        let named = |group: &&QuantizationGroup| group.targets.iter().any(|target| names(target, module));
        let of_class = |group: &&QuantizationGroup| group.targets.iter().any(|target| is_class(target));
        self.groups.iter().find(named).or_else(|| self.groups.iter().find(of_class))
    }
}

fn names(target: &str, module: &str) -> bool {
    let Some(pattern) = target.strip_prefix("re:") else { return target == module };
    // Python's `re.match`: anchored at the start only. A pattern beyond the shared dialect names nothing.
    RegexBuilder::new(&format!("^(?:{pattern})")).size_limit(1 << 20).build().is_ok_and(|regex| regex.is_match(module))
}

/// Class names are single capitalised words (`Linear`, `LlamaAttention`).
fn is_class(target: &str) -> bool {
    target.starts_with(|c: char| c.is_ascii_uppercase())
        && target.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_before_class() {
        let config = ModelConfig::parse(
            r#"{"text_config": {"tie_word_embeddings": true}, "quantization_config": {
                "quant_method": "compressed-tensors", "weight_block_size": [128, 64],
                "config_groups": {
                  "group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "group_size": null}},
                  "group_1": {"targets": ["re:.*down_proj$", "lm_head"], "weights": {"num_bits": 4, "group_size": 128}}}}}"#,
        )
        .unwrap();
        assert!(config.tie_word_embeddings);
        let quantization = config.quantization.unwrap();
        assert_eq!(quantization.block, Some([128, 64]));
        let bits = |module| quantization.group_of(module).and_then(|group| group.bits);
        assert_eq!(bits("model.layers.0.mlp.down_proj"), Some(4));
        assert_eq!(bits("lm_head"), Some(4));
        assert_eq!(bits("model.layers.0.mlp.up_proj"), Some(8));
    }

    #[test]
    fn odd_fields_are_absent_fields() {
        let config = ModelConfig::parse(
            r#"{"tie_word_embeddings": "yes", "quantization_config": {"quant_method": 3, "weight_block_size": [0, 1],
                "config_groups": {"g": {"targets": [1, "("], "weights": {"num_bits": 99, "group_size": -1}}}}}"#,
        )
        .unwrap();
        assert!(!config.tie_word_embeddings);
        let quantization = config.quantization.unwrap();
        assert_eq!((quantization.method.as_str(), quantization.block), ("", None));
        let group = QuantizationGroup { targets: vec!["(".to_owned()], ..QuantizationGroup::default() };
        assert_eq!(quantization.groups, [group]);
        assert!(ModelConfig::parse("[]").is_err());
    }
}
