//! Grok-1's `QuantizedWeight8bit`.
//!
//! `P/weight` i8 `[*lead, K, N]` and `P/scales` `[*lead, G, N]` are the weight `P`; scale g stands for rows
//! `g*K/G..(g+1)*K/G`. The released checkpoint has G = 8 where K was split over the 8-way model axis, else 1.

use super::spread::is_real;
use super::{Found, Misfit, Role, StoredFormat, StoredTensor, Tensors, Verdict};

pub(super) fn recognise(tensors: &Tensors<'_>, at: usize, weight: &StoredTensor) -> Verdict {
    let path = weight.name.strip_suffix("/weight").filter(|path| !path.is_empty())?;
    let (scales_at, scales) = tensors.suffixed(path, "/scales")?;
    if !is_real(scales.dtype) || !fits(&weight.shape, &scales.shape) {
        let expected = "scales [.., G, N] in f32, bf16 or f16 were expected, G a divisor of K";
        return Some(Err(Misfit::pair(tensors, at, scales_at, expected)));
    }
    Some(Ok(Found {
        path: path.to_owned(),
        format: StoredFormat::Grok1,
        dtype: scales.dtype,
        shape: weight.shape.clone(),
        components: vec![(Role::Weight, at), (Role::Scales, scales_at)],
    }))
}

fn fits(weight: &[u64], scales: &[u64]) -> bool {
    match (weight, scales) {
        ([lead @ .., k, n], [scale_lead @ .., groups, scale_n]) => {
            lead == scale_lead && n == scale_n && *groups > 0 && k % groups == 0
        }
        _ => false,
    }
}
