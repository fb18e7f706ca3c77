//! GGUF: what files hold, what hostile ones get, and models in several parts.

use std::fs;
use std::io::Cursor;

use flow_fabric::finding::{Severity, worst};
use flow_fabric::inventory::{Checkpoint, Container, Grouping, Inventory, MetadataValue};
use proptest::prelude::*;
use tempfile::TempDir;

use super::support::{lines, render};

/// A GGUF file in the making, honest unless told otherwise.
#[derive(Clone)]
struct Gguf {
    magic: [u8; 4],
    version: u32,
    alignment: u64,
    /// Key, type, and the value's bytes.
    pairs: Vec<(String, u32, Vec<u8>)>,
    tensors: Vec<Tensor>,
    /// What the counts claim, where that is not the truth.
    claims: [Option<u64>; 2],
    /// Bytes of data, where they are not what the tensors take.
    data: Option<u64>,
}

#[derive(Clone)]
struct Tensor {
    name: Vec<u8>,
    dimensions: Vec<u64>,
    kind: u32,
    /// Bytes, which place the next one.
    size: u64,
    offset: Option<u64>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Gguf {
    fn new(tensors: Vec<Tensor>) -> Self {
        let pairs = vec![("general.architecture".to_owned(), 8, text("llama"))];
        Self { magic: *b"GGUF", version: 3, alignment: 32, pairs, tensors, claims: [None; 2], data: None }
    }

    fn pair(mut self, key: &str, kind: u32, value: impl AsRef<[u8]>) -> Self {
        self.pairs.push((key.to_owned(), kind, value.as_ref().to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = [&self.magic[..], &self.version.to_le_bytes()].concat();
        out.extend(self.claims[0].unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.claims[1].unwrap_or(self.pairs.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.pairs {
            out.extend(text(key));
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        let mut next = 0;
        for tensor in &self.tensors {
            out.extend((tensor.name.len() as u64).to_le_bytes());
            out.extend(&tensor.name);
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            out.extend(tensor.dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(next).to_le_bytes());
            next = (next + tensor.size).next_multiple_of(self.alignment);
        }
        if !self.tensors.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        }
        out.resize(out.len() + self.data.unwrap_or(next) as usize, 0);
        out
    }
}

/// `dimensions` as the file lists them, fastest first.
fn tensor(name: &str, kind: u32, dimensions: &[u64], size: u64) -> Tensor {
    Tensor { name: name.as_bytes().to_vec(), dimensions: dimensions.to_vec(), kind, size, offset: None }
}

fn two() -> Vec<Tensor> {
    vec![tensor("token_embd.weight", 3, &[64, 5], 200), tensor("output_norm.weight", 0, &[64], 256)]
}

fn read(bytes: &[u8]) -> (Checkpoint, Vec<flow_fabric::finding::Finding>) {
    Checkpoint::from_reader(&mut Cursor::new(bytes), bytes.len() as u64, "f", Container::Gguf)
}

#[test]
fn a_model_is_read_row_major_with_its_metadata() {
    let file = Gguf::new(two())
        .pair("llama.block_count", 4, 30_u32.to_le_bytes())
        .pair("a.u8", 0, [255])
        .pair("a.i8", 1, [255])
        .pair("a.u16", 2, [1, 2])
        .pair("a.i16", 3, [0, 128])
        .pair("a.i32", 5, (-2_i32).to_le_bytes())
        .pair("a.f32", 6, 1.5_f32.to_le_bytes())
        .pair("a.bool", 7, [1])
        .pair("a.u64", 10, u64::MAX.to_le_bytes())
        .pair("a.i64", 11, i64::MIN.to_le_bytes())
        .pair("a.f64", 12, 0.1_f64.to_le_bytes())
        .pair("tokens", 9, [&8_u32.to_le_bytes()[..], &10_u64.to_le_bytes(), &text("ab").repeat(10)].concat())
        .pair("types", 9, [&5_u32.to_le_bytes()[..], &9_u64.to_le_bytes(), &[7; 36]].concat())
        .bytes();
    let (checkpoint, findings) = read(&file);
    assert_eq!(lines(&findings), "");
    let start = file.len() as u64 - 480;
    let places: Vec<(u64, u64)> =
        checkpoint.tensors.iter().map(|tensor| (tensor.bytes.offset.unwrap() - start, tensor.bytes.length)).collect();
    assert_eq!(places, [(0, 200), (224, 256)]);
    let metadata: Vec<String> =
        checkpoint.files[0].metadata.iter().map(|(key, value)| format!("{key} {value:?}")).collect();
    insta::assert_snapshot!(metadata.join("\n"), @r#"
    a.bool Bool(true)
    a.f32 Float(1.5)
    a.f64 Float(0.1)
    a.i16 Signed(-32768)
    a.i32 Signed(-2)
    a.i64 Signed(-9223372036854775808)
    a.i8 Signed(-1)
    a.u16 Unsigned(513)
    a.u64 Unsigned(18446744073709551615)
    a.u8 Unsigned(255)
    general.architecture Text("llama")
    llama.block_count Unsigned(30)
    tokens List { length: 10, first: [Text("ab"), Text("ab"), Text("ab"), Text("ab"), Text("ab"), Text("ab"), Text("ab"), Text("ab")] }
    types List { length: 9, first: [Signed(117901063), Signed(117901063), Signed(117901063), Signed(117901063), Signed(117901063), Signed(117901063), Signed(117901063), Signed(117901063)] }
    "#);
    insta::assert_snapshot!(render(&Inventory::group(&checkpoint, &Grouping::default())), @r"
    token_embd.weight ggml f32 [5, 64] <weight>
    output_norm.weight plain f32 [64] <weight>
    ");
}

/// A list value that claims `length` elements of a type.
fn list(kind: u32, length: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), elements].concat()
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let good = || Gguf::new(two());
    let one = |tensor: Tensor| Gguf::new(vec![tensor]).bytes();
    let with = |change: fn(&mut Gguf)| {
        let mut file = Gguf::new(two());
        change(&mut file);
        file.bytes()
    };
    let big = 1 << 63;
    vec![
        ("good", good().bytes()),
        ("version 2", with(|file| file.version = 2)),
        ("no tensors", Gguf::new(vec![]).bytes()),
        ("last padding absent", with(|file| file.data = Some(480))),
        ("scalar", one(tensor("s", 0, &[], 4))),
        ("empty tensor", one(tensor("s", 0, &[0, 7], 0))),
        ("alignment 64", {
            let mut file = good().pair("general.alignment", 4, 64_u32.to_le_bytes());
            file.alignment = 64;
            file.bytes()
        }),
        ("empty", vec![]),
        ("only magic", b"GGUF".to_vec()),
        ("wrong magic", with(|file| file.magic = *b"GGML")),
        ("version 1", with(|file| file.version = 1)),
        ("version 4", with(|file| file.version = 4)),
        ("big-endian", with(|file| file.version = 3_u32.swap_bytes())),
        ("tensor count u64 max", with(|file| file.claims[0] = Some(u64::MAX))),
        ("tensor count beyond the file", with(|file| file.claims[0] = Some(1000))),
        ("pair count u64 max", with(|file| file.claims[1] = Some(u64::MAX))),
        ("pair count too large", with(|file| file.claims[1] = Some(65_537))),
        ("key twice", good().pair("a", 0, [1]).pair("a", 0, [1]).bytes()),
        ("empty key", good().pair("", 0, [1]).bytes()),
        ("control character in a key", good().pair("a\n", 0, [1]).bytes()),
        ("type 13", good().pair("a", 13, [1]).bytes()),
        ("bool 2", good().pair("a", 7, [2]).bytes()),
        ("string length u64 max", good().pair("a", 8, u64::MAX.to_le_bytes()).bytes()),
        ("string beyond the file", good().pair("a", 8, 100_000_u64.to_le_bytes()).bytes()),
        ("string not UTF-8", good().pair("a", 8, [2, 0, 0, 0, 0, 0, 0, 0, b'a', 0xff]).bytes()),
        ("list of lists", good().pair("a", 9, list(9, 1, &list(0, 0, &[]))).bytes()),
        ("list length u64 max", good().pair("a", 9, list(0, u64::MAX, &[])).bytes()),
        ("list length times size wraps", good().pair("a", 9, list(10, (1 << 61) + 1, &[0; 8])).bytes()),
        ("list of strings that lies", good().pair("a", 9, list(8, 9, &text("x").repeat(8))).bytes()),
        (
            "long string in a list",
            good().pair("a", 9, list(8, 9, &[&text("x").repeat(8)[..], &[255; 8]].concat())).bytes(),
        ),
        ("alignment zero", good().pair("general.alignment", 4, 0_u32.to_le_bytes()).bytes()),
        ("alignment 24", good().pair("general.alignment", 4, 24_u32.to_le_bytes()).bytes()),
        ("alignment text", good().pair("general.alignment", 8, text("32")).bytes()),
        ("alignment 2^63", good().pair("general.alignment", 10, (1_u64 << 63).to_le_bytes()).bytes()),
        ("tensor twice", Gguf::new(vec![two().remove(1), two().remove(1)]).bytes()),
        ("empty name", one(tensor("", 0, &[1], 4))),
        ("control character in a name", one(tensor("a\u{1b}[2J", 0, &[1], 4))),
        ("long name", one(tensor(&"a".repeat(5000), 0, &[1], 4))),
        ("name not UTF-8", one(Tensor { name: vec![0xff], ..tensor("", 0, &[1], 4) })),
        ("five dimensions", one(tensor("a", 0, &[1, 1, 1, 1, 1], 4))),
        ("unknown type", one(tensor("a", 4, &[32], 16))),
        ("type u32 max", one(tensor("a", u32::MAX, &[32], 16))),
        ("row that is no whole block", one(tensor("a", 3, &[33, 32], 660))),
        ("product overflows", one(tensor("a", 0, &[1 << 32, 1 << 32], 0))),
        ("product wraps to zero", one(tensor("a", 24, &[big, 2], 0))),
        ("size overflows", one(tensor("a", 28, &[1 << 61], 0))),
        ("size beyond 63 bits", one(tensor("a", 24, &[big], 0))),
        ("dimension beyond 63 bits", one(tensor("a", 24, &[big, 0], 0))),
        ("padded end overflows", one(tensor("a", 24, &[(1 << 63) - 1], 0))),
        (
            "two that overflow together",
            Gguf::new(vec![
                tensor("a", 24, &[(1 << 63) - 32], (1 << 63) - 32),
                Tensor { offset: Some((1 << 63) - 32), ..tensor("b", 24, &[(1 << 63) - 32], 0) },
                Tensor { offset: Some(u64::MAX - 63), ..tensor("c", 24, &[128], 0) },
            ])
            .bytes_without_data(),
        ),
        ("overlap", with(|file| file.tensors[1].offset = Some(192))),
        ("same place", with(|file| file.tensors[1].offset = Some(0))),
        ("hole", with(|file| file.tensors[1].offset = Some(256))),
        ("first not at zero", with(|file| file.tensors[0].offset = Some(32))),
        ("offset u64 max", with(|file| file.tensors[1].offset = Some(u64::MAX))),
        ("data cut off", with(|file| file.data = Some(479))),
        ("trailing bytes", with(|file| file.data = Some(481))),
    ]
}

impl Gguf {
    fn bytes_without_data(mut self) -> Vec<u8> {
        self.data = Some(0);
        for tensor in &mut self.tensors {
            tensor.size = 0;
        }
        self.bytes()
    }
}

fn refused(findings: &[flow_fabric::finding::Finding]) -> bool {
    worst(findings) == Some(Severity::Error)
}

#[test]
fn each_hostile_file_gets_its_finding() {
    let mut out = String::new();
    for (name, bytes) in cases() {
        let (checkpoint, findings) = read(&bytes);
        assert!(!refused(&findings) || checkpoint.tensors.is_empty(), "{name}");
        let verdict = if refused(&findings) { lines(&findings) } else { "ok".to_owned() };
        out += &format!("{name}: {}\n", verdict.trim_end().replace('\n', "\n    "));
    }
    insta::assert_snapshot!("gguf_findings", out);
}

/// Whatever is accepted is inside the file, in order, and named once.
fn assert_sound(bytes: &[u8]) -> bool {
    let (checkpoint, findings) = read(bytes);
    if refused(&findings) {
        return false;
    }
    let mut end = 0;
    let mut names = std::collections::BTreeSet::new();
    for tensor in &checkpoint.tensors {
        let offset = tensor.bytes.offset.unwrap();
        assert!(offset >= end);
        end = offset + tensor.bytes.length;
        assert_eq!(tensor.dtype.bytes_for(tensor.elements()), Some(tensor.bytes.length));
        assert!(names.insert(&tensor.name));
    }
    assert!(end <= bytes.len() as u64);
    true
}

fn specimen() -> (Vec<u8>, usize) {
    let file = Gguf::new(two()).pair("a.bool", 7, [1]).pair("tokens", 9, list(8, 10, &text("ab").repeat(10))).pair(
        "types",
        9,
        list(5, 9, &[7; 36]),
    );
    let bytes = file.bytes();
    let header = bytes.len() - 480;
    (bytes, header)
}

#[test]
fn every_byte_of_a_header_may_be_anything() {
    let (good, header) = specimen();
    assert!(assert_sound(&good));
    let mut bytes = good.clone();
    for at in 0..header {
        for value in 0..=255 {
            bytes[at] = value;
            assert_sound(&bytes);
        }
        bytes[at] = good[at];
    }
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let (good, _) = specimen();
    for length in 0..good.len() {
        assert!(!assert_sound(&good[..length]), "{length}");
        let lying = Checkpoint::from_reader(&mut Cursor::new(&good[..length]), good.len() as u64, "f", Container::Gguf);
        assert!(refused(&lying.1) || length >= good.len() - 512, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: proptest::test_runner::RngSeed::Fixed(13), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_written_anywhere_never_confuse(at in 0_usize..420, word in prop_oneof![
        any::<u64>(), Just(u64::MAX), Just(1 << 63), (0_u64..64), (0_u32..64).prop_map(|shift| 1 << shift)
    ], second in 0_usize..420) {
        let (mut bytes, header) = specimen();
        for at in [at, second] {
            let at = at.min(header - 8);
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            assert_sound(&bytes);
        }
    }
}

/// Part `number` of `of`, counted from 1, with one tensor.
fn part(number: u16, of: u16, total: i32) -> Vec<u8> {
    Gguf::new(vec![tensor(&format!("blk.{number}.w"), 0, &[8], 32)])
        .pair("split.no", 2, (number - 1).to_le_bytes())
        .pair("split.count", 2, of.to_le_bytes())
        .pair("split.tensors.count", 5, total.to_le_bytes())
        .bytes()
}

#[test]
fn a_split_model_is_read_whole_from_any_of_its_parts() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let name = |number: u16| at.join(format!("m-{number:05}-of-00003.gguf"));
    for number in 1..=3 {
        fs::write(name(number), part(number, 3, 3)).unwrap();
    }
    let opened = |path: &std::path::Path| {
        let (checkpoint, findings) = Checkpoint::open(path).unwrap();
        let names: Vec<&str> = checkpoint.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let help: String = findings.iter().filter_map(|finding| finding.help.clone()).map(|help| help + "\n").collect();
        format!("{}\n{}{help}", names.join(" "), lines(&findings)).trim_end().to_owned()
    };
    assert_eq!(opened(at), "blk.1.w blk.2.w blk.3.w");
    assert_eq!(opened(&name(2)), "blk.1.w blk.2.w blk.3.w");
    fs::write(name(2), part(2, 2, 3)).unwrap();
    insta::assert_snapshot!(opened(&name(1)), @r"
    blk.1.w blk.2.w blk.3.w
    FF731 gguf-split: the header says part 2 of 2, the file name part 2 of 3
    parts are named `NAME-00001-of-00003.gguf`
    ");
    fs::write(name(2), part(2, 3, 3)).unwrap();
    fs::write(name(1), part(1, 3, 4)).unwrap();
    insta::assert_snapshot!(opened(&name(1)), @r"
    blk.1.w blk.2.w blk.3.w
    FF731 gguf-split: the parts hold 3 tensors, the first says 4
    ");
    fs::remove_file(name(3)).unwrap();
    insta::assert_snapshot!(opened(&name(1)), @r"
    blk.1.w blk.2.w
    FF718 missing-shard: 1 of 3 parts are absent
    the inventory holds the present parts only; absent: `m-00003-of-00003.gguf`
    ");
    // One part under another name is not the model.
    fs::copy(name(2), at.join("alone.gguf")).unwrap();
    insta::assert_snapshot!(opened(&at.join("alone.gguf")), @r"
    blk.2.w
    FF731 gguf-split: the header says part 2 of 3, the file name part 1 of 1
    parts are named `NAME-00001-of-00003.gguf`
    ");
    let error = Checkpoint::open(at).unwrap_err().to_string();
    assert!(error.ends_with("holds several checkpoints; name one of alone.gguf, m-00001-of-00003.gguf"), "{error}");
}

#[test]
fn long_texts_are_refused_and_long_lists_are_not_kept() {
    let huge = "x".repeat(2 << 20);
    let (_, findings) = read(&Gguf::new(vec![]).pair("a", 8, text(&huge)).bytes());
    assert_eq!(lines(&findings), "FF712 too-large at 82: a string claims 2097152 bytes; at most 1048576 are read\n");
    let many = list(8, 100_000, &text("token").repeat(100_000));
    let (checkpoint, findings) = read(&Gguf::new(vec![]).pair("a", 9, many).bytes());
    assert_eq!(lines(&findings), "");
    assert!(
        matches!(&checkpoint.files[0].metadata["a"], MetadataValue::List { length: 100_000, first } if first.len() == 8)
    );
}
