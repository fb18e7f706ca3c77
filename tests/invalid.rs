//! What people read when they are wrong: every file of `tests/invalid/` through `flow-fabric check`.
//!
//! `tests/invalid/README.md` says how a case is written. Each case names the codes it must give, in the order in which
//! they are printed, and has a snapshot of its exit status and output in `tests/invalid/snapshots/`.
//! `INSTA_UPDATE=always cargo test --test invalid` rewrites the snapshots; read what changed.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// A case: what to run, and the codes that it must give.
struct Case {
    /// Path below `tests/invalid`, without extension.
    name: String,
    expected: Vec<String>,
    arguments: Vec<String>,
    /// The checkpoint and policy of a recipe, which live in a directory of their own.
    directory: Option<tempfile::TempDir>,
}

/// A case in `checkpoints/`: the files to lay out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    /// What `--against` gets; the first file unless said.
    checkpoint: Option<String>,
    #[serde(default)]
    file: Vec<RecipeFile>,
}

/// A file of a recipe: text, or a safetensors header with as many zero bytes of data.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeFile {
    name: String,
    text: Option<String>,
    header: Option<String>,
    /// The length field, if it is not the header's length.
    length: Option<u64>,
    #[serde(default)]
    data: usize,
}

/// The policy that recipes are checked with: it decides every weight.
const ANY: &str =
    "language = 1\npolicy = \"any\"\n\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = []\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid")
}

/// The TOML files below a directory, sorted, as paths relative to it.
fn toml_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let Ok(entries) = fs::read_dir(directory.join(&below)) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every case. A file whose name begins with `_` is part of others.
fn cases() -> Vec<Case> {
    let files = toml_files(&root());
    let own = |path: &&PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with('_');
    files.iter().filter(own).map(|path| case(path)).collect()
}

fn case(path: &Path) -> Case {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let shown = path.to_str().unwrap();
    let mut lines = text.lines();
    let expected = lines.next().and_then(|line| line.strip_prefix("# expect:"));
    let expected = expected.unwrap_or_else(|| panic!("{shown} does not begin with `# expect:` and its codes"));
    let comment = |key: &str| text.lines().find_map(|line| line.strip_prefix(&format!("# {key}:")));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut arguments = vec!["check".to_owned()];
    let directory = if shown.starts_with("checkpoints/") {
        let (directory, checkpoint) = lay_out(&text);
        arguments.extend(["policy.toml".to_owned(), "--against".to_owned(), checkpoint]);
        Some(directory)
    } else {
        arguments.push(shown.to_owned());
        for checkpoint in comment("against").map(words).unwrap_or_default() {
            arguments.extend(["--against".to_owned(), checkpoint]);
        }
        None
    };
    arguments.extend(comment("arguments").map(words).unwrap_or_default());
    let expected = words(expected).into_iter().filter(|code| code != "none").collect();
    Case { name: path.with_extension("").to_str().unwrap().to_owned(), expected, arguments, directory }
}

/// Writes the files of a recipe; the directory and what `--against` gets.
fn lay_out(recipe: &str) -> (tempfile::TempDir, String) {
    let recipe: Recipe = toml::from_str(recipe).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.toml"), ANY).unwrap();
    for file in &recipe.file {
        let path = directory.path().join(&file.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = match (&file.text, &file.header) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(header)) => {
                let mut bytes = file.length.unwrap_or(header.len() as u64).to_le_bytes().to_vec();
                bytes.extend(header.as_bytes());
                bytes.resize(bytes.len() + file.data, 0);
                bytes
            }
            _ => panic!("`{}` needs either `text` or `header`", file.name),
        };
        fs::write(path, bytes).unwrap();
    }
    let checkpoint = recipe.checkpoint.unwrap_or_else(|| recipe.file[0].name.clone());
    (directory, checkpoint)
}

/// Runs a case as its user would, and writes down what came of it.
fn run(case: &Case) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flow-fabric"));
    command.args(&case.arguments).current_dir(case.directory.as_ref().map_or(root(), |made| made.path().to_owned()));
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "CI", "TERM"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    let mut transcript =
        format!("$ flow-fabric {}\nexit status {}\n", case.arguments.join(" "), output.status.code().unwrap());
    for (title, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        let text = String::from_utf8(bytes).unwrap();
        if !text.is_empty() {
            transcript.push_str(&format!("-- {title}\n{text}"));
        }
    }
    transcript
}

/// The codes of a transcript, in order.
fn codes(transcript: &str) -> Vec<String> {
    let code = |line: &str| {
        let (severity, rest) = line.split_once('[')?;
        ["error", "warning", "info"].contains(&severity).then_some(())?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    transcript.lines().filter_map(code).collect()
}

#[test]
fn every_wrong_file_gives_its_codes_and_reads_as_reviewed() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("invalid/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut wrong = Vec::new();
    for case in cases() {
        let transcript = run(&case);
        let found = codes(&transcript);
        if found != case.expected {
            wrong.push(format!("{}: expected {}, found {}", case.name, case.expected.join(" "), found.join(" ")));
        }
        let file = case.name.replace('/', "__");
        // Every changed snapshot is named, not only the first.
        let asserted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            settings.bind(|| insta::assert_snapshot!(file, transcript));
        }));
        if asserted.is_err() {
            wrong.push(format!("{}: reads otherwise than its snapshot", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_snapshot_is_left_over() {
    let expected: BTreeSet<String> =
        cases().iter().map(|case| format!("{}.snap", case.name.replace('/', "__"))).collect();
    let found: BTreeSet<String> = fs::read_dir(root().join("snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".snap"))
        .collect();
    assert_eq!(found, expected);
}

/// What the JSON Schema says of a TOML file; `None` if it is not TOML.
fn schema_errors(path: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    let document: toml::Table = toml::from_str(&text).ok()?;
    let schema = fs::read_to_string(root().join("../../schemas/policy.schema.json")).unwrap();
    let validator = jsonschema::draft7::new(&serde_json::from_str(&schema).unwrap()).unwrap();
    let document = serde_json::to_value(document).unwrap();
    Some(validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect())
}

#[test]
fn the_schema_refuses_what_is_wrong_in_shape_and_nothing_else() {
    for path in toml_files(&root()) {
        let errors = schema_errors(&root().join(&path));
        let shown = path.display();
        match path.components().next().and_then(|first| first.as_os_str().to_str()).unwrap() {
            "checkpoints" => {}
            "syntax" => assert_eq!(errors, None, "{shown}"),
            "shape" => assert!(errors.is_some_and(|errors| !errors.is_empty()), "{shown} passes the schema"),
            _ if ["_syntax.toml", "_wrong-base.toml", "errors-in-both.toml"]
                .iter()
                .any(|other| path.ends_with(other)) => {}
            _ => assert_eq!(errors.as_deref(), Some(&[][..]), "{shown}"),
        }
    }
}

#[test]
fn the_schema_takes_every_shipped_policy() {
    let mut checked = 0;
    for directory in ["policies", "examples"] {
        let directory = root().join("../..").join(directory);
        for path in toml_files(&directory) {
            assert_eq!(schema_errors(&directory.join(&path)).as_deref(), Some(&[][..]), "{}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 11, "only {checked} policies were found");
}
