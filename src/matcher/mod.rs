//! Every pattern of every table in one graph, and the automaton that resolves paths with it.
//!
//! A rule table answers a question about a path with the ordered rules that match it. Asked rule by rule, the cost of
//! an answer grows with the table. Here all tables are compiled into one [`MatcherGraph`], and a [`Matcher`] walks a
//! path through it once, whatever the number of rules.
//!
//! # The graph
//!
//! Patterns arrive as sequences of steps ([`Step`](crate::pattern::Step)): a predicate on one token, or a gap. Within
//! a table, sequences with a common beginning share its nodes. Roots are tables, leaves are rules, and what lies between
//! reads like the patterns:
//!
//! ```text
//! partition -- ** -- moe -- linear|linear_1 -- w -- ** --> moe-up       tokens = ["moe", "linear|linear_1", "w"]
//!                     `--- ** --> moe-rest                              tokens = ["moe"]
//!                     `--- shared -- w - - - veto - - > moe-up          except = ["**/moe/shared/w"]
//! ```
//!
//! # The automaton
//!
//! Read as an automaton over tokens, a node is a state: "the steps up to here have matched". A gap loops on itself, any
//! other step takes one token that satisfies its predicate. A walk follows all active states at once:
//!
//! ```text
//! path        model . layers . 17 . mlp . experts . 5 . gate_proj . weight
//!                     |             |     |
//! strands             layers, 17, mlp, experts, 5 ...           rules about layers
//!                                   mlp, experts, 5 ...         rules about MLPs
//!                                         experts, 5 ...        rules about experts
//!                                                       `------- tail: one look-up
//! ```
//!
//! 1. **Tokens become classes.** A distinct token is looked at once: which predicates does it satisfy? Literals (and
//!    regexes with few words, such as `query|key|value`) are found by hash, other regexes run only where their literal
//!    prefix or suffix allows. Tokens that satisfy the same predicates are one class, so the 256 experts of a model are
//!    one symbol unless a rule tells them apart.
//! 2. **Sets of states become strands.** What has become of the patterns that began at one token is a *strand*; the
//!    strand after a token is worked out once and remembered, as in a lazy DFA, for all classes that agree in the
//!    predicates that the strand asks for. Strands that began at different tokens are followed side by side and never
//!    multiply each other's states, nor do a node's many literals and its other predicates: rules about layers and rules
//!    about experts cost as many states as there are layers plus experts, not layers times experts.
//! 3. **Winners prune.** Where a rule without conditions and exceptions has won whatever follows, all that leads only to
//!    later rules of its table is dropped, so that strands stay small and coincide often.
//! 4. **Paths share beginnings and ends.** A walk restarts at the last token that the path has in common with the one
//!    before. Behind the last number in a path, all that is left, its *tail*, is looked up in one piece: most paths begin
//!    where the one before began, and end as one did before that stood in the same place.
//! 5. **Modules answer at once.** What a tail makes of a strand for a table is an *outcome*: a list of rules and vetoes,
//!    most often one rule that decides. The outcomes of a module's tails stand side by side in a row, and of two rows of
//!    deciding rules the lesser numbers are the answers to both: those of its strands make the row of a place in the paths.
//!    A strand is not asked when it can lead only to rules after one that another decides for.
//! 6. **Rules share what is left of them.** What a rule still asks for behind a state is a *residual* of its pattern: `up|gate,
//!    weight` behind one expert as behind others. Which of a module's tails take the steps of a residual is worked out once,
//!    and a strand's row is made of that for each of the rules that it leads to, as long as these are few.
//!
//! When the memory that a matcher may use is spent, nothing more is remembered, and paths that lead to anything new are
//! walked by simulating the sets ([`Config::cache_capacity`]).
//!
//! Regexes that cannot be cut at separators see the whole path. They run together in one lazy DFA over bytes, which also
//! restarts at the common beginning.
//!
//! # Example
//!
//! ```
//! use flow_fabric::matcher::{MatcherGraph, Mode, Rule, Table};
//! use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
//!
//! let separators = Separators::default();
//! let tokens = ["moe", "linear|linear_1", "w"].map(str::to_owned).to_vec();
//! let pattern = Pattern::new(PatternSpec::Tokens(tokens), &separators).unwrap();
//! let rule = Rule { name: "moe-up", pattern: pattern.lowered(), excepts: vec![], conditional: false };
//! let table = Table { name: "partition", mode: Mode::First, rules: vec![rule] };
//!
//! let graph = MatcherGraph::new(&[table], &separators)?;
//! let partition = graph.table("partition").unwrap();
//! let mut matcher = graph.matcher();
//! assert_eq!(matcher.resolve("transformer/moe/linear/w").candidates(partition).len(), 1);
//! assert_eq!(matcher.resolve("transformer/moe/linear_v/w").candidates(partition).len(), 0);
//! # Ok::<(), flow_fabric::matcher::BuildError>(())
//! ```

mod build;
mod classes;
mod cut;
mod endings;
mod explain;
mod futures;
mod graph;
mod hash;
mod learn;
mod lists;
mod nfa;
mod outcomes;
mod predicates;
mod residuals;
mod rows;
mod run;
mod strands;
mod tails;
mod whole;

pub use build::{BuildError, Rule, Table};
pub use explain::{Explanation, NearMiss, RuleMatch, Vetoed, Wanted};
pub use graph::{Edge, Graph, MatcherGraph, Node};
pub use run::{Matcher, Matches};

/// Which table of a graph: its position among the tables the graph was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(u32);

impl TableId {
    /// Position among the tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which rule of a table: its position in the table, which is file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleIndex(u32);

impl RuleIndex {
    /// Position in the table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a table answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The rules that match, in order, up to and with the first unconditional one: the first whose conditions hold
    /// decides, and nothing after an unconditional rule can.
    First,
    /// Every rule that matches, in order.
    All,
}

/// What a graph's matchers may spend.
///
/// ```
/// use flow_fabric::matcher::{Config, MatcherGraph};
/// use flow_fabric::pattern::Separators;
///
/// let config = Config::new().cache_capacity(1 << 20);
/// let graph = MatcherGraph::with_config(&[], &Separators::default(), config)?;
/// assert_eq!(graph.config().get_cache_capacity(), 1 << 20);
/// # Ok::<(), flow_fabric::matcher::BuildError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    cache_capacity: usize,
    whole_path_capacity: usize,
    expand_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { cache_capacity: 64 << 20, whole_path_capacity: 8 << 20, expand_limit: 64 }
    }
}

impl Config {
    /// Makes the default configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes of tokens, strands and tails one [`Matcher`] may keep, approximately; at most 2 GiB.
    ///
    /// Answers never depend on it. When the memory is spent, what is known stays in use, and paths that lead to anything
    /// new are simulated: that takes from 0.6 microseconds a path with ten rules to 2 with 10,000. Lower it where
    /// many threads hold a matcher each; raise it for checkpoints with millions of distinct tokens. Memory grows only with
    /// what is new in what is seen: the 92,000 paths of a large mixture of experts need from 30 KiB with ten rules to
    /// 0.7 MiB with 10,000. What one path takes while it is resolved is not counted.
    ///
    /// Default: 64 MiB.
    ///
    /// ```
    /// # use flow_fabric::matcher::{Config, MatcherGraph, Mode, Rule, Table};
    /// # use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
    /// let separators = Separators::default();
    /// let pattern = Pattern::new(PatternSpec::Glob("**/w".into()), &separators).unwrap();
    /// let rule = Rule { name: "w", pattern: pattern.lowered(), excepts: vec![], conditional: false };
    /// let table = Table { name: "t", mode: Mode::First, rules: vec![rule] };
    /// // A matcher that remembers nothing gives the same answers.
    /// let graph = MatcherGraph::with_config(&[table], &separators, Config::new().cache_capacity(0))?;
    /// let table = graph.table("t").unwrap();
    /// assert_eq!(graph.matcher().resolve("moe/linear/w").candidates(table).len(), 1);
    /// # Ok::<(), flow_fabric::matcher::BuildError>(())
    /// ```
    #[must_use]
    pub fn cache_capacity(mut self, bytes: usize) -> Self {
        self.cache_capacity = bytes.min(2 << 30);
        self
    }

    /// Sets how many bytes the lazy DFA of the whole-path regexes may keep per [`Matcher`].
    ///
    /// When they are spent its states are thrown away and built anew. A capacity too small for the DFA to work at all
    /// (some tens of KiB for a few regexes, more for many) is raised to the smallest that works. Costs nothing in
    /// graphs without whole-path regexes.
    ///
    /// Default: 8 MiB.
    #[must_use]
    pub fn whole_path_capacity(mut self, bytes: usize) -> Self {
        self.whole_path_capacity = bytes;
        self
    }

    /// Sets up to how many words a token regex is replaced by the list of the words it matches.
    ///
    /// `query|key|value` has three words, `w[123]` three, `1[0-9]` ten; `[0-9]+` has no end of them. Listed regexes
    /// cost one hash look-up for all together; the others must be run on each distinct token that they could match.
    /// Raising it costs memory and compile time in proportion; 0 runs all regexes as regexes.
    ///
    /// Default: 64.
    #[must_use]
    pub fn expand_limit(mut self, words: usize) -> Self {
        self.expand_limit = words;
        self
    }

    /// Returns the bytes one matcher may keep.
    #[must_use]
    pub fn get_cache_capacity(&self) -> usize {
        self.cache_capacity
    }

    /// Returns the bytes the DFA of the whole-path regexes may keep.
    #[must_use]
    pub fn get_whole_path_capacity(&self) -> usize {
        self.whole_path_capacity
    }

    /// Returns the number of words up to which a regex is listed.
    #[must_use]
    pub fn get_expand_limit(&self) -> usize {
        self.expand_limit
    }
}
