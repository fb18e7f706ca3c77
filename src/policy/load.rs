//! Reads a policy file and all that it extends, checks each, and merges them into one document.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, EdgeReference, NodeIndex};
use petgraph::visit::EdgeRef;

use super::check;
use super::node::{Node, Table, Value};
use super::syntax;
use crate::finding::{Finding, code};
use crate::source::{SourceId, Sources, Span, Spanned};

/// Policy files beyond this size are not policy files.
const MAX_FILE: usize = 16 << 20;
/// More files than any policy has; stops a runaway `extends`.
const MAX_FILES: usize = 256;

/// Top-level arrays that concatenate, own elements first.
const LISTS: &[&str] = &["expect", "tie"];
/// Top-level keys that say something about their own file only.
const OWN: &[&str] = &["language", "policy", "extends"];
/// Rule tables.
pub(crate) const RULE_TABLES: &[&str] = &["FLOW_FABRIC_PARTITION_RULES", "QUANTIZATION_RULES", "LOADER_RULES"];

/// How files are found.
pub(crate) struct Loader<'a> {
    /// Reads one text; lets callers serve policies from memory or from a version control system.
    pub(crate) read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Allows `extends` to leave the root policy's directory.
    pub(crate) allow_outside: bool,
}

/// The merged document, whatever its findings.
pub(crate) struct Merged {
    pub(crate) sources: Sources,
    /// One per source, in the order of the merge.
    pub(crate) order: Vec<SourceId>,
    pub(crate) document: Table,
    /// Whether every table of every file is in the document, so that a name that is not declared there is not declared.
    pub(crate) complete: bool,
    pub(crate) findings: Vec<Finding>,
}

/// Loads `root` and what it extends.
///
/// # Errors
/// The root file cannot be read.
pub(crate) fn load(root: &Path, loader: &Loader<'_>) -> io::Result<Merged> {
    let text = read_capped(root, loader)?;
    let mut files = Files {
        sources: Sources::default(),
        findings: Vec::new(),
        graph: DiGraph::new(),
        by_path: BTreeMap::new(),
        complete: true,
    };
    let base = directory(root);
    let first = files.add(root, &text);
    let mut at = 0;
    while let Some(file) = files.graph.node_indices().nth(at) {
        at += 1;
        files.follow(file, &base, loader);
    }
    files.report_cycles();
    let order = files.linearise(first);
    let document = merge(&files, &order);
    let Files { sources, graph, mut findings, complete, .. } = files;
    check::merged(&document, &sources, &mut findings);
    let order = order.iter().filter_map(|&file| graph.node_weight(file)).map(|file| file.source).collect();
    Ok(Merged { sources, order, document, complete, findings })
}

struct File {
    source: SourceId,
    path: PathBuf,
    table: Table,
}

struct Files {
    sources: Sources,
    findings: Vec<Finding>,
    /// An edge is an `extends` entry and where it is written.
    graph: DiGraph<File, Span>,
    by_path: BTreeMap<PathBuf, NodeIndex>,
    complete: bool,
}

impl Files {
    fn add(&mut self, path: &Path, text: &str) -> NodeIndex {
        let source = self.sources.add(&path.display().to_string(), text);
        let syntax::Parsed { mut table, span, complete } = syntax::parse(&self.sources, source, &mut self.findings);
        self.complete &= complete;
        check::document(&mut table, span, &self.sources, &mut self.findings);
        let index = self.graph.add_node(File { source, path: path.to_owned(), table });
        self.by_path.insert(normal(path), index);
        index
    }

    /// Reads what one file extends.
    fn follow(&mut self, file: NodeIndex, base: &Path, loader: &Loader<'_>) {
        let Some(File { path, table, .. }) = self.graph.node_weight(file) else { return };
        let directory = directory(path);
        let extends = table.get("extends");
        let items = extends.and_then(Node::as_array).unwrap_or_default();
        let named: Vec<Spanned<String>> = items
            .iter()
            .filter_map(|node| node.as_str().map(|name| Spanned::new(name.value.to_owned(), name.span)))
            .collect();
        // What cannot be read is not followed either.
        self.complete &= named.len() == items.len() && extends.is_none_or(|node| node.as_array().is_some());
        for name in named {
            let path =
                if directory.as_os_str().is_empty() { PathBuf::from(&name.value) } else { directory.join(&name.value) };
            let path = tidy(&path);
            if !loader.allow_outside && leaves(base, &path) {
                self.complete = false;
                self.findings.push(
                    Finding::new(&code::OUTSIDE_TREE, format!("`{}` leaves the directory of the policy", name.value))
                        .at(name.span, "")
                        .help("copy it below the policy, or pass `--allow-outside`"),
                );
                continue;
            }
            if let Some(&known) = self.by_path.get(&normal(&path)) {
                self.graph.add_edge(file, known, name.span);
                continue;
            }
            if self.graph.node_count() >= MAX_FILES {
                self.complete = false;
                let message = format!("a policy of more than {MAX_FILES} files");
                self.findings.push(Finding::new(&code::FILE_NOT_READ, message).at(name.span, ""));
                return;
            }
            match read_capped(&path, loader) {
                Ok(text) => {
                    let added = self.add(&path, &text);
                    self.graph.add_edge(file, added, name.span);
                }
                Err(error) => {
                    self.complete = false;
                    let message = unreadable(&path.display().to_string(), &error);
                    self.findings.push(
                        Finding::new(&code::FILE_NOT_READ, message)
                            .at(name.span, "")
                            .help("paths in `extends` are relative to the file that says it"),
                    );
                }
            }
        }
    }

    /// Names every file of every loop, in the order in which they extend each other.
    fn report_cycles(&mut self) {
        let mut found = Vec::new();
        for component in tarjan_scc(&self.graph) {
            let looped =
                component.len() > 1 || component.first().is_some_and(|&file| self.graph.contains_edge(file, file));
            if !looped {
                continue;
            }
            let Some(&start) = component.iter().min() else { continue };
            // Walk along edges inside the component until a file repeats: that is a loop.
            let mut walk = vec![start];
            let mut spans = Vec::new();
            loop {
                let here = walk.last().copied().unwrap_or(start);
                let Some(edge) = self.extended(here).into_iter().find(|edge| component.contains(&edge.target())) else {
                    break;
                };
                let next = edge.target();
                spans.push(*edge.weight());
                if let Some(first) = walk.iter().position(|&file| file == next) {
                    walk.drain(..first);
                    spans.drain(..first);
                    walk.push(next);
                    break;
                }
                walk.push(next);
            }
            self.complete = false;
            let names: Vec<String> = walk
                .iter()
                .filter_map(|&file| self.graph.node_weight(file))
                .map(|file| format!("`{}`", self.sources.name(file.source)))
                .collect();
            if let [only] = spans[..] {
                let message = format!("{} extends itself", names.first().map_or("a policy", String::as_str));
                found.push(Finding::new(&code::EXTENDS_CYCLE, message).at(only, "").help("leave it out"));
                continue;
            }
            let mut finding =
                Finding::new(&code::EXTENDS_CYCLE, format!("policies extend each other: {}", names.join(" -> ")));
            for (index, span) in spans.into_iter().enumerate() {
                finding = finding.at(span, if index == 0 { "the loop starts here" } else { "and goes on here" });
            }
            found.push(finding.help("move what they share into a file that extends none of them"));
        }
        self.findings.extend(found);
    }

    /// Depth first in the order of `extends`, each file once, never before one that extends it: reverse postorder.
    fn linearise(&self, first: NodeIndex) -> Vec<NodeIndex> {
        let mut finished = Vec::new();
        self.finish(first, &mut vec![false; self.graph.node_count()], &mut finished);
        finished.reverse();
        finished
    }

    /// Appends a file behind all that it extends; the last one extended is finished first, so that the first one ends up
    /// nearest. Recursion is bounded by [`MAX_FILES`].
    fn finish(&self, file: NodeIndex, seen: &mut [bool], finished: &mut Vec<NodeIndex>) {
        match seen.get_mut(file.index()) {
            Some(seen) if !*seen => *seen = true,
            _ => return,
        }
        for edge in self.extended(file).into_iter().rev() {
            self.finish(edge.target(), seen, finished);
        }
        finished.push(file);
    }

    /// What a file extends, in the order in which it says so.
    fn extended(&self, file: NodeIndex) -> Vec<EdgeReference<'_, Span>> {
        let mut edges: Vec<_> = self.graph.edges(file).collect();
        edges.sort_by_key(|edge| *edge.weight());
        edges
    }
}

/// Own rules before inherited ones, settings per key, named tables whole.
fn merge(files: &Files, order: &[NodeIndex]) -> Table {
    let torn = order.iter().filter_map(|&file| files.graph.node_weight(file)).any(|file| file.table.torn);
    let mut merged = Table { torn, ..Table::default() };
    for (position, file) in order.iter().filter_map(|&file| files.graph.node_weight(file)).enumerate() {
        for (key, node) in &file.table.entries {
            if position > 0 && OWN.contains(&key.value.as_str()) {
                continue;
            }
            let Some(existing) = merged.get_mut(&key.value) else {
                merged.entries.push((key.clone(), node.clone()));
                continue;
            };
            match (&mut existing.value, &node.value) {
                (Value::Array(own), Value::Array(inherited))
                    if RULE_TABLES.contains(&key.value.as_str()) || LISTS.contains(&key.value.as_str()) =>
                {
                    own.extend(inherited.iter().cloned());
                }
                // Settings merge per key and named members are replaced whole: one level deep, both times.
                (Value::Table(own), Value::Table(inherited)) => {
                    own.torn |= inherited.torn;
                    for (name, member) in &inherited.entries {
                        if own.get(&name.value).is_none() {
                            own.entries.push((name.clone(), member.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    merged
}

fn read_capped(path: &Path, loader: &Loader<'_>) -> io::Result<String> {
    let text = (loader.read)(path)?;
    if text.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(text)
}

/// Why a file cannot be read, in words.
pub(super) fn unreadable(path: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("`{path}` does not exist"),
        io::ErrorKind::IsADirectory => format!("`{path}` is a directory, not a policy"),
        io::ErrorKind::InvalidData => format!("`{path}` is not UTF-8 text"),
        _ => format!("cannot read `{path}`: {error}"),
    }
}

fn directory(path: &Path) -> PathBuf {
    path.parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Drops `.` and resolves `..` where the parent is named in the path.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}

/// One key per file, whatever it is called on the way: through links where it exists.
fn normal(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| tidy(path))
}

/// Whether a file lies outside a directory, links resolved.
fn leaves(base: &Path, path: &Path) -> bool {
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    match (base.canonicalize(), path.canonicalize()) {
        (Ok(base), Ok(path)) => !path.starts_with(base),
        _ => {
            let base = tidy(base);
            !tidy(path).starts_with(&base) || tidy(path).components().next() == Some(Component::ParentDir)
        }
    }
}
