use super::*;
use crate::quantize::Arithmetic;

fn ask(scheme: &Scheme, layout: Layout, shape: &[u64], contracted: usize) -> Result<Encoded, Refusal> {
    companions(scheme, layout, Logical { shape, contracted, dtype: Dtype::Bf16, shard_groups: 8 })
}

fn per(format: Format, granularity: Granularity) -> Scheme {
    Scheme { granularity, ..Scheme::new(format) }
}

/// `suffix dtype [shape] bytes` of every component, one a line, then group and unit.
fn listing(encoded: &Encoded) -> String {
    let mut lines: Vec<String> = encoded
        .components
        .iter()
        .map(|component| {
            let name = component.name.of("m.w");
            let EncodedComponent { dtype, shape, divides, bytes, .. } = component;
            let divides: Vec<String> =
                divides.iter().map(|dim| dim.map_or("-".into(), |dim: usize| dim.to_string())).collect();
            format!("{name} {dtype} {shape:?} divides [{}] {bytes} bytes", divides.join(","))
        })
        .collect();
    lines.push(format!("group {:?} unit {:?} bpw {:.3}", encoded.group, encoded.unit, encoded.bits_per_weight()));
    lines.join("\n")
}

#[test]
fn grok_pairs_stack_and_group_along_the_contracted_dimension() {
    let sharded = per(Format::Int8, Granularity::ShardGroup("model".into()));
    insta::assert_snapshot!(listing(&ask(&sharded, Layout::Grok1, &[8, 32768, 6144], 1).unwrap()), @r"
    m.w/weight i8 [8, 32768, 6144] divides [0,1,2] 1610612736 bytes
    m.w/scales bf16 [8, 8, 6144] divides [0,1,2] 786432 bytes
    group Some(4096) unit [Some(1), Some(4096), Some(1)] bpw 8.004
    ");
    insta::assert_snapshot!(listing(&ask(&Scheme::new(Format::Int8), Layout::Grok1, &[6144, 1024], 0).unwrap()), @r"
    m.w/weight i8 [6144, 1024] divides [0,1] 6291456 bytes
    m.w/scales bf16 [1, 1024] divides [-,1] 2048 bytes
    group None unit [Some(1), Some(1)] bpw 8.003
    ");
}

#[test]
fn packed_int4_rounds_rows_up_to_words() {
    let scheme = Scheme { symmetric: false, ..per(Format::Int4, Granularity::Channel) };
    insta::assert_snapshot!(listing(&ask(&scheme, Layout::CompressedTensors, &[9, 20], 1).unwrap()), @r"
    m.w_packed i32 [9, 3] divides [0,1] 108 bytes
    m.w_scale bf16 [9, 1] divides [0,-] 18 bytes
    m.w_shape i64 [2] divides [-] 16 bytes
    m.w_zero_point i32 [2, 1] divides [0,-] 8 bytes
    group None unit [Some(8), Some(8)] bpw 6.667
    ");
}

#[test]
fn double_quantized_nf4_keeps_room_for_its_state() {
    let scheme = Scheme { double_quant: true, ..Scheme::new(Format::Nf4) };
    insta::assert_snapshot!(listing(&ask(&scheme, Layout::BitsAndBytes, &[1000, 100], 1).unwrap()), @r"
    m.w u8 [50000, 1] divides [-,-] 50000 bytes
    m.w.absmax u8 [1563] divides [-] 1563 bytes
    m.w.quant_map f32 [16] divides [-] 64 bytes
    m.w.nested_absmax f32 [7] divides [-] 28 bytes
    m.w.nested_quant_map f32 [256] divides [-] 1024 bytes
    m.w.quant_state.bitsandbytes__nf4 u8 [256] divides [-] 256 bytes
    group Some(64) unit [None, None] bpw 4.235
    ");
}

#[test]
fn every_refusal_says_what_would_fit() {
    let cases: &[(Scheme, Layout, &[u64], usize)] = &[
        (Scheme::new(Format::Int4), Layout::CompressedTensors, &[16, 4100], 1),
        (per(Format::Int8, Granularity::Group(128)), Layout::Grok1, &[96, 16], 0),
        (per(Format::Int8, Granularity::ShardGroup("model".into())), Layout::Grok1, &[12, 16], 0),
        (Scheme::new(Format::Q4K), Layout::Gguf, &[16, 288], 1),
        (Scheme::new(Format::Q80), Layout::Gguf, &[16, 200], 1),
        (Scheme::new(Format::Q80), Layout::Gguf, &[64, 16], 0),
        (Scheme::new(Format::Q80), Layout::CompressedTensors, &[64, 64], 1),
        (Scheme::new(Format::Int8), Layout::CompressedTensors, &[64], 0),
        (Scheme::new(Format::Int8), Layout::CompressedTensors, &[8, 64, 64], 2),
        (Scheme::new(Format::Int8), Layout::CompressedTensors, &[64, 64], 0),
        (Scheme::new(Format::Int8), Layout::Grok1, &[64, 64], 1),
        (Scheme::new(Format::Int8), Layout::Grok1, &[64], 0),
        (Scheme::new(Format::Int8), Layout::Grok1, &[], 0),
        (Scheme::new(Format::Int8), Layout::Grok1, &[0, 64], 0),
        (Scheme::new(Format::Int8), Layout::Grok1, &[u64::MAX, 64], 0),
        (per(Format::Int4, Granularity::Tensor), Layout::CompressedTensors, &[64, 64], 1),
        (Scheme { symmetric: false, ..Scheme::new(Format::Nf4) }, Layout::BitsAndBytes, &[64, 64], 1),
        (per(Format::Nf4, Granularity::Group(48)), Layout::BitsAndBytes, &[64, 64], 1),
        (per(Format::Int8, Granularity::Group(0)), Layout::Grok1, &[64, 64], 1),
        (Scheme { scale_dtype: Some(Dtype::I8), ..Scheme::new(Format::Int8) }, Layout::Grok1, &[64, 64], 1),
    ];
    let text: Vec<String> = cases
        .iter()
        .map(|(scheme, layout, shape, contracted)| {
            let refusal = ask(scheme, *layout, shape, *contracted).unwrap_err();
            format!("{:?}: {refusal} -> {}", refusal.kind, refusal.fits.as_deref().unwrap_or("nothing"))
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn integers_are_never_touched() {
    let weight = Logical { shape: &[64, 64], contracted: 1, dtype: Dtype::I64, shard_groups: 1 };
    for &layout in Layout::ALL {
        for &format in Format::ALL {
            let scheme = Scheme { arithmetic: Arithmetic::Reference, ..Scheme::new(format) };
            assert!(companions(&scheme, layout, weight).is_err(), "{format} in {layout}");
        }
    }
}

#[test]
fn nearest_divisor_prefers_powers_of_two() {
    assert_eq!(nearest_divisor(4096 + 64, 128), 64);
    assert_eq!(nearest_divisor(96, 128), 32);
    assert_eq!(nearest_divisor(300, 128), 100);
    assert_eq!(nearest_divisor(7, 1), 1);
}
