//! Drawings as Graphviz and Mermaid read them.
//!
//! People look at these, so steps that follow each other without a fork stand in one box, and what leads to dead rules
//! only is as pale as they are. Programs read the JSON, which has every step.

use std::fmt::Write as _;

use petgraph::dot::{Config, Dot};
use petgraph::graph::{DiGraph, EdgeReference, NodeIndex};
use petgraph::visit::EdgeRef;

use super::{Dead, Drawing, DrawnEdge, DrawnNode};
use crate::units::counted;

/// The head of every DOT file: left to right, in the order of the policy, close together.
const DOT_HEAD: &str = r##"    rankdir="LR"; ordering="out"; nodesep="0.12"; ranksep="0.4"
    node [ fontname="monospace", fontsize=10, shape=box, style=rounded, margin="0.08,0.03", height=0.25 ]
    edge [ arrowsize=0.6, fontname="monospace", fontsize=9 ]
"##;

impl Drawing {
    /// Graphviz' language.
    #[must_use]
    pub fn dot(&self) -> String {
        let Picture { nodes, edges } = self.picture();
        let mut graph: DiGraph<&Shape, &DrawnEdge> = DiGraph::new();
        let indices: Vec<NodeIndex> = nodes.iter().map(|node| graph.add_node(node)).collect();
        for edge in &edges {
            if let (Some(&from), Some(&to)) = (indices.get(edge.from), indices.get(edge.to)) {
                graph.add_edge(from, to, edge);
            }
        }
        let node = |_, (_, node): (NodeIndex, &&Shape)| dot_node(node);
        let edge = |_, edge: EdgeReference<'_, &DrawnEdge>| {
            dot_edge(edge.weight(), nodes.get(edge.target().index()).is_some_and(|node| node.pale))
        };
        let config = [Config::NodeNoLabel, Config::EdgeNoLabel, Config::GraphContentOnly];
        let content = format!("{:?}", Dot::with_attr_getters(&graph, &config, &edge, &node));
        format!("digraph {} {{\n{DOT_HEAD}{content}}}\n", dot_string(&self.policy))
    }

    /// Mermaid's flowchart, as Markdown viewers draw it.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let Picture { nodes, edges } = self.picture();
        let mut out = String::from("flowchart LR\n");
        for (id, node) in nodes.iter().enumerate() {
            let lines: Vec<String> = node.lines.iter().map(|line| mermaid_text(line)).collect();
            let text = lines.join("<br>");
            let outline = match node.kind {
                "table" => format!("[[\"{text}\"]]"),
                "rule" => format!("[\"{text}\"]"),
                _ => format!("(\"{text}\")"),
            };
            let class = if node.pale { ":::dead" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  n{id}{outline}{class}");
        }
        for edge in &edges {
            let arrow = if edge.kind == "except" { "-. except .->" } else { "-->" };
            let _ = writeln!(out, "  n{} {arrow} n{}", edge.from, edge.to);
        }
        out.push_str("  classDef dead stroke-dasharray: 4 4,opacity: 0.5\n");
        out
    }

    /// The boxes to draw, numbered anew, and the edges between them.
    fn picture(&self) -> Picture {
        let next = self.only_next();
        let joined: Vec<bool> = {
            let mut joined = vec![false; self.nodes.len()];
            next.iter().flatten().for_each(|&to| set(&mut joined, to));
            joined
        };
        let pale = self.pale();
        // Every node that starts a box, with the nodes that follow it in the same box.
        let mut number = vec![None; self.nodes.len()];
        let mut nodes = Vec::new();
        for start in self.nodes.iter().filter(|node| joined.get(node.id) == Some(&false)) {
            let mut drawn = Shape { kind: start.kind, lines: Vec::new(), pale: pale.get(start.id) == Some(&true) };
            let mut text = start.text.clone();
            let mut at = Some(start.id);
            while let Some(id) = at {
                if let Some(number) = number.get_mut(id) {
                    *number = Some(nodes.len());
                }
                at = next.get(id).copied().flatten();
                if let Some(node) = at.and_then(|at| self.nodes.get(at)) {
                    // Spaces keep alternatives of one token apart from the next token.
                    text.push_str(if node.separated { "" } else { " / " });
                    text.push_str(&node.text);
                }
            }
            drawn.lines.push(text);
            drawn.lines.extend(start.decision.clone());
            drawn.lines.extend(start.remark());
            nodes.push(drawn);
        }
        let number = |id: usize| number.get(id).copied().flatten();
        let edges = self.edges.iter().filter_map(|edge| {
            let (from, to) = (number(edge.from)?, number(edge.to)?);
            (from != to).then_some(DrawnEdge { from, to, kind: edge.kind })
        });
        let edges = edges.collect();
        Picture { nodes, edges }
    }

    /// For every step the one that follows it, where nothing else follows it and it follows nothing else.
    fn only_next(&self) -> Vec<Option<usize>> {
        let (mut out, mut into) = (vec![0_usize; self.nodes.len()], vec![0_usize; self.nodes.len()]);
        for edge in &self.edges {
            if let (Some(out), Some(into)) = (out.get_mut(edge.from), into.get_mut(edge.to)) {
                *out += 1;
                *into += 1;
            }
        }
        let is_step = |id: usize| self.nodes.get(id).is_some_and(|node| node.kind == "step");
        let mut next = vec![None; self.nodes.len()];
        for edge in &self.edges {
            let alone = out.get(edge.from) == Some(&1) && into.get(edge.to) == Some(&1);
            if alone
                && is_step(edge.from)
                && is_step(edge.to)
                && let Some(next) = next.get_mut(edge.from)
            {
                *next = Some(edge.to);
            }
        }
        next
    }

    /// Dead rules, and what leads to dead rules only.
    fn pale(&self) -> Vec<bool> {
        let mut pale: Vec<bool> = self.nodes.iter().map(|node| node.dead.is_some()).collect();
        let mut follows = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            if let Some(follows) = follows.get_mut(edge.from) {
                follows.push(edge.to);
            }
        }
        // Paths are short: a few rounds settle it.
        loop {
            let mut settled = true;
            for node in self.nodes.iter().filter(|node| node.kind != "table") {
                let to = follows.get(node.id).map(Vec::as_slice).unwrap_or_default();
                let dead = !to.is_empty() && to.iter().all(|&to| pale.get(to) == Some(&true));
                if dead && pale.get(node.id) == Some(&false) {
                    set(&mut pale, node.id);
                    settled = false;
                }
            }
            if settled {
                return pale;
            }
        }
    }
}

/// What is drawn.
struct Picture {
    nodes: Vec<Shape>,
    edges: Vec<DrawnEdge>,
}

/// A box of a picture.
#[derive(Debug)]
struct Shape {
    kind: &'static str,
    lines: Vec<String>,
    pale: bool,
}

impl DrawnNode {
    /// Why a rule is dead, or how many weights it decides.
    fn remark(&self) -> Option<String> {
        let weights = self.weights.and_then(|weights| usize::try_from(weights).ok());
        self.dead.map(Dead::words).map(str::to_owned).or_else(|| weights.map(|weights| counted(weights, "weight")))
    }
}

fn set(flags: &mut [bool], at: usize) {
    if let Some(flag) = flags.get_mut(at) {
        *flag = true;
    }
}

fn dot_node(node: &Shape) -> String {
    let label = dot_string(&node.lines.join("\n"));
    let style = match (node.kind, node.pale) {
        ("table", _) => r##", style="filled,bold", fillcolor="#dddddd""##,
        ("rule", false) => r##", style=filled, fillcolor="#e3edff""##,
        ("rule", true) => r##", style=dashed, color="#888888", fontcolor="#777777""##,
        (_, true) => r##", color="#bbbbbb", fontcolor="#777777""##,
        _ => "",
    };
    format!("label={label}{style}")
}

fn dot_edge(edge: &DrawnEdge, pale: bool) -> String {
    let except = (edge.kind == "except").then_some("label=\"except\", style=dashed");
    let pale = pale.then_some(r##"color="#bbbbbb""##);
    except.into_iter().chain(pale).collect::<Vec<_>>().join(", ")
}

/// A quoted string of DOT.
fn dot_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Text in a quoted label of Mermaid, which reads HTML and its own `#` codes there.
fn mermaid_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => safe.push_str("#quot;"),
            '#' => safe.push_str("#35;"),
            '<' => safe.push_str("#lt;"),
            '>' => safe.push_str("#gt;"),
            '&' => safe.push_str("#amp;"),
            '`' => safe.push_str("#96;"),
            '\\' => safe.push_str("#92;"),
            c => safe.push(c),
        }
    }
    safe
}
