//! The states that walks have reached so far, and the ways between them.

use hashbrown::HashTable;

use super::classes::{ClassId, number, slice};
use super::hash;
use super::nfa::StateId;

/// A remembered set of automaton states.
pub(super) type SetId = u32;

/// Remembered sets, transitions and verdicts.
#[derive(Debug)]
pub(super) struct Dfa {
    sets: HashTable<SetId>,
    /// Per set, the end of its states in `states`; they begin where those of the set before end.
    ends: Vec<u32>,
    states: Vec<StateId>,
    transitions: HashTable<Transition>,
}

#[derive(Debug, Clone, Copy)]
struct Transition {
    from: SetId,
    class: ClassId,
    to: SetId,
}

impl Dfa {
    /// The set that walks begin with.
    pub(super) const START: SetId = 0;

    pub(super) fn new(start: &[StateId]) -> Self {
        let mut dfa =
            Self { sets: HashTable::new(), ends: Vec::new(), states: Vec::new(), transitions: HashTable::new() };
        dfa.intern(start);
        dfa
    }

    /// The set after a token of class `class`, where it is known.
    pub(super) fn next(&self, from: SetId, class: ClassId) -> Option<SetId> {
        self.transitions.find(hash::pair(from, class), |known| known.from == from && known.class == class).map(|t| t.to)
    }

    /// Remembers a transition.
    pub(super) fn insert(&mut self, from: SetId, class: ClassId, to: &[StateId]) -> SetId {
        let to = self.intern(to);
        let hash = |t: &Transition| hash::pair(t.from, t.class);
        let transition = Transition { from, class, to };
        self.transitions.insert_unique(hash(&transition), transition, hash);
        to
    }

    /// The states of a set, sorted.
    pub(super) fn states(&self, set: SetId) -> &[StateId] {
        slice(&self.states, &self.ends, set)
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.sets.allocation_size()
            + self.transitions.allocation_size()
            + 4 * (self.ends.capacity() + self.states.capacity())
    }

    fn intern(&mut self, set: &[StateId]) -> SetId {
        let Self { sets, ends, states, .. } = self;
        let hash = hash::words(set);
        if let Some(id) = sets.find(hash, |id| slice(states, ends, *id) == set) {
            return *id;
        }
        let id = number(ends.len());
        states.extend_from_slice(set);
        ends.push(number(states.len()));
        sets.insert_unique(hash, id, |id| hash::words(slice(states, ends, *id)));
        id
    }
}
