//! What each stage does to a row.

use super::adjust;
use super::config::{Boundary, StageKind, Ties};
use super::dense::{BLOCK, Depth, Scaling};
use super::math::{exp_non_positive, ln};
use super::order::{self, LOWEST, key};
use super::row::SampleError;
use super::run::Run;
use super::stage::Stage;
use super::stream::coin;
use crate::simd::dispatch;

/// [`Stage::TopH`] looks at no more than this many tokens.
const TOP_H_TOKENS: usize = 100;
/// Rows up to this size are sorted whole; above it a threshold is guessed first.
const GUESS_FROM: usize = 2048;
/// The purpose of XTC's coin.
const XTC_COIN: u32 = 1;

impl StageKind {
    /// Whether the stage removes tokens by rank or probability, or scales scores (and neither masks nor adjusts).
    pub(crate) const fn is_filter(self) -> bool {
        !matches!(
            self,
            StageKind::VocabLimit
                | StageKind::Allow
                | StageKind::Deny
                | StageKind::LogitBias
                | StageKind::MinTokens
                | StageKind::NoRepeatNgram
                | StageKind::RepetitionPenalty
                | StageKind::FrequencyPenalty
                | StageKind::PresencePenalty
                | StageKind::Dry
        )
    }
}

impl Run<'_> {
    pub(crate) fn apply(&mut self, stage: &Stage) -> Result<(), SampleError> {
        if !stage.kind().is_filter() {
            return adjust::apply(self, stage);
        }
        if let Stage::Temperature(temperature) = stage {
            self.scale /= temperature;
            return Ok(());
        }
        self.inspect()?;
        match *stage {
            Stage::Greedy => self.greedy(),
            Stage::DynamicTemperature { min, max, exponent } => self.dynamic_temperature(min, max, exponent),
            Stage::TopK { k, ties } => self.top_k(k as usize, ties),
            Stage::TopP { p, boundary, ties, min_keep } => self.top_p(p, boundary, ties, min_keep as usize),
            Stage::MinP { p, min_keep } => {
                let least = ln(p);
                self.keep_while(move |scaling, score| scaling.logit(score) >= least, min_keep as usize, Ties::ById);
            }
            Stage::EpsilonCutoff { epsilon, min_keep } => {
                let least = ln(epsilon) + ln(self.mass());
                self.keep_while(move |scaling, score| scaling.logit(score) >= least, min_keep as usize, Ties::Keep);
            }
            Stage::EtaCutoff { eta, min_keep } => {
                let (mass, entropy) = self.mass_and_entropy();
                let least = ln(eta).min(0.5 * ln(eta) - entropy) + ln(mass);
                self.keep_while(move |scaling, score| scaling.logit(score) >= least, min_keep as usize, Ties::Keep);
            }
            Stage::TopNSigma(n) => {
                let least = self.scaling().max - n * self.standard_deviation();
                self.keep_while(move |_, score| f64::from(score) >= least, 1, Ties::ById);
            }
            Stage::TypicalP { p, min_keep } => self.typical_p(p, min_keep as usize),
            Stage::TopH { share, min_keep } => self.top_h(share, min_keep as usize),
            Stage::Xtc { probability, threshold, min_keep } => self.xtc(probability, threshold, min_keep as usize),
            _ => {}
        }
        Ok(())
    }

    /// Replaces the list by the best `count` tokens of the whole row, in order.
    pub(crate) fn select(&mut self, count: usize, ties: Ties) {
        // Each of the best `count` blocks holds a token at least as good as the worst of those blocks' best, so the
        // token that closes the selection is no worse.
        let blocks = &self.work.blocks.largest;
        let least = if count <= blocks.len() && count > 0 {
            let mut keys = std::mem::take(&mut self.work.keys);
            keys.clear();
            keys.extend_from_slice(blocks);
            let (_, &mut nth, _) = keys.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
            self.work.keys = keys;
            nth.max(LOWEST)
        } else {
            LOWEST
        };
        self.collect(least);
        truncate(&mut self.work.entries, count, ties);
    }

    fn top_k(&mut self, k: usize, ties: Ties) {
        if self.whole {
            self.select(k, ties);
            self.cut();
        } else {
            truncate(&mut self.work.entries, k, ties);
        }
    }

    /// Leaves the best token and remembers by how much it is the best.
    fn greedy(&mut self) {
        self.top_k(2, Ties::ById);
        if let [best, second] = self.work.entries[..] {
            self.lead = (f64::from(best.score()) - f64::from(second.score())) * self.scale;
        }
        self.work.entries.truncate(1);
    }

    fn top_p(&mut self, p: f64, boundary: Boundary, ties: Ties, min_keep: usize) {
        let scaling = self.scaling();
        let target = p * self.mass();
        if !self.whole {
            self.weigh(scaling);
            let kept = nucleus(&self.work.weights, target, boundary).unwrap_or(self.work.entries.len());
            return truncate(&mut self.work.entries, kept.max(min_keep), ties);
        }
        // Any threshold low enough gives the same nucleus; a good guess only spares the sorting of the rest.
        let mut share = p + (1.0 - p) / 8.0;
        loop {
            let least = self.guess_threshold(share);
            self.collect(least);
            self.weigh(scaling);
            let kept = nucleus(&self.work.weights, target, boundary).map(|kept| kept.max(min_keep));
            match kept {
                Some(kept) if kept <= self.work.entries.len() || least == LOWEST => {
                    truncate(&mut self.work.entries, kept, ties);
                    break;
                }
                None if least == LOWEST => break,
                _ => share = 1.0 - (1.0 - share) / 4.0,
            }
        }
        self.cut();
    }

    /// A key above which about this share of the mass lies, from the best token of each block and one other.
    fn guess_threshold(&mut self, share: f64) -> i32 {
        if self.tokens < GUESS_FROM || share >= 1.0 - 1e-9 {
            return LOWEST;
        }
        let scaling = self.scaling();
        let mut sample = std::mem::take(&mut self.work.sample);
        sample.clear();
        for (index, (block, &largest)) in self.scores().chunks_exact(BLOCK).zip(&self.work.blocks.largest).enumerate() {
            sample.push(order::score(largest), 1.0);
            // One other token stands for the rest of its block; which one changes from block to block.
            let at = index * 29 % BLOCK;
            let other = if key(block[at]) == largest { block[(at + 1) % BLOCK] } else { block[at] };
            sample.push(other, (BLOCK - 1) as f32);
        }
        let depth = dispatch(Depth { sample: &mut sample, scaling, share });
        self.work.sample = sample;
        key((scaling.max - depth / scaling.scale) as f32).max(LOWEST)
    }

    /// Keeps the tokens that hold a property which no token has that is worse than one without it.
    fn keep_while(&mut self, holds: impl Fn(Scaling, f32) -> bool, min_keep: usize, ties: Ties) {
        let scaling = self.scaling();
        if self.whole {
            // The smallest key with the property, by bisection over all finite scores.
            let (mut with, mut without) = (i64::from(self.work.blocks.max) + 1, i64::from(LOWEST) - 1);
            while with - without > 1 {
                let middle = (with + without).div_euclid(2);
                if holds(scaling, order::score(middle as i32)) { with = middle } else { without = middle }
            }
            self.work.entries.clear();
            if with <= i64::from(self.work.blocks.max) {
                self.collect(with as i32);
            }
            if self.work.entries.len() < min_keep {
                self.select(min_keep, ties);
            }
            self.cut();
        } else {
            let kept = self.work.entries.partition_point(|entry| holds(scaling, entry.score()));
            if kept < min_keep {
                truncate(&mut self.work.entries, min_keep, ties);
            } else {
                self.work.entries.truncate(kept);
            }
        }
    }

    /// Locally typical sampling (Meister et al., 2023): nearest surprise first, until the mass is reached; ties stay.
    fn typical_p(&mut self, p: f64, min_keep: usize) {
        let scaling = self.scaling();
        let (mass, entropy) = self.mass_and_entropy();
        let (log_mass, target) = (ln(mass), p * mass);
        if self.whole {
            self.collect(LOWEST);
            self.cut();
        }
        self.weigh(scaling);
        let entries = &self.work.entries;
        // Surprise grows with rank, so distances from the entropy fall and then rise: the kept tokens are a run of ranks.
        let distance = |rank: usize| ((log_mass - entropy) - scaling.logit(entries[rank].score())).abs();
        let surprise_below = |entry: &super::order::Entry| log_mass - scaling.logit(entry.score()) < entropy;
        let middle = entries.partition_point(surprise_below);
        let (mut first, mut end) = (middle, middle);
        let (mut held, mut edge) = (0.0, None);
        while first > 0 || end < entries.len() {
            let upward = first > 0 && (end == entries.len() || distance(first - 1) <= distance(end));
            let next = if upward { first - 1 } else { end };
            let ties = edge.is_none_or(|edge| distance(next) <= edge);
            if !ties && end - first >= min_keep {
                break;
            }
            held += self.work.weights[next];
            if edge.is_none() && held >= target {
                edge = Some(distance(next));
            }
            if upward { first -= 1 } else { end += 1 }
        }
        self.work.entries.truncate(end);
        self.work.entries.drain(..first);
    }

    /// Top-H (Potraghloo et al., 2025): tokens in order while their entropy terms sum to at most a share of the whole.
    fn top_h(&mut self, share: f64, min_keep: usize) {
        if self.whole {
            self.select(TOP_H_TOKENS, Ties::ById);
            self.cut();
        } else {
            self.work.entries.truncate(TOP_H_TOKENS);
        }
        let mass = self.mass();
        self.weigh(self.scaling());
        // Probabilities rounded to f32, as in the definition's only implementation: a token that is certain there has
        // no entropy, where in f64 it has as much as all others together.
        let term = |weight: &f64| match (weight / mass) as f32 {
            0.0 => 0.0,
            probability => -f64::from(probability) * ln(f64::from(probability)),
        };
        let entropy: f64 = self.work.weights.iter().map(term).sum();
        let mut sum = 0.0;
        let inside = |weight: &&f64| {
            sum += term(weight);
            sum <= share * entropy
        };
        let kept = self.work.weights.iter().take_while(inside).count();
        self.work.entries.truncate(kept.max(min_keep));
    }

    /// XTC: removes all likely tokens but the last of them.
    fn xtc(&mut self, probability: f64, threshold: f64, min_keep: usize) {
        if coin(self.position, XTC_COIN) >= probability {
            return;
        }
        let scaling = self.scaling();
        let least = ln(threshold) + ln(self.mass());
        let kept = self.kept();
        if self.whole {
            // No more than 1 / threshold tokens can have that much; a threshold of 0 takes all but the last.
            let mut likely = 64;
            loop {
                self.select(likely, Ties::ById);
                let above = self.work.entries.partition_point(|entry| scaling.logit(entry.score()) >= least);
                if above < self.work.entries.len() || self.work.entries.len() == kept {
                    self.work.entries.truncate(above.saturating_sub(1));
                    break;
                }
                likely *= 16;
            }
            if !self.work.entries.is_empty() && kept - self.work.entries.len() >= min_keep {
                let entries = std::mem::take(&mut self.work.entries);
                let scores = self.scores_mut();
                for entry in &entries {
                    scores[entry.token() as usize] = f32::NEG_INFINITY;
                }
                self.work.entries = entries;
            }
            self.work.entries.clear();
        } else {
            let above = self.work.entries.partition_point(|entry| scaling.logit(entry.score()) >= least);
            let removed = above.saturating_sub(1);
            if kept - removed >= min_keep {
                self.work.entries.drain(..removed);
            }
        }
    }

    /// llama.cpp's entropy-based temperature (`temp_ext`).
    fn dynamic_temperature(&mut self, min: f64, max: f64, exponent: f64) {
        let kept = self.kept();
        if kept <= 1 {
            return;
        }
        let (_, entropy) = self.mass_and_entropy();
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^32")]
        let normalised = (entropy / ln(kept as f64)).clamp(0.0, 1.0);
        let share = exp_non_positive((exponent * ln(normalised)).min(0.0));
        let share = if exponent == 0.0 { 1.0 } else { share };
        self.scale /= min + (max - min) * share;
    }
}

/// Cuts a sorted list after `count` entries, or after those that tie with the last.
fn truncate(entries: &mut Vec<order::Entry>, count: usize, ties: Ties) {
    let mut count = count.max(1);
    if ties == Ties::Keep
        && let Some(last) = entries.get(count - 1)
    {
        let last = last.key();
        count += entries[count..].iter().take_while(|entry| entry.key() == last).count();
    }
    entries.truncate(count);
}

/// How many tokens the nucleus has, `None` when the mass of all of them does not reach its edge.
///
/// The mass before a token is summed one by one in order; the first token is always in.
fn nucleus(weights: &[f64], target: f64, boundary: Boundary) -> Option<usize> {
    let mut before = 0.0;
    for (rank, weight) in weights.iter().enumerate() {
        let inside = if boundary == Boundary::Exclude { before < target } else { before <= target };
        if rank > 0 && !inside {
            return Some(rank);
        }
        before += weight;
    }
    let reached = if boundary == Boundary::Exclude { before >= target } else { before > target };
    reached.then_some(weights.len())
}
