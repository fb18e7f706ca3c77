//! The drift report: what a run did to every weight, by rule and in all, as other programs read it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::Dtype;
use crate::quantize::{Breach, Figures, Layout};

/// What the `format` key of a report says.
pub const FORMAT: &str = "flow-fabric/drift";

/// What the `format_version` key says; it changes when a reader of the old one could be misled.
pub const FORMAT_VERSION: u32 = 1;

/// What became of every weight. All of it but [`DriftReport::run`] depends on policy and checkpoint alone.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "flow-fabric drift report")]
pub struct DriftReport {
    /// Always `flow-fabric/drift`.
    #[schemars(extend("const" = FORMAT))]
    pub format: String,
    /// Version of this shape.
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// The policy, where one decided.
    pub policy: Option<String>,
    /// The checkpoint that values come from.
    pub source: String,
    /// The checkpoint that is compared with it, or was written.
    pub output: Option<String>,
    /// The layout that is written.
    pub layout: Option<Layout>,
    /// Every weight or matrix, in the order of the checkpoint.
    pub weights: Vec<WeightDrift>,
    /// Every rule that decided a weight, in the order of the policy.
    pub rules: Vec<RuleDrift>,
    /// All together.
    pub total: Totals,
    /// How the run went; differs from run to run.
    pub run: RunFigures,
}

/// What became of a weight, or of one matrix of a stack.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct WeightDrift {
    /// Its path in the output.
    pub path: String,
    /// The deciding quantization rule.
    pub rule: Option<String>,
    /// The scheme; absent where it is kept or was quantized by somebody else.
    pub scheme: Option<String>,
    /// What was done with it.
    pub status: Status,
    /// Dtype of its values.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Vec<u64>,
    /// Bytes as they were stored.
    pub bytes_before: u64,
    /// Bytes of all its tensors now.
    pub bytes_after: u64,
    /// Bits of all its tensors for each value.
    pub bits_per_weight: f64,
    /// What it did to the values; absent where they were not compared.
    pub figures: Option<Figures>,
    /// Gates that it does not pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub breaches: Vec<Breach>,
}

/// What was done with a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Encoded by its scheme.
    Quantized,
    /// Decoded into numbers.
    Decoded,
    /// Written as it was stored.
    Kept,
    /// Kept, as its values are not floating-point.
    KeptNonFloat,
    /// Kept, as no group or block of its scheme divides it.
    KeptIndivisible,
    /// Compared with the weight of the same path in another checkpoint.
    Compared,
}

/// What a rule did to the weights that it decides.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RuleDrift {
    /// The rule; absent for weights without one.
    pub rule: Option<String>,
    /// Its sums.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Sums over weights.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Totals {
    /// Weights or matrices that were encoded, decoded or compared.
    pub changed: u64,
    /// Weights that are as they were.
    pub kept: u64,
    /// Bytes as they were stored.
    pub bytes_before: u64,
    /// Bytes of all tensors now.
    pub bytes_after: u64,
    /// Bytes now for each byte before.
    pub ratio: f64,
    /// What it did to the values of those that were changed.
    pub figures: Option<Figures>,
}

impl Totals {
    pub(super) fn none() -> Self {
        Self { changed: 0, kept: 0, bytes_before: 0, bytes_after: 0, ratio: 1.0, figures: None }
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub(super) fn add(&mut self, weight: &WeightDrift) {
        let kept = matches!(weight.status, Status::Kept | Status::KeptNonFloat | Status::KeptIndivisible);
        *(if kept { &mut self.kept } else { &mut self.changed }) += 1;
        self.bytes_before += weight.bytes_before;
        self.bytes_after += weight.bytes_after;
        self.ratio = self.bytes_after as f64 / (self.bytes_before as f64).max(1.0);
    }
}

/// How a run went.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, JsonSchema)]
pub struct RunFigures {
    /// Threads that worked at a time, at most.
    pub threads: usize,
    /// Bytes of memory that the run was allowed for its buffers.
    pub memory: u64,
    /// Whether the output was given its place.
    pub published: bool,
    /// Tensors that an earlier run had written.
    pub resumed: u64,
    /// Seconds.
    pub seconds: Seconds,
}

/// Where the time went. All but `total` and `publish` are sums over threads.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, JsonSchema)]
pub struct Seconds {
    /// From start to end.
    pub total: f64,
    /// Loading the source: its bytes, and decoding those that are codes.
    pub load: f64,
    /// Finding scales that span more than a part.
    pub survey: f64,
    /// Encoding.
    pub encode: f64,
    /// Writing what was encoded, before it is on disk.
    pub save: f64,
    /// Reading back what was written.
    pub reload: f64,
    /// Decoding it, and comparing it with the source.
    pub compare: f64,
    /// Waiting for the disk, and giving the output its place.
    pub publish: f64,
}
