//! Putting a checkpoint together from its files.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::file::OpenFile;
use super::header::Header;
use super::index::ShardIndex;
use super::name;
use super::names::Names;
use super::trouble::{Report, Trouble, quoted};
use super::{ByteRange, Checkpoint, CheckpointFile, Container, FileId, StoredTensor};
use crate::Dtype;
use crate::finding::{Finding, code};

/// Largest tensor that is read because it holds a layout's shape.
const MAX_CONTENT: u64 = 4096;

/// Reads the header of a file of known length; reports what is wrong and gives `None` when the file is refused.
pub(super) type ReadHeader<R> = fn(&mut R, u64, &Arc<str>, &mut Vec<Finding>) -> Option<Header>;

/// A checkpoint in the making.
pub(super) struct Shards {
    pub(super) checkpoint: Checkpoint,
    pub(super) findings: Vec<Finding>,
    read: ReadHeader<File>,
    names: Names,
}

/// Which tensors of a shard to take: those an index maps to it, or all.
enum Take<'a> {
    All,
    Indexed { here: &'a HashSet<&'a str>, all: &'a HashSet<&'a str> },
}

impl Shards {
    /// A checkpoint of files that `read` reads.
    pub(super) fn new(name: impl Into<Arc<str>>, container: Container, read: ReadHeader<File>) -> Self {
        let checkpoint = Checkpoint::empty(name, container);
        Self { checkpoint, findings: Vec::new(), read, names: Names::default() }
    }

    pub(super) fn finish(mut self) -> (Checkpoint, Vec<Finding>) {
        // After all files: a tensor of any file goes before an alias of its name.
        (0..self.checkpoint.files.len())
            .for_each(|at| self.take_aliases(FileId(u32::try_from(at).unwrap_or(u32::MAX))));
        (self.checkpoint, self.findings)
    }

    /// Adds a file; whether it was taken.
    pub(super) fn add(&mut self, path: &Path) -> bool {
        self.add_taking(path, &Take::All).is_some()
    }

    /// Adds the shards of an index that lies in `directory`; `report` is about the index itself.
    pub(super) fn add_indexed(&mut self, directory: &Path, index: &ShardIndex, report: &mut Report) {
        let total: usize = index.shards.values().map(Vec::len).sum();
        let all: HashSet<&str> = index.shards.values().flatten().map(|(name, _)| name.as_str()).collect();
        let (mut absent, mut absent_tensors, mut refused) = (Vec::new(), 0, false);
        for (shard, mapped) in &index.shards {
            let path = directory.join(shard);
            if is_absent(&path) {
                absent.push(shard);
                absent_tensors += mapped.len();
                continue;
            }
            let here: HashSet<&str> = mapped.iter().map(|(name, _)| name.as_str()).collect();
            let Some(held) = self.add_taking(&path, &Take::Indexed { here: &here, all: &all }) else {
                refused = true;
                continue;
            };
            for (name, at) in mapped.iter().filter(|(name, _)| !held.contains(name)) {
                let message = format!("tensor {} is not in {}", quoted(name), quoted(shard));
                report.push(Trouble::new(&code::MISSING_TENSOR, *at, message));
            }
        }
        if !absent.is_empty() {
            let message = format!(
                "{} of {} shards are absent, with {absent_tensors} of {total} tensors",
                absent.len(),
                index.shards.len()
            );
            let first: Vec<String> = absent.iter().take(5).map(|shard| quoted(shard)).collect();
            let more = absent.len().saturating_sub(first.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            report.push(
                Trouble::anywhere(&code::MISSING_SHARD, message)
                    .help(format!("the inventory holds the present shards only; absent: {}{more}", first.join(", "))),
            );
        } else if !refused && let Some(claimed) = index.total_size {
            let held = self.checkpoint.tensors.iter().fold(0_u64, |sum, t| sum.saturating_add(t.bytes.length));
            if held != claimed {
                let unit = if claimed == 1 { "byte" } else { "bytes" };
                let message = format!("`total_size` says {claimed} {unit}, the tensors take {held}");
                report.push(Trouble::anywhere(&code::INDEX_TOTAL_SIZE, message));
            }
        }
    }

    /// Adds one file and returns the names it holds; `None` when it is refused.
    fn add_taking(&mut self, path: &Path, take: &Take<'_>) -> Option<HashSet<String>> {
        let shown: Arc<str> = path.display().to_string().into();
        let mut open = match OpenFile::open(path) {
            Ok(open) => open,
            Err(trouble) => {
                self.report_one(&shown, trouble);
                return None;
            }
        };
        let header = (self.read)(&mut open.file, open.stamp.size, &shown, &mut self.findings)?;
        let held = matches!(take, Take::Indexed { .. })
            .then(|| header.tensors.iter().map(|tensor| tensor.name.clone()).collect())
            .unwrap_or_default();
        let file = CheckpointFile {
            path: shown.clone(),
            location: Some(path.into()),
            size: Some(open.stamp.size),
            stamp: Some(open.stamp),
            metadata: header.metadata.clone(),
        };
        self.take(header, file, take, &mut open.file);
        if let Err(trouble) = open.check_unchanged() {
            self.report_one(&shown, trouble);
        }
        Some(held)
    }

    /// Adds a finding about a file.
    pub(super) fn report_one(&mut self, path: &Arc<str>, trouble: Trouble) {
        let mut report = Report::new(path);
        report.push(trouble);
        report.finish(&mut self.findings);
    }

    /// Takes over a header's tensors.
    fn take(&mut self, header: Header, file: CheckpointFile, take: &Take<'_>, reader: &mut (impl Read + Seek)) {
        let id = FileId(u32::try_from(self.checkpoint.files.len()).unwrap_or(u32::MAX));
        let mut report = Report::new(&file.path);
        self.checkpoint.files.push(file);
        let (mut unindexed, mut first) = (0, None);
        for tensor in header.tensors {
            if let Take::Indexed { here, all } = take
                && !here.contains(tensor.name.as_str())
            {
                if all.contains(tensor.name.as_str()) {
                    let message =
                        format!("tensor {} is in this shard too; the index names another", quoted(&tensor.name));
                    report.push(Trouble::anywhere(&code::DUPLICATE_TENSOR, message).help("the indexed one is taken"));
                    continue;
                }
                unindexed += 1;
                first.get_or_insert_with(|| quoted(&tensor.name));
            }
            if self.names.contains(&self.checkpoint.tensors, &tensor.name) {
                let message = format!("tensor {} is in an earlier file too", quoted(&tensor.name));
                report.push(Trouble::anywhere(&code::DUPLICATE_TENSOR, message).help("the earlier one is taken"));
                continue;
            }
            let bytes = ByteRange { file: Some(id), offset: tensor.offset, length: tensor.length };
            if let Some(indirect) = tensor.indirect {
                self.checkpoint.indirect.insert(tensor.name.clone(), indirect);
            }
            let tensor = StoredTensor { name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, bytes };
            if holds_a_shape(&tensor) {
                match read_content(reader, &tensor) {
                    Ok(content) => drop(self.checkpoint.contents.insert(tensor.name.clone(), content)),
                    Err(trouble) => report.push(trouble),
                }
            }
            self.checkpoint.tensors.push(tensor);
            self.names.note_last(&self.checkpoint.tensors);
        }
        if unindexed > 0 {
            let tensors = crate::units::counted(unindexed, "tensor");
            let (are, first) = (if unindexed == 1 { "is" } else { "are" }, first.unwrap_or_default());
            let first = if unindexed == 1 { format!(": {first}") } else { format!(", {first} first") };
            let message = format!("{tensors} of this shard {are} not in the index{first}");
            report
                .push(Trouble::anywhere(&code::UNINDEXED_TENSOR, message).help("nothing is left out of the inventory"));
        }
        report.finish(&mut self.findings);
    }
}

impl Shards {
    /// Adds the names that a file's metadata gives to its tensors beside their own, as safetensors' `save_model` writes tied
    /// weights: the name that was left out, with the name that stands for it. Anything else in the metadata is not about names.
    fn take_aliases(&mut self, id: FileId) {
        if self.checkpoint.container != Container::Safetensors {
            return;
        }
        let Some(file) = self.checkpoint.files.get(id.0 as usize) else { return };
        let pairs: Vec<(String, String)> = file
            .metadata
            .iter()
            .filter_map(|(alias, value)| Some((alias.clone(), value.as_text()?.to_owned())))
            .filter(|(alias, _)| name::objection(alias).is_none())
            .collect();
        if pairs.is_empty() {
            return;
        }
        let tensors = &self.checkpoint.tensors;
        let here = tensors.iter().enumerate().filter(|(_, tensor)| tensor.bytes.file == Some(id));
        let here: HashMap<&str, usize> = here.map(|(at, tensor)| (tensor.name.as_str(), at)).collect();
        let found: Vec<(String, StoredTensor)> = pairs
            .into_iter()
            .filter_map(|(alias, name)| Some((alias, tensors.get(*here.get(name.as_str())?)?.clone())))
            .collect();
        for (alias, tensor) in found {
            if !self.names.contains(&self.checkpoint.tensors, &alias) {
                self.checkpoint.aliases.insert(alias.clone());
                self.checkpoint.tensors.push(StoredTensor { name: alias, ..tensor });
                self.names.note_last(&self.checkpoint.tensors);
            }
        }
    }
}

/// A checkpoint of one file that is not on disk.
pub(super) fn of_reader<R: Read + Seek>(
    reader: &mut R,
    length: u64,
    name: &str,
    container: Container,
    read: ReadHeader<R>,
) -> (Checkpoint, Vec<Finding>) {
    let mut shards = Shards::new(name, container, |_, _, _, _| None);
    let path = shards.checkpoint.name.clone();
    if let Some(header) = read(reader, length, &path, &mut shards.findings) {
        let metadata = header.metadata.clone();
        let file = CheckpointFile { path, location: None, size: Some(length), stamp: None, metadata };
        shards.take(header, file, &Take::All, reader);
    }
    shards.finish()
}

/// Absent, or a link to what is absent.
pub(super) fn is_absent(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// bitsandbytes keeps a weight's logical shape in the bytes of a small tensor beside it.
fn holds_a_shape(tensor: &StoredTensor) -> bool {
    tensor.dtype == Dtype::U8
        && (1..=MAX_CONTENT).contains(&tensor.bytes.length)
        && tensor.name.contains(".quant_state.bitsandbytes__")
}

fn read_content(reader: &mut (impl Read + Seek), tensor: &StoredTensor) -> Result<Arc<[u8]>, Trouble> {
    let offset = tensor.bytes.offset.unwrap_or(0);
    let unreadable = |error: std::io::Error| {
        Trouble::new(&code::UNREADABLE_FILE, offset, format!("cannot read tensor {}: {error}", quoted(&tensor.name)))
    };
    reader.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
    let mut content = Vec::new();
    reader.take(tensor.bytes.length.min(MAX_CONTENT)).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 != tensor.bytes.length {
        let message = format!("the file ends inside tensor {}", quoted(&tensor.name));
        return Err(Trouble::new(&code::FILE_CHANGED, offset, message));
    }
    Ok(content.into())
}
