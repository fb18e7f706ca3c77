//! Outcomes of neighbouring tails, side by side.

use super::outcomes::{NOTHING, OutcomeId, TableOf, UNKNOWN};
use super::tails::TailId;

/// How many tails a block has: the tensors of a small module.
pub(super) const WIDTH: usize = 8;

/// What the tails of a block make of something: of a state, of a strand, or of all that is active at a position.
///
/// Where outcomes are nothing but one table's deciding rules, those of two rows together are the lesser numbers, lane by
/// lane, whatever they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    outcomes: [OutcomeId; WIDTH],
    table: TableOf,
}

impl Row {
    /// A row without any outcome.
    pub(super) const UNKNOWN: Self = Self { outcomes: [UNKNOWN; WIDTH], table: TableOf::Any };

    /// The same outcome in all lanes.
    pub(super) fn all(outcome: OutcomeId, table: TableOf) -> Self {
        Self { outcomes: [outcome; WIDTH], table }
    }

    /// The outcome in a lane, or `UNKNOWN`.
    pub(super) fn get(&self, lane: usize) -> OutcomeId {
        self.outcomes[lane]
    }

    /// Sets the outcome in a lane. `table` is that of the outcome.
    pub(super) fn set(&mut self, lane: usize, outcome: OutcomeId, table: TableOf) {
        self.outcomes[lane] = outcome;
        self.table = self.table.with(table);
    }

    /// Which table the deciding rules in this row are of.
    pub(super) fn table(&self) -> TableOf {
        self.table
    }

    /// Adds what a row has to each lane, which must be of the same table. `bound` is the least outcome that can be in it:
    /// lanes that have less keep it even where the other row's outcome is unknown.
    pub(super) fn add(&mut self, other: &Self, bound: OutcomeId) {
        self.table = self.table.with(other.table);
        for (own, other) in self.outcomes.iter_mut().zip(&other.outcomes) {
            let unknown = if *own <= bound { *own } else { UNKNOWN };
            *own = if *other == UNKNOWN { unknown } else { (*own).min(*other) };
        }
    }
}

/// The block of a tail, and the tail's lane there. The tails of a module are met one after the other, and so have
/// numbers close to each other.
pub(super) fn place(tail: TailId) -> (u32, usize) {
    (tail / WIDTH as u32, tail as usize % WIDTH)
}

/// The first tail of a block.
pub(super) fn first_of(block: u32) -> TailId {
    block.saturating_mul(WIDTH as u32)
}

const _: () = assert!(UNKNOWN == 0 && NOTHING == OutcomeId::MAX);
