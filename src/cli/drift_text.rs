//! The drift report for people and for pull requests.

use std::fmt::Write as _;

use super::table::{Align, Cell, Table};
use crate::inventory::{collapse, natural_cmp};
use crate::quantize::Figures;
use crate::quantize::run::{DriftReport, Status, Totals, WeightDrift};
use crate::units::{self, number};

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Human,
    Json,
    Markdown,
}

/// The report as text; `all` lists every weight instead of templates.
pub(super) fn print(report: &DriftReport, format: Format, all: bool) -> String {
    match format {
        Format::Human => human(report, all),
        Format::Json => super::json(report),
        Format::Markdown => markdown(report, all),
    }
}

fn head(report: &DriftReport) -> String {
    let layout = report.layout.map(|layout| format!(" as {layout}")).unwrap_or_default();
    match (&report.policy, &report.output) {
        (Some(policy), Some(output)) => format!("{policy} over {}{layout} into {output}", report.source),
        (Some(policy), None) => format!("{policy} over {}{layout}", report.source),
        (None, Some(output)) => {
            let compared = report.weights.iter().any(|weight| weight.status == Status::Compared);
            format!("{} {} {output}", report.source, if compared { "against" } else { "into" })
        }
        (None, None) => report.source.clone(),
    }
}

fn human(report: &DriftReport, all: bool) -> String {
    let mut out = format!("{}\n\n", head(report));
    let weights = weights(report, all);
    if weights.rows() > 0 {
        let _ = writeln!(out, "{}", weights.human());
    }
    if report.rules.iter().filter(|rule| rule.totals.changed > 0).count() > 1 {
        let _ = writeln!(out, "{}", rules(report).human());
    }
    for (name, text) in facts(report) {
        let _ = writeln!(out, "{name:<8}  {text}");
    }
    out
}

fn markdown(report: &DriftReport, all: bool) -> String {
    let mut out = format!("### Drift: {}\n\n", crate::finding::render::text::markdown(&head(report)));
    let _ = writeln!(out, "{}", rules(report).markdown());
    for (name, text) in facts(report) {
        let _ = writeln!(out, "- **{name}** {text}");
    }
    let weights = weights(report, all);
    if weights.rows() > 0 {
        let _ = write!(out, "\n<details><summary>By weight</summary>\n\n{}\n</details>\n", weights.markdown());
    }
    out
}

const WEIGHT_COLUMNS: [(&str, Align); 9] = [
    ("weights", Align::Right),
    ("bytes", Align::Right),
    ("bits", Align::Right),
    ("sqnr dB", Align::Right),
    ("rel error", Align::Right),
    ("max error", Align::Right),
    ("steps", Align::Right),
    ("rule", Align::Left),
    ("path", Align::Left),
];

/// Weights that were changed, by template; of several weights the worst figures.
fn weights(report: &DriftReport, all: bool) -> Table {
    let changed: Vec<&WeightDrift> = report.weights.iter().filter(|weight| is_changed(weight)).collect();
    let mut rows: Vec<(String, Vec<&WeightDrift>)> = Vec::new();
    if all {
        rows.extend(changed.iter().map(|weight| (weight.path.clone(), vec![*weight])));
    } else {
        let keyed = changed.iter().map(|weight| (weight.path.as_str(), (&weight.rule, &weight.shape)));
        for template in collapse(keyed) {
            let members = template.members.iter().filter_map(|&at| changed.get(at).copied()).collect();
            rows.push((template.to_string(), members));
        }
        rows.sort_by(|a, b| natural_cmp(&a.0, &b.0));
    }
    let mut table = Table::new(&WEIGHT_COLUMNS);
    for (path, weights) in rows {
        let worst = Worst::of(&weights);
        let bytes: u64 = weights.iter().map(|weight| weight.bytes_after).sum();
        let first = weights.first();
        table.row(vec![
            plain(units::count(weights.len() as u64)),
            plain(units::bytes(bytes)),
            plain(first.map_or_else(String::new, |weight| format!("{:.2}", weight.bits_per_weight))),
            plain(decibels(worst.sqnr_db)),
            plain(some(worst.relative_error)),
            plain(some(worst.max_abs_error)),
            plain(worst.steps.map_or_else(String::new, |steps| format!("{steps:.2}"))),
            Cell::Code(first.and_then(|weight| weight.rule.clone()).unwrap_or_default()),
            Cell::Code(path),
        ]);
    }
    table
}

fn is_changed(weight: &WeightDrift) -> bool {
    !matches!(weight.status, Status::Kept | Status::KeptNonFloat | Status::KeptIndivisible)
}

/// The worst figures of several weights.
#[derive(Default)]
struct Worst {
    /// Infinite where there is no error at all.
    sqnr_db: Option<f64>,
    relative_error: Option<f64>,
    max_abs_error: Option<f64>,
    steps: Option<f64>,
}

impl Worst {
    fn of(weights: &[&WeightDrift]) -> Self {
        let most = |have: Option<f64>, new: Option<f64>| match (have, new) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let mut worst = Self::default();
        for figures in weights.iter().filter_map(|weight| weight.figures.as_ref()) {
            let sqnr_db = sqnr(figures);
            worst.sqnr_db = Some(worst.sqnr_db.map_or(sqnr_db, |have| have.min(sqnr_db)));
            worst.relative_error = most(worst.relative_error, figures.relative_error);
            worst.max_abs_error = most(worst.max_abs_error, Some(figures.max_abs_error));
            worst.steps = most(worst.steps, figures.max_error_steps);
        }
        worst
    }
}

/// Infinite where nothing is lost.
fn sqnr(figures: &Figures) -> f64 {
    figures.sqnr_db.unwrap_or(if figures.frobenius_error == 0.0 { f64::INFINITY } else { f64::NEG_INFINITY })
}

fn decibels(sqnr_db: Option<f64>) -> String {
    match sqnr_db {
        None => String::new(),
        Some(f64::INFINITY) => "exact".to_owned(),
        Some(sqnr_db) => format!("{sqnr_db:.2}"),
    }
}

fn some(value: Option<f64>) -> String {
    value.map(number).unwrap_or_default()
}

fn plain(text: impl Into<String>) -> Cell {
    Cell::Plain(text.into())
}

fn rules(report: &DriftReport) -> Table {
    let mut table = Table::new(&[
        ("weights", Align::Right),
        ("before", Align::Right),
        ("after", Align::Right),
        ("ratio", Align::Right),
        ("sqnr dB", Align::Right),
        ("rel error", Align::Right),
        ("max error", Align::Right),
        ("cosine", Align::Right),
        ("rule", Align::Left),
    ]);
    for rule in &report.rules {
        let Totals { changed, kept, bytes_before, bytes_after, ratio, figures } = &rule.totals;
        let name = rule.rule.clone().map_or_else(|| plain("(no rule)"), Cell::Code);
        table.row(vec![
            plain(units::count(changed + kept)),
            plain(units::bytes(*bytes_before)),
            plain(units::bytes(*bytes_after)),
            plain(format!("{ratio:.3}")),
            plain(decibels(figures.as_ref().map(sqnr))),
            plain(some(figures.and_then(|figures| figures.relative_error))),
            plain(some(figures.map(|figures| figures.max_abs_error))),
            plain(figures.and_then(|figures| figures.cosine).map_or_else(String::new, |cosine| format!("{cosine:.6}"))),
            name,
        ]);
    }
    table
}

/// What is said of everything together, a line each.
fn facts(report: &DriftReport) -> Vec<(&'static str, String)> {
    let Totals { changed, kept, bytes_before, bytes_after, ratio, figures } = &report.total;
    let verb =
        report.weights.iter().find(|weight| is_changed(weight)).map_or("quantized", |weight| match weight.status {
            Status::Decoded => "decoded",
            Status::Compared => "compared",
            _ => "quantized",
        });
    let mut facts = vec![("weights", format!("{} {verb}, {} kept", units::count(*changed), units::count(*kept)))];
    let sizes = format!("{} to {}, ratio {ratio:.3}", units::bytes(*bytes_before), units::bytes(*bytes_after));
    facts.push(("bytes", sizes));
    if let Some(figures) = figures {
        facts.extend(errors(figures));
    }
    facts.extend(worst(report).map(|text| ("worst", text)));
    let seconds = &report.run.seconds;
    let mut time = format!("load {:.3} s, encode {:.3} s", seconds.load, seconds.survey + seconds.encode);
    if report.output.is_some() && verb != "compared" {
        let _ = write!(time, ", save {:.3} s, load again {:.3} s", seconds.save + seconds.publish, seconds.reload);
    }
    let _ = write!(time, ", compare {:.3} s, all {:.3} s on {}", seconds.compare, seconds.total, threads(report));
    facts.push(("time", time));
    facts
}

/// The weight that suffered most, where there are several, and where in it.
fn worst(report: &DriftReport) -> Option<String> {
    let measured = report.weights.iter().filter_map(|weight| Some((weight, weight.figures.as_ref()?)));
    let measured: Vec<(&WeightDrift, &Figures)> = measured.filter(|(_, figures)| sqnr(figures).is_finite()).collect();
    let (weight, figures) = measured.iter().min_by(|(_, a), (_, b)| sqnr(a).total_cmp(&sqnr(b)))?;
    if measured.len() < 2 {
        return None;
    }
    let mut text = format!("{} with {:.2} dB", weight.path, sqnr(figures));
    if let Some((group, sqnr_db)) = figures.worst_group.and_then(|group| Some((group, group.sqnr_db?))) {
        let _ = write!(text, ", and {sqnr_db:.2} dB in its group from value {} on", group.first);
    }
    Some(text)
}

fn threads(report: &DriftReport) -> String {
    units::counted(report.run.threads, "thread")
}

fn errors(figures: &Figures) -> Vec<(&'static str, String)> {
    let mut facts = vec![(
        "error",
        format!(
            "sqnr {}, relative {}, cosine {}",
            if sqnr(figures).is_infinite() {
                decibels(Some(sqnr(figures)))
            } else {
                format!("{:.2} dB", sqnr(figures))
            },
            some(figures.relative_error),
            figures.cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.6}")),
        ),
    )];
    facts.push((
        "absolute",
        format!(
            "max {}, rmse {}, p95 {}, p99.9 {}, bias {}",
            number(figures.max_abs_error),
            number(figures.rmse),
            number(figures.p95_abs_error),
            number(figures.p999_abs_error),
            number(figures.mean_error)
        ),
    ));
    let share = |share: f64| format!("{:.3} %", share * 100.0);
    let mut codes = vec![format!("{} zero", share(figures.zero_share))];
    if let (Some(saturated), Some(clipped)) = (figures.saturated_share, figures.clipped) {
        codes.push(format!("{} at the ends, {} clipped", share(saturated), units::count(clipped)));
    }
    if let Some(steps) = figures.max_error_steps {
        codes.push(format!("at most {steps:.2} steps off"));
    }
    facts.push(("codes", codes.join(", ")));
    if figures.nonfinite + figures.spoilt > 0 {
        let broken = format!(
            "{} not finite, {} no longer finite",
            units::count(figures.nonfinite),
            units::count(figures.spoilt)
        );
        facts.push(("broken", broken));
    }
    facts
}
