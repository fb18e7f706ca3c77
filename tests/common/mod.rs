//! Shared by the test crates; each uses a part of it.
#![allow(dead_code, reason = "each test crate uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what does not compile here fails the test")]

pub(crate) mod generate;
pub(crate) mod naive;
pub(crate) mod seed;
