//! What a walk does where it meets something new: works it out, and remembers it if there is room.

use super::TableId;
use super::classes::ClassId;
use super::nfa::{Found, StateId, Symbol, set_bits};
use super::outcomes::{NOTHING, Outcomes, UNKNOWN, decided_by, deciding};
use super::predicates::Place;
use super::residuals::Lead;
use super::rows::{self, Row};
use super::run::{Matcher, Work};
use super::strands::StrandId;
use super::tails::TailId;
use super::whole::WholeWalk;

/// More leads than this are too many for the states of a strand together: walking from there takes less.
const MOST_LEADS_TOGETHER: usize = 256;

impl Matcher<'_> {
    /// Remembers a token, if there is room.
    #[cold]
    pub(super) fn learn(&mut self, token: &str, place: Place) -> Option<ClassId> {
        if !self.has_room() {
            return None;
        }
        let class = self.classes.insert(&self.graph.predicates, token, place);
        if class as usize == self.spawned.len() {
            let set = &mut self.work.set;
            set.clear();
            self.graph.nfa.spawn(self.classes.symbol(class), set);
            self.spawned.push(self.strands.intern(&self.graph.nfa, set));
        }
        Some(class)
    }

    /// Works out the strands after a token, if there is room to remember them.
    #[cold]
    pub(super) fn advance(&mut self, from: StrandId, class: ClassId) -> Option<[StrandId; 2]> {
        if !self.has_room() {
            return None;
        }
        Some(self.strands.advance(&self.graph.nfa, from, class, &self.classes, &mut self.work.sets))
    }

    /// Remembers the tail of `path` from `start` on, if there is room.
    #[cold]
    pub(super) fn learn_tail(&mut self, path: &str, start: usize, place: Place) -> Option<TailId> {
        let mut classes = std::mem::take(&mut self.work.classes);
        classes.clear();
        let complete = self.classify(path, start, place, &mut classes);
        let tail = complete.filter(|()| self.has_room()).map(|()| {
            let Work { set, next, found, .. } = &mut self.work;
            let nfa = &self.graph.nfa;
            set.clear();
            found.iter_mut().for_each(Found::clear);
            for (at, class) in classes.iter().enumerate() {
                let symbol = self.classes.symbol(*class);
                if at + 1 == classes.len() {
                    nfa.end(set, symbol, found);
                    nfa.spawn_end(symbol, found);
                } else {
                    nfa.step(set, symbol, next);
                    nfa.spawn(symbol, next);
                    std::mem::swap(set, next);
                }
            }
            if self.module.block.is_none() {
                self.tails.begin_module();
            }
            let tail = self.tails.insert(&path.as_bytes()[start..], place, &classes);
            let (block, lane) = rows::lane_of(tail);
            for (table, found) in self.graph.tables().zip(found) {
                let outcomes = &mut self.outcomes[table.index()];
                let outcome = outcomes.intern(found);
                self.tails.spawned_mut(block, table).set(lane, outcome, outcomes.is_plain(outcome));
            }
            tail
        });
        self.work.classes = classes;
        tail
    }

    /// Appends the classes of the tokens of `path` from `start` on.
    fn classify(&mut self, path: &str, mut start: usize, mut place: Place, classes: &mut Vec<ClassId>) -> Option<()> {
        loop {
            let cut = self.graph.cutter.cut(path, start);
            let token = &path[start..cut.map_or(path.len(), |cut| cut.end)];
            classes.push(self.classes.find(token.as_bytes(), place).or_else(|| self.learn(token, place))?);
            let Some(cut) = cut else { return Some(()) };
            start = cut.next;
            place = cut.place;
        }
    }

    /// Works out what the tails of a block make of a strand, `tail` at least, if there is room to remember it.
    #[cold]
    pub(super) fn learn_row(&mut self, strand: StrandId, table: TableId, tail: TailId) -> Option<Row> {
        if !self.has_room() {
            return None;
        }
        let nfa = &self.graph.nfa;
        let mut states = std::mem::take(&mut self.work.states);
        states.clear();
        states.extend(self.strands.states(strand).iter().filter(|state| nfa.table(**state) == table));
        let (block, _) = rows::lane_of(tail);
        let row = match self.row_of_leads(table, &states, block) {
            Some(row) => row,
            None => {
                let known = self.endings.row(strand, table, block).copied();
                self.row_of_states(known.unwrap_or(Row::UNKNOWN), table, &states, tail)
            }
        };
        self.endings.set_row(strand, table, block, row);
        self.work.states = states;
        Some(row)
    }

    /// What the tails of a block make of states of one table, from all that these lead to; `None` when that is too much to
    /// tell.
    fn row_of_leads(&mut self, table: TableId, states: &[StateId], block: u32) -> Option<Row> {
        let nfa = &self.graph.nfa;
        let mut count = 0;
        for state in states {
            count += nfa.leads(*state)?.len();
            if count > MOST_LEADS_TOGETHER {
                return None;
            }
        }
        let Self { classes, tails, takers, work: Work { found, marks, .. }, .. } = self;
        let satisfies = |class, predicate| classes.symbol(class).satisfies(predicate);
        let takes = |residual, lane| {
            tails.classes(rows::tail_at(block, lane)).is_some_and(|tail| nfa.residuals.take(residual, tail, satisfies))
        };
        let known = tails.lanes(block);
        let mut row = Row::all(NOTHING);
        marks.clear();
        for Lead { residual, mark } in states.iter().filter_map(|state| nfa.leads(*state)).flatten() {
            let taken = takers.find(*residual, block, known, |lane| takes(*residual, lane));
            if mark.decides {
                row.decide(taken, deciding(mark.rule.0));
            } else {
                marks.push((taken, *mark));
            }
        }
        let (outcomes, found) = (&mut self.outcomes[table.index()], &mut found[table.index()]);
        for lane in rows::lanes(marks.iter().fold(0, |all, (taken, _)| all | taken)) {
            found.clear();
            found.decided = decided_by(row.get(lane));
            marks.iter().filter(|(taken, _)| taken & 1 << lane != 0).for_each(|(_, mark)| found.add(*mark));
            let outcome = outcomes.intern(found);
            row.set(lane, outcome, outcomes.is_plain(outcome));
        }
        rows::lanes(!known).for_each(|lane| row.set(lane, UNKNOWN, true));
        Some(row)
    }

    /// Adds to a row what a tail makes of states of one table; and what those do that follow in its block: they were met next
    /// and are likely to be asked for.
    fn row_of_states(&mut self, mut row: Row, table: TableId, from: &[StateId], tail: TailId) -> Row {
        let Work { set, next, found, .. } = &mut self.work;
        let nfa = &self.graph.nfa;
        let table = table.index();
        let (outcomes, (_, first)) = (&mut self.outcomes[table], rows::lane_of(tail));
        let mut states: &[StateId] = &[];
        for (lane, other) in (first..rows::WIDTH).zip(tail..) {
            let Some((last, before)) = self.tails.classes(other).and_then(|classes| classes.split_last()) else {
                break;
            };
            if other == tail || !self.tails.is_like_last(other) {
                states = from;
                for class in before {
                    nfa.step(states, self.classes.symbol(*class), next);
                    std::mem::swap(set, next);
                    states = set;
                }
            }
            let mut outcome = NOTHING;
            if !states.is_empty() {
                found[table].clear();
                nfa.end(states, self.classes.symbol(*last), found);
                outcome = outcomes.intern(&mut found[table]);
            }
            row.set(lane, outcome, outcomes.is_plain(outcome));
        }
        row
    }

    /// Gives the whole-path regexes that match a number, if there is room to remember it.
    #[cold]
    pub(super) fn learn_group(&mut self) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
        let (walk, whole) = (self.whole.as_mut()?, self.graph.whole.as_ref()?);
        let found = &mut self.work.found;
        found.iter_mut().for_each(Found::clear);
        whole.marks(walk.matched()).for_each(|(table, mark)| found[table.index()].add(mark));
        Some(walk.add_group(self.outcomes.iter_mut().zip(found).map(|(outcomes, found)| outcomes.intern(found))))
    }

    /// Walks the whole path without remembering anything, and sets the answers, outcomes of `passing`.
    #[cold]
    pub(super) fn walk_loose(&mut self, path: &str) {
        let graph = self.graph;
        let Work { set, next, class, bits, found, .. } = &mut self.work;
        set.clear();
        set.extend_from_slice(&graph.nfa.start);
        found.iter_mut().for_each(Found::clear);
        let (mut start, mut place) = (0, 0);
        loop {
            let cut = graph.cutter.cut(path, start);
            graph.predicates.classify(&path[start..cut.map_or(path.len(), |cut| cut.end)], place, class);
            bits.clear();
            bits.resize(graph.predicates.len().div_ceil(64), 0);
            set_bits(bits, class);
            let literals = class.partition_point(|id| graph.predicates.is_literal(*id));
            let symbol = Symbol { predicates: class, literals, bits };
            let Some(cut) = cut else {
                graph.nfa.end(set, symbol, found);
                graph.nfa.spawn_end(symbol, found);
                break;
            };
            graph.nfa.step(set, symbol, next);
            graph.nfa.spawn(symbol, next);
            std::mem::swap(set, next);
            start = cut.next;
            place = cut.place;
        }
        let matched = self.whole.as_ref().map_or(&[] as &[u32], WholeWalk::matched);
        let of_wholes = graph.whole.iter().flat_map(|whole| whole.marks(matched));
        of_wholes.for_each(|(table, mark)| found[table.index()].add(mark));
        for ((answer, outcomes), found) in self.answers.iter_mut().zip(&mut self.passing).zip(found) {
            outcomes.clear();
            *answer = outcomes.intern(found);
        }
    }

    pub(super) fn has_room(&self) -> bool {
        let used = self.classes.memory()
            + self.strands.memory()
            + self.tails.memory()
            + self.endings.memory()
            + self.takers.memory()
            + self.outcomes.iter().map(Outcomes::memory).sum::<usize>()
            + self.whole.as_ref().map_or(0, WholeWalk::memory)
            + 4 * self.spawned.capacity();
        used < self.graph.config.get_cache_capacity()
    }
}
