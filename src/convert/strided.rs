//! Tensors whose elements lie at strides: views that torch saved, arrays that numpy stored column by column.
//!
//! The tensor is gathered box by box: as many indices of one dimension, with all indices of those behind it, as the memory
//! allows. The elements of a box are read in runs along the dimensions that lie densest in the file.

use crate::Dtype;
use crate::convert::ConvertError;
use crate::storage::ReadAt;

/// Bytes of a run that are read although only few of them are wanted.
const DENSE: u64 = 64 << 10;

/// A strided tensor and its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) shape: &'a [u64],
    /// Elements from one index to the next; as many as there are dimensions.
    pub(super) strides: &'a [u64],
    /// One that is no block.
    pub(super) dtype: Dtype,
    /// First byte of the first element.
    pub(super) offset: u64,
}

/// Gathers the tensor row-major, in pieces of at most `budget` bytes.
pub(super) fn copy(
    file: &dyn ReadAt,
    view: &View<'_>,
    budget: usize,
    take: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let size = view.dtype.block().1;
    if view.shape.contains(&0) {
        return Ok(());
    }
    let budget = (budget as u64 / size).max(1);
    // The dimensions from `whole` on fit the budget together; `cut` is the one in front of them.
    let mut inner = 1_u64;
    let mut whole = view.shape.len();
    while let Some(&dim) = whole.checked_sub(1).and_then(|at| view.shape.get(at)) {
        match inner.checked_mul(dim).filter(|&product| product <= budget) {
            Some(product) => (inner, whole) = (product, whole - 1),
            None => break,
        }
    }
    let cut = whole.checked_sub(1);
    let rows = cut.map_or(1, |cut| (budget / inner).clamp(1, view.shape.get(cut).copied().unwrap_or(1)));
    let outer: Vec<u64> = view.shape.get(..cut.unwrap_or(0)).unwrap_or_default().to_vec();
    let mut indices = vec![0_u64; outer.len()];
    let mut gather = Gather { file, size, scratch: Vec::new(), out: Vec::new() };
    loop {
        let base = view.offset.saturating_add(size.saturating_mul(dot(&indices, view.strides)));
        let extent = cut.and_then(|cut| view.shape.get(cut)).copied().unwrap_or(1);
        let mut row = 0;
        while row < extent {
            let count = rows.min(extent - row);
            let mut dims: Vec<(u64, u64)> = Vec::new();
            let mut start = base;
            if let Some(cut) = cut {
                let stride = view.strides.get(cut).copied().unwrap_or(0);
                start = start.saturating_add(size.saturating_mul(stride.saturating_mul(row)));
                dims.push((count, stride));
            }
            let behind = view.shape.iter().zip(view.strides).skip(whole);
            dims.extend(behind.map(|(&dim, &stride)| (dim, stride)));
            take(gather.gather(start, &dims)?)?;
            row += count;
        }
        if !advance(&mut indices, &outer) {
            return Ok(());
        }
    }
}

struct Gather<'a> {
    file: &'a dyn ReadAt,
    size: u64,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

/// A dimension of a box: how many indices, elements from one to the next in the file, elements from one to the next in the box.
#[derive(Debug, Clone, Copy)]
struct Dim {
    count: u64,
    stride: u64,
    step: u64,
}

impl Gather<'_> {
    /// Reads a box; its bytes, row-major. `dims` are counts and strides, and their product fits the memory.
    fn gather(&mut self, start: u64, dims: &[(u64, u64)]) -> Result<&[u8], ConvertError> {
        let elements: u64 = dims.iter().map(|(count, _)| count).product();
        self.out.clear();
        self.out.resize(usize::try_from(elements.saturating_mul(self.size)).unwrap_or(0), 0);
        let mut step = elements;
        let mut sorted: Vec<Dim> = Vec::with_capacity(dims.len());
        for &(count, stride) in dims {
            step /= count.max(1);
            sorted.push(Dim { count, stride, step });
        }
        sorted.sort_by_key(|dim| dim.stride);
        let (run, far) = sorted.split_at(runs(&sorted, self.size));
        let span = run.iter().fold(1, |span: u64, dim| span.saturating_add((dim.count - 1).saturating_mul(dim.stride)));
        self.scratch.resize(usize::try_from(span.saturating_mul(self.size)).unwrap_or(0), 0);
        let counts: Vec<u64> = far.iter().map(|dim| dim.count).collect();
        let mut indices = vec![0_u64; far.len()];
        loop {
            let at =
                |of: fn(&Dim) -> u64| -> u64 { far.iter().zip(&indices).map(|(dim, index)| of(dim) * index).sum() };
            let (from, to) = (at(|dim| dim.stride), at(|dim| dim.step));
            self.file.read_exact_at(&mut self.scratch, start.saturating_add(from.saturating_mul(self.size)))?;
            self.scatter(run, 0, to);
            if !advance(&mut indices, &counts) {
                return Ok(&self.out);
            }
        }
    }

    /// Puts the elements of a run into their places; `from` and `to` count elements of the run and of the box.
    fn scatter(&mut self, run: &[Dim], from: u64, to: u64) {
        match run.split_last() {
            None => self.move_elements(from, to, 1),
            // Along the densest dimension: one piece where it is the last of the box, too.
            Some((dim, [])) if dim.stride == 1 && dim.step == 1 => self.move_elements(from, to, dim.count),
            Some((dim, rest)) => {
                for index in 0..dim.count {
                    self.scatter(rest, from + index * dim.stride, to + index * dim.step);
                }
            }
        }
    }

    fn move_elements(&mut self, from: u64, to: u64, count: u64) {
        let range = |at: u64| {
            let start = usize::try_from(at.saturating_mul(self.size)).unwrap_or(usize::MAX);
            start..start.saturating_add(usize::try_from(count.saturating_mul(self.size)).unwrap_or(usize::MAX))
        };
        let (from, to) = (range(from), range(to));
        if let (Some(from), Some(to)) = (self.scratch.get(from), self.out.get_mut(to)) {
            to.copy_from_slice(from);
        }
    }
}

/// How many of the dimensions, densest first, are read in one run: while a quarter of what is read is wanted, or the run is
/// short.
fn runs(sorted: &[Dim], size: u64) -> usize {
    let (mut span, mut wanted) = (1_u64, 1_u64);
    for (at, dim) in sorted.iter().enumerate() {
        span = span.saturating_add((dim.count - 1).saturating_mul(dim.stride));
        wanted = wanted.saturating_mul(dim.count);
        if span.saturating_mul(size) > DENSE && span / 4 > wanted {
            return at;
        }
    }
    sorted.len()
}

fn dot(indices: &[u64], strides: &[u64]) -> u64 {
    indices.iter().zip(strides).fold(0, |sum, (index, stride)| sum.saturating_add(index.saturating_mul(*stride)))
}

/// The next indices, the last one fastest; `false` after the last.
fn advance(indices: &mut [u64], counts: &[u64]) -> bool {
    for (index, &count) in indices.iter_mut().zip(counts).rev() {
        *index += 1;
        if *index < count {
            return true;
        }
        *index = 0;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One element after the other.
    fn slow(file: &[u8], view: &View<'_>) -> Vec<u8> {
        let size = usize::try_from(view.dtype.block().1).unwrap();
        let mut out = Vec::new();
        let mut indices = vec![0; view.shape.len()];
        if view.shape.contains(&0) {
            return out;
        }
        loop {
            let at =
                usize::try_from(view.offset).unwrap() + usize::try_from(dot(&indices, view.strides)).unwrap() * size;
            out.extend_from_slice(&file[at..at + size]);
            if !advance(&mut indices, view.shape) {
                return out;
            }
        }
    }

    fn fast(file: &[u8], view: &View<'_>, budget: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut take = |bytes: &[u8]| {
            assert!(bytes.len() <= budget.max(8));
            out.extend_from_slice(bytes);
            Ok(())
        };
        copy(&file, view, budget, &mut take).unwrap();
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 256,
            rng_seed: proptest::test_runner::RngSeed::Fixed(12),
            ..ProptestConfig::default()
        })]

        #[test]
        fn boxes_give_what_single_elements_give(
            dims in prop::collection::vec((0_u64..7, 0_u64..60), 0..5),
            offset in 0_u64..5,
            budget in 1_usize..400,
            dtype in prop::sample::select(vec![Dtype::U8, Dtype::Bf16, Dtype::F32, Dtype::C64]),
        ) {
            let (shape, strides): (Vec<u64>, Vec<u64>) = dims.into_iter().unzip();
            let last: u64 = shape.iter().zip(&strides).map(|(dim, stride)| dim.saturating_sub(1) * stride).sum();
            let length = usize::try_from(offset + (last + 1) * dtype.block().1).unwrap();
            let file: Vec<u8> = (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
            let view = View { shape: &shape, strides: &strides, dtype, offset };
            prop_assert_eq!(fast(&file, &view, budget), slow(&file, &view));
        }
    }

    #[test]
    fn a_large_transposed_matrix_is_read_in_runs() {
        let (rows, columns) = (1_100_u64, 700_u64);
        let file: Vec<u8> = (0..rows * columns * 4).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
        let view = View { shape: &[rows, columns], strides: &[1, rows], dtype: Dtype::F32, offset: 0 };
        assert!(fast(&file, &view, 256 << 10) == slow(&file, &view));
    }
}
