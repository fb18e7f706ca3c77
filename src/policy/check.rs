//! Checks a parsed document against the language: unknown keys, missing keys, types, words, ranges. Reports everything.

use super::language::{self, Field, Kind, Presence, Shape};
use super::node::{Node, Table, Value};
use crate::finding::{Finding, code, suggest};
use crate::source::{Sources, Span, Spanned};

/// Checks the document of one file; `span` is where to point when it lacks a key.
///
/// A key that is nearly one of the language is taken for that one, unread: its absence is not reported again. The keys that
/// a setting like `[mesh]` needs may come from any file; see [`merged`].
pub(crate) fn document(document: &mut Table, span: Span, sources: &Sources, findings: &mut Vec<Finding>) {
    let mut checker = Checker { sources, findings };
    checker.table(document, &language::POLICY, span, &Place::Policy, true);
}

/// Checks the settings of a merged document for keys that no file gives.
pub(crate) fn merged(document: &Table, sources: &Sources, findings: &mut Vec<Finding>) {
    let mut checker = Checker { sources, findings };
    for field in language::POLICY.fields {
        if let (Kind::Table(shape), Some(node)) = (&field.kind, document.get(field.key))
            && let Some(table) = node.as_table()
        {
            checker.missing(table, shape, node.span, &Place::Section(field.key));
        }
    }
}

/// Which table a key stands in, for messages.
enum Place {
    Policy,
    /// A table that there is once, by its key.
    Section(&'static str),
    /// One of a list, by the list's key, with the name that it gives itself.
    Element(&'static str, Option<String>),
    /// One of those that users name: the key that they stand under, and the name.
    Named(&'static str, String),
}

impl Place {
    fn describe(&self) -> String {
        match self {
            Place::Policy => "the policy".to_owned(),
            Place::Section(key) => format!("`{key}`"),
            Place::Element(_, Some(name)) => format!("rule `{name}`"),
            Place::Element("except" | "exclude" | "tensors" | "patterns", None) => "a pattern".to_owned(),
            Place::Element(key @ ("spec" | "rename"), None) => format!("an entry of `{key}`"),
            Place::Element("expect", None) => "an `[[expect]]`".to_owned(),
            Place::Element("tie", None) => "a `[[tie]]`".to_owned(),
            Place::Element(key, None) => format!("a rule of `{key}`"),
            Place::Named("lints", name) => format!("lint `{name}`"),
            Place::Named("moe", name) => format!("moe profile `{name}`"),
            Place::Named("stored", name) => format!("stored layout `{name}`"),
            Place::Named(key, name) => format!("{key} `{name}`"),
        }
    }
}

/// What a value belongs to, for messages.
#[derive(Clone, Copy)]
enum Context<'a> {
    Key(&'a Field),
    Item(&'a Field),
    Name(&'a Field, &'a str),
}

impl Context<'_> {
    fn describe(self) -> String {
        match self {
            Context::Key(field) => format!("`{}`", field.key),
            Context::Item(of) => format!("an element of `{}`", of.key),
            Context::Name(of, name) => format!("`{}.{name}`", of.key),
        }
    }

    /// The place of keys inside the value, which is a table.
    fn place(self, table: &Table) -> Place {
        match self {
            Context::Key(field) => Place::Section(field.key),
            Context::Item(field) => {
                let named = super::load::RULE_TABLES.contains(&field.key);
                let name = table.get("name").filter(|_| named).and_then(Node::as_str);
                Place::Element(field.key, name.map(|name| name.value.to_owned()))
            }
            Context::Name(field, name) => Place::Named(field.key, name.to_owned()),
        }
    }
}

struct Checker<'a> {
    sources: &'a Sources,
    findings: &'a mut Vec<Finding>,
}

impl Checker<'_> {
    fn table(&mut self, table: &mut Table, shape: &'static Shape, span: Span, place: &Place, whole: bool) {
        let mut meant: Vec<(Spanned<String>, Node)> = Vec::new();
        let keys: Vec<String> = table.entries.iter().map(|(key, _)| key.value.clone()).collect();
        for (key, node) in &mut table.entries {
            if let Some(field) = shape.fields.iter().find(|field| field.key == key.value) {
                self.value(node, &field.kind, Context::Key(field));
                continue;
            }
            let near = suggest::nearest(&key.value, shape.fields.iter().map(|field| field.key));
            self.findings.push(unknown_key(shape, place, key, &near));
            if let [near] = near[..]
                && !keys.iter().any(|key| key == near)
            {
                meant.push((Spanned::new(near.to_owned(), key.span), Node { value: Value::Unread, span: node.span }));
            }
        }
        table.entries.extend(meant);
        if whole {
            self.missing(table, shape, span, place);
        }
    }

    fn missing(&mut self, table: &Table, shape: &'static Shape, span: Span, place: &Place) {
        let absent = |field: &&Field| field.presence == Presence::Required && table.get(field.key).is_none();
        for field in shape.fields.iter().filter(absent).filter(|_| !table.torn) {
            self.findings.push(
                Finding::new(&code::MISSING_KEY, format!("{} has no `{}`", place.describe(), field.key))
                    .at(span, "")
                    .help(format!("add `{} = {}`: {}", field.key, blank(&field.kind), first_sentence(field.doc))),
            );
        }
    }

    fn value(&mut self, node: &mut Node, kind: &'static Kind, context: Context<'_>) {
        let span = node.span;
        match (kind, &mut node.value) {
            (_, Value::Unread) | (Kind::String(_), Value::String(_)) | (Kind::Boolean, Value::Boolean(_)) => {}
            (Kind::Integer { min, max }, Value::Integer(number)) => {
                if *number < *min || *number > *max {
                    let help = match (*min, *max) {
                        (min, i64::MAX) => format!("at least {min}"),
                        (min, max) if min == max => format!("this version reads {min} only"),
                        (min, max) => format!("{min} to {max}"),
                    };
                    self.findings.push(bad_value(format!("{} cannot be {number}", context.describe()), span, help));
                    node.value = Value::Unread;
                }
            }
            (Kind::Number { min, max }, value @ (Value::Integer(_) | Value::Float(_))) => {
                let number = number(value).unwrap_or(f64::NAN);
                if !(*min..=*max).contains(&number) {
                    let help = if *max == f64::MAX { format!("at least {min}") } else { format!("{min} to {max}") };
                    self.findings.push(bad_value(format!("{} cannot be {number}", context.describe()), span, help));
                    node.value = Value::Unread;
                }
            }
            (Kind::Words(words), Value::String(text)) => {
                if !words.iter().any(|word| word.word == text) {
                    let words: Vec<&str> = words.iter().map(|word| word.word).collect();
                    let message = format!("{} cannot be `{text}`", context.describe());
                    let help = suggest::help_for(text, words.iter().copied(), "it takes").unwrap_or_default();
                    self.findings.push(bad_value(message, span, help));
                    node.value = Value::Unread;
                }
            }
            (Kind::List(item), Value::Array(nodes)) => {
                let context = match context {
                    Context::Key(field) | Context::Item(field) => Context::Item(field),
                    name @ Context::Name(..) => name,
                };
                for node in nodes {
                    self.value(node, item, context);
                }
            }
            (Kind::Table(shape), Value::Table(inner)) => {
                let place = context.place(inner);
                // Settings merge over files, so only all of them together can lack a key.
                let whole = !matches!(context, Context::Key(field) if is_setting(field));
                self.table(inner, shape, span, &place, whole);
            }
            (Kind::Named(kind), Value::Table(inner)) => self.named(inner, kind, context),
            (Kind::Either(kinds), found) => match kinds.iter().find(|kind| fits(kind, found)) {
                Some(kind) => self.value(node, kind, context),
                None => self.wrong_type(node, kind, context),
            },
            (_, _) => self.wrong_type(node, kind, context),
        }
    }

    /// A table of names that users choose.
    fn named(&mut self, table: &mut Table, kind: &'static Kind, context: Context<'_>) {
        let Context::Key(field) = context else { return };
        if let Kind::Table(shape) = kind
            && let Some((key, _)) = table.entries.iter().find(|(key, node)| {
                !matches!(node.value, Value::Table(_) | Value::Unread)
                    && shape.fields.iter().any(|field| field.key == key.value)
            })
        {
            let section = field.key;
            self.findings.push(
                Finding::new(
                    &code::WRONG_TYPE,
                    format!("`{section}` holds tables by name, and `{key}` is a key of one"),
                )
                .at(key.span, "")
                .help(format!("give it a name: `[{section}.NAME]`")),
            );
            table.torn = true;
            return;
        }
        for (name, node) in &mut table.entries {
            self.value(node, kind, Context::Name(field, &name.value));
        }
    }

    fn wrong_type(&mut self, node: &mut Node, kind: &'static Kind, context: Context<'_>) {
        let found = node.value.type_name();
        let message = format!("{} takes {}, not {found}", context.describe(), type_name(kind));
        let finding = Finding::new(&code::WRONG_TYPE, message).at(node.span, "");
        self.findings.push(match self.way_out(node, kind, context) {
            Some(help) => finding.help(help),
            None => finding,
        });
        node.value = Value::Unread;
    }

    /// What to write instead of a value of the wrong type.
    fn way_out(&self, node: &Node, kind: &'static Kind, context: Context<'_>) -> Option<String> {
        let written = self.sources.snippet(node.span);
        let one_line = !written.contains('\n') && written.len() <= 60;
        let kinds = match kind {
            Kind::Either(kinds) => kinds,
            one => std::slice::from_ref(one),
        };
        let takes = |wanted: fn(&Kind) -> bool| kinds.iter().any(wanted);
        match &node.value {
            Value::Table(_) if takes(|kind| matches!(kind, Kind::List(Kind::Table(_)))) => {
                let header = written.trim_start_matches('[').trim_end_matches(']');
                Some(match written.starts_with('[') {
                    true => format!("write its header in two brackets, `[[{header}]]`"),
                    false => "put it in brackets: `[{ .. }]`".to_owned(),
                })
            }
            Value::String(text) if takes(|kind| matches!(kind, Kind::List(Kind::String(_) | Kind::Either(_)))) => {
                let items: Vec<String> = text.split(',').map(|item| format!("\"{}\"", item.trim())).collect();
                Some(if one_line && !text.contains(['"', '\\', '{', '[']) {
                    format!("write `[{}]`", items.join(", "))
                } else {
                    "put it in brackets".to_owned()
                })
            }
            Value::String(text) if takes(|kind| matches!(kind, Kind::Integer { .. } | Kind::Number { .. })) => {
                text.trim().parse::<f64>().is_ok().then(|| format!("write `{}`, without quotes", text.trim()))
            }
            Value::String(text) if takes(|kind| matches!(kind, Kind::Boolean)) => {
                text.parse::<bool>().is_ok().then(|| format!("write `{text}`, without quotes"))
            }
            Value::Array(_) if takes(|kind| matches!(kind, Kind::String("glob"))) => {
                Some("write one glob, with braces for alternatives: `**.{q,k,v}_proj.weight`".to_owned())
            }
            Value::Integer(_) if takes(|kind| matches!(kind, Kind::String("size"))) => {
                Some("write the unit with it, such as `\"80GiB\"`".to_owned())
            }
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_)
                if takes(|kind| matches!(kind, Kind::String(_))) =>
            {
                Some(format!("write `\"{written}\"`, in quotes"))
            }
            Value::Table(_) if matches!(context, Context::Key(Field { key: "scheme", .. })) => {
                Some("declare it as `[scheme.NAME]`, and write its name here".to_owned())
            }
            _ => None,
        }
    }
}

/// Whether a key of the document holds a table of settings, which merge key by key over `extends`.
fn is_setting(field: &Field) -> bool {
    language::POLICY.fields.iter().any(|other| std::ptr::eq(other, field)) && matches!(field.kind, Kind::Table(_))
}

/// Whether a value has the TOML type of a kind. In an `Either` no two kinds share one, but for words and free strings.
fn fits(kind: &Kind, found: &Value) -> bool {
    matches!(
        (kind, found),
        (Kind::String(_) | Kind::Words(_), Value::String(_))
            | (Kind::Boolean, Value::Boolean(_))
            | (Kind::Integer { .. }, Value::Integer(_))
            | (Kind::Number { .. }, Value::Integer(_) | Value::Float(_))
            | (Kind::List(_), Value::Array(_))
            | (Kind::Table(_) | Kind::Named(_), Value::Table(_))
    )
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

fn bad_value(message: String, span: Span, help: String) -> Finding {
    Finding::new(&code::BAD_VALUE, message).at(span, "").help(help)
}

fn unknown_key(shape: &'static Shape, place: &Place, key: &Spanned<String>, near: &[&str]) -> Finding {
    let finding = Finding::new(&code::UNKNOWN_KEY, format!("{} has no key `{key}`", place.describe())).at(key.span, "");
    let guess = suggest::did_you_mean(&key.value, near.iter().copied());
    match guess {
        Some(guess) => finding.help(guess),
        None if shape.fields.len() <= 12 => {
            finding.help(format!("its keys are {}", suggest::list(shape.fields.iter().map(|field| field.key))))
        }
        None => finding.help("`flow-fabric schema policy` and the language reference list its keys"),
    }
}

/// A kind's name in the reference.
pub(crate) fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::String(_) => "a string".to_owned(),
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

/// What to fill in for a missing key.
fn blank(kind: &Kind) -> String {
    match kind {
        Kind::Integer { min, max } if min == max => min.to_string(),
        Kind::String(_) | Kind::Words(_) => "\"...\"".to_owned(),
        Kind::List(_) => "[...]".to_owned(),
        Kind::Table(_) | Kind::Named(_) => "{ ... }".to_owned(),
        Kind::Boolean | Kind::Integer { .. } | Kind::Number { .. } => "...".to_owned(),
        Kind::Either(kinds) => kinds.first().map_or_else(|| "...".to_owned(), blank),
    }
}

/// The first sentence of a doc as it stands in a help line: lower case, without the final period.
fn first_sentence(doc: &str) -> String {
    let sentence = doc.split_once(". ").map_or(doc, |(first, _)| first).trim_end_matches('.');
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
