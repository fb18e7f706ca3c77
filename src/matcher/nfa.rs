//! The automaton over tokens: what a token makes of a set of states.

use std::ops::Range;

use super::predicates::PredicateId;
use super::residuals::{Lead, Residuals};
use super::{RuleIndex, TableId};

/// A state: the steps up to here have matched.
///
/// Numbers from [`Nfa::first_won`] on are special: the state says no more than that a rule has won, whatever follows.
/// They are in order of tables and rules.
pub(super) type StateId = u32;

/// More literals than this that a state asks for are many.
const MANY: usize = 8;

/// No state, or no rule: greater than each.
pub(super) const NONE: u32 = u32::MAX;

/// In place of the rule that a way decides for: its states have marks that do not decide.
pub(super) const MARKED: u32 = NONE - 1;

/// What it means for a path to end in a state, for the state's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) rule: RuleIndex,
    /// Whether the pattern is one of the rule's exceptions.
    pub(super) veto: bool,
    /// Whether the match decides for its table unless an earlier rule does: the rule has neither conditions nor
    /// exceptions, and the table asks for the first.
    pub(super) decides: bool,
}

/// See [`StateId`]. What it has of ways, marks and leads ends where the next state's begins.
#[derive(Debug)]
pub(super) struct State {
    /// Into `Nfa::ways`, sorted by predicate: those of literals come first.
    pub(super) ways: u32,
    /// Where its ways of other predicates begin.
    pub(super) others: u32,
    /// Into `Nfa::marks`, those that decide left out.
    pub(super) marks: u32,
    /// Into `Nfa::leads`; none where they are too many.
    pub(super) leads: u32,
    /// The first of the marks that decide; or `NONE`.
    pub(super) decides: u32,
    /// The first rule that can be reached from here.
    pub(super) first_rule: u32,
    pub(super) table: u32,
    /// Whether the state is a gap: active from here on, whatever follows.
    pub(super) repeats: bool,
}

/// What becomes active when a token satisfies a predicate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Up to three states, `NONE` behind them: the step's own, if it is good for anything but the gap that may begin
    /// after it; that gap; the state of a rule that has won when the gap is reached.
    pub(super) enters: [StateId; 3],
    /// The first rule that decides when the path ends here; or `NONE`, or `MARKED`.
    pub(super) decides: u32,
}

/// A token as the automaton sees it: the predicates that it satisfies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol<'a> {
    /// Sorted, so that literals come first.
    pub(super) predicates: &'a [PredicateId],
    /// How many of them are literals.
    pub(super) literals: usize,
    /// The same, one bit for each predicate there is.
    pub(super) bits: &'a [u64],
}

impl<'a> Symbol<'a> {
    fn literals(self) -> &'a [PredicateId] {
        &self.predicates[..self.literals]
    }

    fn others(self) -> &'a [PredicateId] {
        &self.predicates[self.literals..]
    }

    pub(super) fn satisfies(self, predicate: PredicateId) -> bool {
        self.bits[predicate.0 as usize / 64] >> (predicate.0 % 64) & 1 == 1
    }
}

/// Some of the predicates in one word of [`Symbol::bits`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    word: u32,
    mask: u64,
}

impl Mask {
    /// Those of the predicates that a token satisfies.
    pub(super) fn of(self, bits: &[u64]) -> u64 {
        bits[self.word as usize] & self.mask
    }
}

/// What a path matches of a table, as it is found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The first rule that matches and decides; or `NONE`.
    pub(super) decided: u32,
    /// The marks that do not decide, of earlier rules, and perhaps some of later ones.
    pub(super) marks: Vec<Mark>,
}

impl Default for Found {
    fn default() -> Self {
        Self { decided: NONE, marks: Vec::new() }
    }
}

impl Found {
    pub(super) fn clear(&mut self) {
        self.decided = NONE;
        self.marks.clear();
    }

    /// Adds a mark.
    pub(super) fn add(&mut self, mark: Mark) {
        if mark.decides {
            self.decided = mark.rule.0.min(self.decided);
        } else if mark.rule.0 < self.decided {
            self.marks.push(mark);
        }
    }
}

/// Adds the bits of `predicates` to `bits`.
pub(super) fn set_bits(bits: &mut [u64], predicates: &[PredicateId]) {
    for predicate in predicates {
        bits[predicate.0 as usize / 64] |= 1 << (predicate.0 % 64);
    }
}

/// The automaton over token classes. A set of states is a sorted `[StateId]`.
///
/// A window may begin at any token, so that the gap it begins with is active throughout. Sets leave that gap out: what
/// may begin at a token is [`spawn`](Nfa::spawn)ed there.
#[derive(Debug)]
pub(super) struct Nfa {
    /// With one more behind the last, for the ends of its ways, marks and leads.
    pub(super) states: Vec<State>,
    pub(super) ways: Vec<Way>,
    /// Per way, its predicate. Apart, since most are asked for in vain.
    pub(super) wanted: Vec<PredicateId>,
    pub(super) marks: Vec<Mark>,
    pub(super) leads: Vec<Lead>,
    pub(super) residuals: Residuals,
    /// The set before the first token.
    pub(super) start: Vec<StateId>,
    /// The gaps that windows begin with.
    pub(super) floating: Vec<StateId>,
    pub(super) first_won: StateId,
}

impl Nfa {
    /// Puts into `to` the set after a token.
    pub(super) fn step(&self, from: &[StateId], symbol: Symbol<'_>, to: &mut Vec<StateId>) {
        to.clear();
        for &id in from {
            if self.state(id).repeats {
                to.push(id);
            }
            self.follow(id, symbol, |way| add(&way.enters, to));
        }
        self.normalize(to);
    }

    /// As [`step`](Self::step), but puts into `apart` what a literal leads to, one of many that a state asks for.
    ///
    /// Together they would be a set for each such literal and each combination of what else is active, the layers of a
    /// model times the ranges of layers that rules speak of.
    pub(super) fn step_apart(
        &self,
        from: &[StateId],
        symbol: Symbol<'_>,
        to: &mut Vec<StateId>,
        apart: &mut Vec<StateId>,
    ) {
        to.clear();
        apart.clear();
        for &id in from {
            if self.state(id).repeats {
                to.push(id);
            }
            let (literals, others) = self.ways(id);
            let literals_to = if literals.len() > MANY { &mut *apart } else { &mut *to };
            self.follow_ways(literals, symbol, symbol.literals(), |way| add(&way.enters, literals_to));
            self.follow_ways(others, symbol, symbol.others(), |way| add(&way.enters, to));
        }
        self.normalize(to);
        self.normalize(apart);
    }

    /// Adds to `to` what begins at a token.
    pub(super) fn spawn(&self, symbol: Symbol<'_>, to: &mut Vec<StateId>) {
        for gap in &self.floating {
            self.follow(*gap, symbol, |way| add(&way.enters, to));
        }
        self.normalize(to);
    }

    /// Adds to `found`, per table, what a path matches that ends with the token after the set.
    pub(super) fn end(&self, from: &[StateId], symbol: Symbol<'_>, found: &mut [Found]) {
        for &id in from {
            if self.state(id).repeats {
                self.find(id, found);
            }
            let table = self.table(id);
            self.follow(id, symbol, |way| self.find_at(way, table, found));
        }
    }

    /// Adds to `found`, per table, what a path matches that ends with the token at which it begins.
    pub(super) fn spawn_end(&self, symbol: Symbol<'_>, found: &mut [Found]) {
        for gap in &self.floating {
            let table = self.table(*gap);
            self.follow(*gap, symbol, |way| self.find_at(way, table, found));
        }
    }

    /// Adds to `masks` the predicates that a set asks for; `false` when that takes more than `most`.
    pub(super) fn masks(&self, set: &[StateId], most: usize, masks: &mut Vec<Mask>) -> bool {
        let begin = masks.len();
        let wanted = |id: &StateId| {
            let (literals, others) = self.ways(*id);
            &self.wanted[literals.start..others.end]
        };
        for predicate in set.iter().flat_map(wanted) {
            let (word, bit) = (predicate.0 / 64, 1 << (predicate.0 % 64));
            match masks[begin..].iter().rposition(|mask| mask.word == word) {
                Some(at) => masks[begin + at].mask |= bit,
                None if masks.len() == begin + most => return false,
                None => masks.push(Mask { word, mask: bit }),
            }
        }
        true
    }

    /// Whether nothing can become of a set but what it is.
    pub(super) fn is_settled(&self, set: &[StateId]) -> bool {
        set.first().is_none_or(|id| *id >= self.first_won)
    }

    /// The table that a state belongs to.
    pub(super) fn table(&self, id: StateId) -> TableId {
        TableId(self.state(id).table)
    }

    /// The table of a state, the first rule that it can lead to, and whether that rule has won.
    pub(super) fn outlook(&self, id: StateId) -> (usize, u32, bool) {
        let state = self.state(id);
        (state.table as usize, state.first_rule, id >= self.first_won)
    }

    /// All that a state leads to; `None` when that is too much to tell. The gap that may begin after it is active beside it
    /// and has leads of its own.
    pub(super) fn leads(&self, id: StateId) -> Option<&[Lead]> {
        let leads = &self.leads[self.state(id).leads as usize..self.state(id + 1).leads as usize];
        // No state leads to nothing.
        Some(leads).filter(|leads| !leads.is_empty())
    }

    fn state(&self, id: StateId) -> &State {
        &self.states[id as usize]
    }

    /// The ways of a state, those of literals and those of other predicates.
    fn ways(&self, id: StateId) -> (Range<usize>, Range<usize>) {
        let State { ways, others, .. } = self.state(id);
        let (begin, others) = (*ways as usize, *others as usize);
        (begin..others, others..self.state(id + 1).ways as usize)
    }

    /// Adds what a path matches that ends with this way.
    fn find_at(&self, way: &Way, table: TableId, found: &mut [Found]) {
        if way.decides == MARKED {
            for id in way.enters.iter().take_while(|id| **id != NONE) {
                self.find(*id, found);
            }
        } else {
            let Found { decided, .. } = &mut found[table.index()];
            *decided = way.decides.min(*decided);
        }
    }

    fn find(&self, id: StateId, found: &mut [Found]) {
        let state = self.state(id);
        let Found { decided, marks } = &mut found[state.table as usize];
        if state.first_rule < *decided {
            *decided = state.decides.min(*decided);
            marks.extend_from_slice(&self.marks[state.marks as usize..self.state(id + 1).marks as usize]);
        }
    }

    /// Calls `enter` with what becomes active at a token.
    fn follow(&self, id: StateId, symbol: Symbol<'_>, mut enter: impl FnMut(&Way)) {
        let (literals, others) = self.ways(id);
        self.follow_ways(literals, symbol, symbol.literals(), &mut enter);
        self.follow_ways(others, symbol, symbol.others(), enter);
    }

    fn follow_ways(
        &self,
        ways: Range<usize>,
        symbol: Symbol<'_>,
        predicates: &[PredicateId],
        mut enter: impl FnMut(&Way),
    ) {
        let start = ways.start;
        let wanted = &self.wanted[ways];
        if wanted.len() <= 4 + 8 * predicates.len() {
            for (way, predicate) in (start..).zip(wanted) {
                if symbol.satisfies(*predicate) {
                    enter(&self.ways[way]);
                }
            }
        } else {
            for predicate in predicates {
                if let Ok(at) = wanted.binary_search(predicate) {
                    enter(&self.ways[start + at]);
                }
            }
        }
    }

    /// Sorts, and drops what cannot change the answer any more: once a rule has won, all that leads to later rules of
    /// its table.
    pub(super) fn normalize(&self, set: &mut Vec<StateId>) {
        if set.len() < 2 {
            return;
        }
        set.sort_unstable();
        set.dedup();
        let winners = set.partition_point(|id| *id < self.first_won);
        if winners == set.len() {
            return;
        }
        // The first of a table is that of its first rule.
        set.dedup_by(|later, first| *first >= self.first_won && self.state(*first).table == self.state(*later).table);
        let mut kept = 0;
        for at in 0..winners {
            let state = self.state(set[at]);
            let beaten = |winner: &StateId| {
                let winner = self.state(*winner);
                winner.table == state.table && winner.first_rule <= state.first_rule
            };
            if !set[winners..].iter().any(beaten) {
                set[kept] = set[at];
                kept += 1;
            }
        }
        set.drain(kept..winners);
    }
}

fn add(states: &[StateId], set: &mut Vec<StateId>) {
    for id in states.iter().take_while(|id| **id != NONE) {
        set.push(*id);
    }
}
