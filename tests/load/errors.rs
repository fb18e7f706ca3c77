//! What goes wrong while reading is an error, never wrong bytes.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use flow_fabric::Dtype;
use flow_fabric::finding::code;
use flow_fabric::inventory::Checkpoint;
use flow_fabric::load::{LoadError, Loader, ReadPlan};
use flow_fabric::manifest::{Manifest, ManifestOptions};
use flow_fabric::progress::{Progress, Silent};
use flow_fabric::storage::{Fault, Faulty, ReadAt};

use super::support::{Tensor, checkpoint, load, options, plan, safetensors};

const POLICY: &str = "language = 1\npolicy = \"p\"\n[mesh]\naxes = [\"m\"]\nshape = [2]\n\
    [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"columns\"\nglob = \"**\"\nspec = [\"-\", \"m\"]\n";

fn tensors() -> Vec<Tensor> {
    vec![Tensor::numbered("a", Dtype::Bf16, &[40, 64]), Tensor::numbered("b", Dtype::F32, &[200, 200])]
}

#[test]
fn a_fault_at_any_request_is_an_error_and_the_harmless_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = tensors();
    let path = checkpoint(folder.path(), &tensors, 1);
    let file = safetensors(&tensors);
    let (plain, verified) = (plan(POLICY, &path), plan(&format!("{POLICY}[loader]\nverify = \"xxh3\"\n"), &path));
    let (opened, _) = Checkpoint::open(&path).unwrap();
    let chunks = ManifestOptions { chunk_bytes: 500, ..ManifestOptions::default() };
    let manifest = Manifest::build(&opened, chunks, &Silent).unwrap();
    let right = load(&plain, 1, options(1, 0));
    for (plan, threads, gap) in
        [(&plain, 1, 0), (&plain, 1, 1 << 20), (&plain, 3, 0), (&verified, 1, 0), (&verified, 3, 0)]
    {
        let device = ReadPlan::new(plan, 1).unwrap();
        let attempt = |threads, gap, fault: &(dyn Fn(u64) -> Option<Fault> + Send + Sync)| {
            let faulty = Faulty::new(&file[..], fault);
            let sources: [&dyn ReadAt; 1] = [&faulty];
            let loader = Loader::over(&device, options(threads, gap), &sources).unwrap();
            let loaded = loader.verified_by(Some(&manifest)).unwrap().load(&Silent);
            (loaded, faulty.reads())
        };
        let (loaded, reads) = attempt(threads, gap, &|_| None);
        assert_eq!(loaded.unwrap(), right);
        for at in 0..reads {
            for fault in [Fault::Error(ErrorKind::Other), Fault::Error(ErrorKind::WouldBlock), Fault::End] {
                let (loaded, _) = attempt(threads, gap, &|read| (read == at).then_some(fault));
                let error = loaded.unwrap_err();
                assert!(matches!(error, LoadError::Read { .. }), "{error}");
                let finding = error.finding().unwrap();
                assert!([&code::UNREADABLE_FILE, &code::FILE_CHANGED].contains(&finding.code));
                assert!(finding.notes[0].contains("tensor `"), "{finding:?}");
            }
            for fault in [Fault::Interrupted, Fault::Short(1)] {
                let (loaded, _) = attempt(threads, gap, &|read| (read == at).then_some(fault));
                assert_eq!(loaded.unwrap(), right, "{fault:?} at {at}");
            }
        }
        let (loaded, _) =
            attempt(threads, gap, &|read| if read % 3 == 0 { Some(Fault::Interrupted) } else { Some(Fault::Short(5)) });
        assert_eq!(loaded.unwrap(), right);
    }
}

#[test]
fn the_error_names_tensor_file_and_byte() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = tensors();
    let path = checkpoint(folder.path(), &tensors, 1);
    let plan = plan(POLICY, &path);
    let device = ReadPlan::new(&plan, 0).unwrap();
    let b = &device.targets[1];
    let (place, run) = (b.place.unwrap(), b.slice.run());
    // The file ends in the middle of row 1 of `b`.
    let end = place.offset + 800 + run / 2;
    let cut = &safetensors(&tensors)[..usize::try_from(end).unwrap()];
    let sources: [&dyn ReadAt; 1] = [&cut];
    let error = Loader::over(&device, options(1, 0), &sources).unwrap().load(&Silent).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("tensor `b`: `memory` is too short: from byte {end} on it lacks {} bytes", run / 2)
    );
}

#[test]
fn a_file_that_changes_after_its_header_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &tensors(), 1);
    let plan = plan(POLICY, &path);
    let device = ReadPlan::new(&plan, 0).unwrap();
    let mut loader = Loader::open(&device, options(1, 0)).unwrap();
    let file = folder.path().join("model-00001-of-00001.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    // The same size and the same header: only the stamp tells.
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::write(&file, &bytes).unwrap();
    let error = loader.load(&Silent).unwrap_err();
    assert_eq!(error.finding().unwrap().code, &code::FILE_CHANGED);
    assert!(matches!(Loader::open(&device, options(1, 0)), Err(LoadError::Open(_))));
    // Cut short, with a reader that maps: an error before the mapping is touched.
    std::fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
    assert!(Loader::open(&device, options(1, 0)).is_err());
}

/// Each way a file can become another one between its header and its data, noticed by every reader that does not map.
#[test]
fn a_file_that_is_replaced_cut_or_taken_away_is_not_loaded() {
    type Change = fn(&std::path::Path);
    fn rewritten(path: &std::path::Path) -> std::path::PathBuf {
        let time = std::fs::metadata(path).unwrap().modified().unwrap();
        let copy = path.with_extension("new");
        std::fs::write(&copy, std::fs::read(path).unwrap()).unwrap();
        std::fs::File::options().append(true).open(&copy).unwrap().set_modified(time).unwrap();
        copy
    }
    fn cut(path: &std::path::Path) {
        std::fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap();
    }
    let before: [(&str, Change); 4] = [
        // The same bytes, size and time: only the inode tells.
        ("replaced", |path| std::fs::rename(rewritten(path), path).unwrap()),
        ("cut", cut),
        ("longer", |path| {
            use std::io::Write as _;
            std::fs::File::options().append(true).open(path).unwrap().write_all(b"x").unwrap();
        }),
        ("absent", |path| std::fs::remove_file(path).unwrap()),
    ];
    for read in ["pread", "direct", "auto", "mmap"] {
        let policy = format!("{POLICY}[loader]\nread = \"{read}\"\n");
        for (name, change) in before {
            let folder = tempfile::tempdir().unwrap();
            let path = checkpoint(folder.path(), &tensors(), 1);
            let plan = plan(&policy, &path);
            let device = ReadPlan::new(&plan, 0).unwrap();
            change(&folder.path().join("model-00001-of-00001.safetensors"));
            let error = Loader::open(&device, options(1, 0)).err().unwrap();
            let code = error.finding().unwrap().code.name;
            assert_eq!(code, if name == "absent" { "unreadable-file" } else { "file-changed" }, "{name}, {read}");
        }
        if read == "mmap" {
            // A mapping that is cut kills the process; that is why policies must ask for it.
            continue;
        }
        // Already open: what was opened stays the file it was, but it can still be cut.
        let folder = tempfile::tempdir().unwrap();
        let path = checkpoint(folder.path(), &tensors(), 1);
        let plan = plan(&policy, &path);
        let device = ReadPlan::new(&plan, 0).unwrap();
        let file = folder.path().join("model-00001-of-00001.safetensors");
        let right = load(&plan, 0, options(1, 0));
        let mut loader = Loader::open(&device, options(1, 0)).unwrap();
        std::fs::rename(rewritten(&file), &file).unwrap();
        match loader.load(&Silent) {
            Ok(loaded) => assert_eq!(loaded, right, "{read}"),
            Err(error) => assert_eq!(error.finding().unwrap().code.name, "file-changed", "{read}"),
        }
        let plan = self::plan(&policy, &path);
        let device = ReadPlan::new(&plan, 0).unwrap();
        let mut loader = Loader::open(&device, options(1, 0)).unwrap();
        cut(&file);
        let error = loader.load(&Silent).unwrap_err();
        assert_eq!(error.finding().unwrap().code.name, "file-changed", "{read}");
    }
}

#[test]
fn work_that_is_told_to_stop_hands_nothing_out() {
    #[derive(Default)]
    struct Stops(AtomicU64);
    impl Progress for Stops {
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
        fn is_cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed) > 0
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &tensors(), 1);
    let plan = plan(POLICY, &path);
    let device = ReadPlan::new(&plan, 0).unwrap();
    let mut loader = Loader::open(&device, options(1, 0)).unwrap();
    let stops = Stops::default();
    assert!(matches!(loader.load(&stops), Err(LoadError::Cancelled(_))));
    assert!(stops.0.load(Ordering::Relaxed) < device.wanted(), "it stopped on the way");
}

#[test]
fn a_tensor_that_no_memory_can_hold_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    // A file of holes: nothing but its header takes space.
    let bytes = 1_u64 << 42;
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Where the file system has no such files, there is nothing to show.
    if file.set_len(8 + header.len() as u64 + bytes).is_err() {
        return;
    }
    let plan = plan(
        "language = 1\npolicy = \"p\"\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"a\"\nglob = \"**\"\nspec = []\n",
        &path,
    );
    let device = ReadPlan::new(&plan, 0).unwrap();
    let mut loader = Loader::open(&device, options(1, 0)).unwrap();
    // Where the system promises more than it has, it could be a success that nobody wants to wait for.
    let generous = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "1");
    if !generous {
        assert!(matches!(loader.load(&Silent), Err(LoadError::NoMemory { bytes: missing, .. }) if missing == bytes));
    }
}
