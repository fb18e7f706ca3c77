//! Reachability of rules: small tables by hand, real tables over real checkpoints, and soundness by brute force.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test data that cannot be read fails the test")]

mod common;

use std::fmt::Write as _;

use common::generate::{glob, path, regex};
use flow_fabric::analysis::{Options, Rule, Undecided, Universe, Verdict, analyze, remark, uncovered};
use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
use proptest::prelude::*;

/// A table as one line per rule: `glob a/**`, `tokens a b|c`, `regex ...`, `path ...`; ` ! ` before each except glob,
/// ` ?` at the end if it has conditions.
struct Table {
    rules: Vec<(Pattern, Vec<Pattern>, bool)>,
    separators: Separators,
}

impl Table {
    fn new(text: &str) -> Self {
        Self::cut_at(text, &Separators::default())
    }

    fn cut_at(text: &str, separators: &Separators) -> Self {
        let pattern = |text: &str| {
            let (form, rest) = text.split_once(' ').unwrap();
            let spec = match form {
                "glob" => PatternSpec::Glob(rest.to_owned()),
                "regex" => PatternSpec::Regex(rest.to_owned()),
                "path" => PatternSpec::Path(vec![rest.to_owned()]),
                "tokens" => PatternSpec::Tokens(rest.split(' ').map(str::to_owned).collect()),
                other => panic!("no such form: {other}"),
            };
            Pattern::new(spec, separators).unwrap()
        };
        let rule = |line: &str| {
            let (line, conditional) = line.strip_suffix(" ?").map_or((line, false), |line| (line, true));
            let mut parts = line.split(" ! ");
            let first = pattern(parts.next().unwrap());
            (first, parts.map(|except| pattern(&format!("glob {except}"))).collect(), conditional)
        };
        Self { rules: text.lines().map(str::trim).map(rule).collect(), separators: separators.clone() }
    }

    fn rules(&self) -> Vec<Rule<'_>> {
        let all = self.rules.iter();
        all.map(|(pattern, except, conditional)| Rule { pattern, except, conditional: *conditional }).collect()
    }

    /// The verdicts and what is said about them, as text.
    fn judged(&self, options: &Options<'_>) -> String {
        let rules = self.rules();
        let names: Vec<String> = rules.iter().map(|rule| rule.pattern.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut shown = String::new();
        for (at, verdict) in analyze(&rules, options).iter().enumerate() {
            match remark(at, verdict, &names) {
                None => {
                    let Verdict::Reachable { witness } = verdict else { panic!("nothing to say about {verdict:?}") };
                    writeln!(shown, "`{}` decides for `{witness}`", names[at]).unwrap();
                }
                Some(remark) => {
                    writeln!(shown, "{}: {}", remark.code.name, remark.message).unwrap();
                    for label in Some(remark.label).into_iter().filter(|label| !label.is_empty()) {
                        writeln!(shown, "    here: {label}").unwrap();
                    }
                    for (rule, label) in remark.others {
                        writeln!(shown, "    `{}`: {label}", names[rule]).unwrap();
                    }
                    writeln!(shown, "    help: {}", remark.help).unwrap();
                }
            }
        }
        shown
    }
}

fn judged(text: &str) -> String {
    Table::new(text).judged(&Options::default())
}

#[test]
fn a_rule_is_shadowed_by_the_union_of_earlier_ones() {
    insta::assert_snapshot!(judged("glob **/w\n glob a/{b,c}\n glob a/{b,c,w}\n glob a/**"), @r"
    `**/w` decides for `w`
    `a/{b,c}` decides for `a/b`
    shadowed-rule: rule `a/{b,c,w}` never decides: 2 earlier rules together take every path that it matches
        here: matches `a/w`
        `**/w`: takes `a/w` first
        `a/{b,c}`: takes `a/b` first
        help: move `a/{b,c,w}` before them, narrow them, or delete `a/{b,c,w}`
    `a/**` decides for `a`
    ");
}

#[test]
fn conditions_never_shadow_but_can_be_shadowed() {
    insta::assert_snapshot!(judged("glob ** ?\n glob moe/**\n glob moe/w ?"), @r"
    `**` decides for `a`
    `moe/**` decides for `moe`
    shadowed-rule: rule `moe/w` never decides: rule `moe/**` takes every path that it matches
        here: matches `moe/w`
        `moe/**`: takes it first
        help: move `moe/w` before `moe/**`, narrow that one, or delete `moe/w`
    ");
}

#[test]
fn exceptions_are_taken_out_on_both_sides() {
    insta::assert_snapshot!(judged("glob a/** ! a/b/**\n glob a/b/c\n glob a/* ! a/b\n glob x/** ! x/**"), @r"
    `a/**` decides for `a`
    `a/b/c` decides for `a/b/c`
    shadowed-rule: rule `a/*` never decides: rule `a/**` takes every path that it matches
        here: matches `a/a`
        `a/**`: takes it first
        help: move `a/*` before `a/**`, narrow that one, or delete `a/*`
    unreachable-rule: rule `x/**` can never match any path: its `except` takes them all
        help: narrow `except`, or delete the rule
    ");
}

#[test]
fn all_four_forms_meet() {
    insta::assert_snapshot!(judged(
        "tokens moe linear|linear_v w\n regex .*\\.moe\\.linear\\.w\n path a/moe/linear/w\n regex (?:moe[./])linear.w\n regex a\\bb"
    ), @r"
    `moe / linear|linear_v / w` decides for `moe/linear/w`
    shadowed-rule: rule `.*\.moe\.linear\.w` never decides: rule `moe / linear|linear_v / w` takes every path that it matches
        here: matches `a.moe.linear.w`
        `moe / linear|linear_v / w`: takes it first
        help: move `.*\.moe\.linear\.w` before `moe / linear|linear_v / w`, narrow that one, or delete `.*\.moe\.linear\.w`
    shadowed-rule: rule `a/moe/linear/w` never decides: rule `moe / linear|linear_v / w` takes every path that it matches
        here: matches `a/moe/linear/w`
        `moe / linear|linear_v / w`: takes it first
        help: move `a/moe/linear/w` before `moe / linear|linear_v / w`, narrow that one, or delete `a/moe/linear/w`
    `(?:moe[./])linear.w` decides for `moe/linearaw`
    unreachable-rule: rule `a\bb` can never match any path
        here: no path satisfies all of this at once
        help: a `\b` between two letters and an empty class such as `[^\w\W]` never match; correct the pattern
    ");
}

#[test]
fn separators_tell_paths_apart_where_the_pattern_does() {
    insta::assert_snapshot!(judged("path a/b\n path a.b\n glob a/b\n tokens a b"), @r"
    `a/b` decides for `a/b`
    `a.b` decides for `a.b`
    shadowed-rule: rule `a/b` never decides: 2 earlier rules together take every path that it matches
        here: matches `a/b`
        `a/b`: takes `a/b` first
        `a.b`: takes `a.b` first
        help: move `a/b` before them, narrow them, or delete `a/b`
    `a / b` decides for `a/a/b`
    ");
}

#[test]
fn characters_beyond_ascii_are_told_apart() {
    insta::assert_snapshot!(judged("tokens [a-zà-é]\n tokens é\n tokens ê\n regex [^a-z]"), @r"
    `[a-zà-é]` decides for `a`
    shadowed-rule: rule `é` never decides: rule `[a-zà-é]` takes every path that it matches
        here: matches `é`
        `[a-zà-é]`: takes it first
        help: move `é` before `[a-zà-é]`, narrow that one, or delete `é`
    `ê` decides for `ê`
    `[^a-z]` decides for `0`
    ");
}

#[test]
fn what_is_too_large_is_undecided_not_wrong() {
    let table = Table::new("regex .*a.{14}b.*\n glob **/w\n glob **");
    insta::assert_snapshot!(table.judged(&Options { pattern_bytes: 1 << 16, ..Options::default() }), @r"
    undecided-reachability: whether rule `.*a.{14}b.*` can decide was not settled: the automaton of rule `.*a.{14}b.*` would be too large
        help: a plan over a checkpoint says which rules matched; simpler patterns can be settled
    `**/w` decides for `w`
    `**` decides for `a`
    ");
    let table = Table::new("glob a/{b,c}\n glob a/*\n glob a/b");
    insta::assert_snapshot!(table.judged(&Options { states: 3, ..Options::default() }), @r"
    `a/{b,c}` decides for `a/b`
    `a/*` decides for `a/a`
    undecided-reachability: whether rule `a/b` can decide was not settled: its patterns and those before it need more states than the budget
        help: a plan over a checkpoint says which rules matched; simpler patterns can be settled
    ");
}

fn lines(name: &str) -> Vec<serde_json::Value> {
    let path = format!("{}/tests/data/inventories/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn universe(name: &str, separators: &Separators) -> Universe {
    let lines = lines(name);
    Universe::from_paths(lines.iter().map(|line| line["name"].as_str().unwrap()), separators)
}

/// Grok-1's published table. The indices of the rules that fire are ground truth from its own code.
fn grok_table() -> Table {
    let path = format!("{}/tests/data/inventories/grok-1.rules.json", env!("CARGO_MANIFEST_DIR"));
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let tokens = |rule: &serde_json::Value| {
        let tokens = rule["match"].as_array().unwrap().iter().map(|token| token.as_str().unwrap());
        format!("tokens {}", tokens.collect::<Vec<_>>().join(" "))
    };
    let text: Vec<String> = file["rules"].as_array().unwrap().iter().map(tokens).collect();
    Table::cut_at(&text.join("\n"), &Separators::new(vec!['/']))
}

#[test]
fn grok_rules_are_all_reachable_over_free_paths() {
    let table = grok_table();
    assert_eq!(table.rules.len(), 36);
    for (rule, verdict) in analyze(&table.rules(), &Options::default()).iter().enumerate() {
        assert!(matches!(verdict, Verdict::Reachable { .. }), "rule {rule}: {verdict:?}");
    }
}

#[test]
fn grok_rules_over_the_released_checkpoint_are_those_that_its_own_code_fires() {
    let table = grok_table();
    let universe = universe("grok-1.oracle.jsonl", &table.separators);
    let options = Options { universe: Some(&universe), ..Options::default() };
    let verdicts = analyze(&table.rules(), &options);
    let live: Vec<usize> =
        (0..verdicts.len()).filter(|&rule| matches!(verdicts[rule], Verdict::Reachable { .. })).collect();
    assert_eq!(live, [1, 2, 3, 5, 17, 18, 19, 20, 21, 22, 24, 26]);
    assert!(verdicts.iter().all(|verdict| !matches!(verdict, Verdict::Undecided(_))));
    assert_eq!(uncovered(&table.rules(), &options), Ok(None));
    let without_embedding: Vec<_> = table.rules().into_iter().skip(2).collect();
    let path = uncovered(&without_embedding, &options).unwrap().unwrap();
    assert_eq!(path, "language_model/in_out_embed/embeddings");
}

#[test]
fn universes_generalise_what_counts_and_nothing_else() {
    let shown = |name, separators: Vec<char>| {
        let universe = universe(name, &Separators::new(separators));
        universe.templates().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(shown("grok-1.oracle.jsonl", vec!['/']), @r"
    language_model/in_out_embed/embeddings
    language_model/rms_norm/scale
    transformer/decoder_layer_{N}/moe/linear/w
    transformer/decoder_layer_{N}/moe/linear_1/w
    transformer/decoder_layer_{N}/moe/linear_v/w
    transformer/decoder_layer_{N}/multi_head_attention/key/w
    transformer/decoder_layer_{N}/multi_head_attention/linear/w
    transformer/decoder_layer_{N}/multi_head_attention/query/w
    transformer/decoder_layer_{N}/multi_head_attention/value/w
    transformer/decoder_layer_{N}/rms_norm/scale
    transformer/decoder_layer_{N}/rms_norm_1/scale
    transformer/decoder_layer_{N}/rms_norm_2/scale
    transformer/decoder_layer_{N}/rms_norm_3/scale
    transformer/decoder_layer_{N}/router/w
    ");
    insta::assert_snapshot!(shown("mixtral-8x7b.jsonl", vec!['/', '.']), @r"
    lm_head.weight
    model.embed_tokens.weight
    model.layers.{N}.block_sparse_moe.experts.{N}.w1.weight
    model.layers.{N}.block_sparse_moe.experts.{N}.w2.weight
    model.layers.{N}.block_sparse_moe.experts.{N}.w3.weight
    model.layers.{N}.block_sparse_moe.gate.weight
    model.layers.{N}.input_layernorm.weight
    model.layers.{N}.post_attention_layernorm.weight
    model.layers.{N}.self_attn.k_proj.weight
    model.layers.{N}.self_attn.o_proj.weight
    model.layers.{N}.self_attn.q_proj.weight
    model.layers.{N}.self_attn.v_proj.weight
    model.norm.weight
    ");
}

#[test]
fn a_hostile_name_makes_a_template_too() {
    let deep = "a.".repeat(100_000);
    let universe = Universe::from_paths([deep.as_str(), "", "..", "7777777777777777777777777"], &Separators::default());
    assert_eq!(universe.templates().count(), 4);
}

/// Every text of up to four characters over these.
fn all_short_texts() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..4 {
        last = last.iter().flat_map(|head| ["a", "b", "1", "/", "."].map(|c| format!("{head}{c}"))).collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// Rust's own regexes for a pattern, to try many paths fast.
fn matcher(pattern: &Pattern) -> impl Fn(&str) -> bool + use<'_> {
    move |path| common::naive::is_match(pattern, path)
}

fn spec() -> impl Strategy<Value = PatternSpec> {
    prop_oneof![
        3 => glob().prop_map(PatternSpec::Glob),
        3 => regex().prop_map(PatternSpec::Regex),
        2 => prop::collection::vec(prop_oneof!["[ab1]", Just("a|b".to_owned()), Just(".*".to_owned()), Just(r"\w".to_owned())], 1..3)
            .prop_map(PatternSpec::Tokens),
        1 => prop::collection::vec(path(), 1..3).prop_map(PatternSpec::Path),
        // Wide ones, so that there is something to shadow with.
        1 => prop_oneof![Just("**"), Just("a/**"), Just("**/b"), Just("*/**"), Just("?*/**")].prop_map(|glob| PatternSpec::Glob(glob.to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

    #[test]
    fn verdicts_stand_up_to_brute_force(
        specs in prop::collection::vec((spec(), prop::option::weighted(0.2, spec()), prop::bool::weighted(0.15)), 1..6),
        restrict in prop::option::weighted(0.3, prop::collection::vec("[ab1]{1,2}([/.][ab1]){0,2}", 1..4)),
    ) {
        let separators = Separators::default();
        let new = |spec| Pattern::new(spec, &separators).ok();
        let table: Vec<_> = specs
            .into_iter()
            .filter_map(|(spec, except, conditional)| Some((new(spec)?, Vec::from_iter(except.and_then(new)), conditional)))
            .collect();
        let table = Table { rules: table, separators: separators.clone() };
        let rules = table.rules();
        let universe = restrict.map(|paths| Universe::from_paths(paths.iter().map(String::as_str), &separators));
        let options = Options { universe: universe.as_ref(), ..Options::default() };
        let verdicts = analyze(&rules, &options);
        prop_assert_eq!(verdicts.len(), rules.len());

        // What the universe holds, in the plain way: digits where its templates have a number.
        let shapes: Option<Vec<regex::Regex>> = universe.as_ref().map(|universe| {
            let regex = |shape: String| regex::Regex::new(&format!("^{}$", regex::escape(&shape).replace(r"\{N\}", "[0-9]+"))).unwrap();
            universe.templates().map(|template| regex(template.to_string())).collect()
        });
        let exists = |path: &str| shapes.as_ref().is_none_or(|shapes| shapes.iter().any(|shape| shape.is_match(path)));
        let matches = |rule: &Rule<'_>, path: &str| matcher(rule.pattern)(path) && !rule.except.iter().any(|except| matcher(except)(path));

        for (at, verdict) in verdicts.iter().enumerate() {
            match verdict {
                Verdict::Reachable { witness } => {
                    prop_assert!(exists(witness) && rules[at].is_match(witness), "{}: {verdict:?}", rules[at].pattern);
                    for earlier in rules[..at].iter().filter(|rule| !rule.conditional) {
                        prop_assert!(!earlier.is_match(witness), "{} before {}: {verdict:?}", earlier.pattern, rules[at].pattern);
                    }
                }
                Verdict::Shadowed { by } => {
                    prop_assert!(!by.is_empty() && by.windows(2).all(|pair| pair[0].rule < pair[1].rule));
                    for taken in by {
                        prop_assert!(!rules[taken.rule].conditional && taken.rule < at);
                        prop_assert!(exists(&taken.witness) && rules[at].is_match(&taken.witness) && rules[taken.rule].is_match(&taken.witness));
                    }
                }
                Verdict::Never(_) => {}
                Verdict::Undecided(reason) => prop_assert_eq!(*reason, Undecided::States),
            }
        }
        for path in all_short_texts().iter().step_by(3).filter(|path| exists(path)) {
            let decides = rules.iter().enumerate().filter(|(_, rule)| matches(rule, path));
            for (at, rule) in decides {
                match &verdicts[at] {
                    Verdict::Never(_) => prop_assert!(false, "{} matches {path}", rule.pattern),
                    Verdict::Shadowed { by } => {
                        prop_assert!(by.iter().any(|taken| matches(&rules[taken.rule], path)), "{} decides for {path}", rule.pattern);
                    }
                    _ => {}
                }
                if !rule.conditional {
                    break;
                }
            }
        }
    }
}
