//! Grok-1's `QuantizedWeight8bit`: `weight` i8 `[*lead, K, N]`, `scales` `[*lead, G, N]`.
//!
//! Scale `g` covers the rows `[g K/G, (g+1) K/G)` of the contracted dimension. Released shards have G = 8 where K was
//! sharded over the eight-way model axis, else 1. Source: `QuantizedWeight8bit` and `shard_map` in xAI's `model.py`.

use super::{Checked, Encoded, Refusal, RefusalKind, component};
use crate::Dtype;
use crate::inventory::{Role, StoredFormat};
use crate::quantize::{Format, Granularity, Layout, Scheme};

pub(super) fn check(scheme: &Scheme) -> Result<(), Refusal> {
    let granularity =
        matches!(scheme.granularity, Granularity::Channel | Granularity::Group(_) | Granularity::ShardGroup(_));
    if scheme.format != Format::Int8 || !granularity || !scheme.symmetric {
        return Err(Refusal::not_in(
            Layout::Grok1,
            scheme,
            "symmetric `int8` with `channel`, `{ group = N }` or `{ shard_group = AXIS }`",
        ));
    }
    match scheme.scale_dtype {
        None | Some(Dtype::Bf16 | Dtype::F32 | Dtype::F16) => Ok(()),
        Some(dtype) => Err(Refusal::unsupported(
            format!("layout `grok-1` has no `{dtype}` scales"),
            "`scale_dtype` `bf16` (as released), `f32` or `f16`",
        )),
    }
}

pub(super) fn companions(scheme: &Scheme, weight: &Checked<'_>) -> Result<Encoded, Refusal> {
    if weight.rank() < 2 {
        return Err(Refusal::new(
            RefusalKind::Rank,
            "layout `grok-1` holds matrices and stacks of them, and the weight has one dimension".into(),
            Some("scheme `keep`".into()),
        ));
    }
    if weight.contracted + 2 != weight.rank() {
        return Err(Refusal::new(
            RefusalKind::Contract,
            "layout `grok-1` stores [.., in, out], but the contracted dimension is not the last but one".into(),
            Some("`contract = -2` if the weight is [.., in, out]; layout `compressed-tensors` holds [out, in]".into()),
        ));
    }
    let groups = match scheme.granularity {
        Granularity::Group(size) => weight.divided_by(size)?,
        Granularity::ShardGroup(_) => shard_groups(weight)?,
        _ => 1,
    };
    let group = weight.length / groups;
    let mut scales = weight.shape.to_vec();
    let mut unit = vec![Some(1); weight.rank()];
    if let (Some(size), Some(step)) = (scales.get_mut(weight.contracted), unit.get_mut(weight.contracted)) {
        *size = groups;
        *step = Some(if groups == 1 { 1 } else { group });
    }
    let scale_dtype = scheme.scale_dtype.unwrap_or(Dtype::Bf16);
    Ok(Encoded {
        components: vec![
            component(Role::Weight, "/weight", Dtype::I8, weight.shape.to_vec(), weight),
            component(Role::Scales, "/scales", scale_dtype, scales, weight),
        ],
        group: (groups > 1).then_some(group),
        unit,
        stored: StoredFormat::Grok1,
        elements: weight.elements,
    })
}

fn shard_groups(weight: &Checked<'_>) -> Result<u64, Refusal> {
    let groups = weight.shard_groups.max(1);
    if weight.length.is_multiple_of(groups) {
        return Ok(groups);
    }
    Err(Refusal::new(
        RefusalKind::Indivisible,
        format!("{groups} shard groups do not divide the contracted dimension of {}", weight.length),
        Some("`channel`, or a mesh axis that divides it".into()),
    ))
}
