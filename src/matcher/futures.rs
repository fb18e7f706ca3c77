//! The graph's nodes as states of the automaton; nodes with the same future are one state.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use petgraph::Direction;
use petgraph::visit::EdgeRef;

use super::TableId;
use super::graph::{Edge, Graph, Node, TableEntry};
use super::lists::number;
use super::nfa::{MARKED, Mark, NONE, Nfa, State, StateId, Way};
use super::predicates::{PredicateId, Predicates};
use super::residuals::{END, Lead, Residuals, ResidualsBuilder};
use crate::pattern::Step;

/// Makes the automaton of a graph. Reads it from its leaves to its roots, so that a node's children are states before it.
pub(super) fn automaton(
    graph: &Graph,
    tables: &[TableEntry],
    predicate_of: &[Option<PredicateId>],
    predicates: &Predicates,
) -> Nfa {
    let mut builder = Builder::default();
    let table_of = table_of_nodes(graph);
    let mut state_of = vec![NONE; graph.node_count()];
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
                    let decides = !veto && tables[table.index()].decides(*rule);
                    future.marks.push(Mark { rule: *rule, veto, decides });
                }
                _ => {}
            }
        }
        state_of[node.index()] = builder.state(future);
    }
    let roots: Vec<StateId> = tables.iter().map(|table| state_of[table.root.index()]).collect();
    builder.finish(&roots, predicates)
}

/// The table that each node belongs to.
fn table_of_nodes(graph: &Graph) -> Vec<TableId> {
    let mut table_of = vec![TableId(0); graph.node_count()];
    for node in graph.node_indices() {
        table_of[node.index()] = match graph[node] {
            Node::Table(table) | Node::Rule(table, _) => table,
            // A step comes after the one before it.
            Node::Step(_) | Node::WholePath(_) => graph
                .neighbors_directed(node, Direction::Incoming)
                .next()
                .map_or(TableId(0), |parent| table_of[parent.index()]),
        };
    }
    table_of
}

/// More leads than this are too many for a state: those of a layer as a whole, say. Walking from there takes less.
const MOST_LEADS: usize = 16;

/// What tells one state from another: all that can become of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Future {
    table: TableId,
    repeats: bool,
    /// The gap that may begin after the state, or `NONE`.
    gap: StateId,
    edges: Vec<(PredicateId, StateId)>,
    marks: Vec<Mark>,
}

impl Future {
    /// Nothing but a rule that has won.
    fn won(table: TableId, mark: Mark) -> Self {
        Self { table, repeats: true, gap: NONE, edges: Vec::new(), marks: vec![mark] }
    }

    /// The mark of the rule that has won once this is active.
    fn winner(&self) -> Option<Mark> {
        self.marks.iter().find(|mark| mark.decides && self.repeats).copied()
    }

    fn is_won(&self) -> bool {
        self.edges.is_empty() && self.gap == NONE && self.marks.len() == 1 && self.winner().is_some()
    }
}

#[derive(Default)]
struct Builder {
    ids: HashMap<Future, StateId, FixedState>,
    /// By number, so that what a future refers to comes before it.
    futures: Vec<Future>,
}

impl Builder {
    fn state(&mut self, mut future: Future) -> StateId {
        future.edges.sort_unstable();
        future.marks.sort_unstable();
        future.marks.dedup();
        if let Some(id) = self.ids.get(&future) {
            return *id;
        }
        if let Some(mark) = future.winner().filter(|_| !future.is_won()) {
            self.state(Future::won(future.table, mark));
        }
        let id = number(self.futures.len());
        self.futures.push(future.clone());
        self.ids.insert(future, id);
        id
    }

    /// Numbers the states anew, those of rules that have won last, and lays them out.
    fn finish(mut self, roots: &[StateId], predicates: &Predicates) -> Nfa {
        // What a window that takes no token leaves active from the start.
        let mut start_gaps = Vec::new();
        for root in roots {
            let gap = self.futures[*root as usize].gap;
            if gap != NONE && !self.futures[gap as usize].marks.is_empty() {
                let edges = Vec::new();
                start_gaps.push(self.state(Future { edges, ..self.futures[gap as usize].clone() }));
            }
        }
        let ranks = self.ranks(roots);
        let mut order: Vec<StateId> = (0..number(self.futures.len())).collect();
        order.sort_by_cached_key(|id| {
            let future = &self.futures[*id as usize];
            let won = future.winner().filter(|_| future.is_won());
            (won.map(|mark| (future.table, mark)), ranks[*id as usize])
        });
        let mut new_id = vec![NONE; order.len()];
        for (new, old) in order.iter().enumerate() {
            new_id[*old as usize] = number(new);
        }
        let first_won = order.partition_point(|id| !self.futures[*id as usize].is_won());
        let mut nfa = Nfa {
            states: Vec::with_capacity(order.len() + 1),
            ways: Vec::new(),
            wanted: Vec::new(),
            marks: Vec::new(),
            leads: Vec::new(),
            residuals: Residuals::default(),
            start: Vec::new(),
            floating: Vec::new(),
            first_won: number(first_won),
        };
        let first_rules = self.first_rules();
        let mut residuals = ResidualsBuilder::default();
        let leads = self.leads(&mut residuals);
        for old in &order {
            let future = &self.futures[*old as usize];
            let literals = future.edges.partition_point(|edge| predicates.is_literal(edge.0));
            nfa.states.push(State {
                ways: number(nfa.ways.len()),
                others: number(nfa.ways.len() + literals),
                marks: number(nfa.marks.len()),
                leads: number(nfa.leads.len()),
                decides: future.marks.iter().find(|mark| mark.decides).map_or(NONE, |mark| mark.rule.0),
                first_rule: first_rules[*old as usize],
                table: future.table.0,
                repeats: future.repeats,
            });
            nfa.ways.extend(future.edges.iter().map(|(_, target)| self.way(*target, &new_id)));
            nfa.wanted.extend(future.edges.iter().map(|(predicate, _)| predicate));
            nfa.marks.extend(future.marks.iter().filter(|mark| !mark.decides));
            nfa.leads.extend(leads[*old as usize].iter().flatten());
        }
        let ways = number(nfa.ways.len());
        nfa.states.push(State {
            ways,
            others: ways,
            marks: number(nfa.marks.len()),
            leads: number(nfa.leads.len()),
            decides: NONE,
            first_rule: NONE,
            table: 0,
            repeats: false,
        });
        for root in roots {
            let future = &self.futures[*root as usize];
            if !future.edges.is_empty() || !future.marks.is_empty() {
                nfa.start.push(new_id[*root as usize]);
            }
            if future.gap != NONE {
                nfa.floating.push(new_id[future.gap as usize]);
            }
        }
        for gap in start_gaps {
            nfa.start.extend(self.enters(gap, &new_id).iter().filter(|id| **id != NONE));
        }
        nfa.residuals = residuals.finish();
        let mut start = std::mem::take(&mut nfa.start);
        nfa.normalize(&mut start);
        nfa.start = start;
        nfa
    }

    /// Numbers the states so that those that one leads to are next to each other: a walk that is at a state, such as that of
    /// a layer's experts, comes to one after the other of these.
    fn ranks(&self, roots: &[StateId]) -> Vec<u32> {
        let mut ranks = vec![NONE; self.futures.len()];
        let mut next = 0;
        let mut stack = Vec::new();
        let mut siblings = roots.to_vec();
        loop {
            let begin = stack.len();
            for id in siblings.drain(..) {
                let rank = &mut ranks[id as usize];
                if *rank == NONE {
                    *rank = next;
                    next += 1;
                    stack.push(id);
                }
            }
            stack[begin..].reverse();
            let Some(id) = stack.pop() else { return ranks };
            let future = &self.futures[id as usize];
            siblings.extend(future.edges.iter().map(|edge| edge.1));
            siblings.extend(Some(future.gap).filter(|gap| *gap != NONE));
        }
    }

    fn way(&self, target: StateId, new_id: &[StateId]) -> Way {
        let own = &self.futures[target as usize];
        let gap = self.futures.get(own.gap as usize);
        let marks = || own.marks.iter().chain(gap.iter().flat_map(|gap| &gap.marks));
        Way {
            enters: self.enters(target, new_id),
            decides: if marks().all(|mark| mark.decides) {
                marks().map(|mark| mark.rule.0).min().unwrap_or(NONE)
            } else {
                MARKED
            },
        }
    }

    /// What becomes active with a state, in new numbers.
    fn enters(&self, id: StateId, new_id: &[StateId]) -> [StateId; 3] {
        let future = &self.futures[id as usize];
        let mut enters = [NONE; 3];
        let mut count = 0;
        let mut push = |id: StateId| {
            enters[count] = new_id[id as usize];
            count += 1;
        };
        let (own, gap) = if future.repeats { (None, Some(id)) } else { (Some(id), Some(future.gap)) };
        let good_for_more = future.gap == NONE || !future.edges.is_empty() || !future.marks.is_empty();
        own.filter(|_| good_for_more).into_iter().for_each(&mut push);
        for gap in gap.into_iter().filter(|gap| *gap != NONE) {
            push(gap);
            let future = &self.futures[gap as usize];
            let won = future
                .winner()
                .filter(|_| !future.is_won())
                .and_then(|mark| self.ids.get(&Future::won(future.table, mark)));
            won.into_iter().for_each(|won| push(*won));
        }
        enters
    }

    /// Per state, all that it leads to, as [`Nfa::leads`] says; `None` when that is too much.
    fn leads(&self, residuals: &mut ResidualsBuilder) -> Vec<Option<Vec<Lead>>> {
        let mut leads = Vec::with_capacity(self.futures.len());
        for future in &self.futures {
            leads.push(self.leads_of(future, &leads, residuals));
        }
        leads
    }

    /// The same for one state, from those of the states before it.
    fn leads_of(
        &self,
        future: &Future,
        leads: &[Option<Vec<Lead>>],
        residuals: &mut ResidualsBuilder,
    ) -> Option<Vec<Lead>> {
        let mut own: Vec<Lead> = future.marks.iter().map(|mark| Lead { residual: END, mark: *mark }).collect();
        for (predicate, target) in &future.edges {
            for id in [*target, self.futures[*target as usize].gap] {
                if id == NONE {
                    continue;
                }
                let behind = leads[id as usize].as_ref()?;
                own.extend(
                    behind.iter().map(|lead| Lead {
                        residual: residuals.before(Some(*predicate), lead.residual),
                        mark: lead.mark,
                    }),
                );
            }
            if own.len() > MOST_LEADS {
                return None;
            }
        }
        if future.repeats {
            for lead in &mut own {
                lead.residual = residuals.before(None, lead.residual);
            }
        }
        own.sort_unstable();
        own.dedup();
        Some(own).filter(|own| own.len() <= MOST_LEADS)
    }

    /// Per state, the first rule that can be reached from it.
    fn first_rules(&self) -> Vec<u32> {
        let mut first_rules: Vec<u32> = Vec::with_capacity(self.futures.len());
        for future in &self.futures {
            let children = future.edges.iter().map(|edge| edge.1).chain((future.gap != NONE).then_some(future.gap));
            let of_children = children.map(|child| first_rules[child as usize]);
            let first = of_children.chain(future.marks.iter().map(|mark| mark.rule.0)).min();
            first_rules.push(first.unwrap_or(NONE));
        }
        first_rules
    }
}
