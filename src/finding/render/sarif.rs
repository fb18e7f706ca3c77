//! SARIF 2.1.0 (OASIS standard, 2020) for code scanning.
//!
//! Every code of the registry is a rule of the tool. A result's fingerprint is made of its code, file and the text it
//! points at, not of its line, so that it survives edits above it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::finding::{CODES, Code, Finding, Label, Place, Severity, page};
use crate::source::Sources;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub(super) fn render(findings: &[Finding], sources: &Sources) -> String {
    let mut seen = BTreeMap::new();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, sources, &mut seen)).collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "flow-fabric",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": CODES.iter().map(|code| rule(code)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn rule(code: &Code) -> Value {
    json!({
        "id": code.id,
        "name": pascal_case(code.name),
        "shortDescription": { "text": code.what },
        "fullDescription": { "text": format!("{} {}", code.what, code.why) },
        "help": { "text": page::text(code), "markdown": page::markdown(code) },
        "defaultConfiguration": { "level": level(code.severity) },
    })
}

fn result(finding: &Finding, sources: &Sources, seen: &mut BTreeMap<u64, u32>) -> Value {
    let mut result = json!({
        "ruleId": finding.code.id,
        "ruleIndex": CODES.iter().position(|code| code.id == finding.code.id),
        "level": level(finding.severity),
        "message": { "text": message(finding) },
        "partialFingerprints": fingerprints(finding, sources, seen),
    });
    if let Some((primary, others)) = finding.labels.split_first() {
        // The primary's own text is part of the message: GitHub shows no other.
        result["locations"] = json!([location(primary, sources)]);
        let related: Vec<Value> = (1..)
            .zip(others)
            .map(|(id, label)| {
                let mut location = location(label, sources);
                location["id"] = json!(id);
                if !label.text.is_empty() {
                    location["message"] = json!({ "text": label.text });
                }
                location
            })
            .collect();
        if !related.is_empty() {
            result["relatedLocations"] = json!(related);
        }
    }
    result
}

fn message(finding: &Finding) -> String {
    let mut text = finding.message.clone();
    let label = finding.labels.first().map(|label| label.text.as_str()).filter(|text| !text.is_empty());
    let help = finding.help.as_ref().map(|help| format!("help: {help}"));
    let notes = finding.notes.iter().map(|note| format!("note: {note}"));
    for line in label.map(str::to_owned).into_iter().chain(help).chain(notes) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

fn location(label: &Label, sources: &Sources) -> Value {
    match &label.place {
        Place::Text(span) => {
            let (start, end) = (sources.start(*span), sources.end(*span));
            json!({ "physicalLocation": {
                "artifactLocation": { "uri": uri(sources.name(span.source)) },
                "region": {
                    "startLine": start.line,
                    "startColumn": start.column,
                    "endLine": end.line,
                    "endColumn": end.column,
                    "snippet": { "text": sources.snippet(*span) },
                },
            }})
        }
        Place::File { path, offset } => {
            let mut physical = json!({ "artifactLocation": { "uri": uri(path) } });
            if let Some(offset) = offset {
                physical["region"] = json!({ "byteOffset": offset, "byteLength": 0 });
            }
            json!({ "physicalLocation": physical })
        }
    }
}

/// A file name as a relative reference (RFC 3986), or as `file:` when it is absolute.
fn uri(name: &str) -> String {
    if name == "-" {
        return "stdin".to_owned();
    }
    let mut uri = String::from(if name.starts_with('/') { "file://" } else { "" });
    let path = name.strip_prefix("./").unwrap_or(name);
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' | b'+' | b',' | b'=' | b'@' => {
                uri.push(char::from(byte));
            }
            b'\\' if cfg!(windows) => uri.push('/'),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// The hash of what the finding is about, and how many with the same hash came before it.
fn fingerprints(finding: &Finding, sources: &Sources, seen: &mut BTreeMap<u64, u32>) -> Value {
    let mut hash = Fnv::new();
    hash.field(finding.code.id);
    match finding.labels.first().map(|label| &label.place) {
        Some(Place::Text(span)) => {
            hash.field(sources.name(span.source));
            hash.field(sources.snippet(*span));
        }
        Some(Place::File { path, .. }) => {
            hash.field(path);
            hash.field(&finding.message);
        }
        None => hash.field(&finding.message),
    }
    let nth = seen.entry(hash.0).and_modify(|nth| *nth += 1).or_insert(1);
    let value = format!("{:016x}:{nth}", hash.0);
    // The first is ours and says how it was made; the second is the only one that GitHub compares.
    json!({ "flowFabricFinding/v1": value, "primaryLocationLineHash": value })
}

/// FNV-1a, 64 bits: the same on every platform and in every version.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn field(&mut self, text: &str) {
        // 0xFF is no byte of UTF-8, so it ends a field unmistakably.
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// `unknown-key` as SARIF wants rule names: `UnknownKey`.
fn pascal_case(name: &str) -> String {
    name.split('-')
        .flat_map(|word| {
            let mut chars = word.chars();
            chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_uris() {
        assert_eq!(uri("./policies/grok 1#.toml"), "policies/grok%201%23.toml");
        assert_eq!(uri("/tmp/a.toml"), "file:///tmp/a.toml");
        assert_eq!(uri("-"), "stdin");
        assert_eq!(uri("β.toml"), "%CE%B2.toml");
        assert_eq!(uri("c:x"), "c%3Ax");
    }

    #[test]
    fn rule_names_are_pascal_case() {
        assert_eq!(pascal_case("unknown-key"), "UnknownKey");
    }
}
