//! Can 8-bit storage replace float for slot09, and what does it cost?
//!
//! `cargo run --release --example slot09` makes slot09-like tensors in `target/slot09/`, quantizes them by
//! `examples/slot09/policy.toml`, and prints size, times, drift, and the answer: adopt (exit status 0) or defer (1).

#![expect(clippy::print_stdout, reason = "an example shows what it got")]

mod spike;
mod tensors;

use std::path::Path;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let spike = spike::run(Path::new("examples"), Path::new("target/slot09"))?;
    print!("{}{spike}", spike.times());
    Ok(if spike.is_adopted() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
