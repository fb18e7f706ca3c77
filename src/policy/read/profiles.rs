//! What adapters ask for by name, and the inline tests.

use indexmap::IndexMap;

use super::view::View;
use super::{Named, Reader};
use crate::finding::{Finding, code};
use crate::mesh::PartitionSpec;
use crate::policy::language;
use crate::policy::model::{Expect, MoeProfile, PolicyBody, Read, SamplerProfile, Slot, Stage, Verify};
use crate::source::Spanned;

pub(super) fn samplers(view: &View<'_>) -> Named<SamplerProfile> {
    members(view, "sampler", &language::SAMPLER)
        .map(|(name, view)| {
            let profile = SamplerProfile {
                temperature: view.number("temperature").unwrap_or(1.0),
                top_p: view.number("top_p").unwrap_or(1.0),
                seed: view.count("seed").map(|seed| seed.value),
            };
            (name.value.clone(), profile)
        })
        .collect()
}

pub(super) fn moes(reader: &mut Reader<'_>, view: &View<'_>) -> Named<MoeProfile> {
    let mut moes = IndexMap::new();
    for (name, view) in members(view, "moe", &language::MOE) {
        let preset = view.string("preset").map(|preset| preset.value);
        let (Some(experts), Some(top_k)) = (view.count("experts"), view.count("top_k")) else {
            // Refused already; it stays declared, so that slots that name it are not blamed.
            moes.insert(name.value.clone(), MoeProfile { preset, ..MoeProfile::default() });
            continue;
        };
        if top_k.value > experts.value {
            reader.push(
                Finding::new(&code::BAD_VALUE, format!("`top_k` is {top_k}, but there are {experts} experts"))
                    .at(top_k.span, "")
                    .at(experts.span, ""),
            );
        }
        moes.insert(name.value.clone(), MoeProfile { preset, experts: experts.value, top_k: top_k.value });
    }
    moes
}

pub(super) fn slots(
    reader: &mut Reader<'_>,
    view: &View<'_>,
    samplers: &Named<SamplerProfile>,
    moes: &Named<MoeProfile>,
) -> Named<Slot> {
    let mut slots = IndexMap::new();
    for (name, view) in members(view, "slot", &language::SLOT) {
        let sampler = view.string("sampler");
        if let Some(sampler) = &sampler {
            reader.known(&code::UNKNOWN_SAMPLER, "sampler", sampler, samplers.keys().map(String::as_str));
        }
        let moe = view.string("moe");
        if let Some(moe) = &moe {
            reader.known(&code::UNKNOWN_MOE, "moe profile", moe, moes.keys().map(String::as_str));
        }
        let tensors = reader.patterns(view.items("tensors"));
        slots.insert(name.value.clone(), Slot { tensors, sampler, moe });
    }
    slots
}

fn members<'a>(
    view: &View<'a>,
    key: &str,
    shape: &'static language::Shape,
) -> impl Iterator<Item = (&'a Spanned<String>, View<'a>)> {
    view.members(key)
        .iter()
        .filter_map(move |(name, node)| node.as_table().map(|table| (name, View::new(shape, table, name.span))))
}

pub(super) fn expects(reader: &mut Reader<'_>, view: &View<'_>, body: &PolicyBody) -> Vec<Expect> {
    let mut expects = Vec::new();
    for view in view.tables("expect", &language::EXPECT) {
        let Some(path) = view.string("path") else { continue };
        let spec = view.node("spec").and_then(|node| {
            let entries =
                node.as_array()?.iter().map(|node| Some(reader.spec_entry(node)?.0)).collect::<Option<Vec<_>>>()?;
            Some(Spanned::new(PartitionSpec { entries }, node.span))
        });
        let scheme = view.string("scheme");
        if let Some(name) = scheme.as_ref().filter(|name| name.value != "keep") {
            reader.known(&code::UNKNOWN_SCHEME, "scheme", name, body.schemes.keys().map(|name| &**name));
        }
        let rules = view.table("rule", &language::EXPECT_RULE);
        let named = |key: &str| rules.as_ref().and_then(|view| view.string(key));
        let (partition_rule, quantization_rule, loader_rule) =
            (named("partition"), named("quantization"), named("loader"));
        if let Some(name) = &partition_rule {
            reader.known(
                &code::UNKNOWN_RULE,
                "partition rule",
                name,
                body.partition_rules.iter().map(|rule| &*rule.name.value),
            );
        }
        if let Some(name) = &quantization_rule {
            reader.known(
                &code::UNKNOWN_RULE,
                "quantization rule",
                name,
                body.quantization_rules.iter().map(|rule| &*rule.name.value),
            );
        }
        if let Some(name) = &loader_rule {
            reader.known(
                &code::UNKNOWN_RULE,
                "loader rule",
                name,
                body.loader_rules.iter().map(|rule| &*rule.name.value),
            );
        }
        let expect = Expect {
            path,
            spec,
            scheme: scheme.map(|name| name.map(|name| (name != "keep").then_some(name))),
            read: view.word("read", Read::from_word),
            stage: view.word("stage", Stage::from_word),
            verify: view.word("verify", Verify::from_word),
            partition_rule,
            quantization_rule,
            loader_rule,
        };
        let says_nothing = expect.spec.is_none()
            && expect.scheme.is_none()
            && expect.read.is_none()
            && expect.stage.is_none()
            && expect.verify.is_none()
            && rules.is_none();
        if says_nothing {
            reader.push(
                Finding::new(&code::BAD_VALUE, "an `expect` that expects nothing")
                    .at(expect.path.span, "")
                    .help("add `spec`, `scheme`, `read`, `stage`, `verify` or `rule`"),
            );
        }
        expects.push(expect);
    }
    expects
}
