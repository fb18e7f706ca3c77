//! Quantizing, in bytes of input per second: each format on one and two threads, beside a memcpy of the same bytes and a
//! straightforward scalar implementation in the same run.
//!
//! `cargo bench --bench quantize`
#![expect(clippy::expect_used, reason = "a bench may stop")]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use divan::Bencher;
use divan::counter::BytesCount;
use flow_fabric::Dtype;
use flow_fabric::quantize::{Encoder, Format, Granularity, Layout, Logical, Scheme, Scratch, Settled, Values, narrow};

#[path = "../tests/support/naive.rs"]
mod naive;

fn main() {
    divan::main();
}

const ROWS: usize = 4096;
const COLUMNS: usize = 4096;
/// Values that a thread takes at a time.
const PART: usize = 1 << 18;

const CASES: &[(&str, Format, Layout)] = &[
    ("int8", Format::Int8, Layout::CompressedTensors),
    ("int8 grok", Format::Int8, Layout::Grok1),
    ("int4 g128", Format::Int4, Layout::CompressedTensors),
    ("fp8_e4m3", Format::Fp8E4m3, Layout::CompressedTensors),
    ("fp8_e4m3 block", Format::Fp8E4m3, Layout::DeepSeek),
    ("fp8_e5m2", Format::Fp8E5m2, Layout::CompressedTensors),
    ("nf4", Format::Nf4, Layout::BitsAndBytes),
    ("mxfp4", Format::Mxfp4, Layout::CompressedTensors),
    ("nvfp4", Format::Nvfp4, Layout::CompressedTensors),
    ("q8_0", Format::Q80, Layout::Gguf),
    ("q4_0", Format::Q40, Layout::Gguf),
    ("q4_1", Format::Q41, Layout::Gguf),
    ("q4_k", Format::Q4K, Layout::Gguf),
    ("q6_k", Format::Q6K, Layout::Gguf),
];

/// Weights as trained ones are: normal, a few outliers.
fn weights(dtype: Dtype) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    let values: Vec<f32> = (0..ROWS * COLUMNS)
        .map(|i| {
            let normal = (0..4).map(|_| uniform()).sum::<f32>() - 2.0;
            normal * if i % 1000 == 0 { 0.16 } else { 0.02 }
        })
        .collect();
    let mut bytes = vec![0; values.len() * if dtype == Dtype::F32 { 4 } else { 2 }];
    assert!(narrow(&values, dtype, &mut bytes));
    bytes
}

fn encoder(case: &str, dtype: Dtype) -> Encoder {
    let &(_, format, layout) = CASES.iter().find(|(name, ..)| *name == case).expect("a case");
    let granularity = match layout {
        Layout::DeepSeek => Granularity::Block([128, 128]),
        _ => Scheme::new(format).granularity,
    };
    let contracted = if layout == Layout::Grok1 { 0 } else { 1 };
    let shape = [ROWS as u64, COLUMNS as u64];
    let weight = Logical { shape: &shape, contracted, dtype, shard_groups: 1 };
    Encoder::new(&Scheme { granularity, ..Scheme::new(format) }, layout, weight).expect("a scheme")
}

/// Encodes everything on so many threads into buffers that are there already.
fn run(encoder: &Encoder, dtype: Dtype, input: &[u8], out: &mut [Vec<u8>], threads: usize) {
    let size = if dtype == Dtype::F32 { 4 } else { 2 };
    let part = PART.next_multiple_of(encoder.step());
    let parts = encoder.elements().div_ceil(part);
    let values = |index: usize| {
        let range = index * part..((index + 1) * part).min(encoder.elements());
        Values::stored(dtype, &input[range.start * size..range.end * size]).expect("a float")
    };
    let mut survey = encoder.survey();
    if encoder.is_surveyed() {
        let next = AtomicUsize::new(0);
        let found: Vec<_> = std::thread::scope(|scope| {
            let worker = || {
                let (mut survey, mut scratch) = (encoder.survey(), Scratch::default());
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= parts {
                        return survey;
                    }
                    encoder.add(&mut survey, index * part, values(index), &mut scratch);
                }
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            handles.into_iter().map(|handle| handle.join().expect("a survey")).collect()
        });
        found.iter().for_each(|found| survey.merge(found));
    }
    let settled: Settled = encoder.settle(&survey);
    // Each part's slices of every component, in order.
    let mut slices: Vec<Vec<&mut [u8]>> = (0..parts).map(|_| Vec::new()).collect();
    for (component, bytes) in out.iter_mut().enumerate() {
        let mut rest = bytes.as_mut_slice();
        for (index, slices) in slices.iter_mut().enumerate() {
            let (mine, tail) = rest.split_at_mut(encoder.span(component, index * part, values(index).len()).len());
            slices.push(mine);
            rest = tail;
        }
    }
    let queue = std::sync::Mutex::new(slices.into_iter().enumerate());
    std::thread::scope(|scope| {
        let worker = || {
            let mut scratch = Scratch::default();
            loop {
                let Some((index, mut out)) = queue.lock().expect("a queue").next() else { return };
                encoder.encode(&settled, index * part, values(index), &mut out, &mut scratch);
            }
        };
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
}

fn outputs(encoder: &Encoder) -> Vec<Vec<u8>> {
    (0..encoder.encoded().components.len()).map(|i| vec![1; encoder.span(i, 0, encoder.elements()).len()]).collect()
}

fn quantize(bencher: Bencher<'_, '_>, case: &str, dtype: Dtype, threads: usize) {
    let (encoder, input) = (encoder(case, dtype), weights(dtype));
    let mut out = outputs(&encoder);
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        run(&encoder, dtype, black_box(&input), &mut out, threads);
    });
}

const NAMES: &[&str] = &[
    "int8",
    "int8 grok",
    "int4 g128",
    "fp8_e4m3",
    "fp8_e4m3 block",
    "fp8_e5m2",
    "nf4",
    "mxfp4",
    "nvfp4",
    "q8_0",
    "q4_0",
    "q4_1",
    "q4_k",
    "q6_k",
];

#[divan::bench(args = NAMES, max_time = 0.3)]
fn bf16_one_thread(bencher: Bencher<'_, '_>, case: &str) {
    quantize(bencher, case, Dtype::Bf16, 1);
}

#[divan::bench(args = NAMES, max_time = 0.3)]
fn bf16_two_threads(bencher: Bencher<'_, '_>, case: &str) {
    quantize(bencher, case, Dtype::Bf16, 2);
}

#[divan::bench(args = NAMES, max_time = 0.3)]
fn f32_one_thread(bencher: Bencher<'_, '_>, case: &str) {
    quantize(bencher, case, Dtype::F32, 1);
}

#[divan::bench(args = NAMES, max_time = 0.3)]
fn f32_two_threads(bencher: Bencher<'_, '_>, case: &str) {
    quantize(bencher, case, Dtype::F32, 2);
}

/// One value after the other, f32 in, one thread.
#[divan::bench(args = NAMES, max_time = 0.3)]
fn f32_straightforward(bencher: Bencher<'_, '_>, case: &str) {
    let input = weights(Dtype::F32);
    let mut values = vec![0.0; ROWS * COLUMNS];
    Values::stored(Dtype::F32, &input).expect("floats").widen(0, &mut values);
    let quantize = naive::by_name(case);
    bencher.counter(BytesCount::new(input.len())).bench_local(|| quantize(black_box(&values), COLUMNS));
}

#[divan::bench(args = [Dtype::Bf16, Dtype::F32])]
fn memcpy(bencher: Bencher<'_, '_>, dtype: Dtype) {
    let input = weights(dtype);
    let mut out = vec![1; input.len()];
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        out.copy_from_slice(black_box(&input));
        black_box(&mut out);
    });
}
