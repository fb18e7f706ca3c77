//! What the end of a path means for the tables: marks, and the rules that they leave each table with.

use std::ops::Range;

use hashbrown::HashTable;

use super::graph::TableEntry;
use super::hash;
use super::lists::{Lists, number};
use super::nfa::{Found, Mark, NONE};
use super::{Mode, RuleIndex, TableId};

/// A list of marks. Equal lists have equal numbers.
///
/// The outcomes that consist of one rule that decides come first, by table and rule, `NOTHING` comes last: most outcomes
/// are of these two kinds, and their numbers say all there is to know. Other outcomes are numbered as they come.
pub(super) type OutcomeId = u32;

/// No marks.
pub(super) const NOTHING: OutcomeId = OutcomeId::MAX;

/// No outcome: less than each.
pub(super) const UNKNOWN: OutcomeId = 0;

/// Of which table outcomes are the deciding rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableOf {
    /// Of any: they are `NOTHING`.
    Any,
    One(u32),
    /// Of several, or there is more to some than a rule that decides.
    Several,
}

impl TableOf {
    /// That of both together.
    pub(super) fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Any, other) => other,
            (own, Self::Any) => own,
            (own, other) if own == other => own,
            _ => Self::Several,
        }
    }
}

/// The outcomes that consist of one rule that decides.
#[derive(Debug)]
pub(super) struct Deciders {
    /// Per table, the outcomes of its rules.
    of_tables: Vec<Range<OutcomeId>>,
    /// The first number of an outcome of another kind.
    end: OutcomeId,
    /// Every rule of the largest table, so that a rule can be answered with as a list of one.
    rules: Vec<RuleIndex>,
}

impl Deciders {
    pub(super) fn new(tables: &[TableEntry]) -> Self {
        let mut of_tables = Vec::with_capacity(tables.len());
        let mut end = UNKNOWN + 1;
        for table in tables {
            let begin = end;
            end += number(table.rules.len());
            of_tables.push(begin..end);
        }
        let largest = tables.iter().map(|table| table.rules.len()).max().unwrap_or(0);
        Self { of_tables, end, rules: (0..number(largest)).map(RuleIndex).collect() }
    }

    /// The outcome of a rule.
    pub(super) fn outcome(&self, table: usize, rule: u32) -> OutcomeId {
        self.of_tables[table].start + rule
    }

    /// The rule of a table that decides in an outcome before `end`, if one does.
    #[inline]
    fn rule(&self, outcome: OutcomeId, table: usize) -> Option<u32> {
        let outcomes = &self.of_tables[table];
        outcomes.contains(&outcome).then(|| outcome - outcomes.start)
    }
}

/// The outcomes met so far.
#[derive(Debug)]
pub(super) struct Outcomes<'g> {
    tables: &'g [TableEntry],
    deciders: &'g Deciders,
    /// The marks of the outcomes from `deciders.end` on.
    marks: Lists<Mark>,
    /// The same per outcome and table.
    parts: Vec<Part>,
    /// Their rules, all tables'.
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

impl<'g> Outcomes<'g> {
    pub(super) fn new(tables: &'g [TableEntry], deciders: &'g Deciders) -> Self {
        Self { tables, deciders, marks: Lists::new(), parts: Vec::new(), rules: Vec::new(), merged: HashTable::new() }
    }

    /// The rules that an outcome leaves a table with.
    #[inline]
    pub(super) fn rules(&self, outcome: OutcomeId, table: TableId) -> &[RuleIndex] {
        if outcome < self.deciders.end {
            let rule = self.deciders.rule(outcome, table.index());
            rule.map_or(&[], |rule| &self.deciders.rules[rule as usize..][..1])
        } else if outcome == NOTHING {
            &[]
        } else {
            let part = self.part(outcome, table.index());
            &self.rules[part.start as usize..part.end as usize]
        }
    }

    /// Which table's deciding rule an outcome is.
    pub(super) fn table_of(&self, outcome: OutcomeId) -> TableOf {
        if outcome == NOTHING {
            return TableOf::Any;
        }
        let table = self.deciders.of_tables.iter().position(|outcomes| outcomes.contains(&outcome));
        table.map_or(TableOf::Several, |table| TableOf::One(number(table)))
    }

    /// The outcome of what was found; may sort it and drop what does not matter.
    pub(super) fn intern(&mut self, found: &mut Found) -> OutcomeId {
        let Found { decided, marks } = found;
        if !marks.is_empty() {
            marks.retain(|mark| mark.rule.0 < decided[mark.table.index()]);
        }
        if marks.is_empty() {
            let mut of_tables = decided.iter().enumerate().filter(|(_, rule)| **rule != NONE);
            match (of_tables.next(), of_tables.next()) {
                (None, _) => return NOTHING,
                (Some((table, rule)), None) => return self.deciders.outcome(table, *rule),
                _ => {}
            }
        }
        for (table, rule) in (0..).zip(decided.iter()).filter(|(_, rule)| **rule != NONE) {
            marks.push(Mark { table: TableId(table), rule: RuleIndex(*rule), veto: false, decides: true });
        }
        // Sorts a rule's veto after its match.
        marks.sort_unstable();
        marks.dedup();
        let at = self.marks.intern(marks);
        if at as usize * self.tables.len() == self.parts.len() {
            self.judge(marks);
        }
        self.deciders.end + at
    }

    /// The outcome of two together, where it is known.
    pub(super) fn merged(&self, a: OutcomeId, b: OutcomeId) -> Option<OutcomeId> {
        let from = (a.min(b), a.max(b));
        self.merged.find(hash::pair(from.0, from.1), |known| known.from == from).map(|known| known.to)
    }

    /// Remembers the outcome of two together.
    pub(super) fn merge(&mut self, a: OutcomeId, b: OutcomeId) -> OutcomeId {
        let mut found = Found::new(self.tables.len());
        self.add_marks(a, &mut found);
        self.add_marks(b, &mut found);
        let to = self.intern(&mut found);
        let from = (a.min(b), a.max(b));
        let hash = |merged: &Merged| hash::pair(merged.from.0, merged.from.1);
        self.merged.insert_unique(hash::pair(from.0, from.1), Merged { from, to }, hash);
        to
    }

    /// Which of two outcomes is that of both together; `None` when it is neither.
    pub(super) fn of_both(&self, a: OutcomeId, b: OutcomeId) -> Option<OutcomeId> {
        let beats = |a, b| self.beats(a, |table| self.part(b, table).first_rule);
        if beats(a, b) {
            Some(a)
        } else if beats(b, a) {
            Some(b)
        } else {
            None
        }
    }

    /// Whether an outcome decides every table before rules from `first_rule` on do; `NONE` where there are no such rules.
    #[inline]
    pub(super) fn beats(&self, outcome: OutcomeId, first_rule: impl Fn(usize) -> u32) -> bool {
        (0..self.tables.len()).all(|table| {
            let own = self.part(outcome, table);
            let other = first_rule(table);
            other == NONE || own.decides && own.first_rule <= other
        })
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

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
        self.parts.clear();
        self.rules.clear();
        self.merged.clear();
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.marks.memory()
            + size_of::<Part>() * self.parts.capacity()
            + size_of::<RuleIndex>() * self.rules.capacity()
            + self.merged.allocation_size()
    }

    #[inline]
    fn part(&self, outcome: OutcomeId, table: usize) -> Part {
        if outcome < self.deciders.end {
            let first_rule = self.deciders.rule(outcome, table).unwrap_or(NONE);
            Part { first_rule, decides: true, start: 0, end: 0 }
        } else if outcome == NOTHING {
            Part { first_rule: NONE, decides: true, start: 0, end: 0 }
        } else {
            self.parts[(outcome - self.deciders.end) as usize * self.tables.len() + table]
        }
    }

    fn add_marks(&self, outcome: OutcomeId, found: &mut Found) {
        if outcome < self.deciders.end {
            for (table, decided) in found.decided.iter_mut().enumerate() {
                *decided = self.deciders.rule(outcome, table).map_or(*decided, |rule| rule.min(*decided));
            }
        } else if outcome != NOTHING {
            self.marks.get(outcome - self.deciders.end).iter().for_each(|mark| found.add(*mark));
        }
    }

    /// Works out the rules that marks leave each table with.
    fn judge(&mut self, marks: &[Mark]) {
        let mut rest = marks;
        for (index, table) in self.tables.iter().enumerate() {
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
