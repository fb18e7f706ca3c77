//! `explain`: why paths are decided as they are.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::input::{self, PolicyOptions};
use super::{Outcome, Stop, Ui, json};
use crate::finding::suggest;
use crate::inventory::{Inventory, Weight};
use crate::plan::explain::{LayerOf, PathExplanation, RuleOutcome, State, Subject, TableExplanation, explain};
use crate::plan::layers::Layers;
use crate::policy::{Policy, tables};

/// Explain paths: the rule that wins each table, those that matched and lost, and the near misses
///
/// Without `--against` nothing is known of a weight but its path: rules with conditions are then listed as candidates, with
/// the facts they ask for.
///
/// Examples:
///   $ flow-fabric explain policies/grok-1.toml transformer/decoder_layer_7/moe/linear_1/w
///   $ flow-fabric explain policies/llama-3.toml model.norm.weight --against tests/data/inventories/llama-3-8b.jsonl
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Explain {
    /// The policy
    policy: PathBuf,
    /// The paths, as rules see them
    #[arg(required_unless_present = "stdin")]
    paths: Vec<String>,
    /// Checkpoint that holds the weights
    #[arg(long, value_name = "CHECKPOINT")]
    against: Option<PathBuf>,
    /// Read paths from standard input, one a line
    #[arg(long, conflicts_with = "paths")]
    stdin: bool,
    /// With `--stdin`: paths end with NUL instead of a newline
    #[arg(short = 'z', requires = "stdin")]
    nul: bool,
    /// Only this table
    #[arg(long, value_name = "TABLE")]
    table: Option<Table>,
    /// How to print it; concise is `file:line:rule<TAB>path`, a line per table, `::` where no rule wins
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    #[command(flatten)]
    options: PolicyOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Concise,
    Json,
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    Partition,
    Quantization,
    Loader,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Table::Partition => tables::PARTITION,
            Table::Quantization => tables::QUANTIZATION,
            Table::Loader => tables::LOADER,
        }
    }
}

#[derive(Serialize)]
struct Document {
    format: &'static str,
    format_version: u32,
    policy: String,
    paths: Vec<PathExplanation>,
}

impl Explain {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.options.require(&self.policy, ui)?;
        let matcher = policy.compile().map_err(|error| Stop::failed(error.to_string()))?;
        let checkpoint = self.against.as_deref().map(|path| Known::open(&policy, path, ui)).transpose()?;
        let mut explained = Vec::new();
        for path in self.paths(ui)? {
            let weight = checkpoint.as_ref().and_then(|known| known.find(&path, ui));
            let layer = checkpoint.as_ref().map(|known| |of: Option<&str>| known.layers.of(&path, of));
            let subject = Subject {
                path: &path,
                shape: weight.map(|weight| weight.shape.as_slice()),
                dtype: weight.map(|weight| weight.dtype),
                format: weight.map(|weight| weight.format.name()),
                layer: layer.as_ref().map(|layer| layer as &LayerOf<'_>),
            };
            let mut explanation = explain(&policy, &matcher, &subject);
            if let Some(table) = self.table {
                explanation.tables.retain(|explained| explained.table == table.name());
            }
            explained.push((explanation, weight.map(|weight| format!("{} {:?}", weight.dtype, weight.shape))));
        }
        let unmatched =
            explained.iter().any(|(explanation, _)| explanation.tables.iter().any(|table| is_error(&policy, table)));
        self.print(&policy, explained, ui)?;
        Ok(if unmatched { Outcome::Findings } else { Outcome::Done })
    }

    fn paths(&self, ui: &mut Ui) -> Result<Vec<String>, Stop> {
        if !self.stdin {
            return Ok(self.paths.clone());
        }
        let mut bytes = Vec::new();
        ui.stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| Stop::failed(format!("cannot read standard input: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| Stop::failed("standard input is not UTF-8"))?;
        let end = if self.nul { '\0' } else { '\n' };
        let trim = |line: &str| if self.nul { line.to_owned() } else { line.trim_end_matches('\r').to_owned() };
        Ok(text.split(end).map(trim).filter(|path| !path.is_empty()).collect())
    }

    fn print(
        &self,
        policy: &Policy,
        explained: Vec<(PathExplanation, Option<String>)>,
        ui: &mut Ui,
    ) -> Result<(), Stop> {
        let text = match self.format {
            Format::Human => explained
                .iter()
                .map(|(explanation, form)| human(explanation, form.as_deref()))
                .collect::<Vec<_>>()
                .join("\n"),
            Format::Concise => explained.iter().map(|(explanation, _)| concise(explanation)).collect(),
            Format::Json => json(&Document {
                format: "flow-fabric/explanation",
                format_version: 1,
                policy: policy.name.value.clone(),
                paths: explained.into_iter().map(|(explanation, _)| explanation).collect(),
            }),
            Format::Jsonl => {
                return ui.write_with(|out| {
                    for (explanation, _) in &explained {
                        serde_json::to_writer(&mut *out, explanation)?;
                        out.write_all(b"\n")?;
                    }
                    Ok(())
                });
            }
        };
        ui.print(&text)
    }
}

/// A checkpoint, for looking weights up.
struct Known {
    inventory: Inventory,
    by_path: HashMap<String, usize>,
    layers: Layers,
}

impl Known {
    fn open(policy: &Policy, path: &std::path::Path, ui: &mut Ui) -> Result<Self, Stop> {
        let (inventory, findings) = input::inventory(policy, path, ui)?;
        ui.report(&findings, policy.sources())?;
        let by_path =
            inventory.weights.iter().enumerate().map(|(index, weight)| (weight.path.clone(), index)).collect();
        let layers = Layers::of_policy(policy, &inventory);
        Ok(Self { inventory, by_path, layers })
    }

    fn find(&self, path: &str, ui: &mut Ui) -> Option<&Weight> {
        let found = self.by_path.get(path).and_then(|&index| self.inventory.weights.get(index));
        if found.is_none() {
            let guess = suggest::did_you_mean(path, self.by_path.keys().map(String::as_str)).unwrap_or_default();
            ui.narrate(&format!("`{path}` is not in `{}`; only its path is known. {guess}\n", self.inventory.name));
        }
        found
    }
}

fn is_error(policy: &Policy, table: &TableExplanation) -> bool {
    let wanted = match table.table.as_str() {
        tables::PARTITION => !policy.partition.unmatched_replicate,
        tables::QUANTIZATION => policy.quantization.unmatched_error,
        _ => false,
    };
    wanted && table.state == State::Unmatched
}

/// An explanation for people; `form` is the weight's dtype and shape.
pub(crate) fn human(explanation: &PathExplanation, form: Option<&str>) -> String {
    let mut out = explanation.path.clone();
    if let Some(form) = form {
        let _ = write!(out, "  {form}");
    }
    out.push('\n');
    for table in &explanation.tables {
        let word = match table.table.as_str() {
            tables::PARTITION => "shard",
            tables::QUANTIZATION => "quant",
            _ => "load",
        };
        let winner = table.matched.iter().find(|matched| matched.outcome == RuleOutcome::Wins);
        let _ = write!(out, "  {word} {}", table.decision);
        match winner {
            Some(winner) => {
                let place = &winner.place;
                let _ = writeln!(out, "  {}  {}:{}", place.rule, place.file, place.line);
            }
            None => out.push('\n'),
        }
        let others: Vec<_> = table.matched.iter().filter(|matched| matched.outcome != RuleOutcome::Wins).collect();
        if !others.is_empty() {
            let _ = writeln!(
                out,
                "    {}",
                if table.state == State::Undecided { "candidates, in order:" } else { "also matched, and lost:" }
            );
        }
        for matched in others {
            let place = &matched.place;
            let _ = writeln!(
                out,
                "      {}  {}:{}  would give {}; {}",
                place.rule, place.file, place.line, matched.decision, matched.why
            );
        }
        if !table.near_misses.is_empty() {
            let _ = writeln!(out, "    nearly matched:");
        }
        for miss in &table.near_misses {
            let found =
                miss.found.as_ref().map_or_else(|| "the end of the path".to_owned(), |found| format!("`{found}`"));
            let _ = writeln!(
                out,
                "      {}  {}:{}  stops at token {}: wants {}, finds {found}",
                miss.place.rule,
                miss.place.file,
                miss.place.line,
                miss.token + 1,
                miss.wanted
            );
        }
    }
    out
}

fn concise(explanation: &PathExplanation) -> String {
    let line = |table: &TableExplanation| {
        let winner = table.matched.iter().find(|matched| matched.outcome == RuleOutcome::Wins);
        match winner {
            Some(winner) => {
                let place = &winner.place;
                format!("{}:{}:{}\t{}\n", place.file, place.line, place.rule, explanation.path)
            }
            None => format!("::\t{}\n", explanation.path),
        }
    };
    explanation.tables.iter().map(line).collect()
}
