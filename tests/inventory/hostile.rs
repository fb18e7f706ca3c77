//! safetensors files that were made to mislead, and what is said about each.

use std::io::{Cursor, Read, Seek, SeekFrom};

use flow_fabric::finding::{Severity, worst};
use flow_fabric::inventory::{Checkpoint, Container, StoredTensor};
use proptest::prelude::*;
use safetensors::SafeTensors;

use super::support::lines;

/// A file of a header and `data` zero bytes.
fn file(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// A file whose length field lies.
fn claiming(length: u64, header: &str) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes
}

fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

fn object(entries: &[String]) -> String {
    format!("{{{}}}", entries.join(","))
}

/// One tensor `w` of four bytes with this text for its fields.
fn fields(fields: &str) -> Vec<u8> {
    file(format!(r#"{{"w":{{{fields}}}}}"#), 4)
}

fn u8s(name: &str, begin: u64, end: u64) -> String {
    entry(name, "U8", &format!("[{}]", end.saturating_sub(begin)), begin, end)
}

fn read(bytes: &[u8]) -> (Checkpoint, Vec<flow_fabric::finding::Finding>) {
    Checkpoint::from_reader(&mut Cursor::new(bytes), bytes.len() as u64, "f", Container::Safetensors)
}

/// Every case of the study of readers that this one was written after, by name.
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let w = |shape: &str, begin, end| object(&[entry("w", "F32", shape, begin, end)]);
    let good = w("[1]", 0, 4);
    let padded = |tail: &str| file(format!("{good}{tail}"), 4);
    let metadata = |text: &str| file(format!(r#"{{"__metadata__":{text},{}"#, &good[1..]), 4);
    vec![
        // Length.
        ("empty file", vec![]),
        ("three bytes", vec![1, 2, 3]),
        ("length zero", file("", 0)),
        ("length u64 max", claiming(u64::MAX, &good)),
        ("length i64 max", claiming(i64::MAX as u64, &good)),
        ("length beyond file", claiming(good.len() as u64 + 5, &good)),
        ("length over the cap", claiming(100_000_001, &good)),
        // Text.
        ("good", file(&good, 4)),
        ("no tensors", file("{}", 0)),
        ("spaces after the object", padded("   ")),
        ("newline after the object", padded("\n")),
        ("text after the object", padded("x")),
        ("NULs after the object", padded("\0\0")),
        ("8 MB of spaces after the object", padded(&" ".repeat(8_000_000))),
        ("second object", padded("{}")),
        ("spaces before the object", file(format!("  {good}"), 4)),
        ("byte-order mark", file(format!("\u{feff}{good}"), 4)),
        ("not UTF-8", file(b"{\"w\xff\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1)),
        ("cut off", file(&good[..good.len() - 1], 4)),
        ("array", file("[]", 0)),
        ("100 MB of spaces claimed", claiming(99_999_999, " ")),
        ("nested 20,000 deep", file(format!(r#"{{"w":{}"#, "[".repeat(20_000)), 0)),
        ("nested 20,000 deep in the metadata", metadata(&format!(r#"{{"a":{}"#, "[".repeat(20_000)))),
        ("nested 20,000 deep in an unknown field", fields(&format!(r#""x":{}"#, r#"{"y":"#.repeat(20_000)))),
        ("trailing comma", file(format!("{},}}", &good[..good.len() - 1]), 4)),
        ("comment", file(good.replace(":{", ":/**/{"), 4)),
        ("length up to the end of the file", claiming(good.len() as u64 + 4, &format!("{good}\0\0\0\0"))),
        ("single quotes", file(good.replace('"', "'"), 4)),
        // Names.
        ("duplicate tensor", file(object(&[u8s("w", 0, 1), u8s("w", 1, 2)]), 2)),
        ("duplicate tensor, same bytes", file(object(&[u8s("w", 0, 1), u8s("w", 0, 1)]), 1)),
        ("duplicate tensor by escape", file(object(&[u8s("a", 0, 1), u8s(r"\u0061", 1, 2)]), 2)),
        ("names equal after normalisation", file(object(&[u8s("é", 0, 1), u8s("e\u{301}", 1, 2)]), 2)),
        ("lone surrogate", file(object(&[u8s(r"\ud800", 0, 1)]), 1)),
        ("empty name", file(object(&[u8s("", 0, 1)]), 1)),
        ("NUL in a name", file(object(&[u8s(r"w\u0000", 0, 1)]), 1)),
        ("escape sequence in a name", file(object(&[u8s(r"\u001b[2Jw", 0, 1)]), 1)),
        ("long name", file(object(&[u8s(&"w".repeat(5000), 0, 1)]), 1)),
        ("name like a path", file(object(&[u8s("../../etc/passwd", 0, 1)]), 1)),
        // Fields.
        ("duplicate field", fields(r#""dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]"#)),
        ("duplicate shape", fields(r#""dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]"#)),
        ("duplicate offsets", fields(r#""dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]"#)),
        ("duplicate field by escape", fields(r#""dtype":"F32","\u0064type":"F32","shape":[1],"data_offsets":[0,4]"#)),
        ("field in other case", fields(r#""Dtype":"F32","shape":[1],"data_offsets":[0,4]"#)),
        ("unknown field", fields(r#""dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]"#)),
        ("missing dtype", fields(r#""shape":[1],"data_offsets":[0,4]"#)),
        ("missing shape", fields(r#""dtype":"F32","data_offsets":[0,4]"#)),
        ("missing offsets", fields(r#""dtype":"F32","shape":[1]"#)),
        ("null tensor", file(r#"{"w":null}"#, 4)),
        ("dtype null", fields(r#""dtype":null,"shape":[1],"data_offsets":[0,4]"#)),
        ("three offsets", fields(r#""dtype":"F32","shape":[1],"data_offsets":[0,4,8]"#)),
        ("one offset", fields(r#""dtype":"F32","shape":[1],"data_offsets":[4]"#)),
        ("offsets as an object", fields(r#""dtype":"F32","shape":[1],"data_offsets":{"0":0,"1":4}"#)),
        ("negative offset", fields(r#""dtype":"F32","shape":[1],"data_offsets":[-4,0]"#)),
        ("minus zero offset", fields(r#""dtype":"F32","shape":[1],"data_offsets":[-0,4]"#)),
        ("string offset", fields(r#""dtype":"F32","shape":[1],"data_offsets":["0",4]"#)),
        ("boolean offset", fields(r#""dtype":"F32","shape":[1],"data_offsets":[false,4]"#)),
        ("plus sign", fields(r#""dtype":"F32","shape":[1],"data_offsets":[0,+4]"#)),
        ("float offset", fields(r#""dtype":"F32","shape":[1],"data_offsets":[0.0,4]"#)),
        ("exponent offset", fields(r#""dtype":"F32","shape":[1],"data_offsets":[0,4e0]"#)),
        ("offset beyond u64", fields(r#""dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551620]"#)),
        ("leading zero", fields(r#""dtype":"F32","shape":[01],"data_offsets":[0,4]"#)),
        ("negative dimension", fields(r#""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#)),
        ("two negative dimensions", fields(r#""dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]"#)),
        ("float dimension", fields(r#""dtype":"F32","shape":[1.0],"data_offsets":[0,4]"#)),
        ("boolean dimension", fields(r#""dtype":"F32","shape":[true],"data_offsets":[0,4]"#)),
        ("shape as a number", fields(r#""dtype":"F32","shape":1,"data_offsets":[0,4]"#)),
        ("rank 64", file(w(&format!("[{}1]", "1,".repeat(63)), 0, 4), 4)),
        ("rank 10,000", file(w(&format!("[{}1]", "1,".repeat(9_999)), 0, 4), 4)),
        // Metadata.
        ("metadata", metadata(r#"{"format":"pt"}"#)),
        ("metadata null", metadata("null")),
        ("metadata value a number", metadata(r#"{"format":1}"#)),
        ("metadata as an array", metadata("[]")),
        ("lone surrogate in the metadata", metadata(r#"{"a":"\udc00"}"#)),
        ("metadata key twice", metadata(r#"{"a":"1","a":"2"}"#)),
        ("metadata twice", file(format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},{}"#, &good[1..]), 4)),
        (
            "metadata twice by escape",
            file(format!(r#"{{"__metadata__":{{}},"\u005f_metadata__":{{}},{}"#, &good[1..]), 4),
        ),
        // Dtypes.
        ("unknown dtype", file(object(&[entry("w", "F12", "[2]", 0, 3), u8s("v", 3, 4)]), 4)),
        ("empty dtype", file(object(&[entry("w", "", "[1]", 0, 4)]), 4)),
        ("dtype a number", fields(r#""dtype":3,"shape":[1],"data_offsets":[0,4]"#)),
        ("dtype in lower case", file(object(&[entry("w", "f32", "[1]", 0, 4)]), 4)),
        ("GGML dtype", file(object(&[entry("w", "q4_0", "[32]", 0, 18)]), 18)),
        ("every dtype", file(every_dtype().0, every_dtype().1)),
        ("half a byte of F4", file(object(&[entry("w", "F4", "[3]", 0, 1)]), 1)),
        ("F6 that fills no bytes", file(object(&[entry("w", "F6_E2M3", "[2]", 0, 1)]), 1)),
        // Sizes.
        ("scalar", file(w("[]", 0, 4), 4)),
        (
            "empty tensors between others",
            file(object(&[u8s("c", 2, 3), u8s("b", 2, 2), u8s("a", 0, 2), u8s("d", 3, 3), u8s("e", 0, 0)]), 3),
        ),
        ("misaligned: U8 before F32", file(object(&[u8s("a", 0, 3), entry("b", "F32", "[2]", 3, 11)]), 11)),
        ("header of odd length", file(format!("{good} "), 4)),
        ("size too small", file(w("[1]", 0, 3), 3)),
        ("size too large", file(w("[1]", 0, 5), 5)),
        ("begin after end", file(w("[1]", 4, 0), 4)),
        ("product overflows", file(w("[4294967296,4294967296]", 0, 0), 0)),
        ("product wraps to the size", file(w("[4611686018427387904,4,1]", 0, 0), 0)),
        ("bits overflow", file(w("[2305843009213693952]", 0, 4), 4)),
        ("overflow times zero", file(w("[1099511627776,1099511627776,0]", 0, 0), 0)),
        ("zero times overflow", file(w("[0,1099511627776,1099511627776]", 0, 0), 0)),
        // Coverage.
        ("hole in front", file(object(&[u8s("a", 1, 2)]), 2)),
        ("hole between", file(object(&[u8s("a", 0, 1), u8s("b", 2, 3)]), 3)),
        ("overlap", file(object(&[u8s("a", 0, 2), u8s("b", 1, 3)]), 3)),
        ("same bytes twice", file(object(&[u8s("a", 0, 2), u8s("b", 0, 2)]), 2)),
        ("one inside another", file(object(&[u8s("a", 0, 4), u8s("b", 1, 2), u8s("c", 4, 5)]), 5)),
        ("trailing byte", file(&good, 5)),
        ("trailing zip", [file(&good, 4), b"PK\x05\x06".to_vec(), vec![0; 18]].concat()),
        ("data cut off", file(&good, 3)),
        ("offsets beyond everything", file(w("[1]", u64::MAX - 4, u64::MAX), 4)),
    ]
}

/// One tensor of each dtype that the format has.
fn every_dtype() -> (String, usize) {
    let (mut entries, mut at) = (Vec::new(), 0);
    for &dtype in flow_fabric::Dtype::ALL {
        if let Some(spelling) = dtype.safetensors() {
            let length = dtype.bytes_for(4).unwrap();
            entries.push(entry(dtype.name(), spelling, "[4]", at, at + length));
            at += length;
        }
    }
    (object(&entries), usize::try_from(at).unwrap())
}

#[test]
fn the_format_has_22_dtypes() {
    let known = flow_fabric::Dtype::ALL.iter().filter(|dtype| dtype.safetensors().is_some());
    assert_eq!(known.count(), 22);
}

fn refused(findings: &[flow_fabric::finding::Finding]) -> bool {
    worst(findings) == Some(Severity::Error)
}

#[test]
fn each_hostile_file_gets_its_finding() {
    let mut out = String::new();
    let mut lenient = Vec::new();
    for (name, bytes) in cases() {
        let (checkpoint, findings) = read(&bytes);
        let theirs = SafeTensors::deserialize(&bytes).is_ok();
        assert!(theirs || refused(&findings), "{name}: refused by the reference, accepted here");
        if theirs && refused(&findings) {
            lenient.push(name);
        }
        let verdict = if refused(&findings) { String::new() } else { "ok".to_owned() };
        let kept = checkpoint.tensors.len();
        let said = lines(&findings);
        out += &format!("{name}: {verdict}{}\n", said.trim_end().replace('\n', "\n    "));
        let only_dtype = findings.iter().all(|finding| finding.code.name == "unknown-dtype");
        assert!(!refused(&findings) || only_dtype || kept == 0, "{name}: a refused file gave {kept} tensors");
    }
    insta::assert_snapshot!("hostile_findings", out);
    insta::assert_snapshot!("hostile_beyond_the_reference", lenient.join("\n"));
}

/// What both readers see of a tensor: name, dtype, shape, and where it lies.
type Seen = (String, String, Vec<u64>, u64, u64);

fn ours(tensors: &[StoredTensor]) -> Vec<Seen> {
    let mut seen: Vec<Seen> = tensors
        .iter()
        .map(|tensor| {
            let dtype = tensor.dtype.safetensors().unwrap().to_owned();
            (tensor.name.clone(), dtype, tensor.shape.clone(), tensor.bytes.offset.unwrap(), tensor.bytes.length)
        })
        .collect();
    seen.sort();
    seen
}

fn theirs(bytes: &[u8]) -> Option<Vec<Seen>> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let mut seen: Vec<Seen> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (begin, end) = info.data_offsets;
            let shape = info.shape.iter().map(|&dim| dim as u64).collect();
            (name, info.dtype.to_string(), shape, (8 + header + begin) as u64, (end - begin) as u64)
        })
        .collect();
    seen.sort();
    Some(seen)
}

/// What we accept the reference accepts too, and sees the same.
fn assert_agreement(bytes: &[u8]) -> bool {
    let (checkpoint, findings) = read(bytes);
    if refused(&findings) {
        return false;
    }
    assert_eq!(theirs(bytes), Some(ours(&checkpoint.tensors)), "{:?}", String::from_utf8_lossy(bytes));
    true
}

/// A small file with everything a header can have.
fn specimen() -> Vec<u8> {
    let header = object(&[
        r#""__metadata__":{"format":"pt","n":"\u00e9"}"#.to_owned(),
        entry("model.layers.0.w", "BF16", "[2, 3]", 0, 12),
        entry("b", "F32", "[]", 12, 16),
        entry("e", "I64", "[0,7]", 16, 16),
        entry("c", "U8", "[10]", 16, 26),
    ]);
    file(format!("{header}  "), 26)
}

#[test]
fn every_byte_of_a_header_may_be_anything() {
    let good = specimen();
    assert!(assert_agreement(&good));
    let header = good.len() - 26;
    let (mut accepted, mut bytes) = (0, good.clone());
    for at in 0..header {
        for value in 0..=255 {
            bytes[at] = value;
            accepted += usize::from(assert_agreement(&bytes));
        }
        bytes[at] = good[at];
    }
    // Letters of names and metadata, equal-sized dtypes, and nothing else.
    assert!((header..header * 60).contains(&accepted), "{accepted}");
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let good = specimen();
    for length in 0..good.len() {
        assert!(!assert_agreement(&good[..length]), "{length}");
        // The length on disk and what can be read may differ too.
        let (checkpoint, findings) =
            Checkpoint::from_reader(&mut Cursor::new(&good[..length]), good.len() as u64, "f", Container::Safetensors);
        assert!(checkpoint.tensors.is_empty() && refused(&findings) || length >= good.len() - 26, "{length}");
    }
}

/// A file of a length and then spaces, that counts what is read of it.
struct Spaces {
    at: u64,
    length: u64,
    read: u64,
}

impl Read for Spaces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let header = (self.length - 8).to_le_bytes();
        let mut count = 0;
        for byte in buffer.iter_mut().take(usize::try_from(self.length - self.at).unwrap()) {
            *byte = usize::try_from(self.at).ok().and_then(|at| header.get(at)).copied().unwrap_or(b' ');
            self.at += 1;
            count += 1;
        }
        self.read += count as u64;
        Ok(count)
    }
}

impl Seek for Spaces {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            SeekFrom::End(by) => self.length.saturating_add_signed(by),
        };
        Ok(self.at)
    }
}

#[test]
fn a_header_of_100_mb_of_spaces_is_not_read() {
    let mut spaces = Spaces { at: 0, length: 8 + 100_000_000, read: 0 };
    let (_, findings) = Checkpoint::from_reader(&mut spaces, 8 + 100_000_000, "f", Container::Safetensors);
    assert_eq!(lines(&findings), "FF702 malformed-header at 8: the header does not start with `{`\n");
    assert!(spaces.read <= 64 << 10, "{} bytes were read", spaces.read);
}

#[test]
fn a_million_tensors_are_the_limit() {
    let mut header = String::from("{");
    for at in 0..1_000_001 {
        header += &format!(r#""{at}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},"#);
    }
    header.pop();
    let (checkpoint, findings) = read(&file(header + "}", 0));
    assert_eq!(checkpoint.tensors.len(), 0);
    assert_eq!(lines(&findings), "FF712 too-large at 56888899: the header names more than 1000000 tensors\n");
}

#[test]
fn findings_of_one_kind_are_counted_beyond_the_first() {
    let entries: Vec<String> = (0..5_000).map(|at| entry(&at.to_string(), "U8", "[1]", 0, 0)).collect();
    let (_, findings) = read(&file(object(&entries), 0));
    assert_eq!(findings.len(), 10);
    assert_eq!(findings[9].notes, ["4990 more like these are not listed"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, rng_seed: proptest::test_runner::RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_spliced_in_and_out_never_confuse(
        at in 0_usize..340, cut in 0_usize..12, text in r#"([{}\[\],:"0-9a-z\\ -]|"__metadata__":|"dtype"|"shape"|\\u0061|18446744073709551615){0,6}"#, fix in any::<bool>()
    ) {
        let mut bytes = specimen();
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, text.bytes());
        if fix && bytes.len() >= 8 + 26 {
            let header = (bytes.len() - 8 - 26) as u64;
            bytes[..8].copy_from_slice(&header.to_le_bytes());
        }
        assert_agreement(&bytes);
    }
}
