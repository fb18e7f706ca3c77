//! GGUF: one tensor of GGML blocks along the contiguous dimension (`ggml-common.h`).

use super::{Checked, Encoded, Refusal, RefusalKind, component};
use crate::Dtype;
use crate::inventory::{Role, StoredFormat};
use crate::quantize::{Format, Layout, Scheme};

/// Dimensions a GGML tensor can have.
const MAX_RANK: usize = 4;

pub(super) fn check(scheme: &Scheme) -> Result<(), Refusal> {
    let fits = "`q8_0`, `q4_0`, `q4_1`, `q4_k`, `q6_k`, `mxfp4` or `nvfp4`";
    let Some(dtype) = block_dtype(scheme.format) else {
        return Err(Refusal::not_in(Layout::Gguf, scheme, fits));
    };
    if scheme.granularity != Scheme::new(scheme.format).granularity {
        return Err(Refusal::unsupported(
            format!("`{}` has blocks of its own, not one scale per {}", scheme.format, scheme.granularity),
            "no `granularity`",
        ));
    }
    match scheme.scale_dtype {
        None => Ok(()),
        Some(scale) => Err(Refusal::unsupported(
            format!("`{dtype}` blocks fix the dtype of their scales; `{scale}` cannot be chosen"),
            "no `scale_dtype`",
        )),
    }
}

/// The GGML block type of a format.
fn block_dtype(format: Format) -> Option<Dtype> {
    match format {
        Format::Q80 => Some(Dtype::Q80),
        Format::Q40 => Some(Dtype::Q40),
        Format::Q41 => Some(Dtype::Q41),
        Format::Q4K => Some(Dtype::Q4K),
        Format::Q6K => Some(Dtype::Q6K),
        Format::Mxfp4 => Some(Dtype::Mxfp4Block),
        Format::Nvfp4 => Some(Dtype::Nvfp4Block),
        Format::Int8 | Format::Int4 | Format::Fp8E4m3 | Format::Fp8E5m2 | Format::Nf4 => None,
    }
}

pub(super) fn companions(scheme: &Scheme, weight: &Checked<'_>) -> Result<Encoded, Refusal> {
    let Some(dtype) = block_dtype(scheme.format) else {
        return Err(Refusal::not_in(Layout::Gguf, scheme, "a GGML format"));
    };
    if weight.rank() > MAX_RANK {
        return Err(Refusal::new(
            RefusalKind::Rank,
            format!("GGUF holds up to {MAX_RANK} dimensions, and the weight has {}", weight.rank()),
            Some("scheme `keep`".into()),
        ));
    }
    if weight.contracted + 1 != weight.rank() {
        return Err(Refusal::new(
            RefusalKind::Contract,
            "GGML blocks run along the last dimension, which is not the contracted one".into(),
            Some("`contract = -1` if the weight is [out, in]".into()),
        ));
    }
    let (block, _) = dtype.block();
    if !weight.length.is_multiple_of(block) {
        let fits = if weight.length.is_multiple_of(32) { "`q8_0`, `q4_0` or `q4_1`" } else { "scheme `keep`" };
        return Err(Refusal::new(
            RefusalKind::Indivisible,
            format!("rows of {} are not a multiple of the {block} values of a `{dtype}` block", weight.length),
            Some(fits.into()),
        ));
    }
    let mut unit = vec![Some(1); weight.rank()];
    if let Some(last) = unit.last_mut() {
        *last = Some(block);
    }
    Ok(Encoded {
        components: vec![component(Role::Weight, "", dtype, weight.shape.to_vec(), weight)],
        group: Some(block),
        unit,
        stored: StoredFormat::Ggml,
        elements: weight.elements,
    })
}
