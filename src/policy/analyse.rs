//! What can be said about a policy's rules without a checkpoint.

use super::Policy;
use super::model::Rule;
use crate::analysis::{self, Options, Remark, remark};
use crate::finding::{Finding, code};
use crate::pattern::Pattern;

impl Policy {
    /// Findings about the order and reach of rules, whatever the checkpoint: rules that match no path, rules that earlier
    /// ones shadow, an empty partition table. Rules with conditions shadow nothing.
    #[must_use]
    pub fn analyse(&self, options: &Options<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.partition_rules.is_empty() && !self.partition.unmatched_replicate {
            findings.push(
                Finding::new(&code::EMPTY_TABLE, format!("policy `{}` has no partition rules", self.name))
                    .at(self.name.span, "")
                    .help("add `[[FLOW_FABRIC_PARTITION_RULES]]`, or declare `unmatched = \"replicate\"` in `[partition]`"),
            );
        }
        table(&self.partition_rules, options, &mut findings);
        table(&self.quantization_rules, options, &mut findings);
        table(&self.loader_rules, options, &mut findings);
        findings
    }
}

fn table<D>(rules: &[Rule<D>], options: &Options<'_>, findings: &mut Vec<Finding>) {
    let names: Vec<&str> = rules.iter().map(|rule| &*rule.name.value).collect();
    for (index, (rule, verdict)) in rules.iter().zip(verdicts(rules, options)).enumerate() {
        let Some(Remark { code, message, label, others, help }) = remark(index, &verdict, &names) else { continue };
        // An inherited rule cannot be moved before those of the file that extends its own.
        let apart =
            |other: &(usize, _)| rules.get(other.0).is_some_and(|by| by.name.span.source != rule.name.span.source);
        let help = if code == &code::SHADOWED_RULE && rule.inherited && others.iter().any(apart) {
            "own rules come before inherited ones: narrow them, or replace this one with `override = true`".to_owned()
        } else {
            help
        };
        let mut finding = Finding::new(code, message).at(rule.pattern.span, label).help(help);
        for (other, text) in others {
            if let Some(other) = rules.get(other) {
                finding = finding.at(other.pattern.span, text);
            }
        }
        findings.push(finding);
    }
}

/// Judges every rule of a table.
pub(super) fn verdicts<D>(rules: &[Rule<D>], options: &Options<'_>) -> Vec<analysis::Verdict> {
    let excepts: Vec<Vec<Pattern>> =
        rules.iter().map(|rule| rule.except.iter().map(|pattern| pattern.value.clone()).collect()).collect();
    let asked: Vec<analysis::Rule<'_>> = rules
        .iter()
        .zip(&excepts)
        .map(|(rule, except)| analysis::Rule { pattern: &rule.pattern.value, except, conditional: rule.when.is_some() })
        .collect();
    analysis::analyze(&asked, options)
}
