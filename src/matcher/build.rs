//! Compiles tables into the graph and the automaton.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use petgraph::graph::NodeIndex;

use super::cut::Cutter;
use super::futures::automaton;
use super::graph::{Edge, Graph, MatcherGraph, Node, RuleEntry, TableEntry};
use super::nfa::Mark;
use super::predicates::{PredicateId, PredicatesBuilder};
use super::whole::WholePathsBuilder;
use super::{Config, Mode, RuleIndex, TableId};
use crate::pattern::{Lowered, Separators, Step};

/// A table to compile.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// What [`MatcherGraph::table`] finds it by.
    pub name: &'a str,
    /// What it answers with.
    pub mode: Mode,
    /// The rules, in file order.
    pub rules: Vec<Rule<'a>>,
}

/// A rule to compile. It matches a path that its pattern matches and none of its exceptions does.
#[derive(Debug, Clone)]
pub struct Rule<'a> {
    /// What findings and drawings call it.
    pub name: &'a str,
    /// What it matches.
    pub pattern: &'a Lowered,
    /// What it does not match after all.
    pub excepts: Vec<&'a Lowered>,
    /// Whether it has conditions besides the pattern, so that later rules can still decide.
    pub conditional: bool,
}

/// Why tables do not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A regex that does not compile, or not within the size limits of the regex engine.
    #[error("`{text}` in rule `{rule}` of table `{table}`: {reason}")]
    Regex {
        /// The table's name.
        table: String,
        /// The rule's name.
        rule: String,
        /// The regex.
        text: String,
        /// What the regex engine says.
        reason: String,
    },
    /// All whole-path regexes together are too large for one automaton.
    #[error("the whole-path regexes of all rules together are too large: {0}")]
    WholePaths(String),
    /// More steps than can be numbered.
    #[error("the tables have more than {} steps", u32::MAX)]
    TooManySteps,
}

/// Compiles `tables`; the entry point behind [`MatcherGraph::with_config`].
pub(super) fn compile(
    tables: &[Table<'_>],
    separators: &Separators,
    config: Config,
) -> Result<MatcherGraph, BuildError> {
    let mut builder = Builder {
        graph: Graph::new(),
        children: HashMap::default(),
        predicates: PredicatesBuilder::new(separators, config.get_expand_limit()),
        predicate_of: Vec::new(),
        whole: WholePathsBuilder::default(),
        entries: Vec::new(),
    };
    for table in tables {
        builder.table(table)?;
    }
    let (predicates, new_id) = builder.predicates.finish();
    for id in builder.predicate_of.iter_mut().flatten() {
        *id = new_id[id.0 as usize];
    }
    let most_rules = builder.entries.iter().map(|table| table.rules.len()).max().unwrap_or(0);
    let nfa = automaton(&builder.graph, &builder.entries, &builder.predicate_of, &predicates);
    Ok(MatcherGraph {
        separators: separators.clone(),
        cutter: Cutter::new(separators, predicates.by_place()),
        whole: builder.whole.finish(config.get_whole_path_capacity())?,
        config,
        graph: builder.graph,
        every_rule: (0..number(most_rules)?).map(RuleIndex).collect(),
        tables: builder.entries,
        predicate_of: builder.predicate_of,
        predicates,
        nfa,
    })
}

struct Builder {
    graph: Graph,
    /// The step below a node with this predicate (`None`: a gap), if one is there already.
    children: HashMap<(NodeIndex, Option<PredicateId>), NodeIndex, FixedState>,
    predicates: PredicatesBuilder,
    /// Per node: its predicate, if it takes a token.
    predicate_of: Vec<Option<PredicateId>>,
    whole: WholePathsBuilder,
    entries: Vec<TableEntry>,
}

impl Builder {
    fn table(&mut self, table: &Table<'_>) -> Result<(), BuildError> {
        let id = TableId(number(self.entries.len())?);
        let root = self.node(Node::Table(id), None)?;
        let mut wholes = HashMap::new();
        let mut rules = Vec::with_capacity(table.rules.len());
        for (index, rule) in table.rules.iter().enumerate() {
            let index = RuleIndex(number(index)?);
            let mut scope = Scope {
                table: id,
                root,
                rule: index,
                decides: table.mode == Mode::First && !rule.conditional && rule.excepts.is_empty(),
                names: (table.name, rule.name),
                wholes: &mut wholes,
            };
            let mut ends = BTreeSet::new();
            self.pattern(&mut scope, rule.pattern, Edge::Accept, &mut ends)?;
            for (position, except) in rule.excepts.iter().enumerate() {
                self.pattern(&mut scope, except, Edge::Veto(position), &mut ends)?;
            }
            let leaf = self.node(Node::Rule(id, index), None)?;
            for (node, except) in ends {
                self.graph.add_edge(node, leaf, except.map_or(Edge::Accept, Edge::Veto));
            }
            rules.push(RuleEntry {
                name: rule.name.to_owned(),
                leaf,
                excepts: rule.excepts.len(),
                conditional: rule.conditional,
            });
        }
        self.entries.push(TableEntry { name: table.name.to_owned(), mode: table.mode, root, rules });
        Ok(())
    }

    /// Adds a pattern below the root and notes the nodes at which it ends.
    fn pattern(
        &mut self,
        scope: &mut Scope<'_>,
        pattern: &Lowered,
        edge: Edge,
        ends: &mut BTreeSet<(NodeIndex, Option<usize>)>,
    ) -> Result<(), BuildError> {
        let except = match edge {
            Edge::Veto(position) => Some(position),
            Edge::Accept | Edge::Next => None,
        };
        let refuse = |text: &str, reason: String| BuildError::Regex {
            table: scope.names.0.to_owned(),
            rule: scope.names.1.to_owned(),
            text: text.to_owned(),
            reason,
        };
        for sequence in &pattern.sequences {
            let mut node = scope.root;
            for step in &sequence.steps {
                let predicate = match step {
                    // Two gaps in a row are one.
                    Step::Gap if self.graph[node] == Node::Step(Step::Gap) => continue,
                    Step::Gap => None,
                    Step::Token(token) => {
                        Some(self.predicates.intern(token).map_err(|(text, reason)| refuse(&text, reason))?)
                    }
                };
                node = match self.children.get(&(node, predicate)) {
                    Some(child) => *child,
                    None => {
                        let child = self.node(Node::Step(step.clone()), predicate)?;
                        self.graph.add_edge(node, child, Edge::Next);
                        self.children.insert((node, predicate), child);
                        child
                    }
                };
            }
            ends.insert((node, except));
        }
        if let Some(text) = &pattern.whole_path {
            let veto = except.is_some();
            let mark = Mark { rule: scope.rule, veto, decides: scope.decides && !veto };
            self.whole.add(text, (scope.table, mark)).map_err(|reason| refuse(text, reason))?;
            let node = match scope.wholes.get(text) {
                Some(node) => *node,
                None => {
                    let node = self.node(Node::WholePath(text.clone()), None)?;
                    self.graph.add_edge(scope.root, node, Edge::Next);
                    scope.wholes.insert(text.clone(), node);
                    node
                }
            };
            ends.insert((node, except));
        }
        Ok(())
    }

    fn node(&mut self, node: Node, predicate: Option<PredicateId>) -> Result<NodeIndex, BuildError> {
        // Leaves room for the sentinels of the automaton.
        if self.graph.node_count() >= (u32::MAX / 4) as usize {
            return Err(BuildError::TooManySteps);
        }
        self.predicate_of.push(predicate);
        Ok(self.graph.add_node(node))
    }
}

/// The rule being added.
struct Scope<'a> {
    table: TableId,
    root: NodeIndex,
    rule: RuleIndex,
    decides: bool,
    names: (&'a str, &'a str),
    wholes: &'a mut HashMap<String, NodeIndex>,
}

fn number(index: usize) -> Result<u32, BuildError> {
    u32::try_from(index).map_err(|_| BuildError::TooManySteps)
}
