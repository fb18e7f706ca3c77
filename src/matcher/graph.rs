//! The graph as data: what was compiled, for drawing, explaining and analysis.

use std::fmt;

use petgraph::graph::{DiGraph, NodeIndex};

use super::build::{self, BuildError, Table};
use super::cut::Cutter;
use super::nfa::Nfa;
use super::predicates::{PredicateId, Predicates};
use super::whole::WholePaths;
use super::{Config, Matcher, Mode, RuleIndex, TableId};
use crate::pattern::{Separators, Step, TokenKind};

/// The compiled tables as a petgraph graph; see [`MatcherGraph::graph`].
pub type Graph = DiGraph<Node, Edge>;

/// A node: a table, a step of patterns, or a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A root.
    Table(TableId),
    /// An inner node: one step, shared by the patterns of the table that begin alike up to here.
    Step(Step),
    /// An inner node: a regex over the whole path, always directly below its table.
    WholePath(String),
    /// A leaf.
    Rule(TableId, RuleIndex),
}

/// Shows a node's text: names of separators stand before the token, gaps are `**`, any token is `*`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => write!(f, "table {}", table.index()),
            Self::Step(Step::Gap) => f.write_str("**"),
            Self::Step(Step::Token(predicate)) => {
                if let Some(separator) = predicate.separator {
                    write!(f, "{separator}")?;
                }
                match &predicate.kind {
                    TokenKind::Any => f.write_str("*"),
                    TokenKind::Literal(text) | TokenKind::Regex(text) => f.write_str(text),
                }
            }
            Self::WholePath(text) => f.write_str(text),
            Self::Rule(_, rule) => write!(f, "rule {}", rule.index()),
        }
    }
}

/// What it means to go from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edge {
    /// The step that comes next.
    Next,
    /// Into a rule: a path that ends here matches the rule's pattern.
    Accept,
    /// Into a rule: a path that ends here matches the rule's `except` of this position.
    Veto(usize),
}

/// A table as the graph knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) root: NodeIndex,
    pub(super) rules: Vec<RuleEntry>,
}

impl TableEntry {
    /// Whether a match of the rule decides unless an earlier rule does.
    pub(super) fn decides(&self, rule: RuleIndex) -> bool {
        let rule = &self.rules[rule.index()];
        self.mode == Mode::First && !rule.conditional && rule.excepts == 0
    }
}

/// A rule as the graph knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleEntry {
    pub(super) name: String,
    pub(super) leaf: NodeIndex,
    pub(super) excepts: usize,
    pub(super) conditional: bool,
}

/// Rule tables compiled into one graph, shared by the [matchers](MatcherGraph::matcher) of all threads.
///
/// The [module](super) explains how it works.
#[derive(Debug)]
pub struct MatcherGraph {
    pub(super) separators: Separators,
    pub(super) cutter: Cutter,
    pub(super) config: Config,
    pub(super) graph: Graph,
    pub(super) tables: Vec<TableEntry>,
    /// Per node: its predicate, if it takes a token.
    pub(super) predicate_of: Vec<Option<PredicateId>>,
    pub(super) predicates: Predicates,
    pub(super) nfa: Nfa,
    /// Every rule of the largest table.
    pub(super) every_rule: Vec<RuleIndex>,
    pub(super) whole: Option<WholePaths>,
}

impl MatcherGraph {
    /// Compiles tables with the default [`Config`].
    ///
    /// # Errors
    ///
    /// When a regex does not compile, or a pattern is too large; see [`BuildError`].
    pub fn new(tables: &[Table<'_>], separators: &Separators) -> Result<Self, BuildError> {
        Self::with_config(tables, separators, Config::default())
    }

    /// Compiles tables.
    ///
    /// # Errors
    ///
    /// When a regex does not compile, or a pattern is too large; see [`BuildError`].
    pub fn with_config(tables: &[Table<'_>], separators: &Separators, config: Config) -> Result<Self, BuildError> {
        build::compile(tables, separators, config)
    }

    /// Makes a matcher; one per thread.
    #[must_use]
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher::new(self)
    }

    /// The graph: roots are tables, leaves are rules. Nodes are numbered in the order of the tables, rules and steps
    /// they come from, so that two builds of the same tables are equal.
    ///
    /// ```
    /// use flow_fabric::matcher::{MatcherGraph, Mode, Node, Rule, Table};
    /// use flow_fabric::pattern::{Lowered, Separators};
    ///
    /// let nothing = Lowered::default();
    /// let rule = Rule { name: "never", pattern: &nothing, excepts: vec![], conditional: false };
    /// let graph = MatcherGraph::new(&[Table { name: "loader", mode: Mode::First, rules: vec![rule] }], &Separators::default())?;
    /// let nodes: Vec<_> = graph.graph().node_weights().map(Node::to_string).collect();
    /// assert_eq!(nodes, ["table 0", "rule 0"]);
    /// # Ok::<(), flow_fabric::matcher::BuildError>(())
    /// ```
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The characters at which paths are cut.
    #[must_use]
    pub fn separators(&self) -> &Separators {
        &self.separators
    }

    /// The configuration that the graph was compiled with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every table, in the order given.
    pub fn tables(&self) -> impl ExactSizeIterator<Item = TableId> + use<> {
        // Building refuses more than `u32::MAX` nodes, and each table has one.
        #[expect(clippy::cast_possible_truncation, reason = "checked when the graph was built")]
        (0..self.tables.len() as u32).map(TableId)
    }

    /// Finds a table by name; the first, should two have the same.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<TableId> {
        self.tables().find(|table| self.table_name(*table) == name)
    }

    /// A table's name.
    ///
    /// # Panics
    ///
    /// When `table` is of another graph, as do the methods below.
    #[must_use]
    pub fn table_name(&self, table: TableId) -> &str {
        &self.tables[table.index()].name
    }

    /// A table's mode.
    #[must_use]
    pub fn mode(&self, table: TableId) -> Mode {
        self.tables[table.index()].mode
    }

    /// A table's root node.
    #[must_use]
    pub fn root(&self, table: TableId) -> NodeIndex {
        self.tables[table.index()].root
    }

    /// A table's rules, in file order.
    pub fn rules(&self, table: TableId) -> impl ExactSizeIterator<Item = RuleIndex> + use<> {
        #[expect(clippy::cast_possible_truncation, reason = "checked when the graph was built")]
        (0..self.tables[table.index()].rules.len() as u32).map(RuleIndex)
    }

    /// A rule's name.
    #[must_use]
    pub fn rule_name(&self, table: TableId, rule: RuleIndex) -> &str {
        &self.entry(table, rule).name
    }

    /// Whether a rule has conditions besides its pattern.
    #[must_use]
    pub fn is_conditional(&self, table: TableId, rule: RuleIndex) -> bool {
        self.entry(table, rule).conditional
    }

    /// A rule's node.
    #[must_use]
    pub fn leaf(&self, table: TableId, rule: RuleIndex) -> NodeIndex {
        self.entry(table, rule).leaf
    }

    pub(super) fn entry(&self, table: TableId, rule: RuleIndex) -> &RuleEntry {
        &self.tables[table.index()].rules[rule.index()]
    }
}
