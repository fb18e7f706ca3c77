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
