//! `inspect`: what a checkpoint holds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::input;
use super::lints::LintFlags;
use super::table::{Align, Cell, Table};
use super::{Outcome, Stop, Ui};
use crate::Dtype;
use crate::finding::levels;
use crate::inventory::{
    Checkpoint, Grouping, Inventory, InventoryDocument, StoredTensor, TensorRecord, Weight, WeightRecord, collapse,
};
use crate::source::Sources;
use crate::units::{bytes, count, counted};

/// Show what a checkpoint holds: its weights, collapsed into templates, with dtypes, shapes and bytes
///
/// The paths are those that rules match. Only headers are read.
///
/// Examples:
///   $ flow-fabric inspect tests/data/inventories/grok-1.jsonl
///   $ flow-fabric inspect Meta-Llama-3-8B --stored --format jsonl > llama-3-8b.jsonl
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Inspect {
    /// A checkpoint: a file, a directory, an index, a JSONL list, or `-` for a list on standard input
    checkpoint: PathBuf,
    /// How to print it; `json` and `jsonl` always list every weight
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    /// List every weight instead of templates
    #[arg(long)]
    all: bool,
    /// Show the stored tensors as the files name them; as `jsonl` they are a list that stands for the checkpoint
    #[arg(long)]
    stored: bool,
    #[command(flatten)]
    lints: LintFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
    Jsonl,
    Markdown,
}

impl Inspect {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        if self.stored && self.format == Format::Json {
            return Err(Stop::failed("`--stored` has no `json` document").help(
                "`--format json` has the stored tensors of each weight, `--stored --format jsonl` makes a list",
            ));
        }
        let (checkpoint, mut findings) = input::open(&self.checkpoint, ui)?;
        let (inventory, ungrouped) = Inventory::group(&checkpoint, &Grouping::default());
        findings.extend(ungrouped);
        let (findings, sources) = (levels::settle(&self.lints.0, findings, |_| true), Sources::default());
        let items = self.items(&checkpoint, &inventory);
        match self.format {
            Format::Human => {
                let (table, summary, kinds) = self.tables(&items, &inventory);
                let kinds = kinds.map(|kinds| format!("\n{}", kinds.human())).unwrap_or_default();
                ui.print(&format!("{}\n{summary}\n{kinds}", table.human()))?;
            }
            Format::Markdown => {
                let (table, summary, kinds) = self.tables(&items, &inventory);
                let kinds = kinds.map(|kinds| format!("{}\n", kinds.markdown())).unwrap_or_default();
                ui.print(&format!("{summary}\n\n{kinds}{}", table.markdown()))?;
            }
            Format::Json => {
                ui.print(&super::json(&InventoryDocument::new(&inventory, &findings, &sources)))?;
                return Ok(Outcome::of(&findings));
            }
            Format::Jsonl if self.stored => {
                lines(ui, checkpoint.tensors.iter().map(|tensor| TensorRecord::new(tensor, &checkpoint.files)))?;
            }
            Format::Jsonl => {
                lines(ui, inventory.weights.iter().map(|weight| WeightRecord::new(weight, &inventory.files)))?;
            }
        }
        ui.report(&findings, &sources)?;
        Ok(Outcome::of(&findings))
    }

    fn items<'a>(&self, checkpoint: &'a Checkpoint, inventory: &'a Inventory) -> Vec<Item<'a>> {
        if self.stored {
            checkpoint.tensors.iter().map(Item::tensor).collect()
        } else {
            inventory.weights.iter().map(Item::weight).collect()
        }
    }

    fn tables(&self, items: &[Item<'_>], inventory: &Inventory) -> (Table, String, Option<Table>) {
        (self.table(items), self.summary(items, inventory), self.kinds(items))
    }

    /// How many and how large, then what they are; tensors as stored have no stored format.
    fn columns(&self, first: &[&'static str], last: &[&'static str]) -> Table {
        let format = if self.stored { None } else { Some("stored") };
        let left = first.iter().copied().chain(format).chain(last.iter().copied());
        let right = [if self.stored { "tensors" } else { "weights" }, "bytes"];
        let columns = right.map(|name| (name, Align::Right)).into_iter().chain(left.map(|name| (name, Align::Left)));
        Table::new(&columns.collect::<Vec<_>>())
    }

    /// A row a template, or with `--all` a row a weight.
    fn table(&self, items: &[Item<'_>]) -> Table {
        let mut table = self.columns(&["dtype", "shape"], &["path"]);
        if self.all {
            for item in items {
                table.row(item.key.cells(1, item.bytes, item.path.to_owned()));
            }
            return table;
        }
        for template in collapse(items.iter().map(|item| (item.path, item.key))) {
            let members = template.members.iter().filter_map(|&at| items.get(at));
            let sum = members.fold(0, |sum: u64, item| sum.saturating_add(item.bytes));
            table.row(template.key.cells(template.members.len(), sum, template.to_string()));
        }
        table
    }

    /// What it comes to by dtype and stored format, where there are several.
    fn kinds(&self, items: &[Item<'_>]) -> Option<Table> {
        let mut kinds: BTreeMap<(Dtype, Option<&str>), (usize, u64)> = BTreeMap::new();
        for item in items.iter().filter(|item| item.key.alias_of.is_none()) {
            let (number, sum) = kinds.entry((item.key.dtype, item.key.format)).or_default();
            *number += 1;
            *sum = sum.saturating_add(item.bytes);
        }
        let mut table = self.columns(&["dtype"], &[]);
        for ((dtype, format), (number, sum)) in kinds {
            let mut cells = vec![count(number as u64), bytes(sum), dtype.to_string()];
            cells.extend(format.map(str::to_owned));
            table.row(cells.into_iter().map(Cell::Plain).collect());
        }
        (table.rows() > 1).then_some(table)
    }

    fn summary(&self, items: &[Item<'_>], inventory: &Inventory) -> String {
        let aliases = items.iter().filter(|item| item.key.alias_of.is_some()).count();
        let sum = items.iter().fold(0, |sum: u64, item| sum.saturating_add(item.bytes));
        let mut parts = vec![counted(items.len() - aliases, if self.stored { "tensor" } else { "weight" })];
        if aliases > 0 {
            let plural = if aliases == 1 { "" } else { "es" };
            parts.push(format!("{} alias{plural}", count(aliases as u64)));
        }
        if !self.stored {
            let stored = inventory.weights.iter().filter(|weight| weight.alias_of.is_none());
            parts.push(counted(stored.map(|weight| weight.components.len()).sum(), "stored tensor"));
        }
        // A list need not say which files it is about.
        if !inventory.files.is_empty() {
            parts.push(counted(inventory.files.len(), "file"));
        }
        parts.push(bytes(sum));
        parts.join(", ")
    }
}

/// Opens a checkpoint, or reads a list from standard input.
fn lines(ui: &mut Ui, records: impl Iterator<Item = impl Serialize>) -> Result<(), Stop> {
    for record in records {
        ui.print(&super::json_line(&record))?;
    }
    Ok(())
}

/// A weight or a stored tensor, as a row shows it.
struct Item<'a> {
    path: &'a str,
    key: Key<'a>,
    bytes: u64,
}

/// What the members of a template have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    dtype: Dtype,
    shape: &'a [u64],
    /// `None` for stored tensors, which are no format of anything.
    format: Option<&'a str>,
    alias_of: Option<&'a str>,
}

impl<'a> Item<'a> {
    fn tensor(tensor: &'a StoredTensor) -> Self {
        let key = Key { dtype: tensor.dtype, shape: &tensor.shape, format: None, alias_of: None };
        Self { path: &tensor.name, key, bytes: tensor.bytes.length }
    }

    /// The bytes of an alias are counted where the weight has its first path.
    fn weight(weight: &'a Weight) -> Self {
        let alias_of = weight.alias_of.as_deref();
        let key = Key { dtype: weight.dtype, shape: &weight.shape, format: Some(weight.format.name()), alias_of };
        Self { path: &weight.path, key, bytes: if alias_of.is_some() { 0 } else { weight.stored_bytes() } }
    }
}

impl Key<'_> {
    fn cells(self, number: usize, sum: u64, path: String) -> Vec<Cell> {
        let mut cells = vec![count(number as u64), bytes(sum), self.dtype.to_string(), format!("{:?}", self.shape)];
        cells.extend(self.format.map(str::to_owned));
        let mut cells: Vec<Cell> = cells.into_iter().map(Cell::Plain).collect();
        cells.push(Cell::Code(match self.alias_of {
            None => path,
            Some(weight) => format!("{path} -> {weight}"),
        }));
        cells
    }
}
