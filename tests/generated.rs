//! Files that are generated and committed are what their generators give.
//!
//! `UPDATE_GENERATED=1 cargo test --test generated` rewrites them all.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flow_fabric::finding::{CODES, FindingsDocument, page, render};
use flow_fabric::source::Sources;
use flow_fabric::{cli, policy, schema};

/// Every generated file: its path in the repository, and its text. Add new kinds here.
fn generated() -> BTreeMap<String, String> {
    let schemas =
        schema::ALL.iter().map(|document| (format!("schemas/{}.schema.json", document.name), document.text()));
    let pages = [
        ("docs/cli.md".to_owned(), cli::reference()),
        ("docs/findings.md".to_owned(), findings()),
        ("docs/policy.md".to_owned(), policy::reference()),
    ];
    schemas.chain(pages).collect()
}

/// The reference of the findings: a table of all, then a page for each. It is also the record of codes and names that
/// reviewers see change: a code is never given to another kind of finding.
fn findings() -> String {
    let rows = CODES.iter().map(|code| {
        let what = code.what.replace('|', "\\|");
        let anchor = format!("{}-{}", code.id.to_lowercase(), code.name);
        format!("| [{}](#{anchor}) | `{}` | {} | {what} |\n", code.id, code.name, code.severity.name())
    });
    let pages = CODES.iter().map(|code| format!("\n{}", page::markdown(code)));
    let head = "# Findings\n\n| code | name | severity | what |\n|---|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(rows).chain(pages).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn generated_files_are_up_to_date() {
    let update = std::env::var_os("UPDATE_GENERATED").is_some();
    let mut stale = Vec::new();
    for (name, text) in generated() {
        let path = root().join(&name);
        if std::fs::read_to_string(&path).ok().as_ref() == Some(&text) {
            continue;
        }
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        } else {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "run `UPDATE_GENERATED=1 cargo test --test generated` to refresh {}", stale.join(", "));
}

#[test]
fn every_committed_schema_has_a_generator() {
    let generated = generated();
    for entry in std::fs::read_dir(root().join("schemas")).unwrap() {
        let name = format!("schemas/{}", entry.unwrap().file_name().to_str().unwrap());
        assert!(generated.contains_key(&name), "nothing generates {name}");
    }
}

#[test]
fn schemas_are_valid_draft_07_and_describe_what_is_written() {
    for document in schema::ALL {
        let schema = document.schema().to_value();
        jsonschema::draft7::meta::validate(&schema).unwrap();
    }
    let validator = jsonschema::draft7::new(&schema::by_name("findings").unwrap().schema().to_value()).unwrap();
    let options = render::Options::default();
    let document = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let empty = document(&render::render(render::Format::Json, &[], &Sources::default(), &options));
    assert!(validator.is_valid(&empty));
    let snapshot = std::fs::read_to_string(root().join("tests/snapshots/findings__json.snap")).unwrap();
    let (_, text) = snapshot.split_once("\n---\n").unwrap();
    let errors: Vec<String> = validator.iter_errors(&document(text)).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
    let read: FindingsDocument = serde_json::from_str(text).unwrap();
    assert_eq!(read.counts.total(), read.findings.len());
    let mut wrong = empty;
    wrong["format_version"] = 2.into();
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn generated_text_ends_with_one_newline_and_has_no_trailing_spaces() {
    for (name, text) in generated() {
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
        assert!(!text.lines().any(|line| line.ends_with(' ')), "{name}");
        assert!(Path::new(&name).is_relative());
    }
}
