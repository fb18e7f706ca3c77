//! What holds of every encoder and decoder, whatever the values.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::ops::Range;

use flow_fabric::Dtype;
use flow_fabric::inventory::Role;
use flow_fabric::quantize::{
    Arithmetic, Decoder, Encoder, Format, Granularity, Layout, Logical, Scheme, Scratch, Values, encode, narrow,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

#[path = "support/naive.rs"]
mod naive;

fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(9), failure_persistence: None, ..Config::default() }
}

/// A scheme, its layout and the dimension that it contracts in a `[rows, columns]` matrix.
#[derive(Debug, Clone)]
struct Case {
    scheme: Scheme,
    layout: Layout,
    contracted: usize,
}

fn case(format: Format, layout: Layout) -> Case {
    Case { scheme: Scheme::new(format), layout, contracted: usize::from(layout != Layout::Grok1) }
}

fn granular(format: Format, layout: Layout, granularity: Granularity) -> Case {
    Case { scheme: Scheme { granularity, ..Scheme::new(format) }, ..case(format, layout) }
}

fn asymmetric(mut case: Case) -> Case {
    case.scheme.symmetric = false;
    case
}

fn double_quantized() -> Case {
    let mut case = case(Format::Nf4, Layout::BitsAndBytes);
    case.scheme.double_quant = true;
    case
}

/// Every format in every layout that holds it, with every granularity.
fn cases() -> Vec<Case> {
    use Granularity::{Block, Group, ShardGroup, Tensor};
    let ct = Layout::CompressedTensors;
    vec![
        case(Format::Int8, Layout::Grok1),
        granular(Format::Int8, Layout::Grok1, Group(4)),
        granular(Format::Int8, Layout::Grok1, ShardGroup("model".into())),
        case(Format::Int8, ct),
        asymmetric(case(Format::Int8, ct)),
        granular(Format::Int8, ct, Tensor),
        asymmetric(granular(Format::Int8, ct, Tensor)),
        granular(Format::Int8, ct, Group(32)),
        asymmetric(granular(Format::Int8, ct, Group(32))),
        case(Format::Int8, Layout::BitsAndBytes),
        granular(Format::Int4, ct, Group(64)),
        asymmetric(granular(Format::Int4, ct, Group(64))),
        granular(Format::Int4, ct, Granularity::Channel),
        asymmetric(granular(Format::Int4, ct, Granularity::Channel)),
        case(Format::Fp8E4m3, ct),
        granular(Format::Fp8E4m3, ct, Tensor),
        granular(Format::Fp8E4m3, ct, Block([8, 32])),
        granular(Format::Fp8E4m3, Layout::DeepSeek, Block([128, 128])),
        case(Format::Fp8E5m2, ct),
        case(Format::Nf4, Layout::BitsAndBytes),
        double_quantized(),
        case(Format::Mxfp4, ct),
        case(Format::Mxfp4, Layout::Gguf),
        case(Format::Nvfp4, ct),
        case(Format::Nvfp4, Layout::Gguf),
        case(Format::Q80, Layout::Gguf),
        case(Format::Q40, Layout::Gguf),
        case(Format::Q41, Layout::Gguf),
        case(Format::Q4K, Layout::Gguf),
        case(Format::Q6K, Layout::Gguf),
    ]
}

/// Values of one of the kinds that weights, and trouble, come in; a magnitude over all.
fn values(count: usize) -> impl Strategy<Value = Vec<f32>> {
    let one = prop_oneof![
        8 => -1.0_f32..1.0,
        2 => Just(0.0_f32),
        1 => Just(-0.0_f32),
        2 => (-16_i8..16).prop_map(|i| f32::from(i) / 8.0),
        1 => -30.0_f32..30.0,
        1 => (-1.0_f32..1.0).prop_map(|value| value * 1e-6),
    ];
    let magnitude = prop_oneof![6 => Just(0.02_f32), 1 => Just(1e12_f32), 1 => Just(1e-12_f32), 1 => Just(1e-41_f32)];
    let one_sided = prop_oneof![4 => Just(false), 1 => Just(true)];
    (proptest::collection::vec(one, count), magnitude, one_sided).prop_map(|(mut values, magnitude, one_sided)| {
        for value in &mut values {
            *value = if one_sided { value.abs() } else { *value } * magnitude;
        }
        values
    })
}

fn logical<'a>(case: &Case, shape: &'a [u64; 2], dtype: Dtype) -> Logical<'a> {
    Logical { shape, contracted: case.contracted, dtype, shard_groups: 2 }
}

/// Decodes what `encode` gave.
fn decoded(encoder: &Encoder, bytes: &[Vec<u8>], range: Range<usize>) -> Vec<f32> {
    let decoder = Decoder::of(encoder, Arithmetic::F32);
    let mut out = vec![0.0; range.len()];
    let parts: Vec<&[u8]> =
        bytes.iter().enumerate().map(|(index, bytes)| &bytes[decoder.span(index, range.start, range.len())]).collect();
    decoder.decode(range.start, &parts, &mut out, &mut Scratch::default()).expect("decodable");
    out
}

#[test]
fn every_encoder_equals_the_straightforward_one() {
    let block = Granularity::Block([128, 128]);
    let cases = [
        ("int8", case(Format::Int8, Layout::CompressedTensors)),
        ("int8 grok", case(Format::Int8, Layout::Grok1)),
        ("int4 g128", case(Format::Int4, Layout::CompressedTensors)),
        ("fp8_e4m3", case(Format::Fp8E4m3, Layout::CompressedTensors)),
        ("fp8_e4m3 block", granular(Format::Fp8E4m3, Layout::DeepSeek, block)),
        ("fp8_e5m2", case(Format::Fp8E5m2, Layout::CompressedTensors)),
        ("nf4", case(Format::Nf4, Layout::BitsAndBytes)),
        ("mxfp4", case(Format::Mxfp4, Layout::CompressedTensors)),
        ("nvfp4", case(Format::Nvfp4, Layout::CompressedTensors)),
        ("q8_0", case(Format::Q80, Layout::Gguf)),
        ("q4_0", case(Format::Q40, Layout::Gguf)),
        ("q4_1", case(Format::Q41, Layout::Gguf)),
        ("q4_k", case(Format::Q4K, Layout::Gguf)),
        ("q6_k", case(Format::Q6K, Layout::Gguf)),
    ];
    proptest!(config(24), |(values in values(2 * 256))| {
        for (name, case) in &cases {
            let mut case = case.clone();
            // What C makes of an infinite inverse is pinned by the golden vectors.
            if case.layout == Layout::Gguf && values.iter().any(|value| *value != 0.0 && value.abs() < 1e-30) {
                continue;
            }
            if case.layout == Layout::Grok1 {
                case.scheme.scale_dtype = Some(Dtype::F32);
            }
            let weight = logical(&case, &[2, 256], Dtype::F32);
            let (_, ours) = encode(&case.scheme, case.layout, weight, Values::F32(&values)).expect("held");
            for (index, theirs) in naive::by_name(name)(&values, 256).iter().enumerate() {
                prop_assert_eq!(&ours[index], theirs, "{} component {}", name, index);
            }
        }
    });
}

#[test]
fn parts_in_any_order_give_the_whole() {
    proptest!(config(6), |(values in values(16 * 512), cuts in 1_usize..5)| {
        for case in cases() {
            let weight = logical(&case, &[16, 512], Dtype::F32);
            let (_, whole) = encode(&case.scheme, case.layout, weight, Values::F32(&values)).expect("held");
            let encoder = Encoder::new(&case.scheme, case.layout, weight).expect("held");
            let part = (cuts * encoder.step()).max(512);
            let part = part.next_multiple_of(encoder.step());
            let mut scratch = Scratch::default();
            let starts: Vec<usize> = (0..values.len()).step_by(part).rev().collect();
            let of = |start: usize| Values::F32(&values[start..(start + part).min(16 * 512)]);

            let mut survey = encoder.survey();
            for &start in &starts {
                let mut one = encoder.survey();
                encoder.add(&mut one, start, of(start), &mut scratch);
                survey.merge(&one);
            }
            let settled = encoder.settle(&survey);
            let mut bytes: Vec<Vec<u8>> = whole.iter().map(|whole| vec![0xEE; whole.len()]).collect();
            for (index, bytes) in bytes.iter_mut().enumerate() {
                if let Some(fixed) = encoder.fixed(&settled, index) {
                    *bytes = fixed;
                }
            }
            for &start in &starts {
                let part = of(start);
                let mut out: Vec<&mut [u8]> = bytes
                    .iter_mut()
                    .enumerate()
                    .map(|(index, bytes)| &mut bytes[encoder.span(index, start, part.len())])
                    .collect();
                encoder.encode(&settled, start, part, &mut out, &mut scratch);
            }
            prop_assert_eq!(&bytes, &whole, "{:?}", case);

            let all = decoded(&encoder, &whole, 0..values.len());
            let step = Decoder::of(&encoder, Arithmetic::F32).step();
            let middle = (values.len() / 3).next_multiple_of(step)..(values.len() / 2).next_multiple_of(step);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&decoded(&encoder, &whole, middle.clone())), bits(&all[middle]), "{:?}", case);
        }
    });
}

/// Half the distance between neighbouring codes, plus what the rounding of scales adds, against each value's cell.
#[test]
fn no_value_moves_further_than_half_a_step() {
    proptest!(config(12), |(values in values(8 * 256))| {
        // Subnormal scales have no precision to bound, and f16 ones overflow.
        let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        prop_assume!(largest > 1e-20);
        for case in cases().into_iter().filter(|case| case.layout != Layout::Gguf || (1e-3..1e5).contains(&largest)) {
            let weight = logical(&case, &[8, 256], Dtype::F32);
            let encoder = Encoder::new(&case.scheme, case.layout, weight).expect("held");
            let (_, bytes) = encode(&case.scheme, case.layout, weight, Values::F32(&values)).expect("held");
            let back = decoded(&encoder, &bytes, 0..values.len());
            for ((x, y), (least, most)) in values.iter().zip(&back).zip(extremes(&case, &values)) {
                let allowed = allowed(&case, *x, least, most, largest);
                prop_assert!((x - y).abs() <= allowed, "{:?}: {} became {}, allowed {} of {}..{}", case, x, y, allowed, least, most);
            }
        }
    });
}

/// A number for the cell of value `i` of an `[8, 256]` matrix: values that share a scale share it.
fn cell(case: &Case, i: usize) -> usize {
    let (row, column) = (i / 256, i % 256);
    match (&case.scheme.granularity, case.layout) {
        (Granularity::Tensor | Granularity::Block([128, _]), _) if column < 128 || case.layout != Layout::DeepSeek => 0,
        (Granularity::Tensor | Granularity::Block([128, _]), _) => 1,
        (Granularity::Block([_, wide]), _) => column / *wide as usize,
        (Granularity::Channel, Layout::Grok1) => column,
        (_, Layout::Grok1) => row / 4 * 256 + column,
        (Granularity::Group(size), _) => i / *size as usize,
        (Granularity::Channel | Granularity::ShardGroup(_), _) => row,
    }
}

/// Minimum and maximum of each value's cell, zero included.
fn extremes(case: &Case, values: &[f32]) -> Vec<(f32, f32)> {
    let mut cells = vec![(0.0_f32, 0.0_f32); values.len()];
    for (i, value) in values.iter().enumerate() {
        let (least, most) = &mut cells[cell(case, i)];
        (*least, *most) = (least.min(*value), most.max(*value));
    }
    (0..values.len()).map(|i| cells[cell(case, i)]).collect()
}

/// What a value of a cell between `least` and `most` may move, where `tensor` is the largest magnitude of all.
fn allowed(case: &Case, x: f32, least: f32, most: f32, tensor: f32) -> f32 {
    let (largest, span) = (most.max(-least), most - least);
    // Rounding a scale to bf16, f16 or E4M3 moves the largest code's value by so much.
    let (bf16, f16) = (largest / 256.0, largest / 2048.0 + 1e-7);
    match (case.scheme.format, case.layout) {
        (Format::Int8, Layout::Grok1) => largest / 127.0 * 0.51 + bf16,
        (Format::Int8, _) if !case.scheme.symmetric => span / 255.0 * 1.01,
        (Format::Int8, _) => largest / 127.0 * 0.51,
        (Format::Int4, _) if !case.scheme.symmetric => span / 15.0 * 1.01,
        (Format::Int4, _) => largest / 7.5 * 0.501,
        (Format::Fp8E4m3, _) => (x.abs() / 16.0).max(largest / 448.0 / 1024.0) * 1.001,
        (Format::Fp8E5m2, _) => (x.abs() / 8.0).max(largest / 57344.0 / 131_072.0) * 1.001,
        // The widest gap of the sixteen numbers is 0.304. The second level keeps absmax to a 64th of the tensor's range.
        (Format::Nf4, _) => largest * 0.1521 + if case.scheme.double_quant { tensor / 64.0 } else { 0.0 },
        // 4 and 6 are neighbours, under a scale of at most a quarter of the largest; GGUF lets almost 8 saturate to 6.
        (Format::Mxfp4, _) => largest / 4.0 * 1.001,
        // GGUF's scale stops at 448, and below 2^-6 has few bits.
        (Format::Nvfp4, Layout::Gguf) if largest > 2688.0 => f32::INFINITY,
        (Format::Nvfp4, Layout::Gguf) => largest * 0.26 + 0.006,
        // An E4M3 scale may be off by a sixteenth; that of a group far below the tensor's largest is a constant.
        (Format::Nvfp4, _) => largest * 0.18 + tensor * 2e-5,
        (Format::Q80, _) => largest / 127.0 * 0.51 + f16,
        (Format::Q40, _) => largest / 8.0 * 1.001 + f16,
        (Format::Q41, _) => span / 15.0 * 0.501 + 2.0 * f16 + span / 1024.0,
        (Format::Q4K, _) => span,
        (Format::Q6K, _) => largest / 16.0 + f16,
    }
}

/// The drift report's self-check: codes are the nearest ones, within their range, to the scales that are stored.
#[test]
fn only_clipped_values_are_off_by_more_than_half_a_step() {
    proptest!(config(12), |(values in values(8 * 256))| {
        let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        prop_assume!(largest > 1e-20);
        for case in cases() {
            // GGML codes against the f32 scale and stores it in f16; NF4 against absmax and stores that in 8 bits.
            let stored_otherwise = matches!(case.scheme.format, Format::Q80 | Format::Q40 | Format::Q41);
            let f16 = case.layout == Layout::Gguf && !(1e-3..1e5).contains(&largest);
            if stored_otherwise || f16 || case.scheme.double_quant {
                continue;
            }
            let weight = logical(&case, &[8, 256], Dtype::F32);
            let encoder = Encoder::new(&case.scheme, case.layout, weight).expect("held");
            let (_, bytes) = encode(&case.scheme, case.layout, weight, Values::F32(&values)).expect("held");
            let back = decoded(&encoder, &bytes, 0..values.len());
            let decoder = Decoder::of(&encoder, Arithmetic::F32);
            let parts: Vec<&[u8]> = bytes.iter().enumerate().map(|(i, bytes)| &bytes[decoder.span(i, 0, values.len())]).collect();
            let mut steps = vec![0.0; values.len()];
            decoder.steps(0, &parts, &mut steps, &mut Scratch::default()).expect("decodable");
            for ((x, y), step) in values.iter().zip(&back).zip(&steps) {
                // The smallest normal scales lose the precision that the bound speaks of.
                let known = step.abs() > 1e-30;
                prop_assert!(!known || *step < 0.0 || (x - y).abs() <= step * 0.5005 + largest * 1e-6, "{:?}: {} became {} at step {}", case, x, y, step);
            }
        }
    });
}

#[test]
fn values_that_a_format_holds_come_back_exactly() {
    proptest!(config(8), |(codes in proptest::collection::vec(-127_i8..=127, 8 * 256), power in -8_i32..8)| {
        // In every cell of every format the largest code occurs, so that the scale is found again.
        let scale = 2_f32.powi(power);
        let spread = |largest: i8, table: fn(i8) -> f32| -> Vec<f32> {
            codes.iter().enumerate().map(|(i, &code)| {
                let code = if i % 16 == 0 { largest } else { code % (largest.unsigned_abs() as i8).max(1) };
                table(code) * scale
            }).collect()
        };
        let integer = |code: i8| f32::from(code);
        let e2m1 = |code: i8| [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][usize::from(code.unsigned_abs() % 8)] * f32::from(code.signum());
        // The minimum is found again as well.
        let with_zeros = |mut values: Vec<f32>| {
            values.iter_mut().skip(1).step_by(16).for_each(|value| *value = 0.0);
            values
        };
        let exact = [
            (case(Format::Int8, Layout::BitsAndBytes), spread(127, integer)),
            (case(Format::Q80, Layout::Gguf), spread(127, integer)),
            (case(Format::Q40, Layout::Gguf), spread(-8, integer)),
            (case(Format::Q41, Layout::Gguf), with_zeros(spread(15, |code| f32::from(code.unsigned_abs() % 16)))),
            (case(Format::Mxfp4, Layout::CompressedTensors), spread(7, e2m1)),
            (case(Format::Mxfp4, Layout::Gguf), spread(7, e2m1)),
            (case(Format::Fp8E5m2, Layout::CompressedTensors), codes.iter().enumerate().map(|(i, code)| {
                if i % 256 == 0 { 57344.0 * scale } else { f32::from(code % 4) * scale }
            }).collect()),
            (case(Format::Fp8E4m3, Layout::CompressedTensors), codes.iter().enumerate().map(|(i, code)| {
                if i % 256 == 0 { 448.0 * scale } else { f32::from(code % 16) * scale }
            }).collect()),
        ];
        for (case, values) in exact {
            // bitsandbytes divides by 127 when it decodes, which is not exact; its codes are.
            let weight = logical(&case, &[8, 256], Dtype::F32);
            let encoder = Encoder::new(&case.scheme, case.layout, weight).expect("held");
            let (_, bytes) = encode(&case.scheme, case.layout, weight, Values::F32(&values)).expect("held");
            let back = decoded(&encoder, &bytes, 0..values.len());
            if case.layout != Layout::BitsAndBytes {
                prop_assert_eq!(&back, &values, "{:?}", case);
            }
            let (_, again) = encode(&case.scheme, case.layout, weight, Values::F32(&back)).expect("held");
            prop_assert_eq!(again, bytes, "{:?}", case);
        }
    });
}

#[test]
fn doubling_every_value_doubles_the_scales_and_keeps_the_codes() {
    proptest!(config(8), |(values in values(8 * 256))| {
        prop_assume!(values.iter().all(|value| *value == 0.0 || (1e-18..1e18).contains(&value.abs())));
        // A zero cell's scale is a constant of the format.
        prop_assume!(values.chunks(16).all(|group| group.iter().any(|value| *value != 0.0)));
        let doubled: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
        for case in cases() {
            // f16 scales lose bits at either end, so GGUF formats only double where they are normal.
            let f16 = case.layout == Layout::Gguf && !values.iter().all(|value| *value == 0.0 || (0.1..1e3).contains(&value.abs()));
            // The two levels of NF4 and NVFP4 round against constants.
            let levels = case.scheme.double_quant || (case.scheme.format == Format::Nvfp4 && case.layout == Layout::Gguf);
            let cells = extremes(&case, &values).iter().all(|(least, most)| least != most);
            if f16 || levels || !cells {
                continue;
            }
            let weight = logical(&case, &[8, 256], Dtype::F32);
            let encoder = Encoder::new(&case.scheme, case.layout, weight).expect("held");
            let once = encode(&case.scheme, case.layout, weight, Values::F32(&values)).expect("held").1;
            let twice = encode(&case.scheme, case.layout, weight, Values::F32(&doubled)).expect("held").1;
            let expected: Vec<f32> = decoded(&encoder, &once, 0..values.len()).iter().map(|value| value * 2.0).collect();
            prop_assert_eq!(decoded(&encoder, &twice, 0..values.len()), expected, "{:?}", case);
        }
    });
}

#[test]
fn a_larger_value_never_lowers_a_scale() {
    proptest!(config(12), |(values in values(8 * 256), at in 0_usize..2048, factor in 1.0_f32..4.0)| {
        let mut larger = values.clone();
        larger[at] *= factor;
        for case in cases() {
            let has_scales = matches!(case.scheme.format, Format::Int8 | Format::Int4 | Format::Fp8E4m3 | Format::Fp8E5m2);
            if !has_scales {
                continue;
            }
            let weight = logical(&case, &[8, 256], Dtype::F32);
            let scales = |values: &[f32]| {
                let (encoded, bytes) = encode(&case.scheme, case.layout, weight, Values::F32(values)).expect("held");
                let at = encoded.components.iter().position(|component| component.role == Role::Scales).expect("scales");
                let mut scales = vec![0.0; Values::stored(encoded.components[at].dtype, &bytes[at]).expect("floats").len()];
                Values::stored(encoded.components[at].dtype, &bytes[at]).expect("floats").widen(0, &mut scales);
                scales
            };
            // A zero cell's scale is a constant that a tiny one may be below.
            let usual = values.iter().all(|value| *value == 0.0 || value.abs() > 1e-4);
            for (before, after) in scales(&values).iter().zip(scales(&larger)) {
                prop_assert!(after >= *before || !usual, "{:?}: {} then {}", case, before, after);
            }
        }
    });
}

#[test]
fn a_shard_of_the_quantized_weight_is_the_quantized_shard() {
    // Along each dimension where the layout says that a cut is possible, both halves.
    proptest!(config(6), |(values in values(16 * 512))| {
        let mut cuts = 0;
        for case in cases() {
            let shape = [16_u64, 512];
            let (encoded, whole) =
                encode(&case.scheme, case.layout, logical(&case, &shape, Dtype::F32), Values::F32(&values)).expect("held");
            for dim in 0..2 {
                let half = shape[dim] / 2;
                let spans = spans_the_tensor(&case, dim);
                if spans || !encoded.unit[dim].is_some_and(|unit| half.is_multiple_of(unit)) {
                    continue;
                }
                cuts += 1;
                for part in 0..2 {
                    let range = (part * half) as usize..((part + 1) * half) as usize;
                    let slice = cut(&values, &[16, 512], dim, &range);
                    let mut part_shape = shape;
                    part_shape[dim] = half;
                    // Grok's shard groups lie on the axis that is cut: each shard has its own.
                    let mut weight = logical(&case, &part_shape, Dtype::F32);
                    if dim == case.contracted {
                        weight.shard_groups = 1;
                    }
                    let (_, parts) = encode(&case.scheme, case.layout, weight, Values::F32(&slice)).expect("held");
                    for ((component, whole), part_bytes) in encoded.components.iter().zip(&whole).zip(&parts) {
                        if component.role == Role::Shape {
                            continue;
                        }
                        let (block, bytes) = component.dtype.block();
                        let mut stored: Vec<usize> = component.shape.iter().map(|&size| size as usize).collect();
                        if let Some(last) = stored.last_mut() {
                            *last = *last * bytes as usize / block as usize;
                        }
                        let expected = match component.divides.iter().position(|divided| *divided == Some(dim)) {
                            None => whole.clone(),
                            Some(at) => {
                                let half = stored[at] / 2;
                                cut(whole, &stored, at, &(part as usize * half..(part as usize + 1) * half))
                            }
                        };
                        prop_assert_eq!(part_bytes, &expected, "{:?} dimension {} {:?}", case, dim, component.role);
                    }
                }
            }
        }
        prop_assert!(cuts > 20, "{cuts} cuts");
    });
}

/// Whether scales depend on values beyond a half along a dimension.
fn spans_the_tensor(case: &Case, dim: usize) -> bool {
    let tensor = matches!(case.scheme.granularity, Granularity::Tensor)
        || case.scheme.format == Format::Nvfp4 && case.layout != Layout::Gguf;
    tensor || (matches!(case.scheme.granularity, Granularity::Channel) && dim == case.contracted)
}

/// A range of one dimension of a row-major array.
fn cut<T: Clone>(values: &[T], shape: &[usize], dim: usize, range: &Range<usize>) -> Vec<T> {
    let inner: usize = shape[dim + 1..].iter().product();
    values
        .chunks(shape[dim] * inner)
        .flat_map(|slab| slab[range.start * inner..range.end * inner].iter().cloned())
        .collect()
}

#[test]
fn sixteen_bit_inputs_are_the_f32_ones_widened() {
    proptest!(config(6), |(values in values(8 * 256))| {
        for dtype in [Dtype::Bf16, Dtype::F16] {
            let mut bytes = vec![0; values.len() * 2];
            prop_assert!(narrow(&values, dtype, &mut bytes));
            let mut wide = vec![0.0; values.len()];
            let stored = Values::stored(dtype, &bytes).expect("floats");
            stored.widen(0, &mut wide);
            prop_assume!(wide.iter().all(|value| value.is_finite()));
            for case in cases() {
                let weight = logical(&case, &[8, 256], dtype);
                let narrow = encode(&case.scheme, case.layout, weight, stored).expect("held").1;
                let wide = encode(&case.scheme, case.layout, weight, Values::F32(&wide)).expect("held").1;
                prop_assert_eq!(narrow, wide, "{:?} from {}", case, dtype);
            }
        }
    });
}

#[test]
fn values_that_are_not_finite_are_counted() {
    let mut values = vec![0.5_f32; 8 * 256];
    for (at, value) in [(0, f32::NAN), (300, f32::INFINITY), (301, f32::NEG_INFINITY), (2047, f32::NAN)] {
        values[at] = value;
    }
    for case in cases() {
        let encoder = Encoder::new(&case.scheme, case.layout, logical(&case, &[8, 256], Dtype::F32)).expect("held");
        let mut scratch = Scratch::default();
        let mut survey = encoder.survey();
        encoder.add(&mut survey, 0, Values::F32(&values), &mut scratch);
        if encoder.is_surveyed() {
            assert_eq!(survey.counts.nonfinite, 4, "{case:?}");
        }
        let settled = encoder.settle(&survey);
        let mut bytes: Vec<Vec<u8>> =
            (0..encoder.encoded().components.len()).map(|i| vec![0; encoder.span(i, 0, values.len()).len()]).collect();
        let mut out: Vec<&mut [u8]> = bytes.iter_mut().map(Vec::as_mut_slice).collect();
        let counts = encoder.encode(&settled, 0, Values::F32(&values), &mut out, &mut scratch);
        assert_eq!(counts.nonfinite.max(survey.counts.nonfinite), 4, "{case:?}");
    }
}
