//! Two-way coverage: which rules decide, match, or match nothing; how many weights each table decides. Counts, never
//! percentages.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::policy::tables;
use crate::units::count;

/// The coverage of one plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Name of the policy.
    pub policy: String,
    /// Name of the checkpoint.
    pub inventory: String,
    /// Logical weights.
    pub weights: u64,
    /// Partition, quantization and loader.
    pub tables: Vec<TableCoverage>,
}

/// The coverage of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableCoverage {
    /// `partition`, `quantization` or `loader`.
    pub table: String,
    /// Its rules.
    pub rules: u64,
    /// Rules that decide some weight.
    pub deciding: u64,
    /// Rules that match some weight but decide none.
    pub losing: u64,
    /// Rules that match no weight.
    pub idle: u64,
    /// Weights that a rule decides.
    pub decided_weights: u64,
    /// Names of the rules that match no weight, in the order in which they are asked.
    pub idle_rules: Vec<String>,
}

impl Plan {
    /// Counts which rules and weights meet.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let tables = [tables::PARTITION, tables::QUANTIZATION, tables::LOADER].map(|name| {
            let rules: Vec<_> = self.rules.iter().filter(|rule| rule.table == name).collect();
            let idle: Vec<String> = rules.iter().filter(|rule| !rule.matches).map(|rule| rule.name.clone()).collect();
            let deciding = rules.iter().filter(|rule| rule.won > 0).count() as u64;
            TableCoverage {
                table: name.to_owned(),
                rules: rules.len() as u64,
                deciding,
                losing: rules.len() as u64 - deciding - idle.len() as u64,
                idle: idle.len() as u64,
                decided_weights: rules.iter().map(|rule| rule.won).sum(),
                idle_rules: idle,
            }
        });
        Coverage {
            policy: self.policy.clone(),
            inventory: self.inventory.name.to_string(),
            weights: self.inventory.weights.len() as u64,
            tables: tables.into(),
        }
    }
}

impl fmt::Display for Coverage {
    /// One line a table that has rules: `partition: 12 of 36 rules decide, 24 match nothing; 770 of 770 weights`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} over {}", self.policy, self.inventory)?;
        for table in self.tables.iter().filter(|table| table.rules > 0) {
            write!(f, "  {}: {} of {} rules decide", table.table, count(table.deciding), count(table.rules))?;
            if table.losing > 0 {
                write!(f, ", {} only lose", count(table.losing))?;
            }
            if table.idle > 0 {
                write!(f, ", {} match nothing", count(table.idle))?;
            }
            writeln!(f, "; {} of {} weights", count(table.decided_weights), count(self.weights))?;
        }
        Ok(())
    }
}
