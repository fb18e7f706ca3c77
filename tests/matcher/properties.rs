//! Random tables and paths over a small alphabet, so that matches, vetoes and shared prefixes are common.

use std::fmt::Debug;

use flow_fabric::matcher::{Config, Explanation, MatcherGraph, Mode, Rule, Table, Wanted};
use flow_fabric::pattern::{Lowered, Pattern, PatternSpec, Separators, Sequence, Step, TokenKind, TokenPredicate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};

use crate::naive;

const WORDS: &[&str] = &["", "a", "b", "ab", "a1", "b12", "é"];
const TOKEN_REGEXES: &[&str] =
    &["a|b", "(?:a|b)[0-9]*", "[ab]+", "a.*", ".*b", ".*", "[0-9]+", "b?", r"\w+", ".*1.*", "(ab|b)1?2?", r"a\b.*"];
const PATH_REGEXES: &[&str] =
    &["a.*", ".*[/.]b", "(a|b)[/.]a1.*", ".*b.*", "(/|a)*", ".*/", r".*\ba1\b.*", "[^/]*/[^/]*", "a/b", ".*é"];
const GLOBS: &[&str] = &["**", "a/**", "**/b", "*/a1", "**/{a,b}/**", "{a,**/ab}/*", "a.b", "**/[ab]1*/**", "?/a?"];

/// A pattern that can say for itself whether it matches.
trait Reference: Debug + Clone {
    fn lowered(&self) -> &Lowered;
    fn is_match(&self, path: &str, separators: &Separators) -> bool;
}

/// Lowered patterns of any shape, also of shapes that no written pattern has.
impl Reference for Lowered {
    fn lowered(&self) -> &Lowered {
        self
    }

    fn is_match(&self, path: &str, separators: &Separators) -> bool {
        naive::is_match(self, &naive::Path::cut(path, separators))
    }
}

impl Reference for Pattern {
    fn lowered(&self) -> &Lowered {
        self.lowered()
    }

    fn is_match(&self, path: &str, _: &Separators) -> bool {
        self.is_match(path)
    }
}

#[derive(Debug, Clone)]
struct TableSpec<P> {
    mode: Mode,
    rules: Vec<RuleSpec<P>>,
}

#[derive(Debug, Clone)]
struct RuleSpec<P> {
    pattern: P,
    excepts: Vec<P>,
    conditional: bool,
}

impl<P: Reference> TableSpec<P> {
    fn table(&self) -> Table<'_> {
        let rules = self.rules.iter().map(|rule| Rule {
            name: "rule",
            pattern: rule.pattern.lowered(),
            excepts: rule.excepts.iter().map(Reference::lowered).collect(),
            conditional: rule.conditional,
        });
        Table { name: "table", mode: self.mode, rules: rules.collect() }
    }
}

/// What the reference says of a table: rules that match, rules that are vetoed (and by what), all others.
type Verdict = (Vec<usize>, Vec<(usize, Vec<usize>)>, Vec<usize>);

fn reference<P: Reference>(table: &TableSpec<P>, path: &str, separators: &Separators) -> Verdict {
    let (mut matches, mut vetoed, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (index, rule) in table.rules.iter().enumerate() {
        let excepts = rule.excepts.iter().enumerate().filter(|(_, except)| except.is_match(path, separators));
        let excepts: Vec<usize> = excepts.map(|(position, _)| position).collect();
        match (rule.pattern.is_match(path, separators), excepts.is_empty()) {
            (true, true) => matches.push(index),
            (true, false) => vetoed.push((index, excepts)),
            (false, _) => others.push(index),
        }
    }
    (matches, vetoed, others)
}

/// The rules that match, up to and with the first unconditional one where the table stops there.
fn candidates<P>(table: &TableSpec<P>, matches: &[usize]) -> Vec<usize> {
    let decides = |rule: &&usize| table.mode == Mode::First && !table.rules[**rule].conditional;
    let end = matches.iter().position(|rule| decides(&rule)).map_or(matches.len(), |at| at + 1);
    matches[..end].to_vec()
}

fn check_all<P: Reference>(
    specs: &[TableSpec<P>],
    separators: &Separators,
    config: Config,
    paths: &[(String, bool)],
) -> Result<(), TestCaseError> {
    let tables: Vec<Table<'_>> = specs.iter().map(TableSpec::table).collect();
    let graph = MatcherGraph::with_config(&tables, separators, config).unwrap();
    let mut matcher = graph.matcher();
    for (path, as_tokens) in paths {
        let tokens: Vec<&str> = path.split('/').collect();
        let joined = if *as_tokens { tokens.join(&separators.joiner().to_string()) } else { path.clone() };
        let resolved = if *as_tokens { matcher.resolve_tokens(&tokens) } else { matcher.resolve(path) };
        for (id, table) in graph.tables().zip(specs) {
            let (matches, vetoed, others) = reference(table, &joined, separators);
            let found: Vec<usize> = resolved.candidates(id).iter().map(|rule| rule.index()).collect();
            prop_assert_eq!(found, candidates(table, &matches), "{:?}", joined);
            let explanation = if *as_tokens { graph.explain_tokens(id, &tokens) } else { graph.explain(id, path) };
            check_explanation(&explanation, &(matches, vetoed, others))?;
        }
    }
    Ok(())
}

/// Every rule is in one of the three lists, and says there what the reference says of its patterns.
fn check_explanation(explanation: &Explanation, (matches, vetoed, others): &Verdict) -> Result<(), TestCaseError> {
    let found = explanation.matches.iter().map(|rule| rule.rule.index());
    prop_assert_eq!(&found.collect::<Vec<_>>(), matches);
    let found = explanation.vetoed.iter().map(|rule| (rule.rule.index(), rule.excepts.clone()));
    prop_assert_eq!(&found.collect::<Vec<_>>(), vetoed);
    let mut found: Vec<usize> = explanation.near_misses.iter().map(|near| near.rule.index()).collect();
    found.sort_unstable();
    prop_assert_eq!(&found, others);
    for near in &explanation.near_misses {
        match (&near.found, explanation.tokens.get(near.at)) {
            (Some(found), Some(token)) => prop_assert!(found.ends_with(token.as_str()), "{:?}", near),
            (found, token) => prop_assert_eq!(found.as_ref(), token),
        }
        let wants_token = near.wanted.iter().any(|wanted| matches!(wanted, Wanted::Token(_)));
        prop_assert_eq!(near.missing() > 0, wants_token, "{:?}", near);
    }
    Ok(())
}

fn separators(choices: Vec<Vec<char>>) -> impl Strategy<Value = Separators> {
    select(choices).prop_map(Separators::new)
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

fn written(separators: Separators) -> impl Strategy<Value = Pattern> {
    let owned = |text: &str| text.to_owned();
    let token = prop_oneof![select(&WORDS[1..]), select(TOKEN_REGEXES)].prop_map(owned);
    prop_oneof![
        4 => vec(token, 1..4).prop_map(PatternSpec::Tokens),
        2 => select(GLOBS).prop_map(owned).prop_map(PatternSpec::Glob),
        2 => select(PATH_REGEXES).prop_map(owned).prop_map(PatternSpec::Regex),
        1 => vec(path(), 1..3).prop_map(PatternSpec::Path),
    ]
    .prop_filter_map("refused", move |spec| Pattern::new(spec, &separators).ok())
}

fn table<P: Reference>(pattern: impl Strategy<Value = P> + Clone) -> impl Strategy<Value = TableSpec<P>> {
    let excepts = prop_oneof![2 => Just(vec![]), 1 => vec(pattern.clone(), 1..3)];
    let rule = (pattern, excepts, prop::bool::weighted(0.3)).prop_map(|(pattern, excepts, conditional)| RuleSpec {
        pattern,
        excepts,
        conditional,
    });
    (select(vec![Mode::First, Mode::First, Mode::All]), vec(rule, 0..8))
        .prop_map(|(mode, rules)| TableSpec { mode, rules })
}

/// Rules about numbered layers and experts: many literals behind the same step, beside ranges of them. `crowd` is how much
/// likelier than others the range of all is, behind which rules then crowd.
fn numbered(crowd: u32) -> impl Strategy<Value = Lowered> {
    let literal = |text: &str| TokenKind::Literal(text.to_owned());
    let range = select(vec!["[0-9]", "1[0-9]", "[0-9]*[02468]", "(3|7|11)", "[0-9]+", ".*"]);
    let number = prop_oneof![
        3 => (0..14_u32).prop_map(move |number| literal(&number.to_string())),
        1 => range.prop_map(|text| TokenKind::Regex(text.to_owned())),
        crowd => Just(TokenKind::Regex("[0-9]*".to_owned())),
    ];
    let leaf = select(vec!["w", "b", "w|b", "t[0-9]", "t1.*", ".*", "scale"]);
    let leaf = leaf.prop_map(|text| TokenKind::Regex(text.to_owned()));
    let steps = (number.clone(), any::<bool>(), number, leaf).prop_map(move |(layer, of_layer, expert, leaf)| {
        let layer = if of_layer { vec![literal("layers"), layer] } else { vec![] };
        let kinds = [layer, vec![literal("experts"), expert, leaf]].concat();
        let tokens = kinds.into_iter().map(|kind| Step::Token(TokenPredicate { separator: None, kind }));
        let steps = [Step::Gap].into_iter().chain(tokens).chain([Step::Gap]).collect();
        Lowered { sequences: vec![Sequence { steps }], whole_path: None }
    });
    let whole = select(vec!["layers/[37]/.*", ".*/scale", ".*/experts/1/.*"]);
    let whole = whole.prop_map(|text| Lowered { sequences: vec![], whole_path: Some(text.to_owned()) });
    prop_oneof![60 => steps, 1 => whole]
}

fn numbered_tables() -> impl Strategy<Value = Vec<TableSpec<Lowered>>> {
    let kinds = (select(vec![0.0, 0.1, 0.5]), select(vec![0.0, 0.2]), select(vec![0, 0, 12]));
    let rules = kinds.prop_flat_map(|(conditional, excepted, crowd)| {
        let excepts = (prop::bool::weighted(excepted), numbered(crowd));
        let excepts = excepts.prop_map(|(is, except)| if is { vec![except] } else { vec![] });
        let rule = (numbered(crowd), excepts, prop::bool::weighted(conditional));
        vec(rule.prop_map(|(pattern, excepts, conditional)| RuleSpec { pattern, excepts, conditional }), 0..80)
    });
    let table = (select(vec![Mode::First, Mode::First, Mode::All]), rules);
    vec(table.prop_map(|(mode, rules)| TableSpec { mode, rules }), 1..4)
}

/// Paths in the order of a checkpoint, every tensor of an expert and every expert of a layer, with modules of a few kinds;
/// or in no order.
fn numbered_paths() -> impl Strategy<Value = Vec<(String, bool)>> {
    let mut leaves: Vec<String> = ["w", "w/scale", "b", "b/scale", "x"].map(str::to_owned).to_vec();
    leaves.extend((0..13).map(|tensor| format!("t{tensor}")));
    let count = leaves.len();
    let kinds = vec(proptest::sample::subsequence(leaves, 1..=count), 1..4);
    (vec((0..14_usize, 0..14_usize), 1..12), kinds, any::<bool>()).prop_flat_map(|(mut experts, kinds, in_order)| {
        experts.sort_unstable();
        let mut paths = Vec::new();
        for (layer, expert) in experts {
            let leaves = &kinds[(layer + expert) % kinds.len()];
            paths.extend(leaves.iter().map(|leaf| (format!("layers/{layer}/experts/{expert}/{leaf}"), false)));
            paths.push((format!("layers/{layer}/norm/{}", leaves[0]), false));
        }
        if in_order { Just(paths).boxed() } else { Just(paths).prop_shuffle().boxed() }
    })
}

fn config() -> impl Strategy<Value = Config> {
    (select(vec![0, 1000, 3000, 8000, 20_000, 1 << 26]), select(vec![0, 1 << 23]), select(vec![0, 2, 64])).prop_map(
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

fn paths() -> impl Strategy<Value = Vec<(String, bool)>> {
    vec((path(), any::<bool>()), 1..24)
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(17), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn the_matcher_answers_as_the_steps_say(
        specs in vec(table(lowered().boxed()), 1..4),
        separators in separators(vec![vec!['/', '.'], vec!['/'], vec!['.', '/', '_'], vec!['→', '/']]),
        config in config(),
        paths in paths(),
    ) {
        check_all(&specs, &separators, config, &paths)?;
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_matcher_answers_as_the_steps_say_of_many_numbers(
        specs in numbered_tables(),
        config in config(),
        paths in numbered_paths(),
    ) {
        check_all(&specs, &Separators::default(), config, &paths)?;
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn the_matcher_answers_as_the_written_patterns_say(
        (separators, specs) in separators(vec![vec!['/', '.'], vec!['/']]).prop_flat_map(|separators| {
            let pattern = written(separators.clone()).boxed();
            (Just(separators), vec(table(pattern), 1..3))
        }),
        config in config(),
        paths in paths(),
    ) {
        check_all(&specs, &separators, config, &paths)?;
    }

    #[test]
    fn two_builds_of_the_same_tables_are_equal(specs in vec(table(lowered().boxed()), 1..4)) {
        let tables: Vec<Table<'_>> = specs.iter().map(TableSpec::table).collect();
        let build = || MatcherGraph::new(&tables, &Separators::default()).unwrap();
        let text = |graph: &MatcherGraph| format!("{:?}", graph.graph());
        prop_assert_eq!(text(&build()), text(&build()));
    }
}
