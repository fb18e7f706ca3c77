//! Resolving paths.

use hashbrown::HashTable;

use super::classes::{Classes, slice};
use super::cut::common_prefix;
use super::dfa::{Dfa, SetId};
use super::hash;
use super::nfa::{Mark, StateId};
use super::predicates::Place;
use super::verdicts::Verdicts;
use super::whole::WholeWalk;
use super::{MatcherGraph, RuleIndex, TableId};

/// Resolves paths; remembers what it has seen, so that similar paths are cheap, above all in the order of an inventory.
///
/// Answers depend on nothing but the path.
#[derive(Debug)]
pub struct Matcher<'g> {
    graph: &'g MatcherGraph,
    classes: Classes,
    dfa: Dfa,
    whole: Option<WholeWalk>,
    verdicts: VerdictCache,
    /// The path resolved last.
    previous: Vec<u8>,
    /// Where its tokens begin and what was active there. Never empty: the first token begins at 0.
    steps: Vec<Step>,
    /// The active states of a walk that has left the remembered sets.
    loose: Vec<StateId>,
    next: Vec<StateId>,
    joined: String,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    start: usize,
    place: Place,
    set: SetId,
}

const FIRST: Step = Step { start: 0, place: 0, set: Dfa::START };

/// Where a walk ended.
#[derive(Debug, Clone, Copy)]
enum End {
    Set(SetId),
    /// In the states of `Matcher::loose`.
    Loose,
}

/// What one path matches, table by table.
#[derive(Debug, Clone, Copy)]
pub struct Matches<'m> {
    verdicts: &'m Verdicts,
    verdict: usize,
    tables: usize,
}

impl<'m> Matches<'m> {
    /// The rules of a table that match, in file order and less those with an exception that matches; in
    /// [`Mode::First`](super::Mode::First) nothing after the first unconditional rule.
    ///
    /// # Panics
    ///
    /// When `table` is of another graph.
    #[must_use]
    pub fn candidates(&self, table: TableId) -> &'m [RuleIndex] {
        assert!(table.index() < self.tables, "a table of another graph");
        self.verdicts.rules(self.verdict, self.tables, table.index())
    }
}

impl<'g> Matcher<'g> {
    pub(super) fn new(graph: &'g MatcherGraph) -> Self {
        Self {
            graph,
            classes: Classes::default(),
            dfa: Dfa::new(graph.nfa.start()),
            whole: graph.whole.as_ref().map(super::whole::WholePaths::walk),
            verdicts: VerdictCache::default(),
            previous: Vec::new(),
            steps: vec![FIRST],
            loose: Vec::new(),
            next: Vec::new(),
            joined: String::new(),
        }
    }

    /// The graph that paths are resolved with.
    #[must_use]
    pub fn graph(&self) -> &'g MatcherGraph {
        self.graph
    }

    /// Resolves a path, cut at the graph's separators.
    pub fn resolve(&mut self, path: &str) -> Matches<'_> {
        let end = self.end(path);
        self.matches(end)
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
        let end = self.end(&joined);
        self.joined = joined;
        self.matches(end)
    }

    /// Walks a path to its end.
    fn end(&mut self, path: &str) -> End {
        let common = common_prefix(&self.previous, path.as_bytes());
        let end = self.walk(path, common);
        self.previous.truncate(common);
        self.previous.extend_from_slice(&path.as_bytes()[common..]);
        if let (Some(walk), Some(whole)) = (&mut self.whole, &self.graph.whole) {
            walk.walk(whole, path, common);
        }
        end
    }

    /// Walks from the last token that begins within the `common` bytes to the end of the path.
    fn walk(&mut self, path: &str, common: usize) -> End {
        while let [_, .., last] = self.steps.as_slice()
            && last.start > common
        {
            self.steps.pop();
        }
        let Step { mut start, mut place, set } = *self.steps.last().unwrap_or(&FIRST);
        let mut end = End::Set(set);
        loop {
            let cut = self.graph.cutter.cut(path, start);
            end = self.advance(end, &path[start..cut.map_or(path.len(), |cut| cut.end)], place);
            let Some(cut) = cut else { return end };
            start = cut.next;
            place = if self.graph.predicates.by_place { cut.place } else { 0 };
            if let End::Set(set) = end {
                self.steps.push(Step { start, place, set });
            }
        }
    }

    /// Takes one token.
    fn advance(&mut self, end: End, token: &str, place: Place) -> End {
        let graph = self.graph;
        let may_remember = self.has_room();
        let class = self.classes.class(&graph.predicates, token, place, may_remember);
        if let (End::Set(set), Some(class)) = (end, class)
            && let Some(next) = self.dfa.next(set, class)
        {
            return End::Set(next);
        }
        let predicates = match class {
            Some(class) => self.classes.predicates(class),
            None => self.classes.unremembered(),
        };
        let from = match end {
            End::Set(set) => self.dfa.states(set),
            End::Loose => &self.loose,
        };
        graph.nfa.step(from, predicates, &mut self.next);
        if let (End::Set(set), Some(class), true) = (end, class, may_remember) {
            return End::Set(self.dfa.insert(set, class, &self.next));
        }
        std::mem::swap(&mut self.loose, &mut self.next);
        End::Loose
    }

    /// Looks up or works out the verdict at the end of a walk.
    fn matches(&mut self, end: End) -> Matches<'_> {
        let may_remember = self.has_room();
        let graph = self.graph;
        let whole = self.whole.as_ref().map_or(&[] as &[u32], WholeWalk::matched);
        let cache = &mut self.verdicts;
        let key = match end {
            End::Set(set) => cache.key(set, whole, may_remember),
            End::Loose => None,
        };
        let tables = graph.tables.len();
        if let Some(key) = key
            && let Some(verdict) = cache.find(key)
        {
            return Matches { verdicts: &self.verdicts.kept, verdict, tables };
        }
        let states = match end {
            End::Set(set) => self.dfa.states(set),
            End::Loose => &self.loose,
        };
        cache.marks.clear();
        cache.marks.extend(graph.nfa.marks(states));
        if let Some(of_regex) = &graph.whole {
            cache.marks.extend(whole.iter().flat_map(|regex| of_regex.marks(*regex as usize)));
        }
        match key {
            Some(key) if may_remember => {
                let verdict = cache.kept.len(tables);
                cache.kept.push(&graph.tables, &mut cache.marks);
                cache.insert(key, verdict);
                Matches { verdicts: &self.verdicts.kept, verdict, tables }
            }
            _ => {
                cache.passing.clear();
                cache.passing.push(&graph.tables, &mut cache.marks);
                Matches { verdicts: &self.verdicts.passing, verdict: 0, tables }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.classes.memory() + self.dfa.memory() + self.verdicts.memory() < self.graph.config.get_cache_capacity()
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

/// The verdicts of the remembered sets.
#[derive(Debug, Default)]
struct VerdictCache {
    kept: Verdicts,
    /// The last verdict that could not be kept.
    passing: Verdicts,
    marks: Vec<Mark>,
    /// Per set, one more than its verdict on paths that no whole-path regex matches; 0 = not known.
    of_set: Vec<u32>,
    of_key: HashTable<(Key, u32)>,
    /// The distinct lists of whole-path regexes that have matched together; numbered from 1.
    groups: HashTable<u32>,
    group_ends: Vec<u32>,
    group_regexes: Vec<u32>,
}

/// Where a walk over tokens ended, and which whole-path regexes match (0 = none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    set: SetId,
    group: u32,
}

impl Key {
    fn hash(self) -> u64 {
        hash::pair(self.set, self.group)
    }
}

impl VerdictCache {
    fn key(&mut self, set: SetId, whole: &[u32], may_remember: bool) -> Option<Key> {
        if whole.is_empty() {
            return Some(Key { set, group: 0 });
        }
        let Self { groups, group_ends: ends, group_regexes: regexes, .. } = self;
        let hash = hash::words(whole);
        let group = match groups.find(hash, |group| slice(regexes, ends, group - 1) == whole) {
            Some(group) => *group,
            None if may_remember => {
                regexes.extend_from_slice(whole);
                ends.push(super::classes::number(regexes.len()));
                let group = super::classes::number(ends.len());
                groups.insert_unique(hash, group, |group| hash::words(slice(regexes, ends, group - 1)));
                group
            }
            None => return None,
        };
        Some(Key { set, group })
    }

    fn find(&self, key: Key) -> Option<usize> {
        let verdict = match key.group {
            0 => self.of_set.get(key.set as usize)?.checked_sub(1)?,
            _ => self.of_key.find(key.hash(), |(other, _)| *other == key)?.1,
        };
        Some(verdict as usize)
    }

    fn insert(&mut self, key: Key, verdict: usize) {
        let verdict = super::classes::number(verdict);
        if key.group == 0 {
            let set = key.set as usize;
            if self.of_set.len() <= set {
                self.of_set.resize(set + 1, 0);
            }
            self.of_set[set] = verdict + 1;
        } else {
            self.of_key.insert_unique(key.hash(), (key, verdict), |(key, _)| key.hash());
        }
    }

    fn memory(&self) -> usize {
        self.kept.memory()
            + self.of_key.allocation_size()
            + self.groups.allocation_size()
            + 4 * (self.of_set.capacity() + self.group_ends.capacity() + self.group_regexes.capacity())
    }
}
