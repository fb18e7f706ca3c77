//! Which bytes of a stored tensor a device wants, and where each goes in the device's own copy.

use std::ops::Range;

use crate::Dtype;

/// One dimension of a slice, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Elements of the stored tensor.
    pub size: u64,
    /// First element wanted.
    pub start: u64,
    /// Elements wanted.
    pub count: u64,
    /// Elements of the device's copy: `count`, and zeros behind them where the dimension is padded.
    pub stored: u64,
}

impl Extent {
    const fn is_whole(&self) -> bool {
        self.count == self.size && self.stored == self.size
    }
}

/// A block of a row-major tensor as runs of bytes: equally long, in ascending order at both ends.
///
/// ```
/// use flow_fabric::Dtype;
/// use flow_fabric::load::{Extent, Piece, Slice};
///
/// // Columns 2 and 3 of a 3 x 8 matrix of bf16.
/// let rows = Extent { size: 3, start: 0, count: 3, stored: 3 };
/// let columns = Extent { size: 8, start: 2, count: 2, stored: 2 };
/// let slice = Slice::new(Dtype::Bf16, &[rows, columns]).unwrap();
/// assert_eq!(slice.wanted(), 12);
/// let pieces: Vec<Piece> = slice.pieces(0..12).collect();
/// assert_eq!(pieces[1], Piece { source: 20, target: 4, length: 4 });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The first wanted byte, from the start of the stored tensor.
    first: u64,
    /// Bytes of a run; 0 when nothing is wanted.
    run: u64,
    /// How runs follow one another, outermost first.
    steps: Vec<Step>,
    /// Bytes of the device's copy.
    bytes: u64,
    wanted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    count: u64,
    /// Bytes from one to the next in the stored tensor, and in the copy.
    source: u64,
    target: u64,
}

/// Bytes that lie together in the stored tensor and in the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First byte, from the start of the stored tensor.
    pub source: u64,
    /// First byte in the copy.
    pub target: u64,
    /// How many.
    pub length: u64,
}

impl Slice {
    /// Works out the runs of a block; the innermost dimension is the last.
    ///
    /// `None` when the block does not consist of whole bytes (a packed or block dtype cut inside a block), or its sizes
    /// overflow.
    #[must_use]
    pub fn new(dtype: Dtype, extents: &[Extent]) -> Option<Self> {
        let (mut run, mut first) = (1_u64, 0_u64);
        let (mut source, mut target) = (1_u64, 1_u64);
        let mut steps: Vec<Step> = Vec::new();
        // Whether everything further in is whole, so that this dimension's elements lie side by side.
        let mut together = true;
        for extent in extents.iter().rev() {
            first = first.checked_add(extent.start.checked_mul(source)?)?;
            if together {
                run = run.checked_mul(extent.count)?;
            } else {
                match steps.last_mut() {
                    Some(inner) if follows(inner, source, target) => {
                        inner.count = inner.count.checked_mul(extent.count)?;
                    }
                    _ => steps.push(Step { count: extent.count, source, target }),
                }
            }
            together &= extent.is_whole();
            source = source.checked_mul(extent.size)?;
            target = target.checked_mul(extent.stored)?;
        }
        let in_bytes = |elements: u64| dtype.bytes_for(elements);
        let bytes = in_bytes(target)?;
        if extents.iter().any(|extent| extent.count == 0) {
            return Some(Self { first: 0, run: 0, steps: Vec::new(), bytes, wanted: 0 });
        }
        steps.retain(|step| step.count != 1);
        steps.reverse();
        for step in &mut steps {
            (step.source, step.target) = (in_bytes(step.source)?, in_bytes(step.target)?);
        }
        let run = in_bytes(run)?;
        let wanted = steps.iter().try_fold(run, |wanted, step| wanted.checked_mul(step.count))?;
        Some(Self { first: in_bytes(first)?, run, steps, bytes, wanted })
    }

    /// A whole tensor of `length` bytes.
    #[must_use]
    pub const fn whole(length: u64) -> Self {
        Self { first: 0, run: length, steps: Vec::new(), bytes: length, wanted: length }
    }

    /// Bytes of the device's copy, padding included.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes wanted of the stored tensor. Positions in `0..wanted` count them in order.
    #[must_use]
    pub const fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Bytes of a run.
    #[must_use]
    pub const fn run(&self) -> u64 {
        self.run
    }

    /// Number of runs.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.wanted.checked_div(self.run).unwrap_or(0)
    }

    /// Whether it is one run that fills the copy.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.steps.is_empty() && self.bytes == self.wanted
    }

    /// From the first to behind the last wanted byte, from the start of the stored tensor.
    #[must_use]
    pub fn span(&self) -> Range<u64> {
        match self.wanted.checked_sub(1) {
            Some(last) => self.first..self.place(last).0 + 1,
            None => 0..0,
        }
    }

    /// From the first to behind the last byte of the copy that a range of positions fills.
    #[must_use]
    pub fn target(&self, positions: &Range<u64>) -> Range<u64> {
        match positions.end.min(self.wanted).checked_sub(1) {
            Some(last) if positions.start <= last => self.place(positions.start).1..self.place(last).1 + 1,
            _ => 0..0,
        }
    }

    /// How many wanted bytes lie before byte `offset` of the stored tensor.
    #[must_use]
    pub fn wanted_before(&self, offset: u64) -> u64 {
        let mut rest = offset.saturating_sub(self.first);
        let (mut before, mut inner) = (0, self.wanted);
        for step in &self.steps {
            inner /= step.count;
            let steps = rest / step.source;
            if steps >= step.count {
                return before + step.count * inner;
            }
            before += steps * inner;
            rest -= steps * step.source;
        }
        before + rest.min(self.run)
    }

    /// The pieces of a range of positions, in order; the first and the last may be parts of runs.
    pub fn pieces(&self, positions: Range<u64>) -> impl Iterator<Item = Piece> + '_ {
        let end = positions.end.min(self.wanted);
        let mut at = positions.start;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (source, target) = self.place(at);
            let length = (self.run - at % self.run).min(end - at);
            at += length;
            Some(Piece { source, target, length })
        })
    }

    /// Where a position is in the stored tensor and in the copy.
    fn place(&self, position: u64) -> (u64, u64) {
        let length = self.run.max(1);
        let (mut run, within) = (position / length, position % length);
        let (mut source, mut target) = (self.first + within, within);
        let (outermost, inner) = match self.steps.split_first() {
            Some((outermost, inner)) => (Some(outermost), inner),
            None => (None, [].as_slice()),
        };
        for step in inner.iter().rev() {
            source += run % step.count * step.source;
            target += run % step.count * step.target;
            run /= step.count;
        }
        if let Some(step) = outermost {
            source += run * step.source;
            target += run * step.target;
        }
        (source, target)
    }
}

/// Whether the next dimension outwards goes on where `inner` ends, on both sides.
fn follows(inner: &Step, source: u64, target: u64) -> bool {
    inner.count.checked_mul(inner.source) == Some(source) && inner.count.checked_mul(inner.target) == Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(size: u64) -> Extent {
        Extent { size, start: 0, count: size, stored: size }
    }

    fn cut(size: u64, start: u64, count: u64) -> Extent {
        Extent { size, start, count, stored: count }
    }

    #[test]
    fn leading_dimensions_are_one_run_and_inner_ones_are_steps() {
        let rows = Slice::new(Dtype::F32, &[cut(8, 2, 3), whole(5)]).unwrap();
        assert_eq!((rows.first, rows.run, rows.steps.len()), (2 * 5 * 4, 60, 0));
        assert!(rows.is_contiguous());
        // The layers and rows of a stack that is cut in its last dimension are one step.
        let columns = Slice::new(Dtype::F32, &[whole(4), whole(6), cut(10, 5, 5)]).unwrap();
        assert_eq!(columns.steps, [Step { count: 24, source: 40, target: 20 }]);
        let middle = Slice::new(Dtype::F32, &[whole(4), cut(6, 3, 3), whole(10)]).unwrap();
        assert_eq!((middle.run, middle.steps.as_slice()), (120, &[Step { count: 4, source: 240, target: 120 }][..]));
    }

    #[test]
    fn padding_leaves_holes_in_the_copy() {
        let padded = Extent { size: 5, start: 3, count: 2, stored: 3 };
        let slice = Slice::new(Dtype::U8, &[whole(2), padded]).unwrap();
        assert_eq!((slice.bytes(), slice.wanted()), (6, 4));
        let targets: Vec<u64> = slice.pieces(0..4).map(|piece| piece.target).collect();
        assert_eq!(targets, [0, 3]);
        assert!(!slice.is_contiguous());
    }

    #[test]
    fn blocks_are_whole_or_refused() {
        let blocks = Slice::new(Dtype::Q40, &[whole(2), cut(128, 64, 64)]).unwrap();
        assert_eq!((blocks.first, blocks.run), (36, 36));
        assert_eq!(Slice::new(Dtype::Q40, &[whole(2), cut(128, 16, 16)]), None);
        assert_eq!(Slice::new(Dtype::F4, &[whole(2), whole(3)]).map(|slice| slice.bytes()), Some(3));
        assert_eq!(Slice::new(Dtype::F4, &[cut(2, 1, 1), whole(3)]), None);
        assert_eq!(Slice::new(Dtype::F32, &[whole(u64::MAX), whole(2)]), None);
    }

    #[test]
    fn nothing_wanted_is_an_empty_slice() {
        let slice = Slice::new(Dtype::F32, &[cut(7, 7, 0), whole(3)]).unwrap();
        assert_eq!((slice.bytes(), slice.wanted(), slice.runs(), slice.span()), (0, 0, 0, 0..0));
        assert_eq!(slice.pieces(0..10).count(), 0);
        assert_eq!(slice.wanted_before(100), 0);
        let scalar = Slice::new(Dtype::F32, &[]).unwrap();
        assert_eq!((scalar.wanted(), scalar.runs(), scalar.span()), (4, 1, 0..4));
    }

    #[test]
    fn positions_and_offsets_are_inverse() {
        let slice = Slice::new(Dtype::U8, &[cut(4, 1, 2), cut(5, 1, 3), cut(7, 2, 4)]).unwrap();
        let wanted: Vec<u64> =
            slice.pieces(0..slice.wanted()).flat_map(|piece| piece.source..piece.source + piece.length).collect();
        let obvious: Vec<u64> =
            (1..3).flat_map(|i| (1..4).flat_map(move |j| (2..6).map(move |k| (i * 5 + j) * 7 + k))).collect();
        assert_eq!(wanted, obvious);
        assert_eq!(slice.span(), obvious[0]..obvious[obvious.len() - 1] + 1);
        for offset in 0..=140 {
            let before = obvious.iter().filter(|&&source| source < offset).count() as u64;
            assert_eq!(slice.wanted_before(offset), before, "{offset}");
        }
        // Any cut of the positions gives the same bytes.
        for at in 0..=slice.wanted() {
            let sources = |range| slice.pieces(range).flat_map(|piece| piece.source..piece.source + piece.length);
            let both: Vec<u64> = sources(0..at).chain(sources(at..slice.wanted())).collect();
            assert_eq!(both, obvious);
        }
    }
}
