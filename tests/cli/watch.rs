//! `--watch` runs again when a file changes.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longer than any machine needs; a hang fails instead of blocking the suite.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_change_of_an_extended_file_checks_again() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.toml");
    let root = folder.path().join("root.toml");
    let good =
        "language = 1\npolicy = \"base\"\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = []\n";
    std::fs::write(&base, good).unwrap();
    std::fs::write(&root, "language = 1\npolicy = \"root\"\nextends = [\"base.toml\"]\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_flow-fabric"))
        .arg("check")
        .arg(&root)
        .arg("--watch")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (send, lines) = mpsc::channel();
    let stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let wait_for = |wanted: &str| {
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if line.contains(wanted) {
                return true;
            }
        }
        false
    };
    let first = wait_for("1 rule: no findings") && wait_for("watching for changes");
    // Another length as well as another time: clocks of file systems are coarse.
    std::fs::write(&base, good.replace("spec = []", "spec = 1234")).unwrap();
    let second = wait_for("1 error");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first, "the first run and its notice");
    assert!(second, "the run after the change");
}
