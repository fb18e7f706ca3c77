//! Why a path is decided as it is: the winner, every rule that matched and lost, and the near misses.

use serde::{Deserialize, Serialize};

use super::layers::Layer;
use super::when::{Facts, Verdict, evaluate};
use crate::Dtype;
use crate::matcher::{NearMiss, TableId};
use crate::policy::{Loading, Policy, PolicyMatcher, Quantizing, Rule, Sharding, tables};

/// What is known of the weight at a path.
pub struct Subject<'a> {
    /// The path.
    pub path: &'a str,
    /// Logical dimensions.
    pub shape: Option<&'a [u64]>,
    /// Dtype of the values.
    pub dtype: Option<Dtype>,
    /// Stored format's name.
    pub format: Option<&'a str>,
    /// Looks the weight's layer up, by the named token if one is given; `None` when layers were not counted.
    pub layer: Option<&'a LayerOf<'a>>,
}

/// Gives the layer of a weight, by the named token if one is given.
pub type LayerOf<'a> = dyn Fn(Option<&str>) -> Option<Layer> + 'a;

/// All three tables on one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PathExplanation {
    /// The path.
    pub path: String,
    /// Partition, quantization and loader, in this order.
    pub tables: Vec<TableExplanation>,
}

/// One table on one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TableExplanation {
    /// `partition`, `quantization` or `loader`.
    pub table: String,
    /// Whether the table decides.
    pub state: State,
    /// What is decided: the winner's spec, scheme or reading, or what holds without a rule.
    pub decision: String,
    /// Every rule whose pattern matches, in the order in which they are asked.
    pub matched: Vec<MatchedRule>,
    /// The rules that came nearest, nearest first.
    pub near_misses: Vec<NearMissRecord>,
    /// Rules that are not nearer than those, and not listed.
    pub others: usize,
}

/// Whether a table decides a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A rule wins.
    Decided,
    /// It depends on facts that are not known; the candidates are in order.
    Undecided,
    /// No rule holds.
    Unmatched,
}

/// A rule and where it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RulePlace {
    /// Its name.
    pub rule: String,
    /// The file.
    pub file: String,
    /// The line of its name.
    pub line: usize,
}

/// A rule whose pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MatchedRule {
    /// The rule.
    #[serde(flatten)]
    pub place: RulePlace,
    /// What it would decide.
    pub decision: String,
    /// What became of it.
    pub outcome: RuleOutcome,
    /// Why, as a sentence; empty for the winner.
    pub why: String,
}

/// What became of a rule whose pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuleOutcome {
    /// It decides.
    Wins,
    /// An earlier rule decides.
    Lost,
    /// One of its exceptions matches.
    Excepted,
    /// One of its conditions does not hold.
    ConditionFails,
    /// Its conditions ask for facts that are not known.
    Undecided,
}

/// A rule that nearly matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NearMissRecord {
    /// The rule.
    #[serde(flatten)]
    pub place: RulePlace,
    /// Number of the token at which it stopped, from 0.
    pub token: usize,
    /// What it wanted there.
    pub wanted: String,
    /// What stands there; `null` at the end of the path.
    pub found: Option<String>,
}

/// Near misses that are listed.
const MOST_NEAR: usize = 3;

/// Explains all three tables on one path.
#[must_use]
pub fn explain(policy: &Policy, matcher: &PolicyMatcher, subject: &Subject<'_>) -> PathExplanation {
    let spec = |sharding: &Sharding| match &sharding.place {
        Some(place) => format!("{} placed over {}", sharding.partition_spec(), place.value.axis),
        None => sharding.partition_spec().to_string(),
    };
    let scheme = |quantizing: &Quantizing| quantizing.scheme.value.as_deref().unwrap_or("keep").to_owned();
    let loading = |loading: &Loading| loading_text(policy, loading);
    let unmatched_shard = if policy.partition.unmatched_replicate {
        "replicated: no rule matches"
    } else {
        "none: no rule matches, which is an error"
    };
    let unmatched_quant = if policy.quantization.unmatched_error {
        "none: no rule matches, which is an error"
    } else {
        "keep: no rule matches"
    };
    let default_load = format!("{}: the defaults of `[loader]`", loading_text(policy, &Loading::default()));
    let tables = vec![
        Asker { policy, matcher, subject, rules: &policy.partition_rules, describe: &spec }.ask(
            tables::PARTITION,
            matcher.partition,
            unmatched_shard,
        ),
        Asker { policy, matcher, subject, rules: &policy.quantization_rules, describe: &scheme }.ask(
            tables::QUANTIZATION,
            matcher.quantization,
            unmatched_quant,
        ),
        Asker { policy, matcher, subject, rules: &policy.loader_rules, describe: &loading }.ask(
            tables::LOADER,
            matcher.loader,
            &default_load,
        ),
    ];
    PathExplanation { path: subject.path.to_owned(), tables }
}

fn loading_text(policy: &Policy, loading: &Loading) -> String {
    let load = super::LoadPlan::new(policy, Some(loading));
    format!("read {}, stage {}, verify {}", load.read, load.stage, load.verify)
}

struct Asker<'a, D> {
    policy: &'a Policy,
    matcher: &'a PolicyMatcher,
    subject: &'a Subject<'a>,
    rules: &'a [Rule<D>],
    describe: &'a dyn Fn(&D) -> String,
}

impl<D> Asker<'_, D> {
    fn ask(&self, name: &str, table: TableId, unmatched: &str) -> TableExplanation {
        let explanation = self.matcher.graph.explain(table, self.subject.path);
        let mut all: Vec<(usize, Option<&Vec<usize>>)> =
            explanation.matches.iter().map(|matched| (matched.rule.index(), None)).collect();
        all.extend(explanation.vetoed.iter().map(|vetoed| (vetoed.rule.index(), Some(&vetoed.excepts))));
        all.sort_by_key(|(rule, _)| *rule);
        let mut state = State::Unmatched;
        let mut decision = unmatched.to_owned();
        let mut winner: Option<String> = None;
        let mut matched = Vec::new();
        for (index, excepts) in all {
            let Some(rule) = self.rules.get(index) else { continue };
            let described = (self.describe)(&rule.decision);
            let (outcome, why) = match (excepts, &winner) {
                (Some(excepts), _) => (RuleOutcome::Excepted, self.excepted(rule, excepts)),
                (None, Some(winner)) => (RuleOutcome::Lost, format!("`{winner}` stands before it")),
                (None, None) => self.conditions(rule),
            };
            match outcome {
                // Candidates behind an undecided one may still decide: the first that holds for certain closes the list.
                RuleOutcome::Wins if state == State::Undecided => {
                    winner = Some(rule.name.value.to_string());
                    matched.push(self.matched(
                        rule,
                        described,
                        RuleOutcome::Undecided,
                        "if those before it do not hold".to_owned(),
                    ));
                    continue;
                }
                RuleOutcome::Wins => {
                    state = State::Decided;
                    decision.clone_from(&described);
                    winner = Some(rule.name.value.to_string());
                }
                RuleOutcome::Undecided if winner.is_none() => {
                    state = State::Undecided;
                    "it depends on the candidates below".clone_into(&mut decision);
                }
                _ => {}
            }
            matched.push(self.matched(rule, described, outcome, why));
        }
        let near: Vec<NearMissRecord> = explanation
            .near_misses
            .iter()
            .filter(|miss| miss.matched + miss.resumed > 0)
            .take(MOST_NEAR)
            .filter_map(|miss| self.near(miss))
            .collect();
        let others = explanation.near_misses.len() - near.len();
        TableExplanation { table: name.to_owned(), state, decision, matched, near_misses: near, others }
    }

    fn conditions(&self, rule: &Rule<D>) -> (RuleOutcome, String) {
        let Some(when) = &rule.when else { return (RuleOutcome::Wins, String::new()) };
        let subject = self.subject;
        let facts = Facts {
            shape: subject.shape,
            dtype: subject.dtype,
            format: subject.format,
            layers_known: subject.layer.is_some(),
        };
        match evaluate(&when.value, &facts, |of| subject.layer.and_then(|layer| layer(of))) {
            Verdict::Holds => (RuleOutcome::Wins, String::new()),
            Verdict::Fails(why) => (RuleOutcome::ConditionFails, why),
            Verdict::Undecided(facts) => (RuleOutcome::Undecided, format!("depends on {}", facts.join(", "))),
        }
    }

    fn excepted(&self, rule: &Rule<D>, excepts: &[usize]) -> String {
        let patterns: Vec<String> = excepts
            .iter()
            .filter_map(|&at| rule.except.get(at))
            .map(|pattern| format!("`{}`", pattern.value))
            .collect();
        format!("its `except` {} matches", patterns.join(", "))
    }

    fn matched(&self, rule: &Rule<D>, decision: String, outcome: RuleOutcome, why: String) -> MatchedRule {
        MatchedRule { place: self.place(rule), decision, outcome, why }
    }

    fn place(&self, rule: &Rule<D>) -> RulePlace {
        let sources = self.policy.sources();
        RulePlace {
            rule: rule.name.value.to_string(),
            file: sources.name(rule.name.span.source).to_owned(),
            line: sources.start(rule.name.span).line,
        }
    }

    fn near(&self, miss: &NearMiss) -> Option<NearMissRecord> {
        let rule = self.rules.get(miss.rule.index())?;
        // The lowered form spells "any character" so that it holds in every mode; people write `.`.
        let plain = |text: String| format!("`{}`", text.replace("(?s:.*)", ".*").replace("(?s:.)", "."));
        let wanted: Vec<String> = miss.wanted.iter().map(|wanted| plain(wanted.to_string())).collect();
        Some(NearMissRecord {
            place: self.place(rule),
            token: miss.at,
            wanted: wanted.join(" or "),
            found: miss.found.clone(),
        })
    }
}
