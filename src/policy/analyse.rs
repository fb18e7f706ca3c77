//! What can be said about a policy's rules without a checkpoint.

use super::Policy;
use crate::finding::{Finding, code};

impl Policy {
    /// Findings about the order and reach of rules, whatever the checkpoint.
    #[must_use]
    pub fn analyse(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.partition_rules.is_empty() && !self.partition.unmatched_replicate {
            findings.push(
                Finding::new(&code::EMPTY_TABLE, format!("policy `{}` has no partition rules", self.name))
                    .at(self.name.span, "")
                    .help("add `[[FLOW_FABRIC_PARTITION_RULES]]`, or declare `unmatched = \"replicate\"` in `[partition]`"),
            );
        }
        findings
    }
}
