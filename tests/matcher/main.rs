//! The matcher against a slow, obvious reference, on random policies and on real inventories.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod explain;
mod naive;
mod parity;
mod properties;

use flow_fabric::pattern::{Pattern, PatternSpec, Separators};

fn pattern(spec: PatternSpec, separators: &Separators) -> Pattern {
    Pattern::new(spec, separators).unwrap()
}
