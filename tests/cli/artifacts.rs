//! `convert`, `manifest`, `stage` and `load` as a platform engineer meets them: sessions from start to end.

use std::fs;
use std::path::Path;

use super::load::{say, tiny, untimed};
use super::within;

/// Command lines in one folder, one after the other.
fn session(folder: &Path, lines: &[&str]) -> String {
    lines.iter().map(|line| untimed(&within(folder, line))).collect::<Vec<_>>().join("\n")
}

/// Flips a bit of a file and keeps its time, as a disk does.
fn damage(path: &Path, at: impl Fn(usize) -> usize) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_torch_file_becomes_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("bert")).unwrap();
    fs::copy("tests/data/convert/torch.pt", at.join("bert/pytorch_model.bin")).unwrap();
    fs::write(at.join("bert/config.json"), "{}").unwrap();
    fs::copy("tests/data/pickles/training_args.bin", at.join("training_args.bin")).unwrap();
    let lines = [
        "inspect DIR/bert",
        "convert DIR/bert -o DIR/out",
        "inspect DIR/out",
        "convert DIR/bert -o DIR/out",
        "convert DIR/bert -o DIR/bert --force",
        "convert DIR/out -o DIR/cut --shard-size 200B",
        "convert DIR/training_args.bin -o DIR/args",
        "convert DIR/absent.bin -o DIR/args",
    ];
    insta::assert_snapshot!("convert-session", session(at, &lines));
    assert!(!at.join("args").exists());
}

/// What only warns by default can be made to stop a load.
#[test]
fn an_index_is_strict_when_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    tiny(at);
    let index = r#"{"metadata": {"total_size": 1}, "weight_map": {"w": "model.safetensors"}}"#;
    fs::write(at.join("model/model.safetensors.index.json"), index).unwrap();
    let lines = [
        "load DIR/tiny.toml DIR/model --device 0 --dry-run",
        "load DIR/tiny.toml DIR/model --device 0 -D unindexed-tensor -D index-total-size",
    ];
    insta::assert_snapshot!("strict-session", session(at, &lines));
}

#[test]
fn a_manifest_finds_what_a_disk_loses() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    tiny(at);
    let mut told = session(
        at,
        &["manifest DIR/model --check", "manifest DIR/model --chunk-size 16B", "manifest DIR/model --check"],
    );
    damage(&at.join("model/model.safetensors"), |length| length - 5);
    told += &session(at, &["manifest DIR/model --check", "manifest DIR/model --check --format json"]);
    insta::assert_snapshot!("manifest-session", told);
}

#[test]
fn a_bundle_is_staged_verified_and_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir_all(at.join("bundle/logs")).unwrap();
    fs::write(at.join("bundle/report.json"), "{}\n").unwrap();
    fs::write(at.join("bundle/logs/run"), vec![b'.'; 3000]).unwrap();
    let mut told = session(
        at,
        &[
            "stage DIR/bundle --to DIR/copy --verify",
            "stage DIR/bundle --to DIR/copy --verify",
            "stage DIR/bundle --to DIR/bundle/copy",
            "stage DIR/bundle --to DIR/other --budget 1KB",
            "stage DIR/absent --to DIR/other",
            "stage DIR/bundle --to DIR/copy --restore",
        ],
    );
    fs::remove_dir_all(at.join("bundle")).unwrap();
    told += "\n# bundle is lost\n";
    told += &session(at, &["stage DIR/bundle --to DIR/copy --restore"]);
    damage(&at.join("copy/logs/run"), |length| length / 2);
    told += "\n# a bit of copy/logs/run is lost\n";
    told += &session(
        at,
        &[
            "stage DIR/bundle --to DIR/copy --restore --force",
            "stage DIR/back --to DIR/bundle --restore",
            "stage DIR/bundle --to DIR/copy --verify",
        ],
    );
    insta::assert_snapshot!("stage-session", told);
}

#[test]
fn a_load_that_is_verified_from_plan_to_device() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    tiny(at);
    say(at, "verify = \"blake3\"");
    let mut told = session(
        at,
        &[
            "load DIR/tiny.toml DIR/model --device 1 --dry-run",
            "load DIR/tiny.toml DIR/model --device 1",
            "manifest DIR/model --chunk-size 8B",
            "load DIR/tiny.toml DIR/model --device model=1 --dry-run",
            "load DIR/tiny.toml DIR/model --device model=1 --dry-run --format markdown",
            "load DIR/tiny.toml DIR/model --device model=1 --out DIR/model-1",
        ],
    );
    damage(&at.join("model/model.safetensors"), |length| length - 1);
    told += "\n# a bit of norm is lost\n";
    told += &session(
        at,
        &[
            "load DIR/tiny.toml DIR/model --device 1 --out DIR/model-1 --force",
            "load DIR/tiny.toml DIR/model --device 1 --dry-run",
        ],
    );
    insta::assert_snapshot!("load-session", told);
    // The device's files are those from before the damage.
    let kept = fs::read(at.join("model-1/model.safetensors")).unwrap();
    assert!(kept.ends_with(b"YZ[DEFJKLPQRVWX") || kept.ends_with(b"DEFJKLPQRVWXYZ["));
}
