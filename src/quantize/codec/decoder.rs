//! Stored bytes to values: one decoder for everything that an inventory can hold.

use std::ops::Range;

use super::encoder::{Encoder, Method as Encoding};
use super::fp4::{Fp4, Global};
use super::scaled::{self, CodeType, Grid, HELD, Packing, Rule, Scaled};
use super::{Scratch, Want, along, blocks, nf4};
use crate::Dtype;
use crate::inventory::{Role, StoredFormat, Weight};
use crate::quantize::Arithmetic;
use crate::quantize::values::{self, Values};

/// Decodes a whole weight in memory, given the bytes of every component in the order of [`Weight::components`].
///
/// # Errors
///
/// [`Undecodable`] where the format is not known or the bytes are not what it needs.
pub fn decode(weight: &Weight, components: &[&[u8]], arithmetic: Arithmetic) -> Result<Vec<f32>, Undecodable> {
    let decoder = Decoder::new(weight, arithmetic)?;
    let elements = decoder.elements();
    let mut parts = Vec::with_capacity(components.len());
    for (index, bytes) in components.iter().enumerate() {
        let span = decoder.span(index, 0, elements);
        let part = bytes.get(span.clone());
        parts.push(part.ok_or_else(|| {
            Undecodable(format!("component {index} has {} bytes where {} are needed", bytes.len(), span.len()))
        })?);
    }
    let mut values = vec![0.0; elements];
    decoder.decode(0, &parts, &mut values, &mut Scratch::default())?;
    Ok(values)
}

/// Decodes one weight part by part, in any order and on any thread.
///
/// The caller reads the bytes that [`Decoder::span`] names of each component and hands them to [`Decoder::decode`].
#[derive(Debug)]
pub struct Decoder {
    method: Method,
    roles: Vec<Role>,
    sizes: Vec<usize>,
    dtypes: Vec<Dtype>,
    elements: usize,
    /// What every value is rounded to.
    rounding: Dtype,
}

#[derive(Debug)]
enum Method {
    Plain(Dtype),
    Scaled(Scaled),
    /// With whether the global scale multiplies (ModelOpt) or divides (compressed-tensors).
    Fp4(Fp4, bool),
    /// With the block's values and whether absmax is coded.
    Flat {
        block: usize,
        nested: bool,
    },
    Blocks(Dtype),
}

/// Why a weight cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(String);

impl Decoder {
    /// Binds to a weight as an inventory gives it.
    ///
    /// [`Arithmetic::Reference`] rounds every value as the peer that defines the format does (to bf16 under bf16 scales,
    /// say); [`Arithmetic::F32`] keeps the f32 product.
    ///
    /// # Errors
    ///
    /// [`Undecodable`] where the format or the shapes of its components are not known.
    pub fn new(weight: &Weight, arithmetic: Arithmetic) -> Result<Self, Undecodable> {
        let refused = |reason: &str| Undecodable(format!("`{}` cannot be decoded: {reason}", weight.path));
        let elements = usize::try_from(weight.elements()).map_err(|_| refused("it has too many values"))?;
        let (method, output) = Method::new(weight, elements).map_err(|reason| refused(&reason))?;
        let tensors = || weight.components.iter().map(|component| &component.tensor);
        let roles = weight.components.iter().map(|component| component.role.clone()).collect();
        let sizes: Result<Vec<usize>, _> = tensors().map(|tensor| usize::try_from(tensor.bytes.length)).collect();
        let sizes = sizes.map_err(|_| refused("it has too many bytes"))?;
        let rounding = if arithmetic == Arithmetic::Reference { output } else { Dtype::F32 };
        let decoder =
            Self { method, roles, sizes, dtypes: tensors().map(|tensor| tensor.dtype).collect(), elements, rounding };
        for (index, &size) in decoder.sizes.iter().enumerate() {
            let needed = decoder.span(index, 0, elements).end;
            if needed > size {
                return Err(refused(&format!("a component has {size} bytes where {needed} are needed")));
            }
        }
        Ok(decoder)
    }

    /// The decoder of what an encoder writes.
    #[must_use]
    pub fn of(encoder: &Encoder, arithmetic: Arithmetic) -> Self {
        let method = match encoder.method() {
            Encoding::Scaled(scaled) => Method::Scaled(scaled.clone()),
            Encoding::Fp4(fp4) => Method::Fp4(*fp4, false),
            Encoding::Nf4(nf4) => Method::Flat { block: nf4.block, nested: nf4.nested },
            Encoding::Blocks(dtype) => Method::Blocks(*dtype),
        };
        let components = &encoder.encoded().components;
        let output = match &method {
            Method::Scaled(scaled) => scaled.rule.scale_dtype,
            Method::Fp4(..) => Dtype::Bf16,
            Method::Flat { .. } => encoder.dtype(),
            Method::Plain(_) | Method::Blocks(_) => Dtype::F32,
        };
        Self {
            method,
            roles: components.iter().map(|component| component.role.clone()).collect(),
            sizes: components.iter().map(|component| usize::try_from(component.bytes).unwrap_or(usize::MAX)).collect(),
            dtypes: components.iter().map(|component| component.dtype).collect(),
            elements: encoder.elements(),
            rounding: if arithmetic == Arithmetic::Reference { output } else { Dtype::F32 },
        }
    }

    /// The decoder of numbers that are stored as they are.
    ///
    /// # Errors
    ///
    /// [`Undecodable`] for a dtype that is not a plain float, and where there are too many values.
    pub fn plain(dtype: Dtype, elements: u64) -> Result<Self, Undecodable> {
        let size = values::plain_size(dtype).ok_or_else(|| Undecodable(format!("`{dtype}` is no plain float")))?;
        let sized = usize::try_from(elements).ok().and_then(|elements| Some((elements, elements.checked_mul(size)?)));
        let (elements, bytes) = sized.ok_or_else(|| Undecodable("it has too many values".into()))?;
        Ok(Self {
            method: Method::Plain(dtype),
            roles: vec![Role::Weight],
            sizes: vec![bytes],
            dtypes: vec![dtype],
            elements,
            rounding: Dtype::F32,
        })
    }

    /// Number of values.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Values that every part but the last is a multiple of, counted from the start of the weight.
    #[must_use]
    pub fn step(&self) -> usize {
        match &self.method {
            Method::Plain(_) => 1,
            Method::Scaled(scaled) => scaled.grid.columns,
            Method::Fp4(fp4, _) => fp4.group(),
            Method::Flat { .. } => 2,
            Method::Blocks(dtype) => usize::try_from(dtype.block().0).unwrap_or(1),
        }
    }

    /// The bytes of a component that the part of `count` values from `start` on needs.
    #[must_use]
    pub fn span(&self, component: usize, start: usize, count: usize) -> Range<usize> {
        let (Some(role), Some(&size)) = (self.roles.get(component), self.sizes.get(component)) else { return 0..0 };
        if count == 0 {
            return 0..0;
        }
        let end = start + count;
        match (&self.method, role) {
            (Method::Plain(dtype), Role::Weight) => {
                let size = values::plain_size(*dtype).unwrap_or(1);
                start * size..end * size
            }
            (Method::Scaled(scaled), Role::Weight) => scaled.spans(start, count).codes,
            (Method::Scaled(scaled), Role::Scales) => scaled.spans(start, count).scales,
            (Method::Scaled(scaled), Role::ZeroPoint) => scaled.spans(start, count).zeros,
            (Method::Fp4(..), Role::Weight) => start / 2..end / 2,
            (Method::Fp4(fp4, _), Role::Scales) => start / fp4.group()..end / fp4.group(),
            (Method::Flat { .. }, Role::Weight) => start / 2..end.div_ceil(2),
            (Method::Flat { block, nested }, Role::Scales) => {
                let size = if *nested { 1 } else { 4 };
                start / block * size..end.div_ceil(*block) * size
            }
            (Method::Flat { block, .. }, Role::Other(name)) if &**name == "nested_absmax" => {
                let values = block * nf4::NESTED;
                start / values * 4..end.div_ceil(values) * 4
            }
            (Method::Flat { .. }, Role::Other(_)) | (Method::Fp4(..), Role::GlobalScale) => 0..size,
            (Method::Blocks(dtype), Role::Weight) => {
                let (values, bytes) = dtype.block();
                let at = |value: usize| usize::try_from(value as u64 / values * bytes).unwrap_or(usize::MAX);
                at(start)..at(end)
            }
            _ => 0..0,
        }
    }

    /// Decodes the part that starts at value `start` and is as long as `out`. `parts` has the bytes of each component
    /// that [`Decoder::span`] names, in the same order.
    ///
    /// # Errors
    ///
    /// [`Undecodable`] where a part does not have the bytes of its span, where `start` or the length is no multiple of
    /// [`Decoder::step`], or where a quant state is not JSON.
    pub fn decode(
        &self,
        start: usize,
        parts: &[&[u8]],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), Undecodable> {
        self.run(Want::Values, start, parts, out, scratch)
    }

    /// As [`Decoder::decode`], but gives the step at every value: the distance from its code to the farther of the
    /// neighbouring ones, negative for a code at the end of its range, zero where there are no codes.
    ///
    /// An error of more than half a step is a value that was clipped, or not coded to the nearest.
    ///
    /// # Errors
    ///
    /// As [`Decoder::decode`].
    pub fn steps(
        &self,
        start: usize,
        parts: &[&[u8]],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), Undecodable> {
        self.run(Want::Steps, start, parts, out, scratch)
    }

    fn run(
        &self,
        want: Want,
        start: usize,
        parts: &[&[u8]],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), Undecodable> {
        let (count, step) = (out.len(), self.step());
        let end = start.checked_add(count).filter(|end| *end <= self.elements);
        let aligned = start.is_multiple_of(step) && (count.is_multiple_of(step) || end == Some(self.elements));
        if end.is_none() || !aligned {
            return Err(Undecodable(format!("{count} values from {start} on are no part of {}", self.elements)));
        }
        for index in 0..self.roles.len() {
            let (have, needed) = (parts.get(index).map_or(0, |part| part.len()), self.span(index, start, count).len());
            if have != needed {
                return Err(Undecodable(format!("component {index} has {have} bytes where {needed} are needed")));
            }
        }
        if count == 0 {
            return Ok(());
        }
        let part = |role: &Role| {
            let index = self.roles.iter().position(|own| own == role);
            index.and_then(|index| parts.get(index)).copied().unwrap_or_default()
        };
        let codes = part(&Role::Weight);
        match &self.method {
            Method::Plain(_) if want == Want::Steps => out.fill(0.0),
            Method::Plain(dtype) => {
                if let Some(values) = Values::stored(*dtype, codes) {
                    values.widen(0, out);
                }
            }
            Method::Scaled(scaled) => {
                let from = scaled::Inputs { codes, scales: part(&Role::Scales), zeros: part(&Role::ZeroPoint) };
                scaled.decode(want, start, &from, self.rounding, out, scratch);
            }
            Method::Fp4(fp4, multiplies) => {
                let global = self.number(&Role::GlobalScale, part(&Role::GlobalScale));
                let global = if *multiplies { Global::Factor(global) } else { Global::Divisor(global) };
                fp4.decode(want, global, codes, part(&Role::Scales), self.rounding, out);
            }
            Method::Flat { block, nested } => {
                let named = |name: &str| part(&Role::Other(name.into()));
                let mut table = [0.0; 16];
                self.widen(named("quant_map"), &mut table);
                if want == Want::Steps {
                    table = nf4::steps(&table);
                }
                let blocks = start / block..(start + count).div_ceil(*block);
                let absmax = &mut scratch.absmax;
                absmax.clear();
                absmax.resize(blocks.len(), 0.0);
                if *nested {
                    let mut map = [0.0; 256];
                    self.widen(named("nested_quant_map"), &mut map);
                    let offset = nested_offset(named("quant_state"))?;
                    let (scales, _) = named("nested_absmax").as_chunks::<4>();
                    let first = blocks.start / nf4::NESTED;
                    for ((absmax, code), block) in absmax.iter_mut().zip(part(&Role::Scales)).zip(blocks) {
                        let scale = scales.get(block / nf4::NESTED - first).copied().map_or(0.0, f32::from_le_bytes);
                        *absmax = map[usize::from(*code)] * scale + offset;
                    }
                } else {
                    self.widen(part(&Role::Scales), absmax);
                }
                let from = nf4::Inputs { block: *block, table, codes, absmax };
                let rounding = if want == Want::Steps { Dtype::F32 } else { self.rounding };
                nf4::decode(&from, start, rounding, out);
            }
            Method::Blocks(dtype) => {
                blocks::decode(*dtype, want, codes, out);
            }
        }
        Ok(())
    }

    /// One number in the dtype of its component.
    fn number(&self, role: &Role, bytes: &[u8]) -> f32 {
        let dtype = self.roles.iter().zip(&self.dtypes).find(|(own, _)| *own == role).map(|(_, dtype)| *dtype);
        let mut number = [1.0];
        if let Some(stored) = dtype.and_then(|dtype| Values::stored(dtype, bytes)) {
            stored.widen(0, &mut number);
        }
        number[0]
    }

    fn widen(&self, bytes: &[u8], out: &mut [f32]) {
        if let Some(stored) = Values::stored(Dtype::F32, bytes) {
            stored.widen(0, out);
        }
    }
}

impl Method {
    /// How a weight is decoded, and the dtype that its peer's decoder gives.
    fn new(weight: &Weight, elements: usize) -> Result<(Self, Dtype), String> {
        let tensor = |role: &Role| weight.component(role);
        let codes = tensor(&Role::Weight).ok_or("it has no codes")?;
        let scales = || tensor(&Role::Scales).ok_or("it has no scales");
        let real = |dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16);
        let scaled = |code, scale_dtype| -> Result<Scaled, String> {
            let shape = &scales()?.shape;
            let grid = grid_of(&weight.shape, shape)
                .ok_or_else(|| format!("scales {shape:?} do not lie over {:?} in blocks", weight.shape))?;
            Ok(reader(grid, code, scale_dtype))
        };
        let own = |scaled: Scaled| {
            let dtype = scaled.rule.scale_dtype;
            (Method::Scaled(scaled), dtype)
        };
        let fp8 = |dtype| match dtype {
            Dtype::F8E4m3 => Ok(CodeType::E4m3),
            Dtype::F8E5m2 => Ok(CodeType::E5m2),
            dtype => Err(format!("`{dtype}` codes are not known")),
        };
        Ok(match &weight.format {
            StoredFormat::Plain if values::plain_size(codes.dtype).is_some() => {
                (Method::Plain(codes.dtype), Dtype::F32)
            }
            StoredFormat::Grok1 => {
                let (scales, contracted) = (scales()?, weight.shape.len().saturating_sub(2));
                let groups = scales.shape.get(contracted).and_then(|&groups| usize::try_from(groups).ok());
                let groups = groups.filter(|&groups| groups > 0).ok_or("its scales have no groups")?;
                own(reader(along(&weight.shape, contracted, groups), super::int8::RESTRICTED, scales.dtype))
            }
            StoredFormat::Fp8Block => {
                let scales = scales()?;
                let output = if scales.dtype == Dtype::F8E8m0 { Dtype::Bf16 } else { scales.dtype };
                (Method::Scaled(scaled(fp8(codes.dtype)?, scales.dtype)?), output)
            }
            StoredFormat::Fp8Scaled => own(scaled(fp8(codes.dtype)?, scales()?.dtype)?),
            StoredFormat::Mxfp8 => (Method::Scaled(scaled(fp8(codes.dtype)?, Dtype::F8E8m0)?), Dtype::Bf16),
            StoredFormat::IntQuantized => {
                let zeros = tensor(&Role::ZeroPoint).map(|zeros| zeros.dtype);
                if zeros.is_some_and(|dtype| dtype != Dtype::I8) {
                    return Err("its zero points are not i8".into());
                }
                let scaled = scaled(super::int8::FULL, scales()?.dtype)?;
                own(Scaled { zeros: zeros.map(|_| Packing::Bytes), ..scaled })
            }
            StoredFormat::PackQuantized { bits } => {
                if weight.component(&Role::Other("g_idx".into())).is_some() {
                    return Err("its columns are reordered (`g_idx`)".into());
                }
                let packing = Packing::Words(usize::from((*bits).clamp(1, 8)));
                let zeros = tensor(&Role::ZeroPoint).map(|zeros| match zeros.dtype {
                    Dtype::I8 => Packing::Bytes,
                    _ => packing,
                });
                let shape = &scales()?.shape;
                let groups = shape.last().copied().unwrap_or(1);
                let last = weight.shape.len().saturating_sub(1);
                if !weight.shape.get(last).is_some_and(|length| length.is_multiple_of(groups.max(1))) {
                    return Err(format!("{groups} groups do not divide a row"));
                }
                let grid = along(&weight.shape, last, usize::try_from(groups.max(1)).unwrap_or(1));
                let half = f32::from(1_u8 << (bits.clamp(&1, &8) - 1));
                let code = CodeType::Int { low: -half, high: half - 1.0 };
                own(Scaled { packing, zeros, ..reader(grid, code, scales()?.dtype) })
            }
            StoredFormat::Nvfp4Packed => (Method::Fp4(Fp4::Nv { work: Dtype::F32 }, false), Dtype::Bf16),
            StoredFormat::Nvfp4ModelOpt => (Method::Fp4(Fp4::Nv { work: Dtype::F32 }, true), Dtype::Bf16),
            StoredFormat::Mxfp4Packed | StoredFormat::Mxfp4Blocks => {
                (Method::Fp4(Fp4::Mx { reference: false, work: Dtype::F32 }, false), Dtype::Bf16)
            }
            StoredFormat::BnbNf4 | StoredFormat::BnbFp4 => {
                let absmax = scales()?;
                let blocks = usize::try_from(absmax.elements()).unwrap_or(0);
                // Blocks are powers of two, so the number of them tells which.
                let block = (5..=12).map(|power| 1 << power).find(|&block| elements.div_ceil(block) == blocks);
                let nested = absmax.dtype == Dtype::U8;
                if !nested && absmax.dtype != Dtype::F32 {
                    return Err(format!("`{}` absmax is not known", absmax.dtype));
                }
                (Method::Flat { block: block.ok_or("its blocks have no known size")?, nested }, weight.dtype)
            }
            StoredFormat::BnbInt8 => {
                let grid = along(&weight.shape, weight.shape.len().saturating_sub(1), 1);
                let mut scaled = reader(grid, super::int8::RESTRICTED, Dtype::F32);
                scaled.rule.by_ratio = true;
                own(scaled)
            }
            StoredFormat::Ggml if blocks::is_read(codes.dtype) => {
                if !weight.shape.last().is_some_and(|row| row.is_multiple_of(codes.dtype.block().0)) {
                    return Err("its rows are no whole blocks".into());
                }
                (Method::Blocks(codes.dtype), Dtype::F32)
            }
            StoredFormat::Declared(_) if real(scales()?.dtype) && weight.components.len() == 2 => {
                let code = if codes.dtype == Dtype::I8 { super::int8::FULL } else { fp8(codes.dtype)? };
                own(scaled(code, scales()?.dtype)?)
            }
            format => return Err(format!("`{}` values in format `{format}` are not known", codes.dtype)),
        })
    }
}

/// A scaled format that is only read.
fn reader(grid: Grid, code: CodeType, scale_dtype: Dtype) -> Scaled {
    let rule =
        Rule { divisor: 1.0, zero_scale: 0.0, scale_dtype, work: Dtype::F32, by_ratio: false, input: Dtype::F32 };
    Scaled { grid, rule, code, packing: Packing::Bytes, zeros: None, held: HELD }
}

/// How scales lie over a weight: one in all, one per leading index, or one per run of each dimension.
fn grid_of(weight: &[u64], scales: &[u64]) -> Option<Grid> {
    let size = |dims: &[u64]| usize::try_from(dims.iter().product::<u64>()).ok().filter(|&size| size > 0);
    let (&last, lead) = weight.split_last()?;
    let (rows, columns) = (size(lead)?, size(&[last])?);
    if scales.iter().all(|&count| count == 1) {
        return Some(Grid { rows, columns, high: rows, wide: columns });
    }
    // A dimension that the scales do not have is spanned whole.
    let runs: Vec<u64> = weight
        .iter()
        .enumerate()
        .map(|(dim, &length)| run(length, scales.get(dim).copied().unwrap_or(1)))
        .collect::<Option<_>>()?;
    let (&wide, lead_runs) = runs.split_last()?;
    let high = match lead_runs.iter().position(|&run| run > 1) {
        None => 1,
        Some(first) => {
            let spanned = lead.iter().zip(lead_runs).skip(first + 1).all(|(length, run)| length == run);
            let (length, run) = (*lead.get(first)?, *lead_runs.get(first)?);
            let straddles = !length.is_multiple_of(run) && size(lead.get(..first)?)? != 1;
            if !spanned || straddles {
                return None;
            }
            usize::try_from(run).ok()? * size(lead.get(first + 1..)?)?
        }
    };
    Some(Grid { rows, columns, high, wide: usize::try_from(wide).ok()? })
}

/// The length of runs of which `count` cover `length`: 128 or another power of two where one fits, else the least.
fn run(length: u64, count: u64) -> Option<u64> {
    if count == 0 || count > length {
        return None;
    }
    let powers = [7_u32, 5, 4, 6, 8, 9, 10, 11, 12].map(|power| 1_u64 << power);
    let least = length.div_ceil(count);
    let run = if length.is_multiple_of(count) {
        Some(least)
    } else {
        powers.into_iter().find(|&run| length.div_ceil(run) == count)
    };
    // An even division may still be blocks of 128 with a short last one, which is what the formats use.
    let run = if length.div_ceil(128) == count && least > 1 { Some(128.min(length)) } else { run };
    Some(run.unwrap_or(least)).filter(|&run| length.div_ceil(run) == count)
}

/// The offset in the JSON of a quant state. Python writes numbers that are not finite as JSON does not have them.
fn nested_offset(json: &[u8]) -> Result<f32, Undecodable> {
    let text = std::str::from_utf8(json).unwrap_or_default();
    let value = text.split_once("\"nested_offset\":").and_then(|(_, rest)| rest.split([',', '}']).next());
    match value.map(str::trim) {
        Some("NaN") => Some(f32::NAN),
        Some("Infinity") => Some(f32::INFINITY),
        Some("-Infinity") => Some(f32::NEG_INFINITY),
        Some(number) => number.parse::<f64>().map(|number| number as f32).ok(),
        None => None,
    }
    .ok_or_else(|| Undecodable("its quant state has no offset".into()))
}
