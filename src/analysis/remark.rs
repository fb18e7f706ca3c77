//! What to say about a verdict.

use super::{Never, Undecided, Verdict};
use crate::finding::{Code, code};

/// A finding on a rule, short of its places: the caller knows where rules stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The kind.
    pub code: &'static Code,
    /// One sentence.
    pub message: String,
    /// What to write at the rule itself; may be empty.
    pub label: String,
    /// What to write at other rules, by index.
    pub others: Vec<(usize, String)>,
    /// What to do about it.
    pub help: String,
}

/// The most other rules that a remark points at; the message counts them all.
const MAX_OTHERS: usize = 4;

/// What to say about the rule `rule` of a table; `names` are those of its rules. `None` for a reachable rule.
#[must_use]
pub fn remark(rule: usize, verdict: &Verdict, names: &[&str]) -> Option<Remark> {
    let name = |rule: usize| names.get(rule).copied().unwrap_or("?");
    let this = name(rule);
    Some(match verdict {
        Verdict::Reachable { .. } => return None,
        Verdict::Never(Never::Pattern) => Remark {
            code: &code::UNREACHABLE_RULE,
            message: format!("rule `{this}` can never match any path"),
            label: "no path satisfies all of this at once".to_owned(),
            others: Vec::new(),
            help: "a `\\b` between two letters and an empty class such as `[^\\w\\W]` never match; correct the pattern"
                .to_owned(),
        },
        Verdict::Never(Never::Except) => Remark {
            code: &code::UNREACHABLE_RULE,
            message: format!("rule `{this}` can never match any path: its `except` takes them all"),
            label: String::new(),
            others: Vec::new(),
            help: "narrow `except`, or delete the rule".to_owned(),
        },
        Verdict::Never(Never::Universe) => Remark {
            code: &code::OUTSIDE_UNIVERSE,
            message: format!("rule `{this}` matches no path shape of the universe"),
            label: String::new(),
            others: Vec::new(),
            help: "compare the pattern with the shapes that `inspect` prints".to_owned(),
        },
        Verdict::Shadowed { by } => {
            let takers = match by.as_slice() {
                [one] => format!("rule `{}` takes every path that it matches", name(one.rule)),
                several => format!("{} earlier rules together take every path that it matches", several.len()),
            };
            let first = by.first().map_or(String::new(), |taken| format!("matches `{}`", taken.witness));
            Remark {
                code: &code::SHADOWED_RULE,
                message: format!("rule `{this}` never decides: {takers}"),
                label: first,
                others: by
                    .iter()
                    .take(MAX_OTHERS)
                    .map(|taken| match by.as_slice() {
                        // The one path is at the rule itself.
                        [_] => (taken.rule, "takes it first".to_owned()),
                        _ => (taken.rule, format!("takes `{}` first", taken.witness)),
                    })
                    .collect(),
                help: match by.as_slice() {
                    [one] => format!("move `{this}` before `{}`, narrow that one, or delete `{this}`", name(one.rule)),
                    _ => format!("move `{this}` before them, narrow them, or delete `{this}`"),
                },
            }
        }
        Verdict::Undecided(reason) => Remark {
            code: &code::UNDECIDED_REACHABILITY,
            message: format!("whether rule `{this}` can decide was not settled: {}", why(*reason, &name)),
            label: String::new(),
            others: Vec::new(),
            help: "a plan over a checkpoint says which rules matched; simpler patterns can be settled".to_owned(),
        },
    })
}

fn why<'a>(reason: Undecided, name: &dyn Fn(usize) -> &'a str) -> String {
    match reason {
        Undecided::States => "its patterns and those before it need more states than the budget".to_owned(),
        Undecided::Pattern { rule } => format!("the automaton of rule `{}` would be too large", name(rule)),
        Undecided::Universe => "the automaton of the universe would be too large".to_owned(),
        Undecided::Characters => "the patterns tell too many non-ASCII characters apart".to_owned(),
        Undecided::Witness => "a witness did not stand up to the reference matcher".to_owned(),
    }
}
