//! What tails make of strands.

use std::ops::Range;

use hashbrown::HashTable;

use super::hash;
use super::lists::number;
use super::outcomes::OutcomeId;
use super::strands::StrandId;
use super::tails::TailId;

/// The outcomes of strands at the ends of tails, as far as they are known.
///
/// The tails of a module are met one after the other, and so have numbers close to each other. What they make of a
/// strand is kept in one block, so that the first look-up finds those that follow, too.
#[derive(Debug)]
pub(super) struct Endings {
    blocks: Vec<Block>,
    /// Into `blocks`, by strand and number.
    ids: HashTable<u32>,
    /// Per strand, the block asked for last; `NO_BLOCK` without any.
    last: Vec<u32>,
}

/// The outcomes of one strand for the tails from `WIDTH * number` on.
#[derive(Debug)]
struct Block {
    strand: StrandId,
    number: u32,
    outcomes: [OutcomeId; WIDTH],
}

/// A module has up to some dozen tensors.
const WIDTH: usize = 16;

const UNKNOWN: OutcomeId = OutcomeId::MAX;

const NO_BLOCK: u32 = u32::MAX;

impl Endings {
    pub(super) fn new() -> Self {
        Self { blocks: Vec::new(), ids: HashTable::new(), last: Vec::new() }
    }

    /// The outcome of a strand at the end of a tail, where it is known.
    pub(super) fn find(&mut self, strand: StrandId, tail: TailId) -> Option<OutcomeId> {
        let (number, at) = place(tail);
        let last = self.last.get_mut(strand as usize)?;
        let block = match self.blocks.get(*last as usize) {
            Some(block) if block.number == number => block,
            _ => {
                let is = |id: &u32| is(&self.blocks, *id, strand, number);
                *last = *self.ids.find(hash::pair(strand, number), is)?;
                &self.blocks[*last as usize]
            }
        };
        Some(block.outcomes[at]).filter(|outcome| *outcome != UNKNOWN)
    }

    /// The tails from `tail` on whose outcomes are in the same block.
    pub(super) fn block_from(tail: TailId) -> Range<TailId> {
        let (number, _) = place(tail);
        tail..(number + 1).saturating_mul(WIDTH as u32)
    }

    /// Remembers the outcomes of a strand at the ends of tails: of `tail` and those that follow it in its block.
    pub(super) fn insert(&mut self, strand: StrandId, tail: TailId, outcomes: &[OutcomeId]) {
        let (number, at) = place(tail);
        let blocks = &mut self.blocks;
        let hash = hash::pair(strand, number);
        let id = match self.ids.find(hash, |id| is(blocks, *id, strand, number)) {
            Some(id) => *id,
            None => {
                let id = super::lists::number(blocks.len());
                blocks.push(Block { strand, number, outcomes: [UNKNOWN; WIDTH] });
                let hash_of = |id: &u32| {
                    let block = &blocks[*id as usize];
                    hash::pair(block.strand, block.number)
                };
                self.ids.insert_unique(hash, id, hash_of);
                id
            }
        };
        for (known, outcome) in blocks[id as usize].outcomes[at..].iter_mut().zip(outcomes) {
            *known = *outcome;
        }
        if self.last.len() <= strand as usize {
            self.last.resize(strand as usize + 1, NO_BLOCK);
        }
        self.last[strand as usize] = id;
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        size_of::<Block>() * self.blocks.capacity() + self.ids.allocation_size() + 4 * self.last.capacity()
    }
}

/// The number of a tail's block, and the tail's position there.
fn place(tail: TailId) -> (u32, usize) {
    let tail = tail as usize;
    (number(tail / WIDTH), tail % WIDTH)
}

fn is(blocks: &[Block], id: u32, strand: StrandId, number: u32) -> bool {
    let block = &blocks[id as usize];
    block.strand == strand && block.number == number
}
