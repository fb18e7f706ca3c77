//! Verbs that write: `convert`, `manifest`, `stage`.

use std::fs;

use insta::assert_snapshot;

use super::within;

#[test]
fn a_conversion_says_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let convert =
        |more: &str| within(folder.path(), &format!("convert tests/data/convert/torch.pt -o DIR/model{more}"));
    let transcript = [
        convert(""),
        convert(""),
        convert(" --force --shard-size 300 --format json"),
        convert(" --force --shard-size nothing"),
        within(folder.path(), "convert tests/data/pickles/training_args.bin -o DIR/none"),
        within(folder.path(), "inspect DIR/model"),
    ];
    assert_snapshot!(transcript.join("\n"));
}

#[test]
fn a_manifest_is_written_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.safetensors");
    fs::copy("tests/data/convert/torch.expected.safetensors", &file).unwrap();
    let manifest = |more: &str| within(folder.path(), &format!("manifest DIR/m.safetensors{more}"));
    let mut transcript = vec![manifest(" --check"), manifest(" --chunk-size 64"), manifest(" --check")];
    let mut bytes = fs::read(&file).unwrap();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    fs::write(&file, bytes).unwrap();
    transcript.push(manifest(" --check"));
    transcript.push(manifest(" --check --format json"));
    assert_snapshot!(transcript.join("\n"));
}

#[test]
fn a_bundle_goes_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bundle")).unwrap();
    fs::write(folder.path().join("bundle/a"), "abc").unwrap();
    let stage = |more: &str| within(folder.path(), &format!("stage DIR/bundle --to DIR/copy{more}"));
    let mut transcript = vec![
        stage(" --restore"),
        stage(" --budget 1KiB"),
        stage(" --verify"),
        stage(""),
        stage(" --restore"),
        stage(" --restore --force"),
    ];
    fs::write(folder.path().join("copy/a"), "abd").unwrap();
    transcript.push(stage(" --restore --force"));
    assert_snapshot!(transcript.join("\n"));
}
