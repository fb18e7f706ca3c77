//! bitsandbytes NF4: sixteen numbers, one absmax per block of the flattened tensor.
//!
//! A value is multiplied by `1 / absmax` in f32 and takes the nearest number, a tie the lower one; the even element is in
//! the high nibble. A short last block is divided instead, and an odd last nibble codes 0. With double quantization
//! absmax less its mean is itself coded in eight bits, 256 to a block, by a table of 256 numbers; bitsandbytes on a CPU
//! finds the nearest of them through a table of 65,536 entries, which the reference arithmetic repeats. FP4 differs in
//! the numbers only, and is read. Source: `backends/default/ops.py`, `create_dynamic_map` of bitsandbytes 0.50, and its
//! CPU library as observed.

use std::sync::OnceLock;

use super::{Counts, Scratch, step};
use crate::quantize::values::Values;
use crate::simd::{self, Kernel};

/// Values that are widened at a time; a multiple of every block.
const CHUNK: usize = 4096;

/// Absmax values that share a second scale.
pub(super) const NESTED: usize = 256;

/// The sixteen numbers.
pub(super) const TABLE: [f32; 16] = [
    -1.0,
    f32::from_bits(0xBF32_39B1),
    f32::from_bits(0xBF06_6B30),
    f32::from_bits(0xBECA_32A0),
    f32::from_bits(0xBE91_A24D),
    f32::from_bits(0xBE3D_353F),
    f32::from_bits(0xBDBA_7871),
    0.0,
    f32::from_bits(0x3DA2_FAFF),
    f32::from_bits(0x3E24_CAE3),
    f32::from_bits(0x3E7C_04DD),
    f32::from_bits(0x3EAD_033A),
    f32::from_bits(0x3EE1_A4B8),
    f32::from_bits(0x3F10_07AB),
    f32::from_bits(0x3F39_13B3),
    1.0,
];

/// Halfway between neighbours, in f32.
const MIDDLES: [f32; 15] = {
    let mut middles = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        middles[i] = (TABLE[i] + TABLE[i + 1]) / 2.0;
        i += 1;
    }
    middles
};

/// The smallest absmax that is divided by.
const SMALLEST: f32 = 1e-38;

/// NF4 bound to one weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nf4 {
    /// Values of a block.
    pub(super) block: usize,
    /// Values of the weight.
    pub(super) elements: usize,
    /// Whether absmax is coded too.
    pub(super) nested: bool,
    /// Whether coded as bitsandbytes codes on a CPU.
    pub(super) reference: bool,
}

/// What double quantization must know of the whole weight: the mean of all absmax values.
#[derive(Debug, Clone, Default)]
pub(super) struct Means {
    /// Every absmax, for the reference's order of summation.
    every: Vec<f32>,
    /// The sum of each second-level block, otherwise.
    sums: Vec<f64>,
}

impl Means {
    /// The mean absmax.
    pub(super) fn settle(&self, blocks: usize) -> f32 {
        if self.every.is_empty() {
            (self.sums.iter().sum::<f64>() / blocks as f64) as f32
        } else {
            sum_as_torch(&self.every) / blocks as f32
        }
    }

    pub(super) fn merge(&mut self, other: &Means) {
        // Each part of the weight fills its own places; the others are zero.
        for (mine, theirs) in self.every.iter_mut().zip(&other.every) {
            *mine += theirs;
        }
        for (mine, theirs) in self.sums.iter_mut().zip(&other.sums) {
            *mine += theirs;
        }
    }
}

/// Where a part's bytes go.
pub(super) struct Outputs<'a> {
    pub(super) codes: &'a mut [u8],
    pub(super) absmax: &'a mut [u8],
    pub(super) nested_absmax: &'a mut [u8],
}

impl Nf4 {
    pub(super) fn blocks(&self) -> usize {
        self.elements.div_ceil(self.block)
    }

    /// Values that a part starts at a multiple of when it is encoded.
    pub(super) fn step(&self) -> usize {
        if self.nested { self.block * NESTED } else { self.block }
    }

    pub(super) fn new_means(&self) -> Means {
        match (self.nested, self.reference) {
            (false, _) => Means::default(),
            (true, true) => Means { every: vec![0.0; self.blocks()], sums: Vec::new() },
            (true, false) => Means { every: Vec::new(), sums: vec![0.0; self.blocks().div_ceil(NESTED)] },
        }
    }

    /// Adds a part to the means.
    pub(super) fn survey(&self, means: &mut Means, start: usize, part: Values<'_>, scratch: &mut Scratch) -> Counts {
        let counts = simd::dispatch(Absmax { format: self, part, scratch });
        let first = start / self.block;
        if self.reference {
            for (mine, absmax) in means.every.iter_mut().skip(first).zip(&scratch.absmax) {
                *mine = *absmax;
            }
        } else {
            for (sum, absmax) in means.sums.iter_mut().skip(first / NESTED).zip(scratch.absmax.chunks(NESTED)) {
                *sum = absmax.iter().map(|absmax| f64::from(*absmax)).sum();
            }
        }
        counts
    }

    /// Encodes a part; `offset` is the mean absmax where absmax is coded too.
    pub(super) fn encode(&self, offset: f32, part: Values<'_>, out: Outputs<'_>, scratch: &mut Scratch) -> Counts {
        let Outputs { codes, absmax, nested_absmax } = out;
        let counts = simd::dispatch(Encode { format: self, part, codes, scratch });
        if !self.nested {
            let (out, _) = absmax.as_chunks_mut::<4>();
            for (out, absmax) in out.iter_mut().zip(&scratch.absmax) {
                *out = absmax.to_le_bytes();
            }
            return counts;
        }
        let (nested_out, _) = nested_absmax.as_chunks_mut::<4>();
        for ((codes, absmax), out) in absmax.chunks_mut(NESTED).zip(scratch.absmax.chunks(NESTED)).zip(nested_out) {
            let largest = absmax.iter().fold(0.0_f32, |most, value| most.max((value - offset).abs()));
            *out = largest.to_le_bytes();
            let inverse = 1.0 / largest;
            for (code, absmax) in codes.iter_mut().zip(absmax) {
                *code = dynamic_code((absmax - offset) * inverse, self.reference);
            }
        }
        counts
    }
}

/// What a decoder needs beside the codes of a part.
pub(super) struct Inputs<'a> {
    pub(super) block: usize,
    /// The sixteen numbers, or the steps at them.
    pub(super) table: [f32; 16],
    pub(super) codes: &'a [u8],
    /// f32 absmax of every block that the part touches.
    pub(super) absmax: &'a [f32],
}

/// The distance of each of sixteen numbers to its farther neighbour, negative at the ends.
pub(super) fn steps(table: &[f32; 16]) -> [f32; 16] {
    std::array::from_fn(|i| {
        let nearest = |other: fn(f32, f32) -> bool| {
            let others = table.iter().filter(|number| other(**number, table[i]));
            others.map(|number| (number - table[i]).abs()).fold(f32::INFINITY, f32::min)
        };
        let (below, above) = (nearest(|a, b| a < b), nearest(|a, b| a > b));
        let at_end = below.is_infinite() || above.is_infinite();
        step(if at_end { below.min(above) } else { below.max(above) }, at_end)
    })
}

/// Decodes values from `start` (even) on; `absmax` starts with the block that `start` is in.
pub(super) fn decode(from: &Inputs<'_>, start: usize, rounding: crate::Dtype, out: &mut [f32]) {
    simd::dispatch(Decode { from, start, rounding, out });
}

struct Decode<'a> {
    from: &'a Inputs<'a>,
    start: usize,
    rounding: crate::Dtype,
    out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { from, start, rounding, out } = self;
        let (pairs, odd) = out.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(from.codes) {
            *pair = [from.table[usize::from(byte >> 4)], from.table[usize::from(byte & 15)]];
        }
        if let (Some(last), Some(byte)) = (odd.first_mut(), from.codes.last()) {
            *last = from.table[usize::from(byte >> 4)];
        }
        let (head, tail) = out.split_at_mut((from.block - start % from.block).min(out.len()));
        for (block, absmax) in std::iter::once(head).chain(tail.chunks_mut(from.block)).zip(from.absmax) {
            for value in block {
                *value = crate::quantize::cast::round_to(rounding, *value * absmax);
            }
        }
    }
}

/// Finds every block's absmax, as it is stored.
struct Absmax<'a> {
    format: &'a Nf4,
    part: Values<'a>,
    scratch: &'a mut Scratch,
}

impl Kernel for Absmax<'_> {
    type Output = Counts;

    #[inline(always)]
    fn run(self) -> Counts {
        let Self { format, part, scratch: Scratch { row, absmax, .. } } = self;
        let mut counts = Counts::default();
        absmax.clear();
        for start in (0..part.len()).step_by(CHUNK) {
            row.resize(CHUNK.min(part.len() - start), 0.0);
            part.widen_inline(start, row);
            counts.add_nonfinite(row);
            absmax.extend(row.chunks(format.block).map(|x| stored_absmax(format, x)));
        }
        counts
    }
}

struct Encode<'a> {
    format: &'a Nf4,
    part: Values<'a>,
    codes: &'a mut [u8],
    scratch: &'a mut Scratch,
}

impl Kernel for Encode<'_> {
    type Output = Counts;

    #[inline(always)]
    fn run(self) -> Counts {
        let Self { format, part, codes, scratch: Scratch { row, absmax, codes: unpacked, .. } } = self;
        let mut counts = Counts::default();
        absmax.clear();
        let mut outputs = codes.chunks_mut(CHUNK / 2);
        for start in (0..part.len()).step_by(CHUNK) {
            row.resize(CHUNK.min(part.len() - start), 0.0);
            part.widen_inline(start, row);
            counts.add_nonfinite(row);
            unpacked.clear();
            unpacked.resize(row.len().next_multiple_of(2), 7);
            for (x, codes) in row.chunks(format.block).zip(unpacked.chunks_mut(format.block)) {
                let largest = stored_absmax(format, x);
                absmax.push(largest);
                let divisor = floor(largest);
                if x.len() == format.block {
                    let inverse = 1.0 / divisor;
                    for (out, value) in codes.iter_mut().zip(x) {
                        *out = code(value * inverse);
                    }
                } else {
                    for (out, value) in codes.iter_mut().zip(x) {
                        *out = code(value / divisor);
                    }
                }
            }
            let (pairs, _) = unpacked.as_chunks::<2>();
            for (out, [even, odd]) in outputs.next().unwrap_or_default().iter_mut().zip(pairs) {
                *out = (even << 4) | odd;
            }
        }
        counts
    }
}

/// The largest magnitude of a block; a short last block is stored as it is divided by.
#[inline(always)]
fn stored_absmax(format: &Nf4, x: &[f32]) -> f32 {
    let most = x.iter().fold(0, |most, value| most.max((value.to_bits() & 0x7FFF_FFFF).cast_signed()));
    let most = f32::from_bits(most.cast_unsigned());
    if x.len() == format.block { most } else { floor(most) }
}

/// At least [`SMALLEST`]; NaN stays.
#[inline(always)]
fn floor(absmax: f32) -> f32 {
    if absmax < SMALLEST { SMALLEST } else { absmax }
}

/// The number of middles that a scaled value is not at or below; NaN is beyond all of them.
#[inline(always)]
fn code(scaled: f32) -> u8 {
    let mut index = 0_i32;
    for middle in MIDDLES {
        index += if scaled <= middle { 0 } else { 1 };
    }
    index as u8
}

/// The 256 numbers of the second level: with every decade of the exponent the fraction gets a bit longer.
pub(super) fn dynamic_map() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| {
        let mut numbers = Vec::with_capacity(256);
        for decade in 0..7 {
            let items = 1_usize << decade;
            let scale = 10_f64.powi(decade - 6) as f32;
            // Evenly spaced bounds as torch computes them, from both ends, with fused steps.
            let step = f64::from((1.0_f32 - 0.1) / items as f32);
            let bound = |i: usize| {
                if i < items.div_ceil(2) {
                    (f64::from(0.1_f32) + step * i as f64) as f32
                } else {
                    (1.0 - step * (items - i) as f64) as f32
                }
            };
            for i in 0..items {
                let mean = scale * ((bound(i) + bound(i + 1)) / 2.0);
                numbers.extend([mean, -mean]);
            }
        }
        numbers.extend([0.0, 1.0]);
        numbers.sort_by(f32::total_cmp);
        std::array::from_fn(|i| numbers.get(i).copied().unwrap_or_default())
    })
}

/// The nearest of the 256 numbers, a tie the lower one.
fn dynamic_code(scaled: f32, reference: bool) -> u8 {
    let map = dynamic_map();
    let nearest = |value: f32| {
        let middles = map.iter().zip(map.iter().skip(1)).map(|(a, b)| (a + b) / 2.0);
        middles.take_while(|middle| *middle < value).count().min(255) as u8
    };
    if scaled.is_nan() {
        return 0;
    }
    if !reference {
        return nearest(scaled);
    }
    // bitsandbytes looks up one of 65,536 evenly spaced values instead.
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| (0..65_536_u32).map(|i| nearest(i as f32 / 32_767.5 - 1.0)).collect());
    let index = ((scaled + 1.0) * 32_767.5 + 0.5) as usize;
    table.get(index.min(65_535)).copied().unwrap_or_default()
}

/// The sum in the order in which torch adds a contiguous f32 tensor on one thread: eight lanes, four rows of them at a
/// time, cascaded (`cascade_sum` of ATen's `SumKernel.cpp`).
fn sum_as_torch(values: &[f32]) -> f32 {
    type Row = [f32; 8];
    let add = |a: &mut Row, b: &Row| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    let (rows, rest) = values.as_chunks::<8>();
    let (fours, single) = rows.as_chunks::<4>();
    // Partial sums of 2^power rows move up a level, of four.
    let power = (fours.len().max(1).next_power_of_two().ilog2() / 4).max(4);
    let mut levels = [[[0.0; 8]; 4]; 4];
    let mut added = 0_usize;
    for four in fours {
        for (sum, row) in levels[0].iter_mut().zip(four) {
            add(sum, row);
        }
        added += 1;
        for level in 1..4_u32 {
            if !added.is_multiple_of(1 << (level * power)) {
                break;
            }
            let (below, above) = levels.split_at_mut(level as usize);
            if let (Some(above), Some(below)) = (above.first_mut(), below.last_mut()) {
                for (sum, part) in above.iter_mut().zip(below) {
                    add(sum, part);
                    *part = [0.0; 8];
                }
            }
        }
    }
    let [mut four, higher @ ..] = levels;
    for level in &higher {
        for (sum, part) in four.iter_mut().zip(level) {
            add(sum, part);
        }
    }
    let [mut sum, others @ ..] = four;
    for row in single {
        add(&mut sum, row);
    }
    for part in &others {
        add(&mut sum, part);
    }
    let rest = rest.iter().fold(0.0, |sum, value| sum + value);
    sum.iter().fold(rest, |sum, lane| sum + lane)
}
