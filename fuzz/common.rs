//! The checks, shared with the ordinary tests.
#![allow(dead_code, reason = "each target uses its own check")]

#[path = "../tests/common/naive.rs"]
pub(crate) mod naive;
#[path = "../tests/common/seed.rs"]
pub(crate) mod seed;
