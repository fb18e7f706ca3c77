//! Every session in the documentation is what the command prints today, and every policy in it is a policy.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::path::{Path, PathBuf};

use flow_fabric::Policy;
use flow_fabric::cli::{self, Ui};

/// Fenced blocks of one language in a Markdown file, with their line numbers.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let (mut found, mut open): (Vec<(usize, String)>, Option<bool>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (open, line.strip_prefix("```")) {
            (None, Some(opened)) => {
                open = Some(opened == language);
                if opened == language {
                    found.push((number + 2, String::new()));
                }
            }
            (Some(_), Some(_)) => open = None,
            (Some(true), None) => {
                let (_, block) = found.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    found
}

/// The README and every page of `docs/` that is written by hand.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    let mut docs: Vec<PathBuf> = std::fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path()).collect();
    docs.sort();
    pages.extend(docs.into_iter().filter(|page| page.extension().is_some_and(|end| end == "md")));
    pages
}

/// Runs `flow-fabric ARGS` as a shell without variables would, and gives what it prints.
fn run(line: &str) -> String {
    let mut ui = Ui::captured("");
    cli::run(line.split_whitespace(), &mut ui);
    let captured = ui.into_captured();
    captured.stdout + &captured.stderr
}

/// Makes the edited copy that a session is about, in the folder of builds.
fn edit(command: &str) {
    std::fs::create_dir_all("target").unwrap();
    assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

#[test]
fn sessions_print_what_the_documentation_shows() {
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut sessions = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for (line, block) in blocks(&text, "console") {
            for session in block.split("$ ").filter(|session| !session.is_empty()) {
                let (command, shown) = session.split_once('\n').unwrap();
                if command.starts_with("sed ") {
                    edit(command);
                    continue;
                }
                if !command.starts_with("flow-fabric ") {
                    continue;
                }
                // The reference of the commands has examples without output.
                if shown.trim().is_empty() {
                    continue;
                }
                assert_eq!(run(command).trim_end(), shown.trim_end(), "{}:{line}: `{command}`", page.display());
                sessions += 1;
            }
        }
    }
    assert!(sessions >= 2, "the README shows a real session");
}

#[test]
fn policies_in_the_readme_are_policies() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let policies: Vec<_> = blocks(&text, "toml");
    assert!(!policies.is_empty());
    for (line, block) in policies {
        let policy = Policy::parse(&format!("README.md:{line}"), &block).unwrap();
        assert_eq!(policy.analyse(&flow_fabric::analysis::Options::default()), [], "line {line}");
    }
}
