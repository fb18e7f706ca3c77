//! What adapters ask for by name, and the inline tests.

use indexmap::IndexMap;

use super::view::View;
use super::{Named, Reader};
use crate::finding::{Finding, code};
use crate::mesh::PartitionSpec;
use crate::policy::language;
use crate::policy::model::{Expect, Read, Slot, Stage, Verify};
use crate::source::Spanned;

pub(super) fn slots(reader: &mut Reader<'_>, view: &View<'_>) -> Named<Slot> {
    let (samplers, moes) = (view.names("sampler"), view.names("moe"));
    let mut slots = IndexMap::new();
    for (name, view) in members(view, "slot", &language::SLOT) {
        let sampler = view.string("sampler");
        if let Some(sampler) = &sampler {
            reader.known(&code::UNKNOWN_SAMPLER, "sampler", sampler, samplers.as_deref());
        }
        let moe = view.string("moe");
        if let Some(moe) = &moe {
            reader.known(&code::UNKNOWN_MOE, "moe profile", moe, moes.as_deref());
        }
        let tensors = reader.patterns(view.items("tensors"));
        slots.insert(name.value.clone(), Slot { tensors, sampler, moe });
    }
    slots
}

/// The members of a table of named tables, each as its shape has it.
pub(super) fn members<'a>(
    view: &View<'a>,
    key: &str,
    shape: &'static language::Shape,
) -> impl Iterator<Item = (&'a Spanned<String>, View<'a>)> {
    view.members(key)
        .iter()
        .filter_map(move |(name, node)| node.as_table().map(|table| (name, View::new(shape, table, name.span))))
}

pub(super) fn expects(reader: &mut Reader<'_>, view: &View<'_>) -> Vec<Expect> {
    let schemes = view.names("scheme").map(|names| names.into_iter().chain(["keep"]).collect::<Vec<_>>());
    let tables = [
        ("partition", "partition rule", view.names("FLOW_FABRIC_PARTITION_RULES")),
        ("quantization", "quantization rule", view.names("QUANTIZATION_RULES")),
        ("loader", "loader rule", view.names("LOADER_RULES")),
    ];
    let mut expects = Vec::new();
    for view in view.tables("expect", &language::EXPECT) {
        let Some(path) = view.string("path") else { continue };
        let spec = view.node("spec").and_then(|node| {
            let entries =
                node.as_array()?.iter().map(|node| Some(reader.spec_entry(node)?.0)).collect::<Option<Vec<_>>>()?;
            Some(Spanned::new(PartitionSpec { entries }, node.span))
        });
        let scheme = view.string("scheme");
        if let (Some(name), Some(schemes)) = (&scheme, schemes.as_deref().filter(|_| reader.complete)) {
            reader.declared(&code::UNKNOWN_SCHEME, "scheme", name, schemes, "a weight has");
        }
        let rules = view.table("rule", &language::EXPECT_RULE);
        let [partition_rule, quantization_rule, loader_rule] = tables.each_ref().map(|(key, what, names)| {
            let name = rules.as_ref()?.string(key)?;
            reader.known(&code::UNKNOWN_RULE, what, &name, names.as_deref());
            Some(name)
        });
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
        if !view.has_any(&["spec", "scheme", "read", "stage", "verify", "rule"]) {
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
