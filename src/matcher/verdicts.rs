//! From the marks of a set of states to the rules each table answers with.

use super::graph::TableEntry;
use super::nfa::Mark;
use super::{Mode, RuleIndex};

/// The rules each table answers with, table after table.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    rules: Vec<RuleIndex>,
    /// Per verdict and table, the end of its rules in `rules`; they begin where those of the table before end.
    ends: Vec<u32>,
}

impl Verdicts {
    /// Adds the verdict of some marks. Leaves the marks sorted.
    pub(super) fn push(&mut self, tables: &[TableEntry], marks: &mut Vec<Mark>) {
        // Sorts a rule's veto after its match.
        marks.sort_unstable();
        let mut rest = marks.as_slice();
        for (index, table) in tables.iter().enumerate() {
            let mut open = true;
            while let Some(mark) = rest.first()
                && mark.table.index() == index
            {
                let rule = mark.rule;
                let of_rule = rest.iter().take_while(|other| other.table == mark.table && other.rule == rule).count();
                let (of_rule, tail) = rest.split_at(of_rule);
                rest = tail;
                let holds = of_rule.iter().any(|mark| !mark.veto) && !of_rule.iter().any(|mark| mark.veto);
                if holds && open {
                    self.rules.push(rule);
                    open = table.mode == Mode::All || table.rules[rule.index()].conditional;
                }
            }
            self.ends.push(super::classes::number(self.rules.len()));
        }
    }

    /// The rules of one table of a verdict.
    pub(super) fn rules(&self, verdict: usize, tables: usize, table: usize) -> &[RuleIndex] {
        let at = verdict * tables + table;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.rules[start as usize..self.ends[at] as usize]
    }

    /// How many verdicts there are.
    pub(super) fn len(&self, tables: usize) -> usize {
        self.ends.len().checked_div(tables).unwrap_or(0)
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
        self.ends.clear();
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        4 * (self.rules.capacity() + self.ends.capacity())
    }
}
