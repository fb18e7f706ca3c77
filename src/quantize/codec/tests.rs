//! Every vector level gives the bytes of the plain one.

use super::*;
use crate::quantize::{Format, Layout, Logical, Values};
use crate::simd::{Level, with_level};

/// Values with every kind of trouble: ties, zeros of both signs, tiny, huge, not finite.
fn values(count: usize) -> Vec<f32> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let special =
        [0.0, -0.0, 0.5, -1.5, 2.5, f32::MIN_POSITIVE, 1e-41, -3e38, 127.5, f32::NAN, f32::INFINITY, -f32::INFINITY];
    (0..count)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let normal = (state >> 40) as f32 / 8_388_608.0 - 1.0;
            // Trouble is rare enough to leave most cells usual.
            if state.is_multiple_of(97) { special[i % special.len()] } else { normal * 0.05 }
        })
        .collect()
}

fn schemes() -> Vec<(Scheme, Layout, usize)> {
    let mut all = Vec::new();
    for arithmetic in [Arithmetic::F32, Arithmetic::Reference] {
        for &layout in Layout::ALL {
            for &format in Format::ALL {
                let own = Scheme::new(format).granularity;
                for granularity in [own, Granularity::Tensor, Granularity::Group(32), Granularity::Block([16, 128])] {
                    for symmetric in [true, false] {
                        let scheme =
                            Scheme { arithmetic, granularity: granularity.clone(), symmetric, ..Scheme::new(format) };
                        all.push((scheme, layout, usize::from(layout != Layout::Grok1)));
                    }
                }
            }
        }
    }
    all
}

#[test]
fn every_level_gives_the_same_bytes() {
    let values = values(16 * 256);
    let mut held = 0;
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        let mut stored = vec![0; values.len() * if dtype == Dtype::F32 { 4 } else { 2 }];
        assert!(crate::quantize::narrow(&values, dtype, &mut stored));
        for (scheme, layout, contracted) in schemes() {
            let weight = Logical { shape: &[16, 256], contracted, dtype, shard_groups: 1 };
            let Ok(encoder) = Encoder::new(&scheme, layout, weight) else { continue };
            held += 1;
            let at = |level: Level| {
                with_level(level, || {
                    let input = Values::stored(dtype, &stored).unwrap();
                    let (_, bytes) = encode(&scheme, layout, weight, input).unwrap();
                    let decoder = Decoder::of(&encoder, scheme.arithmetic);
                    let parts: Vec<&[u8]> =
                        bytes.iter().enumerate().map(|(i, bytes)| &bytes[decoder.span(i, 0, values.len())]).collect();
                    let mut back = vec![0.0; values.len()];
                    decoder.decode(0, &parts, &mut back, &mut Scratch::default()).unwrap();
                    // Which NaN an operation gives is not specified.
                    let bits: Vec<u32> = back.iter().map(|y| if y.is_nan() { 0 } else { y.to_bits() }).collect();
                    (bytes, bits)
                })
            };
            let plain = at(Level::Plain);
            for &level in Level::ALL.iter().filter(|level| level.is_available()) {
                let other = at(level);
                assert!(other.1 == plain.1, "{scheme:?} in {layout} from {dtype} decodes otherwise at {level:?}");
                for (index, (ours, plain)) in other.0.iter().zip(&plain.0).enumerate() {
                    assert!(
                        same(&encoder, index, ours, plain),
                        "{scheme:?} in {layout} from {dtype} at {level:?}: {index}"
                    );
                }
            }
        }
    }
    assert!(held > 100, "{held}");
}

/// Whether a component has the same bytes; of float scales, NaN equals NaN.
fn same(encoder: &Encoder, index: usize, ours: &[u8], theirs: &[u8]) -> bool {
    let dtype = encoder.encoded().components[index].dtype;
    let (Some(a), Some(b)) = (Values::stored(dtype, ours), Values::stored(dtype, theirs)) else {
        return ours == theirs;
    };
    let widen = |values: Values<'_>| {
        let mut wide = vec![0.0; values.len()];
        values.widen(0, &mut wide);
        wide
    };
    widen(a).iter().zip(&widen(b)).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
}

#[test]
fn a_survey_gives_what_one_pass_gives() {
    // The same cells, once within what is held at a time and once beyond it.
    let values: Vec<f32> = values(64 * 96).iter().map(|x| if x.is_finite() { *x } else { 1.0 }).collect();
    let shape = [64, 96];
    let cases = [
        (Format::Int8, Layout::Grok1, Granularity::Group(16), 0, true),
        (Format::Int8, Layout::Grok1, Granularity::Channel, 0, true),
        (Format::Int8, Layout::CompressedTensors, Granularity::Tensor, 1, false),
        (Format::Int4, Layout::CompressedTensors, Granularity::Group(32), 1, false),
        (Format::Fp8E4m3, Layout::DeepSeek, Granularity::Block([16, 32]), 1, true),
    ];
    for (format, layout, granularity, contracted, symmetric) in cases {
        let scheme = Scheme { granularity, symmetric, ..Scheme::new(format) };
        let weight = Logical { shape: &shape, contracted, dtype: Dtype::F32, shard_groups: 1 };
        let whole = encode(&scheme, layout, weight, Values::F32(&values)).unwrap().1;
        let mut encoder = Encoder::new(&scheme, layout, weight).unwrap();
        assert!(!encoder.is_surveyed());
        encoder.hold(1);
        assert!(encoder.is_surveyed());
        let (mut survey, mut scratch) = (encoder.survey(), Scratch::default());
        for start in (0..values.len()).step_by(encoder.step()) {
            encoder.add(&mut survey, start, Values::F32(&values[start..start + encoder.step()]), &mut scratch);
        }
        let settled = encoder.settle(&survey);
        let mut bytes: Vec<Vec<u8>> = (0..whole.len())
            .map(|i| encoder.fixed(&settled, i).unwrap_or_else(|| vec![0; encoder.span(i, 0, values.len()).len()]))
            .collect();
        let mut out: Vec<&mut [u8]> = bytes
            .iter_mut()
            .enumerate()
            .map(|(i, bytes)| if encoder.is_fixed(i) { &mut [][..] } else { bytes })
            .collect();
        encoder.encode(&settled, 0, Values::F32(&values), &mut out, &mut scratch);
        assert!(bytes == whole, "{scheme:?}");
    }
}
