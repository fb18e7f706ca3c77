//! Real rule tables over real inventories: Grok-1's own answers, EasyLM's own answers, and the reference on the rest.

use std::fs;

use flow_fabric::matcher::{MatcherGraph, Mode, Rule, RuleIndex, Table};
use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
use serde_json::Value;

use crate::{naive, pattern};

fn read(name: &str) -> String {
    fs::read_to_string(format!("{}/tests/data/inventories/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn lines(name: &str) -> Vec<Value> {
    read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn rules(name: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(&read(name)).unwrap();
    document["rules"].as_array().unwrap().clone()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Grok-1's 36 rules. Its `p + "$"` anchors as the language does for every one of them: the only alternation stands in
/// parentheses.
fn grok(separators: &Separators) -> Vec<Pattern> {
    let rules = rules("grok-1.rules.json");
    assert_eq!(rules.len(), 36);
    rules.iter().map(|rule| pattern(PatternSpec::Tokens(strings(&rule["match"])), separators)).collect()
}

/// EasyLM's rules: `re.search` over the joined path.
fn easylm(separators: &Separators) -> Vec<Pattern> {
    rules("easylm-llama.rules.json")
        .iter()
        .map(|rule| format!(".*(?:{}).*", rule["match"].as_str().unwrap()))
        .map(|text| pattern(PatternSpec::Regex(text), separators))
        .collect()
}

/// The same rules twice: table `first` with the winner, table `all` with every rule that matches.
fn tables(patterns: &[Pattern]) -> Vec<Table<'_>> {
    let rules: Vec<Rule<'_>> = patterns
        .iter()
        .map(|pattern| Rule { name: "rule", pattern: pattern.lowered(), excepts: vec![], conditional: false })
        .collect();
    let table = |name, mode| Table { name, mode, rules: rules.clone() };
    vec![table("first", Mode::First), table("all", Mode::All)]
}

fn indices(rules: &[RuleIndex]) -> Vec<u64> {
    rules.iter().map(|rule| rule.index() as u64).collect()
}

/// Compares with an oracle's `rules`; returns the paths on which the answers differ.
fn differences(patterns: fn(&Separators) -> Vec<Pattern>, oracle: &[Value]) -> Vec<Vec<String>> {
    let separators = Separators::new(vec!['/']);
    let patterns = patterns(&separators);
    let graph = MatcherGraph::new(&tables(&patterns), &separators).unwrap();
    let [first, all] = ["first", "all"].map(|name| graph.table(name).unwrap());
    let mut matcher = graph.matcher();
    let mut differences = Vec::new();
    for leaf in oracle {
        let expected: Vec<u64> = leaf["rules"].as_array().unwrap().iter().map(|rule| rule.as_u64().unwrap()).collect();
        let winner: Vec<u64> = expected.iter().take(1).copied().collect();
        let mut same = true;
        if let Some(name) = leaf["name"].as_str() {
            let matches = matcher.resolve(name);
            same &= indices(matches.candidates(first)) == winner && indices(matches.candidates(all)) == expected;
        }
        let tokens = match &leaf["path"] {
            Value::Null => leaf["name"].as_str().unwrap().split('/').map(str::to_owned).collect(),
            path => strings(path),
        };
        let matches = matcher.resolve_tokens(&tokens);
        same &= indices(matches.candidates(first)) == winner && indices(matches.candidates(all)) == expected;
        let explanation = graph.explain_tokens(first, &tokens);
        same &= explanation.matches.iter().map(|rule| rule.rule.index() as u64).eq(expected);
        if !same {
            differences.push(tokens);
        }
    }
    differences
}

#[test]
fn grok_winners_and_matches_are_those_of_its_own_code() {
    let oracle = lines("grok-1.oracle.jsonl");
    assert_eq!(oracle.len(), 770);
    assert!(oracle.iter().all(|leaf| leaf["rules"].as_array().unwrap().len() == 1));
    assert_eq!(differences(grok, &oracle), [[""; 0]; 0]);
}

#[test]
fn the_dense_variant_too() {
    let oracle = lines("grok-1-dense-variant.oracle.jsonl");
    assert_eq!(oracle.len(), 24);
    assert_eq!(differences(grok, &oracle), [[""; 0]; 0]);
}

/// Python's `$` also matches before one final newline; the language's patterns end where the token ends.
#[test]
fn made_up_paths_differ_in_the_one_that_ends_with_a_newline() {
    let oracle = lines("grok-1-paths.oracle.jsonl");
    assert_eq!(oracle.len(), 111);
    assert_eq!(differences(grok, &oracle), [["moe", "linear", "w\n"]]);
}

#[test]
fn easylm_winners_and_matches_are_those_of_its_own_code() {
    let oracle = lines("easylm-llama3-8b.oracle.jsonl");
    assert_eq!(oracle.len(), 291);
    assert_eq!(differences(easylm, &oracle), [[""; 0]; 0]);
}

#[test]
fn every_inventory_resolves_as_with_the_reference() {
    let separators = Separators::default();
    let mut patterns = grok(&separators);
    patterns.extend(easylm(&separators));
    let tables = tables(&patterns);
    let graph = MatcherGraph::new(&tables, &separators).unwrap();
    let [first, all] = ["first", "all"].map(|name| graph.table(name).unwrap());
    let mut matcher = graph.matcher();
    let mut files: Vec<_> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/inventories"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".jsonl"))
        .collect();
    files.sort();
    let mut count = 0;
    for line in files.iter().flat_map(|file| lines(file)) {
        let Some(name) = line["name"].as_str() else { continue };
        let expected: Vec<u64> = {
            let path = naive::Path::cut(name, &separators);
            let holds = |pattern: &Pattern| naive::is_match(pattern.lowered(), &path);
            (0..).zip(&patterns).filter(|(_, pattern)| holds(pattern)).map(|(index, _)| index).collect()
        };
        let matches = matcher.resolve(name);
        assert_eq!(indices(matches.candidates(all)), expected, "{name}");
        assert_eq!(indices(matches.candidates(first)), expected[..1.min(expected.len())], "{name}");
        count += 1;
    }
    assert_eq!(count, 3899, "names in all inventories");
}
