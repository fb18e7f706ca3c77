//! Distinct tokens and their classes, each looked at once.

use hashbrown::HashTable;

use super::hash;
use super::lists::{Lists, number};
use super::nfa::{Symbol, set_bits};
use super::predicates::{Place, PredicateId, Predicates};

/// Tokens that satisfy the same predicates.
pub(super) type ClassId = u32;

/// The tokens seen so far. A token is its text and its place.
#[derive(Debug)]
pub(super) struct Classes {
    short: HashTable<(Short, ClassId)>,
    long: HashTable<(Long, ClassId)>,
    /// The texts of the long tokens.
    text: Vec<u8>,
    classes: Lists<PredicateId>,
    /// Per class, how many of its predicates are literals.
    literals: Vec<u32>,
    /// The predicates of all classes once more, `words` numbers each.
    bits: Vec<u64>,
    words: usize,
    scratch: Vec<PredicateId>,
}

/// A token of up to 16 bytes, with its text in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Short {
    words: [u64; 2],
    length: u32,
    place: Place,
}

/// A longer token.
#[derive(Debug, Clone, Copy)]
struct Long {
    hash: u64,
    start: u32,
    length: u32,
    place: Place,
}

impl Classes {
    /// `predicates` is how many there are.
    pub(super) fn new(predicates: usize) -> Self {
        Self {
            literals: Vec::new(),
            bits: Vec::new(),
            words: predicates.div_ceil(64),
            short: HashTable::new(),
            long: HashTable::new(),
            text: Vec::new(),
            classes: Lists::new(),
            scratch: Vec::new(),
        }
    }

    /// The class of a token, if the token is known.
    pub(super) fn find(&self, token: &[u8], place: Place) -> Option<ClassId> {
        match Short::new(token, place) {
            Some(short) => self.short.find(short.hash(), |(known, _)| *known == short).map(|known| known.1),
            None => self.find_long(token, place, hash::text(token, place)),
        }
    }

    /// Remembers a token, and its class should it be new.
    pub(super) fn insert(&mut self, predicates: &Predicates, token: &str, place: Place) -> ClassId {
        predicates.classify(token, place, &mut self.scratch);
        let class = self.classes.intern(&self.scratch);
        let begin = class as usize * self.words;
        if class as usize == self.literals.len() {
            self.literals.push(number(self.scratch.partition_point(|id| predicates.is_literal(*id))));
            self.bits.resize(begin + self.words, 0);
            set_bits(&mut self.bits[begin..], &self.scratch);
        }
        match Short::new(token.as_bytes(), place) {
            Some(short) => {
                self.short.insert_unique(short.hash(), (short, class), |(known, _)| known.hash());
            }
            None => {
                let hash = hash::text(token.as_bytes(), place);
                let long = Long { hash, start: number(self.text.len()), length: number(token.len()), place };
                self.text.extend_from_slice(token.as_bytes());
                self.long.insert_unique(hash, (long, class), |(known, _)| known.hash);
            }
        }
        class
    }

    /// A class as the automaton sees it.
    pub(super) fn symbol(&self, class: ClassId) -> Symbol<'_> {
        let literals = self.literals[class as usize] as usize;
        Symbol { predicates: self.classes.get(class), literals, bits: self.bits(class) }
    }

    /// The predicates of a class, one bit for each predicate there is.
    pub(super) fn bits(&self, class: ClassId) -> &[u64] {
        &self.bits[class as usize * self.words..][..self.words]
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.short.allocation_size()
            + self.long.allocation_size()
            + self.text.capacity()
            + self.classes.memory()
            + 8 * self.bits.capacity()
            + 4 * self.literals.capacity()
    }

    #[cold]
    fn find_long(&self, token: &[u8], place: Place, hash: u64) -> Option<ClassId> {
        let is_token = |known: &Long| {
            known.place == place
                && known.length as usize == token.len()
                && self.text.get(known.start as usize..).is_some_and(|text| text.starts_with(token))
        };
        self.long.find(hash, |(known, _)| is_token(known)).map(|known| known.1)
    }
}

impl Short {
    fn new(token: &[u8], place: Place) -> Option<Self> {
        if token.len() > 16 {
            return None;
        }
        let words = hash::words(token);
        Some(Self { words, length: number(token.len()), place })
    }

    fn hash(&self) -> u64 {
        hash::triple(self.words, u64::from(self.length) << 32 | u64::from(self.place))
    }
}
