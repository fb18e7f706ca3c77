//! Checks a parsed document against the language: unknown keys, missing keys, types, words, ranges. Reports everything.

use super::language::{Field, Kind, Presence, Shape};
use super::node::{Node, Table, Value};
use crate::finding::{Finding, code, suggest};
use crate::source::Span;

/// Checks a table; `span` is where to point when a key is missing.
pub(crate) fn table(table: &Table, shape: &'static Shape, span: Span, findings: &mut Vec<Finding>) {
    for (key, node) in &table.entries {
        match shape.fields.iter().find(|field| field.key == key.value) {
            Some(field) => value(node, &field.kind, &Context::Key(field), findings),
            None => findings.push(unknown_key(shape, &key.value, key.span)),
        }
    }
    for field in shape.fields {
        if field.presence == Presence::Required && table.get(field.key).is_none() {
            findings.push(
                Finding::new(&code::MISSING_KEY, format!("{} has no `{}`", place(shape), field.key))
                    .at(span, "")
                    .help(format!("`{}`: {}", field.key, sentence(field.doc))),
            );
        }
    }
}

/// What a value belongs to, for messages.
enum Context<'a> {
    Key(&'a Field),
    Item(&'a Context<'a>),
    Name(&'a Context<'a>, &'a str),
}

impl Context<'_> {
    fn describe(&self) -> String {
        match self {
            Context::Key(field) => format!("`{}`", field.key),
            Context::Item(of) => format!("an element of {}", of.describe()),
            Context::Name(of, name) => format!("`{name}` of {}", of.describe()),
        }
    }
}

fn value(node: &Node, kind: &'static Kind, context: &Context<'_>, findings: &mut Vec<Finding>) {
    match (kind, &node.value) {
        (Kind::String(_), Value::String(_)) | (Kind::Boolean, Value::Boolean(_)) => {}
        (Kind::Integer { min, max }, Value::Integer(number)) => {
            if number < min || number > max {
                let help = if *max == i64::MAX { format!("at least {min}") } else { format!("{min} to {max}") };
                findings.push(
                    Finding::new(&code::BAD_VALUE, format!("{} cannot be {number}", context.describe()))
                        .at(node.span, "")
                        .help(help),
                );
            }
        }
        (Kind::Number { min, max }, Value::Integer(_) | Value::Float(_)) => {
            let number = number(&node.value).unwrap_or(f64::NAN);
            if !(*min..=*max).contains(&number) {
                let help = if *max == f64::MAX { format!("at least {min}") } else { format!("{min} to {max}") };
                findings.push(
                    Finding::new(&code::BAD_VALUE, format!("{} cannot be {number}", context.describe()))
                        .at(node.span, "")
                        .help(help),
                );
            }
        }
        (Kind::Words(words), Value::String(text)) => {
            if !words.iter().any(|word| word.word == text) {
                findings.push(unknown_word(
                    text,
                    node.span,
                    &words.iter().map(|word| word.word).collect::<Vec<_>>(),
                    context,
                ));
            }
        }
        (Kind::List(item), Value::Array(nodes)) => {
            for node in nodes {
                value(node, item, &Context::Item(context), findings);
            }
        }
        (Kind::Table(shape), Value::Table(inner)) => table(inner, shape, node.span, findings),
        (Kind::Named(kind), Value::Table(inner)) => {
            for (name, node) in &inner.entries {
                value(node, kind, &Context::Name(context, &name.value), findings);
            }
        }
        (Kind::Either(kinds), found) => either(node, kinds, found, context, findings),
        (_, found) => findings.push(wrong_type(kind, found, node.span, context)),
    }
}

/// Takes the kind that fits the value's TOML type; free strings win over words.
fn either(node: &Node, kinds: &'static [Kind], found: &Value, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let fits = |kind: &&Kind| match (kind, found) {
        (Kind::String(_) | Kind::Words(_), Value::String(_))
        | (Kind::Boolean, Value::Boolean(_))
        | (Kind::Integer { .. }, Value::Integer(_))
        | (Kind::Number { .. }, Value::Integer(_) | Value::Float(_))
        | (Kind::List(_), Value::Array(_))
        | (Kind::Table(_) | Kind::Named(_), Value::Table(_)) => true,
        (_, _) => false,
    };
    match kinds.iter().find(fits) {
        Some(kind) => value(node, kind, context, findings),
        None => {
            let wanted = kinds.iter().map(type_name).collect::<Vec<_>>().join(" or ");
            findings.push(
                Finding::new(
                    &code::WRONG_TYPE,
                    format!("{} is {}, not {}", context.describe(), wanted, found.type_name()),
                )
                .at(node.span, format!("{} here", found.type_name())),
            );
        }
    }
}

/// The number behind an integer or float.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "sampler settings; 2^53 and more means the same there")]
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn wrong_type(kind: &Kind, found: &Value, span: Span, context: &Context<'_>) -> Finding {
    let finding = Finding::new(
        &code::WRONG_TYPE,
        format!("{} is {}, not {}", context.describe(), type_name(kind), found.type_name()),
    )
    .at(span, format!("{} here", found.type_name()));
    match (kind, found) {
        (Kind::List(_), Value::String(_)) => finding.help("put it in brackets"),
        (Kind::Integer { .. }, Value::String(_)) => finding.help("write it without quotes"),
        (Kind::List(Kind::Table(_)), Value::Table(_)) => finding.help("write the header with two brackets, `[[..]]`"),
        _ => finding,
    }
}

/// A kind's name in messages.
pub(crate) fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::String(what) => match *what {
            "" => "a string".to_owned(),
            what => format!("a string ({what})"),
        },
        Kind::Words(words) if words.len() <= 4 => {
            words.iter().map(|word| format!("`\"{}\"`", word.word)).collect::<Vec<_>>().join(" or ")
        }
        Kind::Words(_) => "a word".to_owned(),
        Kind::Boolean => "a boolean".to_owned(),
        Kind::Integer { .. } => "an integer".to_owned(),
        Kind::Number { .. } => "a number".to_owned(),
        Kind::List(_) => "an array".to_owned(),
        Kind::Table(_) | Kind::Named(_) => "a table".to_owned(),
        Kind::Either(kinds) => kinds.iter().map(type_name).collect::<Vec<_>>().join(" or "),
    }
}

fn unknown_word(text: &str, span: Span, words: &[&str], context: &Context<'_>) -> Finding {
    let listed = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let help = match suggest::did_you_mean(text, words.iter().copied()) {
        Some(guess) => format!("{guess} it takes {listed}"),
        None => format!("it takes {listed}"),
    };
    Finding::new(&code::BAD_VALUE, format!("{} cannot be `{text}`", context.describe())).at(span, "").help(help)
}

fn unknown_key(shape: &'static Shape, key: &str, span: Span) -> Finding {
    let keys = shape.fields.iter().map(|field| field.key);
    let finding = Finding::new(&code::UNKNOWN_KEY, format!("{} has no key `{key}`", place(shape))).at(span, "");
    let known = || shape.fields.iter().map(|field| format!("`{}`", field.key)).collect::<Vec<_>>().join(", ");
    match suggest::did_you_mean(key, keys) {
        Some(guess) => finding.help(guess),
        None if shape.fields.len() <= 12 => finding.help(format!("its keys are {}", known())),
        None => finding.help("`flow-fabric schema policy` and the language reference list its keys"),
    }
}

fn place(shape: &Shape) -> String {
    if shape.title == "Policy" { "the policy".to_owned() } else { format!("`{}`", shape.title) }
}

/// A doc sentence as it stands in a help line: without the final period.
fn sentence(doc: &str) -> &str {
    doc.trim_end_matches('.')
}
