//! Shared by the test crates.

pub(crate) mod naive;
