//! Loading: every device gets exactly its slice, whatever the reader, the threads and the errors on the way.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking, as tests do")]

mod errors;
mod naive;
mod slices;
mod support;
mod verify;
