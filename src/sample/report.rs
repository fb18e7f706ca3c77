//! What became of rows, as people and other programs read it.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compile::Sampler;
use super::config::{Logprobs, StageKind};
use super::row::{Candidate, Decision, Row, SampleError, Trace};
use super::table::LogitTable;
use super::workspace::Workspace;
use crate::Dtype;

/// What the `format` key of a report says.
pub const SAMPLE_FORMAT: &str = "flow-fabric/sample";

/// Tokens drawn from rows of logits, and why those.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "flow-fabric sample")]
pub struct SampleReport {
    /// Always `flow-fabric/sample`.
    #[schemars(extend("const" = SAMPLE_FORMAT))]
    pub format: String,
    /// Version of this shape; additions do not raise it.
    #[schemars(extend("const" = 1))]
    pub format_version: u32,
    /// The sampler's stages in the order in which they run, in words. None means that the row's softmax is drawn from.
    pub stages: Vec<String>,
    /// Seed of the draws.
    pub seed: u64,
    /// The stage at which log-probabilities are taken.
    pub logprobs: Logprobs,
    /// Dtype of the logits.
    pub dtype: Dtype,
    /// Tokens of a row.
    pub tokens: usize,
    /// One entry per row, in the order asked for.
    pub rows: Vec<RowReport>,
}

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RowReport {
    /// Its number in the file.
    pub row: usize,
    /// Its stream.
    pub slot: u64,
    /// Its step in that stream.
    pub position: u64,
    /// What was drawn, null for a row that cannot be sampled.
    pub drawn: Option<Drawn>,
    /// Why nothing was drawn.
    pub error: Option<RowError>,
    /// The likeliest of the tokens that were left, likeliest first; as many as were asked for.
    pub distribution: Vec<CandidateRecord>,
    /// The likeliest tokens at the stage that `logprobs` names; as many as the profile's `top_logprobs`.
    pub top: Vec<CandidateRecord>,
    /// What each stage left, on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TraceRecord")]
    pub trace: Option<TraceRecord>,
}

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// Its probability among the tokens that were left.
    pub probability: f64,
    /// Its log-probability, null where the model's own softmax gives it none.
    pub logprob: Option<f64>,
    /// How many tokens were left.
    pub kept: usize,
    /// By how much it won over the runner-up, in logits; null when it was alone.
    pub gap: Option<f64>,
    /// Whether the row was invalid and `on_invalid = "greedy"` chose.
    pub fallback: bool,
}

/// Why a row has no token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowError {
    /// One sentence.
    pub message: String,
    /// Scores that are NaN.
    pub nan: usize,
    /// Scores that are +inf.
    pub infinite: usize,
    /// Tokens that are masked or removed.
    pub masked: usize,
    /// Tokens that the row has.
    pub tokens: usize,
    /// The first NaN or +inf.
    pub first: Option<u32>,
}

/// A token with what the sampler made of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateRecord {
    /// Its id.
    pub token: u32,
    /// Its score.
    pub score: f64,
    /// Its probability.
    pub probability: f64,
    /// The logarithm of that; null where the probability is 0.
    pub logprob: Option<f64>,
}

/// What a row went through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceRecord {
    /// The token that was asked about.
    pub token: Option<u32>,
    /// Its logit before the first stage; null where it is not a finite number.
    pub logit: Option<f64>,
    /// The stage that removed it, null if it was left.
    pub removed_by: Option<StageKind>,
    /// One entry per stage, in order.
    pub stages: Vec<StageRecord>,
}

/// What a stage left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageRecord {
    /// The stage.
    pub stage: StageKind,
    /// Its rule in words.
    pub rule: String,
    /// How many tokens are left after it.
    pub kept: usize,
    /// The smallest score that is left, as scaled so far.
    pub cut: Option<f64>,
    /// The score of the token that was asked about, null once it is removed.
    pub token: Option<f64>,
}

/// Which rows to sample, and where they stand in their streams.
#[derive(Debug, Clone, Default)]
pub struct ReportOptions {
    /// The rows, by number.
    pub rows: Vec<usize>,
    /// In place of the profile's seed.
    pub seed: Option<u64>,
    /// The stream of every row; a row's own number when there is none.
    pub slot: Option<u64>,
    /// The step of every row; the number of tokens drawn before when there is none.
    pub position: Option<u64>,
    /// Tokens of the prompt: one list for all rows, or one for each row of the table.
    pub prompt: Vec<Vec<u32>>,
    /// Tokens drawn before, likewise.
    pub output: Vec<Vec<u32>>,
    /// How many tokens of each distribution are listed.
    pub top: usize,
    /// Whether stages are traced, and the token whose fate is asked for.
    pub trace: Option<Option<u32>>,
}

impl ReportOptions {
    fn history(lists: &[Vec<u32>], row: usize) -> &[u32] {
        match lists {
            [one] => one,
            many => many.get(row).map(Vec::as_slice).unwrap_or_default(),
        }
    }
}

impl Sampler {
    /// Draws a token for some rows of a table, in parallel. A row that is not in the table gives no entry.
    ///
    /// Each entry is a function of its own row: neither the other rows nor the number of threads change it.
    ///
    /// ```
    /// use flow_fabric::sample::{LogitTable, ReportOptions, Sampler, SamplerConfig};
    /// use flow_fabric::{Dtype, array::Array};
    /// let config = SamplerConfig { top_k: Some(1), ..SamplerConfig::default() };
    /// let (sampler, _) = Sampler::compile(&config).unwrap();
    /// let array = Array::from_f64(Dtype::F32, vec![2, 3], &[1.0, 2.0, 3.0, 4.0, f64::NAN, 6.0]).unwrap();
    /// let table = LogitTable::new(&array).unwrap();
    /// let report = sampler.report(&table, &ReportOptions { rows: vec![0, 1], ..ReportOptions::default() });
    /// assert_eq!(report.rows[0].drawn.unwrap().token, 2);
    /// assert_eq!(report.rows[1].error.as_ref().unwrap().nan, 1);
    /// ```
    #[must_use]
    pub fn report(&self, table: &LogitTable, options: &ReportOptions) -> SampleReport {
        let rows = options
            .rows
            .par_iter()
            .map_init(Workspace::default, |workspace, &number| {
                let prompt = ReportOptions::history(&options.prompt, number);
                let output = ReportOptions::history(&options.output, number);
                let row = Row {
                    logits: table.row(number)?,
                    prompt,
                    output,
                    seed: options.seed,
                    slot: options.slot.unwrap_or(number as u64),
                    step: options.position.unwrap_or(output.len() as u64),
                };
                Some(self.report_row(number, &row, options, workspace))
            })
            .collect::<Vec<Option<_>>>();
        SampleReport {
            format: SAMPLE_FORMAT.to_owned(),
            format_version: 1,
            stages: self.stages().iter().map(ToString::to_string).collect(),
            seed: options.seed.unwrap_or(self.seed()),
            logprobs: self.logprobs(),
            dtype: table.dtype(),
            tokens: table.tokens(),
            rows: rows.into_iter().flatten().collect(),
        }
    }

    fn report_row(
        &self,
        number: usize,
        row: &Row<'_>,
        options: &ReportOptions,
        workspace: &mut Workspace,
    ) -> RowReport {
        let (decided, trace) = match options.trace {
            None => (self.decide(row, workspace), None),
            Some(token) => match self.trace(row, token, workspace) {
                Ok((decision, trace)) => (Ok(decision), Some(self.trace_record(row, token, &trace))),
                Err(error) => (Err(error), None),
            },
        };
        let top = workspace.top().iter().map(CandidateRecord::of).collect();
        let left = (options.top > 0 && decided.is_ok()).then(|| self.distribution(row, workspace));
        let distribution = left
            .and_then(Result::ok)
            .map(|left| left.candidates().take(options.top).map(|candidate| CandidateRecord::of(&candidate)).collect())
            .unwrap_or_default();
        RowReport {
            row: number,
            slot: row.slot,
            position: row.step,
            drawn: decided.as_ref().ok().map(Drawn::of),
            error: decided.err().map(|error| RowError::of(error, row.logits.len())),
            distribution,
            top,
            trace,
        }
    }

    fn trace_record(&self, row: &Row<'_>, token: Option<u32>, trace: &Trace) -> TraceRecord {
        let stages = trace.steps.iter().zip(self.stages()).map(|(step, stage)| StageRecord {
            stage: step.stage,
            rule: stage.to_string(),
            kept: step.kept,
            cut: finite(step.cut),
            token: step.token.and_then(finite),
        });
        TraceRecord {
            token,
            logit: token.and_then(|token| row.logits.get(token)).and_then(|logit| finite(logit.into())),
            removed_by: token.and_then(|_| trace.removed_by()),
            stages: stages.collect(),
        }
    }
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

impl Drawn {
    fn of(decision: &Decision) -> Self {
        Self {
            token: decision.token,
            probability: decision.probability,
            logprob: finite(decision.logprob),
            kept: decision.kept,
            gap: finite(decision.gap),
            fallback: decision.fallback,
        }
    }
}

impl CandidateRecord {
    fn of(candidate: &Candidate) -> Self {
        Self {
            token: candidate.token,
            score: candidate.score,
            probability: candidate.probability,
            logprob: finite(candidate.logprob),
        }
    }
}

impl RowError {
    fn of(error: SampleError, tokens: usize) -> Self {
        let none = Self { message: error.to_string(), nan: 0, infinite: 0, masked: 0, tokens, first: None };
        match error {
            SampleError::Invalid { nan, infinite, masked, first, .. } => {
                Self { nan, infinite, masked, first: Some(first), ..none }
            }
            SampleError::NoSurvivor { masked, .. } => Self { masked, ..none },
            SampleError::Token { .. } | SampleError::Length { .. } => none,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::sample::SamplerConfig;

    fn sampler(profile: &str) -> Sampler {
        let config: SamplerConfig = serde_json::from_str(profile).unwrap();
        Sampler::compile(&config).unwrap().0
    }

    fn table(rows: usize, tokens: usize) -> LogitTable {
        let values: Vec<f64> = (0..rows * tokens).map(|at| ((at * 37) % 23) as f64 / 4.0).collect();
        LogitTable::new(&Array::from_f64(Dtype::F32, vec![rows, tokens], &values).unwrap()).unwrap()
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        let (sampler, table) = (sampler(r#"{"top_p": 0.9, "seed": 5}"#), table(9, 40));
        let all = sampler.report(&table, &ReportOptions { rows: (0..9).collect(), top: 4, ..Default::default() });
        for row in 0..9 {
            let alone = sampler.report(&table, &ReportOptions { rows: vec![row], top: 4, ..Default::default() });
            assert_eq!(alone.rows[0], all.rows[row]);
        }
        assert_eq!(sampler.report(&table, &ReportOptions { rows: vec![9], ..Default::default() }).rows, []);
    }

    #[test]
    fn history_is_one_for_all_or_one_each_and_gives_the_step() {
        let (sampler, table) = (sampler(r#"{"repetition_penalty": 9}"#), table(2, 5));
        let report = |output: Vec<Vec<u32>>| {
            let options = ReportOptions { rows: vec![0, 1], output, top: 5, ..Default::default() };
            sampler.report(&table, &options).rows
        };
        let (shared, each) = (report(vec![vec![1, 2]]), report(vec![vec![1, 2], vec![]]));
        assert_eq!(shared[0], each[0]);
        assert_ne!(shared[1].distribution, each[1].distribution);
        assert_eq!([shared[1].position, each[1].position], [2, 0]);
    }
}
