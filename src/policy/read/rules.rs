//! The three rule tables.

use std::sync::Arc;

use indexmap::IndexMap;

use super::view::View;
use super::{Reader, Shared};
use crate::Dtype;
use crate::finding::{Finding, code};
use crate::inventory::StoredFormat;
use crate::policy::language::{self, Shape};
use crate::policy::model::{
    DeclaredScheme, LayerCount, Loading, Place, Quantizing, Read, Rule, Sharding, SpecDimension, Stage, Verify, When,
    WhenLayer,
};
use crate::policy::node::{Node, Value};
use crate::source::{Span, Spanned};

pub(super) fn partition(reader: &mut Reader<'_>, view: &View<'_>) -> Vec<Rule<Sharding>> {
    table(reader, view, "FLOW_FABRIC_PARTITION_RULES", &language::PARTITION_RULE, |reader, view| {
        let node = view.node("spec")?;
        let spec = node.as_array()?.iter().map(|entry| dimension(reader, entry)).collect::<Vec<_>>();
        let spec = spec.into_iter().collect::<Option<Vec<_>>>()?;
        let place = view.table("place", &language::PLACE).map(|view| place(reader, &view));
        repeated_axes(reader, &spec, place.as_ref().and_then(Option::as_ref).map(|place| &place.axis));
        let place = match place {
            Some(None) => return None,
            Some(Some(place)) => Some(Spanned::new(place, view.node("place").map_or(view.span, |node| node.span))),
            None => None,
        };
        Some(Sharding { spec, span: node.span, place })
    })
}

pub(super) fn quantization(
    reader: &mut Reader<'_>,
    view: &View<'_>,
    schemes: &IndexMap<Shared, DeclaredScheme>,
) -> Vec<Rule<Quantizing>> {
    table(reader, view, "QUANTIZATION_RULES", &language::QUANTIZATION_RULE, |reader, view| {
        let name = view.string("scheme")?;
        let scheme = if name.value == "keep" {
            None
        } else {
            let known = schemes.keys().map(|name| &**name).chain(["keep"]);
            if !reader.known(&code::UNKNOWN_SCHEME, "scheme", &name, known) {
                return None;
            }
            Some(Arc::from(name.value.as_str()))
        };
        Some(Quantizing {
            scheme: Spanned::new(scheme, name.span),
            contract: view.integer("contract"),
            force: view.boolean("force").unwrap_or(false),
        })
    })
}

pub(super) fn loader(reader: &mut Reader<'_>, view: &View<'_>) -> Vec<Rule<Loading>> {
    table(reader, view, "LOADER_RULES", &language::LOADER_RULE, |_, view| {
        Some(Loading {
            read: view.word("read", Read::from_word).map(|word| word.value),
            stage: view.word("stage", Stage::from_word).map(|word| word.value),
            verify: view.word("verify", Verify::from_word).map(|word| word.value),
        })
    })
}

/// Reads one table: names, overrides, patterns, conditions; `decide` reads the rest.
fn table<D>(
    reader: &mut Reader<'_>,
    view: &View<'_>,
    key: &'static str,
    shape: &'static Shape,
    mut decide: impl FnMut(&mut Reader<'_>, &View<'_>) -> Option<D>,
) -> Vec<Rule<D>> {
    let views = view.tables(key, shape);
    let names: Vec<Option<Spanned<String>>> = views.iter().map(|view| view.string("name")).collect();
    let mut rules: Vec<(Spanned<String>, Option<Rule<D>>)> = Vec::new();
    // An override stands where the rule that it replaces stood.
    let mut overriding: Vec<(Spanned<String>, Option<Rule<D>>)> = Vec::new();
    for (position, (view, name)) in views.iter().zip(&names).enumerate() {
        let rule = rule(reader, view, name.as_ref(), &mut decide);
        let Some(name) = name.clone() else { continue };
        if name.value.is_empty() || name.value.chars().any(char::is_control) {
            reader.push(
                Finding::new(&code::BAD_VALUE, "a rule's name cannot be empty or hold control characters")
                    .at(name.span, ""),
            );
        }
        let overrides = view.boolean("override").unwrap_or(false);
        let later_inherited = names
            .iter()
            .skip(position + 1)
            .flatten()
            .any(|other| other.value == name.value && other.span.source != name.span.source);
        if overrides {
            if later_inherited {
                overriding.push((name, rule));
            } else {
                reader.push(
                    Finding::new(&code::OVERRIDES_NOTHING, format!("rule `{name}` overrides nothing"))
                        .at(view.key_span("override"), "")
                        .help("no policy that this one extends has a rule of that name in this table; drop `override`"),
                );
            }
            continue;
        }
        if let Some(first) = overriding.iter_mut().find(|(other, _)| other.value == name.value) {
            rules.push((first.0.clone(), first.1.take()));
            continue;
        }
        if let Some((first, _)) = rules.iter().find(|(other, _)| other.value == name.value) {
            let inherited = first.span.source != name.span.source;
            let finding = Finding::new(&code::DUPLICATE_RULE, format!("two rules of {key} are named `{name}`"));
            reader.push(if inherited {
                finding
                    .at(first.span, "this one")
                    .at(name.span, "inherited")
                    .help("rename it, or say `override = true` to replace the inherited rule in its place")
            } else {
                finding
                    .at(name.span, "again here")
                    .at(first.span, "first here")
                    .help("names are unique within a table; rename one")
            });
            continue;
        }
        rules.push((name, rule));
    }
    rules.into_iter().filter_map(|(_, rule)| rule).collect()
}

fn rule<D>(
    reader: &mut Reader<'_>,
    view: &View<'_>,
    name: Option<&Spanned<String>>,
    decide: &mut impl FnMut(&mut Reader<'_>, &View<'_>) -> Option<D>,
) -> Option<Rule<D>> {
    let pattern = reader.one_form(view);
    let except = reader.patterns(view.items("except"));
    let when =
        view.table("when", &language::WHEN).map(|inner| Spanned::new(when(reader, &inner), view.key_span("when")));
    let decision = decide(reader, view);
    let name = name?;
    Some(Rule {
        name: Spanned::new(Arc::from(name.value.as_str()), name.span),
        pattern: pattern?,
        except,
        when,
        decision: decision?,
        inherited: name.span.source != crate::source::SourceId::ROOT,
        written: view.written(),
    })
}

/// One entry of a spec.
fn dimension(reader: &mut Reader<'_>, node: &Node) -> Option<SpecDimension> {
    let (axis, unit, fewer_replicate) = match &node.value {
        Value::Table(table) => {
            let view = View::new(&language::SPEC_ENTRY, table, node.span);
            let unit = view.count("unit").map_or(1, |unit| unit.value);
            (view.node("axis")?, unit, view.string("fewer").is_some_and(|word| word.value == "replicate"))
        }
        _ => (node, 1, false),
    };
    let (entry, axis_spans) = reader.spec_entry(axis)?;
    Some(SpecDimension { entry, axis_spans, span: node.span, unit, fewer_replicate })
}

/// An axis splits one dimension of a weight, or distributes whole weights: never twice.
fn repeated_axes(reader: &mut Reader<'_>, spec: &[SpecDimension], place: Option<&Spanned<String>>) {
    let mut seen: Vec<(String, Span)> = Vec::new();
    let uses = spec
        .iter()
        .flat_map(|dimension| dimension.entry.axes().iter().cloned().zip(dimension.axis_spans.iter().copied()));
    for (axis, span) in uses.chain(place.map(|axis| (axis.value.clone(), axis.span))) {
        match seen.iter().find(|(other, _)| *other == axis) {
            Some((_, first)) => reader.push(
                Finding::new(&code::REPEATED_AXIS, format!("axis `{axis}` is used twice in one spec"))
                    .at(span, "again here")
                    .at(*first, "first here")
                    .help("a device has one coordinate on an axis, so it can cut one dimension only"),
            ),
            None => seen.push((axis, span)),
        }
    }
}

fn place(reader: &mut Reader<'_>, view: &View<'_>) -> Option<Place> {
    let axis = view.string("axis");
    let known = axis.as_ref().is_none_or(|axis| reader.axis(axis));
    let index = view.string("index");
    let regex = index.as_ref().and_then(|text| reader.regex(text, false));
    if let (Some(regex), Some(text)) = (&regex, &index)
        && regex.captures_len() != 2
    {
        reader.push(
            Finding::new(&code::BAD_VALUE, format!("`index` has {} groups, not one", regex.captures_len() - 1))
                .at(text.span, "")
                .help(r"put the number in one group, such as `experts\.(\d+)`"),
        );
        return None;
    }
    let place = Place { axis: axis?, index: regex?, of: view.count("of")? };
    known.then_some(place)
}

fn when(reader: &mut Reader<'_>, view: &View<'_>) -> When {
    let dtype =
        view.string_or_strings("dtype").map(|names| names.iter().filter_map(|name| dtype(reader, name)).collect());
    let format = view.string_or_strings("format").map(|names| {
        for name in &names {
            let known = StoredFormat::NAMES.iter().copied();
            let declared: Vec<String> = reader.layouts.clone();
            reader.known(
                &code::UNKNOWN_FORMAT,
                "stored format",
                name,
                known.chain(declared.iter().map(String::as_str)),
            );
        }
        names.into_iter().map(|name| name.value).collect()
    });
    let when = When {
        rank: view.count_or_counts("rank"),
        dtype,
        format,
        shape: view.sizes("shape"),
        min_elements: view.count("min_elements").map(|count| count.value),
        max_elements: view.count("max_elements").map(|count| count.value),
        divisible_by: view.sizes("divisible_by"),
        layer: view.table("layer", &language::LAYER).map(|view| layer(reader, &view)),
    };
    if when == When::default() {
        reader.push(
            Finding::new(&code::BAD_VALUE, "`when` without a condition")
                .at(view.span, "")
                .help("drop it, or name a condition"),
        );
    }
    if let (Some(min), Some(max)) = (when.min_elements, when.max_elements)
        && min > max
    {
        reader.push(
            Finding::new(&code::BAD_VALUE, format!("no weight has at least {min} and at most {max} elements"))
                .at(view.key_span("min_elements"), "")
                .at(view.key_span("max_elements"), ""),
        );
    }
    when
}

/// A dtype by any of its spellings.
pub(super) fn dtype(reader: &mut Reader<'_>, name: &Spanned<String>) -> Option<Dtype> {
    match name.value.parse() {
        Ok(dtype) => Some(dtype),
        Err(_) => {
            let known = Dtype::ALL.iter().map(|dtype| dtype.name());
            let finding = Finding::new(&code::NO_SUCH_DTYPE, format!("unknown dtype `{name}`")).at(name.span, "");
            reader.push(match crate::finding::suggest::did_you_mean(&name.value, known) {
                Some(guess) => finding.help(guess),
                None => finding.help("dtypes are spelled like `f32`, `bf16`, `f8_e4m3`, `i8`, `u8`, `q4_k`"),
            });
            None
        }
    }
}

fn layer(reader: &mut Reader<'_>, view: &View<'_>) -> WhenLayer {
    let layer = WhenLayer {
        first: layer_count(reader, view, "first"),
        last: layer_count(reader, view, "last"),
        every: view.count("every").map(|count| count.value),
        among: view.counts("in"),
        of: view.string("of").map(|of| {
            if of.value.matches('*').count() != 1 {
                reader.push(
                    Finding::new(&code::BAD_VALUE, "`of` names the layer token with one `*` for its number")
                        .at(of.span, "")
                        .help("such as `decoder_layer_*`"),
                );
            }
            of.value
        }),
    };
    if layer.first.is_none() && layer.last.is_none() && layer.every.is_none() && layer.among.is_none() {
        reader.push(
            Finding::new(&code::BAD_VALUE, "`layer` without a position")
                .at(view.span, "")
                .help("give `first`, `last`, `every` or `in`"),
        );
    }
    layer
}

fn layer_count(reader: &mut Reader<'_>, view: &View<'_>, key: &str) -> Option<LayerCount> {
    if let Some(count) = view.count(key) {
        return Some(LayerCount::Count(count.value));
    }
    let text = view.string(key)?;
    let fraction = text.value.split_once('/').and_then(|(numerator, denominator)| {
        let (numerator, denominator) = (numerator.trim().parse().ok()?, denominator.trim().parse().ok()?);
        (denominator > 0 && numerator <= denominator).then_some(LayerCount::Fraction(numerator, denominator))
    });
    if fraction.is_none() {
        reader.push(
            Finding::new(&code::BAD_VALUE, format!("`{text}` is not a fraction of the layers"))
                .at(text.span, "")
                .help("write a count, or a fraction between 0 and 1 such as `\"1/8\"`"),
        );
    }
    fraction
}
