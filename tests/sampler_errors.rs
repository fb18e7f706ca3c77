//! Rows and profiles that have no token to give, and what the originals do with them.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which must stop")]

use flow_fabric::sample::{ConfigIssue, Decision, Logits, Row, SampleError, Sampler, SamplerConfig, Workspace};

fn config(profile: &str) -> SamplerConfig {
    serde_json::from_str(profile).unwrap()
}

fn sampler(profile: &str) -> Sampler {
    Sampler::compile(&config(profile)).unwrap().0
}

fn decide(profile: &str, logits: &[f32]) -> Result<Decision, SampleError> {
    sampler(profile).decide(&Row::new(Logits::F32(logits)), &mut Workspace::default())
}

/// What compiling a profile says, one issue per line.
fn issues(profile: &str) -> String {
    let issues = match Sampler::compile(&config(profile)) {
        Ok((_, warnings)) => warnings,
        Err(issues) => issues,
    };
    let line = |issue: &ConfigIssue| {
        format!(
            "{}[{}] {}; {}",
            issue.severity().name(),
            issue.key,
            issue.message,
            issue.help.as_deref().unwrap_or("-")
        )
    };
    issues.iter().map(line).collect::<Vec<_>>().join("\n")
}

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Grok-1: NaN probabilities and token 0. vLLM and others: token 0, an id beyond the vocabulary, a crash or a hang.
#[test]
fn a_row_without_an_answer_is_an_error_with_counts() {
    for profile in ["{}", r#"{"top_k": 2}"#, r#"{"top_p": 0.5}"#, r#"{"temperature": 0}"#, r#"{"min_p": 0.1}"#] {
        let none = SampleError::NoSurvivor { masked: 3, tokens: 3 };
        assert_eq!(decide(profile, &[-INF, -INF, -INF]), Err(none), "{profile}");
        let nan = SampleError::Invalid { nan: 1, infinite: 0, masked: 1, tokens: 4, first: 2 };
        assert_eq!(decide(profile, &[0.0, -INF, NAN, 1.0]), Err(nan), "{profile}");
        assert_eq!(decide(profile, &[0.0, -INF, -NAN, 1.0]), Err(nan), "{profile}");
        let infinite = SampleError::Invalid { nan: 0, infinite: 2, masked: 0, tokens: 3, first: 0 };
        assert_eq!(decide(profile, &[INF, 1.0, INF]), Err(infinite), "{profile}");
        assert_eq!(decide(profile, &[]), Err(SampleError::Length { tokens: 0 }), "{profile}");
    }
    let message = decide("{}", &[NAN, INF, 0.0]).unwrap_err().to_string();
    assert_eq!(message, "1 NaN and 1 +inf among 3 scores, the first at token 0");
}

/// What is masked may hold anything: nothing looks at it.
#[test]
fn only_allowed_tokens_must_be_numbers() {
    let logits = [NAN, 2.0, INF, 1.0, NAN];
    let allowed = r#"{"allow": [1, 3], "top_logprobs": 3}"#;
    assert!([1, 3].contains(&decide(allowed, &logits).unwrap().token));
    assert!(decide(r#"{"deny": [0, 2, 4]}"#, &logits).is_ok());
    assert!(decide(r#"{"deny": [0, 2]}"#, &logits).is_err());
    assert_eq!(decide(r#"{"vocab_limit": 2, "deny": [0]}"#, &logits).unwrap().token, 1);
    // Raw log-probabilities are over the numbers of the row.
    let raw = decide(r#"{"allow": [1, 3], "logprobs": "raw", "temperature": 0}"#, &logits).unwrap();
    assert!((raw.logprob - -(1.0_f64 + (-1.0_f64).exp()).ln()).abs() < 1e-12, "{raw:?}");
}

#[test]
fn on_request_an_invalid_row_falls_back_to_its_best_number() {
    let greedy = r#"{"on_invalid": "greedy", "deny": [3], "top_k": 2, "logit_bias": {"4": 5}}"#;
    let decision = decide(greedy, &[NAN, 1.0, INF, 9.0, 0.0]).unwrap();
    assert!(decision.fallback);
    assert_eq!((decision.token, decision.kept), (4, 2));
    assert!(!decide(greedy, &[0.0, 1.0, 2.0, 9.0, 0.0]).unwrap().fallback);
    assert!(matches!(decide(greedy, &[NAN, -INF, INF, 9.0, NAN]), Err(SampleError::NoSurvivor { .. })));
    // A row that is only masked has no number to fall back to.
    assert!(matches!(decide(greedy, &[-INF; 5]), Err(SampleError::NoSurvivor { .. })));
}

/// Grok-1's `logits / 0` is NaN and token 0; its inactive slots rely on that.
#[test]
fn temperature_zero_takes_the_best_allowed_token() {
    let logits = [0.5, 3.0, 2.9, 3.0];
    let best = decide(r#"{"temperature": 0}"#, &logits).unwrap();
    assert_eq!((best.token, best.kept, best.probability, best.gap), (1, 1, 1.0, 0.0));
    // Grok-1's order has masks after the temperature; the choice waits for them.
    let masked = decide(r#"{"preset": "grok-1", "temperature": 0, "deny": [1, 3]}"#, &logits).unwrap();
    assert_eq!((masked.token, masked.gap), (2, f64::from(2.9_f32) - 0.5));
    // Filters that could remove the best token do not apply to a greedy choice made before them.
    let filtered = r#"{"temperature": 0, "xtc_probability": 1, "xtc_threshold": 0.05, "typical_p": 0.2}"#;
    assert_eq!(decide(filtered, &logits).unwrap().token, 1);
}

/// In the original, `top_p` up to 1e-7 keeps one token or all of them, and a removed -inf comes back as -1e10.
#[test]
fn the_nucleus_always_holds_the_best_token_and_never_a_masked_one() {
    let logits: Vec<f32> =
        (0..200).map(|token| if token % 3 == 0 { -INF } else { (token % 7) as f32 * 0.01 }).collect();
    for p in ["0", "1e-300", "1e-8", "1e-7"] {
        for preset in ["", r#""preset": "grok-1", "ties": "by-id", "#] {
            let decision = decide(&format!(r#"{{{preset}"top_p": {p}}}"#), &logits).unwrap();
            assert_eq!((decision.kept, decision.token), (1, 13), "{preset}{p}");
        }
    }
    let all = decide(r#"{"preset": "grok-1", "top_p": 1}"#, &logits).unwrap();
    assert_eq!(all.kept, 133);
}

#[test]
fn grok_seeds_wrap_to_32_bits_and_ours_do_not() {
    let logits = vec![0.0; 5000];
    let draw = |profile: &str, seed| {
        let row = Row { seed: Some(seed), ..Row::new(Logits::F32(&logits)) };
        sampler(profile).decide(&row, &mut Workspace::default()).unwrap().token
    };
    let grok = r#"{"preset": "grok-1"}"#;
    assert_eq!(draw(grok, (1 << 32) + 42), draw(grok, 42));
    assert_eq!(draw(grok, 1 << 63), draw(grok, 0));
    assert_ne!(draw("{}", (1 << 32) + 42), draw("{}", 42));
}

/// In bf16 the original draws 128 noise values: of equal logits, none beyond the first few hundred is ever drawn.
#[test]
fn sixteen_bit_logits_are_not_sampled_in_sixteen_bits() {
    let logits = vec![half::bf16::from_f32(0.25); 40_000];
    let sampler = sampler(r#"{"preset": "grok-1"}"#);
    let mut workspace = Workspace::default();
    let draws: Vec<u32> = (0..12)
        .map(|step| sampler.decide(&Row { step, ..Row::new(Logits::Bf16(&logits)) }, &mut workspace).unwrap().token)
        .collect();
    assert!(draws.iter().filter(|token| **token > 667).count() > 9, "{draws:?}");
}

#[test]
fn ids_beyond_the_row_are_refused() {
    let refused = |profile: &str, prompt: &[u32]| {
        let row = Row { prompt, ..Row::new(Logits::F32(&[0.0, 1.0])) };
        sampler(profile).decide(&row, &mut Workspace::default()).unwrap_err().to_string()
    };
    assert_eq!(refused(r#"{"logit_bias": {"2": 1}}"#, &[]), "`logit_bias` names token 2, the row has 2");
    assert_eq!(refused(r#"{"allow": [0, 7]}"#, &[]), "`allow` names token 7, the row has 2");
    assert_eq!(refused("{}", &[0, 5]), "`prompt` names token 5, the row has 2");
}

#[test]
fn a_penalty_that_overflows_is_an_error_and_not_a_token() {
    let profile = r#"{"repetition_penalty": 0.01}"#;
    let row = Row { output: &[1], ..Row::new(Logits::F32(&[1.0, 3e37])) };
    let error = sampler(profile).decide(&row, &mut Workspace::default()).unwrap_err();
    assert_eq!(error, SampleError::Invalid { nan: 0, infinite: 1, masked: 0, tokens: 2, first: 1 });
}

#[test]
fn profiles_are_checked() {
    let cases = [
        r#"{"top_p": 1.5, "min_p": -0.1, "temperature": -1, "xtc_threshold": 0.6, "xtc_probability": 1}"#,
        r#"{"temperature": 1e-9}"#,
        r#"{"temperature": 0.001}"#,
        r#"{"temperature": 0, "seed": 7}"#,
        r#"{"order": ["top_k", "top_k"], "top_k": 5, "top_p": 0.9}"#,
        r#"{"preset": "grok-1", "top_k": 5}"#,
        r#"{"preset": "vllm", "xtc_probability": 0.5}"#,
        r#"{"min_tokens": 5}"#,
        r#"{"allow": [], "dry_multiplier": 1, "dry_breakers": [[]]}"#,
        r#"{"dynatemp_range": 1.5}"#,
        r#"{"boundary": "include", "dry_base": 2, "noise_layout": "legacy"}"#,
        r#"{"logit_bias": {"3": 1e9}, "repetition_penalty": 0, "vocab_limit": 0}"#,
    ];
    let report: Vec<String> = cases.iter().map(|case| format!("{case}\n{}", issues(case))).collect();
    insta::assert_snapshot!(report.join("\n\n"));
}

#[test]
fn stages_say_their_rules_in_words() {
    let stages = |profile: &str| {
        let lines: Vec<String> = sampler(profile).stages().iter().map(|stage| format!("  {stage}")).collect();
        format!("{profile}\n{}", lines.join("\n"))
    };
    let report = [
        r#"{"preset": "grok-1", "temperature": 0.7, "top_p": 0.95, "deny": [1]}"#,
        r#"{"preset": "hf", "temperature": 0.7, "top_k": 50, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.9, "min_keep": 2}"#,
        r#"{"preset": "vllm", "repetition_penalty": 1.1, "frequency_penalty": 0.5, "temperature": 0, "top_p": 0.9}"#,
        r#"{"preset": "llama-cpp", "temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "dry_multiplier": 0.8, "xtc_probability": 0.5}"#,
        r#"{"vocab_limit": 131072, "min_tokens": 3, "eos": [2], "no_repeat_ngram": 3, "logit_bias": {"5": -2}, "dynatemp_range": 0.3, "top_n_sigma": 1, "eta_cutoff": 0.001, "epsilon_cutoff": 0.0003, "top_h": 0.4, "presence_penalty": 1}"#,
    ]
    .map(stages);
    insta::assert_snapshot!(report.join("\n\n"));
}
