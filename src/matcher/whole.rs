//! Regexes over whole paths: one lazy DFA over bytes for all of them, resumed where two paths begin alike.

use std::collections::HashMap;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures, pikevm};
use regex_automata::util::start;
use regex_automata::{Anchored, Input, MatchKind, PatternSet};

use super::BuildError;
use super::TableId;
use super::cut::common_prefix;
use super::lists::Lists;
use super::nfa::Mark;
use super::outcomes::OutcomeId;

/// The whole-path regexes of all tables.
#[derive(Debug)]
pub(super) struct WholePaths {
    dfa: DFA,
    /// For paths on which the DFA gives up: a Unicode word boundary beside a character that is not ASCII.
    fallback: pikevm::PikeVM,
    ids: HashMap<String, usize>,
    /// Per regex, the rules it belongs to.
    marks: Vec<Vec<(TableId, Mark)>>,
}

/// Collects regexes.
#[derive(Debug, Default)]
pub(super) struct WholePathsBuilder {
    ids: HashMap<String, usize>,
    texts: Vec<String>,
    marks: Vec<Vec<(TableId, Mark)>>,
}

impl WholePathsBuilder {
    /// Adds a regex, or a mark to a regex that is there already; `Err` is what the regex engine says.
    pub(super) fn add(&mut self, text: &str, mark: (TableId, Mark)) -> Result<(), String> {
        if let Some(id) = self.ids.get(text) {
            self.marks[*id].push(mark);
            return Ok(());
        }
        let anchored = format!(r"\A(?:{text})\z");
        // On its own first, so that the error names the rule.
        thompson::NFA::new(&anchored).map_err(|error| reason(&error))?;
        self.ids.insert(text.to_owned(), self.texts.len());
        self.texts.push(anchored);
        self.marks.push(vec![mark]);
        Ok(())
    }

    pub(super) fn finish(self, capacity: usize) -> Result<Option<WholePaths>, BuildError> {
        if self.texts.is_empty() {
            return Ok(None);
        }
        let build = || {
            let nfa = thompson::NFA::compiler()
                .configure(thompson::NFA::config().which_captures(WhichCaptures::None))
                .build_many(&self.texts)
                .map_err(|error| reason(&error))?;
            let dfa = DFA::builder()
                .configure(
                    DFA::config()
                        .match_kind(MatchKind::All)
                        .unicode_word_boundary(true)
                        .cache_capacity(capacity)
                        .skip_cache_capacity_check(true),
                )
                .build_from_nfa(nfa.clone())
                .map_err(|error| reason(&error))?;
            let fallback = pikevm::PikeVM::builder()
                .configure(pikevm::Config::new().match_kind(MatchKind::All))
                .build_from_nfa(nfa)
                .map_err(|error| reason(&error))?;
            Ok((dfa, fallback))
        };
        let (dfa, fallback) = build().map_err(BuildError::WholePaths)?;
        Ok(Some(WholePaths { dfa, fallback, ids: self.ids, marks: self.marks }))
    }
}

/// The byte of `path` at which it can no longer become a match of the regex `text`; `None` when it could go on.
pub(super) fn stops_at(text: &str, path: &str) -> Option<usize> {
    let dfa = DFA::builder()
        .configure(DFA::config().unicode_word_boundary(true).skip_cache_capacity_check(true))
        .build(&format!(r"\A(?:{text})\z"))
        .ok()?;
    let mut cache = dfa.create_cache();
    let mut state = dfa.start_state(&mut cache, &start::Config::new().anchored(Anchored::Yes)).ok()?;
    for (at, byte) in path.bytes().enumerate() {
        state = dfa.next_state(&mut cache, state, byte).ok()?;
        if state.is_dead() {
            return Some(at);
        }
        if state.is_quit() {
            return None;
        }
    }
    None
}

/// The message of an error and of what caused it.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

impl WholePaths {
    /// Finds a regex by its text.
    pub(super) fn regex(&self, text: &str) -> Option<u32> {
        self.ids.get(text).and_then(|id| u32::try_from(*id).ok())
    }

    /// The rules that some regexes belong to.
    pub(super) fn marks(&self, regexes: &[u32]) -> impl Iterator<Item = (TableId, Mark)> {
        regexes.iter().flat_map(|regex| &self.marks[*regex as usize]).copied()
    }

    pub(super) fn walk(&self) -> WholeWalk {
        WholeWalk {
            cache: self.dfa.create_cache(),
            previous: Vec::new(),
            cleared: 0,
            checkpoints: Vec::new(),
            fallback: None,
            matched: Vec::new(),
            groups: Lists::new(),
            outcomes: Vec::new(),
        }
    }
}

/// The state of one matcher's walks through the DFA.
#[derive(Debug)]
pub(super) struct WholeWalk {
    cache: dfa::Cache,
    /// The path walked last.
    previous: Vec<u8>,
    /// How often the cache had been cleared when the checkpoints were made; clearing voids them.
    cleared: usize,
    /// The state after every [`STRIDE`] bytes of that path.
    checkpoints: Vec<LazyStateID>,
    fallback: Option<(pikevm::Cache, PatternSet)>,
    /// The regexes that match the path walked last, in order.
    matched: Vec<u32>,
    /// The lists of regexes that have matched together.
    groups: Lists<u32>,
    /// Per list and table, the outcome.
    outcomes: Vec<OutcomeId>,
}

const STRIDE: usize = 8;

impl WholeWalk {
    /// Finds the regexes that match `path`.
    pub(super) fn walk(&mut self, whole: &WholePaths, path: &str) {
        let common = common_prefix(&self.previous, path.as_bytes());
        self.previous.truncate(common);
        self.previous.extend_from_slice(&path.as_bytes()[common..]);
        self.matched.clear();
        match self.last_state(whole, path.as_bytes(), common) {
            Some(last) => {
                if last.is_match() {
                    for index in 0..whole.dfa.match_len(&self.cache, last) {
                        self.matched.push(whole.dfa.match_pattern(&self.cache, last, index).as_u32());
                    }
                }
            }
            None => {
                let (cache, set) = self.fallback.get_or_insert_with(|| {
                    (whole.fallback.create_cache(), PatternSet::new(whole.fallback.pattern_len()))
                });
                set.clear();
                whole.fallback.which_overlapping_matches(cache, &Input::new(path).anchored(Anchored::Yes), set);
                self.matched.extend(set.iter().map(|id| id.as_u32()));
            }
        }
        self.matched.sort_unstable();
    }

    /// Forgets the path walked last, though not what it matches.
    pub(super) fn forget(&mut self) {
        self.previous = Vec::new();
        self.checkpoints = Vec::new();
    }

    /// The regexes that match the path walked last, in order.
    pub(super) fn matched(&self) -> &[u32] {
        &self.matched
    }

    /// The number of the regexes that match the path walked last, where they have one.
    pub(super) fn group(&self) -> Option<u32> {
        self.groups.find(&self.matched)
    }

    /// Gives them the next number, and remembers their outcomes, one for each table.
    pub(super) fn add_group(&mut self, outcomes: impl Iterator<Item = OutcomeId>) -> u32 {
        self.outcomes.extend(outcomes);
        self.groups.intern(&self.matched)
    }

    /// The outcome of a group for a table, one of so many.
    pub(super) fn outcome(&self, group: u32, table: TableId, tables: usize) -> OutcomeId {
        self.outcomes[group as usize * tables + table.index()]
    }

    /// Bytes in use by what was remembered.
    pub(super) fn memory(&self) -> usize {
        self.groups.memory() + 4 * self.outcomes.capacity()
    }

    /// The DFA's state at the end of the path; `None` when it gives up.
    fn last_state(&mut self, whole: &WholePaths, path: &[u8], common: usize) -> Option<LazyStateID> {
        if self.cleared != self.cache.clear_count() {
            self.cleared = self.cache.clear_count();
            self.checkpoints.clear();
        }
        self.checkpoints.truncate(common / STRIDE + 1);
        let mut at = self.checkpoints.len().saturating_sub(1) * STRIDE;
        let mut state = match self.checkpoints.last() {
            Some(state) => *state,
            None => {
                let config = start::Config::new().anchored(Anchored::Yes);
                let state = whole.dfa.start_state(&mut self.cache, &config).ok()?;
                self.checkpoints.push(state);
                state
            }
        };
        while let Some(byte) = path.get(at) {
            state = whole.dfa.next_state(&mut self.cache, state, *byte).ok()?;
            if state.is_quit() {
                return None;
            }
            if state.is_dead() {
                return Some(state);
            }
            at += 1;
            if at.is_multiple_of(STRIDE) {
                self.checkpoints.push(state);
            }
        }
        whole.dfa.next_eoi_state(&mut self.cache, state).ok()
    }
}
