//! Compiled stages.

use std::fmt;

use super::config::{Boundary, Scope, StageKind, Ties};

/// A stage with its checked settings.
///
/// Its `Display` is what `explain` prints: the rule in words, nothing left to a default.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// Masks ids from the limit on.
    VocabLimit(u32),
    /// Masks all but these, ascending.
    Allow(Vec<u32>),
    /// Masks these, ascending.
    Deny(Vec<u32>),
    /// Adds to these scores, by ascending token.
    LogitBias(Vec<(u32, f64)>),
    /// Masks `eos` while the sequence is shorter than `count`.
    MinTokens {
        /// The length from which `eos` is free.
        count: u32,
        /// What is counted.
        scope: Scope,
        /// The tokens to mask.
        eos: Vec<u32>,
    },
    /// Masks tokens that would complete a repeated n-gram.
    NoRepeatNgram(u32),
    /// Divides or multiplies the scores of seen tokens.
    Repetition {
        /// The divisor.
        penalty: f64,
        /// Where tokens count as seen.
        seen: Seen,
    },
    /// Subtracts per occurrence.
    Frequency {
        /// The amount.
        penalty: f64,
        /// Where occurrences count.
        seen: Seen,
    },
    /// Subtracts from tokens that occurred.
    Presence {
        /// The amount.
        penalty: f64,
        /// Where occurrences count.
        seen: Seen,
    },
    /// The DRY penalty.
    Dry(Dry),
    /// Divides scores.
    Temperature(f64),
    /// Divides scores by a temperature chosen by the row's entropy.
    DynamicTemperature {
        /// The lowest temperature.
        min: f64,
        /// The highest.
        max: f64,
        /// Exponent of the normalised entropy.
        exponent: f64,
    },
    /// Temperature 0: keeps the best token.
    Greedy,
    /// Keeps the best k.
    TopK {
        /// How many, `min_keep` taken in.
        k: u32,
        /// What ties with the k-th.
        ties: Ties,
    },
    /// Keeps the nucleus.
    TopP {
        /// Its mass.
        p: f64,
        /// Whether its edge is included.
        boundary: Boundary,
        /// What ties with its last token.
        ties: Ties,
        /// The least number kept.
        min_keep: u32,
    },
    /// Keeps tokens by probability relative to the best.
    MinP {
        /// The share of the best token's probability.
        p: f64,
        /// The least number kept.
        min_keep: u32,
    },
    /// Keeps tokens by distance of their surprise from the entropy.
    TypicalP {
        /// The mass to hold.
        p: f64,
        /// The least number kept.
        min_keep: u32,
    },
    /// Keeps tokens above a probability.
    EpsilonCutoff {
        /// The probability.
        epsilon: f64,
        /// The least number kept.
        min_keep: u32,
    },
    /// Keeps tokens above a probability that falls with the entropy.
    EtaCutoff {
        /// The probability at low entropy.
        eta: f64,
        /// The least number kept.
        min_keep: u32,
    },
    /// Keeps a share of the entropy of the best 100.
    TopH {
        /// The share.
        share: f64,
        /// The least number kept.
        min_keep: u32,
    },
    /// Keeps scores near the largest.
    TopNSigma(f64),
    /// Removes likely tokens, at times.
    Xtc {
        /// How often.
        probability: f64,
        /// What counts as likely.
        threshold: f64,
        /// The least number kept.
        min_keep: u32,
    },
}

/// Which tokens of a sequence count as seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Prompt and output, or output only.
    pub scope: Scope,
    /// At most this many of its last tokens.
    pub window: Option<u32>,
}

impl Seen {
    /// The tokens, as two consecutive parts.
    pub(crate) fn of<'a>(self, prompt: &'a [u32], output: &'a [u32]) -> (&'a [u32], &'a [u32]) {
        let prompt = if self.scope == Scope::All { prompt } else { &[] };
        let Some(window) = self.window else { return (prompt, output) };
        last(prompt, output, window as usize)
    }
}

/// The last `count` tokens of two consecutive parts.
pub(crate) fn last<'a>(prompt: &'a [u32], output: &'a [u32], count: usize) -> (&'a [u32], &'a [u32]) {
    let output = &output[output.len().saturating_sub(count)..];
    let prompt = &prompt[prompt.len().saturating_sub(count - output.len())..];
    (prompt, output)
}

/// Settings of the DRY penalty.
#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    /// Factor of the penalty.
    pub multiplier: f64,
    /// Its growth per token.
    pub base: f64,
    /// Repeats shorter than this cost nothing.
    pub allowed_length: u32,
    /// How many last tokens are searched.
    pub window: Option<u32>,
    /// Sequences that end a repeat.
    pub breakers: Vec<Vec<u32>>,
}

impl Stage {
    /// The stage's name in `order`.
    #[must_use]
    pub const fn kind(&self) -> StageKind {
        match self {
            Stage::VocabLimit(_) => StageKind::VocabLimit,
            Stage::Allow(_) => StageKind::Allow,
            Stage::Deny(_) => StageKind::Deny,
            Stage::LogitBias(_) => StageKind::LogitBias,
            Stage::MinTokens { .. } => StageKind::MinTokens,
            Stage::NoRepeatNgram(_) => StageKind::NoRepeatNgram,
            Stage::Repetition { .. } => StageKind::RepetitionPenalty,
            Stage::Frequency { .. } => StageKind::FrequencyPenalty,
            Stage::Presence { .. } => StageKind::PresencePenalty,
            Stage::Dry(_) => StageKind::Dry,
            Stage::Temperature(_) | Stage::DynamicTemperature { .. } | Stage::Greedy => StageKind::Temperature,
            Stage::TopK { .. } => StageKind::TopK,
            Stage::TopP { .. } => StageKind::TopP,
            Stage::MinP { .. } => StageKind::MinP,
            Stage::TypicalP { .. } => StageKind::TypicalP,
            Stage::EpsilonCutoff { .. } => StageKind::EpsilonCutoff,
            Stage::EtaCutoff { .. } => StageKind::EtaCutoff,
            Stage::TopH { .. } => StageKind::TopH,
            Stage::TopNSigma(_) => StageKind::TopNSigma,
            Stage::Xtc { .. } => StageKind::Xtc,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = if self.scope == Scope::All { "prompt and output" } else { "output" };
        match self.window {
            Some(window) => write!(f, "last {window} of {scope}"),
            None => f.write_str(scope),
        }
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().word())?;
        let keep = |min_keep: u32| if min_keep > 1 { format!(", at least {min_keep}") } else { String::new() };
        match self {
            Stage::VocabLimit(limit) => write!(f, ": ids below {limit}"),
            Stage::Allow(tokens) => write!(f, ": {}", count(tokens.len(), "token")),
            Stage::Deny(tokens) => write!(f, ": {}", count(tokens.len(), "token")),
            Stage::LogitBias(bias) => write!(f, ": {}", count(bias.len(), "token")),
            Stage::MinTokens { count: least, scope, eos } => {
                let scope = if *scope == Scope::All { "the sequence" } else { "the output" };
                write!(f, ": {} masked until {scope} holds {least}", count(eos.len(), "end token"))
            }
            Stage::NoRepeatNgram(n) => write!(f, ": no {n}-gram twice"),
            Stage::Repetition { penalty, seen }
            | Stage::Frequency { penalty, seen }
            | Stage::Presence { penalty, seen } => write!(f, " {penalty} over {seen}"),
            Stage::Dry(dry) => write!(
                f,
                ": {} * {}^(length - {}) over {}",
                dry.multiplier,
                dry.base,
                dry.allowed_length,
                Seen { scope: Scope::All, window: dry.window }
            ),
            Stage::Temperature(temperature) => write!(f, " {temperature}"),
            Stage::DynamicTemperature { min, max, exponent } => {
                write!(f, " {min} to {max} by entropy, exponent {exponent}")
            }
            Stage::Greedy => f.write_str(" 0: the best token"),
            Stage::TopK { k, ties } => write!(f, " {k}, ties {ties}"),
            Stage::TopP { p, boundary, ties, min_keep } => {
                let relation = if *boundary == Boundary::Exclude { "<" } else { "<=" };
                write!(f, " {p}: mass before {relation} p, ties {ties}{}", keep(*min_keep))
            }
            Stage::MinP { p, min_keep } => write!(f, " {p} of the best{}", keep(*min_keep)),
            Stage::TypicalP { p, min_keep } => write!(f, " {p}{}", keep(*min_keep)),
            Stage::EpsilonCutoff { epsilon, min_keep } => write!(f, " {epsilon}{}", keep(*min_keep)),
            Stage::EtaCutoff { eta, min_keep } => write!(f, " {eta}{}", keep(*min_keep)),
            Stage::TopH { share, min_keep } => write!(f, " {share} of the entropy of the best 100{}", keep(*min_keep)),
            Stage::TopNSigma(n) => write!(f, " {n}"),
            Stage::Xtc { probability, threshold, min_keep } => {
                write!(f, ": probability {probability}, threshold {threshold}{}", keep(*min_keep))
            }
        }
    }
}
