//! Lint levels: what `[lints]` and the command line make of findings.
//!
//! A finding whose code is a warning or an info by default is a lint: it can be allowed, kept as a warning, or denied.
//! An error cannot be lowered, since a plan that breaks its policy is not one to trust.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::{Code, Finding, Severity, by_id_or_name, code, suggest};
use crate::source::Span;

/// The group of every finding that comes out as a warning.
pub const WARNINGS: &str = "warnings";

/// What to make of a lint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Drop it.
    Allow,
    /// Report it as a warning.
    Warn,
    /// Report it as an error.
    Deny,
}

impl Level {
    /// `allow`, `warn` or `deny`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Allow => "allow",
            Level::Warn => "warn",
            Level::Deny => "deny",
        }
    }
}

impl FromStr for Level {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Level::Allow, Level::Warn, Level::Deny].into_iter().find(|level| level.name() == text).ok_or(())
    }
}

/// One line of `[lints]`, or one `-A`, `-W` or `-D`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintLevel {
    /// A finding's name or code, or [`WARNINGS`].
    pub name: String,
    /// What to make of it.
    pub level: Level,
    /// Why; an `allow` of a policy needs one.
    pub reason: Option<String>,
    /// Where the policy says so; `None` for the command line.
    pub span: Option<Span>,
}

impl LintLevel {
    /// A level from the command line.
    #[must_use]
    pub fn from_flag(level: Level, name: impl Into<String>) -> Self {
        Self { name: name.into(), level, reason: None, span: None }
    }
}

/// What a name in a [`LintLevel`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lint {
    /// [`WARNINGS`].
    Warnings,
    /// One kind of finding.
    One(&'static Code),
}

impl Lint {
    /// Finds a lint by name or code.
    ///
    /// ```
    /// use flow_fabric::finding::levels::Lint;
    /// assert_eq!(Lint::named("warnings"), Some(Lint::Warnings));
    /// assert_eq!(Lint::named("unknown-lint"), Lint::named("FF601"));
    /// assert_eq!(Lint::named("no-such-lint"), None);
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name == WARNINGS { Some(Self::Warnings) } else { by_id_or_name(name).map(Self::One) }
    }

    /// A help text for a name that is no lint.
    #[must_use]
    pub fn help_for(name: &str) -> String {
        let names = super::CODES.iter().map(|code| code.name).chain([WARNINGS]);
        suggest::did_you_mean(name, names)
            .unwrap_or_else(|| String::from("`flow-fabric rule` lists every name and code"))
    }
}

/// Applies levels to all the findings of a run, adds what is to be said about the levels themselves, and sorts.
///
/// `declared` is the policy's `[lints]` followed by the command line's flags; `looked_for` as in [`Levels::idle`].
#[must_use]
pub fn settle(declared: &[LintLevel], findings: Vec<Finding>, looked_for: impl Fn(&Code) -> bool) -> Vec<Finding> {
    let (levels, wrong) = Levels::new(declared);
    // A policy that allows all warnings does not thereby allow what is said of that line itself.
    let by_policy = levels.allows.iter().any(|(lint, _)| *lint == Lint::Warnings);
    let about_levels = Levels { warnings: levels.warnings.filter(|_| !by_policy), ..levels.clone() };
    let Applied { findings: about_levels, silenced: mut silenced_levels } = about_levels.apply(wrong);
    let Applied { mut findings, mut silenced } = levels.apply(findings);
    silenced.append(&mut silenced_levels);
    findings.extend(about_levels);
    findings.extend(levels.apply(levels.idle(&silenced, looked_for)).findings);
    super::sort(&mut findings);
    findings
}

/// Levels by lint, ready to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    by_code: BTreeMap<&'static str, Level>,
    warnings: Option<Level>,
    /// The policy's allows that are in force, for [`Levels::idle`].
    allows: Vec<(Lint, LintLevel)>,
}

/// What became of findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Those that are left, at their new severities, in the same order.
    pub findings: Vec<Finding>,
    /// Codes of those that an allow dropped.
    pub silenced: BTreeSet<&'static str>,
}

impl Levels {
    /// Resolves levels, later ones over earlier ones: the policy's first, then the command line's.
    ///
    /// The findings say which names are no lint, which allows give no reason, and which try to lower an error.
    #[must_use]
    pub fn new(declared: &[LintLevel]) -> (Self, Vec<Finding>) {
        let (mut levels, mut findings) = (Self::default(), Vec::new());
        for entry in declared {
            let at = |finding: Finding| match entry.span {
                Some(span) => finding.at(span, ""),
                None => finding,
            };
            let Some(lint) = Lint::named(&entry.name) else {
                let message = format!("unknown lint `{}`", entry.name);
                findings.push(at(Finding::new(&code::UNKNOWN_LINT, message).help(Lint::help_for(&entry.name))));
                continue;
            };
            if let Lint::One(code) = lint
                && code.severity == Severity::Error
                && entry.level != Level::Deny
            {
                let message = format!("`{}` is always an error; `{}` does not lower it", code.name, entry.level.name());
                findings.push(at(Finding::new(&code::NOT_A_LINT, message)
                    .help("put right what it finds, or take the line out of `[lints]`")));
                continue;
            }
            if entry.level == Level::Allow
                && entry.span.is_some()
                && entry.reason.as_ref().is_none_or(|reason| reason.trim().is_empty())
            {
                let message = format!("`{}` is allowed without a reason", entry.name);
                let help = format!("write `{} = {{ level = \"allow\", reason = \"...\" }}`", entry.name);
                findings.push(at(Finding::new(&code::ALLOW_WITHOUT_REASON, message).help(help)));
            }
            levels.set(lint, entry);
        }
        (levels, findings)
    }

    fn set(&mut self, lint: Lint, entry: &LintLevel) {
        match lint {
            Lint::Warnings => self.warnings = Some(entry.level),
            Lint::One(code) => {
                self.by_code.insert(code.id, entry.level);
            }
        }
        // A later level for the same lint takes an allow out of force.
        self.allows.retain(|(allowed, _)| *allowed != lint);
        if entry.level == Level::Allow && entry.span.is_some() {
            self.allows.push((lint, entry.clone()));
        }
    }

    /// The severity at which a finding of this kind is reported; `None` when it is dropped.
    ///
    /// A lint's own level comes first; the level of [`WARNINGS`] then applies to whatever is a warning.
    #[must_use]
    pub fn severity(&self, code: &Code) -> Option<Severity> {
        self.severity_of(code, code.severity)
    }

    fn severity_of(&self, code: &Code, severity: Severity) -> Option<Severity> {
        let own = match self.by_code.get(code.id) {
            Some(Level::Allow) => return None,
            Some(Level::Deny) => Severity::Error,
            Some(Level::Warn) => Severity::Warning,
            None => severity,
        };
        match (own, self.warnings) {
            (Severity::Warning, Some(Level::Allow)) => None,
            (Severity::Warning, Some(Level::Deny)) => Some(Severity::Error),
            (own, _) => Some(own),
        }
    }

    /// Drops what is allowed and sets the severity of the rest.
    #[must_use]
    pub fn apply(&self, findings: Vec<Finding>) -> Applied {
        let mut applied = Applied::default();
        for mut finding in findings {
            match self.severity_of(finding.code, finding.severity) {
                Some(severity) => {
                    finding.severity = severity;
                    applied.findings.push(finding);
                }
                None => {
                    applied.silenced.insert(finding.code.id);
                }
            }
        }
        applied
    }

    /// The policy's allows that dropped nothing.
    ///
    /// `silenced` is what [`Levels::apply`] gave over the whole run. `looked_for` says which kinds the run could have
    /// found at all: without a checkpoint nobody knows what a rule matches, so an allow for that is not idle.
    #[must_use]
    pub fn idle(&self, silenced: &BTreeSet<&'static str>, looked_for: impl Fn(&Code) -> bool) -> Vec<Finding> {
        let idle = |lint: &Lint| match lint {
            Lint::Warnings => silenced.is_empty(),
            Lint::One(code) => !silenced.contains(code.id) && looked_for(code),
        };
        self.allows
            .iter()
            .filter(|(lint, _)| idle(lint))
            .map(|(_, entry)| {
                let finding =
                    Finding::new(&code::ALLOW_SILENCES_NOTHING, format!("allowing `{}` silences nothing", entry.name))
                        .help("delete the line; what it allowed is no longer found");
                match entry.span {
                    Some(span) => finding.at(span, ""),
                    None => finding,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{SourceId, Sources};

    fn source() -> SourceId {
        Sources::default().add("policy.toml", "")
    }

    fn declared(name: &str, level: Level, reason: Option<&str>) -> LintLevel {
        LintLevel {
            name: name.to_owned(),
            level,
            reason: reason.map(str::to_owned),
            span: Some(Span::new(source(), 0..0)),
        }
    }

    fn flag(level: Level, name: &str) -> LintLevel {
        LintLevel::from_flag(level, name)
    }

    /// Severity of a warning, of another warning, and of an error under the levels; codes of what the levels get.
    fn outcome(levels: &[LintLevel]) -> ([Option<Severity>; 3], Vec<&'static str>) {
        let (levels, findings) = Levels::new(levels);
        let codes = [&code::ALLOW_WITHOUT_REASON, &code::ALLOW_SILENCES_NOTHING, &code::UNKNOWN_KEY];
        (codes.map(|code| levels.severity(code)), findings.iter().map(|finding| finding.code.id).collect())
    }

    #[test]
    fn the_last_level_for_a_name_wins_and_warnings_come_after_names() {
        use Level::{Allow, Deny, Warn};
        const ERROR: Option<Severity> = Some(Severity::Error);
        const WARNING: Option<Severity> = Some(Severity::Warning);
        let name = "allow-without-reason";
        let severities = |levels: &[LintLevel]| outcome(levels).0;
        assert_eq!(severities(&[]), [WARNING, WARNING, ERROR]);
        assert_eq!(severities(&[flag(Deny, name)]), [ERROR, WARNING, ERROR]);
        assert_eq!(severities(&[flag(Allow, name)]), [None, WARNING, ERROR]);
        assert_eq!(severities(&[flag(Allow, name), flag(Warn, "FF603")]), [WARNING, WARNING, ERROR]);
        assert_eq!(severities(&[flag(Deny, WARNINGS)]), [ERROR, ERROR, ERROR]);
        assert_eq!(severities(&[flag(Deny, WARNINGS), flag(Allow, name)]), [None, ERROR, ERROR]);
        assert_eq!(severities(&[flag(Warn, name), flag(Deny, WARNINGS)]), [ERROR, ERROR, ERROR]);
        assert_eq!(severities(&[flag(Deny, name), flag(Allow, WARNINGS)]), [ERROR, None, ERROR]);
        assert_eq!(severities(&[flag(Deny, WARNINGS), flag(Warn, WARNINGS)]), [WARNING, WARNING, ERROR]);
    }

    #[test]
    fn what_is_wrong_with_levels_is_found_and_errors_are_not_lowered() {
        let (severities, found) = outcome(&[
            declared("unknown-key", Level::Allow, Some("we know")),
            declared("FF002", Level::Warn, None),
            declared("syntax", Level::Deny, None),
            declared("unknwon-lint", Level::Deny, None),
            declared("allow-without-reason", Level::Allow, Some("  ")),
            flag(Level::Allow, "allow-silences-nothing"),
        ]);
        assert_eq!(severities, [None, None, Some(Severity::Error)]);
        assert_eq!(found, ["FF602", "FF602", "FF601", "FF603"]);
        let (_, findings) = Levels::new(&[declared("unknwon-lint", Level::Deny, None)]);
        assert_eq!(findings[0].help.as_deref(), Some("did you mean `unknown-lint`?"));
    }

    #[test]
    fn findings_are_dropped_and_raised_and_keep_their_order() {
        let (levels, _) = Levels::new(&[
            declared("allow-without-reason", Level::Allow, Some("legacy")),
            flag(Level::Deny, "allow-silences-nothing"),
        ]);
        let applied = levels.apply(vec![
            Finding::new(&code::ALLOW_SILENCES_NOTHING, "b"),
            Finding::new(&code::ALLOW_WITHOUT_REASON, "c"),
            Finding::new(&code::UNKNOWN_KEY, "a"),
        ]);
        let left: Vec<_> = applied.findings.iter().map(|finding| (finding.severity, &*finding.message)).collect();
        assert_eq!(left, [(Severity::Error, "b"), (Severity::Error, "a")]);
        assert_eq!(applied.silenced, BTreeSet::from(["FF603"]));
    }

    #[test]
    fn a_run_is_settled_with_the_findings_about_its_levels() {
        let declared = [
            declared("unused-rlue", Level::Deny, None),
            declared("allow-without-reason", Level::Allow, Some("nothing lacks one")),
            flag(Level::Deny, WARNINGS),
        ];
        let settled = settle(&declared, vec![Finding::new(&code::UNKNOWN_KEY, "a")], |_| true);
        let lines: Vec<_> = settled.iter().map(|finding| (finding.code.id, finding.severity)).collect();
        let error = Severity::Error;
        assert_eq!(lines, [("FF601", error), ("FF604", error), ("FF002", error)]);
    }

    #[test]
    fn an_idle_allow_is_one_of_the_policy_that_could_have_silenced_something() {
        let allow = declared("allow-without-reason", Level::Allow, Some("legacy"));
        let idle = |declared: &[LintLevel], silenced: &[&'static str], looked_for: bool| {
            let (levels, _) = Levels::new(declared);
            levels.idle(&silenced.iter().copied().collect(), |_| looked_for).len()
        };
        assert_eq!(idle(std::slice::from_ref(&allow), &[], true), 1);
        assert_eq!(idle(std::slice::from_ref(&allow), &[], false), 0);
        assert_eq!(idle(std::slice::from_ref(&allow), &["FF603"], true), 0);
        assert_eq!(idle(&[allow, flag(Level::Deny, "FF603")], &[], true), 0);
        assert_eq!(idle(&[flag(Level::Allow, "FF603")], &[], true), 0);
        assert_eq!(idle(&[declared(WARNINGS, Level::Allow, Some("migration"))], &[], true), 1);
    }
}
