//! What a policy decides for one path, without a checkpoint.

use super::decide::stacked;
use super::when::{Facts, Verdict, evaluate};
use crate::matcher::{Matcher, RuleIndex};
use crate::mesh::{PartitionSpec, SpecEntry};
use crate::policy::{Policy, PolicyMatcher, Rule};

/// The answers of the three tables for one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathResolution {
    /// Of `FLOW_FABRIC_PARTITION_RULES`.
    pub partition: Answer,
    /// Of `QUANTIZATION_RULES`.
    pub quantization: Answer,
    /// Of `LOADER_RULES`.
    pub loader: Answer,
    /// Whether the path holds the stack token, which puts one unsplit dimension before the rule's spec.
    pub stacked: bool,
}

/// A table's answer for one path. Rules are positions in the policy's rule lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This rule decides.
    Decided(usize),
    /// The first of these whose conditions hold decides. Only the last may be free of conditions.
    Undecided(Vec<Candidate>),
    /// No rule holds.
    Unmatched,
}

/// A rule that may decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The rule.
    pub rule: usize,
    /// What its conditions ask for and is not known; empty when they hold.
    pub needs: Vec<&'static str>,
}

impl PathResolution {
    /// The spec of a partition rule on this path.
    #[must_use]
    pub fn spec(&self, policy: &Policy, rule: usize) -> Option<PartitionSpec> {
        let mut spec = policy.partition_rules.get(rule)?.decision.partition_spec();
        if self.stacked {
            spec.entries.insert(0, SpecEntry::Unsplit);
        }
        Some(spec)
    }
}

/// Resolves one path with what is known of its weight. Conditions on what is not known leave a table undecided.
///
/// `matcher` is the compiled policy, `walk` a matcher of its graph; asked again and again, a matcher gets faster.
///
/// ```
/// use flow_fabric::Policy;
/// use flow_fabric::plan::resolve::{Answer, resolve};
/// use flow_fabric::plan::when::Facts;
///
/// let policy = Policy::parse("tiny.toml", r#"
///     language = 1
///     policy = "tiny"
///     [mesh]
///     axes = ["model"]
///     shape = [4]
///     [[FLOW_FABRIC_PARTITION_RULES]]
///     name = "columns"
///     glob = "**/w"
///     when = { rank = 2 }
///     spec = ["-", "model"]
/// "#)?;
/// let matcher = policy.compile()?;
/// let mut walk = matcher.graph.matcher();
/// let known = Facts { shape: Some(&[512, 2048]), ..Facts::default() };
/// assert_eq!(resolve(&policy, &matcher, &mut walk, "mlp/w", &known).partition, Answer::Decided(0));
/// let unknown = resolve(&policy, &matcher, &mut walk, "mlp/w", &Facts::default());
/// assert!(matches!(unknown.partition, Answer::Undecided(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn resolve(
    policy: &Policy,
    matcher: &PolicyMatcher,
    walk: &mut Matcher<'_>,
    path: &str,
    facts: &Facts<'_>,
) -> PathResolution {
    let matches = walk.resolve(path);
    PathResolution {
        partition: first(&policy.partition_rules, matches.candidates(matcher.partition), facts),
        quantization: first(&policy.quantization_rules, matches.candidates(matcher.quantization), facts),
        loader: first(&policy.loader_rules, matches.candidates(matcher.loader), facts),
        stacked: stacked(policy, path),
    }
}

/// The first candidate that holds; those before it that may hold make it undecided.
fn first<D>(rules: &[Rule<D>], matched: &[RuleIndex], facts: &Facts<'_>) -> Answer {
    let mut candidates: Vec<Candidate> = Vec::new();
    for index in matched.iter().map(|rule| rule.index()) {
        let when = rules.get(index).and_then(|rule| rule.when.as_ref());
        // Without a checkpoint no layer is known, so the last argument is never asked.
        match when.map_or(Verdict::Holds, |when| evaluate(&when.value, facts, |_| None)) {
            Verdict::Fails(_) => {}
            Verdict::Undecided(needs) => candidates.push(Candidate { rule: index, needs }),
            Verdict::Holds if candidates.is_empty() => return Answer::Decided(index),
            Verdict::Holds => {
                candidates.push(Candidate { rule: index, needs: Vec::new() });
                break;
            }
        }
    }
    if candidates.is_empty() { Answer::Unmatched } else { Answer::Undecided(candidates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_end_with_the_first_that_holds_for_certain() {
        let policy = Policy::parse(
            "p.toml",
            r#"
            language = 1
            policy = "p"
            [mesh]
            axes = ["m"]
            shape = [2]
            [partition]
            stack_token = "stack"
            [[FLOW_FABRIC_PARTITION_RULES]]
            name = "matrices"
            glob = "**/w"
            when = { rank = 2 }
            spec = ["m"]
            [[FLOW_FABRIC_PARTITION_RULES]]
            name = "first-layer"
            glob = "**/w"
            when = { layer = { first = 1 } }
            spec = []
            [[FLOW_FABRIC_PARTITION_RULES]]
            name = "rest"
            glob = "**/{w,b}"
            spec = ["-"]
            [[FLOW_FABRIC_PARTITION_RULES]]
            name = "behind"
            glob = "**/never"
            spec = ["-"]
            "#,
        )
        .unwrap();
        let matcher = policy.compile().unwrap();
        let mut walk = matcher.graph.matcher();
        let mut ask = |path: &str, shape: Option<&[u64]>| {
            let resolution = resolve(&policy, &matcher, &mut walk, path, &Facts { shape, ..Facts::default() });
            assert_eq!(resolution.quantization, Answer::Unmatched);
            resolution
        };
        let candidate = |rule: usize, needs: &[&'static str]| Candidate { rule, needs: needs.to_vec() };
        assert_eq!(ask("a/w", Some(&[2, 2])).partition, Answer::Decided(0));
        assert_eq!(ask("a/b", None).partition, Answer::Decided(2));
        assert_eq!(ask("a/x", None).partition, Answer::Unmatched);
        let all = vec![candidate(0, &["rank"]), candidate(1, &["layer"]), candidate(2, &[])];
        assert_eq!(ask("a/w", None).partition, Answer::Undecided(all));
        let behind = vec![candidate(1, &["layer"]), candidate(2, &[])];
        assert_eq!(ask("a/w", Some(&[2])).partition, Answer::Undecided(behind));
        let stacked = ask("stack/w", Some(&[2, 2]));
        assert_eq!(stacked.spec(&policy, 0).unwrap().to_string(), "[-, m]");
    }
}
