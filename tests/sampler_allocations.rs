//! After the first row of a size, sampling allocates nothing.

#![expect(unsafe_code, reason = "a global allocator that counts is an unsafe trait; it only forwards to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use flow_fabric::sample::{Logits, Row, Sampler, SamplerConfig, Workspace};

struct Counting;

thread_local! {
    /// Of this thread alone: that which runs the tests allocates too, whenever it likes.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call goes to the system allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_after_the_first_allocates_nothing() {
    let profiles = [
        r#"{}"#,
        r#"{"temperature": 0}"#,
        r#"{"top_k": 50}"#,
        r#"{"top_p": 0.9, "top_logprobs": 20}"#,
        r#"{"top_k": 50, "top_p": 0.9, "min_p": 0.02, "logprobs": "raw", "top_logprobs": 5}"#,
        r#"{"typical_p": 0.5}"#,
        r#"{"top_n_sigma": 1, "xtc_probability": 1, "eta_cutoff": 0.001}"#,
        r#"{"preset": "grok-1", "temperature": 0.7, "top_p": 0.95}"#,
        r#"{"preset": "llama-cpp", "repetition_penalty": 1.1, "frequency_penalty": 0.2, "dry_multiplier": 0.8, "top_k": 40}"#,
        r#"{"no_repeat_ngram": 3, "logit_bias": {"7": 2}, "deny": [1, 2], "vocab_limit": 4900}"#,
    ];
    let f32s: Vec<f32> = (0..5000).map(|token| ((token * 7919) % 4001) as f32 / 400.0).collect();
    let f16s: Vec<half::f16> = f32s.iter().map(|&logit| half::f16::from_f32(logit)).collect();
    let bf16s: Vec<half::bf16> = f32s.iter().map(|&logit| half::bf16::from_f32(logit)).collect();
    let history: Vec<u32> = (0..200).map(|token| token % 60).collect();
    for profile in profiles {
        let config: SamplerConfig = serde_json::from_str(profile).unwrap();
        let (sampler, _) = Sampler::compile(&config).unwrap();
        for logits in [Logits::F32(&f32s), Logits::F16(&f16s), Logits::Bf16(&bf16s)] {
            let mut workspace = Workspace::default();
            let row = |step| Row { prompt: &history, output: &history[..100], step, ..Row::new(logits) };
            sampler.decide(&row(0), &mut workspace).unwrap();
            let before = ALLOCATIONS.get();
            for step in 1..30 {
                sampler.decide(&row(step), &mut workspace).unwrap();
            }
            assert_eq!(ALLOCATIONS.get() - before, 0, "{profile}");
        }
    }
}
