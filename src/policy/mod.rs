//! Policies: TOML text to a typed, validated, merged document.
//!
//! The phases: text -> tree with spans ([`syntax`], [`node`]) -> checked against the language as data ([`language`], [`check`]) ->
//! merged over `extends` ([`load`]) -> typed ([`read`], [`model`]). Each reports all that it finds.

mod analyse;
mod check;
mod compile;
pub mod draw;
pub(crate) mod language;
mod load;
mod model;
mod node;
mod read;
pub(crate) mod schema;
mod sizes;
mod syntax;
#[cfg(test)]
mod tests;
pub(crate) mod written;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::Path;

pub use compile::{PolicyMatcher, tables};
pub use model::*;
#[cfg(feature = "cli")]
pub(crate) use read::parse_bytes;
pub use schema::reference;
pub use sizes::MeshSizesError;
pub use written::Written;

use crate::finding::{self, Finding, Label, Severity};
use crate::inventory::{Checkpoint, DeclaredLayout, Grouping, Inventory};
use crate::source::{Sources, Span};

/// A typed, validated policy: every `extends` merged, every field with its place.
///
/// It never touches a checkpoint.
///
/// ```
/// use flow_fabric::Policy;
/// let policy = Policy::parse("tiny.toml", r#"
///     language = 1
///     policy = "tiny"
///     [mesh]
///     axes = ["model"]
///     shape = [2]
///     [[FLOW_FABRIC_PARTITION_RULES]]
///     name = "everything"
///     glob = "**"
///     spec = ["model"]
/// "#)?;
/// assert_eq!(policy.partition_rules[0].decision.partition_spec().to_string(), "[model]");
/// # Ok::<(), flow_fabric::policy::Rejected>(())
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    body: PolicyBody,
    sources: Sources,
    files: Vec<PolicyFile>,
    findings: Vec<Finding>,
}

/// A policy that cannot be used: what was wrong, with the texts that the findings point into.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// All findings, errors among them.
    pub findings: Vec<Finding>,
    /// The texts.
    pub sources: Sources,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error);
        let Some(first) = errors.next() else { return f.write_str("the policy was rejected") };
        if let Some(span) = first.span() {
            let at = self.sources.start(span);
            write!(f, "{}:{}:{}: ", self.sources.name(span.source), at.line, at.column)?;
        }
        write!(f, "{}: {}", first.code.id, first.message)?;
        match errors.count() {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl std::error::Error for Rejected {}

/// How a policy is loaded.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Lets `extends` leave the directory of the root policy. Default: no, since a policy that reads files from anywhere
    /// cannot be reviewed as a tree.
    pub allow_outside: bool,
    /// Reads one policy text by path. Default: the file system. Tests, revisions in version control and editors with
    /// unsaved buffers give their own.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Default for LoadOptions<'_> {
    fn default() -> Self {
        Self { allow_outside: false, read: &|path| std::fs::read_to_string(path) }
    }
}

impl fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions").field("allow_outside", &self.allow_outside).finish_non_exhaustive()
    }
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The root file cannot be read.
    #[error("{}", load::unreadable(path, source))]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It was read and is not a valid policy.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

impl Policy {
    /// Loads a policy file and all that it extends.
    ///
    /// # Errors
    /// The file cannot be read, or has findings of severity error; all of them are in the error.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        Self::load_with(path.as_ref(), LoadOptions::default())
    }

    /// Loads a policy with options.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn load_with(path: &Path, options: LoadOptions<'_>) -> Result<Self, LoadError> {
        let loader = load::Loader { read: options.read, allow_outside: options.allow_outside };
        let merged = load::load(path, &loader)
            .map_err(|source| LoadError::Unreadable { path: path.display().to_string(), source })?;
        Ok(Self::from_merged(merged)?)
    }

    /// Reads a policy from text; `name` is what findings call it. It may extend files relative to `name`.
    ///
    /// # Errors
    /// Findings of severity error; all of them are in the error.
    pub fn parse(name: &str, text: &str) -> Result<Self, Rejected> {
        let root = Path::new(name);
        let loader = load::Loader {
            read: &|path| if path == root { Ok(text.to_owned()) } else { std::fs::read_to_string(path) },
            allow_outside: false,
        };
        match load::load(root, &loader) {
            Ok(merged) => Self::from_merged(merged),
            // The root text is at hand; only a text beyond the size cap ends here.
            Err(error) => Err(Rejected {
                findings: vec![Finding::new(&finding::code::FILE_NOT_READ, format!("cannot read `{name}`: {error}"))],
                sources: Sources::default(),
            }),
        }
    }

    fn from_merged(merged: load::Merged) -> Result<Self, Rejected> {
        let load::Merged { sources, order, document, complete, mut findings } = merged;
        let body = read::read(&document, &sources, complete, &mut findings);
        finding::sort(&mut findings);
        if finding::worst(&findings) == Some(Severity::Error) {
            return Err(Rejected { findings, sources });
        }
        let files = order
            .iter()
            .map(|&source| PolicyFile { name: sources.name(source).to_owned(), rules: body.rules_of(source) })
            .collect();
        Ok(Self { body, sources, files, findings })
    }

    /// The texts that spans point into.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The files, in the order of the merge; the first is the root.
    #[must_use]
    pub fn files(&self) -> &[PolicyFile] {
        &self.files
    }

    /// The same policy with another output layout, as `--layout` asks for it.
    #[must_use]
    pub fn with_layout(mut self, layout: crate::quantize::Layout) -> Self {
        let span = self.body.quantization.layout.as_ref().map_or(self.body.name.span, |own| own.span);
        self.body.quantization.layout = Some(crate::source::Spanned::new(layout, span));
        self
    }

    /// How stored tensors become weights under this policy: excludes, declared layouts, renames, ties.
    #[must_use]
    pub fn group(&self, checkpoint: &Checkpoint) -> (Inventory, Vec<Finding>) {
        let declared: Vec<DeclaredLayout> = self.stored.values().cloned().collect();
        let ties: Vec<Vec<String>> =
            self.ties.iter().map(|tie| tie.iter().map(|path| path.value.clone()).collect()).collect();
        let grouping = Grouping {
            exclude: &|name| self.loader.exclude.iter().any(|pattern| pattern.value.is_match(name)),
            declared: &declared,
            rename: &|path| self.loader.rename.iter().find_map(|rename| rename.apply(path)),
            ties: &ties,
        };
        let (inventory, mut findings) = Inventory::group(checkpoint, &grouping);
        self.point_at_renames(&inventory, &mut findings);
        self.point_at_ties(&inventory, &mut findings);
        (inventory, findings)
    }

    /// Points a finding of colliding renames at the renames that made weights collide: those that would apply to a weight
    /// that kept its stored path.
    fn point_at_renames(&self, inventory: &Inventory, findings: &mut [Finding]) {
        let Some(finding) = findings.iter_mut().find(|finding| finding.code == &finding::code::RENAME_COLLISION) else {
            return;
        };
        let mut spans = BTreeSet::new();
        for weight in inventory.weights.iter().filter(|weight| weight.path == weight.stored_path) {
            let applied =
                self.loader.rename.iter().find_map(|rename| Some((rename, rename.apply(&weight.stored_path)?)));
            if let Some((rename, _)) = applied.filter(|(_, path)| *path != weight.path) {
                spans.insert(rename.to.span);
            }
        }
        for span in spans.into_iter().rev() {
            finding.labels.insert(0, label(span));
        }
    }

    /// Points findings of ties that cannot hold at the `[[tie]]`s that state them, in the order in which they are tried.
    fn point_at_ties(&self, inventory: &Inventory, findings: &mut [Finding]) {
        let weight = |path: &str| inventory.weights.iter().find(|weight| weight.path == path);
        let mut refused = Vec::new();
        for tie in &self.ties {
            let mut stored = tie.iter().filter_map(|path| Some((path.span, weight(&path.value)?)));
            let Some((first, _)) = stored.next() else { continue };
            refused.extend(stored.filter(|(_, weight)| weight.alias_of.is_none()).map(|(span, _)| (first, span)));
        }
        let mismatches = findings.iter_mut().filter(|finding| finding.code == &finding::code::TIE_MISMATCH);
        for (finding, (first, other)) in mismatches.zip(refused) {
            for span in [other, first] {
                finding.labels.insert(0, label(span));
            }
        }
    }

    /// The `of` token of every `when.layer` condition, `None` where it names none.
    pub(crate) fn layer_conditions(&self) -> impl Iterator<Item = Option<&str>> {
        let partition = self.partition_rules.iter().map(|rule| &rule.when);
        let quantization = self.quantization_rules.iter().map(|rule| &rule.when);
        let loader = self.loader_rules.iter().map(|rule| &rule.when);
        let conditions = partition.chain(quantization).chain(loader).flatten();
        conditions.filter_map(|when| when.value.layer.as_ref()).map(|layer| layer.of.as_deref())
    }

    /// Findings below severity error that loading gave.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

fn label(span: Span) -> Label {
    Label { place: finding::Place::Text(span), text: String::new() }
}

impl Deref for Policy {
    type Target = PolicyBody;

    fn deref(&self) -> &PolicyBody {
        &self.body
    }
}
