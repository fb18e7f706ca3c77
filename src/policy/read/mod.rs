//! Checked document -> typed policy. Shapes and types hold already; this pass finds wrong meanings, and reports them all.

mod profiles;
mod quantizing;
mod rules;
mod samplers;
mod settings;
mod view;

#[cfg(feature = "cli")]
pub(crate) use self::settings::bytes as parse_bytes;
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
use crate::inventory::StoredFormat;
use crate::mesh::SpecEntry;
use crate::pattern::{Pattern, PatternError, PatternSpec, Separators};
use crate::source::{Sources, Span, Spanned};

/// Reads a merged document. The body is only meaningful when no finding is an error.
///
/// `complete` says that every table was read; without it nothing is said about names that may be declared in the rest.
pub(crate) fn read(document: &Table, sources: &Sources, complete: bool, findings: &mut Vec<Finding>) -> PolicyBody {
    let root = Span::new(crate::source::SourceId::ROOT, 0..0);
    let view = View::new(&language::POLICY, document, root);
    let separators = separators(&view, complete, findings);
    let mut reader = Reader {
        sources,
        findings,
        separators: separators.clone().unwrap_or_default(),
        separators_known: separators.is_some(),
        axes: None,
        formats: view.names("stored").map(|own| {
            StoredFormat::NAMES
                .iter()
                .map(|name| (*name).to_owned())
                .chain(own.iter().map(|name| format!("stored.{name}")))
                .collect()
        }),
        complete,
    };
    let mesh = view.table("mesh", &language::MESH).and_then(|view| settings::mesh(&mut reader, &view));
    reader.axes = mesh.as_ref().map(|declared| declared.mesh.axes().iter().map(|(name, _)| name.clone()).collect());
    let schemes = settings::schemes(&mut reader, &view);
    let samplers = samplers::samplers(&mut reader, &view);
    let moes = samplers::moes(&mut reader, &view);
    let body = PolicyBody {
        name: view.string("policy").unwrap_or_else(|| Spanned::new(String::new(), root)),
        partition: settings::partition(&view),
        partition_rules: rules::partition(&mut reader, &view),
        quantization: settings::quantization(&view),
        quantization_rules: rules::quantization(&mut reader, &view),
        siblings: quantizing::siblings(&mut reader, &view),
        experts: quantizing::experts(&mut reader, &view),
        loader: settings::loader(&mut reader, &view),
        loader_rules: rules::loader(&mut reader, &view),
        slots: profiles::slots(&mut reader, &view),
        lints: settings::lints(&view),
        sensitive: settings::sensitive(&mut reader, &view),
        ignored_layers: settings::ignored_layers(&view),
        ties: settings::ties(&mut reader, &view),
        stored: settings::stored(&mut reader, &view),
        expects: profiles::expects(&mut reader, &view),
        settings: written::settings(document),
        separators: reader.separators.clone(),
        mesh,
        schemes,
        samplers,
        moes,
    };
    settings::layout(&mut reader, &view, &body);
    body
}

/// What every part of the reading needs.
struct Reader<'a> {
    sources: &'a Sources,
    findings: &'a mut Vec<Finding>,
    separators: Separators,
    /// Whether those are the policy's, and not a guess in place of what could not be read.
    separators_known: bool,
    /// Axis names, where a mesh is declared.
    axes: Option<Vec<String>>,
    /// Stored formats, known and declared ones; `None` where not all declared ones could be read.
    formats: Option<Vec<String>>,
    /// Whether every table was read.
    complete: bool,
}

impl Reader<'_> {
    fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// A name that must be one of those declared; `known` is `None` where not all of them could be read.
    fn known(&mut self, kind: &'static Code, what: &str, name: &Spanned<String>, known: Option<&[&str]>) -> bool {
        let Some(known) = known.filter(|_| self.complete) else { return true };
        self.declared(kind, what, name, known, "this policy declares")
    }

    /// The same where the list of names is whole; `whose` begins the sentence that lists them.
    fn declared(
        &mut self,
        kind: &'static Code,
        what: &str,
        name: &Spanned<String>,
        known: &[&str],
        whose: &str,
    ) -> bool {
        if known.contains(&name.value.as_str()) {
            return true;
        }
        let finding = Finding::new(kind, format!("unknown {what} `{}`", name.value)).at(name.span, "");
        let finding = match suggest::help_for(&name.value, known.iter().copied(), whose) {
            Some(help) => finding.help(help),
            None => finding.help(format!("this policy declares no {what}")),
        };
        self.push(finding);
        false
    }

    /// An axis of the mesh; every axis is known while no mesh is declared.
    fn axis(&mut self, name: &Spanned<String>) -> bool {
        let Some(axes) = self.axes.clone() else { return true };
        let axes: Vec<&str> = axes.iter().map(String::as_str).collect();
        self.declared(&code::UNKNOWN_AXIS, "mesh axis", name, &axes, "the mesh has")
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
                if names.len() < items.len() {
                    return None;
                }
                // Every unknown axis is reported, not only the first.
                let unknown = names.iter().filter(|name| !self.axis(name)).count();
                let (names, spans) = split(names);
                (unknown == 0).then_some((SpecEntry::Axes(names), spans))
            }
            _ => None,
        }
    }

    /// Compiles a pattern; `parts` are the places of its texts, `whole` that of all of it.
    fn pattern(&mut self, spec: PatternSpec, parts: &[Span], whole: Span) -> Option<Pattern> {
        match Pattern::new(spec, &self.separators) {
            Ok(pattern) => Some(pattern),
            Err(errors) => {
                // What is no token at one separator may be one at another.
                let depends = |error: &PatternError| {
                    [&code::GLOB_SYNTAX, &code::SEPARATOR_IN_TOKEN].contains(&error.code) && !self.separators_known
                };
                for error in errors.into_iter().filter(|error| !depends(error)).collect::<Vec<_>>() {
                    let finding = self.pattern_finding(error, parts, whole);
                    self.push(finding);
                }
                None
            }
        }
    }

    fn pattern_finding(&self, error: PatternError, parts: &[Span], whole: Span) -> Finding {
        let finding = Finding::new(error.code, error.message);
        let finding = match parts.get(error.part) {
            // The two quotes of an empty text are easier to see than what is between them.
            Some(&span) if error.range.is_empty() && self.sources.snippet(span).len() <= 2 => finding.at(span, ""),
            Some(&span) => finding.at(node::locate(self.sources, span, error.range), ""),
            None => finding.at(whole, ""),
        };
        match error.help {
            Some(help) => finding.help(help),
            None => finding,
        }
    }

    /// A regex outside of patterns (renames, place indices): the same dialect, anchored on request.
    ///
    /// `instead` says what to do in place of a look-around, as there is no `except` beside it.
    fn regex(&mut self, text: &Spanned<String>, anchored: bool, instead: &str) -> Option<Spanned<regex::Regex>> {
        match crate::pattern::regex(&text.value, anchored) {
            Ok(regex) => Some(Spanned::new(regex, text.span)),
            Err(errors) => {
                for error in errors {
                    let finding = self.pattern_finding(error, &[text.span], text.span);
                    self.push(if finding.code == &code::LOOK_AROUND { finding.help(instead) } else { finding });
                }
                None
            }
        }
    }

    /// A pattern where a bare string is a glob and a table names its form.
    fn glob_or_table(&mut self, node: &Node) -> Option<Spanned<Pattern>> {
        if let Some(text) = node.as_str() {
            return self
                .pattern(PatternSpec::Glob(text.value.to_owned()), &[text.span], text.span)
                .map(|pattern| Spanned::new(pattern, text.span));
        }
        let view = View::new(&language::PATTERN, node.as_table()?, node.span);
        self.one_form(&view, None)
    }

    fn patterns(&mut self, nodes: &[Node]) -> Vec<Spanned<Pattern>> {
        nodes.iter().filter_map(|node| self.glob_or_table(node)).collect()
    }

    /// Exactly one of `tokens`, `glob`, `regex`, `path`; `rule` names the rule that the pattern is of.
    fn one_form(&mut self, view: &View<'_>, rule: Option<&str>) -> Option<Spanned<Pattern>> {
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
            let message = match rule {
                Some(rule) => format!("rule `{rule}` has a pattern in {} forms", forms.len()),
                None => format!("a pattern in {} forms", forms.len()),
            };
            let mut finding = Finding::new(&code::PATTERN_FORMS, message);
            for (index, (.., span, _)) in forms.iter().enumerate() {
                finding = finding.at(*span, if index == 0 { "this one" } else { "and this one" });
            }
            self.push(finding.help(format!("keep one of {}", names.join(", "))));
        }
        let Some((_, spec, span, parts)) = forms.into_iter().next() else {
            // A form that cannot be read is reported already.
            if !view.has_any(&["tokens", "glob", "regex", "path"]) {
                let message =
                    rule.map_or_else(|| "no pattern".to_owned(), |rule| format!("rule `{rule}` has no pattern"));
                self.push(
                    Finding::new(&code::PATTERN_FORMS, message)
                        .at(view.span, "")
                        .help("give exactly one of `tokens`, `glob`, `regex`, `path`"),
                );
            }
            return None;
        };
        self.pattern(spec, &parts, span).map(|pattern| Spanned::new(pattern, span))
    }
}

fn split(texts: Vec<Spanned<String>>) -> (Vec<String>, Vec<Span>) {
    texts.into_iter().map(|text| (text.value, text.span)).unzip()
}

/// The policy's separators; `None` where they are not known for certain.
fn separators(view: &View<'_>, complete: bool, findings: &mut Vec<Finding>) -> Option<Separators> {
    let Some(node) = view.node("separators") else { return complete.then(Separators::default) };
    let texts = view.strings("separators")?;
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
    if node.as_array().is_some_and(<[Node]>::is_empty) {
        findings.push(
            Finding::new(&code::BAD_VALUE, "no separators")
                .at(node.span, "")
                .help("name at least one, or drop the key"),
        );
    }
    (node.as_array().is_some_and(|items| items.len() == chars.len()) && !chars.is_empty())
        .then(|| Separators::new(chars))
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
