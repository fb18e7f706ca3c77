//! GPT-OSS: MXFP4 with the groups as a dimension of their own.
//!
//! `X_blocks` u8 `[.., K/32, 16]` holds two codes per byte, `X_scales` e8m0 `[.., K/32]` the scale of each 32.

use super::spread::is_e8m0;
use super::{Found, Misfit, Role, StoredFormat, StoredTensor, Tensors, Verdict};
use crate::Dtype;

/// Bytes of a group: 32 codes of 4 bits.
const GROUP_BYTES: u64 = 16;

pub(super) fn recognise(tensors: &Tensors<'_>, at: usize, blocks: &StoredTensor) -> Verdict {
    let path = blocks.name.strip_suffix("_blocks").filter(|path| !path.is_empty())?;
    let (scales_at, scales) = tensors.suffixed(path, "_scales")?;
    let shape = match blocks.shape.as_slice() {
        [lead @ .., groups, GROUP_BYTES] if is_e8m0(scales.dtype) && blocks.shape.starts_with(&scales.shape) => {
            let fits = scales.shape.len() == lead.len() + 1;
            groups.checked_mul(32).filter(|_| fits).map(|k| [lead, &[k]].concat())
        }
        _ => None,
    };
    let Some(shape) = shape else {
        let expected = "blocks [.., G, 16] and u8 scales [.., G] were expected";
        return Some(Err(Misfit::pair(tensors, at, scales_at, expected)));
    };
    Some(Ok(Found {
        path: path.to_owned(),
        format: StoredFormat::Mxfp4Blocks,
        dtype: Dtype::Bf16,
        shape,
        components: vec![(Role::Weight, at), (Role::Scales, scales_at)],
    }))
}
