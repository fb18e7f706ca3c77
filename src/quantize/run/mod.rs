//! Quantization executed: a plan over a checkpoint becomes another checkpoint, and a report of what it did to the values.
//!
//! [`run`] writes; [`drift`] only measures; [`dequantize`] goes back to numbers; [`compare`] measures two checkpoints that
//! others wrote. All stream: memory stays within a budget whatever the size of a tensor, all cores share one queue of parts,
//! and neither bytes nor figures depend on how many threads there are.
//!
//! ```text
//! Plan --Work--> units --Execution--> bytes in place --read back--> Drift --Tally--> DriftReport
//! ```
//!
//! | file | what |
//! |---|---|
//! | `work.rs`, `region.rs` | what has to be done, and which values of a stack a matrix has |
//! | `source.rs` | values of the source, decoded part by part |
//! | `execute.rs`, `queue.rs` | parts on all threads: survey, encode, write, read back, compare |
//! | `tally.rs`, `report.rs`, `gate.rs` | figures in the order of the checkpoint, and what they fail |
//! | `container.rs`, `gguf.rs`, `config.rs` | what is written besides the bytes of tensors |

mod config;
mod container;
mod error;
mod execute;
mod gate;
mod gguf;
mod queue;
mod region;
mod report;
mod source;
mod tally;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub use container::{Container, Safetensors};
pub use error::RunError;
pub use gguf::Gguf;
pub use report::{DriftReport, FORMAT, FORMAT_VERSION, RuleDrift, RunFigures, Seconds, Status, Totals, WeightDrift};

use crate::Dtype;
use crate::finding::{Finding, code};
use crate::inventory::{self, Inventory};
use crate::output::{self, Leftover, OutputDirectory, OutputError, OutputOptions, SafetensorsWriter};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::progress::Progress;
use crate::quantize::{Drift, Layout};
use execute::{Clock, Execution};
use source::Sources;
use tally::Tally;
use work::{Task, Unit, Work};

/// Name of the report in the directory that a run writes.
pub const REPORT: &str = "flow-fabric.drift.json";

/// How a run works. The default is 256 MiB on all cores.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Bytes for buffers and for what is kept between them.
    pub memory: u64,
    /// Threads; 0 is one for each core.
    pub threads: usize,
    /// Replace an output that is there.
    pub replace: bool,
    /// Continue what an earlier run with the same policy and checkpoint left.
    pub resume: bool,
    /// Publish although weights do not pass their gates.
    pub keep_going: bool,
    /// Bytes of tensors in a file, at most; `None` is one file.
    pub shard_bytes: Option<u64>,
    /// A GGUF file of the same model whose key-value pairs a GGUF output takes.
    pub metadata_from: Option<PathBuf>,
    /// Read back what was written and compare it with the source. Without it there are no figures and no gates.
    pub verify: bool,
    /// Of each path template so many weights, evenly spread; only [`drift`] samples.
    pub sample: Option<usize>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            threads: 0,
            replace: false,
            resume: false,
            keep_going: false,
            shard_bytes: Some(5_000_000_000),
            metadata_from: None,
            verify: true,
            sample: None,
        }
    }
}

impl RunOptions {
    fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}

/// Quantizes a checkpoint as planned and writes it to a directory, which appears whole or not at all.
///
/// Gates and non-finite values are findings; with any, [`RunFigures::published`] is false and nothing was written, unless
/// [`RunOptions::keep_going`] lets gates pass. What the checkpoint's directory has besides weights goes along.
///
/// ```no_run
/// use std::path::Path;
/// use flow_fabric::plan::PlanOptions;
/// use flow_fabric::progress::Silent;
/// use flow_fabric::quantize::run::{self, RunOptions};
/// use flow_fabric::{Plan, Policy, inventory::Checkpoint};
///
/// let policy = Policy::load("policies/llama-3.toml")?;
/// let (checkpoint, _) = Checkpoint::open(Path::new("Meta-Llama-3-8B"))?;
/// let (inventory, _) = policy.group(&checkpoint);
/// let plan = Plan::new(&policy, inventory, &PlanOptions::default())?;
/// let (report, findings) = run::run(&policy, &plan, Path::new("out"), &RunOptions::default(), &Silent)?;
/// println!("{} of the bytes, {} findings", report.total.ratio, findings.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The source cannot be read or changed underneath, the output cannot be written, a weight needs more memory than allowed,
/// or the plan has a weight that its scheme cannot hold. What was there before is as it was.
pub fn run(
    policy: &Policy,
    plan: &Plan,
    target: &Path,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<(DriftReport, Vec<Finding>), RunError> {
    let layout = policy.quantization.layout.as_ref().map(|layout| layout.value);
    let container = container::of(layout, &plan.inventory, options)?;
    run_into(policy, plan, target, &*container, options, progress)
}

/// As [`run`], into files of any container.
///
/// # Errors
/// As [`run`].
pub fn run_into(
    policy: &Policy,
    plan: &Plan,
    target: &Path,
    container: &dyn Container,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<(DriftReport, Vec<Finding>), RunError> {
    let started = Instant::now();
    refuse(plan)?;
    let work = Work::of_plan(plan, &|_| true)?;
    let layout = policy.quantization.layout.as_ref().map(|layout| layout.value);
    let written = Writing {
        target,
        container,
        identity: identity(plan, options),
        config: layout.and_then(|layout| config::quantization(layout, &work)),
    };
    let head = Head { policy: Some(&plan.policy), plan: Some(plan), layout };
    let judge = |tally: &Tally, report: &mut DriftReport, findings: &mut Vec<Finding>| {
        gate::nonfinite(policy, &work, &tally.units, findings);
        let refused = !findings.is_empty();
        gate::limits(policy, &work, &report.weights, findings);
        !refused && (findings.is_empty() || options.keep_going)
    };
    write(&work, &head, &written, (options, progress, started), &judge)
}

/// Measures what quantizing as planned would do, and writes nothing.
///
/// # Errors
/// As [`run`], but for the output.
pub fn drift(
    policy: &Policy,
    plan: &Plan,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<(DriftReport, Vec<Finding>), RunError> {
    let started = Instant::now();
    refuse(plan)?;
    let sampled = options.sample.map(|count| sample(plan, count));
    let wanted = |index: usize| sampled.as_ref().is_none_or(|sampled| sampled.contains(&index));
    let work = Work::of_plan(plan, &wanted)?;
    let layout = policy.quantization.layout.as_ref().map(|layout| layout.value);
    let head = Head { policy: Some(&plan.policy), plan: Some(plan), layout };
    let measured = Measured::of(&work, None, None, options, progress)?;
    let report = measured.report(&work, &head, None, options, started);
    let mut findings = Vec::new();
    gate::nonfinite(policy, &work, &measured.tally.units, &mut findings);
    gate::limits(policy, &work, &report.weights, &mut findings);
    Ok((report, findings))
}

/// Writes a checkpoint with every encoded weight as numbers: of `dtype`, or of the dtype that its format stands for.
///
/// # Errors
/// As [`run`].
pub fn dequantize(
    inventory: &Inventory,
    dtype: Option<Dtype>,
    target: &Path,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<(DriftReport, Vec<Finding>), RunError> {
    let started = Instant::now();
    let work = Work::of_dequantizing(inventory, dtype)?;
    let container = Safetensors { shard_bytes: options.shard_bytes };
    let mut hasher = blake3::Hasher::new();
    stamps(inventory, options, &mut hasher);
    hasher.update(format!("dequantize {dtype:?}").as_bytes());
    let written =
        Writing { target, container: &container, identity: hasher.finalize().to_hex().to_string(), config: None };
    let head = Head { policy: None, plan: None, layout: None };
    write(&work, &head, &written, (options, progress, started), &|_, _, _| true)
}

/// Measures how the weights of one checkpoint differ from those of the same paths in another.
///
/// Weights that only one of them has, or that differ in shape, are findings.
///
/// # Errors
/// A checkpoint cannot be read or decoded.
pub fn compare(
    before: &Inventory,
    after: &Inventory,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<(DriftReport, Vec<Finding>), RunError> {
    let started = Instant::now();
    let mut findings = Vec::new();
    let pairs = pairs(before, after, &mut findings);
    let work = Work::of_comparing(before, after, &pairs)?;
    let sources = Sources::new(after);
    let measured = Measured::of(&work, None, Some((after, &sources)), options, progress)?;
    sources.check_unchanged()?;
    let head = Head { policy: None, plan: None, layout: None };
    Ok((measured.report(&work, &head, Some(after.name.to_string()), options, started), findings))
}

/// Weights of the same path and shape in both; integers, which nothing quantizes, are left out.
fn pairs(before: &Inventory, after: &Inventory, findings: &mut Vec<Finding>) -> Vec<(usize, usize)> {
    let named: BTreeMap<&str, usize> =
        after.weights.iter().enumerate().map(|(at, weight)| (weight.path.as_str(), at)).collect();
    let mut pairs = Vec::new();
    let (mut missing, mut reshaped) = (Vec::new(), Vec::new());
    for (index, weight) in before.weights.iter().enumerate().filter(|(_, weight)| weight.dtype.is_float()) {
        match named.get(weight.path.as_str()).and_then(|&at| Some((at, after.weights.get(at)?))) {
            Some((at, other)) if other.shape == weight.shape => pairs.push((index, at)),
            Some(_) => reshaped.push(weight.path.as_str()),
            None if weight.alias_of.is_none() => missing.push(weight.path.as_str()),
            None => {}
        }
    }
    let known: BTreeSet<&str> = before.weights.iter().map(|weight| weight.path.as_str()).collect();
    let added = after.weights.iter().map(|weight| weight.path.as_str()).filter(|path| !known.contains(path)).collect();
    let mut say = |paths: Vec<&str>, what: String| {
        if paths.is_empty() {
            return;
        }
        let message = format!("{} {what}", crate::units::counted(paths.len(), "weight"));
        let templates = inventory::collapse(paths.into_iter().map(|path| (path, ())));
        let finding = templates.iter().take(8).fold(Finding::new(&code::NOT_COMPARED, message), |finding, template| {
            finding.note(format!("`{template}`"))
        });
        findings.push(finding.help("renames in a policy (`--policy`) give both one name"));
    };
    say(missing, format!("of `{}` not in `{}`", before.name, after.name));
    say(added, format!("of `{}` not in `{}`", after.name, before.name));
    say(reshaped, "of one path and two shapes".to_owned());
    pairs
}

/// Refuses a plan with a weight that its scheme cannot hold: to keep it instead would be silent.
fn refuse(plan: &Plan) -> Result<(), RunError> {
    for planned in plan.weights() {
        if let Some(refusal) = &planned.class().refusal {
            return Err(RunError::Refused { path: planned.weight.path.clone(), refusal: refusal.clone() });
        }
    }
    Ok(())
}

/// Of each template of one class so many weights, evenly spread.
fn sample(plan: &Plan, count: usize) -> BTreeSet<usize> {
    let keyed = plan.inventory.weights.iter().zip(&plan.decisions);
    let templates = inventory::collapse(keyed.map(|(weight, decision)| (weight.path.as_str(), decision.class)));
    let mut picked = BTreeSet::new();
    for template in templates {
        let members = template.members.len();
        let count = count.clamp(1, members);
        picked.extend((0..count).filter_map(|at| template.members.get(at * members / count)));
    }
    picked
}

/// What identifies a run: everything that decides its bytes.
fn identity(plan: &Plan, options: &RunOptions) -> String {
    let mut hasher = blake3::Hasher::new();
    // Writing into a hasher cannot fail.
    let _ = plan.write_json(&mut hasher);
    stamps(&plan.inventory, options, &mut hasher);
    hasher.finalize().to_hex().to_string()
}

fn stamps(inventory: &Inventory, options: &RunOptions, hasher: &mut blake3::Hasher) {
    for file in &inventory.files {
        hasher.update(format!("{} {:?}\n", file.path, file.stamp).as_bytes());
    }
    let RunOptions { shard_bytes, metadata_from, .. } = options;
    hasher.update(format!("{shard_bytes:?} {metadata_from:?} {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

/// Where a run writes to.
struct Writing<'a> {
    target: &'a Path,
    container: &'a dyn Container,
    identity: String,
    config: Option<serde_json::Value>,
}

/// What stands above a report.
struct Head<'a> {
    policy: Option<&'a String>,
    plan: Option<&'a Plan>,
    layout: Option<Layout>,
}

/// Decides, with a report, what is found and whether the output is published.
type Judge<'a> = dyn Fn(&Tally, &mut DriftReport, &mut Vec<Finding>) -> bool + 'a;

/// Writes everything beside its place, measures it, and gives it its place if nothing is against it.
fn write(
    work: &Work<'_>,
    head: &Head<'_>,
    writing: &Writing<'_>,
    (options, progress, started): (&RunOptions, &dyn Progress, Instant),
    judge: &Judge<'_>,
) -> Result<(DriftReport, Vec<Finding>), RunError> {
    let layout = writing.container.lay_out(&work.outputs, &notes(work))?;
    let kept = OutputOptions { replace: options.replace, run: Some(writing.identity.clone()), resume: options.resume };
    let sources = work.inventory.files.iter().filter_map(|file| file.location.as_deref());
    OutputDirectory::check_apart(writing.target, sources)?;
    let directory = OutputDirectory::create(writing.target, &kept)?;
    let mut writer = SafetensorsWriter::create(directory, layout)?;
    let measured = Measured::of(work, Some(&writer), None, options, progress)?;
    let output = Some(writing.target.display().to_string());
    let mut report = measured.report(work, head, output, options, started);
    if writer.output().leftover() == Leftover::Resumed {
        report.run.resumed = writer.output().finished().len() as u64;
    }
    let mut findings = Vec::new();
    if !judge(&measured.tally, &mut report, &mut findings) {
        // It is complete: nothing of it would be of use to another run.
        writer.output_mut().keep_on_failure(false);
        return Ok((report, findings));
    }
    findings.extend(writing.container.remarks(&work.outputs));
    progress.begin("publishing", None);
    let publishing = Instant::now();
    let beside = beside(work.inventory);
    let config = config_directory(work.inventory);
    let to = writer.output().path().to_owned();
    config::write(config.as_deref(), &to, writing.config.clone())?;
    if let Some(beside) = &beside {
        output::carry(beside, &to)?;
    }
    report.run.published = true;
    if head.policy.is_some() {
        let text = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
        let path = to.join(REPORT);
        std::fs::write(&path, text).map_err(OutputError::io("write", &path))?;
    }
    writer.publish()?;
    report.run.seconds.publish = publishing.elapsed().as_secs_f64();
    report.run.seconds.total = started.elapsed().as_secs_f64();
    Ok((report, findings))
}

/// What a file says besides its tensors: what the source said, and which names stand for a tensor under another one.
fn notes(work: &Work<'_>) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    if work.inventory.container == inventory::Container::Safetensors
        && let Some(file) = work.inventory.files.first()
    {
        let texts = file.metadata.iter().filter_map(|(key, value)| Some((key.to_owned(), value.as_text()?.to_owned())));
        notes.extend(texts);
    }
    notes.extend(work.aliases.iter().cloned());
    notes
}

/// The directory whose other files go along: that of a checkpoint that was given as one.
fn beside(inventory: &Inventory) -> Option<PathBuf> {
    let name = Path::new(&*inventory.name);
    let whole = name.is_dir() || name.to_string_lossy().ends_with(".index.json");
    config_directory(inventory).filter(|_| whole)
}

/// The directory of the first file: its `config.json` describes the model.
fn config_directory(inventory: &Inventory) -> Option<PathBuf> {
    let location = inventory.files.first()?.location.as_ref()?;
    location.parent().map(Path::to_owned)
}

/// What was done, and how long it took.
struct Measured {
    tally: Tally,
    clock: Clock,
}

impl Measured {
    fn of<'a>(
        work: &'a Work<'a>,
        writer: Option<&'a SafetensorsWriter>,
        other: Option<(&'a Inventory, &'a Sources<'a>)>,
        options: &RunOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, RunError> {
        let sources = Sources::new(work.inventory);
        let clock = Clock::default();
        let verify = options.verify || writer.is_none();
        let (memory, threads) = (options.memory, options.threads());
        progress.begin(if writer.is_some() { "writing" } else { "comparing" }, Some(work.bytes()));
        let tally = Execution { work, writer, other, memory, threads, verify, progress }.run(&sources, &clock)?;
        sources.check_unchanged()?;
        Ok(Self { tally, clock })
    }

    fn report(
        &self,
        work: &Work<'_>,
        head: &Head<'_>,
        output: Option<String>,
        options: &RunOptions,
        started: Instant,
    ) -> DriftReport {
        let rule_name = |rule: Option<usize>| {
            let tables = head.plan.map(|plan| plan.rules.iter().filter(|rule| rule.table == "quantization"));
            rule.and_then(|rule| tables?.nth(rule)).map(|rule| rule.name.clone())
        };
        let weights: Vec<WeightDrift> = work
            .units
            .iter()
            .zip(&self.tally.units)
            .map(|(unit, figures)| weight(work, head, unit, figures.figures, rule_name(unit.rule)))
            .collect();
        let figures = |drift: Option<&Drift>| drift.map(Drift::figures);
        let mut total = Totals { figures: figures(self.tally.total.as_ref()), ..Totals::none() };
        let mut rules: BTreeMap<(bool, Option<usize>), Totals> = BTreeMap::new();
        for (unit, weight) in work.units.iter().zip(&weights) {
            total.add(weight);
            let of_rule = || Totals { figures: figures(self.tally.rules.get(&unit.rule)), ..Totals::none() };
            rules.entry((unit.rule.is_none(), unit.rule)).or_insert_with(of_rule).add(weight);
        }
        let rules = rules.into_iter().map(|((_, rule), totals)| RuleDrift { rule: rule_name(rule), totals }).collect();
        let seconds = |clock: &AtomicU64| std::time::Duration::from_nanos(clock.load(Ordering::Relaxed)).as_secs_f64();
        let clock = &self.clock;
        DriftReport {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            policy: head.policy.cloned(),
            source: work.inventory.name.to_string(),
            output,
            layout: head.layout,
            weights,
            rules,
            total,
            run: RunFigures {
                threads: options.threads(),
                memory: options.memory,
                published: false,
                resumed: 0,
                seconds: Seconds {
                    total: started.elapsed().as_secs_f64(),
                    load: seconds(&clock.read),
                    survey: seconds(&clock.survey),
                    encode: seconds(&clock.encode),
                    save: seconds(&clock.write),
                    reload: seconds(&clock.read_back),
                    compare: seconds(&clock.compare),
                    publish: 0.0,
                },
            },
        }
    }
}

/// The row of a unit.
fn weight(
    work: &Work<'_>,
    head: &Head<'_>,
    unit: &Unit,
    figures: Option<crate::quantize::Figures>,
    rule: Option<String>,
) -> WeightDrift {
    let weight = work.inventory.weights.get(unit.weight);
    let class = head.plan.and_then(|plan| plan.classes.get(plan.decisions.get(unit.weight)?.class));
    let (status, shape, scheme, limits) = match &unit.task {
        Task::Encode(encode) => {
            (Status::Quantized, encode.shape.clone(), Some(encode.scheme.to_string()), Some(encode.limits))
        }
        Task::Cast(cast) => (Status::Decoded, cast.shape.clone(), None, None),
        Task::Compare(compare) => (Status::Compared, compare.shape.clone(), None, None),
        Task::Copy => {
            let status = match class {
                Some(class) if class.kept_non_float => Status::KeptNonFloat,
                Some(class) if class.kept_indivisible => Status::KeptIndivisible,
                _ => Status::Kept,
            };
            (status, weight.map(|weight| weight.shape.clone()).unwrap_or_default(), None, None)
        }
    };
    let elements: u64 = shape.iter().product();
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let bits_per_weight = unit.written_bytes as f64 * 8.0 / elements.max(1) as f64;
    WeightDrift {
        path: unit.path.clone(),
        rule,
        scheme,
        status,
        dtype: weight.map_or(Dtype::F32, |weight| weight.dtype),
        shape,
        bytes_before: unit.stored_bytes,
        bytes_after: unit.written_bytes,
        bits_per_weight,
        breaches: figures.zip(limits).map(|(figures, limits)| figures.breaches(&limits)).unwrap_or_default(),
        figures,
    }
}
