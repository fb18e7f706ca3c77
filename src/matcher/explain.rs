//! Why a path resolves as it does: every rule that matches, every veto, and how far the others got.
//!
//! Where [`Matcher::resolve`](super::Matcher::resolve) stops at what decides, this walks all of a table, pattern by
//! pattern, and takes its time.

use std::cmp::Reverse;
use std::fmt;
use std::ops::Range;

use petgraph::Direction;
use petgraph::graph::NodeIndex;
use petgraph::visit::EdgeRef;

use super::graph::{Edge, Node};
use super::predicates::{Place, PredicateId};
use super::run::join;
use super::whole;
use super::{MatcherGraph, RuleIndex, TableId};
use crate::pattern::{Step, TokenPredicate};

/// What a table makes of a path, in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The tokens that the path consists of; what the indices below count.
    pub tokens: Vec<String>,
    /// Every rule that matches and no exception vetoes, in file order, whatever the table's mode. Conditions are not
    /// looked at.
    pub matches: Vec<RuleMatch>,
    /// Every rule whose pattern matches but that an exception vetoes, in file order.
    pub vetoed: Vec<Vetoed>,
    /// Every other rule, the nearest first.
    pub near_misses: Vec<NearMiss>,
}

/// A rule that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMatch {
    /// The rule.
    pub rule: RuleIndex,
    /// The tokens from the first to the last that a step other than a gap takes; all tokens for a whole-path regex.
    pub window: Range<usize>,
}

/// A rule that would match but for an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vetoed {
    /// The rule.
    pub rule: RuleIndex,
    /// The positions, in the rule's list, of the exceptions that match.
    pub excepts: Vec<usize>,
}

/// How far a rule's pattern got.
///
/// Of all ways to lay the pattern's steps over the path, this is the one with the most steps that match, counting those
/// before the token it stopped at and those directly after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleIndex,
    /// Token steps that matched before the one that did not.
    pub matched: usize,
    /// Token steps that match directly after it, as if it had.
    pub resumed: usize,
    /// Token steps in all (gaps are not counted; 0 for a whole-path regex).
    pub steps: usize,
    /// The tokens from the first that a step took to the one it stopped at, not included.
    pub window: Range<usize>,
    /// The token it stopped at; the number of tokens when it stopped at the end of the path.
    pub at: usize,
    /// What would have let it go on there: one of these.
    pub wanted: Vec<Wanted>,
    /// The text of the token at `at`, with the separator before it where that is what was wanted; `None` at the end of
    /// the path.
    pub found: Option<String>,
}

impl NearMiss {
    /// Steps that did not match; at least 1 unless the pattern took too few tokens or is a whole-path regex.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.steps - self.matched - self.resumed
    }
}

/// What a pattern wanted where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// A token that satisfies this.
    Token(TokenPredicate),
    /// No further token.
    End,
    /// A path that this regex matches.
    WholePath(String),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(predicate) => Node::Step(Step::Token(predicate.clone())).fmt(f),
            Self::End => f.write_str("the end of the path"),
            Self::WholePath(text) => f.write_str(text),
        }
    }
}

impl MatcherGraph {
    /// Explains what `table` makes of `path`.
    ///
    /// ```
    /// # use flow_fabric::matcher::{MatcherGraph, Mode, Rule, Table};
    /// # use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
    /// let separators = Separators::default();
    /// let tokens = ["moe", "linear|linear_v", "w"].map(str::to_owned).to_vec();
    /// let pattern = Pattern::new(PatternSpec::Tokens(tokens), &separators).unwrap();
    /// let rule = Rule { name: "moe-up", pattern: pattern.lowered(), excepts: vec![], conditional: false };
    /// let graph = MatcherGraph::new(&[Table { name: "t", mode: Mode::First, rules: vec![rule] }], &separators)?;
    /// let explanation = graph.explain(graph.table("t").unwrap(), "decoder_layer_7/moe/linear_1/w");
    /// let near = &explanation.near_misses[0];
    /// assert_eq!((near.matched, near.resumed, near.steps), (1, 1, 3));
    /// assert_eq!((near.at, near.found.as_deref()), (2, Some("linear_1")));
    /// assert_eq!(near.wanted[0].to_string(), "linear|linear_v");
    /// # Ok::<(), flow_fabric::matcher::BuildError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `table` is of another graph.
    #[must_use]
    pub fn explain(&self, table: TableId, path: &str) -> Explanation {
        let mut tokens = Vec::new();
        let mut places = Vec::new();
        let (mut start, mut place) = (0, 0);
        loop {
            let cut = self.cutter.cut(path, start);
            tokens.push(path[start..cut.map_or(path.len(), |cut| cut.end)].to_owned());
            places.push(place);
            let Some(cut) = cut else { break };
            (start, place) = (cut.next, cut.place);
        }
        Walk::new(self, tokens, &places, path).explain(table)
    }

    /// Explains what `table` makes of a path given as tokens; see
    /// [`Matcher::resolve_tokens`](super::Matcher::resolve_tokens).
    ///
    /// # Panics
    ///
    /// When `table` is of another graph.
    #[must_use]
    pub fn explain_tokens<S: AsRef<str>>(&self, table: TableId, tokens: &[S]) -> Explanation {
        let mut path = String::new();
        join(tokens, self.separators.joiner(), &mut path);
        self.explain(table, &path)
    }
}

/// One path, laid under the patterns.
struct Walk<'g> {
    graph: &'g MatcherGraph,
    path: String,
    tokens: Vec<String>,
    /// Per token, the predicates it satisfies, sorted.
    classes: Vec<Vec<PredicateId>>,
    /// The whole-path regexes that match, sorted.
    whole: Vec<u32>,
}

/// The ways to lay steps over tokens: for each number of steps and each number of tokens that they can cover, the tokens
/// from the first to the last that a step other than a gap took.
type Laid = Vec<Vec<Option<Range<usize>>>>;

/// A way that ended early. Better ways compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stop {
    score: usize,
    matched: usize,
    at: Reverse<usize>,
    steps: Reverse<usize>,
    start: usize,
}

impl<'g> Walk<'g> {
    fn new(graph: &'g MatcherGraph, tokens: Vec<String>, places: &[Place], path: &str) -> Self {
        let classify = |(token, place): (&String, &Place)| {
            let mut class = Vec::new();
            graph.predicates.classify(token, *place, &mut class);
            class
        };
        let classes = tokens.iter().zip(places).map(classify).collect();
        let whole = graph.whole.as_ref().map_or_else(Vec::new, |whole| {
            let mut walk = whole.walk();
            walk.walk(whole, path);
            walk.matched().to_vec()
        });
        Self { graph, path: path.to_owned(), tokens, classes, whole }
    }

    fn explain(self, table: TableId) -> Explanation {
        let (mut matches, mut vetoed, mut near_misses) = (Vec::new(), Vec::new(), Vec::new());
        for rule in self.graph.rules(table) {
            let leaf = self.graph.leaf(table, rule);
            let mut ends: Vec<(Option<usize>, NodeIndex)> = self
                .graph
                .graph
                .edges_directed(leaf, Direction::Incoming)
                .map(|edge| match edge.weight() {
                    Edge::Veto(except) => (Some(*except), edge.source()),
                    Edge::Accept | Edge::Next => (None, edge.source()),
                })
                .collect();
            ends.sort_unstable();
            let (accepts, vetoes): (Vec<_>, Vec<_>) = ends.into_iter().partition(|(except, _)| except.is_none());
            match accepts.iter().find_map(|(_, end)| self.window(*end)) {
                None => near_misses.push(self.near_miss(rule, &accepts)),
                Some(window) => {
                    let mut excepts: Vec<usize> = vetoes
                        .iter()
                        .filter(|(_, end)| self.window(*end).is_some())
                        .filter_map(|veto| veto.0)
                        .collect();
                    excepts.dedup();
                    if excepts.is_empty() {
                        matches.push(RuleMatch { rule, window });
                    } else {
                        vetoed.push(Vetoed { rule, excepts });
                    }
                }
            }
        }
        near_misses.sort_by_key(|near| {
            let score = near.matched + near.resumed;
            (score == 0, near.missing(), Reverse(score), Reverse(near.at), near.rule)
        });
        Explanation { tokens: self.tokens, matches, vetoed, near_misses }
    }

    /// The tokens that the pattern ending at `end` takes, if it matches.
    fn window(&self, end: NodeIndex) -> Option<Range<usize>> {
        if let Node::WholePath(text) = &self.graph.graph[end] {
            let regex = self.graph.whole.as_ref()?.regex(text)?;
            return self.whole.binary_search(&regex).is_ok().then_some(0..self.tokens.len());
        }
        self.lay(&self.steps(end)).last()?.last()?.clone()
    }

    /// The nodes from below the table down to `end`.
    fn steps(&self, end: NodeIndex) -> Vec<NodeIndex> {
        let graph = &self.graph.graph;
        let mut steps = Vec::new();
        let mut node = end;
        while let Node::Step(_) = graph[node] {
            steps.push(node);
            match graph.neighbors_directed(node, Direction::Incoming).next() {
                Some(parent) => node = parent,
                None => break,
            }
        }
        steps.reverse();
        steps
    }

    fn predicate(&self, step: NodeIndex) -> Option<PredicateId> {
        self.graph.predicate_of[step.index()]
    }

    fn satisfies(&self, token: usize, predicate: PredicateId) -> bool {
        self.classes.get(token).is_some_and(|class| class.binary_search(&predicate).is_ok())
    }

    fn lay(&self, steps: &[NodeIndex]) -> Laid {
        let tokens = self.tokens.len();
        let mut laid: Laid = vec![vec![None; tokens + 1]; steps.len() + 1];
        laid[0][0] = Some(0..0);
        let mut any_taken = false;
        for (done, step) in steps.iter().enumerate() {
            let (before, after) = laid.split_at_mut(done + 1);
            let (before, after) = (&before[done], &mut after[0]);
            for covered in 0..=tokens {
                let Some(window) = &before[covered] else { continue };
                match self.predicate(*step) {
                    Some(predicate) => {
                        if self.satisfies(covered, predicate) {
                            let start = if any_taken { window.start } else { covered };
                            improve(&mut after[covered + 1], start..covered + 1);
                        }
                    }
                    None => {
                        for (further, best) in after.iter_mut().enumerate().skip(covered) {
                            improve(best, if any_taken { window.clone() } else { further..further });
                        }
                    }
                }
            }
            any_taken |= self.predicate(*step).is_some();
        }
        laid
    }

    fn near_miss(&self, rule: RuleIndex, accepts: &[(Option<usize>, NodeIndex)]) -> NearMiss {
        let mut best: Option<Stop> = None;
        let mut wanted = Vec::new();
        let mut note = |stop: Stop, want: Wanted| {
            if best.is_none_or(|best| stop > best) {
                best = Some(stop);
                wanted.clear();
            }
            if best == Some(stop) && !wanted.contains(&want) {
                wanted.push(want);
            }
        };
        for (_, end) in accepts {
            match &self.graph.graph[*end] {
                Node::WholePath(text) => {
                    let at = Reverse(whole::stops_at(text, &self.path).map_or(self.tokens.len(), |at| self.token(at)));
                    let stop = Stop { score: 0, matched: 0, at, steps: Reverse(0), start: 0 };
                    note(stop, Wanted::WholePath(text.clone()));
                }
                _ => self.stops(&self.steps(*end), &mut note),
            }
        }
        let stop = best.unwrap_or(Stop { score: 0, matched: 0, at: Reverse(0), steps: Reverse(0), start: 0 });
        NearMiss {
            rule,
            matched: stop.matched,
            resumed: stop.score - stop.matched,
            steps: stop.steps.0,
            window: stop.start..stop.at.0,
            at: stop.at.0,
            found: self.found(stop.at.0, &wanted),
            wanted,
        }
    }

    /// Notes every way to lay the steps that ends early.
    fn stops(&self, steps: &[NodeIndex], note: &mut impl FnMut(Stop, Wanted)) {
        let predicates: Vec<Option<PredicateId>> = steps.iter().map(|step| self.predicate(*step)).collect();
        let count = predicates.iter().flatten().count();
        for (done, laid) in self.lay(steps).iter().enumerate() {
            let matched = predicates[..done].iter().flatten().count();
            for (at, window) in laid.iter().enumerate() {
                let Some(window) = window else { continue };
                let start = if matched == 0 { at } else { window.start };
                let stop = |score| Stop { score, matched, at: Reverse(at), steps: Reverse(count), start };
                match predicates.get(done) {
                    Some(Some(predicate)) if !self.satisfies(at, *predicate) => {
                        let next = predicates[done + 1..].iter().enumerate();
                        let resumed = next
                            .take_while(|(ahead, next)| next.is_some_and(|next| self.satisfies(at + 1 + ahead, next)))
                            .count();
                        if let Node::Step(Step::Token(predicate)) = &self.graph.graph[steps[done]] {
                            note(stop(matched + resumed), Wanted::Token(predicate.clone()));
                        }
                    }
                    None if at < self.tokens.len() => note(stop(matched), Wanted::End),
                    _ => {}
                }
            }
        }
    }

    fn found(&self, at: usize, wanted: &[Wanted]) -> Option<String> {
        let token = self.tokens.get(at)?;
        let asks = |wanted: &Wanted| matches!(wanted, Wanted::Token(predicate) if predicate.separator.is_some());
        let start = self.starts().nth(at)?;
        let separator = self.path.get(..start)?.chars().next_back().filter(|_| wanted.iter().any(asks));
        Some(separator.into_iter().chain(token.chars()).collect())
    }

    /// The token that the byte at `offset` of the path belongs to, or that it ends.
    fn token(&self, offset: usize) -> usize {
        self.starts().take_while(|start| *start <= offset).count().saturating_sub(1)
    }

    /// Where the tokens begin in the path; one separator stands between two.
    fn starts(&self) -> impl Iterator<Item = usize> {
        self.tokens.iter().scan(0, |next, token| {
            let start = *next;
            let end = start + token.len();
            let separator = self.path.get(end..).and_then(|rest| rest.chars().next());
            *next = end + separator.map_or(0, char::len_utf8);
            Some(start)
        })
    }
}

/// Keeps the window that begins last, of those the one that ends first.
fn improve(best: &mut Option<Range<usize>>, window: Range<usize>) {
    let rank = |window: &Range<usize>| (window.start, Reverse(window.end));
    if best.as_ref().is_none_or(|best| rank(&window) > rank(best)) {
        *best = Some(window);
    }
}
