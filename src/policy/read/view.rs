//! A checked table, read key by key.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::policy::check;
use crate::policy::language::{Kind, Shape};
use crate::policy::node::{Node, Table, Value};
use crate::policy::written::{self, Written};
use crate::source::{Span, Spanned};

/// A table and the shape it was checked against. Wrong types read as absent: they are reported already.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    shape: &'static Shape,
    table: &'a Table,
    pub(super) span: Span,
}

impl<'a> View<'a> {
    pub(super) const fn new(shape: &'static Shape, table: &'a Table, span: Span) -> Self {
        Self { shape, table, span }
    }

    /// What the table says as a rule, key by key.
    pub(super) fn written(&self) -> Written {
        written::rule(self.table)
    }

    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.shape.fields.iter().any(|field| field.key == key), "`{key}` is not in {}", self.shape.title);
        #[cfg(test)]
        reads::record(self.shape.title, key);
        self.table.get(key)
    }

    pub(super) fn string(&self, key: &str) -> Option<Spanned<String>> {
        self.node(key)?.as_str().map(|text| text.map(str::to_owned))
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        match self.node(key)?.value {
            Value::Boolean(flag) => Some(flag),
            _ => None,
        }
    }

    pub(super) fn integer(&self, key: &str) -> Option<Spanned<i64>> {
        let node = self.node(key)?;
        match node.value {
            Value::Integer(number) => Some(Spanned::new(number, node.span)),
            _ => None,
        }
    }

    /// A non-negative integer; the language's ranges keep others out.
    pub(super) fn count(&self, key: &str) -> Option<Spanned<u64>> {
        let number = self.integer(key)?;
        Some(Spanned::new(u64::try_from(number.value).ok()?, number.span))
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        check::number(&self.node(key)?.value)
    }

    pub(super) fn items(&self, key: &str) -> &'a [Node] {
        self.node(key).and_then(Node::as_array).unwrap_or_default()
    }

    pub(super) fn strings(&self, key: &str) -> Option<Vec<Spanned<String>>> {
        let items = self.node(key)?.as_array()?;
        Some(items.iter().filter_map(|node| node.as_str().map(|text| text.map(str::to_owned))).collect())
    }

    pub(super) fn string_or_strings(&self, key: &str) -> Option<Vec<Spanned<String>>> {
        self.string(key).map(|text| vec![text]).or_else(|| self.strings(key))
    }

    pub(super) fn counts(&self, key: &str) -> Option<Vec<u64>> {
        let items = self.node(key)?.as_array()?;
        Some(
            items
                .iter()
                .filter_map(|node| match node.value {
                    Value::Integer(number) => u64::try_from(number).ok(),
                    _ => None,
                })
                .collect(),
        )
    }

    pub(super) fn count_or_counts(&self, key: &str) -> Option<Vec<u64>> {
        self.count(key).map(|count| vec![count.value]).or_else(|| self.counts(key))
    }

    /// A list of sizes in which the word `*` stands for any.
    pub(super) fn sizes(&self, key: &str) -> Option<Vec<Option<u64>>> {
        let items = self.node(key)?.as_array()?;
        Some(
            items
                .iter()
                .map(|node| match node.value {
                    Value::Integer(number) => u64::try_from(number).ok(),
                    _ => None,
                })
                .collect(),
        )
    }

    pub(super) fn table(&self, key: &str, shape: &'static Shape) -> Option<View<'a>> {
        let node = self.node(key)?;
        Some(View::new(shape, node.as_table()?, node.span))
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&self, key: &str, shape: &'static Shape) -> Vec<View<'a>> {
        self.items(key)
            .iter()
            .filter_map(|node| node.as_table().map(|table| View::new(shape, table, node.span)))
            .collect()
    }

    /// The members of a table of names that users choose.
    pub(super) fn members(&self, key: &str) -> &'a [(Spanned<String>, Node)] {
        self.node(key).and_then(Node::as_table).map_or(&[], |table| &table.entries)
    }

    /// The names that a table of names, or a list of named tables, declares; `None` when some of them could not be read.
    pub(super) fn names(&self, key: &str) -> Option<Vec<&'a str>> {
        let Some(node) = self.node(key) else { return (!self.table.torn).then(Vec::new) };
        match &node.value {
            Value::Table(table) if !table.torn => {
                Some(table.entries.iter().map(|(name, _)| name.value.as_str()).collect())
            }
            Value::Array(items) => {
                items.iter().map(|item| Some(item.as_table()?.get("name")?.as_str()?.value)).collect()
            }
            _ => None,
        }
    }

    /// Whether any of these keys is there, be it unread.
    pub(super) fn has_any(&self, keys: &[&str]) -> bool {
        self.table.torn || keys.iter().any(|key| self.node(key).is_some())
    }

    /// A word of a closed set.
    pub(super) fn word<T>(&self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Spanned<T>> {
        let text = self.string(key)?;
        Some(Spanned::new(parse(&text.value)?, text.span))
    }

    /// The whole table as the type that describes it, and whether all that is written is in it: what could not be read,
    /// or is no key, is left out.
    pub(super) fn settings<T: DeserializeOwned + Default>(&self) -> (T, bool) {
        #[cfg(test)]
        record_all(self.shape);
        let mut whole = !self.table.torn;
        let read = serde_json::from_value(object(self.shape, self.table, &mut whole));
        debug_assert!(read.is_ok(), "{} disagrees with its type: {:?}", self.shape.title, read.err());
        read.map_or_else(|_| (T::default(), false), |value| (value, whole))
    }

    /// The place of a key's name.
    pub(super) fn key_span(&self, key: &str) -> Span {
        self.table.key(key).map_or(self.span, |name| name.span)
    }
}

fn object(shape: &Shape, table: &Table, whole: &mut bool) -> Json {
    let mut object = Map::new();
    for (key, node) in &table.entries {
        match shape.fields.iter().find(|field| field.key == key.value) {
            Some(field) => object.extend(json(&field.kind, node, whole).map(|value| (key.value.clone(), value))),
            None => *whole = false,
        }
    }
    Json::Object(object)
}

fn json(kind: &Kind, node: &Node, whole: &mut bool) -> Option<Json> {
    let value = match (&node.value, kind) {
        (Value::String(text), _) => Some(Json::String(text.clone())),
        (Value::Integer(number), _) => Some((*number).into()),
        (Value::Float(number), _) => serde_json::Number::from_f64(*number).map(Json::Number),
        (Value::Boolean(flag), _) => Some(Json::Bool(*flag)),
        (Value::Array(items), Kind::List(item)) => {
            items.iter().map(|node| json(item, node, whole)).collect::<Option<Vec<_>>>().map(Json::Array)
        }
        (Value::Table(table), Kind::Table(shape)) => Some(object(shape, table, whole)),
        (Value::Table(table), Kind::Named(member)) => {
            let mut object = Map::new();
            for (name, node) in &table.entries {
                object.extend(json(member, node, whole).map(|value| (name.value.clone(), value)));
            }
            Some(Json::Object(object))
        }
        _ => None,
    };
    *whole &= value.is_some();
    value
}

#[cfg(test)]
fn record_all(shape: &'static Shape) {
    for field in shape.fields {
        reads::record(shape.title, field.key);
        if let Kind::Table(shape) = &field.kind {
            record_all(shape);
        }
    }
}

/// Which keys a test run has read, to prove that no key of the language is ignored.
#[cfg(test)]
pub(in crate::policy) mod reads {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static READ: RefCell<BTreeSet<(String, String)>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(in crate::policy) fn record(shape: &str, key: &str) {
        READ.with_borrow_mut(|read| read.insert((shape.to_owned(), key.to_owned())));
    }

    pub(in crate::policy) fn contains(shape: &str, key: &str) -> bool {
        READ.with_borrow(|read| read.contains(&(shape.to_owned(), key.to_owned())))
    }
}
