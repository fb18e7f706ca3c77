//! Units through survey, encoding, writing and reading back, on all threads within a memory budget.
//!
//! Units are handled in batches, in order: all parts that have to be surveyed, then all parts once more. A batch is as
//! large as what its surveys keep allows, so that threads seldom wait for each other. Where a part begins and ends
//! depends on the unit alone, so that neither bytes nor figures depend on threads or memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::source::{SourceBuffers, Sources, shrink, sized};
use super::tally::{Outcome, Tally};
use super::work::{Compare, Encode, Task, Unit, Work};
use super::{RunError, queue};
use crate::inventory::{Inventory, Weight};
use crate::output::SafetensorsWriter;
use crate::progress::Progress;
use crate::quantize::{Decoder, Drift, Format, Scratch, Settled, Survey, Values};

/// Values of a part, as far as the format's steps allow.
const PART: usize = 1 << 18;
/// Bytes of a part of what is copied.
const COPIED: usize = 1 << 20;
/// Values that are decoded and compared at a time: they stay in the nearest caches.
const COMPARED: usize = 1 << 14;

/// What a run is made with, besides its work.
pub(super) struct Execution<'a> {
    pub(super) work: &'a Work<'a>,
    /// Where bytes go; `None` keeps them in memory until they are compared.
    pub(super) writer: Option<&'a SafetensorsWriter>,
    /// The checkpoint that is compared with.
    pub(super) other: Option<(&'a Inventory, &'a Sources<'a>)>,
    pub(super) memory: u64,
    pub(super) threads: usize,
    /// Reads back and compares what was written.
    pub(super) verify: bool,
    pub(super) progress: &'a dyn Progress,
}

/// Nanoseconds of all threads together.
#[derive(Debug, Default)]
pub(super) struct Clock {
    pub(super) read: AtomicU64,
    pub(super) survey: AtomicU64,
    pub(super) encode: AtomicU64,
    pub(super) write: AtomicU64,
    pub(super) read_back: AtomicU64,
    pub(super) compare: AtomicU64,
}

/// Adds the time that `work` takes.
fn timed<T>(clock: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    clock.fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    done
}

/// Buffers of one thread.
#[derive(Debug, Default)]
struct Worker {
    source: SourceBuffers,
    scratch: Scratch,
    /// Bytes of each component of a part.
    out: Vec<Vec<u8>>,
    before: Vec<f32>,
    after: Vec<f32>,
    steps: Vec<f32>,
    /// The survey of the unit that was last at, until another one is.
    survey: Option<(usize, Survey)>,
}

/// What is kept of a unit while its batch is handled.
#[derive(Debug)]
struct State {
    unit: usize,
    /// Values, or bytes, of a part.
    part: usize,
    parts: usize,
    survey: Mutex<Option<Survey>>,
    settled: Option<Settled>,
    /// Values that the survey found not to be finite.
    nonfinite: u64,
    /// Bytes of the components that no part writes.
    fixed: Vec<Option<Vec<u8>>>,
    /// An earlier run had written it.
    written: bool,
    partial: Mutex<Partial>,
}

#[derive(Debug, Default)]
struct Partial {
    done: usize,
    drift: Option<Drift>,
    nonfinite: u64,
}

impl Execution<'_> {
    /// Handles every unit.
    ///
    /// # Errors
    /// The first thing that kept the work from being done, by its place in the checkpoint.
    pub(super) fn run(&self, sources: &Sources<'_>, clock: &Clock) -> Result<Tally, RunError> {
        let tally = Mutex::new(Tally::default());
        let mut workers: Vec<Worker> = Vec::new();
        for batch in self.batches()? {
            workers.resize_with(batch.threads, Worker::default);
            if batch.large {
                workers.iter_mut().for_each(|worker| worker.shrink(0));
            }
            self.batch(batch, sources, clock, &mut workers, &tally)?;
            workers.iter_mut().for_each(|worker| worker.shrink(PART * 4));
        }
        Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cuts the work into batches.
    fn batches(&self) -> Result<Vec<Batch>, RunError> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut families: BTreeMap<usize, usize> = BTreeMap::new();
        for (index, unit) in self.work.units.iter().enumerate() {
            match unit.family {
                None => groups.push(vec![index]),
                Some(family) => match families.get(&family).copied() {
                    Some(group) => {
                        if let Some(group) = groups.get_mut::<usize>(group) {
                            group.push(index);
                        }
                    }
                    None => {
                        families.insert(family, groups.len());
                        groups.push(vec![index]);
                    }
                },
            }
        }
        let mut batches: Vec<Batch> = Vec::new();
        for group in groups {
            let units = || group.iter().filter_map(|&index| self.work.units.get(index));
            let state = units().map(|unit| self.kept(unit)).sum::<u64>();
            let (path, need) =
                units().map(|unit| (&unit.path, needed(unit))).max_by_key(|(_, need)| *need).unwrap_or((&NO_PATH, 0));
            if state.saturating_add(need) > self.memory {
                let needed = state.saturating_add(need);
                return Err(RunError::Memory { path: path.clone(), needed, budget: self.memory });
            }
            let large = need > USUAL;
            match batches.last_mut() {
                Some(last) if last.large == large && last.state + state <= self.memory / 4 => {
                    last.units.extend(&group);
                    last.state += state;
                    last.need = last.need.max(need);
                }
                _ => batches.push(Batch { units: group, state, need, large, threads: 1 }),
            }
        }
        for batch in &mut batches {
            let most = (self.memory - batch.state) / batch.need.max(1);
            batch.threads = usize::try_from(most).unwrap_or(usize::MAX).clamp(1, self.threads);
        }
        Ok(batches)
    }

    /// Bytes that are kept of a unit while its batch is handled.
    fn kept(&self, unit: &Unit) -> u64 {
        let Task::Encode(encode) = &unit.task else { return 1 << 8 };
        let encoder = &encode.encoder;
        let components = encoder.encoded().components.iter().enumerate();
        let fixed: u64 = components.filter(|(index, _)| encoder.is_fixed(*index)).map(|(_, one)| one.bytes).sum();
        // Extremes are two f32 a cell, in every thread and merged; cells another two.
        let surveyed = if encoder.is_surveyed() { fixed.saturating_mul(4 * (self.threads as u64 + 2)) } else { 0 };
        let compared = encoder.elements() as u64 / COMPARED as u64 * 64 + (80 << 10);
        fixed + surveyed + compared
    }

    fn batch(
        &self,
        batch: Batch,
        sources: &Sources<'_>,
        clock: &Clock,
        workers: &mut [Worker],
        tally: &Mutex<Tally>,
    ) -> Result<(), RunError> {
        let mut states = Vec::with_capacity(batch.units.len());
        for index in batch.units {
            let Some(unit) = self.work.units.get(index) else { continue };
            states.push(self.state(index, unit)?);
        }
        self.take_up_families(&mut states);
        let surveyed: Vec<(usize, usize)> = states
            .iter()
            .enumerate()
            .filter(|(_, state)| !state.written && self.encode(state).is_some_and(|one| one.encoder.is_surveyed()))
            .flat_map(|(at, state)| (0..state.parts).map(move |part| (at, part)))
            .collect();
        let survey = |worker: &mut Worker, number: usize| {
            self.progress.check()?;
            match surveyed.get(number).and_then(|&(at, part)| Some((at, states.get(at)?, part))) {
                Some((at, state, part)) => self.survey(at, &states, state, part, (sources, clock), worker),
                None => Ok(()),
            }
        };
        queue::each(workers, surveyed.len(), survey, |worker| flush(worker, &states))?;
        self.settle(&mut states, clock)?;

        let parts: Vec<(usize, usize)> = states
            .iter()
            .enumerate()
            .flat_map(|(at, state)| (0..state.parts.max(1)).map(move |part| (at, part)))
            .collect();
        let main = |worker: &mut Worker, number: usize| {
            self.progress.check()?;
            let Some((state, part)) = parts.get(number).and_then(|&(at, part)| Some((states.get(at)?, part))) else {
                return Ok(());
            };
            self.part(state, part, sources, clock, worker, tally)
        };
        queue::each(workers, parts.len(), main, |_| ())
    }

    /// What an earlier run wrote of a family counts only when it wrote all of it: the scale that they share comes from the
    /// values of every member.
    fn take_up_families(&self, states: &mut [State]) {
        let family = |state: &State| self.work.units.get(state.unit).and_then(|unit| unit.family);
        let begun: BTreeSet<usize> = states.iter().filter(|state| !state.written).filter_map(family).collect();
        for state in states {
            state.written = state.written && family(state).is_none_or(|family| !begun.contains(&family));
        }
    }

    fn encode(&self, state: &State) -> Option<&Encode> {
        match self.work.units.get(state.unit).map(|unit| &unit.task) {
            Some(Task::Encode(encode)) => Some(encode),
            _ => None,
        }
    }

    fn state(&self, index: usize, unit: &Unit) -> Result<State, RunError> {
        let part = part_of(unit);
        let parts = match &unit.task {
            Task::Copy => {
                let lengths = self.lengths(unit);
                lengths.map(|length| length.div_ceil(COPIED)).sum()
            }
            _ => usize::try_from(unit.size()).unwrap_or(usize::MAX).div_ceil(part),
        };
        let mut written = false;
        if let Some(writer) = self.writer {
            written = !unit.outputs.is_empty();
            for output in unit.outputs.clone() {
                written = written && writer.is_finished(output)?;
            }
        }
        let survey = match &unit.task {
            Task::Encode(encode) => Some(encode.encoder.survey()),
            _ => None,
        };
        Ok(State {
            unit: index,
            part,
            parts,
            survey: Mutex::new(survey),
            settled: None,
            nonfinite: 0,
            fixed: vec![None; unit.outputs.len()],
            written,
            partial: Mutex::default(),
        })
    }

    /// Lengths of the stored tensors of a unit that is copied.
    fn lengths(&self, unit: &Unit) -> impl Iterator<Item = usize> {
        let components = self.work.inventory.weights.get(unit.weight).map(|weight| &weight.components[..]);
        components
            .unwrap_or_default()
            .iter()
            .map(|component| usize::try_from(component.tensor.bytes.length).unwrap_or(usize::MAX))
    }

    fn survey(
        &self,
        at: usize,
        states: &[State],
        state: &State,
        part: usize,
        (sources, clock): (&Sources<'_>, &Clock),
        worker: &mut Worker,
    ) -> Result<(), RunError> {
        let (Some(unit), Some(encode)) = (self.work.units.get(state.unit), self.encode(state)) else { return Ok(()) };
        if worker.survey.as_ref().is_some_and(|(other, _)| *other != at) {
            flush(worker, states);
        }
        let range = range_of(state, unit, part);
        let Worker { source, scratch, survey, .. } = worker;
        let values = self.values(unit, &range, sources, clock, source, scratch)?;
        let (_, survey) = survey.get_or_insert_with(|| (at, encode.encoder.survey()));
        timed(&clock.survey, || encode.encoder.add(survey, range.start, values, scratch));
        Ok(())
    }

    fn values<'b>(
        &self,
        unit: &Unit,
        range: &Range<usize>,
        sources: &Sources<'_>,
        clock: &Clock,
        buffers: &'b mut SourceBuffers,
        scratch: &mut Scratch,
    ) -> Result<Values<'b>, RunError> {
        let (Some(weight), Some(input)) = (self.work.inventory.weights.get(unit.weight), unit.input()) else {
            return Ok(Values::F32(&[]));
        };
        timed(&clock.read, || sources.values(weight, input, range, buffers, scratch))
    }

    /// Settles what all parts of a unit share, once all of them are surveyed, and writes what no part does.
    fn settle(&self, states: &mut [State], clock: &Clock) -> Result<(), RunError> {
        let mut shared: BTreeMap<usize, Survey> = BTreeMap::new();
        for state in states.iter() {
            let family = self.work.units.get(state.unit).and_then(|unit| unit.family);
            let survey = state.survey.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(family), Some(survey)) = (family, &*survey) {
                shared.entry(family).and_modify(|own| own.merge(survey)).or_insert_with(|| survey.clone());
            }
        }
        for state in states {
            let Some(unit) = self.work.units.get(state.unit) else { continue };
            let survey = state.survey.get_mut().unwrap_or_else(PoisonError::into_inner).take();
            let Some(encode) = self.encode(state) else { continue };
            state.nonfinite = survey.as_ref().map_or(0, |survey| survey.counts.nonfinite);
            let own = unit.family.and_then(|family| shared.get(&family)).or(survey.as_ref());
            let settled = own.map(|survey| encode.encoder.settle(survey));
            for (index, (output, fixed)) in unit.outputs.clone().zip(state.fixed.iter_mut()).enumerate() {
                let Some(settled) = settled.as_ref().filter(|_| encode.encoder.is_fixed(index)) else { continue };
                let Some(mut bytes) = encode.encoder.fixed(settled, index) else { continue };
                if let Some(writer) = self.writer {
                    if !state.written {
                        timed(&clock.write, || writer.write_at(output, 0, &bytes))?;
                    }
                    timed(&clock.read_back, || writer.read_at(output, 0, &mut bytes))?;
                }
                *fixed = Some(bytes);
            }
            state.settled = settled;
        }
        Ok(())
    }

    /// Writes a part and compares it with what is read back.
    fn part(
        &self,
        state: &State,
        part: usize,
        sources: &Sources<'_>,
        clock: &Clock,
        worker: &mut Worker,
        tally: &Mutex<Tally>,
    ) -> Result<(), RunError> {
        let Some(unit) = self.work.units.get(state.unit) else { return Ok(()) };
        self.progress.at(&unit.path);
        let (drift, nonfinite) = match &unit.task {
            Task::Copy => {
                self.copy(state, unit, part, sources, clock, worker)?;
                (None, 0)
            }
            _ => self.encoded(state, unit, part, sources, clock, worker)?,
        };
        self.progress.advance(unit.stored_bytes / state.parts.max(1) as u64);
        let mut partial = state.partial.lock().unwrap_or_else(PoisonError::into_inner);
        partial.nonfinite += nonfinite;
        partial.drift = match (partial.drift.take(), drift) {
            (Some(mut own), Some(other)) => {
                own.merge(&other);
                Some(own)
            }
            (own, other) => own.or(other),
        };
        partial.done += 1;
        if partial.done < state.parts {
            return Ok(());
        }
        let Partial { drift, nonfinite, .. } = std::mem::take(&mut *partial);
        drop(partial);
        if let Some(writer) = self.writer.filter(|_| !state.written) {
            for output in unit.outputs.clone() {
                timed(&clock.read_back, || writer.finish(output))?;
            }
        }
        let outcome = Outcome { rule: unit.rule, drift, nonfinite: nonfinite.max(state.nonfinite) };
        tally.lock().unwrap_or_else(PoisonError::into_inner).add(state.unit, outcome);
        Ok(())
    }

    /// A part of what is encoded or cast.
    fn encoded(
        &self,
        state: &State,
        unit: &Unit,
        part: usize,
        sources: &Sources<'_>,
        clock: &Clock,
        worker: &mut Worker,
    ) -> Result<(Option<Drift>, u64), RunError> {
        let range = range_of(state, unit, part);
        let Worker { source, scratch, out, before, after, steps, .. } = worker;
        if state.written && !self.verify {
            return Ok((None, 0));
        }
        let values = self.values(unit, &range, sources, clock, source, scratch)?;
        let spans: Vec<Range<usize>> = match &unit.task {
            Task::Encode(encode) => {
                (0..unit.outputs.len()).map(|at| encode.encoder.span(at, range.start, range.len())).collect()
            }
            Task::Compare(compare) => {
                let components = self.partner(compare).map_or(0, |weight| weight.components.len());
                (0..components).map(|at| compare.decoder.span(at, range.start, range.len())).collect()
            }
            _ => unit.decoder().map(|decoder| decoder.span(0, range.start, range.len())).into_iter().collect(),
        };
        out.resize_with(out.len().max(spans.len()), Vec::new);
        let mut bytes: Vec<&mut [u8]> =
            out.iter_mut().zip(&spans).map(|(buffer, span)| sized(buffer, span.len())).collect();
        let mut nonfinite = 0;
        if !state.written {
            match (&unit.task, &state.settled) {
                (Task::Encode(encode), Some(settled)) => {
                    let encode = || encode.encoder.encode(settled, range.start, values, &mut bytes, scratch);
                    nonfinite = timed(&clock.encode, encode).nonfinite;
                }
                (Task::Cast(cast), _) => timed(&clock.encode, || cast_part(values, cast.dtype, before, &mut bytes)),
                (Task::Compare(compare), _) => timed(&clock.read_back, || self.other(compare, &spans, &mut bytes))?,
                _ => {}
            }
        }
        // The encoder took the slices: they are cut again from the buffers that it filled.
        let mut bytes: Vec<&mut [u8]> =
            out.iter_mut().zip(&spans).map(|(buffer, span)| sized(buffer, span.len())).collect();
        if let Some(writer) = self.writer {
            for ((output, span), bytes) in unit.outputs.clone().zip(&spans).zip(&mut bytes) {
                if span.is_empty() {
                    continue;
                }
                if !state.written {
                    timed(&clock.write, || writer.write_at(output, span.start as u64, bytes))?;
                }
                if self.verify {
                    timed(&clock.read_back, || writer.read_at(output, span.start as u64, bytes))?;
                }
            }
        }
        let (true, Some(decoder)) = (self.verify, unit.decoder()) else { return Ok((None, nonfinite)) };
        let group = group_of(unit);
        let mut drift = Drift::new(group);
        let compared = Compared { decoder, group, range, spans: &spans, bytes: &bytes, fixed: &state.fixed };
        let with_steps = match &unit.task {
            Task::Encode(_) => true,
            Task::Compare(compare) => !compare.plain,
            _ => false,
        };
        timed(&clock.compare, || compared.run(values, with_steps, &mut drift, (before, after, steps), scratch))?;
        Ok((Some(drift), nonfinite))
    }

    /// The weight that a unit is compared with.
    fn partner(&self, compare: &Compare) -> Option<&Weight> {
        self.other.and_then(|(inventory, _)| inventory.weights.get(compare.other))
    }

    /// Reads what a part is compared with.
    fn other(&self, compare: &Compare, spans: &[Range<usize>], bytes: &mut [&mut [u8]]) -> Result<(), RunError> {
        let (Some((_, sources)), Some(weight)) = (self.other, self.partner(compare)) else { return Ok(()) };
        for ((component, span), bytes) in weight.components.iter().zip(spans).zip(bytes) {
            sources.read(&component.tensor, span.start as u64, bytes)?;
        }
        Ok(())
    }

    /// A part of what is copied: bytes of one of its stored tensors.
    fn copy(
        &self,
        state: &State,
        unit: &Unit,
        mut part: usize,
        sources: &Sources<'_>,
        clock: &Clock,
        worker: &mut Worker,
    ) -> Result<(), RunError> {
        let (Some(writer), false) = (self.writer, state.written) else { return Ok(()) };
        let Some(weight) = self.work.inventory.weights.get(unit.weight) else { return Ok(()) };
        let parts = self.lengths(unit).map(|length| length.div_ceil(COPIED));
        let pieces: Vec<usize> = parts.collect();
        for ((component, output), parts) in weight.components.iter().zip(unit.outputs.clone()).zip(pieces) {
            if part >= parts {
                part -= parts;
                continue;
            }
            let length = usize::try_from(component.tensor.bytes.length).unwrap_or(usize::MAX);
            let start = part * COPIED;
            let count = COPIED.min(length - start);
            worker.out.resize_with(worker.out.len().max(2), Vec::new);
            let [from, back, ..] = &mut worker.out[..] else { return Ok(()) };
            let (from, back) = (sized(from, count), sized(back, count));
            timed(&clock.read, || sources.read(&component.tensor, start as u64, from))?;
            timed(&clock.write, || writer.write_at(output, start as u64, from))?;
            if self.verify {
                timed(&clock.read_back, || writer.read_at(output, start as u64, back))?;
                if from != back {
                    return Err(RunError::Differs { path: unit.path.clone() });
                }
            }
            return Ok(());
        }
        Ok(())
    }
}

static NO_PATH: String = String::new();

/// Bytes that the largest usual part needs; parts that need more have batches, and fewer threads, of their own.
const USUAL: u64 = 24 << 20;

/// Units that are handled together.
struct Batch {
    units: Vec<usize>,
    /// Bytes kept of them all.
    state: u64,
    /// Bytes that the largest part of any of them needs.
    need: u64,
    large: bool,
    threads: usize,
}

/// Values, or bytes, of a part of a unit: depends on the unit alone.
fn part_of(unit: &Unit) -> usize {
    let step = match &unit.task {
        Task::Copy => return COPIED,
        Task::Encode(encode) => encode.encoder.step(),
        Task::Cast(cast) => cast.input.decoder.step(),
        Task::Compare(compare) => compare.decoder.step(),
    };
    (PART / step.max(1)).max(1).saturating_mul(step.max(1))
}

/// Bytes of buffers that a thread needs for a part of a unit.
fn needed(unit: &Unit) -> u64 {
    let (Some(input), Some(decoder)) = (unit.input(), unit.decoder()) else { return 2 * COPIED as u64 };
    let part = part_of(unit).min(usize::try_from(unit.size()).unwrap_or(usize::MAX));
    let cover = input.region.cover(&(0..part)).len().next_multiple_of(input.decoder.step());
    let sum = |decoder: &Decoder, count: usize| -> usize {
        let count = count.min(decoder.elements()).max(1);
        (0..8).map(|component| decoder.span(component, 0, count).len()).sum()
    };
    let stored = sum(&input.decoder, cover);
    let wide = if input.plain.is_some() && input.region.is_consecutive() { 0 } else { (cover + part) * 4 };
    let written = sum(decoder, part);
    let compared = compared_of(decoder, group_of(unit)).min(part) * 12;
    // Scratch of encoders: a band of values, its extremes and codes.
    let scratch = part * 4;
    (stored + wide + written + compared + scratch) as u64
}

/// The values of one part.
fn range_of(state: &State, unit: &Unit, part: usize) -> Range<usize> {
    let end = usize::try_from(unit.size()).unwrap_or(usize::MAX);
    (part * state.part).min(end)..((part + 1).saturating_mul(state.part)).min(end)
}

/// Consecutive values that share a scale, or a row where they do not lie side by side.
fn group_of(unit: &Unit) -> usize {
    let (shape, group) = match &unit.task {
        Task::Copy => return 1,
        Task::Cast(cast) => (&cast.shape, None),
        Task::Compare(compare) => (&compare.shape, None),
        Task::Encode(encode) => {
            let encoded = encode.encoder.encoded();
            let flat = encode.settings.format == Format::Nf4;
            let along_rows = flat || encode.contracted + 1 == encode.shape.len();
            (&encode.shape, encoded.group.filter(|_| along_rows))
        }
    };
    let row = shape.last().copied().unwrap_or(1);
    usize::try_from(group.unwrap_or(row)).unwrap_or(usize::MAX).max(1)
}

/// Values that are compared at a time: whole steps of the decoder and whole groups.
fn compared_of(decoder: &Decoder, group: usize) -> usize {
    let step = decoder.step().max(1);
    let whole = if step.is_multiple_of(group) {
        step
    } else if group.is_multiple_of(step) {
        group
    } else {
        step.saturating_mul(group)
    };
    (COMPARED / whole).max(1).saturating_mul(whole)
}

/// Gives what a thread surveyed to the unit.
fn flush(worker: &mut Worker, states: &[State]) {
    let Some((at, survey)) = worker.survey.take() else { return };
    let Some(state) = states.get(at) else { return };
    if let Some(own) = &mut *state.survey.lock().unwrap_or_else(PoisonError::into_inner) {
        own.merge(&survey);
    }
}

/// Narrows the values of a part by way of `wide`.
fn cast_part(values: Values<'_>, dtype: crate::Dtype, wide: &mut Vec<f32>, out: &mut [&mut [u8]]) {
    let Some(out) = out.first_mut() else { return };
    let size = out.len() / values.len().max(1);
    for (index, out) in out.chunks_mut(COMPARED * size.max(1)).enumerate() {
        let wide = sized(wide, out.len() / size.max(1));
        values.widen(index * COMPARED, wide);
        crate::quantize::narrow(wide, dtype, out);
    }
}

/// What is compared with the values it was made from.
struct Compared<'a> {
    decoder: &'a Decoder,
    group: usize,
    range: Range<usize>,
    spans: &'a [Range<usize>],
    bytes: &'a [&'a mut [u8]],
    fixed: &'a [Option<Vec<u8>>],
}

impl Compared<'_> {
    fn run(
        &self,
        values: Values<'_>,
        with_steps: bool,
        drift: &mut Drift,
        (before, after, steps): (&mut Vec<f32>, &mut Vec<f32>, &mut Vec<f32>),
        scratch: &mut Scratch,
    ) -> Result<(), RunError> {
        let piece = compared_of(self.decoder, self.group);
        let mut start = self.range.start;
        let mut parts: Vec<&[u8]> = Vec::with_capacity(self.spans.len());
        while start < self.range.end {
            let count = piece.min(self.range.end - start);
            parts.clear();
            parts.extend((0..self.spans.len()).map(|component| self.component(component, start, count)));
            let (before, after) = (sized(before, count), sized(after, count));
            values.widen(start - self.range.start, before);
            self.decoder.decode(start, &parts, after, scratch)?;
            let steps = if with_steps {
                let steps = sized(steps, count);
                self.decoder.steps(start, &parts, steps, scratch)?;
                Some(&*steps)
            } else {
                None
            };
            drift.add(start as u64, before, after, steps);
            start += count;
        }
        Ok(())
    }

    /// The bytes of a component that `count` values from `start` on need.
    fn component(&self, component: usize, start: usize, count: usize) -> &[u8] {
        let span = self.decoder.span(component, start, count);
        if let Some(Some(fixed)) = self.fixed.get(component) {
            return fixed.get(span).unwrap_or_default();
        }
        let first = self.spans.get(component).map_or(0, |span| span.start);
        let bytes = self.bytes.get(component).and_then(|bytes| {
            let end = span.end.checked_sub(first)?;
            bytes.get(span.start.checked_sub(first)?..end)
        });
        bytes.unwrap_or_default()
    }
}

impl Worker {
    /// Gives back memory beyond `most` bytes a buffer.
    fn shrink(&mut self, most: usize) {
        self.source.shrink(most);
        self.out.iter_mut().for_each(|buffer| shrink(buffer, most));
        for buffer in [&mut self.before, &mut self.after, &mut self.steps] {
            shrink(buffer, most);
        }
        self.scratch = Scratch::default();
    }
}
