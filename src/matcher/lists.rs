//! Numbered lists: equal lists have equal numbers.

use std::hash::Hash;

use hashbrown::HashTable;

use super::hash;

/// Distinct lists, in the order they came.
#[derive(Debug)]
pub(super) struct Lists<T> {
    ids: HashTable<u32>,
    /// Per list, its hash.
    hashes: Vec<u64>,
    /// Per list, where its items end in `items`; they begin where those of the list before end.
    ends: Vec<u32>,
    items: Vec<T>,
}

impl<T: Copy + Eq + Hash> Lists<T> {
    pub(super) fn new() -> Self {
        Self { ids: HashTable::new(), hashes: Vec::new(), ends: Vec::new(), items: Vec::new() }
    }

    /// The number of a list; a new one if the list is new.
    pub(super) fn intern(&mut self, list: &[T]) -> u32 {
        let Self { ids, hashes, ends, items } = self;
        let hash = hash::list(list);
        if let Some(id) = ids.find(hash, |id| slice(items, ends, *id) == list) {
            return *id;
        }
        let id = number(ends.len());
        items.extend_from_slice(list);
        ends.push(number(items.len()));
        hashes.push(hash);
        ids.insert_unique(hash, id, |id| hashes[*id as usize]);
        id
    }

    /// The number of a list, if it has one.
    pub(super) fn find(&self, list: &[T]) -> Option<u32> {
        let Self { ids, ends, items, .. } = self;
        ids.find(hash::list(list), |id| slice(items, ends, *id) == list).copied()
    }

    /// The list of a number.
    pub(super) fn get(&self, id: u32) -> &[T] {
        slice(&self.items, &self.ends, id)
    }

    /// Forgets all lists.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.hashes.clear();
        self.ends.clear();
        self.items.clear();
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.ids.allocation_size()
            + 8 * self.hashes.capacity()
            + 4 * self.ends.capacity()
            + size_of::<T>() * self.items.capacity()
    }
}

fn slice<'a, T>(items: &'a [T], ends: &[u32], id: u32) -> &'a [T] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &items[start..ends[id] as usize]
}

/// A count as a number. What is counted stays far below `u32::MAX`: nodes and paths are counted before they are let in,
/// and what a matcher remembers takes a byte at least and 2 GiB at most.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
