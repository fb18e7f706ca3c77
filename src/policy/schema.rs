//! The JSON Schema and the reference page of the policy language, made from the description that the checker uses.

use std::fmt::Write as _;

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::check::type_name;
use super::language::{Field, Kind, POLICY, Presence, Shape};

/// The schema of a policy file.
#[expect(clippy::needless_pass_by_value, reason = "the registry of schemas takes builders of one type")]
pub(crate) fn schema(generator: SchemaGenerator) -> Schema {
    let mut root = table(&POLICY);
    if let (Some(object), Some(uri)) = (root.as_object_mut(), generator.settings().meta_schema.clone()) {
        object.insert("$schema".to_owned(), Value::String(uri.into_owned()));
        object.insert("title".to_owned(), Value::String("flow-fabric policy".to_owned()));
    }
    Schema::try_from(root).unwrap_or_default()
}

fn table(shape: &Shape) -> Value {
    let properties: Map<String, Value> =
        shape.fields.iter().map(|field| (field.key.to_owned(), property(field))).collect();
    let required: Vec<&str> =
        shape.fields.iter().filter(|field| field.presence == Presence::Required).map(|field| field.key).collect();
    let mut object = json!({
        "type": "object",
        "description": shape.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if let (false, Some(object)) = (required.is_empty(), object.as_object_mut()) {
        object.insert("required".to_owned(), json!(required));
    }
    object
}

fn property(field: &Field) -> Value {
    let mut value = kind(&field.kind);
    if let Some(object) = value.as_object_mut() {
        object.insert("description".to_owned(), json!(field.doc));
        if let Presence::Default(text) = field.presence
            && let Ok(default) = serde_json::from_str::<Value>(default(text).0)
        {
            object.insert("default".to_owned(), default);
        }
    }
    value
}

fn kind(kind_of: &Kind) -> Value {
    match kind_of {
        Kind::String(_) => json!({ "type": "string" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer { min, max } if *max == i64::MAX => json!({ "type": "integer", "minimum": min }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number { min, max } if *max == f64::MAX => json!({ "type": "number", "minimum": min }),
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        // One `const` per word carries its meaning into completions; a plain `enum` would not.
        Kind::Words(words) => {
            let options: Vec<Value> =
                words.iter().map(|word| json!({ "const": word.word, "description": word.doc })).collect();
            json!({ "type": "string", "oneOf": options })
        }
        Kind::List(item) => json!({ "type": "array", "items": kind(item) }),
        Kind::Table(shape) => table(shape),
        Kind::Named(member) => json!({ "type": "object", "additionalProperties": kind(member) }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(kind).collect::<Vec<_>>() }),
    }
}

/// The reference page: every table with its keys, types, defaults and meanings, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# Policy language\n\nEvery key of language version 1. Tables that appear in several places are described once.\n",
    );
    let mut seen: Vec<*const Shape> = Vec::new();
    describe(&POLICY, &mut seen, &mut page);
    page
}

fn describe(shape: &'static Shape, seen: &mut Vec<*const Shape>, page: &mut String) {
    if seen.contains(&std::ptr::from_ref(shape)) {
        return;
    }
    seen.push(shape);
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "\n## {}\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
        title(shape),
        shape.doc
    );
    for field in shape.fields {
        let default = match field.presence {
            Presence::Required => "required".to_owned(),
            Presence::Optional => String::new(),
            Presence::Default(text) if text.starts_with('(') => text.trim_matches(['(', ')']).to_owned(),
            Presence::Default(text) => {
                let (default, otherwise) = default(text);
                format!("`{default}`{otherwise}")
            }
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {default} | {} |",
            field.key,
            escape(&full_type(&field.kind)),
            escape(field.doc)
        );
    }
    for field in shape.fields {
        words(field.key, &field.kind, page);
    }
    for field in shape.fields {
        inner(&field.kind, &mut |shape| describe(shape, seen, page));
    }
}

/// A default, and where another holds.
fn default(text: &'static str) -> (&'static str, &'static str) {
    text.split_at(text.find(" (").unwrap_or(text.len()))
}

fn title(shape: &Shape) -> String {
    if shape.title == POLICY.title { "The document".to_owned() } else { format!("`{}`", shape.title) }
}

/// Lists the words that a key takes, with their meanings.
fn words(key: &str, kind: &Kind, page: &mut String) {
    match kind {
        Kind::Words(words) if words.len() > 1 => {
            let _ = write!(page, "\n`{key}` is one of\n\n");
            for word in *words {
                let _ = writeln!(page, "- `{}`: {}", word.word, word.doc);
            }
        }
        Kind::Either(kinds) => kinds.iter().for_each(|kind| words(key, kind, page)),
        Kind::List(kind) | Kind::Named(kind) => words(key, kind, page),
        _ => {}
    }
}

fn inner(kind: &'static Kind, visit: &mut impl FnMut(&'static Shape)) {
    match kind {
        Kind::Table(shape) => visit(shape),
        Kind::List(kind) | Kind::Named(kind) => inner(kind, visit),
        Kind::Either(kinds) => kinds.iter().for_each(|kind| inner(kind, visit)),
        _ => {}
    }
}

fn full_type(kind: &Kind) -> String {
    match kind {
        Kind::List(item) => format!("array of {}", full_type(item)),
        Kind::Named(member) => format!("table of {}", full_type(member)),
        Kind::Table(shape) => format!("[`{}`]", shape.title),
        Kind::Either(kinds) => kinds.iter().map(full_type).collect::<Vec<_>>().join(" or "),
        Kind::Words(words) if words.len() > 4 => "a word, below".to_owned(),
        Kind::Integer { min, max } if *max == i64::MAX => format!("an integer from {min}"),
        Kind::Integer { min, max } if min == max => format!("the integer {min}"),
        Kind::Integer { min, max } => format!("an integer, {min} to {max}"),
        Kind::String(what) => format!("a string ({what})"),
        other => type_name(other),
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}
