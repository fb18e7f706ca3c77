//! What the end of a path means for the tables: marks, and the rules that they leave each table with.

use hashbrown::HashTable;

use super::graph::TableEntry;
use super::hash;
use super::lists::{Lists, number};
use super::nfa::{Found, Mark, NONE};
use super::{Mode, RuleIndex, TableId};

/// A list of marks. Equal lists have equal numbers.
pub(super) type OutcomeId = u32;

/// No marks.
pub(super) const NOTHING: OutcomeId = 0;

/// The outcomes met so far.
#[derive(Debug)]
pub(super) struct Outcomes {
    tables: usize,
    marks: Lists<Mark>,
    /// Per table and rule, the outcome that the rule decides and that has no other mark; `NOTHING` = not known.
    of_rule: Vec<Vec<OutcomeId>>,
    /// Per outcome and table.
    parts: Vec<Part>,
    /// The rules of all outcomes and tables.
    rules: Vec<RuleIndex>,
    merged: HashTable<Merged>,
}

/// What an outcome means for one table.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// The first rule with a mark; `NONE` without marks.
    first_rule: u32,
    /// Whether that mark decides: then nothing that later rules do matters.
    decides: bool,
    /// The table's answer, into `rules`.
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Merged {
    from: (OutcomeId, OutcomeId),
    to: OutcomeId,
}

impl Outcomes {
    pub(super) fn new(tables: &[TableEntry]) -> Self {
        let mut outcomes = Self {
            tables: tables.len(),
            marks: Lists::new(),
            of_rule: vec![Vec::new(); tables.len()],
            parts: Vec::new(),
            rules: Vec::new(),
            merged: HashTable::new(),
        };
        outcomes.clear(tables);
        outcomes
    }

    /// The rules that an outcome leaves a table with.
    pub(super) fn rules(&self, outcome: OutcomeId, table: TableId) -> &[RuleIndex] {
        let part = self.part(outcome, table.index());
        &self.rules[part.start as usize..part.end as usize]
    }

    /// The outcome of what was found; may sort it and drop what does not matter.
    pub(super) fn intern(&mut self, tables: &[TableEntry], found: &mut Found) -> OutcomeId {
        let Found { decided, marks } = found;
        // Mostly there is no rule, or one that decides.
        let mut known = None;
        if marks.is_empty() {
            let mut of_tables = decided.iter().enumerate().filter(|(_, rule)| **rule != NONE);
            match (of_tables.next(), of_tables.next()) {
                (None, _) => return NOTHING,
                (Some((table, rule)), None) => {
                    let rule = *rule as usize;
                    match self.of_rule[table].get(rule) {
                        Some(outcome) if *outcome != NOTHING => return *outcome,
                        _ => known = Some((table, rule)),
                    }
                }
                _ => {}
            }
        }
        marks.retain(|mark| mark.rule.0 < decided[mark.table.index()]);
        for (table, rule) in (0..).zip(decided.iter()).filter(|(_, rule)| **rule != NONE) {
            marks.push(Mark { table: TableId(table), rule: RuleIndex(*rule), veto: false, decides: true });
        }
        // Sorts a rule's veto after its match.
        marks.sort_unstable();
        marks.dedup();
        let outcome = self.marks.intern(marks);
        if outcome as usize * self.tables == self.parts.len() {
            self.judge(tables, marks);
        }
        if let Some((table, rule)) = known {
            let of_rule = &mut self.of_rule[table];
            if of_rule.len() <= rule {
                of_rule.resize(rule + 1, NOTHING);
            }
            of_rule[rule] = outcome;
        }
        outcome
    }

    /// The outcome of two together, where it is known.
    pub(super) fn merged(&self, a: OutcomeId, b: OutcomeId) -> Option<OutcomeId> {
        let from = (a.min(b), a.max(b));
        self.merged.find(hash::pair(from.0, from.1), |known| known.from == from).map(|known| known.to)
    }

    /// Remembers the outcome of two together.
    pub(super) fn merge(&mut self, tables: &[TableEntry], a: OutcomeId, b: OutcomeId) -> OutcomeId {
        let mut found = Found::new(self.tables);
        for mark in self.marks.get(a).iter().chain(self.marks.get(b)) {
            found.add(*mark);
        }
        let to = self.intern(tables, &mut found);
        let from = (a.min(b), a.max(b));
        let hash = |merged: &Merged| hash::pair(merged.from.0, merged.from.1);
        self.merged.insert_unique(hash::pair(from.0, from.1), Merged { from, to }, hash);
        to
    }

    /// Which of two outcomes is that of both together for a table; `None` when it is neither.
    pub(super) fn better(&self, a: OutcomeId, b: OutcomeId, table: usize) -> Option<OutcomeId> {
        let (first, second) = (self.part(a, table), self.part(b, table));
        match first.first_rule.cmp(&second.first_rule) {
            _ if second.first_rule == NONE => Some(a),
            _ if first.first_rule == NONE => Some(b),
            std::cmp::Ordering::Less if first.decides => Some(a),
            std::cmp::Ordering::Greater if second.decides => Some(b),
            std::cmp::Ordering::Equal if first.decides && second.decides => Some(a),
            _ => None,
        }
    }

    /// Forgets everything but the outcome of no marks.
    pub(super) fn clear(&mut self, tables: &[TableEntry]) {
        self.marks.clear();
        self.of_rule.iter_mut().for_each(Vec::clear);
        self.parts.clear();
        self.rules.clear();
        self.merged.clear();
        self.marks.intern(&[]);
        self.judge(tables, &[]);
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.marks.memory()
            + size_of::<Part>() * self.parts.capacity()
            + size_of::<RuleIndex>() * self.rules.capacity()
            + self.merged.allocation_size()
            + self.of_rule.iter().map(|of_rule| 4 * of_rule.capacity()).sum::<usize>()
    }

    fn part(&self, outcome: OutcomeId, table: usize) -> &Part {
        &self.parts[outcome as usize * self.tables + table]
    }

    /// Works out the rules that marks leave each table with.
    fn judge(&mut self, tables: &[TableEntry], marks: &[Mark]) {
        let mut rest = marks;
        for (index, table) in tables.iter().enumerate() {
            let first = rest.first().filter(|mark| mark.table.index() == index);
            let mut part = Part {
                first_rule: first.map_or(NONE, |mark| mark.rule.0),
                decides: first.is_some_and(|mark| mark.decides),
                start: number(self.rules.len()),
                end: 0,
            };
            let mut open = true;
            while let Some(mark) = rest.first()
                && mark.table.index() == index
            {
                let rule = mark.rule;
                let of_rule = rest.iter().take_while(|other| other.table == mark.table && other.rule == rule).count();
                let (of_rule, tail) = rest.split_at(of_rule);
                rest = tail;
                if open && !of_rule.iter().any(|mark| mark.veto) {
                    self.rules.push(rule);
                    open = table.mode == Mode::All || table.rules[rule.index()].conditional;
                }
            }
            part.end = number(self.rules.len());
            self.parts.push(part);
        }
    }
}
