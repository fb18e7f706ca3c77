//! `moe`: a reference mixture-of-experts layer, a kernel's result beside it, and inputs for both.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::input::{self, PolicyOptions};
use super::lints::LintFlags;
use super::{Outcome, Stop, Ui, arrays};
use crate::Dtype;
use crate::array::{Array, write_npy, write_safetensors};
use crate::finding::{Finding, Severity, code, levels, suggest};
use crate::inventory::Inventory;
use crate::moe::{
    CaseKind, CaseSizes, ComparisonReport, Evaluation, Evaluator, Input, MoeConfig, MoeError, MoeLayer, MoeReport,
    RouteComparison, StoredWeights, TestCase, ToleranceKind, ULP_BUCKETS,
};
use crate::output::OutputFile;
use crate::policy::Policy;
use crate::units::{count, counted};

/// Evaluate a mixture-of-experts layer as the reference, and hold a kernel's result against it
///
/// The weights are those below PREFIX in a checkpoint, decoded from whatever they are stored as. INPUT is a `.npy` or
/// `.safetensors` file of f32, f16 or bf16, `[.., hidden]`. A result beyond the tolerance gives exit status 1.
///
/// Examples:
///   $ flow-fabric moe examples/samplers.toml --layer mixtral --make-inputs cases
///   $ flow-fabric moe policy.toml --layer grok-1 --weights ckpt --prefix layer_0 --input x.npy --compare y.npy
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Moe {
    /// The policy
    policy: PathBuf,
    /// The policy's `[moe.NAME]`
    #[arg(long, value_name = "NAME")]
    layer: String,
    /// The checkpoint that holds the layer's weights
    #[arg(long, value_name = "CHECKPOINT", required_unless_present = "make_inputs", requires = "input")]
    weights: Option<PathBuf>,
    /// Path of the layer; the names of `[moe.NAME.tensors]` follow it
    #[arg(long, value_name = "PATH", default_value = "")]
    prefix: String,
    /// The layer's input: a file, or `FILE:TENSOR` for one of several
    #[arg(long, value_name = "INPUT", requires = "weights")]
    input: Option<PathBuf>,
    /// How to evaluate: f64 throughout and one rounding at the end, or f32 with the roundings that the layer names
    #[arg(long, value_name = "EVALUATOR", default_value = "exact")]
    evaluator: EvaluatorName,
    /// Write the output: `.npy`, or `.safetensors` with routes and every stage
    #[arg(long, value_name = "FILE", requires = "input")]
    out: Option<PathBuf>,
    /// A kernel's output, to be held against the reference
    #[arg(long, value_name = "RESULT", requires = "input")]
    compare: Option<PathBuf>,
    /// The experts that the kernel chose, `[tokens, top_k]`; tokens that went the other way at a tie are told from faults
    #[arg(long, value_name = "IDS", requires = "input")]
    compare_routes: Option<PathBuf>,
    /// What the result may differ by [default: f32 for f32 input, else bf16]
    #[arg(long, value_name = "KIND", requires = "compare")]
    tolerance: Option<ToleranceName>,
    /// Scores of experts that are as near as this may go either way
    #[arg(long, value_name = "SCORE", default_value = "1e-5", value_parser = distance)]
    tie: f64,
    /// Write test layers with inputs and reference results to this directory, the hard cases among them
    #[arg(long, value_name = "DIR", conflicts_with_all = ["weights", "input"])]
    make_inputs: Option<PathBuf>,
    /// Sizes of test layers: hidden, inner and tokens
    #[arg(long, value_name = "HIDDEN,INNER,TOKENS", default_value = "64,96,32", requires = "make_inputs")]
    sizes: Sizes,
    /// Seed of test layers
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "make_inputs")]
    seed: u64,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EvaluatorName {
    Exact,
    Rounded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ToleranceName {
    /// 1e-4 and 1e-5 of the scale, dissimilarity 1e-9
    F32,
    /// 2e-2 and 4e-3 of the scale, dissimilarity 1e-5
    Bf16,
    /// Dissimilarity 1e-3
    Int8,
    /// Dissimilarity 1e-3
    Fp8,
    /// Dissimilarity 1e-2
    Fp4,
}

impl ToleranceName {
    const fn kind(self) -> ToleranceKind {
        match self {
            Self::F32 => ToleranceKind::F32,
            Self::Bf16 => ToleranceKind::Bf16,
            Self::Int8 => ToleranceKind::Int8,
            Self::Fp8 => ToleranceKind::Fp8,
            Self::Fp4 => ToleranceKind::Fp4,
        }
    }
}

/// A distance between scores.
fn distance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| (0.0..f64::INFINITY).contains(number))
        .ok_or_else(|| "a number from 0 up".to_owned())
}

/// Sizes of generated layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes(CaseSizes);

impl std::str::FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// Test layers are made in memory, several times over.
        const LARGEST: usize = 1 << 14;
        let sizes: Option<Vec<usize>> =
            text.split(',').map(|size| size.trim().parse().ok().filter(|size| (1..=LARGEST).contains(size))).collect();
        match sizes.as_deref() {
            Some(&[hidden, inner, tokens]) => Ok(Self(CaseSizes { hidden, inner, tokens })),
            _ => Err(format!("three numbers from 1 to {LARGEST}, such as `64,96,32`")),
        }
    }
}

impl Moe {
    pub(super) fn run(&self, ui: &mut Ui) -> Result<Outcome, Stop> {
        let policy = self.options.require(&self.policy, ui)?;
        let (config, layer) = layer(&policy, &self.layer)?;
        match (&self.make_inputs, &self.weights, &self.input) {
            (Some(folder), ..) => self.make_inputs(config, &layer, folder, ui),
            (None, Some(weights), Some(input)) => self.evaluate(&policy, &layer, weights, input, ui),
            _ => Err(Stop::failed("`--weights` and `--input` go together")),
        }
    }

    fn evaluate(
        &self,
        policy: &Policy,
        layer: &MoeLayer,
        weights: &Path,
        input: &Path,
        ui: &mut Ui,
    ) -> Result<Outcome, Stop> {
        let (inventory, mut findings) = input::inventory(policy, weights, ui)?;
        // A checkpoint that is not as it says gives no reference.
        if crate::finding::worst(&findings) == Some(Severity::Error) {
            ui.report(&findings, policy.sources())?;
            return Err(Stop::Said);
        }
        let array = activations(input, ui)?;
        let evaluator = match self.evaluator {
            EvaluatorName::Exact => Evaluator::Exact,
            EvaluatorName::Rounded => Evaluator::Rounded,
        };
        let source = StoredWeights::new(&inventory, &self.prefix);
        let evaluation = self.reference(layer, &source, &inventory, &array, evaluator)?;
        source.check_unchanged().map_err(|error| Stop::failed(error.to_string()))?;
        let mut report = MoeReport::new(layer, evaluator, &evaluation);
        self.compare(&mut report, &evaluation, array.dtype(), ui)?;
        if let Some(out) = &self.out {
            write_result(out, &evaluation, layer, evaluator)?;
        }
        match self.format {
            Format::Human => ui.print(&self.human(&report, layer, &source))?,
            Format::Json => ui.print(&super::json(&report))?,
        }
        let beyond_limits = report.comparison.as_ref().is_some_and(|comparison| !comparison.within);
        let file = if beyond_limits { &self.compare } else { &self.compare_routes };
        findings.extend(beyond(&report, file.as_deref()));
        let findings =
            levels::settle(&self.lints.over(&policy.lints), findings, |code| *code == code::BEYOND_TOLERANCE);
        ui.report(&findings, policy.sources())?;
        Ok(if report.holds() { Outcome::of(&findings) } else { Outcome::Findings })
    }

    fn reference(
        &self,
        layer: &MoeLayer,
        source: &StoredWeights<'_>,
        inventory: &Inventory,
        array: &Array,
        evaluator: Evaluator,
    ) -> Result<Evaluation, Stop> {
        let hidden = array.shape().last().copied().unwrap_or(0);
        let values = array.to_f64().unwrap_or_default();
        let input = Input { values: &values, hidden, dtype: array.dtype() };
        let stages = self.out.as_ref().is_some_and(|out| !is_npy(out));
        layer.evaluate(source, &input, evaluator, stages).map_err(|error| self.explain(&error, source, inventory))
    }

    /// What to do about a layer that cannot be evaluated.
    fn explain(&self, error: &MoeError, source: &StoredWeights<'_>, inventory: &Inventory) -> Stop {
        let below = if self.prefix.is_empty() { String::new() } else { format!("below `{}`: ", self.prefix) };
        let stop = Stop::failed(format!("{below}{error}"));
        let MoeError::Missing { name } = error else {
            return match error {
                MoeError::Orientation { .. } => stop
                    .help("say which it is: `orientation = \"in-out\"` or `\"out-in\"` (`router_orientation` for it)"),
                MoeError::Shape { .. } => stop.help(
                    "check `--prefix`, the width of the input, and `[moe.NAME]`: `tensors`, `experts`, orientation",
                ),
                _ => stop,
            };
        };
        // The same name elsewhere tells the prefix that was meant.
        let elsewhere = inventory.weights.iter().find_map(|weight| {
            weight.path.strip_suffix(name.as_str())?.strip_suffix(['/', '.']).filter(|prefix| *prefix != self.prefix)
        });
        if let Some(prefix) = elsewhere {
            return stop.help(format!("there is one below `{prefix}`: write `--prefix {prefix}`"));
        }
        let names: Vec<&str> = source.names().collect();
        if names.is_empty() {
            let paths = inventory.weights.iter().filter_map(|weight| weight.path.rsplit_once(['/', '.']));
            let mut prefixes: Vec<&str> = paths.map(|(prefix, _)| prefix).collect();
            prefixes.dedup();
            let help = suggest::help_for(&self.prefix, prefixes, "weights lie below");
            return Stop::failed(format!("no weight lies below `{}`", self.prefix)).help(help.unwrap_or_default());
        }
        match suggest::help_for(name, names, "there are") {
            Some(help) => stop.help(format!("{help}; name it in `[moe.{}.tensors]`", self.layer)),
            None => stop,
        }
    }

    fn compare(&self, report: &mut MoeReport, evaluation: &Evaluation, input: Dtype, ui: &mut Ui) -> Result<(), Stop> {
        let mut routes = None;
        if let Some(file) = &self.compare_routes {
            let ids = arrays::named(file, ui)?;
            let listed = ids.to_tokens().ok_or_else(|| {
                Stop::failed(format!("`{}` holds {} values that are no expert ids", file.display(), ids.dtype()))
            })?;
            let compared = RouteComparison::of(&listed, evaluation, self.tie).ok_or_else(|| {
                let wanted = [report.tokens, report.top_k];
                Stop::failed(format!(
                    "`{}` has the shape {:?}, the routes have {wanted:?}",
                    file.display(),
                    ids.shape()
                ))
                .help(format!("expert ids go from 0 to {}", report.experts.saturating_sub(1)))
            })?;
            report.compare_routes(&compared, self.tie);
            routes = Some(compared);
        }
        if let Some(file) = &self.compare {
            let result = arrays::named(file, ui)?;
            let values = result.to_f64().unwrap_or_default();
            let usual = if matches!(input, Dtype::F32 | Dtype::F64) { ToleranceKind::F32 } else { ToleranceKind::Bf16 };
            let tolerance = self.tolerance.map_or(usual, ToleranceName::kind);
            let same_width = result.shape().last() == Some(&report.hidden);
            if !same_width || !report.compare(&values, evaluation, tolerance, routes.as_ref()) {
                return Err(Stop::failed(format!(
                    "`{}` has the shape {:?}, the output has {:?}",
                    file.display(),
                    result.shape(),
                    [report.tokens, report.hidden]
                )));
            }
        }
        Ok(())
    }

    fn human(&self, report: &MoeReport, layer: &MoeLayer, source: &StoredWeights<'_>) -> String {
        let mut out = format!(
            "{}: {} of {} through {} of {}, {} wide\n",
            self.layer,
            counted(report.tokens, "token"),
            report.hidden,
            report.top_k,
            counted(report.experts, "expert"),
            report.inner
        );
        let tensors = layer.tensors();
        let named = [&tensors.router, &tensors.gate, &tensors.gate_up, &tensors.down].into_iter().flatten();
        let mut formats: Vec<&str> = named.filter_map(|name| source.format(&name.replace("{expert}", "0"))).collect();
        formats.dedup();
        let how = match self.evaluator {
            EvaluatorName::Exact => "f64, rounded once",
            EvaluatorName::Rounded => "f32, rounded where the layer says",
        };
        let _ = writeln!(out, "weights stored as {}; computed in {how}", formats.join(", "));
        let _ = writeln!(out, "output {}, rms {:.6}", report.dtype, report.rms);
        routes_of(report, &mut out);
        if let Some(routes) = &report.routes {
            let _ = writeln!(
                out,
                "\nroutes: {} the same, {}, {}",
                counted(routes.same, "token"),
                counted(routes.ties, "tie"),
                counted(routes.faults.len(), "fault"),
            );
            if let Some(first) = routes.faults.first() {
                let _ = writeln!(out, "  the first fault is token {first}");
            }
        }
        if let Some(comparison) = &report.comparison {
            compared(comparison, &mut out);
        }
        out
    }

    fn make_inputs(&self, config: &MoeConfig, layer: &MoeLayer, folder: &Path, ui: &mut Ui) -> Result<Outcome, Stop> {
        let at = |error: std::io::Error| Stop::failed(format!("cannot write to `{}`: {error}", folder.display()));
        let mut policy = String::from("language = 1\npolicy = \"moe-inputs\"\n");
        let mut made = String::new();
        for &kind in CaseKind::ALL {
            let case =
                TestCase::new(kind, layer, self.sizes.0, self.seed).map_err(|error| Stop::failed(error.to_string()))?;
            let input = Input { values: &case.input, hidden: self.sizes.0.hidden, dtype: Dtype::Bf16 };
            let evaluation = case
                .layer
                .evaluate(&case.weights, &input, Evaluator::Exact, true)
                .map_err(|error| Stop::failed(format!("case `{}`: {error}", kind.name())))?;
            let case_folder = folder.join(kind.name());
            std::fs::create_dir_all(&case_folder).map_err(at)?;
            let weights: Vec<(String, Array)> = case
                .weights
                .iter()
                .filter_map(|(name, shape, values)| {
                    let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
                    let separator = if name.contains('/') { '/' } else { '.' };
                    let array = Array::from_f64(Dtype::Bf16, shape.to_vec(), &values)?;
                    Some((format!("layer{separator}{name}"), array))
                })
                .collect();
            save(&case_folder.join("weights.safetensors"), &weights)?;
            let shape = vec![evaluation.tokens, evaluation.hidden];
            let input = Array::from_f64(Dtype::Bf16, shape, &case.input).map(|array| ("input".to_owned(), array));
            save(&case_folder.join("input.safetensors"), &Vec::from_iter(input))?;
            write_result(&case_folder.join("expected.safetensors"), &evaluation, &case.layer, Evaluator::Exact)?;
            policy.push_str(&profile(kind, config, &case.layer)?);
            let ties = evaluation.routing.gaps.iter().filter(|gap| **gap == 0.0).count();
            let _ = writeln!(made, "{:<21} {:>6}  {:>10}  {}", kind.name(), evaluation.tokens, ties, {
                let mut chosen = evaluation.routing.ids.clone();
                chosen.sort_unstable();
                chosen.dedup();
                format!("{} of {}", chosen.len(), case.layer.experts())
            });
        }
        crate::output::replace_file(&folder.join("policy.toml"), policy.as_bytes())
            .map_err(|error| Stop::failed(error.to_string()))?;
        ui.print(&format!("case                  tokens  exact ties  experts used\n{made}"))?;
        let folder = folder.display();
        ui.narrate(&format!(
            "\neach in a directory of `{folder}`: weights.safetensors below `layer`, input.safetensors, expected.safetensors;\n\
             `{folder}/policy.toml` declares each as a layer\n"
        ));
        Ok(Outcome::Done)
    }
}

/// The policy's layer of that name, compiled.
fn layer<'a>(policy: &'a Policy, name: &str) -> Result<(&'a MoeConfig, MoeLayer), Stop> {
    let Some(config) = policy.moes.get(name) else {
        let help = suggest::help_for(name, policy.moes.keys().map(String::as_str), "the policy declares");
        return Err(Stop::failed(format!("the policy has no layer `{name}`"))
            .help(help.unwrap_or_else(|| format!("declare it as `[moe.{name}]`"))));
    };
    // The policy was refused if a layer does not compile.
    MoeLayer::compile(config)
        .map(|layer| (config, layer))
        .map_err(|issues| Stop::failed(issues.first().map(ToString::to_string).unwrap_or_default()))
}

fn activations(path: &Path, ui: &mut Ui) -> Result<Array, Stop> {
    let array = arrays::named(path, ui)?;
    let shown = path.display();
    if !matches!(array.dtype(), Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
        return Err(Stop::failed(format!(
            "`{shown}` holds {} values; activations are f32, f16 or bf16",
            array.dtype()
        )));
    }
    if array.is_empty() || array.shape().is_empty() {
        return Err(Stop::failed(format!("`{shown}` has the shape {:?} and holds no token", array.shape()))
            .help("the input is `[tokens, hidden]`"));
    }
    let values = array.to_f64().unwrap_or_default();
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let hidden = array.shape().last().copied().unwrap_or(1).max(1);
        let message = format!("`{shown}` is {} at token {}, feature {}", values[at], at / hidden, at % hidden);
        return Err(Stop::failed(message).help("a layer has no reference for input that is not finite"));
    }
    Ok(array)
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

/// Writes the output alone, or with routes and stages.
fn write_result(path: &Path, evaluation: &Evaluation, layer: &MoeLayer, evaluator: Evaluator) -> Result<(), Stop> {
    let (tokens, hidden, inner) = (evaluation.tokens, evaluation.hidden, evaluation.inner);
    let (k, experts) = (layer.top_k(), layer.experts());
    let work = if evaluator == Evaluator::Exact { Dtype::F64 } else { Dtype::F32 };
    let routing = &evaluation.routing;
    let ids: Vec<f64> = routing.ids.iter().map(|&id| id.into()).collect();
    let mut arrays = vec![("output", evaluation.dtype, vec![tokens, hidden], &evaluation.output)];
    if !is_npy(path) {
        arrays.extend([
            ("sum", work, vec![tokens, hidden], &evaluation.sum),
            ("router_logits", work, vec![tokens, experts], &routing.logits),
            ("probabilities", work, vec![tokens, experts], &routing.probabilities),
            ("choice", work, vec![tokens, experts], &routing.choice),
            ("ids", Dtype::I32, vec![tokens, k], &ids),
            ("weights", work, vec![tokens, k], &routing.weights),
            ("route_gaps", work, vec![tokens], &routing.gaps),
        ]);
        if let Some(stages) = &evaluation.stages {
            arrays.extend([
                ("gate", work, vec![tokens, k, inner], &stages.gate),
                ("up", work, vec![tokens, k, inner], &stages.up),
                ("hidden", work, vec![tokens, k, inner], &stages.hidden),
                ("expert_output", work, vec![tokens, k, hidden], &stages.expert_output),
            ]);
            if !stages.shared_output.is_empty() {
                arrays.push(("shared_output", work, vec![tokens, hidden], &stages.shared_output));
            }
        }
    }
    let made = arrays
        .into_iter()
        .map(|(name, dtype, shape, values)| Some((name.to_owned(), Array::from_f64(dtype, shape, values)?)))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Stop::failed(format!("cannot write {} values", evaluation.dtype)))?;
    save(path, &made)
}

/// Writes arrays so that a reader sees the old file or the new one, whole.
fn save(path: &Path, arrays: &[(String, Array)]) -> Result<(), Stop> {
    let file = OutputFile::create(path).map_err(|error| Stop::failed(error.to_string()))?;
    let mut writer = BufWriter::new(file.file());
    let written = match arrays {
        [(_, one)] if is_npy(path) => write_npy(&mut writer, one),
        _ => write_safetensors(
            &mut writer,
            &arrays.iter().map(|(name, array)| (name.clone(), array)).collect::<Vec<_>>(),
        ),
    };
    let flushed = written.and_then(|()| writer.flush());
    drop(writer);
    flushed.map_err(|error| Stop::failed(format!("cannot write `{}`: {error}", path.display())))?;
    file.publish().map_err(|error| Stop::failed(error.to_string()))
}

/// A case's layer as a policy declares it.
fn profile(kind: CaseKind, config: &MoeConfig, layer: &MoeLayer) -> Result<String, Stop> {
    let mut config = config.clone();
    if kind == CaseKind::EveryExpert {
        config.top_k = u32::try_from(layer.top_k()).ok();
        config.group_top_k = config.filled().groups;
    }
    let table = std::collections::BTreeMap::from([("moe", std::collections::BTreeMap::from([(kind.name(), config)]))]);
    toml::to_string(&table).map(|text| format!("\n{text}")).map_err(|error| Stop::failed(error.to_string()))
}

fn routes_of(report: &MoeReport, out: &mut String) {
    let used = report.tokens_per_expert.iter().filter(|tokens| **tokens > 0).count();
    let busiest = report.tokens_per_expert.iter().copied().max().unwrap_or(0);
    let _ = write!(
        out,
        "routes: {used} of {} used, at most {} each",
        counted(report.experts, "expert"),
        counted(usize::try_from(busiest).unwrap_or(usize::MAX), "token")
    );
    let _ = match &report.min_route_gap {
        Some(gap) => {
            writeln!(
                out,
                "; smallest gap {:.3e} at token {}, {}",
                gap.gap,
                gap.token,
                counted(report.exact_ties, "exact tie")
            )
        }
        None => writeln!(out, "; every expert is chosen"),
    };
}

/// The figures with their limits.
fn compared(report: &ComparisonReport, out: &mut String) {
    let (figures, limits) = (&report.figures, &report.limits);
    let verdict = if report.within { "within" } else { "beyond" };
    let _ = writeln!(out, "\n{verdict} the tolerance `{}`", report.tolerance);
    if report.tokens_left_out > 0 {
        let _ = writeln!(
            out,
            "  {} left out, a tie of theirs went the other way",
            counted(report.tokens_left_out, "token")
        );
    }
    let limit = |limit: Option<f64>| limit.map_or_else(|| "none".to_owned(), |limit| format!("{limit:.0e}"));
    for (name, value, limit) in [
        ("max error / max(rms, |reference|)", figures.max_error, limit(limits.max_error)),
        ("root mean square of that", figures.rms_error, limit(limits.rms_error)),
        ("1 - 2<x,y> / (<x,x> + <y,y>)", figures.dissimilarity, limit(Some(limits.dissimilarity))),
    ] {
        let _ = writeln!(out, "  {name:<34} {value:>10.3e}  limit {limit}");
    }
    let _ = writeln!(out, "  {:<34} {:>10}  limit 0", "not finite on one side only", figures.unequal_non_finite);
    let number = |value: Option<f64>| value.map_or_else(|| "no number".to_owned(), |value| format!("{value}"));
    let [token, feature] = report.worst;
    let _ = writeln!(
        out,
        "  worst at token {token}, feature {feature}: {} where the reference has {}",
        number(report.result),
        number(report.reference)
    );
    let _ = write!(out, "  bf16 ulp:");
    for (at, &elements) in figures.ulps.iter().enumerate() {
        let _ = match ULP_BUCKETS.get(at) {
            Some(0.0) => write!(out, " equal {}", count(elements as u64)),
            Some(end) => write!(out, ", to {end} {}", count(elements as u64)),
            None => writeln!(out, ", beyond {}", count(elements as u64)),
        };
    }
}

/// What was compared and does not hold.
fn beyond(report: &MoeReport, file: Option<&Path>) -> Option<Finding> {
    if report.holds() {
        return None;
    }
    let faults = report.routes.as_ref().map_or(0, |routes| routes.faults.len());
    let message = match &report.comparison {
        Some(comparison) if !comparison.within => {
            format!("the result is beyond the tolerance `{}`", comparison.tolerance)
        }
        _ => format!("{} of {} went to wrong experts", count(faults as u64), counted(report.tokens, "token")),
    };
    let finding = Finding::new(&code::BEYOND_TOLERANCE, message).help(
        "see which stage differs: `--out FILE.safetensors` writes every one; `--compare-routes` tells ties from faults",
    );
    Some(match file {
        Some(file) => finding.in_file(file.display().to_string(), None, ""),
        None => finding,
    })
}
