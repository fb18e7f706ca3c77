//! What keeps a run from being published, and that what was there stays as it was.

use flow_fabric::finding::Finding;
use flow_fabric::quantize::run::{RunError, RunOptions};

use crate::support::{self, Tensor, Tensors};

const POLICY: &str = r#"
[scheme.s]
format = "int4"
granularity = { group = 32 }
[quantization]
layout = "compressed-tensors"
[[QUANTIZATION_RULES]]
name = "matrices"
glob = "**"
scheme = "s"
limits = { max_relative_error = 0.01, min_cosine = 0.5 }
"#;

fn tensors() -> Tensors {
    [("a.weight", 1), ("b.weight", 2)].map(|(name, seed)| (name.to_owned(), Tensor::noise(&[8, 64], seed))).into()
}

fn said(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let notes: String = finding.notes.iter().map(|note| format!("  {note}\n")).collect();
        format!("{}: {}\n{notes}  help: {}\n", finding.code.name, finding.message, finding.help.as_ref().unwrap())
    };
    findings.iter().map(line).collect()
}

#[test]
fn a_broken_limit_keeps_the_old_output_unless_told_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    support::write(&source, &tensors(), None);
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("old"), "old").unwrap();
    let policy = support::policy_of(POLICY);
    let options = RunOptions { replace: true, ..RunOptions::default() };
    let (report, findings) = support::quantize(&policy, &source, &target, &options).unwrap();
    insta::assert_snapshot!(said(&findings), @r"
    limit-broken: `b.weight` has a relative error of 0.09025: `max_relative_error` allows at most 0.01
      `a.weight` has a relative error of 0.08682
      help: give these weights a finer scheme, or let a rule before it keep them
    ");
    assert!(!report.run.published);
    assert_eq!(report.weights[0].breaches.len(), 1);
    assert_eq!(
        (support::names(&target), support::names(folder.path())),
        (vec!["old".into()], vec!["in".into(), "out".into()])
    );

    let options = RunOptions { keep_going: true, ..options };
    let (report, findings) = support::quantize(&policy, &source, &target, &options).unwrap();
    assert!(report.run.published && findings.len() == 1);
    assert_eq!(support::names(&target), ["config.json", "flow-fabric.drift.json", "model.safetensors"]);
}

#[test]
fn values_that_are_not_finite_are_refused_whatever_else_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    let mut tensors = tensors();
    let values = (0..128).map(|i| if i % 50 == 7 { f32::NAN } else { i as f32 });
    tensors.insert("c.weight".into(), Tensor::f32(&[2, 64], values));
    support::write(&source, &tensors, None);
    let text = POLICY.replace("limits", "#");
    let options = RunOptions { keep_going: true, ..RunOptions::default() };
    let (report, findings) = support::quantize(&support::policy_of(&text), &source, &target, &options).unwrap();
    insta::assert_snapshot!(said(&findings), @r#"
    nonfinite-weight: `c.weight` holds 3 values that are NaN or infinite
      help: mend the checkpoint, keep these weights, or say `nonfinite = "keep"` in `[quantization]`
    "#);
    assert!(!report.run.published && !target.exists());

    let text = text.replace("[[Q", "nonfinite = \"keep\"\n[[Q");
    let (report, findings) = support::quantize(&support::policy_of(&text), &source, &target, &options).unwrap();
    assert!(report.run.published && findings.is_empty());
    let weight = report.weights.iter().find(|weight| weight.path == "c.weight").unwrap();
    assert_eq!(weight.figures.unwrap().nonfinite, 3);
}

#[test]
fn finite_values_that_a_scale_cannot_hold_are_refused_too() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    // The f16 scale of the block is infinite.
    let tensor = Tensor::f32(&[1, 64], (0..64).map(|i| if i == 3 { 1e30 } else { i as f32 }));
    support::write(&source, &[("w.weight".to_owned(), tensor)].into(), None);
    let policy = support::policy("gguf", "format = \"q8_0\"", "");
    let (report, findings) = support::quantize(&policy, &source, &target, &RunOptions::default()).unwrap();
    let refused: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(refused, ["`w.weight` holds 32 values that are finite and come back NaN or infinite"]);
    assert!(!report.run.published && !target.exists());
}

#[test]
fn a_source_is_never_replaced_by_what_is_made_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    support::write(&source, &tensors(), None);
    let before = std::fs::read(source.join("model.safetensors")).unwrap();
    let options = RunOptions { replace: true, ..RunOptions::default() };
    let policy = support::policy_of(&POLICY.replace("limits", "#"));
    assert!(support::quantize(&policy, &source, &source, &options).is_err());
    assert_eq!(std::fs::read(source.join("model.safetensors")).unwrap(), before);
    assert_eq!(support::names(folder.path()), ["in"]);
}

#[test]
fn what_is_there_is_not_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    support::write(&source, &tensors(), None);
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("old"), "old").unwrap();
    let policy = support::policy_of(&POLICY.replace("limits", "#"));
    let error = support::quantize(&policy, &source, &target, &RunOptions::default()).unwrap_err();
    assert!(matches!(error, RunError::Output(_)), "{error}");
    assert_eq!(support::names(&target), ["old"]);
}

#[test]
fn a_weight_beyond_the_budget_says_how_much_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    support::write(&source, &tensors(), None);
    let policy = support::policy_of(&POLICY.replace("limits", "#"));
    let options = RunOptions { memory: 1000, ..RunOptions::default() };
    let error = support::quantize(&policy, &source, &target, &options).unwrap_err();
    assert!(error.to_string().starts_with("`a.weight` needs "), "{error}");
    assert!(error.help().unwrap().contains("--memory") && !target.exists());
}

#[test]
fn a_source_that_changes_underneath_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    support::write(&source, &tensors(), None);
    let policy = support::policy_of(&POLICY.replace("limits", "#"));
    let plan = support::plan(&policy, &source);
    let file = source.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    let error = flow_fabric::quantize::run::run(
        &policy,
        &plan,
        &target,
        &RunOptions::default(),
        &flow_fabric::progress::Silent,
    )
    .unwrap_err();
    assert_eq!(error.finding().unwrap().code.name, "file-changed");
    assert!(!target.exists());
}
