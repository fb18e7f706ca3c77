//! compressed-tensors: names, packing and shapes of its `int-quantized`, `pack-quantized`, `float-quantized`,
//! `nvfp4-pack-quantized` and `mxfp4-pack-quantized` formats (compressed-tensors 0.20, `compressors/`).

use super::{Checked, Encoded, EncodedComponent, NameRule, Refusal, component, whole};
use crate::Dtype;
use crate::inventory::{Role, StoredFormat};
use crate::quantize::{Format, Granularity, Layout, Scheme};

/// Numbers of one value that share a 32-bit word in `pack-quantized`.
const INT4_PER_WORD: u64 = 8;
const INT8_PER_WORD: u64 = 4;

pub(super) fn check(scheme: &Scheme) -> Result<(), Refusal> {
    use Granularity::{Block, Channel, Group, Tensor};
    let fits = match (scheme.format, &scheme.granularity) {
        (Format::Int8, Tensor | Channel | Group(_))
        | (Format::Int4, Channel | Group(_))
        | (Format::Fp8E4m3 | Format::Fp8E5m2, Tensor | Channel | Block(_))
        | (Format::Nvfp4, Group(16))
        | (Format::Mxfp4, Group(32)) => Ok(()),
        (Format::Int8, _) => Err("`tensor`, `channel` or `{ group = N }`"),
        (Format::Int4, _) => Err("`channel` or `{ group = N }`"),
        (Format::Fp8E4m3 | Format::Fp8E5m2, _) => Err("`tensor`, `channel` or `{ block = [128, 128] }`"),
        (Format::Nvfp4, _) => Err("`{ group = 16 }`"),
        (Format::Mxfp4, _) => Err("`{ group = 32 }`"),
        _ => Err("`int8`, `int4`, `fp8_e4m3`, `nvfp4` or `mxfp4`"),
    };
    if let Err(fits) = fits {
        return Err(Refusal::not_in(Layout::CompressedTensors, scheme, fits));
    }
    let own = match scheme.format {
        Format::Nvfp4 => Some(Dtype::F8E4m3),
        Format::Mxfp4 => Some(Dtype::F8E8m0),
        _ => None,
    };
    match (own, scheme.scale_dtype) {
        (_, None) => Ok(()),
        (None, Some(Dtype::F32 | Dtype::F16 | Dtype::Bf16)) => Ok(()),
        (Some(own), Some(dtype)) if own == dtype => Ok(()),
        (own, Some(dtype)) => Err(Refusal::unsupported(
            format!("layout `compressed-tensors` has no `{dtype}` scales for `{}`", scheme.format),
            own.map_or("`scale_dtype` `f32`, `f16` or `bf16`", |_| "no `scale_dtype`: the format fixes it"),
        )),
    }
}

pub(super) fn companions(scheme: &Scheme, weight: &Checked<'_>) -> Result<Encoded, Refusal> {
    let [rows, columns] = weight.out_in(Layout::CompressedTensors)?;
    let scale_dtype = scheme.scale_dtype.unwrap_or(match weight.dtype {
        dtype @ (Dtype::F16 | Dtype::Bf16) => dtype,
        _ => Dtype::F32,
    });
    let shape = || vec![rows, columns];
    let part = |role, suffix, dtype, shape| component(role, suffix, dtype, shape, weight);
    let scale = |shape| part(Role::Scales, "_scale", scale_dtype, shape);
    let encoded = |components, group, unit: [u64; 2], stored| Encoded {
        components,
        group,
        unit: unit.map(Some).to_vec(),
        stored,
        elements: weight.elements,
    };
    Ok(match (scheme.format, &scheme.granularity) {
        (Format::Int8, Granularity::Tensor | Granularity::Channel) => {
            let scales = if scheme.granularity == Granularity::Tensor { vec![1] } else { vec![rows, 1] };
            let mut components = vec![part(Role::Weight, "", Dtype::I8, shape()), scale(scales.clone())];
            if !scheme.symmetric {
                components.push(part(Role::ZeroPoint, "_zero_point", Dtype::I8, scales));
            }
            encoded(components, None, [1, 1], StoredFormat::IntQuantized)
        }
        (Format::Int8 | Format::Int4, granularity) => {
            let (per_word, bits) = if scheme.format == Format::Int4 { (INT4_PER_WORD, 4) } else { (INT8_PER_WORD, 8) };
            let (group, groups) = match granularity {
                Granularity::Group(size) => (Some(*size), weight.divided_by(*size)?),
                _ => (None, 1),
            };
            let components = packed(weight, [rows, columns], per_word, groups, scale_dtype, scheme.symmetric);
            let row_unit = if scheme.symmetric { 1 } else { per_word };
            let column_unit = common_multiple(group.unwrap_or(1), per_word);
            encoded(components, group, [row_unit, column_unit], StoredFormat::PackQuantized { bits })
        }
        (Format::Nvfp4, _) => {
            let groups = weight.divided_by(16)?;
            let components = vec![
                part(Role::Weight, "_packed", Dtype::U8, vec![rows, columns / 2]),
                part(Role::Scales, "_scale", Dtype::F8E4m3, vec![rows, groups]),
                whole(Role::GlobalScale, NameRule::Suffix("_global_scale"), Dtype::F32, vec![1]),
            ];
            encoded(components, Some(16), [1, 16], StoredFormat::Nvfp4Packed)
        }
        (Format::Mxfp4, _) => {
            let groups = weight.divided_by(32)?;
            let components = vec![
                part(Role::Weight, "_packed", Dtype::U8, vec![rows, columns / 2]),
                part(Role::Scales, "_scale", Dtype::U8, vec![rows, groups]),
            ];
            encoded(components, Some(32), [1, 32], StoredFormat::Mxfp4Packed)
        }
        (format, granularity) => {
            let code = if format == Format::Fp8E5m2 { Dtype::F8E5m2 } else { Dtype::F8E4m3 };
            let (scales, group, unit) = match *granularity {
                Granularity::Block([high, wide]) => {
                    (vec![rows.div_ceil(high), columns.div_ceil(wide)], Some(wide), [high, wide])
                }
                Granularity::Tensor => (vec![1], None, [1, 1]),
                _ => (vec![rows, 1], None, [1, 1]),
            };
            let components = vec![part(Role::Weight, "", code, shape()), scale(scales)];
            encoded(components, group, unit, StoredFormat::Fp8Scaled)
        }
    })
}

/// The tensors of `pack-quantized`. Rows of codes are padded to whole words; zero points are packed down the rows.
fn packed(
    weight: &Checked<'_>,
    [rows, columns]: [u64; 2],
    per_word: u64,
    groups: u64,
    scale_dtype: Dtype,
    symmetric: bool,
) -> Vec<EncodedComponent> {
    let mut components = vec![
        component(Role::Weight, "_packed", Dtype::I32, vec![rows, columns.div_ceil(per_word)], weight),
        component(Role::Scales, "_scale", scale_dtype, vec![rows, groups], weight),
        whole(Role::Shape, NameRule::Suffix("_shape"), Dtype::I64, vec![2]),
    ];
    if !symmetric {
        let shape = vec![rows.div_ceil(per_word), groups];
        components.push(component(Role::ZeroPoint, "_zero_point", Dtype::I32, shape, weight));
    }
    components
}

fn common_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    // A group larger than any dimension never divides one, so saturation is never used as a unit.
    (a / x.max(1)).saturating_mul(b)
}
