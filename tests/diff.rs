//! What an edit changes: which weights, and at whose door each change is laid.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeSet;

use flow_fabric::inventory::Checkpoint;
use flow_fabric::plan::diff::{EditHow, PlanDiff};
use flow_fabric::plan::record::PlanRecord;
use flow_fabric::plan::{Plan, PlanOptions};
use flow_fabric::policy::Policy;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// A policy over the list below. Each rule is a line of its keys, so that edits are edits of lines.
const BASE: &str = r#"
language = 1
policy = "base"
separators = ["/"]
[mesh]
axes = ["data", "model"]
shape = [1, 4]
[partition]
unmatched = "replicate"
[scheme.int8]
format = "int8"
[scheme.int4]
format = "int4"
granularity = { group = 32 }
[quantization]
layout = "compressed-tensors"
contract = -1
[[FLOW_FABRIC_PARTITION_RULES]]
name = "attention"
tokens = ["attention", "w"]
spec = ["data", "model"]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "mlp"
tokens = ["mlp", "w"]
spec = ["model"]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "matrices"
glob = "**/w"
spec = ["-", "model"]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "norms"
glob = "**/scale"
spec = []
[[QUANTIZATION_RULES]]
name = "layers"
glob = "layer_*/**/w"
scheme = "int8"
[[LOADER_RULES]]
name = "mlp"
tokens = ["mlp"]
read = "direct"
"#;

fn list() -> String {
    let mut list = String::new();
    for layer in 0..3 {
        for (path, shape) in [("attention/w", "[256,256]"), ("mlp/w", "[256,256]"), ("norm/scale", "[256]")] {
            list += &format!("{{\"name\":\"layer_{layer}/{path}\",\"dtype\":\"BF16\",\"shape\":{shape}}}\n");
        }
    }
    list + "{\"name\":\"embed/w\",\"dtype\":\"BF16\",\"shape\":[1024,256]}\n"
}

fn plan(policy: &str) -> PlanRecord {
    let policy = Policy::parse("policy.toml", policy).unwrap();
    let (checkpoint, findings) = Checkpoint::from_list(list().as_bytes(), "list").unwrap();
    assert_eq!(findings, []);
    Plan::new(&policy, policy.group(&checkpoint).0, &PlanOptions::default()).unwrap().record()
}

/// The base policy with texts replaced, each of which it holds once.
fn edited(replacements: &[(&str, &str)]) -> String {
    let mut policy = BASE.to_owned();
    for (old, new) in replacements {
        assert_eq!(policy.matches(old).count(), 1, "{old}");
        policy = policy.replace(old, new);
    }
    policy
}

fn diff(old: &str, new: &str) -> PlanDiff {
    PlanDiff::new("old", &plan(old), "new", &plan(new))
}

fn human(replacements: &[(&str, &str)]) -> String {
    diff(BASE, &edited(replacements)).human()
}

const MLP_RULE: &str =
    "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"mlp\"\ntokens = [\"mlp\", \"w\"]\nspec = [\"model\"]\n";
const MATRICES_RULE: &str =
    "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"matrices\"\nglob = \"**/w\"\nspec = [\"-\", \"model\"]\n";

#[test]
fn a_decision() {
    insta::assert_snapshot!(human(&[("spec = [\"model\"]", "spec = [\"-\", \"model\"]")]), @r#"
    old -> new, over list on data=1, model=4

    partition rule mlp  policy.toml:23
      spec = ["model"] -> ["-", "model"]

      layer_{0..2}/mlp/w  3 x bf16 [256, 256]
        shard [model] -> [-, model], [64, 256] -> [256, 64] on a device  mlp
        bytes 16.13 KiB -> 16.50 KiB (+384 B) on a device

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB -> 228.50 KiB (+1.13 KiB)
    3 of 10 weights change: 3 resharded; without a partition rule 0, rules that decide nothing 0
    "#);
}

#[test]
fn a_rule_that_goes_leaves_its_weights_to_the_next() {
    insta::assert_snapshot!(human(&[(MLP_RULE, "")]), @r#"
    old -> new, over list on data=1, model=4

    partition rule mlp removed  policy.toml:23
      - tokens = ["mlp", "w"]
      - spec = ["model"]

      layer_{0..2}/mlp/w  3 x bf16 [256, 256]
        shard [model] -> [-, model], [64, 256] -> [256, 64] on a device  mlp -> matrices
        bytes 16.13 KiB -> 16.50 KiB (+384 B) on a device

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB -> 228.50 KiB (+1.13 KiB)
    3 of 10 weights change: 3 resharded; without a partition rule 0, rules that decide nothing 0
    "#);
}

#[test]
fn a_rule_that_comes_takes_from_others() {
    let rule = "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"first\"\nregex = 'layer_\\d+/mlp/w'\nwhen = { layer = { first = 1 } }\nspec = []\n";
    insta::assert_snapshot!(human(&[(MLP_RULE, &format!("{rule}{MLP_RULE}"))]), @r#"
    old -> new, over list on data=1, model=4

    partition rule first added  policy.toml:23
      + regex = 'layer_\d+/mlp/w'
      + when = { layer = { first = 1 } }
      + spec = []

      layer_0/mlp/w  1 x bf16 [256, 256]
        shard [model] -> [], [64, 256] -> [256, 256] on a device  mlp -> first
        bytes 16.13 KiB -> 64.50 KiB (+48.38 KiB) on a device; 32.00 KiB -> 128.00 KiB (+96.00 KiB) as stored

    4 devices, the fullest: stored 321.50 KiB -> 417.50 KiB (+96.00 KiB), planned 227.38 KiB -> 275.75 KiB (+48.38 KiB)
    1 of 10 weights changes: 1 resharded; without a partition rule 0, rules that decide nothing 0
    "#);
}

#[test]
fn a_rule_that_moves_before_others() {
    let moved = human(&[(MATRICES_RULE, ""), (MLP_RULE, &format!("{MATRICES_RULE}{MLP_RULE}"))]);
    insta::assert_snapshot!(moved, @r#"
    old -> new, over list on data=1, model=4

    partition rule mlp, moved before norms  policy.toml:27

      layer_{0..2}/mlp/w  3 x bf16 [256, 256]
        shard [model] -> [-, model], [64, 256] -> [256, 64] on a device  mlp -> matrices
        bytes 16.13 KiB -> 16.50 KiB (+384 B) on a device

    decides nothing now
      partition rule mlp

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB -> 228.50 KiB (+1.13 KiB)
    3 of 10 weights change: 3 resharded; without a partition rule 0, rules that decide nothing 0 -> 1
    "#);
}

#[test]
fn a_rule_that_is_renamed_or_selects_less() {
    insta::assert_snapshot!(human(&[("name = \"norms\"", "name = \"vectors\"")]), @r#"
    old -> new, over list on data=1, model=4

    partition rule vectors, was norms  policy.toml:31

      layer_{0..2}/norm/scale  3 x bf16 [256]
        shard []  norms -> vectors

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB
    3 of 10 weights change: 3 decided alike by another rule; without a partition rule 0, rules that decide nothing 0
    "#);
    insta::assert_snapshot!(human(&[("tokens = [\"attention\", \"w\"]", "tokens = [\"layer_[12]\", \"attention\", \"w\"]")]), @r#"
    old -> new, over list on data=1, model=4

    partition rule attention  policy.toml:19
      tokens = ["attention", "w"] -> ["layer_[12]", "attention", "w"]

      layer_0/attention/w  1 x bf16 [256, 256]
        shard [data, model] -> [-, model]  attention -> matrices

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB
    1 of 10 weights changes: 1 resharded; without a partition rule 0, rules that decide nothing 0
    "#);
}

#[test]
fn schemes_settings_and_the_mesh() {
    insta::assert_snapshot!(human(&[("format = \"int8\"", "format = \"fp8_e4m3\"")]), @r#"
    old -> new, over list on data=1, model=4

    scheme int8
      format = "int8" -> "fp8_e4m3"

      layer_{0..2}/{attention,mlp}/w  6 x bf16 [256, 256]
        quant int8, codes i8 [256, 256] -> f8_e4m3 [256, 256]  layers

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB
    6 of 10 weights change: 6 requantized; without a partition rule 0, rules that decide nothing 0
    "#);
    insta::assert_snapshot!(human(&[("shape = [1, 4]", "shape = [1, 2]")]), @r#"
    old -> new, over list on data=1, model=4 -> data=1, model=2

    mesh
      axes = data=1, model=4 -> data=1, model=2

      embed/w  1 x bf16 [1024, 256]
        shard [-, model], [1024, 64] -> [1024, 128] on a device  matrices
        bytes 128.00 KiB -> 256.00 KiB (+128.00 KiB) on a device

      layer_{0..2}/attention/w  3 x bf16 [256, 256]
        shard [data, model], [256, 64] -> [256, 128] on a device  attention
        bytes 16.50 KiB -> 32.50 KiB (+16.00 KiB) on a device; 32.00 KiB -> 64.00 KiB (+32.00 KiB) as stored

      layer_{0..2}/mlp/w  3 x bf16 [256, 256]
        shard [model], [64, 256] -> [128, 256] on a device  mlp
        bytes 16.13 KiB -> 32.25 KiB (+16.13 KiB) on a device; 32.00 KiB -> 64.00 KiB (+32.00 KiB) as stored

      layer_{0..2}/norm/scale  3 x bf16 [256]
        shard [], 4 -> 2 replicas  norms

    4 -> 2 devices, the fullest: stored 321.50 KiB -> 641.50 KiB (+320.00 KiB), planned 227.38 KiB -> 451.75 KiB (+224.38 KiB)
    10 of 10 weights change: 10 resharded; without a partition rule 0, rules that decide nothing 0
    "#);
    insta::assert_snapshot!(human(&[("[partition]", "[loader]\nread = \"mmap\"\nexclude = [\"embed/**\"]\n[partition]")]), @r#"
    old -> new, over list on data=1, model=4

    [loader] added
      + read = "mmap"
      + exclude = ["embed/**"]

      embed/w  1 x gone, bf16 [1024, 256]
        shard [-, model]  matrices
        quant keep  (no rule)
        load auto  (default)
        bytes 512.00 KiB

      layer_{0..2}/attention/w  3 x bf16 [256, 256]
        load auto -> mmap  (default)

      layer_{0..2}/norm/scale  3 x bf16 [256]
        load auto -> mmap  (default)

    decides nothing now
      partition rule matrices

    4 devices, the fullest: stored 321.50 KiB -> 193.50 KiB (-128.00 KiB), planned 227.38 KiB -> 99.38 KiB (-128.00 KiB)
    7 of 10 weights change: 6 loaded otherwise, 1 gone; without a partition rule 0, rules that decide nothing 0 -> 1
    "#);
}

#[test]
fn what_becomes_unmatched_and_what_is_found() {
    let edits =
        [("glob = \"**/scale\"", "glob = \"**/scales\""), ("unmatched = \"replicate\"", "unmatched = \"error\"")];
    insta::assert_snapshot!(human(&edits), @r#"
    old -> new, over list on data=1, model=4

    partition rule norms  policy.toml:31
      glob = "**/scale" -> "**/scales"

      layer_{0..2}/norm/scale  3 x bf16 [256]
        shard [] -> none  norms -> (no rule)

    no weight is decided otherwise by
      [partition]
        unmatched = "replicate" -> "error"

    without a rule now
      layer_{0..2}/norm/scale  3 x partition, was norms

    decides nothing now
      partition rule norms

    finds now
      FF401 unmatched-weight: no partition rule matches 3 of 10 weights

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB
    3 of 10 weights change: 3 resharded; without a partition rule 0 -> 3, rules that decide nothing 0 -> 1
    "#);
}

#[test]
fn slots_and_their_profiles() {
    let slot = |sampler: &str| {
        format!(
            "[sampler.a]\ntop_p = 0.5\n[sampler.b]\n[slot.one]\ntensors = [\"layer_0/**\"]\nsampler = \"{sampler}\"\n[partition]"
        )
    };
    let (old, new) = (edited(&[("[partition]", &slot("a"))]), edited(&[("[partition]", &slot("b"))]));
    insta::assert_snapshot!(diff(&old, &new).human(), @r#"
    old -> new, over list on data=1, model=4

    no weight is decided otherwise by
      slot one
        sampler = "a" -> "b"

    slots
      one: 3 weights, sampler a -> 3 weights, sampler b

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB
    none of 10 weights changes; without a partition rule 0, rules that decide nothing 0
    "#);
}

#[test]
fn edits_that_decide_nothing_otherwise() {
    let reordered =
        human(&[(MATRICES_RULE, ""), ("[[QUANTIZATION_RULES]]", &format!("{MATRICES_RULE}[[QUANTIZATION_RULES]]"))]);
    insta::assert_snapshot!(reordered, @r#"
    old -> new, over list on data=1, model=4

    no weight is decided otherwise by
      partition rule matrices, moved to the end  policy.toml:31

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB
    none of 10 weights changes; without a partition rule 0, rules that decide nothing 0
    "#);
    let comment = format!("{BASE}# nothing\n");
    assert!(diff(BASE, &comment).edits.is_empty());
}

#[test]
fn markdown_says_the_sentence_first_and_keeps_to_its_budget() {
    let new = edited(&[("spec = [\"model\"]", "spec = [\"-\", \"model\"]"), ("read = \"direct\"", "read = \"pread\"")]);
    let diff = diff(BASE, &new);
    insta::assert_snapshot!(diff.markdown(60_000), @r#"
    **3 of 10 weights change: 3 resharded, 3 loaded otherwise; without a partition rule 0, rules that decide nothing 0**

    `old` -> `new`, over `list on data=1, model=4`

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB -> 228.50 KiB (+1.13 KiB)

    | edit | weights | shard | quant | load | bytes of each |
    |---|---|---|---|---|---|
    | partition rule mlp<br>`spec = ["model"] -> ["-", "model"]`<br>loader rule mlp<br>`read = "direct" -> "pread"` | `layer_{0..2}/mlp/w`<br>3 x bf16 \[256, 256\] | `[model] -> [-, model], [64, 256] -> [256, 64] on a device  mlp` | | `direct -> pread  mlp` | 16.13 KiB -&gt; 16.50 KiB (+384 B) on a device |

    <details><summary>3 weights</summary>

    - `layer_0/mlp/w` shard \[model\] -&gt; \[-, model\], \[64, 256\] -&gt; \[256, 64\] on a device  mlp; load direct -&gt; pread  mlp; bytes 16.13 KiB -&gt; 16.50 KiB (+384 B) on a device
    - `layer_1/mlp/w` shard \[model\] -&gt; \[-, model\], \[64, 256\] -&gt; \[256, 64\] on a device  mlp; load direct -&gt; pread  mlp; bytes 16.13 KiB -&gt; 16.50 KiB (+384 B) on a device
    - `layer_2/mlp/w` shard \[model\] -&gt; \[-, model\], \[64, 256\] -&gt; \[256, 64\] on a device  mlp; load direct -&gt; pread  mlp; bytes 16.13 KiB -&gt; 16.50 KiB (+384 B) on a device

    </details>
    "#);
    for budget in (0..3000).step_by(37) {
        let text = diff.markdown(budget);
        assert!(text.len() <= budget.max(1024), "{budget}");
        assert!(text.starts_with("**3 of 10 weights change"));
        assert_eq!(text.contains("Left out"), text.len() < diff.markdown(60_000).len());
        assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
    }
    insta::assert_snapshot!(diff.markdown(1024), @r#"
    **3 of 10 weights change: 3 resharded, 3 loaded otherwise; without a partition rule 0, rules that decide nothing 0**

    `old` -> `new`, over `list on data=1, model=4`

    4 devices, the fullest: stored 321.50 KiB, planned 227.38 KiB -> 228.50 KiB (+1.13 KiB)

    | edit | weights | shard | quant | load | bytes of each |
    |---|---|---|---|---|---|
    | partition rule mlp<br>`spec = ["model"] -> ["-", "model"]`<br>loader rule mlp<br>`read = "direct" -> "pread"` | `layer_{0..2}/mlp/w`<br>3 x bf16 \[256, 256\] | `[model] -> [-, model], [64, 256] -> [256, 64] on a device  mlp` | | `direct -> pread  mlp` | 16.13 KiB -&gt; 16.50 KiB (+384 B) on a device |

    Left out, to stay within 1,024 bytes: 3 of 3 weights.
    "#);
}

/// A policy of some of these rules, in some order, with one of some specs each.
fn policies() -> impl Strategy<Value = String> {
    let rules = [
        ("attention", "tokens = [\"attention\"]"),
        ("mlp", "tokens = [\"mlp\", \"w\"]"),
        ("first", "glob = \"layer_0/**\""),
        ("matrices", "glob = \"**/w\""),
        ("all", "glob = \"**\""),
    ];
    let specs = ["[]", "[\"model\"]", "[\"data\"]"];
    let chosen = prop::collection::vec((any::<u16>(), prop::bool::weighted(0.8), 0..specs.len()), rules.len());
    chosen.prop_map(move |chosen| {
        let mut kept: Vec<_> = rules.iter().zip(chosen).filter(|(_, (_, kept, _))| *kept).collect();
        kept.sort_by_key(|(_, (order, ..))| *order);
        let head = BASE.split("[[FLOW_FABRIC_PARTITION_RULES]]").next().unwrap().to_owned();
        kept.into_iter().fold(head, |policy, ((name, pattern), (_, _, spec))| {
            let spec = specs[spec];
            format!("{policy}[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"{name}\"\n{pattern}\nspec = {spec}\n")
        })
    })
}

proptest! {
    #![proptest_config(Config { cases: 64, rng_seed: RngSeed::Fixed(7), ..Config::default() })]

    /// The weights whose decisions differ, no more and no less, each explained by an edit, each in one group; and the
    /// other way round as many.
    #[test]
    fn every_change_is_found_and_explained(old in policies(), new in policies()) {
        let (old, new) = (plan(&old), plan(&new));
        let diff = PlanDiff::new("old", &old, "new", &new);
        let differing: BTreeSet<&str> = old.tensors.iter().zip(&new.tensors)
            .filter(|(old, new)| old != new).map(|(old, _)| old.path.as_str()).collect();
        let changed: BTreeSet<&str> = diff.weights.iter().map(|weight| weight.path.as_str()).collect();
        prop_assert_eq!(&changed, &differing);
        prop_assert_eq!(diff.is_empty(), differing.is_empty());
        for weight in &diff.weights {
            prop_assert!(!weight.edits.is_empty(), "{} is not explained", weight.path);
            let rules = [&weight.before, &weight.after].map(|decision| decision.as_ref().unwrap().shard.rule.clone());
            for &edit in &weight.edits {
                prop_assert!(rules.contains(&Some(diff.edits[edit].name.clone())), "{} has nothing to do with {}", weight.path, diff.edits[edit].name);
            }
        }
        let mut grouped: Vec<usize> =
            diff.groups().into_iter().flat_map(|group| group.records).flat_map(|record| record.weights).collect();
        grouped.sort_unstable();
        prop_assert_eq!(grouped, (0..diff.weights.len()).collect::<Vec<_>>());
        let back = PlanDiff::new("new", &new, "old", &old);
        prop_assert_eq!(back.weights.len(), diff.weights.len());
        prop_assert!(PlanDiff::new("new", &new, "new", &new).edits.is_empty());
    }

    /// Of one edit, all that changes is laid at its door.
    #[test]
    fn one_edit_explains_all(policy in policies(), at in any::<prop::sample::Index>(), spec in prop::bool::ANY) {
        let mut rules: Vec<&str> = policy.split_inclusive("spec = ").collect();
        prop_assume!(rules.len() > 2);
        let at = 1 + at.index(rules.len() - 1);
        let replaced;
        let new = if spec {
            let rest = rules[at].split_once('\n').unwrap().1;
            replaced = format!("[\"-\"]\n{rest}");
            rules[at] = &replaced;
            rules.concat()
        } else {
            let mut tables: Vec<&str> = policy.split("[[FLOW_FABRIC_PARTITION_RULES]]").collect();
            tables.remove(at);
            tables.join("[[FLOW_FABRIC_PARTITION_RULES]]")
        };
        let diff = diff(&policy, &new);
        prop_assert_eq!(diff.edits.len(), 1);
        prop_assert_eq!(diff.edits[0].how, if spec { EditHow::Changed } else { EditHow::Removed });
        prop_assert_eq!(diff.edits[0].weights, diff.weights.len() as u64);
    }
}
