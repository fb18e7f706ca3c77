//! Samplers: from logits to a token, by stages that a profile names.
//!
//! A profile ([`SamplerConfig`], `[sampler.NAME]` in a policy) compiles to a [`Sampler`], an explicit list of [`Stage`]s.
//! [`Sampler::decide`] runs a [`Row`] of logits through them and draws one of the survivors.
//!
//! What it promises:
//!
//! - **One order.** Candidates stand by score descending, then token id ascending, so ties have one outcome.
//! - **Nothing in 16 bits.** Logits are widened to f32, which is exact; probabilities, masses and noise are f64.
//! - **Invalid rows are errors.** A NaN, a +inf on an allowed token, or a row without a survivor never gives a token.
//! - **A draw is a function** of seed, slot, step, token ids and logits. Neither the batch nor the thread count nor the
//!   machine changes it: exponentials, logarithms and the order of every sum are this crate's own.
//!
//! Scores are f32 between stages. A stage that adjusts single scores rounds its result to f32, as the engines do; a
//! temperature is kept aside as a factor in f64. Probabilities of a row that no filter has cut are summed by token id,
//! those of survivors by rank.
//!
//! ```
//! use flow_fabric::sample::{Logits, Row, Sampler, SamplerConfig, Workspace};
//!
//! let config = SamplerConfig { temperature: Some(0.7), top_p: Some(0.9), ..SamplerConfig::default() };
//! let (sampler, _) = Sampler::compile(&config).unwrap();
//! let mut workspace = Workspace::default();
//! let logits = [1.0, 3.0, 2.5, -1.0];
//! let row = Row { seed: Some(7), ..Row::new(Logits::F32(&logits)) };
//! let decision = sampler.decide(&row, &mut workspace).unwrap();
//! assert_eq!(decision.kept, 2);
//! assert!([1, 2].contains(&decision.token));
//! ```

mod adjust;
mod apply;
mod compile;
mod config;
mod decide;
mod dense;
mod inherit;
pub(crate) mod math;
mod order;
mod preset;
mod report;
mod row;
mod run;
mod sort;
mod stage;
mod stream;
mod table;
#[cfg(test)]
mod tests;
pub mod threefry;
mod workspace;

pub(crate) use config::{FIELDS, words};

pub use compile::{ConfigIssue, Sampler};
pub use config::{Boundary, Compat, Logprobs, OnInvalid, Preset, SamplerConfig, Scope, StageKind, Ties, UnknownWord};
pub use decide::Distribution;
pub use inherit::resolve;
pub use report::{
    CandidateRecord, Drawn, ReportOptions, RowError, RowReport, SAMPLE_FORMAT, SampleReport, StageRecord, TraceRecord,
};
pub use row::{Candidate, Decision, Logits, Row, SampleError, Trace, TraceStep};
pub use stage::{Dry, Seen, Stage};
pub use table::{LogitTable, NotLogits};
pub use workspace::Workspace;
