//! The command line as people meet it: exit status, standard output, standard error.
//!
//! The binary runs in the root of the repository, so that every path it prints is relative. Snapshots are in
//! `tests/cli/snapshots/`; `INSTA_UPDATE=always cargo test --test cli` rewrites them.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod artifacts;
mod decide;
mod diff;
mod frame;
mod graph;
mod inspect;
mod load;
mod moe;
mod quantize;
mod rule;
mod sample;
mod snapshot;
mod watch;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary with an environment that says nothing about terminals.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flow-fabric"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "CI", "TERM"] {
        command.env_remove(variable);
    }
    command
}

/// Runs a command line, cut at spaces, and writes down what came of it.
fn flow_fabric(line: &str) -> String {
    flow_fabric_reading(line, "")
}

/// The same with something on standard input.
fn flow_fabric_reading(line: &str, stdin: &str) -> String {
    let output = output_of(line, stdin);
    let mut transcript = format!("$ flow-fabric {line}\nexit status {}\n", output.status.code().unwrap());
    for (title, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        let text = String::from_utf8(bytes).unwrap();
        if !text.is_empty() {
            transcript.push_str(&format!("-- {title}\n{text}"));
        }
    }
    transcript
}

/// Runs a command line in which `DIR` stands for a folder.
fn within(folder: &Path, line: &str) -> String {
    let folder = folder.to_str().unwrap();
    flow_fabric(&line.replace("DIR", folder)).replace(folder, "DIR")
}

/// Writes a copy of the Grok-1 policy into a folder, with one text replaced that it holds once.
fn edited_grok(folder: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string("policies/grok-1.toml").unwrap();
    assert_eq!(text.matches(old).count(), 1, "{old}");
    std::fs::write(folder.join("grok-1.toml"), text.replace(old, new)).unwrap();
}

/// What a command line that succeeds prints.
fn stdout_of(line: &str, stdin: &str) -> String {
    let output = output_of(line, stdin);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn output_of(line: &str, stdin: &str) -> Output {
    let mut child = command()
        .args(line.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = stdin.to_owned();
    // A verb may print before it has read all, and one that does not read closes the pipe; neither is a failure here.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    output
}
