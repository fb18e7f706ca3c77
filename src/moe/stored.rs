//! A layer's weights in a checkpoint, decoded as they are read.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::weights::{WeightError, WeightSource};
use crate::inventory::{Inventory, Weight};
use crate::quantize::{Arithmetic, Decoder, Scratch};
use crate::storage::{ReadAt as _, ReadError, SourceFile};

/// The weights below one prefix of an inventory, whatever they are stored as.
///
/// Files are opened when they are first read from, and only the parts that are asked for are read.
#[derive(Debug)]
pub struct StoredWeights<'a> {
    inventory: &'a Inventory,
    /// By path below the prefix.
    weights: BTreeMap<&'a str, Stored<'a>>,
    files: Vec<OnceLock<Result<SourceFile, String>>>,
}

#[derive(Debug)]
struct Stored<'a> {
    weight: &'a Weight,
    decoder: OnceLock<Result<Decoder, String>>,
}

impl<'a> StoredWeights<'a> {
    /// The weights whose paths begin with `prefix` and a separator; an empty prefix stands for all.
    #[must_use]
    pub fn new(inventory: &'a Inventory, prefix: &str) -> Self {
        let below = |weight: &'a Weight| {
            let rest = weight.path.strip_prefix(prefix)?;
            let name =
                if prefix.is_empty() || prefix.ends_with(['/', '.']) { rest } else { rest.strip_prefix(['/', '.'])? };
            Some((name, Stored { weight, decoder: OnceLock::new() }))
        };
        Self {
            inventory,
            weights: inventory.weights.iter().filter_map(below).collect(),
            files: inventory.files.iter().map(|_| OnceLock::new()).collect(),
        }
    }

    /// Names of the weights below the prefix, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.weights.keys().copied()
    }

    /// The stored format of a weight.
    #[must_use]
    pub fn format(&self, name: &str) -> Option<&str> {
        self.weights.get(name).map(|stored| stored.weight.format.name())
    }

    /// Whether the files that were read from are still what they were: to be asked after the last read.
    ///
    /// # Errors
    /// A file that changed meanwhile, or cannot be asked.
    pub fn check_unchanged(&self) -> Result<(), ReadError> {
        self.files.iter().filter_map(|file| file.get()?.as_ref().ok()).try_for_each(SourceFile::check_unchanged)
    }

    fn file(&self, index: usize) -> Result<&SourceFile, String> {
        let (Some(slot), Some(file)) = (self.files.get(index), self.inventory.files.get(index)) else {
            return Err("its file is not known".to_owned());
        };
        slot.get_or_init(|| SourceFile::open(file).map_err(|error| error.to_string())).as_ref().map_err(Clone::clone)
    }

    fn decode(&self, stored: &Stored<'_>, start: usize, into: &mut [f32]) -> Result<(), String> {
        let decoder = stored
            .decoder
            .get_or_init(|| Decoder::new(stored.weight, Arithmetic::F32).map_err(|error| error.to_string()))
            .as_ref()
            .map_err(Clone::clone)?;
        let end = start.checked_add(into.len()).filter(|&end| end <= decoder.elements());
        let end = end.ok_or("a part beyond its end")?;
        // Decoders work on whole steps: rows, blocks, pairs of codes.
        let step = decoder.step().max(1);
        let first = start / step * step;
        let last = end.next_multiple_of(step).min(decoder.elements());
        let mut parts = Vec::with_capacity(stored.weight.components.len());
        for (index, component) in stored.weight.components.iter().enumerate() {
            let span = decoder.span(index, first, last - first);
            let mut bytes = vec![0; span.len()];
            if !bytes.is_empty() {
                let place = component.tensor.bytes;
                let (Some(file), Some(offset)) = (place.file, place.offset) else {
                    return Err("its bytes do not lie in the file as they are; convert the checkpoint first".to_owned());
                };
                let file = self.file(file.0 as usize)?;
                file.read_exact_at(&mut bytes, offset.saturating_add(span.start as u64))
                    .map_err(|error| error.to_string())?;
            }
            parts.push(bytes);
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut scratch = Scratch::default();
        let decoded = if (first, last) == (start, end) {
            decoder.decode(first, &parts, into, &mut scratch)
        } else {
            let mut whole = vec![0.0; last - first];
            let decoded = decoder.decode(first, &parts, &mut whole, &mut scratch);
            into.copy_from_slice(whole.get(start - first..end - first).unwrap_or_default());
            decoded
        };
        decoded.map_err(|error| error.to_string())
    }
}

impl WeightSource for StoredWeights<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let weight = self.weights.get(name)?.weight;
        weight.shape.iter().map(|&size| usize::try_from(size).ok()).collect()
    }

    fn read(&self, name: &str, start: usize, into: &mut [f32]) -> Result<(), WeightError> {
        let error = |reason: String| WeightError { name: name.to_owned(), reason };
        let stored = self.weights.get(name).ok_or_else(|| error("there is no such tensor".to_owned()))?;
        self.decode(stored, start, into).map_err(error)
    }
}
