//! Conversion: what torch and numpy wrote, byte for byte as they read it themselves.
//!
//! `tests/data/convert/make.py` made the files, each with its tensors as safetensors' own library writes them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use flow_fabric::convert::{ConvertError, ConvertOptions, Converted, convert};
use flow_fabric::finding::{Severity, worst};
use flow_fabric::inventory::{Checkpoint, Grouping, Inventory};
use flow_fabric::output::OutputError;
use flow_fabric::progress::{Progress, Silent};
use safetensors::SafeTensors;
use tempfile::TempDir;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/convert").join(name)
}

fn run(source: &Path, target: &Path, options: &ConvertOptions) -> Result<Converted, ConvertError> {
    let (checkpoint, findings) = Checkpoint::open(source).unwrap();
    convert(&checkpoint, &findings, target, options, &Silent)
}

/// Dtype, shape and bytes of every tensor in some files, as the reference library reads them.
fn tensors(files: &[PathBuf]) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let mut out = BTreeMap::new();
    for file in files {
        let bytes = fs::read(file).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            out.insert(name, (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    out
}

/// Converts a file, and holds the result, tied names put back, against the expected tensors less `absent`.
fn holds(source: &str, expected: &str, absent: &[&str], options: &ConvertOptions) -> Converted {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    let converted = run(&data(source), &target, options).unwrap();
    let files: Vec<PathBuf> = converted.files.iter().map(|file| target.join(file)).collect();
    let mut found = tensors(&files);
    assert_eq!(found.len(), converted.tensors);
    for (alias, name) in &converted.aliases {
        found.insert(alias.clone(), found[name].clone());
    }
    let mut expected = tensors(&[data(expected)]);
    expected.retain(|name, _| !absent.contains(&name.as_str()));
    assert_eq!(found, expected, "{source}");
    assert_eq!(names(folder.path()), ["model"]);
    converted
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_torch_wrote() {
    let options = ConvertOptions::default();
    let converted = holds("torch.pt", "torch.expected.safetensors", &[], &options);
    let tied = [("also_transposed", "transposed"), ("head.weight", "embed.weight")];
    assert_eq!(converted.aliases, tied.map(|(alias, name)| (alias.to_owned(), name.to_owned())).into());
    holds("torch-legacy.pt", "torch.expected.safetensors", &["float8"], &options);
}

#[test]
fn what_numpy_wrote() {
    holds("numpy.npz", "numpy.expected.safetensors", &[], &ConvertOptions::default());
    holds("numpy-compressed.npz", "numpy.expected.safetensors", &["columns"], &ConvertOptions::default());
}

#[test]
fn any_cut_and_any_number_of_threads_hold_the_same() {
    for shard_bytes in [None, Some(1), Some(200), Some(1 << 30)] {
        for threads in [0, 1, 7] {
            let options = ConvertOptions { shard_bytes, threads, ..ConvertOptions::default() };
            let converted = holds("torch.pt", "torch.expected.safetensors", &[], &options);
            assert_eq!(converted.files.len() > 1, matches!(shard_bytes, Some(1 | 200)));
        }
    }
}

#[test]
fn what_was_converted_has_the_weights_of_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    run(&data("torch.pt"), &target, &ConvertOptions { shard_bytes: Some(100), ..ConvertOptions::default() }).unwrap();
    let weights = |path: &Path| {
        let (checkpoint, findings) = Checkpoint::open(path).unwrap();
        let (inventory, _) = Inventory::group(&checkpoint, &Grouping::default());
        let weights = inventory.weights.into_iter().map(|weight| (weight.path, weight.dtype, weight.shape));
        (weights.collect::<BTreeSet<_>>(), findings)
    };
    let (converted, findings) = weights(&target);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(converted, weights(&data("torch.pt")).0);
    // Tied names are found again, and once more after a second conversion.
    let (checkpoint, _) = Checkpoint::open(&target).unwrap();
    assert_eq!(checkpoint.aliases.len(), 2);
    let again = folder.path().join("again");
    let converted = run(&target, &again, &ConvertOptions::default()).unwrap();
    assert_eq!(converted.aliases.len(), 2);
    assert_eq!(weights(&again).0, weights(&target).0);
}

#[test]
fn a_pickled_pair_is_two_tensors_and_config_and_tokenizer_go_along() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("ckpt-0");
    fs::create_dir(&source).unwrap();
    fs::copy(data("../pickles/quantized.protocol4.pkl"), source.join("tensor00000_000")).unwrap();
    fs::write(source.join("config.json"), "{}").unwrap();
    fs::write(source.join("tokenizer.model"), "t").unwrap();
    let target = folder.path().join("model");
    let converted = run(&source, &target, &ConvertOptions::default()).unwrap();
    assert_eq!(converted.tensors, 2);
    assert_eq!(names(&target), ["config.json", "model.safetensors", "tokenizer.model"]);
    let found = tensors(&[target.join("model.safetensors")]);
    assert_eq!(found["tensor00000/weight"].2, (0..12).collect::<Vec<u8>>());
    assert_eq!(found["tensor00000/scales"].0, "BF16");
}

/// Codes of what refused a conversion; nothing is left.
fn refused(source: &Path, options: &ConvertOptions) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let error = run(source, &folder.path().join("model"), options).unwrap_err();
    assert_eq!(names(folder.path()), [""; 0]);
    let findings = error.findings();
    assert_eq!(worst(&findings), Some(Severity::Error));
    findings.iter().map(|finding| finding.code.name).collect()
}

#[test]
fn what_is_damaged_or_foreign_is_refused() {
    let options = ConvertOptions::default();
    assert_eq!(refused(&data("../pickles/training_args.bin"), &options), ["refused-pickle"]);
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.pt");
    let bytes = fs::read(data("torch.pt")).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 30]).unwrap();
    assert_eq!(refused(&cut, &options), ["malformed-zip"]);
    let list = folder.path().join("list.jsonl");
    fs::write(
        &list,
        "{\"name\":\"w\",\"dtype\":\"F32\",\"shape\":[1]}\n{\"name\":\"q\",\"dtype\":\"q4_0\",\"shape\":[32]}\n",
    )
    .unwrap();
    assert_eq!(refused(&list, &options), ["unwritable-tensor"]);
    fs::write(&list, "{\"name\":\"w\",\"dtype\":\"F32\",\"shape\":[1]}\n").unwrap();
    assert_eq!(refused(&list, &options), ["unreadable-file"]);
}

#[test]
fn a_flipped_bit_in_a_packed_array_is_refused_or_noticed() {
    let good = fs::read(data("numpy-compressed.npz")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.npz");
    for at in (0..good.len()).step_by(9) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let target = folder.path().join("model");
        // Never a panic, never a tensor of another size.
        if let Ok(converted) = run(&path, &target, &ConvertOptions::default()) {
            assert!(converted.tensors <= 4, "{at}");
            fs::remove_dir_all(&target).unwrap();
        }
        assert_eq!(names(folder.path()), ["m.npz"], "{at}");
    }
}

/// A safetensors file of bytes, with metadata.
fn with_metadata(path: &Path, metadata: &str, names: &[&str]) {
    let entry =
        |(at, name)| format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{at},{}]}}", at + 1);
    let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
    let header = format!("{{\"__metadata__\":{metadata},{}}}", entries.join(","));
    let data: Vec<u8> = (1..=u8::try_from(names.len()).unwrap()).collect();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn metadata_names_tied_weights_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let cases = [
        (r#"{"format":"pt"}"#, vec![]),
        (r#"{"tied":"a"}"#, vec!["tied"]),
        (r#"{"one":"a","two":"b"}"#, vec!["one", "two"]),
        // A tensor of the name goes before; an alias of an alias, of nothing, or of no name is none.
        (r#"{"b":"a"}"#, vec![]),
        (r#"{"x":"y","y":"a"}"#, vec!["y"]),
        (r#"{"tied":"absent"}"#, vec![]),
        (r#"{"bad\u0000":"a","":"a"}"#, vec![]),
    ];
    for (metadata, aliases) in cases {
        with_metadata(&path, metadata, &["a", "b"]);
        let (checkpoint, findings) = Checkpoint::open(&path).unwrap();
        assert_eq!(
            checkpoint.aliases.iter().map(String::as_str).collect::<Vec<_>>(),
            aliases,
            "{metadata}: {findings:?}"
        );
        assert_eq!(checkpoint.tensors.len(), 2 + aliases.len());
    }
    // Of two files, whichever comes first.
    with_metadata(&path, r#"{"b":"a"}"#, &["a"]);
    with_metadata(&folder.path().join("n.safetensors"), "{}", &["b"]);
    let (checkpoint, findings) = Checkpoint::open(folder.path()).unwrap();
    assert!(findings.is_empty() && checkpoint.aliases.is_empty());
}

#[cfg(unix)]
#[test]
fn a_source_is_never_replaced_by_its_own_conversion() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("model");
    fs::create_dir(&source).unwrap();
    fs::copy(data("torch.pt"), source.join("m.pt")).unwrap();
    let options = ConvertOptions { replace: true, ..ConvertOptions::default() };
    std::os::unix::fs::symlink("model", folder.path().join("link")).unwrap();
    for target in ["model", "link", "model/../model", "."] {
        let refused = run(&source.join("m.pt"), &folder.path().join(target), &options);
        assert!(matches!(refused, Err(ConvertError::Output(OutputError::Source { .. }))), "{target}: {refused:?}");
    }
    assert_eq!(names(&source), ["m.pt"]);
    run(&source.join("m.pt"), &source.join("below"), &options).unwrap();
}

/// Stops after some bytes.
struct StopsAfter(std::sync::atomic::AtomicU64);

impl Progress for StopsAfter {
    fn advance(&self, bytes: u64) {
        use std::sync::atomic::Ordering;
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) == 0
    }
}

#[test]
fn a_cancelled_conversion_leaves_nothing() {
    let (checkpoint, findings) = Checkpoint::open(&data("torch.pt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    for bytes in [0, 1, 100, 500, 1000] {
        let stop = StopsAfter(bytes.into());
        let result = convert(&checkpoint, &findings, &target, &ConvertOptions::default(), &stop);
        assert!(matches!(result, Err(ConvertError::Cancelled(_))), "{bytes}: {result:?}");
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn a_source_that_changes_is_noticed_and_what_stands_there_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("m.pt");
    fs::copy(data("torch.pt"), &source).unwrap();
    let target = folder.path().join("model");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "").unwrap();
    let taken = run(&source, &target, &ConvertOptions::default());
    assert!(matches!(taken, Err(ConvertError::Output(OutputError::Exists { .. }))));
    let (checkpoint, findings) = Checkpoint::open(&source).unwrap();
    fs::copy(data("torch-legacy.pt"), &source).unwrap();
    let options = ConvertOptions { replace: true, ..ConvertOptions::default() };
    let changed = convert(&checkpoint, &findings, &target, &options, &Silent).unwrap_err();
    assert_eq!(changed.findings()[0].code.name, "file-changed");
    assert_eq!(names(&target), ["mine"]);
    run(&source, &target, &options).unwrap();
    assert_eq!(names(&target), ["model.safetensors"]);
    let _: TempDir = folder;
}
