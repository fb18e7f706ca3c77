//! Reads a pair of golden files: cases in JSON, tensors in safetensors.

#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "test support: a broken file must stop the test")]

use std::path::PathBuf;

use half::bf16;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub(crate) struct Suite {
    pub(crate) json: Value,
    bytes: Vec<u8>,
}

impl Suite {
    pub(crate) fn read(folder: &str, name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(folder).join(name);
        let json = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
        Self { json: serde_json::from_str(&json).unwrap(), bytes }
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = Case<'_>> {
        let tensors = std::rc::Rc::new(SafeTensors::deserialize(&self.bytes).unwrap());
        self.json["cases"].as_array().unwrap().iter().map(move |json| Case { json, tensors: tensors.clone() })
    }
}

pub(crate) struct Case<'a> {
    pub(crate) json: &'a Value,
    tensors: std::rc::Rc<SafeTensors<'a>>,
}

/// A tensor widened to f64; exact for every dtype of the suites but integers beyond 2^53.
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
    bytes: Vec<u8>,
}

impl Case<'_> {
    pub(crate) fn id(&self) -> &str {
        self.json["id"].as_str().unwrap()
    }

    /// A parameter; JSON's missing numbers are spelt as strings.
    pub(crate) fn number(&self, key: &str) -> f64 {
        number(&self.json["params"][key])
    }

    pub(crate) fn has(&self, role: &str) -> bool {
        self.name(role).is_some()
    }

    fn name(&self, role: &str) -> Option<&str> {
        self.json["inputs"][role].as_str().or_else(|| self.json["outputs"][role].as_str())
    }

    pub(crate) fn get(&self, role: &str) -> Tensor {
        let name = self.name(role).unwrap_or_else(|| panic!("{}: no tensor {role}", self.id()));
        let view = self.tensors.tensor(name).unwrap();
        let bytes = view.data().to_vec();
        let values = match view.dtype() {
            Dtype::F64 => chunks(&bytes, f64::from_le_bytes),
            Dtype::F32 => chunks(&bytes, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::BF16 => chunks(&bytes, |b| f64::from(bf16::from_le_bytes(b))),
            Dtype::I64 => chunks(&bytes, |b| i64::from_le_bytes(b) as f64),
            Dtype::U64 => chunks(&bytes, |b| u64::from_le_bytes(b) as f64),
            Dtype::I32 => chunks(&bytes, |b| f64::from(i32::from_le_bytes(b))),
            Dtype::U32 => chunks(&bytes, |b| f64::from(u32::from_le_bytes(b))),
            Dtype::U16 => chunks(&bytes, |b| f64::from(u16::from_le_bytes(b))),
            Dtype::I8 => chunks(&bytes, |b| f64::from(i8::from_le_bytes(b))),
            Dtype::U8 => chunks(&bytes, |b| f64::from(u8::from_le_bytes(b))),
            other => panic!("{other:?}"),
        };
        Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), values, bytes }
    }
}

impl Tensor {
    pub(crate) fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|&value| value as f32).collect()
    }

    pub(crate) fn u32(&self) -> Vec<u32> {
        self.values.iter().map(|&value| value as u32).collect()
    }

    pub(crate) fn u64(&self) -> Vec<u64> {
        chunks(&self.bytes, u64::from_le_bytes)
    }

    /// Rows of the last dimension.
    pub(crate) fn rows(&self) -> Vec<Vec<f32>> {
        self.f32().chunks(*self.shape.last().unwrap()).map(<[f32]>::to_vec).collect()
    }

    /// Ids that a mask keeps, per row.
    pub(crate) fn kept(&self) -> Vec<Vec<u32>> {
        let ids = |row: &[f64]| row.iter().zip(0..).filter(|(keep, _)| **keep != 0.0).map(|(_, id)| id).collect();
        self.values.chunks(*self.shape.last().unwrap()).map(ids).collect()
    }
}

fn chunks<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

pub(crate) fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        value => value.as_f64().unwrap(),
    }
}
