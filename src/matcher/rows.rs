//! Outcomes of neighbouring tails, side by side.

use super::outcomes::{OutcomeId, UNKNOWN};
use super::tails::TailId;

/// How many tails a block has: the tensors of a small module.
pub(super) const WIDTH: usize = 8;

/// What the tails of a block make of something for one table: of a state, of a strand, or of all that is active at a
/// position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) outcomes: [OutcomeId; WIDTH],
    /// Whether all there is are rules that decide, or nothing, or what is not known: then the outcomes of two rows together
    /// are the lesser numbers, lane by lane.
    pub(super) is_plain: bool,
}

impl Row {
    /// A row without any outcome.
    pub(super) const UNKNOWN: Self = Self::all(UNKNOWN);

    /// A row with the same outcome in all lanes, which must be plain.
    pub(super) const fn all(outcome: OutcomeId) -> Self {
        Self { outcomes: [outcome; WIDTH], is_plain: true }
    }

    /// The outcome in a lane, or `UNKNOWN`.
    pub(super) fn get(&self, lane: usize) -> OutcomeId {
        self.outcomes[lane]
    }

    /// Sets the outcome in a lane.
    pub(super) fn set(&mut self, lane: usize, outcome: OutcomeId, is_plain: bool) {
        self.outcomes[lane] = outcome;
        self.is_plain &= is_plain;
    }

    /// Adds what another plain row has to each lane of this. `bound` is the least that can be in the other: lanes that have
    /// no more keep it, known or not what the other has.
    pub(super) fn add(&mut self, other: &Self, bound: OutcomeId) {
        for (own, other) in self.outcomes.iter_mut().zip(&other.outcomes) {
            let unknown = if *own <= bound { *own } else { UNKNOWN };
            *own = if *other == UNKNOWN { unknown } else { (*own).min(*other) };
        }
    }
}

/// The block of a tail, and the tail's lane there. The tails of a module are met one after the other, and so have
/// numbers close to each other.
pub(super) fn lane_of(tail: TailId) -> (u32, usize) {
    (tail / WIDTH as u32, tail as usize % WIDTH)
}
