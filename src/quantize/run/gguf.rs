//! GGUF as the container of a run: the files of a GGUF source again, or one file that takes its metadata from another.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::{Container, RunError};
use crate::finding::{Finding, code};
use crate::inventory::{self, Checkpoint, GgufPairs, Inventory};
use crate::output::{GgufFile, Layout, OutputError, TensorSpec};

/// Name of the file that is written for a source of another format.
const NAME: &str = "model.gguf";
/// Names that a finding quotes.
const QUOTED: usize = 12;

/// GGUF files: their key-value pairs, and which tensor goes to which.
///
/// A GGUF source keeps its files, with their names and pairs byte for byte; only `general.file_type` and
/// `general.quantization_version` follow the types that are written. For any other source there is one file, whose pairs come
/// from a GGUF file of the same model, or are absent.
#[derive(Debug, Clone, Default)]
pub struct Gguf {
    files: Vec<GgufFile>,
    /// File of each stored tensor, by name, where that is not the first.
    homes: HashMap<String, usize>,
    /// The model that the pairs come from, when it is not the source.
    template: Option<Checkpoint>,
}

impl Gguf {
    /// Files for a checkpoint; `metadata` is a GGUF file whose pairs are taken instead.
    ///
    /// # Errors
    /// [`RunError::Metadata`] when the pairs of a file cannot be read.
    pub fn of(inventory: &Inventory, metadata: Option<&Path>) -> Result<Self, RunError> {
        let mut gguf = Self::default();
        if let Some(path) = metadata {
            gguf.files.push(GgufFile { name: NAME.to_owned(), pairs: read(path)? });
            gguf.template = Checkpoint::open(path).ok().map(|(template, _)| template);
        } else if inventory.container == inventory::Container::Gguf {
            for location in inventory.files.iter().filter_map(|file| file.location.as_deref()) {
                let name = location.file_name().unwrap_or_default().to_string_lossy().into_owned();
                gguf.files.push(GgufFile { name, pairs: read(location)? });
            }
            gguf.homes = homes(inventory);
        }
        if gguf.files.is_empty() {
            gguf.files.push(GgufFile { name: NAME.to_owned(), pairs: GgufPairs::default() });
        }
        Ok(gguf)
    }
}

impl Container for Gguf {
    fn lay_out(&self, tensors: &[TensorSpec], _: &BTreeMap<String, String>) -> Result<Layout, OutputError> {
        let home = |at: usize| tensors.get(at).and_then(|tensor| self.homes.get(&tensor.name)).copied().unwrap_or(0);
        let mut files = self.files.clone();
        for (index, file) in files.iter_mut().enumerate() {
            file.describe_types(tensors.iter().enumerate().filter(|(at, _)| home(*at) == index).map(|(_, one)| one));
        }
        Layout::gguf(&files, tensors, home)
    }

    /// What an engine will miss: keys, and tensors of the model that the pairs come from.
    fn remarks(&self, tensors: &[TensorSpec]) -> Vec<Finding> {
        let keys = self.files.first().map(GgufFile::missing_keys).unwrap_or_default();
        let keys = (!keys.is_empty()).then(|| {
            let message = format!("the GGUF file lacks {} that engines need", crate::units::counted(keys.len(), "key"));
            let finding = Finding::new(&code::ENGINE_METADATA, message).note(quoted(&keys));
            finding.help("`--metadata-from FILE.gguf` takes them from a GGUF file of the same model")
        });
        keys.into_iter().chain(self.template.as_ref().and_then(|template| against(template, tensors))).collect()
    }
}

fn read(path: &Path) -> Result<GgufPairs, RunError> {
    let (pairs, mut findings) = GgufPairs::read(path);
    pairs.ok_or_else(|| RunError::Metadata { path: path.display().to_string(), finding: findings.pop().map(Box::new) })
}

/// The file of each tensor that is not in the first.
fn homes(inventory: &Inventory) -> HashMap<String, usize> {
    let mut homes = HashMap::new();
    for weight in &inventory.weights {
        for component in &weight.components {
            let file = component.tensor.bytes.file.map_or(0, |file| file.0 as usize);
            if file > 0 {
                // Under either name: a copied tensor keeps its own unless the weight was renamed.
                homes.insert(component.tensor.name.clone(), file);
                homes.insert(weight.path.clone(), file);
            }
        }
    }
    homes
}

/// Tensors that the template has and the output has not, or in another shape.
fn against(template: &Checkpoint, tensors: &[TensorSpec]) -> Option<Finding> {
    let shapes: HashMap<&str, &[u64]> =
        tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    let differs = |tensor: &&inventory::StoredTensor| shapes.get(&*tensor.name) != Some(&&*tensor.shape);
    let names: Vec<String> = template.tensors.iter().filter(differs).map(|tensor| tensor.name.clone()).collect();
    if names.is_empty() {
        return None;
    }
    let message = format!(
        "{} of `{}` have no tensor of that name and shape in what is written",
        crate::units::counted(names.len(), "tensor"),
        template.name
    );
    let finding = Finding::new(&code::ENGINE_METADATA, message).note(quoted(&names));
    Some(finding.help("`[loader] rename` gives tensors the names that the engine reads"))
}

/// The first of several names.
fn quoted(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(QUOTED).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(QUOTED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
