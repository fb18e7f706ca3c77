//! Strands: what has become of all patterns that began at the same token.
//!
//! A position in a path is a list of strands. They are followed one by one, so that windows that begin at different
//! tokens do not multiply each other's states: rules about layers and rules about experts need as many states as there
//! are layers plus experts, not layers times experts.

use hashbrown::HashTable;

use super::TableId;
use super::classes::{ClassId, Classes};
use super::hash;
use super::lists::{Lists, number};
use super::nfa::{Mask, NONE, Nfa, StateId};

/// A remembered set of states.
pub(super) type StrandId = u32;

/// A strand that is active at a position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Active {
    pub(super) strand: StrandId,
    /// The first rule that it can still lead to, whatever the table.
    first_rule: u32,
}

/// The strand that matches nothing any more.
pub(super) const DEAD: StrandId = StrandId::MAX;

/// The strands that walks have met so far, and the ways between them.
#[derive(Debug)]
pub(super) struct Strands {
    sets: Lists<StateId>,
    strands: Vec<Strand>,
    tables: usize,
    /// Per strand and table.
    prospects: Vec<Prospect>,
    masks: Vec<Mask>,
    transitions: HashTable<Transition>,
}

#[derive(Debug, Clone, Copy)]
struct Strand {
    asks: Asks,
    /// The first rule that it can still lead to, whatever the table.
    first_rule: u32,
    /// Whether a rule has won in some table.
    has_winner: bool,
}

/// What a strand asks of tokens. Tokens that agree in this lead to the same strands: of 256 experts, the rules about one
/// layer may tell apart the even, the odd, and number 7.
#[derive(Debug, Clone, Copy)]
enum Asks {
    /// It has met no token yet.
    Unknown,
    /// None: rules have won and nothing else is active.
    None,
    /// The predicates in these of `Strands::masks`.
    Some { start: u32, end: u32 },
    /// Too many predicates: tokens are compared by their whole class.
    All,
}

/// More masks than this are too many.
const MOST_MASKS: usize = 16;

/// What can become of a strand in one table.
#[derive(Debug, Clone, Copy)]
struct Prospect {
    /// The first rule that it can still lead to; `NONE` without any.
    first_rule: u32,
    /// The rule that has won, whatever follows; or `NONE`.
    winner: u32,
}

#[derive(Debug, Clone, Copy)]
struct Transition {
    hash: u64,
    from: StrandId,
    /// One of the classes that lead there.
    class: ClassId,
    to: [StrandId; 2],
}

impl Strands {
    pub(super) fn new(tables: usize) -> Self {
        Self {
            sets: Lists::new(),
            strands: Vec::new(),
            tables,
            prospects: Vec::new(),
            masks: Vec::new(),
            transitions: HashTable::new(),
        }
    }

    /// The strand of a set.
    pub(super) fn intern(&mut self, nfa: &Nfa, set: &[StateId]) -> StrandId {
        if set.is_empty() {
            return DEAD;
        }
        let id = self.sets.intern(set);
        if id as usize == self.strands.len() {
            let begin = self.prospects.len();
            self.prospects.resize(begin + self.tables, Prospect { first_rule: NONE, winner: NONE });
            for state in set {
                let (table, first_rule, has_won) = nfa.outlook(*state);
                let prospect = &mut self.prospects[begin + table];
                prospect.first_rule = prospect.first_rule.min(first_rule);
                if has_won {
                    prospect.winner = first_rule;
                }
            }
            let has_winner = self.prospects[begin..].iter().any(|prospect| prospect.winner != NONE);
            let first_rule = self.prospects[begin..].iter().map(|prospect| prospect.first_rule).min().unwrap_or(NONE);
            let asks = if nfa.is_settled(set) { Asks::None } else { Asks::Unknown };
            self.strands.push(Strand { asks, first_rule, has_winner });
        }
        id
    }

    /// The strands after a token, where they are known; those that are not there are `DEAD`.
    pub(super) fn next(&self, from: StrandId, class: ClassId, classes: &Classes) -> Option<[StrandId; 2]> {
        let asks = match self.strands[from as usize].asks {
            Asks::Unknown => return None,
            Asks::None => return Some([from, DEAD]),
            asks => asks,
        };
        let agrees = |other: ClassId| match asks {
            Asks::Some { start, end } => {
                let (bits, others) = (classes.bits(class), classes.bits(other));
                self.masks[start as usize..end as usize].iter().all(|mask| mask.of(bits) == mask.of(others))
            }
            Asks::Unknown | Asks::None | Asks::All => false,
        };
        let is = |known: &Transition| known.from == from && (known.class == class || agrees(known.class));
        self.transitions.find(self.hash(from, asks, class, classes), is).map(|known| known.to)
    }

    /// Works out the strands after a token and remembers them.
    #[cold]
    pub(super) fn advance(
        &mut self,
        nfa: &Nfa,
        from: StrandId,
        class: ClassId,
        classes: &Classes,
        scratch: &mut [Vec<StateId>; 2],
    ) -> [StrandId; 2] {
        let [to, apart] = scratch;
        nfa.step_apart(self.sets.get(from), classes.symbol(class), to, apart);
        let to = [self.intern(nfa, to), self.intern(nfa, apart)];
        let asks = match self.strands[from as usize].asks {
            Asks::Unknown => self.ask(nfa, from),
            asks => asks,
        };
        let hash = self.hash(from, asks, class, classes);
        self.transitions.insert_unique(hash, Transition { hash, from, class, to }, |known| known.hash);
        to
    }

    /// Works out what a strand asks of tokens.
    fn ask(&mut self, nfa: &Nfa, strand: StrandId) -> Asks {
        let start = self.masks.len();
        let asks = if nfa.masks(self.sets.get(strand), MOST_MASKS, &mut self.masks) {
            Asks::Some { start: number(start), end: number(self.masks.len()) }
        } else {
            self.masks.truncate(start);
            Asks::All
        };
        self.strands[strand as usize].asks = asks;
        asks
    }

    /// A hash of a strand and what it asks of a class.
    fn hash(&self, from: StrandId, asks: Asks, class: ClassId, classes: &Classes) -> u64 {
        match asks {
            Asks::Some { start, end } => {
                let masks = &self.masks[start as usize..end as usize];
                let bits = classes.bits(class);
                masks.iter().fold(hash::pair(from, 0), |hash, mask| hash::more(hash, mask.of(bits)))
            }
            Asks::Unknown | Asks::None | Asks::All => hash::pair(from, class),
        }
    }

    /// Adds a strand to those of a position, from `begin` on, unless it is `DEAD` or there already. Those that lead to the
    /// first rules come first, so that what decides is found early, and the others need not be asked.
    pub(super) fn add(&self, strand: StrandId, position: &mut Vec<Active>, begin: usize) {
        if strand == DEAD || position[begin..].iter().any(|active| active.strand == strand) {
            return;
        }
        let Strand { first_rule, .. } = self.strands[strand as usize];
        let mut at = position.len();
        position.push(Active { strand, first_rule });
        while at > begin && position[at - 1].first_rule > first_rule {
            position.swap(at - 1, at);
            at -= 1;
        }
    }

    /// The first rule of a table that a strand can lead to; `NONE` without any.
    pub(super) fn first_rule(&self, strand: StrandId, table: TableId) -> u32 {
        self.prospects[strand as usize * self.tables + table.index()].first_rule
    }

    /// The states of a strand, sorted.
    pub(super) fn states(&self, strand: StrandId) -> &[StateId] {
        self.sets.get(strand)
    }

    /// Drops from a position the strands that cannot change the answer any more: in each table, they lead only to
    /// rules after one that has won in another strand.
    pub(super) fn prune(&self, position: &mut Vec<Active>, begin: usize) {
        if !position[begin..].iter().any(|active| self.strands[active.strand as usize].has_winner) {
            return;
        }
        let tables = self.tables;
        let prospects = |strand: StrandId| &self.prospects[strand as usize * tables..][..tables];
        let mut kept = begin;
        for at in begin..position.len() {
            let matters = prospects(position[at].strand).iter().enumerate().any(|(table, own)| {
                let winner = position[begin..].iter().map(|other| prospects(other.strand)[table].winner).min();
                winner.is_none_or(|winner| own.first_rule < winner || own.winner == winner && winner != NONE)
            });
            if matters {
                position.swap(kept, at);
                kept += 1;
            }
        }
        position.truncate(kept);
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.sets.memory()
            + self.transitions.allocation_size()
            + size_of::<Strand>() * self.strands.capacity()
            + size_of::<Prospect>() * self.prospects.capacity()
            + size_of::<Mask>() * self.masks.capacity()
    }
}
