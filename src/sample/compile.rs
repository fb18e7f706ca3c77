//! From a profile as written to an explicit list of stages.

use super::config::{Boundary, Compat, FIELDS, Logprobs, OnInvalid, SamplerConfig, Scope, StageKind, Ties};
use super::preset;
use super::stage::{Dry, Seen, Stage};
use super::threefry::Layout;
use crate::finding::{Code, Severity, code};
use crate::policy::language::Kind;

/// What is wrong, or probably wrong, with a key of a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigIssue {
    /// The key.
    pub key: &'static str,
    /// The kind of finding that it is.
    pub code: &'static Code,
    /// One sentence, lower case, user text in backticks.
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
}

impl ConfigIssue {
    /// [`Severity::Error`] when the profile cannot be compiled.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.code.severity
    }
}

/// A compiled sampler: stages in order, and how to draw. Cheap to share; [`Workspace`](super::Workspace) holds what changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    pub(crate) stages: Vec<Stage>,
    pub(crate) seed: u64,
    pub(crate) compat: Compat,
    pub(crate) noise_layout: Layout,
    pub(crate) on_invalid: OnInvalid,
    pub(crate) logprobs: Logprobs,
    pub(crate) top_logprobs: usize,
}

/// Temperatures between 0 and this are refused: one over them squared overflows, and 0 says what they mean.
const SMALLEST_TEMPERATURE: f64 = 1e-6;
/// Temperatures between 0 and this are a warning.
const LOW_TEMPERATURE: f64 = 0.01;

impl SamplerConfig {
    /// This profile with what its preset fixes and, for the rest, the defaults. Keys that have none stay unset.
    ///
    /// ```
    /// use flow_fabric::sample::{Boundary, Preset, SamplerConfig};
    /// let config = SamplerConfig { preset: Some(Preset::Grok1), ..SamplerConfig::default() };
    /// assert_eq!(config.filled().boundary, Some(Boundary::Include));
    /// ```
    #[must_use]
    pub fn filled(&self) -> Self {
        let rules = self.preset.map(super::config::Preset::rules).unwrap_or_default();
        self.over(&rules).over(&preset::defaults())
    }
}

impl Sampler {
    /// Checks a profile, fills in its preset and compiles it. Warnings come with the sampler.
    ///
    /// `inherit` must have been resolved before (see [`resolve`](super::resolve)).
    ///
    /// # Errors
    ///
    /// Every key that is out of its range, names a stage twice, or sets a stage that `order` leaves out.
    ///
    /// ```
    /// use flow_fabric::sample::{Preset, Sampler, SamplerConfig};
    /// let config = SamplerConfig {
    ///     preset: Some(Preset::Grok1),
    ///     temperature: Some(0.7),
    ///     top_p: Some(0.95),
    ///     ..SamplerConfig::default()
    /// };
    /// let (sampler, warnings) = Sampler::compile(&config).unwrap();
    /// assert!(warnings.is_empty());
    /// let stages: Vec<String> = sampler.stages().iter().map(ToString::to_string).collect();
    /// assert_eq!(stages, ["temperature 0.7", "top_p 0.95: mass before <= p, ties keep"]);
    ///
    /// let wrong = SamplerConfig { top_p: Some(1.5), ..SamplerConfig::default() };
    /// assert_eq!(Sampler::compile(&wrong).unwrap_err()[0].to_string(), "`top_p` cannot be 1.5");
    /// ```
    pub fn compile(config: &SamplerConfig) -> Result<(Self, Vec<ConfigIssue>), Vec<ConfigIssue>> {
        let full = config.filled();
        let mut issues = Vec::new();
        check_ranges(config, &mut issues);
        check_order(config, &full, &mut issues);
        check_pairs(config, &full, &mut issues);
        if issues.iter().any(|issue| issue.severity() == Severity::Error) {
            return Err(issues);
        }
        let order = full.order.clone().unwrap_or_default();
        let sampler = Self {
            stages: greedy_last(order.iter().filter_map(|&kind| stage(kind, &full)).collect()),
            seed: full.seed.unwrap_or(0),
            compat: full.compat.unwrap_or(Compat::None),
            noise_layout: full.noise_layout.unwrap_or(Layout::Legacy),
            on_invalid: full.on_invalid.unwrap_or(OnInvalid::Error),
            logprobs: full.logprobs.unwrap_or(Logprobs::Processed),
            top_logprobs: full.top_logprobs.unwrap_or(0) as usize,
        };
        Ok((sampler, issues))
    }

    /// The stages, in the order they run.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The profile's seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The stage at which log-probabilities are taken.
    #[must_use]
    pub const fn logprobs(&self) -> Logprobs {
        self.logprobs
    }
}

fn error(key: &'static str, message: String, help: impl Into<String>) -> ConfigIssue {
    ConfigIssue { key, code: &code::BAD_VALUE, message, help: Some(help.into()) }
}

/// Holds every number that is set against its range in [`FIELDS`].
fn check_ranges(config: &SamplerConfig, issues: &mut Vec<ConfigIssue>) {
    let kind = |key: &str| FIELDS.iter().find(|field| field.key == key);
    for (name, value) in numbers(config) {
        let Some(key) = kind(name) else { continue };
        let (min, max) = match key.kind {
            Kind::Number { min, max } | Kind::Named(&Kind::Number { min, max }) => (min, max),
            #[expect(clippy::cast_precision_loss, reason = "bounds are below 2^53 or stand for no bound")]
            Kind::Integer { min, max } => (min as f64, max as f64),
            _ => continue,
        };
        if !(min..=max).contains(&value) {
            let help = if max >= 4e9 { format!("at least {min}") } else { format!("{min} to {max}") };
            issues.push(error(key.key, format!("`{}` cannot be {value}", key.key), help));
        }
    }
    if let Some(temperature) = config.temperature {
        if temperature > 0.0 && temperature < SMALLEST_TEMPERATURE {
            issues.push(error(
                "temperature",
                format!("`temperature` cannot be {temperature}"),
                format!("0 takes the best token; otherwise at least {SMALLEST_TEMPERATURE}"),
            ));
        } else if temperature > 0.0 && temperature < LOW_TEMPERATURE {
            issues.push(ConfigIssue {
                key: "temperature",
                code: &code::NEAR_GREEDY,
                message: format!("a temperature of {temperature} is greedy but for near ties"),
                help: Some("write 0 for the best token, or at least 0.01".to_owned()),
            });
        }
    }
    for (key, tokens) in [("allow", &config.allow), ("eos", &config.eos)] {
        if tokens.as_ref().is_some_and(Vec::is_empty) {
            issues.push(error(key, format!("`{key}` is empty"), "name a token, or leave the key out"));
        }
    }
    if config.dry_breakers.iter().flatten().any(Vec::is_empty) {
        issues.push(error("dry_breakers", "a sequence of `dry_breakers` is empty".to_owned(), "name its tokens"));
    }
}

/// Every number that is set, with its key.
fn numbers(config: &SamplerConfig) -> impl Iterator<Item = (&'static str, f64)> {
    let floats = [
        ("temperature", config.temperature),
        ("dynatemp_range", config.dynatemp_range),
        ("dynatemp_exponent", config.dynatemp_exponent),
        ("top_p", config.top_p),
        ("min_p", config.min_p),
        ("typical_p", config.typical_p),
        ("epsilon_cutoff", config.epsilon_cutoff),
        ("eta_cutoff", config.eta_cutoff),
        ("top_h", config.top_h),
        ("top_n_sigma", config.top_n_sigma),
        ("xtc_probability", config.xtc_probability),
        ("xtc_threshold", config.xtc_threshold),
        ("repetition_penalty", config.repetition_penalty),
        ("frequency_penalty", config.frequency_penalty),
        ("presence_penalty", config.presence_penalty),
        ("dry_multiplier", config.dry_multiplier),
        ("dry_base", config.dry_base),
    ];
    let integers = [
        ("top_k", config.top_k),
        ("top_logprobs", config.top_logprobs),
        ("vocab_limit", config.vocab_limit),
        ("min_tokens", config.min_tokens),
        ("no_repeat_ngram", config.no_repeat_ngram),
        ("penalty_window", config.penalty_window),
        ("dry_allowed_length", config.dry_allowed_length),
        ("dry_window", config.dry_window),
        ("min_keep", config.min_keep),
    ];
    let biases: Vec<_> = config.logit_bias.iter().flatten().map(|(_, &bias)| ("logit_bias", bias)).collect();
    floats
        .into_iter()
        .chain(integers.map(|(key, value)| (key, value.map(f64::from))))
        .filter_map(|(key, value)| Some((key, value?)))
        .chain(biases)
}

/// A stage that is set and not in `order` would never run.
fn check_order(config: &SamplerConfig, full: &SamplerConfig, issues: &mut Vec<ConfigIssue>) {
    let order = full.order.as_deref().unwrap_or_default();
    for (at, kind) in order.iter().enumerate() {
        if order[..at].contains(kind) {
            issues.push(error("order", format!("`order` names `{kind}` twice"), "a stage runs once"));
        }
    }
    for &kind in StageKind::ALL {
        if stage(kind, full).is_none() || order.contains(&kind) {
            continue;
        }
        let key = main_key(kind);
        issues.push(match (config.order.is_some(), config.preset) {
            (false, Some(preset)) => error(
                key,
                format!("`{key}` is set, and preset `{preset}` has no such stage"),
                format!("give an `order` that names `{kind}`, or leave `{key}` out"),
            ),
            _ => error(
                key,
                format!("`{key}` is set, and `order` does not name its stage"),
                format!("add `{kind}` where it should run"),
            ),
        });
    }
}

/// The key that switches a stage on.
const fn main_key(kind: StageKind) -> &'static str {
    match kind {
        StageKind::Dry => "dry_multiplier",
        StageKind::Xtc => "xtc_probability",
        other => other.word(),
    }
}

/// Keys that need or exclude one another.
fn check_pairs(config: &SamplerConfig, full: &SamplerConfig, issues: &mut Vec<ConfigIssue>) {
    if full.min_tokens > Some(0) && full.eos.is_none() {
        issues.push(ConfigIssue {
            code: &code::MISSING_KEY,
            ..error("min_tokens", "`min_tokens` needs `eos`".to_owned(), "list the end tokens as `eos`")
        });
    }
    if full.temperature == Some(0.0) {
        for key in ["seed", "dynatemp_range"] {
            if config.is_set(key) {
                issues.push(ConfigIssue {
                    key,
                    code: &code::NO_EFFECT,
                    message: format!("`{key}` has no effect: a temperature of 0 takes the best token"),
                    help: Some(format!("leave `{key}` out, or raise the temperature")),
                });
            }
        }
    }
    if let (Some(range), Some(temperature)) = (full.dynatemp_range, full.temperature)
        && range > 0.0
        && temperature - range < SMALLEST_TEMPERATURE
        && temperature > 0.0
    {
        issues.push(error(
            "dynatemp_range",
            format!("the range {} to {} reaches 0", temperature - range, temperature + range),
            "keep `temperature - dynatemp_range` above 0",
        ));
    }
    if config.noise_layout.is_some() && full.compat == Some(Compat::None) {
        issues.push(no_effect("noise_layout", "compat"));
    }
    let companions: [(&'static str, StageKind, &'static str); 12] = [
        ("top_k_ties", StageKind::TopK, "top_k"),
        ("boundary", StageKind::TopP, "top_p"),
        ("ties", StageKind::TopP, "top_p"),
        ("xtc_threshold", StageKind::Xtc, "xtc_probability"),
        ("eos", StageKind::MinTokens, "min_tokens"),
        ("min_tokens_scope", StageKind::MinTokens, "min_tokens"),
        ("repetition_scope", StageKind::RepetitionPenalty, "repetition_penalty"),
        ("dry_base", StageKind::Dry, "dry_multiplier"),
        ("dry_allowed_length", StageKind::Dry, "dry_multiplier"),
        ("dry_window", StageKind::Dry, "dry_multiplier"),
        ("dry_breakers", StageKind::Dry, "dry_multiplier"),
        ("dynatemp_exponent", StageKind::Temperature, "dynatemp_range"),
    ];
    for (key, kind, needs) in companions {
        if config.is_set(key) && stage(kind, full).is_none() {
            issues.push(no_effect(key, needs));
        }
    }
}

fn no_effect(key: &'static str, needs: &str) -> ConfigIssue {
    ConfigIssue {
        key,
        code: &code::NO_EFFECT,
        message: format!("`{key}` has no effect without `{needs}`"),
        help: Some(format!("set `{needs}`, or leave `{key}` out")),
    }
}

/// Puts a greedy choice after every mask and penalty. Filters that would follow it cannot remove the best token.
fn greedy_last(mut stages: Vec<Stage>) -> Vec<Stage> {
    if let Some(at) = stages.iter().position(|stage| *stage == Stage::Greedy) {
        let later = stages.split_off(at + 1);
        let greedy = stages.pop();
        stages.extend(later.into_iter().filter(|stage| !stage.kind().is_filter()));
        stages.extend(greedy);
    }
    stages
}

/// The stage of a kind, unless its settings are neutral.
fn stage(kind: StageKind, full: &SamplerConfig) -> Option<Stage> {
    let min_keep = full.min_keep.unwrap_or(1);
    let number = |value: Option<f64>, neutral: f64| value.filter(|&value| value != neutral);
    let count = |value: Option<u32>| value.filter(|&value| value > 0);
    let frequency = Seen { scope: full.frequency_scope.unwrap_or(Scope::Output), window: full.penalty_window };
    Some(match kind {
        StageKind::VocabLimit => Stage::VocabLimit(full.vocab_limit?),
        StageKind::Allow => Stage::Allow(ascending(full.allow.as_deref()?)),
        StageKind::Deny => Stage::Deny(ascending(full.deny.as_deref()?)),
        StageKind::LogitBias => {
            Stage::LogitBias(full.logit_bias.as_ref()?.iter().map(|(&token, &bias)| (token, bias)).collect())
        }
        StageKind::MinTokens => Stage::MinTokens {
            count: count(full.min_tokens)?,
            scope: full.min_tokens_scope.unwrap_or(Scope::Output),
            eos: ascending(full.eos.as_deref().unwrap_or_default()),
        },
        StageKind::NoRepeatNgram => Stage::NoRepeatNgram(count(full.no_repeat_ngram)?),
        StageKind::RepetitionPenalty => Stage::Repetition {
            penalty: number(full.repetition_penalty, 1.0)?,
            seen: Seen { scope: full.repetition_scope.unwrap_or(Scope::All), window: full.penalty_window },
        },
        StageKind::FrequencyPenalty => {
            Stage::Frequency { penalty: number(full.frequency_penalty, 0.0)?, seen: frequency }
        }
        StageKind::PresencePenalty => Stage::Presence { penalty: number(full.presence_penalty, 0.0)?, seen: frequency },
        StageKind::Dry => Stage::Dry(Dry {
            multiplier: number(full.dry_multiplier, 0.0)?,
            base: full.dry_base.unwrap_or(1.75),
            allowed_length: full.dry_allowed_length.unwrap_or(2),
            window: full.dry_window,
            breakers: full.dry_breakers.clone().unwrap_or_default(),
        }),
        StageKind::Temperature => temperature(full)?,
        StageKind::TopK => {
            Stage::TopK { k: count(full.top_k)?.max(min_keep), ties: full.top_k_ties.unwrap_or(Ties::ById) }
        }
        StageKind::TopP => Stage::TopP {
            p: number(full.top_p, 1.0)?,
            boundary: full.boundary.unwrap_or(Boundary::Exclude),
            ties: full.ties.unwrap_or(Ties::ById),
            min_keep,
        },
        StageKind::MinP => Stage::MinP { p: number(full.min_p, 0.0)?, min_keep },
        StageKind::TypicalP => Stage::TypicalP { p: number(full.typical_p, 1.0)?, min_keep },
        StageKind::EpsilonCutoff => Stage::EpsilonCutoff { epsilon: number(full.epsilon_cutoff, 0.0)?, min_keep },
        StageKind::EtaCutoff => Stage::EtaCutoff { eta: number(full.eta_cutoff, 0.0)?, min_keep },
        StageKind::TopH => Stage::TopH { share: number(full.top_h, 1.0)?, min_keep },
        StageKind::TopNSigma => Stage::TopNSigma(number(full.top_n_sigma, 0.0)?),
        StageKind::Xtc => Stage::Xtc {
            probability: number(full.xtc_probability, 0.0)?,
            threshold: full.xtc_threshold.unwrap_or(0.1),
            min_keep,
        },
    })
}

fn temperature(full: &SamplerConfig) -> Option<Stage> {
    let temperature = full.temperature.unwrap_or(1.0);
    let range = full.dynatemp_range.unwrap_or(0.0);
    if temperature == 0.0 {
        Some(Stage::Greedy)
    } else if range > 0.0 {
        let exponent = full.dynatemp_exponent.unwrap_or(1.0);
        Some(Stage::DynamicTemperature { min: temperature - range, max: temperature + range, exponent })
    } else {
        (temperature != 1.0).then_some(Stage::Temperature(temperature))
    }
}

fn ascending(tokens: &[u32]) -> Vec<u32> {
    let mut tokens = tokens.to_vec();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}
