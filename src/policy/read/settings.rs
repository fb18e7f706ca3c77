//! Settings: the mesh, schemes, table settings, lints, ties.

use std::sync::Arc;

use indexmap::IndexMap;

use super::rules::{dtype, limits};
use super::view::View;
use super::{Reader, Shared, default_sensitive};
use crate::finding::levels::{Level, LintLevel};
use crate::finding::{Finding, code};
use crate::inventory::{DeclaredLayout, DeclaredShape, Role};
use crate::mesh::{Mesh, MeshError};
use crate::policy::language;
use crate::policy::model::{
    CompanionSpec, DeclaredMesh, DeclaredScheme, Indivisible, LoaderSettings, PartitionSettings, PolicyBody,
    QuantizationSettings, Read, Rename, Sensitive, Stage, Verify,
};
use crate::policy::node::Value;
use crate::quantize::{self, Format, Granularity, Scheme};
use crate::source::{Span, Spanned};

pub(super) fn mesh(reader: &mut Reader<'_>, view: &View<'_>) -> Option<DeclaredMesh> {
    let axes = view.strings("axes")?;
    let shape = view.counts("shape")?;
    let span = view.key_span("axes");
    let (all_axes, all_sizes) = (view.items("axes").len(), view.items("shape").len());
    if all_axes != all_sizes {
        let counted = |count, what: &str| crate::units::counted(count, what);
        let node_span = |key: &str| view.node(key).map_or(view.span, |node| node.span);
        reader.push(
            Finding::new(
                &code::BAD_MESH,
                format!(
                    "{} but {}",
                    if all_axes == 1 { "1 axis".to_owned() } else { format!("{all_axes} axes") },
                    counted(all_sizes, "size")
                ),
            )
            .at(node_span("axes"), "")
            .at(node_span("shape"), "")
            .help("`shape` has one size per axis, in the same order"),
        );
        return None;
    }
    let mut usable = axes.len() == all_axes && shape.len() == all_sizes;
    for axis in &axes {
        let named =
            !axis.value.is_empty() && axis.value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !named || axis.value == "-" {
            usable = false;
            reader.push(
                Finding::new(
                    &code::BAD_MESH,
                    if axis.value.is_empty() {
                        "an axis without a name".to_owned()
                    } else {
                        format!("`{axis}` cannot name an axis")
                    },
                )
                .at(axis.span, "")
                .help("axis names are letters, digits, `_` and `-`; `-` alone means not split"),
            );
        }
    }
    let size_spans: Vec<Span> = view.items("shape").iter().map(|node| node.span).collect();
    let device_memory = size(reader, view, "device_memory");
    if !usable {
        return None;
    }
    match Mesh::new(axes.iter().map(|axis| axis.value.clone()).zip(shape.iter().copied())) {
        Ok(mesh) => Some(DeclaredMesh { mesh, size_spans, device_memory, span }),
        Err(error) => {
            let sizes = view.node("shape").map_or(view.span, |node| node.span);
            reader.push(match error {
                MeshError::Repeated(name) => {
                    let mut finding = Finding::new(&code::BAD_MESH, format!("axis `{name}` is named twice"));
                    for axis in axes.iter().filter(|axis| axis.value == name) {
                        finding = finding.at(axis.span, "");
                    }
                    finding.help("each axis needs a name of its own")
                }
                other => Finding::new(&code::BAD_MESH, other.to_string())
                    .at(sizes, "")
                    .help("sizes are devices along each axis; all of them multiplied is the number of devices"),
            });
            None
        }
    }
}

/// A key whose value is a size; what is none is reported.
fn size(reader: &mut Reader<'_>, view: &View<'_>, key: &str) -> Option<Spanned<u64>> {
    let text = view.string(key)?;
    match bytes(&text.value) {
        Some(bytes) => Some(Spanned::new(bytes, text.span)),
        None => {
            reader.push(
                Finding::new(&code::BAD_VALUE, format!("`{text}` is not a size"))
                    .at(text.span, "")
                    .help("write `80GiB`, `512 MiB` or a number of bytes"),
            );
            None
        }
    }
}

/// Bytes of a size such as `80GiB`, `1.5 GB` or `4096`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let text = text.trim();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number.trim_end(), *unit)))
        .unwrap_or((text, 1));
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let (whole, fraction) = number.split_once('.')?;
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && (1..=9).contains(&fraction.len());
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if digits { fraction.parse().ok()? } else { return None };
    let whole: u64 = whole.parse().ok()?;
    u64::try_from((u128::from(whole) * scale + fraction) * u128::from(unit) / scale).ok()
}

pub(super) fn schemes(reader: &mut Reader<'_>, view: &View<'_>) -> IndexMap<Shared, DeclaredScheme> {
    let mut schemes = IndexMap::new();
    for (name, node) in view.members("scheme") {
        let Some(table) = node.as_table() else { continue };
        if name.value == "keep" {
            reader.push(
                Finding::new(&code::BAD_VALUE, "a scheme cannot be named `keep`")
                    .at(name.span, "")
                    .help("`keep` means stored as it is; take another name"),
            );
            continue;
        }
        let view = View::new(&language::SCHEME, table, name.span);
        let granularity = granularity(reader, &view);
        let scale_dtype = view.string("scale_dtype").and_then(|name| dtype(reader, &name));
        let symmetric = view.boolean("symmetric");
        // Without a format the scheme is refused already; it stays declared, so that rules that name it are not blamed.
        let (format, format_span) = match view.word("format", |word| word.parse::<Format>().ok()) {
            Some(format) => (format.value, format.span),
            None => (Format::Int8, name.span),
        };
        let mut scheme = Scheme::new(format);
        scheme.granularity = granularity.unwrap_or(scheme.granularity);
        scheme.symmetric = symmetric.unwrap_or(scheme.symmetric);
        scheme.scale_dtype = scale_dtype;
        scheme.arithmetic =
            view.word("arithmetic", |word| word.parse().ok()).map_or(scheme.arithmetic, |word| word.value);
        scheme.double_quant = view.boolean("double_quant").unwrap_or(scheme.double_quant);
        let limits = limits(&view);
        schemes.insert(Arc::from(name.value.as_str()), DeclaredScheme { scheme, limits, format_span, span: name.span });
    }
    schemes
}

fn granularity(reader: &mut Reader<'_>, view: &View<'_>) -> Option<Granularity> {
    let node = view.node("granularity")?;
    Some(match &node.value {
        Value::String(word) if word == "tensor" => Granularity::Tensor,
        Value::String(word) if word == "channel" => Granularity::Channel,
        Value::Table(table) => {
            let view = View::new(&language::GRANULARITY, table, node.span);
            let group = view.count("group").map(|group| Granularity::Group(group.value));
            let block = view.counts("block").and_then(|block| match block.as_slice() {
                &[rows, columns] => Some(Granularity::Block([rows, columns])),
                other => {
                    reader.push(
                        Finding::new(&code::BAD_VALUE, format!("a block has two sides, not {}", other.len()))
                            .at(view.node("block").map_or(view.span, |node| node.span), "")
                            .help("write rows and columns, such as `[128, 128]`"),
                    );
                    None
                }
            });
            let shard_group = view
                .string("shard_group")
                .and_then(|axis| reader.axis(&axis).then_some(Granularity::ShardGroup(axis.value)));
            let given = ["group", "block", "shard_group"].iter().filter(|key| table.get(key).is_some()).count();
            if given > 1 || (given == 0 && !table.torn) {
                let message =
                    if given == 0 { "a granularity without a size" } else { "a granularity of several kinds" };
                reader.push(
                    Finding::new(&code::BAD_VALUE, message)
                        .at(node.span, "")
                        .help("give exactly one of `group`, `block`, `shard_group`"),
                );
                return None;
            }
            group.or(block).or(shard_group)?
        }
        _ => return None,
    })
}

pub(super) fn partition(view: &View<'_>) -> PartitionSettings {
    let Some(view) = view.table("partition", &language::PARTITION) else { return PartitionSettings::default() };
    PartitionSettings {
        unmatched_replicate: view.string("unmatched").is_some_and(|word| word.value == "replicate"),
        stack_token: view.string("stack_token").map(|token| token.value),
        indivisible: view.word("indivisible", Indivisible::from_word).map(|word| word.value).unwrap_or_default(),
        companion_spec: view
            .word("companion_spec", CompanionSpec::from_word)
            .map(|word| word.value)
            .unwrap_or_default(),
    }
}

pub(super) fn quantization(view: &View<'_>) -> QuantizationSettings {
    let default = QuantizationSettings::default();
    let Some(view) = view.table("quantization", &language::QUANTIZATION) else { return default };
    QuantizationSettings {
        layout: view.word("layout", |word| word.parse().ok()),
        contract: view.integer("contract").map_or(default.contract, |number| number.value),
        unmatched_error: view.string("unmatched").is_some_and(|word| word.value == "error"),
        indivisible_keep: view.string("indivisible").is_some_and(|word| word.value == "keep"),
        nonfinite: view.word("nonfinite", |word| word.parse().ok()).map_or(default.nonfinite, |word| word.value),
    }
}

/// A rule that quantizes needs a layout, said once, at the first such rule; and a layout that holds its scheme.
pub(super) fn layout(reader: &mut Reader<'_>, view: &View<'_>, body: &PolicyBody) {
    if let Some(layout) = &body.quantization.layout {
        for (name, declared) in &body.schemes {
            let used = body.quantization_rules.iter().any(|rule| rule.decision.scheme.value.as_ref() == Some(name));
            let (true, Err(refusal)) = (used, quantize::check(&declared.scheme, layout.value)) else { continue };
            let finding = Finding::new(&code::SCHEME_NOT_IN_LAYOUT, format!("scheme `{name}`: {}", refusal.reason))
                .at(declared.format_span, "")
                .at(layout.span, "the layout");
            reader.push(match refusal.fits {
                Some(fits) => finding.help(format!("what fits: {fits}")),
                None => finding,
            });
        }
        return;
    }
    // One that cannot be read is there all the same.
    let settings = view.node("quantization");
    let unread =
        settings.is_some_and(|node| node.as_table().is_none_or(|table| table.torn || table.get("layout").is_some()));
    if unread || !reader.complete {
        return;
    }
    let quantizing = body.quantization_rules.iter().find(|rule| rule.decision.scheme.value.is_some());
    if let Some(rule) = quantizing {
        reader.push(
            Finding::new(&code::MISSING_KEY, "rules quantize, but `quantization` has no `layout`")
                .at(rule.decision.scheme.span, "quantizes")
                .help("the layout fixes names and companions: add `[quantization]` with `layout = \"grok-1\"`, `\"compressed-tensors\"`, `\"deepseek\"`, `\"bitsandbytes\"` or `\"gguf\"`"),
        );
    }
}

pub(super) fn loader(reader: &mut Reader<'_>, view: &View<'_>) -> LoaderSettings {
    let Some(view) = view.table("loader", &language::LOADER) else { return LoaderSettings::default() };
    let mut rename = Vec::new();
    for view in view.tables("rename", &language::RENAME) {
        let (Some(from), Some(to)) = (view.string("regex"), view.string("to")) else { continue };
        let instead = "the first rename that matches applies: put one before it that keeps these names, `to = '$0'`";
        let Some(regex) = reader.regex(&from, true, instead) else { continue };
        if template(reader, &regex.value, &to) {
            rename.push(Rename { regex, to });
        }
    }
    LoaderSettings {
        read: view.word("read", Read::from_word).map(|word| word.value).unwrap_or_default(),
        stage: view.word("stage", Stage::from_word).map(|word| word.value).unwrap_or_default(),
        verify: view.word("verify", Verify::from_word).map(|word| word.value).unwrap_or_default(),
        threads: view.count("threads").map(|threads| threads.value),
        chunk: size(reader, &view, "chunk").map(|size| size.value),
        queue_depth: view.count("queue_depth").map(|depth| depth.value),
        gap: size(reader, &view, "gap").map(|size| size.value),
        cached_gap: size(reader, &view, "cached_gap").map(|size| size.value),
        budget: size(reader, &view, "budget").map(|size| size.value),
        stage_budget: size(reader, &view, "stage_budget").map(|size| size.value),
        rename,
        exclude: reader.patterns(view.items("exclude")),
    }
}

/// Checks that every group a template names exists: an absent one would silently be empty.
pub(super) fn template(reader: &mut Reader<'_>, regex: &regex::Regex, to: &Spanned<String>) -> bool {
    let mut good = true;
    let mut rest = to.value.as_str();
    let mut offset = 0;
    while let Some(at) = rest.find('$') {
        let (after, start) = (rest.get(at + 1..).unwrap_or(""), offset + at);
        let (name, length) = if let Some(braced) = after.strip_prefix('{') {
            match braced.find('}') {
                Some(end) => (braced.get(..end).unwrap_or(""), end + 2),
                None => ("", 0),
            }
        } else if after.starts_with('$') {
            ("0", 1)
        } else {
            let length = after.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            (after.get(..length).unwrap_or(""), length)
        };
        let exists = match name.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|group| group == name),
        };
        if !exists {
            good = false;
            let span = crate::policy::node::locate(reader.sources, to.span, start..start + 1 + length);
            let (message, help) = no_group(name, regex);
            reader.push(Finding::new(&code::BAD_VALUE, message).at(span, "").help(help));
        }
        offset = start + 1 + length;
        rest = to.value.get(offset..).unwrap_or("");
    }
    good
}

/// What to say about a group that a template names and the regex does not have.
fn no_group(name: &str, regex: &regex::Regex) -> (String, String) {
    if name.is_empty() {
        return ("`$` without a group".to_owned(), "write `$1` or `${name}` for a group, `$$` for a dollar".to_owned());
    }
    let message = format!("the regex has no group `{name}`");
    // `$1_x` is read as a group named `1_x`.
    let names = regex.capture_names().flatten().map(str::to_owned);
    let groups: Vec<String> = (1..regex.captures_len()).map(|number| number.to_string()).chain(names).collect();
    let meant = groups.iter().filter(|group| name.starts_with(group.as_str())).max_by_key(|group| group.len());
    let help = match (meant, groups.len()) {
        (Some(meant), _) => format!("a name goes on as far as letters, digits and `_` do: write `${{{meant}}}`"),
        (None, 0) => "the regex has no groups; put what is to be kept in parentheses".to_owned(),
        (None, _) => {
            let groups: Vec<String> = groups.iter().map(|group| format!("${group}")).collect();
            format!("its groups are {}", crate::finding::suggest::list(groups.iter().map(String::as_str)))
        }
    };
    (message, help)
}

/// Levels as written; [`crate::finding::levels::Levels`] says what is wrong with them, together with the command line's.
pub(super) fn lints(view: &View<'_>) -> Vec<LintLevel> {
    let mut lints = Vec::new();
    for (name, node) in view.members("lints") {
        let (level, reason) = match &node.value {
            Value::String(word) => (word.parse::<Level>().ok(), None),
            Value::Table(table) => {
                let view = View::new(&language::LINT, table, node.span);
                (view.word("level", |word| word.parse().ok()).map(|word| word.value), view.string("reason"))
            }
            _ => (None, None),
        };
        if let Some(level) = level {
            let reason = reason.map(|reason| reason.value);
            lints.push(LintLevel { name: name.value.clone(), level, reason, span: Some(name.span) });
        }
    }
    lints
}

/// Declared layouts; every name in them is a template with `{path}` once.
pub(super) fn stored(reader: &mut Reader<'_>, view: &View<'_>) -> IndexMap<String, DeclaredLayout> {
    let mut layouts = IndexMap::new();
    for (name, node) in view.members("stored") {
        let Some(table) = node.as_table() else { continue };
        let view = View::new(&language::STORED, table, name.span);
        let mut templates: Vec<Spanned<String>> = view.strings("optional").unwrap_or_default();
        let optional = templates.iter().map(|template| template.value.clone()).collect();
        let mut required = Vec::new();
        for (key, role) in [
            ("scales", Role::Scales),
            ("zero_point", Role::ZeroPoint),
            ("global_scale", Role::GlobalScale),
            ("shape", Role::Shape),
        ] {
            if let Some(template) = view.string(key) {
                required.push((role, template.value.clone()));
                templates.push(template);
            }
        }
        let weight = view.string("weight");
        let path = view.string("path");
        templates.extend(weight.iter().chain(&path).cloned());
        for template in templates.iter().filter(|template| !DeclaredLayout::is_template(&template.value)) {
            let message = match template.value.matches("{path}").count() {
                0 => format!("`{template}` has no `{{path}}` in it"),
                _ => format!("`{template}` has `{{path}}` in it more than once"),
            };
            reader.push(
                Finding::new(&code::BAD_VALUE, message)
                    .at(template.span, "")
                    .help("`{path}` stands once in each name, for what the names of a weight share: `{path}.qweight`"),
            );
        }
        let packed = view.table("packed", &language::PACKED).and_then(|view| {
            let dimension = i32::try_from(view.integer("dimension").map_or(-1, |number| number.value)).ok()?;
            Some((dimension, view.count("by")?.value))
        });
        let Some(weight) = weight else { continue };
        let layout = DeclaredLayout {
            name: Arc::from(format!("stored.{name}")),
            weight: weight.value,
            required,
            optional,
            path: path.map_or_else(|| "{path}".to_owned(), |path| path.value),
            shape: DeclaredShape { packed, transposed: view.boolean("transposed").unwrap_or(false) },
            dtype: view.string("dtype").and_then(|name| dtype(reader, &name)),
        };
        layouts.insert(name.value.clone(), layout);
    }
    layouts
}

pub(super) fn sensitive(reader: &mut Reader<'_>, view: &View<'_>) -> Sensitive {
    let default = default_sensitive(&reader.separators);
    let Some(view) = view.table("sensitive", &language::SENSITIVE) else { return default };
    let patterns = match view.node("patterns") {
        Some(_) => reader.patterns(view.items("patterns")).into_iter().map(|pattern| pattern.value).collect(),
        None => default.patterns,
    };
    Sensitive { patterns, max_rank: view.count("max_rank").map_or(default.max_rank, |count| count.value) }
}

pub(super) fn ignored_layers(view: &View<'_>) -> Vec<u64> {
    view.table("layers", &language::LAYERS).and_then(|view| view.counts("ignore")).unwrap_or_default()
}

pub(super) fn ties(reader: &mut Reader<'_>, view: &View<'_>) -> Vec<Vec<Spanned<String>>> {
    let mut ties: Vec<Vec<Spanned<String>>> = Vec::new();
    for view in view.tables("tie", &language::TIE) {
        let Some(paths) = view.strings("paths") else { continue };
        if paths.len() < 2 {
            reader.push(
                Finding::new(&code::BAD_VALUE, "a tie of fewer than two paths")
                    .at(view.node("paths").map_or(view.span, |node| node.span), "")
                    .help("name the weight and its aliases"),
            );
        }
        for (index, path) in paths.iter().enumerate() {
            let earlier = paths.iter().take(index).chain(ties.iter().flatten()).find(|other| other.value == path.value);
            if let Some(other) = earlier {
                reader.push(
                    Finding::new(&code::BAD_VALUE, format!("`{path}` is tied twice"))
                        .at(path.span, "again here")
                        .at(other.span, "first here")
                        .help("list all names of one weight in one `paths`"),
                );
            }
        }
        ties.push(paths);
    }
    ties
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_read_as_written() {
        for (text, expected) in [
            ("80GiB", Some(80 << 30)),
            ("512 MiB", Some(512 << 20)),
            ("1.5KiB", Some(1536)),
            ("0.1 GB", Some(100_000_000)),
            ("4096", Some(4096)),
            ("7B", Some(7)),
            ("GiB", None),
            ("-1GiB", None),
            ("80 gigs", None),
            ("1.GiB", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
