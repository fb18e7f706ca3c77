//! `schema`: the JSON Schemas of what we read and write.

use std::fmt::Write as _;

use clap::Args;

use super::{Outcome, Stop, Ui};
use crate::finding::suggest;
use crate::schema;

/// Print a JSON Schema (draft-07) of what flow-fabric reads or writes, or list them all
///
/// Examples:
///   $ flow-fabric schema
///   $ flow-fabric schema findings > findings.schema.json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Schema {
    /// Name of a schema
    name: Option<String>,
}

impl Schema {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let text = match &self.name {
            None => list(),
            Some(name) => schema::by_name(name).ok_or_else(|| unknown(name))?.text(),
        };
        ui.print(&text)?;
        Ok(Outcome::Done)
    }
}

fn unknown(name: &str) -> Stop {
    let names = schema::ALL.iter().map(|document| document.name);
    let stop = Stop::failed(format!("there is no schema `{name}`"));
    match suggest::help_for(name, names, "there are") {
        Some(help) => stop.help(help),
        None => stop,
    }
}

fn list() -> String {
    let widest = schema::ALL.iter().map(|document| document.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for document in schema::ALL {
        let _ = writeln!(out, "{:widest$}  {}", document.name, document.about);
    }
    out
}
