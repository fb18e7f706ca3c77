//! The values of a unit, read and decoded part by part.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::RunError;
use super::work::Input;
use crate::inventory::{Container, FileId, Inventory, StoredTensor, Weight};
use crate::quantize::{Scratch, Values};
use crate::storage::{ReadAt as _, ReadError, SourceFile};

/// Files that are open at a time, at most: a checkpoint of pickled arrays has a thousand.
const MOST_OPEN: usize = 128;

/// The files of a checkpoint, opened when they are first read.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    inventory: &'a Inventory,
    open: Mutex<Vec<Slot>>,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    file: Option<Arc<SourceFile>>,
    used: bool,
}

/// Buffers of one thread for what it reads. They grow to what the largest part needs.
#[derive(Debug, Default)]
pub(super) struct SourceBuffers {
    bytes: Vec<Vec<u8>>,
    wide: Vec<f32>,
    picked: Vec<f32>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(inventory: &'a Inventory) -> Self {
        Self { inventory, open: Mutex::new(vec![Slot::default(); inventory.files.len()]) }
    }

    /// Fills `bytes` with what a stored tensor has from `offset` on.
    pub(super) fn read(&self, tensor: &StoredTensor, offset: u64, bytes: &mut [u8]) -> Result<(), RunError> {
        let path = self.inventory.name.clone();
        match (tensor.bytes.file, tensor.bytes.offset) {
            (Some(id), Some(start)) => Ok(self.file(id)?.read_exact_at(bytes, start.saturating_add(offset))?),
            (Some(_), None) if self.inventory.container != Container::List => {
                Err(RunError::Indirect { name: tensor.name.clone(), file: path })
            }
            _ => Err(ReadError::NoBytes { path }.into()),
        }
    }

    fn file(&self, id: FileId) -> Result<Arc<SourceFile>, ReadError> {
        let none = || ReadError::NoBytes { path: self.inventory.name.clone() };
        let index = usize::try_from(id.0).map_err(|_| none())?;
        let described = self.inventory.files.get(index).ok_or_else(none)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Slot { file: Some(file), .. }) = open.get(index) {
            return Ok(file.clone());
        }
        if open.iter().filter(|slot| slot.file.is_some()).count() >= MOST_OPEN {
            for slot in open.iter_mut() {
                if let Some(file) = slot.file.take() {
                    file.check_unchanged()?;
                }
            }
        }
        let file = Arc::new(SourceFile::open(described)?);
        if let Some(slot) = open.get_mut(index) {
            *slot = Slot { file: Some(file.clone()), used: true };
        }
        Ok(file)
    }

    /// Whether every file that was read is still what it was when its header was read.
    ///
    /// # Errors
    /// [`ReadError::Changed`] of the first that is not.
    pub(super) fn check_unchanged(&self) -> Result<(), ReadError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, described) in open.iter().zip(&self.inventory.files).filter(|(slot, _)| slot.used) {
            match &slot.file {
                Some(file) => file.check_unchanged()?,
                None => drop(SourceFile::open(described)?),
            }
        }
        Ok(())
    }

    /// The values of a part of a unit.
    pub(super) fn values<'b>(
        &self,
        weight: &Weight,
        input: &Input,
        part: &Range<usize>,
        buffers: &'b mut SourceBuffers,
        scratch: &mut Scratch,
    ) -> Result<Values<'b>, RunError> {
        let cover = input.region.cover(part);
        let whole = aligned(&cover, input.decoder.step(), input.decoder.elements());
        let SourceBuffers { bytes, wide, picked } = buffers;
        bytes.resize_with(bytes.len().max(weight.components.len()), Vec::new);
        let mut stored: Vec<&[u8]> = Vec::with_capacity(weight.components.len());
        for (index, (component, buffer)) in weight.components.iter().zip(bytes.iter_mut()).enumerate() {
            let span = input.decoder.span(index, whole.start, whole.len());
            let bytes = sized(buffer, span.len());
            self.read(&component.tensor, span.start as u64, bytes)?;
            stored.push(bytes);
        }
        if let (Some(dtype), true) = (input.plain, input.region.is_consecutive())
            && let Some(values) = stored.first().and_then(|bytes| Values::stored(dtype, bytes))
        {
            return Ok(values);
        }
        let values = sized(wide, whole.len());
        input.decoder.decode(whole.start, &stored, values, scratch)?;
        if input.region.is_consecutive() {
            let from = cover.start - whole.start;
            return Ok(Values::F32(values.get(from..from + part.len()).unwrap_or_default()));
        }
        input.region.pick(part, whole.start, values, picked);
        Ok(Values::F32(picked))
    }
}

/// The least range of whole steps around a range.
fn aligned(range: &Range<usize>, step: usize, end: usize) -> Range<usize> {
    let step = step.max(1);
    range.start / step * step..range.end.next_multiple_of(step).min(end)
}

/// The first `length` elements of a buffer that grows when it must and keeps what it has.
pub(super) fn sized<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        // Not more than asked for: buffers are what the memory budget counts.
        buffer.reserve_exact(length - buffer.len());
        buffer.resize(length, T::default());
    }
    buffer.get_mut(..length).unwrap_or_default()
}

impl SourceBuffers {
    /// Gives back memory beyond `most` bytes a buffer.
    pub(super) fn shrink(&mut self, most: usize) {
        self.bytes.iter_mut().for_each(|buffer| shrink(buffer, most));
        shrink(&mut self.wide, most);
        shrink(&mut self.picked, most);
    }
}

pub(super) fn shrink<T>(buffer: &mut Vec<T>, most: usize) {
    if buffer.capacity() * size_of::<T>() > most {
        *buffer = Vec::new();
    }
}
