//! Digests are held against what is read, chunk by chunk, and nothing that fails is handed out.

use std::path::Path;

use flow_fabric::finding::code;
use flow_fabric::inventory::Checkpoint;
use flow_fabric::load::{LoadError, Loader, ReadPlan, Traffic, traffic};
use flow_fabric::manifest::{Manifest, ManifestOptions};
use flow_fabric::progress::Silent;
use flow_fabric::{Dtype, Plan};

use super::support::{Tensor, checkpoint, load, options, plan};

const CHUNK: u64 = 1000;

fn tensors() -> Vec<Tensor> {
    vec![
        Tensor::numbered("a.rows", Dtype::U8, &[40, 100]),
        Tensor::numbered("b.columns", Dtype::Bf16, &[30, 100]),
        Tensor::numbered("c.small", Dtype::F32, &[3]),
        Tensor::numbered("d.empty", Dtype::F32, &[0]),
    ]
}

fn policy(read: &str, verify: &str) -> String {
    format!(
        "language = 1\npolicy = \"p\"\n[mesh]\naxes = [\"m\"]\nshape = [4]\n[loader]\nread = \"{read}\"\nverify = \"{verify}\"\n\
         [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"rows\"\nglob = \"*.rows\"\nspec = [\"m\"]\n\
         [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"columns\"\nglob = \"*.columns\"\nspec = [\"-\", \"m\"]\n\
         [[FLOW_FABRIC_PARTITION_RULES]]\nname = \"rest\"\nglob = \"**\"\nspec = []\n"
    )
}

fn manifest(path: &Path) -> Manifest {
    let (checkpoint, _) = Checkpoint::open(path).unwrap();
    let options = ManifestOptions { chunk_bytes: CHUNK, ..ManifestOptions::default() };
    Manifest::build(&checkpoint, options, &Silent).unwrap()
}

fn verified(plan: &Plan, device: u64, manifest: &Manifest) -> Result<(), LoadError> {
    let device = ReadPlan::new(plan, device).unwrap();
    Loader::open(&device, options(2, 0)).unwrap().verified_by(Some(manifest)).unwrap().load(&Silent).map(drop)
}

#[test]
fn what_is_whole_loads_as_without_verification() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &tensors(), 2);
    let manifest = manifest(&path);
    for read in ["pread", "mmap", "direct"] {
        for verify in ["xxh3", "blake3"] {
            let (with, without) = (plan(&policy(read, verify), &path), plan(&policy(read, "none"), &path));
            for number in 0..4 {
                let device = ReadPlan::new(&with, number).unwrap();
                let mut loader = Loader::open(&device, options(2, 64)).unwrap().verified_by(Some(&manifest)).unwrap();
                let mut foretold = Traffic::default();
                loader.traffic().into_iter().for_each(|part| foretold += part);
                assert_eq!(loader.load(&Silent).unwrap(), load(&without, number, options(1, 0)));
                let report = loader.report();
                assert!(report.verify > std::time::Duration::ZERO);
                if read == "pread" {
                    assert_eq!(report.traffic, foretold);
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_named_by_tensor_file_chunk_and_offset() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &tensors(), 1);
    let manifest = manifest(&path);
    let file = folder.path().join("model-00001-of-00001.safetensors");
    let right = std::fs::read(&file).unwrap();
    let offset = manifest.find("a.rows").unwrap().1.offset;
    // Device k of 4 holds rows 10 k to 10 k + 10, which are chunk k.
    for (chunk, within) in [(0_u64, 0_u64), (1, 999), (3, 500)] {
        let mut wrong = right.clone();
        wrong[usize::try_from(offset + chunk * CHUNK + within).unwrap()] ^= 0x10;
        std::fs::write(&file, &wrong).unwrap();
        for read in ["pread", "mmap", "direct"] {
            for verify in ["xxh3", "blake3"] {
                let plan = plan(&policy(read, verify), &path);
                for device in 0..4 {
                    let loaded = verified(&plan, device, &manifest);
                    if device != chunk {
                        loaded.unwrap();
                        continue;
                    }
                    let LoadError::Mismatch(mismatch) = loaded.unwrap_err() else { panic!("another error") };
                    assert_eq!((mismatch.tensor.as_str(), mismatch.chunk), ("a.rows", chunk));
                    assert_eq!((mismatch.offset, mismatch.length), (offset + chunk * CHUNK, CHUNK));
                    assert!(mismatch.file.ends_with("model-00001-of-00001.safetensors"));
                    let finding = LoadError::Mismatch(mismatch).finding().unwrap();
                    assert_eq!(finding.code, &code::DIGEST_MISMATCH);
                }
            }
        }
    }
}

#[test]
fn of_a_slice_the_whole_chunk_is_verified_and_nothing_of_a_bad_tensor_is_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &tensors(), 1);
    let manifest = manifest(&path);
    let file = folder.path().join("model-00001-of-00001.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    // In the second quarter of a row in the last chunk: device 0 wants none of these bytes.
    bytes[usize::try_from(manifest.find("b.columns").unwrap().1.offset).unwrap() + 5950] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let plan = plan(&policy("pread", "xxh3"), &path);
    let device = ReadPlan::new(&plan, 0).unwrap();
    let mut options = options(1, 0);
    options.budget = 1;
    let mut loader = Loader::open(&device, options).unwrap().verified_by(Some(&manifest)).unwrap();
    let results: Vec<_> = loader.tensors(&Silent).collect();
    assert!(results.iter().flatten().all(|tensor| tensor.name != "b.columns"));
    assert!(matches!(results.last(), Some(Err(LoadError::Mismatch(mismatch))) if mismatch.chunk == 5));
}

#[test]
fn without_digests_nothing_that_is_to_be_verified_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &tensors(), 1);
    let plan = plan(&policy("pread", "xxh3"), &path);
    let device = ReadPlan::new(&plan, 0).unwrap();
    let code = |error: LoadError| error.finding().unwrap().code.name;
    assert_eq!(code(Loader::open(&device, options(1, 0)).unwrap().load(&Silent).unwrap_err()), "missing-manifest");
    let mut other = manifest(&path);
    other.files[0].tensors.remove("c.small");
    let loader = Loader::open(&device, options(1, 0)).unwrap();
    assert_eq!(code(loader.verified_by(Some(&other)).unwrap_err()), "manifest-differs");
}

#[test]
fn chunks_that_do_not_fit_into_the_budget_are_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), &[Tensor::numbered("large", Dtype::U8, &[300, 1024])], 1);
    let plan = plan(&policy("pread", "xxh3"), &path);
    let device = ReadPlan::new(&plan, 0).unwrap();
    let (checkpoint, _) = Checkpoint::open(&path).unwrap();
    let manifest = Manifest::build(&checkpoint, ManifestOptions::default(), &Silent).unwrap();
    let with_budget = |budget| {
        let mut options = options(1, 0);
        options.budget = budget;
        let opened = Loader::open(&device, options).unwrap().verified_by(Some(&manifest)).map(drop);
        let foreseen = device.check_manifest(Some(&manifest), &options);
        assert_eq!(foreseen.map_err(|error| error.to_string()), opened.as_ref().copied().map_err(ToString::to_string));
        opened
    };
    assert!(with_budget(300 << 10).is_ok());
    let error = with_budget((300 << 10) - 1).unwrap_err();
    assert_eq!(error.finding().unwrap().code.name, "chunk-over-budget");
    assert!(error.to_string().starts_with("tensor `large` is verified in chunks of 300.00 KiB"), "{error}");
}

#[test]
fn what_is_foretold_of_verified_tensors_is_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    // A file for each tensor, so that what each is read with is told apart.
    let path = checkpoint(folder.path(), &tensors(), tensors().len());
    let manifest = manifest(&path);
    let plan = plan(&policy("pread", "blake3"), &path);
    let device = ReadPlan::new(&plan, 1).unwrap();
    for gap in [0, 64 << 10] {
        let options = options(2, gap);
        let foretold = traffic(&device, &options, Some(&manifest));
        let mut loader = Loader::open(&device, options).unwrap().verified_by(Some(&manifest)).unwrap();
        assert_eq!(loader.traffic(), foretold);
        loader.load(&Silent).unwrap();
        let read: Vec<Traffic> = loader.report().files.iter().map(|file| file.traffic).collect();
        assert_eq!(read, foretold);
        // Rows 10 to 19 are chunk 1. A quarter of each row of 200 bytes is in every one of six chunks.
        let told: Vec<_> = foretold.iter().map(|part| (part.wanted, part.read, part.requests)).collect();
        assert_eq!(told, [(1000, 1000, 1), (1500, 6000, 1), (12, 12, 1), (0, 0, 0)]);
    }
    // Before there is a manifest, its chunks are taken for as large as they are unless somebody says otherwise.
    let told: Vec<_> = traffic(&device, &options(2, 0), None).iter().map(|part| part.read).collect();
    assert_eq!(told, [4000, 6000, 12, 0]);
    assert!(device.check_manifest(Some(&manifest), &options(1, 0)).is_ok());
    assert!(matches!(device.check_manifest(None, &options(1, 0)), Err(LoadError::Unverified { known: false, .. })));
}
