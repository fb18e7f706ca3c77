//! Opening paths: directories, indexes, shards, and what must not be opened.

use std::fs;
use std::path::{Path, PathBuf};

use flow_fabric::inventory::{Checkpoint, Grouping, Inventory, MetadataValue, OpenError};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use tempfile::TempDir;

use super::support::{lines, render};

/// Writes a safetensors file of f32 vectors, by name and length.
fn shard(directory: &Path, file: &str, tensors: &[(&str, usize)]) -> PathBuf {
    let zeros = vec![0; 4 * tensors.iter().map(|(_, length)| length).max().unwrap_or(&0)];
    let views = tensors
        .iter()
        .map(|&(name, length)| (name, TensorView::new(Dtype::F32, vec![length], &zeros[..4 * length]).unwrap()));
    let path = directory.join(file);
    serialize_to_file(views, None, &path).unwrap();
    path
}

fn index(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("model.safetensors.index.json");
    fs::write(&path, text).unwrap();
    path
}

fn mapped(entries: &[(&str, &str)]) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        entries.iter().map(|&(name, file)| (name.to_owned(), file.into())).collect();
    serde_json::json!({"metadata": {"total_size": 4 * entries.len()}, "weight_map": map}).to_string()
}

/// Opens a path; tensors with their files, then findings, with the directory's own path taken out.
fn opened(directory: &TempDir, path: &Path) -> String {
    let (checkpoint, findings) = Checkpoint::open(path).unwrap();
    let mut out = String::new();
    for tensor in &checkpoint.tensors {
        let file = &checkpoint.files[tensor.bytes.file.unwrap().0 as usize].path;
        out += &format!("{} {} {:?} {file}\n", tensor.name, tensor.dtype, tensor.shape);
    }
    let help: String =
        findings.iter().filter_map(|finding| finding.help.as_ref()).map(|help| format!("  help: {help}\n")).collect();
    out += &lines(&findings);
    out += &help;
    out.replace(&format!("{}/", directory.path().display()), "").trim_end().to_owned()
}

#[test]
fn a_directory_is_its_index_or_its_files() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    shard(at, "b.safetensors", &[("w2", 1)]);
    shard(at, "a.safetensors", &[("w1", 1), ("w3", 1)]);
    insta::assert_snapshot!(opened(&directory, at), @r"
    w1 f32 [1] a.safetensors
    w3 f32 [1] a.safetensors
    w2 f32 [1] b.safetensors
    ");
    // A stray file that the index does not name is none of its business.
    index(at, &mapped(&[("w1", "a.safetensors"), ("w3", "a.safetensors")]));
    insta::assert_snapshot!(opened(&directory, at), @r"
    w1 f32 [1] a.safetensors
    w3 f32 [1] a.safetensors
    ");
    assert_eq!(opened(&directory, at), opened(&directory, &at.join("model.safetensors.index.json")));
    assert_eq!(opened(&directory, &at.join("b.safetensors")), "w2 f32 [1] b.safetensors");
}

#[test]
fn an_index_is_held_to_its_word() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    shard(at, "1.safetensors", &[("a", 1), ("b", 1), ("extra", 1)]);
    shard(at, "2.safetensors", &[("b", 1), ("c", 1)]);
    fs::write(at.join("3.safetensors"), b"garbage!").unwrap();
    index(
        at,
        &mapped(&[
            ("a", "1.safetensors"),
            ("b", "2.safetensors"),
            ("c", "2.safetensors"),
            ("d", "2.safetensors"),
            ("e", "3.safetensors"),
            ("f", "absent.safetensors"),
            ("g", "absent.safetensors"),
        ]),
    );
    insta::assert_snapshot!(opened(&directory, at), @r"
    a f32 [1] 1.safetensors
    extra f32 [1] 1.safetensors
    b f32 [1] 2.safetensors
    c f32 [1] 2.safetensors
    FF704 duplicate-tensor: tensor `b` is in this shard too; the index names another
    FF720 unindexed-tensor: 1 tensor of this shard is not in the index: `extra`
    FF701 header-length at 0: the header claims 2406443243860549991 bytes; at most 100000000 are taken
    FF719 missing-tensor at 104: tensor `d` is not in `2.safetensors`
    FF718 missing-shard: 1 of 4 shards are absent, with 2 of 7 tensors
      help: the indexed one is taken
      help: nothing is left out of the inventory
      help: this may not be a safetensors file
      help: the inventory holds the present shards only; absent: `absent.safetensors`
    ");
}

#[test]
fn total_size_is_compared_and_no_more() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    shard(at, "1.safetensors", &[("a", 5)]);
    index(at, r#"{"metadata": {"total_size": 21}, "weight_map": {"a": "1.safetensors"}}"#);
    insta::assert_snapshot!(opened(&directory, at), @r"
    a f32 [5] 1.safetensors
    FF721 index-total-size: `total_size` says 21 bytes, the tensors take 20
    ");
    for fine in ["20", "20.0", "\"20\"", "null", "-1"] {
        index(at, &format!(r#"{{"metadata": {{"total_size": {fine}}}, "weight_map": {{"a": "1.safetensors"}}}}"#));
        assert_eq!(opened(&directory, at), "a f32 [5] 1.safetensors", "{fine}");
    }
}

#[test]
fn hostile_indexes() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    fs::create_dir(at.join("inner")).unwrap();
    shard(at, "secret.safetensors", &[("a", 1)]);
    let inner = at.join("inner");
    shard(&inner, "good.safetensors", &[("a", 1)]);
    let mut out = String::new();
    let absolute = at.join("secret.safetensors").display().to_string();
    for (name, text) in [
        ("parent", r#"{"weight_map":{"a":"../secret.safetensors"}}"#.to_owned()),
        ("absolute", format!(r#"{{"weight_map":{{"a":"{absolute}"}}}}"#)),
        ("backslash", r#"{"weight_map":{"a":"..\\secret.safetensors"}}"#.to_owned()),
        ("spelt twice", r#"{"weight_map":{"a":"good.safetensors","b":"./good.safetensors"}}"#.to_owned()),
        ("NUL", r#"{"weight_map":{"a":"good.safetensors\u0000"}}"#.to_owned()),
        ("dots", r#"{"weight_map":{"a":".."}}"#.to_owned()),
        ("dot", r#"{"weight_map":{"a":"."}}"#.to_owned()),
        ("below", r#"{"weight_map":{"a":"below/good.safetensors"}}"#.to_owned()),
        ("drive", r#"{"weight_map":{"a":"C:good.safetensors"}}"#.to_owned()),
        ("no file", r#"{"weight_map":{"a":""}}"#.to_owned()),
        ("a name of 300 bytes", format!(r#"{{"weight_map":{{"a":"{}"}}}}"#, "x".repeat(300))),
        ("traversal by escape", r#"{"weight_map":{"a":"\u002e\u002e\u002fsecret.safetensors"}}"#.to_owned()),
        ("null", r#"{"weight_map":{"a":null}}"#.to_owned()),
        ("a map of a map", r#"{"weight_map":{"a":{"file":"good.safetensors"}}}"#.to_owned()),
        ("map null", r#"{"weight_map":null}"#.to_owned()),
        ("the map by escape, too", r#"{"weight_map":{},"weight\u005fmap":{}}"#.to_owned()),
        ("NUL in a name", r#"{"weight_map":{"a\u0000":"good.safetensors"}}"#.to_owned()),
        ("absent tensor", r#"{"weight_map":{"a":"good.safetensors","b":"good.safetensors"}}"#.to_owned()),
        ("absent shard", r#"{"weight_map":{"a":"good.safetensors","b":"absent.safetensors"}}"#.to_owned()),
        ("the index as a shard", r#"{"weight_map":{"a":"model.safetensors.index.json"}}"#.to_owned()),
        ("number", r#"{"weight_map":{"a":1}}"#.to_owned()),
        ("list", r#"{"weight_map":["a"]}"#.to_owned()),
        ("no map", r#"{"metadata":{}}"#.to_owned()),
        ("empty map", r#"{"weight_map":{}}"#.to_owned()),
        ("two maps", r#"{"weight_map":{},"weight_map":{}}"#.to_owned()),
        ("name twice", r#"{"weight_map":{"a":"good.safetensors","\u0061":"other.safetensors"}}"#.to_owned()),
        ("empty name", r#"{"weight_map":{"":"good.safetensors"}}"#.to_owned()),
        ("cut off", r#"{"weight_map":{"a":"good.safetensors""#.to_owned()),
        ("text after", r#"{"weight_map":{}} x"#.to_owned()),
        ("deep", format!(r#"{{"x":{}"#, "[".repeat(100_000))),
        ("empty", String::new()),
        ("not JSON", "\u{feff}{}".to_owned()),
    ] {
        index(&inner, &text);
        let said = opened(&directory, &inner).replace(&absolute, "/secret.safetensors");
        out += &format!("{name}: {}\n", said.replace('\n', "\n    "));
    }
    fs::write(inner.join("model.safetensors.index.json"), b"{\"weight_map\":{\"\xff\":\"x\"}}").unwrap();
    out += &format!("not UTF-8: {}\n", opened(&directory, &inner));
    insta::assert_snapshot!("hostile_indexes", out);
}

#[cfg(unix)]
#[test]
fn shards_of_an_index_may_be_links_to_files_and_nothing_else() {
    use std::os::unix::fs::symlink;

    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let inner = at.join("inner");
    fs::create_dir(&inner).unwrap();
    shard(at, "blob", &[("a", 1), ("b", 1)]);
    // As the Hugging Face cache has it: out of the directory, to a file named by its digest.
    symlink("../blob", inner.join("link.safetensors")).unwrap();
    symlink("../blob", inner.join("second.safetensors")).unwrap();
    symlink("/dev/zero", inner.join("device.safetensors")).unwrap();
    symlink("..", inner.join("directory.safetensors")).unwrap();
    symlink("nowhere", inner.join("dangling.safetensors")).unwrap();
    symlink("circle.safetensors", inner.join("circle.safetensors")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(inner.join("fifo.safetensors")).status().unwrap().success());
    let mut out = String::new();
    for (name, text) in [
        ("link", mapped(&[("a", "link.safetensors"), ("b", "link.safetensors")])),
        ("one file by two names", mapped(&[("a", "link.safetensors"), ("b", "second.safetensors")])),
        ("device", mapped(&[("a", "device.safetensors")])),
        ("directory", mapped(&[("a", "directory.safetensors")])),
        ("FIFO", mapped(&[("a", "fifo.safetensors")])),
        ("dangling", mapped(&[("a", "dangling.safetensors")])),
        ("circle", mapped(&[("a", "circle.safetensors")])),
    ] {
        index(&inner, &text);
        out += &format!("{name}: {}\n", opened(&directory, &inner).replace('\n', "\n    "));
    }
    insta::assert_snapshot!("shards_that_are_links", out);
    fs::remove_file(inner.join("model.safetensors.index.json")).unwrap();
    symlink("fifo.safetensors", inner.join("model.safetensors.index.json")).unwrap();
    insta::assert_snapshot!(opened(&directory, &inner), @"FF713 not-a-file: a regular file was expected; this is neither a file nor a directory");
}

#[test]
fn an_index_of_100_mb_is_not_read() {
    let directory = TempDir::new().unwrap();
    let path = index(directory.path(), r#"{"weight_map":{}}"#);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100_000_001).unwrap();
    insta::assert_snapshot!(opened(&directory, directory.path()), @"FF716 malformed-index: the file has 100000001 bytes; at most 100000000 are read");
}

#[test]
fn names_in_two_files_are_one_too_many() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    shard(at, "1.safetensors", &[("a", 1), ("b", 1)]);
    shard(at, "2.safetensors", &[("b", 2), ("c", 1)]);
    insta::assert_snapshot!(opened(&directory, at), @r"
    a f32 [1] 1.safetensors
    b f32 [1] 1.safetensors
    c f32 [1] 2.safetensors
    FF704 duplicate-tensor: tensor `b` is in an earlier file too
      help: the earlier one is taken
    ");
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let error = |path: &Path| Checkpoint::open(path).unwrap_err().to_string().replace(&at.display().to_string(), "D");
    assert_eq!(error(&at.join("absent")), "`D/absent` does not exist");
    assert_eq!(
        error(at),
        "`D` is not a checkpoint: the directory holds no safetensors, GGUF, `pytorch_model*.bin` or `tensorNNNNN_000` files"
    );
    fs::write(at.join("notes.txt"), "hello").unwrap();
    assert_eq!(
        error(&at.join("notes.txt")),
        "`D/notes.txt` is not a checkpoint: neither its name nor its first bytes are those of a checkpoint"
    );
    fs::write(at.join("a.safetensors.index.json"), "{}").unwrap();
    fs::write(at.join("b.safetensors.index.json"), "{}").unwrap();
    assert_eq!(
        error(at),
        "`D` holds several checkpoints; name one of a.safetensors.index.json, b.safetensors.index.json"
    );
    assert!(matches!(Checkpoint::open(&at.join("absent")), Err(OpenError::Absent { .. })));
}

#[test]
fn a_file_without_extension_is_known_by_its_first_bytes() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    fs::rename(shard(at, "x.safetensors", &[("a", 1)]), at.join("0123abcd")).unwrap();
    assert_eq!(opened(&directory, &at.join("0123abcd")), "a f32 [1] 0123abcd");
    fs::write(at.join("list"), r#"{"name":"a","dtype":"F32","shape":[2]}"#).unwrap();
    assert_eq!(Checkpoint::open(&at.join("list")).unwrap().0.tensors[0].bytes.length, 8);
}

#[cfg(unix)]
#[test]
fn fifos_devices_and_directories_are_refused_without_waiting() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let fifo = at.join("fifo.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", at.join("zero.safetensors")).unwrap();
    std::os::unix::fs::symlink("/proc/self/status", at.join("proc.safetensors")).unwrap();
    std::os::unix::fs::symlink("nowhere", at.join("dangling.safetensors")).unwrap();
    fs::create_dir(at.join("directory.safetensors")).unwrap();
    fs::rename(shard(at, "x", &[("a", 1)]), at.join("blob")).unwrap();
    // The Hugging Face cache is made of links; those are followed.
    std::os::unix::fs::symlink("blob", at.join("link.safetensors")).unwrap();
    insta::assert_snapshot!(opened(&directory, at), @r"
    a f32 [1] link.safetensors
    FF714 unreadable-file: the file is absent
    FF713 not-a-file: a regular file was expected; this is a directory
    FF713 not-a-file: a regular file was expected; this is neither a file nor a directory
    FF701 header-length at 0: the file has 0 bytes, a safetensors file at least 8
    FF713 not-a-file: a regular file was expected; this is neither a file nor a directory
    ");
    assert!(matches!(Checkpoint::open(&fifo), Err(OpenError::NotACheckpoint { .. })));
}

#[cfg(unix)]
#[test]
fn a_sparse_terabyte_costs_its_header() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sparse.safetensors");
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, 1_u64 << 40);
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Not every file system makes files of this size.
    if file.set_len(8 + header.len() as u64 + (1 << 40)).is_ok() {
        assert_eq!(opened(&directory, &path), "w u8 [1099511627776] sparse.safetensors");
    }
}

#[test]
fn metadata_stamps_and_the_config_are_kept() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let zeros = [0; 8];
    let view = TensorView::new(Dtype::F16, vec![2, 2], &zeros).unwrap();
    let format = [("format".to_owned(), "pt".to_owned())].into();
    serialize_to_file([("lm_head.weight", &view), ("wte.weight", &view)], Some(format), &at.join("m.safetensors"))
        .unwrap();
    fs::write(at.join("config.json"), r#"{"tie_word_embeddings": true}"#).unwrap();
    let (checkpoint, findings) = Checkpoint::open(&at.join("m.safetensors")).unwrap();
    assert_eq!(lines(&findings), "");
    let file = &checkpoint.files[0];
    assert_eq!(file.metadata["format"], MetadataValue::Text("pt".to_owned()));
    assert_eq!(
        (file.size, file.stamp.unwrap().size),
        (Some(file.stamp.unwrap().size), fs::metadata(at.join("m.safetensors")).unwrap().len())
    );
    let grouped = render(&Inventory::group(&checkpoint, &Grouping::default()));
    assert!(grouped.contains("lm_head.weight plain f16 [2, 2] <weight> = wte.weight"), "{grouped}");
    fs::write(at.join("config.json"), "{").unwrap();
    insta::assert_snapshot!(opened(&directory, at), @r"
    lm_head.weight f16 [2, 2] m.safetensors
    wte.weight f16 [2, 2] m.safetensors
    FF723 malformed-config: the config cannot be read: EOF while parsing an object at line 1 column 1
    ");
}

#[test]
fn quant_states_are_read_with_the_header() {
    let directory = TempDir::new().unwrap();
    let state = br#"{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [8, 12]}"#;
    let (codes, floats) = ([0; 48], [0; 64]);
    let tensors = [
        ("w.weight", TensorView::new(Dtype::U8, vec![48, 1], &codes).unwrap()),
        ("w.weight.absmax", TensorView::new(Dtype::F32, vec![2], &floats[..8]).unwrap()),
        ("w.weight.quant_map", TensorView::new(Dtype::F32, vec![16], &floats).unwrap()),
        ("w.weight.quant_state.bitsandbytes__nf4", TensorView::new(Dtype::U8, vec![state.len()], state).unwrap()),
    ];
    let path = directory.path().join("m.safetensors");
    serialize_to_file(tensors, None, &path).unwrap();
    let (checkpoint, findings) = Checkpoint::open(&path).unwrap();
    assert_eq!(lines(&findings), "");
    assert_eq!(
        render(&Inventory::group(&checkpoint, &Grouping::default())),
        "w.weight bnb-nf4 bf16 [8, 12] <weight scales quant_map quant_state>"
    );
}

#[test]
fn bad_lines_of_a_list_are_left_out() {
    let list = [
        r#"{"name":"a","dtype":"F32","shape":[2],"file":"x","extra":{"deep":[1.5e3,null]}}"#,
        "",
        "   ",
        r#"{"name":"b","dtype":"float99","shape":[2]}"#,
        r#"{"name":"a","dtype":"F32","shape":[3]}"#,
        r#"{"name":"c","dtype":"F32"}"#,
        r#"{"name":"d","dtype":"F32","shape":[-1]}"#,
        r#"{"name":"e","dtype":"F32","shape":[4294967296,4294967296]}"#,
        r#"{"name":"f","dtype":"q4_0","shape":[33]}"#,
        r#"{"name":"","dtype":"F32","shape":[]}"#,
        r#"{"name":"g","name":"h","dtype":"F32","shape":[]}"#,
        r#"{"name":"i","dtype":"F32","shape":[]} {}"#,
        r#"["j"]"#,
        r#"{"name":"k","dtype":"F32","shape":[],"file":""}"#,
        r#"{"name":"l","dtype":"q4_1","shape":[64],"file":"x"}"#,
    ]
    .join("\n");
    let (checkpoint, findings) = Checkpoint::from_list(list.as_bytes(), "list").unwrap();
    let kept: Vec<(&str, u64)> =
        checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.bytes.length)).collect();
    assert_eq!(kept, [("a", 8), ("l", 40)]);
    assert_eq!(checkpoint.files.len(), 1);
    insta::assert_snapshot!(lines(&findings), @r"
    FF706 unknown-dtype at 105: line 4: unknown dtype `float99`
    FF704 duplicate-tensor at 128: line 5: tensor `a` stands twice in the list
    FF722 malformed-list at 167: line 6: no `shape`
    FF722 malformed-list at 229: line 7: an unsigned integer was expected, not a negative number
    FF708 size-overflow at 234: line 8: the size of tensor `e` overflows 64 bits
    FF707 tensor-size at 293: line 9: 33 elements of q4_0 in tensor `f` do not make whole blocks
    FF705 tensor-name at 342: line 10: a tensor has an empty name
    FF722 malformed-list at 383: line 11: the field `name` stands twice
    FF722 malformed-list at 458: line 12: something follows the object
    FF722 malformed-list at 461: line 13: an object was expected, not an array
    FF722 malformed-list at 511: line 14: `` cannot name a file
    ");
}

#[test]
fn a_list_that_never_ends_a_line_is_cut() {
    let list = [b"{\"name\":\"".to_vec(), vec![b'a'; 2 << 20]].concat();
    let (_, findings) = Checkpoint::from_list(&list[..], "list").unwrap();
    assert_eq!(
        lines(&findings),
        "FF712 too-large at 0: line 1: longer than 1048576 bytes; the list is read no further\n"
    );
    // A broken gzip stream is a reader that fails.
    assert!(Checkpoint::from_list(&[0x1f, 0x8b, 0, 1, 2, 3][..], "list").is_err());
}
