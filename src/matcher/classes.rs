//! Distinct tokens and their classes, each looked at once.

use hashbrown::HashTable;

use super::hash;
use super::predicates::{Place, PredicateId, Predicates};

/// Tokens that satisfy the same predicates.
pub(super) type ClassId = u32;

/// The tokens seen so far. A token is its text and its place.
#[derive(Debug, Default)]
pub(super) struct Classes {
    tokens: HashTable<Token>,
    /// The texts of all tokens.
    text: Vec<u8>,
    classes: HashTable<ClassId>,
    /// Per class, the end of its predicates in `predicates`; they begin where those of the class before end.
    ends: Vec<u32>,
    predicates: Vec<PredicateId>,
    scratch: Vec<PredicateId>,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    hash: u64,
    start: u32,
    length: u32,
    place: Place,
    class: ClassId,
}

impl Classes {
    /// The class of a token; `None` when it is not known and may not be remembered, with its predicates in
    /// [`unremembered`](Self::unremembered).
    pub(super) fn class(
        &mut self,
        predicates: &Predicates,
        token: &str,
        place: Place,
        may_remember: bool,
    ) -> Option<ClassId> {
        let hash = hash::text(token.as_bytes(), u64::from(place));
        let text = &self.text;
        let known = self.tokens.find(hash, |known| {
            known.place == place
                && known.length as usize == token.len()
                && text.get(known.start as usize..).is_some_and(|text| text.starts_with(token.as_bytes()))
        });
        if let Some(known) = known {
            return Some(known.class);
        }
        predicates.classify(token, place, &mut self.scratch);
        let start = u32::try_from(self.text.len()).ok()?;
        let length = u32::try_from(token.len()).ok()?;
        if !may_remember || start.checked_add(length).is_none() {
            return None;
        }
        let class = self.intern_class();
        self.text.extend_from_slice(token.as_bytes());
        self.tokens.insert_unique(hash, Token { hash, start, length, place, class }, |token| token.hash);
        Some(class)
    }

    /// The predicates of the token that was looked at last and not remembered.
    pub(super) fn unremembered(&self) -> &[PredicateId] {
        &self.scratch
    }

    /// The predicates of a class, sorted.
    pub(super) fn predicates(&self, class: ClassId) -> &[PredicateId] {
        slice(&self.predicates, &self.ends, class)
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.tokens.allocation_size()
            + self.text.capacity()
            + self.classes.allocation_size()
            + 4 * (self.ends.capacity() + self.predicates.capacity())
    }

    fn intern_class(&mut self) -> ClassId {
        let Self { classes, ends, predicates, scratch, .. } = self;
        let hash = hash::words(scratch);
        if let Some(class) = classes.find(hash, |class| slice(predicates, ends, *class) == scratch.as_slice()) {
            return *class;
        }
        let class = number(ends.len());
        predicates.extend_from_slice(scratch);
        ends.push(number(predicates.len()));
        classes.insert_unique(hash, class, |class| hash::words(slice(predicates, ends, *class)));
        class
    }
}

/// The `index`-th of the slices that lie end to end in `all`.
pub(super) fn slice<'a, T>(all: &'a [T], ends: &[u32], index: u32) -> &'a [T] {
    let index = index as usize;
    let start = if index == 0 { 0 } else { ends[index - 1] as usize };
    &all[start..ends[index] as usize]
}

/// The cache capacity keeps counts far below `u32::MAX`; see `Matcher::has_room`.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
