//! What holds for every verb: usage errors, help, streams, colour.

use std::process::Stdio;

use crate::{command, flow_fabric};

#[test]
fn usage_errors_are_2_on_standard_error() {
    insta::assert_snapshot!("usage-verb", flow_fabric("ruel"));
    insta::assert_snapshot!("usage-option", flow_fabric("rule --fromat json"));
    insta::assert_snapshot!("usage-value", flow_fabric("rule --format yaml"));
    insta::assert_snapshot!("usage-schema", flow_fabric("schema findigns"));
    insta::assert_snapshot!("usage-man", flow_fabric("man ruel"));
    assert!(flow_fabric("").starts_with("$ flow-fabric \nexit status 2\n-- stderr\n"));
}

#[test]
fn help_and_version_are_data() {
    insta::assert_snapshot!("help-rule", flow_fabric("rule --help"));
    assert_eq!(
        flow_fabric("--version"),
        format!("$ flow-fabric --version\nexit status 0\n-- stdout\nflow-fabric {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_and_manual_pages_are_generated() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = flow_fabric(&format!("completions {shell}"));
        assert!(
            script.contains("exit status 0") && script.contains("flow-fabric") && script.contains("schema"),
            "{shell}"
        );
    }
    assert!(flow_fabric("man").contains(".TH flow-fabric 1"));
    assert!(flow_fabric("man rule").contains("$ flow\\-fabric rule FF002"));
}

#[test]
fn colour_is_off_in_a_pipe_unless_asked_for() {
    let colored = |line: &str, variables: &[(&str, &str)]| {
        let output = command().args(line.split(' ')).envs(variables.iter().copied()).output().unwrap();
        output.stdout.contains(&0x1b) || output.stderr.contains(&0x1b)
    };
    assert!(!colored("rule --help", &[]));
    assert!(!colored("ruel", &[]));
    assert!(colored("rule --help --color always", &[]));
    assert!(colored("ruel --color=always", &[]));
    assert!(colored("rule --help", &[("CLICOLOR_FORCE", "1")]));
    assert!(!colored("rule --help --color never", &[("CLICOLOR_FORCE", "1")]));
    assert!(!colored("rule --help", &[("NO_COLOR", "1")]));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = command().arg("rule").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command().arg("rule").stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: cannot write the output: "));
}
