//! Which values of a stored weight a unit consists of.

use std::ops::Range;

use crate::plan::Split;

/// A matrix within a weight, in values of its row-major order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Region {
    /// Consecutive values, from this one on.
    From(usize),
    /// Rows and columns of a matrix that starts at `base` and has `width` columns.
    Grid { base: usize, width: usize, columns: usize, row: Stride, column: Stride },
}

/// Every `step`-th index from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stride {
    first: usize,
    step: usize,
}

impl Stride {
    fn at(self, index: usize) -> usize {
        self.first + index * self.step
    }
}

impl Region {
    pub(super) fn whole() -> Self {
        Region::From(0)
    }

    /// The matrix of one expert and part of a stack `[experts, rows, columns]`.
    pub(super) fn of_split(stack: &[u64], split: &Split, expert: u64, part: u64) -> Self {
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let (high, width) = match stack {
            [_, high, width] => (size(*high), size(*width)),
            _ => return Region::whole(),
        };
        let base = size(expert) * high * width;
        let [rows, columns] = split.shape.map(size);
        let own = if split.along == 0 { rows } else { columns };
        let along = if split.interleaved {
            Stride { first: size(part), step: size(split.parts) }
        } else {
            Stride { first: size(part) * own, step: 1 }
        };
        let all = Stride { first: 0, step: 1 };
        let (row, column) = if split.along == 0 { (along, all) } else { (all, along) };
        if row.step == 1 && columns == width {
            return Region::From(base + row.first * width);
        }
        Region::Grid { base, width, columns, row, column }
    }

    /// The consecutive values of the weight that hold those of `part`.
    pub(super) fn cover(&self, part: &Range<usize>) -> Range<usize> {
        match *self {
            Region::From(first) => first + part.start..first + part.end,
            Region::Grid { base, width, columns, row, .. } => {
                let last = part.end.saturating_sub(1) / columns;
                base + row.at(part.start / columns) * width..base + (row.at(last) + 1) * width
            }
        }
    }

    /// Whether the values of a part are consecutive.
    pub(super) fn is_consecutive(&self) -> bool {
        matches!(self, Region::From(_))
    }

    /// Picks the values of `part` out of `covering`, the values of the weight from `start` on.
    pub(super) fn pick(&self, part: &Range<usize>, start: usize, covering: &[f32], out: &mut Vec<f32>) {
        out.clear();
        match *self {
            Region::From(first) => {
                let from = first + part.start - start;
                out.extend_from_slice(covering.get(from..from + part.len()).unwrap_or_default());
            }
            Region::Grid { base, width, columns, row, column } => {
                for index in part.clone() {
                    let at = base + row.at(index / columns) * width + column.at(index % columns) - start;
                    out.push(covering.get(at).copied().unwrap_or_default());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All values of all matrices of a stack, by their index in the stack.
    fn picked(stack: [u64; 3], parts: u64, along: usize, interleaved: bool) -> Vec<Vec<f32>> {
        let mut shape = [stack[1], stack[2]];
        shape[along] /= parts;
        let split = Split { experts: 0, count: stack[0], parts, shape, along, interleaved };
        let values: Vec<f32> = (0..stack.iter().product::<u64>()).map(|value| value as f32).collect();
        let mut matrices = Vec::new();
        for expert in 0..stack[0] {
            for part in 0..parts {
                let region = Region::of_split(&stack, &split, expert, part);
                let count = usize::try_from(shape[0] * shape[1]).unwrap();
                // In two pieces, of which the first ends within a row.
                let mut matrix = Vec::new();
                for piece in [0..count / 2 + 1, count / 2 + 1..count] {
                    let cover = region.cover(&piece);
                    let mut out = Vec::new();
                    region.pick(&piece, cover.start, &values[cover], &mut out);
                    matrix.extend(out);
                }
                matrices.push(matrix);
            }
        }
        matrices
    }

    #[test]
    fn parts_lie_one_after_the_other_or_take_turns_down_rows_or_columns() {
        let first = |along, interleaved| picked([2, 4, 4], 2, along, interleaved)[..2].to_vec();
        let rows = |rows: [usize; 2]| rows.iter().flat_map(|row| (0..4).map(move |i| (row * 4 + i) as f32)).collect();
        let columns = |columns: [usize; 2]| {
            (0..4).flat_map(|row| columns.map(|column| (row * 4 + column) as f32)).collect::<Vec<f32>>()
        };
        assert_eq!(first(0, false), [rows([0, 1]), rows([2, 3])] as [Vec<f32>; 2]);
        assert_eq!(first(0, true), [rows([0, 2]), rows([1, 3])] as [Vec<f32>; 2]);
        assert_eq!(first(1, false), [columns([0, 1]), columns([2, 3])]);
        assert_eq!(first(1, true), [columns([0, 2]), columns([1, 3])]);
    }

    #[test]
    fn the_matrices_of_a_stack_are_the_stack() {
        for (along, interleaved) in [(0, false), (0, true), (1, false), (1, true)] {
            let mut all: Vec<f32> = picked([3, 6, 4], 2, along, interleaved).concat();
            all.sort_by(f32::total_cmp);
            assert_eq!(all, (0..72).map(|value| value as f32).collect::<Vec<f32>>());
        }
    }
}
