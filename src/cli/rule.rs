//! `rule`: the pages of the findings.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Outcome, Stop, Ui};
use crate::finding::page::{self, CodeRecord};
use crate::finding::{CODES, Code, by_id_or_name, suggest};

/// Explain a finding, or list them all
///
/// A finding's page says what it is, why it matters, and shows an input that has it and the same put right.
///
/// Examples:
///   $ flow-fabric rule FF002
///   $ flow-fabric rule unknown-key --format markdown
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Rule {
    /// Code or name of a finding, such as `FF002` or `unknown-key`
    code: Option<String>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Human,
    Json,
    Markdown,
}

/// The registry, or a part of it, as other programs read it.
#[derive(Serialize)]
struct Document {
    format: &'static str,
    format_version: u32,
    rules: Vec<CodeRecord>,
}

impl Rule {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let text = match &self.code {
            None => self.render(CODES, list),
            Some(name) => {
                let code = by_id_or_name(name).ok_or_else(|| unknown(name))?;
                self.render(&[code], |codes| codes.iter().map(|code| page::text(code)).collect())
            }
        };
        ui.print(&text)?;
        Ok(Outcome::Done)
    }

    fn render(&self, codes: &[&Code], human: impl Fn(&[&Code]) -> String) -> String {
        match self.format {
            Format::Human => human(codes),
            Format::Markdown => codes.iter().map(|code| page::markdown(code)).collect::<Vec<_>>().join("\n"),
            Format::Json => {
                let rules = codes.iter().map(|&code| CodeRecord::from(code)).collect();
                super::json(&Document { format: "flow-fabric/rules", format_version: 1, rules })
            }
        }
    }
}

fn unknown(name: &str) -> Stop {
    let names = CODES.iter().flat_map(|code| [code.id, code.name]);
    Stop::failed(format!("there is no finding `{name}`"))
        .help(suggest::did_you_mean(name, names).unwrap_or_else(|| "`flow-fabric rule` lists them all".to_owned()))
}

/// One line a code: id, severity, name, what.
fn list(codes: &[&Code]) -> String {
    let widest = codes.iter().map(|code| code.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Code { id, name, severity, what, .. } in codes {
        let _ = writeln!(out, "{id}  {:<7}  {name:widest$}  {what}", severity.name());
    }
    out
}
