//! Staging: copies of trees, there and back, and files in shared memory.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use flow_fabric::output::OutputError;
use flow_fabric::progress::Silent;
use flow_fabric::stage::{STAGE_FILE, SharedMemory, StageError, StageOptions, Staged, restore, stage};
use flow_fabric::storage::{ReadAt as _, SourceFile};
use tempfile::TempDir;

const PLAIN: StageOptions = StageOptions { verify: false, replace: false, budget: None, threads: 3 };
const VERIFIED: StageOptions = StageOptions { verify: true, ..PLAIN };

/// A tree with what trees have: directories, empty ones, links inside and out, permissions.
fn tree(folder: &Path) -> PathBuf {
    let root = folder.join("tree");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir_all(root.join("empty/er")).unwrap();
    fs::write(root.join("top"), "top").unwrap();
    fs::write(root.join("a/b/none"), "").unwrap();
    fs::write(root.join("a/large"), (0..9_000_000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect::<Vec<u8>>())
        .unwrap();
    fs::write(folder.join("outside"), "from outside").unwrap();
    symlink("../top", root.join("a/link")).unwrap();
    symlink("../outside", root.join("blob")).unwrap();
    fs::set_permissions(root.join("top"), fs::Permissions::from_mode(0o750)).unwrap();
    root
}

/// What a tree holds: content, permissions and times of files, what links say; the record of a copy left out.
fn content(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if name == STAGE_FILE {
                continue;
            }
            let told = if metadata.is_dir() {
                open.push(path);
                "directory".to_owned()
            } else if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                let bytes = fs::read(&path).unwrap();
                let hash = blake3::hash(&bytes);
                format!(
                    "{:o} {:?} {} {hash}",
                    metadata.permissions().mode() & 0o777,
                    metadata.modified().unwrap(),
                    bytes.len()
                )
            };
            out.insert(name, told);
        }
    }
    out
}

/// The same, links to the outside taken for what they lead to.
fn expected(root: &Path) -> BTreeMap<String, String> {
    let mut content = content(root);
    if content.contains_key("blob") {
        let outside = root.parent().unwrap().join("outside");
        let copy = tempfile::tempdir().unwrap();
        fs::hard_link(&outside, copy.path().join("blob"))
            .or_else(|_| fs::copy(&outside, copy.path().join("blob")).map(drop))
            .unwrap();
        content.extend(self::content(copy.path()));
    }
    content
}

fn run(source: &Path, copy: &Path, options: &StageOptions) -> Result<Staged, StageError> {
    stage(source, copy, options, &Silent)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_goes_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let copy = folder.path().join("copy");
    let staged = run(&root, &copy, &VERIFIED).unwrap();
    assert_eq!((staged.copied, staged.reused), (9_000_015, false));
    assert_eq!(content(&copy), expected(&root));
    assert_eq!(content(&copy)["a/link"], "-> ../top");
    let original = expected(&root);
    // Something in the way is kept unless it may be replaced.
    assert!(matches!(restore(&root, &copy, &PLAIN, &Silent), Err(StageError::Output(OutputError::Exists { .. }))));
    fs::write(root.join("top"), "edited").unwrap();
    restore(&root, &copy, &StageOptions { replace: true, ..PLAIN }, &Silent).unwrap();
    assert_eq!(content(&root), original);
    fs::remove_dir_all(&root).unwrap();
    restore(&root, &copy, &PLAIN, &Silent).unwrap();
    assert_eq!(content(&root), original);
    assert_eq!(names(folder.path()), ["copy", "outside", "tree"]);
}

#[test]
fn a_copy_that_is_there_is_used_while_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let copy = folder.path().join("copy");
    run(&root, &copy, &PLAIN).unwrap();
    for options in [PLAIN, VERIFIED] {
        let again = run(&root, &copy, &options).unwrap();
        assert_eq!((again.copied, again.reused), (0, true));
    }
    // Damage that keeps size and time is found by reading.
    let damaged = copy.join("a/large");
    let time = fs::metadata(&damaged).unwrap().modified().unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[5_000_000] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    fs::File::options().append(true).open(&damaged).unwrap().set_modified(time).unwrap();
    assert!(run(&root, &copy, &PLAIN).unwrap().reused);
    assert!(matches!(restore(&folder.path().join("back"), &copy, &PLAIN, &Silent), Err(StageError::Damaged { .. })));
    assert!(!run(&root, &copy, &VERIFIED).unwrap().reused);
    assert_eq!(content(&copy), expected(&root));
    // A source that changed is copied anew.
    fs::write(root.join("new"), "new").unwrap();
    assert!(!run(&root, &copy, &PLAIN).unwrap().reused);
    assert_eq!(content(&copy), expected(&root));
    fs::remove_file(copy.join("new")).unwrap();
    assert!(!run(&root, &copy, &PLAIN).unwrap().reused);
    assert_eq!(content(&copy), expected(&root));
    assert_eq!(names(folder.path()), ["copy", "outside", "tree"]);
}

#[test]
fn a_single_file_goes_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("model.gguf");
    fs::write(&source, "GGUF").unwrap();
    let copy = folder.path().join("copy");
    run(&source, &copy, &PLAIN).unwrap();
    assert_eq!(names(&copy), [STAGE_FILE, "model.gguf"]);
    assert!(matches!(restore(&source, &copy, &PLAIN, &Silent), Err(StageError::Output(OutputError::Exists { .. }))));
    fs::remove_file(&source).unwrap();
    restore(&source, &copy, &PLAIN, &Silent).unwrap();
    assert_eq!(fs::read_to_string(&source).unwrap(), "GGUF");
    fs::write(copy.join("model.gguf"), "GGUP").unwrap();
    let options = StageOptions { replace: true, ..PLAIN };
    assert!(matches!(restore(&source, &copy, &options, &Silent), Err(StageError::Damaged { .. })));
    assert_eq!(fs::read_to_string(&source).unwrap(), "GGUF");
    assert_eq!(names(folder.path()), ["copy", "model.gguf"]);
}

#[test]
fn what_cannot_be_staged_is_told_before_a_byte_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let copy = folder.path().join("copy");
    let code = |result: Result<Staged, StageError>| result.unwrap_err().finding().unwrap().code.name;
    assert_eq!(code(run(&root, &copy, &StageOptions { budget: Some(1 << 20), ..PLAIN })), "stage-space");
    let sparse = folder.path().join("sparse");
    fs::create_dir(&sparse).unwrap();
    fs::File::create(sparse.join("hole")).unwrap().set_len(1 << 43).unwrap();
    assert_eq!(code(run(&sparse, &copy, &PLAIN)), "stage-space");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("mine"), "").unwrap();
    assert_eq!(code(run(&root, &copy, &PLAIN)), "output-exists");
    assert_eq!(names(&copy), ["mine"]);
    assert_eq!(code(restore(&root, &copy, &PLAIN, &Silent)), "malformed-manifest");
    symlink("round", root.join("round")).unwrap();
    // A link that stays inside is copied, whatever it leads to.
    run(&root, &folder.path().join("linked"), &PLAIN).unwrap();
    fs::remove_file(root.join("round")).unwrap();
    symlink("../tree", root.join("circle")).unwrap();
    // The system follows forty links.
    assert_eq!(code(run(&root, &folder.path().join("circled"), &PLAIN)), "output-failed");
    fs::remove_file(root.join("circle")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    assert_eq!(code(run(&root, &folder.path().join("fifo"), &PLAIN)), "not-a-file");
}

#[test]
fn a_tree_is_not_copied_into_or_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let before = content(&root);
    let options = StageOptions { replace: true, ..PLAIN };
    for target in ["", "copy", "a", "a/copy", "../tree", ".."] {
        let refused = run(&root, &root.join(target), &options);
        assert!(matches!(refused, Err(StageError::Output(OutputError::Source { .. }))), "{target}: {refused:?}");
    }
    assert_eq!(content(&root), before);
}

#[test]
fn a_record_cannot_lead_out_of_its_copy() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path());
    let copy = folder.path().join("copy");
    run(&root, &copy, &PLAIN).unwrap();
    let good = fs::read_to_string(copy.join(STAGE_FILE)).unwrap();
    for (from, to) in [
        ("\"top\"", "\"../outside\""),
        ("\"top\"", "\"/etc/passwd\""),
        ("\"top\"", "\"a/../../outside\""),
        ("\"top\"", "\"\""),
        ("\"top\"", "\"a/link/x\""),
        ("\"empty/er\"", "\"empty/..\""),
        ("\"empty/er\"", "\"empty\""),
        ("\"a/b/none\"", "\"top\""),
        ("\"a/b/none\"", "\"absent/none\""),
        ("\"a/b/none\"", "\"top/none\""),
        ("\"../top\"", "\"../../outside\""),
        ("\"../top\"", "\"/etc/passwd\""),
        ("\"a/link\": ", "\"a/link\": \"b\", \"a/link\": "),
        ("\"single\": null", "\"single\": \"top\""),
        ("\"single\": null", "\"single\": \"../x\""),
        ("\"format_version\": 1", "\"format_version\": 2"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(copy.join(STAGE_FILE), good.replacen(from, to, 1)).unwrap();
        let error = restore(&folder.path().join("back"), &copy, &PLAIN, &Silent).unwrap_err();
        assert_eq!(error.finding().unwrap().code.name, "malformed-manifest", "{to}");
        assert_eq!(names(folder.path()), ["copy", "outside", "tree"]);
    }
}

fn open(path: &Path) -> SourceFile {
    SourceFile::open_path(path, path.display().to_string().into()).unwrap()
}

/// Two files to be shared, and the place.
fn shared() -> (TempDir, Vec<SourceFile>, SharedMemory) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), vec![1; 5_000_000]).unwrap();
    fs::write(folder.path().join("b"), "b").unwrap();
    let files = vec![open(&folder.path().join("a")), open(&folder.path().join("b"))];
    let memory = SharedMemory::at(folder.path().join("shm"));
    (folder, files, memory)
}

#[test]
fn shared_copies_last_as_long_as_somebody_holds_them() {
    let (folder, files, memory) = shared();
    let shm = folder.path().join("shm");
    let first = memory.stage(&files, &Silent).unwrap();
    assert_eq!((first.copied(), first.reused()), (5_000_001, 0));
    let second = memory.stage(&files[..1], &Silent).unwrap();
    assert_eq!((second.copied(), second.reused()), (0, 1));
    let mut byte = [0];
    second.files()[0].read_exact_at(&mut byte, 4_999_999).unwrap();
    assert_eq!(byte, [1]);
    drop(first);
    assert_eq!(names(&shm).len(), 1);
    drop(second);
    assert_eq!(names(&shm), [""; 0]);
}

#[test]
fn processes_that_want_the_same_at_the_same_time_make_one_copy() {
    let (folder, files, memory) = shared();
    let copied: Vec<u64> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let staged = memory.stage(&files, &Silent).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(200));
                    staged.copied()
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert_eq!(copied.iter().sum::<u64>(), 5_000_001, "{copied:?}");
    assert_eq!(names(&folder.path().join("shm")), [""; 0]);
}

#[test]
fn what_killed_processes_left_is_used_or_removed() {
    let (folder, files, memory) = shared();
    let shm = folder.path().join("shm");
    // A whole copy that nobody holds, as a killed process leaves it.
    let staged = memory.stage(&files, &Silent).unwrap();
    let kept = folder.path().join("kept");
    fs::create_dir(&kept).unwrap();
    for name in names(&shm) {
        fs::copy(shm.join(&name), kept.join(&name)).unwrap();
    }
    drop(staged);
    let put_back = || {
        for name in names(&kept) {
            fs::copy(kept.join(&name), shm.join(&name)).unwrap();
        }
    };
    put_back();
    fs::write(shm.join("0123-4567"), "of another checkpoint").unwrap();
    fs::write(shm.join(".89ab.partial"), "unfinished").unwrap();
    fs::write(shm.join(".89ab.lock"), "").unwrap();
    let staged = memory.stage(&files, &Silent).unwrap();
    assert_eq!((staged.copied(), staged.reused()), (0, 2));
    assert_eq!(names(&shm), names(&kept));
    drop(staged);
    // Damaged: made anew.
    put_back();
    for name in names(&shm) {
        let mut bytes = fs::read(shm.join(&name)).unwrap();
        bytes[0] ^= 1;
        fs::write(shm.join(&name), bytes).unwrap();
    }
    let staged = memory.stage(&files, &Silent).unwrap();
    assert_eq!((staged.copied(), staged.reused()), (5_000_001, 0));
    drop(staged);
    assert_eq!(names(&shm), [""; 0]);
}

#[test]
fn shared_memory_is_refused_for_a_reason() {
    let (folder, files, memory) = shared();
    let code = |memory: &SharedMemory| memory.stage(&files, &Silent).unwrap_err().finding().unwrap().code.name;
    assert_eq!(code(&memory.clone().with_budget(Some(4096))), "stage-space");
    assert_eq!(code(&SharedMemory::at(folder.path().join("a"))), "not-a-file");
    assert_eq!(code(&SharedMemory::at(folder.path().join("absent/shm"))), "output-failed");
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(code(&SharedMemory::at(open)), "not-a-file");
    // The file is another one by now.
    fs::write(folder.path().join("a"), vec![2; 6_000_000]).unwrap();
    assert_eq!(code(&memory), "file-changed");
    assert_eq!(names(&folder.path().join("shm")), [""; 0]);
}
