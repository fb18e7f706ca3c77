//! Pickles: Grok-1's arrays, torch's files of both forms, numpy's archives, and what is refused.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use flow_fabric::finding::{Finding, Severity, worst};
use flow_fabric::inventory::{Checkpoint, Container, Grouping, Indirect, Inventory, StoredTensor};
use tempfile::TempDir;

use super::archive::{Archive, member};
use super::support::{lines, render, shipped};

fn read(bytes: &[u8], name: &str, container: Container) -> (Checkpoint, Vec<Finding>) {
    Checkpoint::from_reader(&mut Cursor::new(bytes), bytes.len() as u64, name, container)
}

fn refused(findings: &[Finding]) -> bool {
    worst(findings) == Some(Severity::Error)
}

/// Tensors with their bytes, then findings.
fn listed(bytes: &[u8], container: Container) -> String {
    let (checkpoint, findings) = read(bytes, "tensor00000_000", container);
    let mut out = String::new();
    for tensor in &checkpoint.tensors {
        let content = tensor.bytes.offset.map(|offset| {
            let start = usize::try_from(offset).unwrap();
            &bytes[start..start + usize::try_from(tensor.bytes.length).unwrap()]
        });
        out += &format!("{} {} {:?} {content:?}\n", tensor.name, tensor.dtype, tensor.shape);
    }
    out += &lines(&findings);
    out.trim_end().to_owned()
}

fn committed(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pickles").join(name)).unwrap()
}

#[test]
fn arrays_that_numpy_ml_dtypes_and_jax_pickled() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pickles");
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".pkl"));
    names.sort();
    let mut out = String::new();
    for name in names {
        out += &format!("{name}:\n    {}\n", listed(&committed(&name), Container::Pickle).replace('\n', "\n    "));
    }
    insta::assert_snapshot!("pickled_by_libraries", out);
}

#[test]
fn a_file_that_torch_wrote_without_weights_is_refused() {
    insta::assert_snapshot!(listed(&committed("training_args.bin"), Container::Torch), @"FF741 refused-pickle at 66: the pickle names `transformers.training_args.TrainingArguments`, which weights do not need");
}

/// Opcodes of protocol 2 to 4, put together by hand.
#[derive(Clone, Default)]
struct Ops(Vec<u8>);

impl Ops {
    fn new(protocol: u8) -> Self {
        Self(vec![0x80, protocol])
    }

    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        self.op(b"X").op(&length).op(text.as_bytes())
    }

    fn int(self, value: i32) -> Self {
        self.op(b"J").op(&value.to_le_bytes())
    }

    fn ints(self, values: &[i32]) -> Self {
        values.iter().fold(self.op(b"("), |ops, &value| ops.int(value)).op(b"t")
    }

    fn bytes(self, content: &[u8]) -> Self {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        self.op(b"B").op(&length).op(content)
    }

    /// A vector of eight bytes, with the shape (opcodes) and the state of its dtype written out: the order's letter, the opcodes
    /// up to the itemsize, then itemsize, alignment and flags.
    fn state(self, shape: &[u8], dtype: &str, state: &[u8], (size, alignment, flags): (i32, i32, i32)) -> Self {
        let (order, rest) = state.split_at(1);
        self.global("numpy.core.multiarray", "_reconstruct")
            .global("numpy", "ndarray")
            .ints(&[0])
            .op(b"C\x01b\x87R(")
            .int(1)
            .op(shape)
            .global("numpy", "dtype")
            .text(dtype)
            .op(b"\x89\x88\x87R(")
            .int(3)
            .text(std::str::from_utf8(order).unwrap())
            .op(rest)
            .int(size)
            .int(alignment)
            .int(flags)
            .op(b"tb\x89")
            .bytes(&[7; 8])
            .op(b"tb")
    }

    /// An array of a dtype, with the parts that cases change.
    fn array(self, shape: &[i32], dtype: &str, order: &str, fortran: bool, content: &[u8]) -> Self {
        self.global("numpy.core.multiarray", "_reconstruct")
            .global("numpy", "ndarray")
            .ints(&[0])
            .op(b"C\x01b\x87R(")
            .int(1)
            .ints(shape)
            .global("numpy", "dtype")
            .text(dtype)
            .op(b"\x89\x88\x87R(")
            .int(3)
            .text(order)
            .op(b"NNN")
            .int(-1)
            .int(-1)
            .int(0)
            .op(if fortran { b"tb\x88" } else { b"tb\x89" })
            .bytes(content)
            .op(b"tb")
    }

    fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// Thirty levels of tuples, each ten times the one before; the first is memorised as 0.
fn laughs(ops: Ops) -> Ops {
    let level = |ops: Ops, level: u8| ops.op(b"(").op(&[b'h', level - 1].repeat(10)).op(b"t").op(&[b'q', level]);
    (1..30).fold(ops, level)
}

fn array_cases() -> Vec<(&'static str, Vec<u8>)> {
    let ops = || Ops::new(4);
    let array = |shape: &[i32], dtype: &str, order: &str| ops().array(shape, dtype, order, false, &[7; 8]).stop();
    let quantized =
        |items: fn(Ops) -> Ops| items(ops().global("__main__", "QuantizedWeight8bit").op(b")\x81}(")).op(b"ub").stop();
    vec![
        ("an array", array(&[2], "f4", "<")),
        ("bytes need no order", array(&[8], "u1", "|")),
        ("system", ops().global("posix", "system").text("id").op(b"\x85R").stop()),
        ("eval", ops().global("builtins", "eval").text("1").op(b"\x85R").stop()),
        ("another class", ops().global("__main__", "Other").op(b")\x81").stop()),
        ("a module that ends alike", ops().global("evil.numpy", "dtype").stop()),
        ("global by text", ops().text("os").text("system").op(b"\x93").stop()),
        ("global by number", ops().int(1).int(2).op(b"\x93").stop()),
        ("global without end", ops().op(b"c").op(&[b'a'; 300]).stop()),
        ("call of a class", ops().global("numpy", "ndarray").op(b")R").stop()),
        ("call of a text", ops().text("x").op(b")R").stop()),
        ("call with too few", ops().global("numpy", "dtype").text("f4").op(b"\x85R").stop()),
        ("call without a tuple", ops().global("numpy", "dtype").text("f4").op(b"R").stop()),
        ("object with arguments", ops().global("__main__", "QuantizedWeight8bit").ints(&[1]).op(b"\x81").stop()),
        ("state of a tuple", ops().op(b")}b").stop()),
        ("state twice", ops().array(&[2], "f4", "<", false, &[7; 8]).op(b"}b").stop()),
        ("tuple without mark", ops().op(b"t").stop()),
        ("items without mark", ops().op(b"}u").stop()),
        ("a key without value", ops().op(b"}(").text("k").op(b"u").stop()),
        ("items of a list", ops().op(b"](").text("k").text("v").op(b"u").stop()),
        ("below the mark", ops().op(b"N(\x85").stop()),
        ("empty stack", ops().stop()),
        ("two values", ops().op(b"NN").stop()),
        ("open mark", ops().op(b"(N").stop()),
        ("two stops", ops().array(&[2], "f4", "<", false, &[7; 8]).op(b"..").0),
        ("bytes after the end", ops().array(&[2], "f4", "<", false, &[7; 8]).op(b".x").0),
        ("no protocol", b"N.".to_vec()),
        ("protocol 1", vec![0x80, 1, b'N', b'.']),
        ("protocol twice", ops().op(&[0x80, 4, b'N']).stop()),
        ("text opcodes", b"cos\nsystem\n(S'id'\ntR.".to_vec()),
        ("INST", ops().op(b"(ios\nsystem\n").stop()),
        ("OBJ", ops().op(b"(").global("numpy", "dtype").op(b"o").stop()),
        ("EXT1", ops().op(&[0x82, 1]).stop()),
        ("EXT2", ops().op(&[0x83, 1, 0]).stop()),
        ("EXT4", ops().op(&[0x84, 1, 0, 0, 0]).stop()),
        ("NEXT_BUFFER", ops().op(&[0x97]).stop()),
        ("NEWOBJ_EX", ops().global("__main__", "QuantizedWeight8bit").op(b")}\x92").stop()),
        ("POP", ops().op(b"N0").stop()),
        ("DUP", ops().op(b"N2").stop()),
        ("PERSID", ops().op(b"P0\n").stop()),
        ("BINPERSID", ops().text("x").op(b"Q").stop()),
        ("memo never set", ops().op(b"h\x07").stop()),
        ("memo of nothing", ops().op(b"\x94").stop()),
        ("2 GiB string", ops().op(b"X\0\0\0\x80").stop()),
        ("string beyond the file", ops().op(b"X\xff\xff\xff\x7f").stop()),
        ("bytes beyond the file", ops().op(b"B\xff\xff\xff\xff").stop()),
        ("bytes u64 max", ops().op(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff").stop()),
        ("byte array u64 max", ops().op(b"\x96\xff\xff\xff\xff\xff\xff\xff\xff").stop()),
        ("string not UTF-8", ops().op(b"\x8c\x01\xff").stop()),
        ("frame beyond the file", ops().op(b"\x95\xff\0\0\0\0\0\0\0N").stop()),
        ("frame u64 max", ops().op(b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN").stop()),
        ("frame in a frame", ops().op(b"\x95\x0b\0\0\0\0\0\0\0\x95\x01\0\0\0\0\0\0\0N").stop()),
        ("value across a frame", ops().op(b"\x95\x03\0\0\0\0\0\0\0").text("abc").stop()),
        ("too much between the arrays", ops().op(&[b'N'; 5000]).stop()),
        ("a list that holds itself", ops().op(b"]\x94h\0a").stop()),
        ("billion laughs", laughs(ops().op(b"(K\x02\x85q\0")).op(b"t").stop()),
        (
            "billion laughs for a shape",
            ops().state(&laughs(Ops(b"(K\x02\x85q\0".to_vec())).op(b"t").0, "f4", b"<NNN", (-1, -1, 0)).stop(),
        ),
        ("payload that imitates a header", {
            let inner = array(&[2], "f4", "<");
            ops().array(&[i32::try_from(inner.len()).unwrap()], "u1", "|", false, &inner).stop()
        }),
        ("object dtype", array(&[1], "O", "|")),
        ("void dtype", array(&[1], "V8", "|")),
        ("text dtype", array(&[2], "U1", "<")),
        ("structured dtype", ops().state(b"K\x02\x85", "V4", b"|N(X\x01\0\0\0at}", (4, 1, 16)).stop()),
        ("subarray dtype", ops().state(b"K\x02\x85", "f4", b"<)NN", (-1, -1, 0)).stop()),
        ("negative itemsize", ops().state(b"K\x02\x85", "f4", b"<NNN", (-4, -1, 0)).stop()),
        ("another itemsize", ops().state(b"K\x02\x85", "f4", b"<NNN", (2, -1, 0)).stop()),
        ("dtype with flags", ops().state(b"K\x02\x85", "f4", b"<NNN", (-1, -1, 1)).stop()),
        ("big-endian", array(&[2], "f4", ">")),
        ("native without saying which", array(&[2], "f4", "=")),
        ("negative dimension", array(&[-2], "f4", "<")),
        (
            "huge dimension",
            ops().state(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", "f4", b"<NNN", (-1, -1, 0)).stop(),
        ),
        (
            "dimension beyond 64 bits",
            ops().state(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0\x85", "f4", b"<NNN", (-1, -1, 0)).stop(),
        ),
        ("dimension true", ops().state(b"\x88\x85", "f4", b"<NNN", (-1, -1, 0)).stop()),
        ("shape does not fit", array(&[3], "f4", "<")),
        ("shape overflows", array(&[i32::MAX; 8], "f4", "<")),
        ("column by column", ops().array(&[1, 2], "f4", "<", true, &[7; 8]).stop()),
        ("fortran order of a vector", ops().array(&[2], "f4", "<", true, &[7; 8]).stop()),
        ("quantized without scales", quantized(|ops| ops.text("weight").array(&[8], "i1", "|", false, &[7; 8]))),
        ("quantized with a number", quantized(|ops| ops.text("weight").int(1).text("scales").int(2))),
        (
            "quantized in other order",
            quantized(|ops| {
                let ops = ops.text("scales").array(&[8], "i1", "|", false, &[7; 8]);
                ops.text("weight").array(&[8], "i1", "|", false, &[7; 8])
            }),
        ),
        (
            "quantized with three arrays",
            quantized(|ops| {
                ["weight", "scales", "minimum"]
                    .iter()
                    .fold(ops, |ops, name| ops.text(name).array(&[8], "i1", "|", false, &[7; 8]))
            }),
        ),
        ("an array of an array", {
            let ops = ops().global("numpy.core.multiarray", "_reconstruct").global("numpy", "ndarray").ints(&[0]);
            let ops = ops.op(b"C\x01b\x87R(").int(1).ints(&[1]).array(&[8], "u1", "|", false, &[7; 8]);
            ops.op(b"\x89C\x01\0tb").stop()
        }),
        ("a buffer without order", {
            let ops = ops().global("numpy._core.numeric", "_frombuffer").op(b"(C\x01\x07NN");
            ops.text("K").op(b"tR").stop()
        }),
        ("jax over another function", {
            let ops = ops().global("jax._src.array", "_reconstruct_array").op(b"(").global("numpy", "dtype");
            ops.op(b"))}tR").stop()
        }),
        ("jax over system", {
            let ops = ops().global("jax._src.array", "_reconstruct_array").op(b"(").global("posix", "system");
            ops.op(b"))}tR").stop()
        }),
        ("a number", ops().int(1).stop()),
        ("cut off", Ops::new(4).array(&[2], "f4", "<", false, &[7; 8]).0),
        ("empty", vec![]),
    ]
}

#[test]
fn arrays_and_what_only_looks_like_one() {
    let mut out = String::new();
    for (name, bytes) in array_cases() {
        let said = listed(&bytes, Container::Pickle);
        out += &format!("{name}: {}\n", said.replace('\n', "\n    "));
        let (checkpoint, findings) = read(&bytes, "f", Container::Pickle);
        assert_eq!(refused(&findings), checkpoint.tensors.is_empty(), "{name}");
    }
    insta::assert_snapshot!("pickled_arrays", out);
}

#[test]
fn every_byte_and_every_prefix_of_an_array_may_be_anything() {
    for name in ["plain.protocol4.pkl", "quantized.protocol4.pkl", "quantized.protocol3.pkl"] {
        let good = committed(name);
        let mut bytes = good.clone();
        for at in 0..good.len() {
            assert!(refused(&read(&good[..at], "f", Container::Pickle).1), "{name} cut at {at}");
            for value in 0..=255 {
                bytes[at] = value;
                let (checkpoint, findings) = read(&bytes, "f", Container::Pickle);
                assert_eq!(refused(&findings), checkpoint.tensors.is_empty());
                for tensor in &checkpoint.tensors {
                    assert!(tensor.bytes.offset.unwrap() + tensor.bytes.length <= bytes.len() as u64);
                    assert_eq!(tensor.dtype.bytes_for(tensor.elements()), Some(tensor.bytes.length));
                }
            }
            bytes[at] = good[at];
        }
    }
}

#[test]
fn a_directory_of_grok_1s_files_gets_the_names_of_its_tree() {
    let directory = TempDir::new().unwrap();
    let at = directory.path().join("ckpt-0");
    fs::create_dir(&at).unwrap();
    let list = shipped("grok-1.jsonl");
    // The real shapes' ranks with dimensions of one; pairs where the released checkpoint has pairs.
    let mut files: Vec<(String, Vec<usize>)> = Vec::new();
    for tensor in &list.tensors {
        let file = list.files[tensor.bytes.file.unwrap().0 as usize].path.to_string();
        match files.last_mut() {
            Some((last, ranks)) if *last == file => ranks.push(tensor.shape.len()),
            _ => files.push((file, vec![tensor.shape.len()])),
        }
    }
    assert_eq!(files.len(), 770);
    for (file, ranks) in &files {
        let ones = |rank: usize| vec![1; rank];
        let ops = match **ranks {
            [rank] => Ops::new(4).array(&ones(rank), "f4", "<", false, &[0; 4]),
            _ => Ops::new(4)
                .global("__main__", "QuantizedWeight8bit")
                .op(b")\x81}(")
                .text("weight")
                .array(&ones(ranks[0]), "i1", "|", false, &[0])
                .text("scales")
                .array(&ones(ranks[1]), "f4", "<", false, &[0; 4])
                .op(b"ub"),
        };
        fs::write(at.join(file), ops.stop()).unwrap();
    }
    for path in [directory.path(), &at] {
        let (checkpoint, findings) = Checkpoint::open(path).unwrap();
        assert_eq!(lines(&findings), "");
        let names = |checkpoint: &Checkpoint| -> Vec<(String, String)> {
            let file = |id: u32| checkpoint.files[id as usize].path.rsplit('/').next().unwrap().to_owned();
            checkpoint.tensors.iter().map(|t| (t.name.clone(), file(t.bytes.file.unwrap().0))).collect()
        };
        assert_eq!(names(&checkpoint), names(&list));
        let (inventory, findings) = Inventory::group(&checkpoint, &Grouping::default());
        assert_eq!((inventory.weights.len(), lines(&findings).as_str()), (770, ""));
    }
    // One file less, and the numbers mean nothing.
    fs::remove_file(at.join("tensor00300_000")).unwrap();
    let (checkpoint, findings) = Checkpoint::open(&at).unwrap();
    assert_eq!(lines(&findings), "FF746 unnamed-arrays: the 769 files do not fit Grok-1's tree\n");
    assert_eq!(checkpoint.tensors[2].name, "tensor00002/weight");
    fs::write(at.join("tensor00000_001"), b"").unwrap();
    let error = Checkpoint::open(&at).unwrap_err().to_string();
    assert!(error.ends_with("spread over several hosts; only checkpoints of one host are read"), "{error}");
}

/// A tensor of torch's: name, storage, offset, shape, strides.
type Strided<'a> = (&'a str, &'a str, i32, &'a [i32], &'a [i32]);

impl Ops {
    /// torch's reference to a storage of `elements`.
    fn storage(self, class: &str, key: &str, elements: i32, legacy: bool) -> Self {
        let ops = self.op(b"(").text("storage").global("torch", class).text(key).text("cpu").int(elements);
        ops.op(if legacy { b"NtQ" } else { b"tQ" })
    }

    fn tensor(self, storage: impl Fn(Self) -> Self, offset: i32, shape: &[i32], strides: &[i32]) -> Self {
        storage(self.global("torch._utils", "_rebuild_tensor_v2").op(b"("))
            .int(offset)
            .ints(shape)
            .ints(strides)
            .op(b"\x89")
            .global("collections", "OrderedDict")
            .op(b")RtR")
    }
}

/// A state dict whose storages are `a` (6 floats), `b` (1 float) and `e` (none).
fn state_dict(tensors: &[Strided<'_>], legacy: bool) -> Vec<u8> {
    let mut ops = Ops::new(2).global("collections", "OrderedDict").op(b")R(");
    for &(name, key, offset, shape, strides) in tensors {
        let elements = match key {
            "a" => 6,
            "b" => 1,
            _ => 0,
        };
        ops = ops.text(name).tensor(|ops| ops.storage("FloatStorage", key, elements, legacy), offset, shape, strides);
    }
    ops.op(b"u}").text("_metadata").op(b"}sb").stop()
}

const TENSORS: [Strided<'static>; 5] = [
    ("w", "a", 0, &[2, 3], &[3, 1]),
    ("tied", "a", 0, &[2, 3], &[3, 1]),
    ("row", "a", 3, &[3], &[1]),
    ("s", "b", 0, &[], &[]),
    ("none", "e", 0, &[0, 4], &[4, 1]),
];

/// A torch archive of a pickle and the storages of [`state_dict`].
fn archive(pickle: &[u8]) -> Archive {
    let storage = |key: &str, content: &[u8]| member(&format!("m/data/{key}"), content);
    Archive::new(vec![
        member("m/data.pkl", pickle),
        member("m/byteorder", b"little"),
        storage("a", &(0..24).collect::<Vec<u8>>()),
        storage("b", &[9; 4]),
        storage("e", &[]),
        member("m/version", b"3\n"),
    ])
}

/// The older form of the same.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    let mut out = Ops::new(2).op(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19").stop();
    out.extend(Ops::new(2).op(b"M\xe9\x03").stop());
    out.extend(Ops::new(2).op(b"}(").text("protocol_version").int(1001).text("little_endian").op(b"\x88u").stop());
    out.extend(pickle);
    out.extend(Ops::new(2).op(b"](").text("a").text("b").text("e").op(b"e").stop());
    for (elements, content) in [(6_u64, (0..24).collect::<Vec<u8>>()), (1, vec![9; 4]), (0, vec![])] {
        out.extend(elements.to_le_bytes());
        out.extend(content);
    }
    out
}

#[test]
fn torch_files_of_both_forms_hold_the_same() {
    let zip = listed(&archive(&state_dict(&TENSORS, false)).bytes(), Container::Torch);
    insta::assert_snapshot!(zip, @r"
    w f32 [2, 3] Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23])
    tied f32 [2, 3] Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23])
    row f32 [3] Some([12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23])
    s f32 [] Some([9, 9, 9, 9])
    none f32 [0, 4] Some([])
    ");
    assert_eq!(listed(&legacy(&state_dict(&TENSORS, true)), Container::Torch), zip);
    // Data descriptors and the wide end record are torch's own; archives without them are read too.
    let mut plain = archive(&state_dict(&TENSORS, false));
    (plain.described, plain.wide) = (false, false);
    assert_eq!(listed(&plain.bytes(), Container::Torch), zip);
    let (checkpoint, _) = read(&plain.bytes(), "m.pt", Container::Torch);
    insta::assert_snapshot!(render(&Inventory::group(&checkpoint, &Grouping::default())), @r"
    w plain f32 [2, 3] <weight>
    tied plain f32 [2, 3] <weight> = w
    row plain f32 [3] <weight>
    s plain f32 [] <weight>
    none plain f32 [0, 4] <weight>
    ");
}

#[test]
fn tensors_are_found_in_nested_dictionaries_and_lists() {
    let tensor = |ops: Ops| ops.tensor(|ops| ops.storage("FloatStorage", "b", 1, false), 0, &[1], &[1]);
    let ops = Ops::new(2).op(b"}(").text("step").int(7).text("model");
    let ops = tensor(ops.op(b"}(").text("l.w")).op(b"u").text("optimizer").op(b"}(").int(12).op(b"](N");
    let ops = tensor(ops).op(b"eu").text("parameter").global("torch._utils", "_rebuild_parameter").op(b"(");
    let ops = tensor(ops).op(b"\x88").global("collections", "OrderedDict").op(b")RtR");
    let pickle = ops.text("rate").op(b"G\0\0\0\0\0\0\0\0").op(b"u").stop();
    insta::assert_snapshot!(listed(&archive(&pickle).bytes(), Container::Torch), @r"
    model.l.w f32 [1] Some([9, 9, 9, 9])
    optimizer.12.1 f32 [1] Some([9, 9, 9, 9])
    parameter f32 [1] Some([9, 9, 9, 9])
    ");
}

fn torch_cases() -> Vec<(&'static str, Vec<u8>)> {
    let zip = |tensors: &[Strided<'_>]| archive(&state_dict(tensors, false)).bytes();
    let with = |change: fn(&mut Archive)| {
        let mut archive = archive(&state_dict(&TENSORS, false));
        change(&mut archive);
        archive.bytes()
    };
    let old = |change: fn(&mut Vec<u8>)| {
        let mut bytes = legacy(&state_dict(&TENSORS, true));
        change(&mut bytes);
        bytes
    };
    let laughs = {
        let mut ops = Ops::new(2).op(b"(]q\0");
        for level in 1..30_u8 {
            ops = ops.op(b"](").op(&[b'h', level - 1].repeat(10)).op(b"e").op(&[b'q', level]);
        }
        ops.op(b"t").stop()
    };
    let cycle = Ops::new(2).op(b"]q\0h\0a").stop();
    let typed = |class: &str, dtype: &str| {
        let ops = Ops::new(2).op(b"}").text("w").global("torch._utils", "_rebuild_tensor_v3").op(b"(");
        let ops = ops.op(b"(").text("storage").global("torch.storage", class).text("b").text("cpu").int(4).op(b"tQ");
        let ops = ops.int(0).ints(&[4]).ints(&[1]).op(b"\x89").global("collections", "OrderedDict").op(b")R");
        archive(&ops.global("torch", dtype).op(b"tRs").stop()).bytes()
    };
    vec![
        ("float8 in an untyped storage", typed("UntypedStorage", "float8_e4m3fn")),
        ("a dtype torch does not have", typed("UntypedStorage", "float7")),
        ("a storage class torch does not have", typed("EvilStorage", "float8_e4m3fn")),
        ("transposed", zip(&[("w", "a", 0, &[3, 2], &[1, 3]), ("s", "b", 0, &[], &[])])),
        ("expanded", zip(&[("w", "b", 0, &[4], &[0])])),
        ("beyond its storage", zip(&[("w", "a", 1, &[2, 3], &[3, 1])])),
        ("negative offset", zip(&[("w", "a", -1, &[2], &[1])])),
        ("negative dimension", zip(&[("w", "a", 0, &[-2], &[1])])),
        (
            "strides that cannot be",
            zip(&[
                ("w", "a", 0, &[i32::MAX; 3], &[1, 1, 1]),
                ("v", "a", 0, &[1 << 30, 1 << 30, 16], &[1 << 30, 16, 1]),
            ]),
        ),
        ("name twice", zip(&[("w", "a", 0, &[6], &[1]), ("w", "b", 0, &[1], &[1])])),
        ("control character in a name", zip(&[("w\n", "a", 0, &[6], &[1])])),
        ("storage absent", zip(&[("w", "z", 0, &[0], &[1])])),
        ("storage smaller than it says", with(|archive| archive.members[2].content.truncate(20))),
        ("big-endian", with(|archive| archive.members[1].content = b"big".to_vec())),
        ("storage compressed", with(|archive| archive.members[2].deflate())),
        ("pickle compressed", with(|archive| archive.members[0].deflate())),
        ("bytes after the pickle", with(|archive| archive.members[0].content.push(b'.'))),
        ("no pickle", with(|archive| drop(archive.members.remove(0)))),
        ("two pickles", with(|archive| archive.members.push(member("n/data.pkl", b"")))),
        ("billion laughs", archive(&laughs).bytes()),
        ("a list that holds itself", archive(&cycle).bytes()),
        ("storage in two ways", {
            let ops = Ops::new(2).op(b"}(").text("w");
            let ops = ops.tensor(|ops| ops.storage("FloatStorage", "a", 6, false), 0, &[6], &[1]).text("v");
            let ops = ops.tensor(|ops| ops.storage("DoubleStorage", "a", 3, false), 0, &[3], &[1]);
            archive(&ops.op(b"u").stop()).bytes()
        }),
        ("persistent id of a module", archive(&Ops::new(2).op(b"(").text("module").op(b"NNNNtQ").stop()).bytes()),
        ("old: other magic", old(|bytes| bytes[5] ^= 1)),
        ("old: other version", old(|bytes| bytes[18] ^= 1)),
        (
            "old: count differs",
            old(|bytes| {
                let at = bytes.len() - 48;
                bytes[at] = 7;
            }),
        ),
        ("old: bytes after the last storage", old(|bytes| bytes.push(0))),
        ("old: cut off", old(|bytes| bytes.truncate(bytes.len() - 30))),
        ("tar", [b"storages".as_slice(), &[0; 92], b"0000644\0", &[0; 149], b"ustar\x0000", &[0; 247]].concat()),
        ("a pickle alone", state_dict(&TENSORS[..1], false)),
        ("a list given items", archive(&Ops::new(2).op(b"](").text("k").text("v").op(b"u").stop()).bytes()),
        ("a tensor given items", {
            let ops = Ops::new(2).tensor(|ops| ops.storage("FloatStorage", "b", 1, false), 0, &[1], &[1]);
            archive(&ops.text("k").text("v").op(b"s").stop()).bytes()
        }),
        ("an array of numpy beside a tensor", {
            let ops = Ops::new(4).op(b"}(").text("n").array(&[2], "f4", "<", false, &[7; 8]).text("w");
            let ops = ops.tensor(|ops| ops.storage("FloatStorage", "b", 1, false), 0, &[1], &[1]);
            archive(&ops.op(b"u").stop()).bytes()
        }),
        ("neither", b"hello, this is text".to_vec()),
    ]
}

#[test]
fn torch_files_that_are_refused() {
    let mut out = String::new();
    for (name, bytes) in torch_cases() {
        out += &format!("{name}: {}\n", listed(&bytes, Container::Torch).replace('\n', "\n    "));
    }
    insta::assert_snapshot!("torch_findings", out);
}

fn zip_cases() -> Vec<(&'static str, Vec<u8>)> {
    let with = |change: fn(&mut Archive)| {
        let mut archive = archive(&state_dict(&TENSORS, false));
        change(&mut archive);
        archive.bytes()
    };
    vec![
        ("comment", with(|archive| archive.comment = b"hello".to_vec())),
        ("bytes after the end", [with(|_| {}), b"x".to_vec()].concat()),
        ("another end in the comment", with(|archive| archive.comment = b"PK\x05\x06".to_vec())),
        ("cut off", with(|_| {})[..400].to_vec()),
        ("member twice", with(|archive| archive.members.push(member("m/data/a", &[0; 24])))),
        (
            "another name in the local header",
            with(|archive| archive.members[2].local_name = Some("m/data/x".to_owned())),
        ),
        ("another method in the local header", with(|archive| archive.members[2].local_method = Some(8))),
        ("encrypted", with(|archive| archive.members[2].flags |= 1)),
        ("unknown method", with(|archive| archive.members[2].method = 93)),
        ("name with a control character", with(|archive| archive.members[2].name = "m/data/a\n".to_owned())),
        (
            "members share bytes",
            with(|archive| {
                archive.members[2].content = Archive::new(vec![member("m/data/b", &[0; 4])]).bytes();
                archive.members[3].same_place_as = Some(2);
                archive.members[3].shifted = 30 + 8;
            }),
        ),
        ("local header beyond the directory", with(|archive| archive.members[3].shifted = 1 << 20)),
        ("size beyond the directory", with(|archive| archive.members[2].claimed = Some(1 << 20))),
        ("directory not at the end", with(|archive| archive.gap = 3)),
        ("more entries than fit", with(|archive| archive.claimed_entries = Some(60_000))),
        ("fewer entries than there are", with(|archive| archive.claimed_entries = Some(2))),
        ("two disks", with(|archive| archive.disk = 1)),
        ("wide sizes that are absent", with(|archive| archive.members[2].claimed = Some(u32::MAX))),
        ("the two end records differ", with(|archive| archive.claimed_wide_entries = Some(5))),
    ]
}

#[test]
fn archives_that_contradict_themselves() {
    let mut out = String::new();
    for (name, bytes) in zip_cases() {
        let (checkpoint, findings) = read(&bytes, "f", Container::Torch);
        let verdict = if refused(&findings) { lines(&findings) } else { format!("ok, {}", checkpoint.tensors.len()) };
        out += &format!("{name}: {}\n", verdict.trim_end().replace('\n', "\n    "));
    }
    insta::assert_snapshot!("zip_findings", out);
}

#[test]
fn every_byte_of_a_torch_file_may_be_anything() {
    for good in [archive(&state_dict(&TENSORS[..2], false)).bytes(), legacy(&state_dict(&TENSORS, true))] {
        let mut bytes = good.clone();
        for at in 0..good.len() {
            assert!(refused(&read(&good[..at], "f", Container::Torch).1), "cut at {at}");
            for value in [0, 1, b'.', b'(', b'N', 0x7f, 0x80, 0xff, good[at] ^ 1] {
                bytes[at] = value;
                let (checkpoint, _) = read(&bytes, "f", Container::Torch);
                for tensor in &checkpoint.tensors {
                    assert!(end(&checkpoint, tensor) <= bytes.len() as u64);
                }
            }
            bytes[at] = good[at];
        }
    }
}

/// One past the last byte that a tensor has in its file.
fn end(checkpoint: &Checkpoint, tensor: &StoredTensor) -> u64 {
    match checkpoint.indirect.get(&tensor.name) {
        Some(Indirect::Strided { offset, strides }) => {
            let steps: u64 = tensor.shape.iter().zip(strides).map(|(dim, stride)| (dim - 1) * stride).sum();
            offset + tensor.dtype.bytes_for(steps + 1).unwrap()
        }
        _ => tensor.bytes.offset.unwrap() + tensor.bytes.length,
    }
}

/// A `.npy` array: version 1, the header padded as numpy does.
fn npy(descr: &str, fortran: &str, shape: &str, content: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(u16::try_from(padded).unwrap().to_le_bytes());
    out.extend(format!("{header:padded$}").into_bytes());
    *out.last_mut().unwrap() = b'\n';
    out.extend(content);
    out
}

#[test]
fn numpy_archives() {
    let one = |content: &[u8]| Archive::new(vec![member("w.npy", content)]);
    let good = npy("<f4", "False", "(2,)", &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut compressed = one(&good);
    compressed.members[0].deflate();
    let mut bomb = one(&npy("<f4", "False", "(2097152,)", &vec![0; 8 << 20]));
    bomb.members[0].deflate();
    let mut out = String::new();
    for (name, bytes) in [
        (
            "two",
            Archive::new(vec![member("a.npy", &good), member("b/c.npy", &npy("|u1", "False", "()", &[7]))]).bytes(),
        ),
        ("empty", Archive::new(vec![]).bytes()),
        ("compressed", compressed.bytes()),
        ("compressed 500 times", bomb.bytes()),
        ("column by column", one(&npy("<f4", "True", "(3, 2)", &[0; 24])).bytes()),
        ("one column", one(&npy("<f4", "True", "(1, 2)", &[0; 8])).bytes()),
        ("compressed column by column", {
            let mut archive = one(&npy("<f4", "True", "(3, 2)", &[0; 24]));
            archive.members[0].deflate();
            archive.bytes()
        }),
        ("object", one(&npy("|O", "False", "(1,)", &[0; 8])).bytes()),
        ("big-endian", one(&npy(">f4", "False", "(2,)", &[0; 8])).bytes()),
        ("bfloat16 as void", one(&npy("<V2", "False", "(4,)", &[0; 8])).bytes()),
        ("too short", one(&npy("<f4", "False", "(3,)", &[0; 8])).bytes()),
        ("overflow", one(&npy("<f4", "False", "(4294967296, 4294967296)", &[0; 8])).bytes()),
        ("not an array", Archive::new(vec![member("w.npy", b"hello, world")]).bytes()),
        ("another file", Archive::new(vec![member("readme.txt", b"hello"), member("w.npy", &good)]).bytes()),
        ("header of code", one(&npy("<f4', 'x': __import__('os'), 'y': '", "False", "(2,)", &[0; 8])).bytes()),
        ("header beyond the member", one(&good[..40]).bytes()),
    ] {
        out += &format!("{name}: {}\n", listed(&bytes, Container::Npz).replace('\n', "\n    "));
    }
    insta::assert_snapshot!(out, @r"
    two: a f32 [2] Some([1, 2, 3, 4, 5, 6, 7, 8])
        b/c u8 [] Some([7])
    empty: 
    compressed: w f32 [2] None
        FF744 compressed-member at 35: array `w` is compressed; its bytes have no place in the file
    compressed 500 times: w f32 [2097152] None
        FF744 compressed-member at 35: array `w` is compressed; its bytes have no place in the file
    column by column: w f32 [3, 2] None
        FF742 strided-tensor at 35: array `w` is stored column by column
    one column: w f32 [1, 2] Some([0, 0, 0, 0, 0, 0, 0, 0])
    compressed column by column: FF745 malformed-npy at 79: array `w` cannot be read: it is compressed and stored column by column
    object: FF745 malformed-npy at 54: array `w` cannot be read: dtype `|O` is not read here
    big-endian: FF745 malformed-npy at 54: array `w` cannot be read: big-endian data `>f4`
    bfloat16 as void: w bf16 [4] Some([0, 0, 0, 0, 0, 0, 0, 0])
    too short: FF707 tensor-size at 35: array `w` does not take the 8 bytes that follow its header
    overflow: FF745 malformed-npy at 45: array `w` cannot be read: the shape has more elements than can be counted
    not an array: FF745 malformed-npy at 35: array `w` cannot be read: not an npy file: it does not start with `\x93NUMPY`
    another file: FF745 malformed-npy at 40: member `readme.txt` is no array
    header of code: FF745 malformed-npy at 62: array `w` cannot be read: an unknown header key `x`
    header beyond the member: FF745 malformed-npy at 43: array `w` cannot be read: a header of 118 bytes, the file has 30 more
    ");
}

#[test]
fn seeds_of_the_fuzzers_are_up_to_date() {
    let array = npy("<f4", "False", "(2,)", &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut packed = Archive::new(vec![member("w.npy", &array)]);
    packed.members[0].deflate();
    for (seed, bytes) in [
        ("torch_file/zip", archive(&state_dict(&TENSORS[..2], false)).bytes()),
        ("torch_file/legacy", legacy(&state_dict(&TENSORS, true))),
        ("numpy_archive/stored", Archive::new(vec![member("w.npy", &array)]).bytes()),
        ("numpy_archive/deflated", packed.bytes()),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(seed);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(
            fs::read(&path).unwrap() == bytes,
            "{seed}: run `UPDATE_GENERATED=1 cargo test --test inventory seeds`"
        );
    }
}

#[test]
fn paths_lead_to_the_reader_of_their_format() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let zip = archive(&state_dict(&TENSORS, false)).bytes();
    let npz = Archive::new(vec![member("w.npy", &npy("<f4", "False", "()", &[0; 4]))]).bytes();
    for (name, bytes, container) in [
        ("m.pt", &zip, Container::Torch),
        ("blob", &zip, Container::Torch),
        ("old.pth", &legacy(&state_dict(&TENSORS, true)), Container::Torch),
        ("old", &legacy(&state_dict(&TENSORS, true)), Container::Torch),
        ("m.npz", &npz, Container::Npz),
        ("tensor00007_000", &committed("plain.protocol4.pkl"), Container::Pickle),
    ] {
        let path = at.join(name);
        fs::write(&path, bytes).unwrap();
        let (checkpoint, findings) = Checkpoint::open(&path).unwrap();
        assert_eq!((checkpoint.container, lines(&findings).as_str()), (container, ""), "{name}");
        assert!(!checkpoint.tensors.is_empty(), "{name}");
    }
}

#[test]
fn shards_that_torch_wrote_have_an_index_too() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let open = || {
        let (checkpoint, findings) = Checkpoint::open(at).unwrap();
        let names: Vec<&str> = checkpoint.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        format!("{} {}\n{}", checkpoint.container.name(), names.join(" "), lines(&findings))
    };
    for (file, tensors) in [("pytorch_model-1.bin", &TENSORS[..3]), ("pytorch_model-2.bin", &TENSORS[3..])] {
        fs::write(at.join(file), archive(&state_dict(tensors, false)).bytes()).unwrap();
    }
    assert_eq!(open(), "torch w tied row s none\n");
    let index =
        r#"{"weight_map": {"w": "pytorch_model-1.bin", "s": "pytorch_model-2.bin", "lost": "pytorch_model-3.bin"}}"#;
    fs::write(at.join("pytorch_model.bin.index.json"), index).unwrap();
    insta::assert_snapshot!(open(), @r"
    torch w tied row s none
    FF720 unindexed-tensor: 2 tensors of this shard are not in the index, `tied` first
    FF720 unindexed-tensor: 1 tensor of this shard is not in the index: `none`
    FF718 missing-shard: 1 of 3 shards are absent, with 1 of 3 tensors
    ");
}
