//! What `companions` promises, against the tensors that the defining implementations really wrote.

use std::collections::BTreeMap;

use flow_fabric::Dtype;
use flow_fabric::quantize::{Format, Granularity, Layout, Logical, Scheme, companions};
use serde::Deserialize;

#[derive(Deserialize)]
struct Manifest {
    inputs: BTreeMap<String, Tensor>,
    schemes: BTreeMap<String, BTreeMap<String, Case>>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
}

/// The scheme and layout that a golden set was made with.
fn scheme_of(name: &str) -> Option<(Scheme, Layout)> {
    let int = |format, granularity, symmetric| Scheme { granularity, symmetric, ..Scheme::new(format) };
    Some(match name {
        "ct/int8-channel" => (Scheme::new(Format::Int8), Layout::CompressedTensors),
        "ct/int8-g128" => (int(Format::Int8, Granularity::Group(128), true), Layout::CompressedTensors),
        "ct/int4-g128" => (Scheme::new(Format::Int4), Layout::CompressedTensors),
        "ct/int4-g128-asym" => (int(Format::Int4, Granularity::Group(128), false), Layout::CompressedTensors),
        "ct/fp8-tensor" => (int(Format::Fp8E4m3, Granularity::Tensor, true), Layout::CompressedTensors),
        "ct/fp8-channel" => (Scheme::new(Format::Fp8E4m3), Layout::CompressedTensors),
        "ct/fp8-block128" => (int(Format::Fp8E4m3, Granularity::Block([128, 128]), true), Layout::CompressedTensors),
        "ct/nvfp4" => (Scheme::new(Format::Nvfp4), Layout::CompressedTensors),
        "ct/mxfp4" => (Scheme::new(Format::Mxfp4), Layout::CompressedTensors),
        "ds/fp8-block128" => (int(Format::Fp8E4m3, Granularity::Block([128, 128]), true), Layout::DeepSeek),
        "bnb/nf4" => (Scheme::new(Format::Nf4), Layout::BitsAndBytes),
        "bnb/nf4-dq" => (Scheme { double_quant: true, ..Scheme::new(Format::Nf4) }, Layout::BitsAndBytes),
        "bnb/int8" => (Scheme::new(Format::Int8), Layout::BitsAndBytes),
        "ggml/q8_0" => (Scheme::new(Format::Q80), Layout::Gguf),
        "ggml/q4_0" => (Scheme::new(Format::Q40), Layout::Gguf),
        "ggml/q4_1" => (Scheme::new(Format::Q41), Layout::Gguf),
        "ggml/q4_k" => (Scheme::new(Format::Q4K), Layout::Gguf),
        "ggml/q6_k" => (Scheme::new(Format::Q6K), Layout::Gguf),
        "ggml/mxfp4" => (Scheme::new(Format::Mxfp4), Layout::Gguf),
        "ggml/nvfp4" => (Scheme::new(Format::Nvfp4), Layout::Gguf),
        _ => return None,
    })
}

#[test]
fn names_dtypes_and_shapes_are_the_peers_own() {
    // Python's JSON spells figures that are not finite, which JSON does not have.
    let text = include_str!("data/golden/quant/manifest.json")
        .replace(": NaN", ": null")
        .replace(": -Infinity", ": null")
        .replace(": Infinity", ": null");
    let manifest: Manifest = serde_json::from_str(&text).expect("manifest.json is ours");
    let (mut held, mut refused) = (0, 0);
    for (name, cases) in &manifest.schemes {
        let Some((scheme, layout)) = scheme_of(name) else { continue };
        for (input, case) in cases {
            let Tensor { dtype, shape } = &manifest.inputs[input];
            let dtype: Dtype = dtype.parse().expect("a dtype");
            let weight = Logical { shape, contracted: shape.len() - 1, dtype, shard_groups: 1 };
            let answer = companions(&scheme, layout, weight);
            if !case.ok {
                let refusal = answer.expect_err(&format!("{name} of {input} is refused by its peer"));
                assert!(refusal.fits.is_some(), "{name} of {input}: {refusal}");
                refused += 1;
                continue;
            }
            let encoded = answer.unwrap_or_else(|refusal| panic!("{name} of {input}: {refusal}"));
            let ours: BTreeMap<String, (u64, Vec<u64>)> = encoded
                .components
                .iter()
                .map(|part| (part.name.of("m.weight"), (part.bytes, stored_shape(part.dtype, &part.shape, part.bytes))))
                .collect();
            let theirs: BTreeMap<String, (u64, Vec<u64>)> = case
                .tensors
                .iter()
                .map(|(name, tensor)| {
                    let dtype: Dtype = tensor.dtype.parse().expect("a dtype");
                    let bytes = dtype.bytes_for(tensor.shape.iter().product()).expect("whole bytes");
                    (name.clone(), (bytes, tensor.shape.clone()))
                })
                .collect();
            for (tensor, (bytes, shape)) in &ours {
                let (their_bytes, their_shape) = &theirs[tensor];
                if tensor.contains("quant_state") {
                    assert!(bytes >= their_bytes, "{name} of {input}: the state does not fit");
                } else {
                    assert_eq!((bytes, shape), (their_bytes, their_shape), "{name} of {input}: {tensor}");
                }
            }
            assert_eq!(ours.len(), theirs.len(), "{name} of {input}");
            held += 1;
        }
    }
    assert_eq!((held, refused), (353, 47));
}

/// The golden files hold GGML blocks as bytes: the last dimension is bytes per row.
fn stored_shape(dtype: Dtype, shape: &[u64], bytes: u64) -> Vec<u64> {
    let mut shape = shape.to_vec();
    if dtype.safetensors().is_none()
        && let Some((last, rows)) = shape.split_last_mut()
    {
        *last = bytes / rows.iter().product::<u64>();
    }
    shape
}
