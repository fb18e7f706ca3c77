//! Puts the seeds of the fuzz targets through the checks of the targets.

#![expect(clippy::unwrap_used, reason = "a seed that cannot be read fails the test")]

mod common;

fn replay(target: &str, check: fn(&str)) {
    let folder = format!("{}/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() > 20, "the seeds are missing");
    for seed in seeds {
        check(&std::fs::read_to_string(&seed).unwrap());
    }
}

#[test]
fn dialect_seeds_hold() {
    replay("dialect", common::seed::dialect);
}

#[test]
fn glob_seeds_hold() {
    replay("glob", common::seed::glob);
}
