//! `check`: all that can be said about policies, without a checkpoint and against some.

use std::path::{Path, PathBuf};

use clap::Args;

use super::input::{self, MeshOption, PolicyOptions};
use super::lints::LintFlags;
use super::watch::watch;
use super::{Outcome, Stop, Ui, json};
use crate::analysis;
use crate::finding::render::Format;
use crate::finding::{self, Code, Finding, FindingsDocument, code, echo, levels};
use crate::plan::{Coverage, Plan, PlanOptions};
use crate::policy::{LoadError, Policy, Rejected};
use crate::source::Sources;
use crate::units::counted;

/// Check policies: syntax and meaning, reachability of rules, inline tests
///
/// With `--against` the policy is also resolved over checkpoints: fit, unused rules, `expect`s. A rule counts as unused
/// only when it matches nothing in any of them.
///
/// Examples:
///   $ flow-fabric check policies/grok-1.toml policies/llama-3.toml
///   $ flow-fabric check policies/grok-1.toml --against tests/data/inventories/grok-1.jsonl -D warnings
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Check {
    /// The policies; `-` is standard input
    #[arg(required = true)]
    policies: Vec<PathBuf>,
    /// Checkpoints to resolve every policy over
    #[arg(long, value_name = "CHECKPOINT")]
    against: Vec<PathBuf>,
    #[command(flatten)]
    mesh: MeshOption,
    /// How to print findings
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    /// Run again whenever a policy file or checkpoint changes, until interrupted
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    lints: LintFlags,
    #[command(flatten)]
    options: PolicyOptions,
}

impl Check {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        if self.watch { watch(ui, |ui| self.once(ui)) } else { self.once(ui) }
    }

    fn once(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let mut sources = Sources::default();
        let mut all: Vec<Finding> = Vec::new();
        let mut coverage = Vec::new();
        let mut rules = Some(0);
        for path in &self.policies {
            let (found, texts, count) = self.one(path, &mut coverage, ui)?;
            // Rules of a policy that was refused are not counted, and it was not held against a checkpoint.
            rules = rules.zip(count).map(|(rules, count)| rules + count);
            let offset = sources.append(&texts);
            all.extend(found.into_iter().map(|finding| finding.rebased(offset)));
        }
        finding::sort(&mut all);
        let counts = finding::Counts::of(&all);
        if self.format == Format::Json && !coverage.is_empty() {
            ui.print(&json(&FindingsDocument { coverage: coverage.clone(), ..FindingsDocument::new(&all, &sources) }))?;
        } else {
            ui.print_findings(self.format, &all, &sources)?;
        }
        for covered in &coverage {
            ui.narrate(&covered.to_string());
        }
        let mut checked = vec![counted(self.policies.len(), "policy file")];
        checked.extend(rules.map(|rules| counted(rules, "rule")));
        if rules.is_some() && !self.against.is_empty() {
            checked.push(counted(self.against.len(), "checkpoint"));
        }
        ui.narrate(&format!("checked {}: {counts}\n", checked.join(", ")));
        Ok(Outcome::of(&all))
    }

    /// Checks one policy: its findings at their levels, the texts they point into, and how many rules it has; `None` for
    /// one that was refused.
    fn one(
        &self,
        path: &Path,
        coverage: &mut Vec<Coverage>,
        ui: &mut Ui,
    ) -> Result<(Vec<Finding>, Sources, Option<usize>), Stop> {
        let policy = match self.options.load(path, ui) {
            Ok(policy) => policy,
            Err(error @ LoadError::Unreadable { .. }) if self.policies.len() == 1 => {
                return Err(Stop::failed(error.to_string()));
            }
            Err(error @ LoadError::Unreadable { .. }) => {
                let finding = Finding::new(&code::FILE_NOT_READ, error.to_string());
                return Ok((vec![finding], Sources::default(), None));
            }
            Err(LoadError::Rejected(Rejected { findings, sources })) => return Ok((findings, sources, None)),
        };
        let mut findings = policy.findings().to_vec();
        findings.extend(policy.analyse(&analysis::Options::default()));
        let mut over: Vec<Vec<Finding>> = Vec::new();
        for checkpoint in &self.against {
            over.push(self.against(&policy, checkpoint, coverage, ui)?);
        }
        findings.extend(agreed(over));
        let findings = echo::without_echoes(findings);
        let declared = self.lints.over(&policy.lints);
        let with_checkpoint = !self.against.is_empty();
        let looked_for = |code: &Code| with_checkpoint || !(code.id.starts_with("FF4") || code.id.starts_with("FF5"));
        let findings = levels::settle(&declared, findings, looked_for);
        let rules = policy.files().iter().map(|file| file.rules).sum();
        Ok((findings, policy.sources().clone(), Some(rules)))
    }

    /// What resolving over one checkpoint finds, besides what the policy alone does.
    fn against(
        &self,
        policy: &Policy,
        checkpoint: &Path,
        coverage: &mut Vec<Coverage>,
        ui: &mut Ui,
    ) -> Result<Vec<Finding>, Stop> {
        let options = PlanOptions { mesh: self.mesh.resolve(policy)? };
        let (inventory, mut findings) = match input::inventory(policy, checkpoint, ui) {
            Ok(opened) => opened,
            Err(stop) if self.against.len() > 1 => return Ok(vec![input::unreadable(checkpoint, &stop)]),
            Err(stop) => return Err(stop),
        };
        let plan = Plan::new(policy, inventory, &options).map_err(|error| Stop::failed(error.to_string()))?;
        // Over nothing there is nothing to cover; a finding says so.
        if !plan.inventory.weights.is_empty() {
            coverage.push(plan.coverage());
        }
        let own = policy.findings();
        let mut planned = plan.findings;
        planned.retain(|finding| !own.contains(finding));
        echo::drop_empty(&findings, &mut planned);
        findings.extend(planned);
        Ok(findings)
    }
}

/// Joins what several checkpoints found: a rule is unused, or never decides, only where all of them say so.
fn agreed(over: Vec<Vec<Finding>>) -> Vec<Finding> {
    let checkpoints = over.len();
    let idle = |finding: &Finding| finding.code == &code::UNUSED_RULE || finding.code == &code::NEVER_DECIDES;
    let mut joined: Vec<Finding> = Vec::new();
    let mut idles: Vec<(Finding, usize)> = Vec::new();
    for finding in over.into_iter().flatten() {
        if !idle(&finding) {
            joined.push(finding);
            continue;
        }
        match idles.iter_mut().find(|(other, _)| other.span() == finding.span()) {
            Some((kept, times)) => {
                *times += 1;
                // Matching something somewhere is the stronger word.
                if finding.code == &code::NEVER_DECIDES {
                    *kept = finding;
                }
            }
            None => idles.push((finding, 1)),
        }
    }
    let of_all = idles.into_iter().filter(|(_, times)| *times == checkpoints);
    joined.extend(of_all.map(|(finding, _)| match checkpoints {
        1 => finding,
        _ => finding.note(format!("so it is with all {checkpoints} checkpoints")),
    }));
    joined
}
