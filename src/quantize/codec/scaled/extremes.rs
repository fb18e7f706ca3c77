//! The extremes of every cell of a grid.
//!
//! They are kept as integers that order as the floats do, so that the greatest of them vectorizes and does not depend
//! on the order of the values; NaN orders beyond infinity and so is never lost.

use super::Grid;

/// Per cell the greatest magnitude, or minimum and maximum.
#[derive(Debug, Clone, Default)]
pub(in crate::quantize::codec) struct Extremes {
    /// Bits of the magnitude, or the maximum in ordered form.
    most: Vec<i32>,
    /// The minimum in ordered form; empty where only magnitudes are asked for.
    least: Vec<i32>,
}

impl Extremes {
    /// Of cells without values. Zero is within every range that a scale covers, so zero is where they start.
    pub(super) fn new(cells: usize, asymmetric: bool) -> Self {
        let mut extremes = Self::default();
        extremes.reset(cells, asymmetric);
        extremes
    }

    pub(super) fn reset(&mut self, cells: usize, asymmetric: bool) {
        self.most.clear();
        self.most.resize(cells, 0);
        self.least.clear();
        self.least.resize(if asymmetric { cells } else { 0 }, 0);
    }

    /// Takes the extremes of another part of the same weight, or of a sibling with as many cells.
    pub(in crate::quantize::codec) fn merge(&mut self, other: &Extremes) {
        for (mine, theirs) in self.most.iter_mut().zip(&other.most) {
            *mine = (*mine).max(*theirs);
        }
        for (mine, theirs) in self.least.iter_mut().zip(&other.least) {
            *mine = (*mine).min(*theirs);
        }
    }

    /// The greatest magnitude of each cell.
    pub(super) fn magnitudes(&self) -> impl Iterator<Item = f32> {
        self.most.iter().map(|bits| f32::from_bits(bits.cast_unsigned()))
    }

    /// Minimum (at most zero) and maximum (at least zero) of each cell; both NaN where a value was.
    pub(super) fn spans(&self) -> impl Iterator<Item = (f32, f32)> {
        self.least.iter().zip(&self.most).map(|(&least, &most)| {
            let (least, most) = (from_ordered(least), from_ordered(most));
            if least.is_nan() || most.is_nan() { (f32::NAN, f32::NAN) } else { (least, most) }
        })
    }

    /// Adds a row whose cells start at `first`. Answers how many values are not finite.
    #[inline(always)]
    pub(super) fn add_row(&mut self, grid: &Grid, row: &[f32], first: usize) -> u64 {
        let asymmetric = !self.least.is_empty();
        let mut greatest = 0;
        if grid.wide == 1 {
            let cells = self.most.get_mut(first..).unwrap_or_default();
            for (cell, value) in cells.iter_mut().zip(row) {
                greatest = greatest.max(magnitude(*value));
                *cell = (*cell).max(if asymmetric { ordered(*value) } else { magnitude(*value) });
            }
            let cells = self.least.get_mut(first..).unwrap_or_default();
            for (cell, value) in cells.iter_mut().zip(row) {
                *cell = (*cell).min(ordered(*value));
            }
        } else {
            for (cell, part) in row.chunks(grid.wide).enumerate() {
                let cell = first + cell;
                let most = if asymmetric {
                    let (mut most, mut least) = (0, 0);
                    for value in part {
                        most = most.max(ordered(*value));
                        least = least.min(ordered(*value));
                        greatest = greatest.max(magnitude(*value));
                    }
                    if let Some(cell) = self.least.get_mut(cell) {
                        *cell = (*cell).min(least);
                    }
                    most
                } else {
                    let most = part.iter().fold(0, |most, value| most.max(magnitude(*value)));
                    greatest = greatest.max(most);
                    most
                };
                if let Some(cell) = self.most.get_mut(cell) {
                    *cell = (*cell).max(most);
                }
            }
        }
        if greatest < INFINITY { 0 } else { row.iter().filter(|value| !value.is_finite()).count() as u64 }
    }
}

const INFINITY: i32 = 0x7F80_0000;

#[inline(always)]
fn magnitude(value: f32) -> i32 {
    (value.to_bits() & 0x7FFF_FFFF).cast_signed()
}

/// An integer that orders as the float does; its own inverse.
#[inline(always)]
fn ordered(value: f32) -> i32 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 31) & 0x7FFF_FFFF)
}

fn from_ordered(order: i32) -> f32 {
    f32::from_bits((order ^ ((order >> 31) & 0x7FFF_FFFF)).cast_unsigned())
}
