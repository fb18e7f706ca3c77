//! The policy language as data: every key, its type, default and meaning.
//!
//! One description serves the checker ([`super::check`]), the JSON Schema and the reference page, so that the three
//! cannot disagree. The typed reading of a checked document is [`super::read`].

/// A table of the language.
#[derive(Debug)]
pub(crate) struct Shape {
    /// What the reference calls it.
    pub(crate) title: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) fields: &'static [Field],
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
    pub(crate) doc: &'static str,
}

/// Whether a key must be there, and what holds when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    /// Absent means nothing.
    Optional,
    /// Absent means this, written as TOML or as a sentence in parentheses.
    Default(&'static str),
}

/// What a value may be. In an `Either` no two kinds share a TOML type, but for words and free strings.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A string; the word says what it means (`glob`, `axis`, ...).
    String(&'static str),
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Words(&'static [Word]),
    List(&'static Kind),
    Table(&'static Shape),
    /// A table whose keys are names that users choose.
    Named(&'static Kind),
    Either(&'static [Kind]),
}

/// One of a closed set of strings.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) word: &'static str,
    pub(crate) doc: &'static str,
}

const fn field(key: &'static str, kind: Kind, presence: Presence, doc: &'static str) -> Field {
    Field { key, kind, presence, doc }
}

const fn word(word: &'static str, doc: &'static str) -> Word {
    Word { word, doc }
}

use Kind::{Boolean, Either, Integer, List, Named, Number, String, Table, Words};
use Presence::{Default, Optional, Required};

const POSITIVE: Kind = Integer { min: 1, max: i64::MAX };
const COUNT: Kind = Integer { min: 0, max: i64::MAX };
const NON_NEGATIVE: Kind = Number { min: 0.0, max: f64::MAX };

/// The whole document.
pub(crate) static POLICY: Shape = Shape {
    title: "Policy",
    doc: "A flow-fabric policy.",
    fields: &[
        field("language", Integer { min: 1, max: 1 }, Required, "Version of the policy language."),
        field("policy", String("name"), Required, "Name of the policy; plans and snapshots quote it."),
        field(
            "extends",
            List(&String("path")),
            Default("[]"),
            "Policies that this one builds on, relative to this file. Own rules come before inherited ones; a file never \
             comes before one that extends it; each file counts once.",
        ),
        field(
            "separators",
            List(&String("character")),
            Default("[\"/\", \".\"]"),
            "Characters at which weight paths are cut into tokens. The first one joins paths that come as tokens.",
        ),
        field("mesh", Table(&MESH), Optional, "The device mesh that specs refer to."),
        field("partition", Table(&PARTITION), Optional, "Settings of the partition table."),
        field(
            "FLOW_FABRIC_PARTITION_RULES",
            List(&Table(&PARTITION_RULE)),
            Default("[]"),
            "How each weight is sharded. The first rule that matches decides.",
        ),
        field("scheme", Named(&Table(&SCHEME)), Optional, "Quantization schemes, by name."),
        field("quantization", Table(&QUANTIZATION), Optional, "Settings of the quantization table."),
        field(
            "QUANTIZATION_RULES",
            List(&Table(&QUANTIZATION_RULE)),
            Default("[]"),
            "How each weight is quantized. The first rule that matches decides.",
        ),
        field(
            "siblings",
            Named(&List(&String("token"))),
            Optional,
            "Weights that engines fuse, by a name of your own: paths that differ only in one of these tokens. They take one \
             scheme, and share a global scale where the format has one.",
        ),
        field("experts", Named(&Table(&EXPERTS)), Optional, "Stacked experts that are written one by one, by name."),
        field(
            "LOADER_RULES",
            List(&Table(&LOADER_RULE)),
            Default("[]"),
            "How each weight is read. The first rule that matches decides; without one the `[loader]` defaults hold.",
        ),
        field("loader", Table(&LOADER), Optional, "Loader defaults, and the names that a checkpoint's tensors get."),
        field("sampler", Named(&Table(&SAMPLER)), Optional, "Sampler profiles, by name."),
        field("moe", Named(&Table(&MOE)), Optional, "Mixture-of-experts layer profiles, by name."),
        field("slot", Named(&Table(&SLOT)), Optional, "What a slot adapter asks for by name."),
        field("expect", List(&Table(&EXPECT)), Default("[]"), "Inline tests: decisions that must hold for a weight."),
        field(
            "lints",
            Named(&Either(&[Words(LEVELS), Table(&LINT)])),
            Optional,
            "Levels of findings, by finding name or code.",
        ),
        field(
            "sensitive",
            Table(&SENSITIVE),
            Optional,
            "Weights that no rule quantizes unless it says `force = true`.",
        ),
        field("layers", Table(&LAYERS), Optional, "What counts as a layer for `when.layer`."),
        field("tie", List(&Table(&TIE)), Default("[]"), "Weights that share one storage."),
        field("stored", Named(&Table(&STORED)), Optional, "Stored layouts that the tool does not know, by name."),
    ],
};

pub(crate) static MESH: Shape = Shape {
    title: "mesh",
    doc: "A device mesh: named axes and their sizes, major to minor.",
    fields: &[
        field("axes", List(&String("axis")), Required, "Axis names, major to minor, as in `jax.make_mesh`."),
        field("shape", List(&POSITIVE), Required, "Devices along each axis. `--mesh data=1,model=16` overrides it."),
        field(
            "device_memory",
            String("size"),
            Optional,
            "Memory of one device, such as `\"80GiB\"`; the plan then says whether each device fits.",
        ),
    ],
};

pub(crate) static PARTITION: Shape = Shape {
    title: "partition",
    doc: "Settings of the partition table.",
    fields: &[
        field("unmatched", Words(UNMATCHED_SHARD), Default("\"error\""), "What a weight without a rule gets."),
        field(
            "stack_token",
            String("token"),
            Optional,
            "A path that holds exactly this token gets one unsplit leading dimension before its spec.",
        ),
        field(
            "indivisible",
            Words(INDIVISIBLE),
            Default("\"error\""),
            "What happens when an axis does not divide a dimension. Every fallback taken is counted in the plan.",
        ),
        field(
            "companion_spec",
            Words(&[
                word("derived", "An axis only where the companion has the weight's dimension."),
                word("same", "The weight's own spec, whatever the companion's shape (as Grok-1 does)."),
            ]),
            Default("\"derived\""),
            "The spec of scales and other companions of a quantized weight.",
        ),
    ],
};

const UNMATCHED_SHARD: &[Word] =
    &[word("error", "A finding: every weight must be decided."), word("replicate", "Replicated, counted in the plan.")];

const INDIVISIBLE: &[Word] = &[
    word("error", "A finding with near sizes that divide."),
    word("replicate", "The dimension is not split."),
    word("pad", "The dimension is padded to the next multiple."),
    word("uneven", "The first devices get a full chunk, the last what is left, as `torch.chunk` does."),
];

macro_rules! rule_fields {
    ($($extra:expr),* $(,)?) => {
        &[
            field("name", String("name"), Required, "Unique within its table; what plans, snapshots and `explain` quote."),
            field("tokens", List(&String("token regex")), Optional,
                "One regex per token, each matching a whole token, over any consecutive window of the path."),
            field("glob", String("glob"), Optional,
                "A glob over the whole path: `*`, `?`, `[..]` stay within a token, `{a,b}` alternates, `**` as a whole token is zero or more tokens."),
            field("regex", String("regex"), Optional, "A regex over the whole path, anchored at both ends."),
            field("path", Either(&[String("path"), List(&String("path"))]), Optional, "Exact paths."),
            field("except", List(&Either(&[String("glob"), Table(&PATTERN)])), Default("[]"),
                "Patterns that take weights out of the rule again."),
            field("when", Table(&WHEN), Optional, "Conditions on the weight; all must hold."),
            field("override", Boolean, Default("false"), "Replaces the inherited rule of the same name, in its place."),
            $($extra),*
        ]
    };
}

// Behind the macro that it uses.
mod loader;

pub(crate) use loader::{LOADER, LOADER_RULE, RENAME};
use loader::{READ, STAGE, VERIFY};

pub(crate) static PARTITION_RULE: Shape = Shape {
    title: "FLOW_FABRIC_PARTITION_RULES",
    doc: "A partition rule: a pattern and the spec of what it matches.",
    fields: rule_fields![
        field(
            "spec",
            List(&Either(&[String("axis"), List(&String("axis")), Table(&SPEC_ENTRY)])),
            Required,
            "One entry per leading dimension: `\"-\"` not split, an axis, a list of axes, or a table with a unit. `[]` is \
             replicated. It may be shorter than the weight's rank, not longer.",
        ),
        field("place", Table(&PLACE), Optional, "Keeps whole weights on the devices that own them."),
    ],
};

pub(crate) static SPEC_ENTRY: Shape = Shape {
    title: "spec entry",
    doc: "A dimension that is cut only at multiples of a unit.",
    fields: &[
        field("axis", Either(&[String("axis"), List(&String("axis"))]), Required, "The axis, or axes major to minor."),
        field("unit", POSITIVE, Default("1"), "Never cut inside this many elements, such as a head."),
        field(
            "fewer",
            Words(&[
                word("error", "A finding."),
                word("replicate", "Each unit is kept by a group of neighbouring devices."),
            ]),
            Default("\"error\""),
            "What happens when there are fewer units than devices.",
        ),
    ],
};

pub(crate) static PLACE: Shape = Shape {
    title: "place",
    doc: "Whole weights on the owning devices, absent elsewhere; joins with `spec` on the other axes.",
    fields: &[
        field("axis", String("axis"), Required, "The axis over which weights are distributed."),
        field("index", String("regex"), Required, "A regex with one group that finds the weight's number in its path."),
        field("of", POSITIVE, Required, "How many numbers there are; consecutive runs of them share a device."),
    ],
};

pub(crate) static PATTERN: Shape = Shape {
    title: "pattern",
    doc: "A pattern in one of its four forms.",
    fields: &[
        field("tokens", List(&String("token regex")), Optional, "One regex per token, over any window of the path."),
        field("glob", String("glob"), Optional, "A glob over the whole path."),
        field("regex", String("regex"), Optional, "A regex over the whole path, anchored at both ends."),
        field("path", Either(&[String("path"), List(&String("path"))]), Optional, "Exact paths."),
    ],
};

pub(crate) static WHEN: Shape = Shape {
    title: "when",
    doc: "Conditions on the weight's logical form; all must hold.",
    fields: &[
        field("rank", Either(&[COUNT, List(&COUNT)]), Optional, "Number of dimensions, or a list of them."),
        field("dtype", Either(&[String("dtype"), List(&String("dtype"))]), Optional, "Dtype of the values, or a list."),
        field("format", Either(&[String("format"), List(&String("format"))]), Optional, "Stored format, or a list."),
        field(
            "shape",
            List(&Either(&[COUNT, Words(&[word("*", "Any size.")])])),
            Optional,
            "Size of every dimension; `\"*\"` for any.",
        ),
        field("min_elements", COUNT, Optional, "At least this many elements."),
        field("max_elements", COUNT, Optional, "At most this many elements."),
        field(
            "divisible_by",
            List(&Either(&[POSITIVE, Words(&[word("*", "Any size.")])])),
            Optional,
            "A divisor of every dimension; `\"*\"` for none.",
        ),
        field("layer", Table(&LAYER), Optional, "Position of the weight's layer."),
    ],
};

pub(crate) static LAYER: Shape = Shape {
    title: "layer",
    doc: "Position of the weight's layer among n; holds when any of its keys holds.",
    fields: &[
        field("first", Either(&[COUNT, String("fraction")]), Optional, "The first layers: a count, or `\"1/8\"` of n."),
        field("last", Either(&[COUNT, String("fraction")]), Optional, "The last layers: a count, or `\"1/8\"` of n."),
        field("every", POSITIVE, Optional, "Every so many layers, from layer 0."),
        field("in", List(&COUNT), Optional, "These layers."),
        field("of", String("glob"), Optional, "The token that numbers the layer, such as `decoder_layer_*`."),
    ],
};

pub(crate) static SCHEME: Shape = Shape {
    title: "scheme",
    doc: "A quantization scheme.",
    fields: &[
        field("format", Words(FORMATS), Required, "Code format."),
        field(
            "granularity",
            Either(&[
                Words(&[
                    word("tensor", "One scale for the weight."),
                    word("channel", "One scale per index of every dimension but the contracted one."),
                ]),
                Table(&GRANULARITY),
            ]),
            Default("(what the format fixes; `\"channel\"` where it is free)"),
            "What one scale covers, said against the contracted dimension.",
        ),
        field("symmetric", Boolean, Default("true"), "No zero point."),
        field("scale_dtype", String("dtype"), Default("(what the layout stores)"), "Dtype of stored scales."),
        field(
            "arithmetic",
            Words(&[
                word("f32", "In f32 against the stored, rounded scale: the smallest error."),
                word("reference", "As the peer that defines the layout computes, byte for byte."),
            ]),
            Default("\"f32\""),
            "Which arithmetic computes the codes.",
        ),
        field("double_quant", Boolean, Default("false"), "NF4's absmax values are quantized to eight bits themselves."),
        field("limits", Table(&LIMITS), Optional, "Gates on every weight of the scheme; a rule's own come first."),
    ],
};

pub(crate) static LIMITS: Shape = Shape {
    title: "limits",
    doc: "Gates: what a quantized weight must keep to, measured on the bytes that were written.",
    fields: &[
        field("max_abs_error", NON_NEGATIVE, Optional, "Largest absolute error of any value."),
        field("max_relative_error", NON_NEGATIVE, Optional, "Largest relative Frobenius error."),
        field(
            "min_sqnr_db",
            Number { min: f64::MIN, max: f64::MAX },
            Optional,
            "Smallest signal-to-noise ratio in dB.",
        ),
        field("min_cosine", Number { min: -1.0, max: 1.0 }, Optional, "Smallest cosine similarity."),
    ],
};

pub(crate) static EXPERTS: Shape = Shape {
    title: "experts",
    doc: "Stacked experts that are written as a matrix each.",
    fields: &[
        field("regex", String("regex"), Required, "Over the whole path of the stacked weight, anchored at both ends."),
        field(
            "template",
            String("template"),
            Required,
            "Path of one matrix: `{expert}` is its number, `{part}` its part, `$1` or `${name}` a group of the regex.",
        ),
        field("parts", List(&String("name")), Default("[]"), "Names of the parts that the rows of an expert hold."),
        field(
            "interleaved",
            Boolean,
            Default("false"),
            "The parts take turns row by row, instead of one after the other.",
        ),
    ],
};

const FORMATS: &[Word] = &[
    word("int8", "8-bit integers."),
    word("int4", "4-bit integers, packed."),
    word("fp8_e4m3", "FP8 E4M3."),
    word("fp8_e5m2", "FP8 E5M2."),
    word("nf4", "4-bit NormalFloat."),
    word("mxfp4", "OCP MXFP4: groups of 32, power-of-two scales."),
    word("nvfp4", "NVFP4: groups of 16, E4M3 scales, one global scale."),
    word("q8_0", "GGML Q8_0."),
    word("q4_0", "GGML Q4_0."),
    word("q4_1", "GGML Q4_1."),
    word("q4_k", "GGML Q4_K."),
    word("q6_k", "GGML Q6_K."),
];

pub(crate) static GRANULARITY: Shape = Shape {
    title: "granularity",
    doc: "A granularity with a size; exactly one key.",
    fields: &[
        field("group", POSITIVE, Optional, "Elements along the contracted dimension that share a scale."),
        field("block", List(&POSITIVE), Optional, "Two-dimensional blocks, such as `[128, 128]`."),
        field(
            "shard_group",
            String("axis"),
            Optional,
            "As many groups as the axis has devices where the spec puts it on the contracted dimension, else one.",
        ),
    ],
};

pub(crate) static QUANTIZATION: Shape = Shape {
    title: "quantization",
    doc: "Settings of the quantization table.",
    fields: &[
        field("layout", Words(LAYOUTS), Optional, "Names, companions and scale rule; needed when a rule quantizes."),
        field(
            "contract",
            Integer { min: -8, max: 7 },
            Default("-1"),
            "The contracted dimension: -1 for [out, in] (PyTorch), -2 for [in, out] (JAX). A rule may override it.",
        ),
        field(
            "unmatched",
            Words(&[word("keep", "Kept as stored."), word("error", "A finding: every weight must be decided.")]),
            Default("\"keep\""),
            "What a weight without a rule gets.",
        ),
        field(
            "indivisible",
            Words(&[
                word("error", "A finding, before any data are read."),
                word("keep", "Kept as stored, and counted in the plan."),
            ]),
            Default("\"error\""),
            "What a weight gets whose rows no group or block of its scheme divides.",
        ),
        field(
            "nonfinite",
            Words(&[
                word("refuse", "Counted, and nothing is published."),
                word("keep", "Quantized as the defining peer would."),
            ]),
            Default("\"refuse\""),
            "What happens to weights that hold NaN or infinity.",
        ),
    ],
};

const LAYOUTS: &[Word] = &[
    word("grok-1", "`<path>/weight` and `<path>/scales`."),
    word("compressed-tensors", "`weight_packed`, `weight_scale` and so on, with a `quantization_config`."),
    word("deepseek", "`weight` and `weight_scale_inv`."),
    word("bitsandbytes", "`weight` and its `absmax`, `quant_map`, `quant_state` companions."),
    word("gguf", "One tensor of GGML blocks."),
];

pub(crate) static QUANTIZATION_RULE: Shape = Shape {
    title: "QUANTIZATION_RULES",
    doc: "A quantization rule: a pattern and the scheme of what it matches.",
    fields: rule_fields![
        field("scheme", String("scheme"), Required, "A `[scheme.NAME]`, or `\"keep\"`."),
        field(
            "contract",
            Integer { min: -8, max: 7 },
            Default("(that of `[quantization]`)"),
            "The contracted dimension of what the rule matches.",
        ),
        field("force", Boolean, Default("false"), "Quantizes sensitive weights too."),
        field("limits", Table(&LIMITS), Optional, "Gates on every weight that the rule decides."),
    ],
};

pub(crate) static SAMPLER: Shape = Shape {
    title: "sampler",
    doc: "A sampler profile. A stage runs when its key is set to something other than its default; nothing else happens \
          to the logits.",
    fields: crate::sample::FIELDS,
};

pub(crate) static MOE: Shape = Shape {
    title: "moe",
    doc: "A mixture-of-experts layer. A preset fills every key that is left out.",
    fields: crate::moe::FIELDS,
};

pub(crate) static SLOT: Shape = Shape {
    title: "slot",
    doc: "What a slot adapter asks for by name.",
    fields: &[
        field(
            "tensors",
            List(&Either(&[String("glob"), Table(&PATTERN)])),
            Default("[]"),
            "Patterns of the weights that belong to the slot.",
        ),
        field("sampler", String("sampler"), Optional, "The slot's `[sampler.NAME]`."),
        field("moe", String("moe"), Optional, "The slot's `[moe.NAME]`."),
    ],
};

pub(crate) static EXPECT: Shape = Shape {
    title: "expect",
    doc: "An inline test: decisions that must hold for one weight.",
    fields: &[
        field("path", String("path"), Required, "The weight."),
        field(
            "spec",
            List(&Either(&[String("axis"), List(&String("axis"))])),
            Optional,
            "The spec it must get, in the words of a rule.",
        ),
        field("scheme", String("scheme"), Optional, "The scheme it must get, or `\"keep\"`."),
        field("read", Words(READ), Optional, "How it must be read."),
        field("stage", Words(STAGE), Optional, "How it must be staged."),
        field("verify", Words(VERIFY), Optional, "How it must be verified."),
        field("rule", Table(&EXPECT_RULE), Optional, "The rules that must decide."),
    ],
};

pub(crate) static EXPECT_RULE: Shape = Shape {
    title: "expect.rule",
    doc: "Names of deciding rules, per table.",
    fields: &[
        field("partition", String("rule"), Optional, "Deciding partition rule."),
        field("quantization", String("rule"), Optional, "Deciding quantization rule."),
        field("loader", String("rule"), Optional, "Deciding loader rule."),
    ],
};

const LEVELS: &[Word] = &[
    word("allow", "Not reported; needs a reason, so write it as a table."),
    word("warn", "Reported as a warning."),
    word("deny", "Reported as an error."),
];

pub(crate) static LINT: Shape = Shape {
    title: "lint",
    doc: "A level and why.",
    fields: &[
        field("level", Words(LEVELS), Required, "The level."),
        field("reason", String("sentence"), Optional, "Why; an `allow` must have one."),
    ],
};

pub(crate) static SENSITIVE: Shape = Shape {
    title: "sensitive",
    doc: "Weights that no rule quantizes unless it says `force = true`.",
    fields: &[
        field(
            "patterns",
            List(&Either(&[String("glob"), Table(&PATTERN)])),
            Default("(routers, norms, embeddings and heads as known models name them)"),
            "Patterns of sensitive weights; replaces the default list.",
        ),
        field("max_rank", COUNT, Default("1"), "Weights of this rank or less are sensitive too."),
    ],
};

pub(crate) static LAYERS: Shape = Shape {
    title: "layers",
    doc: "What counts as a layer for `when.layer`.",
    fields: &[field(
        "ignore",
        List(&COUNT),
        Default("[]"),
        "Layer numbers that do not count, such as a multi-token-prediction layer.",
    )],
};

pub(crate) static TIE: Shape = Shape {
    title: "tie",
    doc: "Weights that share one storage; the first is the weight, the others its aliases.",
    fields: &[field("paths", List(&String("path")), Required, "Two or more paths.")],
};

pub(crate) static STORED: Shape = Shape {
    title: "stored",
    doc: "A stored layout: which tensors make up one weight. In each name `{path}` stands exactly once.",
    fields: &[
        field(
            "weight",
            String("template"),
            Required,
            "Name of the tensor that holds the codes, such as `{path}.qweight`.",
        ),
        field("scales", String("template"), Optional, "Name of the scales; they must be stored."),
        field("zero_point", String("template"), Optional, "Name of the zero points; they must be stored."),
        field("global_scale", String("template"), Optional, "Name of the scale over all scales; it must be stored."),
        field("shape", String("template"), Optional, "Name of the stored shape; it must be stored."),
        field("optional", List(&String("template")), Default("[]"), "Names of tensors that may be stored besides."),
        field("path", String("template"), Default("\"{path}\""), "The logical path, such as `{path}.weight`."),
        field("packed", Table(&PACKED), Optional, "Several codes per stored element."),
        field("transposed", Boolean, Default("false"), "Stored [in, out] where the logical weight is [out, in]."),
        field("dtype", String("dtype"), Default("(that of the scales, else of the weight)"), "Dtype of the values."),
    ],
};

pub(crate) static PACKED: Shape = Shape {
    title: "packed",
    doc: "Several codes per stored element along one dimension.",
    fields: &[
        field("dimension", Integer { min: -8, max: -1 }, Default("-1"), "The packed dimension, counted from the end."),
        field("by", POSITIVE, Required, "Codes per stored element."),
    ],
};
