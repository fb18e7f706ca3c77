//! What the end of a path means for a table: marks, and the rules that they leave it with.

use hashbrown::HashTable;

use super::graph::TableEntry;
use super::hash;
use super::lists::{Lists, number};
use super::nfa::{Found, Mark, NONE};
use super::rows::Row;
use super::{Mode, RuleIndex};

/// A list of marks. Equal lists of a table have equal numbers.
///
/// The outcomes that consist of one rule that decides come first, in the order of rules, `NOTHING` comes last: most
/// outcomes are of these two kinds, and of two such the lesser number is that of both together. Other outcomes are
/// numbered between them, as they come.
pub(super) type OutcomeId = u32;

/// No marks.
pub(super) const NOTHING: OutcomeId = OutcomeId::MAX;

/// No outcome: less than each.
pub(super) const UNKNOWN: OutcomeId = 0;

/// The outcome that consists of a rule that decides.
pub(super) fn deciding(rule: u32) -> OutcomeId {
    debug_assert_ne!(rule, NONE);
    rule + 1
}

/// The rule of such an outcome; `NONE` of `NOTHING`.
pub(super) fn decided_by(outcome: OutcomeId) -> u32 {
    if outcome == NOTHING { NONE } else { outcome - 1 }
}

/// The outcomes of one table met so far.
#[derive(Debug)]
pub(super) struct Outcomes<'g> {
    table: &'g TableEntry,
    /// All rules, so that a rule that decides can be answered with as a list of one.
    every_rule: &'g [RuleIndex],
    /// The first outcome that is not of a rule that decides.
    end: OutcomeId,
    /// The marks of the outcomes from `end` on.
    marks: Lists<Mark>,
    /// What they mean.
    meanings: Vec<Meaning>,
    /// Their rules.
    rules: Vec<RuleIndex>,
    merged: HashTable<Merged>,
}

#[derive(Debug, Clone, Copy)]
struct Meaning {
    /// The first rule with a mark.
    first_rule: u32,
    /// The rule that decides, so that nothing matters that later rules do; or `NONE`.
    decided: u32,
    /// The answer, into `Outcomes::rules`.
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Merged {
    from: (OutcomeId, OutcomeId),
    to: OutcomeId,
}

impl<'g> Outcomes<'g> {
    /// `every_rule` has at least the rules of the table.
    pub(super) fn new(table: &'g TableEntry, every_rule: &'g [RuleIndex]) -> Self {
        Self {
            table,
            every_rule,
            end: deciding(number(table.rules.len())),
            marks: Lists::new(),
            meanings: Vec::new(),
            rules: Vec::new(),
            merged: HashTable::new(),
        }
    }

    /// The rules that an outcome leaves the table with.
    #[inline]
    pub(super) fn rules(&self, outcome: OutcomeId) -> &[RuleIndex] {
        debug_assert_ne!(outcome, UNKNOWN);
        match outcome {
            NOTHING => &[],
            _ if outcome < self.end => std::slice::from_ref(&self.every_rule[decided_by(outcome) as usize]),
            _ => {
                let meaning = self.meaning(outcome);
                &self.rules[meaning.start as usize..meaning.end as usize]
            }
        }
    }

    /// The outcome of what was found. Leaves it in order, without what does not matter.
    pub(super) fn intern(&mut self, found: &mut Found) -> OutcomeId {
        let Found { decided, marks } = found;
        if !marks.is_empty() {
            marks.retain(|mark| mark.rule.0 < *decided);
        }
        if marks.is_empty() {
            return if *decided == NONE { NOTHING } else { deciding(*decided) };
        }
        // Sorts a rule's veto after its match.
        marks.sort_unstable();
        marks.dedup();
        // Behind all others, as its rule is.
        if *decided != NONE {
            marks.push(Mark { rule: RuleIndex(*decided), veto: false, decides: true });
        }
        let at = self.marks.intern(marks);
        if at as usize == self.meanings.len() {
            self.judge(marks);
        }
        self.end + at
    }

    /// Whether an outcome is of a rule that decides, or `NOTHING`, or `UNKNOWN`.
    pub(super) fn is_plain(&self, outcome: OutcomeId) -> bool {
        outcome < self.end || outcome == NOTHING
    }

    /// Whether an outcome stays what it is whatever rules from `bound`'s on do.
    #[inline]
    pub(super) fn beats(&self, outcome: OutcomeId, bound: OutcomeId) -> bool {
        outcome <= bound || !self.is_plain(outcome) && self.meaning(outcome).decided < bound
    }

    /// The outcome of two together, where it is known.
    pub(super) fn both(&self, a: OutcomeId, b: OutcomeId) -> Option<OutcomeId> {
        if self.is_plain(a) && self.is_plain(b) {
            return Some(a.min(b));
        }
        if a == b || self.beats(a, self.bound(b)) {
            return Some(a);
        }
        if self.beats(b, self.bound(a)) {
            return Some(b);
        }
        let from = (a.min(b), a.max(b));
        self.merged.find(hash::pair(from.0, from.1), |known| known.from == from).map(|known| known.to)
    }

    /// Works out the outcome of two together and remembers it.
    #[cold]
    pub(super) fn merge(&mut self, a: OutcomeId, b: OutcomeId) -> OutcomeId {
        let mut found = Found::default();
        self.add_marks(a, &mut found);
        self.add_marks(b, &mut found);
        let to = self.intern(&mut found);
        let from = (a.min(b), a.max(b));
        let hash = |merged: &Merged| hash::pair(merged.from.0, merged.from.1);
        self.merged.insert_unique(hash::pair(from.0, from.1), Merged { from, to }, hash);
        to
    }

    /// Adds the outcomes of a row to those of another, lane by lane and as far as what they are together is known. All that
    /// `other` can have is of rules from `bound`'s on: lanes that have decided before keep what they have.
    pub(super) fn add(&self, row: &mut Row, other: &Row, bound: OutcomeId) {
        if row.is_plain && other.is_plain {
            row.add(other, bound);
            return;
        }
        row.is_plain = false;
        for (own, other) in row.outcomes.iter_mut().zip(other.outcomes) {
            if !self.beats(*own, bound) {
                *own = if other == UNKNOWN { UNKNOWN } else { self.both(*own, other).unwrap_or(UNKNOWN) };
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
        self.meanings.clear();
        self.rules.clear();
        self.merged.clear();
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.marks.memory()
            + size_of::<Meaning>() * self.meanings.capacity()
            + size_of::<RuleIndex>() * self.rules.capacity()
            + self.merged.allocation_size()
    }

    /// What an outcome from `end` on means.
    fn meaning(&self, outcome: OutcomeId) -> Meaning {
        self.meanings[(outcome - self.end) as usize]
    }

    /// What an outcome has to be to stay what it is together with another: of a rule no later than the other's first.
    fn bound(&self, outcome: OutcomeId) -> OutcomeId {
        if self.is_plain(outcome) { outcome } else { deciding(self.meaning(outcome).first_rule) }
    }

    fn add_marks(&self, outcome: OutcomeId, found: &mut Found) {
        if self.is_plain(outcome) {
            found.decided = found.decided.min(decided_by(outcome));
        } else {
            self.marks.get(outcome - self.end).iter().for_each(|mark| found.add(*mark));
        }
    }

    /// Works out the rules that marks leave the table with, one mark at least.
    fn judge(&mut self, marks: &[Mark]) {
        let start = number(self.rules.len());
        for of_rule in marks.chunk_by(|one, other| one.rule == other.rule) {
            let rule = of_rule[0].rule;
            if of_rule.iter().any(|mark| mark.veto) {
                continue;
            }
            self.rules.push(rule);
            if self.table.mode == Mode::First && !self.table.rules[rule.index()].conditional {
                break;
            }
        }
        let decided = marks.last().filter(|mark| mark.decides).map_or(NONE, |mark| mark.rule.0);
        self.meanings.push(Meaning { first_rule: marks[0].rule.0, decided, start, end: number(self.rules.len()) });
    }
}
