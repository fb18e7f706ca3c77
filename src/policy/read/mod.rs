//! Checked document -> typed policy. Shapes and types hold already; this pass finds wrong meanings, and reports them all.

mod profiles;
mod rules;
mod settings;
mod view;

use std::sync::Arc;

use indexmap::IndexMap;

#[cfg(test)]
pub(super) use self::view::reads;

use self::view::View;
use super::language;
use super::model::{PolicyBody, Sensitive};
use super::node::{self, Node, Table, Value};
use super::written;
use crate::finding::{Code, Finding, code, suggest};
use crate::mesh::SpecEntry;
use crate::pattern::{Pattern, PatternError, PatternSpec, Separators};
use crate::source::{Sources, Span, Spanned};

/// Reads a merged document. The body is only meaningful when no finding is an error.
pub(crate) fn read(document: &Table, sources: &Sources, findings: &mut Vec<Finding>) -> PolicyBody {
    let root = Span::new(crate::source::SourceId::ROOT, 0..0);
    let view = View::new(&language::POLICY, document, root);
    let separators = separators(&view, findings);
    let layouts = view.members("stored").iter().map(|(name, _)| format!("stored.{name}")).collect();
    let mut reader = Reader { sources, findings, separators, axes: None, layouts };
    let mesh = view.table("mesh", &language::MESH).and_then(|view| settings::mesh(&mut reader, &view));
    reader.axes = mesh.as_ref().map(|declared| declared.mesh.axes().iter().map(|(name, _)| name.clone()).collect());
    let schemes = settings::schemes(&mut reader, &view);
    let samplers = profiles::samplers(&view);
    let moes = profiles::moes(&mut reader, &view);
    let body = PolicyBody {
        name: view.string("policy").unwrap_or_else(|| Spanned::new(String::new(), root)),
        partition: settings::partition(&view),
        partition_rules: rules::partition(&mut reader, &view),
        quantization: settings::quantization(&view),
        quantization_rules: rules::quantization(&mut reader, &view, &schemes),
        loader: settings::loader(&mut reader, &view),
        loader_rules: rules::loader(&mut reader, &view),
        slots: profiles::slots(&mut reader, &view, &samplers, &moes),
        lints: settings::lints(&view),
        sensitive: settings::sensitive(&mut reader, &view),
        ignored_layers: settings::ignored_layers(&view),
        ties: settings::ties(&mut reader, &view),
        stored: settings::stored(&mut reader, &view),
        expects: Vec::new(),
        settings: written::settings(document),
        separators: reader.separators.clone(),
        mesh,
        schemes,
        samplers,
        moes,
    };
    let expects = profiles::expects(&mut reader, &view, &body);
    let body = PolicyBody { expects, ..body };
    settings::layout(&mut reader, &body);
    body
}

/// What every part of the reading needs.
struct Reader<'a> {
    sources: &'a Sources,
    findings: &'a mut Vec<Finding>,
    separators: Separators,
    /// Axis names, where a mesh is declared.
    axes: Option<Vec<String>>,
    /// Stored formats that the policy declares, as `stored.NAME`.
    layouts: Vec<String>,
}

impl Reader<'_> {
    fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// A name that must be one of those declared.
    fn known<'n>(
        &mut self,
        kind: &'static Code,
        what: &str,
        name: &Spanned<String>,
        known: impl IntoIterator<Item = &'n str> + Clone,
    ) -> bool {
        if known.clone().into_iter().any(|other| other == name.value) {
            return true;
        }
        let finding = Finding::new(kind, format!("unknown {what} `{}`", name.value)).at(name.span, "");
        let finding = match suggest::help_for(&name.value, known, "this policy declares") {
            Some(help) => finding.help(help),
            None => finding.help(format!("this policy declares no {what}")),
        };
        self.push(finding);
        false
    }

    /// An axis of the mesh; every axis is known while no mesh is declared.
    fn axis(&mut self, name: &Spanned<String>) -> bool {
        match self.axes.clone() {
            Some(axes) => self.known(&code::UNKNOWN_AXIS, "mesh axis", name, axes.iter().map(String::as_str)),
            None => true,
        }
    }

    /// The axes of one entry of a spec, with their places: `"-"`, an axis, or a list of axes.
    fn spec_entry(&mut self, node: &Node) -> Option<(SpecEntry, Vec<Span>)> {
        match &node.value {
            Value::String(text) if text == "-" => Some((SpecEntry::Unsplit, Vec::new())),
            Value::String(text) => {
                let known = self.axis(&Spanned::new(text.clone(), node.span));
                known.then(|| (SpecEntry::Axis(text.clone()), vec![node.span]))
            }
            Value::Array(items) if items.is_empty() => {
                self.push(
                    Finding::new(&code::BAD_VALUE, "a spec entry without an axis")
                        .at(node.span, "")
                        .help("write `\"-\"` for a dimension that is not split"),
                );
                None
            }
            Value::Array(items) => {
                let names: Vec<Spanned<String>> =
                    items.iter().filter_map(|node| node.as_str().map(|text| text.map(str::to_owned))).collect();
                // Every unknown axis is reported, not only the first.
                let unknown = names.iter().filter(|name| !self.axis(name)).count();
                let (names, spans) = split(names);
                (unknown == 0).then_some((SpecEntry::Axes(names), spans))
            }
            _ => None,
        }
    }

    /// Compiles a pattern; `parts` are the places of its texts.
    fn pattern(&mut self, spec: PatternSpec, parts: &[Span]) -> Option<Pattern> {
        match Pattern::new(spec, &self.separators) {
            Ok(pattern) => Some(pattern),
            Err(errors) => {
                for error in errors {
                    let finding = self.pattern_finding(error, parts);
                    self.push(finding);
                }
                None
            }
        }
    }

    fn pattern_finding(&self, error: PatternError, parts: &[Span]) -> Finding {
        let finding = Finding::new(error.code, error.message);
        let finding = match parts.get(error.part) {
            Some(&span) => finding.at(node::locate(self.sources, span, error.range), ""),
            None => finding,
        };
        match error.help {
            Some(help) => finding.help(help),
            None => finding,
        }
    }

    /// A regex outside of patterns (renames, place indices): the same dialect, anchored on request.
    fn regex(&mut self, text: &Spanned<String>, anchored: bool) -> Option<Spanned<regex::Regex>> {
        match crate::pattern::regex(&text.value, anchored) {
            Ok(regex) => Some(Spanned::new(regex, text.span)),
            Err(errors) => {
                for error in errors {
                    let finding = self.pattern_finding(error, &[text.span]);
                    self.push(finding);
                }
                None
            }
        }
    }

    /// A pattern where a bare string is a glob and a table names its form.
    fn glob_or_table(&mut self, node: &Node) -> Option<Spanned<Pattern>> {
        if let Some(text) = node.as_str() {
            return self
                .pattern(PatternSpec::Glob(text.value.to_owned()), &[text.span])
                .map(|pattern| Spanned::new(pattern, text.span));
        }
        let view = View::new(&language::PATTERN, node.as_table()?, node.span);
        self.one_form(&view)
    }

    fn patterns(&mut self, nodes: &[Node]) -> Vec<Spanned<Pattern>> {
        nodes.iter().filter_map(|node| self.glob_or_table(node)).collect()
    }

    /// Exactly one of `tokens`, `glob`, `regex`, `path`.
    fn one_form(&mut self, view: &View<'_>) -> Option<Spanned<Pattern>> {
        let mut forms: Vec<(&'static str, PatternSpec, Span, Vec<Span>)> = Vec::new();
        if let (Some(texts), Some(node)) = (view.strings("tokens"), view.node("tokens")) {
            let (texts, spans) = split(texts);
            forms.push(("tokens", PatternSpec::Tokens(texts), node.span, spans));
        }
        if let Some(text) = view.string("glob") {
            forms.push(("glob", PatternSpec::Glob(text.value), text.span, vec![text.span]));
        }
        if let Some(text) = view.string("regex") {
            forms.push(("regex", PatternSpec::Regex(text.value), text.span, vec![text.span]));
        }
        if let (Some(texts), Some(node)) = (view.string_or_strings("path"), view.node("path")) {
            let (texts, spans) = split(texts);
            forms.push(("path", PatternSpec::Path(texts), node.span, spans));
        }
        if forms.len() > 1 {
            let names: Vec<_> = forms.iter().map(|(name, ..)| format!("`{name}`")).collect();
            let mut finding = Finding::new(&code::PATTERN_FORMS, format!("a pattern in {} forms", forms.len()));
            for (index, (.., span, _)) in forms.iter().enumerate() {
                finding = finding.at(*span, if index == 0 { "this one" } else { "and this one" });
            }
            self.push(finding.help(format!("keep one of {}", names.join(", "))));
        }
        let Some((_, spec, span, parts)) = forms.into_iter().next() else {
            // A form of the wrong type is reported already.
            if !["tokens", "glob", "regex", "path"].iter().any(|key| view.node(key).is_some()) {
                self.push(
                    Finding::new(&code::PATTERN_FORMS, "no pattern")
                        .at(view.span, "")
                        .help("give exactly one of `tokens`, `glob`, `regex`, `path`"),
                );
            }
            return None;
        };
        self.pattern(spec, &parts).map(|pattern| Spanned::new(pattern, span))
    }
}

fn split(texts: Vec<Spanned<String>>) -> (Vec<String>, Vec<Span>) {
    texts.into_iter().map(|text| (text.value, text.span)).unzip()
}

fn separators(view: &View<'_>, findings: &mut Vec<Finding>) -> Separators {
    let Some(texts) = view.strings("separators") else { return Separators::default() };
    let mut chars = Vec::new();
    for text in &texts {
        let mut inside = text.value.chars();
        match (inside.next(), inside.next()) {
            (Some(c), None) if c.is_ascii_punctuation() && !"*?[]{}\\,!^-".contains(c) => chars.push(c),
            _ => findings.push(
                Finding::new(&code::BAD_VALUE, format!("`{}` is not a separator", text.value))
                    .at(text.span, "")
                    .help("a separator is one ASCII punctuation character that means nothing in a glob, such as `/`, `.` or `:`"),
            ),
        }
    }
    if texts.is_empty()
        && let Some(node) = view.node("separators")
    {
        findings.push(
            Finding::new(&code::BAD_VALUE, "no separators")
                .at(node.span, "")
                .help("name at least one, or drop the key"),
        );
    }
    Separators::new(chars)
}

/// The default `[sensitive]` list: what routers, norms, embeddings and heads are called in published checkpoints.
fn default_sensitive(separators: &Separators) -> Sensitive {
    const WORDS: &[&str] = &[
        ".*router.*",
        "gate",
        "ffn_gate_inp",
        "wg",
        ".*norm.*",
        ".*Norm.*",
        "ln_.*",
        "ln[0-9]*",
        "attn_.*_a_norm",
        ".*embed.*",
        "wte",
        "wpe",
        "tok_embeddings",
        ".*lm_head.*",
        "output_layer",
        "unembed.*",
        "embed_out",
    ];
    let patterns = WORDS
        .iter()
        .filter_map(|word| Pattern::new(PatternSpec::Tokens(vec![(*word).to_owned()]), separators).ok())
        .collect();
    Sensitive { patterns, max_rank: 1 }
}

type Named<T> = IndexMap<String, T>;
type Shared = Arc<str>;
