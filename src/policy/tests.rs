//! The policy language from outside: every key is read, files merge as documented, wrong files say all that is wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::language::{self, Kind, Shape};
use super::read::reads;
use super::{LoadError, LoadOptions, Policy, Rejected};

/// A policy that says everything there is to say.
const EVERYTHING: &str = r#"
language = 1
policy = "everything"
extends = []
separators = ["/", "."]

[mesh]
axes = ["data", "model"]
shape = [1, 8]
device_memory = "80GiB"

[partition]
unmatched = "replicate"
stack_token = "layer_stack"
indivisible = "pad"
companion_spec = "same"

[[FLOW_FABRIC_PARTITION_RULES]]
name = "tokens"
tokens = ["a|b", "w"]
except = ["**/no/**", { tokens = ["x"] }, { glob = "y" }, { regex = "z" }, { path = ["p", "q"] }]
spec = ["-", "data", [ "model" ]]

[[FLOW_FABRIC_PARTITION_RULES]]
name = "placed"
glob = "experts.*"
when = { rank = [2, 3], dtype = "f32", format = ["plain", "stored.gptq"], shape = ["*", 6144], min_elements = 1, max_elements = 9, divisible_by = [2, "*"], layer = { first = "1/8", last = 2, every = 3, in = [4], of = "block_*" } }
spec = [{ axis = "model", unit = 128, fewer = "replicate" }]
place = { axis = "data", index = 'experts\.(\d+)', of = 8 }

[[FLOW_FABRIC_PARTITION_RULES]]
name = "regex"
regex = "c.*"
spec = []

[[FLOW_FABRIC_PARTITION_RULES]]
name = "path"
path = "d"
spec = []

[scheme.a]
format = "int8"
granularity = "channel"
symmetric = true
scale_dtype = "bf16"
arithmetic = "reference"
double_quant = false
limits = { max_abs_error = 0.5, max_relative_error = 0.02, min_sqnr_db = 30.0, min_cosine = 0.99 }

[scheme.b]
format = "int8"
granularity = { shard_group = "model" }

[scheme.c]
format = "int4"
granularity = { group = 128 }

[scheme.d]
format = "fp8_e4m3"
granularity = { block = [128, 128] }

[quantization]
layout = "grok-1"
contract = -2
unmatched = "error"
indivisible = "keep"
nonfinite = "keep"

[siblings]
qkv = ["q_proj", "k_proj", "v_proj"]

[experts.moe]
regex = '(.*)\.experts\.gate_up_proj'
template = '$1.experts.{expert}.{part}.weight'
parts = ["gate_proj", "up_proj"]
interleaved = true

[[QUANTIZATION_RULES]]
name = "q"
glob = "**"
scheme = "a"
contract = -1
force = true
limits = { max_abs_error = 0.25 }

[[LOADER_RULES]]
name = "l"
glob = "**"
read = "direct"
stage = "shm"
verify = "blake3"

[loader]
read = "pread"
stage = "none"
verify = "xxh3"
rename = [{ regex = 'model\.(.*)', to = '$1' }]
exclude = ["**/optimizer/**"]

[sampler.s]
temperature = 0.7
top_p = 0.95
seed = 7

[moe.m]
preset = "grok-1"
experts = 8
top_k = 2

[slot.slot09]
tensors = ["slot09/**"]
sampler = "s"
moe = "m"

[[expect]]
path = "a/w"
spec = ["-", "data", ["model"]]
scheme = "keep"
read = "direct"
stage = "shm"
verify = "blake3"
rule = { partition = "tokens", quantization = "q", loader = "l" }

[lints]
unused-rule = "warn"
never-decides = { level = "allow", reason = "why" }

[sensitive]
patterns = ["**/router/**"]
max_rank = 1

[layers]
ignore = [61]

[[tie]]
paths = ["a", "b"]

[stored.gptq]
weight = "{path}.qweight"
scales = "{path}.scales"
zero_point = "{path}.qzeros"
global_scale = "{path}.gs"
shape = "{path}.shape"
optional = ["{path}.g_idx"]
path = "{path}.weight"
packed = { dimension = -2, by = 8 }
transposed = true
dtype = "f16"
"#;

fn shapes(kind: &'static Kind, visit: &mut impl FnMut(&'static Shape)) {
    match kind {
        Kind::Table(shape) => {
            visit(shape);
            shape.fields.iter().for_each(|field| shapes(&field.kind, visit));
        }
        Kind::List(kind) | Kind::Named(kind) => shapes(kind, visit),
        Kind::Either(kinds) => kinds.iter().for_each(|kind| shapes(kind, visit)),
        _ => {}
    }
}

#[test]
fn no_key_of_the_language_is_ignored() {
    Policy::parse("everything.toml", EVERYTHING).unwrap();
    let mut ignored = Vec::new();
    let mut visit = |shape: &'static Shape| {
        for field in shape.fields {
            // `language` has one value and `extends` is followed before the merge.
            let elsewhere = shape.title == "Policy" && ["language", "extends"].contains(&field.key);
            if !elsewhere && !reads::contains(shape.title, field.key) {
                ignored.push(format!("{}.{}", shape.title, field.key));
            }
        }
    };
    visit(&language::POLICY);
    language::POLICY.fields.iter().for_each(|field| shapes(&field.kind, &mut visit));
    assert_eq!(ignored, [""; 0]);
}

/// A value that a key takes, as TOML.
fn sample_value(key: &str, kind: &Kind) -> String {
    match (key, kind) {
        ("order", _) => {
            format!("{:?}", crate::sample::StageKind::ALL.iter().map(|kind| kind.word()).collect::<Vec<_>>())
        }
        ("dynatemp_range", _) => "0.25".to_owned(),
        (_, Kind::String(_)) => "\"base\"".to_owned(),
        (_, Kind::Integer { min, .. }) => min.max(&2).to_string(),
        (_, Kind::Number { min, .. }) => format!("{:?}", min.max(0.5)),
        (_, Kind::Words(words)) => format!("{:?}", words[0].word),
        (_, Kind::List(item)) => format!("[{}]", sample_value(key, item)),
        (_, Kind::Named(member)) => format!("{{ 7 = {} }}", sample_value(key, member)),
        (_, Kind::Table(shape)) => format!("{{ {} }}", all_keys(shape).join(", ")),
        other => panic!("{other:?}"),
    }
}

fn all_keys(shape: &'static Shape) -> Vec<String> {
    shape.fields.iter().map(|field| format!("{} = {}", field.key, sample_value(field.key, &field.kind))).collect()
}

#[test]
fn every_key_of_a_profile_reaches_it() {
    let sampler = all_keys(&language::SAMPLER).join("\n");
    // A fused tensor stands in place of two, so not all roles go together.
    let moe = all_keys(&language::MOE).join("\n").replace("gate_up = \"base\", ", "");
    let moe = moe.replace("gate_up_bias = \"base\", ", "");
    let text =
        format!("language = 1\npolicy = \"p\"\n[sampler.base]\nmin_p = 0.5\n[sampler.s]\n{sampler}\n[moe.m]\n{moe}\n");
    let policy = Policy::parse("profiles.toml", &text).unwrap_or_else(|rejected| panic!("{:#?}", rejected.findings));
    let json = serde_json::to_value(&policy.samplers["s"]).unwrap();
    let unset = |shape: &Shape, json: &serde_json::Value| -> Vec<&str> {
        shape.fields.iter().map(|field| field.key).filter(|key| json[key].is_null()).collect()
    };
    assert_eq!(unset(&language::SAMPLER, &json), ["inherit"], "inheritance is resolved");
    let json = serde_json::to_value(&policy.moes["m"]).unwrap();
    assert_eq!(unset(&language::MOE, &json), Vec::<&str>::new());
    assert_eq!(json["tensors"].as_object().unwrap().len(), 12);
    assert_eq!(json["rounding"].as_object().unwrap().len(), 11);
}

#[test]
fn words_of_the_language_are_those_of_the_types() {
    use crate::quantize::{Arithmetic, Format, Layout, NonFinite};
    let words = |shape: &'static Shape, key: &str| -> Vec<&str> {
        match &shape.fields.iter().find(|field| field.key == key).unwrap().kind {
            Kind::Words(words) => words.iter().map(|word| word.word).collect(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(words(&language::SCHEME, "format"), Format::ALL.iter().map(|one| one.name()).collect::<Vec<_>>());
    assert_eq!(words(&language::QUANTIZATION, "layout"), Layout::ALL.iter().map(|one| one.name()).collect::<Vec<_>>());
    let names: Vec<&str> = Arithmetic::ALL.iter().map(|one| one.name()).collect();
    assert_eq!(words(&language::SCHEME, "arithmetic"), names);
    let names: Vec<&str> = NonFinite::ALL.iter().map(|one| one.name()).collect();
    assert_eq!(words(&language::QUANTIZATION, "nonfinite"), names);
    assert_eq!(words(&language::LOADER, "read"), super::Read::ALL.iter().map(|one| one.name()).collect::<Vec<_>>());
    assert_eq!(words(&language::LOADER, "stage"), super::Stage::ALL.iter().map(|one| one.name()).collect::<Vec<_>>());
    assert_eq!(words(&language::LOADER, "verify"), super::Verify::ALL.iter().map(|one| one.name()).collect::<Vec<_>>());
    assert_eq!(
        words(&language::PARTITION, "indivisible"),
        super::Indivisible::ALL.iter().map(|one| one.name()).collect::<Vec<_>>()
    );
}

/// Loads `root` from files in memory.
fn load(files: &[(&str, &str)]) -> Result<Policy, LoadError> {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let asked = RefCell::new(Vec::new());
    let read = |path: &Path| {
        asked.borrow_mut().push(path.to_owned());
        let text = files.get(path.to_str().unwrap_or_default());
        text.map(|text| (*text).to_owned()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let loaded = Policy::load_with(Path::new("root.toml"), LoadOptions { read: &read, ..LoadOptions::default() });
    let mut asked = asked.into_inner();
    let all = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), all, "each file is read once");
    loaded
}

fn file(name: &str, extends: &str, body: &str) -> String {
    format!("language = 1\npolicy = \"{name}\"\nextends = [{extends}]\n{body}")
}

fn rule(name: &str, glob: &str, more: &str) -> String {
    format!("[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"{name}\"\nglob = \"{glob}\"\nspec = []\n{more}\n")
}

fn findings(loaded: Result<Policy, LoadError>) -> Vec<String> {
    let Err(LoadError::Rejected(Rejected { findings, sources })) = loaded else { panic!("{loaded:?}") };
    let show = |finding: &crate::finding::Finding| {
        let places: Vec<String> = finding
            .labels
            .iter()
            .filter_map(|label| match label.place {
                crate::finding::Place::Text(span) => Some(format!(
                    "{}:{} `{}`",
                    sources.name(span.source),
                    sources.start(span).line,
                    sources.snippet(span)
                )),
                crate::finding::Place::File { .. } => None,
            })
            .collect();
        format!("{} {} at {}", finding.code.name, finding.message, places.join(", "))
    };
    findings.iter().map(show).collect()
}

#[test]
fn a_diamond_is_linearised_with_every_file_before_those_it_extends() {
    let policy = load(&[
        ("root.toml", &file("root", "\"b.toml\", \"c.toml\"", &rule("root", "r", ""))),
        ("b.toml", &file("b", "\"d.toml\"", &rule("b", "b", ""))),
        ("c.toml", &file("c", "\"d.toml\"", "[partition]\nindivisible = \"pad\"\n")),
        (
            "d.toml",
            &file(
                "d",
                "",
                &("[partition]\nindivisible = \"uneven\"\nunmatched = \"replicate\"\n".to_owned()
                    + &rule("d", "d", "")),
            ),
        ),
    ])
    .unwrap();
    let files: Vec<&str> = policy.files().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(files, ["root.toml", "b.toml", "c.toml", "d.toml"]);
    let rules: Vec<&str> = policy.partition_rules.iter().map(|rule| &*rule.name.value).collect();
    assert_eq!(rules, ["root", "b", "d"]);
    assert_eq!(policy.partition.indivisible, super::Indivisible::Pad, "the file that extends wins");
    assert!(policy.partition.unmatched_replicate, "settings merge per key");
}

#[test]
fn an_override_stands_where_the_inherited_rule_stood() {
    let base = file("base", "", &(rule("one", "1", "") + &rule("two", "2", "") + &rule("three", "3", "")));
    let root = file("root", "\"base.toml\"", &(rule("two", "own", "override = true") + &rule("zero", "0", "")));
    let policy = load(&[("root.toml", &root), ("base.toml", &base)]).unwrap();
    let rules: Vec<String> =
        policy.partition_rules.iter().map(|rule| format!("{} {}", rule.name, rule.pattern.value)).collect();
    assert_eq!(rules, ["zero 0", "one 1", "two own", "three 3"]);
}

#[test]
fn named_tables_are_replaced_whole() {
    let base = file("base", "", "[sampler.s]\ntemperature = 0.5\ntop_p = 0.5\n[sampler.t]\ntop_p = 0.25\n");
    let root = file("root", "\"base.toml\"", "[sampler.s]\ntop_p = 0.9\n");
    let policy = load(&[("root.toml", &root), ("base.toml", &base)]).unwrap();
    assert_eq!((policy.samplers["s"].temperature, policy.samplers["s"].top_p), (None, Some(0.9)));
    assert_eq!(policy.samplers["t"].top_p, Some(0.25));
}

#[test]
fn a_cycle_names_every_file_of_the_loop() {
    let loaded = load(&[
        ("root.toml", &file("root", "\"a.toml\"", "")),
        ("a.toml", &file("a", "\"b.toml\"", "")),
        ("b.toml", &file("b", "\"a.toml\"", "")),
    ]);
    assert_eq!(
        findings(loaded),
        [
            "extends-cycle policies extend each other: `a.toml` -> `b.toml` -> `a.toml` at a.toml:3 `\"b.toml\"`, b.toml:3 `\"a.toml\"`"
        ]
    );
}

#[test]
fn an_include_stays_in_the_tree_unless_it_may_leave() {
    let root = file("root", "\"../other.toml\"", "");
    let files = [("policies/root.toml", root.as_str()), ("other.toml", "language = 1\npolicy = \"other\"\n")];
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let load =
        |allow_outside| Policy::load_with(Path::new("policies/root.toml"), LoadOptions { allow_outside, read: &read });
    assert!(findings(load(false))[0].starts_with("outside-tree"));
    assert_eq!(load(true).unwrap().files().len(), 2);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = r#"
language = 1
policy = "wrong"
meshes = 1
[mesh]
axes = ["data", "model"]
shape = [1]
[partition]
indivisible = "truncate"
[[FLOW_FABRIC_PARTITION_RULES]]
name = "a"
glob = "a{b"
spec = ["data", "data"]
[[FLOW_FABRIC_PARTITION_RULES]]
name = "a"
spec = "data"
[[QUANTIZATION_RULES]]
name = "q"
glob = "**"
scheme = "int9"
"#;
    let Err(rejected) = Policy::parse("wrong.toml", text) else { panic!() };
    let codes: Vec<&str> = rejected.findings.iter().map(|finding| finding.code.name).collect();
    assert_eq!(
        codes,
        [
            "unknown-key",
            "bad-mesh",
            "bad-value",
            "glob-syntax",
            "repeated-axis",
            "pattern-forms",
            "duplicate-rule",
            "wrong-type",
            "unknown-scheme",
        ]
    );
}
