//! Encoders and decoders against what the defining implementations wrote, bit for bit.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use flow_fabric::Dtype;
use flow_fabric::inventory::{ByteRange, Component, Role, StoredFormat, StoredTensor, Weight};
use flow_fabric::quantize::{
    Arithmetic, Encoded, Format, Granularity, Layout, Logical, Scheme, Values, decode, encode,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A stored tensor of a golden file.
#[derive(Clone)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<u64>,
    bytes: Vec<u8>,
}

fn load(name: &str) -> BTreeMap<String, Tensor> {
    let path = format!("{}/tests/data/golden/quant/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).expect("a golden file");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    tensors
        .iter()
        .map(|(name, view)| {
            let dtype = Dtype::from_safetensors(&view.dtype().to_string()).expect("a known dtype");
            let shape = view.shape().iter().map(|&size| size as u64).collect();
            (name.to_owned(), Tensor { dtype, shape, bytes: view.data().to_vec() })
        })
        .collect()
}

fn scheme(format: Format, granularity: Option<Granularity>) -> Scheme {
    let scheme = Scheme { arithmetic: Arithmetic::Reference, ..Scheme::new(format) };
    Scheme { granularity: granularity.unwrap_or(scheme.granularity.clone()), ..scheme }
}

/// What the manifest says of one peer's scheme, by input.
#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    tensors: BTreeMap<String, Pinned>,
    #[serde(default)]
    decoded_sha256: Option<String>,
}

#[derive(Deserialize)]
struct Pinned {
    sha256: String,
}

#[derive(Deserialize)]
struct Manifest {
    schemes: BTreeMap<String, BTreeMap<String, Case>>,
}

fn manifest() -> Manifest {
    // Python's JSON spells figures that are not finite, which JSON does not have.
    let text = include_str!("data/golden/quant/manifest.json")
        .replace(": NaN", ": null")
        .replace(": -Infinity", ": null")
        .replace(": Infinity", ": null");
    serde_json::from_str(&text).expect("manifest.json")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Encodes every input that the peer took, compares every component's digest, decodes what the peer wrote and compares
/// that too. One line per scheme, and one per difference.
fn compare(set: &str, scheme: &Scheme, layout: Layout) -> String {
    let (inputs, golden, manifest) = (load("inputs"), load(&set.replace('/', "__")), manifest());
    let (mut encoded_same, mut decoded_same, mut differences) = (0, 0, Vec::new());
    for (input, case) in &manifest.schemes[set] {
        if !case.ok {
            continue;
        }
        let values = &inputs[input];
        let shape = &values.shape;
        let weight = Logical { shape, contracted: shape.len() - 1, dtype: values.dtype, shard_groups: 1 };
        let stored = Values::stored(values.dtype, &values.bytes).expect("a float");
        let (encoded, bytes) = encode(scheme, layout, weight, stored).expect("the peer holds it");
        let mut same = true;
        for (component, bytes) in encoded.components.iter().zip(&bytes) {
            let name = component.name.of("m.weight");
            let ours: &[u8] = if name.contains("quant_state") { bytes.trim_ascii_end() } else { bytes };
            let theirs = golden.get(&format!("{input}/{name}"));
            if sha256(ours) != case.tensors[&name].sha256 && !theirs.is_some_and(|theirs| alike(ours, theirs)) {
                same = false;
                differences.push(difference(input, &name, ours, theirs));
            }
        }
        encoded_same += usize::from(same);
        // Which NaN a decoder gives is not a value.
        if let Some(theirs) = case.decoded_sha256.as_ref().filter(|_| input != "nonfinite_f32") {
            let decoded = decode_golden(&encoded, weight, &golden, input, &bytes);
            let bytes: Vec<u8> = decoded.iter().flat_map(|value| value.to_le_bytes()).collect();
            if sha256(&bytes) == *theirs {
                decoded_same += 1;
            } else {
                differences.push(difference(input, "decoded", &bytes, golden.get(&format!("{input}/decoded"))));
            }
        }
    }
    let mut text = format!("{set}: {encoded_same} encoded and {decoded_same} decoded alike");
    for difference in differences {
        text += &format!("\n  {difference}");
    }
    text
}

/// Decodes the peer's own bytes where the file has them, else ours.
fn decode_golden(
    encoded: &Encoded,
    weight: Logical<'_>,
    golden: &BTreeMap<String, Tensor>,
    input: &str,
    ours: &[Vec<u8>],
) -> Vec<f32> {
    let mut parts = Vec::new();
    let components = encoded.components.iter().zip(ours).map(|(component, ours)| {
        let name = component.name.of("m.weight");
        let theirs = golden.get(&format!("{input}/{name}"));
        parts.push(theirs.map_or_else(|| ours.clone(), |tensor| tensor.bytes.clone()));
        let (dtype, shape) = (component.dtype, component.shape.clone());
        let length = parts.last().map_or(0, Vec::len) as u64;
        let bytes = ByteRange { file: None, offset: None, length };
        Component { role: component.role.clone(), tensor: StoredTensor { name, dtype, shape, bytes } }
    });
    let weight = Weight {
        path: "m.weight".into(),
        stored_path: "m.weight".into(),
        format: encoded.stored.clone(),
        dtype: weight.dtype,
        shape: weight.shape.to_vec(),
        components: components.collect(),
        alias_of: None,
    };
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    // The peer's output was asked for in f32 where its format leaves the choice.
    let chosen = matches!(encoded.stored, StoredFormat::BnbNf4 | StoredFormat::BnbFp4);
    let arithmetic = if chosen { Arithmetic::F32 } else { Arithmetic::Reference };
    decode(&weight, &parts, arithmetic).expect("decodable")
}

/// Whether f32 tensors differ at most in which NaN they hold.
fn alike(ours: &[u8], theirs: &Tensor) -> bool {
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let same = |(a, b): (&[u8], &[u8])| a == b || (number(a).is_nan() && number(b).is_nan());
    theirs.dtype == Dtype::F32
        && ours.len() == theirs.bytes.len()
        && ours.chunks(4).zip(theirs.bytes.chunks(4)).all(same)
}

fn difference(input: &str, name: &str, ours: &[u8], theirs: Option<&Tensor>) -> String {
    let Some(theirs) = theirs else { return format!("{input} {name}: differs from a digest") };
    let wrong: Vec<usize> =
        (0..ours.len().max(theirs.bytes.len())).filter(|&i| ours.get(i) != theirs.bytes.get(i)).collect();
    let show = |bytes: &[u8]| wrong.iter().take(8).map(|&i| bytes.get(i).copied()).collect::<Vec<_>>();
    format!(
        "{input} {name}: {} of {} bytes differ, first {:?}, ours {:02x?}, theirs {:02x?}",
        wrong.len(),
        theirs.bytes.len(),
        wrong.first(),
        show(ours),
        show(&theirs.bytes)
    )
}

#[test]
fn compressed_tensors_and_deepseek() {
    let group = |size| Some(Granularity::Group(size));
    let block = || Some(Granularity::Block([128, 128]));
    let asymmetric = Scheme { symmetric: false, ..scheme(Format::Int4, None) };
    let ct = Layout::CompressedTensors;
    let lines = [
        compare("ct/int8-channel", &scheme(Format::Int8, None), ct),
        compare("ct/int8-g128", &scheme(Format::Int8, group(128)), ct),
        compare("ct/int4-g128", &scheme(Format::Int4, group(128)), ct),
        compare("ct/int4-g128-asym", &asymmetric, ct),
        compare("ct/fp8-tensor", &scheme(Format::Fp8E4m3, Some(Granularity::Tensor)), ct),
        compare("ct/fp8-channel", &scheme(Format::Fp8E4m3, None), ct),
        compare("ct/fp8-block128", &scheme(Format::Fp8E4m3, block()), ct),
        compare("ct/nvfp4", &scheme(Format::Nvfp4, None), ct),
        compare("ct/mxfp4", &scheme(Format::Mxfp4, None), ct),
        compare("ds/fp8-block128", &scheme(Format::Fp8E4m3, block()), Layout::DeepSeek),
    ];
    // The peer itself cannot decode most asymmetric inputs.
    insta::assert_snapshot!(lines.join("\n"), @r"
    ct/int8-channel: 17 encoded and 16 decoded alike
    ct/int8-g128: 16 encoded and 15 decoded alike
    ct/int4-g128: 16 encoded and 15 decoded alike
    ct/int4-g128-asym: 16 encoded and 2 decoded alike
    ct/fp8-tensor: 17 encoded and 16 decoded alike
    ct/fp8-channel: 17 encoded and 16 decoded alike
    ct/fp8-block128: 17 encoded and 16 decoded alike
    ct/nvfp4: 16 encoded and 15 decoded alike
    ct/mxfp4: 16 encoded and 15 decoded alike
    ds/fp8-block128: 17 encoded and 16 decoded alike
    ");
}

#[test]
fn bitsandbytes() {
    let double = Scheme { double_quant: true, ..scheme(Format::Nf4, None) };
    let lines = [
        compare("bnb/nf4", &scheme(Format::Nf4, None), Layout::BitsAndBytes),
        compare("bnb/nf4-dq", &double, Layout::BitsAndBytes),
        compare("bnb/int8", &scheme(Format::Int8, None), Layout::BitsAndBytes),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    bnb/nf4: 20 encoded and 19 decoded alike
    bnb/nf4-dq: 20 encoded and 19 decoded alike
    bnb/int8: 17 encoded and 16 decoded alike
    ");
}

#[test]
fn ggml() {
    let formats = [
        ("q8_0", Format::Q80),
        ("q4_0", Format::Q40),
        ("q4_1", Format::Q41),
        ("q4_k", Format::Q4K),
        ("q6_k", Format::Q6K),
        ("mxfp4", Format::Mxfp4),
        ("nvfp4", Format::Nvfp4),
    ];
    let lines = formats.map(|(set, format)| compare(&format!("ggml/{set}"), &scheme(format, None), Layout::Gguf));
    insta::assert_snapshot!(lines.join("\n"), @r"
    ggml/q8_0: 19 encoded and 18 decoded alike
    ggml/q4_0: 19 encoded and 18 decoded alike
    ggml/q4_1: 19 encoded and 18 decoded alike
    ggml/q4_k: 18 encoded and 17 decoded alike
    ggml/q6_k: 18 encoded and 17 decoded alike
    ggml/mxfp4: 19 encoded and 18 decoded alike
    ggml/nvfp4: 19 encoded and 18 decoded alike
    ");
}

/// Formats that are read and not written here: what the peer wrote decodes to what the peer decodes.
#[test]
fn formats_that_are_only_read() {
    let sets = [
        ("ggml__q5_0", StoredFormat::Ggml, Dtype::Q50),
        ("ggml__q5_k", StoredFormat::Ggml, Dtype::Q5K),
        ("bnb__fp4", StoredFormat::BnbFp4, Dtype::U8),
        ("ct__mxfp8", StoredFormat::Mxfp8, Dtype::F8E4m3),
        ("grok1__qw8bit", StoredFormat::Grok1, Dtype::I8),
    ];
    let inputs = load("inputs");
    let mut lines = Vec::new();
    for (set, format, dtype) in sets {
        let golden = load(set);
        let (mut same, mut differs) = (0, Vec::new());
        for (name, decoded) in golden.iter().filter(|(name, _)| name.ends_with("/decoded")) {
            let input = name.trim_end_matches("/decoded");
            let parts: Vec<(Role, &Tensor)> = [
                (Role::Weight, "m.weight"),
                (Role::Scales, "m.weight_scale"),
                (Role::Scales, "m.scales"),
                (Role::Scales, "m.weight.absmax"),
                (Role::Other("quant_map".into()), "m.weight.quant_map"),
            ]
            .into_iter()
            .filter_map(|(role, part)| Some((role, golden.get(&format!("{input}/{part}"))?)))
            .collect();
            let component = |(role, tensor): &(Role, &Tensor)| Component {
                role: role.clone(),
                tensor: StoredTensor {
                    name: String::new(),
                    dtype: if *role == Role::Weight { dtype } else { tensor.dtype },
                    shape: tensor.shape.clone(),
                    bytes: ByteRange { file: None, offset: None, length: tensor.bytes.len() as u64 },
                },
            };
            let weight = Weight {
                path: "m".into(),
                stored_path: "m".into(),
                format: format.clone(),
                dtype: inputs[input].dtype,
                shape: inputs[input].shape.clone(),
                components: parts.iter().map(component).collect(),
                alias_of: None,
            };
            let chosen = format == StoredFormat::BnbFp4;
            let arithmetic = if chosen { Arithmetic::F32 } else { Arithmetic::Reference };
            let bytes: Vec<&[u8]> = parts.iter().map(|(_, tensor)| tensor.bytes.as_slice()).collect();
            let ours: Vec<u8> = decode(&weight, &bytes, arithmetic)
                .expect("decodable")
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            if alike(&ours, decoded) {
                same += 1;
            } else {
                differs.push(difference(input, "decoded", &ours, Some(decoded)));
            }
        }
        lines.push(format!("{set}: {same} decoded alike"));
        lines.extend(differs);
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    ggml__q5_0: 2 decoded alike
    ggml__q5_k: 2 decoded alike
    bnb__fp4: 2 decoded alike
    ct__mxfp8: 2 decoded alike
    grok1__qw8bit: 2 decoded alike
    ");
}
