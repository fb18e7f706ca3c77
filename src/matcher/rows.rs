//! Outcomes of neighbouring tails, side by side.

use super::outcomes::{OutcomeId, UNKNOWN};
use super::tails::TailId;

/// How many tails a block has: the tensors of a small module.
pub(super) const WIDTH: usize = 8;

/// Some of the lanes of a block, a bit for each.
pub(super) type Lanes = u8;

/// The lanes one by one.
pub(super) fn lanes(lanes: Lanes) -> impl Iterator<Item = usize> {
    (0..WIDTH).filter(move |lane| lanes & 1 << lane != 0)
}

/// What the tails of a block make of something for one table: of a strand, or of all that is active at a position.
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

    /// Adds a rule that decides in some of the lanes.
    pub(super) fn decide(&mut self, lanes: Lanes, outcome: OutcomeId) {
        for (lane, own) in self.outcomes.iter_mut().enumerate() {
            *own = if lanes & 1 << lane == 0 { *own } else { outcome.min(*own) };
        }
    }

    /// Adds what another plain row has to each lane of this. `bound` is the least that can be in the other: lanes that have
    /// no more keep it, known or not what the other has.
    pub(super) fn add(&mut self, other: &Self, bound: OutcomeId) {
        for (own, other) in self.outcomes.iter_mut().zip(&other.outcomes) {
            // What is not known is less than each.
            *own = if *own <= bound { *own } else { (*own).min(*other) };
        }
    }
}

/// The tail in a lane of a block.
pub(super) fn tail_at(block: u32, lane: usize) -> TailId {
    block * WIDTH as u32 + lane as u32
}

/// The block of a tail, and the tail's lane there. The tails of a module are met one after the other, and so have
/// numbers close to each other.
pub(super) fn lane_of(tail: TailId) -> (u32, usize) {
    (tail / WIDTH as u32, tail as usize % WIDTH)
}
