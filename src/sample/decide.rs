//! The entry points: a token, its distribution, its trace, a batch.

use rayon::prelude::*;

use super::compile::Sampler;
use super::config::{Logprobs, OnInvalid, Ties};
use super::dense::{Mass, Scaling};
use super::math::ln;
use super::order::{self, Entry, HIGHEST, LOWEST};
use super::row::{Candidate, Decision, Row, SampleError, Trace};
use super::run::{Run, candidate};
use super::workspace::Workspace;
use crate::simd::dispatch;

/// What a row's stages leave: the distribution that a token is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Distribution<'a> {
    entries: &'a [Entry],
    scaling: Scaling,
    mass: f64,
}

impl Distribution<'_> {
    /// The tokens that are left, likeliest first, ties by id.
    pub fn candidates(&self) -> impl ExactSizeIterator<Item = Candidate> + '_ {
        self.entries.iter().map(|&entry| candidate(entry, self.scaling, self.mass))
    }

    /// How many are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: a row without a survivor is an error.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The logarithm of the mass of the model's own logits, relative to their largest.
struct RawBase {
    scaling: Scaling,
    mass: f64,
}

impl Sampler {
    /// Draws a token.
    ///
    /// The result is a function of the row alone; the workspace only saves allocations.
    ///
    /// # Errors
    ///
    /// A row that cannot be sampled: see [`SampleError`].
    pub fn decide(&self, row: &Row<'_>, workspace: &mut Workspace) -> Result<Decision, SampleError> {
        self.run(row, workspace, None)
    }

    /// Draws a token and says what each stage left, and what became of `token`.
    ///
    /// # Errors
    ///
    /// As [`decide`](Self::decide).
    ///
    /// ```
    /// use flow_fabric::sample::{Logits, Row, Sampler, SamplerConfig, StageKind, Workspace};
    /// let config = SamplerConfig { top_k: Some(3), top_p: Some(0.5), ..SamplerConfig::default() };
    /// let (sampler, _) = Sampler::compile(&config).unwrap();
    /// let row = Row::new(Logits::F32(&[2.0, 1.0, 0.0, -1.0]));
    /// let (_, trace) = sampler.trace(&row, Some(1), &mut Workspace::default()).unwrap();
    /// assert_eq!(trace.steps.iter().map(|step| step.kept).collect::<Vec<_>>(), [3, 1]);
    /// assert_eq!(trace.removed_by(), Some(StageKind::TopP));
    /// ```
    pub fn trace(
        &self,
        row: &Row<'_>,
        token: Option<u32>,
        workspace: &mut Workspace,
    ) -> Result<(Decision, Trace), SampleError> {
        let mut trace = Trace::default();
        let decision = self.run(row, workspace, Some((&mut trace, token)))?;
        Ok((decision, trace))
    }

    /// Runs the stages and returns what they leave, without drawing.
    ///
    /// # Errors
    ///
    /// As [`decide`](Self::decide), but `on_invalid` does not apply: an invalid row has no distribution.
    pub fn distribution<'a>(
        &self,
        row: &Row<'_>,
        workspace: &'a mut Workspace,
    ) -> Result<Distribution<'a>, SampleError> {
        let mut run = Run::new(self, row, workspace)?;
        run.stages(self, None)?;
        run.inspect()?;
        let (scaling, mass) = (run.scaling(), run.mass());
        if run.whole {
            run.collect(LOWEST);
        }
        Ok(Distribution { entries: &workspace.entries, scaling, mass })
    }

    /// Draws a token for each row, in parallel. Each result is what [`decide`](Self::decide) gives for the row alone.
    #[must_use]
    pub fn decide_batch(&self, rows: &[Row<'_>]) -> Vec<Result<Decision, SampleError>> {
        rows.par_iter().map_init(Workspace::default, |workspace, row| self.decide(row, workspace)).collect()
    }

    fn run(
        &self,
        row: &Row<'_>,
        workspace: &mut Workspace,
        trace: Option<(&mut Trace, Option<u32>)>,
    ) -> Result<Decision, SampleError> {
        workspace.top.clear();
        let mut run = Run::new(self, row, workspace)?;
        let raw = (self.logprobs == Logprobs::Raw).then(|| self.raw_base(&mut run));
        let drawn = match run.stages(self, trace) {
            Ok(()) => run.draw(self),
            Err(error) => Err(error),
        };
        let (race, kept, mass) = match drawn {
            Ok(drawn) => drawn,
            Err(SampleError::Invalid { .. }) if self.on_invalid == OnInvalid::Greedy => {
                workspace.top.clear();
                return Run::new(self, row, workspace)?.fall_back(self);
            }
            Err(error) => {
                workspace.top.clear();
                return Err(error);
            }
        };
        let scaling = run.scaling();
        let logprob = match &raw {
            Some(base) => base.scaling.logit(row.logits.get(race.token).unwrap_or(race.score)) - ln(base.mass),
            None => scaling.logit(race.score) - ln(mass),
        };
        if raw.is_none() {
            run.list_top(self.top_logprobs, mass);
        }
        Ok(Decision {
            token: race.token,
            probability: scaling.weight(race.score) / mass,
            logprob,
            kept,
            gap: (race.best - race.second).min(run.lead),
            fallback: false,
        })
    }

    /// The softmax of the row before any stage; numbers that have no place in an order do not count.
    fn raw_base(&self, run: &mut Run<'_>) -> RawBase {
        let largest = run.scores().iter().map(|&score| order::key(score)).filter(|&key| key <= HIGHEST).max();
        let scaling = Scaling { max: f64::from(order::score(largest.unwrap_or(LOWEST))), scale: 1.0 };
        let mass = dispatch(Mass { scores: run.scores(), scaling });
        if run.inspect().is_ok() && self.top_logprobs > 0 {
            run.select(self.top_logprobs, Ties::ById);
            let Workspace { entries, top, .. } = &mut *run.work;
            top.extend(entries.iter().map(|&entry| candidate(entry, scaling, mass)));
            entries.clear();
        }
        RawBase { scaling, mass }
    }
}
