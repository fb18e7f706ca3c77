//! Conversion of foreign checkpoints to safetensors, tensor by tensor, in bounded memory.
//!
//! No value is changed: tensors keep their dtype and shape, and only their order of bytes becomes row-major where it was not.
//! What is written is read back from disk and compared before it gets its name.

mod deflated;
mod error;
mod job;
mod record;
mod strided;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub use self::error::ConvertError;
use self::job::{Job, Source};
pub use self::record::{CONVERT_FORMAT, ConvertRecord};
use crate::finding::{Finding, Severity, code};
use crate::inventory::{Checkpoint, Container, Indirect, StoredTensor};
use crate::output::{Layout, OutputDirectory, OutputOptions, SafetensorsWriter, TensorSpec, carry};
use crate::parallel::in_parallel;
use crate::progress::Progress;
use crate::storage::SourceFile;

/// How a conversion is done.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Most bytes of tensors in a file; a single tensor may be larger. `None` for one file.
    pub shard_bytes: Option<u64>,
    /// Replace what stands at the target.
    pub replace: bool,
    /// Threads that copy; each holds some MiB.
    pub threads: usize,
}

impl Default for ConvertOptions {
    /// Files of 5 GB, as Hugging Face cuts them, and two threads.
    fn default() -> Self {
        Self { shard_bytes: Some(5_000_000_000), replace: false, threads: 2 }
    }
}

/// What a conversion wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// Tensors written.
    pub tensors: usize,
    /// Names that share the bytes of a tensor, with the name that these are written under. The files' metadata says so, too.
    pub aliases: BTreeMap<String, String>,
    /// Bytes of the files with weights.
    pub bytes: u64,
    /// Names of the files with weights.
    pub files: Vec<String>,
    /// Names of the files that went along: config, tokenizer.
    pub carried: Vec<String>,
}

/// Writes a checkpoint as safetensors files into a new directory, with the config and the tokenizer that lie beside it.
///
/// `findings` are those of opening the checkpoint: one that is damaged is not converted, but tensors that can only be converted
/// (strided, compressed) are no damage here. Names that share bytes are written once.
///
/// # Errors
/// The checkpoint is damaged, holds what safetensors cannot, or cannot be read; the target is taken or cannot be written; the
/// work was cancelled; what was written does not read back as it was.
///
/// ```
/// use flow_fabric::convert::{ConvertOptions, convert};
/// use flow_fabric::inventory::Checkpoint;
/// use flow_fabric::progress::Silent;
/// # let folder = tempfile::tempdir()?;
/// # let source = folder.path().join("w.safetensors");
/// # let header = br#"{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}   "#;
/// # std::fs::write(&source, [&(header.len() as u64).to_le_bytes()[..], header, b"abc"].concat())?;
/// let (checkpoint, findings) = Checkpoint::open(&source)?;
/// let target = folder.path().join("model");
/// let converted = convert(&checkpoint, &findings, &target, &ConvertOptions::default(), &Silent)?;
/// assert_eq!(converted.files, ["model.safetensors"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn convert(
    checkpoint: &Checkpoint,
    findings: &[Finding],
    target: &Path,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Converted, ConvertError> {
    let refused: Vec<Finding> = findings.iter().filter(|finding| is_damage(finding)).cloned().collect();
    if !refused.is_empty() {
        return Err(ConvertError::Refused { findings: refused });
    }
    refuse_blocks(checkpoint)?;
    let (kept, aliases) = distinct(checkpoint);
    let specs: Vec<TensorSpec> = kept.iter().map(|tensor| spec(tensor)).collect();
    let layout = Layout::new(&specs, &metadata(checkpoint, &aliases), options.shard_bytes)?;
    let sources = checkpoint.files.iter().map(SourceFile::open).collect::<Result<Vec<_>, _>>()?;
    let jobs = jobs(checkpoint, &kept, &sources)?;

    OutputDirectory::check_apart(target, checkpoint.files.iter().filter_map(|file| file.location.as_deref()))?;
    let output_options = OutputOptions { replace: options.replace, ..OutputOptions::default() };
    let writer = SafetensorsWriter::create(OutputDirectory::create(target, &output_options)?, layout)?;
    progress.begin("converting", Some(jobs.iter().fold(0, |sum: u64, job| sum.saturating_add(job.length))));
    let digests = in_parallel(options.threads, &jobs, |job| job.copy(&writer, progress))?;
    sources.iter().try_for_each(SourceFile::check_unchanged)?;

    writer.settle()?;
    progress.begin("verifying", Some(jobs.iter().fold(0, |sum: u64, job| sum.saturating_add(job.length))));
    verify_header(&writer, &specs)?;
    let order: Vec<usize> = (0..jobs.len()).collect();
    in_parallel(options.threads, &order, |&at| {
        progress.check()?;
        let digest = writer.digest(at)?;
        progress.advance(jobs.get(at).map_or(0, |job| job.length));
        let name = specs.get(at).map_or("", |spec| &*spec.name);
        if digests.get(at) == Some(&digest) { Ok(()) } else { Err(ConvertError::Differs { tensor: name.to_owned() }) }
    })?;

    let carried = match beside(checkpoint) {
        Some(directory) => carry(directory, writer.output().path())?,
        None => Vec::new(),
    };
    let (bytes, files) = (writer.layout().bytes(), writer.layout().files());
    let files = files.iter().map(|file| file.name.clone()).collect();
    writer.publish()?;
    Ok(Converted { tensors: specs.len(), aliases, bytes, files, carried })
}

/// Whether a finding says that the checkpoint is not what it should be, not only that it must be converted.
fn is_damage(finding: &Finding) -> bool {
    finding.severity == Severity::Error
        && ![code::STRIDED_TENSOR.id, code::COMPRESSED_MEMBER.id].contains(&finding.code.id)
}

/// Refuses GGML's blocks in one finding, not one for each of hundreds of tensors.
fn refuse_blocks(checkpoint: &Checkpoint) -> Result<(), ConvertError> {
    let unknown: Vec<&StoredTensor> =
        checkpoint.tensors.iter().filter(|tensor| tensor.dtype.safetensors().is_none()).collect();
    let Some(first) = unknown.first() else { return Ok(()) };
    let message = format!(
        "{} of {} tensors have a type that safetensors has not, `{}` ({}) first",
        unknown.len(),
        checkpoint.tensors.len(),
        first.name,
        first.dtype
    );
    let finding = Finding::new(&code::UNWRITABLE_TENSOR, message)
        .in_file(checkpoint.name.clone(), None, "")
        .help("`flow-fabric dequantize` gives their values as floats");
    Err(ConvertError::Refused { findings: vec![finding] })
}

fn spec(tensor: &StoredTensor) -> TensorSpec {
    TensorSpec { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() }
}

/// The tensors whose bytes are written, and the names of the others with the name of the tensor that has their bytes.
fn distinct(checkpoint: &Checkpoint) -> (Vec<&StoredTensor>, BTreeMap<String, String>) {
    let mut owners: HashMap<_, &str> = HashMap::new();
    let mut aliases = BTreeMap::new();
    let mut kept = Vec::new();
    for tensor in &checkpoint.tensors {
        let strided = match checkpoint.indirect.get(&tensor.name) {
            Some(Indirect::Strided { offset, strides }) => Some((*offset, strides.as_slice())),
            // Archives keep no array twice.
            Some(Indirect::Deflated { .. }) | None => None,
        };
        let placed = tensor.bytes.length > 0 && (tensor.bytes.offset.is_some() || strided.is_some());
        let key = (tensor.bytes, strided, tensor.dtype, tensor.shape.as_slice());
        match owners.get(&key).filter(|_| placed) {
            Some(&owner) => drop(aliases.insert(tensor.name.clone(), owner.to_owned())),
            None => {
                owners.insert(key, &tensor.name);
                kept.push(tensor);
            }
        }
    }
    (kept, aliases)
}

/// What safetensors' own `save_model` notes: the names that were left out, with the names that stand for them.
fn metadata(checkpoint: &Checkpoint, aliases: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut metadata = aliases.clone();
    if checkpoint.container == Container::Safetensors {
        // What all files agree on stays.
        let mut files = checkpoint.files.iter().map(|file| &file.metadata);
        for (key, value) in files.next().into_iter().flatten() {
            if let Some(text) = value.as_text().filter(|_| files.clone().all(|other| other.get(key) == Some(value))) {
                metadata.entry(key.clone()).or_insert_with(|| text.to_owned());
            }
        }
    }
    // transformers refuses a file without it. It says how to read the tensors, and these are torch's or as good as.
    metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
    metadata
}

fn jobs<'a>(
    checkpoint: &'a Checkpoint,
    kept: &[&'a StoredTensor],
    sources: &'a [SourceFile],
) -> Result<Vec<Job<'a>>, ConvertError> {
    let job = |(index, tensor): (usize, &&'a StoredTensor)| {
        let file = tensor.bytes.file.and_then(|file| sources.get(file.0 as usize));
        let source = match (checkpoint.indirect.get(&tensor.name), tensor.bytes.offset) {
            (Some(Indirect::Strided { offset, strides }), _) => Source::Strided { offset: *offset, strides },
            (Some(&Indirect::Deflated { offset, stored, skip }), _) => Source::Deflated { offset, stored, skip },
            (None, Some(offset)) => Source::Range { offset },
            (None, None) => return Err(ConvertError::NoBytes { tensor: tensor.name.clone() }),
        };
        let file = file.ok_or_else(|| ConvertError::NoBytes { tensor: tensor.name.clone() })?;
        let (dtype, shape, length) = (tensor.dtype, tensor.shape.as_slice(), tensor.bytes.length);
        Ok(Job { index, name: &tensor.name, file, source, dtype, shape, length })
    };
    kept.iter().enumerate().map(job).collect()
}

/// Opens what was written with the strict reader and compares names, dtypes and shapes.
fn verify_header(writer: &SafetensorsWriter, specs: &[TensorSpec]) -> Result<(), ConvertError> {
    for (number, file) in writer.layout().files().iter().enumerate() {
        let path = writer.output().path().join(&file.name);
        let differs = || ConvertError::Differs { tensor: file.name.clone() };
        let (written, findings) = Checkpoint::open(&path).map_err(|_| differs())?;
        let here = |at: &usize| writer.layout().placement(*at).is_some_and(|place| place.file == number);
        let mut expected: Vec<TensorSpec> =
            (0..specs.len()).filter(here).filter_map(|at| specs.get(at)).cloned().collect();
        let mut found: Vec<TensorSpec> =
            written.tensors.iter().filter(|tensor| !written.aliases.contains(&tensor.name)).map(spec).collect();
        expected.sort_by(|a, b| a.name.cmp(&b.name));
        found.sort_by(|a, b| a.name.cmp(&b.name));
        if crate::finding::worst(&findings) == Some(Severity::Error) || expected != found {
            return Err(differs());
        }
    }
    Ok(())
}

/// The directory whose config and tokenizer belong to the checkpoint: its own, when it is a directory or has a config there.
fn beside(checkpoint: &Checkpoint) -> Option<&Path> {
    let first = checkpoint.files.first()?.location.as_deref()?;
    let owned = checkpoint.config.is_some() || Path::new(&*checkpoint.name).is_dir();
    first.parent().filter(|_| owned)
}
