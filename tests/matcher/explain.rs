//! What people read when a rule did not match.

use flow_fabric::matcher::{Explanation, MatcherGraph, Mode, Rule, Table};
use flow_fabric::pattern::{Lowered, PatternSpec, Separators, Sequence, Step, TokenKind, TokenPredicate};

use crate::pattern;

fn literal(text: &str) -> Step {
    Step::Token(TokenPredicate { separator: None, kind: TokenKind::Literal(text.to_owned()) })
}

fn tokens(list: &[&str]) -> Lowered {
    let list = list.iter().map(|token| (*token).to_owned()).collect();
    pattern(PatternSpec::Tokens(list), &Separators::default()).lowered().clone()
}

fn regex(text: &str) -> Step {
    Step::Token(TokenPredicate { separator: None, kind: TokenKind::Regex(text.to_owned()) })
}

fn sequence(steps: Vec<Step>) -> Lowered {
    Lowered { sequences: vec![Sequence { steps }], whole_path: None }
}

fn whole(text: &str) -> Lowered {
    Lowered { sequences: vec![], whole_path: Some(text.to_owned()) }
}

/// Explains `path` in a table of named patterns, an exception being named `except NAME` after its rule.
fn explain(patterns: &[(&str, Lowered)], path: &str) -> String {
    let mut rules: Vec<Rule<'_>> = Vec::new();
    for (name, pattern) in patterns {
        match (name.strip_prefix("except "), rules.last_mut()) {
            (Some(_), Some(rule)) => rule.excepts.push(pattern),
            _ => rules.push(Rule { name, pattern, excepts: vec![], conditional: false }),
        }
    }
    let graph =
        MatcherGraph::new(&[Table { name: "t", mode: Mode::First, rules }], &Separators::new(vec!['/', '.'])).unwrap();
    text(&graph, &graph.explain(graph.table("t").unwrap(), path))
}

fn text(graph: &MatcherGraph, explanation: &Explanation) -> String {
    let table = graph.tables().next().unwrap();
    let mut text = String::new();
    for rule in &explanation.matches {
        let name = graph.rule_name(table, rule.rule);
        text += &format!("{name} matches [{}]\n", explanation.tokens[rule.window.clone()].join(" "));
    }
    for rule in &explanation.vetoed {
        text += &format!("{} is vetoed by {:?}\n", graph.rule_name(table, rule.rule), rule.excepts);
    }
    for near in &explanation.near_misses {
        let wanted: Vec<String> = near.wanted.iter().map(|wanted| format!("`{wanted}`")).collect();
        text += &format!(
            "{} {}+{} of {} [{}] stops at {}: wants {}, found {}\n",
            graph.rule_name(table, near.rule),
            near.matched,
            near.resumed,
            near.steps,
            explanation.tokens[near.window.clone()].join(" "),
            near.at,
            wanted.join(" or "),
            near.found.as_deref().map_or("the end".to_owned(), |found| format!("`{found}`")),
        );
    }
    text
}

#[test]
fn a_path_of_grok() {
    let rules = [
        ("router", tokens(&["router", "w"])),
        ("moe-up", tokens(&["moe", "linear|linear_v", "w"])),
        ("moe-up-glob", {
            let steps = |name: &str| vec![Step::Gap, literal("moe"), literal(name), literal("w")];
            let sequences = ["linear", "linear_v"].map(|name| Sequence { steps: steps(name) });
            Lowered { sequences: sequences.to_vec(), whole_path: None }
        }),
        ("dense", tokens(&["decoder_layer_[0-9]+", "linear_1", "w"])),
        ("moe-down", tokens(&["moe", "linear_1", "w"])),
        ("moe", tokens(&["moe"])),
        ("except layers", tokens(&["decoder_layer_1"])),
        ("except w", tokens(&["w"])),
        ("any", whole(".*linear.*")),
        ("other", whole("transformer/decoder_layer_[0-9]+/multi_head_attention/.*")),
    ];
    insta::assert_snapshot!(explain(&rules, "transformer/decoder_layer_7/moe/linear_1/w"), @r"
    moe-down matches [moe linear_1 w]
    any matches [transformer decoder_layer_7 moe linear_1 w]
    moe is vetoed by [1]
    moe-up 1+1 of 3 [moe] stops at 3: wants `linear|linear_v`, found `linear_1`
    moe-up-glob 1+1 of 3 [moe] stops at 3: wants `linear` or `linear_v`, found `linear_1`
    dense 0+2 of 3 [] stops at 2: wants `decoder_layer_[0-9]+`, found `moe`
    router 0+1 of 2 [] stops at 3: wants `router`, found `linear_1`
    other 0+0 of 0 [transformer decoder_layer_7] stops at 2: wants `transformer/decoder_layer_[0-9]+/multi_head_attention/.*`, found `moe`
    ");
}

#[test]
fn windows_run_from_the_first_to_the_last_step_that_takes_a_token() {
    let rules = [
        ("gap", sequence(vec![Step::Gap])),
        ("middle", sequence(vec![literal("a"), Step::Gap, literal("c"), Step::Gap])),
        ("last", sequence(vec![Step::Gap, regex("[ab]"), Step::Gap, literal("c")])),
        ("whole", whole("a.*")),
    ];
    insta::assert_snapshot!(explain(&rules, "a/b/c/c/d"), @r"
    gap matches []
    middle matches [a b c]
    whole matches [a b c c d]
    last 2+0 of 2 [b c] stops at 3: wants `the end of the path`, found `c`
    ");
}

#[test]
fn stops_at_either_end() {
    let rules = [
        ("longer", sequence(vec![literal("a"), literal("b"), literal("c")])),
        ("shorter", sequence(vec![literal("a")])),
        ("never", Lowered::default()),
        ("separator", {
            let kind = TokenKind::Literal("b".to_owned());
            sequence(vec![literal("a"), Step::Token(TokenPredicate { separator: Some('.'), kind })])
        }),
        ("whole", whole(r"a/b\.c")),
    ];
    insta::assert_snapshot!(explain(&rules, "a/b"), @r"
    shorter 1+0 of 1 [a] stops at 1: wants `the end of the path`, found `b`
    longer 2+0 of 3 [a b] stops at 2: wants `c`, found the end
    separator 1+0 of 2 [a] stops at 1: wants `.b`, found `/b`
    whole 0+0 of 0 [a b] stops at 2: wants `a/b\.c`, found the end
    never 0+0 of 0 [] stops at 0: wants , found `a`
    ");
}
