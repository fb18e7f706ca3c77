//! compressed-tensors: int8 unpacked, 1 to 8 bits packed into i32 words, and packed FP4.

use super::spread::{self, fits_runs, is_e8m0, is_real};
use super::{Found, Misfit, Role, StoredFormat, StoredTensor, Tensors, Trouble, Verdict, code, quoted};
use crate::Dtype;

/// What static quantization of activations keeps beside a weight.
const ACTIVATION_SCALES: [&str; 4] = ["input_scale", "input_zero_point", "input_global_scale", "output_scale"];

/// Bits of a word that codes are packed into.
const WORD: u64 = 32;

/// `int-quantized`: `X` i8, `X_scale`, perhaps `X_zero_point`.
pub(super) fn int(tensors: &Tensors<'_>, at: usize, weight: &StoredTensor) -> Verdict {
    let (scales_at, scales) = tensors.suffixed(&weight.name, "_scale")?;
    if weight.shape.is_empty() || !is_real(scales.dtype) || !spread::fits(&weight.shape, &scales.shape) {
        let expected = "one scale per tensor, channel or group was expected";
        return Some(Err(Misfit::pair(tensors, at, scales_at, expected)));
    }
    let mut components = vec![(Role::Weight, at), (Role::Scales, scales_at)];
    if let Some((zero_at, zero)) = tensors.suffixed(&weight.name, "_zero_point") {
        if zero.shape != scales.shape {
            let expected = "a zero point for each scale was expected";
            return Some(Err(Misfit::pair(tensors, at, zero_at, expected)));
        }
        components.push((Role::ZeroPoint, zero_at));
    }
    add_activation_scales(tensors, weight, &mut components);
    let (path, shape) = (weight.name.clone(), weight.shape.clone());
    Some(Ok(Found { path, format: StoredFormat::IntQuantized, dtype: scales.dtype, shape, components }))
}

/// `nvfp4-pack-quantized` and `mxfp4-pack-quantized`: `X_packed` u8, two codes per byte.
pub(super) fn fp4(tensors: &Tensors<'_>, at: usize, packed: &StoredTensor) -> Verdict {
    let path = packed.name.strip_suffix("_packed").filter(|path| !path.is_empty())?;
    let (scales_at, scales) = tensors.suffixed(path, "_scale")?;
    let shape = unpacked(&packed.shape, 2)?;
    let mut components = vec![(Role::Weight, at), (Role::Scales, scales_at)];
    let format = if scales.dtype == Dtype::F8E4m3 && fits_runs(&shape, &scales.shape, 16) {
        let Some((global_at, _)) = tensors.suffixed(path, "_global_scale").filter(|(_, t)| is_real(t.dtype)) else {
            let name = quoted(&[path, "_global_scale"].concat());
            let message = format!("{} has NVFP4 scales, but no {name} goes with it", quoted(&packed.name));
            return Some(Err(Misfit::new(vec![at, scales_at], message)));
        };
        components.push((Role::GlobalScale, global_at));
        StoredFormat::Nvfp4Packed
    } else if is_e8m0(scales.dtype) && fits_runs(&shape, &scales.shape, 32) {
        StoredFormat::Mxfp4Packed
    } else {
        let expected = "an f8_e4m3 scale per 16 codes or an e8m0 scale per 32 was expected";
        return Some(Err(Misfit::pair(tensors, at, scales_at, expected)));
    };
    if let Some((shape_at, _)) = tensors.suffixed(path, "_shape") {
        components.push((Role::Shape, shape_at));
    }
    add_scales_of_module(tensors, path, &mut components);
    Some(Ok(Found { path: path.to_owned(), format, dtype: Dtype::Bf16, shape, components }))
}

/// `pack-quantized`: `X_packed` i32 `[.., N, ceil(K * bits / 32)]`, `X_scale` `[.., N, G]`.
pub(super) fn packed(tensors: &Tensors<'_>, at: usize, packed: &StoredTensor) -> Verdict {
    let path = packed.name.strip_suffix("_packed").filter(|path| !path.is_empty())?;
    let (scales_at, scales) = tensors.suffixed(path, "_scale")?;
    let ([lead @ .., n, words], [scale_lead @ .., scale_n, groups]) = (&packed.shape[..], &scales.shape[..]) else {
        return Some(Err(Misfit::pair(
            tensors,
            at,
            scales_at,
            "a matrix of words and a matrix of scales were expected",
        )));
    };
    if lead != scale_lead || n != scale_n || *groups == 0 || !is_real(scales.dtype) {
        return Some(Err(Misfit::pair(tensors, at, scales_at, "scales [.., N, G] were expected")));
    }
    let mut components = vec![(Role::Weight, at), (Role::Scales, scales_at)];
    let zero = tensors.suffixed(path, "_zero_point");
    let side = [("_zero_point", Role::ZeroPoint), ("_shape", Role::Shape), ("_g_idx", Role::Other("g_idx".into()))];
    for (suffix, role) in side {
        components.extend(tensors.suffixed(path, suffix).map(|(at, _)| (role, at)));
    }
    let module = path.strip_suffix(".weight").unwrap_or(path);
    let configured = tensors.quantization().and_then(|config| config.group_of(module));
    // The zero points are packed along N: their rows tell the bits, when there are any.
    let zero_rows = zero.and_then(|(_, zero)| zero.shape.get(lead.len()).copied());
    let by_zero = || zero_rows.and_then(|rows| bits_of(*n, rows));
    let Some(bits) = configured.and_then(|group| group.bits).or_else(by_zero) else {
        let involved = components.iter().map(|&(_, at)| at).collect();
        let message = format!("{words} words in a row of {} do not tell the bits per code", quoted(&packed.name));
        let trouble = Trouble::anywhere(&code::UNKNOWN_PACKING, message).help(
            "put the model's config.json with its `quantization_config` beside the weights; until then the parts are \
             weights of their own",
        );
        return Some(Err(Misfit { trouble, involved }));
    };
    let Some(k) = contracted(*words, *groups, bits, configured.and_then(|group| group.group_size)) else {
        let expected = format!("{words} words of {bits}-bit codes cannot be cut into {groups} equal groups");
        return Some(Err(Misfit::pair(tensors, at, scales_at, &expected)));
    };
    add_scales_of_module(tensors, path, &mut components);
    let shape = [lead, &[*n, k]].concat();
    Some(Ok(Found {
        path: path.to_owned(),
        format: StoredFormat::PackQuantized { bits },
        dtype: scales.dtype,
        shape,
        components,
    }))
}

/// The one number of bits for which `values` codes fill `words` words, if there is only one.
fn bits_of(values: u64, words: u64) -> Option<u8> {
    let mut fitting =
        (1..=8_u8).filter(|&bits| values.checked_mul(u64::from(bits)).is_some_and(|bits| bits.div_ceil(WORD) == words));
    let bits = fitting.next()?;
    fitting.next().is_none().then_some(bits)
}

/// The contracted dimension: all codes that fill `words` words exactly, unless the groups say that the last word is
/// padded.
fn contracted(words: u64, groups: u64, bits: u8, group_size: Option<u64>) -> Option<u64> {
    let bits = u64::from(bits);
    let most = words.checked_mul(WORD)? / bits;
    let fills = |k: &u64| k.checked_mul(bits).is_some_and(|bits| bits.div_ceil(WORD) == words);
    match group_size {
        Some(size) if groups > 1 => groups.checked_mul(size).filter(fills),
        _ => Some(most).filter(|most| fills(most) && most % groups == 0),
    }
}

/// The shape with its last dimension multiplied: what packed bytes hold.
pub(super) fn unpacked(shape: &[u64], by: u64) -> Option<Vec<u64>> {
    let (last, lead) = shape.split_last()?;
    Some([lead, &[last.checked_mul(by)?]].concat())
}

/// Whether a tensor is named like a scale of a module's activations.
pub(super) fn is_activation_scale(name: &str) -> bool {
    ACTIVATION_SCALES.iter().any(|ending| name.strip_suffix(ending).is_some_and(|module| module.ends_with('.')))
}

/// Attaches the activation scales of a weight's module: `M.input_scale` and the like beside `M.weight`.
pub(super) fn add_activation_scales(tensors: &Tensors<'_>, weight: &StoredTensor, components: &mut Vec<(Role, usize)>) {
    add_scales_of_module(tensors, &weight.name, components);
}

fn add_scales_of_module(tensors: &Tensors<'_>, path: &str, components: &mut Vec<(Role, usize)>) {
    let Some(module) = path.strip_suffix(".weight").filter(|_| tensors.activation_scales) else { return };
    for name in ACTIVATION_SCALES {
        let found = tensors.joined(&[module, ".", name]);
        components
            .extend(found.filter(|(_, tensor)| tensor.elements() == 1).map(|(at, _)| (Role::Other(name.into()), at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_point_rows_tell_the_bits_when_they_can() {
        assert_eq!(bits_of(4096, 512), Some(4));
        assert_eq!(bits_of(4096, 1024), Some(8));
        assert_eq!(bits_of(4096, 384), Some(3));
        assert_eq!(bits_of(4, 1), None);
        assert_eq!(bits_of(4096, 511), None);
    }

    #[test]
    fn words_and_groups_give_the_contracted_dimension() {
        assert_eq!(contracted(512, 32, 4, Some(128)), Some(4096));
        assert_eq!(contracted(512, 32, 4, None), Some(4096));
        assert_eq!(contracted(512, 1, 4, Some(128)), Some(4096));
        // 100 codes of 4 bits: 13 words, the last padded by 4 codes.
        assert_eq!(contracted(13, 5, 4, Some(20)), Some(100));
        assert_eq!(contracted(13, 5, 4, Some(128)), None);
        // 96 words of 3-bit codes hold 1024 of them.
        assert_eq!(contracted(96, 8, 3, None), Some(1024));
        assert_eq!(contracted(u64::MAX, 1, 1, None), None);
    }
}
