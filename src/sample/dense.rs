//! Passes over a whole row of scores.
//!
//! Each pass is a [`Kernel`], which [`dispatch`] runs with the widest instruction set of the machine. The loops are plain
//! code over fixed blocks, with every rounding and the order of every sum written down, so the result has the same bits
//! whatever set runs it.

use super::math::{LANES, exp_non_positive, fold_lanes};
use super::order::{Entry, key};
use super::stream::{CHUNK, Noise};
use crate::simd::{Kernel, dispatch};

/// Tokens per block of [`Blocks`]: one bit each in a `u64`.
pub(crate) const BLOCK: usize = 64;

/// The largest key of each block of a row, and the extremes of the row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks {
    pub(crate) largest: Vec<i32>,
    pub(crate) max: i32,
    pub(crate) min: i32,
}

impl Blocks {
    /// Reads a row. The vector keeps its capacity from row to row.
    pub(crate) fn read(&mut self, scores: &[f32]) {
        self.largest.clear();
        self.largest.resize(scores.len().div_ceil(BLOCK), i32::MIN);
        (self.min, self.max) = dispatch(Extremes { scores, largest: &mut self.largest });
    }
}

struct Extremes<'a> {
    scores: &'a [f32],
    largest: &'a mut [i32],
}

impl Kernel for Extremes<'_> {
    type Output = (i32, i32);

    #[inline(always)]
    fn run(self) -> (i32, i32) {
        let (blocks, rest) = self.scores.as_chunks::<BLOCK>();
        let (mut row_min, mut row_max) = (i32::MAX, i32::MIN);
        for (block, largest) in blocks.iter().zip(self.largest.iter_mut()) {
            let (mut min, mut max) = (i32::MAX, i32::MIN);
            for &score in block {
                min = min.min(key(score));
                max = max.max(key(score));
            }
            *largest = max;
            row_min = row_min.min(min);
            row_max = row_max.max(max);
        }
        if let (false, Some(largest)) = (rest.is_empty(), self.largest.last_mut()) {
            for &score in rest {
                *largest = (*largest).max(key(score));
                row_min = row_min.min(key(score));
            }
            row_max = row_max.max(*largest);
        }
        (row_min, row_max)
    }
}

/// How scores become weights: `exp((score - max) * scale)`, where `scale` is one over the temperature.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaling {
    pub(crate) max: f64,
    pub(crate) scale: f64,
}

impl Scaling {
    /// The scaled logit, relative to the largest.
    #[inline(always)]
    pub(crate) fn logit(self, score: f32) -> f64 {
        (f64::from(score) - self.max) * self.scale
    }

    #[inline(always)]
    pub(crate) fn weight(self, score: f32) -> f64 {
        exp_non_positive(self.logit(score))
    }
}

/// Sum of weights of a row, in lanes by token id.
pub(crate) struct Mass<'a> {
    pub(crate) scores: &'a [f32],
    pub(crate) scaling: Scaling,
}

impl Kernel for Mass<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = self.scores.as_chunks::<LANES>();
        for block in blocks {
            for (lane, &score) in lanes.iter_mut().zip(block) {
                *lane += self.scaling.weight(score);
            }
        }
        for (lane, &score) in lanes.iter_mut().zip(rest) {
            *lane += self.scaling.weight(score);
        }
        fold_lanes(lanes)
    }
}

/// Sums of weights and of weight times logit, in lanes by token id: what the entropy of a row needs.
pub(crate) struct MassAndMoment<'a> {
    pub(crate) scores: &'a [f32],
    pub(crate) scaling: Scaling,
}

impl Kernel for MassAndMoment<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run(self) -> (f64, f64) {
        let (mut mass, mut moment) = ([0.0; LANES], [0.0; LANES]);
        let (blocks, rest) = self.scores.as_chunks::<LANES>();
        for block in blocks {
            for (i, &score) in block.iter().enumerate() {
                let (weight, product) = weight_and_moment(self.scaling.logit(score));
                mass[i] += weight;
                moment[i] += product;
            }
        }
        for (i, &score) in rest.iter().enumerate() {
            let (weight, product) = weight_and_moment(self.scaling.logit(score));
            mass[i] += weight;
            moment[i] += product;
        }
        (fold_lanes(mass), fold_lanes(moment))
    }
}

/// `exp(logit)` and `exp(logit) * logit`; a masked token has neither.
#[inline(always)]
pub(crate) fn weight_and_moment(logit: f64) -> (f64, f64) {
    let weight = exp_non_positive(logit);
    (weight, if weight > 0.0 { weight * logit } else { 0.0 })
}

/// Count, mean and mean square deviation of the scores that are not masked, in lanes by token id.
pub(crate) struct Spread<'a> {
    pub(crate) scores: &'a [f32],
}

impl Kernel for Spread<'_> {
    type Output = (f64, f64, f64);

    #[inline(always)]
    fn run(self) -> (f64, f64, f64) {
        let (blocks, rest) = self.scores.as_chunks::<LANES>();
        let (mut count, mut sum) = ([0.0; LANES], [0.0; LANES]);
        let mut add = |i: usize, score: f32| {
            let present = score != f32::NEG_INFINITY;
            count[i] += if present { 1.0 } else { 0.0 };
            sum[i] += if present { f64::from(score) } else { 0.0 };
        };
        for block in blocks {
            for (i, &score) in block.iter().enumerate() {
                add(i, score);
            }
        }
        for (i, &score) in rest.iter().enumerate() {
            add(i, score);
        }
        let count = fold_lanes(count);
        let mean = fold_lanes(sum) / count;
        let mut squares = [0.0; LANES];
        let mut add = |i: usize, score: f32| {
            let deviation = f64::from(score) - mean;
            squares[i] += if score != f32::NEG_INFINITY { deviation * deviation } else { 0.0 };
        };
        for block in blocks {
            for (i, &score) in block.iter().enumerate() {
                add(i, score);
            }
        }
        for (i, &score) in rest.iter().enumerate() {
            add(i, score);
        }
        (count, mean, fold_lanes(squares) / count)
    }
}

/// Appends every token whose key is at least `least`, in order of id.
pub(crate) struct Collect<'a> {
    pub(crate) scores: &'a [f32],
    pub(crate) blocks: &'a Blocks,
    pub(crate) least: i32,
    pub(crate) entries: &'a mut Vec<Entry>,
}

impl Kernel for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (blocks, rest) = self.scores.as_chunks::<BLOCK>();
        for (index, (block, &largest)) in blocks.iter().zip(&self.blocks.largest).enumerate() {
            if largest < self.least {
                continue;
            }
            let mut hits = 0_u64;
            for (i, &score) in block.iter().enumerate() {
                hits |= u64::from(key(score) >= self.least) << i;
            }
            let first = index * BLOCK;
            while hits != 0 {
                let i = hits.trailing_zeros() as usize;
                hits &= hits - 1;
                self.entries.push(Entry::new(key(block[i % BLOCK]), (first + i) as u32));
            }
        }
        let first = blocks.len() * BLOCK;
        for (i, &score) in rest.iter().enumerate() {
            if key(score) >= self.least {
                self.entries.push(Entry::new(key(score), (first + i) as u32));
            }
        }
    }
}

/// How many tokens have a key of at least `least`.
pub(crate) struct Count<'a> {
    pub(crate) scores: &'a [f32],
    pub(crate) least: i32,
}

impl Kernel for Count<'_> {
    type Output = usize;

    #[inline(always)]
    fn run(self) -> usize {
        // Counted in `u32` per block: a `usize` counter would halve the vector's width.
        let mut total = 0;
        for part in self.scores.chunks(1 << 16) {
            let mut count = 0_u32;
            for &score in part {
                count += u32::from(key(score) >= self.least);
            }
            total += count as usize;
        }
        total
    }
}

/// Writes the weight of each entry.
pub(crate) struct Weigh<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) scaling: Scaling,
    pub(crate) weights: &'a mut [f64],
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (weight, entry) in self.weights.iter_mut().zip(self.entries) {
            *weight = self.scaling.weight(entry.score());
        }
    }
}

/// Sum of the weights of sorted survivors, in lanes by rank.
pub(crate) struct MassSorted<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) scaling: Scaling,
}

impl Kernel for MassSorted<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = self.entries.as_chunks::<LANES>();
        for block in blocks {
            for (lane, entry) in lanes.iter_mut().zip(block) {
                *lane += self.scaling.weight(entry.score());
            }
        }
        for (lane, entry) in lanes.iter_mut().zip(rest) {
            *lane += self.scaling.weight(entry.score());
        }
        fold_lanes(lanes)
    }
}

/// Some scores of a row, each standing for a number of tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    scores: Vec<f32>,
    counts: Vec<f32>,
    logits: Vec<f64>,
    masses: Vec<f64>,
}

impl Sample {
    pub(crate) fn clear(&mut self) {
        self.scores.clear();
        self.counts.clear();
    }

    pub(crate) fn push(&mut self, score: f32, tokens: f32) {
        self.scores.push(score);
        self.counts.push(tokens);
    }
}

/// How far below the best score about a share of a sample's mass lies, in scaled logits.
pub(crate) struct Depth<'a> {
    pub(crate) sample: &'a mut Sample,
    pub(crate) scaling: Scaling,
    pub(crate) share: f64,
}

impl Kernel for Depth<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        /// Tokens further below hold no mass worth a guess.
        const DEEPEST: f64 = 48.0;
        let Sample { scores, counts, logits, masses } = self.sample;
        logits.clear();
        logits.resize(scores.len(), 0.0);
        masses.clear();
        masses.resize(scores.len(), 0.0);
        for (((logit, mass), &score), &count) in logits.iter_mut().zip(masses.iter_mut()).zip(&*scores).zip(&*counts) {
            *logit = self.scaling.logit(score);
            *mass = exp_non_positive(*logit) * f64::from(count);
        }
        let wanted = self.share * mass_above(logits, masses, -DEEPEST);
        let (mut above, mut below) = (0.0, DEEPEST);
        for _ in 0..10 {
            let middle = (above + below) / 2.0;
            if mass_above(logits, masses, -middle) >= wanted {
                below = middle;
            } else {
                above = middle;
            }
        }
        below
    }
}

#[inline(always)]
fn mass_above(logits: &[f64], masses: &[f64], least: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    for (logits, masses) in logits.as_chunks::<LANES>().0.iter().zip(masses.as_chunks::<LANES>().0) {
        for ((lane, &logit), &mass) in lanes.iter_mut().zip(logits).zip(masses) {
            *lane += if logit >= least { mass } else { 0.0 };
        }
    }
    fold_lanes(lanes)
}

/// The best and second best of noise plus logit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Race {
    pub(crate) token: u32,
    pub(crate) score: f32,
    pub(crate) best: f64,
    pub(crate) second: f64,
}

impl Race {
    const START: Self =
        Self { token: u32::MAX, score: f32::NEG_INFINITY, best: f64::NEG_INFINITY, second: f64::NEG_INFINITY };

    /// Enters a chunk of tokens; most chunks hold none that matters and are left after one vectorised look.
    #[inline(always)]
    fn enter(&mut self, tokens: &[u32], scores: &[f32], sums: &[f64]) {
        let largest = sums.iter().fold(f64::NEG_INFINITY, |largest, &sum| if sum > largest { sum } else { largest });
        if largest < self.second {
            return;
        }
        for ((&token, &score), &sum) in tokens.iter().zip(scores).zip(sums) {
            if sum > self.best || (sum == self.best && token < self.token) {
                *self = Self { token, score, best: sum, second: self.best };
            } else if sum > self.second {
                self.second = sum;
            }
        }
    }
}

/// Gumbel-max over a whole row.
///
/// How many blocks there are is only known at run time. With a literal row size in its place, rustc 1.95 worked on the
/// loop of hash, logarithms and comparison for more than eight minutes.
pub(crate) struct DrawDense<'a> {
    pub(crate) scores: &'a [f32],
    pub(crate) blocks: &'a Blocks,
    pub(crate) scaling: Scaling,
    pub(crate) noise: Noise,
}

impl Kernel for DrawDense<'_> {
    type Output = Race;

    #[inline(always)]
    fn run(self) -> Race {
        const _: () = assert!(BLOCK == CHUNK, "a block is drawn as one chunk");
        let mut race = Race::START;
        let mut tokens = [0; CHUNK];
        let mut sums = [0.0; CHUNK];
        for (index, (block, &largest)) in self.scores.chunks(BLOCK).zip(&self.blocks.largest).enumerate() {
            // Even the largest noise cannot lift this block into the first two.
            if self.scaling.logit(super::order::score(largest)) + self.noise.ceiling() < race.second {
                continue;
            }
            let first = (index * BLOCK) as u32;
            for (i, token) in tokens.iter_mut().enumerate() {
                *token = first + i as u32;
            }
            let (tokens, sums) = (&tokens[..block.len()], &mut sums[..block.len()]);
            self.noise.fill(tokens, sums);
            for (sum, &score) in sums.iter_mut().zip(block) {
                *sum += self.scaling.logit(score);
            }
            race.enter(tokens, block, sums);
        }
        race
    }
}

/// Gumbel-max over sorted survivors.
pub(crate) struct DrawSorted<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) scaling: Scaling,
    pub(crate) noise: Noise,
}

impl Kernel for DrawSorted<'_> {
    type Output = Race;

    #[inline(always)]
    fn run(self) -> Race {
        let mut race = Race::START;
        let mut tokens = [0; CHUNK];
        let mut scores = [0.0; CHUNK];
        let mut sums = [0.0; CHUNK];
        for chunk in self.entries.chunks(CHUNK) {
            let largest = chunk.first().map_or(f32::NEG_INFINITY, |entry| entry.score());
            if self.scaling.logit(largest) + self.noise.ceiling() < race.second {
                break;
            }
            for ((token, score), entry) in tokens.iter_mut().zip(&mut scores).zip(chunk) {
                (*token, *score) = (entry.token(), entry.score());
            }
            let (tokens, scores) = (&tokens[..chunk.len()], &scores[..chunk.len()]);
            let sums = &mut sums[..chunk.len()];
            self.noise.fill(tokens, sums);
            for (sum, &score) in sums.iter_mut().zip(scores) {
                *sum += self.scaling.logit(score);
            }
            race.enter(tokens, scores, sums);
        }
        race
    }
}
