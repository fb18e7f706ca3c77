//! The graph as an automaton: states with equal futures are one state.

use std::collections::HashMap;
use std::ops::Range;

use petgraph::Direction;
use petgraph::visit::EdgeRef;

use super::graph::{Edge, Graph, Node, TableEntry};
use super::predicates::PredicateId;
use super::{Mode, RuleIndex, TableId};
use crate::pattern::Step;

/// A state: the steps up to here have matched.
pub(super) type StateId = u32;

const NONE: u32 = u32::MAX;

/// What it means for a path to end in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) table: TableId,
    pub(super) rule: RuleIndex,
    /// Whether the pattern is one of the rule's exceptions.
    pub(super) veto: bool,
}

#[derive(Debug)]
struct State {
    /// Into `Nfa::edges`, sorted by predicate.
    edges: Range<u32>,
    /// Into `Nfa::marks`.
    marks: Range<u32>,
    /// The gap that may begin after this state, or `NONE`.
    gap: StateId,
    /// Whether the state is a gap: active from here on, whatever follows.
    repeats: bool,
    table: u32,
    /// The first rule that can be reached from here.
    first_rule: u32,
    /// The rule that has won, whatever follows, once this state is active; or `NONE`.
    winner: u32,
    /// The state that stands for "`winner` has won" and nothing else; or `NONE`.
    won: StateId,
}

/// The automaton over token classes. A set of states is a sorted `[StateId]`.
#[derive(Debug)]
pub(super) struct Nfa {
    states: Vec<State>,
    edges: Vec<(PredicateId, StateId)>,
    marks: Vec<Mark>,
    start: Vec<StateId>,
    tables: usize,
}

/// What tells one state's future from another's.
#[derive(PartialEq, Eq, Hash, Clone)]
struct Future {
    table: TableId,
    repeats: bool,
    gap: StateId,
    edges: Vec<(PredicateId, StateId)>,
    marks: Vec<Mark>,
}

impl Nfa {
    /// Reads the graph from its leaves to its roots, so that a node's children are states before it is.
    pub(super) fn new(graph: &Graph, tables: &[TableEntry], predicate_of: &[Option<PredicateId>]) -> Self {
        let mut nfa =
            Self { states: Vec::new(), edges: Vec::new(), marks: Vec::new(), start: Vec::new(), tables: tables.len() };
        let mut known = HashMap::new();
        let mut state_of = vec![NONE; graph.node_count()];
        let mut table_of = vec![TableId(0); graph.node_count()];
        for node in graph.node_indices() {
            table_of[node.index()] = match graph[node] {
                Node::Table(table) | Node::Rule(table, _) => table,
                Node::Step(_) | Node::WholePath(_) => graph
                    .neighbors_directed(node, Direction::Incoming)
                    .next()
                    .map_or(TableId(0), |parent| table_of[parent.index()]),
            };
        }
        for node in graph.node_indices().rev() {
            if !matches!(graph[node], Node::Table(_) | Node::Step(_)) {
                continue;
            }
            let mut future = Future {
                table: table_of[node.index()],
                repeats: graph[node] == Node::Step(Step::Gap),
                gap: NONE,
                edges: Vec::new(),
                marks: Vec::new(),
            };
            for edge in graph.edges(node) {
                let target = edge.target();
                match (edge.weight(), &graph[target]) {
                    (Edge::Next, Node::Step(Step::Gap)) => future.gap = state_of[target.index()],
                    (Edge::Next, _) => {
                        if let Some(predicate) = predicate_of[target.index()] {
                            future.edges.push((predicate, state_of[target.index()]));
                        }
                    }
                    (weight, Node::Rule(table, rule)) => {
                        let veto = matches!(weight, Edge::Veto(_));
                        future.marks.push(Mark { table: *table, rule: *rule, veto });
                    }
                    _ => {}
                }
            }
            state_of[node.index()] = nfa.state(future, tables, &mut known);
        }
        let mut start = Vec::new();
        for table in tables {
            nfa.enter(state_of[table.root.index()], &mut start);
        }
        nfa.normalize(&mut start);
        nfa.start = start;
        nfa
    }

    /// The set before the first token.
    pub(super) fn start(&self) -> &[StateId] {
        &self.start
    }

    /// Puts into `to` the set after a token of class `class` (the predicates it satisfies, sorted).
    pub(super) fn step(&self, from: &[StateId], class: &[PredicateId], to: &mut Vec<StateId>) {
        to.clear();
        for &id in from {
            let state = &self.states[id as usize];
            if state.repeats {
                to.push(id);
            }
            let edges = &self.edges[state.edges.start as usize..state.edges.end as usize];
            if edges.len() > 8 * class.len() {
                for predicate in class {
                    if let Ok(at) = edges.binary_search_by(|(edge, _)| edge.cmp(predicate)) {
                        self.enter(edges[at].1, to);
                    }
                }
            } else {
                let mut rest = class;
                for (predicate, target) in edges {
                    while let [first, tail @ ..] = rest
                        && first < predicate
                    {
                        rest = tail;
                    }
                    match rest {
                        [] => break,
                        [first, ..] if first == predicate => self.enter(*target, to),
                        _ => {}
                    }
                }
            }
        }
        self.normalize(to);
    }

    /// What a path that ends with the set `set` matches.
    pub(super) fn marks(&self, set: &[StateId]) -> impl Iterator<Item = Mark> {
        set.iter().flat_map(|id| {
            let range = &self.states[*id as usize].marks;
            self.marks[range.start as usize..range.end as usize].iter().copied()
        })
    }

    /// Adds a state and the gap that may begin after it. A state that is good for nothing else is left out.
    fn enter(&self, id: StateId, set: &mut Vec<StateId>) {
        let state = &self.states[id as usize];
        if state.gap == NONE {
            set.push(id);
        } else {
            if !state.edges.is_empty() || !state.marks.is_empty() {
                set.push(id);
            }
            set.push(state.gap);
        }
    }

    /// Sorts, and drops what cannot change the answer any more: once a rule has won, all that leads to later rules.
    fn normalize(&self, set: &mut Vec<StateId>) {
        set.sort_unstable();
        set.dedup();
        let Some(table_count) = set.iter().any(|id| self.states[*id as usize].winner != NONE).then_some(self.tables)
        else {
            return;
        };
        let mut winners = vec![(NONE, NONE); table_count];
        for id in set.iter() {
            let state = &self.states[*id as usize];
            let best = &mut winners[state.table as usize];
            *best = (*best).min((state.winner, state.won));
        }
        set.retain(|id| {
            let state = &self.states[*id as usize];
            state.first_rule < winners[state.table as usize].0
        });
        set.extend(winners.iter().map(|winner| winner.1).filter(|won| *won != NONE));
        set.sort_unstable();
    }

    fn state(&mut self, mut future: Future, tables: &[TableEntry], known: &mut HashMap<Future, StateId>) -> StateId {
        future.edges.sort_unstable();
        future.marks.sort_unstable();
        future.marks.dedup();
        if let Some(id) = known.get(&future) {
            return *id;
        }
        let table = &tables[future.table.index()];
        let wins = |mark: &&Mark| {
            let rule = &table.rules[mark.rule.index()];
            !mark.veto && !rule.conditional && rule.excepts == 0
        };
        let winner = match table.mode {
            Mode::First if future.repeats => future.marks.iter().find(wins).copied(),
            Mode::First | Mode::All => None,
        };
        let won = winner.map(|mark| Future {
            table: future.table,
            repeats: true,
            gap: NONE,
            edges: Vec::new(),
            marks: vec![mark],
        });
        let is_won = won.as_ref() == Some(&future);
        let won = won.filter(|_| !is_won).map(|won| self.state(won, tables, known));
        let id = number(self.states.len());
        let children = future.edges.iter().map(|edge| edge.1).chain((future.gap != NONE).then_some(future.gap));
        let first_rule = children
            .map(|child| self.states[child as usize].first_rule)
            .chain(future.marks.iter().map(|mark| mark.rule.0))
            .min()
            .unwrap_or(NONE);
        let edges = number(self.edges.len());
        self.edges.extend(&future.edges);
        let marks = number(self.marks.len());
        self.marks.extend(&future.marks);
        self.states.push(State {
            edges: edges..number(self.edges.len()),
            marks: marks..number(self.marks.len()),
            gap: future.gap,
            repeats: future.repeats,
            table: future.table.0,
            first_rule,
            winner: winner.map_or(NONE, |mark| mark.rule.0),
            won: won.unwrap_or(if is_won { id } else { NONE }),
        });
        known.insert(future, id);
        id
    }
}

/// Building refuses tables with more than a quarter of `u32::MAX` nodes, and nothing here is more numerous.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(NONE)
}
