//! Tails: how paths end, looked up in one piece.
//!
//! Behind the number of a layer or of an expert, many paths go on alike. Such an ending is looked at once and then found
//! by its whole text.

use hashbrown::HashTable;

use super::TableId;
use super::classes::ClassId;
use super::cut::starts_with;
use super::hash;
use super::lists::number;
use super::predicates::Place;
use super::rows::{self, Lanes, Row};

/// A text from the beginning of a token to the end of a path, and the place of that token.
pub(super) type TailId = u32;

/// The tails met so far.
#[derive(Debug)]
pub(super) struct Tails {
    ids: HashTable<TailId>,
    tails: Vec<Tail>,
    text: Vec<u8>,
    classes: Vec<ClassId>,
    /// Per block and table, the outcomes of what begins within its tails.
    spawned: Vec<Row>,
    tables: usize,
    /// The first tail of the module whose tails are being remembered.
    module: TailId,
    /// The tail found last.
    last: TailId,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    hash: u64,
    start: u32,
    length: u32,
    place: Place,
    /// The tail that was found after this one.
    follower: TailId,
    /// Where its classes begin in `classes`; they end where those of the next tail begin.
    classes: u32,
    /// Whether it differs from the tail before in the last token only, as a weight and its scale do.
    is_like_last: bool,
}

impl Tails {
    pub(super) fn new(tables: usize) -> Self {
        Self {
            ids: HashTable::new(),
            tails: Vec::new(),
            text: Vec::new(),
            classes: Vec::new(),
            spawned: Vec::new(),
            tables,
            module: 0,
            last: 0,
        }
    }

    /// The tail with this text, if it was the one to follow the tail found last when that was found before.
    pub(super) fn follow(&mut self, text: &[u8], place: Place) -> Option<TailId> {
        // Modules list their tensors in the same order again and again.
        let follower = self.tails.get(self.last as usize)?.follower;
        if !self.is(follower, text, place) {
            return None;
        }
        self.last = follower;
        Some(follower)
    }

    /// The tail with this text, if it is known.
    pub(super) fn find(&mut self, text: &[u8], place: Place) -> Option<TailId> {
        if let Some(follower) = self.follow(text, place) {
            return Some(follower);
        }
        let found = *self.ids.find(hash::text(text, place), |known| self.is(*known, text, place))?;
        self.tails[self.last as usize].follower = found;
        self.last = found;
        Some(found)
    }

    fn is(&self, tail: TailId, text: &[u8], place: Place) -> bool {
        let tail = &self.tails[tail as usize];
        tail.length as usize == text.len()
            && tail.place == place
            && self.text.get(tail.start as usize..).is_some_and(|known| starts_with(known, text))
    }

    /// Says that the tails to be remembered next come behind another beginning than those before them. They get blocks of
    /// their own, so that looking at a block is looking at one module; but not where paths come in no order.
    pub(super) fn begin_module(&mut self) {
        if self.tails.len() > self.module as usize + 1 {
            // No text is that long.
            let padding = Tail {
                hash: 0,
                start: 0,
                length: u32::MAX,
                place: 0,
                follower: 0,
                classes: number(self.classes.len()),
                is_like_last: false,
            };
            self.tails.resize(self.tails.len().next_multiple_of(rows::WIDTH), padding);
        }
        self.module = number(self.tails.len());
    }

    /// Remembers a tail and the classes of its tokens.
    pub(super) fn insert(&mut self, text: &[u8], place: Place, classes: &[ClassId]) -> TailId {
        let hash = hash::text(text, place);
        let id = number(self.tails.len());
        let is_like_last = id
            .checked_sub(1)
            .and_then(|last| self.classes(last))
            .and_then(<[ClassId]>::split_last)
            .is_some_and(|(_, others)| classes.split_last().is_some_and(|(_, own)| own == others));
        self.tails.push(Tail {
            hash,
            start: number(self.text.len()),
            length: number(text.len()),
            place,
            follower: id,
            classes: number(self.classes.len()),
            is_like_last,
        });
        self.text.extend_from_slice(text);
        self.classes.extend_from_slice(classes);
        let tails = &self.tails;
        self.ids.insert_unique(hash, id, |known| tails[*known as usize].hash);
        self.last = id;
        let (block, _) = rows::lane_of(id);
        self.spawned.resize((block as usize + 1) * self.tables, Row::UNKNOWN);
        id
    }

    /// The outcomes for a table of what begins within the tails of a block.
    pub(super) fn spawned(&self, block: u32, table: TableId) -> &Row {
        &self.spawned[block as usize * self.tables + table.index()]
    }

    /// The same, for changes.
    pub(super) fn spawned_mut(&mut self, block: u32, table: TableId) -> &mut Row {
        &mut self.spawned[block as usize * self.tables + table.index()]
    }

    /// Whether a tail differs from the one before in the last token only.
    pub(super) fn is_like_last(&self, tail: TailId) -> bool {
        self.tails[tail as usize].is_like_last
    }

    /// The lanes of a block that have a tail, or padding, of which nobody asks.
    pub(super) fn lanes(&self, block: u32) -> Lanes {
        let beyond = (block as usize + 1) * rows::WIDTH;
        Lanes::MAX >> beyond.saturating_sub(self.tails.len())
    }

    /// The classes of a tail's tokens.
    pub(super) fn classes(&self, tail: TailId) -> Option<&[ClassId]> {
        let begin = self.tails.get(tail as usize)?.classes as usize;
        let end = self.tails.get(tail as usize + 1).map_or(self.classes.len(), |next| next.classes as usize);
        Some(&self.classes[begin..end])
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.ids.allocation_size()
            + self.text.capacity()
            + size_of::<Tail>() * self.tails.capacity()
            + 4 * self.classes.capacity()
            + size_of::<Row>() * self.spawned.capacity()
    }
}

/// Where in `text` the last token that ends in a digit, and is not the last token, gives way to the next: up to there
/// paths are likely to differ in numbers, from there on to be alike. 0 when there is no such token.
pub(super) fn behind_numbers(text: &[u8], is_separator: impl Fn(u8) -> bool) -> usize {
    let pair = |pair: &[u8]| matches!(pair, [digit, separator] if digit.is_ascii_digit() && is_separator(*separator));
    text.windows(2).rposition(pair).map_or(0, |at| at + 2)
}
