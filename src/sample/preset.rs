//! The order of stages and the rules that each engine has.
//!
//! Sources: `runners.py` of xai-org/grok-1 at 7050ed2; `GenerationMixin._get_logits_processor` of transformers 5.23;
//! `vllm/v1/sample` of vLLM 0.33; `common_params_sampling` of the llama.cpp in llama-cpp-python 0.3.36.

use super::config::{Boundary, Compat, Logprobs, OnInvalid, Preset, SamplerConfig, Scope, StageKind, Ties};
use super::threefry::Layout;
use StageKind as S;

impl Preset {
    /// What the preset fixes, as a profile: the order of stages and the rules, no values.
    #[must_use]
    pub fn rules(self) -> SamplerConfig {
        let order = |stages: &[StageKind]| Some(stages.to_vec());
        match self {
            Preset::Grok1 => SamplerConfig {
                order: order(&[S::Temperature, S::VocabLimit, S::Allow, S::Deny, S::TopP]),
                boundary: Some(Boundary::Include),
                ties: Some(Ties::Keep),
                compat: Some(Compat::Grok1),
                noise_layout: Some(Layout::Legacy),
                ..SamplerConfig::default()
            },
            Preset::Hf => SamplerConfig {
                order: order(&[
                    S::LogitBias,
                    S::RepetitionPenalty,
                    S::NoRepeatNgram,
                    S::Deny,
                    S::MinTokens,
                    S::Allow,
                    S::VocabLimit,
                    S::Temperature,
                    S::TopH,
                    S::TopK,
                    S::TopP,
                    S::MinP,
                    S::TypicalP,
                    S::EpsilonCutoff,
                    S::EtaCutoff,
                ]),
                top_k_ties: Some(Ties::Keep),
                ..SamplerConfig::default()
            },
            Preset::Vllm => SamplerConfig {
                order: order(&[
                    S::VocabLimit,
                    S::Allow,
                    S::Deny,
                    S::MinTokens,
                    S::LogitBias,
                    S::RepetitionPenalty,
                    S::FrequencyPenalty,
                    S::PresencePenalty,
                    S::Temperature,
                    S::MinP,
                    S::TopK,
                    S::TopP,
                ]),
                top_k_ties: Some(Ties::Keep),
                logprobs: Some(Logprobs::Raw),
                ..SamplerConfig::default()
            },
            Preset::LlamaCpp => SamplerConfig {
                order: order(&[
                    S::LogitBias,
                    S::VocabLimit,
                    S::Allow,
                    S::Deny,
                    S::RepetitionPenalty,
                    S::FrequencyPenalty,
                    S::PresencePenalty,
                    S::Dry,
                    S::TopNSigma,
                    S::TopK,
                    S::TypicalP,
                    S::TopP,
                    S::MinP,
                    S::Xtc,
                    S::Temperature,
                ]),
                frequency_scope: Some(Scope::All),
                penalty_window: Some(64),
                ..SamplerConfig::default()
            },
        }
    }
}

/// What holds without a preset.
pub(crate) fn defaults() -> SamplerConfig {
    SamplerConfig {
        order: Some(StageKind::ALL.to_vec()),
        seed: Some(0),
        compat: Some(Compat::None),
        noise_layout: Some(Layout::Legacy),
        on_invalid: Some(OnInvalid::Error),
        logprobs: Some(Logprobs::Processed),
        top_logprobs: Some(0),
        min_tokens: Some(0),
        min_tokens_scope: Some(Scope::Output),
        no_repeat_ngram: Some(0),
        repetition_penalty: Some(1.0),
        repetition_scope: Some(Scope::All),
        frequency_penalty: Some(0.0),
        presence_penalty: Some(0.0),
        frequency_scope: Some(Scope::Output),
        dry_multiplier: Some(0.0),
        dry_base: Some(1.75),
        dry_allowed_length: Some(2),
        temperature: Some(1.0),
        dynatemp_range: Some(0.0),
        dynatemp_exponent: Some(1.0),
        top_k: Some(0),
        top_k_ties: Some(Ties::ById),
        top_p: Some(1.0),
        boundary: Some(Boundary::Exclude),
        ties: Some(Ties::ById),
        min_p: Some(0.0),
        typical_p: Some(1.0),
        epsilon_cutoff: Some(0.0),
        eta_cutoff: Some(0.0),
        top_h: Some(1.0),
        top_n_sigma: Some(0.0),
        xtc_probability: Some(0.0),
        xtc_threshold: Some(0.1),
        min_keep: Some(1),
        ..SamplerConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::language::Presence;
    use crate::sample::config::FIELDS;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let defaults = serde_json::to_value(defaults()).unwrap();
        for key in FIELDS {
            let Presence::Default(documented) = key.presence else {
                assert!(defaults[key.key].is_null(), "{}", key.key);
                continue;
            };
            let documented = documented.split(" (").next().unwrap_or("");
            match &defaults[key.key] {
                serde_json::Value::Null => assert!(documented.starts_with("(no limit"), "{}", key.key),
                serde_json::Value::Array(_) => {}
                serde_json::Value::Number(number) => {
                    assert_eq!(Some(documented.parse::<f64>().unwrap()), number.as_f64(), "{}", key.key);
                }
                value => assert_eq!(documented, value.to_string(), "{}", key.key),
            }
        }
    }

    #[test]
    fn presets_fix_order_and_rules_but_no_values() {
        for &preset in Preset::ALL {
            let rules = preset.rules();
            for key in FIELDS.iter().filter(|key| rules.is_set(key.key)) {
                let rule = matches!(
                    key.key,
                    "order"
                        | "boundary"
                        | "ties"
                        | "top_k_ties"
                        | "compat"
                        | "noise_layout"
                        | "logprobs"
                        | "frequency_scope"
                        | "penalty_window"
                );
                assert!(rule, "{preset} sets {}", key.key);
            }
        }
    }
}
