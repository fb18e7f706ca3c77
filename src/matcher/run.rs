//! Resolving paths.

use std::ops::Range;

use super::classes::{ClassId, Classes};
use super::cut::{common_prefix, starts_with};
use super::endings::Endings;
use super::lists::number;
use super::nfa::{Found, Mark, NONE, StateId};
use super::outcomes::{OutcomeId, Outcomes, UNKNOWN, deciding};
use super::predicates::{Place, PredicateId};
use super::residuals::Takers;
use super::rows::{Lanes, Row, lane_of};
use super::strands::{Active, StrandId, Strands};
use super::tails::{TailId, Tails, behind_numbers};
use super::whole::{WholePaths, WholeWalk};
use super::{MatcherGraph, RuleIndex, TableId};

/// Resolves paths; remembers what it has seen, so that similar paths are cheap, above all in the order of an inventory.
///
/// Answers depend on nothing but the path.
#[derive(Debug)]
pub struct Matcher<'g> {
    pub(super) graph: &'g MatcherGraph,
    pub(super) classes: Classes,
    /// Per class, the strand that begins at a token of the class.
    pub(super) spawned: Vec<StrandId>,
    pub(super) strands: Strands,
    pub(super) tails: Tails,
    pub(super) endings: Endings,
    pub(super) takers: Takers,
    /// Per table.
    pub(super) outcomes: Vec<Outcomes<'g>>,
    pub(super) whole: Option<WholeWalk>,
    /// The last token of the path resolved last that it was walked to. The first begins at 0.
    step: Step,
    /// The tokens before it.
    steps: Vec<Step>,
    /// That path up to the last step.
    stem: Vec<u8>,
    /// The strands of all steps, end to end.
    active: Vec<Active>,
    pub(super) module: Module,
    /// Per table, the outcome of the path resolved last.
    pub(super) answers: Vec<OutcomeId>,
    /// The outcomes of a path that may not be remembered, in place of `outcomes`.
    pub(super) passing: Vec<Outcomes<'g>>,
    pub(super) work: Work,
    joined: String,
}

/// The beginning of a token.
#[derive(Debug, Clone, Copy)]
struct Step {
    start: u32,
    place: Place,
    /// Its strands, in `Matcher::active`.
    begin: u32,
    end: u32,
}

/// Longer paths are not remembered.
const LONGEST: usize = 1 << 30;

/// Room to work in.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) set: Vec<StateId>,
    pub(super) next: Vec<StateId>,
    pub(super) states: Vec<StateId>,
    pub(super) sets: [Vec<StateId>; 2],
    pub(super) class: Vec<PredicateId>,
    pub(super) bits: Vec<u64>,
    pub(super) classes: Vec<ClassId>,
    /// Per table.
    pub(super) found: Vec<Found>,
    /// Marks, and the lanes that have them.
    pub(super) marks: Vec<(Lanes, Mark)>,
}

/// What the tails of one block make of all that is active at the last step.
#[derive(Debug)]
pub(super) struct Module {
    /// `None` as long as no path has ended behind the step.
    pub(super) block: Option<u32>,
    /// Per table.
    rows: Vec<Row>,
}

/// What one path matches, table by table.
#[derive(Debug, Clone, Copy)]
pub struct Matches<'m> {
    outcomes: &'m [Outcomes<'m>],
    answers: &'m [OutcomeId],
}

impl<'m> Matches<'m> {
    /// The rules of a table that match, in file order and less those with an exception that matches; in
    /// [`Mode::First`](super::Mode::First) nothing after the first unconditional rule.
    ///
    /// # Panics
    ///
    /// When `table` is of another graph.
    #[must_use]
    #[inline]
    pub fn candidates(&self, table: TableId) -> &'m [RuleIndex] {
        self.outcomes[table.index()].rules(self.answers[table.index()])
    }
}

impl<'g> Matcher<'g> {
    pub(super) fn new(graph: &'g MatcherGraph) -> Self {
        let tables = graph.tables.len();
        let outcomes = || graph.tables.iter().map(|table| Outcomes::new(table, &graph.every_rule)).collect();
        let mut strands = Strands::new(tables);
        let start = strands.intern(&graph.nfa, &graph.nfa.start);
        let mut active = Vec::new();
        strands.add(start, &mut active, 0);
        Self {
            graph,
            classes: Classes::new(graph.predicates.len()),
            spawned: Vec::new(),
            strands,
            tails: Tails::new(tables),
            endings: Endings::new(tables),
            takers: Takers::default(),
            outcomes: outcomes(),
            whole: graph.whole.as_ref().map(WholePaths::walk),
            step: Step { start: 0, place: 0, begin: 0, end: number(active.len()) },
            steps: Vec::new(),
            stem: Vec::new(),
            active,
            module: Module { block: None, rows: vec![Row::UNKNOWN; tables] },
            answers: vec![UNKNOWN; tables],
            passing: outcomes(),
            work: Work {
                set: Vec::new(),
                next: Vec::new(),
                states: Vec::new(),
                sets: [Vec::new(), Vec::new()],
                class: Vec::new(),
                bits: Vec::new(),
                classes: Vec::new(),
                found: vec![Found::default(); tables],
                marks: Vec::new(),
            },
            joined: String::new(),
        }
    }

    /// The graph that paths are resolved with.
    #[must_use]
    pub fn graph(&self) -> &'g MatcherGraph {
        self.graph
    }

    /// Resolves a path, cut at the graph's separators.
    #[inline]
    pub fn resolve(&mut self, path: &str) -> Matches<'_> {
        let known = self.walk(path);
        self.matches(known)
    }

    /// Resolves a path that is given as tokens: the path that they give when joined by the graph's first separator. A
    /// token that holds a separator is cut there, as Grok-1's own code cuts its keys.
    ///
    /// ```
    /// # use flow_fabric::matcher::{MatcherGraph, Mode, Rule, Table};
    /// # use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
    /// let separators = Separators::default();
    /// let pattern = Pattern::new(PatternSpec::Path(vec!["moe/linear/w".into()]), &separators).unwrap();
    /// let rule = Rule { name: "up", pattern: pattern.lowered(), excepts: vec![], conditional: false };
    /// let graph = MatcherGraph::new(&[Table { name: "t", mode: Mode::First, rules: vec![rule] }], &separators)?;
    /// let table = graph.table("t").unwrap();
    /// let mut matcher = graph.matcher();
    /// assert_eq!(matcher.resolve_tokens(&["moe", "linear", "w"]).candidates(table).len(), 1);
    /// assert_eq!(matcher.resolve_tokens(&["moe", "linear/w"]).candidates(table).len(), 1);
    /// # Ok::<(), flow_fabric::matcher::BuildError>(())
    /// ```
    pub fn resolve_tokens<S: AsRef<str>>(&mut self, tokens: &[S]) -> Matches<'_> {
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        join(tokens, self.graph.separators.joiner(), &mut joined);
        let known = self.walk(&joined);
        self.joined = joined;
        self.matches(known)
    }

    fn matches(&self, known: bool) -> Matches<'_> {
        let outcomes = if known { &self.outcomes } else { &self.passing };
        Matches { outcomes, answers: &self.answers }
    }

    /// Walks a path from the last token that it has in common with the one before, and sets the answers. `false` when
    /// they could not be remembered and are in `passing`.
    fn walk(&mut self, path: &str) -> bool {
        if path.len() > LONGEST {
            return self.walk_monster(path);
        }
        let tail = match self.follow(path) {
            None => self.tail(path),
            found => found,
        };
        let known = tail.is_some_and(|tail| self.end(tail).is_some());
        if self.whole.is_some() {
            return self.walk_whole(path, known);
        }
        if !known {
            self.walk_loose(path);
        }
        known
    }

    /// Walks the whole-path regexes; `known` is whether the answers so far are.
    #[inline(never)]
    fn walk_whole(&mut self, path: &str, mut known: bool) -> bool {
        if let (Some(walk), Some(whole)) = (&mut self.whole, &self.graph.whole) {
            walk.walk(whole, path);
            known = known && self.end_whole().is_some();
        }
        if !known {
            self.walk_loose(path);
        }
        known
    }

    /// Walks a path whose places cannot be numbered.
    #[cold]
    fn walk_monster(&mut self, path: &str) -> bool {
        if let (Some(walk), Some(whole)) = (&mut self.whole, &self.graph.whole) {
            walk.walk(whole, path);
            walk.forget();
        }
        self.walk_loose(path);
        false
    }

    /// The tail behind the last step, for a path that is there and goes on as one did before it. Most paths do.
    fn follow(&mut self, path: &str) -> Option<TailId> {
        let path = path.as_bytes();
        if !starts_with(path, &self.stem) {
            return None;
        }
        let rest = &path[self.stem.len()..];
        self.tails.follow(rest, self.step.place)
    }

    /// Walks from the last step that is in common to where a tail begins that is known, failing that to behind the last
    /// number. `None` when what the walk leads to is not known and may not be remembered.
    #[inline(never)]
    fn tail(&mut self, path: &str) -> Option<TailId> {
        self.rewind(path.as_bytes());
        loop {
            let rest = &path.as_bytes()[self.step.start as usize..];
            // What begins with a number is unlikely to be known.
            if !rest.first().is_some_and(u8::is_ascii_digit) {
                return match self.tails.find(rest, self.step.place) {
                    None => self.new_tail(path),
                    found => found,
                };
            }
            if !self.token(path)? {
                return self.new_tail(path);
            }
        }
    }

    /// Takes back the steps up to the last that is in common with `path`.
    fn rewind(&mut self, path: &[u8]) {
        // Most often it is one, and to compare takes less than to count what is in common.
        let common = match self.steps.last() {
            _ if starts_with(path, &self.stem) => self.stem.len(),
            Some(step) if starts_with(path, &self.stem[..step.start as usize]) => step.start as usize,
            _ => common_prefix(path, &self.stem),
        };
        while self.step.start as usize > common
            && let Some(step) = self.steps.pop()
        {
            self.step = step;
            self.module.block = None;
        }
        self.stem.truncate(self.step.start as usize);
        self.active.truncate(self.step.end as usize);
    }

    /// Walks behind the last number, and remembers the tail from there.
    #[cold]
    fn new_tail(&mut self, path: &str) -> Option<TailId> {
        let begin = self.step.start as usize;
        let end = begin + behind_numbers(&path.as_bytes()[begin..], |byte| self.graph.cutter.may_cut(byte));
        while (self.step.start as usize) < end && self.token(path)? {}
        let Step { start, place, .. } = self.step;
        match self.tails.find(&path.as_bytes()[start as usize..], place) {
            None => self.learn_tail(path, start as usize, place),
            found => found,
        }
    }

    /// Takes the token that begins at the last step, unless it is the path's last: then it returns `false`. `None` when
    /// it leads to what is not known and may not be remembered.
    fn token(&mut self, path: &str) -> Option<bool> {
        let start = self.step.start as usize;
        let Some(cut) = self.graph.cutter.cut(path, start) else { return Some(false) };
        self.take(&path[start..cut.end], self.step.place)?;
        self.stem.extend_from_slice(&path.as_bytes()[start..cut.next]);
        let (begin, end) = (self.step.end, number(self.active.len()));
        self.steps.push(self.step);
        self.step = Step { start: number(cut.next), place: cut.place, begin, end };
        self.module.block = None;
        Some(true)
    }

    /// Takes one token: appends the strands after it to those before. `None`, with nothing appended, when it leads to
    /// what is not known and may not be remembered.
    fn take(&mut self, token: &str, place: Place) -> Option<()> {
        let class = self.classes.find(token.as_bytes(), place).or_else(|| self.learn(token, place))?;
        let Range { start: begin, end } = self.last();
        for at in begin..end {
            let from = self.active[at].strand;
            let Some(to) = self.strands.next(from, class, &self.classes).or_else(|| self.advance(from, class)) else {
                self.active.truncate(end);
                return None;
            };
            to.into_iter().for_each(|strand| self.strands.add(strand, &mut self.active, end));
        }
        self.strands.add(self.spawned[class as usize], &mut self.active, end);
        self.strands.prune(&mut self.active, end);
        Some(())
    }

    /// The strands of the last step.
    fn last(&self) -> Range<usize> {
        self.step.begin as usize..self.step.end as usize
    }

    /// Sets the answers from the last step and what follows it.
    #[inline]
    fn end(&mut self, tail: TailId) -> Option<()> {
        let (block, lane) = lane_of(tail);
        let mut known = self.module.block == Some(block);
        for (answer, row) in self.answers.iter_mut().zip(&self.module.rows) {
            *answer = row.get(lane);
            known &= *answer != UNKNOWN;
        }
        if known { Some(()) } else { self.end_anew(tail) }
    }

    /// Sets the answers from the last step and a tail that has not been met there.
    #[inline(never)]
    fn end_anew(&mut self, tail: TailId) -> Option<()> {
        let (block, lane) = lane_of(tail);
        if self.module.block != Some(block) {
            self.module.block = Some(block);
            self.module.rows.fill(Row::UNKNOWN);
        }
        for table in self.graph.tables() {
            let mut outcome = self.module.rows[table.index()].get(lane);
            if outcome == UNKNOWN {
                let row = self.row(tail, table)?;
                outcome = row.get(lane);
                self.module.rows[table.index()] = row;
            }
            self.answers[table.index()] = outcome;
        }
        Some(())
    }

    /// What the tails in the block of `tail` make of all strands of the last step, `tail` at least. `None` when that is not
    /// known and may not be remembered.
    fn row(&mut self, tail: TailId, table: TableId) -> Option<Row> {
        let (block, lane) = lane_of(tail);
        let mut row = *self.tails.spawned(block, table);
        for at in self.last() {
            let strand = self.active[at].strand;
            let first_rule = self.strands.first_rule(strand, table);
            if first_rule == NONE {
                continue;
            }
            let bound = deciding(first_rule);
            let other = match self.endings.row(strand, table, block) {
                Some(known) if known.get(lane) != UNKNOWN => *known,
                // Often what was found so far decides before anything that the strand can lead to. Other lanes, which it may
                // have a say in, become unknown.
                _ if self.outcomes[table.index()].beats(row.get(lane), bound) => Row::UNKNOWN,
                _ => self.learn_row(strand, table, tail)?,
            };
            self.add_row(table, &mut row, &other, bound, lane)?;
        }
        Some(row)
    }

    /// Adds the outcomes of a row to those of another, that in `lane` at least. All that `other` can have is of rules from
    /// `bound`'s on.
    fn add_row(&mut self, table: TableId, row: &mut Row, other: &Row, bound: OutcomeId, lane: usize) -> Option<()> {
        let own = row.get(lane);
        self.outcomes[table.index()].add(row, other, bound);
        if row.get(lane) == UNKNOWN {
            // What has not been met together yet. It is nothing plain.
            row.set(lane, self.merged(table, own, other.get(lane))?, false);
        }
        Some(())
    }

    /// The outcome of two together. `None` when it is not known and may not be remembered.
    fn merged(&mut self, table: TableId, a: OutcomeId, b: OutcomeId) -> Option<OutcomeId> {
        match self.outcomes[table.index()].both(a, b) {
            None if self.has_room() => Some(self.outcomes[table.index()].merge(a, b)),
            known => known,
        }
    }

    /// Adds the whole-path regexes that match to the answers.
    fn end_whole(&mut self) -> Option<()> {
        let Some(walk) = self.whole.as_ref().filter(|walk| !walk.matched().is_empty()) else { return Some(()) };
        let group = walk.group().or_else(|| self.learn_group())?;
        for table in self.graph.tables() {
            let outcome = self.whole.as_ref()?.outcome(group, table, self.answers.len());
            self.answers[table.index()] = self.merged(table, self.answers[table.index()], outcome)?;
        }
        Some(())
    }
}

/// Appends the path that `tokens` stand for.
pub(super) fn join<S: AsRef<str>>(tokens: &[S], joiner: char, path: &mut String) {
    for (index, token) in tokens.iter().enumerate() {
        if index > 0 {
            path.push(joiner);
        }
        path.push_str(token.as_ref());
    }
}
