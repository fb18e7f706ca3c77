//! What people and programs read of findings, in every format.

#![cfg(feature = "render")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::fmt::Write as _;
use std::ops::Range;

use flow_fabric::finding::render::{Format, Options, Report, render};
use flow_fabric::finding::{self, Finding, FindingRecord, FindingsDocument, code, page};
use flow_fabric::source::{SourceId, Sources, Span};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const CHILD: &str = r#"language = 1
policy = "grok-1-int8"
extends = ["base.toml"]

[[FLOW_FABRIC_PARTITION_RULES]]
name = "moe-up"
tokens = ["moe", "linear|linear_v", "w"]
spec = ["-", "modle", "data"]
"#;

const BASE: &str = r#"policy = "base"

[mesh]
axis = ["data", "model"]
shape = [1, 8]
device_memory = "80GB"

[lints]
allow-silences-nothing = "allow"
"#;

/// The span of the `nth` occurrence (from 0) of `text`.
fn span(sources: &Sources, id: SourceId, text: &str, nth: usize) -> Span {
    let (start, _) = sources.get(id).unwrap().text.match_indices(text).nth(nth).unwrap();
    Span::new(id, start..start + text.len())
}

/// Findings of every shape: one file, two files, several places, a binary file, no place at all.
fn sample() -> (Vec<Finding>, Sources) {
    let mut sources = Sources::default();
    let child = sources.add("policies/grok-1-int8.toml", CHILD);
    let base = sources.add("policies/base.toml", BASE);
    let findings = vec![
        Finding::new(&code::UNKNOWN_KEY, "unknown key `axis` in `[mesh]`")
            .at(span(&sources, base, "axis", 0), "no such key here")
            .help("did you mean `axes`? `[mesh]` has `axes`, `device_memory`, `shape`"),
        Finding::new(&code::BAD_VALUE, "unknown mesh axis `modle` in rule `moe-up`")
            .at(span(&sources, child, "modle", 0), "not an axis of the mesh")
            .at(span(&sources, base, "\"data\", \"model\"", 0), "the axes are declared here")
            .help("did you mean `model`?")
            .note("`extends` brings the mesh in from `policies/base.toml`"),
        Finding::new(&code::BAD_VALUE, "rule `moe-up` splits dimension 1 of 128 weights over `data`, but 6144 is not divisible by 10")
            .at(span(&sources, child, "\"data\"", 0), "puts `data` on a dimension of 6144")
            .at(span(&sources, child, "\"moe-up\"", 0), "in this rule")
            .at(span(&sources, base, "[1, 8]", 0), "")
            .help("sizes near 10 that divide 6144 are 8 and 12; or set `indivisible = \"pad\"`, which adds 6 rows to each weight, 0.1% of its bytes")
            .note("the first of 128 is `transformer/decoder_layer_0/moe/linear/w`"),
        Finding::new(&code::ALLOW_WITHOUT_REASON, "`allow-silences-nothing` is allowed without a reason")
            .at(span(&sources, base, "allow-silences-nothing", 0), "")
            .help("write `allow-silences-nothing = { level = \"allow\", reason = \"...\" }`"),
        Finding::new(&code::BAD_VALUE, "tensors `a` and `b` overlap by 16 bytes")
            .in_file("checkpoints/tiny/model-00001-of-00002.safetensors", Some(1_048_584), "`b` begins here")
            .in_file("checkpoints/tiny/model-00001-of-00002.safetensors", Some(1_048_600), "`a` ends here"),
        Finding::new(&code::MISSING_KEY, "the checkpoint holds no tensors").in_file("checkpoints/empty", None, ""),
        Finding::new(&code::MISSING_KEY, "no policy was read").help("name at least one policy file"),
    ];
    (findings, sources)
}

fn rendered(format: Format) -> String {
    let (mut findings, sources) = sample();
    finding::sort(&mut findings);
    render(format, &findings, &sources, &Options::default())
}

#[test]
fn every_format_reads_as_its_snapshot() {
    for &format in Format::ALL {
        // The SARIF log carries the whole registry, which has its own snapshot.
        if format != Format::Sarif {
            insta::assert_snapshot!(format.name(), rendered(format));
        }
    }
}

#[test]
fn the_human_report_draws_hard_texts_well() {
    insta::assert_snapshot!("edges", edges());
}

fn one(text: &str, labels: &[(Range<usize>, &str)]) -> String {
    let mut sources = Sources::default();
    let id = sources.add("policy.toml", text);
    let finding = labels.iter().fold(Finding::new(&code::BAD_VALUE, "here"), |finding, (range, label)| {
        finding.at(Span::new(id, range.clone()), *label)
    });
    render(Format::Human, &[finding], &sources, &Options::default())
}

fn edges() -> String {
    let mut out = String::new();
    let mut show = |title: &str, text: &str, labels: &[(Range<usize>, &str)]| {
        let report = one(text, labels);
        let drawing = report.strip_prefix("error[FF005] bad-value\n  × here\n").unwrap();
        writeln!(out, "== {title}\n{drawing}").unwrap();
    };
    show("tabs", "[mesh]\n\taxes\t= [\"a\",\t\"b\"]\n", &[(8..12, "key"), (21..24, "value")]);
    show("crlf", "[mesh]\r\naxes = [\"a\"]\r\nshape = [1]\r\n", &[(8..12, "key"), (22..27, "value")]);
    show("multi-byte", "name = \"βγδ🦀\" # ✓\nx = 1\n", &[(7..19, "crab"), (22..25, "tick")]);
    show("wide characters", "a = \"漢字\" # ✓\nx = 1\n", &[(4..12, "wide")]);
    show("eof after newline", "a = 1\n", &[(6..6, "expected more")]);
    show("eof without newline", "a = [1,", &[(7..7, "expected `]`")]);
    show("empty file", "", &[(0..0, "nothing here")]);
    show("empty span", "a = \nb = 2\n", &[(4..4, "a value is missing")]);
    show("past the end", "a = 1\n", &[(100..200, "far")]);
    show("mid char", "a = \"β\"\n", &[(6..7, "half a letter")]);
    show("newline included", "a = 1\nb = 2\n", &[(0..6, "whole line")]);
    show("newline only", "a = 1\nb = 2\n", &[(5..6, "line end")]);
    show("multi-line", "x = 1\ntokens = [\n  \"moe\",\n  \"w\",\n]\ny = 2\n", &[(15..35, "five of them")]);
    show("table", &format!("[[rule]]\n{}", "k = 1\n".repeat(20)), &[(0..129, "the whole table")]);
    show("nested", "spec = [\"data\", \"model\"]\n", &[(7..24, "a list"), (8..14, "of axes")]);
    show("same", "spec = [\"data\", \"model\"]\n", &[(8..14, "first"), (8..14, "again")]);
    show("three", "spec = [\"data\", \"model\", \"x\"]\n", &[(16..23, "second"), (8..14, "first"), (25..28, "third")]);
    show("adjacent", "ab = 1\n", &[(0..1, "a"), (1..2, "b")]);
    show("far", &"k = 1\n".repeat(200), &[(900..905, "here"), (12..17, "and there")]);
    let long = format!("glob = \"{}\"\n", "very_long_component/".repeat(40));
    show("long line, early", &long, &[(0..4, "key")]);
    show("long line, late", &long, &[(500..519, "component"), (600..610, "later")]);
    show("long line, two far apart", &long, &[(20..23, "here"), (700..704, "and there")]);
    show("long line, end", &long, &[(809..809, "the end")]);
    show("long span", &long, &[(7..810, "all of it")]);
    show("long both", &format!("{long}{long}"), &[(500..519, "component"), (1330..1335, "later")]);
    show("control", "a = \"\u{1b}[31mred\u{7}\"\u{202e}\n", &[(4..15, "escape \u{1b}[0m")]);
    show(
        "long label",
        "spec = [\"data\", \"model\"]\n",
        &[(
            16..23,
            "a label that goes on and on about what may be seen here, far beyond what fits into the line that it stands in, `a/long/path/with/many/components`",
        )],
    );
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// Any label on any text is drawn: no panic, nothing that moves a cursor, nothing beyond the width, and each
    /// label's text is there.
    #[test]
    fn any_span_on_any_text_is_drawn(
        text in "(\\PC|[\\t\\r\\n\u{1b}\u{202e}= \\[a-c]){0,400}",
        spans in proptest::collection::vec((0..420_usize, 0..60_usize), 1..5),
        width in 40..120_usize,
    ) {
        let mut sources = Sources::default();
        let id = sources.add("policy.toml", &text);
        let mut finding = Finding::new(&code::BAD_VALUE, "here");
        for (at, (start, length)) in spans.iter().enumerate() {
            finding = finding.at(Span::new(id, *start..start + length), format!("label-{at}"));
        }
        let options = Options { width, ..Options::default() };
        let report = render(Format::Human, &[finding], &sources, &options);
        for (at, _) in spans.iter().enumerate() {
            prop_assert!(report.contains(&format!("label-{at}")), "{report}");
        }
        for line in report.lines() {
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            // A label may stand at the end of a full line, and labels that share a span share a line.
            let drawing = line.contains('│') && !line.contains('·');
            prop_assert!(!drawing || textwrap::core::display_width(line) <= width, "{line}");
        }
    }
}

#[test]
fn sarif_is_what_its_schema_allows() {
    // As published, the pattern for languages has a bracket too many, which is no regex.
    let published = include_str!("data/sarif/sarif-schema-2.1.0.json");
    assert_eq!(published.matches("-[a-zA-Z]{2}]?$").count(), 2);
    let schema = serde_json::from_str(&published.replace("-[a-zA-Z]{2}]?$", "-[a-zA-Z]{2}$")).unwrap();
    let validator = jsonschema::draft7::options().should_validate_formats(true).build(&schema).unwrap();
    for (mut findings, sources) in [sample(), (Vec::new(), Sources::default())] {
        finding::sort(&mut findings);
        let log = serde_json::from_str(&render(Format::Sarif, &findings, &sources, &Options::default())).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&log).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert_eq!(errors, [""; 0]);
        assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), findings.len());
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len(), finding::CODES.len());
    }
    // The validator does find what is wrong.
    assert!(!validator.is_valid(&serde_json::json!({ "version": "2.1.0", "runs": [{}] })));
}

#[test]
fn sarif_results_read_as_their_snapshot() {
    let mut log: serde_json::Value = serde_json::from_str(&rendered(Format::Sarif)).unwrap();
    for result in log["runs"][0]["results"].as_array_mut().unwrap() {
        // The index moves whenever the registry grows.
        let index = result.as_object_mut().unwrap().remove("ruleIndex").unwrap();
        assert_eq!(finding::CODES[index.as_u64().unwrap() as usize].id, result["ruleId"]);
    }
    insta::assert_json_snapshot!("sarif", log["runs"][0]["results"]);
}

#[test]
fn a_fingerprint_outlives_edits_above_it_and_tells_repetitions_apart() {
    let prints = |text: &str| -> Vec<String> {
        let mut sources = Sources::default();
        let id = sources.add("policy.toml", text);
        let findings: Vec<Finding> = text
            .match_indices("axis")
            .map(|(at, _)| Finding::new(&code::UNKNOWN_KEY, "unknown key").at(Span::new(id, at..at + 4), ""))
            .collect();
        let log: serde_json::Value =
            serde_json::from_str(&render(Format::Sarif, &findings, &sources, &Options::default())).unwrap();
        let results = log["runs"][0]["results"].as_array().unwrap();
        results.iter().map(|result| result["partialFingerprints"].to_string()).collect()
    };
    let before = prints("axis = 1\naxis = 2\n");
    assert_eq!(before, prints("# a comment\n\naxis = 1\n# another\n  axis = 2\n"));
    assert_ne!(before[0], before[1]);
}

#[test]
fn json_documents_and_records_read_back() {
    let (mut findings, sources) = sample();
    finding::sort(&mut findings);
    let document: FindingsDocument = serde_json::from_str(&rendered(Format::Json)).unwrap();
    assert_eq!(document, FindingsDocument::new(&findings, &sources));
    let lines: Vec<FindingRecord> =
        rendered(Format::Jsonl).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, document.findings);
}

#[test]
fn colour_is_only_added() {
    let (findings, sources) = sample();
    let plain = render(Format::Human, &findings, &sources, &Options::default());
    let colored = render(Format::Human, &findings, &sources, &Options { color: true, ..Options::default() });
    assert!(!plain.contains('\u{1b}'));
    assert!(colored.contains('\u{1b}'));
    let escapes = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    assert_eq!(escapes.replace_all(&colored, ""), plain);
}

#[test]
fn markdown_that_does_not_fit_says_so() {
    let (findings, sources) = sample();
    let options = Options { max_bytes: 900, ..Options::default() };
    let text = render(Format::Markdown, &findings, &sources, &options);
    assert!(text.len() <= 900);
    assert!(text.starts_with("**6 errors, 1 warning**\n"), "{text}");
    assert!(text.ends_with("of 7 findings are shown; the rest did not fit.\n"), "{text}");
}

#[test]
fn markdown_and_workflow_commands_escape_user_text() {
    let mut sources = Sources::default();
    let id = sources.add("a,b:c.toml", "x");
    let finding = Finding::new(&code::BAD_VALUE, "`a|b` is <b>not</b> a *pattern*, 100%\n::error::x, nor is ` alone")
        .at(Span::new(id, 0..1), "");
    let findings = [finding];
    let text = |format| render(format, &findings, &sources, &Options::default());
    assert_eq!(
        text(Format::Github),
        "::error file=a%2Cb%3Ac.toml,line=1,col=1,endColumn=2,title=FF005 bad-value::\
         `a|b` is <b>not</b> a *pattern*, 100%25%0A::error::x, nor is ` alone\n"
    );
    assert_eq!(
        text(Format::Markdown).lines().last(),
        Some(
            r"| error | `a,b:c.toml:1:1` | **FF005 bad-value**<br>`a\|b` is &lt;b&gt;not&lt;/b&gt; a \*pattern\*, 100%\\n::error::x, nor is \` alone |"
        )
    );
}

#[test]
fn a_code_has_its_page() {
    insta::assert_snapshot!("page-text", page::text(&code::ALLOW_SILENCES_NOTHING));
    insta::assert_snapshot!("page-markdown", page::markdown(&code::ALLOW_SILENCES_NOTHING));
}

#[test]
fn a_miette_diagnostic_has_one_related_child_per_further_file() {
    let (findings, sources) = sample();
    let report = miette::Report::new(Report::new(&findings[1], &sources));
    assert_eq!(report.related().unwrap().count(), 1);
    let mut text = String::new();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .render_report(&mut text, report.as_ref())
        .unwrap();
    insta::assert_snapshot!("miette", text);
}
