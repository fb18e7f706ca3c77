//! What a quantized weight is stored as, from its shape alone: names, dtypes, shapes, bytes.
//!
//! One file per layout. Everything is decided here before a byte of data is read: a weight that the layout cannot hold
//! is a [`Refusal`] that says what would fit.

mod bitsandbytes;
mod compressed_tensors;
mod deepseek;
mod gguf;
mod grok1;

use std::sync::Arc;

use super::{Format, Granularity, Layout, Scheme};
use crate::Dtype;
use crate::inventory::{Role, StoredFormat};

pub use bitsandbytes::QUANT_STATE_BYTES;

/// A weight as the plan sees it before it is quantized.
#[derive(Debug, Clone, Copy)]
pub struct Logical<'a> {
    /// Logical dimensions, row-major. Stacked experts that are written one by one are asked about one by one.
    pub shape: &'a [u64],
    /// Index of the contracted dimension (the one a matrix product sums over) in `shape`.
    pub contracted: usize,
    /// Dtype of the values.
    pub dtype: Dtype,
    /// How many shards the contracted dimension has on the axis of [`Granularity::ShardGroup`]; 1 where the axis is not
    /// on it. Not looked at for other granularities.
    pub shard_groups: u64,
}

/// Answers what `weight` is stored as under `scheme` in `layout`.
///
/// ```
/// use flow_fabric::Dtype;
/// use flow_fabric::quantize::{companions, Format, Layout, Logical, Scheme};
///
/// let weight = Logical { shape: &[4096, 11008], contracted: 1, dtype: Dtype::Bf16, shard_groups: 1 };
/// let stored = companions(&Scheme::new(Format::Int4), Layout::CompressedTensors, weight)?;
/// let packed = &stored.components[0];
/// assert_eq!(packed.name.of("mlp.down_proj.weight"), "mlp.down_proj.weight_packed");
/// assert_eq!((packed.dtype, packed.shape.as_slice()), (Dtype::I32, &[4096, 1376][..]));
/// assert_eq!(stored.group, Some(128));
/// # Ok::<(), flow_fabric::quantize::Refusal>(())
/// ```
///
/// # Errors
///
/// A [`Refusal`] where the format, its granularity, the layout and the weight do not go together.
pub fn companions(scheme: &Scheme, layout: Layout, weight: Logical<'_>) -> Result<Encoded, Refusal> {
    check(scheme, layout)?;
    let weight = Checked::new(weight)?;
    match layout {
        Layout::Grok1 => grok1::companions(scheme, &weight),
        Layout::CompressedTensors => compressed_tensors::companions(scheme, &weight),
        Layout::DeepSeek => deepseek::companions(scheme, &weight),
        Layout::BitsAndBytes => bitsandbytes::companions(scheme, &weight),
        Layout::Gguf => gguf::companions(scheme, &weight),
    }
}

/// Answers whether `layout` can hold `scheme` at all, whatever the weight.
///
/// # Errors
///
/// A [`Refusal`] of kind [`RefusalKind::Unsupported`].
pub fn check(scheme: &Scheme, layout: Layout) -> Result<(), Refusal> {
    if !scheme.symmetric && !matches!(scheme.format, Format::Int8 | Format::Int4) {
        return Err(Refusal::unsupported(
            format!("`{}` is symmetric by definition", scheme.format),
            "`symmetric = true`, or `int8` or `int4`",
        ));
    }
    if scheme.double_quant && scheme.format != Format::Nf4 {
        return Err(Refusal::unsupported(
            format!("`{}` has no absmax to quantize twice", scheme.format),
            "`double_quant` with `nf4`",
        ));
    }
    if matches!(scheme.granularity, Granularity::Group(0) | Granularity::Block([0, _] | [_, 0])) {
        return Err(Refusal::unsupported("a group of no values".into(), "a size of 1 or more"));
    }
    match layout {
        Layout::Grok1 => grok1::check(scheme),
        Layout::CompressedTensors => compressed_tensors::check(scheme),
        Layout::DeepSeek => deepseek::check(scheme),
        Layout::BitsAndBytes => bitsandbytes::check(scheme),
        Layout::Gguf => gguf::check(scheme),
    }
}

/// Everything one quantized weight is stored as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The stored tensors, the codes first.
    pub components: Vec<EncodedComponent>,
    /// How many consecutive values along the contracted dimension share a scale; `None` where one scale spans it all.
    pub group: Option<u64>,
    /// For each logical dimension the step at which every component can be cut without splitting a scale group, a
    /// block or a packed word. `None` where no cut gives the components of the part.
    pub unit: Vec<Option<u64>>,
    /// What the inventory will call it when it reads the output.
    pub stored: StoredFormat,
    /// Number of logical values.
    pub elements: u64,
}

impl Encoded {
    /// Bytes of all components.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.components.iter().map(|component| component.bytes).sum()
    }

    /// Bits per value with all companions.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes() as f64 * 8.0 / self.elements as f64
    }

    /// The component in a role.
    #[must_use]
    pub fn component(&self, role: &Role) -> Option<&EncodedComponent> {
        self.components.iter().find(|component| component.role == *role)
    }
}

/// One stored tensor of a quantized weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedComponent {
    /// What it is to the weight.
    pub role: Role,
    /// How its name follows from the weight's path.
    pub name: NameRule,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, row-major.
    pub shape: Vec<u64>,
    /// For each of its dimensions the logical dimension that it divides evenly, if any: a shard of the weight takes
    /// the same fraction of it. `None` means whole on every shard.
    pub divides: Vec<Option<usize>>,
    /// Number of bytes.
    pub bytes: u64,
}

/// How a component's name follows from the path of its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameRule {
    /// Appended to the path; empty for the path itself.
    Suffix(&'static str),
    /// In place of the path's last `.`-separated token.
    Sibling(&'static str),
}

impl NameRule {
    /// The stored name for the weight at `path`.
    ///
    /// ```
    /// use flow_fabric::quantize::NameRule;
    /// assert_eq!(NameRule::Suffix("_scale").of("q_proj.weight"), "q_proj.weight_scale");
    /// assert_eq!(NameRule::Sibling("SCB").of("q_proj.weight"), "q_proj.SCB");
    /// ```
    #[must_use]
    pub fn of(self, path: &str) -> String {
        match self {
            NameRule::Suffix(suffix) => format!("{path}{suffix}"),
            NameRule::Sibling(name) => match path.rsplit_once('.') {
                Some((parent, _)) => format!("{parent}.{name}"),
                None => name.to_owned(),
            },
        }
    }
}

/// Why a weight cannot be stored so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// The layout cannot hold the scheme, whatever the weight.
    Unsupported,
    /// A group, block or row does not divide; the policy's `indivisible` decides.
    Indivisible,
    /// The weight has too few or too many dimensions.
    Rank,
    /// The contracted dimension is not where the layout has it.
    Contract,
    /// The weight is not floating-point.
    NotFloat,
    /// The weight has no values.
    Empty,
    /// The shape's byte count does not fit in 64 bits.
    TooLarge,
}

/// A weight that a layout cannot hold, and what would fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Which kind of reason.
    pub kind: RefusalKind,
    /// The reason, as one lower-case sentence.
    pub reason: String,
    /// What would fit, where something would.
    pub fits: Option<String>,
}

impl Refusal {
    fn new(kind: RefusalKind, reason: String, fits: Option<String>) -> Self {
        Self { kind, reason, fits }
    }

    fn unsupported(reason: String, fits: &str) -> Self {
        Self::new(RefusalKind::Unsupported, reason, Some(fits.to_owned()))
    }

    /// The refusal of `scheme`'s granularity, format or both by a layout that takes `fits`.
    fn not_in(layout: Layout, scheme: &Scheme, fits: &str) -> Self {
        Self::unsupported(format!("layout `{layout}` has no `{}` per {}", scheme.format, scheme.granularity), fits)
    }
}

/// A weight that passed what every layout asks: floating-point, not empty, countable.
struct Checked<'a> {
    shape: &'a [u64],
    contracted: usize,
    dtype: Dtype,
    shard_groups: u64,
    elements: u64,
    /// Length of the contracted dimension.
    length: u64,
}

impl<'a> Checked<'a> {
    fn new(weight: Logical<'a>) -> Result<Self, Refusal> {
        let Logical { shape, contracted, dtype, shard_groups } = weight;
        if !dtype.is_float() {
            let reason = format!("`{dtype}` values are not floating-point");
            return Err(Refusal::new(RefusalKind::NotFloat, reason, Some("scheme `keep`".into())));
        }
        let Some(&length) = shape.get(contracted) else {
            let reason = format!("shape {shape:?} has no dimension {contracted} to contract");
            return Err(Refusal::new(RefusalKind::Rank, reason, Some("scheme `keep`".into())));
        };
        // Room for the widest component (8 bytes an element) keeps every later product within 64 bits.
        let elements = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size));
        match elements.filter(|elements| elements.checked_mul(16).is_some()) {
            None => {
                let reason = format!("shape {shape:?} has more values than can be counted");
                Err(Refusal::new(RefusalKind::TooLarge, reason, None))
            }
            Some(0) => {
                let reason = format!("shape {shape:?} has no values");
                Err(Refusal::new(RefusalKind::Empty, reason, Some("scheme `keep`".into())))
            }
            Some(elements) => Ok(Self { shape, contracted, dtype, shard_groups, elements, length }),
        }
    }

    fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Rows and columns of a matrix contracted along its columns, `[out, in]`, as torch keeps a linear layer.
    fn out_in(&self, layout: Layout) -> Result<[u64; 2], Refusal> {
        match *self.shape {
            [rows, columns] if self.contracted == 1 => Ok([rows, columns]),
            [_, _] => Err(Refusal::new(
                RefusalKind::Contract,
                format!("layout `{layout}` stores [out, in], but the contracted dimension is the first"),
                Some("`contract = -1` if the weight is [out, in]; layout `grok-1` holds [in, out]".into()),
            )),
            [_] => Err(Refusal::new(
                RefusalKind::Rank,
                format!("layout `{layout}` holds matrices, and the weight has one dimension"),
                Some("scheme `keep`".into()),
            )),
            _ => Err(Refusal::new(
                RefusalKind::Rank,
                format!("layout `{layout}` holds matrices, and the weight has {} dimensions", self.rank()),
                Some("one matrix per expert (`[experts.NAME]`), or layout `grok-1` or `gguf`".into()),
            )),
        }
    }

    /// Refuses a group that does not divide the contracted dimension.
    fn divided_by(&self, group: u64) -> Result<u64, Refusal> {
        if self.length.is_multiple_of(group) {
            return Ok(self.length / group);
        }
        Err(Refusal::new(
            RefusalKind::Indivisible,
            format!("a group of {group} does not divide the contracted dimension of {}", self.length),
            Some(format!("`group = {}`, or `channel`", nearest_divisor(self.length, group))),
        ))
    }
}

/// A component whose dimensions divide the logical ones of the same position, where both have more than one index.
fn component(
    role: Role,
    suffix: &'static str,
    dtype: Dtype,
    shape: Vec<u64>,
    weight: &Checked<'_>,
) -> EncodedComponent {
    let divides =
        shape.iter().enumerate().map(|(dim, &size)| (size > 1 && dim < weight.rank()).then_some(dim)).collect();
    EncodedComponent { bytes: bytes_of(dtype, &shape), role, name: NameRule::Suffix(suffix), dtype, shape, divides }
}

/// A component that every shard needs whole.
fn whole(role: Role, name: NameRule, dtype: Dtype, shape: Vec<u64>) -> EncodedComponent {
    let divides = vec![None; shape.len()];
    EncodedComponent { bytes: bytes_of(dtype, &shape), role, name, dtype, shape, divides }
}

/// Bytes of a component. Its element count is bounded by [`Checked::new`]'s room.
fn bytes_of(dtype: Dtype, shape: &[u64]) -> u64 {
    let (elements, bytes) = dtype.block();
    shape.iter().product::<u64>() / elements * bytes
}

fn other(suffix: &str) -> Role {
    Role::Other(Arc::from(suffix))
}

/// The largest divisor of `length` that is at most `limit`, preferring powers of two of at least 16.
fn nearest_divisor(length: u64, limit: u64) -> u64 {
    let power = 1_u64 << length.trailing_zeros().min(limit.checked_ilog2().unwrap_or(0));
    if power >= 16 {
        return power;
    }
    // Groups are short; beyond this only the powers of two are looked at.
    (1..=limit.min(65_536)).rev().find(|&size| length.is_multiple_of(size)).unwrap_or(1)
}

#[cfg(test)]
mod tests;
