//! bitsandbytes' prequantized keys: NF4 with its quant state, LLM.int8 with `SCB` (bitsandbytes 0.50,
//! `functional.py` `QuantState.as_dict`, `nn/modules.py`).

use super::{Checked, Encoded, EncodedComponent, NameRule, Refusal, RefusalKind, component, other, whole};
use crate::Dtype;
use crate::inventory::{Role, StoredFormat};
use crate::quantize::{Format, Granularity, Layout, Scheme};

/// Bytes kept for the JSON of an NF4 quant state.
///
/// The offset of a double-quantized absmax is a decimal number whose length the data decide; the JSON is padded with
/// spaces to this length, so that a file can be laid out before its data are read. Every reader parses it as JSON.
pub const QUANT_STATE_BYTES: u64 = 256;

/// Absmax values that share a second-level scale.
const NESTED_BLOCK: u64 = 256;

pub(super) fn check(scheme: &Scheme) -> Result<(), Refusal> {
    let fits = "`nf4` with `{ group = 64 }` (or another power of two up to 4096), or symmetric `int8` with `channel`";
    let held = match (scheme.format, &scheme.granularity) {
        (Format::Nf4, Granularity::Group(size)) => size.is_power_of_two() && (32..=4096).contains(size),
        (Format::Int8, Granularity::Channel) => scheme.symmetric,
        _ => false,
    };
    if !held {
        return Err(Refusal::not_in(Layout::BitsAndBytes, scheme, fits));
    }
    match scheme.scale_dtype {
        None | Some(Dtype::F32) => Ok(()),
        Some(dtype) => {
            Err(Refusal::unsupported(format!("layout `bitsandbytes` has no `{dtype}` scales"), "`scale_dtype` `f32`"))
        }
    }
}

pub(super) fn companions(scheme: &Scheme, weight: &Checked<'_>) -> Result<Encoded, Refusal> {
    match scheme.granularity {
        Granularity::Group(block) => nf4(scheme, weight, block),
        _ => int8(weight),
    }
}

/// Blocks run over the flattened tensor and may cross rows; a short last block is allowed.
fn nf4(scheme: &Scheme, weight: &Checked<'_>, block: u64) -> Result<Encoded, Refusal> {
    let json = u64::try_from(quant_state_json_bytes(weight.rank())).unwrap_or(u64::MAX);
    if json > QUANT_STATE_BYTES {
        let reason = format!("a shape of {} dimensions does not fit the quant state", weight.rank());
        return Err(Refusal::new(RefusalKind::Rank, reason, Some("scheme `keep`".into())));
    }
    let blocks = weight.elements.div_ceil(block);
    let suffix = NameRule::Suffix;
    let absmax_dtype = if scheme.double_quant { Dtype::U8 } else { Dtype::F32 };
    let mut components = vec![
        whole(Role::Weight, suffix(""), Dtype::U8, vec![weight.elements.div_ceil(2), 1]),
        whole(Role::Scales, suffix(".absmax"), absmax_dtype, vec![blocks]),
        whole(other("quant_map"), suffix(".quant_map"), Dtype::F32, vec![16]),
    ];
    if scheme.double_quant {
        let nested = vec![blocks.div_ceil(NESTED_BLOCK)];
        components.push(whole(other("nested_absmax"), suffix(".nested_absmax"), Dtype::F32, nested));
        components.push(whole(other("nested_quant_map"), suffix(".nested_quant_map"), Dtype::F32, vec![256]));
    }
    components.push(whole(
        other("quant_state"),
        suffix(".quant_state.bitsandbytes__nf4"),
        Dtype::U8,
        vec![QUANT_STATE_BYTES],
    ));
    Ok(Encoded {
        components,
        group: Some(block),
        unit: vec![None; weight.rank()],
        stored: StoredFormat::BnbNf4,
        elements: weight.elements,
    })
}

/// An upper bound of the JSON's length: fixed keys, and at most 20 digits and a separator per dimension.
const fn quant_state_json_bytes(rank: usize) -> usize {
    170 + rank.saturating_mul(21)
}

fn int8(weight: &Checked<'_>) -> Result<Encoded, Refusal> {
    let [rows, _] = weight.out_in(Layout::BitsAndBytes)?;
    let scales = EncodedComponent {
        name: NameRule::Sibling("SCB"),
        ..component(Role::Scales, "", Dtype::F32, vec![rows], weight)
    };
    Ok(Encoded {
        components: vec![
            component(Role::Weight, "", Dtype::I8, weight.shape.to_vec(), weight),
            scales,
            whole(other("weight_format"), NameRule::Sibling("weight_format"), Dtype::U8, vec![]),
        ],
        group: None,
        unit: vec![Some(1), Some(1)],
        stored: StoredFormat::BnbInt8,
        elements: weight.elements,
    })
}
