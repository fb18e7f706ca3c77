//! A matcher's memory stays within its capacity, whatever the size of what it sees: counted at the allocator.

#![expect(unsafe_code, reason = "a global allocator that counts is an unsafe trait; it only forwards to the system's")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use flow_fabric::matcher::{Config, MatcherGraph, Mode, Rule, Table};
use flow_fabric::pattern::{Pattern, PatternSpec, Separators};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call goes to the system allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        took(size);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Resolves paths that end in `weight` behind a number and in `bias`; the most bytes that the matcher held.
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
    let mut matcher = graph.matcher();
    let (mut most, before) = (0, HELD.load(Ordering::Relaxed));
    for path in paths {
        MOST.store(HELD.load(Ordering::Relaxed), Ordering::Relaxed);
        let rules = matcher.resolve(&path).candidates(table).len();
        let tokens: Vec<&str> = path.split('/').collect();
        let has = |is: &dyn Fn(&str) -> bool| usize::from(tokens.iter().any(|token| is(token)));
        let number = has(&|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(rules, number + has(&|token| token == "weight") + has(&|token| token.starts_with('x')));
        most = most.max(MOST.load(Ordering::Relaxed) - before - path.len());
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
