//! Values to stored bytes.

use std::ops::Range;

use super::scaled::{self, Cells, Extremes, Scaled};
use super::{Bound, Counts, Scratch, blocks, fp4::Fp4, fp8, int4, int8, nf4, nf4::Nf4, nvfp4, work_dtype};
use crate::Dtype;
use crate::inventory::Role;
use crate::quantize::layout::{self, Encoded, Logical, QUANT_STATE_BYTES, Refusal, RefusalKind};
use crate::quantize::values::Values;
use crate::quantize::{Arithmetic, Format, Granularity, Layout, Scheme};

/// Encodes a whole weight in memory. Answers the bytes of every component, in the order of [`Encoded::components`].
///
/// ```
/// use flow_fabric::{Dtype, quantize::{self, Format, Layout, Logical, Scheme, Values}};
///
/// let values: Vec<f32> = (0..64).map(|i| i as f32 - 32.0).collect();
/// let weight = Logical { shape: &[2, 32], contracted: 1, dtype: Dtype::F32, shard_groups: 1 };
/// let (encoded, bytes) =
///     quantize::encode(&Scheme::new(Format::Q80), Layout::Gguf, weight, Values::F32(&values))?;
/// assert_eq!(encoded.components[0].dtype, Dtype::Q80);
/// assert_eq!(bytes[0].len(), 68);
/// # Ok::<(), quantize::Refusal>(())
/// ```
///
/// # Errors
///
/// A [`Refusal`] where the scheme, the layout and the weight do not go together.
///
/// # Panics
///
/// Where `values` is not as long as the shape says.
pub fn encode(
    scheme: &Scheme,
    layout: Layout,
    weight: Logical<'_>,
    values: Values<'_>,
) -> Result<(Encoded, Vec<Vec<u8>>), Refusal> {
    let encoder = Encoder::new(scheme, layout, weight)?;
    let mut scratch = Scratch::default();
    let mut survey = encoder.survey();
    if encoder.is_surveyed() {
        encoder.add(&mut survey, 0, values, &mut scratch);
    }
    let settled = encoder.settle(&survey);
    let components = 0..encoder.encoded.components.len();
    let mut bytes: Vec<Vec<u8>> = components
        .map(|index| {
            let fixed = encoder.fixed(&settled, index);
            fixed.unwrap_or_else(|| vec![0; encoder.span(index, 0, values.len()).len()])
        })
        .collect();
    let mut out: Vec<&mut [u8]> = bytes
        .iter_mut()
        .enumerate()
        .map(|(index, bytes)| if encoder.is_fixed(index) { &mut [][..] } else { bytes.as_mut_slice() })
        .collect();
    encoder.encode(&settled, 0, values, &mut out, &mut scratch);
    Ok((encoder.encoded, bytes))
}

/// Encodes one weight part by part.
///
/// 1. Where [`Encoder::is_surveyed`], [`Encoder::add`] every part to a [`Survey`].
/// 2. [`Encoder::settle`] it. What no part writes is given by [`Encoder::fixed`].
/// 3. [`Encoder::encode`] every part into the bytes that [`Encoder::span`] names.
///
/// Parts may be handled in any order and on any thread, with the same result.
#[derive(Debug)]
pub struct Encoder {
    encoded: Encoded,
    method: Method,
    elements: usize,
    /// What a quant state says beside the data: dtype and shape.
    described: Described,
}

/// How values become codes.
#[derive(Debug)]
pub(super) enum Method {
    Scaled(Scaled),
    Fp4(Fp4),
    Nf4(Nf4),
    Blocks(Dtype),
}

#[derive(Debug)]
struct Described {
    dtype: Dtype,
    shape: Vec<u64>,
}

/// What a pass over all values found. Parts are merged in any order.
#[derive(Debug, Clone)]
pub struct Survey {
    found: Found,
    /// What was counted.
    pub counts: Counts,
}

#[derive(Debug, Clone)]
enum Found {
    Nothing,
    Extremes(Extremes),
    Largest(u32),
    Means(nf4::Means),
}

impl Survey {
    /// Takes what another part of the same weight gave. For NVFP4 also what a sibling gave, which makes them share
    /// their global scale.
    pub fn merge(&mut self, other: &Survey) {
        self.counts.merge(other.counts);
        match (&mut self.found, &other.found) {
            (Found::Extremes(mine), Found::Extremes(theirs)) => mine.merge(theirs),
            (Found::Largest(mine), Found::Largest(theirs)) => *mine = (*mine).max(*theirs),
            (Found::Means(mine), Found::Means(theirs)) => mine.merge(theirs),
            _ => {}
        }
    }
}

/// What all parts of a weight share.
#[derive(Debug, Clone)]
pub struct Settled(Shared);

#[derive(Debug, Clone)]
enum Shared {
    Nothing,
    Cells(Cells),
    Global(f32),
    Offset(f32),
}

impl Encoder {
    /// Binds a scheme to a weight.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], as [`layout::companions`] gives it.
    pub fn new(scheme: &Scheme, layout: Layout, weight: Logical<'_>) -> Result<Self, Refusal> {
        let encoded = layout::companions(scheme, layout, weight)?;
        let Ok(elements) = usize::try_from(encoded.elements) else {
            let reason = format!("shape {:?} has more values than this machine can address", weight.shape);
            return Err(Refusal { kind: RefusalKind::TooLarge, reason, fits: None });
        };
        let scale_dtype = encoded.component(&Role::Scales).map_or(Dtype::F32, |scales| scales.dtype);
        let groups = match (&scheme.granularity, encoded.group) {
            (Granularity::Group(_) | Granularity::ShardGroup(_), Some(group)) => {
                weight.shape.get(weight.contracted).map_or(1, |length| length / group)
            }
            _ => 1,
        };
        let bound = Bound {
            shape: weight.shape,
            contracted: weight.contracted,
            dtype: weight.dtype,
            scale_dtype,
            groups: usize::try_from(groups).unwrap_or(usize::MAX),
        };
        let reference = scheme.arithmetic == Arithmetic::Reference;
        let work = work_dtype(scheme, weight.dtype);
        let method = match (layout, scheme.format) {
            (Layout::Gguf, _) => {
                Method::Blocks(encoded.components.first().map_or(Dtype::Q80, |component| component.dtype))
            }
            (_, Format::Int8) => Method::Scaled(int8::encoder(scheme, layout, &bound)),
            (_, Format::Int4) => Method::Scaled(int4::encoder(scheme, &bound)),
            (_, Format::Mxfp4) => Method::Fp4(Fp4::Mx { reference, work }),
            (_, Format::Nvfp4) => Method::Fp4(Fp4::Nv { work }),
            (_, Format::Nf4) => {
                let block = encoded.group.and_then(|group| usize::try_from(group).ok()).unwrap_or(64);
                Method::Nf4(Nf4 { block, elements, nested: scheme.double_quant, reference })
            }
            _ => Method::Scaled(fp8::encoder(scheme, layout, &bound)),
        };
        let described = Described { dtype: weight.dtype, shape: weight.shape.to_vec() };
        Ok(Self { encoded, method, elements, described })
    }

    /// What the weight is stored as.
    #[must_use]
    pub fn encoded(&self) -> &Encoded {
        &self.encoded
    }

    /// Number of values.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Sets how many values of a band may be held, so that tests reach the survey with few of them.
    #[cfg(test)]
    pub(super) fn hold(&mut self, values: usize) {
        if let Method::Scaled(scaled) = &mut self.method {
            scaled.held = values;
        }
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// Dtype of the values that it was made for.
    pub(super) fn dtype(&self) -> Dtype {
        self.described.dtype
    }

    /// Values that every part but the last is a multiple of, counted from the start of the weight.
    #[must_use]
    pub fn step(&self) -> usize {
        match &self.method {
            Method::Scaled(scaled) => scaled.encode_step(),
            Method::Fp4(fp4) => fp4.group(),
            Method::Nf4(nf4) => nf4.step(),
            Method::Blocks(dtype) => usize::try_from(dtype.block().0).unwrap_or(1),
        }
    }

    /// Whether all values must be read once before the first can be encoded.
    #[must_use]
    pub fn is_surveyed(&self) -> bool {
        match &self.method {
            Method::Scaled(scaled) => scaled.is_surveyed(),
            Method::Fp4(fp4) => matches!(fp4, Fp4::Nv { .. }),
            Method::Nf4(nf4) => nf4.nested,
            Method::Blocks(_) => false,
        }
    }

    /// Whether siblings may share what is settled: one scale over the whole tensor that engines take for all of a fused
    /// weight.
    #[must_use]
    pub fn shares_global(&self) -> bool {
        matches!(self.method, Method::Fp4(Fp4::Nv { .. }))
    }

    /// A survey without values.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let found = match &self.method {
            Method::Scaled(scaled) if scaled.is_surveyed() => Found::Extremes(scaled.new_extremes()),
            Method::Fp4(Fp4::Nv { .. }) => Found::Largest(0),
            Method::Nf4(nf4) if nf4.nested => Found::Means(nf4.new_means()),
            _ => Found::Nothing,
        };
        Survey { found, counts: Counts::default() }
    }

    /// Adds the part that starts at value `start` to a survey.
    pub fn add(&self, survey: &mut Survey, start: usize, part: Values<'_>, scratch: &mut Scratch) {
        let counts = match (&self.method, &mut survey.found) {
            (Method::Scaled(scaled), Found::Extremes(extremes)) => scaled.survey(extremes, start, part, scratch),
            (Method::Fp4(_), Found::Largest(largest)) => {
                let (most, counts) = super::fp4::survey(part, scratch);
                *largest = (*largest).max(most);
                counts
            }
            (Method::Nf4(nf4), Found::Means(means)) => nf4.survey(means, start, part, scratch),
            _ => Counts::default(),
        };
        survey.counts.merge(counts);
    }

    /// Turns a complete survey into what all parts share.
    #[must_use]
    pub fn settle(&self, survey: &Survey) -> Settled {
        Settled(match (&self.method, &survey.found) {
            (Method::Scaled(scaled), Found::Extremes(extremes)) => {
                let mut cells = Cells::default();
                scaled.settle(extremes, &mut cells);
                Shared::Cells(cells)
            }
            (Method::Fp4(Fp4::Nv { work }), Found::Largest(largest)) => {
                Shared::Global(nvfp4::global(f32::from_bits(*largest), *work))
            }
            (Method::Nf4(nf4), Found::Means(means)) => Shared::Offset(means.settle(nf4.blocks())),
            _ => Shared::Nothing,
        })
    }

    /// Whether a component is given whole by [`Encoder::fixed`] rather than written part by part.
    #[must_use]
    pub fn is_fixed(&self, component: usize) -> bool {
        let Some(component) = self.encoded.components.get(component) else { return true };
        match (&self.method, &component.role) {
            (_, Role::Weight) => false,
            (Method::Scaled(scaled), Role::Scales | Role::ZeroPoint) => scaled.is_surveyed(),
            (_, Role::Scales) => false,
            (Method::Nf4(_), Role::Other(name)) => &**name != "nested_absmax",
            _ => true,
        }
    }

    /// The bytes of a component that no part writes.
    #[must_use]
    pub fn fixed(&self, settled: &Settled, index: usize) -> Option<Vec<u8>> {
        let component = self.encoded.components.get(index).filter(|_| self.is_fixed(index))?;
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut zeroed = vec![0; usize::try_from(component.bytes).ok()?];
        Some(match (&component.role, &settled.0, &self.method) {
            (Role::Scales, Shared::Cells(cells), Method::Scaled(scaled)) => {
                scaled.put_scales(&cells.scales, &mut zeroed);
                zeroed
            }
            (Role::ZeroPoint, Shared::Cells(cells), Method::Scaled(scaled)) => {
                scaled.put_zeros(&cells.zeros, &mut zeroed);
                zeroed
            }
            (Role::GlobalScale, Shared::Global(global), _) => global.to_le_bytes().to_vec(),
            (Role::Shape, ..) => self.described.shape.iter().flat_map(|size| size.to_le_bytes()).collect(),
            (Role::Other(name), ..) => match &**name {
                "quant_map" => floats(&nf4::TABLE),
                "nested_quant_map" => floats(nf4::dynamic_map()),
                "quant_state" => {
                    let mut json = self.quant_state(settled).into_bytes();
                    json.resize(usize::try_from(QUANT_STATE_BYTES).ok()?.max(json.len()), b' ');
                    json
                }
                // bitsandbytes' `weight_format`: 0 is row-major.
                _ => zeroed,
            },
            _ => zeroed,
        })
    }

    /// The bytes of a component that the part of `count` values from `start` on takes; empty for a fixed one.
    #[must_use]
    pub fn span(&self, component: usize, start: usize, count: usize) -> Range<usize> {
        let Some(role) = self.encoded.components.get(component).map(|component| &component.role) else { return 0..0 };
        if self.is_fixed(component) || count == 0 {
            return 0..0;
        }
        let end = start + count;
        match (&self.method, role) {
            (Method::Scaled(scaled), _) => {
                let spans = scaled.spans(start, count);
                match role {
                    Role::Weight => spans.codes,
                    Role::Scales => spans.scales,
                    _ => spans.zeros,
                }
            }
            (Method::Fp4(_), Role::Weight) => start / 2..end / 2,
            (Method::Fp4(fp4), _) => start / fp4.group()..end / fp4.group(),
            (Method::Nf4(_), Role::Weight) => start / 2..end.div_ceil(2),
            (Method::Nf4(nf4), Role::Scales) => {
                let size = if nf4.nested { 1 } else { 4 };
                start / nf4.block * size..end.div_ceil(nf4.block) * size
            }
            (Method::Nf4(nf4), _) => start / nf4.step() * 4..end.div_ceil(nf4.step()) * 4,
            (Method::Blocks(dtype), _) => {
                let (values, bytes) = dtype.block();
                let at = |value: usize| usize::try_from(value as u64 / values * bytes).unwrap_or(usize::MAX);
                at(start)..at(end)
            }
        }
    }

    /// Encodes the part that starts at value `start`.
    ///
    /// `out` has one buffer per component, each as long as its [`Encoder::span`].
    ///
    /// # Panics
    ///
    /// Where `start` is no multiple of [`Encoder::step`], the part is no multiple of it and not the last, or a buffer
    /// does not have its length.
    pub fn encode(
        &self,
        settled: &Settled,
        start: usize,
        part: Values<'_>,
        out: &mut [&mut [u8]],
        scratch: &mut Scratch,
    ) -> Counts {
        let (count, step) = (part.len(), self.step());
        assert!(start.is_multiple_of(step), "a part starts at a multiple of {step} values, not at {start}");
        assert!(
            count.is_multiple_of(step) || start + count == self.elements,
            "a part of {count} values is neither a multiple of {step} nor the last"
        );
        for (index, out) in out.iter().enumerate() {
            assert_eq!(out.len(), self.span(index, start, count).len(), "bytes of component {index}");
        }
        if count == 0 {
            return Counts::default();
        }
        let mut buffer = |wanted: fn(&Role) -> bool| {
            let index = self.encoded.components.iter().position(|component| wanted(&component.role));
            index.and_then(|index| out.get_mut(index)).map(std::mem::take).unwrap_or_default()
        };
        let codes = buffer(|role| *role == Role::Weight);
        let scales = buffer(|role| *role == Role::Scales);
        match (&self.method, &settled.0) {
            (Method::Scaled(scaled), shared) => {
                let cells = match shared {
                    Shared::Cells(cells) => Some(cells),
                    _ => None,
                };
                let zeros = buffer(|role| *role == Role::ZeroPoint);
                scaled.encode(cells, start, part, scaled::Outputs { codes, scales, zeros }, scratch)
            }
            (Method::Fp4(fp4), shared) => {
                let global = match shared {
                    Shared::Global(global) => *global,
                    _ => 1.0,
                };
                fp4.encode(global, part, codes, scales, scratch)
            }
            (Method::Nf4(nf4), shared) => {
                let offset = match shared {
                    Shared::Offset(offset) => *offset,
                    _ => 0.0,
                };
                let nested_absmax = buffer(|role| matches!(role, Role::Other(name) if &**name == "nested_absmax"));
                nf4.encode(offset, part, nf4::Outputs { codes, absmax: scales, nested_absmax }, scratch)
            }
            (Method::Blocks(dtype), _) => blocks::encode(*dtype, part, codes, scratch).unwrap_or_default(),
        }
    }

    /// The JSON of bitsandbytes' quant state, as Python writes it.
    fn quant_state(&self, settled: &Settled) -> String {
        let dtype = match self.described.dtype {
            Dtype::Bf16 => "bfloat16",
            Dtype::F16 => "float16",
            _ => "float32",
        };
        let shape: Vec<String> = self.described.shape.iter().map(u64::to_string).collect();
        let block = self.encoded.group.unwrap_or(64);
        let nested = match settled.0 {
            Shared::Offset(offset) => format!(
                ", \"nested_blocksize\": {}, \"nested_dtype\": \"float32\", \"nested_offset\": {}",
                nf4::NESTED,
                python_float(f64::from(offset))
            ),
            _ => String::new(),
        };
        format!(
            "{{\"quant_type\": \"nf4\", \"blocksize\": {block}, \"dtype\": \"{dtype}\", \"shape\": [{}]{nested}}}",
            shape.join(", ")
        )
    }
}

/// The shortest decimal that gives the number back, as Python's `json.dumps` spells it.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value:?}")
}
