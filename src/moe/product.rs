//! Products of activations and weights.

use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use rayon::prelude::*;

use super::config::Round;
use super::evaluate::MoeError;
use super::geometry::Matrix;
use super::number::{Number, round_all};
use super::weights::WeightSource;
use crate::Dtype;

/// Weights that are in memory at a time, per product: 4 Mi values.
const PANEL: usize = 1 << 22;
/// Tokens that one task multiplies.
const ROWS: usize = 32;

/// `inputs . matrix` for an expert: `[rows, matrix.inputs]` to `[rows, matrix.outputs]`, row-major.
///
/// The weight is read in panels of whole stored rows. The order in which each sum grows depends on the shapes alone:
/// not on the number of threads, and not on the other rows.
pub(crate) fn project<N: Number>(
    inputs: &[N],
    matrix: &Matrix,
    expert: usize,
    source: &dyn WeightSource,
    (rounding, input_dtype): (Round, Dtype),
) -> Result<Vec<N>, MoeError> {
    let (depth, width) = (matrix.inputs, matrix.outputs);
    let rows = inputs.len().checked_div(depth).unwrap_or(0);
    let mut outputs = vec![N::zero(); rows * width];
    let (stored_rows, stored_columns) = if matrix.out_in { (width, depth) } else { (depth, width) };
    if rows == 0 || stored_rows == 0 || stored_columns == 0 {
        return Ok(outputs);
    }
    let (name, start) = matrix.place(expert);
    let height = (PANEL / stored_columns).max(1);
    let mut stored = Vec::new();
    for first in (0..stored_rows).step_by(height) {
        let count = height.min(stored_rows - first);
        stored.resize(count * stored_columns, 0.0);
        source.read(&name, start + first * stored_columns, &mut stored)?;
        let mut panel: Vec<N> = stored.iter().map(|&weight| N::from_f32(weight)).collect();
        round_all(rounding.dtype(input_dtype), &mut panel);
        let task = |(out, input): (&mut [N], &[N])| multiply(input, &panel, out, first, count, matrix);
        outputs.par_chunks_mut(ROWS * width).zip(inputs.par_chunks(ROWS * depth)).for_each(task);
    }
    Ok(outputs)
}

/// Adds the product with one panel of weights.
fn multiply<N: Number>(input: &[N], panel: &[N], output: &mut [N], first: usize, count: usize, matrix: &Matrix) {
    let (depth, width) = (matrix.inputs, matrix.outputs);
    let rows = input.len() / depth;
    let stored = (count, if matrix.out_in { depth } else { width });
    // The lengths are products of these very numbers.
    let (Ok(x), Ok(w), Ok(mut y)) = (
        ArrayView2::from_shape((rows, depth), input),
        ArrayView2::from_shape(stored, panel),
        ArrayViewMut2::from_shape((rows, width), output),
    ) else {
        return;
    };
    if matrix.out_in {
        let mut part = y.slice_mut(ndarray::s![.., first..first + count]);
        general_mat_mul(N::one(), &x, &w.t(), N::one(), &mut part);
    } else {
        let part = x.slice(ndarray::s![.., first..first + count]);
        general_mat_mul(N::one(), &part, &w, N::one(), &mut y);
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Orientation;
    use super::super::geometry::Matrix;
    use super::super::weights::MemoryWeights;
    use super::*;

    /// Small integers: every product and sum is exact, whatever the order.
    fn integer(at: usize) -> f32 {
        ((at * 7919) % 17) as f32 - 8.0
    }

    #[test]
    fn panels_and_rows_are_put_together_again() {
        let (rows, depth, width) = (ROWS + 3, 2100, 2050);
        assert!(depth * width > PANEL);
        let inputs: Vec<f64> = (0..rows * depth).map(|at| integer(at * 31).into()).collect();
        for orientation in [Orientation::InOut, Orientation::OutIn] {
            let out_in = orientation == Orientation::OutIn;
            let mut weights = MemoryWeights::default();
            let shape = if out_in { vec![2, width, depth] } else { vec![2, depth, width] };
            weights.insert("w", shape, (0..2 * depth * width).map(integer).collect()).unwrap();
            let matrix = Matrix::stacked("w", depth, width, out_in);
            let outputs = project(&inputs, &matrix, 1, &weights, (Round::None, Dtype::F32)).unwrap();
            for (row, to) in [(0, 0), (0, width - 1), (ROWS - 1, 7), (ROWS, 8), (rows - 1, width - 1), (5, 1999)] {
                let weight =
                    |from: usize| integer(depth * width + if out_in { to * depth + from } else { from * width + to });
                let expected: f64 = (0..depth).map(|from| inputs[row * depth + from] * f64::from(weight(from))).sum();
                assert_eq!(outputs[row * width + to], expected, "{orientation} {row} {to}");
            }
        }
    }
}
