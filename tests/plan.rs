//! Plans over real inventories: exactly what the systems that the rules come from answer.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flow_fabric::inventory::{Checkpoint, Inventory, ModelConfig};
use flow_fabric::plan::PlanOptions;
use flow_fabric::plan::record::{PlanRecord, TensorRecord};
use flow_fabric::{Dtype, Mesh, Plan, Policy};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inventories").join(name)
}

fn policy(name: &str) -> Policy {
    Policy::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name)).unwrap()
}

fn lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(data(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A checkpoint from names, dtypes and shapes.
fn list(tensors: impl IntoIterator<Item = (String, &'static str, Vec<u64>)>) -> Checkpoint {
    let mut text = String::new();
    for (name, dtype, shape) in tensors {
        text += &format!("{}\n", serde_json::json!({ "name": name, "dtype": dtype, "shape": shape }));
    }
    let (checkpoint, findings) = Checkpoint::from_list(text.as_bytes(), "list").unwrap();
    assert_eq!(findings, []);
    checkpoint
}

fn plan(policy: &Policy, checkpoint: &Checkpoint) -> Plan {
    let (inventory, findings) = policy.group(checkpoint);
    assert_eq!(findings, []);
    Plan::new(policy, inventory, &PlanOptions::default()).unwrap()
}

fn open(name: &str) -> Checkpoint {
    let (checkpoint, findings) = Checkpoint::open(&data(name)).unwrap();
    assert_eq!(findings, []);
    checkpoint
}

/// The oracle's weights as a float checkpoint.
fn floats(oracle: &[Value]) -> Checkpoint {
    list(oracle.iter().map(|leaf| {
        let shape = leaf["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect();
        (leaf["name"].as_str().unwrap().to_owned(), "F32", shape)
    }))
}

fn specs(plan: &Plan) -> BTreeMap<String, Value> {
    plan.weights()
        .map(|planned| (planned.weight.path.clone(), serde_json::to_value(&planned.class().spec).unwrap()))
        .collect()
}

fn expected(oracle: &[Value]) -> BTreeMap<String, Value> {
    oracle.iter().map(|leaf| (leaf["name"].as_str().unwrap().to_owned(), leaf["spec"].clone())).collect()
}

#[test]
fn grok_1_gets_the_specs_of_its_own_apply_rules() {
    let policy = policy("grok-1.toml");
    let oracle = lines("grok-1.oracle.jsonl");
    let want = expected(&oracle);
    assert_eq!(want.len(), 770);
    assert_eq!(specs(&plan(&policy, &floats(&oracle))), want, "float leaves");
    assert_eq!(specs(&plan(&policy, &open("grok-1.jsonl"))), want, "1,218 stored arrays, grouped");
}

#[test]
fn grok_1_without_experts_gets_the_specs_of_its_own_apply_rules() {
    let oracle = lines("grok-1-dense-variant.oracle.jsonl");
    assert_eq!(oracle.len(), 24);
    assert_eq!(specs(&plan(&policy("grok-1.toml"), &floats(&oracle))), expected(&oracle));
}

#[test]
fn made_up_paths_get_the_specs_of_grok_1_s_own_apply_rules() {
    let policy = policy("grok-1.toml");
    let matcher = policy.compile().unwrap();
    let mut walk = matcher.graph.matcher();
    let oracle = lines("grok-1-paths.oracle.jsonl");
    assert_eq!(oracle.len(), 111);
    let mut differing = Vec::new();
    for path in &oracle {
        let tokens: Vec<&str> = path["path"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
        let winner = walk.resolve_tokens(&tokens).candidates(matcher.partition).first().map(|rule| rule.index());
        let spec = winner.map(|rule| {
            let mut spec = policy.partition_rules[rule].decision.partition_spec();
            if tokens.contains(&policy.partition.stack_token.as_deref().unwrap()) {
                spec.entries.insert(0, flow_fabric::mesh::SpecEntry::Unsplit);
            }
            spec
        });
        if serde_json::to_value(spec).unwrap() != path["spec"] {
            differing.push(tokens);
        }
    }
    // Python's `$` matches before a final newline; the language anchors at the end of the text.
    assert!(
        differing.len() <= 1 && differing.iter().flatten().all(|token| !token.contains('\n') || token.ends_with('\n'))
    );
    for tokens in differing {
        assert!(tokens.iter().any(|token| token.ends_with('\n')), "{tokens:?}");
    }
}

/// What rules decide, without what follows from storage.
fn decisions(plan: &Plan) -> BTreeMap<String, Value> {
    plan.weights()
        .map(|planned| {
            let TensorRecord { path, shard, quant, load, shape, .. } = planned.record();
            (path, serde_json::json!([shard.rule, shard.spec, quant.rule, quant.scheme, load.rule, shape]))
        })
        .collect()
}

#[test]
fn a_policy_decides_the_same_on_grok_s_floats_and_on_its_pairs() {
    let policy = policy("grok-1.toml");
    let floats = plan(&policy, &floats(&lines("grok-1.oracle.jsonl")));
    let pairs = plan(&policy, &open("grok-1.jsonl"));
    assert_eq!(decisions(&floats), decisions(&pairs));
    assert_eq!(pairs.summary.stored_bytes, pairs.summary.planned_bytes, "the released layout is the planned one");
    assert_eq!(floats.summary.planned_bytes, pairs.summary.planned_bytes);
    assert_eq!(
        floats.devices.iter().map(|device| device.planned_bytes).collect::<Vec<_>>(),
        pairs.devices.iter().map(|device| device.planned_bytes).collect::<Vec<_>>()
    );
}

/// The same model with the linear weights of its layers stored another way.
fn requantized(stored: impl Fn(&str, &[u64]) -> Vec<(String, &'static str, Vec<u64>)>) -> Checkpoint {
    list(open("llama-3-8b.jsonl").tensors.iter().flat_map(|tensor| {
        if tensor.name.contains("_proj.") {
            stored(&tensor.name, &tensor.shape)
        } else {
            vec![(tensor.name.clone(), "BF16", tensor.shape.clone())]
        }
    }))
}

#[test]
fn a_policy_decides_the_same_on_llama_s_quantized_layouts() {
    let policy = policy("llama-3.toml");
    let want = decisions(&plan(&policy, &open("llama-3-8b.jsonl")));
    let int8 = requantized(|name, shape| {
        vec![(name.to_owned(), "I8", shape.to_vec()), (format!("{name}_scale"), "BF16", vec![shape[0], 1])]
    });
    assert_eq!(decisions(&plan(&policy, &int8)), want, "compressed-tensors int8");
    let mut packed = requantized(|name, shape| {
        vec![
            (format!("{name}_packed"), "I32", vec![shape[0], shape[1] / 8]),
            (format!("{name}_scale"), "BF16", vec![shape[0], shape[1] / 128]),
            (format!("{name}_shape"), "I64", vec![2]),
        ]
    });
    // Rows of words do not say how many bits a code has; the config beside the weights does.
    let config = r#"{"quantization_config": {"quant_method": "compressed-tensors", "config_groups":
        {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 128}}}}}"#;
    packed.config = Some(ModelConfig::parse(config).unwrap());
    assert_eq!(decisions(&plan(&policy, &packed)), want, "compressed-tensors int4");
    let fp8 = requantized(|name, shape| {
        let blocks = vec![shape[0].div_ceil(128), shape[1].div_ceil(128)];
        vec![(name.to_owned(), "F8_E4M3", shape.to_vec()), (format!("{name}_scale_inv"), "F32", blocks)]
    });
    assert_eq!(decisions(&plan(&policy, &fp8)), want, "DeepSeek fp8");
}

#[test]
fn every_shipped_policy_plans_its_model_without_a_finding() {
    for (name, inventory) in [
        ("grok-1.toml", "grok-1.jsonl"),
        ("llama-3.toml", "llama-3-8b.jsonl"),
        ("mixtral.toml", "mixtral-8x7b.jsonl"),
        ("deepseek-v3.toml", "deepseek-v3.jsonl.gz"),
        ("gpt-oss.toml", "gpt-oss-120b.jsonl.gz"),
        ("bert.toml", "bert-base-uncased.jsonl"),
        ("bert.toml", "all-minilm-l6-v2.jsonl"),
    ] {
        let policy = policy(name);
        let plan = plan(&policy, &open(inventory));
        let findings = flow_fabric::finding::levels::settle(&policy.lints, plan.findings.clone(), |_| true);
        assert_eq!(findings, [], "{name} over {inventory}");
        assert_eq!(plan.summary.weights as usize, plan.inventory.weights.len());
    }
}

#[test]
fn devices_hold_the_whole_between_them() {
    for (name, inventory) in
        [("grok-1.toml", "grok-1.jsonl"), ("mixtral.toml", "mixtral-8x7b.jsonl"), ("llama-3.toml", "llama-3-8b.jsonl")]
    {
        let plan = plan(&policy(name), &open(inventory));
        // Every stored byte is somewhere; replicated bytes are there once per replica.
        let held: u64 = plan.devices.iter().map(|device| device.stored_bytes).sum();
        let wanted: u64 = plan
            .weights()
            .map(|planned| {
                let record = planned.record();
                let (weight, mesh) = (planned.weight, &plan.mesh);
                let places = record.shard.owners.as_ref().map_or(mesh.devices(), |owners| owners.len() as u64);
                // Companions may be cut less than the weight: count what each device holds of each.
                (0..mesh.devices())
                    .filter(|device| record.shard.owners.as_ref().is_none_or(|owners| owners.contains(device)))
                    .map(|device| {
                        let coordinates = mesh.coordinates(device);
                        let share = |(component, cuts): (
                            &flow_fabric::inventory::Component,
                            &flow_fabric::plan::shard::ComponentCuts,
                        )| {
                            let local = cuts.cuts.local_shape(&component.tensor.shape, mesh, &coordinates);
                            component.tensor.dtype.bytes_for(local.iter().product()).unwrap()
                        };
                        weight.components.iter().zip(&planned.class().stored).map(share).sum::<u64>()
                    })
                    .sum::<u64>()
                    + u64::from(places == 0)
            })
            .sum();
        assert_eq!(held, wanted, "{name}");
    }
}

#[test]
fn json_is_the_contract_and_reads_back() {
    let plan = plan(&policy("mixtral.toml"), &open("mixtral-8x7b.jsonl"));
    let mut text = Vec::new();
    plan.write_json(&mut text).unwrap();
    let streamed: PlanRecord = serde_json::from_slice(&text).unwrap();
    assert_eq!(streamed, plan.record(), "written weight by weight and read back");
    let schema = flow_fabric::schema::by_name("plan").unwrap().schema().to_value();
    let document: Value = serde_json::from_slice(&text).unwrap();
    let errors: Vec<String> =
        jsonschema::draft7::new(&schema).unwrap().iter_errors(&document).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
    let expert = streamed.tensors.iter().find(|tensor| tensor.path.contains("experts.5.w2")).unwrap();
    assert_eq!(serde_json::to_value(&expert.shard.spec).unwrap(), serde_json::json!([null, "model"]));
    assert_eq!(expert.shard.owners.as_deref(), Some(&[4, 5][..]), "experts 4 and 5 are on the third pair of devices");
    assert_eq!((expert.shard.replicas, expert.shard.local_shape.as_deref()), (1, Some(&[4096, 7168][..])));
    let names: Vec<&str> =
        expert.quant.companions.iter().map(|companion| companion.name.rsplit('.').next().unwrap()).collect();
    assert_eq!(names, ["weight", "weight_scale"]);
}

/// A policy of one rule over one matrix.
fn one(settings: &str, spec: &str, mesh: &Mesh, shape: &[u64]) -> Plan {
    let text = format!(
        "language = 1\npolicy = \"one\"\n{settings}\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\n{spec}\n"
    );
    let policy = Policy::parse("one.toml", &text).unwrap();
    let (inventory, _): (Inventory, _) = policy.group(&list([("experts.5.w".to_owned(), "BF16", shape.to_vec())]));
    Plan::new(&policy, inventory, &PlanOptions { mesh: Some(mesh.clone()) }).unwrap()
}

#[test]
fn declared_ways_out_are_taken_and_counted() {
    let mesh = Mesh::new([("model", 4)]).unwrap();
    let shard = |settings: &str, spec: &str, shape: &[u64]| {
        let plan = one(settings, spec, &mesh, shape);
        let record = plan.record();
        (record.tensors[0].shard.clone(), plan.summary.fallbacks.clone(), plan.findings.len(), plan.devices.clone())
    };
    let (padded, fallbacks, findings, devices) =
        shard("[partition]\nindivisible = \"pad\"", "spec = [\"model\"]", &[10, 2]);
    assert_eq!((padded.local_shape.as_deref(), findings), (Some(&[3, 2][..]), 0));
    assert_eq!(fallbacks, BTreeMap::from([("padded".to_owned(), 1)]));
    assert_eq!(devices[3].stored_bytes, 3 * 2 * 2, "padding takes room");

    let (uneven, _, _, devices) = shard("[partition]\nindivisible = \"uneven\"", "spec = [\"model\"]", &[10, 2]);
    assert_eq!(uneven.local_shape, None);
    let pieces: Vec<(u64, u64)> = uneven.shards.unwrap().iter().map(|piece| (piece.start[0], piece.shape[0])).collect();
    assert_eq!(pieces, [(0, 3), (3, 3), (6, 3), (9, 1)]);
    assert_eq!(devices.iter().map(|device| device.stored_bytes).collect::<Vec<_>>(), [12, 12, 12, 4]);

    let (whole, _, _, _) = shard("[partition]\nindivisible = \"replicate\"", "spec = [\"model\"]", &[10, 2]);
    assert_eq!((whole.local_shape.as_deref(), whole.replicas), (Some(&[10, 2][..]), 4));

    let fewer = "spec = [{ axis = \"model\", unit = 5, fewer = \"replicate\" }]";
    let (shared, fallbacks, findings, _) = shard("", fewer, &[10, 2]);
    assert_eq!((shared.local_shape.as_deref(), shared.replicas, findings), (Some(&[5, 2][..]), 2, 0));
    assert_eq!(fallbacks, BTreeMap::from([("fewer-units".to_owned(), 1)]));

    let (_, _, findings, _) = shard("", "spec = [\"model\"]", &[10, 2]);
    assert_eq!(findings, 1, "without a declaration it is a finding");

    let place = "spec = []\nplace = { axis = \"model\", index = 'experts\\.(\\d+)', of = 8 }";
    let (placed, _, findings, devices) = shard("", place, &[10, 2]);
    assert_eq!((placed.owners.as_deref(), placed.replicas, findings), (Some(&[2][..]), 1, 0));
    assert_eq!(devices.iter().map(|device| device.stored_bytes).collect::<Vec<_>>(), [0, 0, 40, 0]);
}

#[test]
fn a_no_match_is_not_an_empty_spec() {
    let text = "language = 1\npolicy = \"p\"\n[partition]\nunmatched = \"replicate\"\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"a\"\npath = \"a\"\nspec = []\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"b\"\npath = \"b\"\nspec = [\"-\"]\n";
    let policy = Policy::parse("p.toml", text).unwrap();
    let plan = plan(&policy, &list(["a", "b", "c"].map(|name| (name.to_owned(), "F32", vec![2]))));
    let shards: Vec<Value> =
        plan.weights().map(|planned| serde_json::to_value(planned.record().shard).unwrap()).collect();
    assert_eq!(shards[0]["spec"], serde_json::json!([]));
    assert_eq!(shards[1]["spec"], serde_json::json!([null]));
    assert_eq!((&shards[2]["spec"], &shards[2]["rule"]), (&Value::Null, &Value::Null));
    assert_eq!(plan.inventory.weights[0].dtype, Dtype::F32);
}

/// What an adapter gets needs neither the policy nor its presets: it compiles to the same sampler and layer.
#[test]
fn slots_carry_samplers_and_layers_ready_to_run() {
    let text = "language = 1\npolicy = \"p\"\n[partition]\nunmatched = \"replicate\"\n\
        [sampler.base]\ntop_p = 0.9\nmin_p = 0.05\n\
        [sampler.talk]\ninherit = \"base\"\npreset = \"llama-cpp\"\ntemperature = 0.7\nlogit_bias = { 7 = -1.5 }\n\
        [moe.m]\npreset = \"deepseek-v3\"\ngroup_top_k = 2\n\
        [slot.s]\ntensors = [\"**\"]\nsampler = \"talk\"\nmoe = \"m\"\n";
    let policy = Policy::parse("p.toml", text).unwrap();
    let plan = plan(&policy, &list([("w".to_owned(), "F32", vec![4])]));
    let record: PlanRecord = serde_json::from_str(&serde_json::to_string(&plan.record()).unwrap()).unwrap();
    let sampler = record.slots["s"].sampler.as_ref().unwrap();
    assert_eq!(sampler.name, "talk");
    assert_eq!(
        sampler.stages,
        ["logit_bias: 1 token", "top_p 0.9: mass before < p, ties by-id", "min_p 0.05 of the best", "temperature 0.7"]
    );
    let (compiled, _) = flow_fabric::sample::Sampler::compile(&sampler.profile).unwrap();
    let (written, _) = flow_fabric::sample::Sampler::compile(&policy.samplers["talk"]).unwrap();
    assert_eq!(compiled, written);
    let layer = record.slots["s"].moe.as_ref().unwrap();
    let compile = |config| flow_fabric::moe::MoeLayer::compile(config).unwrap();
    assert_eq!(compile(&layer.profile), compile(&policy.moes["m"]));
    assert_eq!(layer.profile.tensors.as_ref().unwrap().router.as_deref(), Some("gate.weight"));
}
