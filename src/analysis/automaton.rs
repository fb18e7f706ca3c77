//! Minimal deterministic automata over whole paths, and the two products that the analysis needs.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use indexmap::IndexSet;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::{Class, Hir, Repetition};

use super::alphabet::Alphabet;
use super::minimize;

/// The state from which nothing is accepted.
pub(super) const DEAD: u32 = 0;

/// A complete automaton: a table of states by classes of bytes. State 0 is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Automaton {
    /// The class of each byte.
    pub(super) classes: Box<[u8; 256]>,
    /// How many classes there are.
    pub(super) width: usize,
    /// `next[state * width + class]`.
    pub(super) next: Vec<u32>,
    /// Whether a path may end in the state.
    pub(super) accept: Vec<bool>,
    /// Where a path begins.
    pub(super) start: u32,
}

/// Which paths a product keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Those of both.
    Both,
    /// Those of the first that the second has not.
    Difference,
}

impl Automaton {
    /// Compiles an expression; `None` beyond `bytes` of memory for the intermediate automata.
    pub(super) fn compile(hir: &Hir, bytes: usize) -> Option<Self> {
        let config =
            thompson::Config::new().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(bytes));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(hir).ok()?;
        let config = dense::Config::new()
            // Every alternative is followed to its end; leftmost-first would drop those behind a match.
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(bytes))
            .determinize_size_limit(Some(bytes));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        Self::from_dense(&dfa).map(|automaton| minimize::minimize(&automaton))
    }

    /// Every text over the alphabet.
    pub(super) fn everything(alphabet: &Alphabet, bytes: usize) -> Option<Self> {
        let any = Hir::class(Class::Bytes(alphabet.any()));
        Self::compile(&Hir::repetition(Repetition { min: 0, max: None, greedy: true, sub: Box::new(any) }), bytes)
    }

    /// Copies the states that can be reached. Matches come one byte late there, here they belong to the state.
    fn from_dense(dfa: &dense::DFA<Vec<u32>>) -> Option<Self> {
        let begin = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
        let mut classes = Box::new([0; 256]);
        let mut representatives: Vec<u8> = Vec::new();
        for byte in 0..=u8::MAX {
            let class = dfa.byte_classes().get(byte);
            if usize::from(class) == representatives.len() {
                representatives.push(byte);
            }
            classes[usize::from(byte)] = class;
        }
        // Index 0 is the dead state, whether or not the DFA can reach its own.
        let mut states = IndexSet::from([None]);
        states.insert((!dfa.is_dead_state(begin)).then_some(begin));
        let mut automaton = Self {
            classes,
            width: representatives.len(),
            next: vec![DEAD; representatives.len()],
            accept: vec![false],
            start: 0,
        };
        automaton.start = index(states.len() - 1);
        let mut at = 1;
        while let Some(&Some(state)) = states.get_index(at) {
            for &byte in &representatives {
                let next = dfa.next_state(state, byte);
                let next = states.insert_full((!dfa.is_dead_state(next)).then_some(next)).0;
                automaton.next.push(index(next));
            }
            automaton.accept.push(dfa.is_match_state(dfa.next_eoi_state(state)));
            at += 1;
        }
        Some(automaton)
    }

    /// The number of states, the dead one included.
    pub(super) fn len(&self) -> usize {
        self.accept.len()
    }

    /// Whether no path is accepted.
    pub(super) fn is_empty(&self) -> bool {
        !self.accept.contains(&true)
    }

    /// Whether the path of these bytes is accepted.
    pub(super) fn accepts(&self, path: impl IntoIterator<Item = u8>) -> bool {
        let end = path.into_iter().fold(self.start, |state, byte| self.step(state, byte));
        self.accept[end as usize]
    }

    /// The state after one more byte.
    pub(super) fn step(&self, state: u32, byte: u8) -> u32 {
        self.next[state as usize * self.width + usize::from(self.classes[usize::from(byte)])]
    }

    /// The product of two automata, built breadth first from the start; at most `budget` states, which it lowers by
    /// those it made. `None` when they do not suffice.
    pub(super) fn product(&self, other: &Self, keep: Keep, budget: &mut usize) -> Option<Self> {
        let (classes, pairs) = self.joint_classes(other);
        let width = pairs.len();
        // With the first in its dead state nothing is kept; the second's matters only for an intersection.
        let is_dead = |a: u32, b: u32| a == DEAD || (keep == Keep::Both && b == DEAD);
        let mut states: IndexSet<(u32, u32), FixedState> = IndexSet::default();
        states.insert((DEAD, DEAD));
        let canonical = |a, b| if is_dead(a, b) { (DEAD, DEAD) } else { (a, b) };
        let start = index(states.insert_full(canonical(self.start, other.start)).0);
        let mut next = vec![DEAD; width];
        let mut accept = vec![false];
        let mut at = 1;
        while let Some(&(a, b)) = states.get_index(at) {
            *budget = budget.checked_sub(1)?;
            let (row_a, row_b) = (a as usize * self.width, b as usize * other.width);
            for &(class_a, class_b) in &pairs {
                let after =
                    canonical(self.next[row_a + usize::from(class_a)], other.next[row_b + usize::from(class_b)]);
                next.push(index(states.insert_full(after).0));
            }
            let (in_a, in_b) = (self.accept[a as usize], other.accept[b as usize]);
            accept.push(in_a && in_b == (keep == Keep::Both));
            at += 1;
        }
        Some(minimize::minimize(&Self { classes, width, next, accept, start }))
    }

    /// The coarsest classes that both automata respect, and for each the pair it stands for.
    fn joint_classes(&self, other: &Self) -> (Box<[u8; 256]>, Vec<(u8, u8)>) {
        let mut classes = Box::new([0; 256]);
        let mut pairs: IndexSet<(u8, u8), FixedState> = IndexSet::default();
        for (byte, class) in classes.iter_mut().enumerate() {
            let (joint, _) = pairs.insert_full((self.classes[byte], other.classes[byte]));
            // There are no more pairs than bytes.
            *class = u8::try_from(joint).unwrap_or(u8::MAX);
        }
        (classes, pairs.into_iter().collect())
    }

    /// A shortest accepted path; among those, the first in the order of `symbols`.
    ///
    /// With `separators` given, tokens must not be empty.
    pub(super) fn shortest(&self, symbols: &[u8], separators: Option<&[u8]>) -> Option<Vec<u8>> {
        // One symbol per class is enough: the first. Separators are told apart from the rest.
        let mut seen = IndexSet::<(u8, bool), FixedState>::default();
        let is_separator = |byte: u8| separators.is_some_and(|all| all.contains(&byte));
        let symbols: Vec<u8> = symbols
            .iter()
            .copied()
            .filter(|&byte| seen.insert((self.classes[usize::from(byte)], is_separator(byte))))
            .collect();
        // Two layers of states: at the start of a token (only if that matters), and within one.
        let layers = 2;
        let mut from: Vec<Option<(u32, u8)>> = vec![None; self.len() * layers];
        let place = |state: u32, fresh: bool| state as usize * layers + usize::from(fresh);
        let begin = (self.start, separators.is_some());
        let mut queue = VecDeque::from([begin]);
        let mut visited = vec![false; from.len()];
        visited[place(begin.0, begin.1)] = true;
        while let Some((state, fresh)) = queue.pop_front() {
            if self.accept[state as usize] && !fresh {
                return Some(trace(&from, place(state, fresh)));
            }
            for &byte in &symbols {
                let after = (self.step(state, byte), is_separator(byte));
                if after.0 == DEAD || (fresh && after.1) || visited[place(after.0, after.1)] {
                    continue;
                }
                visited[place(after.0, after.1)] = true;
                from[place(after.0, after.1)] = Some((index(place(state, fresh)), byte));
                queue.push_back(after);
            }
        }
        None
    }
}

/// The bytes that led to a place.
fn trace(from: &[Option<(u32, u8)>], end: usize) -> Vec<u8> {
    let steps = std::iter::successors(from[end], |&(before, _)| from[before as usize]);
    let mut path: Vec<u8> = steps.map(|(_, byte)| byte).collect();
    path.reverse();
    path
}

/// State numbers are 32 bits wide; budgets and memory limits stay far below.
pub(super) fn index(state: usize) -> u32 {
    u32::try_from(state).unwrap_or(u32::MAX)
}
