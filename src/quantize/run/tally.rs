//! What became of units, added up in the order of the checkpoint whatever order they were finished in.

use std::collections::BTreeMap;

use crate::quantize::{Drift, Figures};

/// What became of one unit.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) rule: Option<usize>,
    pub(super) drift: Option<Drift>,
    pub(super) nonfinite: u64,
}

/// Figures of every unit, and the drift of every rule and of all.
#[derive(Debug, Default)]
pub(super) struct Tally {
    next: usize,
    /// Units that were finished before others in front of them.
    waiting: BTreeMap<usize, Outcome>,
    pub(super) units: Vec<UnitFigures>,
    pub(super) rules: BTreeMap<Option<usize>, Drift>,
    pub(super) total: Option<Drift>,
}

/// What is kept of a unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnitFigures {
    pub(super) figures: Option<Figures>,
    pub(super) nonfinite: u64,
}

impl Tally {
    pub(super) fn add(&mut self, unit: usize, outcome: Outcome) {
        self.waiting.insert(unit, outcome);
        while let Some(outcome) = self.waiting.remove(&self.next) {
            self.take(outcome);
            self.next += 1;
        }
    }

    fn take(&mut self, Outcome { rule, drift, nonfinite }: Outcome) {
        let figures = drift.as_ref().map(Drift::figures);
        let nonfinite = figures.map_or(nonfinite, |figures| figures.nonfinite.max(nonfinite));
        self.units.push(UnitFigures { figures, nonfinite });
        if let Some(drift) = drift {
            self.rules.entry(rule).or_insert_with(|| Drift::new(1)).absorb(&drift);
            self.total.get_or_insert_with(|| Drift::new(1)).absorb(&drift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_in_which_units_finish_does_not_matter() {
        let outcome = |unit: usize| {
            let mut drift = Drift::new(4);
            let before: Vec<f32> = (0..64).map(|i| (i * (unit + 3)) as f32 * 0.1).collect();
            let after: Vec<f32> = before.iter().map(|value| value * 0.99).collect();
            drift.add(0, &before, &after, None);
            Outcome { rule: Some(unit % 2), drift: Some(drift), nonfinite: 0 }
        };
        let figures = |order: [usize; 4]| {
            let mut tally = Tally::default();
            order.into_iter().for_each(|unit| tally.add(unit, outcome(unit)));
            let units: Vec<Figures> = tally.units.iter().filter_map(|unit| unit.figures).collect();
            (units, tally.rules.values().map(Drift::figures).collect::<Vec<_>>(), tally.total.unwrap().figures())
        };
        assert_eq!(figures([0, 1, 2, 3]), figures([3, 1, 2, 0]));
        assert_eq!(figures([0, 1, 2, 3]).0.len(), 4);
    }
}
