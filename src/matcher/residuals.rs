//! What is left of patterns behind a state.
//!
//! Behind a state that few rules pass through, each of them still asks for some steps: a *residual* of its pattern. Many
//! rules have the same, as do those that tell one expert from another. Which tails take these steps is worked out once for
//! all of them.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::hash;
use super::lists::number;
use super::nfa::Mark;
use super::predicates::PredicateId;
use super::rows::{self, Lanes};

/// A sequence of steps, up to the end of the path.
pub(super) type ResidualId = u32;

/// No steps.
pub(super) const END: ResidualId = 0;

/// What a state can lead to: a mark, once the steps of the residual are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lead {
    pub(super) residual: ResidualId,
    pub(super) mark: Mark,
}

/// All residuals; equal ones have equal numbers.
#[derive(Debug, Default)]
pub(super) struct Residuals {
    /// From 1 on.
    steps: Vec<Residual>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Residual {
    /// The predicate of the first step; `None` where that is a gap, which takes any tokens or none.
    first: Option<PredicateId>,
    rest: ResidualId,
}

impl Residuals {
    /// Whether the steps take tokens, all of them and in order.
    pub(super) fn take<T: Copy>(
        &self,
        mut residual: ResidualId,
        tokens: &[T],
        satisfies: impl Fn(T, PredicateId) -> bool,
    ) -> bool {
        let mut rest = tokens;
        // What comes behind the last gap, and the tokens that it has not been tried on.
        let mut retry: Option<(ResidualId, &[T])> = None;
        loop {
            let step = (residual as usize).checked_sub(1).map(|at| self.steps[at]);
            match (step, rest.split_first()) {
                (None, None) | (Some(Residual { first: None, rest: END }), _) => return true,
                (Some(Residual { first: None, rest: behind }), _) => {
                    retry = Some((behind, rest));
                    residual = behind;
                }
                (Some(Residual { first: Some(predicate), rest: behind }), Some((token, others)))
                    if satisfies(*token, predicate) =>
                {
                    (residual, rest) = (behind, others);
                }
                _ => {
                    let Some((behind, [_, others @ ..])) = retry else { return false };
                    retry = Some((behind, others));
                    (residual, rest) = (behind, others);
                }
            }
        }
    }
}

/// Which tails take the steps of residuals, as far as that has been asked for.
#[derive(Debug, Default)]
pub(super) struct Takers {
    known: HashTable<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    residual: ResidualId,
    /// A block of tails.
    block: u32,
    /// The lanes that have been looked at.
    lanes: Lanes,
    /// Those of them whose tails take the steps.
    take: Lanes,
}

impl Takers {
    /// Those of the lanes of a block whose tails take the steps of a residual; `takes` tells of one.
    pub(super) fn find(
        &mut self,
        residual: ResidualId,
        block: u32,
        lanes: Lanes,
        takes: impl Fn(usize) -> bool,
    ) -> Lanes {
        let is = |known: &Known| known.residual == residual && known.block == block;
        let hash = |known: &Known| hash::pair(known.residual, known.block);
        let none = || Known { residual, block, lanes: 0, take: 0 };
        let known = self.known.entry(hash(&none()), is, hash).or_insert_with(none).into_mut();
        if known.lanes != lanes {
            known.lanes = lanes;
            known.take = rows::lanes(lanes).filter(|lane| takes(*lane)).fold(0, |take, lane| take | 1 << lane);
        }
        known.take
    }

    /// Bytes in use, approximately.
    pub(super) fn memory(&self) -> usize {
        self.known.allocation_size()
    }
}

/// Collects residuals.
#[derive(Debug, Default)]
pub(super) struct ResidualsBuilder {
    ids: HashMap<Residual, ResidualId, FixedState>,
    steps: Vec<Residual>,
}

impl ResidualsBuilder {
    /// The residual that asks for a step (`None`: a gap) before another.
    pub(super) fn before(&mut self, first: Option<PredicateId>, rest: ResidualId) -> ResidualId {
        let Self { ids, steps } = self;
        let residual = Residual { first, rest };
        *ids.entry(residual).or_insert_with(|| {
            steps.push(residual);
            number(steps.len())
        })
    }

    pub(super) fn finish(self) -> Residuals {
        Residuals { steps: self.steps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takers_are_asked_anew_when_a_block_has_more_tails() {
        let mut takers = Takers::default();
        let odd = |lane| lane % 2 == 1;
        let never = |_| unreachable!("it is known");
        assert_eq!(takers.find(7, 0, 0b111, odd), 0b010);
        assert_eq!(takers.find(7, 0, 0b111, never), 0b010);
        assert_eq!(takers.find(7, 1, 0b1, odd), 0);
        assert_eq!(takers.find(7, 0, 0b1_1111, odd), 0b0_1010);
        assert_eq!(takers.find(7, 0, 0b1_1111, never), 0b0_1010);
    }

    #[test]
    fn residuals_take_what_their_steps_take() {
        let mut builder = ResidualsBuilder::default();
        for (steps, tokens, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("a", "a", true),
            ("ab", "a", false),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("*b", "abc", false),
            ("a*", "a", true),
            ("*a*", "cab", true),
            ("*ab*b", "aabbab", true),
            ("*ab*c", "aababb", false),
            ("a*b*c", "abbcbc", true),
            ("a*b", "b", false),
        ] {
            let mut residual = END;
            for step in steps.chars().rev() {
                residual = builder.before((step != '*').then_some(PredicateId(step.into())), residual);
            }
            let residuals = Residuals { steps: builder.steps.clone() };
            let tokens: Vec<char> = tokens.chars().collect();
            let took = residuals.take(residual, &tokens, |token, predicate| u32::from(token) == predicate.0);
            assert_eq!(took, expected, "{steps} {tokens:?}");
        }
    }
}
