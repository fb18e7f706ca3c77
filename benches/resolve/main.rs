//! What it costs to resolve every path of a large checkpoint, by number of rules, beside other ways to do it.
//!
//! `cargo bench --bench resolve` prints a table. Each measurement of the matcher begins with an empty cache and takes
//! every path in order: interning, classification and determinisation are part of it. All ways must give the same
//! answers, and that is checked. `cargo bench --bench resolve -- matcher` leaves the other ways out, `-- cold` all but
//! the first column, which takes few seconds and is what a profile should see; numbers choose the numbers of rules.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and one that cannot go on has failed")]

#[path = "../../tests/support/counting.rs"]
mod counting;
mod paths;
mod random;
mod rules;

use std::hint::black_box;
use std::time::{Duration, Instant};

use flow_fabric::matcher::{Config, MatcherGraph, Mode, Rule, Table};
use flow_fabric::pattern::{Pattern, PatternSpec, Separators};
use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// So many that a process's first moments, which some machines spend at half their speed, are the lesser part of them.
const RUNS: usize = 301;
/// In random order, where a run takes ten times as long.
const SHUFFLED_RUNS: usize = 31;
/// The other ways stop when they have taken this long; what they did until then counts.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let (alone, cold) = (has("matcher"), has("cold"));
    let mut sizes: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    let paths = paths::deepseek();
    let mut shuffled = paths.clone();
    random::Random(3).shuffle(&mut shuffled);
    println!("{} paths, one thread, median of {RUNS} runs", paths.len());
    println!(
        "{:>7} {:>12} {:>12} {:>12} {:>12} {:>12} {:>12} {:>12} {:>10} {:>12} {:>12}",
        "rules",
        "matcher",
        "3 tables",
        "conditions",
        "shuffled",
        "simulated",
        "compile",
        "graph",
        "cache",
        "RegexSet",
        "Regex loop"
    );
    for size in sizes {
        let rules = rules::rules(size);
        let separators = Separators::default();
        let patterns: Vec<Pattern> = rules
            .iter()
            .map(|tokens| Pattern::new(PatternSpec::Tokens(tokens.clone()), &separators).unwrap())
            .collect();
        if cold {
            let graph = build(&patterns, 1, NONE, &separators, Config::new());
            println!("{size:>7} {:>9.1} ns", time(&graph, &paths, RUNS));
            continue;
        }
        let mut compile = Vec::new();
        let (graph, graph_bytes) = counting::peak(|| {
            let mut graph = None;
            for _ in 0..5 {
                drop(graph.take());
                let start = Instant::now();
                graph = Some(build(&patterns, 1, NONE, &separators, Config::new()));
                compile.push(start.elapsed());
            }
            graph.unwrap()
        });
        let (answers, cache_bytes) = counting::peak(|| resolve(&graph, &paths));
        let in_order = time(&graph, &paths, RUNS);
        let dealt_out = build(&patterns, 3, NONE, &separators, Config::new());
        assert_eq!(resolve(&dealt_out, &paths), answers);
        let three_tables = time(&dealt_out, &paths, RUNS);
        let conditional = build(&patterns, 1, TENTH, &separators, Config::new());
        assert_eq!(resolve(&conditional, &paths), answers);
        let conditions = time(&conditional, &paths, RUNS);
        let in_no_order = time(&graph, &shuffled, SHUFFLED_RUNS);
        let simulated = time(&build(&patterns, 1, NONE, &separators, Config::new().cache_capacity(0)), &paths, 1);
        print!(
            "{size:>7} {:>9.1} ns {:>9.1} ns {:>9.1} ns {:>9.1} ns {:>9.0} ns {:>9.2} ms {:>8.2} MiB {:>6.2} MiB",
            in_order,
            three_tables,
            conditions,
            in_no_order,
            simulated,
            median(compile).as_secs_f64() * 1e3,
            graph_bytes as f64 / f64::from(1 << 20),
            (cache_bytes - answers.len() * size_of::<Option<u32>>()) as f64 / f64::from(1 << 20),
        );
        if alone {
            println!();
            continue;
        }
        let texts: Vec<String> = rules.iter().map(|rule| rules::whole_path(rule)).collect();
        let set = RegexSetBuilder::new(&texts).size_limit(1 << 32).dfa_size_limit(1 << 30).build().unwrap();
        let each: Vec<Regex> = texts.iter().map(|text| RegexBuilder::new(text).build().unwrap()).collect();
        let with_set = |set: &RegexSet, path: &str| set.matches(path).iter().next();
        let with_each = |each: &Vec<Regex>, path: &str| each.iter().position(|regex| regex.is_match(path));
        for cost in [others(&set, with_set, &paths, &answers), others(&each, with_each, &paths, &answers)] {
            print!(" {cost:>9.0} ns");
        }
        println!();
    }
}

/// Which rules have conditions besides their patterns: none of them, or every tenth.
type Conditional = fn(usize) -> bool;
const NONE: Conditional = |_| false;
const TENTH: Conditional = |rule| rule % 10 == 0;

/// Deals the patterns out to up to three tables, those that a policy has for partition, quantization and loaders.
fn build(
    patterns: &[Pattern],
    tables: usize,
    conditional: Conditional,
    separators: &Separators,
    config: Config,
) -> MatcherGraph {
    let names = &["partition", "quantization", "loader"][..tables];
    let table = |(at, name): (usize, &&'static str)| {
        let rules = patterns.iter().enumerate().skip(at).step_by(tables).map(|(at, pattern)| Rule {
            name: "rule",
            pattern: pattern.lowered(),
            excepts: vec![],
            conditional: conditional(at),
        });
        Table { name, mode: Mode::First, rules: rules.collect() }
    };
    let tables: Vec<Table<'_>> = names.iter().enumerate().map(table).collect();
    MatcherGraph::with_config(&tables, separators, config).unwrap()
}

/// Time per path, cold, the median of some runs.
fn time(graph: &MatcherGraph, paths: &[String], runs: usize) -> f64 {
    let runs = (0..runs).map(|_| {
        let start = Instant::now();
        black_box(resolve_only(graph, paths));
        start.elapsed()
    });
    per_path(median(runs.collect()), paths.len())
}

/// The deciding rule of every path: the first in the order in which rules were dealt out to tables.
fn resolve(graph: &MatcherGraph, paths: &[String]) -> Vec<Option<u32>> {
    let mut matcher = graph.matcher();
    let tables = graph.tables().len();
    let mut answers = Vec::with_capacity(paths.len());
    for path in paths {
        let matches = matcher.resolve(path);
        let rules = graph.tables().filter_map(|table| {
            let rule = matches.candidates(table).first()?;
            Some((rule.index() * tables + table.index()) as u32)
        });
        answers.push(rules.min());
    }
    answers
}

/// What is timed: the same for all tables, without a list of answers.
fn resolve_only(graph: &MatcherGraph, paths: &[String]) -> usize {
    let mut matcher = graph.matcher();
    let mut sum = 0_usize;
    for path in paths {
        let matches = matcher.resolve(path);
        for table in graph.tables() {
            sum = sum.wrapping_add(matches.candidates(table).first().map_or(0, |rule| rule.index()));
        }
    }
    sum
}

/// Time per path of another way, over the paths in steps that spread over all of them, until patience ends.
fn others<M>(matcher: &M, first: impl Fn(&M, &str) -> Option<usize>, paths: &[String], answers: &[Option<u32>]) -> f64 {
    // Coprime with the number of paths: every path is visited once.
    let step = 7_919;
    let mut done = 0;
    let start = Instant::now();
    while done < paths.len() && start.elapsed() < PATIENCE {
        let at = done * step % paths.len();
        let answer = first(matcher, &paths[at]).map(|rule| rule as u32);
        assert_eq!(answer, answers[at], "{}", paths[at]);
        done += 1;
    }
    per_path(start.elapsed(), done)
}

fn per_path(time: Duration, paths: usize) -> f64 {
    time.as_secs_f64() * 1e9 / paths as f64
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
