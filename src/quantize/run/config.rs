//! `config.json`: what engines read to know how a checkpoint is quantized, made from what was planned.

use std::fs;
use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::work::{Task, Work};
use crate::inventory::{self, Segment, Weight};
use crate::output::OutputError;
use crate::quantize::{Format, Granularity, Layout, Scheme};

/// What engines call the entry; the first is ours.
const KEYS: [&str; 2] = ["quantization_config", "compression_config"];

/// The `quantization_config` of a layout that has one.
pub(super) fn quantization(layout: Layout, work: &Work<'_>) -> Option<Value> {
    let schemes = Schemes::of(work);
    match layout {
        Layout::CompressedTensors => Some(compressed_tensors(&schemes)),
        Layout::DeepSeek => Some(deepseek(&schemes)),
        Layout::BitsAndBytes => Some(bitsandbytes(&schemes)),
        Layout::Grok1 | Layout::Gguf => None,
    }
}

/// Writes the model's `config.json` with this quantization, or without any, to another directory.
///
/// # Errors
/// [`OutputError::Io`].
pub(super) fn write(from: Option<&Path>, to: &Path, quantization: Option<Value>) -> Result<(), OutputError> {
    let source = from.map(|from| from.join("config.json"));
    // One that is no object was reported when the checkpoint was read; it is carried as it is.
    let config: Option<IndexMap<String, Value>> =
        source.and_then(|path| fs::read_to_string(path).ok()).and_then(|text| serde_json::from_str(&text).ok());
    let stale = config.as_ref().is_some_and(|config| KEYS.iter().any(|key| config.contains_key(*key)));
    if quantization.is_none() && !stale {
        return Ok(());
    }
    let mut config = config.unwrap_or_default();
    config.retain(|key, _| !KEYS.contains(&key.as_str()));
    if let Some(quantization) = quantization {
        config.insert(KEYS[0].to_owned(), quantization);
    }
    let path = to.join("config.json");
    let text = serde_json::to_string_pretty(&config).unwrap_or_default();
    fs::write(&path, text + "\n").map_err(OutputError::io("write", &path))
}

/// Modules by scheme, and those that no scheme applies to.
struct Schemes {
    /// Each scheme with its modules, those of fewer modules first.
    groups: Vec<(Scheme, Vec<String>)>,
    kept: Vec<String>,
}

impl Schemes {
    fn of(work: &Work<'_>) -> Self {
        let mut groups: IndexMap<Scheme, Vec<String>> = IndexMap::new();
        let mut kept = Vec::new();
        for unit in &work.units {
            match (&unit.task, work.inventory.weights.get(unit.weight)) {
                (Task::Encode(encode), _) => {
                    groups.entry(encode.settings.clone()).or_default().push(module(&unit.path).to_owned());
                }
                (Task::Copy, Some(weight)) if is_linear(weight) => kept.push(module(&unit.path).to_owned()),
                _ => {}
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, modules)| modules.len());
        Self { groups, kept }
    }
}

/// A weight that an engine could take for that of a linear layer.
fn is_linear(weight: &Weight) -> bool {
    weight.shape.len() == 2 && weight.dtype.is_float() && weight.path.ends_with(".weight")
}

fn module(path: &str) -> &str {
    path.strip_suffix(".weight").unwrap_or(path)
}

/// The fewest names and `re:` patterns that stand for these modules and no others.
fn patterns(modules: &[String]) -> Vec<String> {
    let templates = inventory::collapse(modules.iter().map(|module| (module.as_str(), ())));
    templates
        .iter()
        .map(|template| match template.segments.as_slice() {
            [Segment::Text(name)] => name.clone(),
            segments => {
                let alternatives = |words: Vec<String>| format!("(?:{})", words.join("|"));
                let pieces = segments.iter().map(|segment| match segment {
                    Segment::Text(text) => regex::escape(text),
                    Segment::Numbers(numbers) => alternatives(numbers.iter().map(u64::to_string).collect()),
                    Segment::Words(words) => alternatives(words.iter().map(|word| regex::escape(word)).collect()),
                });
                format!("re:{}$", pieces.collect::<String>())
            }
        })
        .collect()
}

/// `QuantizationConfig` of compressed-tensors 0.20. The last group has all linear layers, since engines look for the class;
/// names and patterns of the groups before it come first, and what is kept is ignored by name.
fn compressed_tensors(schemes: &Schemes) -> Value {
    let mut groups = serde_json::Map::new();
    let mut formats: Vec<&str> = Vec::new();
    for (index, (scheme, modules)) in schemes.groups.iter().enumerate() {
        let targets = if index + 1 == schemes.groups.len() { vec!["Linear".to_owned()] } else { patterns(modules) };
        let format = packed_format(scheme);
        if !formats.contains(&format) {
            formats.push(format);
        }
        groups.insert(
            format!("group_{index}"),
            json!({
                "targets": targets,
                "weights": weights(scheme),
                "input_activations": activations(scheme),
                "output_activations": null,
                "format": format,
            }),
        );
    }
    let format = match formats.as_slice() {
        [] => "dense",
        [one] => one,
        _ => "mixed-precision",
    };
    json!({
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "global_compression_ratio": null,
        "kv_cache_scheme": null,
        "config_groups": groups,
        "ignore": patterns(&schemes.kept),
    })
}

fn packed_format(scheme: &Scheme) -> &'static str {
    match (scheme.format, &scheme.granularity) {
        (Format::Int8, Granularity::Tensor | Granularity::Channel) => "int-quantized",
        (Format::Int8 | Format::Int4, _) => "pack-quantized",
        (Format::Nvfp4, _) => "nvfp4-pack-quantized",
        (Format::Mxfp4, _) => "mxfp4-pack-quantized",
        _ => "float-quantized",
    }
}

/// `QuantizationArgs` of the weights.
fn weights(scheme: &Scheme) -> Value {
    let (bits, kind) = match scheme.format {
        Format::Int8 => (8, "int"),
        Format::Int4 => (4, "int"),
        Format::Nvfp4 | Format::Mxfp4 => (4, "float"),
        _ => (8, "float"),
    };
    let (strategy, group, block) = match (&scheme.granularity, scheme.format) {
        (Granularity::Group(size), Format::Nvfp4) => ("tensor_group", Some(*size), None),
        (Granularity::Group(size), _) => ("group", Some(*size), None),
        (Granularity::Block(block), _) => ("block", None, Some(*block)),
        (Granularity::Tensor, _) => ("tensor", None, None),
        _ => ("channel", None, None),
    };
    let mut weights = json!({
        "num_bits": bits,
        "type": kind,
        "strategy": strategy,
        "symmetric": scheme.symmetric,
        "group_size": group,
        "block_structure": block,
        "dynamic": false,
        "actorder": null,
        "observer": "minmax",
    });
    let own = match scheme.format {
        Format::Nvfp4 => Some("torch.float8_e4m3fn"),
        Format::Mxfp4 => Some("torch.uint8"),
        _ => None,
    };
    if let (Some(own), Some(weights)) = (own, weights.as_object_mut()) {
        weights.insert("scale_dtype".to_owned(), own.into());
        weights.insert("zp_dtype".to_owned(), own.into());
    }
    weights
}

/// What engines do with activations beside these weights: int8 and fp8 kernels take both alike, scaled on the fly.
fn activations(scheme: &Scheme) -> Value {
    let (kind, strategy, group) = match (packed_format(scheme), &scheme.granularity) {
        ("int-quantized", _) => ("int", "token", None),
        ("float-quantized", Granularity::Block([_, wide])) => ("float", "group", Some(*wide)),
        ("float-quantized", _) => ("float", "token", None),
        _ => return Value::Null,
    };
    json!({
        "num_bits": 8, "type": kind, "strategy": strategy, "group_size": group, "symmetric": true, "dynamic": true,
        "block_structure": null, "actorder": null, "observer": null,
    })
}

/// As DeepSeek-V3's own config, and the names that transformers and engines skip.
fn deepseek(schemes: &Schemes) -> Value {
    let block = schemes.groups.iter().find_map(|(scheme, _)| match scheme.granularity {
        Granularity::Block(block) => Some(block),
        _ => None,
    });
    let e5m2 = schemes.groups.iter().any(|(scheme, _)| scheme.format == Format::Fp8E5m2);
    json!({
        "quant_method": "fp8",
        "fmt": if e5m2 { "e5m2" } else { "e4m3" },
        "activation_scheme": "dynamic",
        "weight_block_size": block.unwrap_or([128, 128]),
        "modules_to_not_convert": schemes.kept,
    })
}

/// As transformers' `BitsAndBytesConfig` writes it.
fn bitsandbytes(schemes: &Schemes) -> Value {
    let four = schemes.groups.iter().any(|(scheme, _)| scheme.format == Format::Nf4);
    let double = schemes.groups.iter().any(|(scheme, _)| scheme.double_quant);
    json!({
        "quant_method": "bitsandbytes",
        "load_in_4bit": four,
        "load_in_8bit": !four,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": double,
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_threshold": 6.0,
        "llm_int8_has_fp16_weight": false,
        "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_skip_modules": schemes.kept,
    })
}
