//! bitsandbytes: LLM.int8 and the flattened 4-bit formats.

use serde::Deserialize;

use super::{Found, Misfit, Role, StoredFormat, StoredTensor, Tensors, Trouble, Verdict, code, quoted};
use crate::Dtype;

/// LLM.int8: `P.weight` i8 `[N, K]`, `P.SCB` f32 `[N]`, perhaps `P.weight_format`.
pub(super) fn int8(tensors: &Tensors<'_>, at: usize, weight: &StoredTensor) -> Verdict {
    let module = weight.name.strip_suffix(".weight")?;
    let (scales_at, scales) = tensors.suffixed(module, ".SCB")?;
    if scales.dtype != Dtype::F32 || scales.shape.as_slice() != weight.shape.get(..1)? {
        return Some(Err(Misfit::pair(tensors, at, scales_at, "one f32 per row was expected")));
    }
    let mut components = vec![(Role::Weight, at), (Role::Scales, scales_at)];
    let format = tensors.suffixed(module, ".weight_format");
    components.extend(format.map(|(at, _)| (Role::Other("weight_format".into()), at)));
    let (path, shape) = (weight.name.clone(), weight.shape.clone());
    Some(Ok(Found { path, format: StoredFormat::BnbInt8, dtype: Dtype::F16, shape, components }))
}

/// The JSON that `quant_state` holds, as far as it concerns the weight's shape.
#[derive(Deserialize)]
struct QuantState {
    blocksize: u64,
    dtype: String,
    shape: Vec<u64>,
}

/// NF4 and FP4: `X` u8 `[ceil(n/2), 1]`, the logical shape in the bytes of `X.quant_state.bitsandbytes__*`.
pub(super) fn four_bit(tensors: &Tensors<'_>, at: usize, weight: &StoredTensor) -> Verdict {
    let (format, (state_at, state)) = [
        (StoredFormat::BnbNf4, ".quant_state.bitsandbytes__nf4"),
        (StoredFormat::BnbFp4, ".quant_state.bitsandbytes__fp4"),
    ]
    .into_iter()
    .find_map(|(format, suffix)| Some((format, tensors.suffixed(&weight.name, suffix)?)))?;
    let (Some((absmax_at, absmax)), Some((map_at, _))) =
        (tensors.suffixed(&weight.name, ".absmax"), tensors.suffixed(&weight.name, ".quant_map"))
    else {
        let message = format!("{} has no absmax or no quant_map beside it", quoted(&weight.name));
        return Some(Err(Misfit::new(vec![at, state_at], message)));
    };
    let mut components = vec![(Role::Weight, at), (Role::Scales, absmax_at)];
    components.push((Role::Other("quant_map".into()), map_at));
    for (suffix, role) in [(".nested_absmax", "nested_absmax"), (".nested_quant_map", "nested_quant_map")] {
        components.extend(tensors.suffixed(&weight.name, suffix).map(|(at, _)| (Role::Other(role.into()), at)));
    }
    components.push((Role::Other("quant_state".into()), state_at));
    let involved = || components.iter().map(|&(_, at)| at).collect();
    let Some(content) = tensors.content(&state.name) else {
        let message = format!("the logical shape of {} is in the bytes of its quant_state", quoted(&weight.name));
        let trouble = Trouble::anywhere(&code::UNKNOWN_SHAPE, message)
            .help("open the file itself; a list has no bytes. Until then the parts are weights of their own");
        return Some(Err(Misfit { trouble, involved: involved() }));
    };
    let fitting = serde_json::from_slice::<QuantState>(content).ok().and_then(|state| {
        let dtype: Dtype = state.dtype.parse().ok()?;
        let elements = state.shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim))?;
        let blocks = if state.blocksize == 0 { None } else { Some(elements.div_ceil(state.blocksize)) }?;
        (weight.elements() == elements.div_ceil(2) && absmax.elements() == blocks).then_some((dtype, state.shape))
    });
    let Some((dtype, shape)) = fitting else {
        let message =
            format!("the quant_state of {} does not describe its {} bytes", quoted(&weight.name), weight.elements());
        return Some(Err(Misfit::new(involved(), message)));
    };
    Some(Ok(Found { path: weight.name.clone(), format, dtype, shape, components }))
}
