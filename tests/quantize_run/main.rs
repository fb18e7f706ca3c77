//! Quantization executed: what the policy's keys decide, what is written, what comes back, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod config;
mod crash;
mod gates;
mod gguf;
mod golden;
mod keys;
mod stacks;
mod support;
mod whole;
