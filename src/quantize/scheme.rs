//! What a policy may ask of a weight: format, granularity, arithmetic. Plain data.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Dtype;

macro_rules! named {
    ($(#[$doc:meta])* $type:ident, $what:literal: $( $variant:ident $name:literal $text:literal; )*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum $type {
            $( #[doc = $text] #[serde(rename = $name)] $variant, )*
        }

        impl $type {
            /// Every one, in declaration order.
            pub const ALL: &'static [$type] = &[$($type::$variant),*];

            /// The spelling used in policies and plans.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( $type::$variant => $name, )* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|one| one.name() == text).ok_or_else(|| UnknownName {
                    what: $what,
                    name: text.to_owned(),
                })
            }
        }
    };
}

/// A spelling that names no format, layout or arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{name}`")]
pub struct UnknownName {
    /// What was looked for.
    pub what: &'static str,
    /// The spelling, as it was written.
    pub name: String,
}

named! {
    /// How a number is coded.
    ///
    /// ```
    /// use flow_fabric::quantize::Format;
    /// assert_eq!("fp8_e4m3".parse(), Ok(Format::Fp8E4m3));
    /// assert_eq!(Format::Q4K.to_string(), "q4_k");
    /// ```
    Format, "format":
    Int8 "int8" "Eight-bit integers with a scale, and a zero point unless symmetric.";
    Int4 "int4" "Four-bit integers, packed, with a scale, and a zero point unless symmetric.";
    Fp8E4m3 "fp8_e4m3" "OCP FP8 E4M3 (maximum 448) with a scale.";
    Fp8E5m2 "fp8_e5m2" "OCP FP8 E5M2 (maximum 57344) with a scale.";
    Nf4 "nf4" "bitsandbytes NormalFloat: sixteen quantiles of a normal distribution, one absmax per block of the flattened tensor.";
    Mxfp4 "mxfp4" "OCP MX FP4: 32 E2M1 numbers share a power of two.";
    Nvfp4 "nvfp4" "NVFP4: 16 E2M1 numbers share an E4M3 scale, the tensor one f32 scale.";
    Q80 "q8_0" "GGML: 32 eight-bit integers and an f16 scale.";
    Q40 "q4_0" "GGML: 32 four-bit integers and an f16 scale.";
    Q41 "q4_1" "GGML: 32 four-bit integers, an f16 scale and an f16 minimum.";
    Q4K "q4_k" "GGML: 256 four-bit integers in 8 sub-blocks with 6-bit scales and minima.";
    Q6K "q6_k" "GGML: 256 six-bit integers in 16 sub-blocks with 8-bit scales.";
}

named! {
    /// Whose names, companions and scale rule the output has.
    Layout, "layout":
    Grok1 "grok-1" "Grok-1's pairs: `<path>/weight` and `<path>/scales`.";
    CompressedTensors "compressed-tensors" "compressed-tensors: `weight_packed`, `weight_scale` and so on, described in `config.json`.";
    DeepSeek "deepseek" "DeepSeek's fp8: `weight` and `weight_scale_inv`.";
    BitsAndBytes "bitsandbytes" "bitsandbytes' prequantized keys: NF4 with its quant state, LLM.int8 with `SCB`.";
    Gguf "gguf" "GGUF: one tensor of GGML blocks.";
}

named! {
    /// Which arithmetic computes the codes.
    Arithmetic, "arithmetic":
    F32 "f32" "In f32 against the stored, rounded scale: the smallest error.";
    Reference "reference" "As the peer that defines the layout computes it, byte for byte.";
}

named! {
    /// What to do with weights that hold NaN or infinity.
    NonFinite, "non-finite rule":
    Refuse "refuse" "Count them and publish nothing.";
    Keep "keep" "Quantize anyway, as the defining peer would.";
}

/// How many values share a scale, said against the contracted dimension.
///
/// In a policy: `"tensor"`, `"channel"`, `{ group = 128 }`, `{ block = [128, 128] }`, `{ shard_group = "model" }`.
///
/// ```
/// use flow_fabric::quantize::Granularity;
/// let text = r#"{"group":128}"#;
/// assert_eq!(serde_json::from_str::<Granularity>(text).unwrap(), Granularity::Group(128));
/// assert_eq!(serde_json::from_str::<Granularity>(r#""channel""#).unwrap(), Granularity::Channel);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// One scale for the whole tensor.
    Tensor,
    /// One scale per index of every dimension but the contracted one.
    Channel,
    /// One scale per so many consecutive values along the contracted dimension.
    Group(u64),
    /// One scale per block of the last two dimensions; blocks at the edges may be smaller.
    Block([u64; 2]),
    /// As many scales along the contracted dimension as the named mesh axis has devices, where the weight's spec puts
    /// that axis on the contracted dimension; otherwise one, as [`Granularity::Channel`].
    ShardGroup(String),
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Tensor => f.write_str("tensor"),
            Granularity::Channel => f.write_str("channel"),
            Granularity::Group(size) => write!(f, "group {size}"),
            Granularity::Block([rows, columns]) => write!(f, "block {rows}x{columns}"),
            Granularity::ShardGroup(axis) => write!(f, "shard group {axis}"),
        }
    }
}

/// What `[scheme.NAME]` says: everything about the numbers, nothing about names in the file.
///
/// [`Scheme::new`] gives a format's own defaults; a policy overrides them key by key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// How a number is coded.
    pub format: Format,
    /// How many values share a scale.
    pub granularity: Granularity,
    /// Whether zero is always code zero (no zero point). Only integer formats can be asymmetric.
    pub symmetric: bool,
    /// Dtype the scales are stored in; `None` takes the layout's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_dtype: Option<Dtype>,
    /// Which arithmetic computes the codes.
    pub arithmetic: Arithmetic,
    /// Whether NF4's absmax values are themselves quantized to eight bits.
    pub double_quant: bool,
}

impl Scheme {
    /// A format with its own defaults: `int8` and fp8 per channel, `int4` in groups of 128, the others in the blocks
    /// that define them; symmetric, f32 arithmetic, the layout's scale dtype.
    ///
    /// ```
    /// use flow_fabric::quantize::{Format, Granularity, Scheme};
    /// assert_eq!(Scheme::new(Format::Nvfp4).granularity, Granularity::Group(16));
    /// ```
    #[must_use]
    pub fn new(format: Format) -> Self {
        let granularity = match format {
            Format::Int8 | Format::Fp8E4m3 | Format::Fp8E5m2 => Granularity::Channel,
            Format::Int4 => Granularity::Group(128),
            Format::Nf4 => Granularity::Group(64),
            Format::Nvfp4 => Granularity::Group(16),
            Format::Mxfp4 | Format::Q80 | Format::Q40 | Format::Q41 => Granularity::Group(32),
            Format::Q4K | Format::Q6K => Granularity::Group(256),
        };
        Self {
            format,
            granularity,
            symmetric: true,
            scale_dtype: None,
            arithmetic: Arithmetic::F32,
            double_quant: false,
        }
    }
}

/// Gates: figures that a quantized weight must keep to. An absent one does not gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest absolute error of any value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_abs_error: Option<f64>,
    /// Largest relative Frobenius error, `||x - y|| / ||x||`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_relative_error: Option<f64>,
    /// Smallest signal-to-quantization-noise ratio in dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_sqnr_db: Option<f64>,
    /// Smallest cosine similarity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_cosine: Option<f64>,
}

impl Limits {
    /// These limits where they are given, `base`'s elsewhere: a rule's own over its scheme's.
    #[must_use]
    pub fn or(self, base: Limits) -> Limits {
        Limits {
            max_abs_error: self.max_abs_error.or(base.max_abs_error),
            max_relative_error: self.max_relative_error.or(base.max_relative_error),
            min_sqnr_db: self.min_sqnr_db.or(base.min_sqnr_db),
            min_cosine: self.min_cosine.or(base.min_cosine),
        }
    }

    /// Whether nothing is gated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_serialize_alike() {
        for &format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        }
        for &layout in Layout::ALL {
            assert_eq!(layout.name().parse(), Ok(layout));
            assert_eq!(serde_json::to_value(layout).unwrap(), layout.name());
        }
        assert_eq!("int3".parse::<Format>().unwrap_err().to_string(), "unknown format `int3`");
    }

    #[test]
    fn granularity_is_written_as_policies_write_it() {
        let cases = [
            (Granularity::Tensor, r#""tensor""#),
            (Granularity::Channel, r#""channel""#),
            (Granularity::Group(128), r#"{"group":128}"#),
            (Granularity::Block([128, 64]), r#"{"block":[128,64]}"#),
            (Granularity::ShardGroup("model".into()), r#"{"shard_group":"model"}"#),
        ];
        for (granularity, text) in cases {
            assert_eq!(serde_json::to_string(&granularity).unwrap(), text);
            assert_eq!(serde_json::from_str::<Granularity>(text).unwrap(), granularity);
        }
    }

    #[test]
    fn a_rule_s_limit_wins_over_its_scheme_s() {
        let scheme = Limits { max_abs_error: Some(0.5), min_cosine: Some(0.9), ..Limits::default() };
        let rule = Limits { max_abs_error: Some(0.1), ..Limits::default() };
        assert_eq!(rule.or(scheme), Limits { max_abs_error: Some(0.1), min_cosine: Some(0.9), ..Limits::default() });
        assert!(Limits::default().is_empty() && !rule.is_empty());
    }
}
