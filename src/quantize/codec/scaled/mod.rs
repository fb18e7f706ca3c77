//! Codes with a scale (and perhaps a zero point) per cell of a grid: the machinery of int8, int4 and fp8.
//!
//! The weight is walked as a matrix of `rows` x `columns`; a scale covers `high` rows and `wide` columns of it. Every
//! granularity is such a grid:
//!
//! | granularity | contracted dimension | high | wide |
//! |---|---|---|---|
//! | tensor | any | all | all |
//! | channel | last | 1 | all |
//! | group g | last | 1 | g |
//! | channel, group, shard group | not last | rows of the group | 1 |
//! | block h x w | last | h | w |
//!
//! Where a band of `high` rows is small enough to be held, it is encoded in one pass; otherwise the scales come from a
//! survey of the whole weight.

mod decode;
mod encode;
mod extremes;

use super::{Counts, Scratch, Want};
use crate::Dtype;
use crate::quantize::cast;
use crate::quantize::values::{self, Values};
use crate::simd;

pub(super) use extremes::Extremes;

/// Values of a band that is encoded in one pass, at most.
pub(super) const HELD: usize = 1 << 21;

/// How scales lie over the walk matrix. No field is zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Rows that share a scale.
    pub(super) high: usize,
    /// Columns that share a scale.
    pub(super) wide: usize,
}

impl Grid {
    /// Scales in one row of scales.
    pub(super) fn across(&self) -> usize {
        self.columns.div_ceil(self.wide)
    }

    /// Rows of scales.
    pub(super) fn down(&self) -> usize {
        self.rows.div_ceil(self.high)
    }
}

/// What one code is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CodeType {
    /// Signed integer within these bounds.
    Int { low: f32, high: f32 },
    /// FP8 E4M3.
    E4m3,
    /// FP8 E5M2.
    E5m2,
}

/// How integers are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// A byte each, two's complement.
    Bytes,
    /// So many bits each, offset binary, lowest first in a row of 32-bit words.
    Words(usize),
}

impl Packing {
    /// Codes after which a word is full again, the least number of them.
    fn period(self) -> usize {
        match self {
            Packing::Bytes => 1,
            Packing::Words(bits) => 32 >> bits.trailing_zeros().min(5),
        }
    }

    /// Bytes of a row of `columns` codes, filled up to whole words.
    fn row_bytes(self, columns: usize) -> usize {
        match self {
            Packing::Bytes => columns,
            Packing::Words(bits) => (columns * bits).div_ceil(32) * 4,
        }
    }
}

/// How a scale follows from a cell's extremes, and a code from value and scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// The largest magnitude is divided by this (symmetric), the span by twice this (asymmetric).
    pub(super) divisor: f32,
    /// Stands in for a scale that would be zero.
    pub(super) zero_scale: f32,
    /// Dtype that the scale is stored in.
    pub(super) scale_dtype: Dtype,
    /// Every operation's result is rounded to this dtype.
    pub(super) work: Dtype,
    /// bitsandbytes: the largest magnitude is stored itself, and codes are `x / (absmax / divisor)`, or the peer's own
    /// `x * (divisor * (1 / absmax))` where its input is f16.
    pub(super) by_ratio: bool,
    /// Values are rounded to this dtype first.
    pub(super) input: Dtype,
}

/// A scaled format bound to one weight.
#[derive(Debug, Clone)]
pub(super) struct Scaled {
    pub(super) grid: Grid,
    pub(super) rule: Rule,
    pub(super) code: CodeType,
    pub(super) packing: Packing,
    /// How zero points are laid out, words running down the rows; `None` for symmetric formats.
    pub(super) zeros: Option<Packing>,
    /// Values of a band that is encoded in one pass, at most.
    pub(super) held: usize,
}

/// Scales and zero points, rounded as they are stored.
#[derive(Debug, Clone, Default)]
pub(super) struct Cells {
    pub(super) scales: Vec<f32>,
    /// Zero points as numbers; empty where symmetric.
    pub(super) zeros: Vec<f32>,
}

/// Rows of the walk matrix.
#[derive(Debug, Clone, Copy)]
struct Tile {
    row: usize,
    rows: usize,
}

impl Tile {
    /// The tile of `count` values from `start` on, in row-major order.
    fn of(grid: &Grid, start: usize, count: usize) -> Tile {
        Tile { row: start / grid.columns, rows: count / grid.columns }
    }

    /// The rows of cells that it touches.
    fn cell_rows(&self, grid: &Grid) -> std::ops::Range<usize> {
        self.row / grid.high..(self.row + self.rows).div_ceil(grid.high)
    }
}

/// Where a part's bytes go. Scales and zero points are empty where a survey settled them.
pub(super) struct Outputs<'a> {
    pub(super) codes: &'a mut [u8],
    pub(super) scales: &'a mut [u8],
    pub(super) zeros: &'a mut [u8],
}

/// Where a part's bytes come from.
pub(super) struct Inputs<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [u8],
    pub(super) zeros: &'a [u8],
}

/// Byte ranges of a part within codes, scales and zero points.
pub(super) struct Spans {
    pub(super) codes: std::ops::Range<usize>,
    pub(super) scales: std::ops::Range<usize>,
    pub(super) zeros: std::ops::Range<usize>,
}

impl Scaled {
    /// Whether scales need a pass over the whole weight first.
    pub(super) fn is_surveyed(&self) -> bool {
        self.band().saturating_mul(self.grid.columns) > self.held
    }

    /// Rows that one pass must hold: whole cells, and whole words of zero points.
    fn band(&self) -> usize {
        self.grid.high.max(self.zeros.map_or(1, Packing::period))
    }

    /// Values that a part starts at a multiple of when it is encoded. When it is decoded, that is a row.
    pub(super) fn encode_step(&self) -> usize {
        if self.is_surveyed() { self.grid.columns } else { self.band() * self.grid.columns }
    }

    /// Bytes that a part of `count` values from `start` on takes in each component.
    pub(super) fn spans(&self, start: usize, count: usize) -> Spans {
        let tile = Tile::of(&self.grid, start, count);
        let (cells, across) = (tile.cell_rows(&self.grid), self.grid.across());
        let scale = values::plain_size(self.rule.scale_dtype).unwrap_or(4);
        let row_bytes = self.packing.row_bytes(self.grid.columns);
        let codes = tile.row * row_bytes..(tile.row + tile.rows) * row_bytes;
        let zeros = match self.zeros {
            None => 0..0,
            Some(Packing::Bytes) => cells.start * across..cells.end * across,
            Some(Packing::Words(bits)) => {
                let words = cells.start * bits / 32..(cells.end * bits).div_ceil(32);
                words.start * across * 4..words.end * across * 4
            }
        };
        Spans { codes, scales: cells.start * across * scale..cells.end * across * scale, zeros }
    }

    /// An empty survey.
    pub(super) fn new_extremes(&self) -> Extremes {
        Extremes::new(self.grid.across() * self.grid.down(), self.zeros.is_some())
    }

    /// Adds a part's values to the survey.
    pub(super) fn survey(
        &self,
        extremes: &mut Extremes,
        start: usize,
        part: Values<'_>,
        scratch: &mut Scratch,
    ) -> Counts {
        let tile = Tile::of(&self.grid, start, part.len());
        simd::dispatch(encode::Survey { scaled: self, tile, part, extremes, scratch })
    }

    /// Encodes a part. With `cells` from a survey only the codes are written, else scales and zero points too.
    pub(super) fn encode(
        &self,
        cells: Option<&Cells>,
        start: usize,
        part: Values<'_>,
        out: Outputs<'_>,
        scratch: &mut Scratch,
    ) -> Counts {
        let tile = Tile::of(&self.grid, start, part.len());
        simd::dispatch(encode::Encode { scaled: self, tile, part, cells, out, scratch })
    }

    /// Decodes a part into `out`, rounding every value to `rounding`.
    pub(super) fn decode(
        &self,
        want: Want,
        start: usize,
        from: &Inputs<'_>,
        rounding: Dtype,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let tile = Tile::of(&self.grid, start, out.len());
        let cell_rows = tile.cell_rows(&self.grid);
        let cells = &mut scratch.cells;
        cells.scales.clear();
        cells.scales.resize(cell_rows.len() * self.grid.across(), 0.0);
        if let Some(stored) = Values::stored(self.rule.scale_dtype, from.scales) {
            stored.widen(0, &mut cells.scales);
        }
        self.take_zeros(from.zeros, cell_rows, &mut cells.zeros);
        simd::dispatch(decode::Decode { scaled: self, want, tile, codes: from.codes, rounding, out, scratch });
    }

    /// Turns extremes into the scales and zero points that are stored.
    pub(super) fn settle(&self, extremes: &Extremes, cells: &mut Cells) {
        let Rule { divisor, zero_scale, scale_dtype, work, by_ratio, .. } = self.rule;
        cells.scales.clear();
        cells.zeros.clear();
        let round = |value| cast::round_to(work, value);
        let stored = |scale: f32| match cast::round_to(scale_dtype, scale) {
            0.0 => zero_scale,
            scale => scale,
        };
        if self.zeros.is_none() {
            cells.scales.extend(extremes.magnitudes().map(|largest| {
                if by_ratio { cast::round_to(scale_dtype, largest) } else { stored(round(largest / divisor)) }
            }));
            return;
        }
        let CodeType::Int { low, high } = self.code else { return };
        for (least, most) in extremes.spans() {
            let scale = round(round(most - least) / (high - low));
            // The zero point is taken against the scale before it is replaced: 0 / 0 gives zero point 0.
            let zero = round(low - round(least / cast::round_to(scale_dtype, scale))).clamp(low, high);
            cells.zeros.push(if zero.is_nan() { 0.0 } else { zero.round_ties_even() });
            cells.scales.push(stored(scale));
        }
    }

    /// Writes scales as they are stored.
    pub(super) fn put_scales(&self, scales: &[f32], out: &mut [u8]) {
        values::narrow(scales, self.rule.scale_dtype, out);
    }

    /// Writes zero points of whole rows of cells. Words run down the rows.
    pub(super) fn put_zeros(&self, zeros: &[f32], out: &mut [u8]) {
        match self.zeros {
            None => {}
            Some(Packing::Bytes) => {
                for (out, zero) in out.iter_mut().zip(zeros) {
                    *out = (*zero as i8).cast_unsigned();
                }
            }
            Some(Packing::Words(bits)) => {
                // Only widths that fill words evenly are written.
                let (across, per_word) = (self.grid.across(), 32 / bits);
                let (words, _) = out.as_chunks_mut::<4>();
                for (index, word) in words.iter_mut().enumerate() {
                    let (row, column) = (index / across * per_word, index % across);
                    let packed = (0..per_word).fold(0_u32, |packed, i| {
                        let zero = zeros.get((row + i) * across + column);
                        let code = zero.map_or(0, |zero| (*zero as i32 + (1 << (bits - 1))).cast_unsigned());
                        packed | code << (i * bits)
                    });
                    *word = packed.to_le_bytes();
                }
            }
        }
    }

    /// Reads the zero points of rows of cells.
    fn take_zeros(&self, bytes: &[u8], cell_rows: std::ops::Range<usize>, zeros: &mut Vec<f32>) {
        zeros.clear();
        match self.zeros {
            None => {}
            Some(Packing::Bytes) => zeros.extend(bytes.iter().map(|&byte| f32::from(byte.cast_signed()))),
            Some(Packing::Words(bits)) => {
                let across = self.grid.across();
                let (words, _) = bytes.as_chunks::<4>();
                let word = |row: usize, column: usize| {
                    u64::from(words.get(row * across + column).map_or(0, |word| u32::from_le_bytes(*word)))
                };
                let first_word = cell_rows.start * bits / 32;
                for row in cell_rows {
                    let (at, shift) = (row * bits / 32 - first_word, row * bits % 32);
                    zeros.extend((0..across).map(|column| {
                        let both = word(at, column) | word(at + 1, column) << 32;
                        let code = (both >> shift) as u32 & ((1 << bits) - 1);
                        (code.cast_signed() - (1 << (bits - 1))) as f32
                    }));
                }
            }
        }
    }
}
