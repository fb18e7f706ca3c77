//! A device's own checkpoint: its slices as safetensors files that load at file speed.

use std::collections::BTreeMap;
use std::path::Path;

use super::{LoadError, Loader, ReadPlan};
use crate::output::{self, Layout, OutputDirectory, OutputError, OutputOptions, SafetensorsWriter, TensorSpec};
use crate::progress::Progress;

/// How a device's checkpoint is written.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions<'a> {
    /// Replace what is there.
    pub replace: bool,
    /// Most bytes of a file, unless one tensor is larger.
    pub shard_bytes: Option<u64>,
    /// What goes into the files' `__metadata__` and into the index: policy, mesh, device.
    pub metadata: BTreeMap<String, String>,
    /// A directory whose small files (config, tokenizer) go along.
    pub carry: Option<&'a Path>,
    /// Further files: name and content.
    pub files: Vec<(String, String)>,
}

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Reading failed, or was cancelled.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Writing failed.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Reads the tensors of a device and writes them to a directory that appears when it is complete.
///
/// Memory holds a few tensors at a time. Names are those of the checkpoint, shapes those of the device.
///
/// # Errors
/// Reading or writing fails, or the work is cancelled; then nothing appears.
pub fn export(
    plan: &ReadPlan,
    loader: &mut Loader<'_>,
    target: &Path,
    options: &ExportOptions<'_>,
    progress: &dyn Progress,
) -> Result<(), ExportError> {
    let spec = |target: &super::Target| TensorSpec {
        name: target.name.clone(),
        dtype: target.dtype,
        shape: target.shape.clone(),
    };
    let specs: Vec<TensorSpec> = plan.targets.iter().map(spec).collect();
    let layout = Layout::new(&specs, &options.metadata, options.shard_bytes)?;
    OutputDirectory::check_apart(target, plan.files.iter().filter_map(|file| file.location.as_deref()))?;
    let output =
        OutputDirectory::create(target, &OutputOptions { replace: options.replace, ..OutputOptions::default() })?;
    let writer = SafetensorsWriter::create(output, layout)?;
    for (index, tensor) in loader.tensors(progress).enumerate() {
        writer.write_at(index, 0, &tensor?.bytes)?;
    }
    let folder = writer.output().path().to_owned();
    for (name, content) in &options.files {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(OutputError::io("write", &path))?;
    }
    if let Some(from) = options.carry {
        output::carry(from, &folder)?;
    }
    progress.check().map_err(LoadError::from)?;
    writer.publish()?;
    Ok(())
}
