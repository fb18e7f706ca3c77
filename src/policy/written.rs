//! What a policy says, key by key, in one spelling of TOML: what diffs compare and snapshots quote.

use std::fmt::Write as _;

use indexmap::IndexMap;

use super::load::RULE_TABLES;
use super::node::{Node, Table, Value};

/// Keys and their values as TOML on one line, whatever lines, quotes and comments the file has: `spec` is
/// `["data", "model"]`.
pub type Written = IndexMap<String, String>;

/// Tables of named tables: a setting of theirs is called `scheme.int8.format`.
const NAMED: &[&str] = &["scheme", "sampler", "moe", "slot", "stored"];
/// Tables of settings, called `partition.unmatched`.
const SETTINGS: &[&str] = &["partition", "quantization", "loader", "layers", "sensitive"];
/// What is no setting: what a plan resolves by itself (`mesh`), what says something about the file, tests, levels.
const NO_SETTINGS: &[&str] = &["mesh", "language", "policy", "extends", "expect", "lints"];

/// Everything that a policy says besides its rules and its mesh, in the order of the file.
pub(super) fn settings(document: &Table) -> Written {
    let mut written = Written::new();
    for (key, node) in &document.entries {
        let key = key.value.as_str();
        if RULE_TABLES.contains(&key) || NO_SETTINGS.contains(&key) {
            continue;
        }
        let depth = if NAMED.contains(&key) { 2 } else { usize::from(SETTINGS.contains(&key)) };
        flatten(key.to_owned(), node, depth, &mut written);
    }
    written
}

/// What one rule says besides its name.
pub(super) fn rule(table: &Table) -> Written {
    let entries = table.entries.iter().filter(|(key, _)| !["name", "override"].contains(&key.value.as_str()));
    entries.map(|(key, node)| (key.value.clone(), inline(node))).collect()
}

/// What is set of a named thing, on one line: `format = "int8", scale_dtype = "bf16"` of `scheme` `int8`.
pub(crate) fn of(settings: &Written, table: &str, name: &str) -> String {
    let prefix = format!("{table}.{}.", bare(name));
    let own = settings.iter().filter_map(|(key, value)| Some(format!("{} = {value}", key.strip_prefix(&prefix)?)));
    own.collect::<Vec<_>>().join(", ")
}

/// Cuts the name of a setting: `scheme.int8.format` into `scheme`, `int8` and `format`; `partition.unmatched` has no
/// name, and `separators` is its own table.
pub(crate) fn cut(setting: &str) -> (&str, Option<&str>, &str) {
    let Some((table, rest)) = setting.split_once('.') else { return (setting, None, "") };
    if !NAMED.contains(&table) {
        return (table, None, rest);
    }
    let name = if rest.starts_with('"') || rest.starts_with('\'') { quoted(rest) } else { rest.find('.') };
    match name.and_then(|end| Some((rest.get(..end)?, rest.get(end..)?))) {
        Some((name, key)) => (table, Some(name), key.trim_start_matches('.')),
        None => (table, Some(rest), ""),
    }
}

/// Where a quoted name ends.
fn quoted(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    let mut escaped = false;
    for (at, c) in chars {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

fn flatten(key: String, node: &Node, depth: usize, written: &mut Written) {
    match &node.value {
        Value::Table(table) if depth > 0 => {
            for (name, node) in &table.entries {
                flatten(format!("{key}.{name}", name = bare(&name.value)), node, depth - 1, written);
            }
        }
        _ => {
            written.insert(key, inline(node));
        }
    }
}

fn inline(node: &Node) -> String {
    match &node.value {
        Value::String(text) => string(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(flag) => flag.to_string(),
        // A policy with either is refused.
        Value::Datetime | Value::Unread => "?".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Table(table) if table.entries.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let entry = |(key, node): &(crate::source::Spanned<String>, Node)| {
                format!("{} = {}", bare(&key.value), inline(node))
            };
            format!("{{ {} }}", table.entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A key as it may stand without quotes, or quoted.
fn bare(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(plain) { key.to_owned() } else { string(key) }
}

/// Quoted; patterns with backslashes stay as people write them.
fn string(text: &str) -> String {
    let literal = |c: char| c != '\'' && !c.is_control();
    if (text.contains('\\') || text.contains('"')) && text.chars().all(literal) {
        return format!("'{text}'");
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn document(text: &str) -> Table {
        let mut sources = Sources::default();
        let id = sources.add("x.toml", text);
        let mut findings = Vec::new();
        let table = crate::policy::syntax::parse(&sources, id, &mut findings).table;
        assert!(findings.is_empty(), "{findings:?}");
        table
    }

    /// `key value` lines.
    fn lines(written: &Written) -> Vec<String> {
        written.iter().map(|(key, value)| format!("{key} {value}")).collect()
    }

    #[test]
    fn one_spelling_whatever_the_file_s() {
        let table = document(
            r#"
            name = "x"
            override = true
            regex = "a\\d+" # the number
            except = [
                'b',
                { path = "c\"d" },
            ]
            when = { rank = [2, 3], layer = { first = "1/8" } }
            "it's" = "it's\n"
            fraction = 1e-1
            force = true
            "#,
        );
        assert_eq!(
            lines(&rule(&table)),
            [
                r"regex 'a\d+'",
                r#"except ["b", { path = 'c"d' }]"#,
                r#"when { rank = [2, 3], layer = { first = "1/8" } }"#,
                r#"it's "it's\n""#,
                "fraction 0.1",
                "force true",
            ]
        );
    }

    #[test]
    fn settings_go_by_the_table_they_stand_in() {
        let table = document(
            r#"
            language = 1
            separators = ["/"]
            [mesh]
            axes = ["model"]
            [partition]
            unmatched = "error"
            [scheme.int8]
            granularity = { group = 128 }
            [[QUANTIZATION_RULES]]
            name = "x"
            [sampler."a b"]
            seed = 7
            [lints]
            unused-rule = "deny"
            "#,
        );
        assert_eq!(
            lines(&settings(&table)),
            [
                r#"separators ["/"]"#,
                r#"partition.unmatched "error""#,
                "scheme.int8.granularity { group = 128 }",
                r#"sampler."a b".seed 7"#,
            ]
        );
        let cuts = [
            ("separators", ("separators", None, "")),
            ("partition.unmatched", ("partition", None, "unmatched")),
            ("scheme.int8.granularity", ("scheme", Some("int8"), "granularity")),
            ("sampler.x", ("sampler", Some("x"), "")),
            (r#"sampler."a b".seed"#, ("sampler", Some(r#""a b""#), "seed")),
            (r#"sampler."a\".b".seed"#, ("sampler", Some(r#""a\".b""#), "seed")),
            (r"stored.'a\.b'.weight.suffix", ("stored", Some(r"'a\.b'"), "weight.suffix")),
        ];
        for (setting, parts) in cuts {
            assert_eq!(cut(setting), parts, "{setting}");
        }
    }
}
