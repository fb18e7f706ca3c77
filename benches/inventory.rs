//! From a file to logical weights: DeepSeek-V3's 91,991 stored tensors.
//!
//! Baselines in the same run: serde_json reading the same list into plain structs, the safetensors crate reading the
//! same header.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use flate2::read::GzDecoder;
use flow_fabric::inventory::{Checkpoint, Container, Grouping, Inventory, collapse};

fn main() {
    divan::main();
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/inventories/deepseek-v3.jsonl.gz")
}

fn list() -> String {
    let mut text = String::new();
    GzDecoder::new(File::open(path()).unwrap()).read_to_string(&mut text).unwrap();
    text
}

fn checkpoint() -> Checkpoint {
    Checkpoint::open(&path()).unwrap().0
}

/// A header of all tensors whose shapes are emptied, so that the file is the header.
fn safetensors_file() -> Vec<u8> {
    let mut header = String::from("{");
    for tensor in checkpoint().tensors {
        if header.len() > 1 {
            header.push(',');
        }
        let dtype = tensor.dtype.safetensors().unwrap();
        header += &format!(r#""{}":{{"dtype":"{dtype}","shape":[0,7168],"data_offsets":[0,0]}}"#, tensor.name);
    }
    header.push('}');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file
}

#[divan::bench]
fn open_gzipped_list(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(91_991_usize)).bench(checkpoint);
}

#[divan::bench]
fn read_list(bencher: Bencher<'_, '_>) {
    let list = list();
    bencher
        .counter(ItemsCount::new(91_991_usize))
        .bench(|| Checkpoint::from_list(list.as_bytes(), "list").unwrap().0.tensors.len());
}

#[divan::bench]
fn read_list_serde_json(bencher: Bencher<'_, '_>) {
    #[derive(serde::Deserialize)]
    struct Line {
        name: String,
        dtype: String,
        shape: Vec<u64>,
    }
    let list = list();
    bencher.counter(ItemsCount::new(91_991_usize)).bench(|| {
        let lines: Vec<Line> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter().map(|line| line.name.len() + line.dtype.len() + line.shape.len()).sum::<usize>()
    });
}

#[divan::bench]
fn read_safetensors_header(bencher: Bencher<'_, '_>) {
    let file = safetensors_file();
    bencher.counter(ItemsCount::new(91_991_usize)).bench(|| {
        let length = file.len() as u64;
        Checkpoint::from_reader(&mut Cursor::new(&file), length, "bench", Container::Safetensors).0.tensors.len()
    });
}

#[divan::bench]
fn read_safetensors_header_reference(bencher: Bencher<'_, '_>) {
    let file = safetensors_file();
    bencher
        .counter(ItemsCount::new(91_991_usize))
        .bench(|| safetensors::SafeTensors::read_metadata(&file).unwrap().1.tensors().len());
}

#[divan::bench]
fn group(bencher: Bencher<'_, '_>) {
    let checkpoint = checkpoint();
    bencher
        .counter(ItemsCount::new(91_991_usize))
        .bench(|| Inventory::group(&checkpoint, &Grouping::default()).0.weights.len());
}

#[divan::bench]
fn collapse_stored_names(bencher: Bencher<'_, '_>) {
    let checkpoint = checkpoint();
    bencher.counter(ItemsCount::new(91_991_usize)).bench(|| {
        collapse(
            checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), (tensor.dtype, tensor.shape.as_slice()))),
        )
        .len()
    });
}
