//! The matcher graph of a policy as a drawing: tables, shared steps, rules with what they decide, dead rules marked.

mod render;

use petgraph::graph::NodeIndex;
use petgraph::visit::EdgeRef;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Policy, PolicyMatcher, tables};
use crate::analysis;
use crate::matcher::{Edge, Node, RuleIndex, TableId};
use crate::pattern::Step;

/// What the `format` key of a drawing in JSON says.
pub const FORMAT: &str = "flow-fabric/graph";

/// Why a rule is drawn as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dead {
    /// It can never match any path.
    Unreachable,
    /// Earlier rules take every path that it matches.
    Shadowed,
    /// It matches no weight of the checkpoint.
    Unused,
    /// It matches weights of the checkpoint, but decides none.
    NeverDecides,
}

impl Dead {
    const fn words(self) -> &'static str {
        match self {
            Dead::Unreachable => "can never match",
            Dead::Shadowed => "shadowed",
            Dead::Unused => "matches nothing",
            Dead::NeverDecides => "decides nothing",
        }
    }
}

/// A node of a drawing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DrawnNode {
    /// Number in this drawing.
    pub id: usize,
    /// `table`, `step`, `whole-path` or `rule`.
    pub kind: &'static str,
    /// The table's name, the step as a pattern writes it, or the rule's name.
    pub text: String,
    /// The table that it belongs to, for tables and rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<&'static str>,
    /// What the rule decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Why the rule is dead, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead: Option<Dead>,
    /// Weights of the checkpoint that the rule decides, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<u64>,
    /// The step names the separator before it, so that its text begins with it.
    #[serde(skip)]
    separated: bool,
}

/// What is known of a rule besides what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Why it is dead, if it is.
    pub dead: Option<Dead>,
    /// Weights that it decides.
    pub weights: Option<u64>,
}

/// An edge of a drawing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DrawnEdge {
    /// Where it starts.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// `next`, `accept` or `except`.
    pub kind: &'static str,
}

/// A drawing, in the order in which the policy declares things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(title = "flow-fabric graph")]
pub struct Drawing {
    /// Always `flow-fabric/graph`.
    pub format: &'static str,
    /// Version of this shape.
    pub format_version: u32,
    /// Name of the policy.
    pub policy: String,
    /// Tables, steps and rules.
    pub nodes: Vec<DrawnNode>,
    /// What leads where.
    pub edges: Vec<DrawnEdge>,
}

impl Drawing {
    /// Draws the partition, quantization and loader tables; `mark` says what is known of a rule, by table name and
    /// position.
    #[must_use]
    pub fn new(policy: &Policy, matcher: &PolicyMatcher, mark: impl Fn(&str, usize) -> Mark) -> Self {
        let graph = matcher.graph.graph();
        let shown = [
            (tables::PARTITION, matcher.partition),
            (tables::QUANTIZATION, matcher.quantization),
            (tables::LOADER, matcher.loader),
        ];
        let shown: Vec<(&'static str, TableId)> =
            shown.into_iter().filter(|(_, table)| matcher.graph.rules(*table).len() > 0).collect();
        let mut numbers: Vec<Option<usize>> = vec![None; graph.node_count()];
        let (mut nodes, mut edges) = (Vec::new(), Vec::new());
        for (name, table) in shown {
            let mut open = vec![matcher.graph.root(table)];
            while let Some(at) = open.pop() {
                let Some(number) = numbers.get_mut(at.index()).filter(|number| number.is_none()) else { continue };
                *number = Some(nodes.len());
                nodes.push(node(policy, name, nodes.len(), graph.node_weight(at), &mark));
                // petgraph lists the newest edge first, so that the stack gives them in the order of the policy.
                open.extend(graph.neighbors(at));
            }
        }
        let number = |at: NodeIndex| numbers.get(at.index()).copied().flatten();
        for edge in graph.edge_references() {
            let (Some(from), Some(to)) = (number(edge.source()), number(edge.target())) else { continue };
            let kind = match edge.weight() {
                Edge::Next => "next",
                Edge::Accept => "accept",
                Edge::Veto(_) => "except",
            };
            edges.push(DrawnEdge { from, to, kind });
        }
        edges.sort_by_key(|edge| (edge.from, edge.to));
        Self { format: FORMAT, format_version: 1, policy: policy.name.value.clone(), nodes, edges }
    }
}

/// Rules that are dead whatever the checkpoint, by table name and position.
#[must_use]
pub fn dead_by_analysis(policy: &Policy) -> Vec<(&'static str, usize, Dead)> {
    let mut dead = Vec::new();
    let mut add = |table: &'static str, verdicts: Vec<analysis::Verdict>| {
        for (index, verdict) in verdicts.iter().enumerate() {
            match verdict {
                analysis::Verdict::Never(_) => dead.push((table, index, Dead::Unreachable)),
                analysis::Verdict::Shadowed { .. } => dead.push((table, index, Dead::Shadowed)),
                analysis::Verdict::Reachable { .. } | analysis::Verdict::Undecided(_) => {}
            }
        }
    };
    let options = analysis::Options::default();
    add(tables::PARTITION, super::analyse::verdicts(&policy.partition_rules, &options));
    add(tables::QUANTIZATION, super::analyse::verdicts(&policy.quantization_rules, &options));
    add(tables::LOADER, super::analyse::verdicts(&policy.loader_rules, &options));
    dead
}

fn node(
    policy: &Policy,
    table: &'static str,
    id: usize,
    node: Option<&Node>,
    mark: &impl Fn(&str, usize) -> Mark,
) -> DrawnNode {
    let (kind, text) = match node {
        Some(Node::Table(_)) => ("table", table.to_owned()),
        Some(Node::Rule(_, rule)) => return leaf(policy, table, id, *rule, mark),
        Some(whole @ Node::WholePath(_)) => ("whole-path", whole.to_string()),
        Some(step) => ("step", step.to_string()),
        None => ("step", String::new()),
    };
    let owner = (kind == "table").then_some(table);
    // As in `explain`: the lowered form spells "any character" for every mode, people write `.`.
    let text = text.replace("(?s:.*)", ".*").replace("(?s:.)", ".");
    let separated = matches!(node, Some(Node::Step(Step::Token(token))) if token.separator.is_some());
    DrawnNode { id, kind, text, table: owner, decision: None, dead: None, weights: None, separated }
}

fn leaf(
    policy: &Policy,
    table: &'static str,
    id: usize,
    rule: RuleIndex,
    mark: &impl Fn(&str, usize) -> Mark,
) -> DrawnNode {
    let at = rule.index();
    let (name, decision, conditional) = match table {
        tables::PARTITION => policy
            .partition_rules
            .get(at)
            .map(|rule| (&rule.name, rule.decision.partition_spec().to_string(), rule.when.is_some())),
        tables::QUANTIZATION => policy.quantization_rules.get(at).map(|rule| {
            (&rule.name, rule.decision.scheme.value.as_deref().unwrap_or("keep").to_owned(), rule.when.is_some())
        }),
        _ => policy.loader_rules.get(at).map(|rule| {
            let load = crate::plan::LoadPlan::new(policy, Some(&rule.decision));
            (&rule.name, format!("{}, {}, {}", load.read, load.stage, load.verify), rule.when.is_some())
        }),
    }
    .map_or_else(
        || (String::new(), String::new(), false),
        |(name, decision, when)| (name.value.to_string(), decision, when),
    );
    let decision = if conditional { format!("{decision} when") } else { decision };
    let Mark { dead, weights } = mark(table, at);
    DrawnNode {
        id,
        kind: "rule",
        text: name,
        table: Some(table),
        decision: Some(decision),
        dead,
        weights,
        separated: false,
    }
}
