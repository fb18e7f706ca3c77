//! Policy-as-code for model weights.
//!
//! A policy is TOML. Compiled to a matcher graph and laid over a checkpoint's inventory, it gives a plan: for every
//! weight how it is sharded over a device mesh, how it is quantized and how it is loaded, each with the deciding rule.

pub mod analysis;
pub mod array;
#[cfg(feature = "cli")]
pub mod cli;
pub mod convert;
mod dtype;
pub mod finding;
pub mod inventory;
pub mod load;
pub mod manifest;
pub mod matcher;
pub mod mesh;
pub mod moe;
pub mod output;
mod parallel;
pub mod pattern;
pub mod plan;
pub mod policy;
pub mod progress;
#[cfg(feature = "python")]
mod python;
pub mod quantize;
pub mod sample;
pub mod schema;
mod simd;
pub mod source;
pub mod stage;
pub mod storage;
pub mod units;

pub use dtype::{Dtype, UnknownDtype};
pub use mesh::{Mesh, PartitionSpec};
pub use plan::Plan;
pub use policy::Policy;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn the_modules_with_unsafe_code_are_these() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let says_unsafe = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().any(|line| line.starts_with("#![expect(unsafe_code, "))
        };
        let mut found: Vec<PathBuf> = sources(&root).into_iter().filter(says_unsafe).collect();
        found.sort();
        let expected =
            ["python/buffer.rs", "simd.rs", "storage/ring/linux.rs", "storage/system.rs"].map(|path| root.join(path));
        assert_eq!(found, expected);
    }
}
