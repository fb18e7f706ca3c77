//! What a sampler profile says, as written: every key optional, nothing checked yet.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::threefry::Layout;
use crate::policy::language::{Field, Kind, Presence, Word};

/// Sets an enum of words: what a key takes, how each is spelt, what it means.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident: $($variant:ident $word:literal $doc:literal;)+) => {
        $(#[$outer])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        pub enum $name {
            $( #[doc = $doc] #[serde(rename = $word)] $variant, )+
        }

        impl $name {
            /// Every value, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The words and their meanings.
            pub(crate) const WORDS: &'static [crate::policy::language::Word] =
                &[$(crate::policy::language::Word { word: $word, doc: $doc }),+];

            /// The word that stands for it in a profile.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::sample::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let known = Self::ALL.iter().copied().find(|value| value.word() == text);
                known.ok_or_else(|| $crate::sample::UnknownWord::new(text, Self::WORDS))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

pub(crate) use words;

/// A word that is none of those a key takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is none of {known}")]
pub struct UnknownWord {
    text: String,
    known: String,
}

impl UnknownWord {
    pub(crate) fn new(text: &str, words: &[Word]) -> Self {
        let known = words.iter().map(|word| format!("`{}`", word.word)).collect::<Vec<_>>().join(", ");
        Self { text: text.to_owned(), known }
    }
}

words! {
    /// An engine whose sampler a profile follows. It fixes the order of stages and the rules of each, no values.
    Preset:
    Grok1 "grok-1" "Grok-1's `sample_token`: temperature, masks, nucleus with `boundary = \"include\"` and `ties = \"keep\"`.";
    Hf "hf" "Hugging Face `generate`: penalties, temperature, then filters; ties of the k-th score are kept.";
    Vllm "vllm" "vLLM: masks, penalties (frequency and presence over the output), temperature, min-p, top-k, top-p.";
    LlamaCpp "llama-cpp" "llama.cpp: penalties over the last 64 tokens, filters, temperature last.";
}

words! {
    /// A stage of a sampler.
    StageKind:
    VocabLimit "vocab_limit" "Masks padding rows of the vocabulary.";
    Allow "allow" "Masks every token that is not listed.";
    Deny "deny" "Masks the listed tokens.";
    LogitBias "logit_bias" "Adds to the scores of listed tokens.";
    MinTokens "min_tokens" "Masks end tokens until the output is long enough.";
    NoRepeatNgram "no_repeat_ngram" "Masks tokens that would repeat an n-gram.";
    RepetitionPenalty "repetition_penalty" "Divides positive scores of seen tokens, multiplies negative ones.";
    FrequencyPenalty "frequency_penalty" "Subtracts in proportion to a token's count.";
    PresencePenalty "presence_penalty" "Subtracts from tokens that occurred.";
    Dry "dry" "Subtracts from tokens that would continue a repeated sequence.";
    Temperature "temperature" "Divides scores.";
    TopK "top_k" "Keeps the best k.";
    TopP "top_p" "Keeps the nucleus.";
    MinP "min_p" "Keeps what is likely enough beside the likeliest.";
    TypicalP "typical_p" "Keeps tokens whose surprise is near the entropy.";
    EpsilonCutoff "epsilon_cutoff" "Keeps tokens above a probability.";
    EtaCutoff "eta_cutoff" "Keeps tokens above a probability that falls with the entropy.";
    TopH "top_h" "Keeps a share of the entropy.";
    TopNSigma "top_n_sigma" "Keeps scores within n standard deviations of the largest.";
    Xtc "xtc" "Removes all but the last of the likely tokens, at times.";
}

words! {
    /// Whether a nucleus includes a token that starts exactly at its edge.
    Boundary:
    Exclude "exclude" "Keeps a token while the mass before it is less than p.";
    Include "include" "Keeps a token while the mass before it is at most p.";
}

words! {
    /// What happens to tokens whose score equals the last kept one.
    Ties:
    ById "by-id" "The lower token id is kept, so that exactly as many are kept as the rule says.";
    Keep "keep" "All of them are kept.";
}

words! {
    /// Which part of a sequence a penalty looks at.
    Scope:
    All "all" "Prompt and output.";
    Output "output" "The output only.";
}

words! {
    /// What happens to a row that cannot be sampled.
    OnInvalid:
    Error "error" "The row is an error that says what is wrong with it.";
    Greedy "greedy" "The largest finite score is taken and the result is marked; without one the row is an error.";
}

words! {
    /// Whose random numbers are drawn.
    Compat:
    None "none" "f64 Gumbel noise from Threefry-2x32-20 over seed, slot, step and token id.";
    Grok1 "grok-1" "Grok-1's chain of JAX keys and its f32 noise; the seed wraps to 32 bits and slots share it, as there.";
}

words! {
    /// The stage at which log-probabilities are taken.
    Logprobs:
    Processed "processed" "After every stage: the distribution that was drawn from.";
    Raw "raw" "Before any stage: the softmax of the model's logits.";
}

/// Token ids and counts of tokens.
const LARGEST: i64 = u32::MAX as i64;
const SHARE: Kind = Kind::Number { min: 0.0, max: 1.0 };
const COUNT: Kind = Kind::Integer { min: 0, max: LARGEST };
const SCOPE: Kind = Kind::Words(Scope::WORDS);
const TOKENS: Kind = Kind::List(&COUNT);

/// No default stands as an empty string.
const fn presence(default: &'static str) -> Presence {
    if default.is_empty() { Presence::Optional } else { Presence::Default(default) }
}

macro_rules! keys {
    ($( $field:ident: $type:ty, $kind:expr, $default:literal, $doc:literal; )*) => {
        /// A sampler profile as written. [`Sampler::compile`](super::Sampler::compile) checks it.
        ///
        /// A stage is active when its key is set to something other than its neutral value. Stages run in `order`,
        /// which a preset fixes; nothing else happens to the scores.
        ///
        /// ```
        /// use flow_fabric::sample::SamplerConfig;
        /// let config = SamplerConfig { temperature: Some(0.7), top_p: Some(0.95), ..SamplerConfig::default() };
        /// assert_eq!(config.top_k, None);
        /// ```
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct SamplerConfig {
            $(
                #[doc = $doc]
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        /// Every key of a profile, for the checker, the schema and the reference.
        pub(crate) const FIELDS: &[Field] = &[
            $( Field { key: stringify!($field), kind: $kind, presence: presence($default), doc: $doc }, )*
        ];

        impl SamplerConfig {
            /// This profile on top of another: each key it sets wins, `inherit` is dropped.
            #[must_use]
            pub fn over(&self, base: &Self) -> Self {
                let mut merged = Self { $( $field: self.$field.clone().or_else(|| base.$field.clone()), )* };
                merged.inherit = None;
                merged
            }

            /// Whether the key is set.
            pub(crate) fn is_set(&self, key: &str) -> bool {
                match key {
                    $( stringify!($field) => self.$field.is_some(), )*
                    _ => false,
                }
            }
        }
    };
}

keys! {
    inherit: String, Kind::String("sampler"), "",
        "Another profile whose keys hold where this one sets none.";
    preset: Preset, Kind::Words(Preset::WORDS), "",
        "The engine whose order of stages and rules this profile follows. Values are yours to set.";
    order: Vec<StageKind>, Kind::List(&Kind::Words(StageKind::WORDS)), "(the order in which the stages are listed)",
        "The stages in the order they run. Every stage that is set must be named.";
    seed: u64, Kind::Integer { min: 0, max: i64::MAX }, "0",
        "Seed of the draw. A request's own seed comes before it.";
    compat: Compat, Kind::Words(Compat::WORDS), "\"none\" (\"grok-1\" under that preset)",
        "Whose random numbers are drawn.";
    noise_layout: Layout,
        Kind::Words(&[
            Word { word: "partitionable", doc: "JAX's layout since 0.5.0." },
            Word { word: "legacy", doc: "JAX's layout before 0.5.0, in use by Grok-1's pinned version." },
        ]),
        "\"legacy\"",
        "Layout of JAX's random bits under `compat = \"grok-1\"`.";
    on_invalid: OnInvalid, Kind::Words(OnInvalid::WORDS), "\"error\"",
        "What happens to a row with a NaN or +inf on an allowed token.";
    logprobs: Logprobs, Kind::Words(Logprobs::WORDS), "\"processed\" (\"raw\" under `vllm`)",
        "The stage at which reported log-probabilities are taken.";
    top_logprobs: u32, Kind::Integer { min: 0, max: 1024 }, "0",
        "How many of the likeliest tokens a result lists.";
    vocab_limit: u32, Kind::Integer { min: 1, max: LARGEST }, "",
        "Number of real tokens; ids from here on are padding and masked.";
    allow: Vec<u32>, TOKENS, "",
        "The only tokens that may be drawn.";
    deny: Vec<u32>, TOKENS, "",
        "Tokens that may not be drawn.";
    logit_bias: BTreeMap<u32, f64>, Kind::Named(&Kind::Number { min: -1e6, max: 1e6 }), "",
        "Added to the scores of these tokens.";
    min_tokens: u32, COUNT, "0",
        "`eos` tokens are masked while fewer tokens than this have come.";
    min_tokens_scope: Scope, SCOPE, "\"output\"",
        "Which tokens `min_tokens` counts.";
    eos: Vec<u32>, TOKENS, "",
        "End-of-sequence tokens, for `min_tokens`.";
    no_repeat_ngram: u32, COUNT, "0",
        "Masks tokens that would complete an n-gram of this length a second time; 0 is off.";
    repetition_penalty: f64, Kind::Number { min: 0.01, max: 100.0 }, "1",
        "Positive scores of tokens that occurred are divided by it, negative ones multiplied, once per token.";
    repetition_scope: Scope, SCOPE, "\"all\"",
        "Which tokens `repetition_penalty` looks at.";
    frequency_penalty: f64, Kind::Number { min: -100.0, max: 100.0 }, "0",
        "Subtracted from a token's score for each time it occurred.";
    presence_penalty: f64, Kind::Number { min: -100.0, max: 100.0 }, "0",
        "Subtracted from a token's score if it occurred.";
    frequency_scope: Scope, SCOPE, "\"output\" (\"all\" under `llama-cpp`)",
        "Which tokens `frequency_penalty` and `presence_penalty` look at.";
    penalty_window: u32, COUNT, "(no limit; 64 under `llama-cpp`)",
        "The three penalties look at no more than this many last tokens of their scope.";
    dry_multiplier: f64, Kind::Number { min: 0.0, max: 100.0 }, "0",
        "DRY: a token that would continue a repeated sequence loses `multiplier * base^(length - allowed_length)`; 0 is off.";
    dry_base: f64, Kind::Number { min: 1.0, max: 100.0 }, "1.75",
        "DRY: growth of the penalty per token of repeated length.";
    dry_allowed_length: u32, Kind::Integer { min: 1, max: LARGEST }, "2",
        "DRY: repeats shorter than this cost nothing.";
    dry_window: u32, COUNT, "(no limit)",
        "DRY: how many last tokens of prompt and output are searched.";
    dry_breakers: Vec<Vec<u32>>, Kind::List(&TOKENS), "",
        "DRY: token sequences that end a repeat; a single one is never penalised.";
    temperature: f64, Kind::Number { min: 0.0, max: 1000.0 }, "1",
        "Divides scores; 0 takes the best token once every mask and penalty has acted.";
    dynatemp_range: f64, Kind::Number { min: 0.0, max: 1000.0 }, "0",
        "Half-width of a range around `temperature` within which the entropy of the row chooses.";
    dynatemp_exponent: f64, Kind::Number { min: 0.0, max: 100.0 }, "1",
        "Exponent of the normalised entropy in that choice.";
    top_k: u32, COUNT, "0",
        "Keeps the k best tokens; 0 is off. More than there are keeps all.";
    top_k_ties: Ties, Kind::Words(Ties::WORDS), "\"by-id\" (\"keep\" under `hf` and `vllm`)",
        "Tokens that tie with the k-th.";
    top_p: f64, SHARE, "1",
        "Keeps the nucleus: the best tokens that hold this much probability. The best token always stays; 1 is off.";
    boundary: Boundary, Kind::Words(Boundary::WORDS), "\"exclude\" (\"include\" under `grok-1`)",
        "Whether the nucleus takes in a token before which the mass is exactly `top_p`.";
    ties: Ties, Kind::Words(Ties::WORDS), "\"by-id\" (\"keep\" under `grok-1`)",
        "Tokens that tie with the last one of the nucleus.";
    min_p: f64, SHARE, "0",
        "Keeps tokens with at least this share of the best token's probability; 0 is off.";
    typical_p: f64, SHARE, "1",
        "Keeps the tokens whose surprise is nearest to the entropy until they hold this much probability; ties stay. 1 is off.";
    epsilon_cutoff: f64, SHARE, "0",
        "Keeps tokens of at least this probability; 0 is off.";
    eta_cutoff: f64, SHARE, "0",
        "Keeps tokens of at least `min(eta, sqrt(eta) * exp(-entropy))`; 0 is off.";
    top_h: f64, SHARE, "1",
        "Keeps the best tokens that hold this share of the entropy of the best 100; 1 is off.";
    top_n_sigma: f64, Kind::Number { min: 0.0, max: 1000.0 }, "0",
        "Keeps scores of at least `max - n * standard deviation`; 0 is off.";
    xtc_probability: f64, SHARE, "0",
        "Chance that XTC acts on a step; 0 is off.";
    xtc_threshold: f64, Kind::Number { min: 0.0, max: 0.5 }, "0.1",
        "XTC removes all but the last of the tokens that have at least this probability.";
    min_keep: u32, Kind::Integer { min: 1, max: LARGEST }, "1",
        "No filter leaves fewer tokens than this.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented_and_known_to_serde() {
        for key in FIELDS {
            assert!(key.doc.ends_with('.'), "{}", key.key);
            let json = format!("{{\"{}\": null}}", key.key);
            assert!(serde_json::from_str::<SamplerConfig>(&json).is_ok(), "{json}");
        }
        assert!(serde_json::from_str::<SamplerConfig>("{\"top_q\": 1}").is_err());
    }

    #[test]
    fn the_child_wins_key_by_key() {
        let base = SamplerConfig { temperature: Some(0.5), top_k: Some(40), ..Default::default() };
        let child = SamplerConfig { inherit: Some("base".into()), top_k: Some(7), ..Default::default() };
        let merged = child.over(&base);
        assert_eq!((merged.temperature, merged.top_k, merged.inherit), (Some(0.5), Some(7), None));
    }

    #[test]
    fn words_read_as_they_are_written() {
        let config: SamplerConfig =
            serde_json::from_str(r#"{"preset": "llama-cpp", "order": ["top_k", "xtc"], "ties": "by-id"}"#).unwrap();
        assert_eq!(config.preset, Some(Preset::LlamaCpp));
        assert_eq!(config.order, Some(vec![StageKind::TopK, StageKind::Xtc]));
        assert_eq!(serde_json::to_value(&config).unwrap()["ties"], "by-id");
        assert_eq!("keep".parse(), Ok(Ties::Keep));
        assert_eq!("kept".parse::<Ties>().unwrap_err().to_string(), "`kept` is none of `by-id`, `keep`");
    }
}
