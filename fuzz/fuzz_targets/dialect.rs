//! Regexes and token regexes: whatever is typed is refused with places inside it, or means what the reference says.

#![no_main]

#[path = "../common.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|text: &str| common::seed::dialect(text));
