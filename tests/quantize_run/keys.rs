//! The keys that say how weights are quantized, as plans answer them.

use flow_fabric::inventory::Checkpoint;
use flow_fabric::plan::PlanOptions;
use flow_fabric::{Plan, Policy};

/// The plan of a policy's quantization part over tensors `name dtype [shape]`, one a line.
fn plan(body: &str, tensors: &str) -> Plan {
    let text = format!("language = 1\npolicy = \"test\"\n[partition]\nunmatched = \"replicate\"\n{body}");
    let policy = Policy::parse("test.toml", &text).unwrap();
    let list: String = tensors
        .lines()
        .map(|line| {
            let [name, dtype, shape] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
            format!("{{\"name\":\"{name}\",\"dtype\":\"{dtype}\",\"shape\":{shape}}}\n")
        })
        .collect();
    let (checkpoint, _) = Checkpoint::from_list(list.as_bytes(), "list").unwrap();
    let (inventory, _) = policy.group(&checkpoint);
    Plan::new(&policy, inventory, &PlanOptions::default()).unwrap()
}

/// Every finding that is an error: message, notes, help.
fn errors(plan: &Plan) -> String {
    let errors = plan.findings.iter().filter(|finding| finding.severity == flow_fabric::finding::Severity::Error);
    errors
        .map(|finding| {
            let notes: String = finding.notes.iter().map(|note| format!("  {note}\n")).collect();
            let help = finding.help.iter().map(|help| format!("  help: {help}\n")).collect::<String>();
            format!("{}: {}\n{notes}{help}", finding.code.name, finding.message)
        })
        .collect()
}

const INT4: &str = r#"
[scheme.int4]
format = "int4"
granularity = { group = 32 }
[quantization]
layout = "compressed-tensors"
[[QUANTIZATION_RULES]]
name = "all"
glob = "**"
scheme = "int4"
"#;

#[test]
fn every_weight_that_no_group_divides_is_named_with_its_shape_and_what_would_fit() {
    let tensors = "a.0.up.weight BF16 [8,72]\na.1.up.weight BF16 [8,72]\na.0.down.weight BF16 [8,64]";
    insta::assert_snapshot!(errors(&plan(INT4, tensors)), @r"
    scheme-does-not-fit: rule `all` cannot quantize 2 weights: a group of 32 does not divide the contracted dimension of 72
      `a.{0,1}.up.weight` [8, 72]
      help: what fits: `group = 24`, or `channel`
    ");
}

#[test]
fn indivisible_weights_are_kept_and_counted_where_the_policy_says_so() {
    let body = INT4.replace("[[Q", "indivisible = \"keep\"\n[[Q");
    let plan = plan(&body, "up.weight BF16 [8,72]\ndown.weight BF16 [8,64]");
    assert_eq!(errors(&plan), "");
    assert_eq!(plan.summary.fallbacks.get("kept-indivisible"), Some(&1));
    assert!(plan.weight("up.weight").unwrap().class().encoding.is_none());
    assert_eq!(plan.weight("down.weight").unwrap().class().encoding.as_ref().unwrap().contracted, 1);
}

#[test]
fn siblings_of_two_schemes_are_a_finding() {
    let body = format!(
        "[siblings]\nqkv = [\"q_proj\", \"k_proj\", \"v_proj\"]\n{}",
        INT4.replace("[[Q", "[[QUANTIZATION_RULES]]\nname = \"v\"\nglob = \"**/v_proj/*\"\nscheme = \"keep\"\n[[Q")
    );
    let tensors = "0.q_proj.weight BF16 [8,64]\n0.k_proj.weight BF16 [8,64]\n0.v_proj.weight BF16 [8,64]";
    let plan = plan(&body, tensors);
    assert_eq!(plan.families, [[0, 1, 2]]);
    insta::assert_snapshot!(errors(&plan), @r"
    siblings-disagree: `0.q_proj.weight` and `0.v_proj.weight` are fused, but quantized differently
      help: let one rule decide all of them, or drop them from `[siblings]`
    ");
}

#[test]
fn limits_of_a_rule_come_before_those_of_its_scheme() {
    let body = INT4
        .replace("[quant", "limits = { max_abs_error = 0.5, min_cosine = 0.9 }\n[quant")
        .replace("scheme = \"int4\"", "scheme = \"int4\"\nlimits = { max_abs_error = 0.25 }");
    let plan = plan(&body, "down.weight BF16 [8,64]");
    let limits = plan.classes[0].encoding.as_ref().unwrap().limits;
    assert_eq!((limits.max_abs_error, limits.min_cosine, limits.min_sqnr_db), (Some(0.25), Some(0.9), None));
}

const EXPERTS: &str = r#"
[experts.gate-up]
regex = '(.*)\.experts\.gate_up_proj'
template = '$1.experts.{expert}.{part}.weight'
parts = ["gate_proj", "up_proj"]
"#;

#[test]
fn stacked_experts_are_planned_as_matrices() {
    let plan = plan(&(EXPERTS.to_owned() + INT4), "0.mlp.experts.gate_up_proj BF16 [4,16,64]");
    assert_eq!(errors(&plan), "");
    let record = plan.weight("0.mlp.experts.gate_up_proj").unwrap().record();
    let components = record.quant.companions;
    assert_eq!(components[0].name, "0.mlp.experts.{expert}.{part}.weight_packed");
    assert_eq!(components[0].shape, [8, 8]);
    // 4 experts of 2 parts, each 8 x 64: codes, 8 x 2 scales, a shape.
    assert_eq!(record.quant.bytes, 8 * (8 * 32 + 8 * 2 * 2 + 16));
}

#[test]
fn a_stack_that_a_layout_cannot_hold_says_what_can() {
    insta::assert_snapshot!(errors(&plan(INT4, "0.mlp.experts.gate_up_proj BF16 [4,16,64]")), @r"
    scheme-does-not-fit: rule `all` cannot quantize `0.mlp.experts.gate_up_proj`: layout `compressed-tensors` holds matrices, and the weight has 3 dimensions
      its shape is [4, 16, 64]
      help: what fits: one matrix per expert (`[experts.NAME]`), or layout `grok-1` or `gguf`
    ");
}
