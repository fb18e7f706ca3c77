//! `graph`: a policy's matcher graph, for looking at.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::input::{MeshOption, PolicyOptions};
use super::{Outcome, Stop, Ui, json};
use crate::policy::draw::{Dead, Drawing, Mark, dead_by_analysis};

/// Draw a policy's matcher graph: tables, shared steps, rules, and which of them are dead
///
/// Without a checkpoint the dead rules are those that can never decide; with one, those that decide none of its weights.
///
/// Examples:
///   $ flow-fabric graph policies/grok-1.toml > grok-1.dot
///   $ flow-fabric graph policies/grok-1.toml --against tests/data/inventories/grok-1.jsonl --format mermaid
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct GraphVerb {
    /// The policy
    policy: PathBuf,
    /// Checkpoint to mark unused rules by
    #[arg(long, value_name = "CHECKPOINT")]
    against: Option<PathBuf>,
    /// How to draw it
    #[arg(long, value_name = "FORMAT", default_value = "dot")]
    format: Format,
    #[command(flatten)]
    options: PolicyOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Dot,
    Mermaid,
    Json,
}

impl GraphVerb {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.options.require(&self.policy, ui)?;
        let matcher = policy.compile().map_err(|error| Stop::failed(error.to_string()))?;
        let drawing = match &self.against {
            Some(checkpoint) => {
                let plan = super::plan::resolve(&policy, checkpoint, &MeshOption::default(), ui)?;
                Drawing::new(&policy, &matcher, |table, at| {
                    let rule = plan.rules.iter().filter(|rule| rule.table == table).nth(at);
                    let Some(rule) = rule else { return Mark::default() };
                    let dead = match (rule.won, rule.matches) {
                        (0, false) => Some(Dead::Unused),
                        (0, true) => Some(Dead::NeverDecides),
                        _ => None,
                    };
                    Mark { dead, weights: Some(rule.won) }
                })
            }
            None => {
                let dead = dead_by_analysis(&policy);
                Drawing::new(&policy, &matcher, |table, at| {
                    let found = dead.iter().find(|(other, index, _)| *other == table && *index == at);
                    Mark { dead: found.map(|(.., dead)| *dead), weights: None }
                })
            }
        };
        ui.print(&match self.format {
            Format::Dot => drawing.dot(),
            Format::Mermaid => drawing.mermaid(),
            Format::Json => json(&drawing),
        })?;
        Ok(Outcome::Done)
    }
}
