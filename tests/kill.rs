//! Runs that are killed, or that the system fails, at named places: what stands under a final name is always whole, and the next
//! run leaves nothing behind.
//!
//! The places are in the debug build of the binary only (`src/output/failpoint.rs`).

#![cfg(all(unix, debug_assertions, feature = "cli"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// One verb that writes, in a folder of its own.
struct Job {
    folder: TempDir,
    /// What it writes, below the folder.
    target: &'static str,
    /// Everything in the folder before, and after a run that succeeds.
    before: BTreeMap<String, Vec<u8>>,
    after: BTreeMap<String, Vec<u8>>,
}

/// All files below a folder with their content; directories by their names.
fn content(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                out.insert(name + "/", Vec::new());
                open.push(path);
            } else {
                // Some outputs name their source, which has another place in every folder.
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8(bytes.clone()).map(|text| text.replace(root.to_str().unwrap(), "DIR"));
                out.insert(name, text.map_or(bytes, String::into_bytes));
            }
        }
    }
    out
}

/// Runs a command line in which `DIR` stands for the folder.
fn run(line: &str, folder: &Path, failpoint: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flow-fabric"));
    command.args(line.replace("DIR", folder.to_str().unwrap()).split_whitespace());
    if let Some(failpoint) = failpoint {
        command.env("FLOW_FABRIC_FAILPOINT", failpoint);
    }
    command.output().unwrap()
}

impl Job {
    /// Lays a folder out; `after` is what the verb makes of it.
    fn new(lay_out: &dyn Fn(&Path), target: &'static str, after: &BTreeMap<String, Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        lay_out(folder.path());
        let before = content(folder.path());
        Self { folder, target, before, after: after.clone() }
    }

    /// What stands under the final name.
    fn part(&self, of: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
        let within = |name: &str| name == self.target || name.starts_with(&format!("{}/", self.target));
        of.iter().filter(|(name, _)| within(name)).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    }

    /// The old output or the new one stands under the final name, never a part of one.
    fn is_whole(&self, place: &str) {
        let found = self.part(&content(self.folder.path()));
        // Without a way to swap the old output is moved aside for a moment: then there is none, and it comes back.
        let aside = place.ends_with("directory/between") && found.is_empty();
        let whole = found == self.part(&self.before) || found == self.part(&self.after) || aside;
        assert!(whole, "after {place} {} is neither the old nor the new one: {:?}", self.target, found.keys());
    }
}

/// What a verb makes of a folder.
fn made(lay_out: &dyn Fn(&Path), line: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let output = run(line, folder.path(), None);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    content(folder.path())
}

/// Kills a run at each place, then runs it again.
fn survives(lay_out: &dyn Fn(&Path), line: &'static str, target: &'static str, places: &[&str]) {
    let after = made(lay_out, line);
    for place in places {
        let job = Job::new(lay_out, target, &after);
        let killed = run(line, job.folder.path(), Some(&format!("{place}=kill")));
        let stderr = String::from_utf8_lossy(&killed.stderr).into_owned();
        assert_eq!(killed.status.signal(), Some(9), "`{line}` does not reach {place}: {stderr}");
        job.is_whole(place);
        let again = run(line, job.folder.path(), None);
        let stderr = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(again.status.success(), "{place}: {stderr}");
        let found = content(job.folder.path());
        assert_eq!(found.keys().collect::<Vec<_>>(), job.after.keys().collect::<Vec<_>>(), "after {place}");
        assert!(found == job.after, "other bytes after {place}");
    }
}

/// Lets the system fail at each place: a finding, exit status 2, the old output, and nothing else.
fn refuses(lay_out: &dyn Fn(&Path), line: &'static str, target: &'static str, failures: &[(&str, &str)]) {
    for (failure, code) in failures {
        let job = Job::new(lay_out, target, &BTreeMap::new());
        let failed = run(line, job.folder.path(), Some(failure));
        let stderr = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(2), "{failure}: {stderr}");
        assert!(stderr.contains(&format!("[{code}]")), "{failure}: {stderr}");
        let found = content(job.folder.path());
        assert!(found == job.before, "{failure} leaves {:?}", found.keys());
    }
}

/// A panic unwinds: the old output, and nothing else.
fn unwinds(lay_out: &dyn Fn(&Path), line: &'static str, target: &'static str, places: &[&str]) {
    for place in places {
        let job = Job::new(lay_out, target, &BTreeMap::new());
        let panicked = run(line, job.folder.path(), Some(&format!("{place}=panic")));
        assert_eq!(panicked.status.code(), Some(101), "{place}");
        assert!(content(job.folder.path()) == job.before, "{place}");
    }
}

fn shipped(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/convert").join(name)
}

/// A torch file with a config beside it.
fn torch(folder: &Path) {
    fs::create_dir(folder.join("in")).unwrap();
    fs::copy(shipped("torch.pt"), folder.join("in/m.pt")).unwrap();
    fs::write(folder.join("in/config.json"), "{}").unwrap();
}

/// The same, and an older output.
fn torch_and_old(folder: &Path) {
    torch(folder);
    fs::create_dir_all(folder.join("out/below")).unwrap();
    fs::write(folder.join("out/below/old"), "old").unwrap();
}

const CONVERT: &str = "convert DIR/in/m.pt -o DIR/out --force --shard-size 200";

const CONVERT_PLACES: [&str; 17] = [
    "directory/created",
    "writer/create",
    "writer/create:2",
    "writer/write",
    "writer/write:2",
    "writer/write:9",
    "writer/settle",
    "writer/settle:3",
    "carry",
    "writer/index",
    "directory/sync",
    "directory/journal",
    "directory/rename",
    "directory/renamed",
    "directory/published",
    "writer/write:5",
    "writer/create:3",
];

#[test]
fn a_killed_conversion() {
    survives(&torch, CONVERT, "out", &CONVERT_PLACES[..14]);
    survives(&torch_and_old, CONVERT, "out", &CONVERT_PLACES[3..]);
    survives(&torch_and_old, CONVERT, "out", &["directory/swap"]);
    survives(&torch_and_old, CONVERT, "out", &["directory/swap=ENOTSUP,directory/between"]);
}

#[test]
fn a_conversion_that_the_system_fails() {
    let failures = [
        ("writer/create=ENOSPC", "FF552"),
        ("writer/write:3=ENOSPC", "FF552"),
        ("writer/settle=EIO", "FF554"),
        ("carry=EACCES", "FF553"),
        ("writer/index=EROFS", "FF553"),
        ("directory/created=EPERM", "FF553"),
        ("directory/sync=ENOSPC", "FF552"),
        ("directory/rename=EACCES", "FF553"),
    ];
    refuses(&torch, CONVERT, "out", &failures);
    refuses(&torch_and_old, CONVERT, "out", &failures);
    unwinds(&torch_and_old, CONVERT, "out", &["writer/write:3", "directory/rename", "carry"]);
}

fn checkpoint(folder: &Path) {
    fs::copy(shipped("torch.expected.safetensors"), folder.join("m.safetensors")).unwrap();
}

fn checkpoint_and_old(folder: &Path) {
    checkpoint(folder);
    fs::write(folder.join("m.safetensors.manifest.json"), "old").unwrap();
}

const MANIFEST: &str = "manifest DIR/m.safetensors --chunk-size 16";

#[test]
fn a_killed_manifest() {
    let places = ["manifest/digest:7", "file/write", "file/sync", "file/rename", "file/published"];
    survives(&checkpoint, MANIFEST, "m.safetensors.manifest.json", &places);
    survives(&checkpoint_and_old, MANIFEST, "m.safetensors.manifest.json", &places);
    let failures = [("file/write=ENOSPC", "FF552"), ("file/sync=EIO", "FF554"), ("file/rename=EROFS", "FF553")];
    refuses(&checkpoint, MANIFEST, "m.safetensors.manifest.json", &failures);
    refuses(&checkpoint_and_old, MANIFEST, "m.safetensors.manifest.json", &failures);
    unwinds(&checkpoint_and_old, MANIFEST, "m.safetensors.manifest.json", &["file/rename"]);
}

/// Files with a time that is the same in every folder, so that records are.
fn bundle(folder: &Path) {
    fs::create_dir_all(folder.join("in/below")).unwrap();
    for (name, size) in [("a", 10), ("b", 5_000_000), ("below/c", 0), ("below/d", 300)] {
        let path = folder.join("in").join(name);
        fs::write(&path, (0..size).map(|at: u32| (at % 249).to_le_bytes()[0]).collect::<Vec<u8>>()).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    }
}

fn bundle_and_old(folder: &Path) {
    bundle(folder);
    fs::create_dir(folder.join("copy")).unwrap();
    fs::write(folder.join("copy/old"), "old").unwrap();
}

/// A copy, whose source is gone or was edited.
fn staged(folder: &Path) {
    bundle(folder);
    assert!(run("stage DIR/in --to DIR/copy", folder, None).status.success());
    fs::write(folder.join("in/a"), "edited").unwrap();
}

/// A copy of a single file, which was edited since.
fn staged_file(folder: &Path) {
    fs::write(folder.join("one"), "one").unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    fs::File::options().append(true).open(folder.join("one")).unwrap().set_modified(time).unwrap();
    assert!(run("stage DIR/one --to DIR/copy", folder, None).status.success());
    fs::write(folder.join("one"), "edited").unwrap();
}

const STAGE: &str = "stage DIR/in --to DIR/copy --force --threads 2";
const STAGE_PLACES: [&str; 15] = [
    "directory/created",
    "stage/create",
    "stage/create:4",
    "stage/write",
    "stage/write:3",
    "stage/dress",
    "stage/dress:3",
    "directory/note",
    "directory/note:4",
    "file/rename",
    "directory/sync",
    "directory/journal",
    "directory/rename",
    "directory/renamed",
    "directory/published",
];

#[test]
fn a_killed_staging() {
    survives(&bundle, STAGE, "copy", &STAGE_PLACES);
    survives(&bundle_and_old, STAGE, "copy", &STAGE_PLACES[7..]);
    survives(
        &staged,
        "stage DIR/in --to DIR/copy --restore --force",
        "in",
        &["stage/write", "directory/rename", "directory/renamed"],
    );
    survives(
        &staged_file,
        "stage DIR/one --to DIR/copy --restore --force",
        "one",
        &["stage/write", "stage/dress", "file/sync", "file/rename", "file/published"],
    );
    let failures = [
        ("stage/create=ENOSPC", "FF552"),
        ("stage/write:2=ENOSPC", "FF552"),
        ("stage/dress=EPERM", "FF553"),
        ("directory/note=EIO", "FF554"),
        ("directory/rename=EROFS", "FF553"),
    ];
    refuses(&bundle, STAGE, "copy", &failures);
    refuses(&bundle_and_old, STAGE, "copy", &failures);
    unwinds(&bundle_and_old, STAGE, "copy", &["stage/write", "directory/rename"]);
}

/// Ctrl-C: exit status 130, the old output, and nothing else.
#[test]
fn an_interrupted_run_leaves_nothing() {
    type LayOut = fn(&Path);
    let jobs: [(LayOut, &str, &str); 4] = [
        (torch_and_old, CONVERT, "writer/write:3"),
        (checkpoint_and_old, MANIFEST, "manifest/digest:3"),
        (bundle_and_old, STAGE, "stage/write:2"),
        (sharded, LOAD, "writer/write"),
    ];
    for (lay_out, line, place) in jobs {
        let job = Job::new(&lay_out, "", &BTreeMap::new());
        let stopped = run(line, job.folder.path(), Some(&format!("{place}=interrupt")));
        let stderr = String::from_utf8_lossy(&stopped.stderr).into_owned();
        assert_eq!(stopped.status.code(), Some(130), "{line}: {stderr}");
        let found = content(job.folder.path());
        assert!(found == job.before, "{line} leaves {:?}", found.keys());
    }
}

/// A killed staging is continued, not begun anew.
#[test]
fn a_killed_staging_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    bundle(folder.path());
    let line = "stage DIR/in --to DIR/copy --threads 1";
    assert_eq!(run(line, folder.path(), Some("directory/note:4=kill")).status.signal(), Some(9));
    let again = run(line, folder.path(), None);
    let said = String::from_utf8(again.stderr).unwrap().replace(folder.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(said.trim_end(), @"continued `DIR/copy`: 4 files, 4.77 MiB, 300 B of them now");
}

/// A policy over two devices, a checkpoint of two matrices, and a tokenizer.
fn sharded(folder: &Path) {
    let policy = "language = 1\npolicy = \"p\"\n[mesh]\naxes = [\"m\"]\nshape = [2]\n[loader]\nread = \"pread\"\n\
        [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"columns\"\nglob = \"**\"\nspec = [\"-\", \"m\"]\n";
    fs::write(folder.join("p.toml"), policy).unwrap();
    fs::create_dir(folder.join("in")).unwrap();
    let header = r#"{"a":{"dtype":"U8","shape":[2,4],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3,2],"data_offsets":[8,14]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), b"ABCDEFGHIJKLMN"].concat();
    fs::write(folder.join("in/model.safetensors"), file).unwrap();
    fs::write(folder.join("in/tokenizer.json"), "{}").unwrap();
}

fn sharded_and_old(folder: &Path) {
    sharded(folder);
    fs::create_dir(folder.join("out")).unwrap();
    fs::write(folder.join("out/old"), "old").unwrap();
}

const LOAD: &str = "load DIR/p.toml DIR/in --device 1 --out DIR/out --force";

#[test]
fn a_killed_load() {
    let places = [
        "directory/created",
        "writer/create",
        "writer/write",
        "writer/write:2",
        "carry",
        "directory/sync",
        "directory/journal",
        "directory/rename",
        "directory/renamed",
        "directory/published",
    ];
    survives(&sharded, LOAD, "out", &places);
    survives(
        &sharded_and_old,
        LOAD,
        "out",
        &["writer/write:2", "directory/swap", "directory/renamed", "directory/published"],
    );
    survives(&sharded_and_old, LOAD, "out", &["directory/swap=ENOTSUP,directory/between"]);
    let failures = [("writer/write:2=ENOSPC", "FF552"), ("carry=EACCES", "FF553"), ("directory/sync=EIO", "FF554")];
    refuses(&sharded, LOAD, "out", &failures);
    refuses(&sharded_and_old, LOAD, "out", &failures);
    unwinds(&sharded_and_old, LOAD, "out", &["writer/write:2"]);
}

/// The same through shared memory.
fn through_shared_memory(folder: &Path) {
    sharded(folder);
    let text = fs::read_to_string(folder.join("p.toml")).unwrap();
    fs::write(folder.join("p.toml"), text.replace("[loader]\n", "[loader]\nstage = \"shm\"\n")).unwrap();
}

/// What this user has in shared memory.
fn shared() -> BTreeSet<String> {
    let folder = format!("/dev/shm/flow-fabric-{}", rustix::process::getuid().as_raw());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Nothing is in shared memory that was not there before; what other processes of this user have there comes and goes.
fn nothing_shared_since(before: &BTreeSet<String>, place: &str) {
    let looks = std::iter::repeat_with(shared).take(100).inspect(|now| {
        if !now.is_subset(before) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let gone = looks.into_iter().any(|now| now.is_subset(before));
    assert!(gone, "{place} leaves {:?} in shared memory", shared().difference(before).collect::<Vec<_>>());
}

#[test]
fn a_load_through_shared_memory_that_is_killed_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    through_shared_memory(folder.path());
    let said = run(LOAD, folder.path(), None);
    if String::from_utf8_lossy(&said.stderr).contains("the files themselves are read") {
        // There is no shared memory here.
        return;
    }
    let after = made(&through_shared_memory, LOAD);
    let before = shared();
    for place in ["shared/write", "file/sync", "file/rename", "file/published", "writer/write:2", "directory/renamed"] {
        survives(&through_shared_memory, LOAD, "out", &[place]);
        nothing_shared_since(&before, place);
    }
    for (failure, code) in [
        ("shared/make=EPERM", "FF553"),
        ("file/allocate=ENOSPC", "FF552"),
        ("shared/write=ENOSPC", "FF552"),
        ("file/rename=EIO", "FF554"),
    ] {
        let job = Job::new(&through_shared_memory, "out", &after);
        let done = run(LOAD, job.folder.path(), Some(failure));
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        // The declared fallback, and a finding that says so.
        assert!(stderr.contains(&format!("[{code}]")) && stderr.contains("the files themselves are read"), "{stderr}");
        assert_eq!(job.part(&content(job.folder.path())), job.part(&job.after), "{failure}");
        nothing_shared_since(&before, failure);
    }
}

/// Every place that the source names is one where a test kills a run.
#[test]
fn no_place_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open = vec![root.join("src")];
    let mut places = BTreeSet::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for call in ["failpoint::hit(\"", "place(\""] {
            places.extend(text.split(call).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    let named =
        |place: &str| place.split('/').filter(|part| part.bytes().all(|byte| byte.is_ascii_lowercase())).count();
    places.retain(|place| named(place) == 2 && place.matches('/').count() == 1);
    assert!(places.contains("writer/write") && places.contains("directory/sync"), "{places:?}");
    let tests =
        ["tests/kill.rs", "tests/quantize_run/crash.rs"].map(|file| fs::read_to_string(root.join(file)).unwrap());
    places.retain(|place| !tests.iter().any(|text| text.contains(place)));
    assert_eq!(places, BTreeSet::new());
}
