//! The typed policy: validated, all `extends` merged, every field with its place.

use std::sync::Arc;

use indexmap::IndexMap;

use super::Written;
use crate::Dtype;
use crate::finding::levels::LintLevel;
use crate::inventory::DeclaredLayout;
use crate::mesh::{Mesh, PartitionSpec, SpecEntry};
use crate::moe::MoeConfig;
use crate::pattern::{Pattern, Separators};
use crate::quantize::{Layout, Limits, NonFinite, Scheme};
use crate::sample::SamplerConfig;
use crate::source::{SourceId, Span, Spanned};

/// A rule of one table: which weights, and what is decided for them.
#[derive(Debug, Clone)]
pub struct Rule<D> {
    /// Unique within its table.
    pub name: Spanned<Arc<str>>,
    /// Which paths.
    pub pattern: Spanned<Pattern>,
    /// Which of those not.
    pub except: Vec<Spanned<Pattern>>,
    /// Conditions on the weight.
    pub when: Option<Spanned<When>>,
    /// The decision.
    pub decision: D,
    /// Whether it comes from an extended policy.
    pub inherited: bool,
    /// What it says besides its name, key by key.
    pub written: Written,
}

/// Conditions on a weight's logical form; all that are set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct When {
    /// Allowed ranks.
    pub rank: Option<Vec<u64>>,
    /// Allowed dtypes.
    pub dtype: Option<Vec<Dtype>>,
    /// Allowed stored formats, by name.
    pub format: Option<Vec<String>>,
    /// Exact sizes; `None` = any.
    pub shape: Option<Vec<Option<u64>>>,
    /// Least number of elements.
    pub min_elements: Option<u64>,
    /// Largest number of elements.
    pub max_elements: Option<u64>,
    /// Divisors of each dimension; `None` = any.
    pub divisible_by: Option<Vec<Option<u64>>>,
    /// Position of the layer.
    pub layer: Option<WhenLayer>,
}

/// A condition on the position of a weight's layer; holds when any part holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WhenLayer {
    /// The first so many.
    pub first: Option<LayerCount>,
    /// The last so many.
    pub last: Option<LayerCount>,
    /// Every so many, from 0.
    pub every: Option<u64>,
    /// These.
    pub among: Option<Vec<u64>>,
    /// The token that numbers layers, `*` standing for the number.
    pub of: Option<String>,
}

/// A number of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCount {
    /// So many.
    Count(u64),
    /// `numerator * n / denominator`, rounded down.
    Fraction(u64, u64),
}

impl LayerCount {
    /// The count among `n` layers.
    #[must_use]
    pub fn of(self, n: u64) -> u64 {
        match self {
            LayerCount::Count(count) => count.min(n),
            LayerCount::Fraction(numerator, denominator) => {
                let count = u128::from(numerator) * u128::from(n) / u128::from(denominator.max(1));
                u64::try_from(count).unwrap_or(n).min(n)
            }
        }
    }
}

/// What a partition rule decides.
#[derive(Debug, Clone)]
pub struct Sharding {
    /// One entry per leading dimension.
    pub spec: Vec<SpecDimension>,
    /// Where the spec is written.
    pub span: Span,
    /// Whole weights on their owners.
    pub place: Option<Spanned<Place>>,
}

impl Sharding {
    /// The spec without units and places.
    #[must_use]
    pub fn partition_spec(&self) -> PartitionSpec {
        PartitionSpec { entries: self.spec.iter().map(|dimension| dimension.entry.clone()).collect() }
    }
}

/// One entry of a spec.
#[derive(Debug, Clone)]
pub struct SpecDimension {
    /// The axes.
    pub entry: SpecEntry,
    /// Place of each axis name.
    pub axis_spans: Vec<Span>,
    /// Place of the entry.
    pub span: Span,
    /// The dimension is cut only at multiples of this many elements.
    pub unit: u64,
    /// Fewer units than devices: keep each on a group of neighbours.
    pub fewer_replicate: bool,
}

/// Distribution of whole weights over an axis.
#[derive(Debug, Clone)]
pub struct Place {
    /// The axis.
    pub axis: Spanned<String>,
    /// Finds the weight's number in its path (group 1).
    pub index: Spanned<regex::Regex>,
    /// How many numbers there are.
    pub of: Spanned<u64>,
}

/// What a quantization rule decides.
#[derive(Debug, Clone)]
pub struct Quantizing {
    /// The scheme's name; `None` = keep as stored.
    pub scheme: Spanned<Option<Arc<str>>>,
    /// The contracted dimension, counted from the end when negative; `None` = that of `[quantization]`.
    pub contract: Option<Spanned<i64>>,
    /// Quantizes sensitive weights too.
    pub force: bool,
    /// Gates; those of the scheme hold where none is given.
    pub limits: Limits,
}

/// What a loader rule decides; `None` = that of `[loader]`.
#[derive(Debug, Clone, Default)]
pub struct Loading {
    /// How bytes are read.
    pub read: Option<Read>,
    /// Where bytes pass through.
    pub stage: Option<Stage>,
    /// How bytes are verified.
    pub verify: Option<Verify>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $word:literal ),* $(,)? } default $default:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema)]
        pub enum $name {
            $( $(#[$vdoc])* #[serde(rename = $word)] $variant, )*
        }

        impl $name {
            /// The word in policies and plans.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }

            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            pub(crate) fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == word)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

words! {
    /// How a weight's bytes are read.
    Read {
        /// Buffered or direct, per file, by what the page cache holds.
        Auto = "auto",
        /// Mapped.
        Mmap = "mmap",
        /// Buffered positioned reads.
        Pread = "pread",
        /// Direct reads around the page cache.
        Direct = "direct",
    } default Auto
}
words! {
    /// Where a weight's bytes pass through.
    Stage {
        /// Straight to the destination.
        None = "none",
        /// Shared memory.
        Shm = "shm",
    } default None
}
words! {
    /// How a weight's bytes are verified.
    Verify {
        /// Not at all.
        None = "none",
        /// XXH3 against the manifest.
        Xxh3 = "xxh3",
        /// BLAKE3 against the manifest.
        Blake3 = "blake3",
    } default None
}
words! {
    /// What happens when an axis does not divide a dimension.
    Indivisible {
        /// A finding.
        Error = "error",
        /// The dimension is not split.
        Replicate = "replicate",
        /// Padded to the next multiple.
        Pad = "pad",
        /// The first devices get a full chunk, the last what is left.
        Uneven = "uneven",
    } default Error
}
words! {
    /// The spec of companions.
    CompanionSpec {
        /// An axis only where the companion has the weight's dimension.
        Derived = "derived",
        /// The weight's own.
        Same = "same",
    } default Derived
}
/// A declared quantization scheme.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredScheme {
    /// The scheme.
    pub scheme: Scheme,
    /// Gates on every weight of the scheme.
    pub limits: Limits,
    /// Where its format is written.
    pub format_span: Span,
    /// Where its name is written.
    pub span: Span,
}

/// A new name for weights.
#[derive(Debug, Clone)]
pub struct Rename {
    /// Over the whole path, anchored.
    pub regex: Spanned<regex::Regex>,
    /// Template in the `regex` crate's syntax.
    pub to: Spanned<String>,
}

impl Rename {
    /// The new path, or `None` when the regex does not match the whole of it.
    #[must_use]
    pub fn apply(&self, path: &str) -> Option<String> {
        let captures = self.regex.value.captures(path)?;
        let mut renamed = String::new();
        captures.expand(&self.to.value, &mut renamed);
        Some(renamed)
    }
}

/// Settings of the partition table.
#[derive(Debug, Clone, Default)]
pub struct PartitionSettings {
    /// Weights without a rule are replicated instead of being an error.
    pub unmatched_replicate: bool,
    /// Exact token that stands for one unsplit leading dimension.
    pub stack_token: Option<String>,
    /// What happens when an axis does not divide a dimension.
    pub indivisible: Indivisible,
    /// The spec of companions.
    pub companion_spec: CompanionSpec,
}

/// Settings of the quantization table.
#[derive(Debug, Clone)]
pub struct QuantizationSettings {
    /// Names, companions and scale rule.
    pub layout: Option<Spanned<Layout>>,
    /// The contracted dimension.
    pub contract: i64,
    /// Weights without a rule are an error instead of being kept.
    pub unmatched_error: bool,
    /// Weights whose rows no group or block divides are kept instead of being an error.
    pub indivisible_keep: bool,
    /// What happens to weights that hold NaN or infinity.
    pub nonfinite: NonFinite,
}

impl Default for QuantizationSettings {
    fn default() -> Self {
        Self {
            layout: None,
            contract: -1,
            unmatched_error: false,
            indivisible_keep: false,
            nonfinite: NonFinite::Refuse,
        }
    }
}

/// Stacked experts that are written as a matrix each.
#[derive(Debug, Clone)]
pub struct Experts {
    /// Over the whole path of the stacked weight, anchored.
    pub regex: Spanned<regex::Regex>,
    /// Path of one matrix.
    pub template: Spanned<String>,
    /// Names of the parts that the rows of an expert hold; empty for a single one.
    pub parts: Vec<String>,
    /// The parts take turns row by row.
    pub interleaved: bool,
}

impl Experts {
    /// The path of one matrix of the stacked weight at `path`; `None` when that is not of this kind.
    #[must_use]
    pub fn path(&self, path: &str, expert: u64, part: Option<&str>) -> Option<String> {
        self.path_of(path, &expert.to_string(), part)
    }

    /// The same with any word in place of the number.
    pub(crate) fn path_of(&self, path: &str, expert: &str, part: Option<&str>) -> Option<String> {
        let captures = self.regex.value.captures(path)?;
        // The placeholders first: a group of the path may hold braces of its own.
        let template = self.template.value.replace("{expert}", expert);
        let template = template.replace("{part}", &part.unwrap_or_default().replace('$', "$$"));
        let mut name = String::new();
        captures.expand(&template, &mut name);
        Some(name)
    }
}

/// Loader defaults and names.
#[derive(Debug, Clone, Default)]
pub struct LoaderSettings {
    /// How bytes are read.
    pub read: Read,
    /// Where bytes pass through.
    pub stage: Stage,
    /// How bytes are verified.
    pub verify: Verify,
    /// Threads that read; `None` for the loader's own number, as below.
    pub threads: Option<u64>,
    /// Most bytes that a thread reads at a time.
    pub chunk: Option<u64>,
    /// Reads that a thread has in flight at once past the page cache.
    pub queue_depth: Option<u64>,
    /// Unwanted bytes between two pieces that are read along.
    pub gap: Option<u64>,
    /// The same for files in the page cache.
    pub cached_gap: Option<u64>,
    /// Most bytes of memory besides the tensors.
    pub budget: Option<u64>,
    /// Most bytes of copies in shared memory; `None` for what is free.
    pub stage_budget: Option<u64>,
    /// New names, first match.
    pub rename: Vec<Rename>,
    /// Stored tensors left out.
    pub exclude: Vec<Spanned<Pattern>>,
}

/// What a slot adapter asks for by name.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Patterns of its weights.
    pub tensors: Vec<Spanned<Pattern>>,
    /// Name of its sampler.
    pub sampler: Option<Spanned<String>>,
    /// Name of its MoE profile.
    pub moe: Option<Spanned<String>>,
}

/// An inline test.
#[derive(Debug, Clone)]
pub struct Expect {
    /// The weight.
    pub path: Spanned<String>,
    /// Its spec.
    pub spec: Option<Spanned<PartitionSpec>>,
    /// Its scheme; inner `None` = keep.
    pub scheme: Option<Spanned<Option<String>>>,
    /// How it is read.
    pub read: Option<Spanned<Read>>,
    /// How it is staged.
    pub stage: Option<Spanned<Stage>>,
    /// How it is verified.
    pub verify: Option<Spanned<Verify>>,
    /// Deciding partition rule.
    pub partition_rule: Option<Spanned<String>>,
    /// Deciding quantization rule.
    pub quantization_rule: Option<Spanned<String>>,
    /// Deciding loader rule.
    pub loader_rule: Option<Spanned<String>>,
}

/// Weights that no rule quantizes unless it is forced.
#[derive(Debug, Clone)]
pub struct Sensitive {
    /// Their patterns.
    pub patterns: Vec<Pattern>,
    /// Weights of this rank or less.
    pub max_rank: u64,
}

/// The mesh as declared.
#[derive(Debug, Clone)]
pub struct DeclaredMesh {
    /// Axes and sizes.
    pub mesh: Mesh,
    /// Place of each axis' size.
    pub size_spans: Vec<Span>,
    /// Bytes of one device.
    pub device_memory: Option<Spanned<u64>>,
    /// Where it is declared.
    pub span: Span,
}

/// A file of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its name for people.
    pub name: String,
    /// How many rules it holds.
    pub rules: usize,
}

/// The typed, validated policy.
#[derive(Debug, Clone)]
pub struct PolicyBody {
    /// Its name.
    pub name: Spanned<String>,
    /// Where paths are cut.
    pub separators: Separators,
    /// The declared mesh.
    pub mesh: Option<DeclaredMesh>,
    /// Settings of the partition table.
    pub partition: PartitionSettings,
    /// The partition table.
    pub partition_rules: Vec<Rule<Sharding>>,
    /// Schemes by name.
    pub schemes: IndexMap<Arc<str>, DeclaredScheme>,
    /// Settings of the quantization table.
    pub quantization: QuantizationSettings,
    /// The quantization table.
    pub quantization_rules: Vec<Rule<Quantizing>>,
    /// Tokens that set weights apart which engines fuse, by name.
    pub siblings: IndexMap<String, Vec<Spanned<String>>>,
    /// Stacked experts that are written one by one, by name.
    pub experts: IndexMap<String, Experts>,
    /// Loader defaults and names.
    pub loader: LoaderSettings,
    /// The loader table.
    pub loader_rules: Vec<Rule<Loading>>,
    /// Sampler profiles by name, with all that they inherit.
    pub samplers: IndexMap<String, SamplerConfig>,
    /// Profiles of mixture-of-experts layers by name.
    pub moes: IndexMap<String, MoeConfig>,
    /// Slots by name.
    pub slots: IndexMap<String, Slot>,
    /// Inline tests.
    pub expects: Vec<Expect>,
    /// Finding levels.
    pub lints: Vec<LintLevel>,
    /// Weights that are not quantized by accident.
    pub sensitive: Sensitive,
    /// Layer numbers that do not count.
    pub ignored_layers: Vec<u64>,
    /// Groups of tied weights.
    pub ties: Vec<Vec<Spanned<String>>>,
    /// Declared stored layouts by name.
    pub stored: IndexMap<String, DeclaredLayout>,
    /// What the policy says besides rules and mesh: `scheme.int8.format` is `"int8"`.
    pub settings: Written,
}

impl PolicyBody {
    /// How many rules of the merged policy come from one file.
    pub(super) fn rules_of(&self, source: SourceId) -> usize {
        let of = |span: Span| usize::from(span.source == source);
        self.partition_rules.iter().map(|rule| of(rule.name.span)).sum::<usize>()
            + self.quantization_rules.iter().map(|rule| of(rule.name.span)).sum::<usize>()
            + self.loader_rules.iter().map(|rule| of(rule.name.span)).sum::<usize>()
    }
}
