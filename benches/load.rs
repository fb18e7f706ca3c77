//! Loading against the ceilings of the machine and against mapping, all in one run.
//!
//! `cargo bench --bench load` writes 1 GiB of bf16 weights (4 files, Llama's shapes) to the temporary directory, or to
//! `FLOW_FABRIC_BENCH_DIR`, which must be on a disk. Each case is timed once a round, the rounds are gone through several
//! times, and the best of each counts: on a shared machine that is what comes nearest to the machine. Cold means that the pages
//! of the files were dropped from this machine's page cache (`POSIX_FADV_DONTNEED`). `cargo bench --bench load -- warm rows`
//! runs the cases only whose names hold all these words, `-- --settings` tries other threads, chunks and queue depths.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::print_stdout, reason = "what a bench has to say goes to the terminal")]
#![allow(clippy::cast_precision_loss, reason = "rates for people")]

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use flow_fabric::inventory::Checkpoint;
use flow_fabric::load::{LoadOptions, Loaded, Loader, ReadPlan};
use flow_fabric::manifest::{Manifest, ManifestOptions};
use flow_fabric::plan::PlanOptions;
use flow_fabric::progress::Silent;
use flow_fabric::storage::AlignedBuffer;
use flow_fabric::{Plan, Policy};

const HIDDEN: usize = 2048;
const INNER: usize = 5632;
const LAYERS: usize = 12;
const FILES: usize = 4;
const ROUNDS: usize = 5;
const MIB: f64 = (1 << 20) as f64;

fn main() {
    // `cargo test --benches` runs this too; it has nothing to check.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [peak, folder, spec] = words.as_slice()
        && peak == "--peak"
    {
        println!("{}", besides(&plan(Path::new(folder), spec, "auto", "none")));
        return;
    }
    let root = std::env::var_os("FLOW_FABRIC_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::Builder::new().prefix("flow-fabric-bench-load").tempdir_in(root).unwrap();
    let files = write(folder.path());
    let pieces = tempfile::Builder::new().prefix("flow-fabric-bench-pieces").tempdir_in(folder.path()).unwrap();
    let wide = write_wide(&pieces.path().join("wide.safetensors"));
    let whole = plan(folder.path(), "[]", "auto", "none");
    let columns = plan(folder.path(), "[\"m\"]", "auto", "none");
    let rows = plan(folder.path(), "[\"-\", \"m\"]", "auto", "none");
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    println!("{:.0} MiB in {FILES} files\n", bytes as f64 / MIB);

    if words == ["--settings"] {
        settings(&whole, &self::plan(pieces.path(), "[\"-\", \"m\"]", "auto", "none"), &files, &wide);
        return;
    }
    let mut reused: Vec<AlignedBuffer> =
        files.iter().map(|file| AlignedBuffer::zeroed(file.metadata().unwrap().len() as usize)).collect();
    let mut target = AlignedBuffer::zeroed(reused.iter().map(|buffer| buffer.len()).sum());
    let loaded = Rc::new(RefCell::new(load(&whole, None)));
    let loaded_rows = Rc::new(RefCell::new(load(&rows, None)));
    let manifest = Rc::new(manifest(folder.path()));
    let mut cases = Vec::new();
    let mut case = |name: &'static str, cold: bool, run: Box<dyn FnMut() -> u64>| {
        if words.iter().all(|word| name.contains(word.as_str())) {
            cases.push(Case::new(name, cold, run));
        }
    };
    let paths: Vec<PathBuf> = (0..FILES).map(|number| folder.path().join(name(number))).collect();
    let open = || -> Vec<File> { paths.iter().map(|path| File::open(path).unwrap()).collect() };

    let mut source = AlignedBuffer::zeroed(target.len());
    source.fill(1);
    case("ceiling: memcpy, 2 threads", false, Box::new(move || memcpy(&source, &mut target)));
    let own = open();
    case("ceiling: warm reads, reused memory", false, Box::new(move || sequential(&own, &mut reused, 2)));
    let own = open();
    case("ceiling: warm reads, fresh memory", false, Box::new(move || sequential(&own, &mut fresh(&own), 2)));
    for (name, threads) in [("ceiling: cold reads, 1 thread", 1), ("ceiling: cold reads, 4 threads", 4)] {
        let own = open();
        let mut memory = fresh(&own);
        case(name, true, Box::new(move || sequential(&own, &mut memory, threads)));
    }
    let own = paths.clone();
    case("mapped views, whole, warm, every page touched", false, Box::new(move || touched(&own)));
    let own = paths.clone();
    case("mapped views, whole, cold, every page touched", true, Box::new(move || touched(&own)));
    let own = paths.clone();
    case("mapped views, whole, warm, every tensor copied", false, Box::new(move || mapped(&own, Cut::Whole)));
    let own = paths.clone();
    case("mapped views, whole, cold, every tensor copied", true, Box::new(move || mapped(&own, Cut::Whole)));
    let plan = whole.clone();
    let shared = loaded.clone();
    case("load, whole, warm, reused memory", false, Box::new(move || again(&plan, None, &shared)));
    let plan = whole.clone();
    case("load, whole, warm, fresh memory", false, Box::new(move || load(&plan, None).bytes()));
    for (name, verify) in
        [("load, whole, warm, reused memory, xxh3", "xxh3"), ("load, whole, warm, reused memory, blake3", "blake3")]
    {
        let plan = self::plan(folder.path(), "[]", "auto", verify);
        let (manifest, shared) = (manifest.clone(), loaded.clone());
        case(name, false, Box::new(move || again(&plan, Some(&manifest), &shared)));
    }
    for (name, verify) in
        [("load, whole, warm, fresh memory, xxh3", "xxh3"), ("load, whole, warm, fresh memory, blake3", "blake3")]
    {
        let plan = self::plan(folder.path(), "[]", "auto", verify);
        let manifest = manifest.clone();
        case(name, false, Box::new(move || load(&plan, Some(&manifest)).bytes()));
    }
    let (own, shared) = (whole.clone(), loaded.clone());
    case("load, whole, cold, reused memory", true, Box::new(move || again(&own, None, &shared)));
    for (name, verify) in
        [("load, whole, cold, reused memory, xxh3", "xxh3"), ("load, whole, cold, reused memory, blake3", "blake3")]
    {
        let plan = self::plan(folder.path(), "[]", "auto", verify);
        let (manifest, shared) = (manifest.clone(), loaded.clone());
        case(name, true, Box::new(move || again(&plan, Some(&manifest), &shared)));
    }
    let plan = whole;
    case("load, whole, cold, fresh memory", true, Box::new(move || load(&plan, None).bytes()));
    let own = paths.clone();
    case("mapped slices, 1/8 columns, warm, fresh memory", false, Box::new(move || mapped(&own, Cut::Columns)));
    let plan = columns.clone();
    case("load, 1/8 columns, warm, fresh memory", false, Box::new(move || load(&plan, None).bytes()));
    let own = paths.clone();
    case("mapped slices, 1/8 columns, cold, fresh memory", true, Box::new(move || mapped(&own, Cut::Columns)));
    let plan = columns;
    case("load, 1/8 columns, cold, fresh memory", true, Box::new(move || load(&plan, None).bytes()));
    let own = paths.clone();
    case("mapped slices, 1/8 rows, warm, fresh memory", false, Box::new(move || mapped(&own, Cut::Rows)));
    let plan = rows.clone();
    case("load, 1/8 rows, warm, fresh memory", false, Box::new(move || load(&plan, None).bytes()));
    let by_mapping = self::plan(folder.path(), "[\"-\", \"m\"]", "mmap", "none");
    let plan = by_mapping.clone();
    case("load, 1/8 rows, warm, fresh memory, mmap", false, Box::new(move || load(&plan, None).bytes()));
    let (own, mut memory) = (paths.clone(), Vec::new());
    let run = move || mapped_into(&own, Cut::Rows, &mut memory);
    case("mapped slices, 1/8 rows, warm, reused memory", false, Box::new(run));
    let (plan, shared) = (rows.clone(), loaded_rows.clone());
    case("load, 1/8 rows, warm, reused memory", false, Box::new(move || again(&plan, None, &shared)));
    let run = move || again(&by_mapping, None, &loaded_rows);
    case("load, 1/8 rows, warm, reused memory, mmap", false, Box::new(run));
    let own = paths.clone();
    case("mapped slices, 1/8 rows, cold, fresh memory", true, Box::new(move || mapped(&own, Cut::Rows)));
    let plan = rows;
    case("load, 1/8 rows, cold, fresh memory", true, Box::new(move || load(&plan, None).bytes()));
    let apart = self::plan(pieces.path(), "[\"-\", \"m\"]", "auto", "none");
    for (name, queue_depth) in [
        ("load, 32 KiB of each 256 KiB, cold, queue depth 1", 1),
        ("load, 32 KiB of each 256 KiB, cold, queue depth 32", 32),
    ] {
        let plan = apart.clone();
        let mut options = LoadOptions::default();
        options.queue_depth = queue_depth;
        case(name, true, Box::new(move || load_with(&plan, options, None, Loaded::default()).bytes()));
    }

    for _ in 0..ROUNDS {
        for case in &mut cases {
            drop_pages(&wide);
            case.measure(&files);
        }
    }
    println!("{:<50} {:>8} {:>7} {:>9} {:>11}", "case", "seconds", "GB/s", "MiB", "MiB of disk");
    for case in &cases {
        println!(
            "{:<50} {:>8.3} {:>7.2} {:>9.0} {:>11.0}",
            case.name,
            case.best,
            case.bytes as f64 / case.best / 1e9,
            case.bytes as f64 / MIB,
            case.from_disk as f64 / MIB
        );
    }
    drop(cases);
    println!();
    for (name, spec) in [("whole", "[]"), ("1/8 columns", "[\"m\"]"), ("1/8 rows", "[\"-\", \"m\"]")] {
        for cold in [false, true] {
            files.iter().for_each(if cold { drop_pages } else { warm });
            // A process of its own, whose memory nothing else has touched.
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--bench", "--peak"]).arg(folder.path()).arg(spec).output().unwrap();
            let bytes: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            let state = if cold { "cold" } else { "warm" };
            println!("peak memory besides the result, {name}, {state}: {:.1} MiB", bytes / MIB);
        }
    }
}

/// What the defaults were chosen by: seconds, the best of five rounds.
fn settings(whole: &ReadPlan, pieces: &ReadPlan, files: &[File], wide: &File) {
    let mut memory = load(whole, None);
    let mut best = |plan: &ReadPlan, options: LoadOptions, cold: bool| {
        let seconds = (0..ROUNDS).map(|_| {
            for file in files.iter().chain([wide]) {
                drop_pages(file);
                if !cold {
                    warm(file);
                }
            }
            let began = Instant::now();
            memory = load_with(plan, options, None, std::mem::take(&mut memory));
            began.elapsed().as_secs_f64()
        });
        seconds.fold(f64::INFINITY, f64::min)
    };
    println!("{:<40} {:>8} {:>8}", "whole, reused memory", "warm", "cold");
    for (threads, chunk) in [(1, 2048), (2, 2048), (4, 2048), (8, 2048), (4, 256), (4, 1024), (4, 4096), (4, 8192)] {
        let mut options = LoadOptions::default();
        (options.threads, options.chunk, options.budget) = (threads, chunk << 10, 64 << 20);
        let times = [false, true].map(|cold| best(whole, options, cold));
        println!("{:<40} {:>8.3} {:>8.3}", format!("{threads} threads, chunks of {chunk} KiB"), times[0], times[1]);
    }
    println!("\n32 KiB of each 256 KiB, fresh memory, cold");
    for queue_depth in [1, 4, 16, 32, 64, 128] {
        let mut options = LoadOptions::default();
        options.queue_depth = queue_depth;
        println!("{:<49} {:>8.3}", format!("queue depth {queue_depth}"), best(pieces, options, true));
    }
}

/// One thing that is timed.
struct Case {
    name: &'static str,
    cold: bool,
    run: Box<dyn FnMut() -> u64>,
    best: f64,
    bytes: u64,
    from_disk: u64,
}

impl Case {
    fn new(name: &'static str, cold: bool, run: Box<dyn FnMut() -> u64>) -> Self {
        Self { name, cold, run, best: f64::INFINITY, bytes: 0, from_disk: 0 }
    }

    fn measure(&mut self, files: &[File]) {
        for file in files {
            // Before warm cases too: how large the pages of the cache are, and so how fast they copy, depends on who brought
            // them in.
            drop_pages(file);
            if !self.cold {
                warm(file);
            }
        }
        let (before, began) = (read_from_disk(), Instant::now());
        self.bytes = (self.run)();
        let seconds = began.elapsed().as_secs_f64();
        if seconds < self.best {
            (self.best, self.from_disk) = (seconds, read_from_disk() - before);
        }
    }
}

fn name(number: usize) -> String {
    format!("model-{:05}-of-{FILES:05}.safetensors", number + 1)
}

/// Writes the checkpoint; the files are on disk, so that their pages can be dropped.
fn write(folder: &Path) -> Vec<File> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |bytes: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()
        };
        (0..bytes / 8).flat_map(|_| next()).collect()
    };
    let mut map = serde_json::Map::new();
    let shapes = [
        ("q", HIDDEN, HIDDEN),
        ("k", HIDDEN / 8, HIDDEN),
        ("v", HIDDEN / 8, HIDDEN),
        ("o", HIDDEN, HIDDEN),
        ("gate", INNER, HIDDEN),
        ("up", INNER, HIDDEN),
        ("down", HIDDEN, INNER),
    ];
    (0..FILES)
        .map(|number| {
            let layers = number * LAYERS / FILES..(number + 1) * LAYERS / FILES;
            let tensors: Vec<(String, [usize; 2], Vec<u8>)> = layers
                .flat_map(|layer| {
                    shapes.map(|(name, rows, columns)| (format!("layers.{layer}.{name}"), [rows, columns]))
                })
                .map(|(name, shape)| (name, shape, random(shape[0] * shape[1] * 2)))
                .collect();
            tensors.iter().for_each(|(tensor, ..)| drop(map.insert(tensor.clone(), name(number).into())));
            let views = tensors.iter().map(|(name, shape, bytes)| {
                (name, safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, shape.to_vec(), bytes).unwrap())
            });
            let path = folder.join(name(number));
            safetensors::serialize_to_file(views, None, &path).unwrap();
            let index = serde_json::json!({ "metadata": {}, "weight_map": map });
            std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
            let file = File::open(&path).unwrap();
            file.sync_all().unwrap();
            drop_pages(&file);
            file
        })
        .collect()
}

/// Writes one matrix whose rows are so long that pieces of them lie far apart.
fn write_wide(path: &Path) -> File {
    let (rows, columns) = (1024, 128 << 10);
    let bytes = vec![1; rows * columns * 2];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![rows, columns], &bytes).unwrap();
    safetensors::serialize_to_file([("wide", view)], None, path).unwrap();
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    file
}

/// What device 3 of 8 loads.
fn plan(folder: &Path, spec: &str, read: &str, verify: &str) -> ReadPlan {
    let policy = format!(
        "language = 1\npolicy = \"bench\"\n[mesh]\naxes = [\"m\"]\nshape = [8]\n\
         [loader]\nread = \"{read}\"\nverify = \"{verify}\"\n\
         [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = {spec}\n"
    );
    let policy = Policy::parse("bench.toml", &policy).unwrap();
    let (checkpoint, findings) = Checkpoint::open(folder).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let (inventory, _) = policy.group(&checkpoint);
    let plan = Plan::new(&policy, inventory, &PlanOptions::default()).unwrap();
    ReadPlan::new(&plan, 3).unwrap()
}

fn load(plan: &ReadPlan, manifest: Option<&Manifest>) -> Loaded {
    load_into(plan, manifest, Loaded::default())
}

fn load_into(plan: &ReadPlan, manifest: Option<&Manifest>, into: Loaded) -> Loaded {
    load_with(plan, LoadOptions::default(), manifest, into)
}

fn load_with(plan: &ReadPlan, options: LoadOptions, manifest: Option<&Manifest>, into: Loaded) -> Loaded {
    let loader = Loader::open(plan, options).unwrap();
    loader.verified_by(manifest).unwrap().load_into(into, &Silent).unwrap()
}

/// Loads into the memory of the load before.
fn again(plan: &ReadPlan, manifest: Option<&Manifest>, loaded: &RefCell<Loaded>) -> u64 {
    let memory = loaded.take();
    loaded.replace(load_into(plan, manifest, memory));
    loaded.borrow().bytes()
}

fn manifest(folder: &Path) -> Manifest {
    let (checkpoint, _) = Checkpoint::open(folder).unwrap();
    Manifest::build(&checkpoint, ManifestOptions::default(), &Silent).unwrap()
}

fn memcpy(source: &[u8], target: &mut [u8]) -> u64 {
    let half = source.len() / 2;
    let (left, right) = target.split_at_mut(half);
    std::thread::scope(|scope| {
        scope.spawn(|| left.copy_from_slice(&source[..half]));
        scope.spawn(|| right.copy_from_slice(&source[half..]));
    });
    source.len() as u64
}

fn fresh(files: &[File]) -> Vec<AlignedBuffer> {
    files.iter().map(|file| AlignedBuffer::zeroed(file.metadata().unwrap().len() as usize)).collect()
}

/// Reads files from end to end, 1 MiB at a time: what no loader can beat.
fn sequential(files: &[File], into: &mut [AlignedBuffer], threads: usize) -> u64 {
    let work: Vec<(&File, u64, &mut [u8])> = files
        .iter()
        .zip(into)
        .flat_map(|(file, buffer)| {
            buffer.chunks_mut(1 << 20).enumerate().map(move |(number, chunk)| (file, (number as u64) << 20, chunk))
        })
        .collect();
    let queue = std::sync::Mutex::new(work.into_iter());
    let bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((file, at, chunk)) = queue.lock().unwrap().next() else { return };
                    file.read_exact_at(chunk, at).unwrap();
                    bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    bytes.into_inner()
}

#[derive(Clone, Copy)]
enum Cut {
    Whole,
    Columns,
    Rows,
}

/// What is least with the safetensors crate and a mapping: views, of which every page is there. The result is the page cache's.
fn touched(paths: &[PathBuf]) -> u64 {
    let (mut sum, mut bytes) = (0_u64, 0);
    for path in paths {
        let map = map(path);
        for view in views(&map) {
            sum += view.data().iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>();
            bytes += view.data().len() as u64;
        }
    }
    std::hint::black_box(sum);
    bytes
}

/// What one would write with the safetensors crate and a mapping: views, slices, copies, here into fresh memory.
fn mapped(paths: &[PathBuf], cut: Cut) -> u64 {
    mapped_into(paths, cut, &mut Vec::new())
}

/// The same, into the memory of the time before.
fn mapped_into(paths: &[PathBuf], cut: Cut, memory: &mut Vec<AlignedBuffer>) -> u64 {
    use safetensors::slice::IndexOp as _;

    let mut given = std::mem::take(memory).into_iter();
    let mut room = |bytes: usize| given.next().unwrap_or_else(|| AlignedBuffer::zeroed(bytes));
    for path in paths {
        let map = map(path);
        for view in views(&map) {
            let part = |size: usize| size / 8 * 3..size / 8 * 4;
            let pieces = match cut {
                Cut::Whole => view.slice(..).unwrap(),
                Cut::Columns => view.slice(part(view.shape()[0])).unwrap(),
                Cut::Rows => view.slice((.., part(view.shape()[1]))).unwrap(),
            };
            let mut tensor = room(pieces.remaining_byte_len());
            let mut rest = &mut tensor[..];
            for piece in pieces {
                let (to, others) = rest.split_at_mut(piece.len());
                to.copy_from_slice(piece);
                rest = others;
            }
            memory.push(tensor);
        }
    }
    memory.iter().map(|tensor| tensor.len() as u64).sum()
}

/// Drops a file from the page cache.
fn drop_pages(file: &File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

fn map(path: &Path) -> memmap2::Mmap {
    let file = File::open(path).unwrap();
    // SAFETY: the bench owns the file and nobody writes it.
    #[expect(unsafe_code, reason = "the peer maps")]
    unsafe { memmap2::Mmap::map(&file) }.unwrap()
}

/// The tensors of a file in the order of their bytes.
fn views(map: &[u8]) -> Vec<safetensors::tensor::TensorView<'_>> {
    let tensors = safetensors::SafeTensors::deserialize(map).unwrap();
    let mut views: Vec<_> = tensors.iter().map(|(_, view)| view).collect();
    views.sort_by_key(|view| view.data().as_ptr());
    views
}

/// Brings a file into the page cache.
fn warm(file: &File) {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at).unwrap() {
            0 => return,
            count => at += count as u64,
        }
    }
}

/// Bytes that this process had read from storage.
fn read_from_disk() -> u64 {
    field("/proc/self/io", "read_bytes:")
}

/// Most memory that a load takes besides its result, in bytes.
fn besides(plan: &ReadPlan) -> i64 {
    let before = field("/proc/self/status", "VmRSS:");
    let loaded = load(plan, None);
    let peak = field("/proc/self/status", "VmHWM:");
    (peak * 1024) as i64 - (before * 1024) as i64 - loaded.bytes() as i64
}

/// A number of a file of `/proc`.
fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
