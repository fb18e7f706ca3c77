//! One row on its way through the stages.
//!
//! A row is *whole* until a filter cuts it: its scores stand in order of token, masked tokens hold -inf. After that the
//! survivors are a list in the order of candidates. Sums over a whole row go by token id, sums over survivors by rank,
//! both in sixteen lanes; which of the two holds is decided by the stages alone, never by the data or the machine.

use super::compile::Sampler;
use super::config::Compat;
use super::dense::{Collect, Count, Mass, MassAndMoment, MassSorted, Race, Scaling, Spread, Weigh, weight_and_moment};
use super::dense::{DrawDense, DrawSorted};
use super::math::{LANES, fold_lanes, ln};
use super::order::{self, Entry, HIGHEST, LOWEST, MASKED, key};
use super::row::{Candidate, Decision, Logits, Row, SampleError, Trace, TraceStep};
use super::sort::sort_by_score;
use super::stage::Stage;
use super::stream::{Noise, Position, step_key};
use super::workspace::Workspace;
use crate::simd::dispatch;

/// A row between two stages.
pub(crate) struct Run<'a> {
    pub(crate) row: &'a Row<'a>,
    pub(crate) work: &'a mut Workspace,
    pub(crate) position: Position,
    /// The caller's own scores, as long as no stage has changed one.
    borrowed: Option<&'a [f32]>,
    /// Tokens below this are in the row.
    pub(crate) tokens: usize,
    pub(crate) whole: bool,
    /// One over the temperature so far.
    pub(crate) scale: f64,
    /// By how much a greedy choice was the best; infinite without one.
    pub(crate) lead: f64,
    /// Whether `work.blocks` describes the scores as they are.
    read: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(sampler: &Sampler, row: &'a Row<'a>, work: &'a mut Workspace) -> Result<Self, SampleError> {
        let tokens = row.logits.len();
        if tokens == 0 || u32::try_from(tokens).is_err() {
            return Err(SampleError::Length { tokens });
        }
        for (what, sequence) in [("prompt", row.prompt), ("output", row.output)] {
            if let Some(&token) = sequence.iter().find(|&&token| token as usize >= tokens) {
                return Err(SampleError::Token { what, token, tokens });
            }
        }
        let borrowed = match row.logits {
            Logits::F32(values) => Some(values),
            logits => {
                logits.widen(&mut work.scores);
                None
            }
        };
        work.marks.reset(tokens);
        work.entries.clear();
        let position = row.position(sampler.seed);
        Ok(Self { row, work, position, borrowed, tokens, whole: true, scale: 1.0, lead: f64::INFINITY, read: false })
    }

    /// The scores of a whole row.
    pub(crate) fn scores(&self) -> &[f32] {
        let scores = self.borrowed.unwrap_or(&self.work.scores);
        &scores[..self.tokens.min(scores.len())]
    }

    /// The scores of a whole row, to change.
    pub(crate) fn scores_mut(&mut self) -> &mut [f32] {
        if let Some(scores) = self.borrowed.take() {
            self.work.scores.clear();
            self.work.scores.extend_from_slice(&scores[..self.tokens]);
        }
        self.read = false;
        let tokens = self.tokens.min(self.work.scores.len());
        &mut self.work.scores[..tokens]
    }

    /// Masks the tokens from `limit` on.
    pub(crate) fn limit(&mut self, limit: usize) {
        if limit < self.tokens {
            self.tokens = limit;
            self.read = false;
            self.work.entries.retain(|entry| (entry.token() as usize) < limit);
        }
    }

    /// Rounds scores to what the temperature so far makes of them, so that the next stage adjusts scaled scores.
    pub(crate) fn settle_scale(&mut self) {
        let scale = std::mem::replace(&mut self.scale, 1.0);
        if scale == 1.0 {
            return;
        }
        let scaled = |score: f32| (f64::from(score) * scale) as f32;
        if self.whole {
            self.scores_mut().iter_mut().for_each(|score| *score = scaled(*score));
        } else {
            for entry in &mut self.work.entries {
                *entry = Entry::new(key(scaled(entry.score())), entry.token());
            }
            // Rounding can make equals of neighbours.
            self.work.entries.sort_unstable();
        }
    }

    /// Looks at the scores before the first stage that needs their order.
    pub(crate) fn inspect(&mut self) -> Result<(), SampleError> {
        if !self.whole {
            return match self.work.entries.first() {
                None => Err(SampleError::NoSurvivor { masked: self.row.logits.len(), tokens: self.row.logits.len() }),
                Some(first) if first.key() > HIGHEST => Err(self.invalid()),
                Some(_) if self.work.entries.last().is_some_and(|last| last.key() < LOWEST) => Err(self.invalid()),
                Some(_) => Ok(()),
            };
        }
        if !self.read {
            let mut blocks = std::mem::take(&mut self.work.blocks);
            blocks.read(self.scores());
            self.work.blocks = blocks;
            self.read = true;
        }
        if self.work.blocks.max > HIGHEST || self.work.blocks.min < MASKED {
            return Err(self.invalid());
        }
        if self.work.blocks.max < LOWEST {
            let tokens = self.row.logits.len();
            return Err(SampleError::NoSurvivor { masked: tokens, tokens });
        }
        Ok(())
    }

    fn invalid(&self) -> SampleError {
        let (mut nan, mut infinite, mut masked, mut first) = (0, 0, self.row.logits.len() - self.tokens, u32::MAX);
        let mut look = |token: u32, score: f32| {
            nan += usize::from(score.is_nan());
            infinite += usize::from(score == f32::INFINITY);
            masked += usize::from(score == f32::NEG_INFINITY);
            if score.is_nan() || score == f32::INFINITY {
                first = first.min(token);
            }
        };
        if self.whole {
            self.scores().iter().zip(0..).for_each(|(&score, token)| look(token, score));
        } else {
            self.work.entries.iter().for_each(|entry| look(entry.token(), entry.score()));
            masked = self.row.logits.len() - self.work.entries.len();
        }
        SampleError::Invalid { nan, infinite, masked, tokens: self.row.logits.len(), first }
    }

    /// How scores become weights at this point. The row has been inspected.
    pub(crate) fn scaling(&self) -> Scaling {
        let largest = if self.whole {
            self.work.blocks.max
        } else {
            self.work.entries.first().map_or(MASKED, |entry| entry.key())
        };
        Scaling { max: f64::from(order::score(largest)), scale: self.scale }
    }

    /// The sum of all weights.
    pub(crate) fn mass(&self) -> f64 {
        let scaling = self.scaling();
        if self.whole {
            return dispatch(Mass { scores: self.scores(), scaling });
        }
        dispatch(MassSorted { entries: &self.work.entries, scaling })
    }

    /// The sum of all weights, and the entropy in nats.
    pub(crate) fn mass_and_entropy(&self) -> (f64, f64) {
        let scaling = self.scaling();
        let (mass, moment) = if self.whole {
            dispatch(MassAndMoment { scores: self.scores(), scaling })
        } else {
            let (mut mass, mut moment) = ([0.0; LANES], [0.0; LANES]);
            for (i, entry) in self.work.entries.iter().enumerate() {
                let (weight, product) = weight_and_moment(scaling.logit(entry.score()));
                mass[i % LANES] += weight;
                moment[i % LANES] += product;
            }
            (fold_lanes(mass), fold_lanes(moment))
        };
        (mass, ln(mass) - moment / mass)
    }

    /// The standard deviation of the scores that are left, before scaling.
    pub(crate) fn standard_deviation(&self) -> f64 {
        if self.whole {
            let (_, _, variance) = dispatch(Spread { scores: self.scores() });
            return variance.sqrt();
        }
        let entries = &self.work.entries;
        let mut lanes = [0.0; LANES];
        for (i, entry) in entries.iter().enumerate() {
            lanes[i % LANES] += f64::from(entry.score());
        }
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^32")]
        let count = entries.len() as f64;
        let mean = fold_lanes(lanes) / count;
        let mut lanes = [0.0; LANES];
        for (i, entry) in entries.iter().enumerate() {
            let deviation = f64::from(entry.score()) - mean;
            lanes[i % LANES] += deviation * deviation;
        }
        (fold_lanes(lanes) / count).sqrt()
    }

    /// How many tokens are left.
    pub(crate) fn kept(&self) -> usize {
        if !self.whole {
            self.work.entries.len()
        } else if self.read && self.work.blocks.min >= LOWEST {
            self.tokens
        } else {
            dispatch(Count { scores: self.scores(), least: LOWEST })
        }
    }

    /// Replaces the list by every token of the whole row with at least this key, in order. The row stays whole.
    pub(crate) fn collect(&mut self, least: i32) {
        let Workspace { scores, blocks, entries, spare, .. } = &mut *self.work;
        let scores = self.borrowed.unwrap_or(scores);
        entries.clear();
        dispatch(Collect { scores: &scores[..self.tokens.min(scores.len())], blocks, least, entries });
        sort_by_score(entries, spare);
    }

    /// Cuts the whole row down to the collected list.
    pub(crate) fn cut(&mut self) {
        self.whole = false;
    }

    /// Writes the weights of the list, by rank.
    pub(crate) fn weigh(&mut self, scaling: Scaling) {
        let Workspace { entries, weights, .. } = &mut *self.work;
        weights.clear();
        weights.resize(entries.len(), 0.0);
        dispatch(Weigh { entries, scaling, weights });
    }

    /// Draws a token from what is left.
    pub(crate) fn draw(&mut self, sampler: &Sampler) -> Result<(Race, usize, f64), SampleError> {
        self.inspect()?;
        let noise = self.noise(sampler);
        let scaling = self.scaling();
        let race = if self.whole {
            let (scores, blocks) = (self.scores(), &self.work.blocks);
            dispatch(DrawDense { scores, blocks, scaling, noise })
        } else {
            dispatch(DrawSorted { entries: &self.work.entries, scaling, noise })
        };
        Ok((race, self.kept(), self.mass()))
    }

    fn noise(&mut self, sampler: &Sampler) -> Noise {
        match sampler.compat {
            Compat::None => Noise::Double(step_key(self.position)),
            Compat::Grok1 => {
                let layout = sampler.noise_layout;
                let Position { seed, step, .. } = self.position;
                let key = self.work.chain.sample_key(seed, step, layout);
                Noise::Single { key, layout, size: self.row.logits.len() as u64 }
            }
        }
    }

    /// Lists the likeliest tokens of what is left.
    pub(crate) fn list_top(&mut self, count: usize, mass: f64) {
        if count == 0 {
            return;
        }
        if self.whole {
            self.select(count, super::config::Ties::ById);
        }
        let scaling = self.scaling();
        let Workspace { entries, top, .. } = &mut *self.work;
        top.extend(entries.iter().take(count).map(|entry| candidate(*entry, scaling, mass)));
    }

    /// What a stage left, for a trace.
    pub(crate) fn step(&self, stage: &Stage, token: Option<u32>) -> TraceStep {
        let score_of = |token: u32| {
            if self.whole {
                self.scores().get(token as usize).copied().filter(|&score| score != f32::NEG_INFINITY)
            } else {
                self.work.entries.iter().find(|entry| entry.token() == token).map(|entry| entry.score())
            }
        };
        let smallest = if self.whole {
            self.scores().iter().copied().filter(|&score| score != f32::NEG_INFINITY).fold(f32::INFINITY, f32::min)
        } else {
            self.work.entries.last().map_or(f32::INFINITY, |entry| entry.score())
        };
        TraceStep {
            stage: stage.kind(),
            kept: self.kept(),
            cut: f64::from(smallest) * self.scale,
            token: token.and_then(score_of).map(|score| f64::from(score) * self.scale),
        }
    }

    /// Runs all stages.
    pub(crate) fn stages(
        &mut self,
        sampler: &Sampler,
        mut trace: Option<(&mut Trace, Option<u32>)>,
    ) -> Result<(), SampleError> {
        for stage in &sampler.stages {
            self.apply(stage)?;
            if let Some((trace, token)) = &mut trace {
                trace.steps.push(self.step(stage, *token));
            }
        }
        Ok(())
    }

    /// Takes the best finite score after masks and penalties: the way out for an invalid row.
    pub(crate) fn fall_back(&mut self, sampler: &Sampler) -> Result<Decision, SampleError> {
        for stage in sampler.stages.iter().filter(|stage| !stage.kind().is_filter()) {
            self.apply(stage)?;
        }
        let mut best: Option<Entry> = None;
        let mut kept = 0;
        for (&score, token) in self.scores().iter().zip(0..) {
            if score.is_finite() {
                kept += 1;
                let entry = Entry::new(key(score), token);
                best = Some(best.map_or(entry, |best| best.min(entry)));
            }
        }
        let tokens = self.row.logits.len();
        let best = best.ok_or(SampleError::NoSurvivor { masked: tokens, tokens })?;
        Ok(Decision { token: best.token(), probability: 1.0, logprob: 0.0, kept, gap: f64::INFINITY, fallback: true })
    }
}

/// An entry as people and programs see it.
pub(crate) fn candidate(entry: Entry, scaling: Scaling, mass: f64) -> Candidate {
    let logit = scaling.logit(entry.score());
    Candidate {
        token: entry.token(),
        score: f64::from(entry.score()) * scaling.scale,
        probability: scaling.weight(entry.score()) / mass,
        logprob: logit - ln(mass),
    }
}
