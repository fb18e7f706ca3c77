//! Weights that belong together when they are quantized: siblings that engines fuse, experts that are stacked.

use indexmap::IndexMap;

use super::settings::template;
use super::view::View;
use super::{Named, Reader};
use crate::finding::{Finding, code};
use crate::policy::language;
use crate::policy::model::Experts;
use crate::source::Spanned;

/// Named lists of tokens. A token in two of them would give a weight two families.
pub(super) fn siblings(reader: &mut Reader<'_>, view: &View<'_>) -> Named<Vec<Spanned<String>>> {
    let mut siblings: Named<Vec<Spanned<String>>> = IndexMap::new();
    for (name, node) in view.members("siblings") {
        let Some(items) = node.as_array() else { continue };
        let tokens: Vec<Spanned<String>> =
            items.iter().filter_map(|item| item.as_str().map(|text| text.map(str::to_owned))).collect();
        if tokens.len() == items.len() && tokens.len() < 2 {
            reader.push(
                Finding::new(&code::BAD_VALUE, format!("siblings `{name}` of fewer than two tokens"))
                    .at(node.span, "")
                    .help("list the tokens that set the fused weights apart, such as `[\"q_proj\", \"k_proj\", \"v_proj\"]`"),
            );
        }
        for (index, token) in tokens.iter().enumerate() {
            let earlier = tokens.iter().take(index).chain(siblings.values().flatten());
            if let Some(other) = earlier.into_iter().find(|other| other.value == token.value) {
                reader.push(
                    Finding::new(&code::BAD_VALUE, format!("`{token}` has two sets of siblings"))
                        .at(token.span, "again here")
                        .at(other.span, "first here")
                        .help("a token stands in one list"),
                );
            }
        }
        siblings.insert(name.value.clone(), tokens);
    }
    siblings
}

pub(super) fn experts(reader: &mut Reader<'_>, view: &View<'_>) -> Named<Experts> {
    let mut experts = IndexMap::new();
    for (name, node) in view.members("experts") {
        let Some(table) = node.as_table() else { continue };
        let view = View::new(&language::EXPERTS, table, name.span);
        let parts: Vec<String> = view.strings("parts").unwrap_or_default().into_iter().map(|part| part.value).collect();
        let interleaved = view.boolean("interleaved").unwrap_or(false);
        let (Some(from), Some(to)) = (view.string("regex"), view.string("template")) else { continue };
        let instead = "the first of `[experts]` that matches applies: a longer regex before it takes weights from it";
        let Some(regex) = reader.regex(&from, true, instead) else { continue };
        if !template(reader, &regex.value, &to) {
            continue;
        }
        let mut missing = Vec::new();
        missing.extend((!to.value.contains("{expert}")).then_some("`{expert}`"));
        missing.extend((parts.len() > 1 && !to.value.contains("{part}")).then_some("`{part}`"));
        if !missing.is_empty() {
            reader.push(
                Finding::new(&code::BAD_VALUE, format!("the template has no {}", missing.join(" and no ")))
                    .at(to.span, "")
                    .help("without it several matrices would have one name"),
            );
            continue;
        }
        if parts.is_empty() && interleaved {
            reader.push(
                Finding::new(&code::BAD_VALUE, "`interleaved` without `parts`")
                    .at(view.node("interleaved").map_or(name.span, |node| node.span), "")
                    .help("name the parts that take turns, such as `[\"gate_proj\", \"up_proj\"]`"),
            );
        }
        experts.insert(name.value.clone(), Experts { regex, template: to, parts, interleaved });
    }
    experts
}
