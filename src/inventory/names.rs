//! The names of a checkpoint's tensors, to tell a repeated one.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::StoredTensor;

/// Positions in a list of tensors, found by name; names are not copied.
#[derive(Debug, Default)]
pub(super) struct Names {
    positions: HashTable<u32>,
    // Seeded at random: names are foreign.
    hasher: RandomState,
}

impl Names {
    pub(super) fn contains(&self, tensors: &[StoredTensor], name: &str) -> bool {
        self.positions.find(self.hasher.hash_one(name), |&at| is(tensors, at, name)).is_some()
    }

    /// Notes the last of `tensors`, which must not be contained yet.
    pub(super) fn note_last(&mut self, tensors: &[StoredTensor]) {
        let Some((last, at)) = tensors.last().zip(u32::try_from(tensors.len()).ok().and_then(|len| len.checked_sub(1)))
        else {
            return;
        };
        let hash = |name: &str| self.hasher.hash_one(name);
        self.positions.insert_unique(hash(&last.name), at, |&at| {
            hash(tensors.get(at as usize).map_or("", |tensor| tensor.name.as_str()))
        });
    }
}

fn is(tensors: &[StoredTensor], at: u32, name: &str) -> bool {
    tensors.get(at as usize).is_some_and(|tensor| tensor.name == name)
}
