//! The three rule tables.

use std::sync::Arc;

use super::Reader;
use super::view::View;
use crate::Dtype;
use crate::finding::{Finding, code};
use crate::policy::language::{self, Shape};
use crate::policy::model::{
    LayerCount, Loading, Place, Quantizing, Read, Rule, Sharding, SpecDimension, Stage, Verify, When, WhenLayer,
};
use crate::policy::node::{Node, Value};
use crate::quantize::Limits;
use crate::source::Spanned;

pub(super) fn partition(reader: &mut Reader<'_>, view: &View<'_>) -> Vec<Rule<Sharding>> {
    table(reader, view, "FLOW_FABRIC_PARTITION_RULES", &language::PARTITION_RULE, |reader, view| {
        let node = view.node("spec");
        let place = view.table("place", &language::PLACE);
        repeated_axes(reader, node, place.as_ref());
        let entries = node.and_then(Node::as_array).unwrap_or_default();
        let spec = entries.iter().map(|entry| dimension(reader, entry)).collect::<Vec<_>>();
        let place = match place {
            Some(view) => Some(Spanned::new(self::place(reader, &view)?, view.span)),
            None => None,
        };
        Some(Sharding { spec: spec.into_iter().collect::<Option<Vec<_>>>()?, span: node?.span, place })
    })
}

pub(super) fn quantization(reader: &mut Reader<'_>, view: &View<'_>) -> Vec<Rule<Quantizing>> {
    let schemes = view.names("scheme").map(|names| names.into_iter().chain(["keep"]).collect::<Vec<_>>());
    table(reader, view, "QUANTIZATION_RULES", &language::QUANTIZATION_RULE, |reader, view| {
        let name = view.string("scheme")?;
        let scheme = if name.value == "keep" {
            None
        } else {
            let known = schemes.as_deref().filter(|_| reader.complete);
            if let Some(known) = known
                && !reader.declared(&code::UNKNOWN_SCHEME, "scheme", &name, known, "a rule takes")
            {
                return None;
            }
            Some(Arc::from(name.value.as_str()))
        };
        Some(Quantizing {
            scheme: Spanned::new(scheme, name.span),
            contract: view.integer("contract"),
            force: view.boolean("force").unwrap_or(false),
            limits: limits(view),
        })
    })
}

/// The gates of a rule or scheme.
pub(super) fn limits(view: &View<'_>) -> Limits {
    let Some(view) = view.table("limits", &language::LIMITS) else { return Limits::default() };
    Limits {
        max_abs_error: view.number("max_abs_error"),
        max_relative_error: view.number("max_relative_error"),
        min_sqnr_db: view.number("min_sqnr_db"),
        min_cosine: view.number("min_cosine"),
    }
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
                Finding::new(
                    &code::BAD_VALUE,
                    if name.value.is_empty() {
                        "a rule's name is empty"
                    } else {
                        "a rule's name holds a control character"
                    },
                )
                .at(name.span, "")
                .help("plans, snapshots and `explain` quote it"),
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
                match overriding.iter().find(|(other, _)| other.value == name.value) {
                    Some((first, _)) => reader.push(
                        Finding::new(&code::DUPLICATE_RULE, format!("two rules of `{key}` override `{name}`"))
                            .at(name.span, "again here")
                            .at(first.span, "first here")
                            .help("one rule takes the place of the inherited one; give the other a name of its own"),
                    ),
                    None => overriding.push((name, rule)),
                }
            } else if reader.complete {
                let inherited: Vec<&str> = names
                    .iter()
                    .flatten()
                    .filter(|other| other.span.source != name.span.source)
                    .map(|other| other.value.as_str())
                    .collect();
                let finding = Finding::new(&code::OVERRIDES_NOTHING, format!("rule `{name}` overrides nothing"))
                    .at(name.span, "");
                let guess = crate::finding::suggest::did_you_mean(&name.value, inherited);
                reader.push(finding.help(guess.unwrap_or_else(|| {
                    "no policy that this one extends has a rule of that name in this table; drop `override`".to_owned()
                })));
            }
            continue;
        }
        if let Some(first) = overriding.iter_mut().find(|(other, _)| other.value == name.value) {
            rules.push((first.0.clone(), first.1.take()));
            continue;
        }
        if let Some((first, _)) = rules.iter().find(|(other, _)| other.value == name.value) {
            let inherited = first.span.source != name.span.source;
            let finding = Finding::new(&code::DUPLICATE_RULE, format!("two rules of `{key}` are named `{name}`"));
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
    let pattern = reader.one_form(view, name.map(|name| name.value.as_str()));
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

/// An axis splits one dimension of a weight, or distributes whole weights: never twice, whether or not the mesh has it.
fn repeated_axes(reader: &mut Reader<'_>, spec: Option<&Node>, place: Option<&View<'_>>) {
    fn axes<'a>(node: &'a Node, found: &mut Vec<Spanned<&'a str>>) {
        match &node.value {
            Value::String(axis) if axis == "-" => {}
            Value::String(axis) => found.push(Spanned::new(axis, node.span)),
            Value::Array(items) => items.iter().for_each(|item| axes(item, found)),
            Value::Table(table) => table.get("axis").into_iter().for_each(|axis| axes(axis, found)),
            _ => {}
        }
    }
    let mut uses = Vec::new();
    spec.into_iter().for_each(|spec| axes(spec, &mut uses));
    place.and_then(|place| place.node("axis")).into_iter().for_each(|axis| axes(axis, &mut uses));
    for (index, axis) in uses.iter().enumerate() {
        // A third use is said against the first one, too.
        if let Some(first) = uses.iter().take(index).find(|other| other.value == axis.value) {
            reader.push(
                Finding::new(&code::REPEATED_AXIS, format!("axis `{axis}` is used twice in one spec"))
                    .at(axis.span, "again here")
                    .at(first.span, "first here")
                    .help("a device has one coordinate on an axis, so it can cut one dimension only"),
            );
        }
    }
}

fn place(reader: &mut Reader<'_>, view: &View<'_>) -> Option<Place> {
    let axis = view.string("axis");
    let known = axis.as_ref().is_none_or(|axis| reader.axis(axis));
    let index = view.string("index");
    let regex = index.as_ref().and_then(|text| reader.regex(text, false, "narrow the rule's pattern instead"));
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
        if let Some(known) = reader.formats.clone().filter(|_| reader.complete) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            for name in &names {
                reader.declared(&code::UNKNOWN_FORMAT, "stored format", name, &known, "formats are");
            }
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
    let conditions: Vec<&str> = language::WHEN.fields.iter().map(|field| field.key).collect();
    if !view.has_any(&conditions) {
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
                .at(view.key_span("max_elements"), "")
                .help("swap the two"),
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
    if !view.has_any(&["first", "last", "every", "in"]) {
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
