//! Random tables and paths over a small alphabet, so that matches, vetoes and shared prefixes are common.

use flow_fabric::matcher::{Config, Explanation, MatcherGraph, Mode, Rule, Table, Wanted};
use flow_fabric::pattern::{Lowered, Separators, Sequence, Step, TokenKind, TokenPredicate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};

use crate::naive;

const WORDS: &[&str] = &["", "a", "b", "ab", "a1", "b12", "é"];
const TOKEN_REGEXES: &[&str] =
    &["a|b", "(?:a|b)[0-9]*", "[ab]+", "a.*", ".*b", ".*", "[0-9]+", "b?", r"\w+", ".*1.*", "(ab|b)1?2?", r"a\b.*"];
const PATH_REGEXES: &[&str] =
    &["a.*", ".*[/.]b", "(a|b)[/.]a1.*", ".*b.*", "", ".*/", r".*\ba1\b.*", "[^/]*/[^/]*", "a/b", ".*é"];
const NAMES: &[&str] = &["t0", "t1", "t2", "t3"];

#[derive(Debug, Clone)]
struct TableSpec {
    mode: Mode,
    rules: Vec<RuleSpec>,
}

#[derive(Debug, Clone)]
struct RuleSpec {
    pattern: Lowered,
    excepts: Vec<Lowered>,
    conditional: bool,
}

fn separators() -> impl Strategy<Value = Vec<char>> {
    select(vec![vec!['/', '.'], vec!['/'], vec!['.', '/', '_'], vec!['→', '/']])
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        1 => Just(TokenKind::Any),
        4 => select(WORDS).prop_map(|text| TokenKind::Literal(text.to_owned())),
        3 => select(TOKEN_REGEXES).prop_map(|text| TokenKind::Regex(text.to_owned())),
    ];
    let separator = prop_oneof![6 => Just(None), 1 => select(vec!['/', '.', '→']).prop_map(Some)];
    prop_oneof![
        2 => Just(Step::Gap),
        5 => (separator, kind).prop_map(|(separator, kind)| Step::Token(TokenPredicate { separator, kind })),
    ]
}

fn sequence() -> impl Strategy<Value = Sequence> {
    let window = vec(step(), 0..3).prop_map(|mut steps| {
        steps.insert(0, Step::Gap);
        steps.push(Step::Gap);
        steps
    });
    prop_oneof![window, vec(step(), 0..4)].prop_map(|mut steps| {
        steps.dedup_by(|a, b| *a == Step::Gap && *b == Step::Gap);
        Sequence { steps }
    })
}

fn lowered() -> impl Strategy<Value = Lowered> {
    let whole = select(PATH_REGEXES).prop_map(|text| Some(text.to_owned()));
    prop_oneof![
        8 => vec(sequence(), 1..3).prop_map(|sequences| Lowered { sequences, whole_path: None }),
        1 => whole.clone().prop_map(|whole_path| Lowered { sequences: vec![], whole_path }),
        1 => (vec(sequence(), 0..2), whole).prop_map(|(sequences, whole_path)| Lowered { sequences, whole_path }),
    ]
}

fn table() -> impl Strategy<Value = TableSpec> {
    let excepts = prop_oneof![2 => Just(vec![]), 1 => vec(lowered(), 1..3)];
    let rule = (lowered(), excepts, prop::bool::weighted(0.3)).prop_map(|(pattern, excepts, conditional)| RuleSpec {
        pattern,
        excepts,
        conditional,
    });
    (select(vec![Mode::First, Mode::First, Mode::All]), vec(rule, 0..8))
        .prop_map(|(mode, rules)| TableSpec { mode, rules })
}

fn config() -> impl Strategy<Value = Config> {
    (select(vec![0, 1000, 3000, 20_000, 1 << 26]), select(vec![0, 1 << 23]), select(vec![0, 2, 64])).prop_map(
        |(cache, whole, expand)| Config::new().cache_capacity(cache).whole_path_capacity(whole).expand_limit(expand),
    )
}

/// Paths over `/`, `.` and `→`, with what may or may not be separators inside.
fn path() -> impl Strategy<Value = String> {
    let rest = vec((select(vec!['/', '/', '/', '.', '→', '_']), select(WORDS)), 0..5);
    (select(WORDS), rest).prop_map(|(first, rest)| {
        rest.into_iter().fold(first.to_owned(), |path, (separator, word)| format!("{path}{separator}{word}"))
    })
}

fn borrow<'a>(specs: &'a [TableSpec]) -> Vec<Table<'a>> {
    specs
        .iter()
        .zip(NAMES)
        .map(|(table, name)| Table {
            name,
            mode: table.mode,
            rules: table
                .rules
                .iter()
                .map(|rule| Rule {
                    name: "rule",
                    pattern: &rule.pattern,
                    excepts: rule.excepts.iter().collect(),
                    conditional: rule.conditional,
                })
                .collect(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, rng_seed: RngSeed::Fixed(17), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_matcher_answers_as_the_reference(
        specs in vec(table(), 1..4),
        separators in separators(),
        config in config(),
        paths in vec((path(), any::<bool>()), 1..24),
    ) {
        let separators = Separators::new(separators);
        let tables = borrow(&specs);
        let graph = MatcherGraph::with_config(&tables, &separators, config).unwrap();
        let mut matcher = graph.matcher();
        for (text, as_tokens) in &paths {
            let tokens: Vec<String> = text.split('/').map(str::to_owned).collect();
            let (path, matches) = if *as_tokens {
                (naive::Path::of_tokens(&tokens, &separators), matcher.resolve_tokens(&tokens))
            } else {
                (naive::Path::cut(text, &separators), matcher.resolve(text))
            };
            let answers: Vec<Vec<usize>> = graph
                .tables()
                .map(|table| matches.candidates(table).iter().map(|rule| rule.index()).collect())
                .collect();
            prop_assert_eq!(answers, naive::resolve(&tables, &path), "{:?}", text);
            for (id, table) in graph.tables().zip(&tables) {
                let explanation =
                    if *as_tokens { graph.explain_tokens(id, &tokens) } else { graph.explain(id, text) };
                check(&explanation, table, &path)?;
            }
        }
    }

    #[test]
    fn two_builds_of_the_same_tables_are_equal(specs in vec(table(), 1..4)) {
        let tables = borrow(&specs);
        let build = || MatcherGraph::new(&tables, &Separators::default()).unwrap();
        let text = |graph: &MatcherGraph| format!("{:?}", graph.graph());
        prop_assert_eq!(text(&build()), text(&build()));
    }
}

/// Every rule is in one of the three lists, and says there what the reference says of its patterns.
fn check(explanation: &Explanation, table: &Table<'_>, path: &naive::Path) -> Result<(), TestCaseError> {
    let (mut matches, mut vetoed, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (index, rule) in table.rules.iter().enumerate() {
        let excepts = rule.excepts.iter().enumerate().filter(|(_, except)| naive::is_match(except, path));
        let excepts: Vec<usize> = excepts.map(|(position, _)| position).collect();
        match (naive::is_match(rule.pattern, path), excepts.is_empty()) {
            (true, true) => matches.push(index),
            (true, false) => vetoed.push((index, excepts)),
            (false, _) => others.push(index),
        }
    }
    prop_assert_eq!(explanation.matches.iter().map(|rule| rule.rule.index()).collect::<Vec<_>>(), matches);
    let found = explanation.vetoed.iter().map(|rule| (rule.rule.index(), rule.excepts.clone()));
    prop_assert_eq!(found.collect::<Vec<_>>(), vetoed);
    let mut found: Vec<usize> = explanation.near_misses.iter().map(|near| near.rule.index()).collect();
    found.sort_unstable();
    prop_assert_eq!(found, others);
    for near in &explanation.near_misses {
        match (&near.found, explanation.tokens.get(near.at)) {
            (Some(found), Some(token)) => prop_assert!(found.ends_with(token.as_str()), "{:?}", near),
            (found, token) => prop_assert_eq!(found.as_ref(), token),
        }
        let complete = near.missing() == 0;
        let open_ended = near.wanted.iter().all(|wanted| !matches!(wanted, Wanted::Token(_)));
        prop_assert_eq!(complete, open_ended, "{:?}", near);
    }
    Ok(())
}

#[test]
fn no_tokens_at_all_are_a_path() {
    let sequence = |steps| Lowered { sequences: vec![Sequence { steps }], whole_path: None };
    let gap = sequence(vec![Step::Gap]);
    let nothing = sequence(vec![]);
    let one = crate::window(&[String::new()]);
    let rules = [&gap, &nothing, &one].map(|pattern| Rule { name: "r", pattern, excepts: vec![], conditional: false });
    let table = Table { name: "t", mode: Mode::All, rules: rules.to_vec() };
    let graph = MatcherGraph::new(&[table], &Separators::default()).unwrap();
    let mut matcher = graph.matcher();
    let table = graph.table("t").unwrap();
    let none: &[&str] = &[];
    assert_eq!(matcher.resolve_tokens(none).candidates(table), graph.rules(table).take(2).collect::<Vec<_>>());
    let one_empty = [0, 2].map(|at| graph.rules(table).nth(at).unwrap());
    assert_eq!(matcher.resolve_tokens(&[""]).candidates(table), one_empty);
    assert_eq!(matcher.resolve("").candidates(table), one_empty);
}
