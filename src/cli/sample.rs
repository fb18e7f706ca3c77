//! `sample`: what a sampler of the policy makes of logits.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::input::PolicyOptions;
use super::lints::LintFlags;
use super::table::{Align, Cell, Table};
use super::{Outcome, Stop, Ui, arrays};
use crate::finding::{Finding, code, levels, suggest};
use crate::policy::Policy;
use crate::sample::{
    CandidateRecord, ConfigIssue, LogitTable, Logprobs, NotLogits, ReportOptions, RowReport, SampleReport, Sampler,
    TraceRecord,
};
use crate::units::{count, counted};

/// Draw tokens from logits with a sampler of the policy, and show what its stages left
///
/// LOGITS is a `.npy` or `.safetensors` file of f32, f16 or bf16, `[.., tokens]`; every row is a stream of its own. The
/// same seed, slot and position give the same token for the same row, whatever the other rows are.
///
/// Examples:
///   $ flow-fabric sample policies/slot07.toml --sampler response --logits logits.npy
///   $ flow-fabric sample policy.toml --sampler s --logits step.safetensors:logits --rows 0,4-7 --trace 1024
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Sample {
    /// The policy
    policy: PathBuf,
    /// The policy's `[sampler.NAME]`
    #[arg(long, value_name = "NAME")]
    sampler: String,
    /// The logits: a file, or `FILE:TENSOR` for one of several
    #[arg(long, value_name = "LOGITS")]
    logits: PathBuf,
    /// Rows to sample, such as `0,4-7`, of which alone the file is read; all of them unless said
    #[arg(long, value_name = "ROWS")]
    rows: Option<Rows>,
    /// Seed of the draws, in place of the profile's
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// The step of every row in its stream; the length of its history unless said
    #[arg(long, value_name = "N")]
    position: Option<u64>,
    /// The stream of every row; a row's own number unless said
    #[arg(long, value_name = "N")]
    slot: Option<u64>,
    /// Token ids drawn so far, for penalties: a `.json` list or an array of integers, for all rows or one list for each
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Token ids of the prompt, likewise
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// Show what each stage left, and the fate of a token
    #[arg(long, value_name = "TOKEN", num_args = 0..=1)]
    trace: Option<Option<u32>>,
    /// How many of the tokens that are left to list, likeliest first [default: 8 for one row, none for several]
    #[arg(long, value_name = "COUNT")]
    top: Option<usize>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: Format,
    #[command(flatten)]
    lints: LintFlags,
    #[command(flatten)]
    options: PolicyOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

/// Numbers of rows, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rows(Vec<(usize, usize)>);

impl std::str::FromStr for Rows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (range.0 <= range.1).then_some(range)
        };
        text.split(',')
            .map(|text| part(text).ok_or_else(|| format!("`{text}` is neither a row nor a range like `4-7`")))
            .collect::<Result<_, _>>()
            .map(Rows)
    }
}

impl Rows {
    /// The rows of a table of so many, ascending and each once; only the first where those asked for
    /// are beyond it, which is said once the table is there.
    fn within(&self, total: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = self.0.iter().map(|&(first, last)| first..last.saturating_add(1)).collect();
        ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        if merged.last().is_none_or(|last| last.end > total) {
            std::iter::once(0..total.min(1)).collect()
        } else {
            merged
        }
    }
}

impl Sample {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.options.require(&self.policy, ui)?;
        let (sampler, warnings) = sampler(&policy, &self.sampler)?;
        let table = self.table(ui)?;
        let options = self.report_options(&table, ui)?;
        let report = sampler.report(&table, &options);
        match self.format {
            Format::Human => ui.print(&self.human(&report, &table))?,
            Format::Json => ui.print(&super::json(&report))?,
        }
        // Of what the policy warns of, what is about this sampler.
        let about = |finding: &&Finding| warnings.iter().any(|warning| warning.message == finding.message);
        let mut findings: Vec<Finding> = policy.findings().iter().filter(about).cloned().collect();
        findings.extend(unsampled(&report, &self.logits));
        let findings = levels::settle(&self.lints.over(&policy.lints), findings, |code| *code == code::UNSAMPLED_ROW);
        ui.report(&findings, policy.sources())?;
        Ok(Outcome::of(&findings))
    }

    fn table(&self, ui: &mut Ui) -> Result<LogitTable, Stop> {
        let mut file = arrays::open(&self.logits, ui)?;
        let shape = file.shape().to_vec();
        let table = match &self.rows {
            // Of a file of many steps, what is asked for and no more.
            Some(rows) => {
                let total = shape.split_last().map_or(0, |(_, before)| before.iter().product());
                let rows = rows.within(total);
                file.read_rows(&rows).map(|array| LogitTable::of_rows(&array, &shape, &rows))
            }
            None => file.read().map(|array| LogitTable::new(&array)),
        };
        table.map_err(|error| arrays::stop(error, ui))?.map_err(|error| {
            let stop = Stop::failed(format!("`{}`: {error}", self.logits.display()));
            match error {
                NotLogits::Dtype(_) => stop.help("save them as f32: `logits.astype(numpy.float32)`"),
                _ => stop.help("logits are `[tokens]` or `[rows, tokens]`"),
            }
        })
    }

    fn report_options(&self, table: &LogitTable, ui: &mut Ui) -> Result<ReportOptions, Stop> {
        let rows = self.row_numbers(table)?;
        if let Some(Some(token)) = self.trace
            && token as usize >= table.tokens()
        {
            return Err(Stop::failed(format!("`--trace {token}`: the rows have {} tokens", table.tokens()))
                .help(format!("token ids go from 0 to {}", table.tokens() - 1)));
        }
        let mut lists = |file: &Option<PathBuf>| match file {
            Some(file) => arrays::token_lists(file, table.rows(), table.tokens(), ui),
            None => Ok(Vec::new()),
        };
        Ok(ReportOptions {
            prompt: lists(&self.prompt)?,
            output: lists(&self.history)?,
            top: self.top.unwrap_or(if rows.len() == 1 { 8 } else { 0 }),
            rows,
            seed: self.seed,
            slot: self.slot,
            position: self.position,
            trace: self.trace,
        })
    }

    fn row_numbers(&self, table: &LogitTable) -> Result<Vec<usize>, Stop> {
        let Some(Rows(ranges)) = &self.rows else { return Ok((0..table.rows()).collect()) };
        let last = table.rows() - 1;
        if let Some((_, beyond)) = ranges.iter().find(|(_, end)| *end > last) {
            return Err(Stop::failed(format!(
                "there is no row {beyond} in `{}`, which holds {}",
                self.logits.display(),
                counted(table.rows(), "row")
            ))
            .help(format!("rows go from 0 to {last}")));
        }
        Ok(ranges.iter().flat_map(|&(first, last)| first..=last).collect())
    }

    fn human(&self, report: &SampleReport, table: &LogitTable) -> String {
        let stages =
            if report.stages.is_empty() { "no stage, the softmax of the row" } else { &report.stages.join("; ") };
        let mut out = format!("{}: {stages}\n", self.sampler);
        let rows = match (report.rows.len(), table.rows()) {
            (all, total) if all == total => counted(all, "row"),
            (some, total) => format!("{} of {}", count(some as u64), counted(total, "row")),
        };
        let _ =
            writeln!(out, "{rows} of {} {} logits, seed {}\n", count(report.tokens as u64), report.dtype, report.seed);
        out.push_str(&drawn(report).human());
        for row in &report.rows {
            details(row, report, &mut out);
        }
        out
    }
}

/// The policy's sampler of that name, compiled.
fn sampler(policy: &Policy, name: &str) -> Result<(Sampler, Vec<ConfigIssue>), Stop> {
    let Some(config) = policy.samplers.get(name) else {
        let names = policy.samplers.keys().map(String::as_str);
        let help = suggest::help_for(name, names, "the policy declares");
        return Err(Stop::failed(format!("the policy has no sampler `{name}`"))
            .help(help.unwrap_or_else(|| format!("declare it as `[sampler.{name}]`"))));
    };
    // The policy was refused if a profile does not compile.
    Sampler::compile(config).map_err(|issues| Stop::failed(issues.first().map(ToString::to_string).unwrap_or_default()))
}

/// A line a row.
fn drawn(report: &SampleReport) -> Table {
    let logprob = if report.logprobs == Logprobs::Raw { "raw logprob" } else { "logprob" };
    let columns = ["row", "slot", "position", "token", "probability", logprob, "kept", "gap"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Right)));
    for row in &report.rows {
        let place = [row.row.to_string(), row.slot.to_string(), row.position.to_string()];
        let outcome = match &row.drawn {
            Some(drawn) => [
                if drawn.fallback { format!("{} (greedy)", drawn.token) } else { drawn.token.to_string() },
                number(drawn.probability),
                drawn.logprob.map_or_else(|| "-".to_owned(), number),
                drawn.kept.to_string(),
                drawn.gap.map_or_else(|| "alone".to_owned(), number),
            ],
            None => ["none", "-", "-", "-", "-"].map(str::to_owned),
        };
        table.row(place.into_iter().chain(outcome).map(Cell::Plain).collect());
    }
    table
}

fn details(row: &RowReport, report: &SampleReport, out: &mut String) {
    if let Some(trace) = &row.trace {
        let _ = writeln!(out, "\nrow {}, stage by stage{}", row.row, fate(trace, row));
        out.push_str(&trace_table(trace).human());
    }
    let kept = row.drawn.map_or(0, |drawn| drawn.kept);
    if !row.distribution.is_empty() {
        let shown = row.distribution.len();
        let of =
            if shown < kept { format!(", the likeliest {shown} of {}", count(kept as u64)) } else { String::new() };
        let _ = writeln!(out, "\nrow {}, what is left{of}", row.row);
        out.push_str(&candidates(&row.distribution).human());
    }
    if !row.top.is_empty() {
        let _ = writeln!(out, "\nrow {}, likeliest {} ({})", row.row, row.top.len(), report.logprobs);
        out.push_str(&candidates(&row.top).human());
    }
}

fn candidates(candidates: &[CandidateRecord]) -> Table {
    let mut table = Table::new(&["token", "probability", "logprob", "score"].map(|name| (name, Align::Right)));
    for candidate in candidates {
        let logprob = candidate.logprob.map_or_else(|| "-".to_owned(), number);
        let cells = [candidate.token.to_string(), number(candidate.probability), logprob, number(candidate.score)];
        table.row(cells.into_iter().map(Cell::Plain).collect());
    }
    table
}

/// What became of the token that was asked about.
fn fate(trace: &TraceRecord, row: &RowReport) -> String {
    let Some(token) = trace.token else { return String::new() };
    match (trace.removed_by, trace.logit) {
        (_, None) => format!("; token {token} came masked"),
        (Some(stage), _) => format!("; token {token} is removed by `{stage}`"),
        (None, _) if row.drawn.is_some_and(|drawn| drawn.token == token) => format!("; token {token} is drawn"),
        (None, _) => format!("; token {token} is left, another is drawn"),
    }
}

fn trace_table(trace: &TraceRecord) -> Table {
    let mut columns = vec![("kept", Align::Right), ("least score", Align::Right)];
    columns.extend(trace.token.map(|_| ("its score", Align::Right)));
    columns.push(("stage", Align::Left));
    let mut table = Table::new(&columns);
    for stage in &trace.stages {
        let mut cells = vec![stage.kept.to_string(), stage.cut.map_or_else(|| "-".to_owned(), number)];
        cells.extend(trace.token.map(|_| stage.token.map_or_else(|| "removed".to_owned(), number)));
        cells.push(stage.rule.clone());
        table.row(cells.into_iter().map(Cell::Plain).collect());
    }
    table
}

/// Six significant digits.
fn number(value: f64) -> String {
    if value == 0.0 || (1e-4..1e9).contains(&value.abs()) {
        let digits = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
        format!("{value:.*}", usize::try_from(5 - digits).unwrap_or(0))
    } else {
        format!("{value:.5e}")
    }
}

/// One finding for all rows that have no token.
fn unsampled(report: &SampleReport, file: &Path) -> Option<Finding> {
    /// Rows that are listed by themselves.
    const LISTED: usize = 8;
    let wrong: Vec<_> = report.rows.iter().filter_map(|row| Some((row.row, row.error.as_ref()?))).collect();
    let (row, error) = wrong.first()?;
    let message = match wrong.len() {
        1 => format!("row {row} cannot be sampled: {}", error.message),
        many => format!("{many} of {} cannot be sampled", counted(report.rows.len(), "row")),
    };
    let mut finding = Finding::new(&code::UNSAMPLED_ROW, message).in_file(file.display().to_string(), None, "");
    if wrong.len() > 1 {
        for (row, error) in wrong.iter().take(LISTED) {
            finding = finding.note(format!("row {row}: {}", error.message));
        }
        if wrong.len() > LISTED {
            finding = finding.note(format!("and {} more", wrong.len() - LISTED));
        }
    }
    Some(finding.help(if wrong.iter().any(|(_, error)| error.first.is_some()) {
        "mend the logits, or say `on_invalid = \"greedy\"` for rows with NaN or +inf"
    } else {
        "look for what masks every token: -inf logits, `vocab_limit`, `allow`, `deny`"
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbers_and_ranges() {
        assert_eq!("0, 4-7,2".parse(), Ok(Rows(vec![(0, 0), (4, 7), (2, 2)])));
        for wrong in ["", "7-4", "a", "1..3", "-1"] {
            assert!(wrong.parse::<Rows>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_have_six_digits() {
        let shown = [0.0, 1.0, -0.25, 12345.678, 1.5e-7, -3e12].map(number);
        assert_eq!(shown, ["0.00000", "1.00000", "-0.250000", "12345.7", "1.50000e-7", "-3.00000e12"]);
    }
}
