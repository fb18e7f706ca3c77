//! Random checkpoints, meshes and specs: each slice is the one made by hand, and all of them together are the original.

use std::fmt::Write as _;

use flow_fabric::load::{LoadOptions, Loader, ReadPlan, Rung, traffic};
use flow_fabric::progress::Silent;
use flow_fabric::storage::ALIGNMENT;
use flow_fabric::{Dtype, Mesh};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::naive::{self, Entry, Indivisible};
use super::support::{Tensor, checkpoint, load, options, plan};

#[derive(Debug, Clone)]
struct Case {
    mesh: naive::Mesh,
    tensors: Vec<(Tensor, Vec<Entry>)>,
    otherwise: Indivisible,
    /// A weight and the coordinate on the first axis that alone holds it.
    placed: Option<(usize, u64)>,
    files: usize,
    read: &'static str,
    threads: usize,
    gap: u64,
}

fn entry(axes: &[&str]) -> impl Strategy<Value = Vec<String>> + use<> {
    let axes: Vec<String> = axes.iter().map(|axis| (*axis).to_owned()).collect();
    proptest::sample::subsequence(axes.clone(), 0..=axes.len()).prop_shuffle()
}

/// Hands out each axis to at most one dimension.
fn spec() -> impl Strategy<Value = Vec<Entry>> {
    (entry(&["x", "y"]), 0..3_usize, 0..3_usize, 1..4_u64, any::<bool>(), any::<bool>()).prop_map(
        |(axes, one, other, unit, fewer, together)| {
            let mut spec: Vec<Entry> = (0..3).map(|_| Entry { axes: Vec::new(), unit: 1, fewer: false }).collect();
            let places = [one, if together { one } else { other }];
            for (axis, place) in axes.into_iter().zip(places) {
                spec[place].axes.push(axis);
                (spec[place].unit, spec[place].fewer) = (unit, fewer);
            }
            spec
        },
    )
}

fn tensor() -> impl Strategy<Value = (Dtype, Vec<u64>, Vec<Entry>)> {
    let dtype = prop_oneof![Just(Dtype::U8), Just(Dtype::Bf16), Just(Dtype::F32)];
    // One in eight is large enough to be cut into jobs.
    let shape = prop_oneof![
        7 => proptest::collection::vec(1..13_u64, 3),
        1 => Just(vec![6, 96, 130]),
    ];
    (dtype, shape, spec())
}

fn case() -> impl Strategy<Value = Case> {
    let tensors = proptest::collection::vec(tensor(), 1..5);
    let otherwise = prop_oneof![Just(Indivisible::Replicate), Just(Indivisible::Pad), Just(Indivisible::Uneven)];
    let read = prop_oneof![Just("auto"), Just("pread"), Just("mmap"), Just("direct")];
    let reading = (read, 1..4_usize, prop_oneof![Just(0_u64), Just(64), Just(64 << 10)]);
    (tensors, 1..5_u64, 1..4_u64, otherwise, any::<Option<proptest::sample::Index>>(), 1..3_usize, reading).prop_map(
        |(tensors, x, y, otherwise, placed, files, (read, threads, gap))| {
            let tensors: Vec<(Tensor, Vec<Entry>)> = tensors
                .into_iter()
                .enumerate()
                .map(|(number, (dtype, shape, spec))| (Tensor::numbered(&format!("t{number}.w"), dtype, &shape), spec))
                .collect();
            let placed = placed.map(|index| (index.index(tensors.len()), 0));
            Case {
                mesh: vec![("x".into(), x), ("y".into(), y)],
                placed,
                files: files.min(tensors.len()),
                tensors,
                otherwise,
                read,
                threads,
                gap,
            }
        },
    )
}

fn policy(case: &Case) -> String {
    let otherwise = match case.otherwise {
        Indivisible::Replicate => "replicate",
        Indivisible::Pad => "pad",
        Indivisible::Uneven => "uneven",
    };
    let mut text = format!(
        "language = 1\npolicy = \"random\"\n[mesh]\naxes = [\"x\", \"y\"]\nshape = [{}, {}]\n\
         [partition]\nindivisible = \"{otherwise}\"\n[loader]\nread = \"{}\"\n",
        case.mesh[0].1, case.mesh[1].1, case.read
    );
    for (number, (tensor, spec)) in case.tensors.iter().enumerate() {
        let entries: Vec<String> = spec
            .iter()
            .map(|entry| match entry.axes.as_slice() {
                [] => "\"-\"".to_owned(),
                axes => format!(
                    "{{ axis = {axes:?}, unit = {}{} }}",
                    entry.unit,
                    if entry.fewer { ", fewer = \"replicate\"" } else { "" }
                ),
            })
            .collect();
        let _ = write!(text, "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"r{number}\"\npath = \"{}\"\n", tensor.name);
        if case.placed.is_some_and(|(placed, _)| placed == number) {
            text.push_str("spec = []\nplace = { axis = \"x\", index = 't(\\d+)', of = 12 }\n");
        } else {
            let _ = writeln!(text, "spec = [{}]", entries.join(", "));
        }
    }
    text
}

proptest! {
    #![proptest_config(Config { cases: 48, rng_seed: RngSeed::Fixed(0x10ad), failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_device_gets_its_slice_and_all_of_them_the_original(case in case()) {
        let folder = tempfile::tempdir().unwrap();
        let tensors: Vec<Tensor> = case.tensors.iter().map(|(tensor, _)| tensor.clone()).collect();
        let path = checkpoint(folder.path(), &tensors, case.files);
        let plan = plan(&policy(&case), &path);
        let mesh = Mesh::new(case.mesh.clone()).unwrap();
        let mut held: Vec<Vec<bool>> =
            tensors.iter().map(|tensor| vec![false; tensor.shape.iter().product::<u64>() as usize]).collect();
        for device in 0..mesh.devices() {
            let at = mesh.coordinates(device);
            let read = ReadPlan::new(&plan, device).unwrap();
            let mut loader = Loader::open(&read, options(case.threads, case.gap)).unwrap();
            let loaded = loader.load(&Silent).unwrap();
            prop_assert_eq!(loaded.bytes(), plan.devices[device as usize].stored_bytes, "as many bytes as planned");
            for (number, (tensor, spec)) in case.tensors.iter().enumerate() {
                let is_placed = case.placed.is_some_and(|(placed, _)| placed == number);
                if is_placed && number as u64 / (12 / mesh.axes()[0].1) != at[0] {
                    prop_assert!(loaded.get(&tensor.name).is_none());
                    continue;
                }
                let spec = if is_placed { &[][..] } else { spec };
                let (shape, bytes, elements) = naive::slice(tensor, spec, &case.mesh, &at, case.otherwise);
                let got = loaded.get(&tensor.name).unwrap();
                prop_assert_eq!(&got.shape, &shape);
                prop_assert!(*got.bytes == bytes, "{} on device {}", tensor.name, device);
                prop_assert_eq!(got.bytes.as_ptr().align_offset(ALIGNMENT), 0);
                elements.into_iter().for_each(|element| held[number][element] = true);
            }
            // One by one, and into memory that holds something else: the same bytes.
            let one_by_one: Vec<_> = loader.tensors(&Silent).map(|tensor| tensor.unwrap()).collect();
            prop_assert!(one_by_one.iter().eq(loaded.tensors.values()));
            let mut used = loaded.clone();
            used.tensors.values_mut().for_each(|tensor| tensor.bytes.fill(0xa5));
            let again = loader.load_into(used, &Silent).unwrap();
            prop_assert_eq!(&again, &loaded);
            let report = loader.report();
            prop_assert_eq!(report.traffic.wanted, 3 * read.wanted());
        }
        prop_assert!(held.iter().flatten().all(|held| *held), "every element is on some device");
    }
}

const COLUMNS: &str = "language = 1\npolicy = \"p\"\n[mesh]\naxes = [\"m\"]\nshape = [4]\n\
    [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"columns\"\nglob = \"*.c\"\nspec = [\"-\", \"m\"]\n\
    [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"rows\"\nglob = \"*.r\"\nspec = [\"m\"]\n\
    [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"rest\"\nglob = \"**\"\nspec = []\n";

fn some_tensors() -> Vec<Tensor> {
    vec![
        Tensor::numbered("a.c", Dtype::Bf16, &[300, 400]),
        Tensor::numbered("b.r", Dtype::F32, &[400, 300]),
        Tensor::numbered("c.n", Dtype::U8, &[77]),
        Tensor::numbered("d.c", Dtype::U8, &[64, 4096]),
        Tensor::numbered("e.n", Dtype::F32, &[]),
    ]
}

#[test]
fn all_readers_agree_and_say_what_they_did() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &some_tensors(), 1);
    let (mut results, mut through_the_cache) = (Vec::new(), Vec::new());
    for (read, queue_depth) in [("pread", 1), ("mmap", 1), ("direct", 1), ("direct", 2), ("direct", 64), ("auto", 1)] {
        let plan = plan(&format!("{COLUMNS}[loader]\nread = \"{read}\"\n"), &path);
        let device = ReadPlan::new(&plan, 2).unwrap();
        let mut options = options(2, 1024);
        options.queue_depth = queue_depth;
        let mut loader = Loader::open(&device, options).unwrap();
        results.push(loader.load(&Silent).unwrap());
        let report = loader.report();
        assert_eq!(report.files.len(), 1);
        let rung = report.files[0].rung;
        if rung == Rung::Buffered && read != "direct" {
            through_the_cache.push(report.traffic);
        }
        match read {
            "pread" => assert_eq!(rung, Rung::Buffered),
            "mmap" => assert_eq!(rung, Rung::Mapped),
            // Where the folder's file system takes no direct reads, or the system no queue of them, the report says so.
            "direct" if queue_depth > 1 => assert!(rung == Rung::Ring || report.files[0].because.is_some()),
            "direct" => assert!(rung == Rung::Direct || report.files[0].because.is_some()),
            // Just written: in the page cache.
            _ => assert_eq!(rung, Rung::Buffered),
        }
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    // Whoever chose the page cache: as little is read along as it is worth there.
    let [pread, auto] = through_the_cache[..] else { panic!("{through_the_cache:?}") };
    assert_eq!(pread, auto);
    if cfg!(target_os = "linux") {
        assert!(pread.requests > 300 && pread.read == pread.wanted, "{pread:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_counts_as_cached_when_the_wanted_parts_of_it_are() {
    use std::os::unix::fs::FileExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let (tensor, part) = (4_u64 << 20, 1_u64 << 20);
    let header = format!(
        r#"{{"a.r":{{"dtype":"U8","shape":[4,{part}],"data_offsets":[0,{tensor}]}},"b.r":{{"dtype":"U8","shape":[4,{part}],"data_offsets":[{tensor},{}]}}}}"#,
        2 * tensor
    );
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let data = 8 + header.len() as u64;
    file.set_len(data + 2 * tensor).unwrap();
    // Holes are nowhere; what the last device wants is written, and so cached.
    for at in [3 * part, tensor + 3 * part] {
        file.write_all_at(&vec![7; part as usize], data + at).unwrap();
    }
    let plan = plan(COLUMNS, &path);
    let device = ReadPlan::new(&plan, 3).unwrap();
    let mut loader = Loader::open(&device, options(2, 0)).unwrap();
    let loaded = loader.load(&Silent).unwrap();
    assert!(loaded.tensors.values().all(|tensor| tensor.bytes.iter().all(|&byte| byte == 7)));
    let report = &loader.report().files[0];
    assert_eq!((report.rung, report.cached), (Rung::Buffered, Some(1.0)));
}

#[test]
fn a_file_whose_tensors_are_read_in_turn_in_two_ways_is_opened_once_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: Vec<Tensor> = (0..20)
        .flat_map(|number| ["a", "b"].map(|end| Tensor::numbered(&format!("{number:02}.{end}"), Dtype::U8, &[50])))
        .collect();
    let path = checkpoint(folder.path(), &tensors, 1);
    let rules = "[[LOADER_RULES]]\nname = \"a\"\nglob = \"*.a\"\nread = \"mmap\"\n[loader]\nread = \"pread\"\n";
    let plan = plan(&format!("{COLUMNS}{rules}"), &path);
    let device = ReadPlan::new(&plan, 0).unwrap();
    let mut loader = Loader::open(&device, options(2, 0)).unwrap();
    assert!(format!("{loader:?}").contains("files: 2"), "{loader:?}");
    let loaded = loader.load(&Silent).unwrap();
    assert!(tensors.iter().all(|tensor| *loaded.get(&tensor.name).unwrap().bytes == tensor.bytes));
    let read: Vec<_> = loader.report().files.iter().map(|file| (file.rung, file.traffic.wanted)).collect();
    assert_eq!(read, [(Rung::Mapped, 1000), (Rung::Buffered, 1000)]);
}

#[test]
fn what_is_foretold_is_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &some_tensors(), 2);
    let plan = plan(&format!("{COLUMNS}[loader]\nread = \"pread\"\n"), &path);
    let device = ReadPlan::new(&plan, 3).unwrap();
    for gap in [0, 100, 1 << 20] {
        let options = options(3, gap);
        let mut loader = Loader::open(&device, options).unwrap();
        loader.load(&Silent).unwrap();
        let mut foretold = flow_fabric::load::Traffic::default();
        traffic(&device, &options, None).into_iter().for_each(|part| foretold += part);
        assert_eq!(loader.report().traffic, foretold, "gap {gap}");
        assert_eq!(foretold.wanted, device.wanted());
    }
}

#[test]
fn a_shape_that_is_stored_is_that_of_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let shape: Vec<u8> = [64_i64, 256].iter().flat_map(|size| size.to_le_bytes()).collect();
    let tensors = [
        Tensor::numbered("q.weight_packed", Dtype::I32, &[64, 32]),
        Tensor::numbered("q.weight_scale", Dtype::Bf16, &[64, 2]),
        Tensor { name: "q.weight_shape".into(), dtype: Dtype::I64, shape: vec![2], bytes: shape },
    ];
    let config = r#"{"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 128}}}}}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let path = checkpoint(folder.path(), &tensors, 1);
    let plan = plan(
        "language = 1\npolicy = \"p\"\n[mesh]\naxes = [\"m\"]\nshape = [2]\n\
         [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"columns\"\nglob = \"**\"\nspec = [\"-\", \"m\"]\n",
        &path,
    );
    let loaded = load(&plan, 1, LoadOptions::default());
    let numbers: Vec<i64> = loaded
        .get("q.weight_shape")
        .unwrap()
        .bytes
        .chunks(8)
        .map(|n| i64::from_le_bytes(n.try_into().unwrap()))
        .collect();
    assert_eq!(numbers, [64, 128]);
    assert_eq!(loaded.get("q.weight_packed").unwrap().shape, [64, 16]);
    assert_eq!(loaded.get("q.weight_scale").unwrap().shape, [64, 1]);
}
