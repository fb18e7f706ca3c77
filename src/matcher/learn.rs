//! What a walk does where it meets something new: works it out, and remembers it if there is room.

use super::classes::ClassId;
use super::endings::Of;
use super::lists::number;
use super::nfa::{Symbol, set_bits};
use super::outcomes::{NOTHING, TableOf, UNKNOWN};
use super::predicates::Place;
use super::rows::{Row, first_of, place};
use super::run::{Matcher, Work};
use super::strands::StrandId;
use super::tails::TailId;
use super::whole::WholeWalk;

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
            found.clear();
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
            let spawned = self.outcomes.intern(found);
            let spawned = (spawned, self.outcomes.table_of(spawned));
            if self.module.block.is_none() {
                self.tails.begin_module();
            }
            self.tails.insert(&path.as_bytes()[start..], place, &classes, spawned)
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

    /// Works out what a tail makes of a strand, if there is room to remember it; and with it what other tails of its block
    /// do, as far as that is at hand.
    #[cold]
    pub(super) fn learn_outcome(&mut self, strand: StrandId, tail: TailId) -> Option<()> {
        if !self.has_room() {
            return None;
        }
        let states = self.strands.states(strand);
        let is_alone = states.len() == 1;
        let mut row = Row::all(NOTHING, TableOf::Any);
        if self.strands.outlook(strand).table == TableOf::Several {
            // Rules of several tables: nothing that rows could be added up for.
            self.find_outcomes(Of::Strand(strand), tail);
            return Some(());
        }
        for at in 0..states.len() {
            let state = self.strands.states(strand)[at];
            if let Some((table, rule)) = self.graph.nfa.winner(state) {
                row.add(&Row::all(self.graph.deciders.outcome(table, rule), TableOf::One(number(table))), UNKNOWN);
                continue;
            }
            let (block, lane) = place(tail);
            match self.endings.of_state(state, block).filter(|known| known.get(lane) != UNKNOWN) {
                Some(known) => row.add(known, UNKNOWN),
                None if is_alone => {
                    self.find_outcomes(Of::Strand(strand), tail);
                    return Some(());
                }
                None => row.add(self.find_outcomes(Of::State(state), tail), UNKNOWN),
            }
            if row.table() == TableOf::Several {
                self.find_outcomes(Of::Strand(strand), tail);
                return Some(());
            }
        }
        *self.endings.of_mut(Of::Strand(strand), place(tail).0) = row;
        Some(())
    }

    /// Works out what a tail makes of a strand or a state; and what those do that were met next: they are likely to be
    /// asked for.
    fn find_outcomes(&mut self, of: Of, tail: TailId) -> &Row {
        let Work { set, next, found, outcomes, .. } = &mut self.work;
        let states = match &of {
            Of::Strand(strand) => self.strands.states(*strand),
            Of::State(state) => std::slice::from_ref(state),
        };
        outcomes.clear();
        let mut others = (tail..first_of(place(tail).0 + 1)).map_while(|tail| self.tails.classes(tail)).peekable();
        while let Some((before, _)) = others.peek().copied() {
            let mut states = states;
            for class in before {
                self.graph.nfa.step(states, self.classes.symbol(*class), next);
                std::mem::swap(set, next);
                states = set;
            }
            while let Some((_, last)) = others.next_if(|other| other.0 == before) {
                if states.is_empty() {
                    outcomes.push((NOTHING, TableOf::Any));
                    continue;
                }
                found.clear();
                self.graph.nfa.end(states, self.classes.symbol(last), found);
                let outcome = self.outcomes.intern(found);
                outcomes.push((outcome, self.outcomes.table_of(outcome)));
            }
        }
        self.endings.insert(of, tail, outcomes)
    }

    /// Walks the whole path without remembering anything, and sets the answer, an outcome of `passing`.
    #[cold]
    pub(super) fn walk_loose(&mut self, path: &str) {
        let graph = self.graph;
        let Work { set, next, class, bits, found, .. } = &mut self.work;
        set.clear();
        set.extend_from_slice(&graph.nfa.start);
        found.clear();
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
        graph.whole.iter().flat_map(|whole| whole.marks(matched)).for_each(|mark| found.add(mark));
        self.passing.clear();
        let outcome = self.passing.intern(found);
        self.answer = Some(outcome);
    }

    pub(super) fn has_room(&self) -> bool {
        let used = self.classes.memory()
            + self.strands.memory()
            + self.tails.memory()
            + self.endings.memory()
            + self.outcomes.memory()
            + self.whole.as_ref().map_or(0, WholeWalk::memory)
            + 4 * self.spawned.capacity();
        used < self.graph.config.get_cache_capacity()
    }
}
