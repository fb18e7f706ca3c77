//! A matcher's memory stays within its capacity, whatever the size of what it sees: counted at the allocator.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/counting.rs"]
mod counting;

use flow_fabric::matcher::{Config, MatcherGraph, Mode, Rule, Table};
use flow_fabric::pattern::{Pattern, PatternSpec, Separators};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Resolves paths with rules about numbers, `weight` and what begins with `x`; the most bytes that the matcher held.
fn most(capacity: usize, paths: impl Iterator<Item = String>) -> usize {
    let separators = Separators::default();
    let pattern = |text: &str| Pattern::new(PatternSpec::Tokens(vec![text.to_owned()]), &separators).unwrap();
    let patterns = ["[0-9]+", "weight", "x.*"].map(pattern);
    let rules = patterns.iter().map(|pattern| Rule {
        name: "rule",
        pattern: pattern.lowered(),
        excepts: vec![],
        conditional: true,
    });
    let table = Table { name: "table", mode: Mode::First, rules: rules.collect() };
    let config = Config::new().cache_capacity(capacity);
    let graph = MatcherGraph::with_config(&[table], &separators, config).unwrap();
    let table = graph.table("table").unwrap();
    let paths: Vec<String> = paths.collect();
    let mut answers = Vec::with_capacity(paths.len());
    let ((), most) = counting::peak(|| {
        let mut matcher = graph.matcher();
        answers.extend(paths.iter().map(|path| matcher.resolve(path).candidates(table).len()));
    });
    for (path, answer) in paths.iter().zip(answers) {
        let any = |is: fn(&str) -> bool| usize::from(path.split('/').any(is));
        let numbers = any(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(answer, numbers + any(|token| token == "weight") + any(|token| token.starts_with('x')));
    }
    most
}

/// One test in this file: a second thread would be counted too.
#[test]
fn a_matcher_keeps_to_its_capacity() {
    const KIB: usize = 1 << 10;
    // Three times: tables double when they grow, and hold what they had meanwhile.
    let of_numbers = (0..20_000).map(|number| format!("model/{number}/x{number}/weight"));
    let held = most(128 * KIB, of_numbers);
    assert!(held < 3 * 128 * KIB, "{held} bytes for many numbers");
    // One alone fills a good part of what there is: long names, and tails of many tokens.
    let of_long_names = (0..80).map(|number| format!("model/{}{number}/weight", "x".repeat(128 * KIB)));
    let held = most(512 * KIB, of_long_names);
    assert!(held < 3 * 512 * KIB, "{held} bytes for long names");
    let of_long_tails = (0..80).map(|number| format!("model/{number}/{}weight{number}", "x/".repeat(8 * KIB)));
    let held = most(512 * KIB, of_long_tails);
    assert!(held < 3 * 512 * KIB, "{held} bytes for long tails");
}
