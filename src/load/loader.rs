//! Reading what a plan says, by several threads, into memory of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indexmap::IndexMap;

use super::jobs::{self, Cutting, Job};
use super::ladder::{Buffered, Rung, Source};
use super::report::{FileReport, Meter};
use super::sink::Dest;
use super::verify::Digested;
use super::worker::Worker;
use super::{LoadError, LoadOptions, LoadReport, Loaded, LoadedTensor, ReadPlan, Target, Traffic, traffic};
use crate::finding::{Finding, Severity};
use crate::manifest::Manifest;
use crate::parallel::on_threads;
use crate::policy::{Read, Stage};
use crate::progress::Progress;
use crate::stage::{SharedMemory, StageError, StagedFiles};
use crate::storage::{ReadAt, SourceFile};

/// Reads the tensors of one device.
///
/// ```
/// use flow_fabric::inventory::Checkpoint;
/// use flow_fabric::load::{Loader, ReadPlan};
/// use flow_fabric::plan::PlanOptions;
/// use flow_fabric::progress::Silent;
/// use flow_fabric::{Plan, Policy};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("m.safetensors");
/// # let header = br#"{"w":{"dtype":"U8","shape":[2,4],"data_offsets":[0,8]}}"#;
/// # std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header, b"abcdABCD"].concat())?;
/// let policy = Policy::parse("tiny.toml", r#"
///     language = 1
///     policy = "tiny"
///     [mesh]
///     axes = ["model"]
///     shape = [2]
///     [[FLOW_FABRIC_PARTITION_RULES]]
///     name = "columns"
///     glob = "w"
///     spec = ["-", "model"]
/// "#)?;
/// let (checkpoint, _) = Checkpoint::open(&path)?;
/// let (inventory, _) = policy.group(&checkpoint);
/// let plan = Plan::new(&policy, inventory, &PlanOptions::default())?;
///
/// let device = ReadPlan::new(&plan, 1)?;
/// let mut loader = Loader::open(&device, Default::default())?;
/// let loaded = loader.load(&Silent)?;
/// assert_eq!(&*loaded.get("w").unwrap().bytes, b"cdCD");
/// assert_eq!(loader.report().traffic.wanted, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Loader<'a> {
    plan: &'a ReadPlan,
    options: LoadOptions,
    ways: Vec<Way<'a>>,
    lanes: Vec<Lane>,
    digested: Option<Digested<'a>>,
    /// Copies in shared memory that are read; they go when the loader does, unless another process reads them.
    staged: Option<StagedFiles>,
    opened: Duration,
    elapsed: Duration,
}

/// A file that is read in one way, opened once.
struct Way<'a> {
    file: usize,
    asked: Read,
    stage: Stage,
    source: Source<'a>,
    meter: Meter,
}

/// Targets that are read in one way; they follow one another in the plan.
struct Lane {
    /// Index of the way.
    way: usize,
    targets: Range<usize>,
}

impl<'a> Loader<'a> {
    /// Opens the files of a plan and picks the way to read each. No tensor is read.
    ///
    /// # Errors
    /// A file cannot be opened or is not the one whose header was read, or nothing says where a tensor's bytes are.
    pub fn open(plan: &'a ReadPlan, options: LoadOptions) -> Result<Self, LoadError> {
        let began = Instant::now();
        let mut loader = Self::over_ways(plan, options, |file, read, targets| {
            let described = plan.files.get(file).ok_or_else(|| not_a_range(targets))?;
            let opened = SourceFile::open(described).map_err(LoadError::Open)?;
            Ok(Source::choose(opened, read, targets))
        })?;
        loader.opened = began.elapsed();
        Ok(loader)
    }

    /// Reads from any sources, one per file of the plan, in place of the files.
    ///
    /// # Errors
    /// A source is missing, or nothing says where a tensor's bytes are.
    pub fn over(plan: &'a ReadPlan, options: LoadOptions, sources: &'a [&'a dyn ReadAt]) -> Result<Self, LoadError> {
        Self::over_ways(plan, options, |file, _, targets| {
            sources.get(file).map(|source| Source::other(*source)).ok_or_else(|| not_a_range(targets))
        })
    }

    /// Gives the digests that tensors are held against where rules say `verify`; without them such tensors are not loaded.
    ///
    /// Chunks that hold wanted bytes are then read whole, and nothing is handed out before all of them have their digests.
    ///
    /// # Errors
    /// A tensor that is to be verified is not in the manifest, or there is none, or its chunks do not fit into the budget.
    pub fn verified_by(mut self, manifest: Option<&'a Manifest>) -> Result<Self, LoadError> {
        self.digested = Some(Digested::new(self.plan, manifest)?.within(self.plan, &self.options)?);
        Ok(self)
    }

    /// Copies the files into shared memory whose rules say `stage = "shm"`, or finds copies that are there, and reads those.
    ///
    /// Where that is not possible, the files themselves are read, and the finding says why.
    ///
    /// # Errors
    /// The work is cancelled, or a file cannot be opened.
    pub fn staged_in(
        mut self,
        shared: &SharedMemory,
        progress: &dyn Progress,
    ) -> Result<(Self, Vec<Finding>), LoadError> {
        let began = Instant::now();
        let mut files: Vec<usize> =
            self.ways.iter().filter(|way| way.stage == Stage::Shm).map(|way| way.file).collect();
        files.sort_unstable();
        files.dedup();
        if files.is_empty() {
            return Ok((self, Vec::new()));
        }
        let described = files.iter().filter_map(|file| self.plan.files.get(*file));
        let sources = described.map(SourceFile::open).collect::<Result<Vec<_>, _>>().map_err(LoadError::Open)?;
        let staged = match shared.stage(&sources, progress) {
            Ok(staged) => staged,
            Err(StageError::Cancelled(cancelled)) => return Err(cancelled.into()),
            Err(error) => {
                let finding = error.finding().map(|mut finding| {
                    // An error to who wants a copy; here there is another way.
                    finding.severity = Severity::Warning;
                    finding.note("the files themselves are read")
                });
                return Ok((self, finding.into_iter().collect()));
            }
        };
        for way in self.ways.iter_mut().filter(|way| way.stage == Stage::Shm) {
            let copy = files.iter().position(|file| *file == way.file).and_then(|at| staged.files().get(at));
            if let Some(copy) = copy {
                way.source = Source::staged(copy.reopen().map_err(LoadError::Open)?);
            }
        }
        self.staged = Some(staged);
        self.opened += began.elapsed();
        Ok((self, Vec::new()))
    }

    fn over_ways(
        plan: &'a ReadPlan,
        options: LoadOptions,
        source: impl Fn(usize, Read, &[(usize, &Target)]) -> Result<Source<'a>, LoadError>,
    ) -> Result<Self, LoadError> {
        let mut together: IndexMap<_, Vec<(usize, &Target)>> = IndexMap::new();
        let mut lanes = Vec::new();
        for targets in traffic::groups(plan) {
            let Some(&(first, target)) = targets.first() else { continue };
            let way = together.entry(traffic::way(target).ok_or_else(|| not_a_range(&targets))?);
            lanes.push(Lane { way: way.index(), targets: first..first + targets.len() });
            way.or_default().extend(targets);
        }
        let open = |((file, asked, stage), targets): (_, Vec<_>)| {
            let source = source(file, asked, &targets)?;
            Ok(Way { file, asked, stage, source, meter: Meter::default() })
        };
        let ways = together.into_iter().map(open).collect::<Result<_, LoadError>>()?;
        let (opened, elapsed) = (Duration::ZERO, Duration::ZERO);
        Ok(Self { plan, options, ways, lanes, digested: None, staged: None, opened, elapsed })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Bytes cannot be read, a file changed, or the work was cancelled. Nothing is handed out then.
    pub fn load(&mut self, progress: &dyn Progress) -> Result<Loaded, LoadError> {
        self.load_into(Loaded::default(), progress)
    }

    /// Reads everything into tensors that an earlier load of the same plan gave: memory that was touched before is filled
    /// several times faster than fresh memory. What does not fit the plan is made anew.
    ///
    /// # Errors
    /// As for [`Loader::load`].
    pub fn load_into(&mut self, mut loaded: Loaded, progress: &dyn Progress) -> Result<Loaded, LoadError> {
        let plan = self.plan;
        let mut tensors: Vec<Room> = Vec::with_capacity(plan.targets.len());
        for target in &plan.targets {
            let given = loaded.tensors.swap_remove(&target.name).filter(|tensor| tensor.fits(target));
            tensors.push(match given {
                Some(tensor) => Room { tensor, fresh: false },
                None => Room::new(target)?,
            });
        }
        progress.begin("reading", Some(plan.wanted()));
        self.fill(0..plan.targets.len(), &mut tensors, progress)?;
        Ok(Loaded { tensors: tensors.into_iter().map(|room| (room.tensor.name.clone(), room.tensor)).collect() })
    }

    /// Reads tensor after tensor, in the order of the files, some at a time: what was handed out is the caller's, what is not
    /// yet takes little memory. After an error the iterator ends.
    pub fn tensors<'l>(
        &'l mut self,
        progress: &'l dyn Progress,
    ) -> impl Iterator<Item = Result<LoadedTensor, LoadError>> + use<'l, 'a> {
        progress.begin("reading", Some(self.plan.wanted()));
        let mut next = 0;
        let mut ready = Vec::<Room>::new().into_iter();
        std::iter::from_fn(move || {
            if let Some(room) = ready.next() {
                return Some(Ok(room.tensor));
            }
            let batch = self.batch(next);
            let targets = self.plan.targets.get(batch.clone()).filter(|targets| !targets.is_empty())?;
            let tensors: Result<Vec<Room>, LoadError> = targets.iter().map(Room::new).collect();
            let read = tensors.and_then(|mut tensors| {
                self.fill(batch.clone(), &mut tensors, progress)?;
                Ok(tensors)
            });
            next = if read.is_ok() { batch.end } else { self.plan.targets.len() };
            match read {
                Ok(tensors) => {
                    ready = tensors.into_iter();
                    ready.next().map(|room| Ok(room.tensor))
                }
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Foretells the traffic of each target as the files are read now; see [`super::traffic`].
    #[must_use]
    pub fn traffic(&self) -> Vec<Traffic> {
        let mut traffic = vec![Traffic::default(); self.plan.targets.len()];
        for lane in &self.lanes {
            let targets = lane.targets.clone().zip(self.plan.targets.get(lane.targets.clone()).unwrap_or_default());
            let digested = |target| self.digested.as_ref()?.chunk_bytes(target);
            let Some(way) = self.ways.get(lane.way) else { continue };
            traffic::count(self.plan, targets, self.cutting(way), digested, &mut traffic);
        }
        traffic
    }

    fn cutting(&self, way: &Way<'_>) -> Cutting {
        Cutting { chunk: self.options.chunk(), gap: way.source.gap(&self.options) }
    }

    /// How it went so far.
    #[must_use]
    pub fn report(&self) -> LoadReport {
        let file = |way: &Way<'_>| FileReport {
            path: self.plan.files.get(way.file).map(|file| file.path.clone()).unwrap_or_default(),
            asked: way.asked,
            rung: if way.meter.by_ring() { Rung::Ring } else { way.source.rung() },
            cached: way.source.cached,
            because: way.source.because.clone().or_else(|| way.meter.fallback()),
            traffic: way.meter.traffic(),
        };
        let files: Vec<FileReport> = self.ways.iter().map(file).collect();
        let mut report = LoadReport { open: self.opened, elapsed: self.opened + self.elapsed, ..LoadReport::default() };
        for way in &self.ways {
            report.traffic += way.meter.traffic();
            let [read, verify, copy] = way.meter.times();
            report.read += read;
            report.verify += verify;
            report.copy += copy;
        }
        report.files = files;
        report
    }

    /// Targets that the iterator reads at once: one, or several small ones, so that all threads have something to do.
    fn batch(&self, start: usize) -> Range<usize> {
        let most = self.options.budget.max(self.options.chunk());
        let mut bytes = 0_u64;
        let mut end = start;
        for target in self.plan.targets.iter().skip(start) {
            bytes = bytes.saturating_add(target.slice.bytes());
            if end > start && bytes > most {
                break;
            }
            end += 1;
        }
        start..end
    }

    /// Reads a range of targets into their tensors.
    fn fill(&mut self, range: Range<usize>, rooms: &mut [Room], progress: &dyn Progress) -> Result<(), LoadError> {
        let began = Instant::now();
        if self.digested.is_none() {
            self.digested = Some(Digested::new(self.plan, None)?);
        }
        let digested = self.digested.as_ref();
        let targets = self.plan.targets.get(range.clone()).unwrap_or_default();
        for (room, target) in rooms.iter_mut().zip(targets) {
            room.clear_padding(target);
        }
        let mut rest: BTreeMap<usize, Dest<'_>> = range
            .clone()
            .zip(rooms.iter_mut())
            .map(|(index, room)| (index, Dest::new(&mut room.tensor.bytes, room.fresh)))
            .collect();
        let mut work = Vec::new();
        let mut read = BTreeSet::new();
        for lane in &self.lanes {
            let own = lane.targets.start.max(range.start)..lane.targets.end.min(range.end);
            let Some(way) = self.ways.get(lane.way).filter(|_| !own.is_empty()) else { continue };
            read.insert(lane.way);
            let targets = own.clone().zip(self.plan.targets.get(own).unwrap_or_default());
            let cutting = self.cutting(way);
            for job in jobs::cut(targets, cutting, |target| digested?.chunk_bytes(target)) {
                let dests = self.dests(&job, &mut rest);
                work.push(Work { way, gap: cutting.gap, job, dests });
            }
        }
        let done = self.work(work, progress);
        self.elapsed += began.elapsed();
        done?;
        for way in read.into_iter().filter_map(|way| self.ways.get(way)) {
            way.source.buffered.check_unchanged().map_err(LoadError::Open)?;
        }
        for (room, target) in rooms.iter_mut().zip(targets) {
            if let Some(reshape) = &target.reshape {
                room.tensor.reshape(reshape);
            }
        }
        Ok(())
    }

    /// Takes off the part of each tensor that a job fills. Jobs come in the order of the file, and so of each tensor.
    fn dests<'t>(&self, job: &Job, rest: &mut BTreeMap<usize, Dest<'t>>) -> Vec<Dest<'t>> {
        let mut dest = |part: &jobs::Part| {
            let (target, dest) = (self.plan.targets.get(part.target)?, rest.get_mut(&part.target)?);
            Some(dest.split_off(&target.slice.target(&part.positions)))
        };
        job.parts.iter().map(|part| dest(part).unwrap_or_default()).collect()
    }

    /// Hands the work out to threads. Of several errors, that of the first job counts, whatever the threads did.
    fn work(&self, work: Vec<Work<'_, '_>>, progress: &dyn Progress) -> Result<(), LoadError> {
        let none = Digested::default();
        let digested = self.digested.as_ref().unwrap_or(&none);
        // What is verified is held in whole chunks of the manifest.
        let held = self.options.chunk().max(digested.largest_chunk().map_or(0, |(chunk, _)| chunk));
        let threads = self.options.threads(held).min(work.len());
        let stop = AtomicBool::new(false);
        let queue = Mutex::new(work.into_iter().enumerate());
        let failed: Mutex<Option<(usize, LoadError)>> = Mutex::new(None);
        let run = || {
            let mut worker = Worker::new(&self.plan.targets, digested, &self.options);
            while !stop.load(Ordering::Relaxed) {
                let taken = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((number, mut work)) = taken else { return };
                let done = progress
                    .check()
                    .map_err(LoadError::from)
                    .and_then(|()| worker.run(&work.way.source, &work.way.meter, &work.job, work.gap, &mut work.dests));
                match done {
                    Ok(wanted) => progress.advance(wanted),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                            *failed = Some((number, error));
                        }
                        return;
                    }
                }
            }
        };
        on_threads(threads, run);
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

/// A tensor that is being filled.
struct Room {
    tensor: LoadedTensor,
    /// No page of it has been touched.
    fresh: bool,
}

impl Room {
    fn new(target: &Target) -> Result<Self, LoadError> {
        Ok(Self { tensor: LoadedTensor::reserve(target)?, fresh: true })
    }

    /// Puts what the files do not say: zeros where the device's copy is padded.
    fn clear_padding(&mut self, target: &Target) {
        if !self.fresh && target.slice.bytes() != target.slice.wanted() {
            self.tensor.bytes.fill(0);
        }
    }
}

/// A job with everything it needs.
struct Work<'l, 't> {
    way: &'l Way<'l>,
    gap: u64,
    job: Job,
    dests: Vec<Dest<'t>>,
}

fn not_a_range(targets: &[(usize, &Target)]) -> LoadError {
    LoadError::NotARange { tensor: targets.first().map(|(_, target)| target.name.clone()).unwrap_or_default() }
}

impl std::fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files = self.ways.iter().filter(|way| matches!(way.source.buffered, Buffered::File(_))).count();
        f.debug_struct("Loader").field("options", &self.options).field("files", &files).finish_non_exhaustive()
    }
}
