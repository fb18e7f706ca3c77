//! The policy's tables, compiled into one matcher graph.

use super::Policy;
use super::model::Rule;
use crate::matcher::{self, BuildError, MatcherGraph, Mode, TableId};
use crate::pattern::Pattern;

/// A policy's matcher graph, and which of its tables is which.
///
/// Rule indices of the first three tables are positions in the policy's rule lists.
#[derive(Debug)]
pub struct PolicyMatcher {
    /// The graph.
    pub graph: MatcherGraph,
    /// `FLOW_FABRIC_PARTITION_RULES`.
    pub partition: TableId,
    /// `QUANTIZATION_RULES`.
    pub quantization: TableId,
    /// `LOADER_RULES`.
    pub loader: TableId,
    /// The `[sensitive]` patterns.
    pub sensitive: TableId,
    /// The `tensors` patterns of all slots.
    pub slots: TableId,
    /// The slot that each rule of the `slots` table belongs to, by position.
    pub slot_of: Vec<usize>,
}

/// Names of the tables in the graph, as drawings and `explain` quote them.
pub mod tables {
    /// `FLOW_FABRIC_PARTITION_RULES`.
    pub const PARTITION: &str = "partition";
    /// `QUANTIZATION_RULES`.
    pub const QUANTIZATION: &str = "quantization";
    /// `LOADER_RULES`.
    pub const LOADER: &str = "loader";
    /// `[sensitive]`.
    pub const SENSITIVE: &str = "sensitive";
    /// Slots.
    pub const SLOTS: &str = "slots";
}

impl Policy {
    /// Compiles every pattern of every table into one graph.
    ///
    /// # Errors
    /// A regex beyond the engine's size limits. Single patterns are checked when the policy is read; this is about all
    /// of them together.
    pub fn compile(&self) -> Result<PolicyMatcher, BuildError> {
        let sensitive: Vec<matcher::Rule<'_>> =
            self.sensitive.patterns.iter().map(|pattern| bare("sensitive", pattern)).collect();
        let mut slots = Vec::new();
        let mut slot_of = Vec::new();
        for (index, (name, slot)) in self.slots.iter().enumerate() {
            for pattern in &slot.tensors {
                slots.push(bare(name, &pattern.value));
                slot_of.push(index);
            }
        }
        let tables = [
            matcher::Table { name: tables::PARTITION, mode: Mode::First, rules: rules(&self.partition_rules) },
            matcher::Table { name: tables::QUANTIZATION, mode: Mode::First, rules: rules(&self.quantization_rules) },
            matcher::Table { name: tables::LOADER, mode: Mode::First, rules: rules(&self.loader_rules) },
            matcher::Table { name: tables::SENSITIVE, mode: Mode::First, rules: sensitive },
            matcher::Table { name: tables::SLOTS, mode: Mode::All, rules: slots },
        ];
        let graph = MatcherGraph::new(&tables, &self.separators)?;
        let ids: Vec<TableId> = graph.tables().collect();
        let [partition, quantization, loader, sensitive, slots] = ids[..] else {
            unreachable!("five tables were compiled, in this order")
        };
        Ok(PolicyMatcher { graph, partition, quantization, loader, sensitive, slots, slot_of })
    }
}

fn rules<D>(rules: &[Rule<D>]) -> Vec<matcher::Rule<'_>> {
    rules
        .iter()
        .map(|rule| matcher::Rule {
            name: &rule.name.value,
            pattern: rule.pattern.value.lowered(),
            excepts: rule.except.iter().map(|pattern| pattern.value.lowered()).collect(),
            conditional: rule.when.is_some(),
        })
        .collect()
}

fn bare<'a>(name: &'a str, pattern: &'a Pattern) -> matcher::Rule<'a> {
    matcher::Rule { name, pattern: pattern.lowered(), excepts: Vec::new(), conditional: false }
}
