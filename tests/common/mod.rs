//! Shared by the test crates; each uses a part of it.
#![allow(dead_code, reason = "each test crate uses a part of it")]

pub(crate) mod generate;
pub(crate) mod naive;
