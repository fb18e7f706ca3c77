//! Manifests: digests beside a checkpoint, and what is said when the bytes are others.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::fs;
use std::path::Path;

use flow_fabric::finding::{Finding, code};
use flow_fabric::inventory::Checkpoint;
use flow_fabric::manifest::{Algorithm, Digests, Manifest, ManifestOptions, beside};
use flow_fabric::progress::Silent;
use proptest::prelude::*;

fn shipped() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/convert/torch.expected.safetensors"))
}

fn build(path: &Path, chunk_bytes: u64) -> (Checkpoint, Manifest) {
    let (checkpoint, findings) = Checkpoint::open(path).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let options = ManifestOptions { chunk_bytes, ..ManifestOptions::default() };
    let manifest = Manifest::build(&checkpoint, options, &Silent).unwrap();
    (checkpoint, manifest)
}

#[test]
fn a_manifest_is_the_digests_of_all_ranges() {
    let bytes = fs::read(shipped()).unwrap();
    for chunk_bytes in [1, 7, 64, 4 << 20] {
        let (checkpoint, manifest) = build(shipped(), chunk_bytes);
        assert_eq!(manifest.files[0].bytes, bytes.len() as u64);
        assert_eq!(manifest.files[0].tensors.len(), checkpoint.tensors.len());
        for tensor in &checkpoint.tensors {
            let digests = manifest.tensor("torch.expected.safetensors", &tensor.name).unwrap();
            let start = usize::try_from(tensor.bytes.offset.unwrap()).unwrap();
            let content = &bytes[start..start + usize::try_from(tensor.bytes.length).unwrap()];
            assert_eq!(digests.digests, Digests::of(content));
            let size = usize::try_from(chunk_bytes).unwrap();
            let chunks: Vec<Digests> = content.chunks(size).map(Digests::of).collect();
            let told: Vec<Digests> =
                (0..digests.chunk_count(chunk_bytes)).map(|chunk| *digests.chunk(chunk).unwrap()).collect();
            assert_eq!(told, chunks);
            assert_eq!(digests.chunk(digests.chunk_count(chunk_bytes).max(1)), None);
        }
        assert_eq!(manifest.compare(&checkpoint), []);
    }
}

#[test]
fn it_is_written_beside_the_checkpoint_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    fs::copy(shipped(), &path).unwrap();
    assert_eq!(beside(folder.path()), folder.path().join("flow-fabric.manifest.json"));
    assert!(Manifest::read(&beside(&path)).unwrap().is_none());
    let (_, manifest) = build(&path, 16);
    manifest.write(&beside(&path)).unwrap();
    assert_eq!(Manifest::read(&beside(&path)).unwrap().unwrap(), manifest);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    // The manifest itself is no part of the checkpoint.
    assert_eq!(build(folder.path(), 16).1, manifest);
}

/// Code and message of findings.
fn said(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{}: {}\n", finding.code.name, finding.message)).collect()
}

#[test]
fn a_manifest_that_cannot_be_read_says_why() {
    let (_, manifest) = build(shipped(), 8);
    let text = manifest.text().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    let mut out = String::new();
    for (from, to) in [
        ("\"format_version\":1", "\"format_version\":2"),
        ("\"chunk_bytes\":8", "\"chunk_bytes\":0"),
        ("\"chunk_bytes\":8", "\"chunk_bytes\":16"),
        ("\"format\":", "\"Format\":"),
        ("{", "["),
    ] {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        out += &said(&[*Manifest::read(&path).unwrap_err()]);
    }
    fs::write(&path, text.replace("\"xxh3\":\"", "\"xxh3\":\"0x")).unwrap();
    assert_eq!(Manifest::read(&path).unwrap_err().code, &code::MALFORMED_MANIFEST);
    assert_eq!(Manifest::read(folder.path()).unwrap_err().code, &code::NOT_A_FILE);
    insta::assert_snapshot!(out, @r"
    malformed-manifest: this is `flow-fabric-manifest` version 2
    malformed-manifest: chunks of no bytes
    malformed-manifest: tensor `also_transposed` has 12 chunks of 6
    malformed-manifest: the manifest cannot be read: unknown field `Format`, expected one of `format`, `format_version`, `chunk_bytes`, `files` at line 1 column 9
    malformed-manifest: the manifest cannot be read: expected `,` or `]` at line 1 column 10
    ");
}

/// Manifests that were made to mislead, each by one edit of a good one.
#[test]
fn hostile_manifests() {
    let digests = format!(r#""digests":{{"xxh3":"{}","blake3":"{}"}}"#, "0".repeat(16), "0".repeat(64));
    let tensor = format!(r#""w":{{"dtype":"u8","shape":[10],"offset":90,"bytes":10,{digests}}}"#);
    let file = format!(r#"{{"name":"m","bytes":100,"tensors":{{{tensor}}}}}"#);
    let good = format!(r#"{{"format":"flow-fabric-manifest","format_version":1,"chunk_bytes":16,"files":[{file}]}}"#);
    let edit = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let mut out = String::new();
    for (name, text) in [
        ("good", good.clone()),
        ("empty", String::new()),
        ("cut off", good[..good.len() - 9].to_owned()),
        ("text after", format!("{good} x")),
        ("nested deep", edit(&file, &"[".repeat(10_000))),
        ("another document", edit("flow-fabric-manifest", "flow-fabric-stage")),
        ("later version", edit("_version\":1", "_version\":2")),
        ("unknown field", edit("\"chunk_bytes\"", "\"x\":0,\"chunk_bytes\"")),
        ("field twice", edit("\"chunk_bytes\"", "\"chunk_bytes\":1,\"chunk_bytes\"")),
        ("chunks of no bytes", edit(":16,", ":0,")),
        ("chunks of a negative size", edit(":16,", ":-1,")),
        ("chunks beyond 64 bits", edit(":16,", ":18446744073709551616,")),
        ("chunks without digests", edit(":16,", ":4,")),
        ("tensor twice", edit(&tensor, &format!("{tensor},{tensor}"))),
        ("tensor twice by escape", edit(&tensor, &format!("{tensor},{}", tensor.replacen('w', "\\u0077", 1)))),
        ("file twice", edit(&file, &format!("{file},{file}"))),
        ("unknown dtype", edit("\"u8\"", "\"u7\"")),
        ("negative dimension", edit("[10]", "[-10]")),
        ("size that is not the shape's", edit("[10]", "[11]")),
        ("overflowing shape", edit("[10]", "[4294967296,4294967296]")),
        ("beyond the file", edit(":90,", ":91,")),
        ("offset u64 max", edit(":90,", ":18446744073709551615,")),
        ("digest too short", edit(&"0".repeat(16), &"0".repeat(15))),
        ("digest in capitals", edit(&"0".repeat(64), &"A".repeat(64))),
        (
            "digests of one kind only",
            edit(&digests, &format!(r#"{digests},"chunks":{{"xxh3":["{}"],"blake3":[]}}"#, "0".repeat(16))),
        ),
    ] {
        let told = Manifest::parse(&text, "m.manifest.json").err().map_or("ok\n".to_owned(), |told| said(&[*told]));
        out += &format!("{name}: {told}");
    }
    insta::assert_snapshot!("hostile_manifests", out);
}

#[test]
fn another_checkpoint_is_not_the_one_of_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("torch.expected.safetensors");
    let (_, manifest) = build(shipped(), 64);
    let write = |tensors: &[(&str, usize)]| {
        let mut header = String::from("{");
        let mut at = 0;
        for (name, size) in tensors {
            header += &format!(
                "{}\"{name}\":{{\"dtype\":\"U8\",\"shape\":[{size}],\"data_offsets\":[{at},{}]}}",
                if at > 0 { "," } else { "" },
                at + size
            );
            at += size;
        }
        header.push('}');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + at, 0);
        fs::write(&path, bytes).unwrap();
    };
    write(&[("rows", 3), ("new", 2)]);
    let (checkpoint, _) = Checkpoint::open(&path).unwrap();
    insta::assert_snapshot!(said(&manifest.compare(&checkpoint)), @r"
    manifest-differs: the file has 123 bytes, 2099 in the manifest
    manifest-differs: tensor `rows` is another one in the manifest
    manifest-differs: the manifest does not know tensor `new`
    manifest-differs: 15 tensors of the manifest are not in the file, `also_transposed` first
    ");
    fs::rename(&path, folder.path().join("other.safetensors")).unwrap();
    let (checkpoint, _) = Checkpoint::open(folder.path()).unwrap();
    insta::assert_snapshot!(said(&manifest.compare(&checkpoint)), @r"
    manifest-differs: the manifest does not know this file
    manifest-differs: file `torch.expected.safetensors` of the manifest is absent
    ");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        rng_seed: proptest::test_runner::RngSeed::Fixed(13),
        ..ProptestConfig::default()
    })]

    /// One flipped bit is one chunk of one tensor, and both digests tell.
    #[test]
    fn a_flipped_bit_is_found_where_it_is(at in 0_usize..10_000, bit in 0_u32..8, chunk_bytes in 1_u64..40) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        fs::copy(shipped(), &path).unwrap();
        let (checkpoint, manifest) = build(&path, chunk_bytes);
        let data: u64 = checkpoint.tensors.iter().filter_map(|tensor| tensor.bytes.offset).min().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let data = usize::try_from(data).unwrap();
        let at = data + at % (bytes.len() - data);
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let (damaged, now) = build(&path, chunk_bytes);
        prop_assert_eq!(manifest.compare(&damaged), []);
        let mismatches = manifest.mismatches(&now, &damaged);
        prop_assert_eq!(mismatches.len(), 1);
        let found = &mismatches[0];
        prop_assert!((found.offset..found.offset + found.length).contains(&(at as u64)));
        let digests = manifest.tensor("m.safetensors", &found.tensor).unwrap();
        let start = usize::try_from(found.offset).unwrap();
        let chunk = &bytes[start..start + usize::try_from(found.length).unwrap()];
        for algorithm in [Algorithm::Xxh3, Algorithm::Blake3] {
            let check = |bytes: &[u8]| digests.check_chunk(found.chunk, bytes, chunk_bytes, algorithm, &found.tensor, &found.file);
            prop_assert!(check(chunk).is_err());
            let mut good = chunk.to_vec();
            good[at - start] ^= 1 << bit;
            prop_assert!(check(&good).is_ok());
            // A piece of a chunk proves nothing.
            prop_assert!(check(&good[1..]).is_err());
        }
    }
}
